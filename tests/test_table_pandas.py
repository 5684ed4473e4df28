"""Our tables as frames of pandas, and back."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from arrow_tables import (
    decimals,
    dictionaries,
    shown,
    tables,
    thorough,
)
from conversions import (
    arrow,
    given_as,
    in_a_process,
    table_of,
    taken,
    types_of,
)
from exuvia._native import Table
from hypothesis import given
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal


@thorough
@given(data=st.data(), rows=st.integers(1, 5))
def test_pandas_and_pyarrow_agree_on_ordered_categories(data: st.DataObject, rows: int) -> None:
    column = data.draw(dictionaries(rows))
    frame, _ = given_as(table_of(a=column), "pandas")
    assert frame["a"].dtype.ordered == column.type.ordered
    assert list(frame["a"].dtype.categories) == column.chunk(0).dictionary.to_pylist()
    expected = [None if value is None else value for value in column.to_pylist()]
    assert [None if pd.isna(value) else value for value in frame["a"]] == expected


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
            "nat": pd.DatetimeIndex(["2020-01-01", "NaT", "NaT", "2021-05-05", "NaT"]).as_unit("s"),
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
    written = pa.Table.from_pandas(frame)
    made = given_as(Table.from_arrow(written), "pandas")[0]
    if str(index.dtype) == "Int64":
        # pyarrow makes floats of it.
        assert_frame_equal(made, frame)
    else:
        assert_frame_equal(arrow(table).to_pandas(), frame, check_freq=False)
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
    # Without rows there is nothing that has the categories, or says what objects were.
    column_frame().iloc[:0].drop(columns=["category", "numbers", "list", "struct"]),
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


def test_objects_are_of_their_arrow_type_again_unless_they_changed() -> None:
    days = pa.array([dt.date(2020, 1, 1), None], pa.date64())
    categories = pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), days[:1])
    source = pa.table(
        {"day": days, "category": categories, "id": pa.array([b"x" * 16, None], pa.uuid())}
    )
    frame = given_as(Table.from_arrow(source), "pandas")[0]
    back = arrow(taken(frame)[0])
    assert back.schema.types == source.schema.types
    frame["id"] = ["a", "b"]
    frame["day"] = [dt.datetime(2020, 1, 1, 12), None]
    back = arrow(taken(frame)[0])
    assert back.schema.types == [pa.timestamp("us"), categories.type, pa.large_string()]
    frame["day"] = pd.Series([dt.datetime(2020, 1, 1, 12), None], dtype=object)
    assert arrow(taken(frame)[0])["day"][0].as_py() == dt.datetime(2020, 1, 1, 12)


def test_null_and_nan_stay_apart_in_pandas() -> None:
    source = pa.table({"a": pa.array([1.0, None, float("nan")])})
    frame = given_as(Table.from_arrow(source), "pandas")[0]
    assert str(frame["a"].dtype) == "Float64"
    assert frame["a"].isna().tolist() == [False, True, False]
    assert shown(arrow(taken(frame)[0])) == shown(source)


def test_what_is_missing_in_objects_is_null_and_nan_of_floats_stays() -> None:
    def told(*values: Any) -> tuple[str, list[Any]]:
        frame = pd.DataFrame({"a": pd.Series(values, dtype=object)})
        table = taken(frame)[0]
        return table.fields[0].type, arrow(table).column("a").to_pylist()

    nan = float("nan")
    assert told("x", nan, None, pd.NA) == ("utf8", ["x", None, None, None])
    assert told(Decimal("1.5"), nan)[1] == [Decimal("1.5"), None]
    kind, values = told(1.5, nan, None)
    assert kind == "float64" and np.isnan(values[1]) and values[2] is None
    fine = pd.Timestamp(1, unit="ns")
    assert told(fine, pd.NaT) == ("timestamp[ns]", [fine, None])
    assert told(np.array([1, 2]), [3]) == ("list<int64>", [[1, 2], [3]])
    assert told(pd.Period("2020-01", "M"), None)[1] == [600, None]


@pytest.mark.parametrize(
    "column, words",
    [
        (pd.Series([1, "x"], dtype=object), 'column "bad": value 1 is a str'),
        (pd.Series([object()]), 'column "bad": value 0 is an object'),
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
    b'{"index_columns": [{"kind": "range", "start": 0, "stop": %d, "step": 1}]}' % 10**30,
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
    # Parquet has neither seconds nor intervals nor numbers in categories.
    lost = ["list", "object", "interval", "nat", "numbers"]
    frame = column_frame().drop(columns=lost).set_index("time")
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
