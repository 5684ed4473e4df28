//! What went wrong, as RFC 9457 writes it down.

use bytes::Bytes;
use exuvia_core::{CallId, Responsible};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::answer::{Answer, Body};

/// The header that names the call an answer came from.
pub(crate) const CALL_ID: HeaderName = HeaderName::from_static("exuvia-call-id");

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// 499 has no name in the registry; nginx gave it its meaning.
pub(crate) const CLIENT_CLOSED: u16 = 499;

/// A refusal or a failure on its way to a client.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The status of the answer.
    pub(crate) status: u16,
    /// The last word of the type.
    pub(crate) kind: &'static str,
    /// The same for every problem of the kind.
    pub(crate) title: &'static str,
    /// This problem, in a sentence.
    pub(crate) detail: String,
    /// Whose fault it was.
    pub(crate) responsible: Responsible,
    /// What else the kind says.
    pub(crate) more: Box<Map<String, Value>>,
    /// Seconds after which to come back.
    pub(crate) retry_after: Option<u64>,
    /// The methods of the path.
    pub(crate) allow: Option<Box<HeaderValue>>,
    /// Whether the connection ends with the answer.
    pub(crate) close: bool,
}

/// What is written.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: String,
    error_id: &'a str,
    responsible: Responsible,
    #[serde(flatten)]
    more: &'a Map<String, Value>,
}

// === impl Problem ===

impl Problem {
    /// A problem of the caller's making.
    pub(crate) fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status: status.as_u16(),
            kind,
            title,
            detail: detail.into(),
            responsible: Responsible::Caller,
            more: Box::default(),
            retry_after: None,
            allow: None,
            close: false,
        }
    }

    /// A request that is not what HTTP allows.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        let title = "The request cannot be understood";
        Self::new(StatusCode::BAD_REQUEST, "bad_request", title, detail)
    }

    /// The same, and the connection ends with it: what follows on it cannot be told apart.
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The body, for an error before or outside of any call.
    pub(crate) fn body(&self, id: CallId) -> Vec<u8> {
        self.document(format!("urn:exuvia:request:{id}"), &id.to_string())
    }

    /// The answer to a request that never became a call.
    pub(crate) fn into_answer(self, headers: HeaderMap, id: CallId) -> Answer {
        let body = self.body(id);
        self.respond(headers, body)
    }

    /// The body, for an error of a call.
    pub(crate) fn into_call_body(self, call_id: &str) -> Vec<u8> {
        self.document(format!("urn:exuvia:call:{call_id}"), call_id)
    }

    /// The answer to a call.
    pub(crate) fn into_call_answer(self, mut headers: HeaderMap, call_id: &str) -> Answer {
        let body = self.document(format!("urn:exuvia:call:{call_id}"), call_id);
        headers.clear();
        let mut answer = self.respond(headers, body);
        if let Ok(value) = HeaderValue::from_str(call_id) {
            answer.headers_mut().insert(CALL_ID, value);
        }
        answer
    }

    fn document(&self, instance: String, error_id: &str) -> Vec<u8> {
        let document = Document {
            r#type: format!("urn:exuvia:problem:{}", self.kind),
            title: self.title,
            status: self.status,
            detail: &self.detail,
            instance,
            error_id,
            responsible: self.responsible,
            more: &self.more,
        };
        // Text and numbers always have a JSON form.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    fn respond(self, mut headers: HeaderMap, body: Vec<u8>) -> Answer {
        headers.clear();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, *methods);
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        answer(headers, status, Bytes::from(body))
    }
}

/// An answer of these parts.
pub(crate) fn answer(headers: HeaderMap, status: StatusCode, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}
