"""What schemathesis is told of us: files of our formats, and what a failing handler may say.

Loaded by it by SCHEMATHESIS_HOOKS: see `test_schemathesis.py`.
"""

import io
import json
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


def as_ndjson(table: pa.Table) -> bytes:
    """Write a row a line."""
    return "".join(f"{json.dumps(row)}\n" for row in table.to_pylist()).encode()


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
schemathesis.openapi.media_type("application/x-ndjson", tables().map(as_ndjson).filter(bool))
for media, write in {
    "text/csv": as_csv,
    "application/vnd.apache.arrow.stream": as_stream,
    "application/vnd.apache.arrow.file": as_file,
    "application/vnd.apache.parquet": as_parquet,
}.items():
    schemathesis.openapi.media_type(media, tables().map(write))
schemathesis.openapi.media_type(
    "application/x-npy", st.lists(st.floats(allow_nan=False), max_size=5).map(as_npy)
)


# Nor is it a file.
schemathesis.openapi.media_type("application/octet-stream", st.binary(min_size=1, max_size=99))


# === what it cannot do ===

# 4.32.5 writes `prefixItems` of a result as an older draft did, which its own validator refuses.
converted = partial(vars(responses)["to_json_schema"], convert_prefix_items=False)
vars(responses)["to_json_schema"] = converted


# === failures ===


@schemathesis.check
def failures_are_the_handlers_own(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Hold every 5xx to a `ValueError` that the handler itself raised.

    `not_a_server_error` is the stricter check; where it is off, this one stays.
    """
    if response.status_code < 500:
        return
    problem = response.json()
    exception = problem.get("exception", {})
    said = problem.get("responsible"), problem.get("type"), exception.get("class")
    if said != ("guest", "urn:exuvia:problem:exception", "ValueError"):
        raise AssertionError(f"{response.status_code}, but no ValueError of the handler: {problem}")
