"""Handlers of tables, arrays and files in every way they are asked for, and of streams of them."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, BinaryIO

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

# === tables and arrays ===


def frame(table: pd.DataFrame, head: Annotated[int, {"minimum": 0}] = 100) -> pd.DataFrame:
    return table.head(head)


def polar(table: pl.DataFrame | None = None) -> int:
    return 0 if table is None else table.height


def arrow(table: pa.Table) -> pa.Table:
    return table


def batches(table: pa.RecordBatchReader) -> int:
    return sum(batch.num_rows for batch in table)


def array(numbers: NDArray[Any]) -> list[int]:
    return list(np.asarray(numbers).shape)


def rows(rows: list[dict[str, Any]]) -> int:
    return len(rows)


# === files ===


def kept(file: BinaryIO) -> int:
    return len(file.read())


def several(files: list[bytes], note: str = "", n: int = 0) -> int:
    return sum(map(len, files)) + n


def stored(name: str, data: bytes) -> list[str | int]:
    return [name, len(data)]


# === streams ===


def numbers(n: Annotated[int, range(20)] = 3) -> Iterator[int]:
    yield from range(n)


async def words(n: Annotated[int, range(20)] = 3) -> AsyncIterator[str]:
    for number in range(n):
        yield str(number)


def tables(n: Annotated[int, range(1, 5)] = 1) -> Iterator[pd.DataFrame]:
    for number in range(n):
        yield pd.DataFrame({"n": [number, number + 1]})


def picture(size: Annotated[int, range(1, 100)] = 1) -> bytes:
    return b"x" * size


__routes__ = {
    "PUT /files/{name}": "stored",
    "GET /numbers": {"handler": "numbers", "media": "text/event-stream"},
    "GET /words/{n}": {"handler": "words", "media": "application/x-ndjson"},
    "GET /tables": {"handler": "tables", "media": "text/csv"},
    "GET /picture": {"handler": "picture", "media": "image/png"},
}
