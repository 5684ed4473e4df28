use super::{MARKET, PETSTORE, read, refused, stubs};

/// A document with one operation, `GET /x`, and more.
fn with(operation: &str, more: &str) -> String {
    format!(r#"{{"openapi": "3.1.0", "paths": {{"/x": {{"get": {{{operation}}}}}}} {more}}}"#)
}

#[test]
fn what_is_wrong_is_told_with_file_line_place_and_the_nearest_name() {
    for (document, told) in [
        (
            "swagger: '2.0'",
            "spec.yaml: this is Swagger \"2.0\": convert it to OpenAPI 3.0 or 3.1 first",
        ),
        ("openapi: 3.2.0", "spec.yaml: this is OpenAPI 3.2.0; 3.0 and 3.1 are understood"),
        ("[]", "spec.yaml: an OpenAPI document is an object, not an array"),
        ("a: 1", "spec.yaml: this is not an OpenAPI document: it has no `openapi: 3.1.0`"),
        ("a: [1,\nb: 2", "spec.yaml:1: this is not YAML: unclosed bracket '['"),
        (
            "openapi: 3.1.0\nopenapi: 3.1.0",
            "spec.yaml:2: this is not YAML: duplicate mapping key: openapi",
        ),
        (
            "openapi: 3.1.0\npaths:\n  /x:\n    gett: {}\n",
            "spec.yaml:4: a path has no `gett`. Did you mean `get`? (at /paths/~1x/gett)",
        ),
        (
            "openapi: 3.1.0\npaths:\n  x: {}\n",
            "spec.yaml:3: a path begins with `/`, and `x` does not (at /paths/x)",
        ),
        (
            "openapi: 3.1.0\npaths:\n  /{a}: {get: {}}\n",
            "spec.yaml:3: the parameter `a` of the path is not described (at /paths/~1{a}/get)",
        ),
    ] {
        let got = refused(document, &[]);
        assert!(got.starts_with(told), "{got}\nis not\n{told}");
    }
    for (from, to, told) in [
        (
            "schemas/Pet\" } }\n              examples",
            "schemas/Pat\" } }\n              examples",
            "spec.yaml:25: `#/components/schemas/Pat` leads nowhere: /components/schemas has no `Pat`. Did you mean `Pet`? \
          (at /paths/~1pets/get/responses/200/content/application~1json/schema/items/$ref)",
        ),
        (
            "in: header",
            "in: heder",
            "spec.yaml:10: a parameter is in no `heder`. Did you mean `header`? (at /paths/~1pets/parameters/0/in)",
        ),
        (
            "$ref: \"#/components/parameters/petId\"",
            "$ref: \"other.yaml#/petId\"",
            "spec.yaml:42: `other.yaml#/petId` is in another file",
        ),
        (
            "operationId: createPet",
            "operationId: listPets",
            "spec.yaml:31: the operationId `listPets` is that of /paths/~1pets/get too",
        ),
        (
            "type: string, format: date",
            "type: strin, format: date",
            "spec.yaml:90: \"strin\" is no type. Did you mean `string`? (at /components/schemas/Pet/properties/born/type)",
        ),
        (
            "required: [id, name, kind]",
            "required: true",
            "spec.yaml:84: must be an array, not true (at /components/schemas/Pet/required)",
        ),
        (
            "pattern: \"^[a-z]+$\"",
            "pattern: \"^[a-z\"",
            "spec.yaml:10: \"^[a-z\" is not a regular expression (at /paths/~1pets/parameters/0/schema/pattern)",
        ),
        (
            "\"200\":",
            "\"2000\":",
            "spec.yaml:21: `2000` is not the status of an answer (at /paths/~1pets/get/responses/2000)",
        ),
    ] {
        assert!(PETSTORE.contains(from), "{from}");
        let got = refused(&PETSTORE.replacen(from, to, 1), &[]);
        assert!(got.starts_with(told), "{got}\nis not\n{told}");
    }
}

#[test]
fn json_and_yaml_make_the_same_routes() {
    for document in [PETSTORE, MARKET] {
        let value: serde_json::Value = serde_saphyr::from_str(document).unwrap();
        let (json, yaml) = (stubs(&value.to_string()), stubs(document));
        assert_eq!(json.stubs, yaml.stubs);
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(stubs(&format!("\u{feff}{pretty}")).stubs, yaml.stubs);
    }
    let error = match super::routes("{\"openapi\": 3,\n \"a\" 1}", "spec.json", &[]) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was taken"),
    };
    assert!(error.starts_with("spec.json:2: this is not JSON: "), "{error}");
}

#[test]
fn what_cannot_be_served_is_left_out_and_told() {
    let made = stubs(
        "openapi: 3.0.0\npaths:\n  /a.{format}: {get: {}}\n  /b?x=1: {get: {}}\n  \
         /c: {trace: {}, head: {}, options: {}, post: {parameters: [{name: s, in: cookie}, {name: d, in: query, style: deepObject}]}}\n  x-y: 1\n",
    );
    assert_eq!(made.stubs, ["POST /c"]);
    assert_eq!(
        made.warnings,
        [
            "GET /a.{format} is left out: `a.{format}` is neither text nor one `{name}`",
            "GET /b?x=1 is left out: a path has no `?`, `#` or space",
            "TRACE /c is left out: it is never answered",
            "HEAD /c is left out: HEAD is answered where GET is",
            "POST /c: the cookie `s` is not read",
            "POST /c: `d` comes as `deepObject`, which is not read",
        ]
    );
}

#[test]
fn the_first_server_that_holds_gives_the_base_path() {
    for (servers, path) in [
        ("[{url: /}]", "/x"),
        ("[{url: 'https://a.b'}]", "/x"),
        ("[{url: 'https://a.b/c%20/'}]", "!"),
        ("[{url: 'https://a.b/v1/?q=1'}, {url: /v2}]", "/v1/x"),
        ("[{url: api}]", "/api/x"),
        ("[{url: '/{v}', variables: {v: {default: v3}}}]", "/v3/x"),
        ("[{url: '/{v}'}]", "!"),
        ("[]", "/x"),
    ] {
        let spec = format!("openapi: 3.1.0\nservers: {servers}\npaths: {{/x: {{get: {{}}}}}}\n");
        match read(&spec, &[]) {
            Ok(made) => assert_eq!(made.stubs, [format!("GET {path}")], "{servers}"),
            Err(error) => assert_eq!(path, "!", "{error}"),
        }
    }
    let own = "openapi: 3.1.0\nservers: [{url: /a}]\npaths: {/x: {servers: [{url: /b}], get: {}, post: {servers: [{url: /c}]}}}\n";
    assert_eq!(stubs(own).stubs, ["GET /b/x", "POST /c/x"]);
}

#[test]
fn references_without_end_are_an_error() {
    let circle = with(
        r##""requestBody": {"$ref": "#/a"}"##,
        r##", "a": {"$ref": "#/b"}, "b": {"$ref": "#/a"}"##,
    );
    assert!(refused(&circle, &[]).contains("references without end"));
    for schemas in [
        r##"{"A": {"$ref": "#/components/schemas/A"}}"##,
        r##"{"A": {"allOf": [{"$ref": "#/components/schemas/B"}]}, "B": {"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/A"}]}}"##,
    ] {
        let body = r##""requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/A"}}}}"##;
        let spec = with(body, &format!(r#", "components": {{"schemas": {schemas}}}"#));
        let told = refused(&spec, &[]);
        assert!(told.contains("stands for itself"), "{told}");
    }
}

#[test]
fn bombs_and_depth_are_errors_and_nothing_worse() {
    let mut bomb = "openapi: 3.1.0\na0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{before}]\n");
    }
    assert!(refused(&bomb, &[]).contains("this is not YAML: "));
    for deep in [
        "[".repeat(100_000),
        format!("{}1", "{\"a\":".repeat(100_000)),
        (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
        format!("openapi: 3.1.0\npaths: {}", "{a: ".repeat(10_000)),
    ] {
        refused(&deep, &[]);
    }
}

#[test]
fn a_long_chain_of_schemas_and_a_deep_body_fit_on_the_stack() {
    let schemas: Vec<String> = (0..2000)
        .map(|n| {
            let next = format!(r##"{{"$ref": "#/components/schemas/S{}"}}"##, (n + 1) % 2000);
            format!(r#""S{n}": {{"properties": {{"a": {{"allOf": [{{"anyOf": [{next}, {{"type": "null"}}]}}]}}}}}}"#)
        })
        .collect();
    let body = r##""requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/S0"}}}}"##;
    let spec = with(body, &format!(r#", "components": {{"schemas": {{{}}}}}"#, schemas.join(",")));
    let made = stubs(&spec);
    let body = format!("{}1{}", "{\"a\":".repeat(120), "}".repeat(120));
    assert_eq!(super::faults(&made, "GET /x", &[], &body), [""; 0]);
}
