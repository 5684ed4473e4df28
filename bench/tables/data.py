"""The table that is measured with: hourly series of float64 without gaps."""

import math
from typing import Any

import numpy as np

NAMES = ["load", "pv", "wind", "price", "temp", "heat", "charge", "grid"]
YEAR = 8760

Columns = dict[str, np.ndarray]


def columns(rows: int, decimals: int | None = None) -> Columns:
    """Eight series of random numbers, the same each time, with all their digits or with a few."""
    random = np.random.default_rng(8760)
    made = {name: random.normal(20.0, 10.0, rows) for name in NAMES}
    if decimals is not None:
        made = {name: column.round(decimals) for name, column in made.items()}
    return made


def total(table: Columns) -> float:
    """The sum that every worker must find."""
    return float(sum(float(column.sum()) for column in table.values()))


def check(found: float, expected: float) -> None:
    """End the measurement if an answer is wrong: its time would be worth nothing."""
    if not math.isclose(found, expected, rel_tol=1e-9):
        raise SystemExit(f"error: a worker's sum is {found!r}, not {expected!r}")


def arrow(table: Columns) -> bytes:
    """The table as an Arrow IPC stream of one batch."""
    import pyarrow as pa

    sink: Any = pa.BufferOutputStream()
    made = pa.table(table)
    with pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made)
    return bytes(sink.getvalue())
