//! What a stub answers: an example that the document gives, or one made from the schema.

use serde_json::{Map, Number, Value, json};

use super::{
    document::{Document, Node, Wrong},
    pattern,
    schemas::Compiled,
};

/// Values that an example may be made of.
const MOST_VALUES: usize = 2_000;

/// How deep it may be nested.
const MOST_DEPTH: usize = 24;

/// Items that a list is filled up to.
const MOST_ITEMS: u64 = 100;

/// Letters that a text is filled up to.
const MOST_LETTERS: u64 = 10_000;

/// How many readings of alternatives are tried.
const TRIES: usize = 5;

/// The example that the document gives for `media`, an entry of `content`.
pub(super) fn given(document: &Document, media: &Node<'_>) -> Result<Option<Value>, Wrong> {
    if let Some(example) = media.has("example") {
        return Ok(Some(example.value.clone()));
    }
    for (_, example) in media.member("examples").members("`examples`")? {
        let example = document.resolve(example)?;
        if let Some(value) = example.has("value") {
            return Ok(Some(value.value.clone()));
        }
    }
    Ok(None)
}

/// An example of the schema `number`, and whether it fits it.
pub(super) fn made(schemas: &Compiled, number: usize) -> (Value, bool) {
    let mut first = None;
    for choice in 0..TRIES {
        for sparse in [false, true] {
            let mut maker = Maker { schemas, choice, sparse, left: MOST_VALUES, open: Vec::new() };
            let Some(value) = maker.reference(number, 0) else { continue };
            if schemas.fits(number, value.clone()) {
                return (value, true);
            }
            first.get_or_insert(value);
        }
    }
    (first.unwrap_or(Value::Null), false)
}

/// Makes one example.
struct Maker<'s> {
    schemas: &'s Compiled,
    /// Which of several alternatives is taken.
    choice: usize,
    /// Whether only what is required is there.
    sparse: bool,
    /// Values that may still be made.
    left: usize,
    /// Schemas that are being made: what contains itself ends where it may.
    open: Vec<usize>,
}

// === impl Maker ===

impl Maker<'_> {
    /// An example of the schema `number`; the `nth` of several that are to differ.
    fn reference(&mut self, number: usize, nth: u64) -> Option<Value> {
        self.schema(&json!({ "$ref": format!("#/$defs/{number}") }), nth)
    }

    fn schema(&mut self, schema: &Value, nth: u64) -> Option<Value> {
        if self.open.len() > MOST_DEPTH {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        if let Some(value) = shown(schema, nth) {
            return Some(value);
        }
        let opened = self.open.len();
        let mut flat = Map::new();
        let value = match self.flatten(schema, &mut flat) {
            Some(()) => self.flat(&flat, nth),
            None => None,
        };
        self.open.truncate(opened);
        value
    }

    /// Gathers the words of `schema` and of all that stands for it in its place.
    fn flatten(&mut self, schema: &Value, flat: &mut Map<String, Value>) -> Option<()> {
        let Value::Object(words) = schema else {
            return (*schema != Value::Bool(false)).then_some(());
        };
        if let Some(number) = words.get("$ref").and_then(Compiled::refers) {
            if self.open.iter().filter(|open| **open == number).count() > 1 {
                return None;
            }
            self.open.push(number);
            let schemas = self.schemas;
            self.flatten(schemas.schema(number), flat)?;
        }
        for (word, value) in words {
            match word.as_str() {
                "$ref" | "oneOf" | "anyOf" | "allOf" | "discriminator" => {}
                _ => merge(flat, word, value),
            }
        }
        for part in list(words, "allOf") {
            self.flatten(part, flat)?;
        }
        for word in ["oneOf", "anyOf"] {
            let parts = list(words, word);
            if parts.is_empty() {
                continue;
            }
            let taken = self.alternative(parts, flat)?;
            if let Some(discriminator) = words.get("discriminator") {
                tell_apart(flat, discriminator, word, taken);
            }
        }
        Some(())
    }

    /// Takes one of `parts`: the one to be tried now, else the first that leads to something.
    fn alternative(&mut self, parts: &[Value], flat: &mut Map<String, Value>) -> Option<usize> {
        let turn = self.choice.min(parts.len() - 1);
        let order = std::iter::once(turn).chain((0..parts.len()).filter(|other| *other != turn));
        for number in order {
            let (opened, mut tried) = (self.open.len(), flat.clone());
            if self.flatten(&parts[number], &mut tried).is_some() {
                *flat = tried;
                return Some(number);
            }
            self.open.truncate(opened);
        }
        None
    }

    /// An example of a schema that refers to nothing in its place.
    fn flat(&mut self, flat: &Map<String, Value>, nth: u64) -> Option<Value> {
        if let Some(value) = shown(&Value::Object(flat.clone()), nth) {
            return Some(value);
        }
        match type_of(flat) {
            "object" => self.object(flat),
            "array" => self.array(flat),
            "string" => string(flat, nth),
            "integer" => number(flat, nth, true),
            "number" => number(flat, nth, false),
            "boolean" => Some(Value::Bool(nth.is_multiple_of(2))),
            _ => Some(Value::Null),
        }
    }

    /// What is required, and what shows an example of itself; of an object that requires nothing
    /// also its plain values, since `{}` tells nobody anything.
    fn object(&mut self, flat: &Map<String, Value>) -> Option<Value> {
        let required: Vec<&str> = list(flat, "required").iter().filter_map(Value::as_str).collect();
        let none = Map::new();
        let properties = flat.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let mut object = Map::new();
        for name in &required {
            let schema = properties.get(*name).unwrap_or(&Value::Bool(true));
            object.insert((*name).to_owned(), self.schema(schema, 0)?);
        }
        for (name, schema) in properties {
            let wanted =
                shown(schema, 0).is_some() || (required.is_empty() && self.is_plain(schema));
            if wanted && !self.sparse && !object.contains_key(name) {
                object.extend(self.schema(schema, 0).map(|value| (name.clone(), value)));
            }
        }
        let least = flat.get("minProperties").and_then(Value::as_u64).unwrap_or(0).min(MOST_ITEMS);
        for (name, schema) in properties {
            if object.len() as u64 >= least {
                break;
            }
            if !object.contains_key(name) {
                object.extend(self.schema(schema, 0).map(|value| (name.clone(), value)));
            }
        }
        let others = flat.get("additionalProperties").unwrap_or(&Value::Bool(true));
        let mut nth = 0;
        while (object.len() as u64) < least {
            nth += 1;
            object.insert(format!("key{nth}"), self.schema(others, nth)?);
        }
        Some(Value::Object(object))
    }

    /// Whether a schema is of values without members and items.
    fn is_plain(&self, schema: &Value) -> bool {
        let mut schema = schema;
        for _ in 0..MOST_DEPTH {
            match schema.get("$ref").and_then(Compiled::refers) {
                Some(number) => schema = self.schemas.schema(number),
                None => break,
            }
        }
        let Value::Object(words) = schema else { return false };
        !matches!(type_of(words), "object" | "array" | "null")
    }

    /// As few items as there may be; one, where there may be any number.
    fn array(&mut self, flat: &Map<String, Value>) -> Option<Value> {
        let size = |word: &str| flat.get(word).and_then(Value::as_u64);
        let least = size("minItems").unwrap_or(0);
        if least > MOST_ITEMS {
            return None;
        }
        let first = list(flat, "prefixItems");
        let usual = (first.len() as u64).max(1).min(size("maxItems").unwrap_or(u64::MAX));
        let item = flat.get("items").or_else(|| flat.get("contains")).unwrap_or(&Value::Bool(true));
        let differ = flat.get("uniqueItems") == Some(&Value::Bool(true));
        let mut items = Vec::new();
        for number in 0..least.max(usual) {
            let place = usize::try_from(number).ok()?;
            let schema = first.get(place).unwrap_or(item);
            match self.schema(schema, if differ { number } else { 0 }) {
                Some(value) => items.push(value),
                // What contains itself ends here, where it may.
                None if number >= least => break,
                None => return None,
            }
        }
        Some(Value::Array(items))
    }
}

/// Gives the member by which alternatives are told apart the value of the one that was taken.
fn tell_apart(flat: &mut Map<String, Value>, discriminator: &Value, word: &str, taken: usize) {
    let name = discriminator["propertyName"].as_str().unwrap_or_default();
    let value = discriminator["values"][word].get(taken).and_then(Value::as_str);
    let Some(value) = value.filter(|value| !value.is_empty() && !name.is_empty()) else { return };
    let properties = flat.entry("properties").or_insert_with(|| json!({}));
    let Some(properties) = properties.as_object_mut() else { return };
    let old = properties.get(name);
    if old.is_none_or(|old| old.get("const").is_none() && old.get("enum").is_none()) {
        properties.insert(name.to_owned(), json!({ "const": value }));
    }
}

/// What a schema shows as an example of itself.
fn shown(schema: &Value, nth: u64) -> Option<Value> {
    let words = schema.as_object()?;
    if let Some(value) = words.get("const") {
        return Some(value.clone());
    }
    let values = list(words, "enum");
    let at = usize::try_from(nth).ok()?;
    let several = |values: &[Value]| values.get(at).or(values.first()).cloned();
    words
        .get("example")
        .cloned()
        .filter(|_| nth == 0)
        .or_else(|| several(list(words, "examples")))
        .or_else(|| words.get("default").cloned().filter(|value| nth == 0 && !value.is_null()))
        .or_else(|| several(values))
}

/// Adds one word to those of a schema: both are to hold.
fn merge(flat: &mut Map<String, Value>, word: &str, value: &Value) {
    let Some(old) = flat.get_mut(word) else {
        flat.insert(word.to_owned(), value.clone());
        return;
    };
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let larger = number(value) > number(old);
    match (word, &mut *old, value) {
        ("properties", Value::Object(old), Value::Object(new)) => {
            for (name, schema) in new {
                match old.get_mut(name) {
                    Some(first) if first != schema => {
                        *first = json!({ "allOf": [first.take(), schema] });
                    }
                    Some(_) => {}
                    None => {
                        old.insert(name.clone(), schema.clone());
                    }
                }
            }
        }
        ("required", Value::Array(old), Value::Array(new)) => {
            let more: Vec<_> = new.iter().filter(|name| !old.contains(name)).cloned().collect();
            old.extend(more);
        }
        ("enum", Value::Array(old), Value::Array(new)) => old.retain(|value| new.contains(value)),
        ("minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties", ..)
            if larger =>
        {
            *old = value.clone();
        }
        ("maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties", ..)
            if !larger =>
        {
            *old = value.clone();
        }
        // Of `number` and `integer` the narrower.
        ("type", Value::String(old), Value::String(new)) if old == "number" => {
            old.clone_from(new);
        }
        _ => {}
    }
}

fn list<'w>(words: &'w Map<String, Value>, word: &str) -> &'w [Value] {
    words.get(word).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The type of a schema's values, by what it says of them where it does not name one.
pub(super) fn type_of(words: &Map<String, Value>) -> &str {
    match words.get("type") {
        Some(Value::String(word)) => return word,
        Some(Value::Array(types)) => {
            let mut types = types.iter().filter_map(Value::as_str);
            return types.clone().find(|word| *word != "null").or(types.next()).unwrap_or("null");
        }
        _ => {}
    }
    let says = |some: &[&str]| some.iter().any(|word| words.contains_key(*word));
    if says(&["properties", "required", "additionalProperties", "minProperties"]) {
        "object"
    } else if says(&["items", "prefixItems", "minItems", "contains"]) {
        "array"
    } else if says(&["pattern", "format", "minLength", "maxLength"]) {
        "string"
    } else if says(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
        "number"
    } else {
        "null"
    }
}

/// A text of the right length, in the right format.
fn string(flat: &Map<String, Value>, nth: u64) -> Option<Value> {
    let size = |word: &str| flat.get(word).and_then(Value::as_u64);
    let least = size("minLength").unwrap_or(0);
    if least > MOST_LETTERS {
        return None;
    }
    if let Some(pattern) = flat.get("pattern").and_then(Value::as_str)
        && let Some(text) = pattern::matching(pattern)
    {
        return Some(Value::String(text));
    }
    if let Some(text) = flat.get("format").and_then(Value::as_str).and_then(formatted) {
        return Some(Value::String(text));
    }
    let mut text = "string".to_owned();
    if nth > 0 {
        text = format!("{nth}{text}");
    }
    let (least, most) = (usize::try_from(least).ok()?, size("maxLength"));
    while text.len() < least {
        text.push('x');
    }
    text.truncate(usize::try_from(most.unwrap_or(u64::MAX)).unwrap_or(usize::MAX));
    Some(Value::String(text))
}

/// A text in `format`.
fn formatted(format: &str) -> Option<String> {
    let text = match format {
        "date-time" => "2026-01-31T12:00:00Z",
        "date" => "2026-01-31",
        "time" => "12:00:00Z",
        "duration" => "P1D",
        "uuid" => "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "email" | "idn-email" => "user@example.com",
        "hostname" | "idn-hostname" => "example.com",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "uri" | "iri" | "url" => "https://example.com/",
        "uri-reference" | "iri-reference" => "/path",
        "uri-template" => "/path/{name}",
        "json-pointer" => "/name",
        "relative-json-pointer" => "0",
        "regex" => "^.*$",
        "byte" => "c3RyaW5n",
        _ => return None,
    };
    Some(text.to_owned())
}

/// The number nearest to 0 within the bounds; the `nth` above it.
fn number(flat: &Map<String, Value>, nth: u64, whole: bool) -> Option<Value> {
    let bound = |word: &str| flat.get(word).and_then(Value::as_f64);
    let step = bound("multipleOf").filter(|step| *step > 0.0).unwrap_or(1.0);
    let mut low = bound("minimum").unwrap_or(f64::NEG_INFINITY);
    let mut high = bound("maximum").unwrap_or(f64::INFINITY);
    let fine = if whole || flat.contains_key("multipleOf") { step } else { step / 2.0 };
    if let Some(above) = bound("exclusiveMinimum").filter(|above| *above >= low) {
        low = ((above / fine).floor() + 1.0) * fine;
    }
    if let Some(below) = bound("exclusiveMaximum").filter(|below| *below <= high) {
        high = ((below / fine).ceil() - 1.0) * fine;
    }
    let mut value = 0.0_f64.max(low).min(high);
    if whole || flat.contains_key("multipleOf") {
        value = if value == low { (value / step).ceil() } else { (value / step).floor() } * step;
    }
    // `nth` is small: the number of an item.
    value += nth as f64 * step;
    if whole || value.fract() == 0.0 {
        // Beyond this a float has no digit after the point, and i64 may have no room.
        if value.abs() < 9e15 {
            return Some(Value::from(value as i64));
        }
    }
    Number::from_f64(value).map(Value::Number)
}
