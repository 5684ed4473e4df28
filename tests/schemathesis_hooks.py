"""What schemathesis is told of us: files of our formats, and what a failing handler may say.

Loaded by it by SCHEMATHESIS_HOOKS: see `test_schemathesis.py`.
"""

import io
import json
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, Response
from schemathesis.specs.openapi.adapter import responses

# === tables as files ===

NAMES = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)

COLUMNS: list[st.SearchStrategy[Any]] = [
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.booleans(),
]


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Draw a table of a few columns and rows."""
    rows = draw(st.integers(0, 5))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    columns = [
        draw(st.lists(draw(st.sampled_from(COLUMNS)), min_size=rows, max_size=rows)) for _ in names
    ]
    return pa.table({name: pa.array(column) for name, column in zip(names, columns, strict=True)})


@st.composite
def series(draw: st.DrawFn, time: str, *columns: str) -> pa.Table:
    """Draw hours of these columns, as the examples want them."""
    rows = draw(st.integers(1, 30))
    start = draw(st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)))
    table = {time: [start.replace(microsecond=0) + timedelta(hours=row) for row in range(rows)]}
    numbers = st.lists(st.floats(0, 100), min_size=rows, max_size=rows)
    return pa.table({**table, **{column: draw(numbers) for column in columns}})


ANY_TABLE = st.one_of(
    tables(), series("date", "temp"), series("time", "load_kw", "pv_kw", "price_eur_mwh")
)


def as_ndjson(table: pa.Table) -> bytes:
    """Write a row a line."""
    return "".join(f"{json.dumps(row, default=str)}\n" for row in table.to_pylist()).encode()


def as_csv(table: pa.Table) -> bytes:
    """Write it with a header."""
    sink = io.BytesIO()
    pa_csv.write_csv(table, sink)
    return sink.getvalue()


def as_stream(table: pa.Table) -> bytes:
    """Write an Arrow IPC stream."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_file(table: pa.Table) -> bytes:
    """Write an Arrow IPC file."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_parquet(table: pa.Table) -> bytes:
    """Write a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def as_npy(numbers: list[float]) -> bytes:
    """Write an array in NumPy's format."""
    sink = io.BytesIO()
    np.save(sink, np.array(numbers, dtype=float))
    return sink.getvalue()


# A body without a byte is no data, and no table of no rows.
schemathesis.openapi.media_type("application/x-ndjson", ANY_TABLE.map(as_ndjson).filter(bool))
for media, write in {
    "text/csv": as_csv,
    "application/vnd.apache.arrow.stream": as_stream,
    "application/vnd.apache.arrow.file": as_file,
    "application/vnd.apache.parquet": as_parquet,
}.items():
    schemathesis.openapi.media_type(media, ANY_TABLE.map(write))
# How long a file is counts in bytes, for which it takes letters: these fit every handler here.
schemathesis.openapi.media_type("application/octet-stream", st.binary(min_size=4, max_size=8))
schemathesis.openapi.media_type(
    "application/x-npy", st.lists(st.floats(allow_nan=False), max_size=5).map(as_npy)
)


# === what it cannot do ===

# 4.32.5 writes `prefixItems` of a result as an older draft did, which its own validator refuses.
converted = partial(vars(responses)["to_json_schema"], convert_prefix_items=False)
vars(responses)["to_json_schema"] = converted


# === refusals ===


@schemathesis.check
def what_fits_is_refused_by_handlers_only(
    ctx: CheckContext, response: Response, case: Case[Any]
) -> None:
    """Hold a 422 to what fits the document to the handler's own word, or to its table's.

    Of tables the schema says less than what is read: `positive_data_acceptance` is the stricter
    check, and this one stays where that takes a 422.
    """
    is_positive = case.meta is not None and case.meta.generation.mode.is_positive
    if response.status_code != 422 or not is_positive:
        return
    problem = response.json()
    if problem["type"] == "urn:exuvia:problem:refused":
        return
    tables = ("/temps", "/series", "/table", "/numbers")
    if any(fault["pointer"] not in tables for fault in problem["errors"]):
        raise AssertionError(f"not the handler's own refusal: {problem}")
