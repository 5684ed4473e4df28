"""Objects that the tests of exuvia.values send through it, and what it means to come back whole."""

import collections
import dataclasses
import datetime as dt
import enum
import math
import random
import struct
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, settings

settings.register_profile(
    "values", deadline=None, max_examples=300, suppress_health_check=list(HealthCheck)
)


def bits(number: float) -> bytes:
    """The eight bytes of a float, NaN and zeros told apart."""
    return struct.pack(">d", number)


def same(one: Any, other: Any) -> bool:
    """Equal, of identical types all the way down, NaN by its bits and order of dicts included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return bits(one) == bits(other)
    if isinstance(one, complex):
        return bits(one.real) == bits(other.real) and bits(one.imag) == bits(other.imag)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, (set, frozenset)):
        return same(sorted(one, key=name), sorted(other, key=name))
    if isinstance(one, Decimal):
        return bool(one.as_tuple() == other.as_tuple())
    if isinstance(one, (dt.datetime, dt.time)):
        wall = one.replace(tzinfo=None) == other.replace(tzinfo=None) and one.fold == other.fold
        return wall and same_zone(one.tzinfo, other.tzinfo)
    if isinstance(one, uuid.UUID):
        return bool(one == other and one.is_safe is other.is_safe)
    return bool(one == other)


def name(element: Any) -> str:
    """Text that is the same for equal elements of sets of the same types."""
    if isinstance(element, (tuple, frozenset)):
        parts = [name(part) for part in element]
        if isinstance(element, frozenset):
            parts.sort()
        return f"{type(element).__name__}({', '.join(parts)})"
    return f"{type(element).__name__} {element!r}"


def same_zone(one: Any, other: Any) -> bool:
    """The same zone: an offset by offset and name, any other by being the same object."""
    if isinstance(one, dt.timezone):
        return type(other) is dt.timezone and repr(one) == repr(other)
    return one is other


class Foo:
    """Not in the value model; picklable."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Foo) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


class Colour(enum.IntEnum):
    """An int, and more."""

    RED = 1


class Mood(enum.Enum):
    """No int."""

    FINE = "fine"
    DATE = dt.date(2024, 2, 29)


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Place:
    """A dataclass."""

    name: str
    at: tuple[Any, ...]
    more: object = None


FIDELITY: list[Any] = [
    math.nan,
    math.inf,
    -0.0,
    2**80,
    -(2**63) - 1,
    b"\x00\xff",
    (1, "a"),
    dt.datetime(2024, 2, 29),
    Decimal("0.1"),
    {"k": None},
    "\U0001f600",
    {1, 2},
]
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
HARD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2**31,
    2**32,
    2**63 - 1,
    2**63,
    2**64 - 1,
    2**64,
    -32,
    -33,
    -128,
    -129,
    -32768,
    -32769,
    -(2**31),
    -(2**31) - 1,
    -(2**63),
    -(2**64),
    10**5000,
    -(10**5000),
    1e300,
    5e-324,
    -math.inf,
    struct.unpack(">d", bytes.fromhex("7ff8dead beef0001"))[0],
    complex(-0.0, math.nan),
    "",
    "a" * 31,
    "a" * 32,
    "é" * 200,
    "x" * 70000,
    "\ud800",
    "a\udfff\ud83d\ude00b",
    "\x00",
    b"",
    b"x" * 300,
    b"x" * 70000,
    bytearray(b"ab"),
    bytearray(),
    [],
    [[]],
    list(range(20)),
    [None] * 70000,
    (),
    ((),),
    (1,) * 300,
    ("x" * 300,) * 300,
    {},
    {i: str(i) for i in range(70000)},
    {(1, (2,)): frozenset({3}), None: 1, 1.5: 2, b"": 3},
    {"b": 1, "a": 2},
    {"key" * 20: 1},
    set(),
    frozenset(),
    {frozenset({1, "a"}), (1, 2)},
    {math.nan},
    dt.date.min,
    dt.date.max,
    dt.time.min,
    dt.time.max,
    dt.time(1, 2, 3, 4, fold=1),
    dt.time(1, tzinfo=dt.UTC),
    dt.datetime.min,
    dt.datetime.max,
    dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
    dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
    dt.datetime(2024, 1, 1, 0, 0, 0, 999999, tzinfo=dt.UTC),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-9, minutes=-30))),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(seconds=1, microseconds=7), "Añejo")),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "")),
    dt.timedelta.min,
    dt.timedelta.max,
    dt.timedelta.resolution,
    dt.timedelta(days=-1),
    Decimal("NaN"),
    Decimal("-sNaN123"),
    Decimal("-Infinity"),
    Decimal("-0"),
    Decimal("1E+30"),
    Decimal("0.10"),
    Decimal("1E-1000"),
    Decimal(10) ** 60,
    Fraction(1, 3),
    Fraction(-(2**99), 7),
    uuid.UUID(int=5),
    uuid.UUID(int=2**128 - 1, is_safe=uuid.SafeUUID.unsafe),
    uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
    range(3),
    range(0),
    range(10, -5, -3),
    range(2**70, 2**71, 2**69),
]


ODD_BYTES = [
    0x80,
    0x81,
    0x90,
    0x91,
    0x92,
    0xC0,
    0xC1,
    0xC4,
    0xC7,
    0xC9,
    0xD4,
    0xD8,
    0xDB,
    0xDD,
    0xDF,
]


SMALL = [value for value in HARD if not isinstance(value, int) and len(repr(value)) < 500]


def mutate(rng: random.Random, original: bytes) -> bytes:
    """A few bytes of it changed, left out, put in or doubled."""
    data = bytearray(original)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[at:at] = bytes([rng.choice(ODD_BYTES), rng.randrange(17)])
            case 1:
                del data[at : at + rng.randint(1, 4)]
            case 2 if at < len(data):
                data[at] = rng.choice([rng.randrange(256), rng.choice(ODD_BYTES)])
            case _:
                data[at:at] = data[at : at + rng.randint(1, 8)]
    return bytes(data)
