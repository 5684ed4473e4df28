"""How objects of classes are written as JSON: each as docs/values.md says, whatever it is."""

import dataclasses
import datetime as dt
import enum
import gc
import ipaddress
import json
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from exuvia._native import UnfitError, json_dumps


@dataclasses.dataclass
class Plain:
    a: int
    b: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    ø: str


class Pair(NamedTuple):
    one: int
    two: Any


class Reversed(NamedTuple):
    one: int
    two: int

    def __iter__(self) -> Iterator[Any]:
        return iter((self[1], self[0]))


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str


class Tagged(msgspec.Struct, tag_field="kind", tag="t"):
    n: int = 1


class Numbered(msgspec.Struct, tag=7):
    pass


class Rowed(msgspec.Struct, array_like=True, tag=True):
    a: int
    b: int


class Model(pydantic.BaseModel):
    x: float
    at: dt.datetime | None = None
    inner: "list[Model]" = []


class Own(pydantic.BaseModel):
    x: int

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return {"own": self.x}


class Color(enum.Enum):
    RED = "red"
    OTHER = dt.date(2026, 1, 31)


class Loud(enum.Enum):
    RED = "red"

    @property
    def value(self) -> str:
        return "LOUD"


class Id(uuid.UUID):
    def __str__(self) -> str:
        return "its own"


class Moment(dt.datetime):
    def isoformat(self, *_: Any, **__: Any) -> str:
        return "some day"


KEY = uuid.UUID("0a1d4fae-7dec-11d0-a765-00a0c91e6bf6")
AT = dt.datetime(2026, 1, 31, 12, 0, 0)

WRITTEN = [
    (Plain(1), '{"a":1,"b":null}'),
    (Plain(1, [Plain(2, Slotted("x"))]), '{"a":1,"b":[{"a":2,"b":{"ø":"x"}}]}'),
    (dataclasses.make_dataclass("Empty", [])(), "{}"),
    (Pair(1, Pair(2, ())), "[1,[2,[]]]"),
    (Reversed(1, 2), "[2,1]"),
    (Renamed("a"), '{"firstName":"a"}'),
    (Tagged(), '{"kind":"t","n":1}'),
    (Numbered(), '{"type":7}'),
    (Rowed(1, 2), '["Rowed",1,2]'),
    (Model(x=1.5, at=AT), '{"x":1.5,"at":"2026-01-31T12:00:00","inner":[]}'),
    (Model(x=1.5), '{"x":1.5,"at":null,"inner":[]}'),
    (Own(x=1), '{"own":1}'),
    (Color.RED, '"red"'),
    (Color.OTHER, '"2026-01-31"'),
    (Loud.RED, '"LOUD"'),
    (KEY, f'"{KEY}"'),
    (uuid.UUID(int=0), '"00000000-0000-0000-0000-000000000000"'),
    (uuid.UUID(int=2**128 - 1), '"ffffffff-ffff-ffff-ffff-ffffffffffff"'),
    (Id(str(KEY)), '"its own"'),
    (Moment(2026, 1, 31), '"some day"'),
    (pathlib.PurePosixPath("/a/b"), '"/a/b"'),
    (ipaddress.ip_address("::1"), '"::1"'),
    (ipaddress.ip_interface("10.0.0.1/8"), '"10.0.0.1/8"'),
    (ipaddress.ip_network("10.0.0.0/8"), '"10.0.0.0/8"'),
]


@pytest.mark.parametrize("value, text", WRITTEN)
def test_objects_are_written_as_the_page_says(value: Any, text: str) -> None:
    assert json_dumps(value).decode() == text
    # Once more, when their types are known.
    assert json_dumps([value, value]).decode() == f"[{text},{text}]"


@pytest.mark.parametrize(
    "time",
    [
        AT,
        AT.replace(microsecond=7),
        AT.replace(year=1, fold=1, microsecond=999_999),
        AT.replace(tzinfo=dt.UTC),
        AT.replace(tzinfo=dt.timezone(dt.timedelta(hours=-3, seconds=1))),
        AT.replace(tzinfo=ZoneInfo("Europe/Oslo")),
        AT.replace(tzinfo=ZoneInfo("UTC")),
        AT.date(),
        dt.date.min,
        dt.datetime.max,
        AT.time(),
        dt.time(1, 2, 3, 4, tzinfo=dt.UTC),
    ],
)
def test_times_are_written_as_they_write_themselves(time: Any) -> None:
    assert json.loads(json_dumps(time)) == time.isoformat()


def test_what_is_wrong_in_an_object_is_named_with_its_place() -> None:
    for value, place in [
        (Plain(1, Plain(2, float("nan"))), "value.b.b: NaN"),
        (Model(x=float("nan")), 'value["x"]: NaN'),
        (Model(x=1, inner=[Model(x=float("inf"))]), 'value["inner"][0]["x"]: infinity'),
        (Pair(1, {"k": object()}), 'value[1]["k"]: `object`'),
        (Tagged("\ud800"), "value.n: a str with a lone surrogate"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(UnfitError) as raised:
            json_dumps(value)
        assert str(raised.value).startswith(place)


def test_an_object_that_holds_itself_ends() -> None:
    plain = Plain(1)
    plain.b = plain
    with pytest.raises(UnfitError, match="nested deeper than 255 levels"):
        json_dumps(plain)


def test_more_types_than_are_remembered_are_written_right_all_the_same() -> None:
    made = [dataclasses.make_dataclass(f"C{n}", [(f"f{n}", int)])(n) for n in range(3000)]
    for _ in range(2):
        assert json.loads(json_dumps(made)) == [{f"f{n}": n} for n in range(3000)]
    # A class that is gone may leave its place to another.
    for n in range(3000):
        one = dataclasses.make_dataclass("Gone", [(f"g{n}", int)])(n)
        assert json_dumps(one) == f'{{"g{n}":{n}}}'.encode()
        del one
        if n % 500 == 0:
            gc.collect()
