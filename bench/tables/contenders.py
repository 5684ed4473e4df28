"""One project's ways to hand over a table, in a process of its own with one worker.

It is told by lines on stdin and answers with one line of JSON each: `round WAY` hands over once,
`weigh WAY` hands over once more and says what memory that took.
"""

import contextlib
import json
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import data
from marks import Seen, now


class Contender:
    """A program that holds the table; each of its ways hands it to its worker once."""

    # The worker's process, as of the last call.
    worker = 0

    # Seconds of sleep before a call is timed.
    rest = 0.0

    def __init__(self, columns: data.Columns) -> None:
        self.columns = columns
        self.rows = len(next(iter(columns.values())))
        self.ways: dict[str, Callable[[bool], Seen]] = {}
        self.copies: list[dict[str, Any]] = []

    def ready(self, way: str, weigh: bool) -> None:
        """Do what is no part of handing over."""

    def close(self) -> None:
        """End the worker."""


# === Exuvia ===


class Exuvia(Contender):
    """A pool of one worker in this program; the table is shared once, or passed with each call."""

    def __init__(self, columns: data.Columns) -> None:
        import exuvia
        import pandas as pd
        import pyarrow as pa

        super().__init__(columns)
        self.host = exuvia.Host("handler.py", timeout=300)
        shared = exuvia.share(pa.table(columns))
        frame = pd.DataFrame(columns, copy=False)
        self.ways = {
            **{
                name: lambda weigh, name=name: self.call(f"handler:of_{name}", shared, weigh)
                for name in ("pandas", "polars", "pyarrow", "numpy")
            },
            "direct": lambda weigh: self.call("handler:of_pandas", frame, weigh),
        }
        self.worker = self.host.workers()[0].pid

    def call(self, handler: str, table: Any, weigh: bool) -> Seen:
        """Call the handler, and when it is weighed keep what was said of copies."""
        if not weigh:
            found: Seen = self.host.call(handler, table)
            return found
        outcome = self.host.outcome(handler, table, True)
        self.copies = [
            {"what": each.what, "bytes": each.bytes, "why": each.why}
            for each in outcome.diagnostics.copies
        ]
        told: Seen = outcome.value
        return told

    def close(self) -> None:
        self.host.close()


# === the standard library ===


class Multiprocessing(Contender):
    """A worker made by `multiprocessing`, a `Pipe` to it, and a socket pair for bare bytes."""

    def __init__(self, columns: data.Columns) -> None:
        import multiprocessing

        import pandas as pd
        import worker

        super().__init__(columns)
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.plain, far = socket.socketpair()
        self.process = context.Process(target=worker.serve, args=(theirs, far))
        self.process.start()
        self.worker = self.process.pid or 0
        self.frame = pd.DataFrame(columns, copy=False)
        self.ways = {
            "pickle": lambda _: self.answer(self.pipe.send, self.frame),
            "buffers": lambda _: self.answer(self.send_buffers),
            "json": lambda _: self.answer(self.send_json),
        }

    def ready(self, way: str, weigh: bool) -> None:
        self.pipe.send((way, weigh))

    def answer(self, send: Callable[..., None], *what: Any) -> Seen:
        """Send, and read what was seen of it."""
        send(*what)
        told: Seen = self.pipe.recv()
        return told

    def send_buffers(self) -> None:
        """Pickle without the columns' bytes, which go from where they are."""
        kept: list[pickle.PickleBuffer] = []
        head = pickle.dumps(self.frame, protocol=5, buffer_callback=kept.append)
        raw = [memoryview(head), *(buffer.raw() for buffer in kept)]
        sizes = pickle.dumps([len(each) for each in raw])
        self.plain.sendall(len(sizes).to_bytes(8, "little") + sizes)
        for each in raw:
            self.plain.sendall(each)

    def send_json(self) -> None:
        """Send JSON columns; orjson writes arrays without a list of Python's floats."""
        import orjson

        self.pipe.send_bytes(orjson.dumps(self.columns, option=orjson.OPT_SERIALIZE_NUMPY))

    def close(self) -> None:
        self.pipe.send(None)
        self.process.join()


class SharedMemory(Multiprocessing):
    """The table put into `multiprocessing.shared_memory` once, and its name sent with each call."""

    def __init__(self, columns: data.Columns) -> None:
        from multiprocessing import shared_memory

        import numpy as np

        super().__init__(columns)
        size = self.rows * 8
        self.memory = shared_memory.SharedMemory(create=True, size=size * len(columns))
        for n, column in enumerate(columns.values()):
            np.ndarray(self.rows, np.float64, self.memory.buf, n * size)[:] = column
        told = (self.memory.name, list(columns), self.rows)
        self.ways = {"memory": lambda _: self.answer(self.pipe.send, told)}

    def close(self) -> None:
        super().close()
        self.memory.close()
        self.memory.unlink()


# === Arrow Flight ===


class Flight(Contender):
    """A Flight server in another process, to which the table is put."""

    def __init__(self, columns: data.Columns) -> None:
        import pyarrow as pa
        from pyarrow import flight

        super().__init__(columns)
        self.table = pa.table(columns)
        self.folder = tempfile.TemporaryDirectory()
        self.servers: list[subprocess.Popen[str]] = []
        tcp = self.serve("grpc://127.0.0.1:0")
        unix = f"grpc+unix://{self.folder.name}/flight"
        self.serve(unix)
        self.clients = {
            "tcp": flight.connect(f"grpc://127.0.0.1:{tcp}"),
            "unix": flight.connect(unix),
        }
        self.ways = {
            name: lambda weigh, client=client: self.put(client, weigh)
            for name, client in self.clients.items()
        }

    def serve(self, location: str) -> int:
        """Start a server and wait for its port."""
        server = subprocess.Popen(
            [sys.executable, "-c", f"import worker; worker.fly({location!r})"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.servers.append(server)
        assert server.stdout is not None
        return int(server.stdout.readline())

    def ready(self, way: str, weigh: bool) -> None:
        self.worker = self.servers[list(self.ways).index(way)].pid

    def put(self, client: Any, weigh: bool) -> Seen:
        """Put the table, and read what was seen of it."""
        from pyarrow import flight

        descriptor = flight.FlightDescriptor.for_command(b"weigh" if weigh else b"")
        writer, answers = client.do_put(descriptor, self.table.schema)
        writer.write_table(self.table)
        writer.done_writing()
        told: Seen = tuple(json.loads(answers.read().to_pybytes()))
        writer.close()
        return told

    def close(self) -> None:
        for client in self.clients.values():
            client.close()
        for server in self.servers:
            server.kill()
            server.wait()
        self.folder.cleanup()


# === being asked ===

CONTENDERS: dict[str, Callable[[data.Columns], Contender]] = {
    "exuvia": Exuvia,
    "multiprocessing": Multiprocessing,
    "memory": SharedMemory,
    "flight": Flight,
}


def measure(contender: Contender, expected: float, way: str) -> dict[str, float]:
    """Give the seconds to the handler's first line, and until it has read all."""
    contender.ready(way, weigh=False)
    time.sleep(contender.rest)
    start = now()
    first, summed, total, _ = contender.ways[way](False)
    data.check(total, expected)
    return {"first": (first - start) / 1e9, "summed": (summed - start) / 1e9}


def weigh(contender: Contender, expected: float, way: str) -> dict[str, Any]:
    """Give the worker's own memory while it holds the table, and by how much peaks grew."""
    contender.ready(way, weigh=True)
    time.sleep(contender.rest)
    pids = {"program": os.getpid(), "worker": contender.worker}
    before = {name: reset_peak(pid) for name, pid in pids.items()}
    *_, total, own = contender.ways[way](True)
    data.check(total, expected)
    grown = {name: status(pid, "VmHWM") - before[name] for name, pid in pids.items()}
    return {"own": own, **grown, "copies": contender.copies}


def reset_peak(pid: int) -> int:
    """Let a process's peak begin anew; give what it holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return status(pid, "VmRSS")


def status(pid: int, name: str) -> int:
    """A size in bytes of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise SystemExit(f"error: this kernel does not tell {name}")


def main(name: str, rows: int, rest: float) -> None:
    """Make a contender and let it be asked. The first line says that it is there."""
    columns = data.columns(rows)
    expected = data.total(columns)
    contender = CONTENDERS[name](columns)
    contender.rest = rest
    print("{}", flush=True)
    with contextlib.closing(contender):
        for line in sys.stdin:
            what, way = line.split()
            step = measure if what == "round" else weigh
            print(json.dumps(step(contender, expected, way)), flush=True)
