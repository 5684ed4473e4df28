"""Measure one JSON handler under Exuvia and under its peers, in turn, on this machine.

`make bench` sets everything up and runs this. The method is in bench/README.md; it is printed with
the numbers too. Nothing but the standard library is used.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
import common  # noqa: E402

ROOT = common.ROOT
PEERS = ROOT / "bench/.venv/bin"
PATH = "/handler/greet"
BASELINE = "FastAPI on Granian"

METHOD = """\
One handler: POST {"name": str, "n": int} gives {"message": "hello, " + name, "n": n + 1}.
One worker each, access logs off, loopback, connections kept alive. Load by `wrk -t1` on the same
machine. All servers stay up and are loaded one at a time, in rounds; the order turns round with
each round, and a warm-up round is not counted. CPU is the run time of every thread of the server's
whole process tree (schedstat), so requests per CPU-second does not depend on how much of the
machine was free. Given are medians over the rounds, (lowest-highest), and the ratio of the medians
to FastAPI on Granian."""


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    key: str
    title: str
    connections: int
    name_length: int


CASES = [
    Case("c64", "64 connections, 23-byte body", 64, 5),
    Case("c1", "1 connection, 23-byte body (latency)", 1, 5),
    Case("1MiB", "8 connections, 1 MiB body in and out", 8, 1 << 20),
]


@dataclass(frozen=True)
class Kind:
    """A server to measure: how it starts, and what to say of its parts."""

    name: str
    command: Callable[[int], list[str]]
    # Empty, or why it cannot be measured here.
    missing: str
    parts: str


@dataclass(frozen=True)
class Sample:
    """One load of one server in one round. Times are in microseconds."""

    rate: float
    per_cpu: float
    cpu_share: float
    p50: float
    p99: float
    slowest: float
    errors: int
    replaced: bool


@dataclass
class Running:
    """A server that is up."""

    kind: Kind
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    samples: dict[str, list[Sample]] = field(default_factory=dict)


# === the servers ===


def kinds(exuvia: Path, exuvia_python: Path) -> list[Kind]:
    """Every server we know, measurable here or not."""
    has_uvloop = _peer_version("uvloop") is not None
    loop = "uvloop" if has_uvloop else "asyncio"
    no_peers = "" if (PEERS / "python").exists() else "bench/.venv is not there (run `make bench`)"
    fastapi = _versions("fastapi", "starlette", "pydantic", "uvloop")
    return [
        Kind(
            "Exuvia",
            lambda port: [
                *(str(exuvia), "serve", str(HERE / "handler.py"), "--workers", "1"),
                *("--port", str(port), "--python", str(exuvia_python)),
            ],
            "" if exuvia.is_file() else f"{exuvia} does not exist (run `make build`)",
            common.first_line([str(exuvia), "--version"]),
        ),
        Kind(
            BASELINE,
            lambda port: [
                *(str(PEERS / "granian"), "--interface", "asgi", "--loop", loop, "--workers", "1"),
                *("--no-access-log", "--log-level", "warning", "--port", str(port), "peer:app"),
            ],
            no_peers,
            f"{_versions('granian')}, {fastapi}",
        ),
        Kind(
            "FastAPI on uvicorn",
            lambda port: [
                *(str(PEERS / "uvicorn"), "--loop", loop, "--http", "httptools", "--workers", "1"),
                *("--no-access-log", "--log-level", "warning", "--port", str(port), "peer:app"),
            ],
            no_peers,
            f"{_versions('uvicorn', 'httptools')}, {fastapi}",
        ),
    ]


@contextlib.contextmanager
def running(kind: Kind, folder: Path) -> Iterator[Running]:
    """Start a server, check that it gives the right answer, and end all of it afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / f"{re.sub(r'[^a-z]+', '-', kind.name.lower())}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            kind.command(port), cwd=HERE, stdout=out, stderr=out, start_new_session=True
        )
    server = Running(kind, process, port, log)
    try:
        wait_until_right(server)
        yield server
    finally:
        end(process)


def wait_until_right(server: Running, seconds: float = 30.0) -> None:
    """Wait for the first answer, which must be the right one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = ask(server.port)
            break
        except OSError as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"error: {server.kind.name} did not start: {error}\n{tail(server.log)}")
            time.sleep(0.05)
    if answer != (200, {"message": "hello, world", "n": 42}):
        sys.exit(f"error: {server.kind.name} answered {answer}\n{tail(server.log)}")


def ask(port: int) -> tuple[int, Any]:
    """Call the handler once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        body = json.dumps({"name": "world", "n": 41})
        connection.request("POST", PATH, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text.decode(errors="replace")
    finally:
        connection.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask the server to stop; whatever is left of its tree after that is killed."""
    left = tree(process.pid)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    for pid in left:
        # The number could have passed to another process meanwhile: ours are in its session.
        with contextlib.suppress(OSError):
            if os.getsid(pid) == process.pid:
                os.kill(pid, signal.SIGKILL)
    process.wait()


def tail(log: Path) -> str:
    """Give the end of what a server wrote."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


# === CPU time, from /proc ===


def tree(pid: int) -> list[int]:
    """The process and everything below it."""
    found = [pid]
    for process in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{process}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def cpu_of(pids: list[int]) -> float:
    """Seconds that all threads of the processes have run so far."""
    nanoseconds = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                # A thread may end between the listing and the reading.
                with contextlib.suppress(OSError):
                    nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


# === one measurement ===


def load(server: Running, case: Case, seconds: int) -> Sample:
    """Load the server with one case for some seconds."""
    before = tree(server.process.pid)
    cpu = cpu_of(before)
    command = [
        *("wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--timeout", "10s"),
        *("-s", str(HERE / "load.lua"), f"http://127.0.0.1:{server.port}{PATH}"),
        *("--", str(case.name_length)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = tree(server.process.pid)
    cpu = cpu_of(after) - cpu
    found = re.search(r"^RESULT (.+)$", done.stdout, re.MULTILINE)
    if found is None:
        sys.exit(f"error: wrk gave no result for {server.kind.name}:\n{done.stdout}{done.stderr}")
    requests, duration, p50, p99, slowest, *errors = map(int, found[1].split())
    # wrk counts an answer of 400 and above as a request and as an error: only good ones count.
    good = requests - errors[3]
    return Sample(
        rate=good / (duration / 1e6),
        per_cpu=good / cpu if cpu > 0 else 0.0,
        cpu_share=cpu / (duration / 1e6),
        p50=p50,
        p99=p99,
        slowest=slowest,
        errors=sum(errors),
        replaced=before != after,
    )


def measure(servers: list[Running], cases: list[Case], rounds: int, seconds: int) -> None:
    """Load all servers in turn, case by case; the samples are kept with the server."""
    for number in range(rounds + 1):
        what = f"round {number} of {rounds}" if number else "warm-up"
        for case in cases:
            for server in servers if number % 2 else servers[::-1]:
                print(f"{what}: {case.key}: {server.kind.name}", file=sys.stderr)
                sample = load(server, case, seconds if number else min(seconds, 2))
                if number:
                    server.samples.setdefault(case.key, []).append(sample)


# === the report ===


def spread(samples: list[Sample], name: str, unit: float = 1.0, digits: int = 0) -> str:
    """Median and range of one figure."""
    values = [getattr(sample, name) / unit for sample in samples]
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}-{high:,.{digits}f})"


def table(servers: list[Running], case: Case) -> str:
    """The figures of one case."""
    rows = [("", "requests/s", "p50 ms", "p99 ms", "requests/CPU-s", "ratio", "CPUs", "errors")]
    base = next((s for s in servers if s.kind.name == BASELINE), None)
    for server in servers:
        samples = server.samples[case.key]
        ratio = "-"
        if base is not None and (below := median(base, case, "per_cpu")) > 0:
            ratio = f"{median(server, case, 'per_cpu') / below:.2f}x"
        note = " (processes replaced)" if any(s.replaced for s in samples) else ""
        rows.append(
            (
                server.kind.name,
                spread(samples, "rate"),
                spread(samples, "p50", 1000, 2),
                spread(samples, "p99", 1000, 2),
                spread(samples, "per_cpu"),
                ratio,
                f"{median(server, case, 'cpu_share'):.2f}",
                f"{sum(s.errors for s in samples)}{note}",
            )
        )
    return common.columns(case.title, rows)


def median(server: Running, case: Case, name: str) -> float:
    """The median of one figure over the rounds."""
    values: list[float] = [getattr(sample, name) for sample in server.samples[case.key]]
    return statistics.median(values)


def _peer_version(package: str) -> str | None:
    """The version of a package in bench/.venv."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    line = common.first_line([str(PEERS / "python"), "-I", "-c", code])
    return line if re.fullmatch(r"[0-9][\w.+-]*", line) else None


def _versions(*packages: str) -> str:
    return ", ".join(f"{p} {v}" for p in packages if (v := _peer_version(p)) is not None)


# === the command line ===


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    parser.add_argument("--seconds", type=int, default=5, help="each load lasts (default 5)")
    keys = [case.key for case in CASES]
    parser.add_argument("--case", action="append", choices=keys, help="only this case (repeat)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there too")
    parser.add_argument("--bin", type=Path, help="the exuvia program (default: release build)")
    parser.add_argument("--python", type=Path, help="the Python of Exuvia's worker")
    chosen = parser.parse_args()
    if chosen.rounds < 1 or chosen.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    target = os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"
    chosen.bin = (chosen.bin or Path(target, "release/exuvia")).resolve()
    # Not resolved: what the link in a virtual environment points at has no packages.
    chosen.python = Path(os.path.abspath(chosen.python or ROOT / ".venv/bin/python"))  # noqa: PTH100
    return chosen


def main() -> None:
    """Measure, print, and write the file that was asked for."""
    chosen = arguments()
    if shutil.which("wrk") is None:
        sys.exit("error: wrk is missing (Debian, Ubuntu: apt-get install wrk)")
    if not Path("/proc/self/schedstat").exists():
        sys.exit("error: this kernel does not tell CPU time by thread (/proc/PID/schedstat)")
    cases = [case for case in CASES if not chosen.case or case.key in chosen.case]
    present = []
    for kind in kinds(chosen.bin, chosen.python):
        if kind.missing:
            print(f"skipped: {kind.name}: {kind.missing}", file=sys.stderr)
        else:
            present.append(kind)
    if not present:
        sys.exit("error: there is nothing to measure")

    facts = {**common.machine(), "wrk": common.first_line(["wrk", "--version"])}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(kind, Path(folder))) for kind in present]
        measure(servers, cases, chosen.rounds, chosen.seconds)
    facts["load after"] = common.load_average()
    for path, name in ((PEERS / "python", "Python of peers"), (chosen.python, "Python of Exuvia")):
        if line := common.first_line([str(path), "--version"]):
            facts[name] = line.removeprefix("Python ")

    print(f"# bench/handlers\n\n{METHOD}")
    print(f"{chosen.rounds} rounds of {chosen.seconds} s.\n")
    for key, value in facts.items():
        print(f"{key}: {value}")
    for server in servers:
        print(f"{server.kind.name}: {server.kind.parts}")
    for case in cases:
        print(f"\n{table(servers, case)}")
    if chosen.json:
        report = {
            "method": METHOD,
            "rounds": chosen.rounds,
            "seconds": chosen.seconds,
            "machine": facts,
            "cases": {case.key: asdict(case) for case in cases},
            "servers": {
                server.kind.name: {
                    "parts": server.kind.parts,
                    "command": server.kind.command(0),
                    "samples": {k: [asdict(s) for s in v] for k, v in server.samples.items()},
                }
                for server in servers
            },
        }
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
