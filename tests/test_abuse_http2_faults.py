"""HTTP/2 that is none: frames out of place end the connection, requests that are none their stream.

Nothing of either becomes a call.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from abuse import Abused, abused, unharmed
from abuse_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FRAME_SIZE,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WIDE,
    WINDOW,
    WINDOW_UPDATE,
    Http2,
    block,
    frame,
    literal,
    request,
    reset,
    settings,
    window_update,
)

# Whether the server does something about a case is known after so long.
SILENCE = 0.3

CALL = request("POST", "/abused/echoes")
OPEN = frame(HEADERS, END_HEADERS, 1, CALL)
DONE = frame(HEADERS, END_HEADERS | END_STREAM, 1, request("GET", "/healthz"))


@pytest.fixture(scope="module")
def server(
    exuvia_bin: Path, project_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Abused]:
    """One server for all cases."""
    marks = tmp_path_factory.mktemp("marks")
    with abused(exuvia_bin, project_python, marks, "--workers", "1") as running:
        yield running


# === frames out of place ===

# What RFC 9113 calls an error of the connection.
MISPLACED = {
    "data for the connection": frame(DATA, 0, 0, b"x"),
    "data for no stream": frame(DATA, 0, 1, b"x"),
    "a head for the connection": frame(HEADERS, END_HEADERS, 0, CALL),
    "a head on the server's stream": frame(HEADERS, END_HEADERS, 2, CALL),
    "streams that go back": frame(HEADERS, END_HEADERS, 5, CALL)
    + frame(HEADERS, END_HEADERS, 3, CALL),
    "a head that goes on alone": frame(CONTINUATION, END_HEADERS, 1, CALL),
    "data in a head": frame(HEADERS, 0, 1, CALL) + frame(DATA, 0, 1, b"x"),
    "a ping in a head": frame(HEADERS, 0, 1, CALL) + frame(PING, 0, 0, bytes(8)),
    "a head in a head": frame(HEADERS, 0, 1, CALL) + frame(HEADERS, END_HEADERS, 3, CALL),
    "another's head in a head": frame(HEADERS, 0, 1, CALL) + frame(CONTINUATION, 4, 3, CALL),
    "a reset of the connection": reset(0),
    "a reset of no stream": reset(1),
    "a short reset": OPEN + frame(RST_STREAM, 0, 1, b"xy"),
    "settings of a stream": frame(SETTINGS, 0, 1),
    "half a setting": frame(SETTINGS, 0, 0, b"xyz"),
    "settings that are acknowledged": frame(SETTINGS, ACK, 0, bytes(6)),
    "push neither on nor off": settings({ENABLE_PUSH: 2}),
    "a window that is too wide": settings({WINDOW: WIDE + 1}),
    "frames that are too small": settings({FRAME_SIZE: 100}),
    "frames that are too large": settings({FRAME_SIZE: 1 << 24}),
    "a promise": frame(PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + CALL),
    "a ping of a stream": frame(PING, 0, 1, bytes(8)),
    "a short ping": frame(PING, 0, 0, bytes(7)),
    "a goodbye of a stream": frame(GOAWAY, 0, 1, bytes(8)),
    "a short goodbye": frame(GOAWAY, 0, 0, bytes(7)),
    "a short window": frame(WINDOW_UPDATE, 0, 0, bytes(3)),
    "a window by nothing": window_update(0, 0),
    "a window beyond all": window_update(0, WIDE) * 2,
    "more padding than data": OPEN + frame(DATA, PADDED, 1, b"\x09xy"),
    "more padding than head": frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + CALL),
    "a frame above the limit": OPEN + frame(DATA, 0, 1, bytes(16385)),
    "a head above the limit": frame(HEADERS, END_HEADERS, 1, CALL + bytes(16385)),
    "a frame of 16 MB": OPEN + b"\xff\xff\xff" + frame(DATA, 0, 1)[3:] + bytes(100_000),
    "headers that are not packed": frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"),
    "a header that is not known": frame(HEADERS, END_HEADERS, 1, b"\xfe"),
    "a header cut off": frame(HEADERS, END_HEADERS, 1, CALL[:-1]),
    "a number without end": frame(HEADERS, END_HEADERS, 1, b"\x7f" + b"\xff" * 100 + b"\0"),
    "a table above the limit": frame(HEADERS, END_HEADERS, 1, b"\x3f\xff\xff\x7f" + CALL),
}

# What it calls an error of the stream. A server may end the connection over these, too.
OF_STREAM = {
    "a stream that needs itself": frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 9)) + OPEN,
    "data after the end": DONE + frame(DATA, 0, 1, b"x"),
    "a second head": OPEN + frame(HEADERS, END_HEADERS, 1, CALL),
    "a stream's window by nothing": OPEN + window_update(1, 0),
    "a stream's window beyond all": OPEN + window_update(1, WIDE) * 2,
    "data above the window": OPEN + frame(DATA, 0, 1, bytes(16384)) * 200,
}


@pytest.mark.parametrize("sent", MISPLACED.values(), ids=list(MISPLACED))
def test_a_frame_out_of_place_ends_the_connection(server: Abused, sent: bytes) -> None:
    before = server.count("echoes")
    with unharmed(server.server), Http2(server.server) as client:
        client.send(sent)
        # What is said after that is not listened to.
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 101, CALL))
        assert client.is_ended()
        assert client.goaway != 0
        assert client.heard(101).status is None
    assert server.count("echoes") == before


@pytest.mark.parametrize("sent", OF_STREAM.values(), ids=list(OF_STREAM))
def test_a_fault_of_a_stream_ends_that_and_no_other(server: Abused, sent: bytes) -> None:
    before = server.count("echoes")
    with unharmed(server.server), Http2(server.server) as client:
        client.send(sent)
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 101, request("GET", "/healthz")))
        assert client.listen(lambda: client.heard(101).is_over)
        assert client.closed or client.heard(101).status == 200
    assert server.count("echoes") == before


# === requests that are none ===

FIRST = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost")]
FIRST += [(b":path", b"/abused/echoes")]


def without(name: bytes) -> bytes:
    """Pack a head that lacks something."""
    return block([one for one in FIRST if one[0] != name])


def changed(name: bytes, value: bytes) -> bytes:
    """Pack a head with another value."""
    return block([(one, value if one == name else said) for one, said in FIRST])


MALFORMED = {
    "no method": without(b":method"),
    "no scheme": without(b":scheme"),
    "no path": without(b":path"),
    "an empty path": changed(b":path", b""),
    "a path without a slash": changed(b":path", b"abused/echoes"),
    "a path with a space": changed(b":path", b"/abused/echoes HTTP/1.1"),
    "a path with a line end": changed(b":path", b"/abused/echoes\r\nx: y"),
    "a method with a line end": changed(b":method", b"POST /x HTTP/1.1\r\nx: y"),
    "an empty method": changed(b":method", b""),
    "a scheme that is none": changed(b":scheme", b"ht tp"),
    "an authority with a line end": changed(b":authority", b"localhost\r\nx: y"),
    "an authority with a user": changed(b":authority", b"me@localhost/"),
    "two methods": CALL + literal(b":method", b"GET"),
    "two paths": CALL + literal(b":path", b"/healthz"),
    "a part of the request after a header": literal(b"x", b"y") + CALL,
    "an unknown part of the request": literal(b":x", b"y") + CALL,
    "a status": literal(b":status", b"200") + CALL,
    "a name in upper case": CALL + literal(b"X-Upper", b"y"),
    "an empty name": CALL + literal(b"", b"y"),
    "a name with a colon": CALL + literal(b"x:y", b"z"),
    "a name with a space": CALL + literal(b"x y", b"z"),
    "a name with a line end": CALL + literal(b"x\r\ny", b"z"),
    "a name with NUL": CALL + literal(b"x\0", b"z"),
    "a value with a line end": CALL + literal(b"x", b"y\r\nz: 1"),
    "a value with LF": CALL + literal(b"x", b"y\nz"),
    "a value with NUL": CALL + literal(b"x", b"y\0z"),
    "connection": CALL + literal(b"connection", b"close"),
    "keep-alive": CALL + literal(b"keep-alive", b"timeout=5"),
    "proxy-connection": CALL + literal(b"proxy-connection", b"close"),
    "upgrade": CALL + literal(b"upgrade", b"websocket"),
    "transfer-encoding": CALL + literal(b"transfer-encoding", b"chunked"),
    "te": CALL + literal(b"te", b"gzip"),
    "a length that is none": CALL + literal(b"content-length", b"+4"),
    "a negative length": CALL + literal(b"content-length", b"-4"),
    "a length too short": CALL + literal(b"content-length", b"3"),
    "a length too long": CALL + literal(b"content-length", b"5"),
    "two lengths": CALL + literal(b"content-length", b"4") + literal(b"content-length", b"5"),
    "a list of lengths": CALL + literal(b"content-length", b"4, 4"),
    "another host": CALL + literal(b"host", b"evil.example"),
    "two hosts": without(b":authority") + literal(b"host", b"localhost") + literal(b"host", b"b"),
    "no host": without(b":authority"),
}


def test_a_request_that_is_none_is_no_call(server: Abused) -> None:
    """Each has the body `null`, which the handler would take."""
    before, found = server.count("echoes"), {}
    with unharmed(server.server):
        for name, head in MALFORMED.items():
            with Http2(server.server) as client:
                client.send(
                    frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, END_STREAM, 1, b"null")
                )
                heard = client.heard(1)
                assert client.listen(lambda: heard.is_over), name  # noqa: B023
                found[name] = heard.status
    # Closed, reset, or refused.
    assert {name: status for name, status in found.items() if status not in (None, 400, 431)} == {}
    assert server.count("echoes") == before


def test_the_same_request_without_a_fault_is_a_call(server: Abused) -> None:
    before = server.count("echoes")
    more = [
        b"",
        literal(b"content-length", b"4"),
        literal(b"te", b"trailers"),
        literal(b"host", b"localhost"),
        literal(b"cookie", b"a=b") + literal(b"cookie", b"c=d"),
    ]
    with unharmed(server.server), Http2(server.server) as client:
        for n, extra in enumerate(more):
            stream = 2 * n + 1
            head = frame(HEADERS, END_HEADERS, stream, CALL + extra)
            client.send(head + frame(DATA, END_STREAM, stream, b"null"))
            assert (client.answer(stream).status, client.answer(stream).body) == (200, b"null")
    assert server.count("echoes") == before + len(more)


def test_trailers_are_nobodys_headers(server: Abused) -> None:
    with unharmed(server.server), Http2(server.server) as client:
        client.send(OPEN + frame(DATA, 0, 1, b"null"))
        end = block([(b"content-length", b"100"), (b"host", b"evil.example")])
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, end))
        assert client.listen(lambda: client.heard(1).is_over)
        assert client.closed or client.heard(1).reset or client.heard(1).body == b"null"
