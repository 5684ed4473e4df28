//! Spans, as a collector gets them from a process that was told of it by its environment.
//!
//! A process exports in one way and by its variables, so each test here runs a child: this program
//! again, which does one of the parts below instead of the test it is told to run.

#![expect(clippy::print_stdout, reason = "a test reads there what its child says")]

mod collector;
mod wire;

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
    task::{Context, Poll},
};

use bytes::Bytes;
use exuvia_core::{Codec, Diagnostics, Failure, Outcome, Payload, Pieces, Rest, TraceContext};
use exuvia_observe::trace::{self, Incoming, RequestSpan};

use crate::{
    collector::Collector,
    wire::{Batch, Span},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

// === what runs in a child ===

/// A result that never comes.
struct Nothing;

impl Pieces for Nothing {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<Failure>>>> {
        Poll::Pending
    }
}

fn outcome(result: Result<Payload, Failure>) -> Outcome {
    let diagnostics = Diagnostics {
        call_id: "0badcafe-00000007".to_owned(),
        handler: "m:forecast".to_owned(),
        worker: Some(7),
        pid: Some(4242),
        queued_us: 1_500,
        run_us: 2_500_000,
        attempts: 1,
        copies: Vec::new(),
    };
    Outcome { result: result.map_err(Box::new), diagnostics }
}

fn incoming<'a>(method: &'a str, route: Option<&'a str>) -> Incoming<'a> {
    Incoming { method, route, path: "/forecast/a7", version: "1.1", ..Incoming::default() }
}

/// The client's `traceparent`, with these flags.
fn parent(flags: &str) -> Option<TraceContext> {
    TraceContext::parse(&format!("00-{TRACE}-{CLIENT}-{flags}"))
}

/// Tells the test what the worker would get.
fn tell(context: Option<TraceContext>) {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match context {
        Some(TraceContext { trace_id, span_id, flags }) => {
            println!("worker: {}-{}-{flags:02x}", hex(&trace_id), hex(&span_id));
        }
        None => println!("worker: none"),
    }
}

fn child_that_answers_one_request() {
    let _exporting = trace::start("1.2.3").expect("variables that can be followed");
    let mut span = RequestSpan::start(&Incoming {
        parent: parent("01"),
        state: Some("rojo=1"),
        ..incoming("POST", Some("/forecast/{asset}"))
    });
    tell(span.call("m:forecast"));
    span.called(&outcome(Ok(Payload::new(Codec::Json, "[]"))));
    span.end(200);
}

fn child_whose_client_does_not_record() {
    let _exporting = trace::start("1.2.3").expect("variables that can be followed");
    let mut span =
        RequestSpan::start(&Incoming { parent: parent("00"), ..incoming("POST", Some("/f")) });
    tell(span.call("m:f"));
    span.end(200);
}

fn child_with_every_end() {
    let _exporting = trace::start("1.2.3").expect("variables that can be followed");
    let called = |route: &'static str, result: Result<Payload, Failure>| {
        let mut span = RequestSpan::start(&incoming("POST", Some(route)));
        assert!(span.call(&format!("m:{route}")).is_some());
        span.called(&outcome(result));
        span
    };
    let raised = Failure::Exception {
        class: "KeyError".to_owned(),
        message: "a secret".to_owned(),
        traceback: "a secret".to_owned(),
        frames: Vec::new(),
    };
    called("raises", Err(raised)).end(500);
    called("misfit", Err(Failure::input("/n", "must be an integer"))).end(422);
    let rest = || {
        let rest = Some(Rest::new(Nothing));
        Ok(Payload { rest, ..Payload::new(Codec::Ndjson, "1\n") })
    };
    called("streams", rest()).end(200);
    let mut breaks = called("breaks", rest());
    breaks.broke_off(&Failure::Exited { status: 7, running: 1 });
    breaks.end(502);
    drop(called("leaves", rest()));
    let mut waits = RequestSpan::start(&incoming("POST", Some("waits")));
    assert!(waits.call("m:waits").is_some());
    drop(waits);
    RequestSpan::start(&incoming("GET", None)).end(404);
    RequestSpan::start(&incoming("BREW\u{2615}", Some("pot"))).end(405);
}

fn child_that_makes_many_spans() {
    let _exporting = trace::start("1.2.3").expect("variables that can be followed");
    for _ in 0..20_000 {
        RequestSpan::start(&incoming("GET", Some("/many"))).end(200);
    }
    println!("made");
}

fn child_that_says_how_it_starts() {
    match trace::start("1.2.3") {
        Ok(Some(_)) => println!("start: exports"),
        Ok(None) => {
            tell(RequestSpan::start(&incoming("GET", None)).call("m:f"));
            println!("start: nothing");
        }
        Err(error) => println!("start: {error}"),
    }
}

// === what looks at it ===

/// Tells a child which part it does.
const PART: &str = "EXUVIA_TEST_PART";

/// The test that a child is told to run, and leaves at once.
const ENTRY: &str =
    "a_request_continues_its_clients_trace_and_the_worker_gets_the_span_of_the_call";

/// Whether this process is a child; then its part is done.
fn did_its_part() -> bool {
    let Ok(part) = std::env::var(PART) else { return false };
    match part.as_str() {
        "answers_one_request" => child_that_answers_one_request(),
        "does_not_record" => child_whose_client_does_not_record(),
        "every_end" => child_with_every_end(),
        "many_spans" => child_that_makes_many_spans(),
        "how_it_starts" => child_that_says_how_it_starts(),
        other => panic!("there is no part {other}"),
    }
    true
}

fn command(part: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args([ENTRY, "--exact", "--nocapture"]).env(PART, part).stdout(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    command
}

fn run(part: &str, variables: &[(&str, &str)]) -> String {
    let Output { status, stdout, .. } = command(part, variables).output().expect("it runs");
    let text = String::from_utf8(stdout).expect("text");
    assert!(status.success(), "{text}");
    text
}

/// What a child said after `word: `.
#[track_caller]
fn said<'a>(text: &'a str, word: &str) -> &'a str {
    let found = text.split(&format!("{word}: ")).nth(1);
    found.and_then(|rest| rest.lines().next()).unwrap_or_else(|| panic!("no {word} in {text}"))
}

/// All spans that came.
fn spans(collector: &Collector) -> Vec<Span> {
    collector.all().iter().flat_map(|posted| Batch::read(&posted.body).spans).collect()
}

#[track_caller]
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

#[track_caller]
fn has(span: &Span, attributes: &[(&str, &str)]) {
    for (name, value) in attributes {
        let found = span.attributes.get(*name).map(String::as_str);
        assert_eq!(found, Some(*value), "{name} of {span:#?}");
    }
}

#[test]
fn a_request_continues_its_clients_trace_and_the_worker_gets_the_span_of_the_call() {
    if did_its_part() {
        return;
    }
    let collector = Collector::start(Some("200 OK"));
    let said_by_child = run(
        "answers_one_request",
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=grid"),
            ("OTEL_SERVICE_NAME", "forecasts"),
        ],
    );
    let posted = collector.next();
    assert_eq!(posted.line, "post /v1/traces http/1.1");
    assert!(posted.headers.contains(&"content-type: application/x-protobuf".to_owned()));
    assert!(posted.headers.contains(&"x-team: grid".to_owned()), "{:?}", posted.headers);
    let batch = Batch::read(&posted.body);
    let named_so = |name: &str| batch.resource.get(name).map(String::as_str);
    assert_eq!(named_so("service.name"), Some("forecasts"));
    assert_eq!(named_so("service.version"), Some("1.2.3"));
    assert_eq!(batch.spans.len(), 2, "{batch:#?}");

    let request = named(&batch.spans, "POST /forecast/{asset}");
    assert_eq!((&*request.trace, &*request.parent, request.kind), (TRACE, CLIENT, 2));
    assert_eq!((&*request.state, request.status), ("rojo=1", 0));
    has(
        request,
        &[
            ("http.request.method", "POST"),
            ("http.route", "/forecast/{asset}"),
            ("http.response.status_code", "200"),
            ("url.path", "/forecast/a7"),
            ("url.scheme", "http"),
            ("network.protocol.version", "1.1"),
        ],
    );
    assert!(!request.attributes.contains_key("error.type"));

    let call = named(&batch.spans, "m:forecast");
    assert_eq!((&*call.trace, &call.parent, call.kind), (TRACE, &request.id, 1));
    assert_eq!(said(&said_by_child, "worker"), format!("{TRACE}-{}-01", call.id));
    assert!(request.start <= call.start && call.start <= call.end && call.end <= request.end);
    has(
        call,
        &[
            ("exuvia.handler", "m:forecast"),
            ("exuvia.call.id", "0badcafe-00000007"),
            ("exuvia.call.queue_time", "0.0015"),
            ("exuvia.call.run_time", "2.5"),
            ("exuvia.call.attempts", "1"),
            ("exuvia.worker.id", "7"),
            ("exuvia.worker.pid", "4242"),
        ],
    );
}

#[test]
fn each_end_has_its_error_and_no_text_of_an_exception_leaves_the_log() {
    let collector = Collector::start(Some("200 OK"));
    run("every_end", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address)]);
    let spans = spans(&collector);
    assert_eq!(spans.len(), 14, "{spans:#?}");
    // The request's status and error, then the call's; 2 is an error, of the server's.
    for (route, status, error, is_error, call_error, call_is_error) in [
        ("raises", "500", "500", 2, "KeyError", 2),
        ("misfit", "422", "", 0, "input", 0),
        ("streams", "200", "", 0, "", 0),
        ("breaks", "502", "502", 2, "exited", 2),
        ("leaves", "", "cancelled", 0, "cancelled", 0),
        ("waits", "", "cancelled", 0, "cancelled", 0),
    ] {
        let request = named(&spans, &format!("POST {route}"));
        let call = named(&spans, &format!("m:{route}"));
        assert_eq!((&call.trace, &call.parent), (&request.trace, &request.id));
        let of = |span: &Span, name: &str| span.attributes.get(name).cloned().unwrap_or_default();
        assert_eq!(of(request, "http.response.status_code"), status, "{route}");
        assert_eq!((&*of(request, "error.type"), request.status), (error, is_error), "{route}");
        let found = of(call, "error.type");
        assert_eq!((&*found, call.status), (call_error, call_is_error), "{route}");
    }
    assert!(!format!("{spans:?}").contains("a secret"));
    let unmatched = named(&spans, "GET");
    has(unmatched, &[("http.response.status_code", "404")]);
    assert!(unmatched.parent.is_empty() && !unmatched.attributes.contains_key("http.route"));
    let strange = named(&spans, "HTTP pot");
    has(
        strange,
        &[("http.request.method", "_OTHER"), ("http.request.method_original", "BREW\u{2615}")],
    );
}

#[test]
fn what_the_client_or_the_sampler_does_not_record_is_not_sent_but_handed_on() {
    let collector = Collector::start(Some("200 OK"));
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.address);
    let text = run("does_not_record", &[endpoint]);
    let worker = said(&text, "worker");
    assert!(worker.starts_with(TRACE) && worker.ends_with("-00"), "{worker}");
    assert!(!worker.contains(CLIENT), "it is the call's span: {worker}");

    let never = ("OTEL_TRACES_SAMPLER", "always_off");
    let text = run("answers_one_request", &[endpoint, never]);
    assert!(said(&text, "worker").ends_with("-00"), "{text}");
    assert_eq!(spans(&collector).len(), 0);
}

#[test]
fn a_collector_that_never_answers_or_refuses_holds_up_no_request() {
    for status in [None, Some("500 No")] {
        let collector = Collector::start(status);
        let mut child: Child = command(
            "many_spans",
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.address),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "32"),
            ],
        )
        .spawn()
        .expect("it runs");
        // The collector has the first batch, and all spans are made while it is silent.
        collector.next();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let made = output.lines().map_while(Result::ok).any(|line| line.contains("made"));
        assert!(made, "it ended before all spans were made");
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
        let later: usize = collector.all().iter().map(|it| Batch::read(&it.body).spans.len()).sum();
        assert!(later < 20_000 - 32, "nothing was thrown away, so all of it was kept");
    }
}

#[test]
fn only_the_environment_turns_it_on_and_what_it_cannot_do_is_said() {
    let start = |variables: &[(&str, &str)]| {
        let text = run("how_it_starts", variables);
        said(&text, "start").to_owned()
    };
    let collector = Collector::start(Some("200 OK"));
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.address);
    assert_eq!(start(&[]), "nothing");
    assert_eq!(start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), "nothing");
    assert_eq!(start(&[endpoint]), "exports");
    assert_eq!(start(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.1)]), "exports");
    assert_eq!(start(&[endpoint, ("OTEL_SDK_DISABLED", "true")]), "nothing");
    assert_eq!(start(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), "nothing");
    assert_eq!(
        start(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318")]),
        "OTEL_EXPORTER_OTLP_ENDPOINT: `https://collector:4318` must begin with http://: there is \
         no TLS here"
    );
    let text = run("how_it_starts", &[]);
    assert_eq!(said(&text, "worker"), "none");
}
