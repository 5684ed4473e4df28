"""Handlers that do what handlers should not, for the tests of outcomes."""

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time

__all__ = [
    "aborts",
    "blocks_loop",
    "deadlocks_loop",
    "echoes",
    "exits",
    "fails",
    "floods",
    "forks",
    "nap",
    "naps",
    "nests_loop",
    "prints",
    "quits",
    "segfaults",
    "shy",
    "spins",
    "spins_in_c",
    "stubborn",
    "unwritable",
]


def nap(ms: float = 5, tag: int = 0) -> dict[str, int]:
    """Sleep, then say which process it was."""
    time.sleep(ms / 1000)
    return {"tag": tag, "pid": os.getpid()}


async def naps(ms: float = 5, tag: int = 0) -> dict[str, int]:
    """Sleep in the loop, then say which process it was."""
    await asyncio.sleep(ms / 1000)
    return {"tag": tag, "pid": os.getpid()}


def echoes(value: object) -> object:
    """Give the argument back."""
    return value


def fails(depth: int = 3) -> None:
    """Raise, some calls down."""
    if depth > 0:
        fails(depth - 1)
    raise LookupError("no such thing")


def segfaults() -> None:
    """Read address 0."""
    ctypes.string_at(0)


def aborts() -> None:
    """End by SIGABRT."""
    os.kill(os.getpid(), signal.SIGABRT)


def spins() -> None:
    """Never end, in Python."""
    while True:
        pass


def spins_in_c() -> None:
    """Never end, inside one call of a C function that holds the interpreter."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def exits(status: int = 7) -> None:
    """End the process without a word."""
    os._exit(status)


def quits() -> None:
    """Raise SystemExit, as sys.exit does."""
    sys.exit("had enough")


def prints(text: str = "hello") -> None:
    """Print to both streams."""
    print(text)
    print(text.upper(), file=sys.stderr)


def floods(megabytes: int = 50) -> int:
    """Print a lot."""
    line = "x" * 1023
    for _ in range(megabytes * 1024):
        print(line)
    return megabytes


async def blocks_loop(seconds: float = 60) -> None:
    """Block the event loop it runs in."""
    time.sleep(seconds)


async def deadlocks_loop() -> None:
    """Wait in the loop's own thread for a lock that nobody will release."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


async def stubborn() -> None:
    """Do not end when cancelled."""
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def shy(seconds: float = 60) -> str:
    """End when cancelled, and say so."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print("cancelled, cleaning up")
        raise
    return "done"


def nests_loop() -> str:
    """Run an event loop of its own."""

    async def inner() -> str:
        await asyncio.sleep(0)
        return "nested"

    return asyncio.run(inner())


def unwritable() -> dict[str, list[object]]:
    """Return what JSON has no place for."""
    return {"a": [1, 2, object()]}


def forks() -> int:
    """Leave a process behind."""
    return subprocess.Popen(["sleep", "300"]).pid
