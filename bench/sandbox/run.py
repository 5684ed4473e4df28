"""Measure what a call of code that nobody vouches for costs, beside ways with fewer walls.

`make bench ARGS=sandbox` sets everything up and runs this. The method is in bench/README.md; it is
printed with the numbers too.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from common import Asked, first_line  # noqa: E402
from workers import report  # noqa: E402

METHOD = """\
All of Exuvia's calls are in isolates with every layer that this machine has, from an image that has
imported numpy and pandas, through `exuvia.sandbox`. The function sums an array of 100 numbers, or a
column of a frame of 100 rows. A time is what the caller sees, from before the call until the value
is there. Each contender has a process of its own; rounds are interleaved, their order turns round
each time, and a warm-up round is not counted; each waits for isolates that are made ahead, and
sleeps 20 ms; "in a row" is the median of 50 calls with no pause. What takes half a second has fewer
rounds. p99 is the highest where there are fewer than 100. "made ahead": an isolate was ready when
the call came, as it is unless calls come faster than isolates are made. "source": the code comes
with the call; a bundle is imported ahead.
No peer but Pyodide keeps code from the machine: `python -c` and `multiprocessing` are here for the
price of a process. multiprocessing's parent has imported numpy, pandas and the function.
Overshoot: how far beyond its limit of 100 ms a fresh isolate came, by the host's clocks."""

# Milliseconds, and what else is said beside the figures.
GOALS = {"ahead": 0.6, "demand": 6.0, "reused": 0.12, "handover": 1.0}
GOAL_RATE = 200
GOAL_PSS = 8.0


@dataclass
class Contender:
    """One way; `key` and `of` are what contenders.py makes it from."""

    key: str
    name: str
    of: str = "total"
    # It is asked in each such round.
    every: int = 1
    goal: float | None = None
    # What it is asked.
    line: str = "round"
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def figures(self, what: str = "seconds") -> list[float]:
        """Every sample of one kind."""
        return [one[what] for one in self.rounds]

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("Exuvia")


# === asking contenders ===


class Running(Asked):
    """A contender's process."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        code = f"import contenders; contenders.main({contender.key!r}, {contender.of!r})"
        super().__init__(contender.name, sys.executable, code, HERE)


@contextlib.contextmanager
def running(contenders: list[Contender]) -> Iterator[list[Running]]:
    """Start contenders; they end with the block."""
    with contextlib.ExitStack() as stack:
        started = []
        for contender in contenders:
            started.append(Running(contender))
            stack.callback(started[-1].close)
        yield started


def measure(key: str, contenders: list[Contender], rounds: int) -> None:
    """Ask all in turn; the figures are kept with them."""
    with running(contenders) as all_of_them:
        for number in range(rounds + 1):
            if number % 10 == 0:
                print(f"{key}: round {number} of {rounds}", file=sys.stderr)
            for one in all_of_them if number % 2 else all_of_them[::-1]:
                if number % one.contender.every:
                    continue
                answer = one.ask(one.contender.line)
                if number:
                    one.contender.rounds.append(answer)


# === what is measured ===


def callers(pyodide: bool, numpy: bool) -> list[Contender]:
    """Ways to call once."""
    bare = "" if numpy else ", no NumPy"
    nodes = [
        Contender("pyodide", f"Pyodide, node started for the call{bare}", "cold", every=20),
        Contender("pyodide", f"Pyodide, interpreter from a snapshot{bare}", "snapshot", every=10),
        Contender("pyodide", f"Pyodide, one interpreter for all calls{bare}", "reused"),
    ]
    return [
        Contender("bundle", "Exuvia, fresh, made ahead, bundle", goal=GOALS["ahead"]),
        Contender("source", "Exuvia, fresh, made ahead, source", goal=GOALS["ahead"]),
        Contender(
            "bundle-demand", "Exuvia, fresh, made for the call, bundle", goal=GOALS["demand"]
        ),
        Contender(
            "source-demand", "Exuvia, fresh, made for the call, source", goal=GOALS["demand"]
        ),
        Contender("bundle-reused", "Exuvia, reused, bundle", goal=GOALS["reused"]),
        Contender(
            "bundle-reused", "Exuvia, reused, bundle, in a row", goal=GOALS["reused"], line="row 50"
        ),
        Contender("source-reused", "Exuvia, reused, source"),
        Contender("python", "python -c", every=10),
        Contender("spawn", "multiprocessing spawn, a process for the call", every=10),
        Contender("fork", "multiprocessing fork, a process for the call"),
        Contender("pool-fork", "multiprocessing fork, a pool, reused"),
        Contender("pool-fork", "multiprocessing fork, a pool, reused, in a row", line="row 50"),
        Contender("pool-spawn", "multiprocessing spawn, a pool, reused"),
        *(nodes if pyodide else []),
    ]


def frames() -> list[Contender]:
    """The same with a frame, which pandas needs more for at its first use."""
    return [
        Contender("bundle", "Exuvia, fresh, made ahead, bundle", "frame"),
        Contender("source", "Exuvia, fresh, made ahead, source", "frame"),
        Contender("bundle-reused", "Exuvia, reused, bundle", "frame"),
        Contender("python", "python -c", "frame", every=10),
        Contender("fork", "multiprocessing fork, a process for the call", "frame"),
        Contender("pool-fork", "multiprocessing fork, a pool, reused", "frame"),
    ]


def handovers(pyodide: bool) -> list[Contender]:
    """Ways to give an array to a process that is kept."""
    ours = GOALS["handover"]
    return [
        Contender("handover", "Exuvia, shared once", "shared", goal=ours),
        Contender("handover", "Exuvia, passed in the call: copied once", "direct"),
        Contender("handover", "shared_memory by hand, put once, a pool", "memory"),
        Contender("handover", "multiprocessing, a pool, pickle", "pickle"),
        *([Contender("pyodide", "Pyodide, copied in", "handover")] if pyodide else []),
    ]


LOADS = [
    ("bundle", "Exuvia, fresh, bundle", True),
    ("source", "Exuvia, fresh, source", True),
    ("fork", "multiprocessing fork, a process for the call", False),
    ("python", "python -c", False),
]

OVERRUNS = [
    ("wall", "loop", "wall, a loop"),
    ("wall", "sleep", "wall, time.sleep"),
    ("wall", "sort", "wall, np.sort"),
    ("cpu", "loop", "CPU, a loop"),
    ("cpu", "sort", "CPU, np.sort"),
    ("cpu", "threads", "CPU, np.sort in 4 threads"),
]
OVERRUN_MS = 100


# === the tables ===


def times(title: str, contenders: list[Contender], what: str = "seconds") -> str:
    """Median, p99 and lowest of each contender, beside its goal."""
    base = report.median_of(contenders[0].figures(what))
    rows = [("", "median", "p99", "lowest", "goal", "ratio", "rounds")]
    for contender in contenders:
        figures = contender.figures(what if what in contender.rounds[0] else "seconds")
        middle = report.median_of(figures)
        rows.append(
            (
                contender.name,
                fine(middle),
                fine(report.p99_of(figures)),
                fine(min(figures)),
                goal_of(middle * 1e3, contender.goal),
                f"{middle / base:,.2f}x",
                str(len(figures)),
            )
        )
    return report.columns(title, rows, lost(contenders, base, what))


def fine(seconds: float) -> str:
    """Seconds as milliseconds; short ones with three digits."""
    return f"{seconds * 1e3:.3f}" if seconds < 0.01 else report.ms(seconds)


def goal_of(figure: float, goal: float | None) -> str:
    """A goal that is a bound from above, and whether it was met."""
    if goal is None:
        return ""
    return f"<= {goal:g}, {'met' if figure <= goal else 'missed'}"


def lost(contenders: list[Contender], base: float, what: str) -> str:
    """Say which peers are quicker than the first line."""
    quicker = []
    for contender in contenders:
        figures = contender.figures(what if what in contender.rounds[0] else "seconds")
        if not contender.is_ours and report.median_of(figures) < base:
            quicker.append(contender.name)
    return f"quicker than the first line: {'; '.join(quicker) or 'no peer'}"


def parts(contenders: list[Contender]) -> str:
    """What the outcomes say of the same calls."""
    rows = [("", "caller", "host", "goal for the host", "function", "CPU of the isolate")]
    for contender in contenders:
        if contender.is_ours:
            seen = fine(report.median_of(contender.figures()))
            host, *said = (
                report.median_of(contender.figures(what)) for what in ("host", "run", "cpu")
            )
            goal = goal_of(host, contender.goal)
            shown = (f"{millis:.3f}" for millis in said)
            rows.append((contender.name, seen, f"{host:.3f}", goal, *shown))
    note = (
        "host: from the call's coming to its end, as the host tells, with an isolate made for it;\n"
        "caller: that, and two changes of threads and the values' ways from and to Python;\n"
        "function: with source, from reading the code on."
    )
    return report.columns("Where the time goes (medians, ms)", rows, note)


def rates(seconds: int, crew: int) -> tuple[str, list[dict[str, Any]]]:
    """Fresh calls for a while, contender by contender."""
    rows = [("", "calls/s", "goal", "CPU ms a call", "calls", "of them on demand")]
    samples = []
    for key, name, ours in LOADS:
        print(f"sustained: {name}", file=sys.stderr)
        with running([Contender(key, name)]) as [one]:
            one.ask("round")
            answer = one.ask(f"load {seconds} {crew}")
        rate = answer["calls"] / answer["seconds"]
        goal = f">= {GOAL_RATE}, {'met' if rate >= GOAL_RATE else 'missed'}" if ours else ""
        cpu = f"{answer['cpu'] / answer['calls'] * 1e3:,.2f}"
        rows.append(
            (name, f"{rate:,.0f}", goal, cpu, str(answer["calls"]), str(answer.get("made", "-")))
        )
        samples.append({"name": name, **answer})
    title = f"Fresh calls, {crew} callers on {len(os.sched_getaffinity(0))} cores, {seconds} s"
    note = "CPU: the program, the image, and processes that ended; with the caller's."
    return report.columns(title, rows, note), samples


def crowds(count: int, pyodide: bool, numpy: bool) -> str:
    """Memory of processes that wait, contender by contender."""
    bare = "" if numpy else ", no NumPy"
    known = [
        (Contender("crowd", "Exuvia, isolates made ahead"), count),
        (Contender("pool-fork", "multiprocessing fork, a pool"), count),
        (Contender("pool-spawn", "multiprocessing spawn, a pool"), count),
    ]
    if pyodide:
        known.append((Contender("pyodide", f"Pyodide in node{bare}", "reused"), 1))
    rows = [("", "processes", "PSS each", "goal", "private each", "PSS of the image", "PSS in sum")]
    for contender, wanted in known:
        print(f"memory: {contender.name}", file=sys.stderr)
        with running([contender]) as [one]:
            answer = one.ask(f"crowd {count}")
            sizes = [report.memory_of(pid) for pid in answer["processes"]]
            others = sum(report.memory_of(pid)[0] for pid in answer["others"])
        if len(sizes) != wanted:
            sys.exit(f"error: {contender.name} has {len(sizes)} processes, not {wanted}")
        each = report.median_of([pss for pss, _ in sizes])
        rows.append(
            (
                contender.name,
                str(len(sizes)),
                report.mib(each),
                goal_of(each / 1e6, GOAL_PSS) if contender.is_ours else "",
                report.mib(report.median_of([private for _, private in sizes])),
                report.mib(others) if others else "-",
                report.mib(sum(pss for pss, _ in sizes) + others),
            )
        )
    note = "The goal is in MB. What fork shares is its parent's, which is not in the sum."
    return report.columns("Processes that wait for a call (MiB, medians)", rows, note)


def overshoots(rounds: int) -> tuple[str, dict[str, list[dict[str, float]]]]:
    """How far beyond their limits calls come."""
    samples: dict[str, list[dict[str, float]]] = {words: [] for _, _, words in OVERRUNS}
    with running([Contender("overshoot", "Exuvia")]) as [one]:
        for number in range(rounds):
            if number % 10 == 0:
                print(f"overshoot: round {number} of {rounds}", file=sys.stderr)
            for limit, code, words in OVERRUNS:
                samples[words].append(one.ask(f"overrun {limit} {code} {OVERRUN_MS}"))
    rows = [("", "p50", "p99", "highest", "caller: p50", "p99", "runs")]
    for words, answers in samples.items():
        over, seen = ([each[what] for each in answers] for what in ("over", "seen"))
        cells = [report.median_of(over), report.p99_of(over), max(over)]
        if words.startswith("wall"):
            cells += [report.median_of(seen), report.p99_of(seen)]
        shown = [f"{cell:.2f}" for cell in cells] + ["-"] * (5 - len(cells))
        rows.append((words, *shown, str(len(answers))))
    note = (
        "caller: from its call to the outcome, less the limit. All ended by the limit they overran."
    )
    title = f"Beyond a limit of {OVERRUN_MS} ms (ms)"
    return report.columns(title, rows, note), samples


# === the command line ===


def pyodide_has() -> tuple[str, bool]:
    """Version of Pyodide and whether it has NumPy; empty where it is not there."""
    import contenders

    if not (contenders.PYODIDE / "node_modules/pyodide").is_dir():
        return "", False
    with running([Contender("pyodide", "Pyodide", "reused")]) as [one]:
        about = one.ask("about")
    os.environ["BENCH_PYODIDE_NUMPY"] = "1" if about["numpy"] else "0"
    return about["version"], about["numpy"]


KEYS = ["call", "frame", "sustained", "memory", "handover", "overshoot"]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--rounds", type=int, default=100, help="counted rounds of calls (default 100)")
    add("--seconds", type=int, default=5, help="of sustained calls (default 5)")
    add("--crowd", type=int, default=16, choices=[16], help=argparse.SUPPRESS)
    add("--overruns", type=int, default=50, help="runs beyond each limit (default 50)")
    add("--case", action="append", choices=KEYS, help="only this case (repeat)")
    add("--json", type=Path, metavar="FILE", help="write every sample there too")
    chosen = parser.parse_args()
    if chosen.rounds < 20 or min(chosen.seconds, chosen.overruns) < 1:
        parser.error("--rounds must be at least 20, the others at least 1")
    return chosen


def main() -> None:
    """Measure, print, and write the file that was asked for."""
    # Settings of this shell's Python, such as to compile every module each time.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    chosen = arguments()
    told = report.facts()
    version, numpy = pyodide_has()
    node = first_line(["node", "--version"]) if version else ""
    told["Pyodide"] = f"{version} in node {node}" if version else "left out: not installed"
    if version and not numpy:
        told["Pyodide"] += "; NumPy could not be fetched for it: the same sum in plain Python"
    print("\n".join(f"{key}: {value}" for key, value in told.items()))
    print(f"\n{METHOD}")
    samples: dict[str, Any] = {}

    def kept(key: str, contenders: list[Contender]) -> list[Contender]:
        measure(key, contenders, chosen.rounds if key != "handover" else chosen.rounds // 4)
        samples[key] = {each.name: each.rounds for each in contenders}
        return contenders

    def call() -> str:
        contenders = kept("call", callers(bool(version), numpy))
        title = "From the call to its value, an array of 100 numbers (ms)"
        return f"{times(title, contenders)}\n\n{parts(contenders)}"

    def frame() -> str:
        contenders = kept("frame", frames())
        return times("The same with a frame of 100 rows (ms)", contenders)

    def sustained() -> str:
        text, samples["sustained"] = rates(chosen.seconds, 2)
        return text

    def handover() -> str:
        contenders = kept("handover", handovers(bool(version)))
        title = "100 MB of numbers into a process that is kept, the whole call (ms)"
        return times(title, contenders)

    def overshoot() -> str:
        text, samples["overshoot"] = overshoots(chosen.overruns)
        return text

    def memory() -> str:
        return crowds(chosen.crowd, bool(version), numpy)

    steps: list[Callable[[], str]] = [call, frame, sustained, memory, handover, overshoot]
    for key, step in zip(KEYS, steps, strict=True):
        if not chosen.case or key in chosen.case:
            print(f"\n{step()}", flush=True)
    print(f"\nload after: {report.load_average()}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"machine": told, "samples": samples}))


if __name__ == "__main__":
    main()
