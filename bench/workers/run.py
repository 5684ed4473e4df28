"""Measure how soon a new worker answers, and what it costs, beside the standard library's ways.

`make bench ARGS=workers` sets everything up and runs this. The method is in bench/README.md; it is
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

import report
from common import Asked

HERE = Path(__file__).resolve().parent
# What the ratios are to.
BASELINE = "exuvia"

METHOD = """\
First call: seconds from the request for a worker to the answer of its first call, which makes a
frame of 100 rows and a number of it. Each contender has a process of its own and one worker; the
worker of the round before has ended. Rounds are interleaved, their order turns round each time, and
a warm-up round is not counted; contenders that take half a second have fewer. p99 is the highest
where there are fewer than 100. Exuvia imports numpy and pandas in its zygote because the handler
imports them, nothing else is told; forkserver and fork have them preloaded as well. In all of them
the handler's own module is imported by the new worker, where it does not say otherwise. fork has
what it lacks for an advantage: it works from a parent that has imported everything and has one
thread of its own, nobody watches the worker, and its random numbers are the parent's.
Memory: 16 workers, one call each, all alive; /proc/PID/smaps_rollup; contenders one at a time."""


@dataclass
class Contender:
    """One way to get a worker; `key` is its name in contenders.py."""

    key: str
    name: str
    module: str = "handler"
    # It is asked in each such round.
    every: int = 1
    seconds: list[float] = field(default_factory=list)
    marks: list[dict[str, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """Contenders that are measured side by side."""

    key: str
    title: str
    contenders: list[Contender]


def cases() -> list[Case]:
    """What is timed."""
    return [
        Case(
            "first-call",
            "Request for a worker to its first answer, numpy and pandas (ms)",
            [
                Contender("exuvia", "Exuvia"),
                Contender("exuvia-warm", "Exuvia, pandas used once by `warm`"),
                Contender("exuvia-spare", "Exuvia, a spare: from kill -9 to the next answer"),
                Contender("exuvia-spawn", "Exuvia, start_method='spawn'", every=4),
                Contender("python", "python -c", every=4),
                Contender("spawn", "multiprocessing spawn", every=4),
                Contender("forkserver", "multiprocessing forkserver"),
                Contender("fork", "multiprocessing fork"),
                Contender("fork-warm", "multiprocessing fork, parent made the call before"),
            ],
        ),
        Case(
            "plain",
            "The same with a handler that uses numpy alone (ms)",
            [
                Contender("exuvia", "Exuvia", "plain"),
                Contender("forkserver", "multiprocessing forkserver", "plain"),
                Contender("fork", "multiprocessing fork", "plain"),
            ],
        ),
        Case(
            "own",
            "The same where the user's own code takes long to import (ms)",
            [
                Contender("exuvia", "Exuvia", "own"),
                Contender("exuvia-preload", "Exuvia, preload=['own']", "own"),
                Contender("python", "python -c", "own", every=4),
                Contender("forkserver-all", "multiprocessing forkserver, 'own' preloaded", "own"),
            ],
        ),
        Case(
            "marks",
            "Where Exuvia's time goes (ms)",
            [
                Contender("exuvia-marks", "Exuvia", "timed"),
                Contender("exuvia-marks-warm", "Exuvia, warm", "timed"),
            ],
        ),
    ]


CROWDS = [
    ("exuvia", "Exuvia", "handler"),
    ("exuvia-warm", "Exuvia, warm", "handler"),
    ("exuvia", "Exuvia, a handler that uses numpy alone", "plain"),
    ("exuvia-spawn", "Exuvia, start_method='spawn'", "handler"),
    ("spawn", "multiprocessing spawn", "handler"),
    ("forkserver", "multiprocessing forkserver", "handler"),
    ("fork", "multiprocessing fork", "handler"),
]

# From one mark to the next, and what happens there.
PHASES = [
    ("ask", "fork", "host asks, zygote hears it"),
    ("fork", "forked", "fork"),
    ("forked", "import", "random seeds, BLAS, handshake"),
    ("import", "imported", "import of the handler's module"),
    ("imported", "call", "its signature, READY, CALL"),
    ("call", "done", "the call"),
    ("done", "end", "answer"),
    ("ask", "end", "all"),
]

# An import is timed after what is before it in this list.
IMPORTS = ("numpy", "pyarrow", "pandas", "polars", "sklearn.cluster")


# === asking contenders ===


class Running(Asked):
    """A contender's process."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        code = f"import contenders; contenders.main({contender.key!r}, {contender.module!r})"
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


def measure(case: Case, rounds: int) -> None:
    """Ask all contenders of a case in turn; the figures are kept with them."""
    with running(case.contenders) as all_of_them:
        for number in range(rounds + 1):
            if number % 10 == 0:
                print(f"{case.key}: round {number} of {rounds}", file=sys.stderr)
            for one in all_of_them if number % 2 else all_of_them[::-1]:
                if number % one.contender.every:
                    continue
                answer = one.ask("round")
                if number:
                    one.contender.seconds.append(answer["seconds"])
                    one.contender.marks.append(answer.get("marks", {}))


# === the tables ===


def times(case: Case) -> str:
    """Median and p99 of each contender, and how its median is to Exuvia's."""
    base = next(c for c in case.contenders if c.key == BASELINE)
    rows = [("", "median", "p99", "lowest", "ratio", "rounds")]
    for contender in case.contenders:
        figures = contender.seconds
        middle = report.median_of(figures)
        ratio = middle / report.median_of(base.seconds)
        rows.append(
            (
                contender.name,
                report.ms(middle),
                report.ms(report.p99_of(figures)),
                report.ms(min(figures)),
                f"{ratio:.2f}x",
                str(len(figures)),
            )
        )
    return report.columns(case.title, rows, lost(case))


def lost(case: Case) -> str:
    """Say where peers are quicker than Exuvia as it comes."""
    base = next(c for c in case.contenders if c.key == BASELINE)
    quicker = [
        c.name
        for c in case.contenders
        if not c.key.startswith("exuvia")
        and report.median_of(c.seconds) < report.median_of(base.seconds)
    ]
    return f"quicker than the first line: {'; '.join(quicker) or 'no peer'}"


def phases(case: Case) -> str:
    """What happens between the request and the answer, and what it took."""
    rows = [("", *(f"{c.name}: {what}" for c in case.contenders for what in ("median", "p99")))]
    for start, end, words in PHASES:
        cells = []
        for contender in case.contenders:
            took = [(marks[end] - marks[start]) / 1e9 for marks in contender.marks]
            cells += [report.ms(report.median_of(took)), report.ms(report.p99_of(took))]
        rows.append((words, *cells))
    for key, words, unit in (
        ("cpu", "CPU of the worker", 1e6),
        ("faults", "page faults of the worker", 1),
        ("threads", "threads of the worker", 1),
    ):
        cells = []
        for contender in case.contenders:
            used = [marks[key] / unit for marks in contender.marks]
            digits = 2 if unit > 1 else 0
            cells += [f"{f(used):,.{digits}f}" for f in (report.median_of, report.p99_of)]
        rows.append((words, *cells))
    return report.columns(case.title, rows)


def crowds(count: int) -> str:
    """Memory of many workers, contender by contender."""
    rows = [("", "PSS each", "private each", "PSS of the zygote or server", "PSS in sum")]
    for key, name, module in CROWDS:
        print(f"memory: {name}", file=sys.stderr)
        with running([Contender(key, name, module)]) as [one]:
            answer = one.ask(f"crowd {count}")
            workers = [report.memory_of(pid) for pid in answer["workers"]]
            others = sum(report.memory_of(pid)[0] for pid in answer["others"])
        if len(workers) != count:
            sys.exit(f"error: {name} has {len(workers)} workers, not {count}")
        rows.append(
            (
                name,
                report.mib(report.median_of([pss for pss, _ in workers])),
                report.mib(report.median_of([private for _, private in workers])),
                report.mib(others) if others else "-",
                report.mib(sum(pss for pss, _ in workers) + others),
            )
        )
    note = "What fork shares is its parent's, which is not in the sum."
    return report.columns(f"{count} workers, each after one call (MiB, medians)", rows, note)


def imports(rounds: int) -> str:
    """What Exuvia says of its image's imports, each image made anew."""
    import exuvia

    took: dict[str, list[float]] = {name: [] for name in IMPORTS}
    left_out: dict[str, str] = {}
    whole = []
    for number in range(rounds + 1):
        print(f"imports: round {number} of {rounds}", file=sys.stderr)
        with exuvia.Host(str(HERE / "handler.py"), preload=IMPORTS) as host:
            image = host.image
        if number:
            whole.append(image.took)
            left_out.update(image.left_out)
            for name in IMPORTS:
                took[name] += [image.imports[name]] if name in image.imports else []
    rows = [("", "median", "highest", "rounds")]
    for name, figures in (*took.items(), ("all, with the start of Python", whole)):
        if figures:
            cells = (report.ms(report.median_of(figures)), report.ms(max(figures)))
            rows.append((name, *cells, str(len(figures))))
    note = "; ".join(f"left out: {name} ({why})" for name, why in left_out.items())
    return report.columns("Imports of an image, in this order (ms)", rows, note)


# === the command line ===


def arguments(keys: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="counted rounds (default 100)")
    parser.add_argument("--crowd", type=int, default=16, help="workers for memory (default 16)")
    parser.add_argument("--case", action="append", choices=keys, help="only this case (repeat)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there too")
    chosen = parser.parse_args()
    if chosen.rounds < 4 or chosen.crowd < 1:
        parser.error("--rounds must be at least 4 and --crowd at least 1")
    return chosen


def main() -> None:
    """Measure, print, and write the file that was asked for."""
    # Settings of this shell's Python, such as to compile every module each time.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    known = cases()
    chosen = arguments([*(case.key for case in known), "memory", "imports"])
    told = report.facts()
    print("\n".join(f"{key}: {value}" for key, value in told.items()))
    print(f"\n{METHOD}")

    def is_wanted(key: str) -> bool:
        return not chosen.case or key in chosen.case

    def show(text: str) -> None:
        print(f"\n{text}", flush=True)

    for case in known:
        if is_wanted(case.key):
            measure(case, chosen.rounds)
            show(phases(case) if case.key == "marks" else times(case))
    steps: list[tuple[str, Callable[[], str]]] = [
        ("memory", lambda: crowds(chosen.crowd)),
        ("imports", lambda: imports(min(chosen.rounds, 5))),
    ]
    for key, step in steps:
        if is_wanted(key):
            show(step())
    show(f"load after: {report.load_average()}")
    if chosen.json:
        samples = {
            case.key: {c.name: {"seconds": c.seconds, "marks": c.marks} for c in case.contenders}
            for case in known
        }
        chosen.json.write_text(json.dumps({"machine": told, "samples": samples}))


if __name__ == "__main__":
    main()
