//! One request, from its head to its answer.

use std::{
    future::poll_fn,
    mem::take,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use exuvia_core::{
    Call, Codec, Copied, Diagnostics, Failure, Outcome, OutcomeFuture, Payload, TraceContext,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST, TRANSFER_ENCODING},
    request::Parts,
};
use hyper::body::{Body as _, Incoming};

use crate::{
    access,
    answer::{Answer, Body, LastWord, Streamed},
    arguments,
    body::{BodyError, Reading},
    config::ServerConfig,
    connection::Client,
    counted::Counted,
    decompress::{self, Coding},
    edge::Extras,
    failure,
    feed::{self, Pump},
    media::{self, Accepted},
    pages,
    problem::{CALL_ID, Problem, answer as respond},
    routes::{Calls, Entry, Found, LeadsTo, Place},
    server::Server,
};

/// The header that says how much of an answer's tables had to be copied: `COUNT; bytes=BYTES`.
const COPIES: HeaderName = HeaderName::from_static("exuvia-copies");

/// The header that tells an answer of a stub.
const STUB: HeaderName = HeaderName::from_static("exuvia-stub");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The answer to `request`.
pub(crate) async fn answer(client: Arc<Client>, mut request: Request<Incoming>) -> Answer {
    let extras = Extras::of(&client, &mut request);
    let (mut parts, body) = request.into_parts();
    client.set_unread(is_chunked(&parts, &body));
    let routes = &client.server.routes;
    let found = routes.find(parts.uri.path());
    let entry = match &found {
        Some(found) => found.place.by(&parts.method).unwrap_or(found.place.any()),
        None => &routes.unmatched,
    };
    access::matched(&parts.extensions, &entry.path);
    let mut counted = Counted::new(client.clone(), Arc::clone(entry), &parts);
    let mut answer = match lead(&mut counted, found, &mut parts, body).await {
        Ok(answer) => answer,
        Err(problem) => {
            let id = client.server.ids.next();
            let Problem { status, kind, detail, .. } = &problem;
            tracing::debug!(error_id = %id, route = counted.entry.path, kind, "{detail}");
            if let Some(seen) = &mut counted.seen {
                seen.refused(&id.to_string(), *status, kind, detail);
            }
            problem.into_answer(take(&mut parts.headers), id)
        }
    };
    // Said with an answer that is streamed it would end the body, too, which may be read yet.
    if client.is_unread() && matches!(answer.body(), Body::Whole(_)) {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let status = answer.status().as_u16();
    match answer.body_mut() {
        Body::Whole(_) | Body::Dressed(_) => counted.ended(status),
        Body::Streamed(streamed) => {
            client.set_open_ended(parts.version == Version::HTTP_10);
            streamed.counted = Some(counted);
        }
    }
    match extras {
        None => answer,
        Some(extras) => extras.dress(&client, answer),
    }
}

/// Brings a request to what its path leads to. The map of its headers becomes the answer's, which
/// saves making one.
async fn lead(
    counted: &mut Counted,
    found: Option<Found<'_>>,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Answer, Problem> {
    check_framing(parts, &counted.client)?;
    if counted.client.is_spoilt() {
        let detail = "a body before this request was not read to its end";
        return Err(Problem::bad_request(detail).closing());
    }
    check_host(parts)?;
    let client = counted.client.clone();
    let entry = counted.entry.clone();
    let Some(Found { place, values }) = found else {
        if parts.method == Method::OPTIONS && parts.uri.path() == "*" {
            let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            return Ok(options(take(&mut parts.headers), allow));
        }
        return Err(unknown(&client, parts));
    };
    if !client.shows(&entry.leads_to) {
        return Err(unknown(&client, parts));
    }
    if place.by(&parts.method).is_none() {
        return other_method(place, &entry, parts);
    }
    match &entry.leads_to {
        LeadsTo::Handler(calls) => {
            if parts.method != Method::GET && parts.method != Method::HEAD {
                refuse_cross_site(parts)?;
            }
            call(counted, calls, values, parts, body).await
        }
        LeadsTo::Page(page) => {
            let Parts { uri, method, headers, .. } = parts;
            Ok(page.answer(&client, uri, method, take(headers)).await)
        }
        LeadsTo::Nothing => Err(unknown(&client, parts)),
    }
}

/// Calls a handler, and answers with what comes of it.
async fn call(
    counted: &mut Counted,
    calls: &Calls,
    values: Vec<String>,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Answer, Problem> {
    let server = counted.client.server.clone();
    let failed = |failure: Failure| refused(&server, &failure);
    let text_arguments = arguments::of(calls, values, parts).map_err(failed)?;
    let (Input { payload, mut pump }, accepted) = read(&counted.client, calls, parts, body).await?;
    let timeout = enter(counted, calls).await.map_err(failed)?;
    let call = Call {
        text_arguments: arguments::about(text_arguments, calls, payload.codec, parts),
        payload,
        accept: accepted.codec,
        streams: true,
        timeout,
        trace: counted.span.call(&calls.name).or_else(|| traced(&parts.headers)),
    };
    let outcome = perform(calls.target.call(call), &mut pump)
        .await
        .map_err(|error| unread(calls, &server.config, &error))?;
    counted.span.called(&outcome);
    let headers = take(&mut parts.headers);
    Ok(write(counted, calls, outcome, accepted, headers, pump))
}

/// Waits until the route has room for one more call, and tells how long it may take then.
async fn enter(counted: &mut Counted, calls: &Calls) -> Result<Option<Duration>, Failure> {
    let Some(gate) = &calls.gate else { return Ok(calls.timeout) };
    if let Some(seen) = &mut counted.seen {
        seen.waits(true);
    }
    let began = Instant::now();
    counted.room = Some(gate.enter(calls.timeout).await?);
    if let Some(seen) = &mut counted.seen {
        seen.waits(false);
    }
    Ok(calls.timeout.map(|limit| limit.saturating_sub(began.elapsed())))
}

/// What a call would have ended as that was not made.
fn refused(server: &Server, failure: &Failure) -> Problem {
    failure::problem(failure, &server.ids.next().to_string(), server.config.expose_errors)
}

/// Whether the body comes in chunks.
fn is_chunked(parts: &Parts, body: &Incoming) -> bool {
    parts.version == Version::HTTP_11 && body.size_hint().exact().is_none()
}

/// Holds a body in chunks to just that: hyper looks at the last word of `Transfer-Encoding` alone.
fn check_framing(parts: &Parts, client: &Client) -> Result<(), Problem> {
    if !client.is_unread() {
        return Ok(());
    }
    let mut values = parts.headers.get_all(TRANSFER_ENCODING).iter();
    let chunked =
        |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    match (values.next(), values.next()) {
        (Some(only), None) if chunked(only) => Ok(()),
        _ => {
            let detail = "a body comes in chunks or with its length, and this one has another \
                          Transfer-Encoding";
            Err(Problem::bad_request(detail).closing())
        }
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
    Err(Problem::bad_request(detail).closing())
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
    client: &Arc<Client>,
    calls: &Calls,
    parts: &Parts,
    body: Incoming,
) -> Result<(Input, Accepted), Problem> {
    let reads = calls.target.info().reads;
    let unfit = |detail: String| {
        let title = "The body's type is not understood";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Problem::new(status, "unsupported_media_type", title, detail)
    };
    let (codec, coding) = if body.is_end_stream() {
        // Only of text and of bytes there is an empty one.
        let codec = match media::request_codec(&parts.headers) {
            Ok(codec @ (Codec::Text | Codec::Bytes)) => codec,
            _ => Codec::Empty,
        };
        let payload = Payload::new(codec, Bytes::new());
        return Ok((Input { payload, pump: None }, accepted(calls, parts)?));
    } else {
        let codec = media::request_codec(&parts.headers).map_err(unfit)?;
        (codec, decompress::coding(&parts.headers).map_err(unfit)?)
    };
    let accepted = accepted(calls, parts)?;
    let config = &client.server.config;
    let max_body = most(calls, config);
    let input = input(client, max_body, body, codec, coding, reads).await;
    Ok((input.map_err(|error| unread(calls, config, &error))?, accepted))
}

/// How the call shall be answered.
fn accepted(calls: &Calls, parts: &Parts) -> Result<Accepted, Problem> {
    media::accepted(&parts.headers, calls.usual).ok_or_else(|| {
        let title = "No answer there is would be accepted";
        let detail = match calls.usual.is_opaque() {
            true => format!("the answer is {}", calls.usual.media),
            false => format!("answers come as {}", media::UNDERSTOOD),
        };
        Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", title, detail)
    })
}

/// The data of a call that has some.
async fn input(
    client: &Arc<Client>,
    max_body: u64,
    body: Incoming,
    codec: Codec,
    coding: Option<Coding>,
    reads: bool,
) -> Result<Input, BodyError> {
    let pause = client.server.config.body_timeout;
    let reading = Reading::begin(client, body, coding, max_body, pause).await?;
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

/// The largest body of a route.
fn most(calls: &Calls, config: &ServerConfig) -> u64 {
    calls.max_body.unwrap_or(config.max_body)
}

/// Why a body could not be read.
fn unread(calls: &Calls, config: &ServerConfig, error: &BodyError) -> Problem {
    error.problem(most(calls, config), config.body_timeout)
}

/// The caller's place in a trace.
pub(crate) fn traced(headers: &HeaderMap) -> Option<TraceContext> {
    TraceContext::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

/// Writes down how a call ended, or begins to.
fn write(
    counted: &mut Counted,
    calls: &Calls,
    outcome: Outcome,
    accepted: Accepted,
    headers: HeaderMap,
    pump: Option<Pump>,
) -> Answer {
    let server = counted.client.server.clone();
    let Outcome { result, mut diagnostics } = outcome;
    let copies = copies(&diagnostics);
    // What is left of a body cannot be told from the next request.
    let close = pump.as_ref().is_some_and(|pump| !pump.is_whole());
    let mut answer = match result {
        Ok(payload) => result_of(counted, calls, (payload, diagnostics), accepted, headers, pump),
        Err(failure) => {
            if diagnostics.call_id.is_empty() {
                diagnostics.call_id = server.ids.next().to_string();
            }
            failure::log(&failure, &diagnostics, &counted.entry.path);
            counted.ended(failure::status(&failure));
            counted.told(&diagnostics, Some(&failure));
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
    counted: &mut Counted,
    calls: &Calls,
    (payload, diagnostics): (Payload, Diagnostics),
    accepted: Accepted,
    mut headers: HeaderMap,
    pump: Option<Pump>,
) -> Answer {
    headers.clear();
    let Payload { codec, body, rest, .. } = payload;
    if let Ok(id) = HeaderValue::try_from(diagnostics.call_id.as_str()) {
        headers.insert(CALL_ID, id);
    }
    if calls.stub {
        headers.insert(STUB, HeaderValue::from_static("true"));
    }
    let is_empty = codec == Codec::Empty && rest.is_none();
    let usual = if is_empty { StatusCode::NO_CONTENT } else { StatusCode::OK };
    let status = calls.status.unwrap_or(usual);
    if !is_empty {
        let media = if codec == accepted.codec { accepted.media } else { codec.media_type() };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    }
    counted.good = status;
    let body = match rest {
        None => {
            counted.ended(status.as_u16());
            counted.told(&diagnostics, None);
            Body::from(body)
        }
        Some(rest) => {
            if let Some(seen) = &mut counted.seen {
                seen.named(&diagnostics.call_id);
            }
            let events = codec == Codec::Events;
            let expose = counted.client.server.config.expose_errors;
            let mut streamed = Streamed::new(body, rest, diagnostics, pump);
            streamed.last_word = events.then_some(LastWord { expose });
            Body::Streamed(Box::new(streamed))
        }
    };
    respond(headers, status, body)
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

fn options(mut headers: HeaderMap, allow: HeaderValue) -> Answer {
    headers.clear();
    headers.insert(ALLOW, allow);
    respond(headers, StatusCode::NO_CONTENT, Bytes::new())
}

/// The answer to a method a path does not have.
fn other_method(place: &Place, entry: &Entry, parts: &mut Parts) -> Result<Answer, Problem> {
    if parts.method == Method::OPTIONS {
        return Ok(options(take(&mut parts.headers), place.allow.clone()));
    }
    let allowed = place.allow.to_str().unwrap_or_default();
    let methods = allowed.trim_end_matches(", OPTIONS").trim_end_matches(", HEAD");
    let detail = match &entry.leads_to {
        LeadsTo::Handler(calls) => {
            let (path, method) = (&entry.path, &parts.method);
            format!("{path} is a handler, {}: call it with {methods}, not {method}", calls.name)
        }
        _ => format!("{} is a page: read it with {methods}, not {}", entry.path, parts.method),
    };
    let mut problem = Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "The path does not have this method",
        detail,
    );
    problem.allow = Some(Box::new(place.allow.clone()));
    Err(problem)
}

fn unknown(client: &Client, parts: &Parts) -> Problem {
    let server = &client.server;
    let path = parts.uri.path();
    if let Some(failure) = server.routes.broken_at(path).filter(|_| client.surface.data) {
        return refused(server, &failure);
    }
    let shown: String = path.chars().take(256).collect();
    let hint = match server.routes.did_you_mean(path) {
        _ if !client.surface.pages && pages::is_page(path) => {
            " The server's own pages are not shown on this address: the setting `admin` gives them \
             one."
                .to_owned()
        }
        near if near.is_empty() && client.surface.pages => " `/` lists what there is.".to_owned(),
        near => near,
    };
    let detail = format!("nothing is at `{shown}`.{hint}");
    Problem::new(StatusCode::NOT_FOUND, "not_found", "There is no such route", detail)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use exuvia_core::Responsible;
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
        let problem = error.problem(64 << 20, Duration::from_secs(30));
        assert_eq!((problem.status, problem.kind), (503, "no_room"));
        assert_eq!(problem.responsible, Responsible::Infrastructure);
        assert!(problem.retry_after.is_some() && problem.close);
    }
}
