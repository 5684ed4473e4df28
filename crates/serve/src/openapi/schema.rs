//! What a JSON Schema takes, as far as routes must know it, and the same for arguments that come as
//! text.

use serde_json::{Map, Value, json};

/// `#/components/schemas/`, where a reference finds its class.
const HERE: &str = "#/components/schemas/";

/// References and unions inside one another that are looked through.
const DEPTH: u8 = 24;

/// Kinds of JSON values, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(u8);

/// The classes that schemas refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schemas<'a>(pub(super) &'a Map<String, Value>);

/// How a parameter is written in a path, a query or a header.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Text {
    /// As it is.
    Plain(Value),
    /// Several times, once for each item.
    Repeated(Value),
    /// As JSON.
    Json(Value),
}

// === impl Kinds ===

impl Kinds {
    pub(super) const OBJECT: Self = Self(1);
    pub(super) const ARRAY: Self = Self(1 << 1);
    pub(super) const STRING: Self = Self(1 << 2);
    pub(super) const NUMBER: Self = Self(1 << 3);
    pub(super) const BOOLEAN: Self = Self(1 << 4);
    pub(super) const NULL: Self = Self(1 << 5);
    const ALL: Self = Self((1 << 6) - 1);

    /// Whether any of `other` is among them.
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether all of them are among `others`.
    pub(super) fn within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn named(name: &str) -> Self {
        match name {
            "object" => Self::OBJECT,
            "array" => Self::ARRAY,
            "string" => Self::STRING,
            "number" | "integer" => Self::NUMBER,
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            _ => Self(0),
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    fn any_of(all: impl Iterator<Item = Self>) -> Self {
        all.fold(Self(0), Self::and)
    }
}

// === impl Schemas ===

impl<'a> Schemas<'a> {
    /// The kinds of values that `schema` may take.
    pub(super) fn kinds(self, schema: &Value) -> Kinds {
        self.kinds_to(schema, DEPTH)
    }

    fn kinds_to(self, schema: &Value, depth: u8) -> Kinds {
        let Value::Object(schema) = schema else { return Kinds::ALL };
        let Some(depth) = depth.checked_sub(1) else { return Kinds::ALL };
        let each = |all: &Value| {
            let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
            all.iter().map(|one| self.kinds_to(one, depth)).collect::<Vec<_>>()
        };
        let mut kinds = Kinds::ALL.0;
        for (word, said) in schema {
            kinds &= match word.as_str() {
                "type" => Kinds::any_of(names(said).map(Kinds::named)),
                "const" => Kinds::of(said),
                "enum" => Kinds::any_of(said.as_array().into_iter().flatten().map(Kinds::of)),
                "anyOf" | "oneOf" => Kinds::any_of(each(said).into_iter()),
                "allOf" => Kinds(each(said).iter().fold(Kinds::ALL.0, |sum, one| sum & one.0)),
                "$ref" => self.find(said).map_or(Kinds::ALL, |found| self.kinds_to(found, depth)),
                _ => Kinds::ALL,
            }
            .0;
        }
        Kinds(kinds)
    }

    fn find(self, reference: &Value) -> Option<&'a Value> {
        self.0.get(reference.as_str()?.strip_prefix(HERE)?)
    }

    /// `schema` without the objects it takes; `None` where it takes nothing else.
    pub(super) fn without_objects(self, schema: &Value) -> Option<Value> {
        let kinds = self.kinds(schema);
        if !kinds.has(Kinds::OBJECT) {
            return Some(schema.clone());
        }
        if kinds.within(Kinds::OBJECT) {
            return None;
        }
        let Value::Object(object) = schema else { return Some(no_objects()) };
        let mut narrowed = object.clone();
        narrowed.remove("default");
        if let [(word @ ("anyOf" | "oneOf"), members)] = only(&narrowed).as_slice() {
            let members = members.as_array().map(Vec::as_slice).unwrap_or_default();
            let mut left: Vec<_> =
                members.iter().filter_map(|member| self.without_objects(member)).collect();
            return match left.len() {
                1 => left.pop(),
                _ => Some(json!({ *word: left })),
            };
        }
        if !["anyOf", "oneOf", "allOf", "$ref", "enum", "const"]
            .iter()
            .any(|word| narrowed.contains_key(*word))
        {
            let left: Vec<Value> = match narrowed.get("type") {
                Some(own) => names(own).filter(|own| *own != "object").map(Value::from).collect(),
                None => names(&no_objects()["type"]).map(Value::from).collect(),
            };
            narrowed.insert("type".to_owned(), left.into());
            return Some(narrowed.into());
        }
        Some(json!({ "allOf": [narrowed, { "not": { "type": "object" } }] }))
    }

    /// `schema` without objects that have a member `name`.
    pub(super) fn without_member(self, schema: &Value, name: &str) -> Value {
        if self.never_has(schema, name, DEPTH) {
            return schema.clone();
        }
        json!({ "allOf": [schema, { "not": { "type": "object", "required": [name] } }] })
    }

    /// Whether no object that `schema` takes has a member `name`.
    fn never_has(self, schema: &Value, name: &str, depth: u8) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        if !self.kinds(schema).has(Kinds::OBJECT) {
            return true;
        }
        if let Some(found) = schema.get("$ref").and_then(|reference| self.find(reference)) {
            return self.never_has(found, name, depth);
        }
        let members = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        if let Some(members) = members {
            return members.iter().all(|member| self.never_has(member, name, depth));
        }
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        let listed = |list: &str| schema.get(list).is_some_and(|own| own.get(name).is_some());
        closed && !listed("properties") && schema.get("patternProperties").is_none()
    }

    /// Whether `schema` stands for bytes, which JSON has in base64.
    pub(super) fn is_bytes(self, schema: &Value) -> bool {
        let base64 = |one: &Value| one.get("contentEncoding") == Some(&json!("base64"));
        let members = schema.get("anyOf").and_then(Value::as_array);
        base64(schema) || members.is_some_and(|members| members.iter().any(base64))
    }

    /// How a parameter of `schema` is written as text. Only where it may be `repeated` is a list
    /// more than JSON.
    pub(super) fn as_text(self, schema: &Value, repeated: bool) -> Text {
        let kinds = self.kinds(schema);
        if !kinds.has(Kinds::OBJECT.and(Kinds::ARRAY)) {
            return Text::Plain(plain(schema));
        }
        let list = kinds.within(Kinds::ARRAY.and(Kinds::NULL));
        if let Some(list) = self.list(schema).filter(|_| list && repeated) {
            return Text::Repeated(list);
        }
        Text::Json(schema.clone())
    }

    /// A list of which each item is plain text, as it is written then.
    fn list(self, schema: &Value) -> Option<Value> {
        let Value::Object(schema) = schema else { return None };
        if let Some(members) = schema.get("anyOf").and_then(Value::as_array) {
            // Left out it is what it is without being given; `null` as text would be an item.
            let mut lists = members.iter().filter_map(|member| self.list(member));
            return lists.next().filter(|_| lists.next().is_none());
        }
        let is_plain = |item: &Value| !self.kinds(item).has(Kinds::OBJECT.and(Kinds::ARRAY));
        let mut list = schema.clone();
        list.insert("type".to_owned(), json!("array"));
        if let Some(items) = list.get_mut("prefixItems").and_then(Value::as_array_mut) {
            if !items.iter().all(is_plain) {
                return None;
            }
            items.iter_mut().for_each(|item| *item = plain(item));
        } else {
            let items = list.get_mut("items").filter(|items| is_plain(items))?;
            *items = plain(items);
        }
        Some(list.into())
    }
}

/// The names in `type`: one or several.
fn names(said: &Value) -> impl Iterator<Item = &str> {
    let one = said.as_str().into_iter();
    one.chain(said.as_array().into_iter().flatten().filter_map(Value::as_str))
}

/// The words of a schema that are not for people.
fn only(schema: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let words = schema.iter().map(|(word, said)| (word.as_str(), said));
    words.filter(|(word, _)| !["title", "description", "examples"].contains(word)).collect()
}

fn no_objects() -> Value {
    json!({ "type": ["array", "string", "number", "boolean", "null"] })
}

/// The schema of what is written as text and is no list: bytes are text then, not base64.
fn plain(schema: &Value) -> Value {
    let Value::Object(object) = schema else { return schema.clone() };
    if object.contains_key("contentEncoding") {
        let told = ["title", "description", "default", "type"];
        let kept = object.iter().filter(|(word, _)| told.contains(&word.as_str()));
        return kept.map(|(word, said)| (word.clone(), said.clone())).collect::<Map<_, _>>().into();
    }
    let mut object = object.clone();
    if let Some(members) = object.get_mut("anyOf").and_then(Value::as_array_mut) {
        members.iter_mut().for_each(|member| *member = plain(member));
    }
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Map<String, Value> {
        let classes = json!({
            "Order": { "type": "object", "properties": { "n": {} }, "additionalProperties": false },
            "Open": { "type": "object", "properties": { "n": {} } },
            "Colour": { "enum": ["red", 1] },
            "Tree": { "anyOf": [{ "$ref": "#/components/schemas/Tree" }, { "type": "null" }] },
        });
        classes.as_object().expect("an object").clone()
    }

    fn reference(name: &str) -> Value {
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    #[test]
    fn kinds_are_found_through_references_and_unions() {
        let classes = classes();
        let schemas = Schemas(&classes);
        let text_or_number = Kinds::STRING.and(Kinds::NUMBER);
        for (schema, kinds) in [
            (json!({}), Kinds::ALL),
            (json!(true), Kinds::ALL),
            (json!({ "type": ["string", "integer"] }), text_or_number),
            (json!({ "const": null }), Kinds::NULL),
            (reference("Colour"), text_or_number),
            (reference("Order"), Kinds::OBJECT),
            (reference("Nowhere"), Kinds::ALL),
            (
                json!({ "anyOf": [reference("Order"), { "type": "null" }] }),
                Kinds::OBJECT.and(Kinds::NULL),
            ),
            (
                json!({ "allOf": [{ "type": ["string", "null"] }, { "type": "string" }] }),
                Kinds::STRING,
            ),
        ] {
            assert_eq!(schemas.kinds(&schema), kinds, "{schema}");
        }
        // One that contains itself comes to an end.
        assert!(schemas.kinds(&reference("Tree")).has(Kinds::NULL));
    }

    #[test]
    fn what_is_left_without_objects_takes_none() {
        let classes = classes();
        let schemas = Schemas(&classes);
        for (schema, expected) in [
            (json!({ "type": "integer" }), Some(json!({ "type": "integer" }))),
            (reference("Order"), None),
            (json!({}), Some(json!({ "type": ["array", "string", "number", "boolean", "null"] }))),
            (
                json!({ "type": ["object", "array"], "minItems": 1 }),
                Some(json!({ "type": ["array"], "minItems": 1 })),
            ),
            (
                json!({ "anyOf": [reference("Order"), { "type": "null" }], "title": "t" }),
                Some(json!({ "type": "null" })),
            ),
            (
                json!({ "anyOf": [reference("Order"), { "type": "null" }, { "type": "array" }] }),
                Some(json!({ "anyOf": [{ "type": "null" }, { "type": "array" }] })),
            ),
        ] {
            assert_eq!(schemas.without_objects(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn only_an_object_that_may_have_the_member_is_narrowed() {
        let classes = classes();
        let schemas = Schemas(&classes);
        let same = |schema: Value| schemas.without_member(&schema, "order") == schema;
        assert!(same(reference("Order")));
        assert!(same(json!({ "type": "array" })));
        assert!(same(json!({ "anyOf": [reference("Order"), { "type": "null" }] })));
        assert!(!same(reference("Open")));
        assert!(!same(json!({})));
        assert_ne!(schemas.without_member(&reference("Order"), "n"), reference("Order"));
    }

    #[test]
    fn text_is_plain_repeated_or_json() {
        let classes = classes();
        let schemas = Schemas(&classes);
        let base64 = json!({ "type": "string", "contentEncoding": "base64", "pattern": "x" });
        let text = json!({ "type": "string" });
        let strings = json!({ "type": "array", "items": text });
        let repeated = strings.clone();
        let of_orders = json!({ "type": "array", "items": reference("Order") });
        let pair = json!({ "type": "array", "prefixItems": [base64, text], "items": false });
        let pair_as_text = json!({ "type": "array", "prefixItems": [text, text], "items": false });
        for (schema, expected) in [
            (json!({ "type": "integer" }), Text::Plain(json!({ "type": "integer" }))),
            (reference("Colour"), Text::Plain(reference("Colour"))),
            (base64.clone(), Text::Plain(text.clone())),
            (
                json!({ "anyOf": [base64, { "type": "null" }] }),
                Text::Plain(json!({ "anyOf": [text, { "type": "null" }] })),
            ),
            (strings.clone(), Text::Repeated(repeated.clone())),
            (json!({ "anyOf": [strings, { "type": "null" }] }), Text::Repeated(repeated)),
            (
                json!({ "type": ["array", "null"], "items": { "type": "integer" } }),
                Text::Repeated(json!({ "type": "array", "items": { "type": "integer" } })),
            ),
            (pair, Text::Repeated(pair_as_text)),
            (of_orders.clone(), Text::Json(of_orders)),
            (reference("Order"), Text::Json(reference("Order"))),
            (json!({}), Text::Json(json!({}))),
        ] {
            assert_eq!(schemas.as_text(&schema, true), expected, "{schema}");
        }
        assert_eq!(schemas.as_text(&strings, false), Text::Json(strings));
    }
}
