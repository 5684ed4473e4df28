"""Annotations with JSON that they take and refuse: what reader and schema must both say."""

import json

CLASSES = """
import enum, ipaddress, pathlib, re, typing
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import *
from uuid import UUID

T = TypeVar("T")
Json = Union[dict[str, "Json"], list["Json"], str, int, None]

class Color(enum.Enum):
    RED = "red"
    BLUE = 2
    NONE = None

@dataclass
class Line:
    item: str
    n: Annotated[int, {"minimum": 1}] = 1
    made: int = field(init=False, default=0)

@dataclass
class Page(Generic[T]):
    items: list[T]
    extra: InitVar[T | None] = None

    def __post_init__(self, extra): ...

@dataclass
class Tree:
    value: int
    kids: "list[Tree]" = field(default_factory=list)

class Partial(TypedDict, total=False):
    a: Required[int]
    b: str

class Pair(NamedTuple):
    x: int
    y: float = 0.0

@dataclass
class Cat:
    kind: Literal["cat"]
    lives: int = 9

@dataclass
class Dog:
    kind: Literal["dog", "hound"]

@dataclass
class Shy:
    kind: Literal["shy"] = "shy"

class Nothing: ...
"""

DATE = "2026-02-28"
UUID = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"

# What is taken, what is refused; in JSON where Python's literals have no way to say it.
CASES: dict[str, tuple[list[object], list[object]]] = {
    "bool": ([True, False], [0, 1, "true", None, [], {}]),
    "int": ([0, -3, 10**30, 3.0, -0.0, 1e3], [1.5, "3", True, None, [3]]),
    "float": ([0, 1.5, -3, 1e300, 10**30], ["1", True, None, []]),
    "str": (["", "a", "é\U0001f600", "\0"], [3, None, ["a"], {}]),
    "bytes": (["", "YWI=", "YQ==", "YWJj", "+/+/"], ["a", "YQ", "YQ=", "YWI", "_-_-", 3, None]),
    "None": ([None], [0, "", False, "null", []]),
    "Any": ([None, 3, "a", [1], {"a": None}], []),
    "object": ([None, {"a": [1]}], []),
    "Nothing": ([None, 3], []),
    "Decimal": (
        [3, 1.5, "1.50", "-0", "007", "1e5", "1E+3", 1e300],
        ["", "NaN", "Infinity", " 1", "1 ", "1_0", ".5", "5.", "+1", True, None, []],
    ),
    "datetime": (
        [
            *("2026-01-31T12:00:00Z", "2026-01-31t12:00:00z", "2024-02-29T23:59:59"),
            *("2026-01-31T12:00:00.123456789+05:30", "0001-01-01T00:00:00-23:59"),
        ],
        [
            *("2026-01-31", "2026-01-31 12:00:00", "2026-02-30T12:00:00Z", "2023-02-29T12:00:00Z"),
            *("2026-01-31T24:00:00Z", "2026-01-31T12:60:00Z", "2026-01-31T12:00:60Z", 3, None, ""),
            *("2026-01-31T12:00Z", "2026-01-31T12:00:00+0530", "2026-01-31T12:00:00.Z"),
            *("2026-01-31T12:00:00+24:00", "0000-01-01T00:00:00", "20260131T120000Z"),
        ],
    ),
    "date": (
        [DATE, "2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"],
        [
            *("2023-02-29", "1900-02-29", "2026-13-01", "2026-04-31", "0000-01-01", "20260228"),
            *("2026-2-28", "2026-02-28T00:00:00", "", 3, None, "2026-W09-6", "10000-01-01"),
        ],
    ),
    "time": (
        ["12:00", "12:00:00", "23:59:59.5", "12:00Z", "12:00:00+05:30"],
        ["24:00", "12:60", "12", "12:00:60", "T12:00", "120000", "", 12, None, "12:00 "],
    ),
    "timedelta": (
        ["P1DT2H3.5S", "-PT1S", "P2W", "PT0S", "P1D", "PT36H", "P0DT0H0M1S", "-P999999999D"],
        ["P", "PT", "P1Y", "P1M", "1D", "P1DT", "PT1", "P1.5D", "P1W2D", "p1d", "+P1D", 3, None],
    ),
    "UUID": (
        [UUID, UUID.upper()],
        [UUID.replace("-", ""), "{" + UUID + "}", "urn:uuid:" + UUID, UUID[:-1], "", 3, None],
    ),
    "pathlib.Path": (["/tmp/a", "", "a b"], [3, None, ["a"]]),
    "ipaddress.IPv4Address": (
        ["1.2.3.4", "255.255.255.255"],
        ["1.2.3", "1.2.3.256", "01.2.3.4", "a", "", 3, None],
    ),
    "ipaddress.IPv6Address": (["::1", "fe80::1:2"], ["1.2.3.4", ":::", "", 3, None]),
    "ipaddress.IPv4Interface": (["1.2.3.4/24", "1.2.3.4"], ["1.2.3.4/33", "", 3]),
    # one of some values
    "Literal['a', 1, True, None]": (
        ["a", 1, 1.0, True, None],
        ["b", 2, False, "1", "None", [], {}],
    ),
    "Literal['a']": (["a"], ["b", None, 1, ["a"]]),
    "Literal[1, 2]": ([1, 2.0], [True, 3, "1", 1.5]),
    "Color": (["red", 2, None], ["blue", "RED", "2", 3, True]),
    # containers
    "list": ([[], [1, "a", [None]]], [{}, "a", 3, None]),
    "list[int]": ([[], [1, 2]], [["a"], [1, None], {}, [[1]]]),
    "Sequence[list[str]]": ([[], [[]], [["a"], ["b", "c"]]], [["a"], [["a", 1]]]),
    "set[int]": ([[], [1, 2]], [[1, 1], ["a"], {}]),
    "set": ([[], [1, "a", None]], [[[1]], [{}], ["a", "a"], "a"]),
    "frozenset[str]": ([[], ["a", "b"]], [["a", "a"], [1]]),
    "tuple[int, str]": ([[1, "a"]], [[], [1], [1, "a", 2], ["a", 1], {}]),
    "tuple[()]": ([[]], [[1], {}, None]),
    "tuple[int, ...]": ([[], [1], [1, 2, 3]], [["a"], {}]),
    "tuple": ([[], [1, "a"]], [{}, "a"]),
    "dict": ([{}, {"a": 1, "": [None]}], [[], "a", None]),
    "dict[str, int]": ([{}, {"a": 1}], [{"a": "b"}, [1]]),
    "Mapping[int, str]": ([{}, {"1": "a", "-20": "b"}], [{"a": "b"}, {"": "b"}, {"1.5": "b"}]),
    "dict[float, str]": ([{"1.5": "a", "-2e3": "b", "nan": "c"}], [{"a": "b"}, {"": "c"}]),
    "dict[bool, int]": ([{"true": 1, "False": 0}], [{"yes": 1}, {"1": 1}, {"": 0}]),
    "dict[date, int]": ([{DATE: 1}], [{"2026-02-30": 1}, {"a": 1}]),
    "dict[UUID, int]": ([{UUID: 1}], [{"a": 1}]),
    "dict[Decimal, int]": ([{"1.50": 1}], [{"a": 1}, {"NaN": 1}]),
    "dict[Literal['a', 'b', 3], int]": ([{}, {"a": 1, "3": 2}], [{"c": 1}, {"4": 1}]),
    "dict[Color, int]": ([{"red": 1, "2": 2, "null": 3}], [{"blue": 1}]),
    "dict[Annotated[str, {'maxLength': 2}], int]": ([{"ab": 1}], [{"abc": 1}]),
    # classes
    "Line": (
        [{"item": "a"}, {"item": "a", "n": 3}],
        [{}, {"n": 1}, {"item": "a", "n": 0}, {"item": "a", "made": 1}, {"item": "a", "x": 1}, []],
    ),
    "Page[int]": (
        [{"items": []}, {"items": [1], "extra": 3}, {"items": [], "extra": None}],
        [{"items": ["a"]}, {"items": [], "extra": "a"}, {}],
    ),
    "Page[Line]": ([{"items": [{"item": "a"}]}], [{"items": [1]}, {"items": [{}]}]),
    "Tree": (
        [{"value": 1}, {"value": 1, "kids": [{"value": 2, "kids": []}]}],
        [{"value": 1, "kids": [{}]}, {"value": 1, "kids": [{"value": 2, "kids": [3]}]}],
    ),
    "Partial": ([{"a": 1}, {"a": 1, "b": "c"}], [{}, {"b": "c"}, {"a": 1, "c": 1}, {"a": None}]),
    "Pair": (
        [[1], [1, 2.5], {"x": 1}, {"x": 1, "y": 2}],
        [[], [1, 2, 3], ["a"], {}, {"y": 1}, {"x": 1, "z": 1}, [1, "a"], 3, None],
    ),
    "Json": ([None, 3, "a", {"a": [{"b": None}]}, [[[]]]], [True, 1.5, {"a": 1.5}, [[[False]]]]),
    # unions
    "int | None": ([3, None], ["a", 1.5, True]),
    "int | str": ([3, "a"], [None, 1.5, True]),
    "Line | None": ([None, {"item": "a"}], [{}, 3]),
    "date | str": ([DATE, "a"], [3, None]),
    "date | int | None": ([DATE, 3, None], ["a", 1.5]),
    "list[int] | int": ([3, [3]], [["a"], "a"]),
    "Cat | Dog": (
        [{"kind": "cat"}, {"kind": "hound"}, {"kind": "cat", "lives": 3}],
        [{}, {"kind": "cow"}, {"kind": "dog", "lives": 3}, {"kind": None}, {"kind": "cat", "x": 1}],
    ),
    "Cat | Shy": ([{"kind": "cat"}, {"kind": "shy"}, {}], [{"kind": "dog"}, {"x": 1}]),
    "Cat | Line | list[int]": (
        [{"kind": "cat"}, {"item": "a"}, [3]],
        [{"kind": "cat", "item": "a"}, {}, ["a"]],
    ),
    # bounds
    "Annotated[int, {'minimum': 1, 'exclusiveMaximum': 10}]": ([1, 9, 9.0], [0, 10, 1.5, "3"]),
    "Annotated[int, range(1, 10)]": ([1, 9], [0, 10]),
    "Annotated[int, {'multipleOf': 5}]": ([0, -10, 15], [3, 1]),
    "Annotated[float, {'exclusiveMinimum': 0, 'maximum': 1}]": ([0.5, 1, 1e-300], [0, 1.5, -1]),
    "Annotated[Decimal, {'minimum': 0}]": (
        [0, 1.5, "0", "1.5", "-0.0", "-0"],
        [-1, "-1", "-0.1", "a"],
    ),
    "Annotated[Decimal, {'exclusiveMinimum': 0}]": (
        [1, "0.1", "10", "0010.0"],
        [0, -1, "0", "0.00", "-1", "-0"],
    ),
    "Annotated[Decimal, {'exclusiveMaximum': 0}]": ([-1, "-0.1", "-10"], [0, 1, "0", "-0", "1"]),
    "Annotated[Decimal, {'maximum': 5}]": ([5, -3.5], [5.5, 6]),
    "Annotated[str, {'minLength': 2, 'maxLength': 3}]": (["ab", "\U0001f600b"], ["a", "abcd", ""]),
    "Annotated[str, {'pattern': '^[a-c]+$'}]": (["abc"], ["", "abcd", "x"]),
    "Annotated[str, re.compile('b')]": (["abc", "b"], ["", "ac"]),
    "Annotated[bytes, {'minLength': 2, 'maxLength': 4}]": (
        ["YWI=", "YWJj", "YWJjZA=="],
        ["", "YQ==", "YWJjZGU=", "YWJjZGVm"],
    ),
    "Annotated[bytes, {'minLength': 1}]": (["YQ==", "YWJjZGVm"], ["", "a"]),
    "Annotated[bytes, {'maxLength': 3}]": (["", "YWJj"], ["YWJjZA==", "YWJjZGVm"]),
    "Annotated[list[int], {'minItems': 1, 'maxItems': 2}]": ([[1], [1, 2]], [[], [1, 2, 3]]),
    "Annotated[set[int], {'minItems': 2}]": ([[1, 2]], [[1], [1, 1]]),
    "Annotated[tuple[int, ...], {'maxItems': 1}]": ([[], [1]], [[1, 2]]),
    "Annotated[dict[str, int], {'minProperties': 1, 'maxProperties': 1}]": (
        [{"a": 1}],
        [{}, {"a": 1, "b": 2}],
    ),
    "Annotated[int | None, {'minimum': 3}]": ([3, None], [2]),
    "Annotated[Line | None, 'a line']": ([None, {"item": "a"}], [3]),
}


def shown(value: object) -> str:
    """A value as it is sent."""
    return json.dumps(value, ensure_ascii=False)
