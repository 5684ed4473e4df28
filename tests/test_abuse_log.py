"""The access log in the hands of strangers: a line for each request, and nothing in it but text."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from abuse import ABUSED, PATIENCE, Line, abused, listen_to, open_lines, read_answers
from processes import LISTENING, Server, in_session, wait_until

# What a terminal, or who reads lines, would take for more than text.
HOSTILE = [
    b"\x1b[2J\x1b]0;title\x07",
    b"\xc2\x9b2J",
    b"\xe2\x80\xae\xe2\x80\xa8\xe2\x80\xa9",
    b"\xff\xfe\x80\x9b",
    b'" 200 0 "forged',
    b"\\\\x1b\\n",
    b"\t\ttabs",
    b"'; drop table log; --",
    b'{"status": 200}',
    b"%0d%0aforged%1b[2J%00",
    b"x" * 20_000,
]

# A line for people, up to its status.
HUMAN = re.compile(r'[0-9TZ.:-]+ 127\.0\.0\.1:[0-9]+ "[^ ]+ .+ [^ ]+" ([0-9]{3}) [0-9]+ [0-9.]+ms ')


def requests() -> list[bytes]:
    """Give requests that say hostile things wherever something is logged of them."""
    found = []
    for text in HOSTILE:
        for line, name in [
            (b"GET /%s HTTP/1.1" % text, b"x"),
            (b"GET /?%s HTTP/1.1" % text, b"x"),
            (b"GET /healthz HTTP/1.1", b"user-agent"),
            (b"GET /healthz HTTP/1.1", b"x-request-id"),
            (b"GET /healthz HTTP/1.1", b"traceparent"),
            (b"%s /healthz HTTP/1.1" % text, b"x"),
        ]:
            value = b"y" if name == b"x" else text
            told = b"host: localhost\r\nconnection: close\r\n%s: %s" % (name, value)
            found.append(line + b"\r\n" + told + b"\r\n\r\n")
    return found


@pytest.mark.parametrize("form", ["human", "json"])
def test_what_strangers_say_stays_text_in_its_line(
    exuvia_bin: Path, project_python: Path, tmp_path: Path, form: str
) -> None:
    words = ["--workers", "1", "--access-log", form]
    sent = requests()
    with abused(exuvia_bin, project_python, tmp_path / "marks", *words) as server:
        before = server.server.log_path.stat().st_size
        with open_lines(server.server, len(sent)) as lines:
            for line, request in zip(lines, sent, strict=True):
                line.send(request)
            listen_to(lines, 0.3)
        statuses = [said.status for line in lines for said in read_answers(bytes(line.came))]

        def logged() -> list[str]:
            said = server.server.log_path.read_bytes()[before:]
            lines = said.decode("utf-8").split("\n")[:-1]
            # Who waited for the server asked for this, and its line may come late.
            return [line for line in lines if "/readyz" not in line]

        wait_until("a line for each", lambda: len(logged()) >= len(statuses))
        said = logged()
    # A client that sent more than was read may lose its answer to a reset; the line is there.
    assert len(statuses) <= len(said) <= len(sent)
    assert [line for line in said if not line.isprintable()] == []
    assert max(map(len, said)) < 8000
    if form == "json":
        found = [json.loads(line)["status"] for line in said]
    else:
        shown = [HUMAN.match(line) for line in said]
        found = [int(match[1]) for match in shown if match is not None]
    assert len(found) == len(said) and not Counter(statuses) - Counter(found)


def test_a_request_that_its_client_gave_up_has_its_line(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    words = ["--workers", "1", "--access-log", "json"]
    body = b'{"tag": "left"}'
    head = b"POST /abused/lingers HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    with abused(exuvia_bin, project_python, tmp_path / "marks", *words) as server:
        with open_lines(server.server, 50) as lines:
            for line in lines:
                line.send(head % len(body) + body)
            wait_until("calls", lambda: server.count("left-begun") == 50)
        wait_until("their lines", lambda: server.server.log().count('"status":499') == 50)


# === a log that nobody reads ===

# Their lines are more than a pipe takes, many times over.
MANY = 5000


@contextmanager
def unread(command: list[str], marks: Path) -> Iterator[tuple[Server, "subprocess.Popen[bytes]"]]:
    """Start a server whose stderr nobody reads any more once it listens."""
    marks.mkdir()
    environment = {**os.environ, "ABUSED_MARKS": str(marks)}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            assert process.stderr is not None
            said = ""
            while (found := LISTENING.search(said)) is None:
                said += os.read(process.stderr.fileno(), 65536).decode()
            yield Server(process, marks, found[1], found[2].strip("[]"), int(found[3])), process
        finally:
            for left in in_session(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)


def test_a_log_that_nobody_reads_stops_no_answer(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    """The pipe takes 64 KiB; lines beyond that are dropped."""
    command = [str(exuvia_bin), "serve", str(ABUSED), "--port", "0", "--workers", "1"]
    command += ["--python", str(project_python), "--access-log", "human"]
    with unread(command, tmp_path / "marks") as (server, process):
        with Line(server) as line:
            line.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" * MANY)
            deadline = time.monotonic() + PATIENCE
            while line.came.count(b"HTTP/1.1 200 OK") < MANY and time.monotonic() < deadline:
                line.listen_once(0.1)
        assert len(read_answers(bytes(line.came))) == MANY
        # It ends as it should, whether or not the rest is read.
        reader = threading.Thread(target=process.stderr.read)  # type: ignore[union-attr]
        reader.start()
        process.terminate()
        assert process.wait(20) == 0
        reader.join()


@pytest.mark.parametrize(
    "path, body", [("/unruly/fails", {}), ("/unruly/prints", {"text": "x" * 1000})]
)
def test_what_is_said_of_calls_and_by_them_stops_nothing_where_nobody_reads(
    exuvia_bin: Path, project_python: Path, tmp_path: Path, path: str, body: dict[str, str]
) -> None:
    """The log and what handlers print go the same way; both are more than the pipe takes."""
    command = [str(exuvia_bin), "serve", str(ABUSED), str(ABUSED.parent / "unruly.py")]
    command += ["--port", "0", "--workers", "1", "--python", str(project_python)]
    with unread(command, tmp_path / "marks") as (server, process):
        statuses = {server.post(path, body).status for _ in range(400)}
        assert statuses in ({200}, {500})
        process.terminate()
        assert process.wait(20) == 0
