//! The answers of an operation: results, and everything that can go wrong.

use exuvia_core::{Codec, HandlerInfo};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    body::{NDJSON, NPY, TABLES, table},
    described::Described,
    schema::{Kinds, Schemas},
};
use crate::{media::Accepted, route::Route};

/// Problems: status, name among the components, what it says, and when it can come.
const PROBLEMS: [(&str, &str, &str, When); 11] = [
    ("400", "Malformed", "The request is not what its form says.", When::Always),
    ("404", "NotFound", "Nothing is at this path.", When::Path),
    (
        "406",
        "NotAcceptable",
        "The answer does not come in a format that is accepted.",
        When::Always,
    ),
    ("413", "TooLarge", "The body is over the limit.", When::Body),
    ("415", "NotUnderstood", "The body's type is not understood.", When::Body),
    ("422", "Unfit", "The arguments do not fit. `errors` names each fault.", When::Arguments),
    ("4XX", "Refused", "The handler refused the request.", When::Handled),
    ("500", "Failed", "The handler failed.", When::Always),
    ("502", "Crashed", "The handler's worker crashed or ended itself.", When::Always),
    ("503", "Unavailable", "The call was not taken, or its worker was lost.", When::Always),
    ("504", "TookTooLong", "The call took too long.", When::Always),
];

/// When a problem can come.
#[derive(PartialEq, Eq)]
enum When {
    Always,
    /// Where a handler answers, and no stub.
    Handled,
    Path,
    Body,
    Arguments,
}

/// What a request of an operation may have.
pub(super) struct Asked {
    pub(super) path: bool,
    pub(super) body: bool,
    pub(super) arguments: bool,
}

/// `responses` of an operation.
pub(super) fn responses(
    route: &Route,
    handler: &Described,
    schemas: Schemas<'_>,
    asked: &Asked,
) -> Value {
    let mut responses = Map::new();
    let status = route.options.status.unwrap_or(200);
    responses.insert(status.to_string(), result(route, handler, schemas));
    for (status, name, _, when) in &PROBLEMS {
        let comes = match when {
            When::Always => true,
            When::Handled => !route.stub,
            When::Path => asked.path,
            When::Body => asked.body,
            When::Arguments => asked.arguments,
        };
        if comes {
            let reference = format!("#/components/responses/{name}");
            responses.insert((*status).to_owned(), json!({ "$ref": reference }));
        }
    }
    responses.into()
}

/// The answer that carries a result.
fn result(route: &Route, handler: &Described, schemas: Schemas<'_>) -> Value {
    let mut headers = json!({ "exuvia-call-id": {
        "description": "The id of the call in the log and the metrics.",
        "required": true,
        "schema": { "type": "string" },
    } });
    if route.stub {
        headers["exuvia-stub"] = json!({
            "description": "No handler made this answer, but an OpenAPI document.",
            "required": true,
            "schema": { "const": "true" },
        });
        // No call was made either.
        headers["exuvia-call-id"]["required"] = false.into();
    }
    let no_content = matches!(route.options.status, Some(204 | 205));
    let mut result = json!({ "description": "The result.", "headers": headers });
    if !no_content {
        result["content"] = content(route, handler, schemas).into();
    }
    result
}

/// The formats of a result, the usual one first.
fn content(route: &Route, handler: &Described, schemas: Schemas<'_>) -> Map<String, Value> {
    let mut content = Map::new();
    if let Some(usual) = route.options.media.as_deref().and_then(Accepted::named) {
        if usual.is_opaque() {
            let schema = json!({ "schema": { "type": "string" } });
            let is_text = usual.codec == Codec::Text;
            content.insert(usual.media.to_owned(), if is_text { schema } else { json!({}) });
            return content;
        }
        content.insert(usual.media.to_owned(), Value::Null);
    }
    for (media, said) in formats(route, handler, schemas) {
        content.insert(media, said);
    }
    // A name that a format has beside its usual one.
    content.values_mut().filter(|said| said.is_null()).for_each(|said| *said = json!({}));
    content
}

/// The formats that any client may ask for.
fn formats(route: &Route, handler: &Described, schemas: Schemas<'_>) -> Vec<(String, Value)> {
    let info = route.target.info();
    let streams = handler.streams || info.streams;
    let one = handler.result();
    let whole = match streams && !handler.returns_table() {
        true => json!({ "type": "array", "items": one }),
        false => one,
    };
    let text = |media| table(media, true);
    let mut formats = Vec::new();
    formats.push(("application/json".to_owned(), json!({ "schema": whole })));
    if handler.returns_table() {
        formats.extend(TABLES.map(|(media, is_text)| table(media, is_text)));
    } else if streams || schemas.kinds(&whole).within(Kinds::ARRAY) {
        formats.push(text(NDJSON));
    }
    if is_array(info) {
        formats.push(table(NPY, false));
    }
    if streams {
        formats.push(("text/event-stream".to_owned(), json!({ "schema": event() })));
    }
    formats
}

/// The schema of one server-sent event: of a stream that is no JSON, tools look at each.
fn event() -> Value {
    json!({
        "type": "object",
        "properties": {
            "event": { "type": "string" },
            "data": { "type": "string", "contentMediaType": "application/json" },
            "id": { "type": "string" },
            "retry": { "type": "integer" },
        },
    })
}

/// Whether a handler says that it returns an array of NumPy's.
fn is_array(info: &HandlerInfo) -> bool {
    info.returns.contains("ndarray")
}

/// The shared answers.
pub(super) fn shared(problem: &str) -> Value {
    let reference = json!({ "$ref": format!("#/components/schemas/{problem}") });
    let all = PROBLEMS.iter().map(|(status, name, says, _)| {
        let mut answer = json!({
            "description": says,
            "content": { "application/problem+json": { "schema": reference } },
        });
        if *status == "503" {
            answer["headers"] = json!({ "retry-after": {
                "description": "Seconds after which to come back.",
                "schema": { "type": "integer", "minimum": 0 },
            } });
        }
        ((*name).to_owned(), answer)
    });
    all.collect::<Map<_, _>>().into()
}

/// The schema of what a problem says (RFC 9457).
pub(super) fn problem() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    let fault = json!({
        "type": "object",
        "required": ["pointer", "detail"],
        "properties": {
            "pointer": text("A JSON Pointer into the arguments."),
            "detail": text("What is wrong there."),
        },
    });
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "required": [
            "type", "title", "status", "detail", "instance", "error_id", "responsible",
        ],
        "properties": {
            "type": text("urn:exuvia:problem:<kind>"),
            "title": text("The kind in words."),
            "status": { "type": "integer", "description": "The status of the answer." },
            "detail": text("This failure in a sentence."),
            "instance": text("urn:exuvia:call:<error_id>, or urn:exuvia:request:<error_id>."),
            "error_id": text("Its id in the log."),
            "responsible": {
                "enum": ["caller", "guest", "host", "infrastructure"],
                "description": "Whose fault it was; guest is the handler's code.",
            },
            "errors": { "type": "array", "items": fault, "description": "Every fault." },
        },
    })
}

/// Whether a method's requests usually have no body.
pub(super) fn is_bodiless(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::DELETE].contains(method)
}
