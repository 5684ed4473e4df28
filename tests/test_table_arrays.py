"""Our tables as arrays of NumPy, arrays and lists as tables, and tensors."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arro3.core
import nanoarrow
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from arrow_tables import (
    arrays,
    flat,
    shown,
    thorough,
)
from conversions import (
    Note,
    address,
    arrow,
    conversions,
    given_as,
    start,
    table_of,
    taken,
    types_of,
)
from exuvia._native import Table
from hypothesis import given
from hypothesis import strategies as st


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


# === arrays ===


def test_a_table_is_a_matrix_rows_by_columns() -> None:
    matrix, copies = given_as(table_of(a=[1.0, 2.0], b=[3.0, 4.0]), "numpy")
    assert matrix.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert ("table", 32, "the columns of a table lie apart") in copies
    mixed, copies = given_as(
        table_of(a=[1, 2], b=[True, False], c=np.array([1.5, 2], "f4")), "numpy"
    )
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
    (np.array([1, 2], "f2"), ["value: float16"]),
    (np.ma.array([1, 2], mask=[False, False]), ["value: int64"]),
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


@pytest.mark.parametrize("result, columns", RESULTS, ids=map(str, range(len(RESULTS))))
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
    np.ones((1,) * 39 + (3,)),
    np.array([True, False]),
    np.array([1j, np.nan]),
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
    read = np.load(tmp_path / "ours.npy")
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


def test_a_header_too_long_for_numpy_is_written_and_not_read(tmp_path: Path) -> None:
    array = np.zeros(3, [(f"a_long_name_of_a_field_{at}", "i1") for at in range(2500)])
    raw = b"".join(map(bytes, conversions.tensor_parts(array, [])))
    (tmp_path / "long.npy").write_bytes(raw)
    assert np.load(tmp_path / "long.npy", max_header_size=10**6).dtype == array.dtype
    with pytest.raises(ValueError, match="too long"):
        conversions.tensor(raw, [])


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


def test_what_is_masked_is_null_and_no_tensor() -> None:
    masked = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[False, True], [False, False]])
    assert taken(masked)[0].columns() == {"0": [1.0, 3.0], "1": [None, 4.0]}
    assert taken({"a": np.ma.array(["x", "y"], mask=[True, False])})[0].rows()[0] == {"a": None}
    with pytest.raises(TypeError, match="a masked array has no place"):
        conversions.tensor_parts(masked, [])


def test_an_array_of_objects_is_no_tensor() -> None:
    with pytest.raises(TypeError, match="an array of object has no place"):
        conversions.tensor_parts(np.array([object()]), [])
