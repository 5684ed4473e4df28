"""What is not copied between our tables and those of others, and that what is copied is told."""

import datetime as dt
import gc
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from conversions import (
    ROWS,
    SOURCE,
    Mapped,
    address,
    given_as,
    start,
    table_of,
    taken,
)
from exuvia._native import Column, Table

# === without a copy ===


@pytest.mark.parametrize("target", ["pyarrow", "pyarrow-batch", "polars", "arro3", "arro3-batch"])
def test_nothing_of_8_by_8760_floats_is_copied_there_and_back(target: str) -> None:
    table = Table.from_arrow(pa.table(SOURCE))
    made, copies = given_as(table, target)
    assert Table.from_arrow(made).addresses() == table.addresses()
    back, more = taken(made)
    assert back.addresses() == table.addresses()
    assert copies == more == []


def test_polars_keeps_the_memory_of_what_it_says_nothing_about() -> None:
    types = [pa.int8(), pa.uint64(), pa.float32(), pa.bool_(), pa.timestamp("us", "UTC")]
    types += [pa.time64("ns"), pa.duration("ns")]
    columns = {str(type): pa.array([1] * ROWS).cast(type) for type in types}
    columns["list"] = pa.array([[1, 2]] * ROWS, pa.large_list(pa.int32()))
    columns["date"] = pa.array([dt.date(2020, 1, 1)] * ROWS)
    columns["decimal"] = pa.array([Decimal("1.5")] * ROWS)
    columns["nulls"] = pa.array([1, None] * (ROWS // 2))
    table = table_of(**columns)
    made, copies = given_as(table, "polars")
    assert copies == []
    assert Table.from_arrow(made).addresses() == table.addresses()


TOLD_BY_POLARS = [
    (pa.array(["a text that is longer than a view"] * ROWS), 16 * ROWS, "views of 16 bytes"),
    (pa.array([1] * ROWS, pa.timestamp("s")), 8 * ROWS, "no times in seconds"),
    (pa.array([1] * ROWS, pa.time32("s")), 8 * ROWS, "times of day in nanoseconds"),
    (pa.array(["a", "b"] * (ROWS // 2)).dictionary_encode(), 4 * ROWS, "numbers categories"),
    (pa.array([[1]] * ROWS), 8 * (ROWS + 1), "offsets of 64 bits"),
    (pa.array([b"abc"] * ROWS, pa.binary(3)), 3 * ROWS, "no fixed_size_binary"),
]


def places(table: Table) -> set[int]:
    """Where the buffers of a table lie."""
    return {place for column in table.addresses() for place in column}


@pytest.mark.parametrize("column, size, why", TOLD_BY_POLARS, ids=lambda each: str(each)[:20])
def test_what_polars_copies_is_told(column: Any, size: int, why: str) -> None:
    table = table_of(x=column)
    made, copies = given_as(table, "polars")
    [(what, told, reason)] = copies
    assert what == 'column "x"' and reason.startswith("polars needs a copy because ")
    assert why in reason and told == pytest.approx(size, rel=0.1)
    # It is true: something in it lies elsewhere now.
    assert places(Table.from_arrow(made)) - places(table)


FIXED = [
    *(pa.array([1] * ROWS, t) for t in (pa.int8(), pa.int64(), pa.uint16(), pa.float32())),
    pa.array(np.ones(ROWS, "f2")),
    *(pa.array([1] * ROWS, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
    pa.array([1] * ROWS, pa.timestamp("us", "Europe/Berlin")),
    pa.array([1] * ROWS, pa.duration("ms")),
]


def memory_of(series: Any) -> int:
    array = series.array
    return address(array.view("i8") if hasattr(array, "tz") else array.to_numpy())


@pytest.mark.parametrize("column", FIXED, ids=lambda column: str(column.type))
def test_pandas_works_on_the_memory_of_columns_without_nulls(column: Any) -> None:
    mapped = Mapped(table_of(x=column))
    frame, copies = given_as(mapped, "pandas")  # type: ignore[arg-type]
    assert copies == []
    assert memory_of(frame["x"]) == start(mapped.column(0).memory)


def test_a_frame_of_8_by_8760_floats_is_of_8_blocks_that_can_be_edited() -> None:
    mapped = Mapped(Table.from_arrow(pa.table(SOURCE)))
    frame, copies = given_as(mapped, "pandas")  # type: ignore[arg-type]
    memories = [mapped.column(at).memory for at in range(8)]
    assert copies == []
    assert [address(frame[name].to_numpy()) for name in frame] == [start(m) for m in memories]
    frame.loc[3, "c1"] = 99.0
    assert np.frombuffer(memories[1])[3] == 99.0
    frame.iloc[4, 2] = -1.0
    assert np.frombuffer(memories[2])[4] == -1.0
    frame["c3"] = frame["c3"] * 2
    assert frame.loc[1, "c3"] == 6.0


def test_what_has_to_stay_as_it_is_is_copied_before_it_is_edited() -> None:
    source = np.arange(5.0)
    table = Table.from_columns([("x", Column.from_buffer(source, "float64"), None)])
    frame, copies = given_as(table, "pandas")
    assert copies == [
        ('column "x"', 40, "pandas needs a copy because its memory may not be written to")
    ]
    frame.loc[0, "x"] = 99.0
    assert source[0] == 0.0


def test_an_array_of_one_column_is_its_memory() -> None:
    mapped = Mapped(table_of(x=np.arange(4.0)))
    array, copies = given_as(mapped, "numpy")  # type: ignore[arg-type]
    assert copies == [] and address(array) == start(mapped.column(0).memory)
    array[0] = 5.0
    assert np.frombuffer(mapped.column(0).memory)[0] == 5.0


def test_a_dict_of_arrays_is_the_columns_memory() -> None:
    mapped = Mapped(table_of(a=np.arange(4.0), b=np.arange(4)))
    made, copies = given_as(mapped, "numpy-dict")  # type: ignore[arg-type]
    assert copies == [] and list(made) == ["a", "b"]
    assert address(made["b"]) == start(mapped.column(1).memory)


def test_a_frame_outlives_the_table_it_was_made_of() -> None:
    for target in ("pandas", "polars", "pyarrow", "arro3", "numpy"):
        made = given_as(Table.from_arrow(pa.table({"x": np.arange(1000.0)})), target)[0]
        gc.collect()
        # Whatever is freed by mistake is used again for this.
        others = [np.full(1000, -1.0) for _ in range(50)]
        whole = taken(made)[0].column(0).to_list()
        assert whole == list(map(float, range(1000))) and len(others) == 50


# === copies are told ===

NULLS = [1, None] * (ROWS // 2)
BOOLS = [True, False] * (ROWS // 2)
TEXT = ["a", "bc"] * (ROWS // 2)
PANDAS = "pandas needs a copy because "
TOLD_BY_PANDAS: list[tuple[Any, list[tuple[int, str]]]] = [
    (pa.array(NULLS), [(ROWS, "it has nulls")]),
    (pa.array(NULLS, pa.float64()), [(ROWS, "it has nulls")]),
    (pa.array(NULLS, pa.timestamp("us")), [(8 * ROWS, "it has nulls")]),
    (pa.array(BOOLS), [(ROWS, "booleans are single bits in Arrow")]),
    (pa.array(TEXT), [(8 * ROWS, "it keeps text with offsets of 64 bits")]),
    (pa.array(TEXT, pa.large_string()), []),
    (pa.array([b"abc"] * ROWS), [(7 * ROWS, "it keeps such values as Python objects")]),
    (pa.array([Decimal(1)] * ROWS), [(16 * ROWS, "it keeps such values as Python objects")]),
    (
        pa.array([dt.date(2020, 1, 1)] * ROWS),
        [(4 * ROWS, "it keeps such values as Python objects")],
    ),
    (
        pa.chunked_array([[1.0] * (ROWS // 2)] * 2),
        [(8 * ROWS, "it is in 2 pieces")],
    ),
]


@pytest.mark.parametrize("column, told", TOLD_BY_PANDAS, ids=lambda each: str(each)[:20])
def test_what_pandas_copies_is_told(column: Any, told: list[tuple[int, str]]) -> None:
    mapped = Mapped(table_of(x=column))
    _, copies = given_as(mapped, "pandas")  # type: ignore[arg-type]
    assert [(what, why) for what, _, why in copies] == [
        ('column "x"', PANDAS + why) for _, why in told
    ]
    assert [size for _, size, _ in copies] == [pytest.approx(size, rel=0.1) for size, _ in told]


def test_batches_that_have_to_be_joined_are_told() -> None:
    table = table_of(x=pa.chunked_array([[1.0], [2.0, 3.0]]), y=pa.chunked_array([[1], [2, 3]]))
    for target, library in (("pyarrow-batch", "pyarrow"), ("arro3-batch", "arro3")):
        why = f"{library} needs a copy because the table is in 2 batches"
        assert given_as(table, target)[1] == [("table", 48, why)]


def test_results_in_foreign_layouts_are_told() -> None:
    matrix = np.arange(8.0).reshape(4, 2)
    apart = "its values do not lie side by side in "
    assert taken(matrix)[1] == [
        ('column "0"', 32, apart + "numpy"),
        ('column "1"', 32, apart + "numpy"),
    ]
    assert taken(np.asfortranarray(matrix))[1] == []
    [(what, size, why)] = taken(pd.DataFrame(matrix, columns=["a", "b"], copy=False))[1][:1]
    assert (what, size, why) == ('column "a"', 32, apart + "pandas")
    order = "its bytes are not in the machine's order in numpy"
    assert taken(np.arange(3, dtype=">i4"))[1] == [('column "value"', 12, order)]
    assert taken({"a": [1, 2]})[1] == [('column "a"', 16, "a list holds Python objects")]


def test_a_result_of_pandas_without_nulls_is_its_memory() -> None:
    frame = pd.DataFrame({"f": np.arange(9.0), "t": pd.date_range("2020", periods=9, tz="UTC")})
    table, copies = taken(frame)
    assert copies == []
    memories = [address(frame["f"].to_numpy()), address(frame["t"].array.view("i8"))]
    assert [each[-1] for each in table.addresses()] == memories


# === memory ===


def resident() -> int:
    status = Path("/proc/self/statm").read_text().split()
    return int(status[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("target", ["pandas", "polars", "pyarrow", "arro3", "numpy", "numpy-dict"])
def test_memory_does_not_grow_with_conversions(target: str) -> None:
    source = pa.table({**SOURCE, "t": ["a", "b"] * (ROWS // 2), "n": NULLS})
    if target.startswith("numpy"):
        source = pa.table(SOURCE)

    def convert(times: int) -> int:
        for _ in range(times):
            taken(given_as(Table.from_arrow(source), target)[0])
        gc.collect()
        return resident()

    before = convert(20)
    # Twenty more may well reuse what was freed; without that, a hundred would keep 60 MB.
    assert convert(100) - before < 20 * 2**20
