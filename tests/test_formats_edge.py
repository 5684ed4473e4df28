"""Formats at the edges, before any table is read.

Which file is what, what is refused and when, and where large data lies on its way to the worker.
"""

import http.client
import json
import os
import pty
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import Call, Completed, Serve
from problems import problem
from processes import Answer, Server

HANDLERS = Path(__file__).parent / "handlers"
KINDS = HANDLERS / "kinds.py"

Calling = Callable[..., subprocess.Popen[bytes]]

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


# === streams ===

STREAMS = """
import os, time
import pyarrow as pa

def counts(folder: str, n: int):
    # Each number waits until the one before it was seen.
    for i in range(n):
        yield {"i": i}
        while not os.path.exists(f"{folder}/{i}"):
            time.sleep(0.005)

def endless():
    i = 0
    while True:
        yield {"i": i}
        i += 1

def fails():
    yield {"i": 0}
    raise ValueError("no more")

def first(rows: pa.RecordBatchReader):
    return rows.read_next_batch().num_rows

def total(rows: pa.RecordBatchReader):
    return sum(batch.num_rows for batch in rows)
"""


@pytest.fixture
def streams(tmp_path: Path) -> Path:
    """A file of functions that yield and of such that read."""
    path = tmp_path / "streams.py"
    path.write_text(STREAMS)
    return path


@pytest.fixture
def calling(exuvia_bin: Path, project_python: Path) -> Iterator[Calling]:
    """Start calls whose input and output are pipes; none outlives the test."""
    started: list[subprocess.Popen[bytes]] = []

    def go(target: str, *args: str) -> subprocess.Popen[bytes]:
        command = [str(exuvia_bin), "call", target, *args, "--python", str(project_python)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe))
        return started[-1]

    yield go
    for process in started:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[bytes]) -> bytes:
    """Read a line of its output."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_each_piece_is_out_before_the_next_is_made(
    calling: Calling, streams: Path, tmp_path: Path
) -> None:
    arguments = ["--arg", f"folder={tmp_path}", "--arg", "n=3", "--out-format", "ndjson"]
    process = calling(f"{streams}:counts", *arguments)
    for i in range(3):
        assert json.loads(line(process)) == {"i": i}
        (tmp_path / str(i)).touch()
    assert (line(process), process.wait(20)) == (b"", 0)


def test_a_stream_that_fails_midway_leaves_an_old_file_as_it_was(
    call: Call, streams: Path, tmp_path: Path
) -> None:
    done = call(f"{streams}:fails", "--out-format", "ndjson")
    assert (done.returncode, done.stdout) == (1, '{"i":0}\n')
    assert done.stderr.startswith("error: fails failed: no more (ValueError)\n")
    out = tmp_path / "out.ndjson"
    out.write_text("old\n")
    before = sorted(tmp_path.iterdir())
    said = error(call(f"{streams}:fails", "--out", str(out)), 1)
    assert said.startswith("error: fails failed: no more (ValueError)\n")
    assert out.read_text() == "old\n"
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


def test_a_stream_ends_with_its_reader(calling: Calling, streams: Path) -> None:
    process = calling(f"{streams}:endless", "--out-format", "ndjson")
    assert json.loads(line(process)) == {"i": 0}
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.wait(20), process.stderr.read()) == (0, b"")


def test_a_stream_waits_for_its_reader_and_still_heeds_ctrl_c(
    calling: Calling, streams: Path
) -> None:
    process = calling(f"{streams}:endless", "--out-format", "ndjson")
    assert json.loads(line(process)) == {"i": 0}
    # The pipe fills, and nothing of what follows piles up in the command: it comes to rest.
    used = [resident(process.pid)]
    while len(used) < 4 or used[-1] > used[-4]:
        assert used[-1] < 100 << 20, used
        time.sleep(0.1)
        used.append(resident(process.pid))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_function_that_reads_need_not_wait_for_the_end_of_stdin(
    calling: Calling, streams: Path
) -> None:
    arguments = ["--in", "-", "--in-format", "ndjson", "--timeout", "15s"]
    process = calling(f"{streams}:first", *arguments)
    stdin = process.stdin
    assert stdin is not None

    def endlessly() -> None:
        """Write rows until nobody reads them any more."""
        with suppress(BrokenPipeError):
            while True:
                stdin.write(b'{"a": 1}\n' * 1000)
                stdin.flush()

    writing = threading.Thread(target=endlessly, daemon=True)
    writing.start()
    assert int(line(process)) > 0
    assert process.wait(20) == 0
    writing.join(20)
    assert not writing.is_alive()


@pytest.mark.parametrize("by", ["file", "stdin"])
def test_a_function_that_reads_gets_all_of_its_input(call: Call, streams: Path, by: str) -> None:
    text = "a,b\n" + "1,x\n" * 100_000
    if by == "file":
        given = streams.with_name("rows.csv")
        given.write_text(text)
        done = call(f"{streams}:total", "--in", str(given))
    else:
        done = call(f"{streams}:total", "--in", "-", "--in-format", "csv", stdin=text)
    assert (done.returncode, done.stdout) == (0, "100000\n"), done.stderr


def test_input_that_cannot_be_read_is_told_whoever_reads_it(
    call: Call, sums: Path, streams: Path
) -> None:
    folder = sums.with_name("rows.csv")
    folder.mkdir()
    for target in (f"{sums}:total", f"{streams}:total"):
        said = error(call(target, "--in", str(folder)), 4)
        assert f"the input {folder} cannot be read" in said


def test_what_a_generator_yields_is_streamed_over_http(
    serve: Serve, streams: Path, tmp_path: Path
) -> None:
    server = serve(streams)
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    arguments = json.dumps({"folder": str(tmp_path), "n": 3})
    connection.request(
        "POST", "/streams/counts", body=arguments, headers={"accept": "application/x-ndjson"}
    )
    answer = connection.getresponse()
    assert (answer.status, answer.headers["transfer-encoding"]) == (200, "chunked")
    for i in range(3):
        assert json.loads(answer.readline()) == {"i": i}
        (tmp_path / str(i)).touch()
    assert answer.read() == b""
    connection.request(
        "POST", "/streams/fails", body=b"", headers={"accept": "application/x-ndjson"}
    )
    answer = connection.getresponse()
    assert answer.status == http.client.OK
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    assert "ValueError: no more" in server.log()


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
