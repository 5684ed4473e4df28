"""Measure handlers of JSON under Exuvia and under its peers, in turn, on this machine.

`make bench` sets everything up and runs this. The method is in bench/README.md; it is printed with
the numbers too. Nothing but the standard library is used.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bodies import HERE, Case, cases
from servers import PEERS, Running, common, cpu_of, kinds, running, tree

METHOD = """\
A greeting: POST {"name": str, "n": int} gives {"message": "hello, " + name, "n": n + 1}.
A trade: 30 fields in 4 classes, three deep, with 5 legs, times, enums and bounds, is checked, and
answered by a confirmation of about its size. The same fields, bounds and Python for all.
One worker each, access logs off, loopback, connections kept alive. Load by `wrk -t1` on the same
machine. All servers stay up and are loaded one at a time, in rounds; the order turns round with
each round, and a warm-up round is not counted. CPU is the run time of every thread of the server's
whole process tree (schedstat), so requests per CPU-second does not depend on how much of the
machine was free. Given are medians over the rounds, (lowest-highest), and the ratio of the medians
to the better of FastAPI and Litestar on Granian. Where a body is to be refused, the refusals are
counted, and all else is an error."""


@dataclass(frozen=True)
class Sample:
    """One load of one server in one round. Times are in microseconds."""

    rate: float
    per_cpu: float
    cpu_share: float
    p50: float
    p99: float
    p999: float
    slowest: float
    errors: int
    replaced: bool


# === one measurement ===


def load(server: Running, case: Case, path: str, body: Path, seconds: int) -> Sample:
    """Load the server with one case for some seconds."""
    before = tree(server.process.pid)
    cpu = cpu_of(before)
    command = [
        *("wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--timeout", "10s"),
        *("-s", str(HERE / "load.lua"), f"http://127.0.0.1:{server.port}{path}"),
        *("--", str(body)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = tree(server.process.pid)
    cpu = cpu_of(after) - cpu
    found = re.search(r"^RESULT (.+)$", done.stdout, re.MULTILINE)
    if found is None:
        sys.exit(f"error: wrk gave no result for {server.kind.name}:\n{done.stdout}{done.stderr}")
    requests, duration, p50, p99, p999, slowest, *errors = map(int, found[1].split())
    # wrk counts an answer of 400 and above as a request and as an error.
    refused = errors.pop(3)
    good, bad = requests - refused, refused
    if case.answer is None:
        good, bad = bad, good
    return Sample(
        rate=good / (duration / 1e6),
        per_cpu=good / cpu if cpu > 0 else 0.0,
        cpu_share=cpu / (duration / 1e6),
        p50=p50,
        p99=p99,
        p999=p999,
        slowest=slowest,
        errors=bad + sum(errors),
        replaced=before != after,
    )


def measure(
    servers: list[Running], chosen: list[Case], rounds: int, seconds: int, folder: Path
) -> None:
    """Load all servers in turn, case by case; the samples are kept with the server."""
    bodies = {case.key: folder / f"{case.key}.json" for case in chosen}
    for case in chosen:
        bodies[case.key].write_bytes(case.body)
    for number in range(rounds + 1):
        what = f"round {number} of {rounds}" if number else "warm-up"
        for case in chosen:
            for server in servers if number % 2 else servers[::-1]:
                if (path := server.path(case)) is None:
                    continue
                print(f"{what}: {case.key}: {server.kind.name}", file=sys.stderr)
                time = seconds if number else min(seconds, 2)
                sample = load(server, case, path, bodies[case.key], time)
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
    times = ("p50 ms", "p99 ms", "p99.9 ms")
    rows = [("", "requests/s", *times, "requests/CPU-s", "ratio", "CPUs", "errors")]
    present = [server for server in servers if case.key in server.samples]
    base = baseline(present, case)
    for server in present:
        samples = server.samples[case.key]
        ratio = f"{median(server, case, 'per_cpu') / base:.2f}x" if base > 0 else "-"
        note = " (processes replaced)" if any(s.replaced for s in samples) else ""
        rows.append(
            (
                server.kind.name,
                spread(samples, "rate"),
                *(spread(samples, name, 1000, 2) for name in ("p50", "p99", "p999")),
                spread(samples, "per_cpu"),
                ratio,
                f"{median(server, case, 'cpu_share'):.2f}",
                f"{sum(s.errors for s in samples)}{note}",
            )
        )
    return common.columns(f"{case.key}: {case.title}", rows)


def baseline(servers: list[Running], case: Case) -> float:
    """Requests per CPU-second of the best peer that counts as one; 0 where none was measured."""
    peers = [server for server in servers if server.kind.is_baseline]
    return max((median(server, case, "per_cpu") for server in peers), default=0.0)


def median(server: Running, case: Case, name: str) -> float:
    """The median of one figure over the rounds."""
    values: list[float] = [getattr(sample, name) for sample in server.samples[case.key]]
    return statistics.median(values)


# === the command line ===


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    parser.add_argument("--seconds", type=int, default=5, help="each load lasts (default 5)")
    keys = [case.key for case in cases()]
    parser.add_argument("--case", action="append", choices=keys, help="only this case (repeat)")
    parser.add_argument("--only", action="append", metavar="NAME", help="only servers so named")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there too")
    parser.add_argument("--bin", type=Path, help="the exuvia program (default: release build)")
    parser.add_argument("--python", type=Path, help="the Python of Exuvia's worker")
    chosen = parser.parse_args()
    if chosen.rounds < 1 or chosen.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    target = os.environ.get("CARGO_TARGET_DIR") or common.ROOT / "target"
    chosen.bin = (chosen.bin or Path(target, "release/exuvia")).resolve()
    # Not resolved: what the link in a virtual environment points at has no packages.
    python = chosen.python or common.ROOT / ".venv/bin/python"
    chosen.python = Path(os.path.abspath(python))  # noqa: PTH100
    return chosen


def main() -> None:
    """Measure, print, and write the file that was asked for."""
    chosen = arguments()
    if shutil.which("wrk") is None:
        sys.exit("error: wrk is missing (Debian, Ubuntu: apt-get install wrk)")
    if not Path("/proc/self/schedstat").exists():
        sys.exit("error: this kernel does not tell CPU time by thread (/proc/PID/schedstat)")
    loads = [case for case in cases() if not chosen.case or case.key in chosen.case]
    present = []
    for kind in kinds(chosen.bin, chosen.python):
        if chosen.only and not any(name in kind.name for name in chosen.only):
            continue
        if kind.missing:
            print(f"skipped: {kind.name}: {kind.missing}", file=sys.stderr)
        elif any(case.handler in kind.paths for case in loads):
            present.append(kind)
    if not present:
        sys.exit("error: there is nothing to measure")

    facts = {**common.machine(), "wrk": common.first_line(["wrk", "--version"])}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        servers = [stack.enter_context(running(kind, loads, folder)) for kind in present]
        measure(servers, loads, chosen.rounds, chosen.seconds, folder)
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
    for case in loads:
        print(f"\n{table(servers, case)}")
    if chosen.json:
        write_report(chosen, facts, servers, loads)


def write_report(
    chosen: argparse.Namespace, facts: dict[str, str], servers: list[Running], loads: list[Case]
) -> None:
    """Write every sample to the file that was asked for."""
    report = {
        "method": METHOD,
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "machine": facts,
        "cases": {case.key: case.title for case in loads},
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
