"""The daily spread of hourly temperatures, by pyarrow alone."""

import sys
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["spread", "spread_of_batch", "spread_of_reader"]


def spread(temps: pa.Table) -> pa.Table:
    """Give each day's spread, the sum of all that was read, and which other libraries are there."""
    # Before pyarrow does anything: it imports pandas to see whether it is given a frame.
    others = [name for name in ("pandas", "polars", "arro3") if name in sys.modules]
    date: Any = temps["date"]
    # JSON has no times.
    if pa.types.is_string(date.type) or pa.types.is_large_string(date.type):
        date = date.cast(pa.timestamp("s"))
    columns = [date.cast(pa.date32(), safe=False), temps["temp"]]
    table = pa.Table.from_arrays(columns, names=["date", "temp"])
    made = table.group_by("date").aggregate([("temp", "min"), ("temp", "max")]).sort_by("date")
    columns = [
        made["date"],
        pc.subtract(made["temp_max"], made["temp_min"]),
        pa.repeat(pc.sum(temps["temp"]), made.num_rows),
        pa.repeat(",".join(others) or "none", made.num_rows),
    ]
    return pa.Table.from_arrays(columns, names=["date", "spread", "seen", "others"])


def spread_of_batch(temps: pa.RecordBatch) -> pa.RecordBatch:
    """Do the same with one batch."""
    return spread(pa.table(temps)).combine_chunks().to_batches()[0]


def spread_of_reader(temps: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """Do the same with batches one after the other."""
    return spread(temps.read_all()).to_reader(100)
