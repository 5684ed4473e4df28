"""Handlers that take and give tables."""

from typing import Any

import pandas as pd

__all__ = ["columns", "doubled", "either", "joined", "shape"]


def shape(table: pd.DataFrame) -> dict[str, Any]:
    """Say what arrived."""
    kinds = {str(name): str(column.dtype) for name, column in table.items()}
    return {"rows": len(table), "columns": [str(name) for name in table], "kinds": kinds}


def doubled(table: pd.DataFrame, column: str = "n") -> pd.DataFrame:
    """Give the table with one column doubled."""
    return table.assign(**{column: table[column] * 2})


def joined(left: pd.DataFrame, right: pd.DataFrame, *, on: str) -> pd.DataFrame:
    """Give both tables as one."""
    return left.merge(right, on=on)


def columns(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Give the columns as lists."""
    return {str(name): column.tolist() for name, column in table.items()}


def either(table: pd.DataFrame | None = None) -> int:
    """Give the number of rows, -1 for no table."""
    return -1 if table is None else len(table)
