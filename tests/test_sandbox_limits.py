"""The outcome names the right limit, each time: docs/sandbox.md, section 2.

Each case is run 5 times; EXUVIA_SANDBOX_RUNS says how often else.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from exuvia.sandbox import Calls, Outcome, Sandbox, support

RUNS = int(os.environ.get("EXUVIA_SANDBOX_RUNS", "5"))
MIB = 1 << 20

pytestmark = pytest.mark.skipif(
    support().tier != "full", reason="files and threads have sums in the tier full only"
)


@dataclass(frozen=True)
class Case:
    """Code that ends in one way only, and the options it has."""

    name: str
    end: str
    code: str
    options: dict[str, Any] = field(default_factory=dict)


def cpu(name: str, code: str, **options: Any) -> Case:
    return Case(f"{name}, cpu", "limit cpu", code, {"cpu": "200ms", "wall": "20s", **options})


def wall(name: str, code: str, **options: Any) -> Case:
    return Case(f"{name}, wall", "timeout", code, {"wall": "300ms", "cpu": "20s", **options})


def memory(name: str, code: str, **options: Any) -> Case:
    return Case(f"memory by {name}", "limit memory", code, {"memory": "64MiB", **options})


LOOP = "while True: pass"
SORT = """
import numpy as np
values = np.random.default_rng(1).random(2_000_000)
while True: np.sort(values)
"""
# The threads are OpenBLAS's own.
BLAS = """
import numpy as np
one = np.random.default_rng(1).random((700, 700))
while True: one @ one
"""
REGEX = "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')"
SLEEP = "import time; time.sleep(3600)"
READ = "import os; os.read(os.pipe()[0], 1)"
LIST = "a = []\nwhile True: a.append(object())"
BYTES = "a = []\nwhile True: a.append(bytes(1 << 20))"
ONCE = "bytearray(1 << 30)"
MMAP = """
import mmap
held = []
while True:
    held.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
"""
ARRAY = "import numpy as np; np.ones(1 << 30)"
THREADS = """
import threading
def fill():
    held = []
    while True: held.append(bytes(1 << 16))
threads = [threading.Thread(target=fill) for _ in range(4)]
import sys
raised = []
threading.excepthook = lambda args: raised.append(args.exc_value)
for thread in threads: thread.start()
for thread in threads: thread.join()
raise raised[0]
"""
STACKS = """
import threading
threading.stack_size(16 << 20)
event = threading.Event()
for _ in range(20): threading.Thread(target=event.wait, daemon=True).start()
"""
FILE = "open('/session/a', 'wb').write(bytes(1 << 25))"
GROWING = "f = open('/session/a', 'ab')\nwhile True: f.write(bytes(1 << 16)); f.flush()"
COUNT = "for n in range(10**6): open(f'/session/{n}', 'w').close()"
FOLDERS = "import os\nfor n in range(10**6): os.mkdir(f'/session/{n}')"
FORK = "import os\nwhile True: os.fork()"
FORK_ANYHOW = """
import os
while True:
    try: os.fork()
    except OSError: pass
"""
PROCESS = "import subprocess; subprocess.run(['/bin/true'])"
THREAD_BOMB = """
import threading
event = threading.Event()
while True: threading.Thread(target=event.wait, daemon=True).start()
"""
FLOOD = "while True: print('x' * 1000)"
FLOOD_ERROR = "import sys\nwhile True: sys.stderr.write('x' * 1000)"
FLOOD_RAW = "import os\nwhile True: os.write(1, b'x' * 65536)"
SEGFAULT = "import ctypes; ctypes.string_at(0)"
ABORT = "import os; os.abort()"
EXIT = "import os; os._exit(7)"
KILL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
CATCHES = """
while True:
    try:
        while True: pass
    except BaseException: pass
"""
CATCHES_MEMORY = """
held = []
while True:
    try: held.append(bytes(1 << 20))
    except BaseException: pass
"""
SIGNALS = """
import signal
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True: pass
"""

CASES = [
    *(cpu("loop", LOOP), wall("loop", LOOP)),
    *(cpu("numpy sort", SORT), wall("numpy sort", SORT)),
    cpu("4-thread BLAS", BLAS),
    wall("4-thread BLAS", BLAS),
    *(cpu("regex", REGEX), wall("regex", REGEX)),
    *(wall("sleep", SLEEP), wall("blocked read", READ)),
    memory("list", LIST),
    *(memory("bytes", BYTES), memory("one block", ONCE), memory("mmap", MMAP)),
    *(memory("array", ARRAY), memory("threads", THREADS), memory("stacks of threads", STACKS)),
    *(
        Case(f"files by {name}", "limit files", code)
        for name, code in (
            ("size", FILE),
            ("growth", GROWING),
            ("count", COUNT),
            ("folders", FOLDERS),
        )
    ),
    Case("fork", "denied", FORK),
    Case("forks, all caught", "denied", FORK_ANYHOW),
    Case("a program", "denied", PROCESS),
    Case("thread bomb", "limit threads", THREAD_BOMB),
    *(
        Case(f"flood of {name}", "limit output", code)
        for name, code in (("stdout", FLOOD), ("stderr", FLOOD_ERROR), ("descriptor 1", FLOOD_RAW))
    ),
    Case("segfault", "crash SIGSEGV", SEGFAULT),
    Case("abort", "crash SIGABRT", ABORT),
    Case("os._exit", "exited 7", EXIT),
    Case("kill of itself", "exited 137", KILL),
    *(cpu("catches all", CATCHES), wall("catches all", CATCHES)),
    wall("catches MemoryError", CATCHES_MEMORY, memory="64MiB"),
    *(cpu("ignores signals", SIGNALS), wall("ignores signals", SIGNALS)),
]


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox(
        preload=["numpy"], files="read-write", blas_threads=4, concurrency=2, memory="512MiB"
    ) as box:
        yield box


def end(outcome: Outcome) -> str:
    """How it ended, in words."""
    if outcome.ok:
        return "ok"
    failure = outcome.document()["failure"]
    more = {
        "limit": failure.get("resource"),
        "crash": failure.get("signal"),
        "exited": failure.get("status"),
        "exception": failure["message"],
        "host": failure["message"],
        "load": failure["message"],
    }
    said = more.get(failure["kind"])
    return failure["kind"] if said is None else f"{failure['kind']} {said}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_outcome_names_the_limit(box: Sandbox, case: Case) -> None:
    calls: Calls = box.with_options(**case.options)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(calls.run, [case.code] * RUNS))
    assert Counter(map(end, outcomes)) == {case.end: RUNS}
    # What the host measured says the same.
    for outcome in outcomes:
        usage = outcome.usage
        if case.end == "limit cpu":
            assert usage.cpu_ms >= 200
        elif case.end == "timeout":
            assert usage.wall_ms >= 300
        elif case.end == "limit output":
            assert len(outcome.stdout) + len(outcome.stderr) <= MIB < usage.output_bytes
        elif case.end == "denied":
            assert usage.denied > 0
