"""Every kind of table that a handler may ask for, and every kind that it may give."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import arro3.core
import exuvia
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

# === what is asked for ===


class Streams(Protocol):
    """Anything that gives its rows by Arrow's interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give them."""


class Mine:
    """A class of one's own that makes itself of Arrow data."""

    def __init__(self, table: Any) -> None:
        """Keep it."""
        self.table = pa.table(table)

    @classmethod
    def from_arrow(cls, table: Any) -> "Mine":
        """Make one."""
        return cls(table)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give its rows."""
        return self.table.__arrow_c_stream__(requested_schema)


def told(table: Any, seen: Any, rows: int) -> dict[str, Any]:
    """Say what came, and what is in it."""
    kind = f"{type(table).__module__.partition('.')[0]}.{type(table).__name__}"
    return {"kind": kind, "sum": float(seen), "rows": rows}


def told_by_arrow(table: Any) -> dict[str, Any]:
    """Say the same of what has Arrow's interface."""
    read = pa.table(table)
    return told(table, np.sum(read["temp"].to_numpy()), read.num_rows)


def of_array(temps: np.ndarray) -> dict[str, Any]:
    """Take an array."""
    return {**told(temps, temps.sum(), len(temps)), "shape": temps.shape, "dtype": str(temps.dtype)}


def of_arrays(temps: dict[str, np.ndarray]) -> dict[str, Any]:
    """Take arrays by name."""
    dtypes = {name: str(array.dtype) for name, array in temps.items()}
    return {**told(temps, temps["temp"].sum(), len(temps["temp"])), "dtypes": dtypes}


def of_arro3(temps: arro3.core.Table) -> dict[str, Any]:
    """Take a table of arro3."""
    return told_by_arrow(temps)


def of_arro3_batch(temps: arro3.core.RecordBatch) -> dict[str, Any]:
    """Take a batch of arro3."""
    return told(temps, np.sum(pa.record_batch(temps)["temp"].to_numpy()), temps.num_rows)


def of_arro3_reader(temps: arro3.core.RecordBatchReader) -> dict[str, Any]:
    """Take batches of arro3 one after the other."""
    return told_by_arrow(temps)


def of_batch(temps: pa.RecordBatch) -> dict[str, Any]:
    """Take a batch."""
    return told(temps, np.sum(temps["temp"].to_numpy()), temps.num_rows)


def of_reader(temps: pa.RecordBatchReader) -> dict[str, Any]:
    """Take batches one after the other."""
    read = temps.read_all()
    return told(temps, np.sum(read["temp"].to_numpy()), read.num_rows)


def of_lazy(temps: pl.LazyFrame) -> dict[str, Any]:
    """Take a frame of polars that nobody has computed yet."""
    frame = temps.collect()
    return told(temps, frame["temp"].sum(), frame.height)


def of_streams(temps: Streams) -> dict[str, Any]:
    """Take anything with Arrow's interface."""
    return told_by_arrow(temps)


def of_ours(temps: exuvia.Table) -> dict[str, Any]:
    """Take our own table."""
    return told_by_arrow(temps)


def of_mine(temps: Mine) -> dict[str, Any]:
    """Take a class that makes itself."""
    return told_by_arrow(temps)


def of_rows(temps: list[dict[str, Any]]) -> dict[str, Any]:
    """Take rows."""
    return told(temps, sum(row["temp"] for row in temps), len(temps))


def of_columns(temps: dict[str, list[Any]]) -> dict[str, Any]:
    """Take columns."""
    return told(temps, sum(temps["temp"]), len(temps["temp"]))


def of_either(temps: int | pl.DataFrame | pd.DataFrame) -> dict[str, Any]:
    """Take the first of these that is a table."""
    return told(temps, temps["temp"].sum(), len(temps)) if not isinstance(temps, int) else {}


async def of_frame_later(temps: pd.DataFrame) -> dict[str, Any]:
    """Take a frame in an async handler."""
    await asyncio.sleep(0.001)
    return told(temps, temps["temp"].sum(), len(temps))


# === what is given ===

N = [1, 2, 3]
X = [0.5, 1.5, -2.0]
COLUMNS = {"n": N, "x": X}
ARROW = pa.table(COLUMNS)

GIVEN: dict[str, Callable[[], Any]] = {
    "pandas.DataFrame": lambda: pd.DataFrame(COLUMNS),
    "pandas.Series": lambda: pd.Series(X, name="x"),
    "polars.DataFrame": lambda: pl.DataFrame(COLUMNS),
    "polars.LazyFrame": lambda: pl.LazyFrame(COLUMNS).filter(pl.col("n") < 9),
    "polars.Series": lambda: pl.Series("x", X),
    "pyarrow.Table": lambda: ARROW,
    "pyarrow.RecordBatch": lambda: ARROW.to_batches()[0],
    "pyarrow.RecordBatchReader": lambda: ARROW.to_reader(2),
    "arro3.Table": lambda: arro3.core.Table.from_arrow(ARROW),
    "arro3.RecordBatch": lambda: arro3.core.RecordBatch.from_arrow(ARROW.to_batches()[0]),
    "arro3.RecordBatchReader": lambda: arro3.core.RecordBatchReader.from_arrow(ARROW),
    "exuvia.Table": lambda: exuvia.Table.from_arrow(ARROW),
    "a class": lambda: Mine(ARROW),
    "rows": lambda: [{"n": n, "x": x} for n, x in zip(N, X, strict=True)],
    "dict of lists": lambda: dict(COLUMNS),
    "dict of arrays": lambda: {"n": np.array(N), "x": np.array(X)},
    "structured array": lambda: np.array(list(zip(N, X, strict=True)), [("n", "i8"), ("x", "f8")]),
    "vector": lambda: np.array(X),
    "matrix": lambda: np.array([X, X]).T,
}


def gives(kind: str) -> Any:
    """Give a table of a kind."""
    return GIVEN[kind]()


def scaled(values: np.ndarray, by: float = 2.0) -> np.ndarray:
    """Give an array, of as many dimensions as came."""
    return values * by


# === what can go wrong ===


def gives_number() -> int:
    """Give what is no table."""
    return 7


def gives_text() -> str:
    """Give what is neither table nor array."""
    return "text"


def gives_record() -> dict[str, object]:
    """Give a dict of this and that."""
    return {"name": "x", "size": 1}


def gives_nested() -> pa.Table:
    """Give a column of lists."""
    return pa.table({"n": [1], "path": [[1, 2]]})


def gives_float(value: str) -> pd.DataFrame:
    """Give a frame with a number that JSON does not know."""
    return pd.DataFrame({"n": [1, 2], "level": [0.5, float(value)]})


def gives_objects() -> pd.DataFrame:
    """Give a column of which nothing is known."""
    return pd.DataFrame({"n": [1], "thing": [object()]})


def gives_ragged() -> dict[str, list[int]]:
    """Give columns that are not equally long."""
    return {"a": [1, 2], "b": [1]}


def takes_none() -> int:
    """Take nothing."""
    return 0


def takes_number(n: int) -> int:
    """Take a number."""
    return n


def takes_polars(table: pl.DataFrame) -> int:
    """Take what polars knows."""
    return table.height


__all__ = [name for name, found in globals().items() if name.startswith(("of_", "gives", "takes"))]
__all__ += ["scaled"]
