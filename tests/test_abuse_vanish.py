"""Clients that go away in the middle of everything: nothing of them is left."""

import itertools
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from abuse import MIB, Abused, Line, abused, open_lines, read_answers, unharmed
from processes import wait_until

# How often each kind of client vanishes; half of them by a reset.
TIMES = 1000
AT_ONCE = 50

NUMBERS = itertools.count(1)

HEAD = b"POST /abused/echoes HTTP/1.1\r\nhost: localhost\r\n"
PARTS = (
    b'--edge\r\ncontent-disposition: form-data; name="value"; filename="a.csv"\r\n'
    b"content-type: text/csv\r\n\r\na,b\r\n1,2\r\n"
)


@pytest.fixture(scope="module")
def server(
    exuvia_bin: Path, project_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Abused]:
    """One server for all; its workers take what they are given."""
    marks = tmp_path_factory.mktemp("marks")
    words = ["--workers", "2", "--max-body", "64MiB"]
    with abused(exuvia_bin, project_python, marks, *words) as running:
        yield running


def calling(handler: str, arguments: object) -> bytes:
    """Write a whole request."""
    body = json.dumps(arguments).encode()
    head = f"POST /abused/{handler} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def vanish(server: Abused, lines: list[Line]) -> None:
    """End the connections, every other one by a reset, and wait until the server knows."""
    for n, line in enumerate(lines):
        if n % 2:
            line.reset()
        else:
            line.close()
    # The one that asks, and the one of the client that means well.
    wait_until("the end of all", lambda: connections(server) <= 2)


def connections(server: Abused) -> float:
    """How many connections the server holds."""
    return server.server.metrics()["exuvia_http_connections"]


def count_of(server: Abused, status: int) -> float:
    """How many requests the metrics know with this status."""
    return sum(
        value
        for name, value in server.server.metrics().items()
        if name.startswith("exuvia_http_requests_total{") and f'status="{status}"' in name
    )


# === before there is a call ===

MIDWAY = {
    "before a word": b"",
    "in the method": b"PO",
    "in the head": HEAD + b"x: y",
    "before the body": HEAD + b"content-length: 1000\r\n\r\n",
    "in the body": HEAD + b"content-length: 1000\r\n\r\n[1, 2,",
    "in a large body": HEAD + b"content-length: 60000000\r\n\r\n[" + b" " * 200_000,
    "in a chunk's size": HEAD + b"transfer-encoding: chunked\r\n\r\n10",
    "in a chunk": HEAD + b"transfer-encoding: chunked\r\n\r\n10\r\n[1,",
    "in many chunks": HEAD
    + b"transfer-encoding: chunked\r\n\r\n"
    + b"400\r\n%s\r\n" % (b" " * 1024) * 100,
    "in a trailer": HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\n1\r\n0\r\nx: ",
    "in a part": HEAD
    + b"content-type: multipart/form-data; boundary=edge\r\ncontent-length: 1000\r\n\r\n"
    + PARTS,
    "in a table": HEAD
    + b"content-type: text/csv\r\ntransfer-encoding: chunked\r\n\r\n5\r\na,b\r\n\r\n",
}


@pytest.mark.parametrize("sent", MIDWAY.values(), ids=list(MIDWAY))
def test_a_request_that_is_never_finished_is_no_call_and_leaves_nothing(
    server: Abused, sent: bytes
) -> None:
    def attack(times: int) -> None:
        for _ in range(times // AT_ONCE):
            with open_lines(server.server, AT_ONCE) as lines:
                for line in lines:
                    line.send(sent)
                vanish(server, lines)

    before = server.count("echoes")
    with unharmed(server.server, growth=16 * MIB):
        attack(2 * AT_ONCE)
    with unharmed(server.server) as calm:
        attack(TIMES)
        calm.wait(5)
    assert server.count("echoes") == before


# === while a call runs ===


def test_calls_of_clients_that_vanish_are_cancelled(server: Abused) -> None:
    tag = f"call-{next(NUMBERS)}"
    request = calling("lingers", {"tag": tag})
    before = count_of(server, 499)
    with unharmed(server.server) as calm:
        for n in range(1, TIMES // AT_ONCE + 1):
            with open_lines(server.server, AT_ONCE) as lines:
                for line in lines:
                    line.send(request)
                wait_until("calls", lambda: server.count(f"{tag}-begun") == n * AT_ONCE)  # noqa: B023
                vanish(server, lines)
                wait_until("their end", lambda: server.count(f"{tag}-ended") == n * AT_ONCE)  # noqa: B023
        calm.wait(5)
    assert count_of(server, 499) - before == TIMES


def test_calls_that_hold_up_their_worker_as_they_begin_all_begin(server: Abused) -> None:
    """A worker that is slow to take its calls is given them all the same, though none ever ends."""
    tag = f"slow-{next(NUMBERS)}"
    request = calling("lingers", {"tag": tag, "block": 0.01})
    with unharmed(server.server, growth=16 * MIB), open_lines(server.server, 100) as lines:
        for line in lines:
            line.send(request)
        wait_until("calls", lambda: server.count(f"{tag}-begun") == 100)
        vanish(server, lines)
        wait_until("their end", lambda: server.count(f"{tag}-ended") == 100)


def test_calls_that_wait_go_with_their_clients(server: Abused) -> None:
    """More than the workers take at a time: the rest is in the queue."""
    tag = f"queued-{next(NUMBERS)}"
    request = calling("lingers", {"tag": tag})
    with unharmed(server.server, growth=16 * MIB), open_lines(server.server, 400) as lines:
        for line in lines:
            line.send(request)
        wait_until("calls", lambda: server.server.metrics()["exuvia_queue_length"] > 0)
        vanish(server, lines)
        assert server.server.metrics()["exuvia_queue_length"] == 0
        begun, ended = f"{tag}-begun", f"{tag}-ended"
        wait_until("their end", lambda: server.count(ended) == server.count(begun))
    assert server.count(f"{tag}-begun") < 400


def test_a_client_that_sends_no_more_is_gone_too(server: Abused) -> None:
    tag = f"half-{next(NUMBERS)}"
    with unharmed(server.server), open_lines(server.server, AT_ONCE) as lines:
        for line in lines:
            line.send(calling("lingers", {"tag": tag}))
        wait_until("calls", lambda: server.count(f"{tag}-begun") == AT_ONCE)
        for line in lines:
            line.socket.shutdown(socket.SHUT_WR)
        wait_until("their end", lambda: server.count(f"{tag}-ended") == AT_ONCE)


# === while the answer comes ===


def streams(server: Abused, handler: str, at_once: int, rounds: int, read: int) -> None:
    """Begin streams, read some of each, vanish; their generators are closed every time."""
    tag = f"{handler}-{next(NUMBERS)}"
    request = calling(handler, {"tag": tag, "size": 5000})
    for n in range(1, rounds + 1):
        with open_lines(server.server, at_once) as lines:
            for line in lines:
                line.send(request)
            for line in lines:
                came = 0
                while came < read:
                    piece = line.socket.recv(65536)
                    assert piece
                    came += len(piece)
            vanish(server, lines)
            wait_until("generators to close", lambda: server.count(f"{tag}-ended") == n * at_once)  # noqa: B023
            assert server.count(f"{tag}-begun") == n * at_once


def test_async_generators_are_closed_when_their_readers_vanish(server: Abused) -> None:
    with unharmed(server.server, growth=16 * MIB):
        streams(server, "drips", AT_ONCE, 1, 20_000)
    with unharmed(server.server) as calm:
        streams(server, "drips", AT_ONCE, TIMES // AT_ONCE, 1)
        calm.wait(5)


def test_generators_are_closed_when_their_readers_vanish(server: Abused) -> None:
    """One at a time, since each has a worker to itself."""
    with unharmed(server.server, growth=16 * MIB):
        streams(server, "pours", 1, 10, 1_000_000)
    with unharmed(server.server) as calm:
        streams(server, "pours", 1, 100, 100_000)
        calm.wait(5)


# === with requests that still wait ===


def test_requests_that_wait_behind_another_do_no_harm_when_their_client_vanishes(
    server: Abused,
) -> None:
    tag = f"behind-{next(NUMBERS)}"
    requests = calling("marks", {"tag": tag}) * 100
    with unharmed(server.server, growth=16 * MIB) as calm:
        for _ in range(TIMES // AT_ONCE):
            with open_lines(server.server, AT_ONCE) as lines:
                for line in lines:
                    line.send(requests)
                vanish(server, lines)
        calm.wait(5)
    assert server.count(tag) <= 100 * TIMES


def test_requests_in_one_breath_are_all_answered_though_nobody_reads_meanwhile(
    server: Abused,
) -> None:
    """They are read as they are answered: memory does not grow with how many wait."""
    requests = b"".join(calling("adds", {"first": n, "second": 0}) for n in range(2000))
    with unharmed(server.server, peak=16 * MIB), Line(server.server) as line:
        line.send(requests)
        until = time.monotonic() + 20
        while line.came.count(b"HTTP/1.1 200 OK") < 2000 and time.monotonic() < until:
            line.listen(0.1)
        line.close()
    assert [said.body for said in read_answers(bytes(line.came))] == [
        b"%d" % n for n in range(2000)
    ]
