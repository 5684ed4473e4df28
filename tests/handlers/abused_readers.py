"""Handlers that read a table as it comes, for the tests of abuse."""

import time

import pyarrow as pa

__all__ = ["counts", "counts_later"]


def counts(rows: pa.RecordBatchReader) -> int:
    """Give the number of rows."""
    return sum(batch.num_rows for batch in rows)


def counts_later(rows: pa.RecordBatchReader) -> int:
    """Read nothing for some time, then do the same."""
    time.sleep(2)
    return counts(rows)
