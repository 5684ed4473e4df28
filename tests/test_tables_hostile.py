"""Tables made to do harm: each ends as an error that says why, and harms nobody.

The worker that reads them must be the same one afterwards, its memory within bounds, and its next
answer right.
"""

import functools
import io
import random
import re
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from arrow_tables import shown
from processes import Answer, Server, serving
from table_formats import (
    COLUMNS,
    CSV,
    FILE,
    FORMATS,
    NDJSON,
    NPY,
    PARQUET,
    ROWS,
    STREAM,
    as_file,
    as_npy,
    as_parquet,
    as_stream,
    table_in,
)

GUARDED = Path(__file__).parent / "handlers/tables_guarded.py"

MAX_TABLE = 64 << 20
# What a worker may take beyond what it had: the body it maps, the table, and what decoders need.
ROOM = 200e6

CUTS, SEEDS = 40, 200


@pytest.fixture(scope="module")
def one(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server with one worker for all tests."""
    command = [str(exuvia_bin), "serve", str(GUARDED), "--port", "0", "--workers", "1"]
    command += ["--max-table", "64MiB", "--max-body", "160MiB", "--timeout", "10s"]
    command += ["--python", str(project_python)]
    with serving(command) as running:
        assert sent(running, "checked", STREAM, as_stream(good())).status == 200
        yield running


def status(pid: int, name: str) -> int:
    """A line of a process' status in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def watched(server: Server, room: float) -> Iterator[None]:
    """See that the server's one worker lives, stays small and works, whatever is sent."""
    [worker] = server.workers()
    # From now on the peak counts anew.
    Path(f"/proc/{worker}/clear_refs").write_text("5")
    before = status(worker, "VmRSS")
    yield
    assert server.workers() == [worker]
    peak = status(worker, "VmHWM") - before
    assert peak < room, f"it took {peak / 1e6:.0f} MB"
    answer = sent(server, "checked", STREAM, as_stream(good()))
    assert table_in(answer.body) == good()
    assert server.workers() == [worker]


@pytest.fixture
def server(one: Server) -> Iterator[Server]:
    """The server, which must be as well after the test as before."""
    with watched(one, ROOM):
        yield one


def sent(server: Server, name: str, media: str, raw: bytes) -> Answer:
    """Send bytes as a table to a handler that gives a table."""
    headers = {"content-type": media, "accept": STREAM if name == "checked" else "*/*"}
    return server.post(f"/tables_guarded/{name}", raw=raw, headers=headers)


def refused(answer: Answer) -> str:
    """Why it was refused: a fault of the caller, told in a sentence."""
    assert answer.status in (400, 422), (answer.status, answer.body[:2000])
    body = answer.json()
    assert body["type"] in ("urn:exuvia:problem:malformed", "urn:exuvia:problem:input")
    assert body["responsible"] == "caller"
    detail = body["detail"]
    assert isinstance(detail, str) and 10 < len(detail) < 2000, detail
    return detail


@functools.cache
def good(rows: int = 60) -> Any:
    """A table with columns of every layout."""
    some = [n if n % 7 else None for n in range(rows)]
    texts = [None if n is None else "text" * (n % 5) for n in some]
    return pa.table(
        {
            "n": pa.array(range(rows), pa.int32()),
            "x": pa.array([None if n is None else n / 3 for n in some]),
            "flag": pa.array([None if n is None else n % 2 == 0 for n in some]),
            "when": pa.array(some, pa.timestamp("us", "Europe/Oslo")),
            "text": pa.array(texts),
            "view": pa.array([text and text * 9 for text in texts], pa.string_view()),
            "list": pa.array([None if n is None else [n] * (n % 3) for n in some]),
            "struct": pa.array([None if n is None else {"a": n, "b": str(n)} for n in some]),
            "word": pa.array(texts).dictionary_encode(),
            "money": pa.array([n and Decimal(n) for n in some], pa.decimal128(9, 2)),
        }
    )


def compressed(codec: str) -> bytes:
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, good().schema, options=options) as writer:
        writer.write_table(good())
    return sink.getvalue()


@functools.cache
def bodies() -> dict[str, tuple[str, bytes]]:
    """Good bodies by name, with their media types."""
    plain = good().select(["n", "x", "text"])
    return {
        "arrow-stream": (STREAM, as_stream(good())),
        # Above 64 KiB it lies in a map.
        "arrow-stream, mapped": (STREAM, as_stream(good(800))),
        "arrow-stream, lz4": (STREAM, compressed("lz4")),
        "arrow-stream, zstd": (STREAM, compressed("zstd")),
        "arrow": (FILE, as_file(good())),
        "parquet": (PARQUET, as_parquet(good().drop_columns(["view"]))),
        "parquet, plain": (
            PARQUET,
            as_parquet(plain, use_dictionary=False, compression="none", data_page_version="2.0"),
        ),
        "csv": (CSV, FORMATS["csv"].write(plain)),
        "ndjson": (NDJSON, FORMATS["ndjson"].write(plain)),
        "json-rows": (ROWS, FORMATS["json-rows"].write(plain)),
        "json-columns": (COLUMNS, FORMATS["json-columns"].write(plain)),
    }


BINARY = [name for name in bodies() if name.startswith(("arrow", "parquet"))]
TEXT = [name for name in bodies() if name not in BINARY]


# === cut short ===


@pytest.mark.parametrize("name", BINARY)
def test_binary_data_that_was_cut_short_is_refused_wherever_it_ends(
    server: Server, name: str
) -> None:
    media, raw = bodies()[name]
    for at in [*range(1, len(raw), max(1, len(raw) // CUTS)), len(raw) - 9, len(raw) - 1]:
        refused(sent(server, "checked", media, raw[:at]))


@pytest.mark.parametrize("name", ["json-rows", "json-columns"])
def test_json_that_was_cut_short_is_refused_wherever_it_ends(server: Server, name: str) -> None:
    media, raw = bodies()[name]
    for at in range(1, len(raw), max(1, len(raw) // CUTS)):
        refused(sent(server, "checked", media, raw[:at]))


@pytest.mark.parametrize("name", ["csv", "ndjson"])
def test_lines_that_were_cut_short_are_refused_or_are_rows(server: Server, name: str) -> None:
    media, raw = bodies()[name]
    whole = sent(server, "checked", media, raw)
    rows = table_in(whole.body).num_rows
    for at in range(1, len(raw), max(1, len(raw) // CUTS)):
        answer = sent(server, "checked", media, raw[:at])
        if answer.status == 200:
            assert table_in(answer.body).num_rows <= rows
        else:
            refused(answer)


def test_arrays_that_were_cut_short_are_refused_wherever_they_end(server: Server) -> None:
    raw = as_npy(np.arange(400.0))
    for at in range(1, len(raw), len(raw) // CUTS):
        refused(sent(server, "sum_of", NPY, raw[:at]))


# === bits that flipped ===


def flipped(raw: bytes, seed: int) -> bytes:
    """Flip one to three bits, most of them where formats keep what they say of themselves."""
    chance = random.Random(seed)
    made = bytearray(raw)
    for _ in range(chance.randint(1, 3)):
        ends = [len(raw), min(len(raw), 1500), min(len(raw), 400)]
        at = chance.randrange(ends[seed % 3])
        made[at if chance.random() < 0.6 else -1 - at] ^= 1 << chance.randrange(8)
    return bytes(made)


def check_flipped(server: Server, media: str, raw: bytes, seed: int) -> bool:
    """Give whether it was read; then pyarrow must read it, too, and the same."""
    changed = flipped(raw, seed)
    answer = sent(server, "checked", media, changed)
    if answer.status != 200:
        refused(answer)
        return False
    found = table_in(answer.body)
    if media in (STREAM, FILE):
        expected = open_ipc(changed)
        assert expected is None or shown(found) == shown(expected)
    return True


def open_ipc(raw: bytes) -> Any:
    """What pyarrow reads; `None` where it refuses, too."""
    try:
        opened = pa.ipc.open_file if raw.startswith(b"ARROW1") else pa.ipc.open_stream
        table = opened(raw).read_all()
        table.validate(full=True)
        table.to_pylist()
    except Exception:
        # It has many ways to say no, such as those of time zones.
        return None
    return table


@pytest.mark.parametrize("name", bodies())
def test_a_flipped_bit_is_refused_or_changes_a_value(server: Server, name: str) -> None:
    media, raw = bodies()[name]

    def flip(seed: int) -> bool:
        return check_flipped(server, media, raw, seed)

    with ThreadPoolExecutor(2) as two:
        read = sum(two.map(flip, range(SEEDS)))
    # Otherwise nothing was tried: neither is every bit needed, nor none.
    assert 0 < read < SEEDS


@pytest.mark.parametrize("handler", ["as_frame", "as_polars", "summed"])
@pytest.mark.parametrize("name", ["arrow-stream", "arrow-stream, mapped", "parquet"])
def test_a_flipped_bit_harms_no_library(server: Server, name: str, handler: str) -> None:
    media, raw = bodies()[name]
    for seed in range(SEEDS, SEEDS + 60):
        answer = sent(server, handler, media, flipped(raw, seed))
        if answer.status == 500 and handler != "summed":
            # The library's own word on a value it does not take: a date beyond its calendar.
            assert answer.json()["type"] == "urn:exuvia:problem:exception", answer.body
        elif answer.status != 200:
            refused(answer)


def test_a_flipped_bit_of_an_array_is_refused_or_changes_a_value(server: Server) -> None:
    raw = as_npy(np.arange(400.0))
    for seed in range(SEEDS):
        answer = sent(server, "sum_of", NPY, flipped(raw, seed))
        assert answer.status in (200, 400, 422), answer.body
        if answer.status != 200:
            refused(answer)


# === lies about where things are ===


def offsets(*values: int, wide: bool = False) -> bytes:
    return np.array(values, "i8" if wide else "i4").tobytes()


def view(length: int, start: bytes, buffer: int, offset: int) -> bytes:
    return struct.pack("<i4sii", length, start, buffer, offset)


TEXTS = ["abc", "defg", "é", "hi"]
LISTS = [[1, 2, 3], [4, 5, 6, 7], [8, 9], [10, 11]]
OFFSETS = (0, 3, 7, 9, 11)
LONG = ["a long text of more than twelve bytes"]
UNION = pa.UnionArray.from_dense(
    pa.array([0, 0, 1, 0, 1, 1, 0], pa.int8()),
    pa.array([0, 1, 0, 2, 1, 2, 3], pa.int32()),
    [pa.array([1, 2, 3, 4]), pa.array(["a", "b", "c"])],
)
WORDS = pa.DictionaryArray.from_arrays(
    pa.array([1, 2, 0, 1, 2], pa.int32()), pa.array(["a", "b", "c"])
)

# A column, and bytes in it that are replaced by a lie.
LIES: dict[str, tuple[Any, bytes, bytes]] = {
    "text beyond its bytes": (pa.array(TEXTS), offsets(*OFFSETS), offsets(0, 3, 7, 9, 1 << 20)),
    "text from before its bytes": (pa.array(TEXTS), offsets(*OFFSETS), offsets(-4, 3, 7, 9, 11)),
    "text that goes back": (pa.array(TEXTS), offsets(*OFFSETS), offsets(0, 3, 2, 9, 11)),
    "text that cuts a letter": (pa.array(TEXTS), offsets(*OFFSETS), offsets(0, 3, 8, 9, 11)),
    "text that is not UTF-8": (pa.array(TEXTS), b"defg", b"d\xff\xfeg"),
    "text at the end of the world": (
        pa.array(TEXTS, pa.large_string()),
        offsets(*OFFSETS, wide=True),
        offsets(0, 3, 7, 9, (1 << 63) - 1, wide=True),
    ),
    "a list beyond its items": (pa.array(LISTS), offsets(*OFFSETS), offsets(0, 3, 7, 9, 400)),
    "a list that goes back": (pa.array(LISTS), offsets(*OFFSETS), offsets(0, 9, 7, 9, 11)),
    "a large list beyond its items": (
        pa.array(LISTS, pa.large_list(pa.int64())),
        offsets(*OFFSETS, wide=True),
        offsets(0, 3, 7, 9, 1 << 62, wide=True),
    ),
    "a view of no buffer": (
        pa.array(LONG, pa.string_view()), view(37, b"a lo", 0, 0), view(37, b"a lo", 7, 0)
    ),
    "a view beyond its buffer": (
        pa.array(LONG, pa.string_view()), view(37, b"a lo", 0, 0), view(37, b"a lo", 0, 1 << 30)
    ),
    "a view of less than nothing": (
        pa.array(LONG, pa.string_view()), view(37, b"a lo", 0, 0), view(-37, b"a lo", 0, 0)
    ),
    "a view with another beginning": (
        pa.array(LONG, pa.string_view()), view(37, b"a lo", 0, 0), view(37, b"zzzz", 0, 0)
    ),
    "a word that is in no dictionary": (WORDS, offsets(1, 2, 0, 1, 2), offsets(1, 2, 99, 1, 2)),
    "a word from before the dictionary": (WORDS, offsets(1, 2, 0, 1, 2), offsets(1, 2, -9, 1, 2)),
    "a union of no kind": (UNION, bytes([0, 0, 1, 0, 1, 1, 0]), bytes([0, 0, 1, 0, 99, 1, 0])),
    "a union beyond its items": (
        UNION, offsets(0, 1, 0, 2, 1, 2, 3), offsets(0, 1, 0, 2, 1, 2, 7000)
    ),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_arrow_that_points_elsewhere_is_refused(server: Server, lie: str) -> None:
    column, truth, said = LIES[lie]
    table = pa.table({"n": range(len(column)), "odd": column})
    for media, write in [(STREAM, as_stream), (FILE, as_file)]:
        raw = write(table)
        assert raw.count(truth) == 1
        refused(sent(server, "checked", media, raw.replace(truth, said)))


def replaced_each(raw: bytes, old: bytes, new: bytes, until: int) -> Iterator[bytes]:
    """The bytes with one occurrence replaced, for each of the first ones."""
    at = -1
    for _ in range(until):
        at = raw.find(old, at + 1)
        if at == -1:
            return
        yield raw[:at] + new + raw[at + len(old) :]


@pytest.mark.parametrize("says", [-1, 0, 1, 8761, 1 << 31, 1 << 40, (1 << 62) + 1, (1 << 63) - 1])
def test_lengths_that_lie_are_refused_or_take_less(server: Server, says: int) -> None:
    rows = 8760
    raw = as_stream(pa.table({"x": np.arange(float(rows)), "n": np.arange(rows)}))
    tried = 0
    for length in [rows, rows * 8]:
        for changed in replaced_each(raw, struct.pack("<q", length), struct.pack("<q", says), 6):
            tried += 1
            answer = sent(server, "checked", STREAM, changed)
            if answer.status == 200:
                assert table_in(answer.body).num_rows <= rows
            else:
                refused(answer)
    assert tried > 4, "the lengths were not found"


@pytest.mark.parametrize("says", [0, 1, 7, 1 << 16, (1 << 31) - 1, (1 << 32) - 1])
def test_a_footer_that_lies_is_refused(server: Server, says: int) -> None:
    _, raw = bodies()["parquet"]
    changed = raw[:-8] + struct.pack("<I", says) + b"PAR1"
    refused(sent(server, "checked", PARQUET, changed))
    _, raw = bodies()["arrow"]
    changed = raw[:-10] + struct.pack("<I", says) + b"ARROW1"
    refused(sent(server, "checked", FILE, changed))


@pytest.mark.parametrize("media", [STREAM, FILE, PARQUET, NPY])
@pytest.mark.parametrize("raw", [b"", b"\0", b"PAR1", b"ARROW1\0\0", b"\xff" * 4096, b"\0" * 4096])
def test_bytes_that_are_of_no_format_are_refused(server: Server, media: str, raw: bytes) -> None:
    refused(sent(server, "sum_of" if media == NPY else "checked", media, raw))


def test_an_array_that_claims_to_be_larger_is_refused(server: Server) -> None:
    raw = as_npy(np.arange(4.0))
    for shape in [b"(1 << 60,)", b"(9" + b"9" * 17 + b",)", b"(2, 3)", b"(-4,)"]:
        header = raw[:128].replace(b"(4,)", shape)
        refused(sent(server, "sum_of", NPY, header[:127].ljust(127) + b"\n" + raw[128:]))
    dangerous = raw[:128].replace(b"'<f8'", b"'|O' ") + raw[128:]
    assert "objects" in refused(sent(server, "sum_of", NPY, dangerous))


# === little that becomes much ===

# Rows of 8 bytes: 128 MB.
MUCH = 16 << 20


@functools.cache
def zeros() -> Any:
    return pa.table({"x": np.zeros(MUCH)})


def spliced(table: Any, codec: str, times: int) -> bytes:
    """A stream of a compressed batch that comes again and again."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)
    ) as writer:
        # The schema is written with the first batch.
        writer.write_batch(pa.RecordBatch.from_pylist([], table.schema))
        begin = sink.tell()
        writer.write_batch(table.combine_chunks().to_batches()[0])
        end = sink.tell()
    raw = sink.getvalue()
    return raw[:begin] + raw[begin:end] * times + raw[end:]


def grown_parquet(codec: str, dictionary: bool, groups: int) -> bytes:
    sink = io.BytesIO()
    schema = zeros().schema
    with pa.parquet.ParquetWriter(
        sink, schema, compression=codec, use_dictionary=dictionary, data_page_size=1 << 27
    ) as writer:
        for _ in range(groups):
            writer.write_table(zeros(), row_group_size=MUCH)
    return sink.getvalue()


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zstd, 8 GB": (STREAM, lambda: spliced(zeros(), "zstd", 64)),
    "lz4, 1 GB": (STREAM, lambda: spliced(zeros(), "lz4", 8)),
    "zstd, one batch": (STREAM, lambda: spliced(zeros(), "zstd", 1)),
    "zstd, small batches": (
        STREAM,
        lambda: spliced(zeros().slice(0, 1 << 17).combine_chunks(), "zstd", 2000),
    ),
    "parquet, zstd": (PARQUET, lambda: grown_parquet("zstd", False, 2)),
    "parquet, snappy": (PARQUET, lambda: grown_parquet("snappy", False, 1)),
    "parquet, dictionary": (PARQUET, lambda: grown_parquet("none", True, 4)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_body_that_becomes_a_huge_table_is_refused_early(server: Server, bomb: str) -> None:
    media, make = BOMBS[bomb]
    raw = make()
    assert len(raw) < 9e6
    assert f"more than {MAX_TABLE} bytes" in refused(sent(server, "rows", media, raw))


def test_a_length_before_compressed_bytes_is_not_believed(server: Server) -> None:
    raw = spliced(pa.table({"x": np.zeros(4096)}), "zstd", 1)
    claimed = struct.pack("<q", 4096 * 8)
    for says in [1 << 33, 1 << 62, -2, 4096 * 8 - 1, 4096 * 8 + 1, 0]:
        for changed in replaced_each(raw, claimed, struct.pack("<q", says), 4):
            answer = sent(server, "checked", STREAM, changed)
            if answer.status != 200:
                refused(answer)
            else:
                assert table_in(answer.body).num_rows == 4096


def test_a_huge_dictionary_is_refused(server: Server) -> None:
    words = pa.DictionaryArray.from_arrays(
        pa.array([0], pa.int32()), pa.array(["\0" * (MAX_TABLE + 1)])
    )
    table = pa.table({"word": words})
    raw = spliced(table, "zstd", 1)
    assert len(raw) < 1e5
    assert "more than" in refused(sent(server, "rows", STREAM, raw))
    raw = as_parquet(pa.table({"word": words.cast(pa.string())}), compression="zstd")
    assert "more than" in refused(sent(server, "rows", PARQUET, raw))


def test_dictionaries_that_come_again_and_again_do_not_add_up_unseen(server: Server) -> None:
    words = pa.array(["\0" * (1 << 20)]).dictionary_encode()
    # The dictionary is another than that of the empty batch: it comes with each one.
    raw = spliced(pa.table({"word": words}), "zstd", 400)
    assert len(raw) < 1e6
    answer = sent(server, "rows", STREAM, raw)
    if answer.status == 200:
        assert answer.json() == 400
    else:
        refused(answer)


# A single value or name is held a few times over while it is read.
LENGTH = 100_000_000
HELD = 6 * LENGTH


def test_a_line_without_end_is_held_but_a_few_times(one: Server) -> None:
    text = b"a" * LENGTH
    with watched(one, HELD):
        assert "more than" in refused(sent(one, "rows", CSV, b"x\n" + text))
        refused(sent(one, "rows", CSV, b'x\n"' + text))
    with watched(one, ROOM):
        assert "more than" in refused(sent(one, "rows", CSV, text))
        assert "more than" in refused(sent(one, "summed", CSV, b"x\n" + text))
        refused(sent(one, "rows", NDJSON, b'{"x": "' + text))


def test_a_name_without_end_is_held_but_a_few_times(one: Server) -> None:
    name = b'{"' + b"a" * LENGTH
    documents = [(ROWS, b"[" + name + b'": 1}]'), (COLUMNS, name + b'": [1]}')]
    for media, document in [*documents, (NDJSON, name + b'": 1}')]:
        with watched(one, HELD):
            answer = sent(one, "rows", media, document)
            assert answer.status == 200 or refused(answer)


def test_a_table_of_a_hundred_thousand_columns_is_read_or_refused(server: Server) -> None:
    names = [f"c{n}" for n in range(100_000)]
    raw = (",".join(names) + "\n" + ",".join("1" for _ in names) + "\n").encode()
    rows = ("[{" + ",".join(f'"{name}":1' for name in names) + "}]").encode()
    columns = ("{" + ",".join(f'"{name}":[1]' for name in names) + "}").encode()
    arrow = as_stream(pa.table({name: [1] for name in names}))
    for media, body in [(CSV, raw), (ROWS, rows), (COLUMNS, columns), (NDJSON, rows[1:-1]),
                        (STREAM, arrow)]:  # fmt: skip
        answer = sent(server, "rows", media, body)
        if answer.status == 200:
            assert answer.json() == 1
        else:
            assert "columns" in refused(answer)


def test_rows_that_each_have_a_column_of_their_own_are_within_bounds(server: Server) -> None:
    # As a table each of 4000 rows has 4000 columns: 128 MB of integers.
    lines = b"".join(b'{"c%d": 1}\n' % n for n in range(4000))
    rows = b"[" + lines.replace(b"\n", b",")[:-1] + b"]"
    for media in [NDJSON, ROWS, "application/json"]:
        body = lines if media == NDJSON else rows
        assert "more than" in refused(sent(server, "rows", media, body)), media


def nested_type(depth: int) -> Any:
    type = pa.int64()
    for _ in range(depth):
        type = pa.list_(type)
    return type


@pytest.mark.parametrize("depth", [30, 300, 3000])
def test_types_inside_of_types_are_read_or_refused(server: Server, depth: int) -> None:
    sink = io.BytesIO()
    pa.ipc.new_stream(sink, pa.schema([("deep", nested_type(depth))])).close()
    answer = sent(server, "rows", STREAM, sink.getvalue())
    if depth == 30:
        assert answer.json() == 0
    else:
        refused(answer)


def test_json_inside_of_json_is_refused(server: Server) -> None:
    for depth in [300, 100_000]:
        deep = b"[" * depth + b"]" * depth
        refused(sent(server, "rows", ROWS, b'[{"a":' + deep + b"}]"))
        refused(sent(server, "rows", NDJSON, b'{"a":' + deep + b"}"))
        refused(sent(server, "rows", COLUMNS, b'{"a":[' + deep + b"]}"))
        refused(sent(server, "rows", ROWS, b'[{"a":' * depth))


def test_metadata_that_repeats_itself_is_within_bounds(server: Server) -> None:
    metadata = {f"k{n}": "v" * 1000 for n in range(5000)}
    schema = pa.schema([pa.field("n", pa.int64(), metadata=metadata)], metadata=metadata)
    raw = as_stream(pa.Table.from_arrays([pa.array([1])], schema=schema))
    answer = sent(server, "checked", STREAM, raw)
    assert answer.status == 200, answer.body[:500]
    assert table_in(answer.body).schema.equals(schema, check_metadata=True)
