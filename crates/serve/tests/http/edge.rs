//! What is done around every request: ids, the access log, `Expect`, pipelining.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use exuvia_serve::{AccessFormat, AccessLog, ServerConfig};
use serde_json::Value;

use crate::support::{CALL_ID, eventually, get, post, start};

/// Where a test's access log goes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for this many.
    #[track_caller]
    fn wait(&self, count: usize) -> Vec<Value> {
        eventually("the lines are written", || self.all().len() >= count);
        self.all()
    }
}

fn logged() -> (ServerConfig, Lines) {
    let lines = Lines::default();
    let log = AccessLog::start(AccessFormat::Json, lines.clone()).unwrap();
    (ServerConfig { access_log: Some(log), ..ServerConfig::default() }, lines)
}

#[test]
fn a_request_id_goes_back_to_who_sent_one() {
    let server = start(ServerConfig::default());
    let of = |headers: &[&str]| {
        let answer = server.once(post("/t/echo", headers, "1"));
        answer.header("x-request-id").map(str::to_owned)
    };
    assert_eq!(of(&[]), None);
    assert_eq!(of(&["x-request-id: abc/1.2:3+4=_-"]).as_deref(), Some("abc/1.2:3+4=_-"));
    for bad in ["x-request-id: a b", "x-request-id: ", "x-request-id: a\r\nx-request-id: b"] {
        let made = of(&[bad]).expect("an id");
        assert!(made.len() == 17 && made.as_bytes()[8] == b'-', "{made}");
    }
    let refused = server.once("GET /nowhere HTTP/1.1\r\nhost: x\r\nx-request-id: n\r\n\r\n");
    assert_eq!((refused.status, refused.header("x-request-id")), (404, Some("n")));
}

#[test]
fn every_request_has_its_line_and_its_id() {
    let (config, lines) = logged();
    let server = start(config);
    let headers = ["user-agent: test \"1\"", "x-request-id: mine"];
    let answer = server.once(post("/t/echo?x=%0a", &headers, "[1,2]"));
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    let line = &lines.wait(1)[0];
    assert_eq!(line["method"], "POST");
    assert_eq!(line["path"], "/t/echo?x=%0a");
    assert_eq!(line["protocol"], "HTTP/1.1");
    assert_eq!(line["status"], 200);
    assert_eq!(line["bytes"], 5);
    assert!(line["route"].as_str().unwrap().ends_with("/t/echo"), "{line}");
    assert_eq!(line["request_id"], "mine");
    assert_eq!(line["call_id"], CALL_ID);
    assert_eq!(line["user_agent"], "test \\\"1\\\"");
    assert!(line["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(line["ms"].as_f64().unwrap() >= 0.0);
    let answer = server.once(get("/nowhere"));
    let made = answer.header("x-request-id").unwrap().to_owned();
    let line = &lines.wait(2)[1];
    assert_eq!((&line["status"], &line["request_id"]), (&Value::from(404), &Value::from(made)));
    assert!(line.get("call_id").is_none(), "{line}");
    server.once("nonsense\r\n\r\n");
    let line = &lines.wait(3)[2];
    assert_eq!(line["status"], 400);
    assert!(line.get("path").is_none(), "{line}");
}

#[test]
fn a_client_that_goes_away_has_its_line_too() {
    let (config, lines) = logged();
    let server = start(config);
    let mut client = server.connect();
    client.send(post("/t/forever", &[], "{}"));
    eventually("the call starts", || server.counts.started.load(SeqCst) == 1);
    drop(client);
    let line = &lines.wait(1)[0];
    assert_eq!((&line["status"], &line["whole"]), (&Value::from(499), &Value::from(false)));
}

#[test]
fn a_log_that_nobody_reads_stops_no_answer() {
    /// Never takes a byte, until the test is over.
    struct Stalled(Mutex<std::sync::mpsc::Receiver<()>>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error is the end of the test.
            let _ = self.0.lock().unwrap().recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let (over, stalled) = std::sync::mpsc::channel();
    let log = AccessLog::start(AccessFormat::Human, Stalled(Mutex::new(stalled))).unwrap();
    let server = start(ServerConfig { access_log: Some(log), ..ServerConfig::default() });
    let mut client = server.connect();
    for _ in 0..100 {
        client.send(post("/t/echo", &[], "1").repeat(60));
        for _ in 0..60 {
            assert_eq!(client.answer().text(), "1");
        }
    }
    drop(over);
}

#[test]
fn who_asks_first_and_is_refused_is_not_told_to_go_on() {
    let server = start(ServerConfig::default());
    let asks = |method: &str, path: &str, more: &str| {
        let mut client = server.connect();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
             content-length: 1000\r\n{more}\r\n"
        ));
        let status = client.answer().status;
        // Whatever it would send now is no request of its own.
        let _ = client.stream.write_all(get("/healthz").as_bytes());
        let said = client.until_closed().unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(&said), "");
        status
    };
    assert_eq!(asks("POST", "/nowhere", ""), 404);
    assert_eq!(asks("PATCH", "/t/echo", ""), 405);
    assert_eq!(asks("POST", "/t/echo", "content-type: text/html\r\n"), 415);
    assert_eq!(asks("POST", "/t/echo", "accept: text/html\r\n"), 406);
    assert_eq!(server.counts.started.load(SeqCst), 0);
}

#[test]
fn requests_that_come_together_are_answered_in_turn() {
    let server = start(ServerConfig::default());
    let mut client = server.connect();
    let mut all = String::new();
    for n in 0..50 {
        all += &post("/t/echo", &[], &n.to_string());
        all += "HEAD /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    }
    client.send(all);
    for n in 0..50 {
        assert_eq!(client.answer().text(), n.to_string());
        let head = client.answer_without_body();
        assert_eq!((head.status, head.header("content-length")), (200, Some("3")));
    }
    client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(std::io::Read::read(&mut client.stream, &mut [0]).is_err(), "more came");
}
