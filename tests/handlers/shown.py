"""Handlers for the tests of the page: each is something that a page must show well."""

import ctypes
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal

__all__ = [
    "add",
    "big",
    "crash",
    "forecast",
    "hostile",
    "nap",
    "order",
    "picture",
    "say",
    "ticks",
]


@dataclass
class Line:
    """One line of an order."""

    item: str
    n: Annotated[int, {"minimum": 1}] = 1


@dataclass
class Order:
    """What somebody wants."""

    customer: Annotated[str, {"minLength": 2, "description": "who `pays`"}]
    lines: list[Line]
    due: date | None = None
    ship: Literal["post", "van"] = "post"
    gift: bool = False
    tags: list[str] = field(default_factory=list)


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


def order(order: Order) -> dict[str, Any]:
    """Take an order.

    The price list of the day holds:

    * nuts are cheap
    * bolts are not
    """
    pieces = sum(line.n for line in order.lines)
    return {"customer": order.customer, "pieces": pieces, "gift": order.gift}


def forecast(asset: str, hours: int = 3, model: Literal["mean", "last"] = "mean") -> list[str]:
    """Give what an asset will load."""
    return [f"{asset} {model} {hour}" for hour in range(hours)]


def say(text: str) -> int:
    """Print it, and fail when it is nothing."""
    print("it says:", text)
    print("that was it", file=sys.stderr)
    if not text:
        raise ValueError("there is nothing to say")
    return len(text)


def crash() -> None:
    """Read at address zero."""
    _poke()


def _poke() -> None:
    ctypes.string_at(0)


def nap(seconds: float = 60) -> str:
    """Sleep."""
    time.sleep(seconds)
    return "slept"


def ticks(n: int = 5, pause: float = 0.1) -> Iterator[dict[str, int]]:
    """Count, with a pause after each."""
    for i in range(n):
        yield {"i": i, "square": i * i}
        time.sleep(pause)


def hostile(text: str = "<img src=x onerror=alert(1)>") -> list[dict[str, str]]:
    """Give <script>alert(1)</script> and <img src=x onerror=alert(2)> back."""
    print("<b>printed</b>", text)
    return [{"<i>name</i>": text}, {"<i>name</i>": "</td><script>alert(3)</script>"}]


def big() -> dict[str, int]:
    """Give numbers that JavaScript has not."""
    return {"large": 12345678901234567890, "small": 7}


def picture() -> bytes:
    """Draw."""
    return b"<svg xmlns='http://www.w3.org/2000/svg' width='40' height='40'><circle r='20'/></svg>"


__routes__ = {
    "GET /forecast/{asset}": "forecast",
    "GET /picture": {"handler": "picture", "media": "image/svg+xml"},
}
