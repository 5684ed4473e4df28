//! Bodies that come packed, and answers that go so.

use std::{
    io::{Read as _, Write as _},
    sync::{Arc, atomic::Ordering::SeqCst},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use exuvia_core::{Codec, Failure, Payload, Rest, payload::Pieces};
use exuvia_serve::ServerConfig;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::support::{
    AlmostReady, Answer, Counts, Live, eventually, get, letters, outcome, post, reader, route,
    start, start_with, usual,
};

const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];

fn packed(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::fast();
    match coding {
        "gzip" => {
            let mut to = flate2::write::GzEncoder::new(Vec::new(), level);
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        }
        "deflate" => {
            let mut to = flate2::write::ZlibEncoder::new(Vec::new(), level);
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        }
        "br" => {
            let mut to = brotli::CompressorWriter::new(Vec::new(), 4096, 3, 20);
            to.write_all(bytes).unwrap();
            to.into_inner()
        }
        _ => zstd::encode_all(bytes, 1).unwrap(),
    }
}

fn unpacked(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let read = match coding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut all),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut all),
        _ => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut all),
    };
    read.unwrap();
    all
}

/// A `POST` of bytes that are packed so.
fn post_packed(path: &str, coding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: {coding}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn a_packed_body_is_what_was_packed() {
    let server = start(ServerConfig::default());
    let (short, long) = ("[1,2,3]", letters(3_000_000));
    for coding in CODINGS {
        for body in [short, &long] {
            let answer =
                server.once(post_packed("/t/echo", coding, &packed(coding, body.as_bytes())));
            assert!(answer.status == 200 && answer.text() == body, "{coding}");
        }
        // What becomes large goes to the worker in memory, like any other large body.
        let shared = post_packed("/t/memory", coding, &packed(coding, long.as_bytes()));
        assert_eq!(server.once(shared).text(), r#"{"shared":true,"same":true}"#, "{coding}");
        assert_eq!(server.once(post_packed("/t/describe", coding, b"")).json()["codec"], "Empty");
    }
}

#[test]
fn the_limit_holds_for_what_comes_out() {
    let server = start(ServerConfig { max_body: 1 << 18, ..ServerConfig::default() });
    let zeros = vec![b'0'; 8 << 20];
    for coding in CODINGS {
        let small = packed(coding, &zeros);
        assert!(small.len() < 1 << 18, "{coding}");
        let answer = server.once(post_packed("/t/echo", coding, &small));
        let problem = answer.problem(413, "too_large");
        assert!(problem["detail"].as_str().unwrap().contains("unpacked"), "{problem}");
    }
    assert_eq!(server.counts.started.load(SeqCst), 0);
}

#[test]
fn what_is_not_what_it_says_is_told_so() {
    let server = start(ServerConfig::default());
    for coding in CODINGS {
        let whole = packed(coding, letters(300_000).as_bytes());
        for body in [&whole[..whole.len() / 2], b"this is not packed at all, is it?"] {
            let answer = server.once(post_packed("/t/echo", coding, body));
            let problem = answer.problem(400, "bad_request");
            assert!(problem["detail"].as_str().unwrap().contains(coding), "{problem}");
        }
    }
    for (coding, part) in [("compress", "gzip, deflate, br or zstd"), ("gzip, br", "once")] {
        let problem = server
            .once(post_packed("/t/echo", coding, b"1"))
            .problem(415, "unsupported_media_type");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    }
    assert_eq!(server.counts.started.load(SeqCst), 0);
}

#[test]
fn a_handler_that_reads_gets_a_packed_body_unpacked_as_it_comes() {
    let counts = Arc::new(Counts::default());
    let reads = reader("reads", &counts, |call| {
        Box::pin(async move {
            let feed = call.payload.feed.expect("a feed");
            let socket = Arc::into_inner(feed.0).expect("the only one");
            let all = tokio::task::spawn_blocking(move || {
                let mut socket = std::fs::File::from(socket);
                let mut all = Vec::new();
                loop {
                    let mut length = [0; 4];
                    socket.read_exact(&mut length).unwrap();
                    match u32::from_le_bytes(length) {
                        0 => return all,
                        length => {
                            let mut piece = vec![0; length as usize];
                            socket.read_exact(&mut piece).unwrap();
                            all.extend_from_slice(&piece);
                        }
                    }
                }
            });
            outcome(Ok(Payload::new(Codec::Ndjson, all.await.unwrap())))
        })
    });
    let config = ServerConfig::default();
    let server = start_with(vec![reads], counts, Arc::new(AlmostReady), config, Duration::ZERO);
    let lines: String = (0..40_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    for coding in CODINGS {
        let body = packed(coding, lines.as_bytes());
        let mut client = server.connect();
        client.send(format!(
            "POST /t/reads HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\n\
             content-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ));
        for piece in body.chunks(body.len() / 5) {
            client.send(piece);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(client.answer().text() == lines, "{coding}");
    }
}

fn packing() -> ServerConfig {
    ServerConfig { compress: true, ..ServerConfig::default() }
}

fn asked(server: &Live, accept: &str, body: &str) -> Answer {
    let mut client = server.connect();
    let accept = format!("accept-encoding: {accept}");
    client.send(post("/t/echo", &[&accept], body));
    let mut answer = client.answer();
    if answer.header("transfer-encoding") == Some("chunked") {
        while let Some(chunk) = client.chunk() {
            answer.body.extend_from_slice(&chunk);
        }
    }
    answer
}

#[test]
fn answers_are_packed_only_where_the_server_was_told_to() {
    let server = start(ServerConfig::default());
    let answer = asked(&server, "gzip, br, zstd", &letters(5000));
    assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
}

#[test]
fn an_answer_is_packed_as_its_client_reads_best() {
    let server = start(packing());
    let (short, long) = (letters(5000), letters(3_000_000));
    for (accept, coding) in [
        ("gzip", "gzip"),
        ("gzip, br", "br"),
        ("gzip, br, zstd", "zstd"),
        ("br;q=0.1, gzip", "gzip"),
    ] {
        for body in [&short, &long] {
            let answer = asked(&server, accept, body);
            assert_eq!(answer.header("content-encoding"), Some(coding));
            assert_eq!(answer.header("vary"), Some("accept-encoding"));
            assert!(answer.body.len() < body.len() / 2, "{accept} {}", answer.body.len());
            assert!(unpacked(coding, &answer.body) == body.as_bytes(), "{accept}");
        }
        assert_eq!(asked(&server, accept, "[1]").header("content-encoding"), None);
    }
    for accept in ["identity", "gzip;q=0", "deflate"] {
        let answer = asked(&server, accept, &short);
        assert_eq!((answer.header("content-encoding"), answer.text()), (None, short.as_str()));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
}

#[test]
fn tables_in_formats_of_their_own_are_never_packed() {
    let server = start(packing());
    let body = letters(5000);
    for media in ["application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"] {
        let accept = format!("accept: {media}");
        let answer = server.once(post("/t/echo", &["accept-encoding: gzip", &accept], &body));
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.header("vary"), None);
    }
}

/// Pieces as a test hands them out.
struct Gated(UnboundedReceiver<&'static str>);

impl Pieces for Gated {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<Failure>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Bytes::from(piece))))
    }
}

#[test]
fn each_piece_of_a_stream_can_be_read_before_the_next_is_made() {
    for coding in ["gzip", "br", "zstd"] {
        let counts = Arc::new(Counts::default());
        let (pieces, came) = unbounded_channel();
        let came = std::sync::Mutex::new(Some(came));
        let streams = route("streams", &counts, move |_| {
            let rest = came.lock().unwrap().take().map(|came| Rest::new(Gated(came)));
            let payload = Payload { rest, ..Payload::new(Codec::Ndjson, "") };
            Box::pin(async move { outcome(Ok(payload)) })
        });
        let mut routes = usual(&counts);
        routes.push(streams);
        let server = start_with(routes, counts, Arc::new(AlmostReady), packing(), Duration::ZERO);
        let mut client = server.connect();
        let headers = [&*format!("accept-encoding: {coding}"), "accept: application/x-ndjson"];
        client.send(post("/t/streams", &headers, "{}"));
        pieces.send("{\"n\":1}\n").unwrap();
        let head = client.answer_without_body();
        assert_eq!(head.header("content-encoding"), Some(coding));
        let mut all = client.chunk().unwrap();
        assert_eq!(so_far(coding, &all), b"{\"n\":1}\n", "{coding}");
        pieces.send("{\"n\":2}\n").unwrap();
        all.extend(client.chunk().unwrap());
        assert_eq!(so_far(coding, &all), b"{\"n\":1}\n{\"n\":2}\n", "{coding}");
        drop(pieces);
        while let Some(chunk) = client.chunk() {
            all.extend(chunk);
        }
        assert_eq!(unpacked(coding, &all), b"{\"n\":1}\n{\"n\":2}\n", "{coding}");
    }
}

/// What can be read of bytes that are not all there.
fn so_far(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut decoder: Box<dyn std::io::Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        _ => Box::new(zstd::Decoder::new(bytes).unwrap()),
    };
    let mut all = Vec::new();
    let mut buffer = [0; 100];
    // It ends in an error, because more was to come.
    while let Ok(length @ 1..) = decoder.read(&mut buffer) {
        all.extend_from_slice(&buffer[..length]);
    }
    all
}

#[test]
fn a_large_packed_answer_keeps_nobody_waiting() {
    let server = start(packing());
    let mut client = server.connect();
    client.send(post("/t/echo", &["accept-encoding: br"], &letters(30_000_000)));
    eventually("it is made", || server.counts.finished.load(SeqCst) == 1);
    assert_eq!(server.once(get("/healthz")).text(), "ok\n");
    // It had not all been sent by then.
    client.stream.set_nonblocking(true).unwrap();
    let mut said = Vec::new();
    let _ = client.stream.read_to_end(&mut said);
    assert!(!said.ends_with(b"0\r\n\r\n"), "the other waited");
    client.stream.set_nonblocking(false).unwrap();
    while !said.ends_with(b"0\r\n\r\n") {
        let mut some = [0; 4096];
        let length = client.stream.read(&mut some).unwrap();
        said.extend_from_slice(&some[..length]);
    }
}
