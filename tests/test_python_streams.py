"""`Host.stream`: what a generator yields, while it runs."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import exuvia
import numpy as np
import pandas as pd
import pytest
from processes import wait_until
from programs import HANDLERS, Run, lines
from table_cases import check_same

CROSSING = f"{HANDLERS}/crossing.py"
BOTH = ["crossing:counts", "crossing:counts_later"]
KIB = 1 << 10


@pytest.fixture(scope="module")
def host() -> Iterator[exuvia.Host]:
    """One host for the tests that leave it as it was."""
    with exuvia.Host(CROSSING, timeout=60) as host:
        yield host


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file where generators say how far they have come."""
    return tmp_path / "log"


def steps(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def at_rest(log: Path) -> int:
    """How far a generator has come that nobody asks for more."""
    counts = [-1, -2]

    def rests() -> bool:
        counts.append(len(steps(log)))
        time.sleep(0.2)
        return counts[-1] == counts[-2]

    wait_until("the generator to rest", rests)
    return counts[-1]


def is_closed(log: Path) -> Callable[[], bool]:
    return lambda: steps(log)[-1:] == ["closed"]


# === what comes ===


@pytest.mark.parametrize("name", BOTH)
def test_all_that_is_yielded_comes_in_order(host: exuvia.Host, name: str) -> None:
    assert list(host.stream(name, 10_000)) == list(range(10_000))
    assert list(host.stream(name, n=0)) == []
    large = [(n, b"x" * (300 * KIB)) for n in range(20)]
    assert list(host.stream(name, 20, size=300 * KIB)) == large
    target = host.target(name)
    assert list(target.stream(3, timeout=5)) == [0, 1, 2]


def test_a_target_streams(log: Path) -> None:
    with exuvia.Target(f"{CROSSING}:counts") as target:
        assert list(target.stream(3, str(log))) == [0, 1, 2]
        assert list(target.stream(2, path=str(log), timeout=5)) == [0, 1]


@pytest.mark.parametrize("pickle", [True, False])
def test_tables_and_arrays_come_whole(pickle: bool) -> None:
    with exuvia.Host(CROSSING, pickle=pickle) as host:
        for rows in (3, 50_000):
            expected = [
                np.full(rows, n)
                if n % 2
                else {"at": n, "frame": pd.DataFrame({"x": np.full(rows, float(n))})}
                for n in range(6)
            ]
            got = list(host.stream("crossing:frames", 6, rows))
            check_same(got, expected)
            got[1][:] = 5
            assert got[1].sum() == 5 * rows


def test_a_call_gets_all_that_is_yielded_as_a_list(host: exuvia.Host) -> None:
    for name in BOTH:
        assert host.call(name, 3) == [0, 1, 2]
        assert host.outcome(name, 3).value == [0, 1, 2]


def test_results_are_an_iterator(host: exuvia.Host) -> None:
    results = host.stream("crossing:counts", 3)
    assert isinstance(results, exuvia.Results) and isinstance(results, Iterator)
    assert iter(results) is results
    assert next(results) == 0 and list(results) == [1, 2] and list(results) == []
    results.close()
    assert next(results, "over") == "over"


# === when it comes ===


@pytest.mark.parametrize("name", BOTH)
def test_a_generator_waits_while_nobody_reads(host: exuvia.Host, name: str, log: Path) -> None:
    with host.stream(name, 1000, str(log), 64 * KIB) as results:
        assert next(results)[0] == 0
        ahead = at_rest(log)
        assert ahead < 50
        for number in range(1, 20):
            assert next(results)[0] == number
        wait_until("it to go on", lambda: len(steps(log)) > ahead)
        assert at_rest(log) < ahead + 50
        assert host.call("crossing:counts_later", 1) == [0], "its worker does other things"


@pytest.mark.parametrize("name", BOTH)
def test_what_is_small_is_not_made_far_ahead_either(
    host: exuvia.Host, name: str, log: Path
) -> None:
    with host.stream(name, 1_000_000, str(log)) as results:
        assert next(results) == 0
        assert at_rest(log) < 100_000


@pytest.mark.parametrize("name", ["crossing:late", "crossing:late_later"])
def test_the_first_value_is_there_before_the_last_is_made(name: str) -> None:
    with exuvia.Host(CROSSING) as host:
        before = time.monotonic()
        assert next(host.stream(name, 1)) == 0
        assert time.monotonic() - before < 20


# === how it ends ===


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("way", ["close", "with", "drop", "break"])
def test_a_reader_that_leaves_ends_the_generator(
    host: exuvia.Host, name: str, way: str, log: Path
) -> None:
    results = host.stream(name, 1_000_000, str(log))
    assert next(results) == 0
    if way == "close":
        results.close()
        results.close()
        assert list(results) == []
    elif way == "with":
        with results:
            pass
    elif way == "break":
        with results:
            for number in results:
                if number == 5:
                    break
    del results
    gc.collect()
    wait_until("the generator to be closed", is_closed(log))
    assert len(steps(log)) < 100_000
    assert host.call("crossing:counts", 2) == [0, 1]


@pytest.mark.parametrize("name", ["crossing:raises", "crossing:raises_later"])
def test_what_it_raises_comes_after_what_it_yielded(host: exuvia.Host, name: str) -> None:
    for number in (1, 2, 2000):
        results = host.stream(name, number)
        assert [next(results) for _ in range(number)] == list(range(number))
        with pytest.raises(exuvia.HandlerError, match="midway") as caught:
            next(results)
        assert (
            caught.value.diagnostics.handler == name and "raise KeyError" in caught.value.traceback
        )
        assert list(results) == [], "it is over"


@pytest.mark.parametrize("name", ["crossing:raises", "crossing:raises_later"])
def test_what_raises_before_its_first_value_fails_at_once(host: exuvia.Host, name: str) -> None:
    with pytest.raises(exuvia.HandlerError, match="midway"):
        host.stream(name, 0)


@pytest.mark.parametrize("name", ["crossing:late", "crossing:late_later"])
def test_a_generator_has_its_time_limit(name: str) -> None:
    with exuvia.Host(CROSSING, timeout=60) as host:
        results = host.stream(name, 3, timeout=1.5)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(exuvia.CallTimeoutError) as caught:
            next(results)
        assert caught.value.failure["limit_ms"] == 1500
        assert host.call("crossing:echo", 1) == 1
        # Also while it waits for its reader.
        results = host.stream("crossing:counts", 1000, timeout=1.0, size=64 * KIB)
        assert next(results)[0] == 0
        time.sleep(1.5)
        with pytest.raises(exuvia.CallTimeoutError):
            list(results)
        assert host.call("crossing:echo", 1) == 1


def test_what_cannot_be_sent_says_which_it_was() -> None:
    with exuvia.Host(CROSSING, pickle=False) as host:
        results = host.stream("crossing:odd_third")
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(exuvia.ResultError, match=r"result\[2\]\[0\]") as caught:
            next(results)
        assert caught.value.failure["path"] == "result[2][0]"
        assert host.call("crossing:echo", 1) == 1


def test_what_is_no_generator_is_a_type_error(host: exuvia.Host) -> None:
    for name in ("crossing:echo", "crossing:wide"):
        with pytest.raises(TypeError, match=f"{name} .*generator"):
            host.stream(name, 3, 4)
    assert host.call("crossing:echo", 1) == 1


def test_what_cannot_begin_raises_at_once(host: exuvia.Host) -> None:
    with pytest.raises(exuvia.InputError):
        host.stream("crossing:counts")
    with pytest.raises(ValueError, match="no handler"):
        host.stream("crossing:count", 3)
    with pytest.raises(TypeError, match=r"^args\[0\]: "):
        host.stream("crossing:counts", threading.Lock())


def test_a_crash_midway_is_told() -> None:
    with exuvia.Host(CROSSING) as host:
        results = host.stream("crossing:crashes", 2)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(exuvia.WorkerCrashedError, match="SIGABRT"):
            next(results)
        assert list(host.stream("crossing:counts", 2)) == [0, 1]


@pytest.mark.parametrize("name", BOTH)
def test_a_host_that_is_closed_ends_its_streams(name: str) -> None:
    with exuvia.Host(CROSSING) as host:
        results = host.stream(name, 1000, size=64 * KIB)
        assert next(results)[0] == 0
    with pytest.raises(exuvia.CallError):
        list(results)
    assert list(results) == []


# === several ===


def test_a_stream_keeps_its_workers() -> None:
    results = exuvia.Target(f"{CROSSING}:counts").stream(1000, size=8 * KIB)
    gc.collect()
    assert [value[0] for value in results] == list(range(1000))


def test_two_streams_at_once_on_two_workers(tmp_path: Path) -> None:
    with exuvia.Host(CROSSING, workers=2) as host:
        assert host.wait_ready(60)
        streams = [host.stream("crossing:counts", 500, size=8 * KIB) for _ in range(2)]
        for one, other in zip(*streams, strict=True):
            assert one == other


def test_many_streams_of_tasks_at_once_on_one_worker(host: exuvia.Host) -> None:
    streams = [host.stream("crossing:counts_later", 200, size=4 * KIB) for _ in range(20)]
    for number, values in enumerate(zip(*streams, strict=True)):
        assert {value[0] for value in values} == {number}


def test_a_second_generator_waits_for_the_first_of_its_worker(host: exuvia.Host) -> None:
    with ThreadPoolExecutor(1) as threads:
        with host.stream("crossing:counts", 1000, size=64 * KIB) as first:
            assert next(first)[0] == 0
            second = threads.submit(lambda: list(host.stream("crossing:counts", 3)))
            time.sleep(0.3)
            assert not second.done()
        assert second.result(30) == [0, 1, 2]


def test_threads_may_share_a_stream(host: exuvia.Host) -> None:
    results = host.stream("crossing:counts", 400, size=100 * KIB)
    lock = threading.Lock()

    def some() -> list[int]:
        got: list[int] = []
        while True:
            with lock:
                value = next(results, None)
            if value is None:
                return got
            got.append(value[0])

    with ThreadPoolExecutor(4) as threads:
        parts = [threads.submit(some) for _ in range(4)]
    assert sorted(number for part in parts for number in part.result()) == list(range(400))


def test_two_threads_at_once_get_each_value_once_or_are_refused(host: exuvia.Host) -> None:
    results = host.stream("crossing:counts", 300, size=100 * KIB)
    refused = 0

    def some() -> list[int]:
        nonlocal refused
        got: list[int] = []
        while True:
            try:
                value = next(results, None)
            except ValueError:  # as of a generator that runs already
                refused += 1
                continue
            if value is None:
                return got
            assert value[1] == b"x" * (100 * KIB)
            got.append(value[0])

    with ThreadPoolExecutor(4) as threads:
        parts = [threads.submit(some) for _ in range(4)]
    assert sorted(number for part in parts for number in part.result()) == list(range(300))


# === a program's life ===


def test_a_program_may_end_in_the_middle(run: Run) -> None:
    done = run("""
        host = exuvia.Host(f"{H}/crossing.py")
        results = host.stream("crossing:counts", 10**6, size=1 << 16)
        print(next(results)[0])
    """)
    assert lines(done) == ["0"]


def test_a_forked_child_cannot_read_on_and_does_no_harm(run: Run) -> None:
    done = run("""
        import warnings
        warnings.simplefilter("ignore")  # Python's own about fork() with threads
        host = exuvia.Host(f"{H}/crossing.py")
        results = host.stream("crossing:counts", 100, size=1 << 16)
        # Often, as other threads of the program hold locks now and then.
        said = []
        for _ in range(30):
            next(results)
            if (pid := os.fork()) == 0:
                try: next(results)
                except RuntimeError: del results; os._exit(7)
                os._exit(0)
            said.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        print(said == [7] * 30, len(list(results)))
    """)
    assert lines(done) == ["True 70"]


def test_ctrl_c_is_heard_while_a_stream_waits(run: Run) -> None:
    done = run("""
        import signal, threading
        with exuvia.Host(f"{H}/crossing.py") as host:
            results = host.stream("crossing:late", 1)
            print(next(results))
            threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            try: next(results)
            except KeyboardInterrupt: print("interrupted")
            results.close()
    """)
    assert lines(done) == ["0", "interrupted"]


def test_streams_leave_nothing_behind(run: Run) -> None:
    done = run("""
        import gc
        def count():
            gc.collect()
            return len(os.listdir("/proc/self/fd")), host.call("crossing:at_rest")[1]
        def some(number):
            for n in range(number):
                assert len(list(host.stream("crossing:frames", 4, 20_000))) == 4
                with host.stream("crossing:counts", 100, size=1 << 16) as results: next(results)
                assert len(list(host.stream("crossing:counts_later", 3))) == 3
                try: list(host.stream("crossing:raises", 1))
                except exuvia.HandlerError: pass
        with exuvia.Host(f"{H}/crossing.py") as host:
            some(10); before = count(); some(100); after = count()
            print(before == after, before, after)
    """)
    (said,) = lines(done)
    assert said.startswith("True"), said
