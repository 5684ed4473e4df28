//! Ending well.

use std::{
    net::TcpStream,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use exuvia_serve::{Backend, Drained, Readiness, ServerConfig};

use crate::support::{Counts, eventually, get, post, start, start_with, usual};

struct Half;

impl Backend for Half {
    fn readiness(&self) -> Readiness {
        Readiness { ready: false, reason: "1 of 2 workers ready".to_owned() }
    }
}

#[test]
fn what_runs_is_finished_and_what_rests_is_closed() {
    let mut server = start(ServerConfig::default());
    let mut fresh = server.connect();
    let mut resting = server.connect();
    resting.send(post("/t/echo", &[], "1"));
    assert_eq!(resting.answer().header("connection"), None);
    let mut running = server.connect();
    running.send(post("/t/sleep", &[], "{}"));
    eventually("the call starts", || server.counts.started.load(SeqCst) == 2);
    server.stop();
    assert!(resting.is_closed());
    assert!(fresh.is_closed());
    eventually("the door is shut", || TcpStream::connect(server.addr).is_err());
    let answer = running.answer();
    assert_eq!(answer.text(), "\"slept\"");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(running.is_closed());
    drop((fresh, resting, running));
    assert_eq!(server.join(), Drained { aborted: 0 });
}

#[test]
fn the_deadline_cuts_off_what_is_left() {
    let counts = Arc::new(Counts::default());
    let mut server = start_with(
        usual(&counts),
        Arc::clone(&counts),
        Arc::new(Half),
        ServerConfig::default(),
        Duration::from_millis(200),
    );
    let mut client = server.connect();
    client.send(post("/t/forever", &[], "{}"));
    eventually("the call starts", || counts.started.load(SeqCst) == 1);
    let began = Instant::now();
    server.stop();
    assert_eq!(server.join(), Drained { aborted: 1 });
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    assert_eq!(counts.dropped.load(SeqCst), 1);
    assert!(client.is_closed());
}

#[test]
fn readiness_goes_before_the_door_shuts() {
    let mut server =
        start(ServerConfig { unready_for: Duration::from_millis(500), ..ServerConfig::default() });
    assert_eq!(server.once(get("/readyz")).text(), "2 of 2 workers ready\n");
    server.stop();
    let not_ready = || server.once(get("/readyz"));
    eventually("it is not ready", || not_ready().status == 503);
    let problem = not_ready().problem(503, "not_ready");
    assert!(problem["detail"].as_str().unwrap().contains("shutting down"));
    assert_eq!(server.post("/t/echo", "1").text(), "1");
    assert_eq!(server.once(get("/healthz")).status, 200);
    assert_eq!(server.join(), Drained { aborted: 0 });
    assert!(TcpStream::connect(server.addr).is_err());
}

#[test]
fn a_backend_that_is_not_ready_says_why() {
    let counts = Arc::new(Counts::default());
    let server = start_with(
        usual(&counts),
        Arc::clone(&counts),
        Arc::new(Half),
        ServerConfig::default(),
        Duration::ZERO,
    );
    let problem = server.once(get("/readyz")).problem(503, "not_ready");
    assert_eq!(problem["detail"], "1 of 2 workers ready");
    assert_eq!(problem["responsible"], "infrastructure");
    assert_eq!(server.once(get("/healthz")).status, 200);
}
