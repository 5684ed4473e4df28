//! What `serve` says about its routes.

use std::{fmt::Write as _, sync::Arc};

use exuvia_core::{HandlerInfo, Param};
use exuvia_serve::Route;
use serde_json::Map;

/// How many lines to paste are shown.
const PASTED: usize = 3;

/// The path that leads to a handler.
pub(crate) fn path(handler: &HandlerInfo) -> String {
    format!("/{}/{}", handler.module, handler.name)
}

/// A route as it is listed.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// `GET`, or `PUT,POST`.
    pub(crate) methods: String,
    pub(crate) path: String,
    pub(crate) handler: Arc<HandlerInfo>,
    /// What the query may give.
    query: Vec<String>,
    stub: bool,
}

// === impl Listed ===

impl From<&Route> for Listed {
    fn from(route: &Route) -> Self {
        let methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
        Self {
            methods: methods.join(","),
            path: route.path.clone(),
            handler: route.target.info().clone(),
            query: route.query_params(),
            stub: route.stub,
        }
    }
}

/// One line for each route: methods, path, signature, the first line of the doc.
pub(crate) fn table(routes: &[Listed]) -> Vec<String> {
    let letters = |text: &String| text.chars().count();
    let method = routes.iter().map(|route| letters(&route.methods)).max().unwrap_or(0);
    let path = routes.iter().map(|route| letters(&route.path)).max().unwrap_or(0);
    let line = |route: &Listed| {
        let handler = &route.handler;
        let mut line =
            format!("{:method$} {:path$}  {}", route.methods, route.path, handler.signature());
        if let Some(doc) = handler.doc.lines().next().filter(|doc| !doc.is_empty()) {
            // Writing to a String cannot fail.
            let _ = write!(line, "  # {doc}");
        }
        line
    };
    routes.iter().map(line).collect()
}

/// The routes as data.
pub(crate) fn json(routes: &[Listed]) -> serde_json::Value {
    let route = |route: &Listed| {
        let handler = &route.handler;
        serde_json::json!({
            "method": route.methods,
            "path": route.path,
            "handler": handler.target(),
            "signature": handler.signature(),
            "doc": handler.doc,
            "params": handler.params,
            "returns": handler.returns,
            "kind": handler.kind,
            "stub": route.stub,
        })
    };
    routes.iter().map(route).collect()
}

/// Lines to paste into a shell, those first that need no thought: handlers as they are, handlers
/// with their own defaults, then those whose arguments are for the reader to fill in.
pub(crate) fn to_paste(routes: &[Listed], base: &str) -> Vec<String> {
    let needs = |route: &Listed| required(&route.handler).count();
    let (ready, mut others): (Vec<&Listed>, Vec<_>) =
        routes.iter().partition(|route| needs(route) == 0 && !route.path.contains('{'));
    others.sort_by_key(|route| needs(route));
    let plain = ready.iter().map(|route| line(route, base, Map::new()));
    let defaults = ready
        .iter()
        .filter(|route| route.methods.contains("POST"))
        .filter_map(|route| Some(line(route, base, defaults(&route.handler)?)));
    let filled = others.iter().map(|route| {
        let members = required(&route.handler);
        let members = members.map(|param| (param.name.clone(), example(&param.annotation)));
        line(route, base, members.collect())
    });
    plain.chain(defaults).chain(filled).take(PASTED).collect()
}

/// A call of a route with these arguments. Only our own examples and Python names are in them: no
/// quote to escape.
fn line(route: &Listed, base: &str, mut arguments: Map<String, serde_json::Value>) -> String {
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let segment = |segment: &str| match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'))
    {
        Some(name) => {
            let value = arguments.remove(name.trim_start_matches('*')).map(text);
            escaped(&value.unwrap_or_else(|| "text".into()))
        }
        None => escaped(segment),
    };
    let path = route.path.split('/').map(segment).collect::<Vec<_>>().join("/");
    let asked: Vec<String> = route
        .query
        .iter()
        .filter_map(|name| Some(format!("{name}={}", escaped(&text(arguments.remove(name)?)))))
        .collect();
    let query = if asked.is_empty() { String::new() } else { format!("?{}", asked.join("&")) };
    let method = route.methods.split(',').next().unwrap_or("POST");
    let quote = if query.is_empty() { "" } else { "'" };
    let url = format!("{quote}{base}{path}{query}{quote}");
    let call = match (method, arguments.is_empty()) {
        ("GET", _) => format!("curl -s {url}"),
        (method, true) => format!("curl -s {url} -X {method}"),
        (method, false) => {
            let data = serde_json::Value::from(arguments);
            let method = if method == "POST" { String::new() } else { format!(" -X {method}") };
            format!("curl -s {url}{method} -H 'content-type: application/json' -d '{data}'")
        }
    };
    format!("{call} | head -c 300")
}

/// The defaults of a handler that are plain numbers or true and false, if it has any.
fn defaults(handler: &HandlerInfo) -> Option<serde_json::Map<String, serde_json::Value>> {
    let plain = |param: &Param| {
        let text = param.default.as_deref()?;
        let text = text.replace("True", "true").replace("False", "false");
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        (value.is_number() || value.is_boolean()).then(|| (param.name.clone(), value))
    };
    let members: serde_json::Map<_, _> = handler.params.iter().filter_map(plain).collect();
    (!members.is_empty()).then_some(members)
}

fn required(handler: &HandlerInfo) -> impl Iterator<Item = &Param> {
    // `*args` and `**kwargs` are never required.
    handler.params.iter().filter(|param| param.required)
}

/// A value that fits an annotation, for the reader to replace.
fn example(annotation: &str) -> serde_json::Value {
    use serde_json::json;
    let plain = annotation.split(['[', '|']).next().unwrap_or(annotation).trim();
    match plain.rsplit('.').next().unwrap_or(plain) {
        "int" => json!(1),
        "float" | "Decimal" => json!(1.5),
        "str" => json!("text"),
        "bool" => json!(true),
        "list" | "List" | "Sequence" | "tuple" | "set" => json!([]),
        "dict" | "Dict" | "Mapping" => json!({}),
        "DataFrame" | "Table" => json!([{}]),
        "date" => json!("2026-01-31"),
        "datetime" => json!("2026-01-31T12:00:00Z"),
        _ => serde_json::Value::Null,
    }
}

/// The path as a request line takes it: Python names may hold any letters.
fn escaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            text.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use exuvia_core::HandlerKind;

    use super::*;

    fn handler(name: &str, params: &[(&str, &str, bool)], doc: &str) -> Listed {
        let param = |(name, annotation, required): &(&str, &str, bool)| Param {
            name: (*name).into(),
            annotation: (*annotation).into(),
            required: *required,
            default: (!required).then(|| if *annotation == "int" { "3" } else { "None" }.into()),
        };
        let handler = HandlerInfo {
            module: "weather".into(),
            name: name.into(),
            kind: HandlerKind::Sync,
            streams: false,
            reads: false,
            params: params.iter().map(param).collect(),
            doc: doc.into(),
            open: false,
            returns: String::new(),
            routes: Vec::new(),
        };
        Listed {
            methods: "POST".into(),
            path: path(&handler),
            handler: Arc::new(handler),
            query: Vec::new(),
            stub: false,
        }
    }

    #[test]
    fn lines_to_paste_begin_with_what_needs_no_thought() {
        let handlers = [
            handler(
                "spread",
                &[("temps", "pandas.DataFrame", true), ("n", "int | None", true)],
                "",
            ),
            handler("seattle", &[("unit", "str", false)], ""),
            handler("été", &[("x", "Thing", true)], ""),
            handler("more", &[("a", "str", true), ("b", "str", true), ("c", "str", true)], ""),
        ];
        assert_eq!(
            to_paste(&handlers, "http://127.0.0.1:8000"),
            [
                "curl -s http://127.0.0.1:8000/weather/seattle -X POST | head -c 300",
                "curl -s http://127.0.0.1:8000/weather/%C3%A9t%C3%A9 -H 'content-type: \
                 application/json' -d '{\"x\":null}' | head -c 300",
                "curl -s http://127.0.0.1:8000/weather/spread -H 'content-type: application/json' \
                 -d '{\"temps\":[{}],\"n\":1}' | head -c 300",
            ]
        );
    }

    #[test]
    fn a_handler_with_defaults_is_shown_as_it_is_and_with_them() {
        let handlers = [handler("hottest", &[("days", "int", false)], "")];
        let pasted = to_paste(&handlers, "http://h");
        assert_eq!(
            pasted,
            [
                "curl -s http://h/weather/hottest -X POST | head -c 300",
                "curl -s http://h/weather/hottest -H 'content-type: application/json' \
                 -d '{\"days\":3}' | head -c 300",
            ]
        );
    }

    #[test]
    fn paths_and_queries_are_filled_in() {
        let mut route = handler("near", &[("city", "str", true), ("days", "int", true)], "");
        route.methods = "GET".into();
        route.path = "/near/{city}".into();
        route.query = vec!["days".into()];
        let pasted = to_paste(&[route], "http://h");
        assert_eq!(pasted, ["curl -s 'http://h/near/text?days=1' | head -c 300"]);
    }

    #[test]
    fn the_table_has_signature_and_doc() {
        let handlers = [
            handler("spread", &[("n", "int", true)], "The daily spread.\nMore."),
            handler("f", &[], ""),
        ];
        assert_eq!(
            table(&handlers),
            [
                "POST /weather/spread  spread(n: int)  # The daily spread.",
                "POST /weather/f       f()",
            ]
        );
        assert_eq!(json(&handlers)[1]["path"], "/weather/f");
    }
}
