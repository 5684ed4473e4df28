"""Whole HTTP calls with a table in or out, beside FastAPI: servers, load, figures in columns."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import data
import pyarrow as pa
from handlers.run import cpu_of, end, tail, tree
from workers import report

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".venv/bin"

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"
COLUMNS = "application/json; table=columns"


@dataclass(frozen=True)
class Door:
    """One request to one server."""

    server: str
    name: str
    path: str
    # A name in `bodies`, or empty; and the type of what it asks for.
    body: str = ""
    media: str = JSON
    accept: str = ""


@dataclass(frozen=True)
class Case:
    """Doors that are measured side by side; the ratios are to the first."""

    key: str
    title: str
    connections: int
    doors: list[Door]


@dataclass
class Load:
    """What is known of one door in one case: rounds, and all their latencies."""

    seconds: list[float] = field(default_factory=list)
    per_cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    # Bytes of the request's and of the answer's body.
    sent: int = 0
    answer: int = 0
    copies: str = ""


# === what is asked ===


def peers(make: Callable[[str], list[Door]]) -> list[Door]:
    """The doors of FastAPI, on either server."""
    return [*make("granian"), *make("uvicorn")]


def doors_in(decimals: str = "") -> list[Door]:
    """A year of series in, a number out."""
    columns, rows = f"columns{decimals}", f"rows{decimals}"
    return [
        Door("exuvia", "Exuvia, Arrow, pandas", "/web/of_pandas", f"arrow{decimals}", ARROW),
        Door("exuvia", "Exuvia, Arrow, polars", "/web/of_polars", f"arrow{decimals}", ARROW),
        Door("exuvia", "Exuvia, Arrow, pyarrow", "/web/of_pyarrow", f"arrow{decimals}", ARROW),
        Door("exuvia", "Exuvia, JSON columns, pandas", "/web/of_pandas", columns),
        Door("exuvia", "Exuvia, JSON rows, pandas", "/web/of_pandas", rows),
        *peers(
            lambda server: [
                Door(server, "JSON rows, models", "/rows/model", rows),
                Door(server, "JSON columns, a model", "/columns/model", columns),
                Door(server, "JSON rows, orjson", "/json/orjson", rows),
                Door(server, "JSON columns, orjson", "/json/orjson", columns),
                Door(server, "Arrow, pyarrow", "/arrow", f"arrow{decimals}", ARROW),
            ]
        ),
    ]


def doors_out() -> list[Door]:
    """Nothing in, a year of series out."""
    return [
        Door("exuvia", "Exuvia, Arrow", "/web/year", accept=ARROW),
        Door("exuvia", "Exuvia, JSON columns", "/web/year", accept=COLUMNS),
        Door("exuvia", "Exuvia, JSON rows", "/web/year", accept=JSON),
        *peers(
            lambda server: [
                Door(server, "JSON rows, pandas", "/year/rows"),
                Door(server, "JSON rows, orjson", "/year/rows/orjson"),
                Door(server, "JSON columns, orjson", "/year/columns"),
                Door(server, "Arrow, pyarrow", "/year/arrow"),
            ]
        ),
    ]


def cases() -> list[Case]:
    """What is measured over HTTP."""
    year = f"{len(data.NAMES)} x {data.YEAR:,}"
    few = [door for door in doors_in("1") if door.server != "uvicorn"]
    return [
        Case("call", f"A table of {year} in, a number out, 1 connection", 1, doors_in()),
        Case("call-4", f"A table of {year} in, a number out, 4 connections", 4, doors_in()),
        Case("short", f"Numbers of one decimal, {year} in, a number out, 1 connection", 1, few),
        Case("result", f"A pandas frame of {year} out, 1 connection", 1, doors_out()),
    ]


@dataclass(frozen=True)
class Body:
    """What is sent, and what the numbers sum to that come back."""

    text: bytes
    total: float


def bodies() -> dict[str, Body]:
    """The same table in every format; with the ending 1, numbers of one decimal."""
    made = {"": Body(b"", data.total(data.columns(data.YEAR)))}
    for ending, decimals in (("", None), ("1", 1)):
        columns = data.columns(data.YEAR, decimals)
        lists = {name: column.tolist() for name, column in columns.items()}
        rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        texts = {"arrow": data.arrow(columns)}
        for name, value in (("columns", lists), ("rows", rows)):
            # Compact, as the quick writers of JSON give it.
            texts[name] = json.dumps(value, separators=(",", ":")).encode()
        made.update({f"{n}{ending}": Body(t, data.total(columns)) for n, t in texts.items()})
    return made


# === the servers ===


@dataclass
class Server:
    """A server that is up."""

    key: str
    process: subprocess.Popen[bytes]
    port: int
    # Proportional bytes of all its processes.
    before: int = 0
    after: int = 0

    def pss(self) -> int:
        return sum(report.memory_of(pid)[0] for pid in tree(self.process.pid))


def commands(exuvia: Path) -> dict[str, Callable[[int], list[str]]]:
    """How each server is started, with one worker and all the quick parts it can use."""
    return {
        "exuvia": lambda port: [
            *(str(exuvia), "serve", str(HERE / "web.py"), "--workers", "1"),
            *("--port", str(port), "--python", sys.executable),
        ],
        "granian": lambda port: [
            *(str(PEERS / "granian"), "--interface", "asgi", "--loop", "uvloop", "--workers", "1"),
            *("--no-access-log", "--log-level", "warning", "--port", str(port), "peer:app"),
        ],
        "uvicorn": lambda port: [
            *(str(PEERS / "uvicorn"), "--loop", "uvloop", "--http", "httptools", "--workers", "1"),
            *("--no-access-log", "--log-level", "warning", "--port", str(port), "peer:app"),
        ],
    }


@contextlib.contextmanager
def serving(key: str, command: Callable[[int], list[str]], folder: Path) -> Iterator[Server]:
    """Start a server and end all of it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / f"{key}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command(port), cwd=HERE, stdout=out, stderr=out, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"error: {key} did not start\n{tail(log)}")
            time.sleep(0.05)
        yield Server(key, process, port)
    finally:
        end(process)


# === one load ===


class Client:
    """One connection that asks the same again and again."""

    def __init__(self, port: int, door: Door, body: bytes) -> None:
        self.door = door
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = [f"POST {door.path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        head += [f"Content-Type: {door.media}"] if body else []
        head += [f"Accept: {door.accept}"] if door.accept else []
        # In one piece: the head does not go ahead in a packet of its own.
        self.request = ("\r\n".join(head) + "\r\n\r\n").encode() + body
        self.room = memoryview(bytearray(1 << 22))
        self.copies = ""

    def ask(self) -> memoryview:
        """Send the request, give the answer's body."""
        self.socket.sendall(self.request)
        got, whole, begin = 0, 0, 0
        while not whole or got < whole:
            size = self.socket.recv_into(self.room[got:])
            if size == 0:
                sys.exit(f"error: {self.door.server} closed the connection of {self.door.path}")
            got += size
            if not whole:
                begin, whole = self.measure(bytes(self.room[: min(got, 2048)]))
        return self.room[begin:whole]

    def measure(self, start: bytes) -> tuple[int, int]:
        """Where the body begins and ends; 0 as long as the head is not whole."""
        head, found, _ = start.partition(b"\r\n\r\n")
        if not found:
            return 0, 0
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if b" 200 " not in head.partition(b"\r\n")[0] or length is None:
            sys.exit(f"error: {self.door.server} answered {self.door.path} with\n{start!r}")
        copies = re.search(rb"\r\nexuvia-copies: *([^\r]+)", head, re.IGNORECASE)
        self.copies = copies[1].decode() if copies else ""
        return len(head) + 4, len(head) + 4 + int(length[1])

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def sum_of(answer: bytes) -> float:
    """What the numbers of an answer sum to: of one number, or of a table in any format."""
    if answer.startswith(b"\xff\xff\xff\xff"):
        table = pa.ipc.open_stream(answer).read_all()
        return data.total({name: table[name].to_numpy() for name in data.NAMES})
    value = json.loads(answer)
    if isinstance(value, dict):
        return float(sum(sum(column) for column in value.values()))
    if isinstance(value, list):
        return float(sum(sum(row.values()) for row in value))
    return float(value)


def load(server: Server, case: Case, door: Door, body: Body, seconds: float, to: Load) -> None:
    """Ask for some seconds over all connections; every answer is checked."""
    clients = [Client(server.port, door, body.text) for _ in range(case.connections)]
    # Connections are made and the way is walked once before the clock starts.
    for client in clients:
        first = bytes(client.ask())
        data.check(sum_of(first), body.total)
        to.copies, to.sent, to.answer = client.copies, len(body.text), len(first)
    stop = time.monotonic() + seconds

    def run(client: Client) -> list[float]:
        took = []
        while time.monotonic() < stop:
            start = time.perf_counter()
            answer = client.ask()
            took.append(time.perf_counter() - start)
            if len(answer) != len(first) or (len(answer) < 64 and answer != first):
                sys.exit(f"error: {door.server} answered {door.path} otherwise")
        return took

    cpu, begun = cpu_of(tree(server.process.pid)), time.monotonic()
    with ThreadPoolExecutor(len(clients)) as threads:
        took = [each for mine in threads.map(run, clients) for each in mine]
    lasted = time.monotonic() - begun
    cpu = cpu_of(tree(server.process.pid)) - cpu
    for client in clients:
        client.close()
    to.seconds += took
    to.rate.append(len(took) / lasted)
    to.per_cpu.append(len(took) / cpu)


Loads = dict[tuple[str, Door], Load]


def measure(
    servers: dict[str, Server],
    known: list[Case],
    rounds: int,
    seconds: float,
    made: dict[str, Body],
) -> Loads:
    """Load all doors in turn, in rounds, with a round that does not count before."""
    loads: Loads = {}
    for number in range(rounds + 1):
        print(f"HTTP: round {number} of {rounds}", file=sys.stderr)
        for case in known:
            for door in case.doors if number % 2 else case.doors[::-1]:
                to = loads.setdefault((case.key, door), Load()) if number else Load()
                lasting = seconds if number else 0.3
                load(servers[door.server], case, door, made[door.body], lasting, to)
        for server in servers.values():
            if number == 0:
                server.before = server.pss()
            server.after = server.pss()
    return loads


# === the tables ===

TITLES = {"exuvia": "", "granian": "FastAPI on Granian, ", "uvicorn": "FastAPI on uvicorn, "}


def table(case: Case, loads: Loads) -> str:
    """The figures of one case."""
    head = ("", "KB in", "KB out", "p50 ms", "p99 ms", "requests/s", "requests/CPU-s")
    rows = [(*head, "CPU ratio", "p50 ratio", "requests", "copies")]
    base = loads[case.key, case.doors[0]]
    for door in case.doors:
        one = loads[case.key, door]
        rows.append(
            (
                TITLES[door.server] + door.name,
                f"{one.sent / 1000:,.0f}",
                f"{one.answer / 1000:,.0f}",
                f"{report.median_of(one.seconds) * 1e3:,.2f}",
                f"{report.p99_of(one.seconds) * 1e3:,.2f}",
                f"{report.median_of(one.rate):,.0f}",
                f"{report.median_of(one.per_cpu):,.0f}",
                f"{report.median_of(base.per_cpu) / report.median_of(one.per_cpu):,.2f}x",
                f"{report.median_of(one.seconds) / report.median_of(base.seconds):,.2f}x",
                f"{len(one.seconds):,}",
                (one.copies or "0") if door.server == "exuvia" else "-",
            )
        )
    return report.columns(case.title, rows, lost(case, loads))


def lost(case: Case, loads: Loads) -> str:
    """Say where peers need less CPU, or less time, than the first row."""
    base = loads[case.key, case.doors[0]]
    fields: list[tuple[str, Callable[[Load], float]]] = [
        ("less CPU", lambda one: 1 / report.median_of(one.per_cpu)),
        ("quicker", lambda one: report.median_of(one.seconds)),
    ]
    said = []
    for word, of in fields:
        peers_ = [door for door in case.doors if door.server != "exuvia"]
        better = [
            TITLES[door.server] + door.name
            for door in peers_
            if of(loads[case.key, door]) < of(base)
        ]
        said.append(f"{word} than the first row: {'; '.join(better) or 'no peer'}")
    return "\n".join(said)


def weights(servers: dict[str, Server]) -> str:
    """Memory of the servers before and after all loads."""
    rows = [("", "after the first round", "after the last", "processes")]
    for server in servers.values():
        count = len(tree(server.process.pid))
        cells = (report.mib(server.before), report.mib(server.after), str(count))
        rows.append((server.key, *cells))
    return report.columns("Memory of the servers, all processes (PSS, MiB)", rows)


def kept(loads: Loads) -> list[dict[str, Any]]:
    """Every sample."""
    return [
        {"case": key, "door": asdict(door), **asdict(one)} for (key, door), one in loads.items()
    ]
