"""Handlers that tell where in memory the data lies that they were given, and write to it."""

import os
from pathlib import Path
from typing import Any

import arro3.core
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

__all__ = [
    "edits_array",
    "edits_arrays",
    "edits_frame",
    "of_array",
    "of_arro3",
    "of_arro3_batch",
    "of_arrow",
    "of_arrow_batch",
    "of_arrow_reader",
    "of_frame",
    "of_numpy",
    "of_polars",
    "of_polars_lazy",
    "same",
    "total",
]

Arrays = dict[str, np.ndarray]


def told(addresses: list[int]) -> dict[str, Any]:
    """Give where columns begin, and the maps of payloads in this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    maps = [line for line in lines if "memfd:exuvia-payload" in line]
    return {"pid": os.getpid(), "addresses": addresses, "maps": maps}


# === where it lies ===


def begins(column: Any) -> int:
    """Where the values of a column of pyarrow begin, which must be in one piece."""
    [chunk] = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return int(chunk.buffers()[1].address + chunk.offset * 8)


def of_arrow(table: pa.Table) -> dict[str, Any]:
    """Take a table."""
    return told([begins(column) for column in table.columns])


def of_arrow_batch(batch: pa.RecordBatch) -> dict[str, Any]:
    """Take a batch."""
    return told([begins(column) for column in batch.columns])


def of_arrow_reader(reader: pa.RecordBatchReader) -> dict[str, Any]:
    """Take a reader of one batch."""
    return of_arrow(reader.read_all())


def of_arro3(table: arro3.core.Table) -> dict[str, Any]:
    """Take a table of arro3, whose memory pyarrow shows."""
    return of_arrow(pa.table(table))


def of_arro3_batch(batch: arro3.core.RecordBatch) -> dict[str, Any]:
    """Take a batch of arro3."""
    return of_arrow_batch(pa.record_batch(batch))


def of_polars(frame: pl.DataFrame) -> dict[str, Any]:
    """Take a frame of polars."""
    return told([column.to_numpy(allow_copy=False).ctypes.data for column in frame])


def of_polars_lazy(frame: pl.LazyFrame) -> dict[str, Any]:
    """Take a frame of polars that nobody has computed yet."""
    return of_polars(frame.collect())


def of_frame(frame: pd.DataFrame) -> dict[str, Any]:
    """Take a frame of pandas."""
    arrays = [frame[name].to_numpy(copy=False) for name in frame]
    return told([array.ctypes.data for array in arrays])


def of_numpy(arrays: Arrays) -> dict[str, Any]:
    """Take arrays by name."""
    return told([array.ctypes.data for array in arrays.values()])


def of_array(array: np.ndarray) -> dict[str, Any]:
    """Take an array."""
    return told([array.ctypes.data])


# === writing to it ===


def edits_frame(frame: pd.DataFrame) -> dict[str, Any]:
    """Write to every column of a frame in place; give the sums before and after, and where."""
    before = float(frame.to_numpy().sum())
    starts = [frame[name].to_numpy(copy=False).ctypes.data for name in frame]
    for name in frame:
        frame.loc[:, name] = -1.0
    frame.iloc[0, 0] = 5.0
    found = told([frame[name].to_numpy(copy=False).ctypes.data for name in frame])
    moved = found["addresses"] != starts
    return {**found, "before": before, "after": float(frame.to_numpy().sum()), "moved": moved}


def edits_arrays(arrays: Arrays) -> dict[str, Any]:
    """Do the same with arrays by name."""
    before = float(sum(array.sum() for array in arrays.values()))
    for array in arrays.values():
        array[:] = -1.0
    after = float(sum(array.sum() for array in arrays.values()))
    found = told([array.ctypes.data for array in arrays.values()])
    return {**found, "before": before, "after": after}


def edits_array(array: np.ndarray) -> dict[str, Any]:
    """Do the same with an array."""
    before = float(array.sum())
    array *= 0.0
    return {**told([array.ctypes.data]), "before": before, "after": float(array.sum())}


# === a call of no weight ===


def total(table: pa.Table) -> int:
    """Give the number of rows."""
    return int(table.num_rows)


def same(table: pa.Table) -> pa.Table:
    """Give what came."""
    return table
