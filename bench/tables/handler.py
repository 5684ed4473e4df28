"""The handlers under measurement, as Exuvia takes them: plain functions that ask for a table."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from marks import Seen, columns_of, now, seen

__all__ = ["of_numpy", "of_pandas", "of_polars", "of_pyarrow"]


def of_pandas(frame: pd.DataFrame, weigh: bool = False) -> Seen:
    """Take a pandas frame."""
    first = now()
    return seen(first, (frame[name].to_numpy() for name in frame), weigh)


def of_polars(frame: pl.DataFrame, weigh: bool = False) -> Seen:
    """Take a polars frame."""
    first = now()
    return seen(first, (column.to_numpy(allow_copy=False) for column in frame), weigh)


def of_pyarrow(table: pa.Table, weigh: bool = False) -> Seen:
    """Take a pyarrow table."""
    first = now()
    return seen(first, columns_of(table), weigh)


def of_numpy(arrays: dict[str, np.ndarray], weigh: bool = False) -> Seen:
    """Take an array for each column."""
    first = now()
    return seen(first, arrays.values(), weigh)
