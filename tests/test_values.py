"""The Value format: what goes in comes out, or an error says why."""

import collections
import contextlib
import datetime as dt
import gc
import math
import os
import random
import struct
import subprocess
import sys
import types
from typing import Any

import pytest
from exuvia import values
from exuvia._native import (
    json_dumps,
    json_loads,
    ndjson_dumps,
    value_dumps,
    value_loads,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from value_cases import (
    FIDELITY,
    HARD,
    SMALL,
    Colour,
    Foo,
    Mood,
    Place,
    Point,
    mutate,
    same,
)

settings.load_profile("values")


def both_ways(value: Any) -> Any:
    return value_loads(value_dumps(value))


def test_the_fidelity_list_comes_back_as_it_went() -> None:
    data = value_dumps(FIDELITY)
    assert same(value_loads(data), FIDELITY)
    assert b"pickle" not in data and b"datetime" not in data


@pytest.mark.parametrize("value", HARD, ids=lambda value: type(value).__name__)
def test_hard_values_come_back_as_they_went(value: Any) -> None:
    assert same(both_ways(value), value)
    assert same(both_ways([value, {"k": (value,)}]), [value, {"k": (value,)}])


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())
    | st.text(st.characters(categories=["Cs", "L"]))
    | st.binary()
    | st.binary().map(bytearray)
    | st.decimals()
    | st.fractions()
    | st.uuids()
    | st.dates()
    | st.timedeltas()
    | st.times(timezones=st.none() | st.just(dt.UTC))
    | st.datetimes(timezones=st.none() | st.timezones(), allow_imaginary=True)
    | st.builds(range, st.integers(), st.integers(), st.integers().filter(bool))
)
# An sNaN has no hash, and equal keys of different types would be one key.
hashable = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.dates() | st.uuids(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(hashable, inner)
        | st.sets(hashable)
        | st.frozensets(hashable)
    ),
    max_leaves=30,
)


@given(nested)
def test_nested_values_come_back_as_they_went(value: Any) -> None:
    assert same(both_ways(value), value)


@given(st.integers(-(2**70), 2**70) | st.integers(-70, 70).map(lambda n: n * 2**60))
def test_ints_of_every_size_come_back(value: Any) -> None:
    assert same(both_ways(value), value)


def test_what_is_outside_the_model_is_named_with_its_path() -> None:
    for value, path in [
        ({"a": [1, 2, 3, Foo()]}, 'value["a"][3]'),
        ([{7: (Foo(),)}], "value[0][7][0]"),
        ({1.5: Foo()}, "value[1.5]"),
        ({None: Foo()}, "value[None]"),
        ({(1, 2): Foo()}, "value[<tuple>]"),
        ({Colour.RED: 1}, "value<key>"),
        ({Mood.FINE}, "value<element>"),
        (Point(1, 2), "value"),
        (collections.OrderedDict(), "value"),
    ]:
        with pytest.raises(values.UnfitError, match="has no place in the value model") as caught:
            value_dumps(value)
        assert caught.value.path == path
        assert str(caught.value).startswith(path + ": `")
    with pytest.raises(ValueError, match=r"`(.*\.)?Foo` has no place"):
        value_dumps(Foo())


def test_zones_outside_the_model_are_named() -> None:
    class Zone(dt.tzinfo):
        def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(0)

        def dst(self, when: dt.datetime | None) -> None:
            return None

        def tzname(self, when: dt.datetime | None) -> None:
            return None

    with pytest.raises(values.UnfitError, match=r"time zone of type `.*Zone`"):
        value_dumps(dt.datetime(2024, 1, 1, tzinfo=Zone()))


@pytest.mark.parametrize(
    "value",
    [
        Foo(3),
        Colour.RED,
        Mood.FINE,
        Point(1, 2),
        collections.defaultdict(list, a=[1]),
        Foo,
        len,
        collections.OrderedDict(a=1),
        types.SimpleNamespace(a=1),
        ...,
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_rest_goes_by_pickle_when_asked(value: Any) -> None:
    data = value_dumps({"deep": [value]}, pickle=True)
    again = value_loads(data, pickle=True)["deep"][0]
    assert type(again) is type(value) and again == value
    with pytest.raises(values.MalformedError, match="pickles are not read"):
        value_loads(data)


def test_what_cannot_be_pickled_says_so() -> None:
    with pytest.raises(values.UnfitError, match=r'value\["f"\]: .*cannot be pickled'):
        value_dumps({"f": lambda: 0}, pickle=True)
    bad = b"\xc7\x03\x10abc"
    with pytest.raises(values.MalformedError, match="pickle could not be read"):
        value_loads(bad, pickle=True)


class Interrupting:
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def test_interrupts_pass_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        value_dumps([Interrupting()], pickle=True)


@pytest.mark.parametrize("dumps", [value_dumps, json_dumps])
def test_depth_is_limited_and_cycles_are_noticed(dumps: Any) -> None:
    def deep(levels: int) -> Any:
        value: Any = 0
        for _ in range(levels):
            value = [value]
        return value

    loads = value_loads if dumps is value_dumps else json_loads
    assert loads(dumps(deep(255))) == deep(255)
    loop: dict[str, list[Any]] = {"self": []}
    loop["self"].append(loop)
    for value in [deep(256), loop]:
        with pytest.raises(values.UnfitError, match="deeper than 255 levels") as caught:
            dumps(value)
        assert len(caught.value.path) < 250
    assert caught.value.path.startswith('value["self"][0]["self"][0]')


def test_shared_parts_are_written_once_each() -> None:
    part = [1]
    assert both_ways([part, part]) == [[1], [1]]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda b: b"\x91" + b,
        lambda b: b"\x81\x00" + b,
        lambda b: b"\xc9" + struct.pack(">I", len(b) + 1) + b"\x05\x91" + b,
    ],
)
def test_deep_bytes_are_refused_and_do_not_crash(wrap: Any) -> None:
    data = b"\xc0"
    for _ in range(256):
        data = wrap(data)
    with pytest.raises(values.MalformedError, match="deeper than 255"):
        value_loads(data)
    with pytest.raises(values.MalformedError):
        value_loads(b"\x91" * 1_000_000)


@pytest.mark.parametrize(
    "data, offset, message",
    [
        (b"", 0, "ends early"),
        (b"\xc0\xc0", 1, "1 bytes follow"),
        (b"\xc1", 0, "0xc1"),
        (b"\xdd\xff\xff\xff\xff", 5, "ends early"),
        (b"\xdf\xff\xff\xff\xff\x01", 5, "ends early"),
        (b"\xdb\xff\xff\xff\xffa", 5, "ends early"),
        (b"\xc9\xff\xff\xff\xff\x05", 6, "ends early"),
        (b"\xa2\xff\xff", 1, "not UTF-8"),
        (b"\x82\x01\x01\x01\x02", 3, "a key appears twice"),
        (b"\x82\xa1a\x01\xa1a\x02", 4, "a key appears twice"),
        (b"\x81\x90\x01", 1, "cannot be one"),
        (b"\xc7\x03\x06\x92\x01\x01", 5, "an element appears twice"),
        (b"\xc7\x03\x06\x91\x01\xc0", 5, "too many in this extension"),
        (b"\xd5\x06\x91\x90", 3, "cannot be one"),
        (b"\xd4\x63\x00", 0, "extension type 99 is not known"),
        (b"\xd6\xff\x00\x00\x00\x00", 0, "extension type -1 is not known"),
        (b"\xc7\x00\x01", 0, "an int without bytes"),
        (b"\xd6\x08\x07\xe8\x02\x1e", 0, "this is no date"),
        (b"\xd7\x09\x00\x00\x00\x02\x00\x00\x00\x00", 6, "flags"),
        (b"\xd4\x0c ", 0, "no Decimal"),
        (b"\xd5\x0c1_", 0, "no Decimal"),
        (b"\xd5\x0cxx", 0, "no Decimal"),
        (b"\xd5\x0d\x01\x00", 0, "no Fraction"),
        (b"\xd5\x0d\xc3\x01", 2, "an int belongs here"),
        (b"\xc7\x03\x0f\x01\x01\x00", 0, "no range"),
        (b"\xc7\x0c\x0b" + b"\x7f" + b"\xff" * 3 + b"\0" * 8, 0, "no timedelta"),
    ],
)
def test_malformed_bytes_are_refused_with_their_offset(
    data: Any, offset: Any, message: Any
) -> None:
    with pytest.raises(values.MalformedError, match=message) as caught:
        value_loads(data)
    assert caught.value.offset == offset


def test_keys_that_were_made_to_be_slow_are_refused() -> None:
    # The hash of an int is its rest by this number.
    slow = [n * sys.hash_info.modulus for n in range(100)]
    for value in (dict.fromkeys(slow), set(slow), {(n, 1): n for n in slow}):
        with pytest.raises(values.MalformedError, match="too many keys have the same hash"):
            values.loads(values.dumps(value))
    quick: list[object] = [dict.fromkeys(slow[:16]), dict.fromkeys(range(-2, 10_000))]
    assert values.loads(values.dumps(quick)) == quick


def test_containers_are_not_without_number_where_pickles_are_not_read() -> None:
    many = b"\xdd" + struct.pack(">I", 4_100_000) + b"\x90" * 4_100_000
    with pytest.raises(values.MalformedError, match="more than 4000000 containers"):
        values.loads(many)


def test_a_zone_that_is_not_here_is_named() -> None:
    clock = b"\x07\xe8\x01\x01" + b"\0" * 8
    for key in [b"Mars/Olympus", b"../../etc/passwd", b"/etc/passwd", b"\0"]:
        body = clock + b"\x03" + key
        with pytest.raises(values.MalformedError, match="is not to be had here"):
            value_loads(b"\xc7" + bytes([len(body)]) + b"\x0a" + body)
    with pytest.raises(values.MalformedError, match="zone kind 9"):
        value_loads(b"\xc7\x0d\x0a" + clock + b"\x09")


def test_other_writers_forms_are_read() -> None:
    for data, value in [
        (b"\xca\x3f\xc0\x00\x00", 1.5),
        (b"\xd3" + b"\xff" * 8, -1),
        (b"\xcf" + b"\0" * 7 + b"\5", 5),
        (b"\xdb\0\0\0\1a", "a"),
        (b"\xdd\0\0\0\1\xc0", [None]),
        (b"\xdf\0\0\0\0", {}),
        (b"\xc9\0\0\0\2\5\x91\1", (1,)),
        (b"\xc8\0\1\1\5", 5),
    ]:
        assert same(value_loads(data), value)


def assert_placed(error: values.MalformedError, data: bytes) -> None:
    assert 0 <= error.offset <= len(data)


def test_random_and_mutated_bytes_never_crash() -> None:
    rng = random.Random(2024)
    seeds = [value_dumps(value) for value in [*SMALL, FIDELITY]]
    decoded = 0
    for number in range(20_000):
        data = mutate(rng, rng.choice(seeds)) if number % 4 else rng.randbytes(rng.randrange(40))
        try:
            value = value_loads(data)
        except values.MalformedError as error:
            assert_placed(error, data)
        else:
            decoded += 1
            assert same(both_ways(value), value)
    assert decoded > 100


def test_a_container_that_changes_while_it_is_written_is_refused() -> None:
    class Growing:
        def __init__(self, change: Any) -> None:
            self.change = change

        def __reduce__(self) -> Any:
            self.change()
            return (int, (0,))

    grown: dict[Any, Any] = {}
    grown.update(a=Growing(lambda: grown.update(dict.fromkeys(range(100)))), b=1)
    shrunk: list[Any] = []
    shrunk.extend([Growing(shrunk.clear), 1, 2])
    for value in [grown, shrunk]:
        with pytest.raises(values.UnfitError, match="changed its size"):
            value_dumps(value, pickle=True)


def test_inputs_other_than_bytes() -> None:
    data = value_dumps([1])
    assert value_loads(bytearray(data)) == value_loads(memoryview(data)) == [1]
    assert json_loads("[1]") == [1]
    others: list[Any] = [5, None, ["a"]]
    for wrong in others:
        with pytest.raises(TypeError):
            value_loads(wrong)


# --- leaks ----------------------------------------------------------------------------------------


OUT_OF_MEMORY = """
import resource
from exuvia._native import json_dumps, ndjson_loads, value_dumps, value_loads

part, count = "x" * 10_000_000, 30_000_000
array = lambda: count.to_bytes(4, "big") + bytes([0x90]) * count
resource.setrlimit(resource.RLIMIT_AS, (300_000_000, 300_000_000))
for convert, make in [
    (value_dumps, lambda: [part] * 50),
    (json_dumps, lambda: [part] * 50),
    (json_dumps, lambda: {part: part, "a": [part] * 50}),
    (value_dumps, lambda: [[10**18] * 1000] * 50_000),
    (json_dumps, lambda: [[10**18] * 1000] * 50_000),
    (value_dumps, lambda: [bytearray(10_000_000)] * 50),
    (json_dumps, lambda: ["\\n" * 5_000_000] * 50),
    (value_loads, lambda: bytes([0xDD]) + array()),
    (value_loads, lambda: bytes([0xC9]) + (count + 5).to_bytes(4, "big") + b"\\5\\xdd" + array()),
    (ndjson_loads, lambda: b"[]\\n" * 10_000_000),
]:
    value = make()
    try:
        convert(value)
    except MemoryError:
        print("MemoryError")
    value = None
"""


def test_running_out_of_memory_is_an_error_and_no_abort() -> None:
    if sys.platform != "linux":
        pytest.skip("limits of the address space are Linux's")
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", OUT_OF_MEMORY]
    ended = subprocess.run(command, env=paths, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.stdout.split() == ["MemoryError"] * 10


def attempt(function: Any, *arguments: Any) -> None:
    with contextlib.suppress(ValueError):
        function(*arguments)


def test_nothing_leaks() -> None:
    good = [*FIDELITY, *SMALL]
    data = value_dumps(good)
    text = json_dumps({"rows": [{"name": "x", "n": n, "big": 2**70} for n in range(5)]})
    key, item, bad = "a key that is watched", object(), Foo()
    wrong = [
        data[:-1],
        data[: len(data) // 2],
        data + b"x",
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x81\x90\x01",
    ]
    things = [Place("x", (1,), bad), {key: [bad]}, {(1, 2): key}, [math.nan, key]]

    def convert() -> None:
        value_loads(data)
        value_dumps(good)
        json_loads(text)
        attempt(json_loads, text[:-2])
        attempt(value_dumps, {key: [1, (item,)]})
        value_loads(value_dumps(bad, pickle=True), pickle=True)
        json_dumps({key: [Point(1, key), Place(key, (key,))]})
        attempt(ndjson_dumps, [key, bad])
        for part in wrong:
            attempt(value_loads, part)
        for thing in things:
            attempt(json_dumps, thing)

    def state() -> tuple[list[int], int]:
        gc.collect()
        watched = (key, item, bad, Foo, Place, Point, None, 1, good[7])
        return [sys.getrefcount(thing) for thing in watched], len(gc.get_objects())

    for _ in range(100):
        convert()
    blocks, (counts, objects) = sys.getallocatedblocks(), state()
    for _ in range(10_000):
        convert()
    new_counts, new_objects = state()
    assert all(abs(new - old) < 20 for new, old in zip(new_counts, counts, strict=True)), (
        counts,
        new_counts,
    )
    assert abs(new_objects - objects) < 50
    assert sys.getallocatedblocks() - blocks < 1000


def test_the_python_face() -> None:
    value = {"when": dt.date(2024, 2, 29), "pair": (1, 2.5)}
    assert same(values.loads(values.dumps(value)), value)
    assert values.loads(values.dumps(Foo(2), pickle=True), pickle=True) == Foo(2)
    assert issubclass(values.UnfitError, ValueError) and issubclass(
        values.MalformedError, ValueError
    )
    assert values.UnfitError.__module__ == "exuvia.values"
    with pytest.raises(values.UnfitError):
        values.dumps(Foo())
