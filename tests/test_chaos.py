"""Workers die at random, and nobody but their own calls suffers."""

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

from conftest import Serve
from processes import Answer, Server, alive, stat_of, wait_until

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
        workers = [pid for pid in server.children() if is_worker(server, pid)]
        if workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
            killed += 1
    return killed


def is_worker(server: Server, pid: int) -> bool:
    stat = stat_of(pid)
    return stat is not None and stat.parent == server.pid


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
    victim = next(pid for pid in server.children() if is_worker(server, pid))
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
    workers = server.children()
    assert len(workers) >= 2
    os.kill(server.pid, signal.SIGKILL)
    wait_until("the workers to end", lambda: not any(alive(pid) for pid in workers))
