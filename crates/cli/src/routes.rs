//! What `serve` says about its routes.

use std::fmt::Write as _;

use exuvia_core::{HandlerInfo, Param};

/// How many lines to paste are shown.
const PASTED: usize = 3;

/// The path that leads to a handler.
pub(crate) fn path(handler: &HandlerInfo) -> String {
    format!("/{}/{}", handler.module, handler.name)
}

/// One line for each route: path, signature, the first line of the doc.
pub(crate) fn table(handlers: &[impl AsRef<HandlerInfo>]) -> Vec<String> {
    let paths: Vec<String> = handlers.iter().map(|handler| path(handler.as_ref())).collect();
    let width = paths.iter().map(|path| path.chars().count()).max().unwrap_or(0);
    let line = |(handler, path): (&_, &String)| {
        let handler: &HandlerInfo = AsRef::as_ref(handler);
        let mut line = format!("POST {path:width$}  {}", handler.signature());
        if let Some(doc) = handler.doc.lines().next().filter(|doc| !doc.is_empty()) {
            // Writing to a String cannot fail.
            let _ = write!(line, "  # {doc}");
        }
        line
    };
    handlers.iter().zip(&paths).map(line).collect()
}

/// The routes as data.
pub(crate) fn json(handlers: &[impl AsRef<HandlerInfo>]) -> serde_json::Value {
    let route = |handler: &_| {
        let handler: &HandlerInfo = AsRef::as_ref(handler);
        serde_json::json!({
            "method": "POST",
            "path": path(handler),
            "handler": handler.target(),
            "signature": handler.signature(),
            "doc": handler.doc,
            "params": handler.params,
            "returns": handler.returns,
            "kind": handler.kind,
        })
    };
    handlers.iter().map(route).collect()
}

/// Lines to paste into a shell, those first that need no thought: handlers as they are, handlers
/// with their own defaults, then those whose arguments are for the reader to fill in.
pub(crate) fn to_paste(handlers: &[impl AsRef<HandlerInfo>], base: &str) -> Vec<String> {
    let (ready, mut others): (Vec<&HandlerInfo>, Vec<_>) =
        handlers.iter().map(AsRef::as_ref).partition(|handler| required(handler).next().is_none());
    others.sort_by_key(|handler| required(handler).count());
    let url = |handler: &HandlerInfo| format!("{base}{}", escaped(&path(handler)));
    let plain =
        ready.iter().map(|handler| format!("curl -s {} -X POST | head -c 300", url(handler)));
    // Only our own examples and Python names are in the data: no quote to escape.
    let with = |handler: &HandlerInfo, data: serde_json::Map<String, serde_json::Value>| {
        let (url, data) = (url(handler), serde_json::Value::from(data));
        format!("curl -s {url} -H 'content-type: application/json' -d '{data}' | head -c 300")
    };
    let defaults = ready.iter().filter_map(|handler| Some(with(handler, defaults(handler)?)));
    let filled = others.iter().map(|handler| {
        let members = required(handler);
        with(
            handler,
            members.map(|param| (param.name.clone(), example(&param.annotation))).collect(),
        )
    });
    plain.chain(defaults).chain(filled).take(PASTED).collect()
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
    use std::sync::Arc;

    use exuvia_core::HandlerKind;

    use super::*;

    fn handler(name: &str, params: &[(&str, &str, bool)], doc: &str) -> Arc<HandlerInfo> {
        let param = |(name, annotation, required): &(&str, &str, bool)| Param {
            name: (*name).into(),
            annotation: (*annotation).into(),
            required: *required,
            default: (!required).then(|| if *annotation == "int" { "3" } else { "None" }.into()),
        };
        Arc::new(HandlerInfo {
            module: "weather".into(),
            name: name.into(),
            kind: HandlerKind::Sync,
            streams: false,
            reads: false,
            params: params.iter().map(param).collect(),
            doc: doc.into(),
            returns: String::new(),
        })
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
                 -d '{\"n\":1,\"temps\":[{}]}' | head -c 300",
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
