"""One contender in a process of its own, so that none has another's threads, modules or memory.

It is told by lines on stdin and answers with one line of JSON each.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BUNDLE = HERE / "bundle"
# Where `make bench` puts Pyodide.
PYODIDE = HERE.parent.parent / ".cache/bench/pyodide"
NODE = ["node", str(HERE / "pyodide.mjs"), str(PYODIDE)]
PACKAGES = ("numpy", "pandas")

N = 100
RIGHT = {"total": 4950.0, "frame": 2475.0}
# 100 MB of numbers.
LENGTH = 12_500_000

# As a caller would send them.
SOURCE = {
    "total": """\
import numpy as np

def handler(n):
    return float(np.arange(n).sum())
""",
    "frame": """\
import numpy as np
import pandas as pd

def handler(n):
    made = pd.DataFrame({"x": np.arange(n), "y": np.arange(n) * 0.5})
    return float(made["y"].sum())
""",
}


def check(function: str, result: object) -> None:
    """End the measurement if an answer is wrong: its time would be worth nothing."""
    if result != RIGHT[function]:
        raise SystemExit(f"error: {function} gave {result!r}, not {RIGHT[function]}")


def seconds_since(start: int) -> float:
    """Seconds since a reading of the machine's clock."""
    return (time.monotonic_ns() - start) / 1e9


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what takes milliseconds; a minute means that it does not come."""
    deadline = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit("error: waited for a minute")
        time.sleep(0.002)


def rest() -> None:
    """Let what the round before left to do (processes that end) come to its end."""
    time.sleep(0.02)


def cpu_of(*more: int | None) -> float:
    """CPU seconds of this process, its children that ended, and of other processes."""
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    used = sum(usage.ru_utime + usage.ru_stime for usage in own)
    for pid in more:
        if pid is not None:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


def children() -> set[int]:
    """The processes that are this one's."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def sustained(call: Callable[[], object], seconds: float, callers: int) -> int:
    """Call from several threads for a while; says how often."""
    until = time.monotonic() + seconds
    counts = [0] * callers

    def repeat(place: int) -> None:
        while time.monotonic() < until:
            call()
            counts[place] += 1

    threads = [threading.Thread(target=repeat, args=(place,)) for place in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


# === Exuvia ===


class Exuvia:
    """A sandbox; its calls are of a bundle or of source code."""

    def __init__(self, function: str, *, bundle: bool, spares: int = 2, **settings: Any) -> None:
        from exuvia import sandbox

        self.function = function
        self.spares = spares
        self.box = sandbox.Sandbox(preload=PACKAGES, spares=spares, **settings)
        self.calls: Any = self.box
        self.code: Any = SOURCE.get(function)
        if bundle:
            self.calls = self.box.with_options(entrypoint=f"main:{function}")
            self.code = sandbox.Bundle(BUNDLE)
            # Of no use here, and in the way where memory is weighed.
            self.idle = self.box.status.ready
            self.calls.prepare(self.code)
        else:
            self.idle = 0
        self.persistent = bool(settings.get("persistent"))
        if self.persistent:
            check(function, self.calls.run(self.code, N).value)

    def wait(self) -> None:
        """Wait for isolates that are made ahead."""
        missing = self.idle + (1 if self.persistent else self.spares)
        wait_until(lambda: self.box.status.ready >= missing)
        rest()

    def round(self) -> dict[str, Any]:
        """Give the seconds of one call as its caller sees it, and what the outcome says of it."""
        self.wait()
        return self.once()

    def row(self, count: int) -> dict[str, Any]:
        """Give the medians of calls one right after the other."""
        self.wait()
        all_of_them = [self.once() for _ in range(count)]
        return {key: statistics.median(one[key] for one in all_of_them) for key in all_of_them[0]}

    def once(self) -> dict[str, Any]:
        """Make one call."""
        start = time.monotonic_ns()
        outcome = self.calls.run(self.code, N)
        result = outcome.value
        seconds = seconds_since(start)
        check(self.function, result)
        usage = outcome.usage
        if usage.isolate.on_demand != (self.spares == 0):
            raise SystemExit(f"error: made ahead or not: {usage.isolate}")
        if usage.isolate.fresh == self.persistent:
            raise SystemExit(f"error: fresh or not: {usage.isolate}")
        host = usage.queued_ms + usage.wall_ms
        return {"seconds": seconds, "host": host, "run": usage.run_ms, "cpu": usage.cpu_ms}

    def load(self, seconds: float, callers: int) -> dict[str, Any]:
        """Give fresh calls for a while, as many at a time as there are callers."""
        self.wait()
        made = 0

        def call() -> None:
            nonlocal made
            outcome = self.calls.run(self.code, N)
            check(self.function, outcome.value)
            made += outcome.usage.isolate.on_demand

        image = self.box.status.image
        start, before = time.monotonic_ns(), cpu_of(image)
        calls = sustained(call, seconds, callers)
        took = seconds_since(start)
        return {"calls": calls, "seconds": took, "cpu": cpu_of(image) - before, "made": made}

    def crowd(self, _: int) -> dict[str, Any]:
        """Give the isolates that wait, and the image."""
        self.wait()
        image = self.box.status.image
        return {"processes": sorted(children() - {image}), "others": [image]}

    def close(self) -> None:
        """End it."""
        self.box.close()


# What never ends.
ENDLESS = {
    "loop": "while True: pass",
    "sleep": "import time\ntime.sleep(60)",
    "sort": "import numpy as np\na = np.random.default_rng(1).random(1 << 22)\n"
    "while True: np.sort(a)",
    "threads": "import threading\nimport numpy as np\n"
    "def work():\n    a = np.random.default_rng(1).random(1 << 20)\n"
    "    while True: np.sort(a)\n"
    "threads = [threading.Thread(target=work) for _ in range(4)]\n"
    "for thread in threads: thread.start()\n"
    "for thread in threads: thread.join()",
}


class Overshoot:
    """Calls that overrun a limit, each in a fresh isolate."""

    def __init__(self) -> None:
        from exuvia import sandbox

        self.box = sandbox.Sandbox(preload=PACKAGES)

    def overrun(self, limit: str, code: str, millis: int) -> dict[str, Any]:
        """Overrun a limit of so many milliseconds; give by how many."""
        wait_until(lambda: self.box.status.ready >= 2)
        rest()
        limits: Any = {limit: f"{millis}ms"}
        calls = self.box.with_options(**limits)
        start = time.monotonic_ns()
        outcome = calls.run(ENDLESS[code])
        seen = seconds_since(start) * 1e3
        kind = outcome.failure.kind if outcome.failure else "ok"
        if kind != {"wall": "timeout", "cpu": "limit"}[limit]:
            raise SystemExit(f"error: {code} over {limit} ended as {kind}: {outcome.failure}")
        used = outcome.usage.wall_ms if limit == "wall" else outcome.usage.cpu_ms
        return {"over": used - millis, "seen": seen - millis}

    def close(self) -> None:
        """End it."""
        self.box.close()


class Handover:
    """An array of 100 MB into a process that is kept."""

    def __init__(self, way: str) -> None:
        import numpy as np

        self.way = way
        self.array = np.zeros(LENGTH)
        self.array[-1] = 1.0
        self.close: Callable[[], object] = getattr(self, f"begin_{way}")()

    def begin_shared(self) -> Callable[[], object]:
        """Exuvia, put into memory that can be shared before the clock starts."""
        import exuvia

        self.begin_direct()
        self.array = exuvia.share(self.array)
        return self.box.close

    def begin_direct(self) -> Callable[[], object]:
        """Exuvia, an argument like others: it is copied once."""
        from exuvia import sandbox

        # One that is ready is enough, and is kept.
        self.box = sandbox.Sandbox(preload=PACKAGES, spares=1, persistent=True)
        calls = self.box.with_options(entrypoint="main:first")
        code = sandbox.Bundle(BUNDLE)
        calls.prepare(code)
        self.call: Callable[[Any], Any] = lambda array: calls.run(code, array).value
        return self.box.close

    def begin_pickle(self) -> Callable[[], object]:
        """A pool of `multiprocessing`."""
        import peer

        pool = multiprocessing.get_context("fork").Pool(1)
        self.call = lambda array: pool.apply(peer.first, (array,))
        return pool.terminate

    def begin_memory(self) -> Callable[[], object]:
        """The same, and shared memory by hand: the array is put there before the clock starts."""
        from multiprocessing.shared_memory import SharedMemory

        import numpy as np
        import peer

        memory = SharedMemory(create=True, size=self.array.nbytes)
        shared: Any = np.ndarray(self.array.shape, buffer=memory.buf)
        shared[:] = self.array
        pool = multiprocessing.get_context("fork").Pool(1)
        self.call = lambda _: pool.apply(peer.first_of, (memory.name, LENGTH))

        def close() -> None:
            pool.terminate()
            memory.unlink()

        return close

    def round(self) -> dict[str, Any]:
        """Give the seconds until the array is there, and those of the whole call."""
        rest()
        start = time.monotonic_ns()
        there, last = self.call(self.array)
        seconds = seconds_since(start)
        if last != 1.0:
            raise SystemExit(f"error: the array's last number is {last}")
        return {"seconds": seconds, "first": (there - start) / 1e9}


# === peers ===


class Command:
    """A fresh `python` for each call."""

    def __init__(self, function: str) -> None:
        self.function = function
        arguments = f"import peer; print(peer.{function}({N}))"
        self.command = [sys.executable, "-c", arguments]

    def call(self) -> None:
        """Run it to its end."""
        done = subprocess.run(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
        )
        check(self.function, float(done.stdout))

    def round(self) -> dict[str, Any]:
        """Give the seconds from its start to its end."""
        rest()
        start = time.monotonic_ns()
        self.call()
        return {"seconds": seconds_since(start)}

    def load(self, seconds: float, callers: int) -> dict[str, Any]:
        """Call for a while."""
        start, before = time.monotonic_ns(), cpu_of()
        calls = sustained(self.call, seconds, callers)
        return {"calls": calls, "seconds": seconds_since(start), "cpu": cpu_of() - before}

    def close(self) -> None:
        """Nothing is left."""


class Pool:
    """A pool of `multiprocessing`, whose processes take one call after the other."""

    def __init__(self, function: str, method: str) -> None:
        import peer

        self.function = function
        self.target = getattr(peer, function)
        self.context: Any = multiprocessing.get_context(method)
        self.pool = self.start(1)

    def start(self, count: int) -> Any:
        """Make a pool whose processes have imported what is called."""
        import peer

        pool = self.context.Pool(count, peer.ready)
        check(self.function, pool.apply(self.target, (N,)))
        return pool

    def round(self) -> dict[str, Any]:
        """Give the seconds of one call."""
        rest()
        return self.once()

    def row(self, count: int) -> dict[str, Any]:
        """Give the median of calls one right after the other."""
        rest()
        return {"seconds": statistics.median(self.once()["seconds"] for _ in range(count))}

    def once(self) -> dict[str, Any]:
        """Make one call."""
        start = time.monotonic_ns()
        result = self.pool.apply(self.target, (N,))
        seconds = seconds_since(start)
        check(self.function, result)
        return {"seconds": seconds}

    def crowd(self, count: int) -> dict[str, Any]:
        """Give processes that wait for a call."""
        import peer

        self.close()
        self.pool = self.start(count)
        self.pool.map(peer.hold, range(count), 1)
        return {"processes": sorted(worker.pid for worker in self.pool._pool), "others": []}

    def close(self) -> None:
        """End it."""
        self.pool.terminate()
        self.pool.join()


class Process:
    """A process of `multiprocessing` for each call, made for it."""

    def __init__(self, function: str, method: str) -> None:
        import peer

        self.function = function
        self.serve = peer.serve
        self.context: Any = multiprocessing.get_context(method)

    def call(self) -> None:
        """Make one, hear its answer, and let it end."""
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=self.serve, args=(theirs, self.function, N))
        process.start()
        theirs.close()
        result = ours.recv()
        self.heard = time.monotonic_ns()
        process.join()
        check(self.function, result)

    def round(self) -> dict[str, Any]:
        """Give the seconds from the request for a process to its answer."""
        rest()
        start = time.monotonic_ns()
        self.call()
        return {"seconds": (self.heard - start) / 1e9}

    def load(self, seconds: float, callers: int) -> dict[str, Any]:
        """Call for a while."""
        start, before = time.monotonic_ns(), cpu_of()
        calls = sustained(self.call, seconds, callers)
        return {"calls": calls, "seconds": seconds_since(start), "cpu": cpu_of() - before}

    def close(self) -> None:
        """Nothing is left."""


class Pyodide:
    """Pyodide in node; what it does with each line is in pyodide.mjs."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.said = {"numpy": os.environ.get("BENCH_PYODIDE_NUMPY") == "1"}
        if way == "cold":
            return
        self.process = subprocess.Popen(
            [*NODE, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.said = self.hear()

    def hear(self) -> dict[str, Any]:
        """Read one line of its."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("error: node ended (see above)")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def about(self) -> dict[str, Any]:
        """Give its version, and whether it has NumPy."""
        return self.said

    def round(self) -> dict[str, Any]:
        """Give the seconds of one call."""
        rest()
        if self.way == "cold":
            start = time.monotonic_ns()
            packages = "numpy" if self.said["numpy"] else "none"
            subprocess.run([*NODE, "once", packages], stdin=subprocess.DEVNULL, check=True)
            return {"seconds": seconds_since(start)}
        assert self.process.stdin is not None
        print(self.way, file=self.process.stdin, flush=True)
        return self.hear()

    def crowd(self, _: int) -> dict[str, Any]:
        """Give its one process, with one interpreter."""
        self.round()
        return {"processes": [self.process.pid], "others": []}

    def close(self) -> None:
        """End it."""
        if self.way != "cold":
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait()


# What a contender is called on the command line of its process, and how it is made.
CONTENDERS: dict[str, Callable[[str], Any]] = {
    "bundle": lambda function: Exuvia(function, bundle=True),
    "source": lambda function: Exuvia(function, bundle=False),
    "bundle-demand": lambda function: Exuvia(function, bundle=True, spares=0),
    "source-demand": lambda function: Exuvia(function, bundle=False, spares=0),
    "bundle-reused": lambda function: Exuvia(function, bundle=True, spares=1, persistent=True),
    "source-reused": lambda function: Exuvia(function, bundle=False, spares=1, persistent=True),
    "crowd": lambda function: Exuvia(function, bundle=False, spares=16),
    "overshoot": lambda _: Overshoot(),
    "handover": Handover,
    "python": Command,
    "fork": lambda function: Process(function, "fork"),
    "spawn": lambda function: Process(function, "spawn"),
    "pyodide": Pyodide,
    "pool-fork": lambda function: Pool(function, "fork"),
    "pool-spawn": lambda function: Pool(function, "spawn"),
}


def answer(contender: Any, line: str) -> dict[str, Any]:
    """Do what a line asks for."""
    what, *rest = line.split()
    numbers = [int(word) if word.isdecimal() else word for word in rest]
    done: dict[str, Any] = getattr(contender, what)(*numbers)
    return done


def main(name: str, function: str) -> None:
    """Make a contender and let it be asked. The first line says that it is there."""
    contender = CONTENDERS[name](function)
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(contender, line)), flush=True)
    contender.close()
