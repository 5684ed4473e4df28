"""What every worker under measurement tells of a table it was handed, whoever handed it over."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

# Clock at the handler's first line, clock when all is summed, the sum, bytes of the worker's own.
Seen = tuple[int, int, float, int]


def now() -> int:
    """The clock that all processes of the machine share."""
    return time.monotonic_ns()


def seen(first: int, columns: Iterable[np.ndarray], weigh: bool) -> Seen:
    """Read every number, so that what a page costs at its first touch is seen as well."""
    total = float(sum(float(column.sum()) for column in columns))
    summed = now()
    return first, summed, total, own() if weigh else 0


def columns_of(table: Any) -> Iterable[np.ndarray]:
    """The columns of a pyarrow table, piece by piece, without a copy."""
    for column in table.columns:
        for chunk in column.chunks:
            yield chunk.to_numpy(zero_copy_only=True)


def own() -> int:
    """Bytes of memory that this process has to itself: nothing of files and shared memory."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) << 10
    raise OSError("this kernel does not tell of anonymous memory")
