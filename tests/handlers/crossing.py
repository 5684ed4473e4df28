"""Handlers that give tables and arrays back, edit them, and yield them one after the other."""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "at_rest",
    "counts",
    "counts_later",
    "crashes",
    "echo",
    "edit",
    "edit_arrays",
    "frames",
    "late",
    "late_later",
    "odd",
    "odd_third",
    "pid",
    "raises",
    "raises_later",
    "same_memory",
    "sleeps",
    "total",
    "wide",
]


class Foo:
    """Something that is neither a value nor a table."""


def echo(*args: Any, **kwargs: Any) -> Any:
    """Give the first argument back, or all by name."""
    return args[0] if args else kwargs


def odd() -> Any:
    """Give what only a pickle could hold, deep inside."""
    return {"a": [0, 1, 2, Foo()]}


def pid(*_: Any) -> int:
    """Take anything; give the worker's process id."""
    return os.getpid()


def sleeps(*_: Any) -> None:
    """Take anything, and too long."""
    time.sleep(60)


# === tables and arrays ===


def total(value: Any) -> float:
    """Give the sum of a table or array."""
    values = value if isinstance(value, np.ndarray) else value.to_numpy()
    return float(np.asarray(values).sum())


def edit(first: Any, *others: Any) -> list[float]:
    """Write to the first frame; give the sums of all."""
    first.loc[1:2, "x"] = 1e9
    first["x"].array[3:5] = 1e9
    return [float(frame["x"].sum()) for frame in (first, *others)]


def edit_arrays(first: Any, *others: Any) -> list[float]:
    """Write to the first array; give the sums of all."""
    first[:] = 7
    return [float(array.sum()) for array in (first, *others)]


def same_memory(one: Any, other: Any) -> bool:
    """Tell whether two arrays have the same memory."""
    return bool(np.shares_memory(one, other))


def wide(rows: int, columns: int) -> Any:
    """Give a frame of floats."""
    return pd.DataFrame({f"c{n}": np.arange(float(rows)) + n for n in range(columns)})


def at_rest() -> tuple[int, int]:
    """Give the worker's own memory in bytes, and how many descriptors it has."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))  # noqa: PTH208


# === what is yielded ===


def _log(path: str, word: object) -> None:
    with open(path, "a") as file:  # noqa: PTH123
        file.write(f"{word}\n")


def counts(n: int, path: str = os.devnull, size: int = 0) -> Iterator[Any]:
    """Yield numbers (with so many bytes), and say in the file how far it has come."""
    try:
        for number in range(n):
            _log(path, number)
            yield (number, b"x" * size) if size else number
    finally:
        _log(path, "closed")


async def counts_later(n: int, path: str = os.devnull, size: int = 0) -> AsyncIterator[Any]:
    """Do the same, a turn of the loop later each."""
    try:
        for number in range(n):
            await asyncio.sleep(0)
            _log(path, number)
            yield (number, b"x" * size) if size else number
    finally:
        _log(path, "closed")


def raises(after: int) -> Iterator[int]:
    """Yield so many numbers, then raise."""
    yield from range(after)
    raise KeyError("midway")


async def raises_later(after: int) -> AsyncIterator[int]:
    """Do the same in a task."""
    for number in range(after):
        yield number
    raise KeyError("midway")


def late(after: int) -> Iterator[int]:
    """Yield so many numbers, then sleep."""
    yield from range(after)
    time.sleep(60)
    yield -1


async def late_later(after: int) -> AsyncIterator[int]:
    """Do the same in a task."""
    for number in range(after):
        yield number
    await asyncio.sleep(60)
    yield -1


def frames(n: int, rows: int) -> Iterator[Any]:
    """Yield frames and arrays in turns."""
    for number in range(n):
        if number % 2:
            yield np.full(rows, number)
        else:
            yield {"at": number, "frame": pd.DataFrame({"x": np.full(rows, float(number))})}


def crashes(after: int) -> Iterator[int]:
    """Yield so many numbers, then end the worker."""
    yield from range(after)
    os.abort()


def odd_third() -> Iterator[Any]:
    """Yield two numbers, then what only a pickle could hold."""
    yield 0
    yield 1
    yield [Foo()]
