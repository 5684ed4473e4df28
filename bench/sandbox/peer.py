"""What processes of `multiprocessing` and `python -c` run: the functions of the bundle."""

import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent / "bundle"))

from main import first, frame, spin, total

__all__ = ["first", "first_of", "frame", "hold", "ready", "serve", "spin", "total"]

_attached: dict[str, SharedMemory] = {}


def serve(connection: Connection, function: str, n: int) -> None:
    """Answer one call."""
    connection.send(globals()[function](n))


def first_of(name: str, length: int) -> tuple[int, float]:
    """The same as `first`, of memory that has a name; it is attached to once."""
    if name not in _attached:
        _attached[name] = SharedMemory(name=name)
    there, last = first(np.ndarray((length,), buffer=_attached[name].buf))
    return there, last


def ready() -> None:
    """Import what is called: that is done with this module."""


def hold(_: int) -> None:
    """Keep a process busy, so that each of a pool gets one."""
    time.sleep(0.3)
