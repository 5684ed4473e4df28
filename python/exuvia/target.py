"""Calling functions in worker processes."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from exuvia import _native

__all__ = ["Target", "call"]

_open: weakref.WeakSet[Target] = weakref.WeakSet()
_cache: dict[tuple[str, str, str, int], _Kept] = {}
_cache_lock = threading.Lock()
# Targets kept by `call`; the one used longest ago is dropped first.
_CACHE_SIZE = 8


class Target:
    """A function that runs in worker processes of its own.

    Calling it sends the arguments to a worker and waits for the result. Numbers, text, bytes,
    dates, decimals and containers of them arrive as they are; other objects go as pickles, so
    their classes must be importable in the worker. Usable from several threads at once.

    Args:
        target: `file.py:function`, `module:function`, or a function of an importable module.
        python: The interpreter of the workers. Default: the one that runs this program.
        workers: How many processes.
        concurrency: Calls of an `async def` function that run at a time in each.
        queue: Calls that may wait for a worker before others are rejected.
        timeout: Seconds a call may take, waiting included.

    Raises:
        LoadError: The module does not import, or has no such function.
        RuntimeError: No worker could be started.
        ValueError: `target` is not the name of one function, or a number is out of bounds.
    """

    def __init__(
        self,
        target: str | Callable[..., Any],
        *,
        python: str | os.PathLike[str] | None = None,
        workers: int = 1,
        concurrency: int = 64,
        queue: int = 1024,
        timeout: float = 30.0,
    ) -> None:
        name = _name(target)
        self._pool = _native.Pool(
            [name],
            python=os.fspath(python or sys.executable),
            working_dir=str(Path.cwd()),
            search_path=_search_path() if python is None else [],
            workers=workers,
            concurrency=concurrency,
            queue=queue,
            timeout=timeout,
        )
        _open.add(self)
        handlers = self._pool.handlers
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

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function and wait for its result.

        Raises:
            CallError: There is none; the class says why.
            TypeError: An argument cannot be sent.
        """
        return self._pool.call(self._handler, args, kwargs)

    def close(self) -> None:
        """End the workers. Calls that run are lost."""
        self._pool.close()

    def __del__(self) -> None:
        # One that could not be made has no pool.
        if hasattr(self, "_pool"):
            self.close()

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


def call(target: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function in a worker process and wait for its result, 30 seconds at most.

    The worker is started at the first call of a target and kept for the next ones; use `Target`
    for other limits, another Python or more workers.

    Args:
        target: `file.py:function`, `module:function`, or a function of an importable module.
        *args: The function's arguments.
        **kwargs: The function's arguments by name.

    Raises:
        CallError: There is no result; the class says why.
        TypeError: An argument cannot be sent.
        ValueError: `target` is not the name of one function.
    """
    return _kept(_name(target))(*args, **kwargs)


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
            kept.target = Target(name)
        return kept.target


def _search_path() -> list[str]:
    """What this program has added to its interpreter's own path: its modules are found there."""
    own = (sys.prefix, sys.base_prefix)
    return [entry for entry in sys.path if entry and not entry.startswith(own)]


def _name(target: str | Callable[..., Any]) -> str:
    if isinstance(target, str):
        return target
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", None)
    if module == "__main__":
        module = getattr(sys.modules["__main__"], "__file__", None)
    if not module or not name or "<" in name:
        raise ValueError(
            f"{target!r} cannot be found by a worker: give a function of a module or a file, "
            "by name or as it is"
        )
    return f"{module}:{name}"


def _forget() -> None:
    # Another thread of the parent may have held the lock, and is not here to give it back.
    global _cache_lock
    _cache_lock = threading.Lock()


os.register_at_fork(after_in_child=_forget)


@atexit.register
def _close_all() -> None:
    for target in list(_open):
        target.close()
