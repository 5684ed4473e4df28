"""The reader of type plans on arbitrary types and data: it gives what Python itself would make."""

import base64
import dataclasses
import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Any, Literal

from exuvia._native import Probe, json_dumps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

slow = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Color(enum.Enum):
    RED = "red"
    TWO = 2


# A type, and the values it has.
Typed = tuple[Any, st.SearchStrategy[Any]]

ZONES = st.none() | st.builds(
    dt.timezone, st.integers(-1439, 1439).map(lambda minutes: dt.timedelta(minutes=minutes))
)
SCALARS: list[Typed] = [
    (bool, st.booleans()),
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (str, st.text()),
    (bytes, st.binary()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (dt.datetime, st.datetimes(timezones=ZONES)),
    (dt.date, st.dates()),
    (dt.time, st.times(timezones=ZONES)),
    (dt.timedelta, st.timedeltas()),
    (uuid.UUID, st.uuids()),
    (Color, st.sampled_from(Color)),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
]


def plain(value: Any) -> Any:
    """Give a value as the page says JSON has it."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    match value:
        case enum.Enum():
            return value.value
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case bytes():
            return base64.b64encode(value).decode()
        case Decimal() | uuid.UUID():
            return str(value)
        case dt.timedelta():
            return duration(value)
        case dt.date() | dt.time():
            return value.isoformat()
    return value


def duration(value: dt.timedelta) -> str:
    sign, value = ("-", -value) if value < dt.timedelta(0) else ("", value)
    return f"{sign}P{value.days}DT{value.seconds}.{value.microseconds:06}S"


@st.composite
def dataclass_of(draw: st.DrawFn, inner: st.SearchStrategy[Typed]) -> Typed:
    """Give a dataclass of its own, and instances of it."""
    types = draw(st.lists(inner, max_size=5))
    defaults = draw(st.integers(0, len(types)))
    fields: list[Any] = []
    needed: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for place, (annotation, values) in enumerate(types):
        name = f"f{place}"
        if place < defaults:
            fields.append((name, annotation))
            needed[name] = values
        else:
            fields.append((name, annotation, always(draw(values))))
            optional[name] = values
    frozen, slots = draw(st.booleans()), draw(st.booleans())
    made = dataclasses.make_dataclass("Made", fields, frozen=frozen, slots=slots)
    given = st.fixed_dictionaries(needed, optional=optional)
    return made, given.map(lambda got: made(**got))


def always(value: Any) -> Any:
    """Give a field that has this value where nothing is given."""

    def default() -> Any:
        return value

    return dataclasses.field(default_factory=default)


def of(container: Any, *parts: Any) -> Any:
    """Give a container's type; to a type checker these are no types."""
    return container[parts if len(parts) > 1 else parts[0]]


def containers(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def lists(t: Typed) -> Typed:
        return of(list, t[0]), st.lists(t[1], max_size=4)

    def by_text(t: Typed) -> Typed:
        return of(dict, str, t[0]), st.dictionaries(st.text(), t[1], max_size=4)

    def by_number(t: Typed) -> Typed:
        return of(dict, int, t[0]), st.dictionaries(st.integers(), t[1], max_size=4)

    def optional(t: Typed) -> Typed:
        return t[0] | None, st.none() | t[1]

    def tuples(t: Typed) -> Typed:
        return of(tuple, t[0], ...), st.lists(t[1], max_size=4).map(tuple)

    def pairs(two: tuple[Typed, Typed]) -> Typed:
        (one, ones), (other, others) = two
        return of(tuple, one, other), st.tuples(ones, others)

    made = [inner.map(kind) for kind in (lists, by_text, by_number, optional, tuples)]
    return st.one_of(*made, st.tuples(inner, inner).map(pairs), dataclass_of(inner))


TYPES = st.recursive(st.sampled_from(SCALARS), containers, max_leaves=8)
ANY_TYPED = TYPES.flatmap(lambda typed: typed[1].map(lambda value: (typed[0], value)))


def reader(annotation: Any) -> Probe:
    def handler(x: Any, planned: Any = None) -> None: ...

    # One more, that nobody gives: there is a plan even where `x` does not need one.
    handler.__annotations__ = {"x": annotation, "planned": Color}
    return Probe(handler)


def written(data: Any, spaced: bool) -> bytes:
    separators = (" ,\n", " : ") if spaced else (",", ":")
    return json.dumps({"x": data}, separators=separators, ensure_ascii=spaced).encode(
        errors="surrogatepass"
    )


def same(one: Any, other: Any) -> bool:
    """Whether values are equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(same(getattr(one, name), getattr(other, name)) for name in names)
    match one:
        case dict():
            pairs = zip(one.items(), other.items(), strict=False)
            return len(one) == len(other) and all(
                same(*keys) and same(*values)
                for keys, values in ((zip(*pair, strict=True)) for pair in pairs)
            )
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case dt.datetime() | dt.time():
            return bool(one == other and one.utcoffset() == other.utcoffset())
    return repr(one) == repr(other)


@slow
@given(ANY_TYPED, st.booleans())
def test_what_is_read_is_what_was_written(case: tuple[Any, Any], spaced: bool) -> None:
    annotation, value = case
    (got,), keywords = reader(annotation).arguments(written(plain(value), spaced))
    assert keywords is None
    assert same(got, value)


@slow
@given(ANY_TYPED)
def test_what_a_handler_gives_back_is_what_it_was_given(case: tuple[Any, Any]) -> None:
    annotation, value = case
    if "bytes" in repr(annotation) or has_bytes(value):
        return
    probe = reader(annotation)
    (got,), _ = probe.arguments(b'{"x": ' + json_dumps(value) + b"}")
    assert same(got, value)


def has_bytes(value: Any) -> bool:
    if dataclasses.is_dataclass(value):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(map(has_bytes, value))
    return isinstance(value, bytes)


def nested(depth: int) -> Any:
    return {"?": nested(depth - 1)} if depth else {}


# No type here takes this: null may stand for what takes an object, but not one so deep.
WRONG = nested(80)


def leaves(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the ways to all scalars of a document."""
    match data:
        case dict():
            return [way for key, each in data.items() for way in leaves(each, (*at, key))]
        case list():
            return [way for place, each in enumerate(data) for way in leaves(each, (*at, place))]
    return [at]


@slow
@given(ANY_TYPED, st.data())
def test_each_wrong_value_is_one_fault_in_its_place(case: tuple[Any, Any], data: Any) -> None:
    annotation, value = case
    document = {"x": plain(value)}
    ways = leaves(document)
    if not ways:
        return
    wrong = data.draw(st.lists(st.sampled_from(ways), min_size=1, max_size=5, unique=True))
    for way in wrong:
        inside: Any = document
        for step in way[:-1]:
            inside = inside[step]
        inside[way[-1]] = WRONG
    try:
        reader(annotation).arguments(json.dumps(document).encode())
    except ValueError as error:
        found = [pointer for pointer, _ in error.args[0]]
        # What stands for a dict or object that was left out (null) is looked into.
        right = ["/" + "/".join(map(escaped, way)) for way in wrong]
        assert len(found) == len(set(found)) or any(way.startswith(tuple(right)) for way in found)
        for pointer in found:
            assert any(pointer == way or pointer.startswith(way + "/") for way in right)
        for way in right:
            assert any(pointer == way or pointer.startswith(way + "/") for pointer in found)
    else:
        raise AssertionError("it was taken")


def escaped(step: Any) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")
