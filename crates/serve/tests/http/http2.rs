//! HTTP/2 by prior knowledge: what goes well, and what a client may not do.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use bytes::Bytes;
use exuvia_core::{Payload, Rest, payload::Pieces};
use exuvia_serve::{Drained, ServerConfig};
use h2::{
    Reason, RecvStream,
    client::{Builder, SendRequest},
};
use http::{Method, Request, Response};
use serde_json::Value;

use crate::support::{
    AlmostReady, Client, Counts, Live, eventually, get, letters, outcome, post, route, start,
    start_with, usual,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const LONG: Duration = Duration::from_secs(5);

/// Talks with a server over one connection.
fn talk<T>(
    server: impl Into<SocketAddr>,
    act: impl AsyncFnOnce(&mut SendRequest<Bytes>) -> T,
) -> T {
    talk_as(server, &Builder::new(), act)
}

/// The same, with the client's own settings.
fn talk_as<T>(
    server: impl Into<SocketAddr>,
    builder: &Builder,
    act: impl AsyncFnOnce(&mut SendRequest<Bytes>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(server.into()).await.unwrap();
        let (mut send, connection) = builder.handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let result = act(&mut send).await;
        connection.abort();
        result
    })
}

fn request(method: Method, path: &str) -> Request<()> {
    let uri = format!("http://localhost{path}");
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

/// A request whose body is there, on its way.
async fn ask(
    send: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &str,
) -> impl Future<Output = Result<Response<RecvStream>, h2::Error>> + use<> {
    *send = send.clone().ready().await.unwrap();
    let (answer, mut to) = send.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        to.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    }
    answer
}

/// What is left of an answer's body.
async fn rest(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len()).unwrap();
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

async fn whole(
    answer: impl Future<Output = Result<Response<RecvStream>, h2::Error>>,
) -> (Response<()>, Vec<u8>) {
    let (parts, mut body) = answer.await.unwrap().into_parts();
    let all = rest(&mut body).await.unwrap();
    (Response::from_parts(parts, ()), all)
}

async fn posted(send: &mut SendRequest<Bytes>, path: &str, body: &str) -> (Response<()>, Vec<u8>) {
    whole(ask(send, request(Method::POST, path), body).await).await
}

fn kind(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap();
    problem["type"].as_str().unwrap().to_owned()
}

#[test]
fn a_slow_call_keeps_no_other_of_its_connection_waiting() {
    let server = start(ServerConfig::default());
    talk(server.addr, async |send| {
        let slow = ask(send, request(Method::POST, "/t/sleep"), "{}").await;
        let slow = tokio::spawn(whole(slow));
        for n in 0..50 {
            let (answer, body) = posted(send, "/t/echo", &n.to_string()).await;
            assert_eq!((answer.status().as_u16(), body), (200, n.to_string().into_bytes()));
            assert!(answer.headers().contains_key("exuvia-call-id"));
        }
        assert!(!slow.is_finished());
        assert_eq!(slow.await.unwrap().1, b"\"slept\"");
    });
    let metrics = server.metrics.render();
    assert!(metrics.contains("exuvia_http_requests_in_flight 0"), "{metrics}");
}

#[test]
fn a_large_body_comes_and_goes_whole() {
    let server = start(ServerConfig::default());
    let body = letters(3_000_000);
    talk(server.addr, async |send| {
        let (answer, came) = posted(send, "/t/echo", &body).await;
        assert_eq!(answer.headers()["content-length"], "3000000");
        assert!(came == body.as_bytes());
        let (_, memory) = posted(send, "/t/memory", &body).await;
        assert_eq!(memory, br#"{"shared":true,"same":true}"#);
    });
}

#[test]
fn refusals_are_the_same_and_end_nothing_else() {
    let server = start(ServerConfig { max_body: 1000, ..ServerConfig::default() });
    talk(server.addr, async |send| {
        let mut announced = request(Method::POST, "/t/echo");
        announced.headers_mut().insert("content-length", "1001".parse().unwrap());
        let (answer, body) = whole(ask(send, announced, &letters(1001)).await).await;
        assert_eq!(
            (answer.status().as_u16(), kind(&body).as_str()),
            (413, "urn:exuvia:problem:too_large")
        );
        assert!(!answer.headers().contains_key("connection"));
        let (answer, body) = posted(send, "/t/echo", &letters(5000)).await;
        assert_eq!(
            (answer.status().as_u16(), kind(&body).as_str()),
            (413, "urn:exuvia:problem:too_large")
        );
        let (answer, _) = posted(send, "/t/nowhere", "{}").await;
        assert_eq!(answer.status(), 404);
        let mut two = request(Method::POST, "/t/echo");
        two.headers_mut().insert("host", "elsewhere".parse().unwrap());
        let (answer, body) = whole(ask(send, two, "1").await).await;
        assert_eq!(
            (answer.status().as_u16(), kind(&body).as_str()),
            (400, "urn:exuvia:problem:bad_request")
        );
        assert_eq!(posted(send, "/t/echo", "1").await.1, b"1");
    });
}

#[test]
fn a_request_names_its_host() {
    let server = start(ServerConfig::default());
    talk(server.addr, async |send| {
        let nameless = Request::builder().uri("/healthz").body(()).unwrap();
        let (answer, body) = whole(ask(send, nameless, "").await).await;
        assert_eq!(
            (answer.status().as_u16(), kind(&body).as_str()),
            (400, "urn:exuvia:problem:bad_request")
        );
        let mut host = Request::builder().uri("/healthz").body(()).unwrap();
        host.headers_mut().insert("host", "localhost".parse().unwrap());
        assert_eq!(whole(ask(send, host, "").await).await.1, b"ok\n");
    });
}

#[test]
fn an_answer_to_head_has_a_length_and_no_body() {
    let server = start(ServerConfig::default());
    talk(server.addr, async |send| {
        let (answer, body) = whole(ask(send, request(Method::HEAD, "/healthz"), "").await).await;
        assert_eq!((answer.status().as_u16(), body.len()), (200, 0));
        assert_eq!(answer.headers()["content-length"], "3");
    });
}

#[test]
fn a_stream_that_is_reset_cancels_its_call_and_no_other() {
    let server = start(ServerConfig::default());
    talk(server.addr, async |send| {
        let mut forever = Vec::new();
        for _ in 0..2 {
            let (answer, mut to) =
                send.clone().send_request(request(Method::POST, "/t/forever"), false).unwrap();
            to.send_data(Bytes::from_static(b"{}"), true).unwrap();
            forever.push((answer, to));
        }
        // Answered after those were taken.
        posted(send, "/t/echo", "1").await;
        let (_answer, mut to) = forever.pop().unwrap();
        to.send_reset(Reason::CANCEL);
        while server.counts.dropped.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        posted(send, "/t/echo", "1").await;
        assert_eq!(server.counts.dropped.load(SeqCst), 1);
    });
    // The other goes with its connection.
    eventually("the call is cancelled", || server.counts.dropped.load(SeqCst) == 2);
    eventually("nothing is left", || {
        server.metrics.render().contains("exuvia_http_requests_in_flight 0")
    });
}

#[test]
fn a_client_that_does_not_take_its_answer_loses_it_and_keeps_the_others() {
    let config = ServerConfig { write_timeout: Duration::from_secs(1), ..ServerConfig::default() };
    let server = start(config);
    let body = letters(2_000_000);
    let mut builder = Builder::new();
    builder.initial_window_size(100_000).initial_connection_window_size(4 << 20);
    talk_as(server.addr, &builder, async |send| {
        let answer = ask(send, request(Method::POST, "/t/echo"), &body).await.await.unwrap();
        let mut held = answer.into_body();
        let began = Instant::now();
        // Meanwhile, and after, others are answered.
        while began.elapsed() < Duration::from_millis(2500) {
            assert_eq!(posted(send, "/t/echo", "1").await.1, b"1");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error = rest(&mut held).await.unwrap_err();
        assert!(error.is_reset(), "{error}");
        // Who reads, slowly, gets all of it.
        let answer = ask(send, request(Method::POST, "/t/echo"), &body).await.await.unwrap();
        let mut slow = answer.into_body();
        let mut got = 0;
        while let Some(piece) = slow.data().await {
            got += piece.as_ref().unwrap().len();
            tokio::time::sleep(Duration::from_millis(10)).await;
            slow.flow_control().release_capacity(piece.unwrap().len()).unwrap();
        }
        assert_eq!(got, body.len());
    });
}

#[test]
fn a_call_may_take_longer_than_any_of_the_clients_limits() {
    let server = start(ServerConfig {
        header_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(50),
        body_timeout: Duration::from_millis(50),
        write_timeout: Duration::from_millis(50),
        ..ServerConfig::default()
    });
    talk(server.addr, async |send| {
        assert_eq!(posted(send, "/t/sleep", "{}").await.1, b"\"slept\"");
    });
}

#[test]
fn a_body_that_stops_is_refused_in_time() {
    let config =
        ServerConfig { body_timeout: Duration::from_millis(200), ..ServerConfig::default() };
    let server = start(config);
    talk(server.addr, async |send| {
        let (answer, mut to) =
            send.clone().send_request(request(Method::POST, "/t/echo"), false).unwrap();
        to.send_data(Bytes::from_static(b"12345"), false).unwrap();
        let (answer, body) = whole(answer).await;
        assert_eq!(
            (answer.status().as_u16(), kind(&body).as_str()),
            (408, "urn:exuvia:problem:request_timeout")
        );
        assert_eq!(posted(send, "/t/echo", "1").await.1, b"1");
    });
}

/// Two pieces, then a failure or the end.
struct Two(u32, bool);

impl Pieces for Two {
    fn poll_next(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Bytes, Box<exuvia_core::Failure>>>> {
        self.0 += 1;
        std::task::Poll::Ready(match self.0 {
            1 | 2 => Some(Ok(Bytes::from_static(b"[1]\n"))),
            _ if self.1 => Some(Err(Box::new(exuvia_core::Failure::Cancelled))),
            _ => None,
        })
    }
}

#[test]
fn a_streamed_answer_ends_or_is_reset() {
    let counts = Arc::new(Counts::default());
    let streamed = |breaks: bool| {
        move |call: exuvia_core::Call| -> exuvia_core::OutcomeFuture {
            let rest = Some(Rest::new(Two(0, breaks)));
            let payload = Payload { rest, ..Payload::new(call.accept, Bytes::new()) };
            Box::pin(async move { outcome(Ok(payload)) })
        }
    };
    let routes =
        vec![route("ends", &counts, streamed(false)), route("breaks", &counts, streamed(true))];
    let server = start_with(routes, counts, Arc::new(AlmostReady), ServerConfig::default(), LONG);
    talk(server.addr, async |send| {
        let (answer, body) = posted(send, "/t/ends", "{}").await;
        assert_eq!((answer.status().as_u16(), body), (200, b"[1]\n[1]\n".to_vec()));
        let answer = ask(send, request(Method::POST, "/t/breaks"), "{}").await.await.unwrap();
        let error = rest(&mut answer.into_body()).await.unwrap_err();
        assert!(error.is_reset(), "{error}");
    });
}

#[test]
fn what_runs_is_finished_before_the_connection_is_closed() {
    let mut server = start(ServerConfig::default());
    let counts = Arc::clone(&server.counts);
    talk(server.addr, async |send| {
        let slow = ask(send, request(Method::POST, "/t/sleep"), "{}").await;
        while counts.started.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.stop();
        assert_eq!(whole(slow).await.1, b"\"slept\"");
    });
    assert_eq!(server.join(), Drained { aborted: 0 });
}

#[test]
fn the_deadline_cancels_calls() {
    let counts = Arc::new(Counts::default());
    let mut server = start_with(
        usual(&counts),
        Arc::clone(&counts),
        Arc::new(AlmostReady),
        ServerConfig::default(),
        Duration::from_millis(200),
    );
    talk(server.addr, async |send| {
        let forever = ask(send, request(Method::POST, "/t/forever"), "{}").await;
        while counts.started.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.stop();
        assert!(forever.await.is_err());
    });
    assert_eq!(server.join(), Drained { aborted: 1 });
    assert_eq!(counts.dropped.load(SeqCst), 1);
}

/// A client that writes frames itself.
fn raw(server: &Live) -> Client {
    let mut client = server.connect();
    client.send(PREFACE);
    client.send(frame(4, 0, 0, &[]));
    client
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `POST /t/forever` to localhost, without Huffman or any memory of earlier headers.
fn forever() -> Vec<u8> {
    let mut headers = vec![0x83, 0x86, 0x04, 10];
    headers.extend_from_slice(b"/t/forever");
    headers.extend_from_slice(&[0x01, 9]);
    headers.extend_from_slice(b"localhost");
    headers
}

/// What the server says until it closes, and the reason it gives for that.
#[track_caller]
fn goodbye(client: &mut Client) -> Option<u32> {
    client.stream.set_read_timeout(Some(LONG)).unwrap();
    let mut said = Vec::new();
    if let Err(error) = client.stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it does not close");
    }
    let mut at = 0;
    let mut reason = None;
    while let Some(head) = said.get(at..at + 9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == 7 {
            let code = said[at + 13..at + 17].try_into().unwrap();
            reason = Some(u32::from_be_bytes(code));
        }
        at += 9 + length;
    }
    reason
}

#[track_caller]
fn still_lives(server: &Live) {
    assert_eq!(server.once(get("/healthz")).text(), "ok\n");
}

#[test]
fn streams_that_are_opened_only_to_be_reset_end_the_connection() {
    let server = start(ServerConfig::default());
    let mut client = raw(&server);
    let mut all = Vec::new();
    for n in 0..2000 {
        all.extend(frame(1, 5, 2 * n + 1, &forever()));
        all.extend(frame(3, 0, 2 * n + 1, &8u32.to_be_bytes()));
    }
    // It may be closed before all is sent.
    let _ = client.stream.write_all(&all);
    assert!(matches!(goodbye(&mut client), Some(11) | None));
    eventually("every call is cancelled", || {
        server.counts.dropped.load(SeqCst) == server.counts.started.load(SeqCst)
    });
    assert!(server.counts.started.load(SeqCst) < 1000);
    still_lives(&server);
}

#[test]
fn a_head_without_end_ends_the_connection() {
    let server = start(ServerConfig { max_header: 8 << 10, ..ServerConfig::default() });
    let mut client = raw(&server);
    let _ = client.stream.write_all(&frame(1, 1, 1, &forever()));
    // A header that is not remembered: 1000 letters under a name of one.
    let mut header = vec![0, 1, b'x', 0x7f, 0xe9, 0x06];
    header.extend(std::iter::repeat_n(b'y', 1000));
    for _ in 0..2000 {
        if client.stream.write_all(&frame(9, 0, 1, &header)).is_err() {
            break;
        }
    }
    assert!(goodbye(&mut client).is_none_or(|reason| reason != 0));
    assert_eq!(server.counts.started.load(SeqCst), 0);
    still_lives(&server);
}

#[test]
fn a_head_over_the_limit_is_refused() {
    let server = start(ServerConfig { max_header: 8 << 10, ..ServerConfig::default() });
    talk(server.addr, async |send| {
        let mut large = request(Method::POST, "/t/echo");
        large.headers_mut().insert("x", letters(10_000).parse().unwrap());
        let answer = ask(send, large, "1").await.await;
        // h2's client is told the limit, and may not even send it.
        match answer {
            Ok(answer) => assert_eq!(answer.status(), 431),
            Err(error) => assert!(error.is_reset() || error.is_library(), "{error}"),
        }
        assert_eq!(posted(send, "/t/echo", "1").await.1, b"1");
    });
}

#[test]
fn a_connection_that_rests_is_told_and_closed() {
    let config = ServerConfig {
        header_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(200),
        ..ServerConfig::default()
    };
    let server = start(config);
    let mut client = raw(&server);
    assert_eq!(goodbye(&mut client), Some(0));
    // Also one that says things which are no requests.
    let mut client = raw(&server);
    let began = Instant::now();
    while client.stream.write_all(&frame(6, 0, 0, b"12345678")).is_ok() {
        std::thread::sleep(Duration::from_millis(10));
        assert!(began.elapsed() < LONG, "it is kept by pings");
    }
    eventually("both are closed", || server.metrics.render().contains("exuvia_http_connections 0"));
}

#[test]
fn the_preface_begins_a_connection_or_is_refused() {
    let server = start(ServerConfig::default());
    let mut client = server.connect();
    client.send(post("/t/echo", &[], "1"));
    assert_eq!(client.answer().text(), "1");
    client.send(PREFACE);
    let problem = client.answer().problem(400, "bad_request");
    assert!(problem["detail"].as_str().unwrap().contains("HTTP/2"), "{problem}");
    assert!(client.is_closed());
    // It may come in pieces.
    let mut client = server.connect();
    for byte in PREFACE {
        client.send([*byte]);
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut head = [0; 9];
    client.stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "settings");
}
