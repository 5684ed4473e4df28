"""Handlers with routes of their own, for tests/test_routes.py."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import date
from typing import Annotated, Any, BinaryIO, Literal

import exuvia
import pandas as pd


def forecast(
    asset: str, hours: int = 24, model: str = "mean", day: date | None = None
) -> dict[str, Any]:
    """What an asset will load."""
    return {"asset": asset, "hours": hours, "model": model, "day": day}


def tagged(tag: list[str], n: Annotated[int, {"minimum": 1}] = 1) -> dict[str, Any]:
    return {"tag": tag, "n": n}


def order(id: int, item: str, n: int = 1) -> dict[str, Any]:
    return {"id": id, "item": item, "n": n}


def rest(path: str) -> str:
    return path


def anything(**more: str) -> dict[str, Any]:
    return more


def hello(name: str = "you") -> str:
    return f"hello, {name}\n"


def picture() -> bytes:
    return b"\x89PNG\r\n\x1a\n"


def wrong_text() -> str:
    return 1  # type: ignore[return-value]


def nothing() -> None:
    return None


def measure(table: pd.DataFrame, title: str = "") -> dict[str, Any]:
    return {"rows": len(table), "columns": list(table.columns), "title": title}


def size(data: bytes) -> int:
    return len(data)


def sizes(files: list[bytes]) -> list[int]:
    return [len(file) for file in files]


def named(file: BinaryIO, note: str = "") -> dict[str, Any]:
    return {"name": file.name, "size": len(file.read()), "note": note}


def words(text: str) -> int:
    return len(text.split())


def ticks(n: int = 3, fail: bool = False) -> Iterator[dict[str, Any]]:
    for i in range(n):
        yield {"tick": i}
    if fail:
        raise ValueError("no more ticks")


def events() -> Iterator[dict[str, Any]]:
    yield {"event": "start", "id": "1", "data": {"a": 1}}
    yield {"data": [1, 2], "retry": 500}
    yield {"data": 1, "other": 2}


async def async_ticks(n: int = 3) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


running = 0
most = 0
lock = threading.Lock()


async def slow(seconds: float = 0.2) -> int:
    """How many ran at once, at most, in this worker."""
    global running, most
    running += 1
    most = max(most, running)
    try:
        await asyncio.sleep(seconds)
        return most
    finally:
        running -= 1


def fill(mib: int) -> int:
    return len(bytearray(mib << 20))


def who() -> dict[str, Any]:
    call = exuvia.current_call()
    assert call is not None
    return {
        "id": call.id,
        "handler": call.handler,
        "time_left": call.time_left,
        "request_id": call.request_id,
        "traceparent": call.traceparent,
        "tracestate": call.tracestate,
    }


async def who_later() -> dict[str, Any]:
    await asyncio.sleep(0.05)
    return who()


def who_in_pieces() -> Iterator[dict[str, Any]]:
    yield who()
    time.sleep(0.01)
    yield who()


def span() -> str:
    """The trace that OpenTelemetry knows, in hexadecimal."""
    from opentelemetry import trace

    return f"{trace.get_current_span().get_span_context().trace_id:032x}"


async def span_later() -> str:
    await asyncio.sleep(0.01)
    return span()


def which(kind: Literal["a", "b"]) -> str:
    return kind


__routes__ = {
    "GET /forecast/{asset}": {"handler": "forecast", "headers": {"model": "X-Model"}},
    "GET /tagged": tagged,
    "PUT,PATCH /orders/{id}": {"handler": "order", "status": 202},
    "GET /files/{*path}": "rest",
    "GET /files/readme": {"handler": "hello", "media": "text/plain"},
    "GET /anything": "anything",
    "GET /picture": {"handler": "picture", "media": "image/png"},
    "GET /wrong": {"handler": "wrong_text", "media": "text/html"},
    "DELETE /nothing": {"handler": "nothing", "summary": "Delete nothing"},
    "GET /ticks": "ticks",
    "GET /kind/{kind}": "which",
}
