"""Calling single functions in worker processes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from exuvia import _native
from exuvia._targets import Named, name_of
from exuvia.host import Host, is_bool
from exuvia.outcome import Outcome

__all__ = ["Target", "call"]

_cache: dict[tuple[str, str, str, int], _Kept] = {}
_cache_lock = threading.Lock()
# Targets kept by `call`; the one used longest ago is dropped first.
_CACHE_SIZE = 8


class Target:
    """A function that runs in worker processes of its own: a `Host` of one function.

    Calling it sends the arguments to a worker and waits for the result, as `Host.call` does.
    Usable from several threads at once.

    Args:
        target: `file.py:function`, `module:function`, or a function of an importable module.
        python: The interpreter of the workers. Default: the one that runs this program.
        workers: How many processes.
        spares: As for `Host`, and so are the other arguments.
        concurrency: Calls of an `async def` function that run at a time in each.
        queue: Calls that may wait for a worker before others are rejected.
        timeout: Seconds a call may take, waiting included.
        start_method: `fork` or `spawn`.
        preload: Modules to import before workers are forked.
        warm: Functions to call once before workers are forked.
        blas_threads: Threads of numeric libraries in each worker.
        max_rss: Replace a worker whose resident memory is larger.
        max_calls: Replace a worker after so many calls.
        lifetime: Replace a worker after so many seconds.
        jitter: By how much `max_calls` and `lifetime` are shortened at random.
        pickle: Whether objects that are no plain values, tables or arrays may cross, as pickles.

    Raises:
        LoadError: The module does not import, or has no such function.
        RuntimeError: No worker could be started.
        TypeError: An argument is of the wrong kind.
        ValueError: `target` is not the name of one function, or an argument is out of bounds.
    """

    def __init__(
        self,
        target: Named,
        *,
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
        if workers == 0:
            raise ValueError("workers must be at least 1, not 0")
        name = name_of(target)
        self._host = Host(
            name,
            python=python,
            workers=workers,
            spares=spares,
            concurrency=concurrency,
            queue=queue,
            timeout=timeout,
            start_method=start_method,
            preload=preload,
            warm=warm,
            blas_threads=blas_threads,
            max_rss=max_rss,
            max_calls=max_calls,
            lifetime=lifetime,
            jitter=jitter,
            pickle=pickle,
        )
        handlers = self._host.handlers
        if len(handlers) != 1:
            self.close()
            raise ValueError(
                f"{name} has {len(handlers)} functions, name one of them: {', '.join(handlers)}"
            )
        self._handler = handlers[0]

    @property
    def handler(self) -> str:
        """The function's name, `module:function`."""
        return self._handler

    @property
    def host(self) -> Host:
        """The workers that run it, to look at and to scale."""
        return self._host

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function and wait for its result.

        Raises:
            CallError: There is none; the class says why.
            TypeError: An argument cannot be sent.
        """
        host = self._host
        return host._pool.call(self._handler, args, kwargs, None, host._pickle)

    def outcome(self, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Outcome:
        """Call the function and give what was measured with its result: see `Host.outcome`."""
        return self._host.outcome(self._handler, *args, timeout=timeout, **kwargs)

    def stream(self, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> _native.Results:
        """Give what the function yields while it runs: see `Host.stream`."""
        return self._host.stream(self._handler, *args, timeout=timeout, **kwargs)

    def close(self) -> None:
        """End the workers. Calls that run are lost."""
        self._host.close()

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<exuvia.Target {self._handler}>"


def call(target: Named, /, *args: Any, pickle: bool = True, **kwargs: Any) -> Any:
    """Call a function in a worker process and wait for its result, 30 seconds at most.

    The worker is started at the first call of a target and kept for the next ones; use `Target`
    for other limits, another Python or more workers.

    Args:
        target: `file.py:function`, `module:function`, or a function of an importable module.
        *args: The function's arguments.
        pickle: As for `Host`. A function's own argument of this name goes by position.
        **kwargs: The function's arguments by name.

    Raises:
        CallError: There is no result; the class says why.
        TypeError: An argument cannot be sent.
        ValueError: `target` is not the name of one function.
    """
    is_bool("pickle", pickle)
    kept = _kept(name_of(target))
    return kept.host._pool.call(kept.handler, args, kwargs, None, pickle)


class _Kept:
    """A place in the cache. It has a lock of its own: a start may take long."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.target: Target | None = None


def _kept(name: str) -> Target:
    key = (name, str(Path.cwd()), sys.executable, os.getpid())
    with _cache_lock:
        kept = _cache.pop(key, None) or _Kept()
        _cache[key] = kept
        # Not closed: another thread may be calling it. It ends with its last caller.
        dropped = _cache.pop(next(iter(_cache))) if len(_cache) > _CACHE_SIZE else None
    # Outside the lock, since ending workers takes a moment.
    del dropped
    with kept.lock:
        if kept.target is None:
            # A single worker is no reason to keep a second process to fork it from.
            kept.target = Target(name, start_method="spawn")
        return kept.target


def _forget() -> None:
    # Another thread of the parent may have held the lock, and is not here to give it back.
    global _cache_lock
    _cache_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)
