"""Arbitrary Arrow tables for hypothesis, and how they are compared."""

import datetime as dt
import math
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

DAY = 86_400
# 1700 to 2200: datetimes of every unit can be shown.
EARLIEST, LATEST = -8_520_336_000, 7_258_118_400
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
ZONES = [None, "UTC", "Europe/Berlin", "+05:30", "-03:00"]
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
BINARIES = [pa.binary(), pa.large_binary(), pa.binary_view()]

Values = st.SearchStrategy[Any]
# What is generated is small; what is slow is the first use of a library.
thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Kind:
    """A type, and the Python objects that arrays of it are made of."""

    type: Any
    values: Values = field(repr=False)


# === types of columns ===


def integers() -> list[Kind]:
    """Of every width, with the least and the greatest."""
    signed = [Kind(t, bounded(-(2 ** (t.bit_width - 1)), 2 ** (t.bit_width - 1))) for t in INTEGERS]
    return signed + [Kind(t, bounded(0, 2**t.bit_width)) for t in UNSIGNED]


def bounded(low: int, beyond: int) -> Values:
    return st.integers(low, beyond - 1)


def floats() -> list[Kind]:
    """With NaN, infinities and -0.0."""
    half = st.floats(width=16).map(np.float16)
    return [
        Kind(pa.float16(), half),
        Kind(pa.float32(), st.floats(width=32)),
        Kind(pa.float64(), st.floats()),
    ]


def texts() -> list[Kind]:
    return [Kind(t, st.text(max_size=20)) for t in TEXTS]


def binaries() -> list[Kind]:
    made = [Kind(t, st.binary(max_size=20)) for t in BINARIES]
    return [*made, Kind(pa.binary(3), st.binary(min_size=3, max_size=3))]


def days() -> list[Kind]:
    dates = st.dates()
    return [Kind(pa.date32(), dates), Kind(pa.date64(), dates)]


def times_of_day() -> list[Kind]:
    kinds = [Kind(t, bounded(0, DAY * UNITS[t.unit])) for t in (pa.time32("s"), pa.time32("ms"))]
    micros = bounded(0, DAY * UNITS["us"])
    # pyarrow itself shows no finer ones.
    fine = Kind(pa.time64("ns"), micros.map(lambda each: each * 1000))
    return [*kinds, Kind(pa.time64("us"), micros), fine]


def instants() -> list[Kind]:
    return [
        Kind(pa.timestamp(unit, zone), bounded(EARLIEST * per, LATEST * per))
        for unit, per in UNITS.items()
        for zone in ZONES
    ]


def spans() -> list[Kind]:
    return [
        Kind(pa.duration(unit), bounded(-LATEST * per, LATEST * per)) for unit, per in UNITS.items()
    ]


def decimals(widths: tuple[Any, ...] = (pa.decimal128, pa.decimal256)) -> list[Kind]:
    def scaled(number: int) -> Decimal:
        return Decimal(number).scaleb(-2)

    return [Kind(make(9, 2), st.integers(-999_999_999, 999_999_999).map(scaled)) for make in widths]


def plain() -> list[Kind]:
    return [Kind(pa.bool_(), st.booleans()), Kind(pa.null(), st.none())]


def scalars() -> list[Kind]:
    """All types without others in them."""
    made = [plain(), integers(), floats(), texts(), binaries(), days(), times_of_day()]
    made += [instants(), spans(), decimals()]
    return [kind for kinds in made for kind in kinds]


def nested(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    """Lists and structs of others, some of them null."""
    return st.one_of(
        st.builds(list_kind, inner, st.sampled_from([pa.list_, pa.large_list])),
        inner.map(pair_kind),
        st.lists(inner, min_size=1, max_size=2).map(struct_kind),
    )


def pair_kind(kind: Kind) -> Kind:
    return Kind(pa.list_(kind.type, 2), lists(kind, 2, 2))


def list_kind(kind: Kind, make: Any) -> Kind:
    return Kind(make(kind.type), lists(kind, 0, 3))


def lists(kind: Kind, least: int, most: int) -> Values:
    return st.lists(st.none() | kind.values, min_size=least, max_size=most)


def struct_kind(kinds: list[Kind]) -> Kind:
    names = ["a", "b"][: len(kinds)]
    fields = [(name, kind.type) for name, kind in zip(names, kinds, strict=True)]
    values = {name: st.none() | kind.values for name, kind in zip(names, kinds, strict=True)}
    return Kind(pa.struct(fields), st.fixed_dictionaries(values))


def maps(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    def make(kind: Kind) -> Kind:
        pairs = st.dictionaries(st.text(max_size=3), st.none() | kind.values, max_size=2)
        return Kind(pa.map_(pa.string(), kind.type), pairs.map(lambda each: list(each.items())))

    return inner.map(make)


SCALARS = scalars()


def scalar(number: int) -> Kind:
    return SCALARS[number]


# By number and deferred: hypothesis shows strategies, and these would be too long for it.
flat = st.integers(0, len(SCALARS) - 1).map(scalar)
once_nested = st.deferred(lambda: nested(flat))
deep = st.one_of(
    once_nested, st.deferred(lambda: nested(once_nested)), st.deferred(lambda: maps(flat))
)
any_kind = flat | deep


# === arrays and tables ===


@st.composite
def arrays(draw: st.DrawFn, kind: Kind, rows: int) -> Any:
    """A column in one piece or two, each a slice of something longer."""
    cut = draw(st.integers(0, rows))
    chunks = []
    for length in [rows] if cut in (0, rows) else [cut, rows - cut]:
        nulls = draw(st.booleans())
        values = st.none() | kind.values if nulls else kind.values
        before = draw(st.integers(0, 2))
        drawn = draw(st.lists(values, min_size=length + before + 1, max_size=length + before + 1))
        chunks.append(pa.array(drawn, kind.type).slice(before, length))
    return pa.chunked_array(chunks, kind.type)


@st.composite
def dictionaries(draw: st.DrawFn, rows: int, *, ordered: bool | None = None) -> Any:
    """A column of indices into values that differ; some are used by none."""
    kinds = [Kind(pa.string(), st.text(max_size=4)), Kind(pa.int64(), st.integers(0, 99))]
    kind = draw(st.sampled_from([*kinds, Kind(pa.date32(), st.dates())]))
    values = draw(st.lists(kind.values, min_size=1, max_size=4, unique=True))
    places = st.none() | st.integers(0, len(values) - 1)
    indices = draw(st.lists(places, min_size=rows, max_size=rows))
    index_type = draw(st.sampled_from([*INTEGERS, *UNSIGNED[:3]]))
    is_ordered = draw(st.booleans()) if ordered is None else ordered
    made = pa.DictionaryArray.from_arrays(
        pa.array(indices, index_type), pa.array(values, kind.type), ordered=is_ordered
    )
    return pa.chunked_array([made])


def names() -> st.SearchStrategy[str]:
    # The C interface ends a name at a zero.
    return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)


def metadata() -> st.SearchStrategy[dict[str, str]]:
    keys = st.sampled_from(["unit", "source", "größe"])
    return st.dictionaries(keys, st.text(max_size=5), max_size=2)


@st.composite
def tables(draw: st.DrawFn, kinds: st.SearchStrategy[Kind]) -> Any:
    """A table of up to four columns and six rows."""
    rows = draw(st.integers(0, 6))
    labels = draw(st.lists(names(), max_size=4, unique=True))
    columns, fields = [], []
    for label in labels:
        column = draw(dictionaries(rows)) if draw(st.integers(0, 7)) == 0 else None
        if column is None:
            column = draw(arrays(draw(kinds), rows))
        columns.append(column)
        fields.append(pa.field(label, column.type, metadata=draw(metadata())))
    schema = pa.schema(fields, metadata=draw(metadata()))
    return pa.Table.from_arrays(columns, schema=schema)


# === comparing ===


def shown(table: Any) -> list[tuple[str, str]]:
    """Names and values of a table's columns as text, in which NaN is NaN and -0.0 not 0.0."""
    pairs = zip(table.column_names, table.columns, strict=True)
    return [(name, repr([plainly(v) for v in column.to_pylist()])) for name, column in pairs]


def plainly(value: Any) -> Any:
    """A value by what it is, whichever class a library has for it."""
    if isinstance(value, list):
        return [plainly(each) for each in value]
    if isinstance(value, tuple):
        return tuple(plainly(each) for each in value)
    if isinstance(value, dict):
        return {key: plainly(each) for key, each in value.items()}
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return (value.astimezone(dt.UTC).isoformat(), getattr(value, "nanosecond", 0))
    if isinstance(value, dt.datetime):
        return (value.isoformat(), getattr(value, "nanosecond", 0))
    if isinstance(value, dt.timedelta):
        return (value // dt.timedelta(microseconds=1), getattr(value, "nanoseconds", 0))
    return value


# A column of every type that has Python objects, with nulls.
EVERYTHING = pa.table(
    {
        "null": pa.nulls(3),
        "bool": [True, None, False],
        "int8": pa.array([1, None, -128], pa.int8()),
        "uint64": pa.array([2**64 - 1, None, 0], pa.uint64()),
        "half": pa.array(np.array([1.5, 2.5, 65504.0], "float16")),
        "float": pa.array([math.inf, None, 0.5], pa.float32()),
        "double": [-0.0, None, 1e300],
        "text": ["", None, "Grüße 🦀"],
        "large": pa.array(["", None, "x"], pa.large_utf8()),
        "view": pa.array(["", None, "longer than twelve bytes"], pa.string_view()),
        "bytes": [b"", None, b"\x00\xff"],
        "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
        "date": [dt.date(1, 1, 1), None, dt.date(9999, 12, 31)],
        "date64": pa.array([dt.date(1969, 7, 20), None, dt.date(2000, 2, 29)], pa.date64()),
        "time": [dt.time(0), None, dt.time(23, 59, 59, 999_999)],
        "time32": pa.array([dt.time(0), None, dt.time(23, 59, 59)], pa.time32("s")),
        "naive": [dt.datetime(1, 1, 1), None, dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)],
        "zoned": pa.array([0, None, 1_288_486_800_000_000], pa.timestamp("us", "Europe/Berlin")),
        "offset": pa.array([0, None, 1], pa.timestamp("s", "-03:30")),
        "utc": pa.array([0, None, 1_000], pa.timestamp("ns", "UTC")),
        "delta": [dt.timedelta(-1, 1, 1), None, dt.timedelta(10_000)],
        "decimal": [Decimal("1.50"), None, Decimal("-123456789.01")],
        "wide": pa.array([Decimal(10**60), None, Decimal(-1)], pa.decimal256(70, 0)),
        "list": [[1, None], None, []],
        "struct": [{"a": 1, "b": "x"}, None, {"a": None, "b": None}],
        "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
        "category": pa.array(["a", None, "b"]).dictionary_encode(),
        "runs": pa.RunEndEncodedArray.from_arrays([2, 3], [5, None]),
    }
)
