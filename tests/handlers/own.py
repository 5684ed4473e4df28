"""Handlers over classes of one's own, which only Python programs can send and get."""

import dataclasses
import os
import threading

__all__ = ["lock", "make", "move", "pid", "raises"]


@dataclasses.dataclass
class Point:
    """A class that lives in this file."""

    x: int
    y: int


class OwnError(Exception):
    """An exception that lives in this file."""


def move(point: Point, dx: int = 0) -> Point:
    """Give a point further to the right."""
    return Point(point.x + dx, point.y)


def make(x: int, y: int) -> list[Point]:
    """Give a new point."""
    return [Point(x, y)]


def raises() -> None:
    """Raise an exception with a cause."""
    try:
        os.environ["NO SUCH VARIABLE"]
    except KeyError as error:
        raise OwnError("no luck") from error


def lock() -> object:
    """Give what cannot be pickled."""
    return {"a": [threading.Lock()]}


def pid() -> int:
    """Give the worker's process id."""
    return os.getpid()
