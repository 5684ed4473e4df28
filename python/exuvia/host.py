"""Worker processes inside a Python program."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from exuvia import _native
from exuvia._targets import Named, name_of, search_path
from exuvia.outcome import Outcome, diagnosed

__all__ = ["Host", "HostTarget", "ImageStatus", "WorkerStatus"]

_open: weakref.WeakSet[Host] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker at a glance.

    Attributes:
        worker: Its number, never used twice in a host.
        pid: Its process.
        state: `starting`, `ready`, `spare` (waits to take the place of another), `retiring` (takes
            calls until its replacement is ready) or `stopping`.
        calls: Calls it has ended.
        running: Calls handed to it and not ended.
        age: Seconds since its start.
        start_method: `fork` or `spawn`: how it was made.
        rss: Resident memory in bytes, pages shared with other processes included. None: it is gone.
        pss: The same with shared pages counted in part, so that the sum over workers is right.
        private: Bytes that would be free if it ended.
    """

    worker: int
    pid: int
    state: str
    calls: int
    running: int
    age: float
    start_method: str
    rss: int | None
    pss: int | None
    private: int | None


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """What the workers of a host are forked from.

    Attributes:
        start_method: `fork` or `spawn`: how workers are made at present.
        why_spawn: Why they are not forked though that was wanted; else None.
        zygote: The process they are forked from, while it is ready.
        took: Seconds from that process's start until it was ready.
        imports: What was imported in it, in order, with the seconds each took.
        left_out: What each worker imports by itself, and why.
        notes: What else is worth knowing, such as random generators that all workers share.
    """

    start_method: str
    why_spawn: str | None
    zygote: int | None
    took: float
    imports: dict[str, float]
    left_out: dict[str, str]
    notes: list[str]


class Host:
    """A pool of worker processes that run functions, inside a Python program.

    Workers are forked from a process that has done the imports, so a new one is there in
    milliseconds: they can be replaced, before their memory hurts or after a crash, and be more or
    fewer, while calls run. Usable from several threads at once, and by other threads than the one
    that made it. Not usable after `os.fork()` in the child: every use there raises RuntimeError.

    Args:
        *targets: What to serve: `file.py:function`, `module:function`, a function of an importable
            module, or a file (as text or path) or module as a whole.
        python: The interpreter of the workers. Default: the one that runs this program.
        workers: How many processes take calls. With 0, calls wait until `scale` makes some.
        spares: Workers beyond these that are kept ready to take the place of one that ends.
        concurrency: Calls of `async def` functions that run at a time in each worker.
        queue: Calls that may wait for a worker before others are rejected.
        timeout: Seconds a call may take, waiting included.
        start_method: `fork` makes workers from a process that has done the imports, `spawn` starts
            each afresh.
        preload: Modules to import before workers are forked, beside those the functions import.
        warm: Functions to call once, without arguments, before workers are forked.
        blas_threads: Threads of numeric libraries in each worker. Default: what their own variables
            say, else processor cores / workers.
        max_rss: Replace a worker whose resident memory is larger: bytes, or text like "300MiB".
        max_calls: Replace a worker after so many calls.
        lifetime: Replace a worker after so many seconds.
        jitter: By how much of them `max_calls` and `lifetime` are shortened at random, worker by
            worker, so that not all are replaced at once: from 0 to 1.
        pickle: Whether objects that are no plain values, tables or arrays may cross, as pickles.
            With False they are refused, by name of their place: as arguments with TypeError, as
            results with `ResultError`.

    Raises:
        LoadError: A module does not import, or has no such function.
        RuntimeError: No worker could be started.
        TypeError: An argument is of the wrong kind.
        ValueError: An argument is out of bounds, or not the name of a function.
    """

    def __init__(
        self,
        *targets: Named,
        python: str | os.PathLike[str] | None = None,
        workers: int = 1,
        spares: int = 0,
        concurrency: int = 64,
        queue: int = 1024,
        timeout: float = 30.0,
        start_method: Literal["fork", "spawn"] = "fork",
        preload: Iterable[str] = (),
        warm: Iterable[Named] = (),
        blas_threads: int | None = None,
        max_rss: int | str | None = None,
        max_calls: int | None = None,
        lifetime: float | None = None,
        jitter: float = 0.1,
        pickle: bool = True,
    ) -> None:
        if not targets:
            raise TypeError("targets are missing: name at least one, like Host('weather.py')")
        self._pickle = is_bool("pickle", pickle)
        self._pool = _native.Pool(
            [name_of(target) for target in targets],
            python=sys.executable if python is None else python,
            working_dir=str(Path.cwd()),
            search_path=search_path() if python is None else [],
            workers=workers,
            spares=spares,
            concurrency=concurrency,
            queue=queue,
            timeout=timeout,
            start_method=start_method,
            preload=preload,
            warm=_warm_names(warm),
            blas_threads=blas_threads,
            max_rss=max_rss,
            max_calls=max_calls,
            lifetime=lifetime,
            jitter=jitter,
        )
        _open.add(self)

    @property
    def handlers(self) -> list[str]:
        """The names of the functions, `module:function`."""
        return self._pool.handlers

    def call(self, handler: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in a worker and wait for its result.

        Numbers, text, bytes, dates, decimals and containers of them arrive as they are, and so do
        tables (pandas, polars, pyarrow, arro3, `exuvia.Table`) and NumPy arrays, which large ones
        do through memory that both processes see. Other objects go as pickles, so their classes
        must be importable in the worker.

        Args:
            handler: One of `handlers`.
            *args: The function's arguments.
            **kwargs: The function's arguments by name.

        Raises:
            CallError: There is no result; the class says why.
            TypeError: An argument cannot be sent.
            ValueError: There is no such handler.
        """
        return self._pool.call(handler, args, kwargs, None, self._pickle)

    def outcome(
        self, handler: str, /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Outcome:
        """Call a function as `call` does, and give what was measured with its result.

        What was measured of a call that failed is in its error's `diagnostics`.

        Args:
            handler: One of `handlers`.
            *args: The function's arguments.
            timeout: Seconds the call may take, waiting included. Default: the host's. A function's
                own argument of this name goes by position.
            **kwargs: The function's arguments by name.
        """
        measured = self._pool.outcome(handler, args, kwargs, timeout, self._pickle)
        value, diagnostics = measured
        return Outcome(value, diagnosed(diagnostics))

    def stream(
        self, handler: str, /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> _native.Results:
        """Call a generator function, and give what it yields while it runs.

        Returns with the generator's first value. It is advanced ahead of the reader only as far
        as buffers hold; then it waits until more is asked for. What it raises is raised by the
        iterator, after what it yielded before. Close the iterator, or leave its `with` block, to
        end the generator early: it gets a GeneratorExit where it waits. The generator of a `def`
        function keeps its worker until then.

        Args:
            handler: One of `handlers`: a generator function, `async` or not.
            *args: The function's arguments.
            timeout: Seconds until the generator must have ended. Default: the host's. A function's
                own argument of this name goes by position.
            **kwargs: The function's arguments by name.

        Raises:
            CallError: It failed before its first value.
            TypeError: An argument cannot be sent, or the function is no generator.
            ValueError: There is no such handler.
        """
        return self._pool.stream(self, handler, args, kwargs, timeout, self._pickle)

    def target(self, handler: str, *, timeout: float | None = None) -> HostTarget:
        """Give one of the functions as a callable. It keeps the workers alive.

        Args:
            handler: One of `handlers`.
            timeout: Seconds each of its calls may take, waiting included. Default: the host's.

        Raises:
            ValueError: There is no such handler.
        """
        return HostTarget(self, handler, timeout)

    def scale(self, workers: int) -> None:
        """Change how many workers there shall be.

        Returns at once. Workers that are too many leave when their calls have ended.
        """
        self._pool.scale(workers)

    def workers(self) -> list[WorkerStatus]:
        """Give the workers there are, those that start or leave among them."""
        return [WorkerStatus(*row) for row in self._pool.workers()]

    @property
    def image(self) -> ImageStatus:
        """What the workers are forked from."""
        start_method, why_spawn, zygote, took, imports, left_out, notes = self._pool.image()
        return ImageStatus(
            start_method, why_spawn, zygote, took, dict(imports), dict(left_out), notes
        )

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until as many workers are ready as there shall be.

        Args:
            timeout: Seconds to wait at most; None: for ever.

        Returns:
            Whether they are. False also when the host is closed meanwhile.
        """
        return self._pool.wait_ready(timeout)

    def drain(self, timeout: float = 10.0) -> bool:
        """Refuse new calls, let those that run or wait end, and close.

        Args:
            timeout: Seconds they may take; those that take longer are lost.

        Returns:
            Whether every call ended by itself.
        """
        return self._pool.drain(timeout)

    def close(self) -> None:
        """End the workers. Calls that run are lost."""
        self._pool.close()

    def __del__(self) -> None:
        # One that could not be made has no pool.
        if hasattr(self, "_pool"):
            self.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        handlers = self.handlers
        more = f" and {len(handlers) - 3} more" if len(handlers) > 3 else ""
        return f"<exuvia.Host {', '.join(handlers[:3])}{more}>"


class HostTarget:
    """One function of a `Host`, made by `Host.target`. Calling it is calling the function."""

    def __init__(self, host: Host, handler: str, timeout: float | None) -> None:
        host._pool.check(handler, timeout)
        self._host = host
        self._handler = handler
        self._timeout = timeout

    @property
    def handler(self) -> str:
        """The function's name, `module:function`."""
        return self._handler

    @property
    def host(self) -> Host:
        """The host whose workers run it."""
        return self._host

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function and wait for its result; raises as `Host.call` does."""
        host = self._host
        return host._pool.call(self._handler, args, kwargs, self._timeout, host._pickle)

    def outcome(self, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Outcome:
        """Call the function and give what was measured with its result: see `Host.outcome`."""
        limit = self._timeout if timeout is None else timeout
        return self._host.outcome(self._handler, *args, timeout=limit, **kwargs)

    def stream(self, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> _native.Results:
        """Give what the function yields while it runs: see `Host.stream`."""
        limit = self._timeout if timeout is None else timeout
        return self._host.stream(self._handler, *args, timeout=limit, **kwargs)

    def __repr__(self) -> str:
        return f"<exuvia.HostTarget {self._handler}>"


def is_bool(name: str, value: object) -> bool:
    """Give a switch as it is; anything else is no switch."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
    return value


def _warm_names(functions: Iterable[Named]) -> object:
    if isinstance(functions, str) or not isinstance(functions, Iterable):
        # Not a list of functions, which the pool says.
        return functions
    try:
        return [name_of(function) for function in functions]
    except ValueError as error:
        raise ValueError(f"warm: {error}") from None


@atexit.register
def _close_all() -> None:
    for host in list(_open):
        host.close()
