//! Documents of routes to handlers that are only described.

use std::sync::Arc;

use exuvia_core::{Call, HandlerInfo, HandlerKind, OutcomeFuture, Param, Target};
use http::Method;
use serde_json::{Value, json};

use super::{About, document};
use crate::route::{Route, RouteOptions};

/// A handler that nobody calls.
struct Fake(Arc<HandlerInfo>);

impl Target for Fake {
    fn info(&self) -> &Arc<HandlerInfo> {
        &self.0
    }

    fn call(&self, _: Call) -> OutcomeFuture {
        unreachable!("documents are made without calls")
    }
}

fn info(name: &str, params: &[(&str, bool)]) -> HandlerInfo {
    let param = |(name, required): &(&str, bool)| Param {
        name: (*name).to_owned(),
        annotation: String::new(),
        required: *required,
        default: None,
    };
    HandlerInfo {
        module: "shop".to_owned(),
        name: name.to_owned(),
        kind: HandlerKind::Sync,
        streams: false,
        reads: false,
        params: params.iter().map(param).collect(),
        open: false,
        doc: "Known without asking.".to_owned(),
        returns: String::new(),
        routes: Vec::new(),
    }
}

fn route(methods: &[Method], path: &str, info: HandlerInfo) -> Route {
    let route = Route::post(path, Arc::new(Fake(Arc::new(info))));
    Route { methods: methods.to_vec(), ..route }
}

fn post(name: &str, params: &[(&str, bool)]) -> Route {
    route(&[Method::POST], &format!("/shop/{name}"), info(name, params))
}

fn with(options: RouteOptions, route: Route) -> Route {
    Route { options, ..route }
}

fn about() -> About {
    About {
        title: "shop".to_owned(),
        version: "1".to_owned(),
        server: "http://localhost:8000".to_owned(),
    }
}

/// A description of one handler, `shop:<name>`, and of a class `Order`.
fn described(name: &str, handler: Value) -> Value {
    json!({
        "handlers": { (format!("shop:{name}")): handler },
        "definitions": { "Order": order() },
    })
}

fn order() -> Value {
    json!({
        "type": "object",
        "properties": { "item": { "type": "string" } },
        "required": ["item"],
        "additionalProperties": false,
    })
}

fn param(name: &str, required: bool, schema: Value) -> Value {
    json!({ "name": name, "required": required, "schema": schema, "table": null })
}

fn operation(document: &Value, method: &str, path: &str) -> Value {
    let found = document["paths"][path][method].clone();
    assert!(found.is_object(), "no {method} {path} in {:#}", document["paths"]);
    found
}

/// The only operation of the only route.
fn single(route: Route, handler: Value) -> Value {
    let name = route.target.info().name.clone();
    let method = route.methods[0].as_str().to_lowercase();
    let path = route.path.replace("{*", "{");
    operation(&document(&[route], &described(&name, handler), &about()), &method, &path)
}

fn json_body(operation: &Value) -> Value {
    operation["requestBody"]["content"]["application/json"]["schema"].clone()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

#[test]
fn the_document_says_what_is_served_and_where() {
    let made = document(&[post("price", &[])], &json!({}), &about());
    assert_eq!(made["openapi"], "3.1.0");
    assert_eq!(made["info"], json!({ "title": "shop", "version": "1" }));
    assert_eq!(made["servers"], json!([{ "url": "http://localhost:8000" }]));
    assert_eq!(made["tags"], json!([{ "name": "shop" }]));
    let price = operation(&made, "post", "/shop/price");
    assert_eq!(price["operationId"], "shop.price");
    assert_eq!(price["summary"], "Known without asking.");
    assert_eq!(price["x-exuvia-handler"], "shop:price");
}

#[test]
fn each_argument_stands_where_it_comes_from() {
    let options = RouteOptions {
        query: Some(vec!["hours".into(), "tags".into()]),
        headers: [("model".to_owned(), "x-model".to_owned())].into(),
        ..RouteOptions::default()
    };
    let names = [("asset", true), ("hours", false), ("model", false), ("tags", true), ("x", true)];
    let route = route(&[Method::PUT], "/forecast/{asset}", info("forecast", &names));
    let strings = json!({ "type": "array", "items": { "type": "string" } });
    let mut hours = param("hours", false, json!({ "type": "integer", "description": "How far." }));
    hours["default"] = json!(24);
    let handler = json!({ "params": [
        param("asset", true, json!({ "type": "string" })),
        hours,
        param("model", false, json!({ "type": "string" })),
        param("tags", true, strings),
        param("x", true, reference("Order")),
    ] });
    let made = single(with(options, route), handler);
    let integer = json!({ "type": "integer", "description": "How far.", "default": 24 });
    let list = json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 });
    let text = json!({ "type": "string" });
    let expected = json!([
        { "name": "asset", "in": "path", "required": true, "schema": text },
        { "name": "hours", "in": "query", "required": false, "description": "How far.",
          "schema": integer },
        { "name": "tags", "in": "query", "required": true, "style": "form", "explode": true,
          "schema": list },
        { "name": "x-model", "in": "header", "required": false, "schema": text },
    ]);
    assert_eq!(made["parameters"], expected);
    let body = json!({
        "type": "object",
        "properties": { "x": reference("Order") },
        "required": ["x"],
        "additionalProperties": false,
    });
    assert_eq!(json_body(&made), body);
    assert_eq!(made["requestBody"]["required"], true);
}

#[test]
fn a_parameter_goes_by_the_name_it_has_here() {
    let route = route(&[Method::GET], "/forecast", info("forecast", &[("assetId", true)]));
    let handler = json!({ "params": [param("asset_id", true, json!({ "type": "integer" }))] });
    let made = single(route, handler);
    let expected = json!([
        { "name": "assetId", "in": "query", "required": true, "schema": { "type": "integer" } },
    ]);
    assert_eq!(made["parameters"], expected);
    assert!(made.get("requestBody").is_none());
}

#[test]
fn what_is_no_plain_text_is_json_in_a_path_a_query_and_a_header() {
    let names = [("ids", true), ("order", true)];
    let route = route(&[Method::GET], "/x/{ids}", info("find", &names));
    let ids = json!({ "type": "array", "items": { "type": "integer" } });
    let params = [param("ids", true, ids.clone()), param("order", true, reference("Order"))];
    let made = single(route, json!({ "params": params }));
    assert_eq!(made["parameters"][0]["content"]["application/json"]["schema"], ids);
    assert_eq!(made["parameters"][1]["in"], "query");
    assert_eq!(made["parameters"][1]["content"]["application/json"]["schema"], reference("Order"));
    assert!(made.get("requestBody").is_none());
}

#[test]
fn a_single_argument_may_be_the_body_as_a_whole() {
    let by_name = json!({
        "type": "object",
        "properties": { "order": reference("Order") },
        "required": ["order"],
        "additionalProperties": false,
    });
    let params = [param("order", true, reference("Order"))];
    let route = || post("order", &[("order", true)]);
    let handler = json!({ "params": params, "whole": "order" });
    let made = single(route(), handler);
    assert_eq!(json_body(&made), json!({ "anyOf": [by_name, reference("Order")] }));
    // Where the type has a field of that name, an object is never its arguments by name.
    let handler = json!({ "params": params, "whole": "order", "whole_alone": true });
    assert_eq!(json_body(&single(route(), handler)), reference("Order"));
    // Where it has to be told from arguments by name, it is.
    let any = json!({ "type": "object" });
    let handler = json!({ "params": [param("order", true, any)], "whole": "order" });
    let narrow = json!({ "not": { "type": "object", "required": ["order"] } });
    assert_eq!(json_body(&single(route(), handler))["anyOf"][1]["allOf"][1], narrow);
}

#[test]
fn what_is_no_object_is_the_first_argument_where_no_other_is_required() {
    let names = [("days", false), ("unit", false)];
    let integer = json!({ "type": "integer" });
    let handler = |unit_required| {
        json!({ "params": [
            param("days", false, integer.clone()),
            param("unit", unit_required, json!({ "type": "string" })),
        ] })
    };
    let made = single(post("hottest", &names), handler(false));
    assert_eq!(json_body(&made)["anyOf"][1], integer);
    assert_eq!(made["requestBody"]["required"], false);
    let made = single(post("hottest", &names), handler(true));
    assert_eq!(json_body(&made)["required"], json!(["unit"]));
    // Nor where the path gives the first.
    let route = route(&[Method::POST], "/hottest/{days}", info("hottest", &names));
    assert_eq!(json_body(&single(route, handler(false)))["type"], "object");
}

#[test]
fn open_handlers_take_any_member_and_others_only_their_own() {
    let made = single(post("f", &[]), json!({ "open": true }));
    assert_eq!(json_body(&made), json!({ "type": "object", "properties": {} }));
    assert!(single(post("f", &[]), json!({})).get("requestBody").is_none());
}

#[test]
fn tables_come_and_go_in_every_format() {
    let rows = json!({ "type": "array", "items": { "type": "object" } });
    let mut temps = param("temps", true, rows.clone());
    temps["table"] = json!("pandas");
    let handler = json!({ "params": [temps], "whole": "temps", "returns": "table" });
    let made = single(post("spread", &[("temps", true)]), handler);
    let body = &made["requestBody"]["content"];
    let answer = &made["responses"]["200"]["content"];
    for media in [
        "application/json",
        "application/x-ndjson",
        "text/csv",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.arrow.file",
        "application/vnd.apache.parquet",
    ] {
        assert!(body.get(media).is_some(), "{media} in {body:#}");
        assert!(answer.get(media).is_some(), "{media} in {answer:#}");
    }
    let part = &body["multipart/form-data"];
    assert_eq!(part["schema"]["properties"]["temps"]["type"], "string");
    let formats = part["encoding"]["temps"]["contentType"].as_str().expect("a text");
    assert!(formats.contains("text/csv, ") && !formats.contains("npy"), "{formats}");
    assert_eq!(answer["application/json"]["schema"], rows);
}

#[test]
fn bytes_are_files_in_parts_and_base64_in_json() {
    let bytes = json!({ "type": "string", "contentEncoding": "base64" });
    let handler = json!({ "params": [
        param("data", true, bytes.clone()),
        param("more", false, json!({ "type": "array", "items": bytes })),
        param("key", false, json!({ "contentEncoding": "base64", "x-bytes": { "maxLength": 8 } })),
        param("n", false, json!({ "type": "integer" })),
        param("order", false, reference("Order")),
    ] });
    let names = [("data", true), ("more", false), ("key", false), ("n", false), ("order", false)];
    let made = single(post("keep", &names), handler);
    let content = &made["requestBody"]["content"];
    assert_eq!(content["application/octet-stream"]["schema"]["minLength"], 1);
    assert_eq!(json_body(&made)["anyOf"][1], bytes);
    let file = json!({ "type": "string", "contentMediaType": "application/octet-stream" });
    let part = &content["multipart/form-data"];
    let properties = &part["schema"]["properties"];
    assert_eq!(properties["data"], file);
    assert_eq!(properties["key"]["maxLength"], 8);
    assert_eq!(properties["more"], json!({ "type": "array", "items": file }));
    assert_eq!(properties["n"], json!({ "type": "integer" }));
    assert_eq!(part["encoding"]["order"]["contentType"], "application/json");
    assert_eq!(part["schema"]["required"], json!(["data"]));
}

#[test]
fn a_file_to_read_is_known_by_its_annotation() {
    let mut info = info("read", &[("file", true)]);
    info.params[0].annotation = "typing.BinaryIO".to_owned();
    let handler = json!({ "params": [param("file", true, json!({}))] });
    let made = single(route(&[Method::POST], "/shop/read", info), handler);
    let content = &made["requestBody"]["content"];
    assert!(content["application/octet-stream"].is_object(), "{content:#}");
    assert!(content["multipart/form-data"].is_object(), "{content:#}");
}

#[test]
fn results_have_the_status_and_the_formats_of_the_route() {
    let integer = json!({ "type": "integer" });
    let options = RouteOptions { status: Some(201), ..RouteOptions::default() };
    let handler = json!({ "returns": integer });
    let made = single(with(options, post("f", &[])), handler);
    assert!(made["responses"].get("200").is_none());
    let created = &made["responses"]["201"];
    assert_eq!(created["content"]["application/json"]["schema"], integer);
    assert_eq!(created["headers"]["exuvia-call-id"]["required"], true);

    let options = RouteOptions { media: Some("image/png".into()), ..RouteOptions::default() };
    let made = single(with(options, post("f", &[])), json!({ "returns": { "type": "string" } }));
    assert_eq!(made["responses"]["200"]["content"], json!({ "image/png": {} }));

    let options = RouteOptions { media: Some("text/html".into()), ..RouteOptions::default() };
    let made = single(with(options, post("f", &[])), json!({ "returns": { "type": "string" } }));
    let html = json!({ "text/html; charset=utf-8": { "schema": { "type": "string" } } });
    assert_eq!(made["responses"]["200"]["content"], html);

    let options = RouteOptions { media: Some("text/csv".into()), ..RouteOptions::default() };
    let made = single(with(options, post("f", &[])), json!({ "returns": "table" }));
    let content = &made["responses"]["200"]["content"];
    assert_eq!(content["text/csv"]["schema"]["type"], "string");
    assert!(content.get("application/json").is_some());

    let made = single(post("f", &[]), json!({ "returns": integer, "streams": true }));
    let content = &made["responses"]["200"]["content"];
    let list = json!({ "type": "array", "items": integer });
    assert_eq!(content["application/json"]["schema"], list);
    assert!(content.get("application/x-ndjson").is_some());
    assert!(content.get("text/event-stream").is_some());
}

#[test]
fn problems_are_those_that_can_come() {
    let made = single(post("f", &[]), json!({}));
    let all = |made: &Value| {
        let responses = made["responses"].as_object().expect("an object");
        let mut all: Vec<_> = responses.keys().cloned().collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!(all(&made), "200 400 406 4XX 500 502 503 504");
    let handler = json!({ "params": [param("id", true, json!({ "type": "string" }))] });
    let made = single(post("f", &[("id", true)]), handler.clone());
    assert_eq!(all(&made), "200 400 406 413 415 422 4XX 500 502 503 504");
    let get = route(&[Method::GET], "/f/{id}", info("f", &[("id", true)]));
    assert_eq!(all(&single(get, handler)), "200 400 404 406 422 4XX 500 502 503 504");
}

#[test]
fn every_reference_leads_somewhere_and_problems_make_way_for_a_class_of_that_name() {
    let description = json!({
        "handlers": { "shop:f": { "params": [param("order", true, reference("Order"))] } },
        "definitions": { "Order": order(), "Problem": { "type": "integer" } },
    });
    let made = document(&[post("f", &[("order", true)])], &description, &about());
    assert_eq!(made["components"]["schemas"]["Problem"], json!({ "type": "integer" }));
    assert!(made["components"]["schemas"]["Problem2"].is_object());
    let mut todo = vec![&made];
    let mut found = 0;
    while let Some(value) = todo.pop() {
        match value {
            Value::Array(items) => todo.extend(items),
            Value::Object(members) => todo.extend(members.values()),
            _ => {}
        }
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').expect("a place in the document");
            assert!(made.pointer(pointer).is_some(), "{reference}");
            found += 1;
        }
    }
    assert!(found > 5);
}

#[test]
fn operations_have_names_of_their_own() {
    let several = |methods: &[Method], path: &str| route(methods, path, info("order", &[]));
    let routes = [
        several(&[Method::PUT, Method::POST], "/orders/{id}"),
        several(&[Method::POST], "/orders"),
        several(&[Method::GET], "/"),
        post("price", &[]),
    ];
    let made = document(&routes, &json!({}), &about());
    let id = |method, path| operation(&made, method, path)["operationId"].clone();
    assert_eq!(id("put", "/orders/{id}"), "shop.order.put.orders.id");
    assert_eq!(id("post", "/orders/{id}"), "shop.order.post.orders.id");
    assert_eq!(id("post", "/orders"), "shop.order.post.orders");
    assert_eq!(id("get", "/"), "shop.order.get");
    assert_eq!(id("post", "/shop/price"), "shop.price");
}

#[test]
fn paths_with_equal_places_are_one_path() {
    let names = [("b", true), ("a", true)];
    let routes = [
        route(&[Method::GET], "/x/{a}/{b}", info("get", &names)),
        route(&[Method::PUT], "/x/{b}/{a}", info("put", &names)),
        route(&[Method::GET], "/files/{*b}", info("files", &names)),
    ];
    let made = document(&routes, &json!({}), &about());
    let put = operation(&made, "put", "/x/{a}/{b}");
    assert_eq!(
        (&put["parameters"][0]["name"], &put["parameters"][1]["name"]),
        (&json!("a"), &json!("b"))
    );
    assert_eq!(made["paths"].as_object().map(serde_json::Map::len), Some(2));
    operation(&made, "get", "/files/{b}");
}

#[test]
fn options_say_what_stands_in_the_document() {
    let options = RouteOptions {
        summary: Some("Price it.".into()),
        tags: vec!["money".into()],
        deprecated: true,
        ..RouteOptions::default()
    };
    let hidden = RouteOptions { hidden: true, ..RouteOptions::default() };
    let routes = [with(options, post("price", &[])), with(hidden, post("secret", &[]))];
    let handler = json!({ "doc": "First line.\n\nMore of it.\n" });
    let made = document(&routes, &described("price", handler), &about());
    let price = operation(&made, "post", "/shop/price");
    assert_eq!(
        (&price["summary"], &price["description"]),
        (&json!("Price it."), &json!("More of it."))
    );
    assert_eq!((&price["tags"], &price["deprecated"]), (&json!(["money"]), &json!(true)));
    assert!(made["paths"].get("/shop/secret").is_none());
    assert_eq!(made["tags"], json!([{ "name": "money" }]));
}

#[test]
fn stubs_say_that_they_are() {
    let stub = Route { stub: true, ..post("later", &[]) };
    let made = document(&[stub], &json!({}), &about());
    let later = operation(&made, "post", "/shop/later");
    assert_eq!(later["x-exuvia-stub"], true);
    assert!(later.get("x-exuvia-handler").is_none());
    assert!(later["responses"]["200"]["headers"].get("exuvia-stub").is_some());
}

#[test]
fn routes_in_any_order_give_one_document() {
    let routes =
        || vec![post("a", &[]), post("b", &[]), route(&[Method::GET], "/c/{*x}", info("c", &[]))];
    let mut turned = routes();
    turned.reverse();
    let text = |routes: &[Route]| document(routes, &json!({}), &about()).to_string();
    assert_eq!(text(&routes()), text(&turned));
}
