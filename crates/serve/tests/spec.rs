//! What holds of every OpenAPI document, sensible or not.

use exuvia_core::{Call, Codec, Failure, Payload};
use exuvia_serve::spec::{FromDocument, routes};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const PETSTORE: &str = include_str!("../src/spec/tests/petstore.yaml");
const MARKET: &str = include_str!("../src/spec/tests/market.yaml");

/// Words that mean something in a document.
const WORDS: [&str; 24] = [
    "get",
    "post",
    "parameters",
    "in",
    "query",
    "path",
    "name",
    "schema",
    "$ref",
    "type",
    "object",
    "array",
    "string",
    "integer",
    "properties",
    "required",
    "items",
    "oneOf",
    "allOf",
    "nullable",
    "responses",
    "200",
    "content",
    "application/json",
];

/// Any data, of the words of documents among others.
fn data() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        proptest::sample::select(WORDS.as_slice()).prop_map(Value::from),
        proptest::sample::select(vec![
            "#",
            "#/paths",
            "#/components/schemas/Pet",
            "#/components/schemas/Leg",
            "x.yaml"
        ])
        .prop_map(|to| json!({ "$ref": to })),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
        word,
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        let name = prop_oneof![
            proptest::sample::select(WORDS.as_slice()).prop_map(str::to_owned),
            ".{0,5}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Everything in `value`, by pointer.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{number}"), found);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

/// A document with some of its values replaced.
fn changed() -> impl Strategy<Value = Value> {
    let change = (any::<prop::sample::Index>(), data());
    (any::<bool>(), prop::collection::vec(change, 1..4)).prop_map(|(small, changes)| {
        let text = if small { PETSTORE } else { MARKET };
        let mut document: Value = serde_saphyr::from_str(text).expect("it is YAML");
        for (index, new) in changes {
            let mut all = Vec::new();
            pointers(&document, "", &mut all);
            if let Some(old) = document.pointer_mut(&all[index.index(all.len())]) {
                *old = new;
            }
        }
        document
    })
}

/// Calls every stub; what they say is as it should be.
fn call_all(made: &FromDocument, body: &Value, text: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for route in &made.routes {
        let info = route.target.info();
        let text_arguments =
            info.params.iter().map(|param| (param.name.clone(), text.to_owned())).collect();
        for codec in [Codec::Empty, Codec::Json, Codec::Form] {
            let payload = match codec {
                Codec::Empty => Payload::default(),
                codec => Payload::new(codec, body.to_string()),
            };
            let call =
                Call { payload, text_arguments: Clone::clone(&text_arguments), ..Call::default() };
            let outcome = runtime.block_on(route.target.call(call));
            match outcome.result.map_err(|failure| *failure) {
                Ok(payload) if payload.codec == Codec::Json => {
                    serde_json::from_slice::<Value>(&payload.body).expect("the answer is JSON");
                }
                Ok(_) => {}
                Err(Failure::Input { faults }) => {
                    assert!((1..=100).contains(&faults.len()), "{}", route.name());
                    for fault in faults {
                        assert!(fault.pointer.is_empty() || fault.pointer.starts_with('/'));
                        assert!(!fault.message.is_empty());
                    }
                }
                Err(other) => panic!("{}: {other}", route.name()),
            }
        }
    }
}

/// A schema that something fits, written as 3.1 has it.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({})),
        Just(json!({ "type": "boolean" })),
        Just(json!({ "type": ["null", "integer"] })),
        (-50..50_i64, 0..50_i64)
            .prop_map(|(low, more)| json!({ "type": "integer", "minimum": low, "maximum": low + more })),
        (-50..50_i64).prop_map(|above| json!({ "type": "number", "exclusiveMinimum": above })),
        (-50..50_i64).prop_map(|below| json!({ "type": "integer", "exclusiveMaximum": below })),
        (1..9_u32, -9..9_i32)
            .prop_map(|(step, low)| json!({ "type": "integer", "multipleOf": step, "minimum": low })),
        (0..12_u32, 0..12_u32)
            .prop_map(|(least, more)| json!({ "type": "string", "minLength": least, "maxLength": least + more })),
        "[A-Z]{1,3}[0-9]{0,2}".prop_map(|text| json!({ "type": "string", "pattern": format!("^{text}x*$") })),
        proptest::sample::select(vec![
            "date-time", "date", "time", "duration", "uuid", "email", "hostname", "ipv4", "ipv6", "uri", "regex"
        ])
        .prop_map(|format| json!({ "type": "string", "format": format })),
        prop::collection::vec(any::<i8>(), 1..4).prop_map(|values| json!({ "enum": values })),
        any::<u8>().prop_map(|value| json!({ "const": value })),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let named = prop::collection::btree_map("[a-d]", inner.clone(), 0..4);
        prop_oneof![
            (inner.clone(), 0..4_u32).prop_map(
                |(item, least)| json!({ "type": "array", "items": item, "minItems": least })
            ),
            named.prop_map(|properties| {
                let required: Vec<_> = properties.keys().take(2).cloned().collect();
                json!({ "type": "object", "properties": properties, "required": required })
            }),
            inner.clone().prop_map(|schema| json!({ "allOf": [schema, { "description": "x" }] })),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| {
                let parts = parts.into_iter().enumerate().map(|(number, part)| {
                    json!({ "type": "object", "required": ["kind", "of"],
                            "properties": { "kind": { "const": number }, "of": part } })
                });
                json!({ "oneOf": parts.collect::<Vec<_>>() })
            }),
            inner.prop_map(|part| json!({ "anyOf": [part, { "type": "null" }] })),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_taken_or_refused(text in "(openapi: 3.1.0\n)?(\\PC|[\n :{}\\[\\]&*-]){0,200}") {
        let _ = routes(&text, "spec.yaml", &[]);
        let _ = routes(&text, "spec.json", &[]);
    }

    #[test]
    fn any_document_is_refused_or_served(document in changed(), body in data(), text in ".{0,9}") {
        match routes(&document.to_string(), "spec.json", &[]) {
            Ok(made) => call_all(&made, &body, &text),
            Err(error) => prop_assert!(error.to_string().starts_with("spec.json")),
        }
    }

    #[test]
    fn an_example_is_made_of_every_schema_that_something_fits(schema in schema()) {
        let document = json!({ "openapi": "3.1.0", "paths": { "/x": { "get": { "responses": { "200": {
            "content": { "application/json": { "schema": schema } } } } } } } });
        let made = routes(&document.to_string(), "spec.json", &[]);
        let made = made.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(made.warnings, Vec::<String>::new());
    }
}
