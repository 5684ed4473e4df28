"""Programs that use `import exuvia`, for what concerns a program's life.

Its end, Ctrl-C, fork and memory cannot be seen from inside the tests' own process.
"""

import os
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from processes import descendants, in_session, wait_until

HANDLERS = Path(__file__).parent / "handlers"

Completed = subprocess.CompletedProcess[str]
Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., Completed]


@contextmanager
def programs(python: Path, folder: Path) -> Iterator[Start]:
    """Start programs, each in a session of its own, of which nothing may be left afterwards."""
    started: list[subprocess.Popen[str]] = []

    def go(text: str) -> subprocess.Popen[str]:
        path = folder / "program.py"
        head = f"import exuvia, os, sys, time\nH = {str(HANDLERS)!r}\n"
        path.write_text(head + textwrap.dedent(text))
        process = subprocess.Popen(
            [python, path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.communicate()
        left = outliving(process.pid, 1)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert left == [], "processes that outlived the program"


def to_the_end(start: Start) -> Run:
    """Run programs to their end, after which no process of them is left."""

    def go(text: str, timeout: float = 60) -> Completed:
        process = start(text)
        out, said = process.communicate(timeout=timeout)
        assert outliving(process.pid, 2) == []
        return subprocess.CompletedProcess([], process.returncode, out, said)

    return go


def children() -> set[int]:
    """Our own processes, whoever made them."""
    return set(descendants(os.getpid()))


def outliving(session: int, seconds: float) -> list[int]:
    """Give the processes of a session that have not ended after this time."""
    with suppress(AssertionError):
        wait_until("its workers to end", lambda: not in_session(session), seconds)
    return in_session(session)


def lines(done: Completed) -> list[str]:
    """Give what a program printed that went well."""
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()
