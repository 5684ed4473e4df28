"""Formats at the edges, before any table is read.

Which file is what, what is refused and when, and where large data lies on its way to the worker.
"""

import http.client
import json
import os
import pty
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Call, Completed, Serve
from problems import problem
from processes import Answer, Server

HANDLERS = Path(__file__).parent / "handlers"
KINDS = HANDLERS / "kinds.py"

# Data above it goes to the worker in shared memory.
SHARED_FROM = 64 << 10

SUMS = """
def total(values): return {"sum": sum(values), "length": len(values)}
def leaves(path: str): open(path, "w").close()
def fails(): raise ValueError("no such unit")
"""


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """A file of functions that need no library."""
    path = tmp_path / "sums.py"
    path.write_text(SUMS)
    return path


def error(done: Completed, code: int) -> str:
    """What was said of a call that failed; nothing of it is on stdout."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    return done.stderr


def numbers(count: int) -> str:
    """As JSON, some six bytes each."""
    return json.dumps(list(range(100_000, 100_000 + count)))


# === which file is what ===


@pytest.mark.parametrize("flag", ["--in", "--out"])
@pytest.mark.parametrize(("ending", "meant"), [("parqet", "parquet"), ("fether", "feather")])
def test_an_unknown_ending_is_told_the_known_ones_and_the_nearest(
    call: Call, sums: Path, flag: str, ending: str, meant: str
) -> None:
    marker = sums.with_name("ran")
    said = error(call(f"{sums}:leaves", "--arg", f"path={marker}", flag, f"x.{ending}"), 2)
    assert f"{flag} x.{ending}: the ending .{ending} does not name a format" in said
    for known in ["json", "ndjson", "jsonl", "csv", "parquet", "pq", "arrow", "feather", "npy"]:
        assert f".{known}" in said
    assert f"{flag}-format" in said
    assert f"Did you mean `.{meant}`?" in said
    assert not marker.exists()


@pytest.mark.parametrize("flag", ["--in-format", "--out-format"])
def test_an_unknown_format_is_told_the_nearest(call: Call, sums: Path, flag: str) -> None:
    done = call(f"{sums}:total", "--in", "-", flag, "arow-stream")
    assert (done.returncode, done.stdout) == (2, "")
    assert "a similar value exists: 'arrow-stream'" in done.stderr


# === what is no text stays away from terminals ===


@contextmanager
def terminal() -> Iterator[int]:
    """Give a terminal to write to."""
    ours, theirs = pty.openpty()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


@pytest.mark.parametrize("word", ["parquet", "arrow", "arrow-stream", "npy"])
def test_bytes_for_no_terminal_are_refused_before_the_call(
    exuvia_bin: Path, project_python: Path, sums: Path, word: str
) -> None:
    marker = sums.with_name("ran")
    command = [str(exuvia_bin), "call", f"{sums}:leaves", "--arg", f"path={marker}"]
    command += ["--out-format", word, "--python", str(project_python)]
    with terminal() as stdout:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 2
    said = done.stderr.decode()
    assert said.startswith(f"error: a result as {word} is no text"), said
    assert "--out" in said
    assert not marker.exists()


# === diagnostics ===


def diagnostics(done: Completed) -> dict[str, object]:
    """The last line of stderr, or of what is before a failure."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("{")]
    assert len(lines) == 1, done.stderr
    measured = json.loads(lines[0])
    assert isinstance(measured, dict)
    return measured


def test_diagnostics_are_one_line_of_what_was_measured(call: Call, sums: Path) -> None:
    done = call(f"{sums}:total", "--in", "-", "--diagnostics", stdin="[1, 2]")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"sum": 3, "length": 2}
    measured = diagnostics(done)
    assert list(measured) == [
        "call_id", "handler", "worker", "pid", "queued_us", "run_us", "attempts", "copies",
    ]  # fmt: skip
    assert measured["handler"] == "sums:total"
    assert (measured["attempts"], measured["copies"]) == (1, [])


def test_diagnostics_are_told_of_a_call_that_failed(call: Call, sums: Path) -> None:
    done = call(f"{sums}:fails", "--diagnostics")
    assert (done.returncode, done.stdout) == (1, "")
    assert diagnostics(done)["handler"] == "sums:fails"
    assert "error: fails failed: no such unit (ValueError)" in done.stderr
    done = call(f"{sums}:fails")
    assert "call_id" not in done.stderr, "unasked"


# === large data ===


@pytest.mark.parametrize("count", [8_000, 8_500, 500_000])
@pytest.mark.parametrize("by", ["file", "stdin"])
def test_input_of_any_length_arrives_whole(call: Call, sums: Path, by: str, count: int) -> None:
    text = numbers(count)
    # One of the lengths is on the other side of the threshold.
    assert (len(text) > SHARED_FROM) == (count > 8_100)
    if by == "file":
        given = sums.with_name("numbers.json")
        given.write_text(text)
        done = call(f"{sums}:total", "--in", str(given))
    else:
        done = call(f"{sums}:total", "--in", "-", stdin=text)
    assert done.returncode == 0, done.stderr
    expected = {"sum": sum(range(100_000, 100_000 + count)), "length": count}
    assert json.loads(done.stdout) == expected


def test_a_body_of_any_length_arrives_whole(serve: Serve, sums: Path) -> None:
    server = serve(sums)
    for count in [1, 8_000, 8_500, 500_000]:
        answer = server.post("/sums/total", raw=numbers(count).encode())
        assert answer.status == http.client.OK, answer.body
        assert answer.json()["length"] == count


def test_a_large_result_leaves_whole(serve: Serve, call: Call) -> None:
    text = json.dumps("é" * 300_000, ensure_ascii=False)
    answer = serve(KINDS).post("/kinds/echoes", raw=text.encode())
    assert (answer.status, answer.body) == (http.client.OK, text.encode())
    done = call(f"{KINDS}:echoes", "--in", "-", stdin=text)
    assert (done.returncode, done.stdout) == (0, f"{text}\n"), done.stderr


@contextmanager
def without_descriptors(server: Server) -> Iterator[None]:
    """Let the server open nothing more."""
    before = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)


def test_a_body_that_finds_no_room_is_refused_and_harms_nobody(serve: Serve, sums: Path) -> None:
    server = serve(sums)

    def connected() -> http.client.HTTPConnection:
        """Give a connection that the server has taken."""
        connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
        assert sent(connection, 1).status == http.client.OK
        return connection

    def sent(connection: http.client.HTTPConnection, count: int) -> Answer:
        """Send this many numbers."""
        connection.request("POST", "/sums/total", body=numbers(count))
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())

    large, small = connected(), connected()
    with without_descriptors(server):
        refused = sent(large, 100_000)
        body = problem(refused, "no_room", 503)
        assert body["responsible"] == "infrastructure"
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
        assert sent(small, 100).status == http.client.OK
    assert sent(small, 100_000).json()["length"] == 100_000
    large.close()
    small.close()


# === the setting ===


def test_the_memory_of_a_table_is_a_setting(exuvia_bin: Path, tmp_path: Path) -> None:
    (tmp_path / "exuvia.toml").write_text('max-table = "64MiB"\n')

    def config(*args: str, env: dict[str, str] | None = None) -> Completed:
        return subprocess.run(
            [exuvia_bin, "config", "--json", *args],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, **(env or {})},
            timeout=20,
            check=False,
        )

    def shown(done: Completed) -> object:
        return json.loads(done.stdout)["settings"]["max-table"]

    assert shown(config()) == {"value": "64MiB", "origin": "exuvia.toml:1"}
    variable = {"EXUVIA_MAX_TABLE": "2GiB"}
    assert shown(config(env=variable)) == {"value": "2GiB", "origin": "EXUVIA_MAX_TABLE"}
    flag = config("--max-table", "1MiB", env=variable)
    assert shown(flag) == {"value": "1MiB", "origin": "--max-table"}
    wrong = config("--max-table", "much")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--max-table: `much` is not a size" in wrong.stderr
