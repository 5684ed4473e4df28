"""Columns as plain Python objects and back, and slices within slices."""

import datetime as dt
import math
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from arrow_tables import EVERYTHING
from exuvia import Column, Table, Values
from hypothesis import given, settings
from hypothesis import strategies as st

BERLIN = ZoneInfo("Europe/Berlin")


def array(values: Values, dtype: str) -> Any:
    return np.frombuffer(memoryview(values), dtype)


# === what arrives ===


def test_every_type_becomes_the_objects_that_pyarrow_makes_of_it() -> None:
    table = Table.from_arrow(EVERYTHING)
    ours, theirs = table.columns(), EVERYTHING.to_pydict()
    for name, values in theirs.items():
        assert ours[name] == values, name
        # With pandas there, nanoseconds become its Timestamp.
        kinds = [dt.datetime if isinstance(value, dt.datetime) else type(value) for value in values]
        assert [type(value) for value in ours[name]] == kinds, name
    assert table.rows() == [
        {name: values[row] for name, values in theirs.items()} for row in range(3)
    ]


def test_every_type_goes_back_as_it_came() -> None:
    table = Table.from_arrow(EVERYTHING)
    assert pa.table(table).equals(EVERYTHING, check_metadata=True)
    assert Table.from_arrow(pa.table(table)) == table


def test_slices_are_read_where_they_begin() -> None:
    sliced = Table.from_arrow(EVERYTHING.slice(1, 2))
    assert sliced.columns() == EVERYTHING.slice(1, 2).to_pydict()
    assert pa.table(sliced).equals(EVERYTHING.slice(1, 2))
    column = Column.from_arrow(pa.chunked_array([[1, 2, 3, None]]).slice(2))
    assert array(column.values(), "int64")[0] == 3
    assert bytes(column.mask()) == b"\0\1" and column.null_count == 1


LEAVES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int8(): st.integers(-128, 127),
    pa.bool_(): st.booleans(),
    pa.string(): st.text("ab", max_size=3),
    pa.string_view(): st.text("ab", max_size=14),
    pa.null(): st.none(),
}


def flags(count: int) -> st.SearchStrategy[Any]:
    flags = st.lists(st.booleans(), min_size=count, max_size=count)
    return flags.map(lambda flags: pa.array(flags, pa.bool_()))


def bounds(count: int, most: int) -> st.SearchStrategy[Any]:
    """So many numbers up to the most, none smaller than the one before."""
    return st.lists(st.integers(0, most), min_size=count, max_size=count).map(sorted)


def picks(count: int, choices: st.SearchStrategy[Any], type: pa.DataType) -> Any:
    return st.lists(choices, min_size=count, max_size=count).map(
        lambda found: pa.array(found, type)
    )


@st.composite
def slices(draw: st.DrawFn, depth: int, length: int) -> Any:
    """A slice of an array, and so is whatever is inside it."""
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    whole = before + length + after
    make = draw(st.sampled_from(NESTS)) if depth else leaves
    return draw(make(depth - 1, whole)).slice(before, length)


def leaves(depth: int, length: int) -> st.SearchStrategy[Any]:
    def of(type: pa.DataType) -> Any:
        return picks(length, st.none() | LEAVES[type], type)

    return st.sampled_from(list(LEAVES)).flatmap(of)


@st.composite
def structs(draw: st.DrawFn, depth: int, length: int) -> Any:
    members = [draw(slices(depth, length)), draw(slices(0, length))]
    return pa.StructArray.from_arrays(members, ["a", "b"], mask=draw(flags(length)))


@st.composite
def lists(draw: st.DrawFn, depth: int, length: int) -> Any:
    values = draw(slices(depth, 3))
    kind, type = draw(
        st.sampled_from([(pa.ListArray, pa.int32()), (pa.LargeListArray, pa.int64())])
    )
    ends = pa.array(draw(bounds(length + 1, len(values))), type)
    return kind.from_arrays(ends, values, mask=draw(flags(length)))


@st.composite
def views(draw: st.DrawFn, depth: int, length: int) -> Any:
    starts = draw(picks(length, st.integers(0, 2), pa.int32()))
    sizes = draw(picks(length, st.integers(0, 1), pa.int32()))
    return pa.ListViewArray.from_arrays(starts, sizes, draw(slices(depth, 3)))


@st.composite
def fixed_lists(draw: st.DrawFn, depth: int, length: int) -> Any:
    size = draw(st.integers(1, 2))
    values = draw(slices(depth, length * size))
    return pa.FixedSizeListArray.from_arrays(values, size, mask=draw(flags(length)))


@st.composite
def maps(draw: st.DrawFn, depth: int, length: int) -> Any:
    keys = draw(picks(5, st.integers(0, 9), pa.int16())).slice(1, 3)
    ends = draw(bounds(length + 1, 3))
    return pa.MapArray.from_arrays(ends, keys, draw(slices(depth, 3)))


@st.composite
def indexed(draw: st.DrawFn, depth: int, length: int) -> Any:
    indices = draw(picks(length, st.none() | st.integers(0, 2), pa.int8()))
    return pa.DictionaryArray.from_arrays(indices, draw(slices(depth, 3)))


@st.composite
def unions(draw: st.DrawFn, depth: int, length: int) -> Any:
    kinds = draw(picks(length, st.integers(0, 1), pa.int8()))
    if draw(st.booleans()):
        members = [draw(slices(depth, length)), draw(slices(0, length))]
        return pa.UnionArray.from_sparse(kinds, members)
    places = pa.array(draw(bounds(length, 2)), pa.int32())
    members = [draw(slices(depth, 3)), draw(slices(0, 3))]
    return pa.UnionArray.from_dense(kinds, places, members)


NESTS = [structs, lists, views, fixed_lists, maps, indexed, unions]


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 3).flatmap(lambda depth: slices(depth, 3)))
def test_slices_within_slices_are_read_where_they_begin(array: Any) -> None:
    array.validate(full=True)
    column = Column.from_arrow(array)
    assert column.to_list() == array.to_pylist()
    back = pa.array(column)
    back.validate(full=True)
    assert back.type == array.type and back.to_pylist() == array.to_pylist()
    table = pa.table({"x": array})
    assert Table.from_arrow(table).columns() == {"x": array.to_pylist()}


def test_structs_in_a_slice_lie_where_they_lay() -> None:
    numbers = pa.array(range(8760), pa.int64())
    inner = pa.StructArray.from_arrays([numbers], ["b"])
    outer = pa.StructArray.from_arrays([inner.slice(2)], ["a"]).slice(3)
    (addresses,) = Table.from_arrow(pa.table({"x": outer})).addresses()
    assert addresses[-1] == numbers.buffers()[1].address + 8 * 5


def test_columns_of_nothing_are_taken_from_polars() -> None:
    frame = pl.DataFrame(
        {"a": [None, None], "list": [[None], []], "struct": [{"x": None, "y": 1}, None]}
    )
    assert frame["a"].dtype == pl.Null
    table = Table.from_arrow(frame)
    assert table.columns() == frame.to_dict(as_series=False)
    assert pl.DataFrame(table).equals(frame)
    assert Column.from_arrow(frame["a"][1:]).to_list() == [None]


def test_fields_say_what_a_column_is() -> None:
    schema = pa.schema(
        [
            pa.field("t", pa.timestamp("us", "UTC"), nullable=False, metadata={"unit": "h"}),
            pa.field("d", pa.decimal128(10, 2)),
            pa.field("c", pa.dictionary(pa.int32(), pa.string(), ordered=True)),
            pa.field("l", pa.list_(pa.struct({"a": pa.int64()}))),
            pa.field("b", pa.bool_()),
            pa.field("f", pa.binary(16)),
        ],
        metadata={"origin": "meter"},
    )
    table = Table.from_arrow(schema.empty_table())
    time, decimal, category, nested, truth, fixed = table.fields
    assert (time.name, time.type, time.kind) == ("t", "timestamp[us, tz=UTC]", "timestamp")
    assert (time.unit, time.tz, time.nullable, time.width) == ("us", "UTC", False, 8)
    assert time.metadata == {b"unit": b"h"} and table.metadata == {b"origin": b"meter"}
    assert (decimal.type, decimal.width) == ("decimal128(10, 2)", 16)
    assert (category.type, category.ordered) == ("dictionary<int32, utf8>", True)
    assert (nested.type, nested.width) == ("list<struct<a: int64>>", None)
    assert (truth.kind, truth.width, fixed.width) == ("bool", None, 16)
    assert pa.schema(table) == schema and pa.schema(table).metadata == schema.metadata


def test_repr_names_shape_and_types() -> None:
    assert repr(Table.from_arrow(pa.table({"a": [1], "b": ["x"]}))) == (
        "<exuvia.Table of 1 rows, 2 columns>\n  a: int64\n  b: utf8"
    )


def test_tables_are_equal_by_schema_and_values_not_by_batches() -> None:
    whole = pa.table({"a": [1.0, math.nan, -0.0], "b": ["x", None, "z"]})
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    assert Table.from_arrow(whole) == Table.from_arrow(pieces)
    for other in (
        pa.table({"a": [1.0, math.nan, 0.0], "b": ["x", None, "z"]}),
        pa.table({"a": [1.0, None, -0.0], "b": ["x", None, "z"]}),
        whole.slice(0, 2),
        whole.rename_columns(["a", "c"]),
    ):
        assert Table.from_arrow(whole) != Table.from_arrow(other)


def test_columns_are_found_by_number_and_name() -> None:
    table = Table.from_arrow(pa.table({"a": [1], "b": [2]}))
    assert table["b"].to_list() == table.column(1).to_list() == table.column(-1).to_list() == [2]
    with pytest.raises(KeyError, match="c"):
        table["c"]
    with pytest.raises(IndexError, match="no column 2"):
        table.column(2)
    twins = Table.from_arrow(pa.table([[1], [2]], names=["a", "a"]))
    assert twins.column(1).to_list() == [2]
    with pytest.raises(ValueError, match="several columns"):
        twins["a"]
    with pytest.raises(ValueError, match="several columns"):
        twins.rows()


def test_tables_without_rows_or_columns_keep_their_shape() -> None:
    empty = EVERYTHING.slice(0, 0)
    assert pa.table(Table.from_arrow(empty)).schema == empty.schema
    assert Table.from_arrow(empty).columns() == {name: [] for name in empty.column_names}
    bare = Table.from_columns([], rows=3)
    assert (len(bare), bare.num_columns, bare.rows()) == (3, 0, [{}, {}, {}])
    assert pa.RecordBatchReader.from_stream(bare).read_next_batch().num_rows == 3
    assert len(Table.from_columns([])) == 0


def test_a_plain_array_becomes_one_column() -> None:
    assert Table.from_arrow(pa.array([1, 2])).columns() == {"value": [1, 2]}
    assert Table.from_arrow(pl.Series("watts", [1, 2])).columns() == {"watts": [1, 2]}


def test_columns_of_unequal_length_are_refused_by_name() -> None:
    columns = [("a", Column.from_objects([1, 2]), None), ("b", Column.from_objects([1]), None)]
    with pytest.raises(ValueError, match='column "b" has 1 values, column "a" has 2'):
        Table.from_columns(columns)


def test_values_beyond_python_are_errors_that_name_the_column() -> None:
    nanos = Table.from_arrow(pa.table({"t": pa.array([1], pa.timestamp("ns"))}))
    with pytest.raises(ValueError, match='column "t": 1 ns are no whole microseconds'):
        nanos.rows()
    far = Table.from_arrow(pa.table({"t": pa.array([2**62], pa.timestamp("s"))}))
    with pytest.raises(ValueError, match='column "t"'):
        far.columns()


def test_a_dictionary_is_one_for_all_chunks() -> None:
    parts = [pa.array(["a", "b", None]), pa.array(["c", "a"])]
    column = Column.from_arrow(pa.chunked_array([part.dictionary_encode() for part in parts]))
    indices, values = column.dictionary()
    assert (indices.to_list(), values.to_list()) == ([0, 1, None, 2, 0], ["a", "b", "c"])
    assert indices.field.type == "int32"
    unused = pa.DictionaryArray.from_arrays([1], ["never", "b"])
    assert Column.from_arrow(unused).dictionary()[1].to_list() == ["never", "b"]


def test_a_dictionary_is_made_of_indices_and_values() -> None:
    indices = Column.from_buffer(np.array([1, 0, 1], "int8"), "int8", b"\0\0\1")
    column = Column.from_dictionary(indices, Column.from_objects(["a", "b"]), True)
    assert column.to_list() == ["b", "a", None] and column.field.ordered
    assert pa.array(column).type == pa.dictionary(pa.int8(), pa.string(), ordered=True)
    with pytest.raises(ValueError):
        Column.from_dictionary(indices, Column.from_objects(["a"]), False)
    with pytest.raises(TypeError, match="float64"):
        Column.from_dictionary(Column.from_objects([1.5]), Column.from_objects(["a"]), False)


def test_indices_of_a_dictionary_are_never_written_to() -> None:
    column = Column.from_arrow(pa.array(["a", "b"]).dictionary_encode())
    assert memoryview(column.dictionary()[0].values()).readonly


def test_memory_of_others_is_read_only() -> None:
    values = Table.from_arrow(pa.table({"c0": np.arange(8.0)}))["c0"].values()
    view = memoryview(values)
    assert (view.readonly, view.format, view.ndim, view.nbytes) == (True, "B", 1, 64)
    with pytest.raises(ValueError):
        array(values, "float64")[0] = 1.0


def test_masks_and_bools_are_a_byte_each() -> None:
    column = Column.from_arrow(pa.chunked_array([[True, None], [False]]))
    assert bytes(column.mask()) == b"\0\1\0"
    assert column.bools()[0] == 1 and column.bools()[2] == 0
    with pytest.raises(TypeError, match="an int64 column has no bools"):
        Column.from_objects([1]).bools()
    made = Column.from_bools(np.array([True, False, True]), np.array([False, False, True]))
    assert made.to_list() == [True, False, None]


@pytest.mark.parametrize(
    "given_type, unit, tz, expected",
    [
        ("timestamp", "ns", "UTC", pa.timestamp("ns", "UTC")),
        ("timestamp[ms, tz=Europe/Berlin]", None, None, pa.timestamp("ms", "Europe/Berlin")),
        ("timestamp", None, None, pa.timestamp("us")),
        ("duration[s]", None, None, pa.duration("s")),
        ("time64", "ns", None, pa.time64("ns")),
        ("uint64", None, None, pa.uint64()),
        ("date64", None, None, pa.date64()),
        ("fixed_size_binary(8)", None, None, pa.binary(8)),
    ],
)
def test_a_buffer_is_of_the_type_it_is_said_to_be(
    given_type: str, unit: str | None, tz: str | None, expected: pa.DataType
) -> None:
    column = Column.from_buffer(np.arange(3, dtype="int64"), given_type, unit=unit, tz=tz)
    assert pa.array(column).type == expected and len(column) == 3


@pytest.mark.parametrize(
    "given_type, words",
    [
        ("int65", "int65"),
        ("utf8", "utf8"),
        ("bool", "bool"),
        ("timestamp[h]", "h"),
        ("int8[", "int8"),
    ],
)
def test_a_buffer_of_no_fixed_width_type_is_refused(given_type: str, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Column.from_buffer(bytes(8), given_type)


def test_buffers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="7 bytes are no whole number"):
        Column.from_buffer(bytes(7), "int64")
    with pytest.raises(ValueError, match="side by side"):
        Column.from_buffer(np.arange(10)[::2], "int64")
    with pytest.raises(ValueError, match="3 flags for 2 values"):
        Column.from_buffer(bytes(16), "int64", bytes(3))
    assert len(Column.from_buffer(b"", "int64")) == 0


# === Python objects ===

MOMENTS = st.datetimes(min_value=dt.datetime(1, 1, 2), max_value=dt.datetime(9999, 12, 30))
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN: list[st.SearchStrategy[Any]] = [
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**64 - 1),
    st.floats(),
    TEXT,
    st.binary(),
    st.dates(),
    st.times(),
    MOMENTS,
    MOMENTS.map(lambda moment: moment.replace(tzinfo=dt.UTC)),
    st.timedeltas(dt.timedelta(days=-(10**6)), dt.timedelta(days=10**6)),
    st.decimals(
        allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20
    ),
]


def columns_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | values, max_size=20)


def structs_of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({"a": st.none() | values, "ß": st.none() | TEXT})


def same(one: Any, other: Any) -> bool:
    """Equal and of one type, a NaN as a NaN, a zero by its sign."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one):
            return math.isnan(other)
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return type(one) is type(other) and bool(one == other)


@given(st.one_of(*[columns_of(values) for values in PLAIN]))
def test_plain_objects_come_back_as_they_were(values: list[Any]) -> None:
    assert same(Column.from_objects(values).to_list(), values)


@given(
    st.one_of(
        *[columns_of(nest(values)) for values in PLAIN for nest in (columns_of, structs_of)],
        columns_of(columns_of(structs_of(columns_of(st.integers(0, 9))))),
    )
)
def test_nested_objects_come_back_as_they_were(values: list[Any]) -> None:
    column = Column.from_objects(values)
    assert same(column.to_list(), values)
    pa.array(column).validate(full=True)


@pytest.mark.parametrize(
    "values, expected",
    [
        ([1, 2.5], "float64"),
        ([2**63, None], "uint64"),
        ([None, None], "null"),
        ([], "null"),
        ([(1, 2), [3]], "list<int64>"),
        ([[], [None]], "list<null>"),
        ([{"a": 1}, {"b": "x"}], "struct<a: int64, b: utf8>"),
        ([bytearray(b"x"), memoryview(b"y"), b"z"], "binary"),
        ([np.float64(1.5), np.int32(2)], "float64"),
        ([np.bool_(True), False], "bool"),
        ([np.str_("a")], "utf8"),
        ([np.datetime64("2010-07-28")], "date32"),
        ([np.datetime64("2010-07-28T12", "us")], "timestamp[us]"),
        ([np.array([1, 2]), None], "list<int64>"),
        ([pd.NaT, dt.datetime(2010, 7, 28), pd.NA], "timestamp[us]"),
        ([pd.Timestamp(1)], "timestamp[ns]"),
        ([pd.Timedelta(1)], "duration[ns]"),
        ([Decimal("1E+3"), Decimal("0.01")], "decimal128(6, 2)"),
        ([Decimal(10**40)], "decimal256(41, 0)"),
        ([dt.datetime(2010, 7, 28, tzinfo=BERLIN)], "timestamp[us, tz=Europe/Berlin]"),
        (
            [dt.datetime(2010, 7, 28, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30)))],
            "timestamp[us, tz=-03:30]",
        ),
        (
            [dt.datetime(2010, 7, 28, tzinfo=BERLIN), dt.datetime(2010, 7, 28, tzinfo=dt.UTC)],
            "timestamp[us, tz=UTC]",
        ),
    ],
)
def test_a_column_is_of_the_type_that_holds_all_its_objects(
    values: list[Any], expected: str
) -> None:
    assert Column.from_objects(values).field.type == expected


def test_moments_of_a_zone_keep_it_and_their_fold() -> None:
    twice = [dt.datetime(2010, 10, 31, 2, 30, tzinfo=BERLIN, fold=fold) for fold in (0, 1)]
    back = Column.from_objects(twice).to_list()
    assert [str(moment) for moment in back] == [str(moment) for moment in twice]
    assert [moment.tzinfo for moment in back] == [BERLIN, BERLIN]


def itself() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    values.append(values)
    return values


@pytest.mark.parametrize(
    "values, message",
    [
        ([1, None, 2, "x"], "value 3 is a str, the ones before are int"),
        ([1, True], "value 1 is a bool, the ones before are int"),
        ([dt.date(2010, 1, 1), dt.datetime(2010, 1, 1)], "value 1 is a datetime, the ones before"),
        (
            [dt.datetime(2010, 1, 1), dt.datetime(2010, 1, 1, tzinfo=dt.UTC)],
            "value 1 is a datetime with a zone, the ones before are datetime",
        ),
        ([{"a": [1, 2]}, {"a": [3, "x"]}], 'value 1["a"][1] is a str, the ones before are int'),
        ([2**64], "value 0 is an int beyond 64 bits"),
        ([-1, 2**63], "-1 and 9223372036854775808 do not fit into one type of 64 bits"),
        ([0.5, 2**53 + 1], "value 1, 9007199254740993, has no exact place in float64"),
        ([[0.5], [1, 2**53 + 1]], "value 1[1], 9007199254740993, has no exact place"),
        ([{1: 2}], "value 0 is a dict with keys that are no str"),
        ([{"a": {"\ud800": 1}}], 'value 0["a"] is a dict with a lone surrogate in a key'),
        ([object()], "value 0 is an object, which no column holds"),
        ([{1}], "value 0 is a set, which no column holds"),
        ([1j], "value 0 is a complex, which no column holds"),
        ([Decimal("NaN")], "value 0 is the Decimal NaN, which no column holds"),
        ([Decimal(10) ** 80], "more than 76"),
        ([Decimal("1E+999999")], "more than 76"),
        ([dt.time(1, tzinfo=dt.UTC)], "value 0 is a time with a zone"),
        ([np.datetime64(1, "ns")], "value 0 is a numpy.datetime64, which no column holds"),
        ([pd.Timestamp(1), dt.datetime(1, 1, 1)], "value 1, "),
        ([itself()], "nested deeper than 64 levels"),
        (["\ud800"], "value 0 is a str with a lone surrogate"),
    ],
)
def test_objects_without_a_common_type_are_errors_that_name_the_place(
    values: list[Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Column.from_objects(values)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "values, given_type, expected",
    [
        ([1, None], "int8", [1, None]),
        ([1, 2.5], "float32", [1.0, 2.5]),
        ([1, 2], "float16", [1.0, 2.0]),
        (["x"], "large_utf8", ["x"]),
        (["x", None, "y" * 20], "utf8_view", ["x", None, "y" * 20]),
        ([b"x"], "binary_view", [b"x"]),
        ([b"xy", None], "fixed_size_binary(2)", [b"xy", None]),
        ([dt.datetime(2010, 7, 28)], "timestamp[s]", [dt.datetime(2010, 7, 28)]),
        ([dt.time(1)], "time64[ns]", [dt.time(1)]),
        ([dt.timedelta(1)], "duration[ms]", [dt.timedelta(1)]),
        ([Decimal("1.5"), Decimal("1E+1")], "decimal128(10, 2)", [Decimal("1.5"), Decimal(10)]),
        ([None], "utf8", [None]),
        ([None], "null", [None]),
        ([dt.time(1), None], "time32[s]", [dt.time(1), None]),
        ([dt.time(1, 2, 3, 4000)], "time32[ms]", [dt.time(1, 2, 3, 4000)]),
        ([dt.date(1969, 7, 20), None], "date64", [dt.date(1969, 7, 20), None]),
        ([Decimal("1.5"), None], "decimal32(4, 2)", [Decimal("1.50"), None]),
        ([Decimal("-1E+3")], "decimal64(10, 2)", [Decimal("-1000.00")]),
        ([[1], None, (), [None]], "list<int8>", [[1], None, [], [None]]),
        ([["a"], []], "large_list<utf8_view not null>", [["a"], []]),
        ([[1, None], None], "fixed_size_list<int16, 2>", [[1, None], None]),
        ([[], None], "fixed_size_list<int16, 0>", [[], None]),
        ([{}, None], "struct<>", [{}, None]),
        (
            [{"b": [dt.time(1)], "a": 1}, None, {"a": 2}],
            "struct<a: uint8 not null, b: list<time32[s]>>",
            [{"a": 1, "b": [dt.time(1)]}, None, {"a": 2, "b": None}],
        ),
        ([[("k", 1)], None, [["k", None]]], "map<utf8, int8>", [[("k", 1)], None, [("k", None)]]),
        (["x", None, "y", "x"], "dictionary<int8, large_utf8>", ["x", None, "y", "x"]),
        (
            [[{"a": "x"}], [{"a": None}, None]],
            "list<struct<a: dictionary<int8, utf8>>>",
            [[{"a": "x"}], [{"a": None}, None]],
        ),
    ],
)
def test_objects_become_the_type_that_is_asked_for(
    values: list[Any], given_type: str, expected: list[Any]
) -> None:
    column = Column.from_objects(values, given_type)
    assert column.field.type == given_type and column.to_list() == expected
    pa.array(column).validate(full=True)


@pytest.mark.parametrize(
    "values, given_type, message",
    [
        ([1, 300], "int8", "value 1, 300, has no exact place in int8"),
        (["x"], "int64", "value 0 is a str, not int64"),
        ([dt.datetime(2010, 1, 1, 0, 0, 0, 1)], "timestamp[s]", "no exact place in timestamp[s]"),
        ([Decimal("1.555")], "decimal128(10, 2)", "no exact place in decimal128(10, 2)"),
        ([b"xyz"], "fixed_size_binary(2)", "value 0 has 3 bytes, not 2"),
        ([1], "null", "value 0 is an int, not null"),
        ([1], "wide", '"wide" is no type that is known here'),
        ([dt.time(0, 0, 0, 1)], "time32[ms]", "value 0, 1 us, has no exact place in time32[ms]"),
        ([dt.datetime(2010, 1, 1)], "date64", "value 0 is a datetime, not date64"),
        ([Decimal(1000)], "decimal32(3, 0)", "no exact place in decimal32(3, 0)"),
        ([[1], [1, 300]], "list<int8>", "value 1[1], 300, has no exact place in int8"),
        ([[1]], "fixed_size_list<int8, 2>", "value 0 has 1 values, not 2"),
        ([[None]], "list<int8 not null>", "Non-nullable"),
        ([{"a": None}], "struct<a: int8 not null>", "non-nullable"),
        (
            [{"a": 1, "b": 2}],
            "struct<a: int8>",
            'value 0 has "b", for which struct<a: int8> has no',
        ),
        # A name does not say where that of a member ends, so what it says has to be there.
        ([{"a: int8, b": 1}], "struct<a: int8, b: int8>", 'value 0 has "a: int8, b", for which'),
        ([{"a, b": 1}], "struct<a, b: int8>", "no type that is known here"),
        ([{"a": 1}], "map<utf8, int8>", "value 0 is a dict, not map<utf8, int8>"),
        ([[(1,)]], "map<int8, int8>", "value 0[0] is no pair of key and value"),
        ([[("a", 1), ("b", "x")]], "map<utf8, int8>", "value 0[1][1] is a str, not int8"),
        ([[(None, 1)]], "map<int8, int8>", "non-nullable"),
        ([f"{number}" for number in range(129)], "dictionary<int8, utf8>", "key bigger than"),
        ([[1]], "list_view<int8>", "no type that is known here"),
        ([[1]], "list<int8", "no type that is known here"),
        ([[1]], "list<int8, int8>", "no type that is known here"),
        ([[1]], "list<<int8>>", "no type that is known here"),
        ([["a"]], "dictionary<float32, utf8>", "no type that is known here"),
        ([[1]], "list<" * 100_000 + "int8" + ">" * 100_000, "no type that is known here"),
    ],
    ids=lambda each: str(each)[:60],
)
def test_objects_that_are_not_of_the_type_are_errors(
    values: list[Any], given_type: str, message: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Column.from_objects(values, given_type)
    assert message in str(caught.value)


def test_many_long_texts_are_built_and_read() -> None:
    texts = [f"{number}" * 100 for number in range(10_000)]
    assert Column.from_objects(texts).to_list() == texts
