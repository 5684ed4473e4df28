//! The page at `/`: what can be called here, and how.

use std::fmt::Write as _;

use exuvia_core::{HandlerInfo, Param};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::{route::Route, routes::Routes};

/// The page for people.
pub(crate) fn page(routes: &Routes, origin: &str) -> String {
    let handlers = routes.sorted();
    let mut page = format!(
        "Exuvia {}: {} handler{}\n",
        env!("CARGO_PKG_VERSION"),
        handlers.len(),
        if handlers.len() == 1 { "" } else { "s" }
    );
    for route in handlers {
        let info = route.target.info();
        // Writing to a String cannot fail.
        let _ = write!(page, "\n{}\n    {}\n", route.name(), info.signature());
        if let Some(line) = first_line(info) {
            let _ = writeln!(page, "    {line}");
        }
        let _ = writeln!(page, "    {}", curl(origin, route));
    }
    for broken in &routes.broken {
        let _ = writeln!(page, "\n{} cannot be loaded: /readyz says why", broken.module);
    }
    page += "\nGET  /docs          this in a browser, with a form for each\n";
    page += "GET  /openapi.json  this for programs\n";
    page += "GET  /healthz  whether this process lives\n";
    page += "GET  /readyz   whether calls can be answered now\n";
    page += "GET  /metrics  counters, as Prometheus reads them\n";
    page
}

/// The page for programs.
pub(crate) fn json(routes: &Routes, origin: &str) -> String {
    let handlers = routes.sorted().into_iter().map(|route| {
        let info = route.target.info();
        let methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
        json!({
            "method": methods.join(","),
            "path": route.path,
            "handler": info.target(),
            "signature": info.signature(),
            "summary": first_line(info).unwrap_or_default(),
            "example": example(info),
            "curl": curl(origin, route),
        })
    });
    let handlers: Vec<Value> = handlers.collect();
    json!({ "exuvia": env!("CARGO_PKG_VERSION"), "handlers": handlers }).to_string()
}

fn first_line(info: &HandlerInfo) -> Option<&str> {
    info.doc.lines().map(str::trim).find(|line| !line.is_empty())
}

/// A line to paste that calls a route.
fn curl(origin: &str, route: &Route) -> String {
    let info = route.target.info();
    let Value::Object(mut left) = example(info) else { return String::new() };
    let mut line = "curl ".to_owned();
    let method = &route.methods[0];
    if *method != Method::GET && *method != Method::POST {
        // Writing to a String cannot fail, here and below.
        let _ = write!(line, "-X {method} ");
    }
    let mut url = format!("http://{origin}{}", route.path);
    for name in route.path_params() {
        let value = text(left.remove(name).as_ref());
        url = url.replace(&format!("{{{name}}}"), &value).replace(&format!("{{*{name}}}"), &value);
    }
    let query = route.query_params();
    let asked: Vec<_> = query
        .iter()
        .filter_map(|name| Some(format!("{name}={}", text(Some(&left.remove(name)?)))))
        .collect();
    let mark = if asked.is_empty() { "" } else { "?" };
    let _ = write!(line, "'{url}{mark}{}'", asked.join("&"));
    for (param, header) in &route.options.headers {
        if let Some(value) = left.remove(param) {
            let _ = write!(line, " -H '{header}: {}'", text(Some(&value)));
        }
    }
    if *method == Method::GET || *method == Method::DELETE {
        return line;
    }
    let body = Value::Object(left).to_string().replace('\'', "'\\''");
    let _ = write!(line, " -H 'Content-Type: application/json' -d '{body}'");
    line
}

/// A value as it stands in a path or a query.
fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
        Some(value) => utf8_percent_encode(&value.to_string(), NON_ALPHANUMERIC).to_string(),
        None => "text".into(),
    }
}

/// Arguments of the right shape for every parameter that must be given.
fn example(info: &HandlerInfo) -> Value {
    let required =
        info.params.iter().filter(|param| param.required && !param.name.starts_with('*'));
    Value::Object(required.map(|param| (param.name.clone(), value(param))).collect::<Map<_, _>>())
}

fn value(param: &Param) -> Value {
    // Optional and qualified names come down to their last word: `pandas.DataFrame`.
    let annotation = param.annotation.split(['|', '[']).next().unwrap_or_default().trim();
    match annotation.rsplit('.').next().unwrap_or_default() {
        "int" => json!(1),
        "float" | "Decimal" => json!(1.5),
        "bool" => json!(true),
        "list" | "tuple" | "set" | "frozenset" | "Sequence" | "Iterable" => json!([]),
        "dict" | "Mapping" => json!({}),
        "DataFrame" | "Table" => json!([{ "column": 1 }]),
        "datetime" => json!("2026-01-31T12:00:00Z"),
        "date" => json!("2026-01-31"),
        "None" => Value::Null,
        _ => json!("text"),
    }
}
