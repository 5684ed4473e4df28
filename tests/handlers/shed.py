"""Handlers that tell where they run and what was there before them, and one that leaks."""

import os
import sys
from typing import Any

__all__ = ["imported", "leaks", "pid", "threads", "warmed"]

# Who ran `warm`: the process that workers are forked from, or each of them.
WARMED_BY: list[int] = []
KEPT: list[bytearray] = []


def warm() -> None:
    """Leave a trace of this process."""
    WARMED_BY.append(os.getpid())


def warmed() -> tuple[int, list[int]]:
    """Give this process, and those that ran `warm`."""
    return os.getpid(), WARMED_BY


def pid() -> int:
    """Give the worker's process id."""
    return os.getpid()


def imported(module: str) -> bool:
    """Tell whether the module is there, though nothing here imports it."""
    return module in sys.modules


def leaks(megabytes: int) -> int:
    """Keep so much memory for ever; give the worker's process id."""
    # Not zeros alone: a page that nobody wrote to is not resident.
    KEPT.append(bytearray(b"x" * (megabytes << 20)))
    return os.getpid()


def threads() -> list[int]:
    """Give how many threads each numeric library would use."""
    import numpy as np
    import threadpoolctl  # type: ignore[import-untyped]

    np.ones((2, 2)) @ np.ones((2, 2))
    pools: list[dict[str, Any]] = threadpoolctl.threadpool_info()
    return [pool["num_threads"] for pool in pools]
