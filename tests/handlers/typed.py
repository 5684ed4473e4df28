"""Handlers whose annotations say more than `int` or `list`; each tells what it was given."""

import datetime as dt
import enum
import ipaddress
import pathlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic


@dataclass
class Line:
    item: str
    n: Annotated[int, {"minimum": 1}] = 1


@dataclass
class Order:
    customer: str
    lines: list[Line]
    due: dt.date | None = None
    ship: Literal["post", "van"] = "post"
    tags: set[str] = field(default_factory=set)


class Color(enum.Enum):
    RED = "red"
    TWO = 2


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Movie(TypedDict):
    name: str


@dataclass(frozen=True, slots=True)
class Range:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"{self.low} is above {self.high}")
        if self.low == 13:
            raise RuntimeError("this is the handler's own trouble")


class Account(pydantic.BaseModel):
    name: str
    balance: float = pydantic.Field(ge=0)


class Cat(msgspec.Struct, tag="cat"):
    lives: int = 9


class Everything(NamedTuple):
    flag: bool
    number: int
    share: float
    text: str
    raw: bytes
    price: Decimal
    at: dt.datetime
    day: dt.date
    clock: dt.time
    wait: dt.timedelta
    key: uuid.UUID
    place: pathlib.Path
    host: ipaddress.IPv4Address
    color: Color
    point: Point
    movie: Movie


def total(order: Order) -> int:
    return sum(line.n for line in order.lines)


def returns(order: Order) -> Order:
    return order


def everything(given: Everything) -> list[str]:
    return [f"{type(part).__name__} {part!r}" for part in given]


def ranged(range: Range, more: list[Range] | None = None) -> int:
    return range.high - range.low


def account(account: Account, limit: float = 0.0) -> Account:
    return account


def cat(cat: Cat) -> Cat:
    return cat


def texts(
    asset: str,
    hours: Annotated[int, range(1, 100)] = 24,
    day: dt.date | None = None,
    tags: list[str] | None = None,
    order: Order | None = None,
) -> list[Any]:
    return [asset, hours, day, tags, order and order.customer]


def rows(rows: list[Line]) -> int:
    return sum(row.n for row in rows)


def yields(order: Order) -> Iterator[Line]:
    yield from order.lines


def unkept(x: Annotated[int, {"minLength": 3}] = 1) -> int:
    return x
