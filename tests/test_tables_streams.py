"""Tables that come and go piece by piece: the first is there before the last is made.

Handlers wait for files (see `handlers/tables_flow.py`), so that what is made before what is read is
certain and not a matter of time.
"""

import http.client
import io
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from problems import problem
from processes import Answer, Server, held, serving, wait_for_rest, wait_until
from table_formats import CSV, FILE, FORMATS, NDJSON, PARQUET, STREAM, as_stream, read_csv

FLOW = Path(__file__).parent / "handlers/tables_flow.py"
JSON = "application/json"
CUT_OFF = (http.client.IncompleteRead, ConnectionError)


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server with one worker for all tests."""
    command = [str(exuvia_bin), "serve", str(FLOW), "--port", "0", "--workers", "1"]
    command += ["--python", str(project_python)]
    with serving(command) as running:
        yield running


@contextmanager
def asked(
    server: Server, name: str, arguments: Any, accept: str
) -> Iterator[http.client.HTTPResponse]:
    """Ask for a streamed result; the body is left to be read."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    with closing(connection):
        headers = {"content-type": JSON, "accept": accept}
        connection.request(
            "POST", f"/tables_flow/{name}", body=json.dumps(arguments), headers=headers
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.getheader("content-type") == accept
        yield answer


def go(folder: Path, n: int) -> None:
    """Let a handler make a piece."""
    Path(folder, f"go-{n}").touch()


def wait_for(folder: Path, name: str) -> None:
    wait_until(name, Path(folder, name).exists)


def rows_of(n: int) -> list[dict[str, float]]:
    """The rows of a piece."""
    return [{"piece": n, "x": x} for x in (0.5, 1.5, float(n))]


# === the first is out before the last is made ===


def arrow_pieces(answer: http.client.HTTPResponse) -> Iterator[list[dict[str, Any]]]:
    reader = pa.ipc.open_stream(answer)
    for batch in reader:
        yield batch.to_pylist()


def csv_pieces(answer: http.client.HTTPResponse) -> Iterator[list[dict[str, Any]]]:
    header = answer.readline()
    while line := answer.readline():
        text = header + line + answer.readline() + answer.readline()
        yield read_csv(text)


def ndjson_pieces(answer: http.client.HTTPResponse) -> Iterator[list[dict[str, Any]]]:
    while line := answer.readline():
        yield [json.loads(each) for each in (line, answer.readline(), answer.readline())]


def json_pieces(answer: http.client.HTTPResponse) -> Iterator[list[dict[str, Any]]]:
    assert answer.read(1) == b"["
    while True:
        text = b""
        while text.count(b"}") < 3:
            text += answer.read(1)
        yield json.loads(b"[" + text.lstrip(b",") + b"]")
        # A comma belongs to the next piece.
        if answer.peek(1)[:1] == b"]":
            assert answer.read() == b"]"
            return


PIECES = {STREAM: arrow_pieces, CSV: csv_pieces, NDJSON: ndjson_pieces, JSON: json_pieces}


@pytest.mark.parametrize("media", PIECES)
@pytest.mark.parametrize("name", ["frames", "frames_later", "of_polars"])
def test_a_piece_is_out_before_the_next_is_made(
    server: Server, tmp_path: Path, name: str, media: str
) -> None:
    go(tmp_path, 0)
    with asked(server, name, {"folder": str(tmp_path)}, media) as answer:
        pieces = PIECES[media](answer)
        for n in range(3):
            assert next(pieces) == rows_of(n)
            assert not Path(tmp_path, f"made-{n + 1}").exists()
            go(tmp_path, n + 1)
        assert list(pieces) == []
        assert answer.read() == b""


def test_values_come_one_by_one_too(server: Server, tmp_path: Path) -> None:
    go(tmp_path, 0)
    with asked(server, "values", {"folder": str(tmp_path)}, NDJSON) as answer:
        for n in range(3):
            assert json.loads(answer.readline()) == {"piece": n}
            go(tmp_path, n + 1)
        assert answer.read() == b""


@pytest.mark.parametrize("media", [FILE, PARQUET])
def test_formats_with_an_end_hold_all_pieces(server: Server, tmp_path: Path, media: str) -> None:
    for n in range(3):
        go(tmp_path, n)
    form = next(each for each in FORMATS.values() if each.media == media)
    with asked(server, "frames", {"folder": str(tmp_path)}, media) as answer:
        assert form.read(answer.read()) == [*rows_of(0), *rows_of(1), *rows_of(2)]


@pytest.mark.parametrize("media", [STREAM, CSV, NDJSON, JSON])
def test_nothing_yielded_is_an_empty_answer(server: Server, tmp_path: Path, media: str) -> None:
    with asked(server, "frames", {"folder": str(tmp_path), "count": 0}, media) as answer:
        raw = answer.read()
    if media == JSON:
        assert json.loads(raw) == []
    elif media == STREAM and raw:
        assert pa.ipc.open_stream(raw).read_all().num_rows == 0
    else:
        assert raw == b""


def test_the_command_prints_each_piece_as_it_is_made(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    command: list[str | Path] = [
        exuvia_bin,
        "call",
        f"{FLOW}:frames",
        "--arg",
        f"folder={tmp_path}",
    ]
    command += ["--out-format", "ndjson", "--python", project_python]
    go(tmp_path, 0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for n in range(3):
            found = [json.loads(process.stdout.readline()) for _ in range(3)]
            assert found == rows_of(n)
            go(tmp_path, n + 1)
        assert process.stdout.read() == ""
        assert process.wait(20) == 0


# === who reads slowly, who leaves ===


def made(folder: Path) -> int:
    """How many pieces have been made."""
    path = Path(folder, "made")
    return int(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize("name", ["endless", "endless_later"])
def test_a_slow_client_pauses_the_handler_and_one_that_leaves_ends_it(
    server: Server, tmp_path: Path, name: str
) -> None:
    pids = [server.pid, *server.workers()]
    before = [held(pid) for pid in pids]
    with asked(server, name, {"folder": str(tmp_path)}, STREAM) as answer:
        reader = pa.ipc.open_stream(answer)
        for n in range(3):
            assert reader.read_next_batch()["x"][0].as_py() == n
        seen = -1
        while seen != made(tmp_path):
            seen = made(tmp_path)
            time.sleep(0.5)
        # Pieces of 256 KiB: what fills the buffers on the way, and no more.
        assert 2 <= seen < 100
        for _ in range(seen + 20):
            reader.read_next_batch()
        wait_until("it to go on", lambda: made(tmp_path) > seen + 10)
        assert not Path(tmp_path, "closed").exists()
    wait_for(tmp_path, "closed")
    for pid, rest in zip(pids, before, strict=True):
        wait_for_rest(pid, rest)
    assert server.workers() == pids[1:]


# === what goes wrong on the way ===


def test_a_failure_on_the_way_leaves_the_answer_incomplete(server: Server) -> None:
    for media in [STREAM, NDJSON, CSV, JSON]:
        # By lines it would not tell.
        with asked(server, "breaks", {}, media) as answer, pytest.raises(CUT_OFF):
            answer.read()
    assert "no more rain" in server.log()


@pytest.mark.parametrize("media", [STREAM, FILE, NDJSON, CSV, JSON])
def test_a_failure_before_the_first_piece_is_an_answer_like_others(
    server: Server, media: str
) -> None:
    answer = server.post("/tables_flow/breaks", {"after": 0}, headers={"accept": media})
    assert problem(answer, "exception", 500)["exception"]["message"] == "no more rain"


def test_a_piece_of_another_schema_ends_the_answer(server: Server) -> None:
    for media in [STREAM, CSV]:
        with asked(server, "changes", {}, media) as answer, pytest.raises(CUT_OFF):
            answer.read()
    log = server.log()
    assert "result[1]" in log and "other" in log


# === bodies that come piece by piece ===


class Sent:
    """A request whose body is sent by hand."""

    def __init__(self, server: Server, name: str, accept: str = JSON, media: str = STREAM) -> None:
        """Begin it."""
        self.connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
        self.connection.putrequest("POST", f"/tables_flow/{name}")
        self.connection.putheader("content-type", media)
        self.connection.putheader("accept", accept)
        self.connection.putheader("transfer-encoding", "chunked")
        self.connection.endheaders()

    def send(self, raw: bytes) -> None:
        """Send some more; nothing ends it."""
        self.connection.send(b"%x\r\n%s\r\n" % (len(raw), raw))

    def answer(self) -> http.client.HTTPResponse:
        """Give the answer, whose body may be on its way."""
        return self.connection.getresponse()

    def whole(self) -> Answer:
        """Give the answer when it is there."""
        answer = self.answer()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())


def batches(folder: Path, count: int = 3) -> list[bytes]:
    """A stream in parts: each has a batch, the first the schema, too, the last the end."""
    schema = pa.schema([("x", pa.float64())], metadata={"folder": str(folder)})
    parts, sink = [], io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for n in range(count):
            writer.write_table(pa.table([np.arange(1000.0) + n], schema=schema))
            parts.append(sink.getvalue())
            sink.seek(0)
            sink.truncate()
    return [*parts[:-1], parts[-1] + sink.getvalue()]


SUM = float(sum((np.arange(1000.0) + n).sum() for n in range(3)))


def test_a_reader_reads_while_the_rest_still_comes(server: Server, tmp_path: Path) -> None:
    request = Sent(server, "pulled")
    with closing(request.connection):
        for n, part in enumerate(batches(tmp_path)):
            request.send(part)
            if n < 2:
                wait_for(tmp_path, f"read-{n}")
                assert not Path(tmp_path, f"read-{n + 1}").exists()
        request.send(b"")
        assert request.whole().json() == {"sum": SUM, "rows": 3000}


@pytest.mark.parametrize("media", [CSV, NDJSON])
def test_a_reader_reads_lines_while_the_rest_still_comes(server: Server, media: str) -> None:
    table = pa.table({"x": np.arange(200_000.0)})
    form = next(each for each in FORMATS.values() if each.media == media)
    raw = form.write(table)
    request = Sent(server, "doubled", accept=NDJSON, media=media)
    with closing(request.connection):
        # Lines are read some thousands at a time.
        half = raw.index(b"\n", len(raw) // 2) + 1
        request.send(raw[:half])
        answer = request.answer()
        assert json.loads(answer.readline()) == {"x": 0.0}
        request.send(raw[half:])
        request.send(b"")
        rest = [json.loads(line)["x"] for line in answer.read().splitlines()]
        assert rest == [2.0 * n for n in range(1, 200_000)]


def test_batches_go_out_while_others_come_in(server: Server, tmp_path: Path) -> None:
    request = Sent(server, "doubled", accept=STREAM)
    with closing(request.connection):
        parts = batches(tmp_path)
        request.send(parts[0])
        answer = request.answer()
        assert answer.status == 200
        reader = pa.ipc.open_stream(answer)
        for n in range(3):
            found = reader.read_next_batch()["x"].to_numpy()
            np.testing.assert_array_equal(found, (np.arange(1000.0) + n) * 2)
            if n < 2:
                request.send(parts[n + 1])
        request.send(b"")
        with pytest.raises(StopIteration):
            reader.read_next_batch()


def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one(
    server: Server, tmp_path: Path
) -> None:
    before = server.workers()
    request = Sent(server, "pulled")
    request.send(batches(tmp_path)[0])
    wait_for(tmp_path, "read-0")
    request.connection.close()
    # A whole stream that ends too early is an error as well.
    cut = as_stream(pa.table({"x": np.arange(50_000.0)}))[:-5000]
    request = Sent(server, "pulled")
    with closing(request.connection):
        request.send(cut)
        request.send(b"")
        assert problem(request.whole(), "malformed", 400)["responsible"] == "caller"
    headers = {"content-type": STREAM}
    good = server.post("/tables_flow/pulled", raw=b"".join(batches(tmp_path)), headers=headers)
    assert good.json() == {"sum": SUM, "rows": 3000}
    assert server.workers() == before


def test_a_large_body_goes_through_a_reader_and_a_generator(server: Server) -> None:
    table = pa.table({"x": np.arange(1_000_000.0)})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=50_000)
    raw = sink.getvalue()
    answer = server.post(
        "/tables_flow/doubled", raw=raw, headers={"content-type": STREAM, "accept": STREAM}
    )
    found = pa.ipc.open_stream(answer.body).read_all()
    assert found["x"].num_chunks == 20
    np.testing.assert_array_equal(found["x"].to_numpy(), np.arange(1_000_000.0) * 2)


def test_a_table_comes_whole_and_goes_in_pieces(server: Server) -> None:
    table = pa.table({"x": np.arange(10.0)})
    for media in [STREAM, PARQUET, CSV, NDJSON, JSON]:
        form = next(
            (each for each in FORMATS.values() if each.media == media), FORMATS["json-rows"]
        )
        headers = {"content-type": form.media, "accept": media}
        answer = server.post("/tables_flow/halves", raw=form.write(table), headers=headers)
        assert answer.status == 200, answer.body
        assert form.read(answer.body) == table.to_pylist()
