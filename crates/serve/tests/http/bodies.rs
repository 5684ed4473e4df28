//! Where bodies lie, and in which formats they come and go.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use exuvia_core::{Copied, Failure, OutcomeFuture, Payload, SHARED_FROM};
use exuvia_serve::ServerConfig;
use serde_json::json;

use crate::support::{
    AlmostReady, Client, Counts, Live, chunked, eventually, letters, outcome, post, route, start,
    start_with,
};

fn large() -> ServerConfig {
    ServerConfig {
        max_body: 300_000,
        body_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    }
}

/// Whether this process has memory for a payload of just this many bytes.
fn holds(length: u64) -> bool {
    let is_it = |path: std::path::PathBuf| {
        let named = fs::read_link(&path)
            .is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:exuvia-payload"));
        named && fs::metadata(&path).is_ok_and(|memory| memory.size() == length)
    };
    fs::read_dir("/proc/self/fd").unwrap().flatten().any(|entry| is_it(entry.path()))
}

/// A client that has sent `sent` of the `declared` bytes of a body.
fn midway(server: &Live, declared: usize, sent: usize) -> Client {
    let mut client = server.connect();
    client.send(format!(
        "POST /t/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: {declared}\r\n\r\n"
    ));
    client.send(letters(sent));
    eventually("half of the body lies in memory", || holds(sent as u64));
    client
}

#[test]
fn a_body_lies_in_memory_that_can_be_shared_just_where_it_is_above_64_kib() {
    let server = start(ServerConfig::default());
    for length in [1, 4096, SHARED_FROM - 1, SHARED_FROM, SHARED_FROM + 1, 1_234_567] {
        let body = letters(length);
        let expected = json!({ "shared": length > SHARED_FROM, "same": true });
        for request in [
            |path: &str, body: &str| post(path, &[], body),
            |path: &str, body: &str| chunked(path, body, 1000),
            |path: &str, body: &str| chunked(path, body, 100_000),
        ] {
            assert_eq!(server.once(request("/t/memory", &body)).json(), expected, "{length}");
            assert!(server.once(request("/t/echo", &body)).text() == body, "{length}");
        }
    }
}

#[test]
fn a_body_that_comes_slowly_is_whole() {
    let server = start(ServerConfig::default());
    let body = letters(3 * SHARED_FROM);
    let request = post("/t/echo", &[], &body);
    let mut client = server.connect();
    for piece in request.as_bytes().chunks(SHARED_FROM / 2) {
        client.send(piece);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(client.answer().text() == body);
}

#[test]
fn a_large_body_is_held_to_the_same_limits() {
    let server = start(large());
    assert_eq!(server.post("/t/echo", &letters(300_000)).status, 200);
    server.post("/t/echo", &letters(300_001)).problem(413, "too_large");
    let mut client = server.connect();
    // The rest of it is not read any more.
    let _ = client.stream.write_all(chunked("/t/echo", &letters(400_000), 50_000).as_bytes());
    client.answer().problem(413, "too_large");
    assert!(client.is_closed());
    let mut slow = midway(&server, 200_000, 123_457);
    slow.answer().problem(408, "request_timeout");
    assert!(slow.is_closed());
    eventually("its memory is given back", || !holds(123_457));
    assert_eq!(server.counts.started.load(SeqCst), 1);
}

#[test]
fn a_client_that_goes_away_midway_leaves_no_call_and_no_memory() {
    let server = start(ServerConfig::default());
    drop(midway(&server, 2_000_000, 765_433));
    eventually("its memory is given back", || !holds(765_433));
    eventually("the connection ends", || {
        server.metrics.render().contains("exuvia_http_connections 0")
    });
    assert_eq!(server.counts.started.load(SeqCst), 0);
}

#[test]
fn memory_of_a_body_ends_with_its_call() {
    let counts = Arc::new(Counts::default());
    let keep = route("keep", &counts, |call| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            outcome(Ok(call.payload))
        })
    });
    let config = ServerConfig::default();
    let server =
        start_with(vec![keep], counts, Arc::new(AlmostReady), config, Duration::from_secs(5));
    let mut client = server.connect();
    client.send(post("/t/keep", &[], &letters(456_791)));
    eventually("the body lies in memory", || holds(456_791));
    assert!(client.answer().text() == letters(456_791));
    eventually("its memory is given back", || !holds(456_791));
}

#[test]
fn every_format_is_known_by_its_media_types() {
    let server = start(ServerConfig::default());
    for (media, codec) in [
        ("application/json", "Json"),
        ("application/json; table=rows", "JsonRows"),
        ("application/json; table=columns", "JsonColumns"),
        ("application/x-ndjson", "Ndjson"),
        ("text/csv", "Csv"),
        ("application/csv", "Csv"),
        ("application/vnd.apache.arrow.stream", "ArrowStream"),
        ("application/x-apache-arrow-stream", "ArrowStream"),
        ("application/vnd.apache.arrow.file", "ArrowFile"),
        ("application/vnd.apache.parquet", "Parquet"),
        ("application/parquet", "Parquet"),
        ("application/x-parquet", "Parquet"),
        ("application/x-npy", "Npy"),
        ("application/vnd.exuvia.value+msgpack", "Value"),
    ] {
        let content_type = format!("content-type: {media}");
        let read = server.once(post("/t/describe", &[&content_type], "x"));
        assert_eq!(read.json()["codec"], codec, "{media}");
        let accept = format!("accept: {media}");
        let asked = server.once(post("/t/describe", &[&accept], "{}"));
        assert_eq!(asked.json()["accept"], codec, "{media}");
        let written = server.once(post("/t/echo", &[&accept], "x"));
        assert_eq!((written.status, written.header("content-type")), (200, Some(media)));
    }
}

#[test]
fn a_format_that_is_not_known_is_refused_with_those_that_are() {
    let server = start(ServerConfig::default());
    let understood = [
        "table=columns",
        "text/csv",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.parquet",
        "application/x-npy",
    ];
    let excel = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    let refused =
        |header: &str| server.once(post("/t/echo", &[&format!("{header}: {excel}")], "x"));
    let problems = [
        refused("content-type").problem(415, "unsupported_media_type"),
        refused("accept").problem(406, "not_acceptable"),
    ];
    for problem in problems {
        let detail = problem["detail"].as_str().unwrap();
        assert!(understood.iter().all(|media| detail.contains(media)), "{detail}");
    }
    assert_eq!(server.counts.started.load(SeqCst), 0);
}

#[test]
fn copies_are_counted_in_the_answer_also_of_a_call_that_failed() {
    let counts = Arc::new(Counts::default());
    let copied = |bytes| Copied { what: "column \"x\"".into(), bytes, why: "it has nulls".into() };
    let with = move |result: fn() -> Result<Payload, Failure>| {
        move |_| -> OutcomeFuture {
            let mut outcome = outcome(result());
            outcome.diagnostics.copies = vec![copied(70_080), copied(8)];
            Box::pin(async move { outcome })
        }
    };
    let routes = vec![
        route("fine", &counts, with(|| Ok(Payload::json("1")))),
        route("failed", &counts, with(|| Err(Failure::Cancelled))),
        route("none", &counts, |_| Box::pin(async { outcome(Ok(Payload::json("1"))) })),
    ];
    let config = ServerConfig::default();
    let server = start_with(routes, counts, Arc::new(AlmostReady), config, Duration::from_secs(5));
    let header = |path: &str| server.post(path, "{}").header("exuvia-copies").map(str::to_owned);
    assert_eq!(header("/t/fine").as_deref(), Some("2; bytes=70088"));
    assert_eq!(header("/t/failed").as_deref(), Some("2; bytes=70088"));
    assert_eq!(header("/t/none"), None);
}
