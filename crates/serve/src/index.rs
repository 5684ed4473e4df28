//! The page at `/`: what can be called here, and how.

use std::fmt::Write as _;

use exuvia_core::{HandlerInfo, Param};
use serde_json::{Map, Value, json};

use crate::routes::Routes;

/// The page for people.
pub(crate) fn text(routes: &Routes, origin: &str) -> String {
    let handlers = routes.handlers();
    let mut page = format!(
        "Exuvia {}: {} handler{}\n",
        env!("CARGO_PKG_VERSION"),
        handlers.len(),
        if handlers.len() == 1 { "" } else { "s" }
    );
    for (path, target) in handlers {
        let info = target.info();
        // Writing to a String cannot fail.
        let _ = write!(page, "\nPOST {path}\n    {}\n", info.signature());
        if let Some(line) = first_line(info) {
            let _ = writeln!(page, "    {line}");
        }
        let _ = writeln!(page, "    {}", curl(origin, path, info));
    }
    page += "\nGET  /healthz  whether this process lives\n";
    page += "GET  /readyz   whether calls can be answered now\n";
    page += "GET  /metrics  counters, as Prometheus reads them\n";
    page
}

/// The page for programs.
pub(crate) fn json(routes: &Routes, origin: &str) -> String {
    let handlers = routes.handlers().into_iter().map(|(path, target)| {
        let info = target.info();
        json!({
            "method": "POST",
            "path": path,
            "handler": info.target(),
            "signature": info.signature(),
            "summary": first_line(info).unwrap_or_default(),
            "example": example(info),
            "curl": curl(origin, path, info),
        })
    });
    let handlers: Vec<Value> = handlers.collect();
    json!({ "exuvia": env!("CARGO_PKG_VERSION"), "handlers": handlers }).to_string()
}

fn first_line(info: &HandlerInfo) -> Option<&str> {
    info.doc.lines().map(str::trim).find(|line| !line.is_empty())
}

fn curl(origin: &str, path: &str, info: &HandlerInfo) -> String {
    let body = example(info).to_string().replace('\'', "'\\''");
    format!("curl http://{origin}{path} -H 'Content-Type: application/json' -d '{body}'")
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
