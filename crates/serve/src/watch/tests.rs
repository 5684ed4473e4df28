//! What the record tells, and what it keeps to itself.

use super::*;

fn watch() -> Arc<Watch> {
    let name = |route: &str| RouteName { route: route.into(), handler: "shop:price".into() };
    Watch::new(vec![name("POST /shop/price"), name("GET /shop")], true)
}

fn diagnostics(call_id: &str) -> Diagnostics {
    Diagnostics { call_id: call_id.into(), worker: Some(3), ..Diagnostics::default() }
}

fn state(watch: &Watch) -> Value {
    watch.state(&Surroundings {
        ready: true,
        reason: "1 of 1 workers ready",
        backend: &BackendState::default(),
        broken: &[],
        connections: 1,
        in_flight: 0,
        stubs: &[],
    })
}

fn call(watch: &Arc<Watch>, id: &str, took: Duration, failure: Option<&Failure>) {
    let now = Instant::now();
    let mut seen = watch.began(0, now);
    let status = if failure.is_some() { 500 } else { 200 };
    seen.ended(&diagnostics(id), status, failure, now + took);
}

#[test]
fn a_call_is_seen_while_it_runs_and_after_it() {
    let watch = watch();
    let mut seen = watch.began(0, Instant::now());
    seen.named("aa-01");
    let during = state(&watch);
    assert_eq!(during["running"][0]["route"], "POST /shop/price");
    assert_eq!(during["running"][0]["id"], "aa-01");
    assert_eq!(during["routes"][0]["in_flight"], 1);
    assert_eq!(during["routes"][0]["p50_ms"], Value::Null);
    seen.ended(&diagnostics("aa-01"), 200, None, Instant::now());
    drop(seen);
    let after = state(&watch);
    assert_eq!(after["running"], json!([]));
    assert_eq!(after["calls"][0]["id"], "aa-01");
    assert_eq!(after["calls"][0]["worker"], 3);
    assert_eq!(after["calls"][0]["has_more"], false);
    assert_eq!(after["routes"][0]["calls"], 1);
    assert_eq!(after["routes"][0]["errors"], 0);
    assert_eq!(after["routes"][0]["in_flight"], 0);
}

#[test]
fn percentiles_are_of_the_last_512_calls() {
    let watch = watch();
    for _ in 0..600 {
        call(&watch, "a", Duration::from_millis(900), None);
    }
    for number in 1..=512 {
        call(&watch, "a", Duration::from_millis(number), None);
    }
    let state = state(&watch);
    assert_eq!(state["routes"][0]["p50_ms"], 256.0);
    assert_eq!(state["routes"][0]["p99_ms"], 507.0);
    assert_eq!(state["routes"][0]["calls"], 1112);
    assert_eq!(state["routes"][1]["p50_ms"], Value::Null);
}

#[test]
fn the_last_200_calls_are_there_the_newest_first() {
    let watch = watch();
    for number in 0..250 {
        call(&watch, &format!("id-{number}"), Duration::ZERO, None);
    }
    let state = state(&watch);
    let calls = state["calls"].as_array().expect("calls");
    assert_eq!((calls.len(), &calls[0]["id"]), (200, &json!("id-249")));
    assert_eq!(calls[199]["id"], "id-50");
    assert_eq!(watch.call("id-49"), None);
    assert_eq!(watch.call("id-50").expect("a call")["status"], 200);
}

#[test]
fn who_goes_away_is_counted_and_is_no_error() {
    let watch = watch();
    let mut seen = watch.began(1, Instant::now());
    seen.waits(true);
    assert_eq!(state(&watch)["routes"][1]["waiting"], 1);
    drop(seen);
    let state = state(&watch);
    assert_eq!(state["calls"][0]["status"], 499);
    assert_eq!(state["routes"][1]["errors"], 0);
    assert_eq!(state["routes"][1]["waiting"], 0);
    assert_eq!(state["routes"][1]["in_flight"], 0);
}

#[test]
fn a_failure_is_found_long_after_it_left_the_last_calls() {
    let watch = watch();
    let failure = Failure::Exception {
        class: "KeyError".into(),
        message: "'x'".into(),
        traceback: "Traceback ...".into(),
        frames: Vec::new(),
    };
    watch.output("bad", "stdout", "looking for x");
    call(&watch, "bad", Duration::ZERO, Some(&failure));
    for _ in 0..300 {
        call(&watch, "good", Duration::ZERO, None);
    }
    let state = state(&watch);
    assert_eq!(state["failures"][0]["id"], "bad");
    assert_eq!(state["failures"][0]["kind"], "exception");
    let bad = watch.call("bad").expect("a call");
    assert_eq!(bad["detail"], "KeyError: 'x'");
    assert_eq!(bad["exception"]["traceback"], "Traceback ...");
    assert_eq!(bad["output"], json!([{ "stream": "stdout", "text": "looking for x" }]));
    assert_eq!(bad["has_more"], true);
}

#[test]
fn what_handlers_say_is_not_kept_where_errors_are_not_exposed() {
    let name = RouteName { route: "POST /a".into(), handler: "a:a".into() };
    let watch = Watch::new(vec![name], false);
    watch.output("bad", "stderr", "secret");
    call(&watch, "bad", Duration::ZERO, Some(&Failure::Host { message: "secret".into() }));
    let broken = Broken {
        module: "risk".into(),
        file: Some("risk.py".into()),
        message: "secret".into(),
        traceback: "secret".into(),
    };
    let state = watch.state(&Surroundings {
        ready: true,
        reason: "",
        backend: &BackendState::default(),
        broken: &[broken],
        connections: 0,
        in_flight: 0,
        stubs: &[],
    });
    assert_eq!(state["broken"][0]["module"], "risk");
    let call = watch.call("bad").expect("a call");
    assert_eq!(call["kind"], "host");
    assert!(!format!("{state}{call}").contains("secret"));
}

#[test]
fn moments_are_written_as_rfc_3339() {
    let watch = watch();
    call(&watch, "a", Duration::ZERO, None);
    let at = state(&watch)["calls"][0]["at"].as_str().map(str::to_owned).expect("a text");
    assert!(DateTime::parse_from_rfc3339(&at).is_ok() && at.ends_with('Z'), "{at}");
}
