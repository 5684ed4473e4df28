"""Our tables as those of pandas, polars, pyarrow, arro3 and NumPy, and back."""

import ctypes
import datetime as dt
import gc
import importlib.util
import subprocess
import sys
import textwrap
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NewType, Optional, Protocol, TypedDict

import arro3.core
import nanoarrow
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from arrow_tables import (
    Kind,
    arrays,
    decimals,
    dictionaries,
    maps,
    nested,
    scalars,
    shown,
    tables,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from processes import ROOT

from exuvia._native import Column, Table

SOURCES = ROOT / "crates/runtime/src/tables"
MODULES = ("asked", "arrays", "frames_in", "frames_out", "tables")
ROWS = 8760

Note = tuple[str, int, str]
# What is generated is small; what is slow is the first use of a library.
thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def load() -> Any:
    """The conversions, as the runtime loads them."""
    for name in MODULES:
        spec = importlib.util.spec_from_file_location(f"_exuvia_{name}", SOURCES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        module.Table, module.Column = Table, Column
    return module


conversions = load()


def table_of(**columns: Any) -> Table:
    return Table.from_arrow(pa.table(columns))


def given_as(table: Table, target: Any) -> tuple[Any, list[Note]]:
    copies: list[Note] = []
    return conversions.give(table, target, copies), copies


def taken(obj: Any) -> tuple[Any, list[Note]]:
    copies: list[Note] = []
    return conversions.take(obj, copies), copies


def arrow(table: Any) -> Any:
    return pa.table(table)


def types_of(table: Any) -> list[str]:
    return [field.type for field in Table.from_arrow(table).fields]


# === memory that may be written to ===


class Mapped:
    """Stands for a table whose columns lie in a private map: what they hold may be written to."""

    def __init__(self, table: Table, columns: dict[int, "MappedColumn"] | None = None) -> None:
        self._table = table
        self._columns = columns if columns is not None else {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def column(self, at: int) -> "MappedColumn":
        return self._columns.setdefault(at, MappedColumn(self._table.column(at)))


class MappedColumn:
    """A column whose values lie in memory of its own."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self.memory = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._column, name)

    def __len__(self) -> int:
        return len(self._column)

    def values(self) -> bytearray:
        if not self.memory:
            self.memory = bytearray(self._column.values())  # type: ignore[arg-type]
        return self.memory


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def start(memory: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


# === what annotations ask for ===


class Frame(pd.DataFrame):
    """A subclass counts as its base."""


class Streams(Protocol):
    """Anything with Arrow's protocol."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


class Made:
    """Makes itself of Arrow data."""

    def __init__(self, table: Any) -> None:
        self.table = table

    @classmethod
    def from_arrow(cls, table: Any) -> "Made":
        return cls(table)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class Row(TypedDict):
    """A row."""

    a: int


Named = NewType("Named", pl.LazyFrame)

ASKED: list[tuple[Any, Any]] = [
    (pd.DataFrame, "pandas"),
    (Frame, "pandas"),
    (pd.Series, "pandas-series"),
    (pl.DataFrame, "polars"),
    (pl.LazyFrame, "polars-lazy"),
    (pl.Series, "polars-series"),
    (pa.Table, "pyarrow"),
    (pa.RecordBatch, "pyarrow-batch"),
    (pa.RecordBatchReader, "pyarrow-reader"),
    (arro3.core.Table, "arro3"),
    (arro3.core.RecordBatch, "arro3-batch"),
    (arro3.core.RecordBatchReader, "arro3-reader"),
    (np.ndarray, "numpy"),
    (npt.NDArray[np.float64], "numpy"),
    (np.ndarray[tuple[int, int], np.dtype[np.int8]], "numpy"),
    (dict[str, np.ndarray], "numpy-dict"),
    (dict[str, npt.NDArray[np.float64]], "numpy-dict"),
    (list[dict], "rows"),
    (list[dict[str, Any]], "rows"),
    (list[Row], "rows"),
    (dict[str, list], "columns"),
    (dict[str, list[float]], "columns"),
    (Table, ("class", Table)),
    (Streams, ("class", Streams)),
    (Made, ("class", Made)),
    (Named, "polars-lazy"),
    (Optional[pd.DataFrame], "pandas"),  # noqa: UP045 - both spellings are in use
    (pd.DataFrame | None, "pandas"),
    (int | pl.DataFrame | pd.DataFrame, "polars"),
    (Annotated[pa.Table, "hourly"], "pyarrow"),
    (Annotated[npt.NDArray[np.int8] | None, 1], "numpy"),
    (Optional["pl.DataFrame"], "polars"),
    ("pd.DataFrame", "pandas"),
    ("DataFrame", "pandas"),
    ("pandas.DataFrame | None", "pandas"),
    ("Optional['pl.LazyFrame']", "polars-lazy"),
    ("Annotated[pa.RecordBatchReader, 1]", "pyarrow-reader"),
    ("npt.NDArray[np.float64]", "numpy"),
    ("dict[str, np.ndarray]", "numpy-dict"),
    ("list[dict[str, int]]", "rows"),
    ("dict[str, list[int]]", "columns"),
    ("arro3.core.Table", "arro3"),
    *[
        (other, None)
        for other in (int, str, list, dict, list[int], dict[str, int], dict[int, list], Any, None)
    ],
    *[(text, None) for text in ("int", "list", "my.Table", "not an annotation", "", "a" * 9999)],
    *[(other, None) for other in (object, type, Protocol, tuple[pd.DataFrame, int], 5, "dict[")],
]


@pytest.mark.parametrize("annotation, target", ASKED, ids=repr)
def test_an_annotation_asks_for_a_table_by_its_class(annotation: Any, target: Any) -> None:
    assert conversions.target_of(annotation) == target


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` is of Python 3.12")
def test_an_annotation_may_be_an_alias() -> None:
    scope: dict[str, Any] = {"pd": pd}
    exec("type A = pd.DataFrame\ntype B = Missing", scope)
    assert conversions.target_of(scope["A"]) == "pandas"
    assert conversions.target_of(scope["B"]) is None


def test_only_tables_and_their_columns_are_tables() -> None:
    frame = pd.DataFrame({"a": [1]})
    others = (pl.DataFrame(frame), pl.LazyFrame(), pl.Series([1]), pa.table({}), pa.array([1]))
    arro = (
        arro3.core.Table.from_pydict({"a": pa.array([1])}),
        nanoarrow.Array([1], nanoarrow.int8()),
    )
    for obj in (frame, frame["a"], table_of(a=[1]), Made(table_of(a=[1])), *others, *arro):
        assert conversions.is_table(obj), type(obj)
    scalars = (pa.scalar(1), arro3.core.Scalar(1, pa.int8()), np.float64(1), pd.Timestamp(0))
    plain = (None, 1, "a", b"", [], {}, [{"a": 1}], {"a": [1]}, np.zeros(3), object(), pd.DataFrame)
    for obj in (*scalars, *plain, pa.schema([]), frame.index):
        assert not conversions.is_table(obj), type(obj)


def in_a_process(code: str) -> str:
    """What a fresh Python that has loaded the conversions prints."""
    head = f"""
        import importlib.util, sys
        def load(Table=None, Column=None):
            for name in {MODULES!r}:
                file = {str(SOURCES)!r} + "/" + name + ".py"
                spec = importlib.util.spec_from_file_location("_exuvia_" + name, file)
                module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                module.Table, module.Column = Table, Column
            return module
    """
    text = textwrap.dedent(head) + textwrap.dedent(code)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_nothing_is_imported_to_tell_what_is_asked_for() -> None:
    told = in_a_process("""
        before = set(sys.modules)
        conversions = load()
        class Local: pass
        for annotation in (int, list[dict], dict[str, list], Local, int | None):
            conversions.target_of(annotation)
        for value in (1, [], {}, Local()):
            assert not conversions.is_table(value)
        print(sorted(name for name in set(sys.modules) - before if not name.startswith("_exuvia")))
    """)
    assert told.strip() == "[]"


def test_the_default_is_the_first_library_that_is_installed() -> None:
    told = in_a_process("""
        for hidden in ([], ["pandas"], ["pandas", "polars"], ["pandas", "polars", "pyarrow"],
                       ["pandas", "polars", "pyarrow", "arro3"]):
            sys.modules.update(dict.fromkeys(hidden))
            print(load().default_target())
        assert "numpy" not in sys.modules
    """)
    assert told.split() == ["pandas", "polars", "pyarrow", "arro3", "table"]


# === there and back ===

flat = st.sampled_from(scalars())
deep = st.one_of(flat, nested(flat), nested(nested(flat)))
any_kind = st.one_of(deep, maps(flat))


@thorough
@given(source=tables(any_kind))
@pytest.mark.parametrize("target", ["pyarrow", "pyarrow-reader", "arro3", "arro3-reader"])
def test_pyarrow_and_arro3_give_back_every_table_as_it_was(target: str, source: Any) -> None:
    table = Table.from_arrow(source)
    made, copies = given_as(table, target)
    back, more = taken(made)
    assert back == table
    assert copies == more == []


@thorough
@given(source=tables(any_kind))
@pytest.mark.parametrize("target", ["pyarrow-batch", "arro3-batch"])
def test_a_record_batch_holds_the_whole_table(target: str, source: Any) -> None:
    table = Table.from_arrow(source)
    made, copies = given_as(table, target)
    assert made.num_rows == table.num_rows
    assert (copies != []) == (table.num_batches > 1 and table.nbytes > 0)
    back = taken(made)[0]
    assert types_of(back) == types_of(table) and back.column_names == table.column_names
    assert shown(arrow(back)) == shown(arrow(table))


def as_in_polars(type: Any) -> Any:
    """What polars makes of a type. All else it keeps."""
    of = pa.types
    if of.is_string(type) or of.is_large_string(type):
        return pa.string_view()
    if of.is_binary(type) or of.is_large_binary(type) or of.is_fixed_size_binary(type):
        return pa.binary_view()
    if of.is_date64(type):
        return pa.timestamp("ms")
    if of.is_time(type):
        return pa.time64("ns")
    if of.is_timestamp(type):
        # It knows zones by name only: Etc/GMT-1 is one hour east.
        zone = {"+05:30": None, "-03:00": "Etc/GMT+3"}.get(type.tz, type.tz)
        return pa.timestamp("ms" if type.unit == "s" else type.unit, zone)
    if of.is_duration(type):
        return pa.duration("ms" if type.unit == "s" else type.unit)
    if of.is_dictionary(type):
        if of.is_string(type.value_type):
            return pa.dictionary(pa.uint32(), pa.string_view())
        return as_in_polars(type.value_type)
    return as_in_polars_nested(type)


def as_in_polars_nested(type: Any) -> Any:
    if pa.types.is_fixed_size_list(type):
        return pa.list_(as_in_polars(type.value_type), type.list_size)
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        return pa.large_list(as_in_polars(type.value_type))
    if pa.types.is_struct(type):
        return pa.struct([(field.name, as_in_polars(field.type)) for field in type])
    return type


def is_in_polars(kind: Kind) -> bool:
    """Zones that are no whole hours, and decimals of 256 bits, polars does not have."""
    return "+05:30" not in str(kind.type) and "decimal256" not in str(kind.type)


@thorough
@given(source=tables(any_kind.filter(is_in_polars)))
@pytest.mark.parametrize("target", ["polars", "polars-lazy"])
def test_polars_gives_back_every_table_in_its_own_types(target: str, source: Any) -> None:
    made, _ = given_as(Table.from_arrow(source), target)
    back = taken(made)[0]
    wanted = pa.schema([(field.name, as_in_polars(field.type)) for field in source.schema])
    assert types_of(back) == types_of(wanted.empty_table())
    assert shown(arrow(back)) == shown(source.cast(wanted))


@pytest.mark.parametrize(
    "column, words",
    [
        (
            pa.array([Decimal(1)], pa.decimal32(3, 0)),
            "decimal32(3, 0), and polars has no decimal32",
        ),
        (pa.array([[Decimal(1)]], pa.list_(pa.decimal64(3, 0))), "polars has no decimal64"),
        (pa.array([Decimal(1)], pa.decimal256(3, 0)), "polars has no decimal256"),
        (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "polars has no interval"),
        (pa.array([0], pa.timestamp("s", "+05:30")), "unable to parse time zone: '+05:30'"),
    ],
    ids=lambda each: str(getattr(each, "type", "")),
)
def test_what_polars_does_not_take_is_named(column: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match='column "odd"') as refused:
        given_as(table_of(fine=[1], odd=column), "polars")
    assert words in str(refused.value)


def test_polars_knows_a_field_from_a_type() -> None:
    column = pa.array([{"union": 1, "interval": 2}])
    assert given_as(table_of(a=column), "polars")[0]["a"][0] == {"union": 1, "interval": 2}


def as_in_pandas(type: Any) -> Any:
    """What a column is after pandas. All flat types but these it keeps."""
    if pa.types.is_string(type) or pa.types.is_string_view(type):
        return pa.large_string()
    if pa.types.is_dictionary(type):
        # There are few values, so the narrowest indices do.
        return pa.dictionary(pa.int8(), as_in_pandas(type.value_type), ordered=type.ordered)
    return type


@thorough
@given(source=tables(flat))
def test_pandas_gives_back_every_flat_table(source: Any) -> None:
    frame, _ = given_as(Table.from_arrow(source), "pandas")
    back = taken(frame)[0]
    fields = [field.with_type(as_in_pandas(field.type)) for field in source.schema]
    wanted = pa.schema(fields, metadata=source.schema.metadata)
    assert types_of(back) == types_of(wanted.empty_table())
    assert shown(arrow(back)) == shown(source.cast(wanted))
    found = arrow(back).schema
    assert [field.metadata for field in found] == [field.metadata for field in wanted]
    kept = {key: value for key, value in found.metadata.items() if key != b"pandas"}
    assert kept == (wanted.metadata or {})


@thorough
@given(source=tables(st.one_of(nested(flat), nested(nested(flat)), maps(flat))))
def test_pandas_keeps_the_values_of_lists_structs_and_maps(source: Any) -> None:
    frame, _ = given_as(Table.from_arrow(source), "pandas")
    # Widths inside of them are not kept: Python has one `int`.
    assert shown(arrow(taken(frame)[0])) == shown(source)


@thorough
@given(data=st.data(), rows=st.integers(0, 5))
def test_pandas_and_pyarrow_agree_on_ordered_categories(data: st.DataObject, rows: int) -> None:
    column = data.draw(dictionaries(rows))
    frame, _ = given_as(table_of(a=column), "pandas")
    assert frame["a"].dtype.ordered == column.type.ordered
    assert list(frame["a"].dtype.categories) == column.chunk(0).dictionary.to_pylist()
    expected = [None if value is None else value for value in column.to_pylist()]
    assert [None if pd.isna(value) else value for value in frame["a"]] == expected


@thorough
@given(data=st.data(), rows=st.integers(0, 5))
def test_arrays_hold_what_columns_hold(data: st.DataObject, rows: int) -> None:
    kind = data.draw(flat)
    column = data.draw(arrays(kind, rows))
    table = table_of(a=column)
    numbers = pa.types.is_integer(kind.type) or pa.types.is_floating(kind.type)
    if column.null_count and (numbers or pa.types.is_boolean(kind.type)):
        with pytest.raises(ValueError, match='column "a" has nulls, and an array has no place'):
            given_as(table, "numpy")
        return
    array = given_as(table, "numpy")[0]
    assert array.shape == (rows,)
    back = taken(array)[0]
    if array.dtype.kind in "iufbmM":
        wanted = pa.timestamp(kind.type.unit) if getattr(kind.type, "tz", None) else kind.type
        wanted = pa.timestamp("ms") if pa.types.is_date64(kind.type) else wanted
        assert types_of(back) == types_of(pa.schema([("value", wanted)]).empty_table())
        assert shown(arrow(back)) == shown(pa.table({"value": column.cast(wanted)}))
    else:
        assert list(array) == Table.from_arrow(table).column("a").to_list()


# === without a copy ===

SOURCE = {f"c{at}": np.arange(ROWS, dtype="f8") * at for at in range(8)}


@pytest.mark.parametrize("target", ["pyarrow", "pyarrow-batch", "polars", "arro3", "arro3-batch"])
def test_nothing_of_8_by_8760_floats_is_copied_there_and_back(target: str) -> None:
    table = Table.from_arrow(pa.table(SOURCE))
    made, copies = given_as(table, target)
    assert Table.from_arrow(made).addresses() == table.addresses()
    back, more = taken(made)
    assert back.addresses() == table.addresses()
    assert copies == more == []


def test_polars_keeps_the_memory_of_what_it_says_nothing_about() -> None:
    types = [
        pa.int8(),
        pa.uint64(),
        pa.float32(),
        pa.bool_(),
        pa.date32(),
        pa.timestamp("us", "UTC"),
    ]
    types += [pa.time64("ns"), pa.duration("ns"), pa.decimal128(9, 2), pa.large_list(pa.int32())]
    values = [[1, 2]] * ROWS
    columns = {str(t): pa.array(values if "list" in str(t) else [1] * ROWS).cast(t) for t in types}
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


@pytest.mark.parametrize("column, size, why", TOLD_BY_POLARS, ids=lambda each: str(each)[:20])
def test_what_polars_copies_is_told(column: Any, size: int, why: str) -> None:
    table = table_of(x=column)
    made, copies = given_as(table, "polars")
    [(what, told, reason)] = copies
    assert what == 'column "x"' and reason.startswith("polars needs a copy because ")
    assert why in reason and told == pytest.approx(size, rel=0.1)
    # It is true: something in it lies elsewhere now.
    assert set(sum(Table.from_arrow(made).addresses(), [])) - set(sum(table.addresses(), []))


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
    [(what, size, why)] = taken(pd.DataFrame(matrix, columns=["a", "b"]))[1][:1]
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


# === pandas ===


def column_frame() -> pd.DataFrame:
    """A column of each kind that pandas has, each with what is missing in it."""
    return pd.DataFrame(
        {
            "float": [1.0, np.nan, np.inf, -0.0, 5.0],
            "int": range(5),
            "bool": [True, False, True, True, False],
            "text": ["a", None, "", "d", "é"],
            "Int32": pd.array([1, None, 3, 4, 5], dtype="Int32"),
            "full": pd.array([1, 2, 3, 4, 5], dtype="UInt64"),
            "Float64": pd.array([1, None, 3, 4, 5], dtype="Float64"),
            "boolean": pd.array([True, None, False, True, True], dtype="boolean"),
            "string": pd.array(["a", pd.NA, "c", "d", "e"], dtype="string"),
            "time": pd.date_range("2020", periods=5, unit="ns"),
            "nat": pd.to_datetime(["2020-01-01", None, None, "2021-05-05", None]).as_unit("s"),
            "zone": pd.date_range("2020", periods=5, tz="Europe/Berlin", unit="us"),
            "offset": pd.date_range("2020", periods=5, tz=dt.timezone(dt.timedelta(hours=-5.5))),
            "span": pd.to_timedelta([1, 2, None, 4, 5], unit="s"),
            "category": pd.Categorical(["x", "y", None, "x", "x"], ["y", "x", "z"], ordered=True),
            "numbers": pd.Categorical([1, 2, 1, 1, None]),
            "date": [dt.date(2020, 1, 1), None, *[dt.date(1999, 12, 31)] * 3],
            "clock": [dt.time(1, 2, 3), None, *[dt.time(23, 59, 59, 999_999)] * 3],
            "decimal": [Decimal("1.20"), None, *[Decimal("-3")] * 3],
            "binary": [b"x", None, b"", b"\0", b"y"],
            "list": [[1, 2], [3], None, [], [4]],
            "struct": [{"a": 1, "b": "x"}, None, {"a": 2, "b": None}, None, None],
            "object": pd.Series(["a", None, "c", "d", "e"], dtype=object),
            "arrow": pd.array([1, None, 3, 4, 5], dtype="int64[pyarrow]"),
            "period": pd.period_range("2020", periods=5, freq="D"),
            "interval": pd.interval_range(0, 5),
            "small": np.arange(5, dtype="f4"),
            "byte": np.arange(5, dtype="u1"),
        }
    )


INDEXES = [
    pd.RangeIndex(5),
    pd.RangeIndex(2, 12, 2, name="r"),
    pd.Index(list("abcde"), name="k"),
    pd.Index(list("abcde")),
    pd.Index(list("aabbc"), name="twice"),
    pd.MultiIndex.from_arrays([list("aabbc"), range(5)], names=["p", None]),
    pd.date_range("2020", periods=5, tz="Europe/Berlin", name="when"),
    pd.DatetimeIndex(["2020-01-01", None, "2020-01-02", "2019-01-01", None]),
    pd.CategoricalIndex(list("ababa")),
    pd.period_range("2020", periods=5, freq="M"),
    pd.Index([1.5, 2, 3, 4, np.nan], name="float"),
    pd.Index([1, 2, 3, 4, 5], name="text"),
    pd.Index([dt.date(2020, 1, 1)] * 5),
    pd.Index(pd.array([1, None, 3, 4, 5], dtype="Int64")),
]
LABELS = [
    pd.Index([0, 1]),
    pd.RangeIndex(2),
    pd.Index([1.5, 2.5]),
    pd.Index(["a", "b"], name="labels"),
    pd.Index(["größe", "\U0001f40d"]),
    pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"]),
    pd.DatetimeIndex(["2020-01-01", "2020-01-02"]),
    pd.DatetimeIndex(["2020-01-01", "2020-01-02"], tz="Europe/Berlin"),
]


def there_and_back(frame: pd.DataFrame) -> tuple[pd.DataFrame, Any]:
    """A frame that went through our table, and the table."""
    table = taken(frame)[0]
    return given_as(table, "pandas")[0], table


def test_a_frame_comes_back_as_it_was() -> None:
    frame = column_frame()
    back, table = there_and_back(frame)
    assert_frame_equal(back, frame, check_freq=False)
    # pyarrow, which reads what Parquet files hold for pandas, makes the same of it.
    lists = ["list", "object"]
    read = arrow(table).to_pandas().drop(columns=lists)
    assert_frame_equal(read, frame.drop(columns=lists), check_freq=False)


def test_what_pyarrow_wrote_for_pandas_is_read_as_pyarrow_reads_it() -> None:
    frame = column_frame().drop(columns=["list", "object"])
    written = pa.Table.from_pandas(frame)
    made = given_as(Table.from_arrow(written), "pandas")[0]
    assert_frame_equal(made, written.to_pandas())


@pytest.mark.parametrize("index", INDEXES, ids=repr)
def test_an_index_comes_back_as_it_was(index: pd.Index) -> None:
    frame = column_frame()[["float", "text"]].set_index(index)
    back, table = there_and_back(frame)
    assert_frame_equal(back, frame, check_freq=False)
    assert_frame_equal(arrow(table).to_pandas(), frame, check_freq=False)
    written = pa.Table.from_pandas(frame)
    made = given_as(Table.from_arrow(written), "pandas")[0]
    assert_frame_equal(made, written.to_pandas(), check_freq=False)


@pytest.mark.parametrize("labels", LABELS, ids=repr)
def test_labels_come_back_as_they_were(labels: pd.Index) -> None:
    frame = pd.DataFrame([[1, 2.5], [3, 4.5]])
    frame.columns = labels
    back, table = there_and_back(frame)
    assert_frame_equal(back, frame, check_freq=False)
    assert_frame_equal(arrow(table).to_pandas(), frame, check_freq=False)


def test_labels_that_are_there_twice_come_back() -> None:
    frame = pd.DataFrame([[1, "x"], [2, "y"]], columns=["a", "a"])
    assert_frame_equal(there_and_back(frame)[0], frame)
    odd = pd.DataFrame([[1, "x"]], columns=[1, "1"])
    assert list(there_and_back(odd)[0].columns) == ["1", "1"]


EMPTY = [
    pd.DataFrame(),
    pd.DataFrame({"a": []}),
    pd.DataFrame(index=range(3)),
    pd.DataFrame(index=["a", "b"]),
    column_frame().iloc[:0].drop(columns=["list", "struct", "date", "clock", "decimal", "binary"]),
]


@pytest.mark.parametrize("frame", EMPTY, ids=lambda frame: str(frame.shape))
def test_a_frame_without_rows_or_columns_comes_back(frame: pd.DataFrame) -> None:
    assert_frame_equal(there_and_back(frame)[0], frame, check_freq=False)


def test_a_frame_keeps_its_attributes_and_what_arrow_said() -> None:
    schema = pa.schema(
        [pa.field("a", pa.int64(), metadata={"unit": "°C"}), pa.field("b", pa.decimal128(20, 3))],
        metadata={"station": "Sand Point"},
    )
    source = pa.Table.from_arrays(
        [pa.array([1]), pa.array([Decimal("1.5")], pa.decimal128(20, 3))], schema=schema
    )
    frame = given_as(Table.from_arrow(source), "pandas")[0]
    assert frame.attrs["arrow"]["schema"] == {"station": "Sand Point"}
    assert frame.attrs["arrow"]["fields"] == {"a": {"unit": "°C"}}
    frame.attrs["mine"] = {"x": 1}
    edited = frame.assign(c=frame["a"] * 2)
    back = arrow(taken(edited)[0])
    assert back.schema.metadata[b"station"] == b"Sand Point"
    assert back.schema.field("a").metadata == {b"unit": "°C".encode()}
    assert back.schema.field("b").type == pa.decimal128(20, 3)
    assert given_as(Table.from_arrow(back), "pandas")[0].attrs["mine"] == {"x": 1}
    # No other writer is disturbed by it.
    pa.Table.from_pandas(edited)


def test_null_and_nan_stay_apart_in_pandas() -> None:
    source = pa.table({"a": pa.array([1.0, None, float("nan")])})
    frame = given_as(Table.from_arrow(source), "pandas")[0]
    assert str(frame["a"].dtype) == "Float64"
    assert frame["a"].isna().tolist() == [False, True, False]
    assert shown(arrow(taken(frame)[0])) == shown(source)


def test_what_is_missing_in_objects_is_null_and_nan_of_floats_stays() -> None:
    def told(*values: Any) -> tuple[str, list[Any]]:
        frame = pd.DataFrame({"a": pd.Series(values, dtype=object)})
        column = taken(frame)[0].column("a")
        return column.field.type, column.to_list()

    nan = float("nan")
    assert told("x", nan, None, pd.NA) == ("utf8", ["x", None, None, None])
    assert told(Decimal("1.5"), nan)[1] == [Decimal("1.5"), None]
    kind, values = told(1.5, nan, None)
    assert kind == "float64" and np.isnan(values[1]) and values[2] is None
    fine = pd.Timestamp(1, unit="ns")
    assert told(fine, pd.NaT)[0] == "timestamp[ns]"
    assert told(np.array([1, 2]), [3]) == ("list<int64>", [[1, 2], [3]])
    assert told(pd.Period("2020-01", "M"), None)[1] == [600, None]


@pytest.mark.parametrize(
    "column, words",
    [
        (pd.Series([1, "x"], dtype=object), 'column "bad": value 1 is a str'),
        (pd.Series([object()]), 'column "bad": value 0 is a object'),
        (pd.Series([1j]), 'column "bad" is of complex128, which Arrow has no type for'),
        (pd.Series(pd.arrays.SparseArray([1, 2])), 'column "bad" is of Sparse[int64'),
    ],
    ids=["mixed", "object", "complex", "sparse"],
)
def test_what_a_table_cannot_hold_is_named(column: Any, words: str) -> None:
    with pytest.raises(TypeError) as refused:
        taken(pd.DataFrame({"good": 1, "bad": column}))
    assert words in str(refused.value)


HOSTILE = [
    b"",
    b"not json",
    b"[" * 100_000,
    b"[]",
    b"null",
    b'{"columns": 5, "index_columns": {}, "column_indexes": "x", "attributes": []}',
    b'{"columns": [1, {"name": 3}, {"field_name": "a", "numpy_type": 7, "name": []}]}',
    b'{"columns": [{"field_name": "a", "numpy_type": "period[X]"}]}',
    b'{"columns": [{"field_name": "a", "numpy_type": "interval[y, left]"}]}',
    b'{"columns": [{"field_name": "a", "numpy_type": "Int64"}, {"field_name": "b", "name": "a"}]}',
    b'{"index_columns": ["nobody", {"kind": "range"}, {"kind": "range", "start": 0, "stop": 9}]}',
    b'{"index_columns": [{"kind": "range", "start": 0, "stop": 2, "step": 0}, null, 5, ["a"]]}',
    b'{"index_columns": [{"kind": "range", "start": 0, "stop": 2, "step": 1, "name": ["x"]}]}',
    b'{"column_indexes": [{"pandas_type": "int64", "numpy_type": "int64", "name": {}}]}',
    b'{"column_indexes": [{"pandas_type": "x", "numpy_type": 5}, {}, {}]}',
    b'{"column_indexes": [{"pandas_type": "datetimetz"}]}',
]


@pytest.mark.parametrize("metadata", HOSTILE, ids=lambda each: each[:40].decode())
def test_metadata_that_is_not_pandas_own_does_no_harm(metadata: bytes) -> None:
    source = pa.table({"a": [1, 2], "b": ["x", "y"]}).replace_schema_metadata({"pandas": metadata})
    frame = given_as(Table.from_arrow(source), "pandas")[0]
    assert frame.shape == (2, 2) and frame.iloc[1].tolist() == [2, "y"]


def test_a_column_that_pandas_wrote_with_nan_for_missing_is_of_floats_again() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan], "b": [1, 2]})
    written = pa.Table.from_pandas(frame)
    assert written.column("a").null_count == 1
    assert_frame_equal(given_as(Table.from_arrow(written), "pandas")[0], frame)
    # Integers, too, where the metadata says that they were floats.
    ints = written.set_column(0, "a", pa.array([1, None]))
    assert_frame_equal(given_as(Table.from_arrow(ints), "pandas")[0], frame)
    wide = written.set_column(0, "a", pa.array([2**60 + 1, None]))
    assert given_as(Table.from_arrow(wide), "pandas")[0]["a"][0] == 2**60 + 1


def test_categories_that_pandas_cannot_have_are_made_ones_that_it_can() -> None:
    twice = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array(["x", "x", None]))
    column = given_as(table_of(a=twice), "pandas")[0]["a"]
    assert column.tolist()[:2] == ["x", "x"] and pd.isna(column[2])
    assert list(column.dtype.categories) == ["x"]


def test_times_finer_than_python_has_stay_in_arrow_types() -> None:
    fine = pa.array([1, None], pa.time64("ns"))
    frame = given_as(table_of(a=fine), "pandas")[0]
    assert isinstance(frame["a"].dtype, pd.ArrowDtype)
    assert arrow(taken(frame)[0]).column("a").cast(pa.int64()).to_pylist() == [1, None]


def test_a_series_is_a_table_of_one_column() -> None:
    series = pd.Series([1.5, 2.5], index=["a", "b"], name="x")
    table = taken(series)[0]
    assert table.column_names == ["x", "__index_level_0__"]
    back = given_as(table, "pandas-series")[0]
    pd.testing.assert_series_equal(back, series)
    assert taken(pd.Series([1]))[0].column_names == ["value"]
    assert taken(pl.Series("y", [1]))[0].column_names == ["y"]
    assert taken(pl.Series([1]))[0].column_names == ["value"]
    assert given_as(table_of(y=[1, 2]), "polars-series")[0].to_list() == [1, 2]
    for target in ("pandas-series", "polars-series"):
        with pytest.raises(ValueError, match="one column, and the table has 2"):
            given_as(table_of(a=[1], b=[2]), target)


def test_parquet_that_is_read_by_pandas_is_the_frame(tmp_path: Path) -> None:
    frame = column_frame().drop(columns=["list", "object", "interval"]).set_index("time")
    pa.parquet.write_table(arrow(taken(frame)[0]), tmp_path / "frame.parquet")
    assert_frame_equal(pd.read_parquet(tmp_path / "frame.parquet"), frame, check_freq=False)


def test_pandas_needs_no_pyarrow() -> None:
    told = in_a_process("""
        sys.modules["pyarrow"] = None
        import datetime, decimal
        import pandas as pd
        from exuvia._native import Column, Table
        conversions = load(Table, Column)
        frame = pd.DataFrame({
            "f": [1.0, float("nan")], "i": [1, 2], "b": [True, False], "s": ["x", None],
            "t": pd.date_range("2020", periods=2, tz="Europe/Berlin"), "o": [b"x", None],
            "c": pd.Categorical(["u", None]), "n": pd.array([1, None], dtype="Int64"),
            "d": [decimal.Decimal("1.5"), None], "st": pd.array(["x", None], dtype="string"),
        }, index=pd.Index(["p", "q"], name="k"))
        table = conversions.take(frame, [])
        back = conversions.give(table, "pandas", [])
        pd.testing.assert_frame_equal(back, frame, check_freq=False)
        column = Column.from_buffer(memoryview(bytes(8)), "time64", unit="ns")
        for bad in (Column.from_buffer(bytes([1] + [0] * 7), "time64", unit="ns"),):
            try:
                conversions.give(Table.from_columns([("fine", bad, None)]), "pandas", [])
            except ValueError as error:
                print(error)
        try:
            conversions.take(pd.DataFrame({"p": pd.period_range("2020", periods=1)}), [])
        except TypeError as error:
            print(error)
    """)
    refused, period = told.splitlines()
    assert refused.startswith('column "fine"')
    assert period.startswith('column "p" is of period[') and "without pyarrow" in period


# === arrays ===


def test_a_table_is_a_matrix_rows_by_columns() -> None:
    matrix, copies = given_as(table_of(a=[1.0, 2.0], b=[3.0, 4.0]), "numpy")
    assert matrix.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert ("table", 32, "the columns of a table lie apart") in copies
    mixed, copies = given_as(table_of(a=[1, 2], b=[True, False], c=np.float32([1.5, 2])), "numpy")
    assert mixed.tolist() == [[1, 1, 1.5], [2, 0, 2]] and mixed.dtype == "f8"
    why = "the columns are of several types, and a matrix is of one, float64"
    assert copies[-1] == ("table", 48, why)
    assert given_as(Table.from_columns([], None, 3), "numpy")[0].shape == (3, 0)
    assert given_as(table_of(a=pa.array([], pa.int8()), b=pa.array([], pa.int8())), "numpy")[
        0
    ].shape == (0, 2)


UNFIT_FOR_ARRAYS: list[tuple[dict[str, Any], str]] = [
    ({"a": [1, None]}, 'column "a" has nulls, and an array has no place for them'),
    ({"a": [1.0, None]}, 'column "a" has nulls, and an array has no place for them'),
    ({"a": [True, None]}, 'column "a" has nulls, and an array has no place for them'),
    ({"a": [1], "b": ["x"]}, 'column "b" is of utf8, and a matrix holds numbers'),
    ({"a": [2**53 + 1], "b": [1.5]}, 'column "a" has integers that float64 cannot hold exactly'),
    ({"a": [-1], "b": np.array([2**64 - 1], "u8")}, 'column "b" has integers that float64 cannot'),
    ({"a": pa.array([0], pa.duration("s")), "b": [1]}, "no array holds both"),
    (
        {"a": pa.array([2**40], pa.timestamp("s")), "b": pa.array([1], pa.timestamp("ns"))},
        'column "a" has times that 64 bits cannot hold in unit ns',
    ),
]


@pytest.mark.parametrize("columns, words", UNFIT_FOR_ARRAYS, ids=lambda each: str(each)[:30])
def test_an_array_never_changes_values(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as refused:
        given_as(table_of(**columns), "numpy")
    assert words in str(refused.value)


def test_missing_times_are_nat_and_other_columns_objects() -> None:
    columns = {
        "d": pa.array([dt.date(2020, 1, 1), None]),
        "t": pa.array([1, None], pa.timestamp("us", "Europe/Berlin")),
        "s": pa.array(["x", None]),
        "l": pa.array([[1], [2, 3]]),
    }
    made = given_as(table_of(**columns), "numpy-dict")[0]
    assert made["d"].dtype == "M8[D]" and np.isnat(made["d"]).tolist() == [False, True]
    assert made["t"].dtype == "M8[us]" and made["t"][0] == np.datetime64(1, "us")
    assert made["s"].tolist() == ["x", None] and made["l"].tolist() == [[1], [2, 3]]


RESULTS: list[tuple[Any, list[str] | None]] = [
    (np.arange(3), ["value: int64"]),
    (np.arange(6.0).reshape(3, 2), ["0: float64", "1: float64"]),
    (np.zeros(2, [("x", "f4"), ("y", "M8[D]")]), ["x: float32", "y: date32"]),
    (np.array(["2020-01", "NaT"], "M8[M]"), ["value: date32"]),
    (np.array([1, 2], "m8[D]"), ["value: duration[s]"]),
    (np.array([1, 2], "M8[h]"), ["value: timestamp[s]"]),
    (np.array(["a", "b"]), ["value: utf8"]),
    (np.array([b"a", None], object), ["value: binary"]),
    (np.float16([1, 2]), ["value: float16"]),
    (np.zeros((2, 2, 2)), None),
    (np.array(5), None),
    ([{"a": 1, "b": "x"}, {"b": None, "a": 2}], ["a: int64", "b: utf8"]),
    ([{"a": 1}, {"b": 2}], None),
    ([1, 2], None),
    ([], []),
    ({"a": [1, 2], "b": np.arange(2.0)}, ["a: int64", "b: float64"]),
    ({"a": pd.Series([1, 2]), "b": pl.Series([1.5, 2])}, ["a: int64", "b: float64"]),
    ({"a": pa.array([1, 2]), "b": (None, 2)}, ["a: int64", "b: int64"]),
    ({"a": 1}, None),
    ({1: [2]}, None),
    ({"a": np.zeros((2, 2))}, None),
    (pa.array([1, 2]), ["value: int64"]),
    (pa.array([{"x": 1}]), ["x: int64"]),
    (arro3.core.Array([1, 2], pa.int8()), ["value: int8"]),
    (nanoarrow.Array([1, 2], nanoarrow.int16()), ["value: int16"]),
    *[(other, None) for other in ("x", 5, None, (1, 2), {1, 2}, object())],
]


@pytest.mark.parametrize("result, columns", RESULTS, ids=lambda each: repr(each)[:40])
def test_a_result_is_a_table_or_it_is_none(result: Any, columns: list[str] | None) -> None:
    table = taken(result)[0]
    if columns is None:
        assert table is None
    else:
        assert [f"{field.name}: {field.type}" for field in table.fields] == columns


@pytest.mark.parametrize(
    "result, error, words",
    [
        ({"a": [1, 2], "b": [1]}, ValueError, 'column "b" has 1 values, and column "a" has 2'),
        ({"a": [1, "x"]}, TypeError, 'column "a": value 1 is a str'),
        ([{"a": 1}, {"a": "x"}], TypeError, 'column "a": value 1 is a str'),
        (np.array([1j]), TypeError, 'column "value" is of complex128, which Arrow has no type for'),
        (np.array([1], "m8[M]"), TypeError, 'column "value" is of timedelta64[M]'),
        (np.zeros(2, "V8"), TypeError, 'column "value" is of |V8'),
        (
            np.array([2**40], "M8[D]"),
            ValueError,
            'column "value" has days that 32 bits cannot hold',
        ),
        (
            np.array([2**60], "M8[h]"),
            ValueError,
            'column "value" has times that 64 bits cannot hold',
        ),
    ],
    ids=repr,
)
def test_a_result_that_is_no_good_table_is_named(
    result: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as refused:
        taken(result)
    assert words in str(refused.value)


# === other classes ===


def test_a_class_makes_itself_or_gets_our_table() -> None:
    table = table_of(a=[1])
    made = given_as(table, ("class", Made))[0]
    assert isinstance(made, Made) and made.table is table
    assert given_as(table, ("class", Streams))[0] is table
    assert given_as(table, ("class", Table))[0] is table
    assert given_as(table, "table")[0] is table
    assert taken(made)[0] == table


def test_lists_and_dicts_are_rows_and_columns() -> None:
    table = table_of(a=[1, None], b=["x", "y"])
    rows, copies = given_as(table, "rows")
    assert rows == [{"a": 1, "b": "x"}, {"a": None, "b": "y"}]
    assert copies == [("table", table.nbytes, "lists and dicts hold Python objects")]
    assert given_as(table, "columns")[0] == {"a": [1, None], "b": ["x", "y"]}


@pytest.mark.parametrize("target", ["polars", "numpy-dict", "columns", "rows"])
def test_a_name_that_is_there_twice_is_an_error_where_it_must_be_one(target: str) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(ValueError, match='"a"'):
        given_as(Table.from_arrow(twice), target)


@pytest.mark.parametrize("target", ["pandas", "pyarrow", "pyarrow-batch", "arro3", "arro3-batch"])
def test_a_name_that_is_there_twice_is_kept_where_it_can_be(target: str) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    made = given_as(Table.from_arrow(twice), target)[0]
    assert shown(arrow(taken(made)[0])) == [("a", "[1]"), ("a", "[2]")]


# === tensors ===

TENSORS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(3, 2)),
    np.zeros((0, 3)),
    np.array(5),
    np.array(["2020"], "M8[s]"),
    np.zeros(2, [("x", "f4"), ("größe", "i2", (2,))]),
    np.zeros(2, [("鳥", "f4")]),
    np.arange(10)[::2],
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.array(["ab", "c"]),
    np.zeros(3, ">i2"),
    np.array([True, False]),
    np.array([1j, np.nan]),
    np.zeros(3, [(f"a_long_name_of_a_field_{at}", "i1") for at in range(2500)]),
]


@pytest.mark.parametrize(
    "array", TENSORS, ids=lambda array: f"{str(array.dtype)[:20]}{array.shape}"
)
@pytest.mark.filterwarnings("ignore:Stored array in format")
def test_a_tensor_is_numpys_own_format(array: Any, tmp_path: Path) -> None:
    copies: list[Note] = []
    header, data = conversions.tensor_parts(array, copies)
    raw = bytes(header) + bytes(data)
    assert len(header) % 64 == 0
    (tmp_path / "ours.npy").write_bytes(raw)
    np.save(tmp_path / "theirs.npy", array)
    read = np.load(tmp_path / "ours.npy", max_header_size=10**6)
    for payload in (raw, (tmp_path / "theirs.npy").read_bytes()):
        made = conversions.tensor(bytearray(payload), copies)
        for each in (made, read):
            assert (each.dtype, each.shape, each.tobytes()) == (
                array.dtype,
                array.shape,
                array.tobytes(),
            )
    together = array.flags.c_contiguous or array.flags.f_contiguous
    assert copies == (
        [] if together else [("array", array.nbytes, "its values do not lie side by side")]
    )


def test_a_tensor_lies_where_its_bytes_lie() -> None:
    array = np.arange(1000.0).reshape(10, 100)
    header, data = conversions.tensor_parts(array, [])
    assert address(data) == address(array)
    memory = bytearray(header) + bytearray(data)
    copies: list[Note] = []
    made = conversions.tensor(memory, copies)
    assert copies == [] and address(made) == start(memory) + len(header)
    made[0, 0] = 7.0
    assert memory[len(header) : len(header) + 8] == np.float64(7.0).tobytes()
    assert not conversions.tensor(bytes(memory), copies).flags.writeable


def npy(change: Callable[[bytes], bytes]) -> bytes:
    header, data = conversions.tensor_parts(np.zeros(2, "i2"), [])
    return change(bytes(header) + bytes(data))


BAD_TENSORS = [
    npy(lambda raw: b""),
    npy(lambda raw: raw[:9]),
    npy(lambda raw: raw[:20]),
    npy(lambda raw: raw[:-1]),
    npy(lambda raw: raw + b"x"),
    npy(lambda raw: b"x" + raw),
    npy(lambda raw: raw.replace(b"(2,)", b"(3,)")),
    npy(lambda raw: raw.replace(b"(2,)", b"(-2)")),
    npy(lambda raw: raw.replace(b"(2,)", b"2   ")),
    npy(lambda raw: raw.replace(b"(2,)", b"((((")),
    npy(lambda raw: raw.replace(b"<i2", b"|O8")),
    npy(lambda raw: raw.replace(b"<i2", b"<i9")),
    npy(lambda raw: raw.replace(b"descr", b"descs")),
    npy(lambda raw: raw[:8] + b"\xff\xff" + raw[10:]),
    npy(lambda raw: raw[:6] + b"\x09" + raw[7:]),
]


@pytest.mark.parametrize("raw", BAD_TENSORS, ids=lambda raw: repr(raw[:12]))
def test_bytes_that_are_no_tensor_are_an_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        conversions.tensor(raw, [])


@thorough
@given(at=st.integers(0, 140), byte=st.integers(0, 255))
def test_a_changed_tensor_is_an_array_or_a_value_error(at: int, byte: int) -> None:
    raw = bytearray(npy(lambda raw: raw))
    raw[at % len(raw)] = byte
    try:
        made = conversions.tensor(raw, [])
    except ValueError:
        return
    assert made.nbytes <= len(raw)


def test_an_array_of_objects_is_no_tensor() -> None:
    with pytest.raises(TypeError, match="an array of object has no place"):
        conversions.tensor_parts(np.array([object()]), [])


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


decimals_of_every_width = st.sampled_from(
    decimals((pa.decimal32, pa.decimal64, pa.decimal128, pa.decimal256))
)


@thorough
@given(source=tables(decimals_of_every_width))
def test_decimals_of_every_width_come_back_from_pandas(source: Any) -> None:
    back = taken(given_as(Table.from_arrow(source), "pandas")[0])[0]
    if all(pa.types.is_decimal(type) for type in source.schema.types):
        assert types_of(back) == types_of(source)
    assert shown(arrow(back)) == shown(source)
