//! What is shown where.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use exuvia_serve::{Listeners, ServerConfig};

use crate::support::{AlmostReady, Answer, Counts, Live, get, post, start, start_at, usual};

fn listener(host: &str) -> TcpListener {
    TcpListener::bind((host, 0)).unwrap()
}

fn serving(listeners: Listeners) -> Live {
    let counts = Arc::new(Counts::default());
    let routes = usual(&counts);
    let config = ServerConfig { max_connections: 2, ..ServerConfig::default() };
    let mut live =
        start_at(listeners, routes, counts, Arc::new(AlmostReady), config, Duration::ZERO);
    // Where it listens for all is no place to go to.
    live.addr.set_ip([127, 0, 0, 1].into());
    live
}

/// The same server, seen from its other listener.
fn asked(at: SocketAddr, request: &str) -> Answer {
    let mut client = crate::support::Client::to(at);
    client.send(request);
    client.answer()
}

const PAGES: [&str; 3] = ["/", "/metrics", "/openapi.json"];

#[test]
fn on_loopback_pages_are_beside_the_handlers() {
    let server = start(ServerConfig::default());
    for page in ["/", "/metrics"] {
        assert_eq!(server.once(get(page)).status, 200, "{page}");
    }
    assert_eq!(server.post("/t/echo", "1").text(), "1");
}

#[test]
fn where_strangers_come_there_are_no_pages() {
    let server = serving(listener("0.0.0.0").into());
    for page in PAGES {
        let problem = server.once(get(page)).problem(404, "not_found");
        assert!(problem["detail"].as_str().unwrap().contains("admin"), "{problem}");
    }
    for page in ["/healthz", "/readyz"] {
        assert_eq!(server.once(get(page)).status, 200, "{page}");
    }
    assert_eq!(server.post("/t/echo", "1").text(), "1");
}

#[test]
fn pages_with_an_address_of_their_own_are_there_alone() {
    let admin = listener("127.0.0.1");
    let at = admin.local_addr().unwrap();
    let server = serving(Listeners { data: listener("127.0.0.1"), admin: Some(admin) });
    for page in PAGES {
        server.once(get(page)).problem(404, "not_found");
    }
    for page in ["/", "/metrics", "/healthz", "/readyz"] {
        assert_eq!(asked(at, &get(page)).status, 200, "{page}");
    }
    asked(at, &post("/t/echo", &[], "1")).problem(404, "not_found");
    assert_eq!(server.once(get("/healthz")).text(), "ok\n");
    assert_eq!(server.post("/t/echo", "1").text(), "1");
}

#[test]
fn who_looks_at_a_full_server_sees_something() {
    let admin = listener("127.0.0.1");
    let at = admin.local_addr().unwrap();
    let server = serving(Listeners { data: listener("127.0.0.1"), admin: Some(admin) });
    let mut full = [server.connect(), server.connect()];
    for client in &mut full {
        client.send(post("/t/echo", &[], "1"));
        assert_eq!(client.answer().text(), "1");
    }
    assert!(asked(at, &get("/metrics")).text().contains("exuvia_http_connections 3"));
}
