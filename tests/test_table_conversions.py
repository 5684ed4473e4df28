"""Our tables as those of polars, pyarrow, arro3 and other classes, and back."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from arrow_tables import (
    Kind,
    any_kind,
    deep,
    flat,
    shown,
    tables,
    thorough,
)
from conversions import (
    Made,
    Streams,
    arrow,
    given_as,
    table_of,
    taken,
    types_of,
)
from exuvia._native import Table
from hypothesis import given

# === there and back ===


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
    if pa.types.is_map(type):
        return pa.map_(as_in_polars(type.key_type), as_in_polars(type.item_type))
    return type


def is_in_polars(kind: Kind) -> bool:
    """Zones that are no whole hours, and decimals of 256 bits, polars does not have.

    Of nulls inside others pyarrow makes broken arrays when it casts them to polars' types.
    """
    if any(word in str(kind.type) for word in ("+05:30", "decimal256")):
        return False
    return bool(kind.type == pa.null()) or "null" not in str(kind.type)


@thorough
@given(source=tables(any_kind.filter(is_in_polars)))
@pytest.mark.parametrize("target", ["polars", "polars-lazy"])
def test_polars_gives_back_every_table_in_its_own_types(target: str, source: Any) -> None:
    made, _ = given_as(Table.from_arrow(source), target)
    back = taken(made)[0]
    wanted = pa.schema([(field.name, as_in_polars(field.type)) for field in source.schema])
    assert types_of(back) == types_of(wanted.empty_table())
    assert shown(arrow(back)) == shown(cast(source, wanted))


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


def cast(source: Any, wanted: Any) -> Any:
    """A table in other types; columns that are of them stay what they are."""
    pairs = zip(source.columns, wanted, strict=True)
    columns = [
        column if column.type == field.type else column.cast(field.type) for column, field in pairs
    ]
    return pa.Table.from_arrays(columns, schema=wanted)


def as_in_pandas(type: Any) -> Any:
    """What a column is after pandas. All types but these it keeps."""
    if pa.types.is_string(type) or pa.types.is_string_view(type):
        return pa.large_string()
    if pa.types.is_dictionary(type):
        # There are few values, so the narrowest indices do.
        return pa.dictionary(pa.int8(), as_in_pandas(type.value_type), ordered=type.ordered)
    return type


def schema_in_pandas(source: Any) -> Any:
    fields = [field.with_type(as_in_pandas(field.type)) for field in source.schema]
    return pa.schema(fields, metadata=source.schema.metadata)


@thorough
@given(source=tables(flat))
def test_pandas_gives_back_every_flat_table(source: Any) -> None:
    frame, _ = given_as(Table.from_arrow(source), "pandas")
    back = taken(frame)[0]
    wanted = schema_in_pandas(source)
    assert types_of(back) == types_of(wanted.empty_table())
    assert shown(arrow(back)) == shown(cast(source, wanted))
    found = arrow(back).schema
    assert [field.metadata or {} for field in found] == [field.metadata or {} for field in wanted]
    kept = {key: value for key, value in found.metadata.items() if key != b"pandas"}
    assert kept == (wanted.metadata or {})


@thorough
@given(source=tables(deep))
def test_pandas_gives_back_lists_structs_and_maps(source: Any) -> None:
    frame, _ = given_as(Table.from_arrow(source), "pandas")
    back = taken(frame)[0]
    wanted = schema_in_pandas(source)
    assert types_of(back) == types_of(wanted.empty_table())
    assert shown(arrow(back)) == shown(cast(source, wanted))


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
