"""Ten thousand connections that say nothing, and servers that run out of connections."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from abuse import (
    MIB,
    PATIENCE,
    Line,
    abused,
    listen_to,
    open_lines,
    read_answers,
    resident,
    unharmed,
)
from processes import descriptors, wait_until

COUNT = 10_000

# For each of them, on either side, and for all else.
DESCRIPTORS = COUNT + 500

# What one may cost the server, in bytes: hyper's first buffer and the state of the connection.
EACH = 24 << 10

# The same after it has brought a body.
BROUGHT = 80 << 10

# How long they are waited for: longer than it takes to open them all on a machine under load.
PATIENT = "6s"

GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Allow this process, and those it starts, as many descriptors as the attack takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"the hard limit of descriptors (ulimit -Hn) is {hard}, below {DESCRIPTORS}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ten_thousand_idle_connections_cost_little_and_are_closed_in_time(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    """Half of them have asked something once, half never said a word."""
    words = ["--workers", "1", "--max-connections", str(COUNT + 100)]
    words += ["--header-timeout", PATIENT, "--idle-timeout", PATIENT]
    with (
        many_descriptors(),
        abused(exuvia_bin, project_python, tmp_path / "marks", *words) as server,
    ):
        pid, before = server.server.pid, resident(server.server.pid)
        most = COUNT * EACH
        with (
            unharmed(server.server, growth=most, peak=most) as calm,
            open_lines(server.server, COUNT) as lines,
        ):
            for line in lines[::2]:
                line.send(GET)
            for line in lines[::2]:
                assert line.socket.recv(1000).startswith(b"HTTP/1.1 200 ")
            # These, the one that asks now, and the one of the client that means well.
            assert server.server.metrics()["exuvia_http_connections"] == COUNT + 2
            assert (resident(pid) - before) / COUNT < EACH
            calm.wait(50)
            for line in lines:
                assert line.listen(PATIENCE) and not line.came


def test_a_connection_at_rest_does_not_keep_what_it_took_to_bring_a_body(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    count, body = 1000, b'{"tag": "brought"' + b" " * 200_000 + b"}"
    head = b"POST /abused/marks HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    with abused(exuvia_bin, project_python, tmp_path / "marks", "--workers", "1") as server:
        pid, before = server.server.pid, resident(server.server.pid)
        with (
            unharmed(server.server, growth=count * BROUGHT, peak=count * BROUGHT) as calm,
            open_lines(server.server, count) as lines,
        ):
            for line in lines:
                line.send(head % len(body) + body)
                assert line.socket.recv(1000).startswith(b"HTTP/1.1 200 ")
            calm.wait(20)
            assert (resident(pid) - before) / count < BROUGHT


# === more than there is room for ===


def test_idle_connections_that_fill_the_server_are_made_room_of(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    """Who comes late waits for as long as a silent client may be silent."""
    words = ["--workers", "1", "--max-connections", "50", "--header-timeout", "500ms"]
    with (
        abused(exuvia_bin, project_python, tmp_path / "marks", *words) as server,
        # The client that means well comes first, and is served throughout.
        unharmed(server.server) as calm,
        open_lines(server.server, 150) as lines,
    ):
        with Line(server.server) as late:
            late.send(GET)
            calm.wait(20)
            listen_to([late], 0.1)
            assert [said.status for said in read_answers(bytes(late.came))] == [200]
        for line in lines:
            assert line.listen(PATIENCE)


def test_a_server_without_descriptors_serves_whom_it_has_and_recovers(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    words = ["--workers", "1", "--header-timeout", "500ms"]
    with abused(exuvia_bin, project_python, tmp_path / "marks", *words) as server:
        pid = server.server.pid
        with unharmed(server.server, growth=16 * MIB) as calm:
            room = len(descriptors(pid)) + 20
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, hard))
            with open_lines(server.server, 60) as lines:
                wait_until("it to be full", lambda: "could not be accepted" in server.server.log())
                calm.wait(50)
                # Each is taken, and closed for its silence, once there is room.
                for line in lines:
                    assert line.listen(PATIENCE)
        # It has said so now and then, not all the time.
        assert server.server.log().count("could not be accepted") < 200
