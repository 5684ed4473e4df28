//! One request, from its head to its answer.

use std::{future::poll_fn, mem::take, sync::Arc, time::Instant};

use bytes::Bytes;
use exuvia_core::{
    Call, Codec, Copied, Diagnostics, Outcome, OutcomeFuture, Payload, Responsible, TraceContext,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST},
    request::Parts,
};
use hyper::body::{Body as _, Incoming};

use crate::{
    answer::{Answer, Body, Streamed},
    body::{BodyError, Reading},
    config::ServerConfig,
    connection::Client,
    failure,
    feed::{self, Pump},
    media::{self, Accepted},
    problem::{CALL_ID, CLIENT_CLOSED, Problem, answer as respond},
    routes::{Entry, LeadsTo},
    server::Server,
};

/// The header that says how much of an answer's tables had to be copied: `COUNT; bytes=BYTES`.
const COPIES: HeaderName = HeaderName::from_static("exuvia-copies");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Counts one request, whatever becomes of it: dropped without a status, its client went away.
pub(crate) struct Counted {
    client: Arc<Client>,
    pub(crate) entry: Arc<Entry>,
    began: Instant,
    status: u16,
}

// === impl Counted ===

impl Counted {
    fn new(client: Arc<Client>, entry: Arc<Entry>) -> Self {
        client.begin();
        client.server.metrics.http.in_flight.inc();
        Self { client, entry, began: Instant::now(), status: CLIENT_CLOSED }
    }

    /// The answer was made, or is not made any further.
    pub(crate) fn ended(&mut self, status: u16) {
        self.status = status;
    }

    /// All of a streamed answer was made.
    pub(crate) fn completed(&mut self) {
        self.status = StatusCode::OK.as_u16();
        self.client.set_open_ended(false);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let now = Instant::now();
        self.client.server.metrics.http.in_flight.dec();
        self.entry.metrics.answered(self.status, now - self.began);
        self.client.end(now);
    }
}

/// The answer to `request`.
pub(crate) async fn answer(client: Arc<Client>, request: Request<Incoming>) -> Answer {
    let (mut parts, body) = request.into_parts();
    let routes = &client.server.routes;
    let entry = Arc::clone(routes.find(parts.uri.path()).unwrap_or(&routes.unmatched));
    let mut counted = Counted::new(client, entry);
    let Counted { client, entry, .. } = &counted;
    let mut answer = match lead(client, entry, &mut parts, body).await {
        Ok(answer) => answer,
        Err(problem) => {
            let id = client.server.ids.next();
            let Problem { kind, detail, .. } = &problem;
            tracing::debug!(error_id = %id, route = entry.path, kind, "{detail}");
            problem.into_answer(take(&mut parts.headers), id)
        }
    };
    let status = answer.status().as_u16();
    match answer.body_mut() {
        Body::Whole(_) => counted.ended(status),
        Body::Streamed(streamed) => {
            client.set_open_ended(parts.version == Version::HTTP_10);
            streamed.counted = Some(counted);
        }
    }
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
            let server = &*client.server;
            let reads = target.info().reads;
            let (Input { payload, mut pump }, accepted) = read(server, parts, body, reads).await?;
            let call = Call {
                payload,
                text_arguments: Vec::new(),
                accept: accepted.codec,
                streams: true,
                timeout: *timeout,
                trace: trace(&parts.headers),
            };
            let outcome = perform(target.call(call), &mut pump)
                .await
                .map_err(|error| unread(&server.config, &error))?;
            let headers = take(&mut parts.headers);
            Ok(write(server, entry, outcome, accepted, headers, pump))
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

/// A call's data.
#[derive(Default)]
struct Input {
    payload: Payload,
    /// What brings the handler the data that is not there yet.
    pump: Option<Pump>,
}

/// The call's data and how it shall be answered. A handler that `reads` need not wait for all of it.
async fn read(
    server: &Server,
    parts: &Parts,
    body: Incoming,
    reads: bool,
) -> Result<(Input, Accepted), Problem> {
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
        return Ok((Input::default(), accepted));
    }
    let input = input(&server.config, body, codec, reads).await;
    Ok((input.map_err(|error| unread(&server.config, &error))?, accepted))
}

/// The data of a call that has some.
async fn input(
    config: &ServerConfig,
    body: Incoming,
    codec: Codec,
    reads: bool,
) -> Result<Input, BodyError> {
    let reading = Reading::begin(body, config.max_body, config.body_timeout).await?;
    if reads && feed::can_be_fed(codec) && !reading.is_there() {
        let (feed, pump) = Pump::start(reading).map_err(BodyError::NoRoom)?;
        let payload = Payload { feed: Some(feed), ..Payload::new(codec, Bytes::new()) };
        return Ok(Input { payload, pump: Some(pump) });
    }
    Ok(Input { payload: reading.whole(codec).await?, pump: None })
}

/// How the call ends, or begins to answer; its data may break off before that.
async fn perform(call: OutcomeFuture, pump: &mut Option<Pump>) -> Result<Outcome, BodyError> {
    let Some(pump) = pump else { return Ok(call.await) };
    tokio::select! {
        biased;
        error = poll_fn(|cx| pump.poll_broken(cx)) => Err(error),
        outcome = call => Ok(outcome),
    }
}

/// Why a body could not be read. What is left of it is still on the connection, which therefore
/// ends.
fn unread(config: &ServerConfig, error: &BodyError) -> Problem {
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
        BodyError::NoRoom(error) => {
            tracing::error!("a request's body found no room: {error}");
            Problem {
                responsible: Responsible::Infrastructure,
                retry_after: Some(1),
                ..Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no_room",
                    "There is no room for the body",
                    "the server has no memory or no file descriptor left for a body this large",
                )
            }
        }
    }
    .closing()
}

fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// Writes down how a call ended, or begins to.
fn write(
    server: &Server,
    entry: &Entry,
    outcome: Outcome,
    accepted: Accepted,
    headers: HeaderMap,
    pump: Option<Pump>,
) -> Answer {
    let Outcome { result, mut diagnostics } = outcome;
    let copies = copies(&diagnostics);
    // What is left of a body cannot be told from the next request.
    let close = pump.as_ref().is_some_and(|pump| !pump.is_whole());
    let mut answer = match result {
        Ok(payload) => result_of(payload, diagnostics, accepted, headers, pump),
        Err(failure) => {
            if diagnostics.call_id.is_empty() {
                diagnostics.call_id = server.ids.next().to_string();
            }
            failure::log(&failure, &diagnostics, &entry.path);
            failure::problem(&failure, &diagnostics.call_id, server.config.expose_errors)
                .into_call_answer(headers, &diagnostics.call_id)
        }
    };
    if let Some(copies) = copies {
        answer.headers_mut().insert(COPIES, copies);
    }
    if close && matches!(answer.body(), Body::Whole(_)) {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// The answer that carries a call's result.
fn result_of(
    payload: Payload,
    mut diagnostics: Diagnostics,
    accepted: Accepted,
    mut headers: HeaderMap,
    pump: Option<Pump>,
) -> Answer {
    headers.clear();
    let Payload { codec, body, rest, .. } = payload;
    let call_id = match rest {
        Some(_) => diagnostics.call_id.clone(),
        None => take(&mut diagnostics.call_id),
    };
    if let Ok(id) = HeaderValue::try_from(call_id) {
        headers.insert(CALL_ID, id);
    }
    if codec == Codec::Empty && rest.is_none() {
        return respond(headers, StatusCode::NO_CONTENT, body);
    }
    let media = if codec == accepted.codec { accepted.media } else { codec.media_type() };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    let body = match rest {
        None => Body::from(body),
        Some(rest) => Body::Streamed(Box::new(Streamed::new(body, rest, diagnostics, pump))),
    };
    respond(headers, StatusCode::OK, body)
}

/// How much of a call's tables was copied, for the answer; the log says why.
fn copies(diagnostics: &Diagnostics) -> Option<HeaderValue> {
    let Diagnostics { call_id, handler, copies, .. } = diagnostics;
    if copies.is_empty() {
        return None;
    }
    for Copied { what, bytes, why } in copies {
        tracing::debug!(call = call_id, handler, bytes, "copied {what}: {why}");
    }
    let bytes = copies.iter().fold(0u64, |sum, copy| sum.saturating_add(copy.bytes));
    HeaderValue::try_from(format!("{}; bytes={bytes}", copies.len())).ok()
}

fn options(mut headers: HeaderMap, allow: &'static str) -> Answer {
    headers.clear();
    headers.insert(ALLOW, HeaderValue::from_static(allow));
    respond(headers, StatusCode::NO_CONTENT, Bytes::new())
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

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{filter::LevelFilter, fmt};

    use super::*;

    /// What `act` logs at debug and above.
    fn logged(act: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().expect("no panic before").write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let lines = log.clone();
        let subscriber = fmt()
            .with_max_level(LevelFilter::DEBUG)
            .with_ansi(false)
            .with_writer(move || lines.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = log.0.lock().expect("no panic before").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn copies_are_summed_up_for_the_client_and_each_has_its_reason_in_the_log() {
        let copied = |what: &str, bytes, why: &str| Copied {
            what: what.to_owned(),
            bytes,
            why: why.to_owned(),
        };
        let mut diagnostics = Diagnostics {
            call_id: "0badcafe-00000007".to_owned(),
            handler: "t:f".to_owned(),
            ..Diagnostics::default()
        };
        let none = logged(|| assert_eq!(copies(&diagnostics), None));
        assert_eq!(none, "");
        diagnostics.copies = vec![
            copied("column \"x\"", 70_080, "pandas needs a copy because it has nulls"),
            copied("table", u64::MAX, "it came as CSV"),
        ];
        let text = logged(|| {
            let header = copies(&diagnostics).expect("a header");
            assert_eq!(header, "2; bytes=18446744073709551615");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("DEBUG") && lines[0].contains("0badcafe-00000007"), "{text}");
        assert!(
            lines[0].contains("column \"x\": pandas needs a copy because it has nulls"),
            "{text}"
        );
    }

    #[test]
    fn a_body_that_finds_no_room_is_not_its_senders_fault() {
        let error = BodyError::NoRoom(io::ErrorKind::OutOfMemory.into());
        let problem = unread(&ServerConfig::default(), &error);
        assert_eq!((problem.status, problem.kind), (503, "no_room"));
        assert_eq!(problem.responsible, Responsible::Infrastructure);
        assert!(problem.retry_after.is_some() && problem.close);
    }
}
