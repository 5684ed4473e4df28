"""Handlers that do with tables and streams what nobody should, but somebody will."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = [
    "blocks",
    "cleans_up",
    "count",
    "count_later",
    "endless",
    "endless_later",
    "ends_when_cancelled",
    "few",
    "first_only",
    "forget",
    "forks",
    "hands_on",
    "ignores",
    "itself",
    "keeps",
    "kept",
    "keyword",
    "leaves",
    "nap",
    "naps",
    "nothing",
    "pid",
    "raises",
    "raises_later",
    "same",
    "ticks",
    "wide",
]

Arrays = dict[str, np.ndarray]

# What outlives its call.
KEPT: list[Any] = []


def small(n: int = 0) -> pa.Table:
    """Give one row."""
    return pa.table({"n": [n], "x": [0.5]})


def large(n: int) -> pa.Table:
    """Give 256 KiB."""
    return pa.table({"x": np.full(1 << 15, float(n))})


def pid() -> int:
    """Give the worker's number."""
    return os.getpid()


async def nap(seconds: float) -> int:
    """Give it later."""
    await asyncio.sleep(seconds)
    return os.getpid()


def naps(table: pa.Table, seconds: float = 1.0) -> int:
    """Hold the worker."""
    time.sleep(seconds)
    return int(table.num_rows)


# === generators ===


def few(count: int = 3) -> Iterator[pa.Table]:
    """Give some tables."""
    for n in range(count):
        yield small(n)


def nothing() -> Iterator[pa.Table]:
    """Give none."""
    yield from ()


def ticks(count: int = 20) -> Iterator[dict[str, int]]:
    """Give values over time."""
    for n in range(count):
        yield {"n": n}
        time.sleep(0.05)


def raises(when: str) -> Iterator[pa.Table]:
    """Fail at the start, in the middle or at the end."""
    try:
        if when == "first":
            raise ValueError("ouch first")
        yield small(0)
        if when == "midway":
            raise ValueError("ouch midway")
        yield small(1)
    finally:
        if when == "finally":
            raise ValueError("ouch finally")


async def raises_later(when: str) -> AsyncIterator[pa.Table]:
    """Do the same without holding the loop."""
    for each in raises(when):
        yield each


def leaves(how: str) -> Iterator[pa.Table]:
    """Raise what ends a program, not a call."""
    yield small()
    raise {
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "GeneratorExit": GeneratorExit(),
        "StopIteration": StopIteration(),
        "CancelledError": asyncio.CancelledError(),
    }[how]


def itself() -> Iterator[int]:
    """Give a generator that asks itself."""
    box: list[Iterator[int]] = []

    def inner() -> Iterator[int]:
        yield 1
        yield next(box[0])

    box.append(inner())
    return box[0]


def blocks() -> Iterator[pa.Table]:
    """Give one, then nothing for long."""
    yield small()
    time.sleep(60)


def endless() -> Iterator[pa.Table]:
    """Give tables for ever."""
    n = 0
    while True:
        yield large(n)
        n += 1


async def endless_later() -> AsyncIterator[pa.Table]:
    """Do the same without holding the loop."""
    for each in endless():
        yield each


def ignores() -> Iterator[pa.Table]:
    """Do not want to end."""
    while True:
        with suppress(GeneratorExit):
            yield large(0)


async def ends_when_cancelled() -> AsyncIterator[dict[str, int]]:
    """Take a cancel for a wish to end well."""
    n = 0
    try:
        while True:
            yield {"n": n}
            n += 1
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        return


def cleans_up(note: str) -> Iterator[pa.Table]:
    """Run a loop of its own at its end, and tell how that went."""
    try:
        yield from endless()
    finally:
        done = "failed"
        try:
            asyncio.run(asyncio.sleep(0))
            done = "done"
        finally:
            Path(note).write_text(done)


# === readers ===


def count(rows: pa.RecordBatchReader) -> int:
    """Read all."""
    return sum(batch.num_rows for batch in rows)


async def count_later(rows: pa.RecordBatchReader) -> int:
    """Read all, holding the loop meanwhile."""
    return sum(batch.num_rows for batch in rows)


def first_only(rows: pa.RecordBatchReader) -> int:
    """Read the first batch, and keep the reader."""
    KEPT.append(rows)
    return int(rows.read_next_batch().num_rows)


def hands_on(rows: pa.RecordBatchReader) -> str:
    """Let a thread read, and do not wait for it."""

    def read() -> None:
        try:
            KEPT.append(count(rows))
        except Exception as error:
            KEPT.append(str(error))

    threading.Thread(target=read, daemon=True).start()
    return "handed on"


def kept() -> list[Any]:
    """Tell what became of what was kept."""
    found = []
    for each in KEPT:
        try:
            found.append(count(each) if isinstance(each, pa.RecordBatchReader) else each)
        except Exception as error:
            found.append(str(error))
    KEPT.clear()
    return found


# === memory ===


def same(table: pa.Table) -> pa.Table:
    """Give what came."""
    return table


def keeps(arrays: Arrays) -> int:
    """Never let go of what came."""
    KEPT.append(arrays)
    return len(KEPT)


def forget() -> None:
    """Let go of it."""
    KEPT.clear()


def forks(arrays: Arrays) -> dict[str, Any]:
    """Let a child write to what came."""
    child = os.fork()
    if child == 0:
        arrays["x"][:] = -1.0
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return {"status": status, "sum": float(arrays["x"].sum())}


def wide(columns: int) -> pa.Table:
    """Give many columns."""
    return pa.table({f"c{n}": [n] for n in range(columns)})


def keyword(*, table: pa.Table, n: int = 1) -> list[int]:
    """Take a table by name only."""
    return [table.num_rows, n]
