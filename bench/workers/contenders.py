"""One contender in a process of its own, so that none has another's threads, modules or memory.

It is told by lines on stdin and answers with one line of JSON each: `round` makes a worker and
calls it once, `crowd N` makes N workers, calls each once and keeps them until the next line.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import peer

N = 100
RIGHT = 2475.0


def check(result: object) -> None:
    """End the measurement if an answer is wrong: its time would be worth nothing."""
    if result != RIGHT:
        raise SystemExit(f"error: the handler gave {result!r}, not {RIGHT}")


def seconds_since(start: int) -> float:
    """Seconds since a reading of the machine's clock."""
    return (time.monotonic_ns() - start) / 1e9


class Exuvia:
    """A host whose pool is made empty; then one worker is asked for, and called at once."""

    def __init__(self, module: str, **settings: Any) -> None:
        import exuvia

        self.handler = f"{module}:total"
        self.hold = f"{module}:hold"
        self.host = exuvia.Host(f"{module}.py", workers=1, **settings)
        self.pids: list[int] = []

    def round(self) -> dict[str, Any]:
        """Give the seconds from the request for a worker to its first answer."""
        self.host.scale(0)
        wait_until(lambda: not self.host.workers())
        rest()
        start = time.monotonic_ns()
        self.host.scale(1)
        result = self.host.call(self.handler, N)
        end = time.monotonic_ns()
        if isinstance(result, tuple):
            # The handler with marks.
            result, marks = result
            return {"seconds": (end - start) / 1e9, "marks": {**marks, "ask": start, "end": end}}
        check(result)
        return {"seconds": (end - start) / 1e9}

    def crowd(self, count: int) -> dict[str, Any]:
        """Make many workers that have answered a call each; give their processes."""
        self.host.scale(count)
        self.host.wait_ready(60)
        # As long as all are busy, the next call goes to one that has had none.
        for seconds in (0.5, 2.0):
            target = [
                threading.Thread(target=self.host.call, args=(self.hold, N, seconds))
                for _ in range(count)
            ]
            for thread in target:
                thread.start()
            for thread in target:
                thread.join()
            if all(worker.calls for worker in self.host.workers()):
                break
        else:
            raise SystemExit("error: some worker had no call")
        zygote = self.host.image.zygote
        pids = [worker.pid for worker in self.host.workers()]
        return {"workers": pids, "others": [zygote] if zygote else []}

    def close(self) -> None:
        """End the workers."""
        self.host.close()


class Spare(Exuvia):
    """The same with a spare: the only worker is killed, and the next call made at once."""

    def __init__(self, module: str) -> None:
        super().__init__(module, spares=1)

    def round(self) -> dict[str, Any]:
        """Give the seconds from the kill to the next answer."""
        wait_until(lambda: sorted(w.state for w in self.host.workers()) == ["ready", "spare"])
        rest()
        (pid,) = (worker.pid for worker in self.host.workers() if worker.state == "ready")
        start = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        check(self.host.call(self.handler, N))
        return {"seconds": seconds_since(start)}


class Command:
    """A fresh `python` for one call."""

    def __init__(self, module: str) -> None:
        self.command = [sys.executable, "-c", f"import {module}; print({module}.total({N}))"]

    def round(self) -> dict[str, Any]:
        """Give the seconds from its start to its end."""
        rest()
        start = time.monotonic_ns()
        done = subprocess.run(self.command, capture_output=True, check=True)
        seconds = seconds_since(start)
        check(float(done.stdout))
        return {"seconds": seconds}

    def close(self) -> None:
        """Nothing is left of it."""


class Multiprocessing:
    """A `Process` and a `Pipe`, by one of the start methods of the standard library."""

    def __init__(
        self, module: str, method: str, preload: tuple[str, ...] = (), warm: bool = False
    ) -> None:
        import multiprocessing

        # Python warns of a fork beside threads, such as the one that numpy starts.
        warnings.simplefilter("ignore", DeprecationWarning)
        self.module = module
        self.context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self.context.set_forkserver_preload(list(preload))
        else:
            for name in preload:
                __import__(name)
        if warm:
            check(__import__(module).total(N))
        self.kept: list[tuple[Any, Any]] = []

    def make(self) -> tuple[Any, Any]:
        """Make a worker that has been called and not answered yet."""
        ours, theirs = self.context.Pipe()
        worker = self.context.Process(target=peer.serve, args=(theirs, self.module))
        worker.start()
        ours.send(N)
        return ours, worker

    def round(self) -> dict[str, Any]:
        """Give the seconds from the request for a worker to its first answer."""
        rest()
        start = time.monotonic_ns()
        ours, worker = self.make()
        result = ours.recv()
        seconds = seconds_since(start)
        check(result)
        self.kept.append((ours, worker))
        self.close()
        return {"seconds": seconds}

    def crowd(self, count: int) -> dict[str, Any]:
        """Make many workers that have answered a call each; give their processes."""
        for _ in range(count):
            self.kept.append(self.make())
            check(self.kept[-1][0].recv())
        from multiprocessing.forkserver import _forkserver  # its process has no public name

        server = getattr(_forkserver, "_forkserver_pid", None)
        return {
            "workers": [worker.pid for _, worker in self.kept],
            "others": [server] if server else [],
        }

    def close(self) -> None:
        """End the workers."""
        for ours, worker in self.kept:
            ours.send(None)
            worker.join()
            ours.close()
        self.kept.clear()


PACKAGES = ("numpy", "pandas")

# What a contender is called on the command line of its process, and how it is made.
CONTENDERS: dict[str, Callable[[str], Any]] = {
    "exuvia": Exuvia,
    "exuvia-warm": lambda module: Exuvia(module, warm=["warm.py:warm"]),
    "exuvia-preload": lambda module: Exuvia(module, preload=[module]),
    "exuvia-marks": lambda _: Exuvia("timed", preload=["marks"]),
    "exuvia-marks-warm": lambda _: Exuvia("timed", preload=["marks"], warm=["warm.py:warm"]),
    "exuvia-spare": Spare,
    "exuvia-spawn": lambda module: Exuvia(module, start_method="spawn"),
    "python": Command,
    "spawn": lambda module: Multiprocessing(module, "spawn"),
    "forkserver": lambda module: Multiprocessing(module, "forkserver", PACKAGES),
    "forkserver-all": lambda module: Multiprocessing(module, "forkserver", (*PACKAGES, module)),
    "fork": lambda module: Multiprocessing(module, "fork", PACKAGES),
    "fork-warm": lambda module: Multiprocessing(module, "fork", PACKAGES, warm=True),
}


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


def answers(contender: Any) -> Iterator[dict[str, Any]]:
    """Do what the lines on stdin ask for."""
    for line in sys.stdin:
        what, *rest = line.split()
        yield contender.round() if what == "round" else contender.crowd(int(rest[0]))


def main(name: str, module: str) -> None:
    """Make a contender and let it be asked. The first line says that it is there."""
    contender = CONTENDERS[name](module)
    print("{}", flush=True)
    for answer in answers(contender):
        print(json.dumps(answer), flush=True)
    contender.close()
