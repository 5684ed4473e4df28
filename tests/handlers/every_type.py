"""A handler for every type of docs/types.md: pure, and each gives what its annotation says."""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import msgspec
import pydantic

T = TypeVar("T")
UserId = NewType("UserId", int)
# Before 3.12 a name that contains itself is written so.
Json = Union[dict[str, "Json"], list["Json"], str, int, bool, None]  # noqa: UP007


# === scalars ===


def booleans(flag: bool, maybe: bool | None = None) -> list[bool | None]:
    return [flag, maybe]


def integers(
    n: int,
    small: Annotated[int, range(1, 10)] = 1,
    even: Annotated[int, {"minimum": -100, "maximum": 100, "multipleOf": 2}] = 0,
) -> dict[str, int]:
    return {"n": n, "small": small, "even": even}


def floats(x: float, share: Annotated[float, {"minimum": 0, "exclusiveMaximum": 1}] = 0.5) -> float:
    return share if x else 0.0


def strings(
    text: str,
    short: Annotated[str, {"minLength": 1, "maxLength": 9}] = "a",
    code: Annotated[str, re.compile("^[A-Z]{2}[0-9]{2}$"), "two letters, two digits"] = "AB12",
) -> list[str]:
    return [text, short, code]


def binary(data: bytes, key: Annotated[bytes, {"minLength": 4, "maxLength": 8}] = b"abcd") -> int:
    return len(data) + len(key)


def nothing(value: None = None) -> None:
    return value


def anything(value: Any, other: object = None) -> Any:
    return [value, other]


def unannotated(value, other=1):  # type: ignore[no-untyped-def]
    return [value, other]


def decimals(price: Decimal, rate: Annotated[Decimal, {"minimum": 0}] = Decimal("0.1")) -> Decimal:
    return max(price, rate)


# === times and the like ===


def moments(at: datetime, day: date, clock: time) -> dict[str, datetime | date | time]:
    return {"at": at, "day": day, "clock": clock}


def durations(step: timedelta, pause: timedelta = timedelta(seconds=1)) -> list[timedelta]:
    return [step, pause]


def ids(one: UUID, more: list[UUID] | None = None) -> list[UUID]:
    return [one, *(more or [])]


def places(path: Path, host: ipaddress.IPv4Address, six: ipaddress.IPv6Address) -> list[str]:
    return [str(path), str(host), str(six)]


# === one of some values ===


class Color(Enum):
    RED = "red"
    GREEN = "green"
    NONE = None


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Chosen(NamedTuple):
    ship: Literal["post", "van", 3, True, None]
    color: Color
    level: Level


def choices(
    ship: Literal["post", "van", 3, True, None], color: Color, level: Level = Level.LOW
) -> Chosen:
    return Chosen(ship, color, level)


# === containers ===


def lists(
    plain: list,  # type: ignore[type-arg]
    typed: Sequence[int],
    few: Annotated[list[str], {"minItems": 1, "maxItems": 3}],
    nested: list[list[float]],
) -> int:
    return len(plain) + len(typed) + len(few) + len(nested)


def sets(tags: set[str], more: frozenset[int] = frozenset()) -> set[str]:
    return tags | {str(number) for number in more}


@dataclass
class Tuples:
    pair: tuple[int, str]
    many: tuple[float, ...]
    none: tuple[()]


def tuples(pair: tuple[int, str], many: tuple[float, ...], none: tuple[()] = ()) -> Tuples:
    return Tuples(pair, many, none)


def dicts(
    plain: dict,  # type: ignore[type-arg]
    by_number: Mapping[int, str],
    by_day: dict[date, float],
    by_color: dict[Literal["red", "green"], int],
    few: Annotated[dict[str, bool], {"minProperties": 1, "maxProperties": 3}],
) -> dict[int, str]:
    return {len(plain) + len(by_day) + len(by_color) + len(few): "others", **by_number}


# === classes ===


@dataclass
class Line:
    """A line of an order."""

    item: str
    n: Annotated[int, {"minimum": 1}] = 1


@dataclass
class Order:
    customer: str
    lines: list[Line]
    due: date | None = None
    ship: Literal["post", "van"] = "post"
    tags: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: float
    y: float = 0.0
    label: str = field(init=False, default="here")


@dataclass
class Joined:
    text: str = ""
    parts: InitVar[list[str] | None] = None

    def __post_init__(self, parts: list[str] | None) -> None:
        self.text = "-".join([self.text, *(parts or [])])


@dataclass
class Counted:
    words: list[str]
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = len(self.words)


class Address(TypedDict):
    street: str
    number: NotRequired[int]


class Span(NamedTuple):
    start: int
    stop: int = 0


@dataclass
class Page(Generic[T]):
    items: list[T]
    next: int | None = None


@dataclass
class Tree:
    value: int
    children: "list[Tree]" = field(default_factory=list)


def order(order: Order) -> Order:
    """What was ordered, as it was ordered.

    The whole body is the order.
    """
    return order


class Objects(NamedTuple):
    point: Point
    counted: Counted
    joined: Joined


def objects(point: Point, counted: Counted, joined: Joined) -> Objects:
    return Objects(point, counted, joined)


FIRST = Span(1, 2)


def address(address: Address, span: Span = FIRST) -> Address:
    return {**address, "number": address.get("number", 0) + span.start}


def spans(spans: list[Span]) -> list[Span]:
    return spans


def page(page: Page[Line], ids: Page[UserId] | None = None) -> Page[Line]:
    return page


def tree(tree: Tree) -> Tree:
    return tree


def tree_of_json(value: Json) -> Json:
    return value


# === unions ===


@dataclass
class Cat:
    kind: Literal["cat"]
    lives: int = 9


@dataclass
class Dog:
    kind: Literal["dog", "hound"]
    name: str | None = None


@dataclass
class Circle:
    radius: float


@dataclass
class Square:
    side: float


def pets(pets: list[Cat | Dog]) -> list[Cat | Dog]:
    return pets


def shape(shape: Circle | Square) -> Circle | Square:
    return shape


def either(
    number: int | float,
    when: date | datetime | None,
    many: str | list[str],
    old: Optional[int] = None,  # noqa: UP045 - both spellings are taken
) -> list[Any]:
    return [number, when, many, old]


# === libraries' classes ===


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")

    name: Annotated[str, pydantic.Field(min_length=1, max_length=20)]
    # Not an int: a strict one is not 3.0, which is an integer in JSON Schema.
    level: Annotated[float, pydantic.Field(ge=0, le=9)] = 0
    kids: list["Model"] = []


class Record(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    # The same: it refuses some integers with a point.
    size: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0
    tags: list[str] = []


def model(model: Model) -> Model:
    return model


def record(record: Record) -> Record:
    return record


def bounded(
    size: Annotated[int, msgspec.Meta(ge=1, lt=5)],
    name: Annotated[str, pydantic.Field(max_length=3)],
) -> str:
    return name * size


# === streams ===


def counting(n: Annotated[int, {"minimum": 0, "maximum": 20}] = 3) -> Iterator[Line]:
    for number in range(n):
        yield Line("nut", number + 1)


# === routes of their own ===


def found(
    asset: Annotated[str, {"minLength": 1, "maxLength": 20, "pattern": "^[a-z]+$"}],
    hours: Annotated[int, {"minimum": 1, "maximum": 48}] = 24,
    model: Literal["mean", "last"] = "mean",
    day: date | None = None,
    tag: Annotated[list[str], {"maxItems": 5}] = [],  # noqa: B006 - it is never changed
    exact: bool = False,
) -> dict[str, Any]:
    """What is known of an asset."""
    return {"asset": asset, "hours": hours, "model": model, "day": day, "tag": tag, "exact": exact}


def numbered(number: int, scale: float = 1.0) -> float:
    return scale if number else 0.0


def stored(order: Order) -> Order:
    return order


def removed(id: UUID) -> None:
    """Takes something away; what, is not asked."""


def hello(name: str = "you") -> str:
    return f"hello, {name}"


__routes__ = {
    "GET /every/assets/{asset}": {"handler": "found", "headers": {"model": "x-model"}},
    "GET /every/numbers/{number}": "numbered",
    "PUT,POST /every/orders": {"handler": "stored", "status": 201, "timeout": "5s"},
    "DELETE /every/orders/{id}": removed,
    "GET /every/hello": {"handler": "hello", "media": "text/plain", "tags": ["greetings"]},
}
