//! One request, from its head to its answer.

use std::{mem::take, time::Instant};

use exuvia_core::{Call, Codec, Outcome, Payload, TraceContext};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version,
    header::{ALLOW, CONTENT_TYPE, HOST},
    request::Parts,
};
use hyper::body::{Body as _, Incoming};

use crate::{
    body::{self, BodyError},
    connection::Client,
    failure,
    media::{self, Accepted},
    problem::{Answer, CALL_ID, CLIENT_CLOSED, Problem, answer as respond},
    routes::{Entry, LeadsTo},
    server::Server,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Counts one request, whatever becomes of it: dropped without a status, its client went away.
struct Counted<'a> {
    client: &'a Client,
    entry: &'a Entry,
    began: Instant,
    status: u16,
}

// === impl Counted ===

impl<'a> Counted<'a> {
    fn new(client: &'a Client, entry: &'a Entry) -> Self {
        client.begin();
        client.server.metrics.http.in_flight.inc();
        Self { client, entry, began: Instant::now(), status: CLIENT_CLOSED }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.client.server.metrics.http.in_flight.dec();
        self.entry.metrics.answered(self.status, now - self.began);
        self.client.end(now);
    }
}

/// The answer to `request`.
pub(crate) async fn answer(client: &Client, request: Request<Incoming>) -> Answer {
    let server = &*client.server;
    let (mut parts, body) = request.into_parts();
    let found = server.routes.find(parts.uri.path());
    let entry = found.unwrap_or(&server.routes.unmatched);
    let mut counted = Counted::new(client, entry);
    let answer = match lead(client, entry, &mut parts, body).await {
        Ok(answer) => answer,
        Err(problem) => {
            let id = server.ids.next();
            let Problem { kind, detail, .. } = &problem;
            tracing::debug!(error_id = %id, route = entry.path, kind, "{detail}");
            problem.into_answer(take(&mut parts.headers), id)
        }
    };
    counted.status = answer.status().as_u16();
    answer
}

/// Brings a request to what its path leads to. The map of its headers becomes the answer's, which
/// saves making one.
async fn lead(
    client: &Client,
    entry: &Entry,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Answer, Problem> {
    check_host(parts)?;
    match &entry.leads_to {
        LeadsTo::Handler { target, timeout, .. } => {
            if parts.method != Method::POST {
                return other_method(entry, parts, "POST, OPTIONS");
            }
            refuse_cross_site(parts)?;
            let (payload, accepted) = read(&client.server, parts, body).await?;
            let call = Call {
                payload,
                text_arguments: Vec::new(),
                accept: accepted.codec,
                timeout: *timeout,
                trace: trace(&parts.headers),
            };
            let outcome = target.call(call).await;
            let headers = take(&mut parts.headers);
            Ok(write(&client.server, entry, outcome, accepted, headers))
        }
        LeadsTo::Page(page) => {
            if parts.method != Method::GET && parts.method != Method::HEAD {
                return other_method(entry, parts, "GET, HEAD, OPTIONS");
            }
            let headers = take(&mut parts.headers);
            Ok(page.answer(&client.server, &parts.uri, headers, client.local))
        }
        LeadsTo::Nothing if parts.method == Method::OPTIONS && parts.uri.path() == "*" => {
            Ok(options(take(&mut parts.headers), "GET, HEAD, POST, OPTIONS"))
        }
        LeadsTo::Nothing => Err(unknown(&client.server, parts)),
    }
}

/// Holds a request to one `Host` (RFC 9112, 3.2): two would let a proxy and us disagree.
fn check_host(parts: &Parts) -> Result<(), Problem> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let detail = match (hosts.next(), hosts.next()) {
        (Some(_), None) => return Ok(()),
        (None, _) if parts.version != Version::HTTP_11 => return Ok(()),
        (None, _) => "an HTTP/1.1 request names its host, and this one has no Host header",
        (Some(_), Some(_)) => "a request names one host, and this one has several Host headers",
    };
    let title = "The request is not HTTP/1.1";
    Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", title, detail).closing())
}

/// A page of another site may make a browser send a request here without asking (a plain POST needs
/// no preflight); it could not read the answer, but the handler would have run.
fn refuse_cross_site(parts: &Parts) -> Result<(), Problem> {
    match parts.headers.get(SEC_FETCH_SITE) {
        Some(site) if site == "cross-site" => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "cross_site",
            "The request comes from another site's page",
            "a browser sent this for a page of another site, and handlers do not answer those",
        )),
        _ => Ok(()),
    }
}

/// The call's data and how it shall be answered.
async fn read(
    server: &Server,
    parts: &Parts,
    body: Incoming,
) -> Result<(Payload, Accepted), Problem> {
    let codec = if body.is_end_stream() {
        Codec::Empty
    } else {
        media::request_codec(&parts.headers).map_err(|detail| {
            let title = "The body's type is not understood";
            Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                title,
                detail,
            )
        })?
    };
    let accepted = media::accepted(&parts.headers).ok_or_else(|| {
        let title = "No answer there is would be accepted";
        let detail = format!("answers come as {}", media::UNDERSTOOD);
        Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", title, detail)
    })?;
    if codec == Codec::Empty {
        return Ok((Payload::default(), accepted));
    }
    let config = &server.config;
    let bytes = body::read(body, config.max_body, config.body_timeout)
        .await
        .map_err(|error| unread(server, &error))?;
    let codec = if bytes.is_empty() { Codec::Empty } else { codec };
    Ok((Payload::new(codec, bytes), accepted))
}

/// Why a body could not be read. What is left of it is still on the connection, which therefore
/// ends.
fn unread(server: &Server, error: &BodyError) -> Problem {
    let config = &server.config;
    match error {
        BodyError::TooLarge => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "The body is too large",
            format!("a body may have {} bytes here", config.max_body),
        ),
        BodyError::Paused => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "The request came too slowly",
            format!("nothing of the body came for {} ms", config.body_timeout.as_millis()),
        ),
        BodyError::Broken(error) => {
            let cause = std::error::Error::source(error)
                .map_or_else(|| error.to_string(), |source| source.to_string());
            Problem::new(
                StatusCode::BAD_REQUEST,
                "bad_request",
                "The request is not HTTP/1.1",
                format!("the body is not what its framing says: {cause}"),
            )
        }
    }
    .closing()
}

fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// Writes down how a call ended.
fn write(
    server: &Server,
    entry: &Entry,
    outcome: Outcome,
    accepted: Accepted,
    mut headers: HeaderMap,
) -> Answer {
    let Outcome { result, mut diagnostics } = outcome;
    match result {
        Ok(Payload { codec, body }) => {
            headers.clear();
            if let Ok(id) = HeaderValue::try_from(diagnostics.call_id) {
                headers.insert(CALL_ID, id);
            }
            if codec == Codec::Empty {
                return respond(headers, StatusCode::NO_CONTENT, body);
            }
            let media = if codec == accepted.codec { accepted.media } else { codec.media_type() };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
            respond(headers, StatusCode::OK, body)
        }
        Err(failure) => {
            if diagnostics.call_id.is_empty() {
                diagnostics.call_id = server.ids.next().to_string();
            }
            failure::log(&failure, &diagnostics, &entry.path);
            failure::problem(&failure, &diagnostics.call_id, server.config.expose_errors)
                .into_call_answer(headers, &diagnostics.call_id)
        }
    }
}

fn options(mut headers: HeaderMap, allow: &'static str) -> Answer {
    headers.clear();
    headers.insert(ALLOW, HeaderValue::from_static(allow));
    respond(headers, StatusCode::NO_CONTENT, bytes::Bytes::new())
}

/// The answer to a method a path does not have.
fn other_method(entry: &Entry, parts: &mut Parts, allow: &'static str) -> Result<Answer, Problem> {
    if parts.method == Method::OPTIONS {
        return Ok(options(take(&mut parts.headers), allow));
    }
    let detail = match &entry.leads_to {
        LeadsTo::Handler { name, .. } => {
            format!("{} is a handler, {name}: call it with POST, not {}", entry.path, parts.method)
        }
        _ => format!("{} is a page: read it with GET, not {}", entry.path, parts.method),
    };
    let mut problem = Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "The path does not have this method",
        detail,
    );
    problem.allow = Some(allow);
    Err(problem)
}

fn unknown(server: &Server, parts: &Parts) -> Problem {
    let path = parts.uri.path();
    let shown: String = path.chars().take(256).collect();
    let near = server.routes.did_you_mean(path);
    let near = if near.is_empty() { " `/` lists what there is.".to_owned() } else { near };
    let detail = format!("nothing is at `{shown}`.{near}");
    Problem::new(StatusCode::NOT_FOUND, "not_found", "There is no such route", detail)
}
