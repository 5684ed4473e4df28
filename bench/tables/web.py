"""The handlers under measurement over HTTP, as Exuvia takes them."""

from typing import Any

import data
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["of_pandas", "of_polars", "of_pyarrow", "year"]

# What is given back is there already: what is measured is how it leaves.
YEAR = pd.DataFrame(data.columns(data.YEAR), copy=False)


def of_pandas(frame: pd.DataFrame) -> float:
    """Sum a pandas frame."""
    return float(sum(frame[name].to_numpy().sum() for name in frame))


def of_polars(frame: pl.DataFrame) -> float:
    """Sum a polars frame."""
    return float(sum(column.sum() for column in frame))


def of_pyarrow(table: pa.Table) -> float:
    """Sum a pyarrow table."""
    return float(sum(pc.sum(column).as_py() for column in table.columns))


def year() -> Any:
    """Give a year of series."""
    return YEAR
