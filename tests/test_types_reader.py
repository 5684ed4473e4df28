"""The reader of type plans by itself: each row of docs/types.md, unions, hostile data."""

import datetime as dt
import enum
import ipaddress
import json
import pathlib
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict, Union

import msgspec
import pydantic
import pytest
from exuvia._native import Probe

MALFORMED = "malformed"
UTC = dt.UTC


class Color(enum.Enum):
    RED = "red"
    TWO = 2


class Half(enum.Enum):
    HALF = 0.5
    NONE = None


class Point(NamedTuple):
    u: int
    v: float = 0.5


class Movie(TypedDict):
    name: str
    year: NotRequired[int]


@dataclass
class Leaf:
    a: int
    b: str = "b"


@dataclass
class Node:
    value: int
    next: "Node | None" = None


@dataclass
class A:
    inner: Union["A", "B", None] = None
    a: int | None = None


@dataclass
class B:
    inner: Union["A", "B", None] = None
    b: int | None = None


Deep = Union[dict[str, "Deep"], list["Deep"], int]  # noqa: UP007 - it contains itself


@dataclass
class Cat:
    kind: Literal["cat"]
    inner: "Cat | Dog | None" = None
    lives: int = 9


@dataclass
class Dog:
    kind: Literal["dog"]
    inner: "Cat | Dog | None" = None
    bark: str = "wuff"


def reader(annotation: Any, **more: Any) -> Probe:
    """Give a probe of a handler with one parameter, `x`, and perhaps others.

    It has one more that nobody gives, so that there is a plan even where `x` does not need one.
    """
    scope: dict[str, Any] = {}
    exec(f"def handler({', '.join(['x', *more])}, planned=None): ...", globals(), scope)
    handler = scope["handler"]
    handler.__annotations__ = {"x": annotation, **more, "planned": Leaf}
    return Probe(handler)


def read(annotation: Any, text: str | bytes) -> Any:
    """Give what `{"x": text}` is for a parameter `x`."""
    text = text.encode() if isinstance(text, str) else text
    positional, keywords = reader(annotation).arguments(b'{"x": ' + text + b"}")
    assert keywords is None
    return positional[0]


def faults(annotation: Any, text: str | bytes) -> dict[str, str]:
    """Give the faults of the same, by pointers below `/x`."""
    with pytest.raises(ValueError) as raised:
        read(annotation, text)
    found = raised.value.args[0]
    assert isinstance(found, list), found
    assert all(pointer == "/x" or pointer.startswith("/x/") for pointer, _ in found)
    assert len({pointer for pointer, _ in found}) == len(found)
    return {pointer[2:]: message for pointer, message in found}


def refused(annotation: Any, text: str | bytes) -> str:
    """Give what is said of a value that is refused as a whole."""
    [(pointer, message)] = faults(annotation, text).items()
    assert pointer == ""
    return message


TAKEN = [
    (bool, "true", True),
    (bool, "false", False),
    (int, "3", 3),
    (int, "-0", 0),
    (int, "3.0", 3),
    (int, "-3.50e1", -35),
    (int, "1e30", 10**30),
    (int, "12345678901234567890.0", 12345678901234567890),
    (int, str(2**70), 2**70),
    (int, "0e999999999999999999999", 0),
    (float, "1", 1.0),
    (float, "1.5", 1.5),
    (float, str(2**70), float(2**70)),
    (float, "-0.0", -0.0),
    (str, '"a\\u00e9\\ud83d\\ude00"', "aé😀"),
    (bytes, '"aGk="', b"hi"),
    (bytes, '""', b""),
    (None, "null", None),
    (Any, '[1, {"a": null}]', [1, {"a": None}]),
    (object, "1.5", 1.5),
    (Decimal, "1.10", Decimal("1.10")),
    (Decimal, "1e999", Decimal("1e999")),
    (Decimal, '"-1.50E-3"', Decimal("-0.00150")),
    (
        dt.datetime,
        '"2026-01-31T12:00:00.1234567+01:30"',
        dt.datetime(
            2026, 1, 31, 12, 0, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=1, minutes=30))
        ),
    ),
    (dt.datetime, '"2026-01-31t12:00:00z"', dt.datetime(2026, 1, 31, 12, tzinfo=UTC)),
    (dt.datetime, '"2026-01-31T12:00:00.5"', dt.datetime(2026, 1, 31, 12, 0, 0, 500000)),
    (dt.date, '"2024-02-29"', dt.date(2024, 2, 29)),
    (dt.time, '"12:00"', dt.time(12)),
    (dt.time, '"23:59:59.999999Z"', dt.time(23, 59, 59, 999999, tzinfo=UTC)),
    (dt.timedelta, '"P1DT2H3.5S"', dt.timedelta(days=1, hours=2, seconds=3.5)),
    (dt.timedelta, '"-PT1S"', dt.timedelta(seconds=-1)),
    (dt.timedelta, '"P2W"', dt.timedelta(weeks=2)),
    (dt.timedelta, '"P999999999DT23H59M59.999999S"', dt.timedelta.max),
    (dt.timedelta, '"-P999999999D"', dt.timedelta.min),
    (
        uuid.UUID,
        '"F81D4FAE-7dec-11d0-a765-00a0c91e6bf6"',
        uuid.UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
    ),
    (pathlib.Path, '"/tmp/x"', pathlib.Path("/tmp/x")),
    (ipaddress.IPv4Address, '"127.0.0.1"', ipaddress.IPv4Address("127.0.0.1")),
    (Literal["a", 1, True, None], '"a"', "a"),
    (Literal["a", 1, True, None], "1.0", 1),
    (Literal["a", 1, True, None], "null", None),
    (Color, '"red"', Color.RED),
    (Color, "2", Color.TWO),
    (Half, "5e-1", Half.HALF),
    (Half, "null", Half.NONE),
    (list[int], "[1, 2.0]", [1, 2]),
    (list, "[1, null]", [1, None]),
    (set[str], '["a", "b"]', {"a", "b"}),
    (frozenset[int], "[]", frozenset()),
    (tuple[int, str], '[1, "a"]', (1, "a")),
    (tuple[int, ...], "[1, 2, 3]", (1, 2, 3)),
    (tuple[()], "[]", ()),
    (dict[str, int], '{"a": 1, "b": 2, "a": 3}', {"a": 3, "b": 2}),
    (dict[int, bool], '{"1": true, "-2": false}', {1: True, -2: False}),
    (dict[dt.date, int], '{"2026-01-31": 1}', {dt.date(2026, 1, 31): 1}),
    (Leaf, '{"a": 1}', Leaf(1)),
    (Movie, '{"name": "M"}', {"name": "M"}),
    (Movie, '{"year": 1999, "name": "M"}', {"name": "M", "year": 1999}),
    (Point, "[1]", Point(1)),
    (Point, "[1, 2]", Point(1, 2.0)),
    (Point, '{"v": 2, "u": 1}', Point(1, 2.0)),
    (Node, '{"value": 1, "next": {"value": 2, "next": null}}', Node(1, Node(2))),
    (Deep, '{"a": [1, {"b": []}]}', {"a": [1, {"b": []}]}),
]


@pytest.mark.parametrize("annotation, text, value", TAKEN)
def test_what_the_page_says_is_taken_is_taken(annotation: Any, text: str, value: Any) -> None:
    got = read(annotation, text)
    assert got == value
    assert type(got) is type(value)
    # What is equal may yet differ: 1 and True, 0.0 and -0.0, Decimals with more zeros.
    assert repr(got) == repr(value) or isinstance(value, set | frozenset)


NOT_TAKEN = [
    (bool, "1", "must be true or false, not a number"),
    (int, '"3"', "must be an integer, not a string"),
    (int, "true", "must be an integer, not true"),
    (int, "1.5", "must be an integer, not 1.5"),
    (int, "1e-1", "must be an integer, not 1e-1"),
    (int, "1e999999999999", "must be an integer, not 1e999999999999"),
    (float, "null", "must be a number, not null"),
    (float, "1e999", "is too large for a float"),
    (float, "true", "must be a number, not true"),
    (str, "3", "must be a string, not a number"),
    (str, '{"a": [1]}', "must be a string, not an object"),
    (bytes, '"aGk"', 'must be a string in base64, not "aGk"'),
    (None, "0", "must be null, not a number"),
    (Decimal, '"NaN"', 'must be a decimal number, not "NaN"'),
    (Decimal, '" 1"', 'must be a decimal number, not " 1"'),
    (Decimal, '"1_000"', 'must be a decimal number, not "1_000"'),
    (Decimal, '"1e99999999999999999999"', "must be a decimal number, not"),
    (dt.datetime, '"2026-01-31"', "must be a time such as 2026-01-31T12:00:00Z, not"),
    (dt.datetime, '"2026-01-31T24:00:00Z"', "must be a time such as"),
    (dt.datetime, '"20260131T120000Z"', "must be a time such as"),
    (dt.datetime, '"2026-01-31 12:00:00"', "must be a time such as"),
    (dt.datetime, '"2026-01-31T12:00:00+24:00"', "must be a time such as"),
    (dt.datetime, '"2026-W05-6T12:00:00"', "must be a time such as"),
    (dt.date, '"2026-02-29"', 'must be a date such as 2026-01-31, not "2026-02-29"'),
    (dt.date, '"0000-01-01"', "must be a date such as"),
    (dt.date, '"20260131"', "must be a date such as"),
    (dt.time, '"12"', "must be a time of day such as 12:00:00, not"),
    (dt.time, '"12:00:60"', "must be a time of day such as"),
    (dt.timedelta, '"P"', "must be a duration such as"),
    (dt.timedelta, '"PT"', "must be a duration such as"),
    (dt.timedelta, '"P1Y"', "must be a duration such as"),
    (dt.timedelta, '"P1W1D"', "must be a duration such as"),
    (dt.timedelta, '"PT1.5H"', "must be a duration such as"),
    (dt.timedelta, '"PT1S1M"', "must be a duration such as"),
    (dt.timedelta, '"P1000000000D"', "must be a duration such as"),
    (uuid.UUID, '"{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}"', "must be a UUID, not"),
    (uuid.UUID, '"f81d4fae7dec11d0a76500a0c91e6bf6"', "must be a UUID, not"),
    (ipaddress.IPv4Address, '"127.0.0.256"', 'must be an IPv4 address, not "127.0.0.256"'),
    (Literal["a", 1], "true", 'must be "a" or 1, not true'),
    (Literal["a", 1], '"1"', 'must be "a" or 1, not "1"'),
    (Color, '"blue"', 'must be "red" or 2, not "blue"'),
    (Color, '{"a": 1}', 'must be "red" or 2, not an object'),
    (list[int], '{"a": 1}', "must be a list, not an object"),
    (tuple[int, str], "[1]", "must have 2 items, not 1"),
    (Point, "[]", "must have 1 to 2 items, not 0"),
    (Point, "[1, 2, 3]", "must have 1 to 2 items, not 3"),
    (Leaf, "[1]", "must be an object, not a list"),
    (dict[str, int], "[]", "must be an object, not a list"),
    (int | None, '"a"', "must be an integer or null, not a string"),
    (Annotated[int, {"minimum": 1}], "0", "must be at least 1, not 0"),
    (Annotated[int, range(1, 10)], "10", "must be below 10, not 10"),
    (Annotated[int, {"multipleOf": 3}], "10", "must be a multiple of 3, not 10"),
    (Annotated[int, {"minimum": 2**70}], "5", "must be at least 1180591620717411303424, not 5"),
    (Annotated[float, {"exclusiveMinimum": 0}], "0", "must be above 0, not 0.0"),
    (Annotated[float, {"maximum": 1}], "1.5", "must be at most 1, not 1.5"),
    (Annotated[float, {"multipleOf": 0.1}], "0.25", "must be a multiple of 0.1, not 0.25"),
    (Annotated[Decimal, {"minimum": 1}], '"0.9"', "must be at least 1, not 0.9"),
    (Annotated[str, {"minLength": 2}], '"é"', "must have at least 2 characters, not 1"),
    (Annotated[str, {"maxLength": 1}], '"ab"', "must have at most 1 character, not 2"),
    (Annotated[str, re.compile("^a")], '"ba"', 'must match "^a"'),
    (Annotated[list[int], {"minItems": 1}], "[]", "must have at least 1 item, not 0"),
    (Annotated[set[int], {"maxItems": 1}], "[1, 2]", "must have at most 1 item, not 2"),
]


@pytest.mark.parametrize("annotation, text, message", NOT_TAKEN)
def test_what_the_page_does_not_say_is_refused(annotation: Any, text: str, message: str) -> None:
    assert refused(annotation, text).startswith(message)


def test_a_multiple_is_one_by_the_digits_it_is_written_with() -> None:
    tenth = Annotated[float, {"multipleOf": 0.1}]
    for text in ["0.3", "0.7", "1.1", "1e22", "0"]:
        assert read(tenth, text) == float(text)


def test_faults_are_told_with_pointers_to_the_very_value() -> None:
    assert faults(dict[str, list[Leaf]], '{"a/b~c": [{"a": 1}, {"a": "1", "z": 0}], "": [3]}') == {
        "/a~1b~0c/1/a": "must be an integer, not a string",
        "/a~1b~0c/1/z": "there is no field of this name. Did you mean `a`?",
        "//0": "must be an object, not a number",
    }
    assert faults(dict[int, int], '{"1": "a", "x": 2}') == {
        "/1": "must be an integer, not a string",
        "/x": 'the key must be an integer, not "x"',
    }
    assert faults(set[int], "[1, 2, 1, 1.0]") == {
        "/2": "is equal to an item before it",
        "/3": "is equal to an item before it",
    }
    assert faults(set[Any], "[1, [], {}]").keys() == {"/1", "/2"}
    assert faults(tuple[int, str], '["a", 1]').keys() == {"/0", "/1"}


def test_at_most_a_hundred_faults_are_told() -> None:
    assert len(faults(list[int], json.dumps(["a"] * 500))) == 100
    assert len(faults(Leaf, json.dumps({f"k{n}": n for n in range(500)}))) == 100
    # What comes after them is still looked at: it must be JSON.
    with pytest.raises(ValueError, match="line 1"):
        read(list[int], "[" + '"a",' * 500 + "NaN]")


def test_of_equal_names_the_last_counts_and_with_it_what_is_wrong() -> None:
    assert read(Leaf, '{"a": "wrong", "b": "x", "a": 2}') == Leaf(2, "x")
    assert faults(Leaf, '{"a": 2, "a": "wrong"}').keys() == {"/a"}
    assert faults(Leaf, '{"a": [], "a": "wrong"}') == {"/a": "must be an integer, not a string"}
    assert read(dict[str, int], '{"a": "wrong", "a": 2}') == {"a": 2}
    assert read(dict[str, list[int]], '{"a": ["wrong", "wrong"], "a": [2]}') == {"a": [2]}
    wrong = json.dumps(["a"] * 200)
    assert read(dict[str, list[int]], f'{{"a": {wrong}, "a": [2]}}') == {"a": [2]}
    positional, _ = reader(int).arguments(b'{"x": "wrong", "x": 1}')
    assert positional == (1,)
    assert faults(Leaf, '{"z": 1, "a": 1, "z": 2}').keys() == {"/z"}
    # A document whose hundred faults are all made good is refused rather than half looked at.
    with pytest.raises(ValueError, match="given twice"):
        read(dict[str, list[int]], f'{{"a": {wrong}, "b": [1], "a": []}}')


# === unions ===


@pytest.mark.parametrize(
    "annotation, text, value",
    [
        (int | float, "1", 1),
        (float | int, "1", 1),
        (int | float, "1.5", 1.5),
        (str | dt.date, '"2026-01-31"', dt.date(2026, 1, 31)),
        (str | dt.date, '"x"', "x"),
        (str | Color, '"red"', Color.RED),
        (list[int] | list[str], '["a"]', ["a"]),
        (list[int] | str | None, "null", None),
        (Leaf | Movie, '{"name": "M"}', {"name": "M"}),
        (Leaf | dict[str, int], '{"a": 1}', Leaf(1)),
        (Leaf | dict[str, int], '{"z": 1}', {"z": 1}),
        (Cat | Dog, '{"bark": "!", "kind": "dog"}', Dog("dog", None, "!")),
        (Cat | Dog | None, '{"kind": "dog", "kind": "cat"}', Cat("cat")),
        (Cat | Dog, '{"kind": "cat", "lives": 1, "kind": "dog", "lives": 9}', None),
    ],
)
def test_a_union_is_its_first_member_that_fits(annotation: Any, text: str, value: Any) -> None:
    if value is None and "null" not in text:
        assert faults(annotation, text).keys() == {"/lives"}
        return
    got = read(annotation, text)
    assert got == value and type(got) is type(value)


def test_of_a_union_the_faults_of_the_nearest_member_are_told() -> None:
    assert faults(Leaf | Movie, '{"name": 1}') == {"/name": "must be a string, not a number"}
    assert faults(list[int] | list[str], '["a", "b", 1]').keys() == {"/2"}
    assert refused(int | list[int], '"a"') == "must be an integer or a list, not a string"


def test_the_tag_of_a_union_says_which_faults_are_told() -> None:
    assert faults(Cat | Dog, '{"kind": "dog", "lives": 1}').keys() == {"/lives"}
    assert faults(Cat | Dog, '{"kind": "cow"}') == {"/kind": 'must be "cat" or "dog", not "cow"'}
    assert faults(Cat | Dog, '{"kind": ["cat"]}').keys() == {"/kind"}
    assert faults(Cat | Dog, '{"lives": 1}') == {"/kind": "is missing"}


@contextmanager
def quick(seconds: float = 20.0) -> Iterator[None]:
    """Fail a test that takes longer; what it guards against takes years."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@pytest.mark.parametrize("ending", ["null", '"no"', '{"z": 1}', '{"b": 1}', '{"a": "x", "b": 1}'])
@pytest.mark.parametrize(
    "around", ['{"inner": %s, "b": 1}', '{"b": 1, "inner": %s}', '{"inner": %s}']
)
def test_choices_within_choices_take_no_exponential_time(ending: str, around: str) -> None:
    text = ending
    for _ in range(120):
        text = around.replace("%s", text)
    with quick():
        try:
            read(A | B, text)
        except ValueError as error:
            assert isinstance(error.args[0], list)


@pytest.mark.parametrize("ending", ["null", "1", '{"kind": "cow"}', '{"kind": "cat", "lives": []}'])
@pytest.mark.parametrize(
    "around",
    [
        '{"kind": "cat", "inner": %s}',
        '{"kind": "cat", "inner": %s, "kind": "dog"}',
        '{"inner": %s}',
    ],
)
def test_tags_within_tags_take_no_exponential_time(ending: str, around: str) -> None:
    text = ending
    for _ in range(120):
        text = around.replace("%s", text)
    with quick():
        try:
            read(Cat | Dog, text)
        except ValueError as error:
            assert isinstance(error.args[0], list)


def test_deep_lists_of_choices_take_no_exponential_time() -> None:
    with quick():
        assert read(Deep, "[" * 250 + "1" + "]" * 250)
        assert faults(Deep, "[" * 250 + '"a"' + "]" * 250)


def test_a_choice_of_many_values_is_read_within_bounded_memory() -> None:
    text = json.dumps([{"b": 1}, {"z": 1}] * 50_000)
    with quick():
        assert len(faults(list[A | B], text)) == 100


@pytest.mark.parametrize("annotation", [Any, list[Any], Deep, Node, str, set[str]])
def test_nesting_is_bounded_whatever_is_read(annotation: Any) -> None:
    for text in ["[" * 5000 + "]" * 5000, '{"next":' * 5000 + "1" + "}" * 5000]:
        with pytest.raises(ValueError, match="nested deeper than 255 levels"):
            read(annotation, text)
    # 255 are those inside of the object around them, too.
    assert read(Any, "[" * 254 + "]" * 254)
    with pytest.raises(ValueError, match="nested deeper"):
        read(Any, "[" * 255 + "]" * 255)


@pytest.mark.parametrize("annotation", [int, Decimal, str, Any, int | float, list[int]])
def test_numbers_of_too_many_digits_are_malformed(annotation: Any) -> None:
    with pytest.raises(ValueError, match="4300 digits"):
        read(annotation, "1" * 5000)


@pytest.mark.parametrize("text", ['"\\ud800"', b'"\xff"', "01", "+1", "1.", ".5", "[1,]", "'a'"])
@pytest.mark.parametrize("annotation", [int, str, Any, list[int], Leaf, int | str, Color])
def test_what_is_no_json_is_malformed_whatever_is_asked_for(
    annotation: Any, text: str | bytes
) -> None:
    with pytest.raises(ValueError, match="line 1, column"):
        read(annotation, text)


def test_a_million_faults_take_no_longer_than_what_is_told_of_them() -> None:
    names = ",".join(f'"unknown-{n}": []' for n in range(300_000))
    with quick():
        assert len(faults(Leaf, f"{{{names}}}")) == 100
        assert len(faults(dict[int, list[int]], f"{{{names}}}")) == 100
        with pytest.raises(ValueError) as raised:
            reader(Leaf, y=int).arguments(f"{{{names}}}".encode())
        assert len(raised.value.args[0]) >= 100


# === objects ===


def test_objects_are_made_as_their_own_init_makes_them() -> None:
    calls = []

    @dataclass(frozen=True, slots=True)
    class Frozen:
        a: int
        made: list[int] = field(default_factory=list)
        hidden: int = field(default=7, init=False)

    @dataclass
    class After:
        a: int
        twice: int = field(init=False)

        def __post_init__(self) -> None:
            calls.append(self.a)
            self.twice = 2 * self.a

    @dataclass
    class Extra:
        a: int
        extra: InitVar[int] = 1

        def __post_init__(self, extra: int) -> None:
            self.a += extra

    @dataclass(kw_only=True)
    class Child(Leaf):
        c: float = 0.0

    class Own:
        def __init__(self, a: int) -> None:
            self.a = a

    one, other = read(list[Frozen], '[{"a": 1}, {"a": 1}]')
    assert one == other == Frozen(1) and one.made is not other.made and one.hidden == 7
    assert read(After, '{"a": 3}').twice == 6 and calls == [3]
    assert read(Extra, '{"a": 1, "extra": 5}').a == 6
    assert read(Child, '{"c": 1, "a": 2}') == Child(a=2, c=1.0)
    assert list(vars(read(Leaf, '{"b": "x", "a": 1}'))) == ["a", "b"]
    assert faults(Frozen, '{"a": 1, "hidden": 2}').keys() == {"/hidden"}
    assert faults(After, '{"a": "x"}').keys() == {"/a"} and calls == [3]


def test_what_a_class_raises_is_a_fault_there_or_the_end() -> None:
    @dataclass
    class Picky:
        a: int

        def __post_init__(self) -> None:
            match self.a:
                case 0:
                    raise ValueError("not 0")
                case 1:
                    raise TypeError
                case 2:
                    raise AssertionError("not 2")
                case 4:
                    raise KeyError("its own trouble")

    assert faults(list[Picky], '[{"a": 0}, {"a": 1}, {"a": 2}, {"a": 3}]') == {
        "/0": "not 0",
        "/1": "is refused: TypeError",
        "/2": "not 2",
    }
    with pytest.raises(RuntimeError, match="KeyError"):
        read(Picky, '{"a": 4}')


class Inner(pydantic.BaseModel):
    n: int = pydantic.Field(ge=1)


class Model(pydantic.BaseModel):
    name: str
    inner: list[Inner] = []


class Struct(msgspec.Struct):
    a: int
    b: list[str] = []


def test_models_are_read_by_their_library_wherever_they_stand() -> None:
    assert read(list[Model], '[{"name": "a", "inner": [{"n": 1}]}]')[0].inner == [Inner(n=1)]
    assert faults(list[Model], '[{"name": "a"}, {"inner": [{"n": 0}]}]').keys() == {
        "/1/name",
        "/1/inner/0/n",
    }
    assert read(dict[str, Struct], '{"k": {"a": 1}}') == {"k": Struct(1)}
    assert faults(dict[str, Struct], '{"k": {"a": 1, "b": [1]}}').keys() == {"/k/b/0"}
    assert refused(Model, "3").startswith("must be an object, not a number")
    assert read(Model | int, "3") == 3


# === an object as a whole ===


def given(annotation: Any, body: Any, **more: Any) -> tuple[Any, ...]:
    """Give the positional arguments of a body."""
    positional, keywords = reader(annotation, **more).arguments(json.dumps(body).encode())
    assert not keywords
    return tuple(positional)


@dataclass
class Holder:
    x: int


def test_an_object_is_the_whole_where_nothing_else_is_meant() -> None:
    assert given(Leaf, {"a": 1}) == (Leaf(1),)
    assert given(Leaf, {"x": {"a": 1}}) == (Leaf(1),)
    assert given(Leaf | None, {"a": 1}) == (Leaf(1),)
    assert given(Leaf | Movie, {"a": 1}) == (Leaf(1),)
    assert given(Leaf | Movie, {"x": {"a": 1}}) == (Leaf(1),)
    assert given(dict[str, int], {"a": 1}) == ({"a": 1},)
    assert given(dict[str, int], {"x": {"a": 1}}) == ({"a": 1},)
    assert given(Model, {"name": "a"}) == (Model(name="a"),)
    # A type with a field of the parameter's name is still given as a whole.
    assert given(Holder, {"x": 1}) == (Holder(1),)
    # Where something else is required, members are arguments.
    assert given(Leaf, {"x": {"a": 1}, "y": 2}, y=int) == (Leaf(1), 2)
    for body in ({"a": 1}, {"a": 1, "y": 2}):
        with pytest.raises(ValueError) as raised:
            given(Leaf, body, y=int)
        assert "/a" in dict(raised.value.args[0])
    assert given(list[Leaf], [{"a": 1}]) == ([Leaf(1)],)


def test_pointers_of_a_whole_begin_at_the_root() -> None:
    for annotation, body in [(Leaf, {"a": "1"}), (Model, {"name": 1}), (list[int], ["a"])]:
        with pytest.raises(ValueError) as raised:
            given(annotation, body)
        [(pointer, _)] = raised.value.args[0]
        assert pointer in ("/a", "/name", "/0")


# === text ===


def text(annotation: Any, *texts: str) -> Any:
    """Give what texts of one name are for a parameter."""
    positional, keywords = reader(annotation).arguments(b"", [("x", one) for one in texts])
    assert keywords is None
    return positional[0]


@pytest.mark.parametrize(
    "annotation, texts, value",
    [
        (Leaf | bool, ["True"], True),
        (Annotated[int, {"minimum": 1}], ["3.0"], 3),
        (Annotated[float, {"minimum": 1}], ["1e1"], 10.0),
        (Annotated[float, {"minimum": 1}], ["inf"], float("inf")),
        (Annotated[str, {"minLength": 1}], ["3"], "3"),
        (bytes, ["é"], "é".encode()),
        (Decimal, ["1.10"], Decimal("1.10")),
        (dt.date | None, ["none"], None),
        (dt.date | str, ["2026-01-31"], dt.date(2026, 1, 31)),
        (Literal["1", 2], ["1"], "1"),
        (Literal["1", 2], ["2"], 2),
        (Color, ["2"], Color.TWO),
        (list[int], ["1"], [1]),
        (list[int], ["1", "2"], [1, 2]),
        (list[int], ["[1, 2]"], [1, 2]),
        (list[str], ["[a"], ["[a"]),
        (list[int] | None, ["1", "2"], [1, 2]),
        (set[str], ["a", "b"], {"a", "b"}),
        (tuple[int, str], ["1", "a"], (1, "a")),
        (dict[str, int], ['{"a": 1}'], {"a": 1}),
        (Leaf, ['{"a": 1}'], Leaf(1)),
        (Model, ['{"name": "a"}'], Model(name="a")),
        (int | Leaf | str, ["7"], 7),
        (int | Leaf | str, ["x"], "x"),
    ],
)
def test_text_is_read_as_the_page_says(annotation: Any, texts: list[str], value: Any) -> None:
    got = text(annotation, *texts)
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    "annotation, texts, pointer, message",
    [
        (Annotated[int, {"minimum": 1}], ["4.5"], "/x", "must be an integer, not `4.5`"),
        (Annotated[int, {"minimum": 1}], ["0"], "/x", "must be at least 1, not 0"),
        (Annotated[int, {"minimum": 1}], ["1", "2"], "/x", "must be an integer, and is given 2"),
        (Annotated[float, {"minimum": 1}], ["nan"], "/x", "must be at least 1, not nan"),
        (Decimal, ["nan"], "/x", "must be a decimal number, not `nan`"),
        (list[int], ["1", "a"], "/x/1", "must be an integer, not `a`"),
        (set[int], ["1", "1"], "/x/1", "is equal to an item before it"),
        (tuple[int, str], ["1"], "/x", "must have 2 items, not 1"),
        (Leaf, ["a"], "/x", "must be an object, not `a`"),
        (Leaf, ["[]"], "/x", "must be an object, not `[]`"),
        (Leaf | None, ['{"a": "1"}'], "/x/a", "must be an integer, not a string"),
        (Leaf | None, ["a"], "/x", "must be an object or null, not `a`"),
        (Leaf, ['{"a": "1"}'], "/x/a", "must be an integer, not a string"),
        (Color, ["blue"], "/x", 'must be "red" or 2, not `blue`'),
    ],
)
def test_text_that_does_not_fit_is_a_fault_of_its_parameter(
    annotation: Any, texts: list[str], pointer: str, message: str
) -> None:
    with pytest.raises(ValueError) as raised:
        text(annotation, *texts)
    [(where, said)] = raised.value.args[0]
    assert where == pointer and said.startswith(message)


def test_what_text_gave_is_not_given_again() -> None:
    with pytest.raises(ValueError) as raised:
        reader(Leaf).arguments(b'{"x": {"a": 1}}', [("x", '{"a": 1}')])
    assert raised.value.args[0] == [("/x", "is given twice")]
    # What is said about the call is no argument.
    positional, _ = reader(Leaf).arguments(b'{"a": 1}', [(":media", "application/json")])
    assert positional == (Leaf(1),)
