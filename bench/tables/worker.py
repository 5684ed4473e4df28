"""The other end of the peers: a worker process of multiprocessing, and a Flight server."""

import json
import pickle
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
import orjson
import pandas as pd
from marks import Seen, columns_of, now, seen


def of_pandas(frame: pd.DataFrame, weigh: bool) -> Seen:
    """The handler: the same as Exuvia's."""
    first = now()
    return seen(first, (frame[name].to_numpy() for name in frame), weigh)


# === multiprocessing ===


def serve(pipe: Connection, plain: socket.socket) -> None:
    """Answer until None comes. What way the next table takes is told before the clock starts."""
    ways: dict[str, Callable[[bool], Seen]] = {
        "pickle": lambda weigh: of_pandas(pipe.recv(), weigh),
        "buffers": lambda weigh: of_pandas(out_of_band(plain), weigh),
        "json": lambda weigh: of_pandas(pd.DataFrame(orjson.loads(pipe.recv_bytes())), weigh),
        "memory": lambda weigh: in_memory(pipe, weigh),
    }
    while (told := pipe.recv()) is not None:
        way, weigh = told
        pipe.send(ways[way](weigh))


def out_of_band(plain: socket.socket) -> pd.DataFrame:
    """A pickle of protocol 5 whose buffers come after it, each into memory of its own."""
    sizes = pickle.loads(exactly(plain, int.from_bytes(exactly(plain, 8), "little")))
    head, *buffers = (exactly(plain, size) for size in sizes)
    frame: pd.DataFrame = pickle.loads(head, buffers=buffers)
    return frame


def exactly(plain: socket.socket, size: int) -> memoryview:
    """Read so many bytes, without a copy beside the kernel's."""
    made = memoryview(np.empty(size, np.uint8))
    done = 0
    while done < size:
        done += plain.recv_into(made[done:])
    return made


def in_memory(pipe: Connection, weigh: bool) -> Seen:
    """A frame over shared memory that is attached for this call."""
    name, names, rows = pipe.recv()
    memory = SharedMemory(name)
    try:
        return of_pandas(over(memory, names, rows), weigh)
    finally:
        memory.close()


def over(memory: SharedMemory, names: list[str], rows: int) -> pd.DataFrame:
    """A frame over shared memory, without a copy."""
    arrays = {
        name: np.ndarray(rows, np.float64, memory.buf, n * rows * 8) for n, name in enumerate(names)
    }
    return pd.DataFrame(arrays, copy=False)


# === Arrow Flight ===


def fly(location: str) -> None:
    """Serve Flight: a table that is put is handled, and what was seen goes back as metadata."""
    from pyarrow import flight

    class Server(flight.FlightServerBase):  # type: ignore[misc]
        def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
            table = reader.read_all()
            first = now()
            weigh = descriptor.command == b"weigh"
            writer.write(json.dumps(seen(first, columns_of(table), weigh)).encode())

    server = Server(location)
    print(server.port, flush=True)
    server.serve()
