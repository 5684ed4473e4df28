//! The schemas of a document as one JSON Schema (2020-12), and data held against it.
//!
//! Every schema that is used is copied once for each direction, with the words of OpenAPI 3.0 put
//! into those of JSON Schema, and refers to others by number: `#/$defs/7`. The whole is compiled
//! once.

use std::collections::{HashMap, HashSet, VecDeque};

use exuvia_core::InputFault;
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use super::{
    document::{Document, Node, Wrong, escape, kind},
    faults,
    graph::Graph,
};

/// Schemas that stand for one another (`$ref`, `allOf`, ...) without a member or an item between
/// them, at most: data is held against all of them on one stack.
pub(super) const MOST_IN_PLACE: usize = 32;

/// What telling the faults of one body may cost, in values looked at.
const MOST_TOLD: f64 = 50_000.0;

/// Words whose values are schemas by name.
pub(super) const BY_NAME: [&str; 3] = ["properties", "patternProperties", "dependentSchemas"];

/// Words whose values are lists of schemas.
pub(super) const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];

/// Words whose values are schemas.
pub(super) const ONE: [&str; 11] = [
    "items",
    "additionalProperties",
    "not",
    "contains",
    "propertyNames",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];

/// Words that are taken as they are.
const PLAIN: [&str; 26] = [
    "type",
    "enum",
    "const",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "format",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxContains",
    "minContains",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
    "contentEncoding",
    "example",
    "examples",
    "default",
    "writeOnly",
];

/// Who writes the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Written {
    /// A client: what is `readOnly` need not be there.
    ByClient,
    /// The server: what is `writeOnly` is not there.
    ByServer,
}

/// Schemas as they are gathered.
pub(super) struct Schemas<'d> {
    document: &'d Document,
    /// The number of each schema, by its pointer.
    numbers: HashMap<(String, Written), usize>,
    pointers: Vec<String>,
    copies: Vec<Value>,
    waiting: VecDeque<(Node<'d>, Written)>,
}

/// All schemas, ready to be held against data.
pub(super) struct Compiled {
    /// As `#/$defs/<number>` refers to them.
    copies: Vec<Value>,
    names: Vec<String>,
    /// Of an object whose members are to fit the schemas with their names as numbers.
    validator: Validator,
    /// By number: how many alternatives may be tried at each level of a body, where a schema
    /// contains itself.
    branching: Vec<usize>,
}

// === impl Schemas ===

impl<'d> Schemas<'d> {
    pub(super) fn new(document: &'d Document) -> Self {
        Self {
            document,
            numbers: HashMap::new(),
            pointers: Vec::new(),
            copies: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// The number of the schema `node`; it and all that it refers to is gathered.
    pub(super) fn add(&mut self, node: Node<'d>, written: Written) -> Result<usize, Wrong> {
        let number = self.number(node, written);
        while let Some((node, written)) = self.waiting.pop_front() {
            let copy = self.copy(&node, written)?;
            self.copies.push(copy);
        }
        Ok(number)
    }

    fn number(&mut self, node: Node<'d>, written: Written) -> usize {
        let next = self.pointers.len();
        let number = *self.numbers.entry((node.pointer.clone(), written)).or_insert(next);
        if number == next {
            self.pointers.push(node.pointer.clone());
            self.waiting.push_back((node, written));
        }
        number
    }

    /// A schema in the words of JSON Schema. Its depth is that of the document, which is bounded.
    fn copy(&mut self, node: &Node<'d>, written: Written) -> Result<Value, Wrong> {
        let members = match node.value {
            Value::Object(members) => members,
            Value::Bool(all) => return Ok(Value::Bool(*all)),
            other => return Err(node.wrong(format!("a schema is an object, not {}", kind(other)))),
        };
        let mut copy = Map::new();
        if let Some(reference) = members.get("$ref") {
            let at = node.member("$ref");
            let reference = reference.as_str();
            let reference = reference.ok_or_else(|| at.wrong("`$ref` is a string"))?;
            let target = self.document.find(reference).map_err(|message| at.wrong(message))?;
            let number = self.number(target, written);
            copy.insert("$ref".into(), format!("#/$defs/{number}").into());
            // In 3.0 nothing beside it counts.
            if self.document.old {
                return Ok(Value::Object(copy));
            }
        }
        for (name, value) in members {
            let at = node.member(name);
            let word = name.as_str();
            if BY_NAME.contains(&word) {
                let mut schemas = Map::new();
                for (name, schema) in at.members(&format!("`{word}`"))? {
                    schemas.insert(name.to_owned(), self.copy(&schema, written)?);
                }
                copy.insert(name.clone(), Value::Object(schemas));
            } else if LISTS.contains(&word) {
                let mut schemas = Vec::new();
                for schema in at.items(&format!("`{word}`"))? {
                    schemas.push(self.copy(&schema, written)?);
                }
                copy.insert(name.clone(), Value::Array(schemas));
            } else if ONE.contains(&word) {
                copy.insert(name.clone(), self.copy(&at, written)?);
            } else if PLAIN.contains(&word) {
                copy.insert(name.clone(), value.clone());
            }
        }
        if let Some(discriminator) = node.has("discriminator") {
            copy.insert("discriminator".into(), told_apart(node, &discriminator)?);
        }
        bound(&mut copy);
        self.leave_out(node, &mut copy, written)?;
        if self.document.old {
            return Ok(modern(copy, node.is("nullable")));
        }
        Ok(Value::Object(copy))
    }

    /// Requires nothing that the other side writes.
    fn leave_out(
        &self,
        node: &Node<'d>,
        copy: &mut Map<String, Value>,
        written: Written,
    ) -> Result<(), Wrong> {
        let word = match written {
            Written::ByClient => "readOnly",
            Written::ByServer => "writeOnly",
        };
        for (name, property) in node.member("properties").members("`properties`")? {
            let flagged = property.is(word)
                || self.document.resolve(property).is_ok_and(|property| property.is(word));
            if !flagged {
                continue;
            }
            if let Some(Value::Array(required)) = copy.get_mut("required") {
                required.retain(|other| other.as_str() != Some(name));
            }
            if written == Written::ByServer
                && let Some(Value::Object(properties)) = copy.get_mut("properties")
            {
                properties.retain(|other, _| other != name);
            }
        }
        Ok(())
    }

    /// Makes all of them ready.
    pub(super) fn compile(self) -> Result<Compiled, Wrong> {
        let graph = Graph::new(&self.copies);
        if let Some(number) = graph.too_deep() {
            return Err(Wrong {
                pointer: self.pointers[number].clone(),
                message: format!(
                    "this schema stands for itself, or for more than {MOST_IN_PLACE} others"
                ),
            });
        }
        let numbers = 0..self.copies.len();
        let members: Map<_, _> = numbers
            .clone()
            .map(|number| (number.to_string(), json!({ "$ref": format!("#/$defs/{number}") })))
            .collect();
        let all: Map<_, _> =
            numbers.map(|number| (number.to_string(), self.copies[number].clone())).collect();
        let whole = json!({ "$defs": all, "properties": members });
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(true)
            .offline()
            .build(&whole);
        let validator = validator.map_err(|error| {
            let path = error.instance_path().as_str();
            let schema = error.schema_path().as_str();
            let path = if path.starts_with("/$defs/") { path } else { schema };
            Wrong { pointer: self.pointer_of(path), message: faults::of_schema(&error) }
        })?;
        let branching = graph.branching(&self.copies);
        let names = self.names();
        Ok(Compiled { copies: self.copies, names, validator, branching })
    }

    /// Names of the schemas, no two alike: the last words of their pointers.
    fn names(&self) -> Vec<String> {
        let mut written = vec![Written::ByClient; self.pointers.len()];
        self.numbers.iter().for_each(|((_, by), number)| written[*number] = *by);
        let mut taken = HashSet::new();
        // Where the search for a free number begins: many schemas are called `schema`.
        let mut next: HashMap<String, usize> = HashMap::new();
        let named = self.pointers.iter().zip(written).map(|(pointer, written)| {
            let word = pointer.rsplit('/').next().unwrap_or_default();
            let word = word.replace("~1", "/").replace("~0", "~");
            let result = if written == Written::ByServer { "Result" } else { "" };
            let base = format!("{word}{result}");
            let number = next.entry(base.clone()).or_insert(1);
            let mut name = base.clone();
            while !taken.insert(name.clone()) {
                *number += 1;
                name = format!("{base}{number}");
            }
            name
        });
        named.collect()
    }

    /// Where in the document a place of the whole schema (`/$defs/7/type`) comes from.
    fn pointer_of(&self, path: &str) -> String {
        let rest = path.strip_prefix("/$defs/").unwrap_or_default();
        let (number, below) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let pointer = number.parse::<usize>().ok().and_then(|number| self.pointers.get(number));
        pointer.map(|pointer| format!("{pointer}{below}")).unwrap_or_default()
    }
}

/// Holds numbers of OpenAPI's own formats to their size.
fn bound(copy: &mut Map<String, Value>) {
    let (low, high) = match copy.get("format").and_then(Value::as_str) {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("int64") => (i64::MIN, i64::MAX),
        _ => return,
    };
    for (word, exclusive, limit) in
        [("minimum", "exclusiveMinimum", low), ("maximum", "exclusiveMaximum", high)]
    {
        if !copy.contains_key(word) && !copy.contains_key(exclusive) {
            copy.insert(word.into(), limit.into());
        }
    }
}

/// By which member alternatives are told apart, and which value of it each has: the references are
/// other ones in the copy.
fn told_apart(node: &Node<'_>, discriminator: &Node<'_>) -> Result<Value, Wrong> {
    let name = discriminator.text("propertyName")?.unwrap_or_default();
    let mapping = discriminator.member("mapping");
    let mapping: Vec<_> = mapping.members("`mapping`")?.collect();
    let mut values = Map::new();
    for word in ["oneOf", "anyOf"] {
        let mut of_word = Vec::new();
        for part in node.member(word).items(&format!("`{word}`"))? {
            let reference = part.text("$ref")?.unwrap_or_default();
            let last = reference.rsplit('/').next().unwrap_or_default();
            let mapped = mapping.iter().find(|(_, to)| *to.value == reference || *to.value == last);
            of_word.push(mapped.map_or(last, |(value, _)| value));
        }
        values.insert(word.into(), json!(of_word));
    }
    Ok(json!({ "propertyName": name, "values": values }))
}

/// A schema of OpenAPI 3.0 in today's words.
fn modern(mut copy: Map<String, Value>, nullable: bool) -> Value {
    for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        match copy.get(exclusive) {
            Some(Value::Bool(true)) => match copy.remove(bound) {
                Some(limit) => copy.insert(exclusive.into(), limit),
                None => copy.remove(exclusive),
            },
            Some(Value::Bool(false)) => copy.remove(exclusive),
            _ => None,
        };
    }
    if !nullable {
        return Value::Object(copy);
    }
    let simple = !LISTS.iter().chain(&["not", "$ref"]).any(|word| copy.contains_key(*word));
    match copy.get("type") {
        Some(Value::String(of)) if simple => {
            let types = json!([of, "null"]);
            copy.insert("type".into(), types);
            if let Some(Value::Array(values)) = copy.get_mut("enum")
                && !values.contains(&Value::Null)
            {
                values.push(Value::Null);
            }
            Value::Object(copy)
        }
        _ => {
            let mut either = Map::new();
            // What it shows of itself is of the whole.
            for word in ["example", "default"] {
                either.extend(copy.remove(word).map(|value| (word.to_owned(), value)));
            }
            either.insert("anyOf".into(), json!([copy, { "type": "null" }]));
            Value::Object(either)
        }
    }
}

// === impl Compiled ===

impl Compiled {
    /// The schema of a number.
    pub(super) fn schema(&self, number: usize) -> &Value {
        self.copies.get(number).unwrap_or(&Value::Null)
    }

    /// A name for the schema of a number.
    pub(super) fn name(&self, number: usize) -> &str {
        self.names.get(number).map_or("", String::as_str)
    }

    /// The number that a reference in one of the schemas leads to.
    pub(super) fn refers(reference: &Value) -> Option<usize> {
        reference.as_str()?.strip_prefix("#/$defs/")?.parse().ok()
    }

    /// Whether `data` fits.
    pub(super) fn fits(&self, number: usize, data: Value) -> bool {
        self.validator.is_valid(&under(number, data))
    }

    /// All that is wrong with `data`, which is at `pointer` of the arguments.
    pub(super) fn faults(&self, number: usize, data: Value, pointer: &str) -> Vec<InputFault> {
        let branching = self.branching.get(number).copied().unwrap_or(1);
        let data = under(number, data);
        if self.validator.is_valid(&data) {
            return Vec::new();
        }
        // Telling what is wrong with alternatives tries all of them, and those within them: of data
        // nested deeply enough nobody could wait for the end of it.
        if cost(&data, branching as f64, 1.0) > MOST_TOLD {
            let message = "does not fit the schema, and is too large to tell where".to_owned();
            return vec![InputFault { pointer: pointer.to_owned(), message }];
        }
        let below = format!("/{}", escape(&number.to_string()));
        let mut told = Vec::new();
        for error in self.validator.iter_errors(&data) {
            faults::tell(&error, &mut told);
            if told.len() >= faults::MOST {
                break;
            }
        }
        told.truncate(faults::MOST);
        for fault in &mut told {
            let rest = fault.pointer.strip_prefix(&below).unwrap_or_default();
            fault.pointer = format!("{pointer}{rest}");
        }
        told
    }
}

/// `data` where the whole schema has the schema of `number`.
fn under(number: usize, data: Value) -> Value {
    Value::Object(Map::from_iter([(number.to_string(), data)]))
}

/// What it costs to tell the faults of `data` where each level of it is tried `branching` times as
/// often as the one above.
fn cost(data: &Value, branching: f64, times: f64) -> f64 {
    let below = times * branching;
    match data {
        Value::Array(items) => {
            items.iter().fold(times, |sum, item| sum + cost(item, branching, below))
        }
        Value::Object(members) => {
            members.values().fold(times, |sum, value| sum + cost(value, branching, below))
        }
        _ => times,
    }
}
