//! Answers that are still being made when they go out.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use exuvia_core::{Failure, Payload, Rest, payload::Pieces};
use exuvia_serve::{Drained, Route, ServerConfig};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::{
    AlmostReady, BrokenOff, Client, Counts, Live, eventually, outcome, post, route, start_with,
    usual,
};

type Piece = Result<Bytes, Box<Failure>>;

/// Pieces as a test hands them out.
struct Gated {
    pieces: UnboundedReceiver<Piece>,
    dropped: Arc<AtomicBool>,
}

/// The test's side of a streamed call. Without it there are no more pieces.
struct Gate {
    pieces: UnboundedSender<Piece>,
    /// The pieces are asked for no more.
    dropped: Arc<AtomicBool>,
}

/// Pieces without end, and how much was taken of them.
struct Endless(Arc<AtomicUsize>, Arc<AtomicBool>);

impl Pieces for Gated {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.pieces.poll_recv(cx)
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        self.dropped.store(true, SeqCst);
    }
}

impl Pieces for Endless {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.0.fetch_add(16 << 10, SeqCst);
        Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; 16 << 10]))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.1.store(true, SeqCst);
    }
}

impl Gate {
    fn give(&self, text: &'static str) {
        self.pieces.send(Ok(Bytes::from_static(text.as_bytes()))).unwrap();
    }

    fn fail(&self) {
        let failure = Failure::Exception {
            class: "KeyError".to_owned(),
            message: "'x'".to_owned(),
            traceback: String::new(),
            frames: Vec::new(),
        };
        self.pieces.send(Err(Box::new(failure))).unwrap();
    }
}

/// A route whose one call streams what the gate is given.
fn gated(counts: &Arc<Counts>) -> (Route, Gate) {
    let (sender, receiver) = unbounded_channel();
    let dropped = Arc::new(AtomicBool::new(false));
    let pieces = Mutex::new(Some(Gated { pieces: receiver, dropped: Arc::clone(&dropped) }));
    let streams = route("gated", counts, move |call| {
        assert!(call.streams, "the client takes pieces");
        let rest = pieces.lock().unwrap().take().map(Rest::new);
        let payload = Payload { rest, ..Payload::new(call.accept, "") };
        Box::pin(async move { outcome(Ok(payload)) })
    });
    (streams, Gate { pieces: sender, dropped })
}

fn start_gated(config: ServerConfig, deadline: Duration) -> (Live, Gate) {
    let counts = Arc::new(Counts::default());
    let (streams, gate) = gated(&counts);
    let mut routes = usual(&counts);
    routes.push(streams);
    (start_with(routes, counts, Arc::new(AlmostReady), config, deadline), gate)
}

/// A client that has asked for the pieces and has the head of the answer.
fn asked(server: &Live, version: &str) -> Client {
    let mut client = server.connect();
    client.send(format!(
        "POST /t/gated HTTP/{version}\r\nhost: localhost\r\naccept: text/csv\r\n\
         content-length: 2\r\n\r\n{{}}"
    ));
    let head = client.answer_without_body();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/csv")));
    assert!(head.header("exuvia-call-id").is_some());
    let chunked = (version == "1.1").then_some("chunked");
    assert_eq!((head.header("transfer-encoding"), head.header("content-length")), (chunked, None));
    client
}

#[track_caller]
fn counted(server: &Live, status: u16) {
    eventually("the request is counted", || {
        let page = server.metrics.render();
        let line =
            format!("exuvia_http_requests_total{{route=\"/t/gated\",status=\"{status}\"}} 1");
        page.contains(&line) && page.contains("exuvia_http_requests_in_flight 0")
    });
}

const LONG: Duration = Duration::from_secs(5);

#[test]
fn pieces_go_out_one_by_one_and_the_connection_lives_on() {
    let (server, gate) = start_gated(ServerConfig::default(), LONG);
    // The head comes before there is any piece, each piece before the next is made.
    let mut client = asked(&server, "1.1");
    for text in ["a,b\n", "1,2\n", "3,4\n"] {
        gate.give(text);
        assert_eq!(client.chunk().as_deref(), Some(text.as_bytes()));
    }
    assert!(server.metrics.render().contains("exuvia_http_requests_in_flight 1"));
    gate.give("");
    gate.give("5,6\n");
    drop(gate);
    assert_eq!(client.chunk().as_deref(), Some(&b"5,6\n"[..]), "an empty piece is not the end");
    assert_eq!(client.chunk(), None);
    counted(&server, 200);
    client.send(post("/t/echo", &[], "[1]"));
    assert_eq!(client.answer().text(), "[1]");
}

#[test]
fn a_stream_may_be_slower_than_any_of_the_clients_limits() {
    let short = Duration::from_millis(50);
    let config = ServerConfig {
        header_timeout: short,
        idle_timeout: short,
        body_timeout: short,
        write_timeout: short,
        ..ServerConfig::default()
    };
    let (server, gate) = start_gated(config, LONG);
    let mut client = asked(&server, "1.1");
    for _ in 0..3 {
        std::thread::sleep(4 * short);
        gate.give("x");
        assert_eq!(client.chunk().as_deref(), Some(&b"x"[..]));
    }
    drop(gate);
    assert_eq!(client.chunk(), None);
}

#[test]
fn a_stream_that_fails_midway_never_seems_to_end() {
    let (server, gate) = start_gated(ServerConfig::default(), LONG);
    let mut client = asked(&server, "1.1");
    // In one breath with the failure: what was made before it is not lost.
    gate.give("a,b\n");
    gate.fail();
    assert_eq!(client.chunk().as_deref(), Some(&b"a,b\n"[..]));
    assert_eq!(client.try_chunk(), Err(BrokenOff));
    counted(&server, 500);
    assert!(gate.dropped.load(SeqCst));
}

#[test]
fn an_old_client_has_the_stream_until_the_connection_ends() {
    let (server, gate) = start_gated(ServerConfig::default(), LONG);
    let mut client = asked(&server, "1.0");
    gate.give("a,b\n");
    gate.give("1,2\n");
    drop(gate);
    assert_eq!(client.until_closed().unwrap(), b"a,b\n1,2\n");
    counted(&server, 200);
}

#[test]
fn an_old_client_can_tell_a_stream_that_broke_off_from_one_that_ended() {
    let (server, gate) = start_gated(ServerConfig::default(), LONG);
    let mut client = asked(&server, "1.0");
    gate.give("a,b\n");
    gate.fail();
    let error = client.until_closed().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    // The same where the server is at its end.
    let (mut server, gate) = start_gated(ServerConfig::default(), Duration::from_millis(100));
    let mut client = asked(&server, "1.0");
    gate.give("a,b\n");
    server.stop();
    assert_eq!(server.join(), Drained { aborted: 1 });
    let error = client.until_closed().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_goes_away_ends_its_stream() {
    let (server, gate) = start_gated(ServerConfig::default(), LONG);
    let mut client = asked(&server, "1.1");
    gate.give("x");
    assert!(client.chunk().is_some());
    drop(client);
    eventually("the call is dropped", || gate.dropped.load(SeqCst));
    counted(&server, 499);
}

/// A server of one stream without end, what was taken of it, and whether it was dropped.
fn start_endless(config: ServerConfig) -> (Live, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let (taken, dropped) = <(Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
    let counts = Arc::new(Counts::default());
    let (of_route, ends) = (Arc::clone(&taken), Arc::clone(&dropped));
    let endless = route("endless", &counts, move |call| {
        let rest = Rest::new(Endless(Arc::clone(&of_route), Arc::clone(&ends)));
        let payload = Payload { rest: Some(rest), ..Payload::new(call.accept, "") };
        Box::pin(async move { outcome(Ok(payload)) })
    });
    let mut routes = usual(&counts);
    routes.push(endless);
    (start_with(routes, counts, Arc::new(AlmostReady), config, LONG), taken, dropped)
}

#[test]
fn a_client_that_reads_slowly_pauses_the_stream() {
    let (server, taken, dropped) = start_endless(ServerConfig::default());
    let mut client = server.connect();
    client.send(post("/t/endless", &[], "{}"));
    assert_eq!(client.answer_without_body().status, 200);
    // It fills the buffers of the sockets, and stops.
    let mut before = 0;
    eventually("the stream stops", || {
        let now = taken.load(SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut before, now) == taken.load(SeqCst) && now > 0
    });
    let stopped = taken.load(SeqCst);
    assert!(stopped < 32 << 20, "{stopped}");
    // Others are served meanwhile, and it goes on with the client.
    assert_eq!(server.post("/t/echo", "1").status, 200);
    let mut read = 0;
    while read < stopped + (1 << 20) {
        read += client.chunk().unwrap().len();
    }
    assert!(!dropped.load(SeqCst));
    drop(client);
    eventually("the call is dropped", || dropped.load(SeqCst));
}

#[test]
fn a_client_that_does_not_read_its_stream_is_let_go() {
    let config =
        ServerConfig { write_timeout: Duration::from_millis(300), ..ServerConfig::default() };
    let (server, _, dropped) = start_endless(config);
    let mut client = server.connect();
    client.send(post("/t/endless", &[], "{}"));
    eventually("the call is dropped", || dropped.load(SeqCst));
    drop(client);
}

#[test]
fn a_stream_is_finished_before_the_server_ends() {
    let (mut server, gate) = start_gated(ServerConfig::default(), LONG);
    let mut client = asked(&server, "1.1");
    gate.give("x");
    assert!(client.chunk().is_some());
    server.stop();
    eventually("the door is shut", || std::net::TcpStream::connect(server.addr).is_err());
    gate.give("y");
    assert_eq!(client.chunk().as_deref(), Some(&b"y"[..]));
    drop(gate);
    assert_eq!(client.chunk(), None);
    assert!(client.is_closed());
    assert_eq!(server.join(), Drained { aborted: 0 });
}

#[test]
fn a_stream_that_outlives_the_deadline_is_cut_off() {
    let (mut server, gate) = start_gated(ServerConfig::default(), Duration::from_millis(100));
    let mut client = asked(&server, "1.1");
    gate.give("x");
    assert!(client.chunk().is_some());
    server.stop();
    assert_eq!(client.try_chunk(), Err(BrokenOff));
    assert_eq!(server.join(), Drained { aborted: 1 });
    assert!(gate.dropped.load(SeqCst));
}
