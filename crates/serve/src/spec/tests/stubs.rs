use exuvia_core::{Call, Codec, Failure, Payload};
use serde_json::json;

use super::{MARKET, PETSTORE, answer, asking, call, faults, route, stubs};

const TENANT: (&str, &str) = ("X-Tenant", "acme");

#[test]
fn every_operation_without_a_handler_is_a_stub_and_is_named() {
    let made = stubs(PETSTORE);
    assert_eq!(
        made.stubs,
        [
            "GET /v2/pets",
            "POST /v2/pets",
            "GET /v2/pets/{petId}",
            "PUT /v2/pets/{petId}",
            "DELETE /v2/pets/{petId}"
        ]
    );
    assert!(made.routes.iter().all(|route| route.stub && route.origin == "spec.yaml"));
    assert_eq!(made.warnings, [""; 0]);
    let list = route(&made, "GET /v2/pets");
    assert_eq!(list.target.info().target(), "openapi:listPets");
    assert_eq!(list.options.summary.as_deref(), Some("All pets"));
    assert_eq!(list.options.tags, ["pets"]);
    assert_eq!(list.options.headers["X-Tenant"], "x-tenant");
    assert_eq!(list.query_params(), ["limit", "tags", "near", "alive"]);
    assert_eq!(list.options.status, Some(200));
    let create = route(&made, "POST /v2/pets");
    assert!(create.options.deprecated);
    assert_eq!(create.options.status, Some(201));
    let params = &create.target.info().params;
    assert!(params.iter().any(|param| param.name == "name" && param.required));
    assert!(route(&made, "DELETE /v2/pets/{petId}").options.status == Some(204));
}

#[test]
fn the_first_example_is_the_answer_in_the_form_that_is_accepted() {
    let made = stubs(PETSTORE);
    let listed = answer(&made, "GET /v2/pets", &[TENANT], "");
    assert_eq!(listed, json!([{ "id": 1, "name": "Zoe", "kind": "cat" }]));
    let pet = [("petId", "7")];
    let found = answer(&made, "GET /v2/pets/{petId}", &pet, "");
    assert_eq!(found, json!({ "id": 7, "name": "Tom", "kind": "cat" }));
    for (name, accept, codec, body) in [
        ("GET /v2/pets/{petId}", Codec::Csv, Codec::Csv, "id,name\n7,Tom\n"),
        (
            "GET /v2/pets/{petId}",
            Codec::Parquet,
            Codec::Json,
            "{\"id\":7,\"name\":\"Tom\",\"kind\":\"cat\"}",
        ),
        ("PUT /v2/pets/{petId}", Codec::Text, Codec::Text, "done\n"),
        ("DELETE /v2/pets/{petId}", Codec::Json, Codec::Empty, ""),
    ] {
        let asked = Call { accept, ..asking(&pet, "") };
        let payload = call(&route(&made, name).target, asked).unwrap();
        assert_eq!((payload.codec, &*payload.body), (codec, body.as_bytes()), "{name}");
    }
    let made = stubs(MARKET);
    let asked = Call { accept: Codec::Ndjson, ..asking(&[], "") };
    let payload = call(&route(&made, "GET /market/prices").target, asked).unwrap();
    assert_eq!(payload.codec, Codec::Ndjson);
    assert_eq!(payload.body.iter().filter(|byte| **byte == b'\n').count(), 2);
}

#[test]
fn an_example_is_made_where_none_is_given_and_fits_its_schema() {
    let made = stubs(PETSTORE);
    // What only clients write is not there, what only the server writes is.
    let created = answer(&made, "POST /v2/pets", &[TENANT], r#"{"name": "Tom", "kind": "cat"}"#);
    assert_eq!(created, json!({ "id": 12, "name": "string", "kind": "cat" }));
    let made = stubs(MARKET);
    assert_eq!(made.warnings, [""; 0], "each example fits");
    let order =
        r#"{"book": null, "legs": [{"kind": "spot", "volume": 1, "at": "2026-01-31T00:00:00Z"}]}"#;
    let receipt = answer(&made, "POST /market/orders", &[], order);
    assert_eq!(receipt["legs"].as_array().unwrap().len(), 2);
    assert_eq!(receipt["legs"][0]["kind"], "spot");
    assert_eq!(receipt["fee"], json!({ "amount": 0.25, "currency": "EUR" }));
    let leg = [("orderId", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"), ("leg", "0")];
    let leg = answer(&made, "GET /market/orders/{orderId}/legs/{leg}", &leg, "");
    assert_eq!(leg, json!({ "kind": "spot", "volume": 1, "at": "2026-01-31T12:00:00Z" }));
    let filter = answer(&made, "POST /market/filter", &[], r#"{"field": "a", "is": 1}"#);
    assert!(filter.is_object(), "what contains itself ends: {filter}");
}

#[test]
fn arguments_as_text_are_read_by_their_schemas_and_all_faults_told() {
    let made = stubs(PETSTORE);
    let name = "GET /v2/pets";
    for good in [
        &[TENANT][..],
        &[TENANT, ("limit", "100"), ("tags", "cat"), ("tags", "dog"), ("alive", "true")],
        &[TENANT, ("near", "1.5,2"), ("alive", "null"), (":request", "x")],
        &[TENANT, ("tags", r#"["cat"]"#)],
    ] {
        assert_eq!(faults(&made, name, good, ""), [""; 0], "{good:?}");
    }
    let bad = [
        ("limit", "many"),
        ("tags", "cat"),
        ("tags", "fish"),
        ("near", "1,2,3"),
        ("alive", "yes"),
        ("X-Tenant", "ACME"),
    ];
    let mut told = faults(&made, name, &bad, "");
    told.sort();
    assert_eq!(
        told,
        [
            "/X-Tenant: must match `^[a-z]+$`, and \"ACME\" does not",
            "/alive: must be true or false or null, not `yes`",
            "/limit: must be an integer, not `many`",
            "/near: must have at most 2 items, not 3",
            "/tags/1: must be \"cat\" or \"dog\", not \"fish\"",
        ]
    );
    assert_eq!(
        faults(&made, name, &[("limit", "0"), TENANT], ""),
        ["/limit: must be at least 1, not 0"]
    );
    assert_eq!(faults(&made, name, &[("limit", "1"), ("limit", "2"), TENANT], "").len(), 1);
    assert_eq!(faults(&made, name, &[], ""), ["/X-Tenant: is missing"]);
    assert_eq!(
        faults(&made, "GET /v2/pets/{petId}", &[("petId", "Tom")], ""),
        ["/petId: must be an integer, not `Tom`"]
    );
    let large = [("petId", "9223372036854775808")];
    assert_eq!(
        faults(&made, "GET /v2/pets/{petId}", &large, ""),
        ["/petId: must be at most 9223372036854775807, not 9223372036854775808"]
    );
    let made = stubs(MARKET);
    let name = "GET /market/prices";
    assert_eq!(faults(&made, name, &[("where", r#"{"zone": 1}"#)], ""), [""; 0]);
    assert_eq!(faults(&made, name, &[("where", "{}")], ""), ["/where/zone: is missing"]);
    assert_eq!(faults(&made, name, &[("where", "here")], "").len(), 1);
}

#[test]
fn a_body_is_held_against_its_schema_and_all_faults_told_with_pointers() {
    let made = stubs(PETSTORE);
    let name = "POST /v2/pets";
    let good =
        r#"{"name": "Tom", "kind": "cat", "born": null, "mother": {"name": "M", "kind": "cat"}}"#;
    assert_eq!(faults(&made, name, &[TENANT], good), [""; 0]);
    assert_eq!(faults(&made, name, &[TENANT], ""), [": the body is missing"]);
    let bad = r#"{"name": "", "weight": 0, "born": "soon", "mother": {"name": 7, "kind": "cow"}}"#;
    let mut told = faults(&made, name, &[], bad);
    told.sort();
    assert_eq!(
        told,
        [
            "/X-Tenant: is missing",
            "/born: must be a date such as 2026-01-31, not \"soon\"",
            "/kind: is missing",
            "/mother/kind: must be \"cat\" or \"dog\", not \"cow\"",
            "/mother/name: must be a string, not a number",
            "/name: must have at least 1 character, not 0",
            "/weight: must be above 0, not 0",
        ]
    );
    let broken = call(&route(&made, name).target, asking(&[TENANT], "{"));
    assert!(matches!(broken, Err(Failure::Malformed { .. })));
}

#[test]
fn of_alternatives_the_faults_of_the_one_that_was_meant_are_told() {
    let made = stubs(MARKET);
    let name = "POST /market/orders";
    let bad = r#"{"book": "ab", "notes": {"A": "x"}, "legs": [
        {"kind": "forward", "volume": 900, "from": "2026-01-01", "price": {"amount": 1, "cur": "EUR"}}]}"#;
    let mut told = faults(&made, name, &[], bad);
    told.sort();
    assert_eq!(
        told,
        [
            "/book: must have at least 3 characters, not 2",
            "/legs/0/price/cur: there is no member of this name.",
            "/legs/0/price/currency: is missing",
            "/legs/0/to: is missing",
            "/legs/0/volume: must be at most 500, not 900",
            "/notes: has a member whose name does not fit: it must match `^[a-z]+$`, and \"A\" does not",
        ]
    );
}

#[test]
fn a_form_is_read_by_its_schema() {
    let made = stubs(PETSTORE);
    let name = "PUT /v2/pets/{petId}";
    let ask = |body: &'static str| {
        let payload = Payload::new(Codec::Form, body);
        match call(&route(&made, name).target, Call { payload, ..asking(&[("petId", "1")], "") }) {
            Err(Failure::Input { faults }) => {
                faults.into_iter().map(|fault| fault.pointer).collect()
            }
            Ok(_) => Vec::new(),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(ask("name=Tom&age=3"), [""; 0]);
    let mut told = ask("name=T&age=old&x=1");
    told.sort();
    assert_eq!(told, ["/age", "/name", "/x"]);
}

#[test]
fn a_body_that_would_take_for_ever_to_explain_is_refused_at_once() {
    let made = stubs(MARKET);
    let mut body = "1".to_owned();
    for _ in 0..40 {
        body = format!(r#"{{"and": [{body}], "not": {body}}}"#);
        if body.len() > 1 << 19 {
            break;
        }
    }
    let told = faults(&made, "POST /market/filter", &[], &body);
    assert_eq!(told, [": does not fit the schema, and is too large to tell where"]);
    let short = r#"{"and": [{"not": 3}]}"#;
    assert_eq!(
        faults(&made, "POST /market/filter", &[], short),
        ["/and/0/not: must be an object, not a number"]
    );
}

#[test]
fn examples_that_do_not_fit_their_schema_are_told_at_the_start() {
    let spec = r##"{"openapi": "3.1.0", "paths": {"/a": {"get": {"responses": {"200": {"content":
        {"application/json": {"schema": {"type": "object", "required": ["n"]}, "example": {"m": 1}}}}}}},
        "/b": {"get": {"responses": {"200": {"content": {"application/json": {"schema": false}}}}}}}}"##;
    let made = stubs(spec);
    assert_eq!(
        made.warnings,
        [
            "GET /a: the example does not fit its schema: /n is missing",
            "GET /b: no example could be made that fits the schema of its answer"
        ]
    );
    assert_eq!(answer(&made, "GET /a", &[], ""), json!({ "m": 1 }));
}

#[test]
fn stubs_are_described_as_handlers_are() {
    let made = stubs(MARKET);
    let mut all = json!({});
    super::super::merge(&mut all, &made.description);
    super::super::merge(&mut all, &json!({}));
    let order = &all["handlers"]["openapi:placeOrder"];
    assert_eq!(order["params"][0]["name"], "body");
    assert_eq!(order["params"][0]["schema"]["$ref"], "#/components/schemas/openapi.Order");
    assert_eq!(order["whole"], "body");
    let leg = &all["handlers"]["openapi:leg"];
    assert_eq!(leg["whole"], json!(null));
    assert_eq!(leg["params"][1]["schema"], json!({ "type": "integer", "minimum": 0 }));
    // Whatever is referred to is there, and nothing of our own making is left in it.
    let text = all.to_string();
    assert!(!text.contains("$defs") && !text.contains("\"values\""), "{text}");
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(all["definitions"].get(name).is_some(), "{name}");
    }
}
