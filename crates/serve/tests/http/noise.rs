//! Bytes nobody meant.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    sync::OnceLock,
};

use exuvia_serve::ServerConfig;
use proptest::prelude::*;

use crate::support::{Live, get, start};

fn server() -> &'static Live {
    static SERVER: OnceLock<Live> = OnceLock::new();
    SERVER.get_or_init(|| start(ServerConfig { max_body: 4096, ..ServerConfig::default() }))
}

/// Pieces of HTTP in any order, with bytes of any kind between them: it gets further than bytes
/// alone.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "POST /t/echo HTTP/1.1\r\n",
            "POST /t/echo HTTP/1.0\r\n",
            "GET / HTTP/1.1\r\n",
            "OPTIONS * HTTP/1.1\r\n",
            "CONNECT localhost:1 HTTP/1.1\r\n",
            "host: localhost\r\n",
            "host: \r\n",
            "content-length: 3\r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: chunked\r\n",
            "connection: close\r\n",
            "connection: upgrade\r\nupgrade: h2c\r\n",
            "expect: 100-continue\r\n",
            "accept: */*;q=\r\n",
            "content-type: application/json; charset=\"\r\n",
            "\r\n",
            "3\r\nabc\r\n",
            "0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            // Frames of HTTP/2: settings, a request for /, a reset, a ping.
            "\0\0\0\u{4}\0\0\0\0\0",
            "\0\0\u{3}\u{1}\u{5}\0\0\0\u{1}\u{2}\u{4}\u{6}",
            "\0\0\u{4}\u{3}\0\0\0\0\u{1}\0\0\0\u{8}",
            "\0\0\u{8}\u{6}\0\0\0\0\0abcdefgh",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_stop_the_server(
        bytes in prop_oneof![nearly_http(), prop::collection::vec(any::<u8>(), 0..400)],
    ) {
        let mut client = server().connect();
        // It may well close before all is sent.
        let _ = client.stream.write_all(&bytes);
        let _ = client.stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let ended = client.stream.read_to_end(&mut said);
        prop_assert!(
            !matches!(&ended, Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)),
            "the connection hangs"
        );
        let spoken: &[u8] = if bytes.starts_with(b"PRI * HTTP/2.0") { b"\0\0" } else { b"HTTP/1." };
        prop_assert!(said.is_empty() || said.starts_with(spoken), "{:?}", String::from_utf8_lossy(&said));
        let alive = server().once(get("/healthz"));
        prop_assert_eq!(alive.text(), "ok\n");
    }
}
