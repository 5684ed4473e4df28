"""Tables in the interpreter: nothing is copied, nothing is lost, nothing is kept too long."""

import gc
import itertools
import json
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import arro3.core
import nanoarrow as na
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from arrow_tables import EVERYTHING
from conftest import Call
from exuvia import Column, Host, Stream, Table, Values, consume, produce, share

HOURS = 8760
BERLIN = ZoneInfo("Europe/Berlin")


def year(columns: int = 8) -> pa.Table:
    random = np.random.default_rng(7)
    return pa.table({f"c{number}": random.random(HOURS) for number in range(columns)})


def array(values: Values, dtype: str) -> Any:
    return np.frombuffer(memoryview(values), dtype)


def first_addresses(table: Table) -> list[int]:
    """Where the values of each column begin."""
    return [buffers[1] for buffers in table.addresses()]


def pyarrow_addresses(table: pa.Table) -> list[int]:
    return [column.chunk(0).buffers()[1].address for column in table.columns]


# === zero copies ===


def test_a_table_of_pyarrow_lies_where_it_lay_and_goes_back_so() -> None:
    source = year()
    table = Table.from_arrow(source)
    assert first_addresses(table) == pyarrow_addresses(source)
    assert pyarrow_addresses(pa.table(table)) == pyarrow_addresses(source)
    assert pa.table(table).equals(source)


def test_a_frame_of_polars_lies_where_it_lay_and_goes_back_so() -> None:
    source = pl.DataFrame(year())
    table = Table.from_arrow(source)
    there = [series.to_numpy().ctypes.data for series in source]
    assert first_addresses(table) == there
    back = pl.DataFrame(table)
    assert [series.to_numpy().ctypes.data for series in back] == there
    assert back.equals(source)


def test_a_table_of_arro3_lies_where_it_lay_and_goes_back_so() -> None:
    source = arro3.core.Table.from_arrow(year())
    table = Table.from_arrow(source)
    there = pyarrow_addresses(pa.table(source))
    assert first_addresses(table) == there
    assert pyarrow_addresses(pa.table(arro3.core.Table.from_arrow(table))) == there


def test_an_array_of_nanoarrow_lies_where_it_lay_and_goes_back_so() -> None:
    source = na.Array(year(1)["c0"].chunk(0))
    column = Column.from_arrow(source)
    assert column.values().address == source.buffers[1]._addr()
    assert na.Array(column).buffers[1]._addr() == column.values().address


def test_arrays_of_numpy_make_a_table_where_they_lie() -> None:
    arrays = {f"c{number}": np.arange(HOURS, dtype="float64") + number for number in range(8)}
    table = Table.from_columns(
        [(name, Column.from_buffer(data, "float64"), None) for name, data in arrays.items()]
    )
    there = [data.ctypes.data for data in arrays.values()]
    assert first_addresses(table) == there
    assert pyarrow_addresses(pa.table(table)) == there
    for name, data in arrays.items():
        seen = array(table[name].values(), "float64")
        assert seen.ctypes.data == data.ctypes.data and table[name].copied == 0


def test_a_frame_of_pandas_is_taken() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert Table.from_arrow(frame).columns() == {"a": [1, 2], "b": ["x", None]}


def test_a_table_stays_itself() -> None:
    table = Table.from_arrow(year(1))
    assert Table.from_arrow(table) is table


def test_chunks_of_columns_that_end_elsewhere_are_sliced_not_copied() -> None:
    one = pa.chunked_array([[1, 2, 3], [4, 5]])
    other = pa.chunked_array([["a"], ["b", "c", "d"], ["e"]])
    columns = [("one", Column.from_arrow(one), None), ("other", Column.from_arrow(other), None)]
    table = Table.from_columns(columns)
    assert [batch.num_rows for batch in table.batches()] == [1, 2, 1, 1]
    assert table.columns() == {"one": [1, 2, 3, 4, 5], "other": ["a", "b", "c", "d", "e"]}
    starts = [first_addresses(batch)[0] for batch in table.batches()]
    there = [chunk.buffers()[1].address for chunk in one.chunks]
    assert starts == [there[0], there[0] + 8, there[1], there[1] + 8]


def test_values_of_several_chunks_say_what_they_copy() -> None:
    column = Column.from_arrow(pa.chunked_array([[1, 2], [3]]))
    assert column.num_chunks == 2 and column.copied == 24
    assert array(column.values(), "int64").tolist() == [1, 2, 3]


@pytest.mark.parametrize("offset", range(1, 8))
def test_memory_that_is_not_aligned_is_copied_and_right(offset: int) -> None:
    memory = bytearray(8 * 10 + offset)
    memory[offset:] = np.arange(10, dtype="int64").tobytes()
    column = Column.from_buffer(memoryview(memory)[offset:], "int64")
    assert column.to_list() == list(range(10))


# === lifetimes ===


class Watched(np.ndarray[Any, Any]):
    """An array that can be watched going away."""


def watched(rows: int = HOURS) -> Any:
    return np.arange(rows, dtype="float64").view(Watched)


def readers() -> dict[str, Callable[[Table], Any]]:
    return {
        "exuvia": lambda table: table["x"].values(),
        "pyarrow": pa.table,
        "polars": pl.DataFrame,
        "arro3": arro3.core.Table.from_arrow,
        "numpy": lambda table: array(table["x"].values(), "float64"),
    }


def total(data: Any) -> float:
    if isinstance(data, pl.DataFrame):
        return float(data["x"].sum())
    if isinstance(data, pa.Table | arro3.core.Table):
        return float(pa.table(data)["x"].to_numpy().sum())
    return float(np.frombuffer(data, "float64").sum())


@pytest.mark.parametrize("library", readers())
def test_memory_stays_while_it_is_read_and_goes_with_its_last_reader(library: str) -> None:
    source = watched()
    gone = weakref.ref(source)
    column = Column.from_buffer(source, "float64")
    table = Table.from_columns([("x", column, None)])
    data = readers()[library](table)
    del source, column, table
    gc.collect()
    assert gone() is not None
    assert total(data) == HOURS * (HOURS - 1) / 2
    del data
    gc.collect()
    assert gone() is None


def test_a_bytearray_that_is_lent_cannot_change_its_size_until_it_is_given_back() -> None:
    memory = bytearray(16)
    column = Column.from_buffer(memory, "int64")
    with pytest.raises(BufferError):
        memory.append(1)
    del column
    memory.append(1)


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_thousands_of_tables_leave_no_memory_behind() -> None:
    def loop(count: int) -> None:
        for _ in range(count):
            table = Table.from_arrow(source)
            capsule = table.__arrow_c_stream__()
            del capsule
            array = np.frombuffer(pa.table(table)["c0"].chunk(0).buffers()[1], "float64")
            columns = [("x", Column.from_buffer(array, "float64"), None)]
            frame = pl.DataFrame(Table.from_columns(columns))
            list(consume(produce(table, iter([frame.rename({"x": "c0"})]))).batches())

    source = year(1)
    loop(200)
    before = resident()
    loop(2000)
    # 2000 tables are 140 MB.
    assert resident() - before < 20 << 20


def test_a_buffer_is_given_back_by_a_thread_that_python_does_not_know() -> None:
    source = watched()
    gone = weakref.ref(source)
    frame = pl.LazyFrame(Table.from_columns([("x", Column.from_buffer(source, "float64"), None)]))
    del source
    assert frame.select(pl.col("x").sum()).collect().item() == HOURS * (HOURS - 1) / 2
    del frame
    gc.collect()
    assert gone() is None


# === capsules ===


class Twice:
    """Gives the same capsule each time, which the interface does not allow."""

    def __init__(self, source: Any) -> None:
        self.capsule = source.__arrow_c_stream__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
        return self.capsule


def test_a_stream_capsule_gives_its_data_once() -> None:
    twice = Twice(Table.from_arrow(year(1)))
    assert pa.table(twice).num_rows == HOURS
    with pytest.raises(ValueError, match="used before"):
        Table.from_arrow(twice)
    ours = Twice(year(1))
    assert Table.from_arrow(ours).num_rows == HOURS
    with pytest.raises(ValueError, match="used before"):
        Table.from_arrow(ours)


def test_an_array_capsule_gives_its_data_once() -> None:
    class Same:
        def __init__(self) -> None:
            self.capsules = pa.array([1, 2]).__arrow_c_array__()

        def __arrow_c_array__(self, requested_schema: object = None) -> Any:
            return self.capsules

    same = Same()
    assert Column.from_arrow(same).to_list() == [1, 2]
    with pytest.raises(ValueError, match="used before"):
        Column.from_arrow(same)


def test_capsules_nobody_takes_let_their_data_go() -> None:
    source = watched()
    gone = weakref.ref(source)
    column = Column.from_buffer(source, "float64")
    table = Table.from_columns([("x", column, None)])
    capsules = [table.__arrow_c_stream__(), *column.__arrow_c_array__(), table.__arrow_c_schema__()]
    del source, column, table
    gc.collect()
    assert gone() is not None
    capsules.clear()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("thing", [1, "text", [1, 2], object()])
def test_what_has_no_arrow_data_is_refused_by_its_type(thing: object) -> None:
    with pytest.raises(TypeError, match=type(thing).__name__):
        Table.from_arrow(thing)


def test_a_capsule_of_another_kind_is_refused() -> None:
    class Wrong:
        def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
            return pa.schema([]).__arrow_c_schema__()

    with pytest.raises(ValueError):
        Table.from_arrow(Wrong())


def test_an_exception_in_a_producer_is_the_one_that_is_raised() -> None:
    class Broken:
        def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
            raise LookupError("no such meter")

    with pytest.raises(LookupError, match="no such meter"):
        Table.from_arrow(Broken())


# === streams ===


def days(count: int, made: list[int] | None = None) -> Iterator[pa.Table]:
    for day in range(count):
        if made is not None:
            made.append(day)
        yield pa.table({"day": [day] * 24, "load": [float(day)] * 24})


SCHEMA = pa.schema({"day": pa.int64(), "load": pa.float64()})


def test_batches_are_made_when_somebody_asks_for_them() -> None:
    made: list[int] = []
    reader = pa.RecordBatchReader.from_stream(produce(SCHEMA, days(5, made)))
    assert made == []
    for day in range(5):
        assert reader.read_next_batch()["day"][0].as_py() == day
        assert made == list(range(day + 1))
    with pytest.raises(StopIteration):
        reader.read_next_batch()


@pytest.mark.parametrize(
    "convert",
    [
        pl.DataFrame,
        arro3.core.Table.from_arrow,
        Table.from_arrow,
        lambda table: table.to_batches()[0],
    ],
)
def test_batches_of_any_library_make_a_stream(convert: Callable[[Any], Any]) -> None:
    stream = produce(SCHEMA, map(convert, days(3)))
    assert pl.DataFrame(stream).equals(pl.DataFrame(pa.concat_tables(days(3))))


def test_a_stream_is_used_once() -> None:
    stream = produce(SCHEMA, days(1))
    assert pa.schema(stream) == SCHEMA and isinstance(stream, Stream)
    assert consume(stream).num_rows == 24
    with pytest.raises(ValueError, match="used before"):
        consume(stream)
    with pytest.raises(ValueError, match="used before"):
        pa.table(stream)


def test_an_exception_of_the_iterator_comes_through() -> None:
    def broken() -> Iterator[pa.Table]:
        yield from days(1)
        raise LookupError("no such meter")

    with pytest.raises(LookupError, match="no such meter"):
        consume(produce(SCHEMA, broken()))
    # Through another library only its text does.
    with pytest.raises(pa.ArrowInvalid, match="LookupError: no such meter"):
        pa.table(produce(SCHEMA, broken()))


def test_a_generator_ends_with_its_stream() -> None:
    ended = threading.Event()

    def watched_days() -> Iterator[pa.Table]:
        try:
            yield from days(10)
        finally:
            ended.set()

    reader = pa.RecordBatchReader.from_stream(produce(SCHEMA, watched_days()))
    reader.read_next_batch()
    assert not ended.is_set()
    del reader
    gc.collect()
    assert ended.is_set()


def test_a_schema_that_differs_is_said_line_by_line() -> None:
    other = pa.table({"day": ["x"], "load": [1.0]})
    with pytest.raises(ValueError) as caught:
        consume(other, SCHEMA)
    assert "- day: int64\n+ day: utf8" in str(caught.value) and "load" not in str(caught.value)
    with pytest.raises(ValueError, match=r"- day: int64\n\+ day: utf8"):
        consume(produce(SCHEMA, iter([other])))
    assert consume(next(days(1)), SCHEMA).num_rows == 24


def test_what_is_no_table_cannot_be_consumed() -> None:
    nothing: Any = object()
    with pytest.raises(TypeError, match="object is no table"):
        consume(nothing)
    with pytest.raises(TypeError, match="has no schema"):
        produce(nothing, iter([]))
    with pytest.raises(TypeError, match="not iterable"):
        produce(SCHEMA, nothing)


def test_consuming_lets_other_threads_run() -> None:
    turn = threading.Event()

    def waiting() -> Iterator[pa.Table]:
        assert turn.wait(60)
        yield from days(1)

    reader = pa.RecordBatchReader.from_batches(
        SCHEMA, itertools.chain.from_iterable(table.to_batches() for table in waiting())
    )
    thread = threading.Thread(target=turn.set)
    thread.start()
    assert consume(reader).num_rows == 24
    thread.join()


def test_threads_share_a_table() -> None:
    table = Table.from_arrow(EVERYTHING)
    expected = table.columns()
    faults: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(50):
                assert table.columns() == expected
                assert pa.table(table).equals(EVERYTHING)
                assert bytes(table["int8"].mask()) == b"\0\1\0"
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


# === a worker's own memory ===

EDITING = """
import exuvia

def edit(table: exuvia.Table):
    values = table["c0"].values()
    with memoryview(values).cast("d") as seen:
        before = seen[0]
        seen[0] = -1.0
    return before, table["c0"].to_list()[0]
"""


def test_a_wheel_beside_another_copy_of_the_runtime_knows_its_payloads(
    call: Call, tmp_path: Path
) -> None:
    (tmp_path / "editing.py").write_text(EDITING)
    source = year()
    with pa.ipc.new_file(str(tmp_path / "year.arrow"), source.schema) as file:
        file.write_table(source)
    done = call(f"{tmp_path}/editing.py:edit", "--in", str(tmp_path / "year.arrow"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [source["c0"][0].as_py(), -1.0]


def test_a_payload_is_written_to_in_place_and_nobody_else_sees_it(tmp_path: Path) -> None:
    (tmp_path / "editing.py").write_text(EDITING)
    source = year()
    first = source["c0"][0].as_py()
    with Host(tmp_path / "editing.py") as host:
        shared = share(source)
        for argument in (shared, shared, source):
            assert host.call("editing:edit", argument) == (first, -1.0)
    assert source["c0"][0].as_py() == first
