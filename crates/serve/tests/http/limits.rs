//! What is too large, too slow, or not HTTP at all.

use std::{
    io::Write as _,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use exuvia_serve::ServerConfig;

use crate::support::{Live, eventually, get, post, start};

fn small() -> ServerConfig {
    ServerConfig {
        max_body: 1000,
        max_header: 8 << 10,
        header_timeout: Duration::from_millis(200),
        body_timeout: Duration::from_millis(200),
        write_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(500),
        ..ServerConfig::default()
    }
}

/// The same for bodies that take their time on a busy machine.
fn large() -> ServerConfig {
    let long = Duration::from_secs(10);
    ServerConfig { max_body: 64 << 20, header_timeout: long, body_timeout: long, ..small() }
}

#[track_caller]
fn still_lives(server: &Live) {
    assert_eq!(server.once(get("/healthz")).text(), "ok\n");
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let server = start(small());
    assert_eq!(server.post("/t/echo", &"x".repeat(1000)).status, 200);
    let mut client = server.connect();
    client.send("POST /t/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1001\r\n\r\n");
    let answer = client.answer();
    let problem = answer.problem(413, "too_large");
    assert!(problem["detail"].as_str().unwrap().contains("1000 bytes"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed());
    // More than any buffer between the two: the answer must get past what is still being sent.
    let mut client = server.connect();
    client.send("POST /t/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20000000\r\n\r\n");
    let _ = client.stream.write_all(&vec![b'x'; 4 << 20]);
    client.answer().problem(413, "too_large");
    assert_eq!(server.counts.started.load(SeqCst), 1);
}

#[test]
fn a_chunked_body_is_cut_off_where_it_passes_the_limit() {
    let server = start(small());
    let head = "POST /t/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = server.once(format!("{head}3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n"));
    assert_eq!((answer.status, answer.text()), (200, "[1,2]"));
    let mut client = server.connect();
    client.send(format!("{head}190\r\n{}\r\n", "x".repeat(400)));
    client.send(format!("190\r\n{}\r\n", "x".repeat(400)));
    client.send(format!("190\r\n{}\r\n", "x".repeat(400)));
    client.answer().problem(413, "too_large");
    assert!(client.is_closed());
}

#[test]
fn broken_chunks_are_named_and_end_the_connection() {
    let server = start(small());
    for body in ["zz\r\nabc\r\n0\r\n\r\n", "3\r\nabcdef\r\n0\r\n\r\n", "fffffffffffffffff\r\n"] {
        let mut client = server.connect();
        client
            .send("POST /t/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(body);
        let problem = client.answer().problem(400, "bad_request");
        assert!(problem["detail"].as_str().unwrap().contains("framing"), "{problem}");
        assert!(client.is_closed(), "{body}");
    }
    still_lives(&server);
}

#[test]
fn what_is_not_http_is_told_so_and_ends_the_connection() {
    let server = start(small());
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = "x".repeat(9000);
    for (request, status, kind) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET /\u{1} HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(), 400, "bad_request"),
        (
            "POST /t/echo HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "POST /t/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
                .to_owned(),
            400,
            "bad_request",
        ),
        (
            "POST /t/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431, "header_too_large"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"), 431, "header_too_large"),
        (
            format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "x".repeat(200_000)),
            431,
            "header_too_large",
        ),
        ("\u{16}\u{3}\u{1}\0\0".to_owned(), 400, "bad_request"),
    ] {
        let mut client = server.connect();
        let _ = client.stream.write_all(request.as_bytes());
        let answer = client.answer();
        answer.problem(status, kind);
        assert_eq!(answer.header("connection"), Some("close"), "{request:.60}");
        assert!(client.is_closed(), "{request:.60}");
    }
    still_lives(&server);
}

#[test]
fn a_refusal_after_a_good_request_does_not_eat_its_answer() {
    let server = start(small());
    let mut client = server.connect();
    client.send(post("/t/echo", &[], "[1]") + "nonsense\r\n\r\n");
    assert_eq!(client.answer().text(), "[1]");
    assert_eq!(client.answer().status, 400);
    assert!(client.is_closed());
}

#[test]
fn what_follows_trailers_or_an_unread_body_in_chunks_is_no_request() {
    let server = start(small());
    let hidden = post("/t/echo", &[], "\"hidden\"");
    for (path, status) in [("/t/echo", 200), ("/t/nowhere", 404), ("/healthz", 405)] {
        for end in ["0\r\n\n", "0\r\nx: y\n\r\n", "0\r\nx: y\r\n\r\n", "0\r\n\r\n"] {
            let mut client = server.connect();
            client.send(format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\n[1]\r\n\
                 {end}POST /t/echo HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{hidden}",
                hidden.len()
            ));
            let answer = client.answer();
            let whole = status == 200 && end == "0\r\n\r\n";
            assert_eq!(
                (answer.status, answer.header("connection") == Some("close")),
                (status, !whole)
            );
            let rest = client.until_closed().unwrap_or_default();
            let rest = String::from_utf8_lossy(&rest);
            // Where the body was read to its end, the request after it is one, with its own body.
            assert_eq!(rest.matches("HTTP/1.1").count(), usize::from(whole) * 2, "{path} {end:?}");
        }
    }
}

#[test]
fn a_body_comes_in_chunks_and_nothing_else() {
    let server = start(small());
    for encoding in [
        "gzip, chunked",
        "identity, chunked",
        "chunked, chunked",
        ", chunked",
        "chunked\r\ntransfer-encoding: chunked",
        "identity\r\ntransfer-encoding: chunked",
    ] {
        let mut client = server.connect();
        client.send(format!(
            "POST /t/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: {encoding}\r\n\r\n\
             3\r\n[1]\r\n0\r\n\r\n"
        ));
        client.answer().problem(400, "bad_request");
        assert!(client.is_closed(), "{encoding}");
    }
    let spaced = "POST /t/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding:  CHUNKED \r\n\r\n";
    assert_eq!(server.once(format!("{spaced}3\r\n[1]\r\n0\r\n\r\n")).text(), "[1]");
    assert_eq!(server.counts.started.load(SeqCst), 1);
}

#[test]
fn a_length_beyond_all_limits_is_refused() {
    let server = start(small());
    for (length, status, kind) in [
        ("18446744073709551615", 400, "bad_request"),
        ("18446744073709551614", 400, "bad_request"),
        ("999999999999999999", 413, "too_large"),
    ] {
        let mut client = server.connect();
        client
            .send(format!("POST /t/echo HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n"));
        client.answer().problem(status, kind);
        assert!(client.is_closed(), "{length}");
    }
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_its_answer() {
    let server = start(large());
    let mut client = server.connect();
    client.send(post("/t/echo", &[], &"x".repeat(16 << 20)));
    let (began, mut got) = (Instant::now(), 0);
    let mut some = vec![0; 64 << 10];
    while got < 16 << 20 {
        got += std::io::Read::read(&mut client.stream, &mut some).unwrap();
        // Far less than lets a socket take more, within the time in which a client has to read.
        if began.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_client_that_reads_nothing_is_reset() {
    let server = start(large());
    let mut client = server.connect();
    client.send(post("/t/echo", &[], &"x".repeat(32 << 20)));
    eventually("the connection ends", || {
        server.metrics.render().contains("exuvia_http_connections 0")
    });
    // What the kernel still held for it is gone: an ordinary end would come after it.
    let error = client.until_closed().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn a_length_beside_chunks_is_ignored_and_ends_the_connection() {
    let server = start(small());
    let mut client = server.connect();
    client.send(
        "POST /t/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\n[1]\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!((answer.text(), answer.header("connection")), ("[1]", Some("close")));
    assert!(client.is_closed());
}

#[test]
fn a_slow_head_is_refused_in_time_however_it_drips() {
    let server = start(small());
    let began = Instant::now();
    let mut client = server.connect();
    client.send("POST /t/echo HTTP/1.1\r\n");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(30));
        client.send("x: y\r\n");
    }
    client.answer().problem(408, "request_timeout");
    assert!(client.is_closed());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The second request of a connection is held to the same.
    let mut client = server.connect();
    client.send(post("/t/echo", &[], "1"));
    assert_eq!(client.answer().status, 200);
    client.send("POST");
    client.answer().problem(408, "request_timeout");
}

#[test]
fn a_silent_connection_is_closed() {
    let server = start(small());
    let began = Instant::now();
    let mut silent = server.connect();
    assert!(silent.is_closed());
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
    let mut resting = server.connect();
    resting.send(post("/t/echo", &[], "1"));
    assert_eq!(resting.answer().status, 200);
    let began = Instant::now();
    assert!(resting.is_closed());
    let rested = began.elapsed();
    assert!(rested >= Duration::from_millis(400) && rested < Duration::from_secs(3), "{rested:?}");
}

#[test]
fn a_connection_rests_as_long_after_a_body_that_came_in_pieces() {
    let server = start(small());
    let mut client = server.connect();
    let request = post("/t/echo", &[], "[1,2,3]");
    let (head, body) = request.split_at(request.len() - 4);
    client.send(head);
    std::thread::sleep(Duration::from_millis(50));
    client.send(body);
    assert_eq!(client.answer().text(), "[1,2,3]");
    // Longer than a head may take.
    std::thread::sleep(Duration::from_millis(350));
    client.send(post("/t/echo", &[], "[4]"));
    assert_eq!(client.answer().text(), "[4]");
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
    assert_eq!(server.post("/t/sleep", "{}").text(), "\"slept\"");
}

#[test]
fn a_slow_body_is_refused_in_time() {
    let server = start(small());
    let mut client = server.connect();
    client.send("POST /t/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n12345");
    client.answer().problem(408, "request_timeout");
    assert!(client.is_closed());
    // Slow is not late: every pause is shorter than the limit, all of them together are not.
    let mut client = server.connect();
    client.send("POST /t/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n");
    for byte in ["1", "2", "3", "4", "5"] {
        std::thread::sleep(Duration::from_millis(70));
        client.send(byte);
    }
    assert_eq!(client.answer().text(), "12345");
}

#[test]
fn a_client_that_does_not_read_its_answer_is_let_go() {
    let server = start(large());
    let mut client = server.connect();
    client.send(post("/t/echo", &[], &"x".repeat(32 << 20)));
    eventually("the call ends", || server.counts.finished.load(SeqCst) == 1);
    eventually("the connection ends", || {
        server.metrics.render().contains("exuvia_http_connections 0")
    });
    drop(client);
}

#[test]
fn a_large_body_comes_and_goes_whole() {
    let server = start(ServerConfig::default());
    let body: String = (0..1_500_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    assert!(server.post("/t/echo", &body).text() == body);
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_or_not() {
    let server = start(small());
    let head = |length: usize| {
        format!(
            "POST /t/echo HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
             content-length: {length}\r\n\r\n"
        )
    };
    let mut client = server.connect();
    client.send(head(3));
    assert_eq!(client.answer_without_body().status, 100);
    client.send("[1]");
    assert_eq!(client.answer().text(), "[1]");
    server.once(head(5000)).problem(413, "too_large");
}

#[test]
fn connections_over_the_limit_wait_their_turn() {
    let server = start(ServerConfig { max_connections: 1, ..ServerConfig::default() });
    let mut first = server.connect();
    first.send(post("/t/echo", &[], "1"));
    assert_eq!(first.answer().text(), "1");
    let mut second = server.connect();
    second.send(post("/t/echo", &[], "2"));
    second.stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let mut byte = [0];
    assert!(std::io::Read::read(&mut second.stream, &mut byte).is_err(), "answered too early");
    drop(first);
    second.stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(second.answer().text(), "2");
}
