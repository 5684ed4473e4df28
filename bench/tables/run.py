"""Measure what it costs to get tables to handlers and back, beside what others do for that.

`make bench ARGS=tables` sets everything up and runs this. The method is in bench/README.md; it is
printed with the numbers too.
"""

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import calls  # noqa: E402
import handover  # noqa: E402
from common import ROOT, first_line  # noqa: E402
from workers import report  # noqa: E402

METHOD = """\
Hand-over: the program holds eight columns of float64; it reads the clock, calls, and the handler
reads the same clock in its first line, with the table in hand. Then the handler sums every number,
so that pages touched for the first time count as well. Each project has a process of its own with
one worker that lives for all calls; ways are asked in turn, their order turns round each round, and
a warm-up round is not counted. All sleep before each call (--rest, 20 ms), so that memory of the
call before has been given back; cores are asleep then and caches cold, for every size alike. p99 is
the highest where there are fewer than 100 rounds. What is "shared once" or "put once" is copied
into shared memory before the clock starts; all others start with the table in the program's own
memory. Flight's time is to a pyarrow.Table, that of the others to a frame of the library named.
Memory: one call more. The worker's own memory is what is anonymous in it while it holds the table;
its peak also counts shared memory that it reads, which is there once for both.
HTTP: one worker each, access logs off, loopback, connections kept alive, POST; the client is this
program, and every answer is checked. CPU is the run time of every thread of the server's process
tree. The handler sums all numbers. Given are p50 and p99 of all requests, medians over the rounds
of the rest, and ratios of cost to the first row."""


def peers_have() -> str:
    """Versions of what the peers run on and with."""
    names = ("fastapi", "granian", "httptools", "numpy", "orjson", "pandas", "pyarrow", "pydantic")
    code = (
        "import importlib.metadata as m, platform; print('CPython', platform.python_version(),"
        f" *(f', {{n}} {{m.version(n)}}' for n in {(*names, 'uvicorn', 'uvloop')!r}))"
    )
    return re.sub(r" ,", ",", first_line([str(handover.PEERS), "-I", "-c", code]))


def arguments(keys: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rounds", type=int, default=100, help="hand-overs of the small table (default 100)")
    add("--large-rounds", type=int, default=9, help="of the large one (default 9, at least 3)")
    add("--rest", type=float, default=20.0, help="ms of sleep before a hand-over (default 20)")
    add("--http-rounds", type=int, default=5, help="rounds of HTTP (default 5)")
    add("--seconds", type=float, default=1.0, help="each HTTP load lasts (default 1)")
    add("--case", action="append", choices=keys, help="only this case (repeat)")
    add("--json", type=Path, metavar="FILE", help="write every sample there too")
    add("--bin", type=Path, help="the exuvia program (default: release build)")
    chosen = parser.parse_args()
    if chosen.rounds < 1 or chosen.large_rounds < 3 or chosen.http_rounds < 1:
        parser.error("--rounds and --http-rounds must be at least 1, --large-rounds at least 3")
    target = os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"
    chosen.bin = (chosen.bin or Path(target, "release/exuvia")).resolve()
    return chosen


def show(text: str) -> None:
    """Print a part of the report when it is known."""
    print(f"\n{text}", flush=True)


def hand_over(sizes: list[handover.Size], chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure and show the hand-over at these sizes."""
    known = handover.ways()
    for size in sizes:
        rounds = chosen.rounds if size is handover.SMALL else chosen.large_rounds
        handover.measure(known, size, rounds, chosen.rest / 1e3)
    show(handover.times(known, sizes))
    show(handover.read(known, sizes))
    for size in sizes:
        show(handover.weights(known, size))
    return handover.kept(known)


def over_http(known: list[calls.Case], chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure and show whole calls."""
    made = calls.bodies()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = {
            key: stack.enter_context(calls.serving(key, command, Path(folder)))
            for key, command in calls.commands(chosen.bin).items()
        }
        loads = calls.measure(servers, known, chosen.http_rounds, chosen.seconds, made)
        for case in known:
            show(calls.table(case, loads))
        show(calls.weights(servers))
    return calls.kept(loads)


def main() -> None:
    """Measure, print, and write the file that was asked for."""
    # Settings of this shell's Python, such as to compile every module each time.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    sizes, http = [handover.SMALL, handover.LARGE], calls.cases()
    chosen = arguments([*(size.key for size in sizes), *(case.key for case in http)])
    if handover.missing():
        sys.exit(f"error: {handover.missing()}")
    if not chosen.bin.is_file():
        sys.exit(f"error: {chosen.bin} does not exist (run `make build`)")
    told = report.facts() | {"program": first_line([str(chosen.bin), "--version"])}
    told["peers"] = peers_have()
    del told["commit"]
    print("\n".join(f"{key}: {value}" for key, value in told.items()))
    print(f"\n{METHOD}", flush=True)

    wanted = chosen.case or [*(size.key for size in sizes), *(case.key for case in http)]
    samples: dict[str, Any] = {}
    if chosen_sizes := [size for size in sizes if size.key in wanted]:
        samples["hand-over"] = hand_over(chosen_sizes, chosen)
    if chosen_cases := [case for case in http if case.key in wanted]:
        samples["http"] = over_http(chosen_cases, chosen)
    show(f"load after: {report.load_average()}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": told, "samples": samples}))


if __name__ == "__main__":
    main()
