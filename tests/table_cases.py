"""Tables and arrays of every kind, and what it means that one comes back whole."""

import datetime as dt
import pickle
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import arro3.core
import exuvia
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal

Case = tuple[str, Callable[[], Any]]
OSLO = zoneinfo.ZoneInfo("Europe/Oslo")
MANY = 20_000  # as floats more than goes through the socket


def pickled(obj: Any) -> Any:
    """What another process would get of an object by pickle; the object itself if it cannot."""
    if type(obj) is np.ndarray:
        # NumPy's pickles forget the order of bytes of arrays that do not lie in one piece.
        return obj
    try:
        return pickle.loads(pickle.dumps(obj, 5))
    except (TypeError, pickle.PicklingError):
        return obj


def check_same(got: Any, expected: Any) -> None:
    """Fail where two objects differ in type, values, or what else belongs to their kind."""
    assert type(got) is type(expected), f"{type(got)} for {type(expected)}"
    if isinstance(expected, dict):
        assert list(got) == list(expected)
        for key in expected:
            check_same(got[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            check_same(one, other)
    elif isinstance(expected, np.ndarray):
        check_arrays(got, expected)
    elif isinstance(expected, pd.DataFrame):
        check_frames(got, expected)
    elif isinstance(expected, pd.Series):
        assert_series_equal(got, expected, check_exact=True, check_freq=True)
        assert got.attrs == expected.attrs
    elif isinstance(expected, pd.Index):
        assert_index_equal(got, expected, exact=True)
    elif isinstance(expected, (pl.DataFrame, pl.Series)):
        check_polars(got, expected)
    elif isinstance(expected, pl.LazyFrame):
        check_polars(got.collect(), expected.collect())
    elif isinstance(expected, (pa.Table, pa.RecordBatch, arro3.core.Table, arro3.core.RecordBatch)):
        check_arrow(pa.table(got), pa.table(expected))
    elif expected is pd.NA or expected is pd.NaT:
        assert got is expected
    else:
        assert got == expected or (got != got and expected != expected)


def check_arrays(got: Any, expected: Any) -> None:
    """Bytes and their order, shape, layout if it is in one piece; of objects each."""
    assert got.dtype == expected.dtype and got.dtype.str == expected.dtype.str
    assert got.dtype.isalignedstruct == expected.dtype.isalignedstruct
    assert got.dtype.metadata == expected.dtype.metadata
    assert got.shape == expected.shape and got.flags.writeable and got.flags.aligned
    if expected.flags.forc:
        assert got.flags.c_contiguous == expected.flags.c_contiguous
        assert got.flags.f_contiguous == expected.flags.f_contiguous
    if isinstance(expected, np.ma.MaskedArray):
        assert (got.mask == expected.mask).all() and got.fill_value == expected.fill_value
        got, expected = got.data, expected.data
    if expected.dtype.hasobject or expected.dtype.kind == "T":
        check_same(got.tolist(), expected.tolist())
    else:
        assert got.tobytes() == expected.tobytes()


def check_frames(got: pd.DataFrame, expected: pd.DataFrame) -> None:
    """All that `assert_frame_equal` looks at, and what it does not."""
    assert_frame_equal(
        got, expected, check_exact=True, check_freq=True, check_flags=True, check_column_type=True
    )
    assert_index_equal(got.index, expected.index, exact=True)
    assert_index_equal(got.columns, expected.columns, exact=True)
    assert got.columns.dtype == expected.columns.dtype
    assert getattr(got.index, "freq", None) == getattr(expected.index, "freq", None)
    assert got.attrs == expected.attrs
    for at, dtype in enumerate(expected.dtypes):
        assert repr(got.dtypes.iloc[at]) == repr(dtype)
        if dtype.name == "object":
            for one, other in zip(got.iloc[:, at], expected.iloc[:, at], strict=True):
                check_same(one, other)
        if dtype.name == "Float64":
            # NaN and NA count as equal above.
            check_same(got.iloc[:, at].tolist(), expected.iloc[:, at].tolist())


def check_polars(got: Any, expected: Any) -> None:
    """Types and values; a Series' name."""
    if isinstance(expected, pl.Series):
        assert got.name == expected.name
        got, expected = got.to_frame(), expected.to_frame()
    assert got.schema == expected.schema
    assert got.shape == expected.shape
    assert got.equals(expected, null_equal=True)


def check_arrow(got: Any, expected: Any) -> None:
    """Types, metadata and values, NaN among them."""
    assert got.schema.equals(expected.schema, check_metadata=True)
    assert got.num_rows == expected.num_rows
    assert repr(got.to_pylist()) == repr(expected.to_pylist())


# === NumPy ===


class Sub(np.ndarray[Any, Any]):
    """An array of a class of one's own."""


def structured(n: int) -> Any:
    made = np.zeros(n, dtype=[("a", "<i4"), ("b", ">f8", (2,)), ("c", "S3"), ("d", "M8[s]")])
    made["a"] = np.arange(n)
    return made


def aligned() -> Any:
    dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    return np.array([(1, 2.5), (3, 4.5)], dtype=dtype)


OVERLAID = np.dtype({"names": ["a", "b"], "formats": ["i4", "i2"], "offsets": [0, 0]})
GAPS = np.dtype({"names": ["b", "a"], "formats": ["i4", "i2"], "offsets": [9, 2], "itemsize": 20})

ARRAYS: list[Case] = [
    ("0-d", lambda: np.array(2.5)),
    ("0-d text", lambda: np.array("text")),
    ("empty", lambda: np.array([])),
    ("empty in two", lambda: np.zeros((3, 0, 2), "i2")),
    ("large", lambda: np.arange(MANY, dtype="f8")),
    ("large in F order", lambda: np.asfortranarray(np.arange(MANY * 2.0).reshape(-1, 8))),
    ("small in F order", lambda: np.asfortranarray(np.arange(12).reshape(3, 4))),
    ("every other", lambda: np.arange(MANY * 4)[::2]),
    ("backwards", lambda: np.arange(MANY)[::-1]),
    ("three axes turned", lambda: np.arange(MANY * 2).reshape(4, -1, 5).transpose(1, 0, 2)),
    ("broadcast", lambda: np.broadcast_to(np.array([1.5, 2.5]), (7, 2))),
    ("read-only", lambda: frozen(np.arange(MANY))),
    ("structured", lambda: structured(3)),
    ("structured, large", lambda: structured(MANY)),
    ("structured, aligned", aligned),
    ("structured, a field", lambda: structured(MANY)["b"]),
    ("structured, fields over one another", lambda: np.array([(7, 7)], dtype=OVERLAID)),
    ("structured, with gaps", lambda: np.array([(1, 2)] * 3, dtype=GAPS)),
    ("structured, with titles", lambda: np.zeros(3, dtype=[(("long", "a"), "i4")])),
    (
        "structured, fields in other fields",
        lambda: np.zeros(3, [("a", [("b", "i4"), ("c", "f8")])]),
    ),
    (
        "structured, metadata inside",
        lambda: np.zeros(3, [("a", np.dtype("i4", metadata={"u": 1}))]),
    ),
    ("structured, no fields", lambda: np.zeros(3, dtype=[])),
    ("record", lambda: structured(3).view(np.recarray)),
    ("dates", lambda: np.array(["2024-02-29", "NaT"], "M8[D]")),
    ("times in 25 s", lambda: np.arange(MANY).astype("M8[25s]")),
    ("spans", lambda: np.array([1, -2, "NaT"], "m8[ns]")),
    ("a unit of none", lambda: np.array(["NaT"], "M8")),
    ("bool", lambda: np.arange(MANY * 5) % 3 == 0),
    ("float16", lambda: (np.arange(MANY * 4) % 999).astype("f2")),
    ("longdouble", lambda: np.array([1, 3], "g") / 3),
    ("complex", lambda: np.arange(MANY) * (1 + 2j)),
    ("complex64", lambda: np.array([1j, np.nan], "c8")),
    ("int8", lambda: np.arange(-5, 5, dtype="i1")),
    ("uint64", lambda: np.array([2**64 - 1], "u8")),
    ("NaN with payload", lambda: np.array([0x7FF8000000000123], "u8").view("f8")),
    ("big-endian", lambda: np.arange(MANY, dtype=">f8")),
    ("big-endian times", lambda: np.array(["2024-01-01T00"], ">M8[h]")),
    ("bytes", lambda: np.array([b"a", b"", b"ccc"])),
    ("text", lambda: np.array(["a", "", "ünï"])),
    ("text, big-endian", lambda: np.array(["a", "ünï"]).astype(">U4")),
    ("void", lambda: np.zeros(3, "V5")),
    ("text of any length", lambda: np.array(["a", "b" * 99], dtype=np.dtypes.StringDType())),
    ("objects", lambda: np.array([1, "a", None, [2]], dtype=object)),
    ("objects in a field", lambda: np.array([(1, "x")], dtype=[("n", "i4"), ("o", object)])),
    ("dtype with metadata", lambda: np.zeros(3, np.dtype("i4", metadata={"unit": "m"}))),
    ("matrix", lambda: np.array([[1, 2], [3, 4]]).view(np.matrix)),
    ("masked", lambda: np.ma.masked_array(np.arange(4), [False, True, False, True], fill_value=9)),
    ("own class", lambda: np.arange(4).view(Sub)),
    ("forty axes", lambda: np.ones((1,) * 39 + (3,))),
    ("strided by zero", lambda: np.broadcast_to(np.float64(2.5), (300, 300))),
    ("scalar", lambda: np.float32(1.5)),
]


def frozen(array: Any) -> Any:
    array.flags.writeable = False
    return array


# === pandas ===


def hours(n: int, **more: Any) -> Any:
    return pd.date_range("2024-03-30", periods=n, freq="h", **more)


def large() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "x": rng.random(MANY),
            "n": np.arange(MANY),
            "t": hours(MANY),
            "s": [f"row {n}" for n in range(MANY)],
            "c": pd.Categorical(list("abc" * MANY)[:MANY]),
            "i": pd.array([1, None] * (MANY // 2), "Int64"),
            "b": np.arange(MANY) % 2 == 0,
        }
    )


def attributed() -> pd.DataFrame:
    frame = pd.DataFrame({"x": [1.0]})
    frame.attrs["unit"] = {"x": "K"}
    return frame


def flagged() -> pd.DataFrame:
    return pd.DataFrame({"x": [1.0]}).set_flags(allows_duplicate_labels=False)


def nan_and_na() -> Any:
    mask = np.array([False, False, True])
    return pd.arrays.FloatingArray(np.array([1.0, np.nan, 3.0]), mask)


def moments() -> Any:
    return pd.Series([pd.Timestamp("2024-01-01"), pd.NaT, pd.Timestamp("1969-07-20")])


def lists_of_pyarrow() -> Any:
    return pd.Series([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int64())))


COLUMNS: dict[str, Callable[[], Any]] = {
    "floats with NaN": lambda: [1.5, np.nan, -0.0],
    "float32": lambda: np.array([1, 2, 3], "f4"),
    "float16": lambda: np.array([1, 2, 3], "f2"),
    "complex": lambda: np.array([1j, 2, 3]),
    "uint8": lambda: np.array([1, 2, 255], "u1"),
    "uint64": lambda: np.array([1, 2, 2**64 - 1], "u8"),
    "bool": lambda: [True, False, True],
    "Int64": lambda: pd.array([1, None, 3], "Int64"),
    "Int8 without nulls": lambda: pd.array([1, 2, 3], "Int8"),
    "Float64, NaN and NA": nan_and_na,
    "boolean": lambda: pd.array([True, None, False], "boolean"),
    "str": lambda: ["a", None, "ünï"],
    "string": lambda: pd.array(["a", None, "c"], "string"),
    "string in Python": lambda: pd.array(["a", None, "c"], pd.StringDtype("python")),
    "string in Python, NaN": lambda: pd.array(
        ["a", None, "c"], pd.StringDtype("python", na_value=np.nan)
    ),
    "times": lambda: moments(),
    "times in s": lambda: moments().astype("M8[s]"),
    "times in ms": lambda: moments().astype("M8[ms]"),
    "times in ns": lambda: moments().astype("M8[ns]"),
    "times in UTC": lambda: hours(3, tz="UTC"),
    "times in Oslo": lambda: hours(3, tz="Europe/Oslo"),
    "times at an offset": lambda: hours(3, tz=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    "times in UTC of datetime": lambda: hours(3, tz=dt.UTC),
    "times in a named zone": lambda: hours(3, tz=dt.timezone(dt.timedelta(hours=1), "CET")),
    "spans": lambda: pd.to_timedelta([1, None, -3], unit="s"),
    "spans in ms": lambda: pd.to_timedelta([1, None, -3], unit="s").astype("m8[ms]"),
    "categories": lambda: pd.Categorical(["a", None, "b"], ["b", "a", "unused"]),
    "categories, ordered": lambda: pd.Categorical(["a", "a", "b"], ordered=True),
    "categories of numbers": lambda: pd.Categorical([3, 1, None]),
    "categories of a range": lambda: pd.Categorical.from_codes([0, 1, 0], pd.RangeIndex(2)),
    "categories of times": lambda: pd.Categorical(hours(3)),
    "categories of Int64": lambda: pd.Categorical(pd.array([3, 1, None], "Int64")),
    "categories of objects": lambda: pd.Categorical([(1, 2), (3, 4), None]),
    "categories, none of them": lambda: pd.Categorical([None, None, None]),
    "objects": lambda: pd.Series([1, "a", None], dtype=object),
    "texts as objects": lambda: pd.Series(["a", "b", None], dtype=object),
    "decimals": lambda: [Decimal("1.10"), Decimal("2"), None],
    "dates": lambda: pd.Series([dt.date(2024, 2, 29)] * 3, dtype=object),
    "lists": lambda: [[1], [], [2, 3]],
    "periods": lambda: pd.period_range("2024-01", periods=3, freq="M"),
    "intervals": lambda: pd.interval_range(0, 3),
    "sparse": lambda: pd.arrays.SparseArray([0, 0, 1]),
    "int64 of pyarrow": lambda: pd.array([1, None, 3], "int64[pyarrow]"),
    "lists of pyarrow": lists_of_pyarrow,
}


def column_frame(make: Callable[[], Any]) -> Callable[[], pd.DataFrame]:
    return lambda: pd.DataFrame({"x": make()})


def names(*labels: str) -> Any:
    return pd.Index(labels, dtype=object)


def indexed(index: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": np.arange(float(len(index)))}, index=index)


FREE = pd.offsets.CustomBusinessDay(holidays=["2024-04-01"])

FRAMES: list[Case] = [
    ("large", large),
    ("empty", pd.DataFrame),
    ("rows without columns", lambda: pd.DataFrame(index=range(3))),
    ("rows by name without columns", lambda: pd.DataFrame(index=["a", "b"])),
    ("columns without rows", lambda: pd.DataFrame({"x": np.array([], "f4"), "s": []})),
    ("no rows at times", lambda: indexed(hours(3)).iloc[:0]),
    ("attributes", attributed),
    ("flags", flagged),
    ("hours", lambda: indexed(hours(MANY))),
    ("hours in Oslo", lambda: indexed(hours(5, tz="Europe/Oslo", name="when"))),
    ("hours in UTC, no frequency", lambda: indexed(pd.DatetimeIndex(list(hours(5, tz="UTC"))))),
    ("quarters", lambda: indexed(pd.date_range("2024", periods=3, freq="QE-JAN"))),
    ("business days", lambda: indexed(pd.date_range("2024-03-28", periods=9, freq="B"))),
    ("own business days", lambda: indexed(pd.date_range("2024-03-28", periods=9, freq=FREE))),
    ("every 90 minutes", lambda: indexed(pd.date_range("2024", periods=3, freq="90min"))),
    ("one time", lambda: indexed(hours(1))),
    ("spans", lambda: indexed(pd.timedelta_range("1h", periods=3, freq="30min"))),
    ("backwards", lambda: indexed(hours(5)[::-1])),
    ("a range from 5", lambda: indexed(pd.RangeIndex(5, 15, 3, name="r"))),
    ("a range down", lambda: indexed(pd.RangeIndex(5, 0, -2))),
    ("numbers", lambda: indexed(pd.Index([3, 1, 1], dtype="int32"))),
    ("numbers like a range", lambda: indexed(pd.Index([0, 1, 2]))),
    ("names", lambda: indexed(pd.Index(["b", "a", "b"], name="key"))),
    ("names as objects", lambda: indexed(pd.Index(["b", "a"], dtype=object))),
    ("floats", lambda: indexed(pd.Index([1.5, np.nan]))),
    ("bools", lambda: indexed(pd.Index([True, False]))),
    ("an index of Int64", lambda: indexed(pd.Index(pd.array([1, None], "Int64")))),
    ("an index of categories", lambda: indexed(pd.CategoricalIndex(["a", "b"]))),
    ("an index of periods", lambda: indexed(pd.period_range("2024", periods=2, freq="Y"))),
    ("an index named like a column", lambda: indexed(pd.Index([7, 8, 9], name="x"))),
    ("an index named by a number", lambda: indexed(pd.Index([7, 8], name=5))),
    ("an index with an empty name", lambda: indexed(pd.Index([7, 8], name=""))),
    ("levels", lambda: indexed(pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["k", "n"]))),
    ("levels of columns", lambda: pd.DataFrame([[1, 2]], columns=[["a", "a"], ["b", "c"]])),
    ("a column like pyarrow's", lambda: pd.DataFrame({"__index_level_0__": [1]}, index=["a"])),
    ("duplicate columns", lambda: pd.DataFrame([[1, 2.5]], columns=["x", "x"])),
    ("columns by number", lambda: pd.DataFrame([[1, 2.5]])),
    ("columns by number and name", lambda: pd.DataFrame([[1, 2.5]], columns=["x", 1])),
    ("columns as objects", lambda: pd.DataFrame([[1]], columns=pd.Index(["x"], dtype=object))),
    ("columns as string", lambda: pd.DataFrame([[1]], columns=pd.Index(["x"], dtype="string"))),
    ("columns with a name", lambda: pd.DataFrame([[1]], columns=pd.Index(["x"], name="what"))),
    ("columns at times", lambda: pd.DataFrame([[1, 2]], columns=hours(2))),
    ("columns of categories", lambda: pd.DataFrame([[1]], columns=pd.CategoricalIndex(["x"]))),
    ("an empty name", lambda: pd.DataFrame({"": [1], " ": [2], "ü": [3], '"': [4]})),
    ("a surrogate in a name", lambda: pd.DataFrame([[1]], columns=names("\ud800"))),
    ("a surrogate in a text", lambda: pd.DataFrame({"x": pd.Series(["\ud800"], dtype=object)})),
    (
        "from two dimensions",
        lambda: pd.DataFrame(np.arange(MANY).reshape(-1, 4), columns=[*"abcd"]),
    ),
    ("in F order", lambda: pd.DataFrame(np.asfortranarray(np.eye(3)), columns=[*"abc"])),
    ("every other row", lambda: large().iloc[::2]),
    ("big-endian", lambda: pd.DataFrame({"x": np.arange(3, dtype=">i4")})),
    ("a series", lambda: pd.Series([1, 2], index=["a", "b"], name="s")),
    ("an index", lambda: hours(3)),
    *((f"a column: {name}", column_frame(make)) for name, make in COLUMNS.items()),
]

# === polars ===

POLARS: list[Case] = [
    (
        "large",
        lambda: pl.DataFrame({"x": np.arange(MANY) / 7, "s": [f"row {n}" for n in range(MANY)]}),
    ),
    ("empty", pl.DataFrame),
    ("columns without rows", lambda: pl.DataFrame(schema={"x": pl.Float32, "s": pl.String})),
    ("nulls and NaN", lambda: pl.DataFrame({"x": [1.0, None, float("nan")], "n": [None, 1, 2]})),
    ("categories", lambda: pl.DataFrame({"c": pl.Series(["a", None, "b"], dtype=pl.Categorical)})),
    ("an enum", lambda: pl.DataFrame({"c": pl.Series(["a"], dtype=pl.Enum(["b", "a"]))})),
    ("decimals", lambda: pl.DataFrame({"d": [Decimal("1.10"), None]})),
    ("times", lambda: pl.DataFrame({"t": [dt.datetime(2024, 1, 1), None]})),
    ("times in Oslo", lambda: pl.DataFrame({"t": [dt.datetime(2024, 1, 1, tzinfo=OSLO)]})),
    ("dates", lambda: pl.DataFrame({"d": [dt.date(2024, 2, 29), None]})),
    ("times of day", lambda: pl.DataFrame({"t": [dt.time(1, 2, 3), None]})),
    ("spans", lambda: pl.DataFrame({"t": [dt.timedelta(1), None]})),
    ("bytes", lambda: pl.DataFrame({"b": [b"a", None]})),
    ("lists", lambda: pl.DataFrame({"l": [[1], [], None]})),
    ("lists of lists of texts", lambda: pl.DataFrame({"l": [[["a"], []], None]})),
    ("arrays", lambda: pl.DataFrame({"a": pl.Series([[1, 2]], dtype=pl.Array(pl.Int8, 2))})),
    ("structs", lambda: pl.DataFrame({"s": [{"a": 1, "b": None}, {"a": 2, "b": "x"}]})),
    ("nothing", lambda: pl.DataFrame({"n": [None, None]})),
    ("128 bits", lambda: pl.DataFrame({"i": pl.Series([2**100], dtype=pl.Int128)})),
    (
        "several chunks",
        lambda: pl.concat([pl.DataFrame({"x": [n]}) for n in range(3)], rechunk=False),
    ),
    ("a series", lambda: pl.Series("s", [1, None])),
    ("a series without a name", lambda: pl.Series([1.5] * MANY)),
    ("lazy", lambda: pl.LazyFrame({"x": [1, 2]}).filter(pl.col("x") > 1)),
]

# === Arrow ===


def annotated() -> Any:
    field = pa.field("x", pa.int64(), nullable=False, metadata={"unit": "m"})
    return pa.table([[1, 2]], schema=pa.schema([field], metadata={"made": "by hand", "ü": "\x00"}))


def nested() -> Any:
    return pa.table(
        {
            "l": pa.array([[1, None], None, []]),
            "s": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}]),
            "m": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int8())),
            "d": pa.array(["a", None, "a"]).dictionary_encode(),
            "dec": pa.array([Decimal("1.10"), None, Decimal("-2")], pa.decimal128(9, 2)),
            "t": pa.array([0, None, 1], pa.timestamp("ns", "Europe/Oslo")),
            "f": pa.array([1.0, None, float("nan")]),
            "n": pa.nulls(3),
            "v": pa.array(["a", None, "a text longer than twelve"], pa.string_view()),
            "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
            "h": pa.array([1.5, None, 2], pa.float16()),
        }
    )


def chunked() -> Any:
    return pa.table(
        {"x": pa.chunked_array([[1, 2], [], [3]]), "y": pa.chunked_array([[1], [2, 3]])}
    )


ARROW: list[Case] = [
    ("metadata", annotated),
    ("nested", nested),
    ("large", lambda: pa.table({"x": np.arange(MANY * 1.0), "s": [f"{n}" for n in range(MANY)]})),
    ("a slice", lambda: nested().slice(1, 2)),
    ("chunks", chunked),
    ("empty", lambda: pa.table({})),
    ("columns without rows", lambda: nested().slice(0, 0)),
    ("duplicate columns", lambda: pa.table([[1], ["a"]], names=["x", "x"])),
    ("a batch", lambda: nested().to_batches()[0]),
    ("a batch, large", lambda: pa.record_batch({"x": np.arange(MANY)})),
    ("of pandas", lambda: pa.Table.from_pandas(large())),
    ("arro3", lambda: arro3.core.Table.from_arrow(annotated())),
    ("arro3, large", lambda: arro3.core.Table.from_arrow(pa.table({"x": np.arange(MANY)}))),
    ("arro3 batch", lambda: arro3.core.RecordBatch.from_arrow(nested().to_batches()[0])),
    ("ours", lambda: exuvia.Table.from_arrow(nested())),
    ("ours, large", lambda: exuvia.Table.from_arrow(pa.table({"x": np.arange(MANY)}))),
]

CASES = {
    f"{library}: {name}": make
    for library, cases in (
        ("numpy", ARRAYS),
        ("pandas", FRAMES),
        ("polars", POLARS),
        ("arrow", ARROW),
    )
    for name, make in cases
}

# What a pickle alone gives back as it was. With the rest no code of the other side is trusted.
NEED_PICKLES = {
    "numpy: structured, aligned",
    "numpy: structured, fields over one another",
    "numpy: structured, with gaps",
    "numpy: structured, metadata inside",
    "numpy: record",
    "numpy: text of any length",
    "numpy: objects",
    "numpy: objects in a field",
    "numpy: dtype with metadata",
    "numpy: matrix",
    "numpy: masked",
    "numpy: own class",
    "numpy: forty axes",
    "numpy: scalar",
    "pandas: empty",
    "pandas: rows without columns",
    "pandas: rows by name without columns",
    "pandas: attributes",
    "pandas: flags",
    "pandas: own business days",
    "pandas: names as objects",
    "pandas: an index of Int64",
    "pandas: an index of categories",
    "pandas: an index of periods",
    "pandas: an index named by a number",
    "pandas: levels",
    "pandas: levels of columns",
    "pandas: duplicate columns",
    "pandas: columns by number",
    "pandas: columns by number and name",
    "pandas: columns as objects",
    "pandas: columns as string",
    "pandas: columns with a name",
    "pandas: columns at times",
    "pandas: columns of categories",
    "pandas: a surrogate in a name",
    "pandas: a surrogate in a text",
    "pandas: big-endian",
    "pandas: a series",
    "pandas: an index",
    "pandas: a column: complex",
    "pandas: a column: string",
    "pandas: a column: string in Python",
    "pandas: a column: string in Python, NaN",
    "pandas: a column: times at an offset",
    "pandas: a column: times in a named zone",
    "pandas: a column: categories of a range",
    "pandas: a column: categories of times",
    "pandas: a column: categories of Int64",
    "pandas: a column: categories of objects",
    "pandas: a column: objects",
    "pandas: a column: texts as objects",
    "pandas: a column: decimals",
    "pandas: a column: dates",
    "pandas: a column: lists",
    "pandas: a column: periods",
    "pandas: a column: intervals",
    "pandas: a column: sparse",
    "pandas: a column: int64 of pyarrow",
    "pandas: a column: lists of pyarrow",
    "polars: empty",
    "polars: 128 bits",
    "polars: lazy",
}
