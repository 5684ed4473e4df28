"""What every benchmark prints: the machine, and figures in columns."""

import contextlib
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def machine() -> dict[str, str]:
    """What was measured on, so that a number never stands alone."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        model = found[1] if found else model
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "cpu": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": load_average(),
    }


def commit() -> str:
    """The commit that is checked out, and whether the files are as it has them."""
    head = first_line(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"])
    changed = first_line(["git", "-C", str(ROOT), "status", "--porcelain"])
    return f"{head}{' with changes' if changed else ''}"


def load_average() -> str:
    """Load over 1, 5 and 15 minutes: other work on the machine is in the numbers."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def first_line(command: list[str]) -> str:
    """The first line a command prints; wrk prints its version and fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return (done.stdout.strip() or done.stderr.strip()).partition("\n")[0]


def columns(title: str, rows: Sequence[Sequence[str]], note: str = "") -> str:
    """A table; the first row is its head, the first column its names."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([title, *lines, *([note] if note else [])])


class Asked:
    """A contender's process: it answers each line that it is given by one of JSON."""

    def __init__(self, name: str, python: str, code: str, cwd: Path) -> None:
        self.name = name
        # With -c there is no main module that children of multiprocessing would import again.
        self.process = subprocess.Popen(
            [python, "-c", code],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.hear()

    def ask(self, line: str) -> dict[str, Any]:
        """Have it do something."""
        assert self.process.stdin is not None
        print(line, file=self.process.stdin, flush=True)
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Read one line of its."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.name} ended (see above)")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Let it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
