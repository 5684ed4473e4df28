"""Handlers with parameters of every kind; each says what it was given."""

import asyncio
import sys
from typing import Any, Optional

__all__ = ["adds", "chatters", "echoes", "every", "later", "named", "rows", "waits"]


def every(  # type: ignore[no-untyped-def]
    i: int = 0,
    f: float = 0.0,
    b: bool = False,
    s: str = "",
    o: Optional[int] = None,  # noqa: UP045
    l: list[int] = [],  # noqa: B006, E741
    d: dict[str, int] = {},  # noqa: B006
    m: int | str = 0,
    u=None,
) -> dict[str, str]:
    """Give the arguments as Python writes them."""
    given = {"i": i, "f": f, "b": b, "s": s, "o": o, "l": l, "d": d, "m": m, "u": u}
    return {name: repr(value) for name, value in given.items()}


def adds(first: int, second: int) -> int:
    """Give the sum."""
    return first + second


def named(*, city: str, days: int = 1) -> str:
    """Take arguments by name only."""
    return f"{city} {days}"


def rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the rows back."""
    return rows


def echoes(value):  # type: ignore[no-untyped-def]
    """Give the argument back."""
    return value


async def later(n: int) -> int:
    """Give the number, a turn of the loop later."""
    await asyncio.sleep(0)
    return n


def chatters() -> dict[str, int]:
    """Print to both streams, then give a result."""
    print("thinking aloud")
    print("complaining", file=sys.stderr)
    return {"answer": 42}


async def waits(seconds: float) -> str:
    """Say that it has begun, then sleep."""
    print("begun", flush=True)
    await asyncio.sleep(seconds)
    return "done"
