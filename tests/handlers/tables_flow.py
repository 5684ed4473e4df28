"""Handlers that make their result piece by piece, and wait between pieces until they may go on.

What happens is noted by files in a folder: `made-0` once the first piece was asked for, `closed`
when nobody wants more. Before piece `n` they wait for a file `go-n`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

__all__ = [
    "breaks",
    "changes",
    "doubled",
    "endless",
    "endless_later",
    "frames",
    "frames_later",
    "halves",
    "of_polars",
    "pulled",
    "values",
]

PIECE = 1 << 15


def piece(n: int) -> pd.DataFrame:
    """Give three rows."""
    return pd.DataFrame({"piece": n, "x": [0.5, 1.5, float(n)]})


def wait_for(folder: str, name: str) -> None:
    """Wait for a file, but not for ever."""
    for _ in range(2000):
        if Path(folder, name).exists():
            return
        time.sleep(0.01)
    raise TimeoutError(name)


def note(folder: str, name: str, text: str = "") -> None:
    """Tell that something has happened; a file is there only with what is in it."""
    made = Path(folder, f".{name}")
    made.write_text(text)
    made.rename(Path(folder, name))


def frames(folder: str, count: int = 3) -> Iterator[pd.DataFrame]:
    """Give frames, each when it may be made."""
    for n in range(count):
        wait_for(folder, f"go-{n}")
        note(folder, f"made-{n}")
        yield piece(n)


async def frames_later(folder: str, count: int = 3) -> AsyncIterator[pd.DataFrame]:
    """Do the same without holding the loop."""
    for n in range(count):
        while not Path(folder, f"go-{n}").exists():
            await asyncio.sleep(0.01)
        note(folder, f"made-{n}")
        yield piece(n)


def of_polars(folder: str, count: int = 3) -> Iterator[pl.DataFrame]:
    """Do the same with polars."""
    for frame in frames(folder, count):
        yield pl.from_pandas(frame)


def values(folder: str, count: int = 3) -> Iterator[dict[str, Any]]:
    """Give values that are no tables."""
    for n in range(count):
        wait_for(folder, f"go-{n}")
        yield {"piece": n}


def large(n: int) -> pa.Table:
    """Give 256 KiB."""
    return pa.table({"x": np.full(PIECE, float(n))})


def endless(folder: str) -> Iterator[pa.Table]:
    """Give tables until nobody wants more."""
    n = 0
    try:
        while True:
            note(folder, "made", str(n))
            yield large(n)
            n += 1
    except GeneratorExit:
        note(folder, "closed", "GeneratorExit")
        raise


async def endless_later(folder: str) -> AsyncIterator[pa.Table]:
    """Do the same without holding the loop."""
    n = 0
    try:
        while True:
            note(folder, "made", str(n))
            yield large(n)
            n += 1
            await asyncio.sleep(0)
    except (GeneratorExit, asyncio.CancelledError) as why:
        note(folder, "closed", type(why).__name__)
        raise


def breaks(after: int = 2) -> Iterator[pd.DataFrame]:
    """Give some frames, then fail."""
    for n in range(after):
        yield piece(n)
    raise ValueError("no more rain")


def changes() -> Iterator[pd.DataFrame]:
    """Give frames that do not go together."""
    yield piece(0)
    yield pd.DataFrame({"other": ["text"]})


def pulled(rows: pa.RecordBatchReader, folder: str = "") -> dict[str, Any]:
    """Read batch by batch, and tell of each."""
    total, count = 0.0, 0
    for n, batch in enumerate(rows):
        total += float(np.sum(batch["x"].to_numpy()))
        count += batch.num_rows
        if folder_of(batch, folder):
            note(folder_of(batch, folder), f"read-{n}")
    return {"sum": total, "rows": count}


def folder_of(batch: pa.RecordBatch, folder: str) -> str:
    """Where to note things; a stream has no room for arguments but in its own metadata."""
    return folder or (batch.schema.metadata or {}).get(b"folder", b"").decode()


def doubled(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Give each batch as it comes, doubled."""
    for batch in rows:
        yield pa.record_batch({"x": batch["x"].to_numpy() * 2})


def halves(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Give a table in two pieces."""
    middle = len(table) // 2
    yield table.iloc[:middle]
    yield table.iloc[middle:].reset_index(drop=True)
