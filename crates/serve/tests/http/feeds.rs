//! Bodies that go to the handler while they still come.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst, mpsc},
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use exuvia_core::{Call, Failure, Feed, Payload, Rest, payload::Pieces};
use exuvia_serve::ServerConfig;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{
    AlmostReady, BrokenOff, Client, Counts, Live, eventually, letters, outcome, post, reader,
    route, start_with, usual,
};

const LONG: Duration = Duration::from_secs(5);

/// The worker's end of a feed.
struct Fed(File);

/// What came through a feed.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Piece(Vec<u8>),
    End,
    BrokenOff,
}

impl Fed {
    /// Takes the descriptor, as its worker would: nobody else has it then.
    fn of(payload: Payload) -> Self {
        let Feed(socket) = payload.feed.expect("a feed");
        let socket: OwnedFd = Arc::into_inner(socket).expect("the only one");
        Self(File::from(socket))
    }

    fn next(&mut self) -> Came {
        let mut length = [0; 4];
        match self.0.read_exact(&mut length).map(|()| u32::from_le_bytes(length)) {
            Ok(0) => Came::End,
            Ok(length) => {
                assert!(length <= 64 << 10, "{length}");
                let mut piece = vec![0; length as usize];
                self.0.read_exact(&mut piece).unwrap();
                Came::Piece(piece)
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                Came::BrokenOff
            }
        }
    }
}

struct Channel(UnboundedReceiver<Result<Bytes, Box<Failure>>>);

impl Pieces for Channel {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<Failure>>>> {
        self.0.poll_recv(cx)
    }
}

fn malformed() -> Failure {
    Failure::Malformed { message: "the data is incomplete".to_owned() }
}

/// Answers with each piece as it comes.
fn copies(call: Call) -> exuvia_core::OutcomeFuture {
    let accept = call.accept;
    if call.payload.feed.is_none() {
        return Box::pin(async move { outcome(Ok(Payload::new(accept, call.payload.body))) });
    }
    let mut fed = Fed::of(call.payload);
    let (sender, receiver) = unbounded_channel();
    thread::spawn(move || {
        loop {
            let piece = match fed.next() {
                Came::Piece(bytes) => Ok(Bytes::from(bytes)),
                Came::End => return,
                Came::BrokenOff => Err(Box::new(malformed())),
            };
            let last = piece.is_err();
            if sender.send(piece).is_err() || last {
                return;
            }
        }
    });
    let payload = Payload { rest: Some(Rest::new(Channel(receiver))), ..Payload::new(accept, "") };
    Box::pin(async move { outcome(Ok(payload)) })
}

/// Answers with how much came, once all has.
fn counts_bytes(call: Call) -> exuvia_core::OutcomeFuture {
    let mut fed = Fed::of(call.payload);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let mut length = 0;
        let result = loop {
            match fed.next() {
                Came::Piece(bytes) => length += bytes.len(),
                Came::End => break Ok(Payload::json(length.to_string())),
                Came::BrokenOff => break Err(malformed()),
            }
        };
        let _ = sender.send(result);
    });
    Box::pin(async move { outcome(receiver.await.unwrap()) })
}

fn how(call: Call) -> exuvia_core::OutcomeFuture {
    let text = format!(r#"{{"fed":{}}}"#, call.payload.feed.is_some());
    Box::pin(async move { outcome(Ok(Payload::json(text))) })
}

fn start(config: ServerConfig) -> Live {
    let counts = Arc::new(Counts::default());
    let mut routes = usual(&counts);
    routes.push(reader("copies", &counts, copies));
    routes.push(reader("counts", &counts, counts_bytes));
    routes.push(reader("how", &counts, how));
    routes.push(route("waits", &counts, how));
    start_with(routes, counts, Arc::new(AlmostReady), config, LONG)
}

fn small() -> ServerConfig {
    ServerConfig {
        max_body: 1000,
        body_timeout: Duration::from_millis(200),
        ..ServerConfig::default()
    }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A client that has sent this much of a body in CSV.
fn begun(server: &Live, path: &str, text: &str) -> Client {
    let mut client = server.connect();
    client.send(format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/csv\r\naccept: text/csv\r\n\
         transfer-encoding: chunked\r\n\r\n{}",
        chunk(text)
    ));
    client
}

#[test]
fn the_answer_begins_while_the_body_still_comes() {
    let server = start(ServerConfig::default());
    let mut client = begun(&server, "/t/copies", "a,b\n");
    let head = client.answer_without_body();
    assert_eq!((head.status, head.header("connection")), (200, None));
    assert_eq!(client.chunk().as_deref(), Some(&b"a,b\n"[..]));
    for row in ["1,2\n", "3,4\n"] {
        client.send(chunk(row));
        assert_eq!(client.chunk().as_deref(), Some(row.as_bytes()));
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk(), None);
    client.send(post("/t/echo", &[], "[1]"));
    assert_eq!(client.answer().text(), "[1]", "the connection lives on");
}

#[test]
fn a_body_of_known_length_is_fed_just_the_same() {
    let server = start(ServerConfig::default());
    let body = letters(300_000);
    let request = post("/t/counts", &["content-type: application/x-ndjson"], &body);
    let (head, rest) = request.split_at(request.len() - 290_000);
    let mut client = server.connect();
    client.send(head);
    thread::sleep(Duration::from_millis(50));
    client.send(rest);
    assert_eq!(client.answer().text(), "300000");
    client.send(post("/t/echo", &[], "[1]"));
    assert_eq!(client.answer().text(), "[1]", "the connection lives on");
}

#[test]
fn only_a_reader_is_fed_and_only_what_can_be_read_from_the_front() {
    let server = start(ServerConfig::default());
    let sent = |path: &str, media: &str, halves: bool| {
        let request = post(path, &[&format!("content-type: {media}")], &letters(100));
        let (head, rest) = request.split_at(request.len() - 50);
        let mut client = server.connect();
        if halves {
            client.send(head);
            thread::sleep(Duration::from_millis(30));
            client.send(rest);
        } else {
            client.send(&request);
        }
        client.answer().json()["fed"].clone()
    };
    for media in ["text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream"] {
        assert_eq!(sent("/t/how", media, true), json!(true), "{media}");
        assert_eq!(sent("/t/how", media, false), json!(false), "{media}: it is there at once");
        assert_eq!(sent("/t/waits", media, true), json!(false), "{media}: no reader");
    }
    for media in ["application/json", "application/vnd.apache.parquet", "application/x-npy"] {
        assert_eq!(sent("/t/how", media, true), json!(false), "{media}");
    }
}

#[test]
fn a_fed_body_is_held_to_the_same_limits() {
    let server = start(small());
    let mut client = begun(&server, "/t/counts", &letters(600));
    client.send(chunk(&letters(600)));
    client.answer().problem(413, "too_large");
    assert!(client.is_closed());
    let mut client = begun(&server, "/t/counts", &letters(600));
    client.answer().problem(408, "request_timeout");
    assert!(client.is_closed());
    let mut client = begun(&server, "/t/counts", &letters(600));
    client.send("zz\r\n");
    client.answer().problem(400, "bad_request");
    assert!(client.is_closed());
    eventually("the calls are taken back", || server.counts.dropped.load(SeqCst) == 3);
}

#[test]
fn a_body_that_breaks_off_breaks_the_answer_that_has_begun() {
    for (what, rest) in [("nothing", String::new()), ("too much", chunk(&letters(1000)))] {
        let server = start(small());
        let mut client = begun(&server, "/t/copies", "a,b\n");
        assert_eq!(client.answer_without_body().status, 200);
        assert_eq!(client.chunk().as_deref(), Some(&b"a,b\n"[..]));
        client.send(rest);
        assert_eq!(client.try_chunk(), Err(BrokenOff), "{what}");
    }
}

#[test]
fn a_client_that_goes_away_ends_its_feed_and_its_call() {
    let (server, feeds, tell) = start_by_hand(ServerConfig::default());
    let client = begun(&server, "/t/hand", "a,b\n");
    let mut fed = feeds.recv_timeout(LONG).unwrap();
    assert_eq!(fed.next(), Came::Piece(b"a,b\n".to_vec()));
    drop(client);
    assert_eq!(fed.next(), Came::BrokenOff);
    eventually("the call is dropped", || server.counts.dropped.load(SeqCst) == 1);
    drop(tell);
    eventually("the connection ends", || {
        server.metrics.render().contains("exuvia_http_connections 0")
    });
}

/// A server of one reader that is handed its feed by the test, and answers when it is told to.
fn start_by_hand(config: ServerConfig) -> (Live, mpsc::Receiver<Fed>, mpsc::Sender<()>) {
    let (to_test, feeds) = mpsc::channel();
    let (tell, told) = mpsc::channel::<()>();
    let told = Arc::new(Mutex::new(told));
    let counts = Arc::new(Counts::default());
    let by_hand = reader("hand", &counts, move |call| {
        to_test.send(Fed::of(call.payload)).unwrap();
        let told = Arc::clone(&told);
        Box::pin(async move {
            let wait = move || told.lock().unwrap().recv().is_ok();
            tokio::task::spawn_blocking(wait).await.unwrap();
            outcome(Ok(Payload::json("\"enough\"")))
        })
    });
    let mut routes = usual(&counts);
    routes.push(by_hand);
    (start_with(routes, counts, Arc::new(AlmostReady), config, LONG), feeds, tell)
}

#[test]
fn a_handler_that_wants_no_more_is_waited_for_and_ends_the_connection() {
    let (server, feeds, tell) = start_by_hand(small());
    let mut client = begun(&server, "/t/hand", "a,b\n");
    let mut fed = feeds.recv_timeout(LONG).unwrap();
    assert_eq!(fed.next(), Came::Piece(b"a,b\n".to_vec()));
    drop(fed);
    // The client is not late any more: nobody waits for it.
    thread::sleep(2 * small().body_timeout);
    tell.send(()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "\"enough\""));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn a_handler_that_answers_early_leaves_the_rest_unread() {
    let (server, feeds, tell) = start_by_hand(ServerConfig::default());
    let mut client = begun(&server, "/t/hand", "a,b\n");
    let mut fed = feeds.recv_timeout(LONG).unwrap();
    assert_eq!(fed.next(), Came::Piece(b"a,b\n".to_vec()));
    tell.send(()).unwrap();
    let answer = client.answer();
    assert_eq!((answer.text(), answer.header("connection")), ("\"enough\"", Some("close")));
    assert_eq!(fed.next(), Came::BrokenOff);
    assert!(client.is_closed());
}

#[test]
fn a_handler_that_reads_slowly_pauses_the_client() {
    let (server, feeds, tell) = start_by_hand(ServerConfig { max_body: 1 << 30, ..small() });
    let mut client = begun(&server, "/t/hand", "a,b\n");
    let mut fed = feeds.recv_timeout(LONG).unwrap();
    client.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // Longer than a body may pause: it is not the client who pauses.
    let row = chunk(&letters(64 << 10));
    let mut sent = 0;
    let stuck = loop {
        match client.stream.write(&row.as_bytes()[sent % row.len()..]) {
            Ok(written) => sent += written,
            Err(error) => break error,
        }
        assert!(sent < 64 << 20, "it is not paused");
    };
    assert_eq!(stuck.kind(), io::ErrorKind::WouldBlock);
    let rest = row.as_bytes()[sent % row.len()..].to_vec();
    let rows = sent.div_ceil(row.len());
    let mut stream = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        stream.set_write_timeout(None).unwrap();
        stream.write_all(&rest).unwrap();
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let (mut came, mut ended) = (0, false);
    while !ended {
        match fed.next() {
            Came::Piece(bytes) => came += bytes.len(),
            Came::End => ended = true,
            Came::BrokenOff => panic!("after {came} bytes"),
        }
    }
    sender.join().unwrap();
    assert_eq!(came, 4 + rows * (64 << 10));
    tell.send(()).unwrap();
    assert_eq!(client.answer().header("connection"), None, "all of the body was read");
}
