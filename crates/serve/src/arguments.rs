//! What a request's path, headers and query give to a handler: text, by the names of parameters.

use exuvia_core::{Codec, Failure, InputFault, about, suggest::did_you_mean};
use http::{header::CONTENT_TYPE, request::Parts};

use crate::{request_id::request_id, routes::Calls};

/// The most names that a query may have.
const MOST: usize = 1000;

/// Arguments as text, by name.
type Text = Vec<(String, String)>;

/// The arguments that are not in the body.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn of(calls: &Calls, values: Vec<String>, parts: &Parts) -> Result<Text, Failure> {
    let mut text = Text::new();
    let mut faults = Vec::new();
    text.extend(calls.path_params.iter().cloned().zip(values));
    for (param, header) in &calls.headers {
        for value in parts.headers.get_all(header) {
            match value.to_str() {
                Ok(value) => text.push((param.clone(), value.to_owned())),
                Err(_) => faults.push(fault(param, "its header is not plain text")),
            }
        }
    }
    if let (Some(query), Some(asked)) = (&calls.query, parts.uri.query()) {
        from_query(calls, query, asked, &mut text, &mut faults);
    }
    if faults.is_empty() { Ok(text) } else { Err(Failure::Input { faults }) }
}

/// Takes a query string apart.
fn from_query(
    calls: &Calls,
    allowed: &[String],
    asked: &str,
    text: &mut Text,
    faults: &mut Vec<InputFault>,
) {
    let info = calls.target.info();
    for (count, (name, value)) in form_urlencoded::parse(asked.as_bytes()).enumerate() {
        if count == MOST {
            faults.push(fault("", &format!("the query has more than {MOST} names")));
            return;
        }
        if allowed.iter().any(|own| *own == name) {
            text.push((name.into_owned(), value.into_owned()));
        } else if info.params.iter().any(|param| param.name == name) {
            faults.push(fault(&name, "does not come from the query here"));
        } else if info.open && !name.starts_with(':') {
            text.push((name.into_owned(), value.into_owned()));
        } else {
            let near = did_you_mean(&name, allowed.iter().map(String::as_str));
            faults.push(fault(&name, &format!("there is no parameter of this name.{near}")));
        }
    }
}

/// `text`, and what else is known of the request.
pub(crate) fn about(mut text: Text, calls: &Calls, codec: Codec, parts: &Parts) -> Text {
    let mut add = |name: &str, value: &str| text.push((name.to_owned(), value.to_owned()));
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if matches!(codec, Codec::Multipart | Codec::Bytes)
        && let Some(media) = parts.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok())
    {
        add(about::MEDIA, media);
    }
    if let Some(id) = request_id(&parts.headers) {
        add(about::REQUEST, &id);
    }
    if let Some(state) = header("tracestate").filter(|_| parts.headers.contains_key("traceparent"))
    {
        add(about::TRACESTATE, state);
    }
    if let Some(memory) = calls.memory {
        add(about::MEMORY, &memory.to_string());
    }
    text
}

fn fault(name: &str, message: &str) -> InputFault {
    let pointer = match name {
        "" => String::new(),
        name => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
    };
    InputFault { pointer, message: message.to_owned() }
}
