"""Signals to `exuvia serve` that change the number of workers (processes.md 7.5), and its life as
PID 1 (processes.md 6.6)."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from conftest import Serve
from processes import Answer, Server, all_processes, serving, stat_of, wait_until

UNRULY = Path(__file__).parent / "handlers" / "unruly.py"

DAEMONS = """
import ctypes, os, subprocess

def leaves(seconds: float = 300) -> int:
    '''Leave a daemon behind: in a session of its own, its parent gone.'''
    script = f"setsid sleep {seconds} >/dev/null 2>&1 </dev/null & echo $!"
    return int(subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout)

def host() -> int:
    return os.getppid()

def segfaults() -> None:
    ctypes.string_at(0)
"""


def workers_ready(server: Server, ready: int, size: int) -> bool:
    """Whether `/readyz` counts so many."""
    return f"{ready} of {size} workers ready" in server.get("/readyz").body.decode()


def wait_for_workers(server: Server, count: int) -> None:
    """Wait until there are to be so many workers and all are ready."""
    wait_until(f"{count} workers", lambda: workers_ready(server, count, count), 30.0)


# === more and fewer ===


def test_sigttin_adds_a_worker_and_sigttou_takes_one_but_never_the_last(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1"])
    wait_for_workers(server, 1)
    alone = len(server.children())
    for count in (2, 3):
        os.kill(server.pid, signal.SIGTTIN)
        wait_for_workers(server, count)
    assert len(server.children()) == alone + 2
    for count in (2, 1):
        os.kill(server.pid, signal.SIGTTOU)
        wait_for_workers(server, count)
    wait_until("two workers to leave", lambda: len(server.children()) == alone)
    os.kill(server.pid, signal.SIGTTOU)
    wait_until("the log", lambda: server.log().count("one worker less (SIGTTOU)") == 3)
    assert server.log().count("one worker more (SIGTTIN)") == 2
    assert workers_ready(server, 1, 1)
    assert server.post("/unruly/echoes", {"value": 7}).json() == 7


def test_a_worker_that_is_taken_away_ends_its_calls_first(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "3"])
    wait_for_workers(server, 3)
    answers: list[Answer] = []

    def post() -> None:
        answers.append(server.post("/unruly/nap", {"ms": 1500}))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    for count in (2, 1):
        os.kill(server.pid, signal.SIGTTOU)
        wait_until(f"a size of {count}", partial(workers_ready, server, count, count))
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 4
    assert len({answer.json()["pid"] for answer in answers}) == 3, "not all workers were busy"


# === PID 1 ===


@pytest.fixture(scope="session")
def namespace() -> list[str]:
    """Words before a command that make it PID 1; the test is skipped where that is refused."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    try:
        done = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode != 0:
        pytest.skip(f"no PID namespace here: {done.stderr.strip()}")
    return words


class First:
    """A server that is PID 1 in its namespace."""

    def __init__(self, server: Server) -> None:
        self.server = server
        # `unshare` itself stays outside, with the server as its only child.
        self.pid = next(pid for pid in all_processes() if parent_of(pid) == server.pid)

    def adopted(self) -> list[int]:
        """Its running children that are no workers, nor what those are forked from."""
        return [
            pid
            for pid in all_processes()
            if parent_of(pid) == self.pid and "sleep" in command_of(pid)
        ]


@pytest.fixture
def first(
    namespace: list[str], exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> Iterator[First]:
    """Serve the daemons as PID 1."""
    (tmp_path / "daemons.py").write_text(DAEMONS)
    command = [*namespace, str(exuvia_bin), "serve", str(tmp_path / "daemons.py"), "--port", "0"]
    command += ["--python", str(project_python), "--workers", "2"]
    with serving(command, cwd=tmp_path) as server:
        wait_for_workers(server, 2)
        inside = First(server)
        yield inside
        # `unshare` hands no signal on, and ends with what it started.
        with suppress(ProcessLookupError):
            os.kill(inside.pid, signal.SIGTERM)


def parent_of(pid: int) -> int | None:
    stat = stat_of(pid)
    return None if stat is None else stat.parent


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def there(pid: int) -> bool:
    """Whether the process exists, be it as a zombie."""
    return Path(f"/proc/{pid}").exists()


def test_as_pid_1_it_buries_what_handlers_left_behind_and_mourns_its_own_workers(
    first: First,
) -> None:
    server = first.server
    assert server.post("/daemons/host").json() == 1, "the server is not PID 1"
    for _ in range(5):
        assert server.post("/daemons/leaves").status == 200
    wait_until("five orphans", lambda: len(first.adopted()) == 5)
    orphans = first.adopted()
    for number, orphan in enumerate(orphans):
        os.kill(orphan, signal.SIGKILL)
        if number % 2:
            # A worker's end is still seen by who looks after it.
            assert server.post("/daemons/segfaults").json()["signal"] == "SIGSEGV"
    wait_until("the orphans to be buried", lambda: not any(map(there, orphans)))
    wait_for_workers(server, 2)


def test_as_pid_1_it_drains_at_sigterm(first: First) -> None:
    server = first.server
    assert server.post("/daemons/leaves").status == 200
    wait_until("an orphan", lambda: first.adopted())
    os.kill(first.pid, signal.SIGTERM)
    assert server.process.wait(15) == 0
    assert server.survivors() == []
