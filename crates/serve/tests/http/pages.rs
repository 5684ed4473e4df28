//! The pages beside the handlers.

use exuvia_serve::ServerConfig;

use crate::support::{get, start};

#[test]
fn the_index_lists_what_can_be_called_and_how() {
    let server = start(ServerConfig::default());
    let text = server.once(get("/"));
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    for part in [
        "POST /t/echo",
        "echo(n: int)",
        "First line.",
        "curl 'http://localhost/t/echo' -H 'Content-Type: application/json' -d '{\"n\":1}'",
        "/metrics",
    ] {
        assert!(text.text().contains(part), "no `{part}` in\n{}", text.text());
    }
    assert!(!text.text().contains("Second line."));
    let json = server.once("GET / HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n\r\n");
    let json = json.json();
    assert_eq!(json["handlers"][1]["path"], "/t/echo");
    assert_eq!(json["handlers"][1]["example"]["n"], 1);
    assert_eq!(json["handlers"][1]["handler"], "t:echo");
}

#[test]
fn metrics_count_requests_by_route() {
    let server = start(ServerConfig::default());
    server.post("/t/echo", "1");
    server.post("/t/nowhere", "1");
    server.once("nonsense\r\n\r\n");
    let page = server.once(get("/metrics"));
    assert!(page.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        r#"exuvia_http_requests_total{route="/t/echo",status="200"} 1"#,
        r#"exuvia_http_requests_total{route="unmatched",status="404"} 1"#,
        r#"exuvia_http_requests_total{route="unmatched",status="400"} 1"#,
        r#"exuvia_http_request_duration_seconds_count{route="/t/echo"} 1"#,
        "exuvia_http_requests_in_flight 1",
    ] {
        assert!(page.text().lines().any(|own| own == line), "no `{line}` in\n{}", page.text());
    }
}

#[test]
fn pages_are_shown_to_this_machine_only_and_handlers_to_all() {
    let config = ServerConfig { hosts: vec!["box.lan".to_owned()], ..ServerConfig::default() };
    let server = start(config);
    let own = server.addr.to_string();
    for (host, shown) in [
        ("localhost", true),
        ("localhost:1", true),
        ("127.0.0.9:8000", true),
        ("[::1]:8000", true),
        (own.as_str(), true),
        ("box.lan:80", true),
        ("evil.example", false),
        ("localhost.evil.example", false),
        ("10.0.0.1", false),
        ("", false),
        ("a b", false),
    ] {
        for path in ["/", "/healthz", "/readyz", "/metrics"] {
            let answer = server.once(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
            if shown {
                assert_eq!(answer.status, 200, "{host}{path}");
            } else {
                answer.problem(421, "misdirected");
            }
        }
        let call = format!("POST /t/echo HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1\r\n\r\n1");
        assert_eq!(server.once(call).status, 200, "{host}");
    }
    // The request line wins over the header.
    let evil = "GET http://evil.example/healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    server.once(evil).problem(421, "misdirected");
    assert_eq!(server.once("GET /healthz HTTP/1.0\r\n\r\n").status, 200);
}

#[test]
fn head_is_get_without_the_body() {
    let server = start(ServerConfig::default());
    let mut client = server.connect();
    client.send("HEAD /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let answer = client.answer_without_body();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("3")));
    client.send(get("/healthz"));
    assert_eq!(client.answer().text(), "ok\n");
}
