"""Workers, zygotes and hosts die at random, and nobody but their own calls suffers."""

import http.client
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from conftest import Serve
from processes import (
    Answer,
    Server,
    alive,
    held_at_rest,
    serving,
    wait_for_rest,
    wait_until,
    zombies_of,
)
from programs import lines, programs, to_the_end

UNRULY = Path(__file__).parent / "handlers" / "unruly.py"

SECONDS = 20
PER_SECOND = 200
CLIENTS = 20


class Load:
    """A steady stream of calls; each answer is kept."""

    def __init__(self, server: Server, path: str) -> None:
        self.server = server
        self.path = path
        self.answers: list[tuple[int, Answer, float]] = []
        self.errors: list[str] = []
        self._next = 0
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def run(self) -> None:
        threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self) -> None:
        while (tag := self._take()) is not None:
            pause = self._began + tag / PER_SECOND - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            sent = time.monotonic()
            try:
                answer = self.server.post(self.path, {"ms": 6, "tag": tag}, timeout=15)
            except OSError as error:
                self.errors.append(f"{tag}: {error!r}")
                continue
            self.answers.append((tag, answer, time.monotonic() - sent))

    def _take(self) -> int | None:
        with self._lock:
            tag = self._next
            self._next += 1
        return tag if tag < SECONDS * PER_SECOND else None


def kill_workers(server: Server, until: threading.Event) -> int:
    """Kill a random worker every second; give how many were."""
    chance = random.Random(3)
    killed = 0
    while not until.wait(1.0):
        if workers := server.workers():
            os.kill(chance.choice(workers), signal.SIGKILL)
            killed += 1
    return killed


def test_under_load_a_kill_every_second_costs_only_the_calls_that_ran_in_the_killed_worker(
    serve: Serve,
) -> None:
    server = serve(UNRULY, args=["--workers", "2", "--timeout", "10s"])
    load = Load(server, "/unruly/nap")
    over = threading.Event()
    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(kill_workers(server, over)))
    killer.start()
    load.run()
    over.set()
    killer.join()

    assert load.errors == [], "a call hung or lost its connection"
    assert len(load.answers) == SECONDS * PER_SECOND
    failed = [answer for _, answer, _ in load.answers if answer.status != 200]
    # A sync handler runs one call at a time, so a kill costs one call at most.
    assert killed[0] >= SECONDS // 2
    assert len(failed) <= killed[0], Counter(answer.body for answer in failed)
    assert failed, "no kill ever hit a running call: the test proves nothing"
    for answer in failed:
        body = answer.json()
        assert "SIGKILL" in body["detail"], body
        if body["type"] == "urn:exuvia:problem:crash":
            assert body["signal"] == "SIGKILL"
        else:
            # It had run, and died on the way out.
            assert body["type"] == "urn:exuvia:problem:worker_lost", body
    for tag, answer, took in load.answers:
        assert took < 10, f"call {tag} hung"
        if answer.status == 200:
            assert answer.json()["tag"] == tag
    wait_until("both workers to be back", lambda: server.get("/readyz").status == 200)


def test_async_calls_of_a_killed_worker_all_name_the_signal_and_the_rest_go_on(
    serve: Serve,
) -> None:
    server = serve(UNRULY, args=["--workers", "2"])
    wait_until("both workers", lambda: b"2 of 2" in server.get("/readyz").body)
    answers: list[Answer] = []
    post = lambda: answers.append(server.post("/unruly/naps", {"ms": 1500}))  # noqa: E731
    threads = [threading.Thread(target=post) for _ in range(20)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    for thread in threads:
        thread.join()
    failed = [answer.json() for answer in answers if answer.status != 200]
    pids = {answer.json()["pid"] for answer in answers if answer.status == 200}
    assert victim not in pids
    assert 0 < len(failed) < 20
    assert all(body["signal"] == "SIGKILL" for body in failed), failed


def test_workers_do_not_outlive_a_killed_host(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "2"])
    wait_until("both workers", lambda: b"2 of 2" in server.get("/readyz").body)
    workers = server.workers()
    assert len(workers) == 2
    os.kill(server.pid, signal.SIGKILL)
    wait_until("the workers to end", lambda: not any(alive(pid) for pid in workers))


# === every member of the tree ===

KILLS = 1000
PAUSE = 0.01
WORKERS = 4

# What becomes of a call whose worker is killed. It had begun, or ran, or was answering.
LOST = {"urn:exuvia:problem:crash", "urn:exuvia:problem:worker_lost"}

HOSTS = 20
# The part of the rest that is of zygotes.
ZYGOTES = 0.06


class Callers:
    """Calls without a pause from several threads, and what became of them."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.answers: Counter[str] = Counter()
        self.errors: list[tuple[float, Exception]] = []
        self.slowest = 0.0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def _run(self) -> None:
        while not self._over.is_set():
            sent = time.monotonic()
            try:
                self._tell(self.server.post("/unruly/nap", {"ms": 1}, timeout=30))
            except (OSError, http.client.HTTPException) as error:
                self.errors.append((time.monotonic(), error))
                time.sleep(0.01)
            self.slowest = max(self.slowest, time.monotonic() - sent)

    def _tell(self, answer: Answer) -> None:
        kind = "answered" if answer.status == 200 else answer.json()["type"]
        self.answers[kind] += 1

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def check(self, until: float) -> None:
        """Every call up to then was answered, or failed as data; none hung."""
        assert set(self.answers) <= LOST | {"answered"}, self.answers
        lost = [error for when, error in self.errors if when < until]
        assert not lost, f"without an answer: {lost}"
        assert not [each for _, each in self.errors if isinstance(each, TimeoutError)], "one hung"
        assert self.slowest < 20


@contextmanager
def calling(server: Server) -> Iterator[Callers]:
    """Call until the block ends."""
    callers = Callers(server)
    callers.start()
    try:
        yield callers
    finally:
        callers.stop()


def is_whole(server: Server) -> bool:
    """Whether all workers and the zygote are there, and no dead ones."""
    there = (len(server.workers()), len(server.zygotes())) == (WORKERS, 1)
    ready = f"{WORKERS} of {WORKERS}".encode() in server.get("/readyz").body
    return there and ready and not zombies_of(server.pid)


def has_ready(server: Server) -> bool:
    """Whether some worker takes calls."""
    return server.get("/readyz").status == 200


def kill_one(server: Server, chance: random.Random) -> str:
    """Kill a random worker or zygote; say which."""
    name = "zygote" if chance.random() < ZYGOTES else "worker"
    members = server.zygotes() if name == "zygote" else server.workers()
    if not members:
        return ""
    os.kill(chance.choice(members), signal.SIGKILL)
    return name


def kill_some(server: Server, chance: random.Random, kills: int) -> Counter[str]:
    """Kill so many of its workers and zygotes."""
    killed: Counter[str] = Counter()
    while killed.total() < kills:
        # Starts that come to nothing are spaced out: on a slow machine none would ever be ready.
        wait_until("a worker", partial(has_ready, server), 30)
        if one := kill_one(server, chance):
            killed[one] += 1
        time.sleep(PAUSE)
    return killed


def kill_the_host(server: Server) -> None:
    """Kill it under load, with workers and a zygote on their way."""
    with calling(server) as callers:
        time.sleep(0.1)
        for pid in server.workers()[1:] + server.zygotes():
            os.kill(pid, signal.SIGKILL)
        tree = server.children()
        ended = time.monotonic()
        os.kill(server.pid, signal.SIGKILL)
        wait_until("its tree to be gone", lambda: not server.survivors(), 1.0)
        assert not any(map(alive, tree))
    callers.check(ended)


@pytest.mark.timeout(300)
def test_a_thousand_kills_of_random_members_of_the_tree_leave_nothing(
    exuvia_bin: Path, project_python: Path
) -> None:
    """processes.md 2.3, 6.1, 6.2, 6.4 and 6.7, under load."""
    command = [str(exuvia_bin), "serve", str(UNRULY), "--port", "0"]
    command += ["--python", str(project_python), "--workers", str(WORKERS)]
    chance = random.Random(5)
    killed: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    for _ in range(HOSTS):
        with serving(command) as server:
            wait_until("the tree", partial(is_whole, server), 60)
            before = held_at_rest(server.pid)
            kills = KILLS // HOSTS - WORKERS - 1
            with calling(server) as callers:
                killed += kill_some(server, chance, kills)
            callers.check(time.monotonic())
            answers += callers.answers
            wait_until("the tree to be whole", partial(is_whole, server), 60)
            wait_for_rest(server.pid, before)
            kill_the_host(server)
            killed += Counter(host=1, worker=WORKERS - 1, zygote=1)
    assert killed.total() == KILLS
    assert killed["zygote"] >= 3 * HOSTS, killed
    # Otherwise the kills hit nothing, or nothing else.
    assert sum(answers[kind] for kind in LOST) > HOSTS, answers
    assert answers["answered"] > KILLS, answers


# === between a fork and its answer ===

# In the zygote: as many deaths as a file says, each right after a fork, before the host hears of
# it. In the fork: time to become a worker, so that its maker's death is noticed first.
FATAL = """
import os, pathlib, signal, time
here = pathlib.Path(__file__).parent
def dies():
    left = int(here.joinpath("left").read_text())
    if left > 0:
        here.joinpath("left").write_text(str(left - 1))
        os.kill(os.getpid(), signal.SIGKILL)
def lingers():
    with here.joinpath("forks").open("a") as file:
        print(os.getpid(), file=file)
    time.sleep({seconds})
os.register_at_fork(after_in_parent=dies, after_in_child=lingers)
"""


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_a_fork_that_nobody_heard_of_ends_and_is_buried(
    serve: Serve, tmp_path: Path, seconds: float
) -> None:
    """processes.md 6.3: the zygote dies each time just before it can answer."""
    (tmp_path / "fatal.py").write_text(FATAL.format(seconds=seconds))
    (tmp_path / "left").write_text("0")
    env = {"PYTHONPATH": str(tmp_path)}
    server = serve(UNRULY, args=["--workers", "1", "--preload", "fatal"], env=env)
    before = held_at_rest(server.pid)
    for _ in range(3):
        (tmp_path / "forks").unlink()
        (tmp_path / "left").write_text("2")
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        assert server.post("/unruly/nap").status == 200
        assert (tmp_path / "left").read_text() == "0"
        *lost, known = map(int, (tmp_path / "forks").read_text().split())
        assert len(lost) == 2 and server.workers() == [known]
        wait_until("no trace of the others", partial(are_gone, lost))
    wait_until("a zygote", server.zygotes)
    wait_for_rest(server.pid, before)


def are_gone(pids: list[int]) -> bool:
    """Whether none is there, not as a zombie either."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


# A host whose zygotes are killed as soon as they fork, while every call costs a worker.
HUNTED = """
import random, signal, threading
sys.path.insert(0, H + "/..")
from processes import held_at_rest, wait_for_rest, wait_until, zombies_of
host = exuvia.Host(H + "/shed.py:pid", workers=4, max_calls=1, jitter=0)
assert host.wait_ready(60)
before = held_at_rest(os.getpid())
over = threading.Event()
called = []
def call():
    while not over.is_set():
        called.append(host.call("shed:pid"))
threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads: thread.start()
chance = random.Random(7)
killed = 0
while killed < {kills}:
    zygote = host.image.zygote
    if zygote is None:
        time.sleep(0.002)
        continue
    # It is ready: a fork takes a millisecond or two, and there is always one to make.
    time.sleep(chance.random() * 0.02)
    os.kill(zygote, signal.SIGKILL)
    killed += 1
    wait_until("its end", lambda: host.image.zygote != zygote)
over.set()
for thread in threads: thread.join()
wait_until("a zygote", lambda: host.image.zygote is not None, 40)
assert host.wait_ready(60)
wait_until("no zombie", lambda: not zombies_of(os.getpid()))
wait_until("the rest to leave", lambda: len(host.workers()) == 4)
wait_for_rest(os.getpid(), before)
print(host.image.start_method, len(called) > killed, len(set(called)) > killed / 2)
"""


@pytest.mark.timeout(300)
def test_zygotes_killed_while_they_fork_leave_nothing(project_python: Path, tmp_path: Path) -> None:
    """processes.md 6.2, 6.3 and 6.7: a hundred times, and no call fails."""
    with programs(project_python, tmp_path) as start:
        done = to_the_end(start)(HUNTED.format(kills=100), timeout=200)
    assert lines(done) == ["fork True True"]
