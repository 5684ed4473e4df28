"""Large tables reach handlers without a copy, edits stay private, and nothing is left behind.

The handlers tell addresses; what lies there is known, since a column's bytes are at one place only
of the body that was sent.
"""

import http.client
import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import exuvia
import numpy as np
import pyarrow as pa
import pytest
from conftest import Call
from processes import Answer, Server, held, serving, wait_for_rest
from table_formats import FILE, NPY, STREAM, as_file, as_npy, as_stream, table_in

HANDLERS = Path(__file__).parent / "handlers"
MEMORY = HANDLERS / "tables_memory.py"

ROWS, COLUMNS = 8760, 8
SUM = float(sum(float(np.sum(np.arange(ROWS) + float(n))) for n in range(COLUMNS)))

NAMES = [f"c{n}" for n in range(COLUMNS)]
TABLE = pa.table({name: np.arange(ROWS) + float(n) for n, name in enumerate(NAMES)})
BODIES = {STREAM: as_stream(TABLE), FILE: as_file(TABLE)}

MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ (\d+) +/memfd:exuvia-payload")


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server with one worker, so that what is left behind adds up."""
    command = [str(exuvia_bin), "serve", str(MEMORY), "--port", "0", "--workers", "1"]
    command += ["--max-body", "128MiB", "--python", str(project_python)]
    with serving(command) as running:
        yield running


@pytest.fixture(scope="module")
def host() -> Iterator[exuvia.Host]:
    """A host in this program."""
    with exuvia.Host(str(MEMORY)) as host:
        yield host


# === where columns lie ===


def offsets_in(raw: bytes, table: Any = TABLE) -> list[int]:
    """Where the bytes of each column begin in a body."""
    found = [raw.find(column.to_numpy().tobytes()) for column in table.columns]
    assert -1 not in found
    return found


def payload_offsets(told: dict[str, Any]) -> list[int]:
    """Where in the payload the addresses lie, all in one private map that may be written to."""
    maps = [match for line in told["maps"] if (match := MAP.match(line))]
    assert maps, told
    inodes, offsets = set(), []
    for address in told["addresses"]:
        [found] = [m for m in maps if int(m[1], 16) <= address < int(m[2], 16)]
        assert found[3] == "rw-p"
        inodes.add(found[5])
        offsets.append(address - int(found[1], 16) + int(found[4], 16))
    assert len(inodes) == 1, "the columns lie in several payloads"
    return offsets


LIBRARIES = [
    "of_arrow", "of_arrow_batch", "of_arrow_reader", "of_arro3", "of_arro3_batch", "of_polars",
    "of_polars_lazy", "of_frame", "of_numpy",
]  # fmt: skip


# A reader is fed with a stream piece by piece, through a socket.
WHOLE = [pair for pair in product(LIBRARIES, BODIES) if pair != ("of_arrow_reader", STREAM)]


@pytest.mark.parametrize("name, media", WHOLE)
def test_what_a_library_sees_is_the_body_itself(server: Server, name: str, media: str) -> None:
    raw = BODIES[media]
    answer = server.post(f"/tables_memory/{name}", raw=raw, headers={"content-type": media})
    assert answer.status == 200, answer.body
    assert payload_offsets(answer.json()) == offsets_in(raw)
    assert "exuvia-copies" not in answer.headers


def test_an_array_is_the_body_itself(server: Server) -> None:
    raw = as_npy(np.arange(70_000.0).reshape(7, -1))
    answer = server.post("/tables_memory/of_array", raw=raw, headers={"content-type": NPY})
    assert answer.status == 200, answer.body
    assert payload_offsets(answer.json()) == [raw.find(np.arange(70_000.0).tobytes())]
    assert "exuvia-copies" not in answer.headers


def test_one_column_is_a_vector_in_the_body_itself(server: Server) -> None:
    table = pa.table({"x": np.arange(10.0, 20_000.0)})
    raw = as_stream(table)
    answer = server.post("/tables_memory/of_array", raw=raw, headers={"content-type": STREAM})
    assert payload_offsets(answer.json()) == offsets_in(raw, table)
    assert "exuvia-copies" not in answer.headers


@pytest.mark.parametrize("ending", ["arrow", "arrows"])
@pytest.mark.parametrize("name", ["of_arrow", "of_polars", "of_frame", "of_numpy"])
def test_what_a_library_sees_is_a_copy_of_the_file_and_no_more(
    call: Call, tmp_path: Path, name: str, ending: str
) -> None:
    raw = BODIES[FILE if ending == "arrow" else STREAM]
    path = tmp_path / f"in.{ending}"
    path.write_bytes(raw)
    done = call(f"{MEMORY}:{name}", "--in", str(path), "--diagnostics")
    assert done.returncode == 0, done.stderr
    assert payload_offsets(json.loads(done.stdout)) == offsets_in(raw)
    assert json.loads(done.stderr.splitlines()[-1])["copies"] == []


@pytest.mark.parametrize("name", ["of_arrow", "of_frame"])
def test_what_is_shared_once_is_seen_by_every_call_where_it_lies(
    host: exuvia.Host, name: str
) -> None:
    given = TABLE if name == "of_arrow" else TABLE.to_pandas()
    shared = exuvia.share(given)
    first = host.outcome(f"tables_memory:{name}", shared)
    assert not first.diagnostics.copies
    steps = np.diff(payload_offsets(first.value))
    # One column after the other, with nothing but padding between them.
    assert set(steps) <= {ROWS * 8, -(-ROWS * 8 // 64) * 64}
    again = host.outcome(f"tables_memory:{name}", shared)
    assert payload_offsets(again.value) == payload_offsets(first.value)


def test_what_is_larger_than_most_goes_in_and_out_the_same_way(server: Server) -> None:
    table = pa.table({"x": np.arange(9_500_000.0)})
    raw = as_stream(table)
    assert len(raw) > 72 << 20
    headers = {"content-type": STREAM, "accept": STREAM}
    answer = server.post("/tables_memory/of_arrow", raw=raw, headers={"content-type": STREAM})
    assert answer.status == 200, answer.body
    assert payload_offsets(answer.json()) == offsets_in(raw, table)
    answer = server.post("/tables_memory/same", raw=raw, headers=headers)
    assert answer.status == 200, answer.body[:1000]
    assert table_in(answer.body) == table


# === what is copied is told ===


def copies_of(answer: Answer) -> tuple[int, int]:
    """How many copies an answer tells of, and of how many bytes."""
    count, size = re.fullmatch(r"(\d+); bytes=(\d+)", answer.headers["exuvia-copies"]).groups()  # type: ignore[union-attr]
    return int(count), int(size)


def test_a_column_with_nulls_is_copied_for_pandas_alone_and_that_is_told(
    server: Server, call: Call, tmp_path: Path
) -> None:
    table = TABLE.set_column(3, "c3", pa.array([None, *range(1, ROWS)], pa.float64()))
    raw = as_stream(table)
    headers = {"content-type": STREAM}
    answer = server.post("/tables_memory/total", raw=raw, headers=headers)
    assert "exuvia-copies" not in answer.headers
    path = tmp_path / "in.arrows"
    path.write_bytes(raw)
    done = call(f"{MEMORY}:of_frame", "--in", str(path), "--diagnostics")
    [copied] = json.loads(done.stderr.splitlines()[-1])["copies"]
    assert copied["what"] == 'column "c3"'
    assert copied["why"] == "pandas needs a copy because it has nulls"
    answer = server.post("/tables_memory/of_frame", raw=raw, headers=headers)
    assert copies_of(answer) == (1, copied["bytes"])


def test_small_data_and_results_are_told_too(server: Server) -> None:
    small = pa.table({"x": [1.0, 2.0]})
    headers = {"content-type": STREAM, "accept": STREAM}
    answer = server.post("/tables_memory/same", raw=as_stream(small), headers=headers)
    assert table_in(answer.body) == small
    assert copies_of(answer)[0] == 2, "into the worker, and into the answer"
    large = server.post("/tables_memory/same", raw=BODIES[STREAM], headers=headers)
    assert table_in(large.body) == TABLE
    assert copies_of(large) == (1, TABLE.nbytes), "into the answer alone"


def test_batches_are_told_where_they_have_to_be_joined(server: Server) -> None:
    halves = pa.concat_tables([TABLE.slice(0, 5000), TABLE.slice(5000)])
    raw, headers = as_stream(halves), {"content-type": STREAM}
    answer = server.post("/tables_memory/total", raw=raw, headers=headers)
    assert answer.json() == ROWS and "exuvia-copies" not in answer.headers
    answer = server.post("/tables_memory/of_frame", raw=raw, headers=headers)
    assert copies_of(answer) == (COLUMNS, TABLE.nbytes)


# === edits ===

EDITED = -(float(ROWS * COLUMNS)) + 6.0


@pytest.mark.parametrize("name", ["edits_frame", "edits_arrays"])
def test_a_handler_edits_in_place_and_nobody_else_sees_it(server: Server, name: str) -> None:
    raw, headers = BODIES[STREAM], {"content-type": STREAM}
    for _ in range(3):
        answer = server.post(f"/tables_memory/{name}", raw=raw, headers=headers)
        assert answer.status == 200, answer.body
        found = answer.json()
        assert found["before"] == SUM
        assert found["after"] == (EDITED if name == "edits_frame" else -ROWS * COLUMNS)
        assert payload_offsets(found) == offsets_in(raw), "it was edited elsewhere"
        assert "exuvia-copies" not in answer.headers


def test_an_array_is_edited_in_place(server: Server) -> None:
    raw = as_npy(np.arange(70_000.0))
    found = server.post("/tables_memory/edits_array", raw=raw, headers={"content-type": NPY}).json()
    assert (found["before"], found["after"]) == (np.arange(70_000.0).sum(), 0.0)
    assert payload_offsets(found) == [raw.find(np.arange(70_000.0).tobytes())]


def test_edits_do_not_reach_what_is_shared(host: exuvia.Host) -> None:
    frame = TABLE.to_pandas()
    arrays = np.arange(70_000.0)
    for obj, name, total in [(frame, "edits_frame", SUM), (arrays, "edits_array", arrays.sum())]:
        shared = exuvia.share(obj)
        for _ in range(3):
            found = host.call(f"tables_memory:{name}", shared)
            assert found["before"] == total != found["after"]
    assert float(frame.to_numpy().sum()) == SUM
    assert arrays.sum() == np.arange(70_000.0).sum()


def test_edits_do_not_reach_the_file(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "in.arrow"
    path.write_bytes(BODIES[FILE])
    done = call(f"{MEMORY}:edits_frame", "--in", str(path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["after"] == EDITED
    assert path.read_bytes() == BODIES[FILE]


# === ten thousand calls ===

# Memory that allocators keep is there after the first few hundred.
WARM, CALLS = 500, 10_000


def resident(pid: int) -> int:
    """Memory of a process in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def send_many(connection: http.client.HTTPConnection, path: str, count: int) -> None:
    """Send the table again and again over one connection."""
    for _ in range(count):
        connection.request("POST", path, body=BODIES[STREAM], headers={"content-type": STREAM})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"%d" % ROWS)


@pytest.mark.timeout(300)
def test_ten_thousand_tables_leave_no_memory_descriptor_or_map_behind(
    exuvia_bin: Path, project_python: Path
) -> None:
    command = [str(exuvia_bin), "serve", str(MEMORY), "--port", "0", "--workers", "1"]
    command += ["--python", str(project_python)]
    with serving(command) as server:
        [worker] = server.workers()
        pids = {"host": server.pid, "worker": worker}
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        send_many(connection, "/tables_memory/total", WARM)
        before = {name: (resident(pid), held(pid)) for name, pid in pids.items()}
        send_many(connection, "/tables_memory/total", CALLS)
        for name, pid in pids.items():
            wait_for_rest(pid, before[name][1])
            grown = resident(pid) - before[name][0]
            assert grown < 20e6, f"the {name} has grown by {grown / 1e6:.1f} MB"
        connection.close()
        assert server.workers() == [worker]
