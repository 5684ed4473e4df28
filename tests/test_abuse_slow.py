"""Clients that send too much of a head, or that send and read as slowly as they can."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from abuse import MIB, Abused, Line, abused, listen_to, open_lines, read_answers, unharmed
from processes import wait_until

GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"
CALL = b"POST /abused/echoes HTTP/1.1\r\nhost: localhost\r\n"
CHUNKED = CALL + b"transfer-encoding: chunked\r\n\r\n"

MANY = 500


@pytest.fixture(scope="module")
def server(
    exuvia_bin: Path, project_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Abused]:
    """Serve with little patience."""
    marks = tmp_path_factory.mktemp("marks")
    words = ["--workers", "2", "--max-body", "64MiB", "--header-timeout", "1s"]
    words += ["--body-timeout", "1s", "--write-timeout", "1s"]
    with abused(exuvia_bin, project_python, marks, *words) as running:
        yield running


def statuses(line: Line) -> list[int]:
    """How the requests of a connection were answered."""
    return [said.status for said in read_answers(bytes(line.came))]


# === floods of headers ===


def test_a_head_that_is_too_large_is_refused_before_it_ends(server: Abused) -> None:
    floods = {
        "101 headers": GET + b"".join(b"x-%d: 1\r\n" % n for n in range(101)) + b"\r\n",
        "10,000 headers": GET + b"".join(b"x-%d: 1\r\n" % n for n in range(10_000)) + b"\r\n",
        "a header of 1 MB": GET + b"x: " + b"y" * MIB + b"\r\n\r\n",
        "a name of 1 MB": GET + b"y" * MIB + b": x\r\n\r\n",
        "a path of 1 MB": b"GET /" + b"y" * MIB + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "a method of 1 MB": b"G" * MIB + b" / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "a line without end": GET + b"x: " + b"y" * (4 * MIB),
        "headers without end": GET + b"x: y\r\n" * MIB,
        "empty lines without end": b"\r\n" * (2 * MIB),
    }
    with unharmed(server.server), open_lines(server.server, len(floods)) as lines:
        sent = dict(zip(floods, lines, strict=True))
        for name, line in sent.items():
            # It may be closed before all of it was sent.
            line.send(floods[name])
        listen_to(lines, 0.3)
    for name, line in sent.items():
        assert line.closed, name
        # What came too late resets the connection, and the answer may be lost to that.
        assert set(statuses(line)) <= {400, 414, 431}, name
    assert statuses(sent["101 headers"]) == [431]


def test_a_hundred_headers_are_not_too_many(server: Abused) -> None:
    with Line(server.server) as line:
        line.send(GET + b"".join(b"x-%d: 1\r\n" % n for n in range(99)) + b"\r\n")
        listen_to([line], 0.2)
    assert statuses(line) == [200]


# === slow in sending ===


def drip(lines: list[Line], drops: list[bytes], seconds: float = 15) -> None:
    """Send each some drops at a time, until all are closed."""
    going, deadline = list(lines), time.monotonic() + seconds
    while going and time.monotonic() < deadline:
        time.sleep(0.1)
        going = [line for line in going if line.trickle(random.choice(drops))]
    for line in lines:
        line.listen(0.05)


def test_heads_that_never_end_are_cut_off_while_others_are_served(server: Abused) -> None:
    heads = [b"", b"GET", GET, CALL + b"content-length: 5\r\n", GET + b"x: " + b"y" * 10_000]
    with (
        unharmed(server.server, growth=32 * MIB, peak=48 * MIB) as calm,
        open_lines(server.server, MANY) as lines,
    ):
        for n, line in enumerate(lines):
            line.send(heads[n % len(heads)])
        calm.wait(20)
        drip(lines, [b"x-a: b\r\n", b"x", b"y: "])
    assert [line for line in lines if not line.closed] == []
    for line in lines:
        assert statuses(line) in ([], [408], [400]), statuses(line)


def test_bodies_that_stop_are_not_waited_for(server: Abused) -> None:
    heads = [
        CALL + b"content-length: 100\r\n\r\n[",
        CALL + b"content-length: 60000000\r\n\r\n[",
        CHUNKED,
        CHUNKED + b"1\r\n[\r\n",
        CHUNKED + b"1;" + b"a" * 1000,
    ]
    with (
        unharmed(server.server, growth=32 * MIB, peak=48 * MIB) as calm,
        open_lines(server.server, MANY) as lines,
    ):
        for n, line in enumerate(lines):
            line.send(heads[n % len(heads)])
        calm.wait(20)
        listen_to(lines, 0.3)
    assert [line for line in lines if not line.closed or statuses(line) != [408]] == []


def test_extensions_and_zeros_without_end_are_no_body(server: Abused) -> None:
    """They are bytes, but nothing of the body: the client is too slow."""
    with unharmed(server.server), open_lines(server.server, 100) as lines:
        for n, line in enumerate(lines):
            line.send(CHUNKED + (b"1;" if n % 2 else b"0"))
        drip(lines[:50], [b"0"])
        drip(lines[50:], [b"0" * 100])
    for line in lines:
        assert line.closed
        assert set(statuses(line)) <= {400, 408}


def test_a_body_of_drops_is_a_body(server: Abused) -> None:
    """Slow is not late."""
    with unharmed(server.server) as calm, open_lines(server.server, 100) as lines:
        for line in lines:
            line.send(CALL + b"content-length: 15\r\n\r\n")
        for byte in b"[1,2,3,4,5,6,7]":
            time.sleep(0.15)
            for line in lines:
                line.send(b"%c" % byte)
        listen_to(lines, 0.2)
        calm.wait(20)
    for line in lines:
        assert [said.body for said in read_answers(bytes(line.came))] == [b"[1,2,3,4,5,6,7]"]


# === slow in reading ===


def test_answers_that_nobody_reads_are_let_go(server: Abused) -> None:
    """The kernel's buffers take some; the rest is the server's to hold, and not for long."""
    count, size = 20, 8 * MIB
    body = b'{"size": %d}' % size
    head = b"POST /abused/of_size HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    with (
        unharmed(server.server, growth=16 * MIB, peak=(count + 4) * size) as calm,
        open_lines(server.server, count, buffer=4096) as lines,
    ):
        for line in lines:
            line.send(head % len(body) + body)
        calm.wait(20)
        wait_until("them to be let go", lambda: all(line.is_ended() for line in lines), 20)


def test_streams_that_are_read_by_the_byte_go_on_and_those_not_read_are_let_go(
    server: Abused,
) -> None:
    """A handler makes no more than is read."""
    body = b'{"tag": "unread", "pause": 0, "size": 65536}'
    head = b"POST /abused/drips HTTP/1.1\r\nhost: localhost\r\naccept: application/x-ndjson\r\n"
    with (
        unharmed(server.server, growth=16 * MIB) as calm,
        open_lines(server.server, 20, buffer=4096) as lines,
    ):
        for line in lines:
            line.send(head + b"content-length: %d\r\n\r\n%s" % (len(body), body))
        slow, deaf = lines[:10], lines[10:]
        wait_until("streams", lambda: server.count("unread-begun") == 20)
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            for line in slow:
                assert line.socket.recv(4000)
            time.sleep(0.05)
        wait_until("the deaf to be let go", lambda: all(line.is_ended() for line in deaf))
        assert not any(line.is_ended() for line in slow)
        assert server.count("unread-ended") == 10
        calm.wait(20)
    wait_until("the others to end", lambda: server.count("unread-ended") == 20)


def test_requests_whose_answers_nobody_reads_are_not_read_either(server: Abused) -> None:
    """What cannot be answered is not taken: memory does not grow with how many were sent."""
    request = b"POST /abused/of_size HTTP/1.1\r\nhost: localhost\r\ncontent-length: 15\r\n\r\n"
    requests = (request + b'{"size": 10000}') * 1000
    with unharmed(server.server) as calm, open_lines(server.server, 20, buffer=4096) as lines:
        for _ in range(20):
            for line in lines:
                line.trickle(requests)
        calm.wait(20)
        wait_until("them to be let go", lambda: all(line.is_ended() for line in lines))
