"""Handing a table to a worker of the same machine: every way in turn, and figures in columns."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import data
from common import Asked
from workers import report

HERE = Path(__file__).resolve().parent
# Where the peers are, and what they run on.
PEERS = HERE.parent / ".venv/bin/python"


@dataclass(frozen=True)
class Size:
    """How long the table's columns are."""

    key: str
    rows: int

    @property
    def title(self) -> str:
        return f"{len(data.NAMES)} x {self.rows:,}"

    @property
    def nbytes(self) -> int:
        return len(data.NAMES) * self.rows * 8


SMALL = Size("small", data.YEAR)
LARGE = Size("large", data.YEAR * 1000)


@dataclass
class Way:
    """One way; `contender` and `key` are its names in contenders.py."""

    contender: str
    key: str
    name: str
    # Of the large table it is asked in each such round only, for it takes a minute.
    every: int = 1
    first: dict[str, list[float]] = field(default_factory=dict)
    summed: dict[str, list[float]] = field(default_factory=dict)
    weight: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def is_ours(self) -> bool:
        return self.contender == "exuvia"


def ways() -> list[Way]:
    """What is measured; the ratios are to the first."""
    return [
        Way("exuvia", "pandas", "Exuvia, shared once, pandas"),
        Way("exuvia", "polars", "Exuvia, shared once, polars"),
        Way("exuvia", "pyarrow", "Exuvia, shared once, pyarrow"),
        Way("exuvia", "numpy", "Exuvia, shared once, dict[str, ndarray]"),
        Way("exuvia", "direct", "Exuvia, passed in the call, pandas: copied once"),
        Way("memory", "memory", "shared_memory by hand, put once, pandas"),
        Way("multiprocessing", "pickle", "multiprocessing Pipe, pickle, pandas"),
        Way("multiprocessing", "buffers", "pickle 5, buffers apart, socket pair, pandas"),
        Way("flight", "tcp", "Arrow Flight over TCP, pyarrow"),
        Way("flight", "unix", "Arrow Flight over a Unix socket, pyarrow"),
        Way("multiprocessing", "json", "multiprocessing Pipe, JSON by orjson, pandas", every=3),
    ]


# === asking contenders ===


class Running(Asked):
    """A contender's process."""

    def __init__(self, key: str, rows: int, rest: float) -> None:
        self.key = key
        python = sys.executable if key == "exuvia" else str(PEERS)
        code = f"import contenders; contenders.main({key!r}, {rows}, {rest})"
        super().__init__(key, python, code, HERE)


@contextlib.contextmanager
def running(keys: list[str], rows: int, rest: float) -> Iterator[dict[str, Running]]:
    """Start contenders; they end with the block."""
    with contextlib.ExitStack() as stack:
        started = {}
        for key in keys:
            started[key] = Running(key, rows, rest)
            stack.callback(started[key].close)
        yield started


def measure(known: list[Way], size: Size, rounds: int, rest: float) -> None:
    """Ask all in turn, in rounds; the figures are kept with the ways."""
    is_large = size.rows > SMALL.rows
    keys = list(dict.fromkeys(way.contender for way in known))
    with running(keys, size.rows, rest) as contenders:
        for number in range(rounds + 1):
            if is_large or number % 10 == 0:
                print(f"{size.key}: round {number} of {rounds}", file=sys.stderr)
            for way in known if number % 2 else known[::-1]:
                if is_large and way.every > 1 and (number == 0 or number % way.every):
                    continue
                answer = contenders[way.contender].ask(f"round {way.key}")
                if number:
                    way.first.setdefault(size.key, []).append(answer["first"])
                    way.summed.setdefault(size.key, []).append(answer["summed"])
        for way in known:
            way.weight[size.key] = contenders[way.contender].ask(f"weigh {way.key}")


# === the tables ===


def times(known: list[Way], sizes: list[Size]) -> str:
    """Seconds to the handler's first line, for each size, and how they grow with it."""
    rows = [["", *heads(sizes, "median", "p99", "ratio")]]
    if len(sizes) > 1:
        rows[0].append("large / small")
    for way in known:
        cells = [way.name]
        for size in sizes:
            figures = way.first[size.key]
            ratio = middle(way, size) / middle(known[0], size)
            cells += [ms(report.median_of(figures)), ms(report.p99_of(figures)), f"{ratio:,.1f}x"]
        if len(sizes) > 1:
            cells.append(f"{middle(way, sizes[-1]) / middle(way, sizes[0]):,.2f}x")
        rows.append(cells)
    title = f"From the call to the handler's first line (ms; {titles(sizes)})"
    return report.columns(title, rows, lost(known, sizes))


def heads(sizes: list[Size], *words: str) -> list[str]:
    """The same columns for each size."""
    return [f"{size.key}: {word}" for size in sizes for word in words]


def titles(sizes: list[Size]) -> str:
    """What the sizes are."""
    return ", ".join(f"{size.key}: {size.title}" for size in sizes)


def middle(way: Way, size: Size) -> float:
    """The median of seconds to the first line."""
    return report.median_of(way.first[size.key])


def lost(known: list[Way], sizes: list[Size]) -> str:
    """Say where peers are quicker than the first row."""
    said = []
    for size in sizes:
        peers = [way for way in known if not way.is_ours]
        quicker = [way.name for way in peers if middle(way, size) < middle(known[0], size)]
        said.append(f"quicker than the first row, {size.key}: {'; '.join(quicker) or 'no peer'}")
    return "\n".join(said)


def read(known: list[Way], sizes: list[Size]) -> str:
    """The same until the handler has read every number."""
    rows = [["", *heads(sizes, "median", "p99", "rounds")]]
    for way in known:
        cells = [way.name]
        for size in sizes:
            figures = way.summed[size.key]
            told = (ms(report.median_of(figures)), ms(report.p99_of(figures)), str(len(figures)))
            cells += told
        rows.append(cells)
    title = f"From the call until all numbers are summed (ms; {titles(sizes)})"
    return report.columns(title, rows)


def ms(seconds: float) -> str:
    """Seconds as milliseconds, with the microseconds where there are few."""
    return f"{seconds * 1e3:,.3f}" if seconds < 0.01 else report.ms(seconds)


def weights(known: list[Way], size: Size) -> str:
    """Memory of one more call, and the copies that Exuvia itself reports."""
    rows = [
        ("", "worker's own", "peak of worker", "peak of program", "reported copies", "MiB of them")
    ]
    for way in known:
        told = way.weight[size.key]
        copies = told["copies"]
        rows.append(
            (
                way.name,
                report.mib(told["own"]),
                f"+{report.mib(told['worker'])}",
                f"+{report.mib(told['program'])}",
                str(len(copies)) if way.is_ours else "-",
                report.mib(sum(each["bytes"] for each in copies)) if way.is_ours else "-",
            )
        )
    reasons = dict.fromkeys(
        f"{each['what']}: {each['why']}" for way in known for each in way.weight[size.key]["copies"]
    )
    note = "".join(f"\nExuvia's reason: {reason}" for reason in reasons)
    title = f"Memory of one call, {size.title}, {report.mib(size.nbytes)} MiB of numbers (MiB)"
    return report.columns(title, rows) + note


def kept(known: list[Way]) -> dict[str, Any]:
    """Every sample."""
    return {
        way.name: {"first": way.first, "summed": way.summed, "weight": way.weight} for way in known
    }


def missing() -> str:
    """Empty, or why peers cannot be measured."""
    return "" if os.access(PEERS, os.X_OK) else "bench/.venv is not there (run `make bench`)"
