"""Tables as bytes in every format, as other programs write and read them."""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

STREAM = "application/vnd.apache.arrow.stream"
FILE = "application/vnd.apache.arrow.file"
PARQUET = "application/vnd.apache.parquet"
CSV = "text/csv"
NDJSON = "application/x-ndjson"
ROWS = "application/json; table=rows"
COLUMNS = "application/json; table=columns"
NPY = "application/x-npy"


@dataclass(frozen=True)
class Format:
    """One format: what it is called, and how others write and read it."""

    word: str
    media: str
    # Of its files; JSON in columns has none of its own.
    ending: str
    write: Callable[[Any], bytes]
    read: Callable[[bytes], list[dict[str, Any]]]


# === writing ===


def as_stream(table: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_file(table: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def as_parquet(table: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(table, sink, **options)
    return sink.getvalue()


def as_csv(table: Any) -> bytes:
    sink = io.BytesIO()
    pa.csv.write_csv(table, sink)
    return sink.getvalue()


def as_ndjson(table: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in plain_rows(table))


def as_rows(table: Any) -> bytes:
    return json.dumps(plain_rows(table)).encode()


def as_columns(table: Any) -> bytes:
    rows = plain_rows(table)
    return json.dumps({name: [row[name] for row in rows] for name in table.column_names}).encode()


def as_npy(array: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def plain_rows(table: Any) -> list[dict[str, Any]]:
    """Rows that JSON can hold: times are text."""
    return [{key: plain(value) for key, value in row.items()} for row in table.to_pylist()]


def plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value


# === reading ===


def read_columns(raw: bytes) -> list[dict[str, Any]]:
    columns = json.loads(raw)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def read_csv(raw: bytes) -> list[dict[str, Any]]:
    rows: list[Any] = pd.read_csv(io.BytesIO(raw)).to_dict("records")
    return rows


def read_npy(raw: bytes) -> Any:
    return np.load(io.BytesIO(raw))


def table_in(raw: bytes) -> Any:
    """The table of an answer as an Arrow stream."""
    return pa.ipc.open_stream(raw).read_all()


FORMATS = {
    form.word: form
    for form in [
        Format("arrow-stream", STREAM, "arrows", as_stream, lambda raw: table_in(raw).to_pylist()),
        Format(
            "arrow",
            FILE,
            "arrow",
            as_file,
            lambda raw: list(pa.ipc.open_file(raw).read_all().to_pylist()),
        ),
        Format(
            "parquet",
            PARQUET,
            "parquet",
            as_parquet,
            lambda raw: list(pa.parquet.read_table(io.BytesIO(raw)).to_pylist()),
        ),
        Format(
            "csv",
            CSV,
            "csv",
            as_csv,
            read_csv,
        ),
        Format(
            "ndjson",
            NDJSON,
            "ndjson",
            as_ndjson,
            lambda raw: [json.loads(line) for line in raw.splitlines()],
        ),
        Format("json-rows", ROWS, "json", as_rows, json.loads),
        Format("json-columns", COLUMNS, "", as_columns, read_columns),
    ]
}
