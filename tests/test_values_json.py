"""JSON at the edge: the standard library's, and no loss in silence."""

import collections
import collections.abc
import dataclasses
import datetime as dt
import json
import math
import random
import sys
import types
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from exuvia import values
from exuvia._native import (
    json_dumps,
    json_loads,
    ndjson_dumps,
    ndjson_loads,
    value_dumps,
    value_loads,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from value_cases import (
    FIDELITY,
    Colour,
    Foo,
    Mood,
    Place,
    Point,
    mutate,
    same,
)

settings.load_profile("values")


# --- JSON -----------------------------------------------------------------------------------------

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(documents)
def test_json_agrees_with_the_standard_library(document: Any) -> None:
    ours = json_dumps(document)
    assert same(json.loads(ours), document) and same(json_loads(ours), document)
    for theirs in [json.dumps(document), json.dumps(document, ensure_ascii=False, indent=1)]:
        assert same(json_loads(theirs), document)


@given(st.text(st.sampled_from('ab"\\\n\x00\x1f\x7f\u2028é😀')))
def test_json_strings_of_every_alignment(text: Any) -> None:
    assert (
        json_dumps(text) == json.dumps(text, ensure_ascii=False, separators=(",", ":")).encode()
        or json.loads(json_dumps(text)) == text
    )
    assert json_loads(json_dumps(text)) == text


def assert_two_keys(error: values.UnfitError, lost: int) -> None:
    assert "two keys would both be" in str(error)
    assert lost > 0


@given(
    st.dictionaries(st.integers() | st.floats() | st.booleans() | st.none() | st.text(), st.none())
)
def test_json_keys_are_those_of_the_standard_library(value: Any) -> None:
    theirs = json.loads(json.dumps(value))
    try:
        assert json.loads(json_dumps(value)) == theirs
    except values.UnfitError as error:
        lost = len(value) - len(theirs)
        assert_two_keys(error, lost)


def test_json_of_other_types() -> None:
    now = dt.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=dt.UTC)

    class Name(str):
        pass

    class Number(int):
        pass

    class Real(float):
        pass

    for value, expected in [
        ((1, [2]), [1, [2]]),
        ({5}, [5]),
        (frozenset(), []),
        (Point(1, "a"), [1, "a"]),
        (Name("n"), "n"),
        (Number(2**70), 2**70),
        (Real(0.5), 0.5),
        (Colour.RED, 1),
        (Mood.FINE, "fine"),
        (Mood.DATE, "2024-02-29"),
        (now, "2024-02-29T01:02:03.000004+00:00"),
        (now.date(), "2024-02-29"),
        (now.time(), "01:02:03.000004"),
        (dt.timedelta(0), "PT0S"),
        (dt.timedelta(days=1), "P1D"),
        (dt.timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=500000), "P1DT2H3M4.5S"),
        (dt.timedelta(microseconds=-1), "-PT0.000001S"),
        (dt.timedelta(minutes=90), "PT1H30M"),
        (dt.timedelta(days=-1), "-P1D"),
        (Decimal("1.50"), "1.50"),
        (Decimal("NaN"), "NaN"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (Place("x", (1, 2)), {"name": "x", "at": [1, 2], "more": None}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        ({1: 2, None: 3, False: 4, 1.5: 5}, {"1": 2, "null": 3, "false": 4, "1.5": 5}),
        ({Colour.RED: 1}, {"1": 1}),
        ({}, {}),
        ([], []),
        ({"a": {}}, {"a": {}}),
    ]:
        assert same(json.loads(json_dumps(value)), expected), value
        assert same(json.loads(json_dumps([value])), [expected]), value


def test_json_refuses_what_it_would_lose() -> None:
    class Name(str):
        pass

    for value, path, message in [
        ({"a": [1.0, math.nan]}, 'value["a"][1]', "NaN has no place in JSON; return None"),
        ([-math.inf], "value[0]", "-infinity has no place"),
        ({"b": b"x"}, 'value["b"]', "base64"),
        (bytearray(), "value", "base64"),
        (["\ud800"], "value[0]", "lone surrogate"),
        ({"\ud800": 1}, "value<key>", "lone surrogate"),
        ({Name("\ud800"): 1}, "value<key>", "lone surrogate"),
        ([Foo()], "value[0]", "`(.*\\.)?Foo` has no place in JSON"),
        (1j, "value", "`complex` has no place"),
        (Place("x", (), Foo()), "value.more", "Foo"),
        ({(1, 2): 3}, "value<key>", "a key of type `tuple`"),
        ({1: 1, "1": 2}, "value<key>", "two keys"),
        ({dt.date.min: 1}, "value<key>", "make it a str"),
        ({1j}, "value<element>", "complex"),
        ([10**5000], "value[0]", "int this long"),
        (Fraction(1, 2), "value", "Fraction"),
        (range(3), "value", "range"),
        (Point, "value", "`type`"),
    ]:
        with pytest.raises(values.UnfitError, match=message) as caught:
            json_dumps(value)
        assert caught.value.path == path, value


def test_json_passes_on_what_a_property_raises() -> None:
    @dataclasses.dataclass
    class Lazy:
        x: int

        def __getattribute__(self, name: str) -> Any:
            if name == "x":
                raise LookupError("no x today")
            return super().__getattribute__(name)

    lazy = Lazy.__new__(Lazy)
    with pytest.raises(LookupError, match="no x today"):
        json_dumps([lazy])


@pytest.mark.parametrize(
    "text, line, column, message",
    [
        ("", 1, 1, "nothing"),
        (" \n ", 2, 2, "nothing"),
        ("[1,]", 1, 4, "comma"),
        ("{'a': 1}", 1, 2, "double quotes"),
        ('{"a" 1}', 1, 6, "colon"),
        ("[1 2]", 1, 4, "comma"),
        ('{"é": 1 2}', 1, 9, "comma"),
        ("[NaN]", 1, 2, "NaN"),
        ("Infinity", 1, 1, "Infinity"),
        ("[\n  -Infinity]", 2, 3, "Infinity"),
        ("01", 1, 2, "number"),
        ("[1.]", 1, 4, "number"),
        ("-", 1, 2, "ends"),
        ("[1e999]", 1, 2, "too large"),
        ('"\t"', 1, 2, "control"),
        ('"\\x"', 1, 3, "escape"),
        ('["\\ud800"]', 1, 9, "surrogate"),
        ("[1] x", 1, 5, "more follows"),
        ("[" * 300, 1, 256, "deeper than 255"),
        ("nul", 1, 4, "ends"),
        ("[" + "9" * 5000 + "]", 1, None, "4300 digits"),
        ('["a', 1, 4, "ends inside a string"),
        ("/* x */ 1", 1, 1, "value belongs"),
    ],
)
def test_malformed_json_is_placed(text: Any, line: Any, column: Any, message: Any) -> None:
    with pytest.raises(values.MalformedError, match=message) as caught:
        json_loads(text)
    assert caught.value.line == line
    assert column is None or caught.value.column == column
    assert f"line {line}, column " in str(caught.value)


def test_json_that_is_not_utf8_is_refused() -> None:
    for data, offset in [
        (b'["a\xff"]', 3),
        (b'{"\xc3": 1}', 2),
        (b"\xff\xfe[\x00", 0),
        (b'"\xed\xa0\x80"', 1),
    ]:
        with pytest.raises(values.MalformedError) as caught:
            json_loads(data)
        assert caught.value.offset == offset


def test_json_details() -> None:
    assert json_loads(b"\xef\xbb\xbf[1]") == [1]
    with pytest.raises(values.MalformedError) as caught:
        json_loads(b"\xef\xbb\xbf[1,]")
    assert caught.value.offset == 6
    assert json_loads('{"a": 1, "a": 2}') == {"a": 2}
    assert same(
        json_loads(
            "[-0, -0.0, 1e2, 18446744073709551615, 9223372036854775808, -9223372036854775809]"
        ),
        [0, -0.0, 100.0, 2**64 - 1, 2**63, -(2**63) - 1],
    )
    assert json_loads("9" * 4300) == 10**4300 - 1
    assert json_loads('"\\ud83d\\ude00"') == "\U0001f600"
    limit = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(640)
        with pytest.raises(values.MalformedError, match="too long"):
            json_loads("9" * 1000)
        with pytest.raises(values.UnfitError, match="this long"):
            json_dumps(10**1000)
    finally:
        sys.set_int_max_str_digits(limit)


def test_lines() -> None:
    assert ndjson_loads(b'{"a":1}\n\n  \r\n[2]\r\n"x"') == [{"a": 1}, [2], "x"]
    assert ndjson_loads(b"") == []
    assert ndjson_dumps([{"a": 1}, [2], "a\nb"]) == b'{"a":1}\n[2]\n"a\\nb"\n'
    assert ndjson_dumps(()) == b""
    with pytest.raises(values.MalformedError, match="line 3, column 4") as caught:
        ndjson_loads(b"[1]\n\n[1,]\n")
    assert caught.value.offset == 8
    with pytest.raises(values.MalformedError, match="line 1"):
        ndjson_loads(b'{"a":\n1}')
    with pytest.raises(values.UnfitError, match="lists and tables"):
        ndjson_dumps({"a": 1})
    with pytest.raises(values.UnfitError) as unfit:
        ndjson_dumps([1, {"a": math.nan}])
    assert unfit.value.path == 'value[1]["a"]'


@given(st.lists(documents))
def test_lines_come_back(items: Any) -> None:
    assert same(ndjson_loads(ndjson_dumps(items)), items)


# --- other people's types -------------------------------------------------------------------------


def test_numpy() -> None:
    np = pytest.importorskip("numpy")
    for value, expected in [
        (np.float64(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.array(5), 5),
        (np.array([], dtype=float), []),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.datetime64("2024-02-29T01:02"), "2024-02-29T01:02"),
        (np.datetime64("NaT", "s"), None),
        (
            np.array(["2024-02-29", "NaT"], dtype="datetime64[ns]"),
            ["2024-02-29T00:00:00.000000000", None],
        ),
        (np.timedelta64(90, "s"), "PT1M30S"),
        (np.array([np.timedelta64(1, "D"), np.timedelta64("NaT", "D")]), ["P1D", None]),
    ]:
        assert same(json.loads(json_dumps([value])), [expected]), repr(value)
    for value, path in [
        (np.array([[0.0], [math.nan]]), "value[1][0]"),
        (np.float64(math.inf), "value"),
        (np.complex128(1), "value"),
        (np.bytes_(b"x"), "value"),
        (np.longdouble(1), "value"),
    ]:
        with pytest.raises(values.UnfitError) as caught:
            json_dumps(value)
        assert caught.value.path == path
    again = value_loads(value_dumps(np.float64(0.5), pickle=True), pickle=True)
    assert type(again) is np.float64
    with pytest.raises(values.UnfitError, match=r"`numpy\.float64`"):
        value_dumps(np.float64(0.5))


def test_pandas_rows() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "f": [1.5, None, -0.0],
            "i": [1, 2, 3],
            "s": ["a", None, "c"],
            "b": [True, False, True],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "c": pd.Categorical(["x", "y", None]),
            "t": pd.to_datetime(["2024-02-29 01:02:03.5", None, "1969-12-31 23:59:59.0"]),
            "z": pd.to_datetime(["2024-02-29", "2024-03-01", None]).tz_localize("UTC"),
            "e": pd.to_datetime(["2024-07-01", None, "2024-03-01"]).tz_localize("Europe/Berlin"),
            "d": pd.to_timedelta([1, 2, None], unit="D"),
            7: [dt.date(2024, 1, 1), pd.NaT, pd.NA],
        }
    )
    rows = json.loads(json_dumps(frame))
    assert rows == [
        {
            "f": 1.5,
            "i": 1,
            "s": "a",
            "b": True,
            "n": 1,
            "c": "x",
            "t": "2024-02-29T01:02:03.500000",
            "z": "2024-02-29T00:00:00+00:00",
            "e": "2024-07-01T00:00:00+02:00",
            "d": "P1DT0H0M0S",
            "7": "2024-01-01",
        },
        {
            "f": None,
            "i": 2,
            "s": None,
            "b": False,
            "n": None,
            "c": "y",
            "t": None,
            "z": "2024-03-01T00:00:00+00:00",
            "e": None,
            "d": "P2DT0H0M0S",
            "7": None,
        },
        {
            "f": -0.0,
            "i": 3,
            "s": "c",
            "b": True,
            "n": 3,
            "c": None,
            "t": "1969-12-31T23:59:59",
            "z": None,
            "e": "2024-03-01T00:00:00+01:00",
            "d": None,
            "7": None,
        },
    ]
    assert ndjson_loads(ndjson_dumps(frame)) == rows
    assert json.loads(json_dumps({"rows": frame}))["rows"] == rows
    assert json_dumps(pd.DataFrame()) == b"[]" and json_dumps(frame.iloc[:0]) == b"[]"
    assert json_dumps(pd.DataFrame(index=range(2))) == b"[{},{}]"
    with pytest.raises(values.UnfitError, match="two columns are called") as caught:
        json_dumps([pd.DataFrame([[1, 2]], columns=["a", "a"])])
    with pytest.raises(values.UnfitError, match="several levels"):
        json_dumps(pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])))
    with pytest.raises(values.UnfitError, match="infinity") as caught:
        json_dumps({"r": pd.DataFrame({"x": [1.0, math.inf]})})
    assert caught.value.path == 'value["r"][1]["x"]'


def test_pandas_columns_and_scalars() -> None:
    pd = pytest.importorskip("pandas")
    for value, expected in [
        (pd.Series([1.0, None]), [1.0, None]),
        (pd.Series([], dtype=float), []),
        (pd.Index([1, 2]), [1, 2]),
        (pd.Series(["a", math.nan], dtype=object), ["a", None]),
        (pd.NaT, None),
        (pd.NA, None),
        (pd.Timestamp("2024-02-29 01:02:03.000000004"), "2024-02-29T01:02:03.000000004"),
        (pd.Timedelta("1s"), "P0DT0H0M1S"),
        (pd.DatetimeIndex(["2024-02-29T01:02:03.000000004"]), ["2024-02-29T01:02:03.000000004"]),
    ]:
        assert json.loads(json_dumps([value])) == [expected], repr(value)
    assert ndjson_dumps(pd.Series([1.0, None])) == b"1.0\nnull\n"
    with pytest.raises(values.UnfitError, match="infinity"):
        json_dumps(pd.Series([math.inf]))
    with pytest.raises(values.UnfitError, match="NaN"):
        json_dumps([math.nan, pd.Series([math.nan])])


@settings(max_examples=500)
@given(
    st.integers(-62135596800, 253402300799),
    st.sampled_from([0, 1, 1000, 999_999_000, 500_000_000]),
    st.sampled_from(["s", "ms", "us", "ns"]),
)
def test_columns_of_times_are_written_as_timestamps_are(
    seconds: Any, nanos: Any, unit: Any
) -> None:
    pd, np = pytest.importorskip("pandas"), pytest.importorskip("numpy")
    per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    ticks = seconds * per + nanos * per // 10**9
    if not -(2**63) < ticks < 2**63:
        return
    series = pd.Series(np.array([ticks], dtype=f"datetime64[{unit}]"))
    assert json_loads(json_dumps(series)) == [series[0].isoformat()]


def test_polars() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"a": [1, None], "t": [dt.datetime(2024, 2, 29), None], "l": [[1.5], []]})
    rows = [{"a": 1, "t": "2024-02-29T00:00:00", "l": [1.5]}, {"a": None, "t": None, "l": []}]
    assert json.loads(json_dumps(frame)) == rows and ndjson_loads(ndjson_dumps(frame)) == rows
    assert json_dumps(frame["a"]) == b"[1,null]" and json_dumps(pl.DataFrame()) == b"[]"
    with pytest.raises(values.UnfitError, match="NaN") as caught:
        json_dumps(pl.DataFrame({"x": [1.0, math.nan]}))
    assert caught.value.path == 'value[1]["x"]'


def test_pydantic_and_msgspec() -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Model", when=(dt.date, ...), data=(dict[int, Decimal], ...))
    row = model(when=dt.date(2024, 2, 29), data={1: Decimal("0.1")})
    assert json.loads(json_dumps([row])) == [{"when": "2024-02-29", "data": {"1": "0.1"}}]
    msgspec = pytest.importorskip("msgspec")
    fields = [("first_name", str), ("at", tuple, (1,))]
    struct = msgspec.defstruct("Row", fields, rename="camel")
    assert json.loads(json_dumps(struct("x"))) == {"firstName": "x", "at": [1]}


class Endless(collections.abc.Mapping[str, Any]):
    """A mapping with itself inside."""

    def __getitem__(self, key: str) -> Any:
        return self

    def __iter__(self) -> Any:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def test_an_object_that_converts_to_itself_ends_too() -> None:
    np = pytest.importorskip("numpy")
    same_array = type("Same", (np.ndarray,), {"tolist": lambda self: self})
    for value in [np.zeros(3).view(same_array), Endless()]:
        with pytest.raises(values.UnfitError, match="deeper than 255"):
            json_dumps(value)


def assert_placed(error: values.MalformedError, data: bytes) -> None:
    assert 0 <= error.offset <= len(data)
    assert error.line is not None and error.line >= 1
    assert error.column is not None and error.column >= 1


def test_mutated_json_never_crashes() -> None:
    rng = random.Random(2025)
    seeds = [
        b'{"a": [1, -2.5e10, true, null, "x\\u00e9\\n"], "b": {"c": []}}',
        json.dumps(FIDELITY[3:5] + ["\U0001f600"] * 3).encode(),
        b'[123456789012345678901234567890, -0, 0.1, "\xc3\xa9"]',
    ]
    for number in range(20_000):
        data = mutate(rng, rng.choice(seeds)) if number % 4 else rng.randbytes(rng.randrange(30))
        try:
            value = json_loads(data)
        except values.MalformedError as error:
            assert_placed(error, data)
        else:
            assert json_loads(json_dumps(value)) == value
