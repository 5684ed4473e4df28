"""Handlers that give back what they were given, each in another library."""

import arro3.core
import pandas as pd
import polars as pl
import pyarrow as pa

__all__ = ["arro", "arrow", "frame", "lines", "pola", "unnamed"]


def frame(table: pd.DataFrame) -> pd.DataFrame:
    """Give back a frame of pandas."""
    return table


def pola(table: pl.DataFrame) -> pl.DataFrame:
    """Give back a frame of polars."""
    return table


def arrow(table: pa.Table) -> pa.Table:
    """Give back a table of pyarrow."""
    return table


def arro(table: arro3.core.Table) -> arro3.core.Table:
    """Give back a table of arro3."""
    return table


def unnamed(table):  # type: ignore[no-untyped-def] # that is the point
    """Give back whatever came."""
    return table


def lines(table: pd.DataFrame) -> list[str]:
    """Tell what pandas has: labels, types, and the index."""
    columns = [f"{name}: {column.dtype}" for name, column in table.items()]
    index = table.index
    return [*columns, f"index {list(index.names)}: {type(index).__name__}"]
