"""HTTP/2 in the hands of clients that mean harm: floods, bombs, and windows that stay shut."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from abuse import MIB, Abused, Line, abused, listen_to, open_lines, read_answers, unharmed
from abuse_http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    REFUSED_STREAM,
    WINDOW,
    Http2,
    frame,
    literal,
    request,
    reset,
    settings,
    window_update,
)
from processes import wait_until

GIGABYTE = 1000**3

READERS = Path(__file__).parent / "handlers" / "abused_readers.py"


@pytest.fixture(scope="module")
def server(
    exuvia_bin: Path, project_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Abused]:
    """Serve with little patience."""
    marks = tmp_path_factory.mktemp("marks")
    words = [str(READERS), "--workers", "2", "--max-body", "64MiB", "--header-timeout", "1s"]
    words += ["--body-timeout", "1s", "--write-timeout", "1s", "--idle-timeout", "2s"]
    with abused(exuvia_bin, project_python, marks, *words) as running:
        yield running


def speaks_http2() -> bool:
    """Whether there is a curl that can."""
    curl = shutil.which("curl")
    return curl is not None and b"HTTP2" in subprocess.run([curl, "-V"], capture_output=True).stdout


def call(client: Http2, handler: str, arguments: object) -> int:
    """Send a call; its stream."""
    return client.ask("POST", f"/abused/{handler}", json.dumps(arguments).encode())


def serves(client: Http2) -> bool:
    """Whether the connection still answers."""
    heard = client.answer(call(client, "adds", {"first": 1, "second": 2}))
    return (heard.status, heard.body) == (200, b"3")


# === what is meant well ===


@pytest.mark.skipif(not speaks_http2(), reason="there is no curl with HTTP/2")
def test_a_client_of_others_making_is_answered(server: Abused) -> None:
    command = ["curl", "--silent", "--show-error", "--http2-prior-knowledge"]
    command += [
        "--write-out",
        " %{http_version} %{http_code}",
        "--json",
        '{"first": 1, "second": 2}',
    ]
    url = f"{server.server.url}/abused/adds"
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("3 2 200", "")


def test_a_slow_request_holds_up_no_other_of_its_connection(server: Abused) -> None:
    with unharmed(server.server), Http2(server.server) as client:
        slow = call(client, "lingers", {"tag": "slow", "seconds": 1})
        quick = [call(client, "adds", {"first": n, "second": 0}) for n in range(100)]
        for n, stream in enumerate(quick):
            assert client.answer(stream).body == b"%d" % n
        assert not client.heard(slow).is_over
        assert client.answer(slow).body == b'"slow"'


def test_answers_are_those_of_http_1(server: Abused) -> None:
    with Http2(server.server) as client:
        page = client.answer(client.ask("GET", "/healthz"))
        assert (page.status, page.body) == (200, b"ok\n")
        head = client.answer(client.ask("HEAD", "/healthz"))
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "3")
        for stream, status in [
            (client.ask("GET", "/nowhere"), 404),
            (client.ask("GET", "/abused/adds"), 405),
            (call(client, "adds", {"first": 1}), 422),
        ]:
            problem = client.answer(stream)
            assert (problem.status, json.loads(problem.body)["status"]) == (status, status)
            # They speak of the connection, which has nothing to do with a request here.
            assert not {"connection", "keep-alive", "transfer-encoding"} & set(problem.headers)
        assert serves(client) and client.goaway is None


# === requests that are taken back ===


def test_requests_that_are_reset_at_once_end_the_connection(server: Abused) -> None:
    """Rapid reset: each would cost a call."""
    body = b'{"tag": "rapid"}'
    head = request("POST", "/abused/lingers", (b"content-length", b"%d" % len(body)))
    flood = b"".join(
        frame(HEADERS, END_HEADERS, n, head) + frame(DATA, END_STREAM, n, body) + reset(n)
        for n in range(1, 20_001, 2)
    )
    with unharmed(server.server, growth=16 * MIB) as calm, Http2(server.server) as client:
        client.send(flood)
        assert client.is_ended()
        assert client.goaway in (None, ENHANCE_YOUR_CALM)
        calm.wait(5)
    assert server.count("rapid-begun") < 1000
    wait_until("calls to end", lambda: server.count("rapid-ended") == server.count("rapid-begun"))


def test_requests_that_are_reset_while_they_run_are_cancelled(server: Abused) -> None:
    with unharmed(server.server, growth=16 * MIB) as calm, Http2(server.server) as client:
        for n in range(1, 11):
            streams = [call(client, "lingers", {"tag": "given-up"}) for _ in range(100)]
            wait_until("calls", lambda: server.count("given-up-begun") == 100 * n)  # noqa: B023
            client.send(b"".join(map(reset, streams)))
            wait_until("their end", lambda: server.count("given-up-ended") == 100 * n)  # noqa: B023
        assert serves(client)
        calm.wait(5)


def test_more_streams_than_allowed_are_refused_and_the_rest_is_served(server: Abused) -> None:
    with unharmed(server.server, growth=16 * MIB), Http2(server.server) as client:
        assert serves(client)
        most = client.settings[3]
        assert most <= 256
        streams = [call(client, "lingers", {"tag": "many", "seconds": 0.5}) for _ in range(1000)]
        if client.listen(lambda: all(client.heard(stream).is_over for stream in streams)):
            heard = [client.heard(stream) for stream in streams]
            served = sum(one.status == 200 for one in heard)
            refused = sum(one.reset == REFUSED_STREAM for one in heard)
            assert client.closed or served + refused == 1000
    assert server.count("many-begun") <= 2 * most
    assert server.count("many-ended") == server.count("many-begun")


# === heads ===


def test_a_head_that_never_ends_is_cut_off(server: Abused) -> None:
    """A flood of continuations, of any size."""
    for payload in (b"", b"\0\1x\1y", literal(b"x", b"y" * 16_000)):
        start = frame(HEADERS, 0, 1, request("POST", "/abused/echoes"))
        flood = frame(CONTINUATION, 0, 1, payload) * (40 * MIB // (len(payload) + 1000))
        with unharmed(server.server, peak=16 * MIB) as calm, Http2(server.server) as client:
            client.send(start + flood)
            assert client.is_ended()
            calm.wait(5)


def test_headers_that_grow_when_unpacked_are_refused(server: Abused) -> None:
    """The bomb: one header of 4 kB is remembered, and named again by one byte, 60,000 times."""
    remembered = b"\x40\x01x\x7f" + b"\xa1\x1e" + b"y" * 4000
    assert len(remembered) == 4 + 2 + 4000
    bomb = request("POST", "/abused/echoes") + remembered + b"\xbe" * 12_000
    rest = b"\xbe" * 16_000
    for more in (0, 3):
        data = frame(HEADERS, END_HEADERS * (not more) | END_STREAM, 1, bomb)
        for n in range(more):
            data += frame(CONTINUATION, END_HEADERS * (n == more - 1), 1, rest)
        with unharmed(server.server, peak=16 * MIB) as calm, Http2(server.server) as client:
            client.send(data)
            heard = client.heard(1)
            assert client.listen(lambda: heard.is_over)  # noqa: B023
            assert client.closed or heard.status == 431 or heard.reset is not None
            calm.wait(5)


def test_a_thousand_headers_are_too_many(server: Abused) -> None:
    many = [(b"x-%d" % n, b"y") for n in range(1000)]
    with unharmed(server.server), Http2(server.server) as client:
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, request("GET", "/healthz", *many)))
        assert client.listen(lambda: client.heard(1).is_over)
        assert client.closed or client.heard(1).status == 431


# === floods of frames ===

FLOODS = {
    "settings": settings({WINDOW: 65535}),
    "settings without any": settings({}),
    "pings": frame(PING, 0, 0, bytes(8)),
    "priorities": frame(PRIORITY, 0, 1, b"\0\0\0\0\x10"),
    "priorities of others": frame(PRIORITY, 0, 99, b"\0\0\0\0\x10"),
    "wider windows": window_update(0, 1),
    "wider windows of a stream": window_update(1, 1),
    "unknown frames": frame(77, 0, 0, b"x" * 100),
    "empty data": frame(DATA, 0, 1),
    "padding": frame(DATA, 8, 1, b"\x09" + bytes(9)),
    "acknowledgements": frame(4, ACK),
}


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("flood", FLOODS.values(), ids=list(FLOODS))
def test_frames_that_mean_nothing_cost_nothing(server: Abused, flood: bytes, reads: bool) -> None:
    """Whether or not the client reads what is said to them."""
    start = frame(HEADERS, END_HEADERS, 1, request("POST", "/abused/echoes"))
    with unharmed(server.server, peak=16 * MIB) as calm, Http2(server.server) as client:
        client.send(start)
        for _ in range(20):
            if reads:
                client.send(flood * 5000)
            else:
                client.line.trickle(flood * 5000)
        calm.wait(20)
    assert server.count("echoes") == 0


@pytest.mark.parametrize("piece", [b"", b" "], ids=["empty", "one byte"])
def test_data_in_pieces_for_a_handler_that_does_not_read_is_not_held(
    server: Abused, piece: bytes
) -> None:
    """Each piece has a price beside its bytes: four streams, as far as their windows go."""
    with unharmed(server.server, peak=16 * MIB) as calm, Http2(server.server) as client:
        assert serves(client)
        for _ in range(4):
            stream = next(client.next_stream)
            told = request("POST", "/abused_readers/counts_later", (b"content-type", b"text/csv"))
            client.send(frame(HEADERS, END_HEADERS, stream, told))
            client.send(frame(DATA, 0, stream, b"a\n"))
            client.spend(stream, 2)
            for _ in range(50):
                count = min(10_000, client.room(stream)) if piece else 10_000
                client.spend(stream, count * len(piece))
                if not client.send(frame(DATA, 0, stream, piece) * count):
                    break
        calm.wait(5)


# === windows that stay shut ===


def test_answers_for_which_the_client_opens_no_window_are_let_go(server: Abused) -> None:
    size = 2 * MIB
    with (
        unharmed(server.server, growth=32 * MIB, peak=256 * MIB) as calm,
        Http2(server.server, {WINDOW: 0}, wide=False) as client,
    ):
        streams = [call(client, "of_size", {"size": size}) for _ in range(60)]
        calm.wait(20)
        # It is there all the while.
        for _ in range(60):
            if client.closed or all(client.heard(stream).is_over for stream in streams):
                break
            client.send(frame(PING, 0, 0, bytes(8)))
            client.listen(lambda: False, 0.1)
        assert client.closed or all(client.heard(one).reset is not None for one in streams)


def test_a_stream_for_which_the_window_opens_by_the_byte_goes_on(server: Abused) -> None:
    with unharmed(server.server) as calm, Http2(server.server, {WINDOW: 0}, wide=False) as client:
        stream = call(client, "of_size", {"size": 2})
        for n in range(4):
            time.sleep(0.4)
            client.send(window_update(stream, 1))
            assert client.listen(lambda: len(client.heard(stream).body) > n)  # noqa: B023
        assert bytes(client.answer(stream).body) == b'"xx"'
        calm.wait(20)


# === bodies ===


def test_a_gigabyte_is_refused_and_the_connection_goes_on(server: Abused) -> None:
    with unharmed(server.server, peak=32 * MIB), Http2(server.server) as client:
        told = request("POST", "/abused/marks", (b"content-length", b"%d" % GIGABYTE))
        stream = next(client.next_stream)
        client.send(frame(HEADERS, END_HEADERS, stream, told))
        client.pour(stream, GIGABYTE)
        assert client.answer(stream).status == 413
        stream = next(client.next_stream)
        client.send(frame(HEADERS, END_HEADERS, stream, request("POST", "/abused/marks")))
        sent = client.pour(stream, GIGABYTE)
        assert client.answer(stream).status == 413
        assert 64 * MIB <= sent < 66 * MIB
        assert serves(client)
    assert server.count("marked") == 0


def test_clients_that_say_nothing_more_are_not_waited_for(server: Abused) -> None:
    first = PREFACE + settings({})
    head = request("POST", "/abused/echoes", (b"content-length", b"100"))
    begun = frame(HEADERS, 0, 1, head)
    silent = {
        "in the preface": PREFACE[:10],
        "after the preface": PREFACE,
        "after the settings": first,
        "in a frame's head": first + begun[:5],
        "in a frame": first + begun[:-5],
        "in the head": first + begun,
        "before the body": first + frame(HEADERS, END_HEADERS, 1, head),
        "in the body": first + frame(HEADERS, END_HEADERS, 1, head) + frame(DATA, 0, 1, b"["),
    }
    count = 40 * len(silent)
    with (
        unharmed(server.server, growth=32 * MIB) as calm,
        open_lines(server.server, count) as lines,
    ):
        for n, line in enumerate(lines):
            line.send([*silent.values()][n % len(silent)])
        calm.wait(20)
        wait_until("their end", lambda: all(drained(line) for line in lines), 30)
    assert server.count("echoes") == 0


def drained(line: Line) -> bool:
    """Read what is there; whether the server has closed."""
    while not line.closed:
        before = len(line.came)
        line.listen_once(0)
        if len(line.came) == before and not line.closed:
            return False
    return True


@pytest.mark.parametrize("times", [1000])
def test_clients_that_vanish_with_their_streams_leave_nothing(server: Abused, times: int) -> None:
    at_once, each = 10, 10
    with unharmed(server.server, growth=16 * MIB) as calm:
        for n in range(1, times // (at_once * each) + 1):
            clients = [Http2(server.server) for _ in range(at_once)]
            for client in clients:
                for _ in range(each // 2):
                    call(client, "lingers", {"tag": "gone"})
                    call(client, "drips", {"tag": "gone"})
            goal = n * at_once * each
            wait_until("calls", lambda: server.count("gone-begun") == goal)  # noqa: B023
            for k, client in enumerate(clients):
                client.line.reset() if k % 2 else client.line.close()
            wait_until("their end", lambda: server.count("gone-ended") == goal)  # noqa: B023
        calm.wait(5)


# === between the two versions ===


def test_the_preface_of_http_2_is_no_request_of_http_1(server: Abused) -> None:
    get = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with unharmed(server.server), Line(server.server) as line:
        line.send(get + PREFACE + settings({}))
        listen_to([line], 0.5)
    first, *rest = read_answers(bytes(line.came))
    assert first.status == 200 and [said.status for said in rest] in ([], [400], [505])
    assert line.closed


def test_a_request_of_http_1_is_none_of_http_2(server: Abused) -> None:
    with unharmed(server.server), Http2(server.server) as client:
        client.send(b"POST /abused/marks HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
        assert client.is_ended()
    assert server.count("marked") == 0
