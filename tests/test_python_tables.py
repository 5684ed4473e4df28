"""Tables and arrays between a program and its workers: whole, private, and through memory."""

import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import exuvia
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from exuvia import _native
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from programs import HANDLERS, Run, lines
from table_cases import CASES, MANY, NEED_PICKLES, check_same, large, pickled

CROSSING = f"{HANDLERS}/crossing.py"
ROWS = 8760


@pytest.fixture(scope="module")
def host() -> Iterator[exuvia.Host]:
    """One host for the tests that leave it as it was."""
    with exuvia.Host(CROSSING, timeout=60) as host:
        yield host


def year(columns: int = 8) -> pd.DataFrame:
    """A frame of floats, an hour a row."""
    rng = np.random.default_rng(2)
    return pd.DataFrame({f"c{n}": rng.random(ROWS) for n in range(columns)})


def size_of(copies: tuple[exuvia.Copied, ...]) -> int:
    return sum(copied.bytes for copied in copies)


# === without loss ===

thorough = settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def any_arrays() -> Any:
    """Arrays of any dtype, order of bytes and layout."""
    dtypes = (
        arrays.scalar_dtypes()
        | arrays.nested_dtypes(max_leaves=4)
        | arrays.array_dtypes(arrays.scalar_dtypes())
    )
    made = arrays.arrays(dtypes, arrays.array_shapes(min_dims=0, min_side=0, max_side=4))
    turned = st.sampled_from([lambda a: a, lambda a: a.T, lambda a: a[..., ::-1] if a.ndim else a])
    return st.builds(lambda array, turn: turn(array), made, turned)


def any_frames() -> Any:
    """Frames of columns of any dtype, over indexes of several kinds."""
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    dtypes = arrays.scalar_dtypes().filter(lambda dtype: dtype.kind not in "SUmM")
    times = st.sampled_from(["M8[s]", "M8[ms]", "M8[us]", "M8[ns]", "m8[s]", "m8[ns]"])
    kinds = dtypes | times.map(np.dtype)

    @st.composite
    def frames(draw: Any) -> pd.DataFrame:
        rows = draw(st.integers(0, 4))
        names = draw(st.lists(texts, max_size=3, unique=draw(st.booleans())))
        columns = [
            draw(
                arrays.arrays(kinds, rows)
                | st.lists(texts | st.none(), min_size=rows, max_size=rows)
            )
            for _ in names
        ]
        indexes = [
            pd.RangeIndex(rows),
            pd.RangeIndex(3, 3 + 2 * rows, 2, name=draw(texts)),
            pd.Index(draw(arrays.arrays("i8", rows)), name=draw(st.none() | texts)),
            pd.date_range("2024-03-30", periods=rows, freq="h", tz=draw(st.sampled_from(ZONES))),
            pd.Index(draw(st.lists(texts, min_size=rows, max_size=rows))),
        ]
        series = {n: pd.Series(values) for n, values in enumerate(columns)}
        frame = pd.DataFrame(series, index=range(rows))
        frame.index = draw(st.sampled_from(indexes))
        frame.columns = pd.Index(names, dtype=None if names else object)
        return frame

    return frames()


ZONES = [None, "UTC", "Europe/Oslo", "+02:00"]


@pytest.mark.parametrize("name", CASES)
def test_each_arrives_as_a_pickle_of_it_would(host: exuvia.Host, name: str) -> None:
    obj = CASES[name]()
    expected = pickled(obj)
    got = host.call("crossing:echo", {"a": [obj, (1, obj)], "b": {2: obj}})
    check_same(got, {"a": [expected, (1, expected)], "b": {2: expected}})
    check_same(host.call("crossing:echo", obj), expected)
    check_same(host.call("crossing:echo", key=obj), {"key": expected})


@thorough
@given(array=any_arrays())
def test_any_array_arrives_whole(host: exuvia.Host, array: Any) -> None:
    check_same(host.call("crossing:echo", [array]), [array])


@thorough
@given(frame=any_frames())
# No reader of ours takes names with NUL, nor so many columns.
@example(frame=pd.DataFrame({"\0": [1.0]}))
@example(frame=pd.DataFrame(np.zeros((1, 20_000)), columns=[f"c{n}" for n in range(20_000)]))
def test_any_frame_arrives_as_a_pickle_of_it_would(host: exuvia.Host, frame: Any) -> None:
    check_same(host.call("crossing:echo", [frame]), [pickled(frame)])


def test_a_hundred_large_tables_and_arrays_in_one_call(host: exuvia.Host) -> None:
    many = [
        pd.DataFrame({"x": np.full(MANY, n)}) if n % 2 else np.full(MANY, n) for n in range(100)
    ]
    check_same(host.call("crossing:echo", many), many)


def test_an_array_of_300_mb(host: exuvia.Host) -> None:
    array = np.arange(300 * 2**20 / 8)
    assert host.call("crossing:total", array) == array.sum()
    got = host.call("crossing:echo", array)
    assert got.nbytes == 300 * 2**20 and np.array_equal(got, array)


def test_results_may_be_written_to_and_outlive_their_host() -> None:
    with exuvia.Host(CROSSING) as host:
        frame = host.call("crossing:wide", MANY, 3)
        array = host.call("crossing:echo", np.arange(MANY))
    frame.loc[0, "c1"] = -1.0
    array[0] = -1
    assert frame["c1"].sum() == np.arange(MANY).sum() + MANY - 2
    assert array.sum() == np.arange(MANY).sum() - 1


def test_an_argument_that_was_sent_is_free_to_change_and_to_go(host: exuvia.Host) -> None:
    array = np.arange(float(MANY))
    got = host.call("crossing:echo", array)
    array[:] = 0
    assert got.sum() == np.arange(MANY).sum()


# === privately ===


def test_what_a_handler_writes_to_a_table_nobody_else_sees(host: exuvia.Host) -> None:
    frame = pd.DataFrame({"x": np.ones(MANY)})
    for _ in range(3):
        first, second = host.call("crossing:edit", frame, frame)
        assert first > 1e9 and second == MANY
    assert frame["x"].sum() == MANY
    array = np.ones((MANY, 2))
    for _ in range(3):
        assert host.call("crossing:edit_arrays", array, array) == [14 * MANY, 2 * MANY]
    assert array.sum() == 2 * MANY


def test_what_is_shared_stays_as_it_was(host: exuvia.Host) -> None:
    frame = exuvia.share(pd.DataFrame({"x": np.ones(MANY)}))
    array = exuvia.share(np.ones(MANY))
    for _ in range(3):
        first, second, third = host.call("crossing:edit", frame, frame, frame)
        assert first > 1e9 and (second, third) == (MANY, MANY)
        assert host.call("crossing:edit_arrays", array, array, array) == [7 * MANY, MANY, MANY]
    assert not host.call("crossing:same_memory", array, array)


# === shared once ===


@pytest.mark.parametrize("name", CASES)
def test_what_can_be_shared_arrives_as_what_it_was(host: exuvia.Host, name: str) -> None:
    obj = CASES[name]()
    if name in NEED_PICKLES:
        with pytest.raises(TypeError, match=type(obj).__name__):
            exuvia.share(obj)
        return
    shared = exuvia.share(obj)
    assert repr(shared).startswith(f"<exuvia.Shared: a {type(obj).__module__.partition('.')[0]}")
    got = host.call("crossing:echo", [shared, {"b": shared}])
    check_same(got, [pickled(obj), {"b": pickled(obj)}])


def test_shared_memory_is_as_large_as_what_is_in_it() -> None:
    array = np.arange(float(MANY))
    assert 0 <= exuvia.share(array).nbytes - array.nbytes <= 128
    assert 0 <= exuvia.share(year()).nbytes - 8 * ROWS * 8 <= 8192
    for none in ([1, 2], {"x": [1]}, "text", None, 5, np.array([{}]), np.ma.masked_array([1])):
        with pytest.raises(TypeError, match="is neither a table nor an array|cannot be shared"):
            exuvia.share(none)


def test_a_large_table_is_shared_by_many_calls_and_workers() -> None:
    shared = exuvia.share(year(40))
    with exuvia.Host(CROSSING, workers=3) as host:
        totals = {host.call("crossing:total", shared) for _ in range(30)}
    assert totals == {float(year(40).to_numpy().sum())}


# === what was copied ===


def test_nothing_is_copied_of_what_is_shared(host: exuvia.Host) -> None:
    for obj in (year(), np.arange(MANY), pl.DataFrame({"x": np.arange(MANY)}), pa.table(year())):
        outcome = host.outcome("crossing:echo", [exuvia.share(obj)])
        sent_back = [copied for copied in outcome.diagnostics.copies if "memory" in copied.why]
        assert list(outcome.diagnostics.copies) == sent_back and len(sent_back) == 1
        assert host.outcome("crossing:pid", exuvia.share(obj)).diagnostics.copies == ()


def test_every_copy_is_counted_with_its_reason(host: exuvia.Host) -> None:
    frame = year()
    size = ROWS * 8 * 8
    (sent,) = host.outcome("crossing:pid", frame).diagnostics.copies
    assert abs(sent.bytes - size) < size / 10 and "memory that can be shared" in sent.why
    copies = host.outcome("crossing:echo", frame).diagnostics.copies
    assert abs(size_of(copies) - 2 * size) < size / 5
    nulls = exuvia.share(pd.DataFrame({"n": pd.array([1, None] * MANY, "Int64")}))
    (copied,) = host.outcome("crossing:pid", nulls).diagnostics.copies
    assert copied.what == 'column "n"' and "it has nulls" in copied.why
    assert abs(copied.bytes - 2 * MANY) <= MANY / 5
    assert host.outcome("crossing:pid", [1, "text"]).diagnostics.copies == ()


def test_an_outcome_has_the_result_and_what_was_measured(host: exuvia.Host) -> None:
    outcome = host.outcome("crossing:echo", {"n": 1}, timeout=5)
    said = outcome.diagnostics
    assert outcome.value == {"n": 1} and said.handler == "crossing:echo" and said.call_id
    (worker,) = host.workers()
    assert (said.worker, said.pid, said.attempts) == (worker.worker, worker.pid, 1)
    assert 0 < said.run_us < 5e6 and 0 <= said.queued_us < 5e6
    assert pickle.loads(pickle.dumps(outcome)) == outcome
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.value = 2  # type: ignore[misc]
    echo = host.target("crossing:echo", timeout=5)
    assert echo.outcome([1]).value == [1]
    with exuvia.Target(f"{CROSSING}:echo") as target:
        assert target.outcome(a=1, b=2).value == {"a": 1, "b": 2}


def test_a_failed_call_says_what_was_copied(host: exuvia.Host) -> None:
    with pytest.raises(exuvia.CallTimeoutError) as caught:
        host.outcome("crossing:sleeps", year(), timeout=0.5)
    (sent,) = caught.value.diagnostics.copies
    assert "memory" in sent.why and caught.value.failure["limit_ms"] == 500
    for call in (host.call, host.outcome):
        with pytest.raises(exuvia.HandlerError, match="AttributeError"):
            call("crossing:total", "text")


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "soon"])
def test_time_limits_of_one_call_are_checked(host: exuvia.Host, wrong: Any) -> None:
    for call in (host.outcome, host.stream):
        with pytest.raises((TypeError, ValueError), match="timeout"):
            call("crossing:echo", 1, timeout=wrong)


# === without pickles ===


def test_plain_values_tables_and_arrays_need_no_pickle() -> None:
    with exuvia.Host(CROSSING, pickle=False) as host:
        for obj in (
            large(),
            np.arange(MANY),
            pl.DataFrame({"x": [1]}),
            {1: (2, {3.5})},
            pa.table({}),
        ):
            expected = {"deep": [obj]}
            check_same(host.call("crossing:echo", {"deep": [obj]}), expected)
            check_same(host.target("crossing:echo")({"deep": [obj]}), expected)
            check_same(host.outcome("crossing:echo", {"deep": [obj]}).value, expected)
        shared = exuvia.share(large())
        check_same(host.call("crossing:echo", [shared]), [large()])
    assert exuvia.call(f"{CROSSING}:echo", [1], pickle=False) == [1]


def test_only_what_a_table_or_array_cannot_hold_needs_a_pickle() -> None:
    refused = set()
    with exuvia.Host(CROSSING, pickle=False) as host:
        for name, make in CASES.items():
            obj = make()
            try:
                got = host.call("crossing:echo", [obj])
            except TypeError:
                refused.add(name)
            else:
                check_same(got, [pickled(obj)])
    assert refused == NEED_PICKLES


class Foo:
    """Something that is neither a value nor a table."""


ODD: list[Any] = [
    Foo(),
    np.array([{}], dtype=object),
    np.float32(1),
    np.ma.masked_array([1]),
    pd.DataFrame({"x": [object()]}),
    pd.DataFrame({"x": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)])),
    pd.Series([1]),
    pd.Timestamp("2024"),
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_without_pickles_anything_else_is_refused_by_the_name_of_its_place(odd: Any) -> None:
    name = type(odd).__name__
    calls: list[Any] = []
    with (
        exuvia.Host(CROSSING, pickle=False) as host,
        exuvia.Target(f"{CROSSING}:echo", pickle=False) as target,
    ):
        echo = host.target("crossing:echo")
        calls = [target, target.outcome, target.stream, echo, echo.outcome, echo.stream]
        calls += [
            lambda *args, **kwargs: exuvia.call(f"{CROSSING}:echo", *args, pickle=False, **kwargs)
        ]
        for call in calls:
            with pytest.raises(TypeError, match=rf'^args\[0\]\["a"\]\[3\]: `.*{name}`'):
                call({"a": [1, 2, 3, odd]})
            with pytest.raises(TypeError, match=rf'^kwargs\["k"\]\[0\]: `.*{name}`'):
                call(k=[odd])


def test_without_pickles_results_are_refused_by_the_name_of_their_place() -> None:
    with exuvia.Host(CROSSING, pickle=False) as host:
        for call in (host.call, host.outcome):
            with pytest.raises(exuvia.ResultError, match=r'result\["a"\]\[3\]') as caught:
                call("crossing:odd")
            assert caught.value.failure["path"] == 'result["a"][3]'
            assert "Foo" in caught.value.failure["message"]
    with pytest.raises(exuvia.ResultError, match=r'result\["a"\]\[3\]'):
        exuvia.call(f"{CROSSING}:odd", pickle=False)


@pytest.mark.parametrize("front", [exuvia.Host, exuvia.Target])
def test_pickle_is_a_switch(front: Any) -> None:
    for wrong in (None, 1, "no"):
        with pytest.raises(TypeError, match="^pickle must be True or False, not"):
            front(f"{CROSSING}:echo", pickle=wrong)
    with pytest.raises(TypeError, match="^pickle must be True or False, not"):
        exuvia.call(f"{CROSSING}:echo", pickle=0)  # type: ignore[arg-type]


# === without end ===


def test_thousands_of_calls_with_tables_leave_nothing_behind(run: Run) -> None:
    done = run(
        """
        import gc
        import numpy as np, pandas as pd
        def at_rest():
            gc.collect()
            with open("/proc/self/statm") as file: pages = int(file.read().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))
        frame = pd.DataFrame({f"c{n}": np.arange(8760.0) for n in range(8)})
        array = frame.to_numpy()
        with exuvia.Host(f"{H}/crossing.py") as host:
            shared = exuvia.share(frame)
            def calls(number):
                for n in range(number):
                    back = host.call("crossing:echo", [frame, array, shared][n % 3])
                    assert back.shape == (8760, 8)
            calls(200)
            before = *at_rest(), *host.call("crossing:at_rest")
            calls(2000)
            after = *at_rest(), *host.call("crossing:at_rest")
            print(*before); print(*after)
        """,
        timeout=110,
    )
    before, after = (list(map(int, line.split())) for line in lines(done))
    for what, one, other in zip(("program", "worker"), before[::2], after[::2], strict=True):
        assert other - one < 20e6, f"the {what} grew by {(other - one) / 1e6:.1f} MB"
    assert after[1::2] == before[1::2], "descriptors"


def test_calls_that_fail_leave_nothing_behind(run: Run) -> None:
    done = run("""
        import gc
        import numpy as np
        array = np.arange(20000.0)
        with exuvia.Host(f"{H}/crossing.py") as host:
            def calls(number):
                for n in range(number):
                    try: host.call("crossing:total", [array])
                    except exuvia.HandlerError: pass
                    try: host.call("crossing:total", array, lambda: 1)
                    except TypeError: pass
            def count():
                gc.collect()
                return len(os.listdir("/proc/self/fd")), host.call("crossing:at_rest")[1]
            calls(5); before = count(); calls(200); print(before == count(), before, count())
    """)
    (said,) = lines(done)
    assert said.startswith("True"), said


# === the module ===


def test_every_class_is_where_it_says_it_is() -> None:
    for name in _native.__all__:
        found = getattr(_native, name)
        if getattr(found, "__module__", None) == "exuvia":
            assert getattr(exuvia, name) is found and name in exuvia.__all__
    for name in exuvia.__all__:
        found = getattr(exuvia, name)
        assert found.__doc__, name


def test_streams_made_of_tables_are_lazy() -> None:
    made = []

    def batches() -> Iterator[Any]:
        for number in range(3):
            made.append(number)
            yield pa.table({"x": [number]})

    schema = pa.schema({"x": pa.int64()})
    stream = exuvia.produce(schema, batches())
    assert isinstance(stream, exuvia.Stream) and made == []
    reader = pa.RecordBatchReader.from_stream(stream)
    assert reader.read_next_batch().to_pydict() == {"x": [0]} and made == [0]
    assert exuvia.consume(exuvia.produce(schema, batches())).columns() == {"x": [0, 1, 2]}
    assert exuvia.consume(pd.DataFrame({"x": [1]}), schema).rows() == [{"x": 1}]
    with pytest.raises(ValueError, match="x"):
        exuvia.consume(pd.DataFrame({"x": ["a"]}), schema)
    with pytest.raises(TypeError):
        exuvia.consume(5)
