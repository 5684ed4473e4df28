"""Workers are replaced, and nobody who calls them is kept waiting (docs/processes.md 7)."""

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path

import pytest
from conftest import Serve
from processes import Server, alive, wait_until

LEAKY = Path(__file__).parent / "handlers" / "leaky.py"

# Of the module of the handlers: what a call would wait for if no worker were ready.
IMPORT_SECONDS = 1.0

CALLS = 500
PAUSE = 0.02

MIB = 1 << 20


def wait_for_workers(server: Server, ready: int, size: int | None = None) -> None:
    words = f"{ready} of {size or ready} workers ready"
    wait_until(words, lambda: words in server.get("/readyz").body.decode(), 30)


def nap(server: Server, ms: float = 0, handler: str = "nap") -> int:
    """Call; give the process that answered."""
    answer = server.post(f"/leaky/{handler}", {"ms": ms})
    assert answer.status == 200, answer.body
    pid = answer.json()
    assert isinstance(pid, int)
    return pid


def ended(pid: int) -> bool:
    return not alive(pid)


def has_more(pids: list[int], number: int) -> Callable[[], bool]:
    """Whether so many have come from now on."""
    wanted = len(pids) + number
    return lambda: len(pids) >= wanted


def timed(call: Callable[[], int]) -> tuple[int, float]:
    """What it gives, and how long it took."""
    sent = time.monotonic()
    return call(), time.monotonic() - sent


@contextmanager
def under_load(server: Server, clients: int = 3) -> Iterator[list[int]]:
    """Calls without a pause until the block ends, none of which may fail. Gives who answered."""
    over = threading.Event()
    pids: list[int] = []

    def client() -> None:
        while not over.is_set():
            pids.append(nap(server, 2))

    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(client) for _ in range(clients)]
        try:
            yield pids
        finally:
            over.set()
        for each in running:
            each.result()


# === memory ===


def test_a_leak_costs_no_call_and_no_call_waits_for_an_import(serve: Serve) -> None:
    """processes.md 7.1, 7.2 and 7.6: 5 MB leak with each call, a worker may have 300 MiB."""
    server = serve(LEAKY, args=["--workers", "1", "--max-rss", "300MiB"])
    wait_for_workers(server, 1)
    slowest, pids = 0.0, []
    for _ in range(CALLS):
        answer, took = timed(lambda: server.post("/leaky/leaks", {"megabytes": 5}).json())
        slowest = max(slowest, took)
        pids.append(answer)
        time.sleep(PAUSE)
    assert all(isinstance(pid, int) for pid in pids), "a call failed"
    assert slowest < IMPORT_SECONDS, f"a call waited for an import: {slowest:.3f} s"
    # The fresh one took over from the old one: no process comes back.
    turns = [pid for pid, _ in groupby(pids)]
    assert len(turns) == len(set(turns)) >= 4
    wait_until("the last to leave", lambda: len(server.workers()) == 1)
    restarts = server.restarts()
    assert restarts.keys() == {"rss"} and restarts["rss"] >= 3


# === calls and age ===


def test_max_calls_replaces_a_worker_that_answers_until_the_next_is_ready(serve: Serve) -> None:
    """processes.md 7.1 and 7.2."""
    args = ["--workers", "1", "--max-calls", "10", "--recycle-jitter", "0%"]
    server = serve(LEAKY, args=args)
    pids: list[int] = []
    while len(set(pids)) < 4:
        pid, took = timed(lambda: nap(server))
        assert took < IMPORT_SECONDS
        pids.append(pid)
        time.sleep(PAUSE)
    turns = [len(list(group)) for _, group in groupby(pids)]
    assert len(turns) == len(set(pids)), "one that left came back"
    # Ten calls, and what came while another was importing.
    assert all(turn > 10 for turn in turns[:-1]), turns
    assert server.restarts().keys() == {"calls"}


def test_max_calls_and_lifetime_are_shortened_for_each_worker(serve: Serve) -> None:
    """processes.md 7.1: by up to `recycle-jitter`, so that not all go at once."""
    args = ["--workers", "8", "--lifetime", "8s", "--recycle-jitter", "100%"]
    server = serve(LEAKY, args=args)
    wait_for_workers(server, 8)
    first = server.workers()
    ends: dict[int, float] = {}
    began = time.monotonic()
    while len(ends) < len(first):
        assert time.monotonic() - began < 60, "their lifetime does not end"
        for pid in first:
            if pid not in ends and not alive(pid):
                ends[pid] = time.monotonic() - began
        time.sleep(0.05)
    # Eight even draws of 8 s lie within 1 s of each other in one of 250,000 runs.
    assert max(ends.values()) - min(ends.values()) > 1, ends
    assert server.restarts().keys() == {"lifetime"}


@pytest.mark.parametrize("end", ["--max-calls", "--lifetime"])
def test_calls_that_run_are_finished_and_those_that_wait_go_to_the_next(
    serve: Serve, end: str
) -> None:
    """processes.md 7.2: with calls behind a long one in the worker that is to go."""
    limit = ["--max-calls", "1"] if end == "--max-calls" else ["--lifetime", "1s"]
    server = serve(LEAKY, args=["--workers", "1", "--recycle-jitter", "0%", *limit])
    wait_for_workers(server, 1)
    with ThreadPoolExecutor(12) as threads:
        # The worker reaches its limit by the first, or while the second runs.
        first = threads.submit(nap, server, 0)
        old = first.result()
        long: Future[int] = threads.submit(nap, server, 6000)
        time.sleep(0.2)
        rest = [threads.submit(nap, server, 1) for _ in range(10)]
        others = {each.result(20) for each in rest}
        assert not long.done(), "they waited for the long one"
        assert long.result(20) == old
    assert old not in others
    wait_until("the old one to end", lambda: not alive(old))


def test_tasks_of_a_loop_are_finished_before_its_worker_ends(serve: Serve) -> None:
    """processes.md 7.2: for async handlers, of which many run."""
    args = ["--workers", "1", "--max-calls", "1", "--recycle-jitter", "0%"]
    server = serve(LEAKY, args=args)
    wait_for_workers(server, 1)
    with ThreadPoolExecutor(20) as threads:
        long = [threads.submit(nap, server, 5000, "naps") for _ in range(10)]
        time.sleep(0.3)
        old = nap(server, 0, "naps")
        wait_until("another", lambda: nap(server, 0, "naps") != old)
        assert not any(each.done() for each in long)
        assert {each.result() for each in long} == {old}
    wait_until("the old one to end", lambda: not alive(old))


# === no replacement ===

FICKLE = """
import os
from pathlib import Path

if Path(__file__).with_name("refuse").exists():
    raise RuntimeError("not today")

kept = []

def pid():
    kept.append(b"x" * (1 << 20))
    return os.getpid()
"""


@pytest.mark.parametrize("limit", [["--max-calls", "1"], ["--max-rss", "60MiB"]])
def test_a_pool_does_not_lose_its_last_worker_to_a_limit(
    serve: Serve, tmp_path: Path, limit: list[str]
) -> None:
    """processes.md 7.3: the old one stays while no fresh one gets ready."""
    tmp_path.joinpath("fickle.py").write_text(FICKLE)
    refuse = tmp_path / "refuse"
    args = ["--workers", "1", "--recycle-jitter", "0%", *limit]
    server = serve(tmp_path / "fickle.py", args=args)
    refuse.touch()
    # A fresh one may be there already: from the one after it on, none is.
    wait_until("starts that fail", lambda: failed_starts_after_a_call(server) > 2, 30)
    pids = {server.post("/fickle/pid").json() for _ in range(50)}
    assert len(pids) == 1
    refuse.unlink()
    wait_until("a fresh one", lambda: server.post("/fickle/pid").json() not in pids, 30)


def failed_starts_after_a_call(server: Server) -> int:
    assert server.post("/fickle/pid").status == 200
    return server.restarts().get("start", 0)


# === spares ===


def test_a_spare_takes_the_place_of_one_that_ends_without_a_wait(serve: Serve) -> None:
    """processes.md 7.4 and 6.1: it was imported before."""
    server = serve(LEAKY, args=["--workers", "1", "--spares", "1"])

    def rested() -> bool:
        found = server.metrics()
        states = [found.get(f'exuvia_workers{{state="{state}"}}') for state in ("ready", "spare")]
        return states == [1, 1]

    for _ in range(3):
        wait_until("a worker and a spare", rested, 30)
        pid = nap(server)
        (spare,) = set(server.workers()) - {pid}
        assert {nap(server) for _ in range(10)} == {pid}, "a spare takes no calls"
        os.kill(pid, signal.SIGKILL)
        wait_until("it to end", partial(ended, pid))
        answered, took = timed(lambda: nap(server))
        assert answered == spare
        assert took < IMPORT_SECONDS, f"the call waited for an import: {took:.3f} s"


# === size ===


def test_a_pool_grows_and_shrinks_under_load_without_losing_a_call(serve: Serve) -> None:
    """processes.md 7.5."""
    server = serve(LEAKY, args=["--workers", "2"])
    wait_for_workers(server, 2)
    sizes = [3, 4, 3, 2, 1, 2]
    with under_load(server) as pids:
        size = 2
        for wanted in sizes:
            number = signal.SIGTTIN if wanted > size else signal.SIGTTOU
            os.kill(server.pid, number)
            wait_for_workers(server, wanted)
            size = wanted
            wait_until("more calls", has_more(pids, 20))
    wait_until("the rest to leave", lambda: len(server.workers()) == size)
    assert len(set(pids)) >= 4
    assert server.restarts() == {}, "none was replaced, and none died"


def test_replacing_under_load_loses_no_call(serve: Serve) -> None:
    """processes.md 7.2 with every limit at once, several workers and a spare."""
    args = ["--workers", "2", "--spares", "1", "--max-calls", "20", "--lifetime", "2s"]
    server = serve(LEAKY, args=[*args, "--max-rss", "300MiB"])
    wait_for_workers(server, 2)
    with under_load(server, 6) as pids:
        wait_until("ten workers", lambda: len(set(pids)) >= 10, 60)
    assert set(server.restarts()) <= {"calls", "lifetime"}


def test_the_handlers_take_as_long_to_import_as_these_tests_think() -> None:
    """Otherwise the times above would prove nothing."""
    spec = importlib.util.spec_from_file_location("leaky", LEAKY)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    began = time.monotonic()
    spec.loader.exec_module(module)
    assert module.IMPORT_SECONDS == IMPORT_SECONDS <= time.monotonic() - began
