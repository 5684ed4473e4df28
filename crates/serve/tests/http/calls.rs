//! What a call says and how its end is answered.

use std::{
    io,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
};

use exuvia_core::{Failure, Frame, InputFault, Payload};
use exuvia_serve::{RouteError, Server, ServerConfig};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{
    CALL_ID, Counts, Live, eventually, get, outcome, post, route, start, start_with,
};

fn failures() -> Vec<(&'static str, Failure)> {
    let frame = || Frame { file: "a.py".to_owned(), line: 3, function: "f".to_owned() };
    vec![
        ("malformed", Failure::Malformed { message: "line 1, column 2: not JSON".to_owned() }),
        (
            "input",
            Failure::Input {
                faults: vec![
                    InputFault { pointer: "/n".to_owned(), message: "must be int".to_owned() },
                    InputFault { pointer: String::new(), message: "unknown `m`".to_owned() },
                ],
            },
        ),
        (
            "exception",
            Failure::Exception {
                class: "KeyError".to_owned(),
                message: "'secret'".to_owned(),
                traceback: "Traceback (most recent call last):\n  secret line".to_owned(),
                frames: vec![frame()],
            },
        ),
        (
            "result",
            Failure::Result { path: "result[\"a\"]".to_owned(), message: "is a socket".to_owned() },
        ),
        ("timeout", Failure::Timeout { limit_ms: 250, started: true, frames: vec![frame()] }),
        ("unstarted", Failure::Timeout { limit_ms: 250, started: false, frames: vec![] }),
        (
            "crash",
            Failure::Crash {
                signal: "SIGSEGV".to_owned(),
                number: 11,
                running: 1,
                frames: vec![frame()],
            },
        ),
        ("exited", Failure::Exited { status: 3, running: 1 }),
        ("lost", Failure::WorkerLost { reason: "memory".to_owned(), retryable: true }),
        ("lost_for_good", Failure::WorkerLost { reason: "memory".to_owned(), retryable: false }),
        ("rejected", Failure::Rejected { reason: "queue full".to_owned(), retry_after_ms: 1200 }),
        ("rejected_briefly", Failure::Rejected { reason: "full".to_owned(), retry_after_ms: 5 }),
        ("cancelled", Failure::Cancelled),
        (
            "load",
            Failure::Load { message: "No module named 'x'".to_owned(), traceback: "tb".to_owned() },
        ),
        ("host", Failure::Host { message: "a socket broke".to_owned() }),
    ]
}

struct Ready;

impl exuvia_serve::Backend for Ready {
    fn readiness(&self) -> exuvia_serve::Readiness {
        exuvia_serve::Readiness { ready: true, reason: "yes".to_owned() }
    }
}

fn failing(expose_errors: bool) -> Live {
    let counts = Arc::new(Counts::default());
    let routes = failures()
        .into_iter()
        .map(|(name, failure)| {
            route(name, &counts, move |_| {
                let failure = failure.clone();
                Box::pin(async move { outcome(Err(failure)) })
            })
        })
        .collect();
    let config = ServerConfig { expose_errors, ..ServerConfig::default() };
    start_with(routes, counts, Arc::new(Ready), config, std::time::Duration::from_secs(5))
}

#[test]
fn every_failure_has_its_status_its_fault_and_its_members() {
    let server = failing(false);
    for (name, status, kind, responsible, retry_after, members) in [
        ("malformed", 400, "malformed", "caller", None, json!({})),
        (
            "input",
            422,
            "input",
            "caller",
            None,
            json!({"errors": [
                {"pointer": "/n", "detail": "must be int"},
                {"pointer": "", "detail": "unknown `m`"},
            ]}),
        ),
        ("exception", 500, "exception", "guest", None, json!({})),
        ("result", 500, "result", "guest", None, json!({})),
        ("timeout", 504, "timeout", "guest", None, json!({"limit_ms": 250, "started": true})),
        (
            "unstarted",
            503,
            "timeout",
            "infrastructure",
            Some("1"),
            json!({"limit_ms": 250, "started": false}),
        ),
        ("crash", 502, "crash", "guest", None, json!({"signal": "SIGSEGV"})),
        ("exited", 502, "exited", "guest", None, json!({"exit_status": 3})),
        ("lost", 503, "worker_lost", "infrastructure", Some("0"), json!({"retryable": true})),
        ("lost_for_good", 503, "worker_lost", "infrastructure", None, json!({"retryable": false})),
        ("rejected", 503, "rejected", "infrastructure", Some("2"), json!({})),
        ("rejected_briefly", 503, "rejected", "infrastructure", Some("1"), json!({})),
        ("cancelled", 499, "cancelled", "caller", None, json!({})),
        ("load", 503, "load", "guest", None, json!({})),
        ("host", 500, "host", "host", None, json!({})),
    ] {
        let answer = server.post(&format!("/t/{name}"), "{}");
        let problem = answer.problem(status, kind);
        assert_eq!(problem["responsible"], responsible, "{name}");
        assert_eq!(problem["error_id"], CALL_ID, "{name}");
        assert_eq!(problem["instance"], format!("urn:exuvia:call:{CALL_ID}"), "{name}");
        assert_eq!(answer.header("exuvia-call-id"), Some(CALL_ID), "{name}");
        assert_eq!(answer.header("retry-after"), retry_after, "{name}");
        for (member, value) in members.as_object().unwrap() {
            assert_eq!(&problem[member], value, "{name}.{member}");
        }
        let usual = ["type", "title", "status", "detail", "instance", "error_id", "responsible"];
        let more = problem.as_object().unwrap().keys().filter(|key| !usual.contains(&key.as_str()));
        assert!(more.eq(members.as_object().unwrap().keys()), "{name}: {problem}");
    }
}

#[test]
fn an_exceptions_words_are_told_only_when_the_operator_says_so() {
    let hidden = failing(false).post("/t/exception", "{}");
    assert!(!hidden.text().contains("secret"), "{}", hidden.text());
    assert!(!hidden.text().contains("KeyError"), "{}", hidden.text());
    assert!(hidden.json()["detail"].as_str().unwrap().contains(CALL_ID));

    let exposed = failing(true);
    let problem = exposed.post("/t/exception", "{}").json();
    assert_eq!(problem["detail"], "KeyError: 'secret'");
    assert_eq!(problem["exception"]["class"], "KeyError");
    assert!(problem["exception"]["traceback"].as_str().unwrap().contains("secret line"));
    assert_eq!(exposed.post("/t/crash", "{}").json()["frames"][0]["line"], 3);
    assert_eq!(exposed.post("/t/load", "{}").json()["traceback"], "tb");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn a_failure_on_this_side_is_logged_once_and_the_callers_own_is_not() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    // Other tests of this process write to it too, so only lines of these routes are looked at.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let server = failing(false);
    for (name, level, words) in [
        ("exception", Some("ERROR"), "secret line"),
        ("host", Some("ERROR"), "a socket broke"),
        ("lost_for_good", Some("WARN"), "memory"),
        ("input", None, ""),
    ] {
        log.0.lock().unwrap().clear();
        assert!(server.post(&format!("/t/{name}"), "{}").status >= 400);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains(&format!("route=\"/t/{name}\""))).collect();
        match level {
            Some(level) => {
                assert_eq!(lines.len(), 1, "{name}: {text}");
                assert!(lines[0].contains(level) && lines[0].contains(CALL_ID), "{}", lines[0]);
                assert!(text.contains(words), "{text}");
            }
            None => assert!(lines.is_empty(), "{text}"),
        }
    }
}

#[test]
fn the_body_and_the_headers_become_the_call() {
    let server = start(ServerConfig::default());
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (headers, body, member, value) in [
        (&["content-type: application/json"][..], "{}", "codec", json!("Json")),
        (&["content-type: application/vnd.api+json"], "{}", "codec", json!("Json")),
        (&[], "{}", "codec", json!("Json")),
        (&["content-type: application/x-ndjson"], "1\n2", "codec", json!("Ndjson")),
        (&["content-type: application/jsonl"], "1\n2", "codec", json!("Ndjson")),
        (&["content-type: application/vnd.exuvia.value+msgpack"], "x", "codec", json!("Value")),
        (&["content-type: application/json"], "", "codec", json!("Empty")),
        (&["content-type: text/html"], "", "codec", json!("Empty")),
        (&["accept: application/x-ndjson"], "", "accept", json!("Ndjson")),
        (
            &["accept: application/json;q=0.1, application/vnd.exuvia.value+msgpack"],
            "",
            "accept",
            json!("Value"),
        ),
        (&["accept: text/html, */*;q=0.1"], "", "accept", json!("Json")),
        (&[trace], "", "trace", json!(1)),
        (&["traceparent: nonsense"], "", "trace", json!(0)),
        (&[], "{}", "timeout", json!(1500)),
        (&[], "12345", "length", json!(5)),
    ] {
        let answer = server.once(post("/t/describe", headers, body));
        assert_eq!(answer.status, 200, "{headers:?}");
        assert_eq!(answer.json()[member], value, "{headers:?}");
    }
}

#[test]
fn the_answer_carries_its_type_and_its_call() {
    let server = start(ServerConfig::default());
    let answer = server.post("/t/echo", "[1]");
    assert_eq!((answer.status, answer.text()), (200, "[1]"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("exuvia-call-id"), Some(CALL_ID));
    assert!(answer.header("date").is_some());
    for media in
        ["application/x-ndjson", "application/jsonl", "application/vnd.exuvia.value+msgpack"]
    {
        let answer = server.once(post("/t/echo", &[&format!("accept: {media}")], "x"));
        assert_eq!(answer.header("content-type"), Some(media));
    }
    let answer = server.post("/t/nothing", "{}");
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(answer.header("exuvia-call-id"), Some(CALL_ID));
}

#[test]
fn what_cannot_be_read_or_written_is_refused_with_what_can() {
    let server = start(ServerConfig::default());
    let refused = |headers: &[&str]| server.once(post("/t/echo", headers, "a,b"));
    let html = refused(&["content-type: text/html"]).problem(415, "unsupported_media_type");
    assert!(html["detail"].as_str().unwrap().contains("application/x-ndjson"));
    let xml = refused(&["content-type: text/json"]).problem(415, "unsupported_media_type");
    assert!(xml["detail"].as_str().unwrap().contains("For JSON, say application/json."));
    for media in [
        "application/json; charset=utf-16",
        "application/json; table=nested",
        "text/csv; charset=latin-1",
        "text/csv; header=absent",
    ] {
        refused(&[&format!("content-type: {media}")]).problem(415, "unsupported_media_type");
    }
    refused(&["content-encoding: compress"]).problem(415, "unsupported_media_type");
    let html = refused(&["accept: text/html"]).problem(406, "not_acceptable");
    assert!(html["detail"].as_str().unwrap().contains("application/json"));
    assert_eq!(server.counts.started.load(SeqCst), 0);
}

#[test]
fn a_path_that_is_not_there_names_the_nearest_one() {
    let server = start(ServerConfig::default());
    let problem = server.post("/t/ecoh", "{}").problem(404, "not_found");
    assert!(problem["detail"].as_str().unwrap().contains("Did you mean `/t/echo`?"), "{problem}");
    server.post(&format!("/{}", "x".repeat(5000)), "{}").problem(404, "not_found");
    assert_eq!(server.post("/t/%65cho?query=1", "1").status, 200);
}

#[test]
fn a_method_a_path_does_not_have_names_those_it_has() {
    let server = start(ServerConfig::default());
    let answer = server.once(get("/t/echo"));
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST, OPTIONS"));
    let answer = server.post("/healthz", "");
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
    for path in ["/t/echo", "/healthz", "*"] {
        let mut client = server.connect();
        client.send(format!("OPTIONS {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        let answer = client.answer();
        assert_eq!(answer.status, 204, "{path}");
        assert!(answer.header("allow").unwrap().contains("OPTIONS"));
    }
    let mut client = server.connect();
    client.send("HEAD /t/echo HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(client.answer_without_body().status, 405);
}

#[test]
fn requests_in_one_breath_are_answered_in_order() {
    let server = start(ServerConfig::default());
    let mut client = server.connect();
    let bodies: Vec<String> = (0..40).map(|n| format!("[{n}]")).collect();
    let all: String = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| post(if n % 7 == 3 { "/t/sleep" } else { "/t/echo" }, &[], body))
        .collect();
    client.send(all);
    for (n, body) in bodies.iter().enumerate() {
        let expected = if n % 7 == 3 { "\"slept\"" } else { body };
        assert_eq!(client.answer().text(), expected);
    }
}

#[test]
fn a_client_that_goes_away_cancels_its_call() {
    let server = start(ServerConfig::default());
    let mut client = server.connect();
    client.send(post("/t/forever", &[], "{}"));
    eventually("the call starts", || server.counts.started.load(SeqCst) == 1);
    drop(client);
    eventually("the call is dropped", || server.counts.dropped.load(SeqCst) == 1);
    eventually("it is counted", || {
        let page = server.metrics.render();
        page.contains(r#"exuvia_http_requests_total{route="/t/forever",status="499"} 1"#)
            && page.contains("exuvia_http_requests_in_flight 0")
            && page.contains("exuvia_http_connections 0")
    });
}

#[test]
fn routes_that_clash_are_refused_by_name() {
    let counts = Arc::new(Counts::default());
    let make = |path: &str| {
        let echo = route("echo", &counts, |call| {
            Box::pin(async move { outcome(Ok(Payload::json(call.payload.body))) })
        });
        exuvia_serve::Route { path: path.to_owned(), ..echo }
    };
    let check = |paths: &[&str]| {
        let routes = paths.iter().map(|path| make(path)).collect();
        let metrics = exuvia_observe::Metrics::new();
        Server::new(routes, Arc::new(Ready), metrics, ServerConfig::default()).err()
    };
    assert_eq!(check(&["/t/a", "/t/b"]), None);
    assert!(matches!(check(&["/t/a", "/t/a"]), Some(RouteError::Duplicate { .. })));
    for path in ["/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"] {
        let error = check(&[path]).unwrap();
        assert!(matches!(error, RouteError::Reserved { .. }), "{path}");
        assert!(error.to_string().contains("t:echo"), "{error}");
    }
    for path in ["", "t/a", "/t/a b", "/t/a?b", "/t/%61"] {
        assert!(matches!(check(&[path]), Some(RouteError::NotAPath { .. })), "{path}");
    }
}

#[test]
fn a_page_of_another_site_cannot_make_a_browser_call_a_handler() {
    let server = start(ServerConfig::default());
    let sent =
        |site: &str| server.once(post("/t/echo", &[&format!("sec-fetch-site: {site}")], "1"));
    sent("cross-site").problem(403, "cross_site");
    for site in ["same-origin", "same-site", "none"] {
        assert_eq!(sent(site).status, 200, "{site}");
    }
}
