"""Handlers that leave a mark for whatever happens to them, for the tests of abuse.

A mark is one byte more in a file: it counts across workers, and outlives them.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

__all__ = ["adds", "drips", "echoes", "lingers", "marks", "of_size", "pours", "rows_of"]

FOLDER = os.environ.get("ABUSED_MARKS")


def leave(name: str) -> None:
    """Add one mark."""
    if FOLDER is not None:
        with Path(FOLDER, name).open("ab", buffering=0) as file:
            file.write(b"x")


def adds(first: int, second: int) -> int:
    """Give the sum: what a client that means well asks for."""
    return first + second


def echoes(value: Any = None) -> Any:
    """Give the argument back."""
    leave("echoes")
    return value


def marks(tag: str = "marked") -> str:
    """Tell that a request came this far."""
    leave(tag)
    return tag


def of_size(size: int) -> str:
    """Give a text of so many bytes."""
    return "x" * size


def rows_of(value: bytes) -> int:
    """Give the length of a body, whatever is in it."""
    leave("rows_of")
    return len(value)


async def lingers(tag: str, seconds: float = 60, block: float = 0) -> str:
    """Take long, and tell of the beginning and of any end; first hold up the loop."""
    leave(f"{tag}-begun")
    time.sleep(block)
    try:
        await asyncio.sleep(seconds)
    finally:
        leave(f"{tag}-ended")
    return tag


async def drips(tag: str, pause: float = 0.01, size: int = 10) -> AsyncIterator[str]:
    """Yield small pieces without end."""
    leave(f"{tag}-begun")
    try:
        while True:
            yield "x" * size
            await asyncio.sleep(pause)
    finally:
        leave(f"{tag}-ended")


def pours(tag: str, pieces: int = 1_000_000, size: int = 65536) -> Iterator[str]:
    """Yield large pieces as fast as they are taken."""
    leave(f"{tag}-begun")
    try:
        for _ in range(pieces):
            yield "x" * size
    finally:
        leave(f"{tag}-ended")
