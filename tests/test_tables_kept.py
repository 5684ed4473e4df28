"""What a table keeps on its way through a handler: values, types, and what a library adds.

Answers are read by pyarrow. What a library has no type for is listed here; nothing else changes.
"""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from arrow_tables import maps, nested, scalars, shown, tables
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from processes import Server, serving
from table_formats import (
    FILE,
    PARQUET,
    STREAM,
    as_file,
    as_parquet,
    as_stream,
    table_in,
)
from test_table_conversions import as_in_pandas, as_in_polars, is_in_polars

# Where hypothesis draws a value that it has to reject it shows what it drew from, all 30 kB.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

SAME = Path(__file__).parent / "handlers/tables_same.py"

WRITE = {STREAM: as_stream, FILE: as_file, PARQUET: as_parquet}
MEDIA = list(WRITE)

# Against a server an example takes some milliseconds, under load more.
few = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server for all tests."""
    command = [str(exuvia_bin), "serve", str(SAME), "--port", "0", "--workers", "1"]
    command += ["--python", str(project_python)]
    with serving(command) as running:
        yield running


def read(media: str, raw: bytes) -> Any:
    if media == PARQUET:
        return pa.parquet.read_table(pa.BufferReader(raw))
    return table_in(raw) if media == STREAM else pa.ipc.open_file(raw).read_all()


def through(
    server: Server, name: str, source: Any, sent: str = STREAM, wanted: str = STREAM
) -> Any:
    """A table after a handler, read by pyarrow."""
    return passed(server, name, WRITE[sent](source), sent, wanted)


def passed(server: Server, name: str, raw: bytes, sent: str, wanted: str) -> Any:
    headers = {"content-type": sent, "accept": wanted}
    answer = server.post(f"/tables_same/{name}", raw=raw, headers=headers)
    assert answer.status == 200, answer.body[:2000]
    made = read(wanted, answer.body)
    made.validate(full=True)
    return made


def check_same(found: Any, expected: Any, wanted: Any = None) -> None:
    """Types as wanted, all values, and what the metadata says but for what pandas adds."""
    schema = wanted if wanted is not None else expected.schema
    assert found.schema.names == schema.names
    assert list(map(named, found.schema.types)) == list(map(named, schema.types))
    assert shown(found) == shown(expected)


def named(type: Any) -> str:
    """A type in words; what the items of a list are called says nothing."""
    return str(type).replace("<element:", "<item:")


def without_pandas(metadata: Any) -> dict[bytes, bytes]:
    return {key: value for key, value in (metadata or {}).items() if key != b"pandas"}


def as_in_arro3(schema: Any) -> Any:
    """What arro3 makes of a schema: it forgets that categories were ordered."""
    for at, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            type = pa.dictionary(field.type.index_type, field.type.value_type)
            schema = schema.set(at, field.with_type(type))
    return schema


# === any table ===

flat = st.sampled_from(scalars())
deep = st.one_of(nested(flat), maps(flat))
anything = st.one_of(flat, deep, nested(nested(flat)))


@few
@given(source=tables(anything))
@pytest.mark.parametrize("name", ["arrow", "arro"])
def test_pyarrow_and_arro3_keep_every_type(server: Server, name: str, source: Any) -> None:
    wanted = as_in_arro3(source.schema) if name == "arro" else source.schema
    for media in (STREAM, FILE):
        found = through(server, name, source, media, media)
        check_same(found, source, wanted)
        assert found.schema.equals(wanted, check_metadata=True)


@few
@given(source=tables(anything.filter(is_in_polars)))
def test_polars_keeps_every_type_in_its_own_words(server: Server, source: Any) -> None:
    wanted = pa.schema([(field.name, as_in_polars(field.type)) for field in source.schema])
    check_same(through(server, "pola", source), source.cast(wanted), wanted)


@few
@given(source=tables(flat))
def test_pandas_keeps_every_flat_type(server: Server, source: Any) -> None:
    wanted = pa.schema([(field.name, as_in_pandas(field.type)) for field in source.schema])
    found = through(server, "frame", source)
    check_same(found, source.cast(wanted), wanted)
    kept = [field.metadata or {} for field in found.schema]
    assert kept == [field.metadata or {} for field in source.schema]
    assert without_pandas(found.schema.metadata) == without_pandas(source.schema.metadata)


@few
@given(source=tables(deep))
def test_pandas_keeps_the_values_of_lists_structs_and_maps(server: Server, source: Any) -> None:
    assert shown(through(server, "frame", source)) == shown(source)


def by_pyarrow(source: Any) -> Any:
    """What pyarrow gives back of a table that it wrote as Parquet itself."""
    try:
        return read(PARQUET, as_parquet(source))
    except (pa.ArrowException, OSError):
        # There are types that it writes and cannot read, or cannot write.
        assume(False)


def check_parquet(server: Server, source: Any) -> None:
    assume(source.num_columns)
    headers = {"content-type": STREAM, "accept": PARQUET}
    answer = server.post("/tables_same/arrow", raw=as_stream(source), headers=headers)
    assert answer.status == 200, answer.body[:2000]
    check_same(read(PARQUET, answer.body), by_pyarrow(source))
    # What we wrote ourselves we read as it was.
    check_same(passed(server, "arrow", answer.body, PARQUET, STREAM), source)


@few
@given(source=tables(flat))
def test_parquet_is_as_pyarrow_writes_it_and_is_read_as_it_was(server: Server, source: Any) -> None:
    check_parquet(server, source)


@few
@given(source=tables(deep))
def test_parquet_of_lists_structs_and_maps_is_as_pyarrow_writes_it(
    server: Server, source: Any
) -> None:
    check_parquet(server, source)


# === one table with all that people have ===


def hourly() -> pd.DataFrame:
    """A frame of each kind of column that pandas has, with times in a zone as its index."""
    hours = pd.date_range("2024-03-30 22:00", periods=6, freq="h", tz="Europe/Oslo", name="time")
    some: list[Any] = [1, None, 3, 4, None, 6]
    levels = np.array([1.5, np.nan, -0.0, np.inf, 2.0, 3.0])
    missing = np.array([False, False, False, False, True, False])
    return pd.DataFrame(
        {
            "whole": np.arange(6, dtype="i2"),
            "level": levels,
            "count": pd.array(some, "Int64"),
            "share": pd.arrays.FloatingArray(levels, missing),
            "open": pd.array([True, None, False, True, None, False], "boolean"),
            "city": ["Oslo", None, "Bergen", "", "Tromsø", "Oslo"],
            "kind": pd.Categorical(["b", None, "a", "b", "a", "b"], ["b", "a"], ordered=True),
            "price": [None if n is None else Decimal(n) / 4 for n in some],
            "day": [None if n is None else dt.date(2024, 2, n) for n in some],
            "path": [[n] * (n or 0) for n in some],
            "span": pd.to_timedelta(some, unit="min"),
            "utc": pd.to_datetime(some, unit="D", utc=True),
            "raw": [b"\0\xff", None, b"", b"a", b"b", b"c"],
        },
        index=hours,
    )


@pytest.mark.parametrize("sent", MEDIA)
@pytest.mark.parametrize("wanted", MEDIA)
@pytest.mark.parametrize("name", ["frame", "arrow", "arro", "unnamed"])
def test_a_frame_comes_back_as_it_was(server: Server, name: str, sent: str, wanted: str) -> None:
    source = pa.Table.from_pandas(hourly())
    found = through(server, name, source, sent, wanted)
    expected = source.to_pandas()
    if name == "arro":
        expected["kind"] = expected["kind"].cat.as_unordered()
    assert_frame_equal(found.to_pandas(), expected)
    for field in ["price", "day", "span", "utc", "time"]:
        assert found.schema.field(field).type == source.schema.field(field).type
    # Null and NaN are two things.
    assert str(found["share"].to_pylist()) == "[1.5, nan, -0.0, inf, None, 3.0]"


@pytest.mark.parametrize("sent", MEDIA)
@pytest.mark.parametrize("wanted", MEDIA)
def test_categories_that_nobody_uses_are_kept(server: Server, sent: str, wanted: str) -> None:
    kinds = pd.Categorical(["b", "a"], ["b", "a", "c"], ordered=True)
    source = pa.Table.from_pandas(pd.DataFrame({"kind": kinds}))
    assert read(sent, WRITE[sent](source))["kind"].chunk(0).dictionary.to_pylist() == [*"bac"]
    for name in ["frame", "arrow"]:
        found = through(server, name, source, sent, wanted)
        assert_frame_equal(found.to_pandas(), source.to_pandas())


def test_polars_has_no_index_so_it_is_a_column(server: Server) -> None:
    source = pa.Table.from_pandas(hourly())
    found = through(server, "pola", source)
    assert found.column_names == [*hourly().columns, "time"]
    assert [str(zone) for zone in found["time"].to_pylist()] == [
        str(zone) for zone in source["time"].to_pylist()
    ]
    assert str(found["share"].to_pylist()) == "[1.5, nan, -0.0, inf, None, 3.0]"
    assert found["kind"].to_pylist() == source["kind"].to_pylist()


def test_pandas_has_a_type_for_each(server: Server) -> None:
    answer = server.post(
        "/tables_same/lines",
        raw=as_stream(pa.Table.from_pandas(hourly())),
        headers={"content-type": STREAM},
    )
    assert answer.json() == [
        "whole: int16",
        "level: float64",
        "count: Int64",
        "share: Float64",
        "open: boolean",
        "city: str",
        "kind: category",
        "price: object",
        "day: object",
        "path: object",
        "span: timedelta64[us]",
        "utc: datetime64[us, UTC]",
        "raw: object",
        "index ['time']: DatetimeIndex",
    ]


def test_without_a_word_of_pandas_nulls_and_nan_stay_apart(server: Server) -> None:
    source = pa.table(
        {
            "n": pa.array([1, None], pa.int32()),
            "x": pa.array([float("nan"), None]),
            "flag": pa.array([True, None]),
            "full": pa.array([1, 2], pa.uint8()),
        }
    )
    answer = server.post(
        "/tables_same/lines", raw=as_stream(source), headers={"content-type": STREAM}
    )
    assert answer.json() == [
        "n: Int32",
        "x: Float64",
        "flag: boolean",
        "full: uint8",
        "index [None]: RangeIndex",
    ]
    check_same(through(server, "frame", source), source)


LABELS = [
    pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["k", "n"]),
    pd.Index(["x", "y", "x", "z"], name="key"),
    pd.RangeIndex(10, 18, 2, name="at"),
    pd.CategoricalIndex(["a", "b", "a", "b"], name="c"),
    pd.Index([1.5, np.nan, 2.0, 3.0]),
]


@pytest.mark.parametrize("labels", LABELS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("media", [STREAM, PARQUET])
def test_an_index_comes_back(server: Server, media: str, labels: pd.Index) -> None:
    frame = pd.DataFrame({"x": np.arange(4.0)}, index=labels)
    found = through(server, "frame", pa.Table.from_pandas(frame), media, media)
    assert_frame_equal(found.to_pandas(), frame)


def test_what_people_write_about_their_columns_is_kept(server: Server) -> None:
    fields = [
        pa.field("power", pa.float64(), nullable=False, metadata={"unit": "kW"}),
        pa.field("when", pa.timestamp("s", "UTC"), metadata={"gaps": "PT1H"}),
    ]
    schema = pa.schema(fields, metadata={"station": "Blindern", "größe": "ü"})
    source = pa.table([[1.5, 2.5], pa.array([0, 3600], pa.timestamp("s", "UTC"))], schema=schema)
    for name in ["arrow", "arro"]:
        for media in MEDIA:
            found = through(server, name, source, STREAM, media)
            for field in fields:
                kept = found.schema.field(field.name)
                assert kept.metadata.items() >= field.metadata.items(), media
                assert kept.nullable == field.nullable
            assert found.schema.metadata.items() >= schema.metadata.items(), media
    found = through(server, "frame", source)
    assert [field.metadata for field in found.schema] == [field.metadata for field in fields]
    assert without_pandas(found.schema.metadata) == schema.metadata


def test_batches_stay_batches_where_a_library_has_them(server: Server) -> None:
    source = pa.concat_tables([pa.table({"n": [n, n]}) for n in range(5)])
    for name in ["arrow", "arro"]:
        found = through(server, name, source)
        assert found["n"].num_chunks == 5
    assert through(server, "frame", source).equals(source.combine_chunks()) or shown(
        through(server, "frame", source)
    ) == shown(source)


@pytest.mark.parametrize("name", ["frame", "pola", "arrow", "arro"])
def test_a_table_without_rows_keeps_its_columns(server: Server, name: str) -> None:
    source = pa.table({"n": pa.array([], pa.int32()), "when": pa.array([], pa.timestamp("us"))})
    for sent in MEDIA:
        for wanted in MEDIA:
            check_same(through(server, name, source, sent, wanted), source)
