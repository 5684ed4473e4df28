//! Arguments that come as text, read by what a schema says of them.

use serde_json::{Map, Number, Value};

use super::schemas::Compiled;

/// How far schemas are followed.
const MOST_STEPS: usize = 200;

/// The types that a schema takes.
#[derive(Debug, Clone, Copy, Default)]
struct Types {
    null: bool,
    boolean: bool,
    /// Integers, or any number.
    number: bool,
    string: bool,
    array: bool,
    object: bool,
}

/// What `texts` may be for the schema `number`, the most probable first; never empty.
pub(super) fn readings(
    schemas: &Compiled,
    number: usize,
    separator: Option<char>,
    texts: &[&str],
) -> Vec<Value> {
    of_schema(schemas, schemas.schema(number), separator, texts)
}

/// The same for the member `name` of what the schema `number` takes.
pub(super) fn member_readings(
    schemas: &Compiled,
    number: usize,
    name: &str,
    texts: &[&str],
) -> Vec<Value> {
    let mut found = None;
    in_place(schemas, schemas.schema(number), |words| {
        let member = words.get("properties").and_then(|members| members.get(name));
        found = found.or(member);
    });
    of_schema(schemas, found.unwrap_or(&Value::Bool(true)), None, texts)
}

fn of_schema(
    schemas: &Compiled,
    schema: &Value,
    separator: Option<char>,
    texts: &[&str],
) -> Vec<Value> {
    let mut items = None;
    let types = types(schemas, schema, &mut items);
    let mut readings = Vec::new();
    if types.array {
        let of = items.map(|items| self::types(schemas, items, &mut None)).unwrap_or_default();
        let item = |text: &str| single(of, text).swap_remove(0);
        let list = match (separator, texts) {
            (_, [text]) if text.trim_start().starts_with('[') => serde_json::from_str(text).ok(),
            (Some(_), [""]) => Some(Value::Array(Vec::new())),
            (Some(separator), [text]) => Some(text.split(separator).map(item).collect()),
            _ => Some(texts.iter().map(|text| item(text)).collect()),
        };
        readings.extend(list);
    }
    match texts {
        [text] => readings.extend(single(types, text)),
        _ if readings.is_empty() => {
            readings.push(texts.iter().map(|text| Value::from(*text)).collect());
        }
        _ => {}
    }
    readings
}

/// What one text may be; never empty.
fn single(types: Types, text: &str) -> Vec<Value> {
    let mut readings = Vec::new();
    let Types { null, boolean, number, string, array, object } = types;
    let any = !(null || boolean || number || string || array || object);
    if types.number
        && let Ok(number) = serde_json::from_str::<Number>(text)
    {
        readings.push(Value::Number(number));
    }
    if types.boolean
        && let Some(truth) = truth(text)
    {
        readings.push(Value::Bool(truth));
    }
    if types.null && matches!(text, "" | "null" | "None" | "none") {
        readings.push(Value::Null);
    }
    if (types.object || any)
        && let Ok(value) = serde_json::from_str(text)
    {
        readings.push(value);
    }
    // Last, so that what is no number is told to be none.
    readings.push(Value::from(text));
    readings
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    }
}

/// The types that `schema` takes, and what it says of items. Of alternatives all are taken.
fn types<'s>(schemas: &'s Compiled, schema: &'s Value, items: &mut Option<&'s Value>) -> Types {
    let mut types = Types::default();
    in_place(schemas, schema, |words| {
        *items = items.or(words.get("items"));
        types.add(words);
    });
    types
}

/// Shows `see` a schema and those that stand for it in its place.
fn in_place<'s>(
    schemas: &'s Compiled,
    schema: &'s Value,
    mut see: impl FnMut(&'s Map<String, Value>),
) {
    let mut waiting = vec![schema];
    for _ in 0..MOST_STEPS {
        let Some(schema) = waiting.pop() else { break };
        let Value::Object(words) = schema else { continue };
        if let Some(number) = words.get("$ref").and_then(Compiled::refers) {
            waiting.push(schemas.schema(number));
        }
        for word in ["allOf", "anyOf", "oneOf"] {
            waiting.extend(words.get(word).and_then(Value::as_array).into_iter().flatten());
        }
        see(words);
    }
}

// === impl Types ===

impl Types {
    fn add(&mut self, words: &Map<String, Value>) {
        let named = match words.get("type") {
            Some(Value::Array(types)) => types.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        for word in named.iter().filter_map(Value::as_str) {
            match word {
                "null" => self.null = true,
                "boolean" => self.boolean = true,
                "integer" | "number" => self.number = true,
                "array" => self.array = true,
                "object" => self.object = true,
                _ => self.string = true,
            }
        }
        if !named.is_empty() {
            return;
        }
        let values = words.get("enum").and_then(Value::as_array).into_iter().flatten();
        for value in values.chain(words.get("const")) {
            match value {
                Value::Null => self.null = true,
                Value::Bool(_) => self.boolean = true,
                Value::Number(_) => self.number = true,
                Value::String(_) => self.string = true,
                Value::Array(_) => self.array = true,
                Value::Object(_) => self.object = true,
            }
        }
    }
}
