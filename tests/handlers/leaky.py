"""Handlers that leak, in a module that takes its time to be imported."""

import os
import time

__all__ = ["leaks", "nap", "naps"]

# Longer than a call takes on a busy machine, so that one that waits for it is told from the rest.
IMPORT_SECONDS = 1.0
time.sleep(IMPORT_SECONDS)

KEPT: list[bytes] = []


def leaks(megabytes: int = 5) -> int:
    """Keep so much memory for ever; give the worker's process id."""
    # Not zeros alone: a page that nobody wrote to is not resident.
    KEPT.append(b"x" * (megabytes << 20))
    return os.getpid()


def nap(ms: float = 0) -> int:
    """Sleep; give the worker's process id."""
    time.sleep(ms / 1000)
    return os.getpid()


async def naps(ms: float = 0) -> int:
    """Sleep in the loop; give the worker's process id."""
    import asyncio

    await asyncio.sleep(ms / 1000)
    return os.getpid()
