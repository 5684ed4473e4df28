//! Stubs in the words in which workers describe handlers (`docs/types.md`, "Inside"), so that they
//! stand in the server's own document as they are.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::{schemas::Compiled, stub::MODULE};

/// Words whose values are data, not schemas.
const DATA: [&str; 5] = ["example", "examples", "default", "enum", "const"];

/// What is said of stubs, as it is gathered.
#[derive(Default)]
pub(super) struct Description {
    handlers: Map<String, Value>,
    /// Numbers of schemas that are referred to.
    seen: HashSet<usize>,
    /// Those of them that are still to be written.
    wanted: Vec<usize>,
}

/// One stub.
pub(super) struct Told<'t> {
    pub(super) target: String,
    pub(super) doc: &'t str,
    /// Name, whether it must be given, and its schema.
    pub(super) params: Vec<(&'t str, bool, Option<usize>)>,
    /// The body: whether it must be given, and its schema.
    pub(super) body: Option<(bool, Option<usize>)>,
    pub(super) returns: Option<usize>,
}

// === impl Description ===

impl Description {
    pub(super) fn add(&mut self, schemas: &Compiled, told: &Told<'_>) {
        let mut params = Vec::new();
        let mut whole = "body".to_owned();
        if let Some((required, schema)) = told.body {
            while told.params.iter().any(|(name, ..)| *name == whole) {
                whole.push('_');
            }
            // First, since that is the one that a body may be as a whole.
            params.push(self.param(schemas, (&whole, required, schema)));
        }
        params.extend(told.params.iter().map(|param| self.param(schemas, *param)));
        let handler = json!({
            "doc": told.doc,
            "params": params,
            "whole": told.body.is_some().then_some(whole),
            "whole_alone": true,
            "open": false,
            "returns": self.schema(schemas, told.returns),
            "streams": false,
        });
        self.handlers.insert(told.target.clone(), handler);
    }

    fn param(
        &mut self,
        schemas: &Compiled,
        (name, required, schema): (&str, bool, Option<usize>),
    ) -> Value {
        let schema = self.schema(schemas, schema);
        json!({ "name": name, "required": required, "schema": schema, "table": null })
    }

    fn schema(&mut self, schemas: &Compiled, number: Option<usize>) -> Value {
        let Some(number) = number else { return json!({}) };
        match schemas.schema(number) {
            // `true` and `false` are schemas, but not everybody's.
            Value::Bool(true) => json!({}),
            Value::Bool(false) => json!({ "not": {} }),
            schema => self.named(schemas, schema),
        }
    }

    /// `schema` with references by name.
    fn named(&mut self, schemas: &Compiled, schema: &Value) -> Value {
        match schema {
            Value::Object(words) => {
                let mut copy = Map::new();
                for (word, value) in words {
                    let value = match (word.as_str(), Compiled::refers(value)) {
                        ("$ref", Some(number)) => {
                            if self.seen.insert(number) {
                                self.wanted.push(number);
                            }
                            format!("#/components/schemas/{}", name(schemas, number)).into()
                        }
                        ("discriminator", _) => {
                            json!({ "propertyName": value["propertyName"] })
                        }
                        (word, _) if DATA.contains(&word) => value.clone(),
                        _ => self.named(schemas, value),
                    };
                    copy.insert(word.clone(), value);
                }
                Value::Object(copy)
            }
            Value::Array(items) => items.iter().map(|item| self.named(schemas, item)).collect(),
            other => other.clone(),
        }
    }

    /// All of it.
    pub(super) fn finish(mut self, schemas: &Compiled) -> Value {
        let mut definitions = Map::new();
        while let Some(number) = self.wanted.pop() {
            let schema = self.schema(schemas, Some(number));
            definitions.insert(name(schemas, number), schema);
        }
        definitions.sort_keys();
        json!({ "handlers": self.handlers, "definitions": definitions })
    }
}

/// The name of a schema; no class of a handler has one of these.
fn name(schemas: &Compiled, number: usize) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let own: String = schemas.name(number).chars().map(allowed).collect();
    format!("{MODULE}.{own}")
}
