"""The servers that are measured: how each is started, asked, watched and ended."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bodies import HERE, Case, asker, wrong

sys.path.append(str(HERE.parent))
import common

PEERS = common.ROOT / "bench/.venv/bin"
EVERYWHERE = {"greet": "/handler/greet", "confirm": "/trades/confirm"}


@dataclass(frozen=True)
class Kind:
    """A server to measure: how it starts, and what to say of its parts."""

    name: str
    command: Callable[[int], list[str]]
    # Empty, or why it cannot be measured here.
    missing: str
    parts: str
    # Where its handlers are; it takes no part in the cases of others.
    paths: dict[str, str] = field(default_factory=lambda: EVERYWHERE)
    # The others are compared with the best of these.
    is_baseline: bool = False


@dataclass
class Running:
    """A server that is up."""

    kind: Kind
    process: subprocess.Popen[bytes]
    port: int
    log: Path
    samples: dict[str, list[Any]] = field(default_factory=dict)

    def path(self, case: Case) -> str | None:
        """Where it answers this case."""
        return self.kind.paths.get(case.handler)


# === which there are ===


def kinds(exuvia: Path, exuvia_python: Path) -> list[Kind]:
    """Every server we know, measurable here or not."""
    no_peers = "" if (PEERS / "python").exists() else "bench/.venv is not there (run `make bench`)"
    no_exuvia = "" if exuvia.is_file() else f"{exuvia} does not exist (run `make build`)"
    fastapi = versions("fastapi", "starlette", "pydantic", "uvloop")
    litestar = versions("litestar", "msgspec", "uvloop")
    version = common.first_line([str(exuvia), "--version"])

    def own(name: str, module: str, library: str) -> Kind:
        # On the peers' Python, since what makes the models must be there, in the same version.
        return Kind(
            name,
            serve(exuvia, PEERS / "python", f"{module}.py"),
            no_exuvia or no_peers,
            f"{version}, {versions(library)}",
            {"confirm": f"/{module}/confirm"},
        )

    peers = []
    for server, command, parts in (
        ("Granian", granian, versions("granian")),
        ("uvicorn", uvicorn, versions("uvicorn", "httptools")),
    ):
        for framework, app, more in (
            ("FastAPI", "peer:app", fastapi),
            ("Litestar", "peer_litestar:app", litestar),
        ):
            name, parts_of_both = f"{framework} on {server}", f"{parts}, {more}"
            is_baseline = server == "Granian"
            kind = Kind(name, command(app), no_peers, parts_of_both, is_baseline=is_baseline)
            peers.append(kind)
    return [
        Kind("Exuvia", serve(exuvia, exuvia_python, "handler.py", "trades.py"), no_exuvia, version),
        own("Exuvia, pydantic models", "trades_pydantic", "pydantic"),
        own("Exuvia, msgspec structs", "trades_msgspec", "msgspec"),
        *peers,
    ]


def serve(exuvia: Path, python: Path, *targets: str) -> Callable[[int], list[str]]:
    """The command of Exuvia with these handlers."""
    files = [str(HERE / target) for target in targets]
    return lambda port: [
        *(str(exuvia), "serve", *files, "--workers", "1"),
        *("--port", str(port), "--python", str(python)),
    ]


def granian(app: str) -> Callable[[int], list[str]]:
    """The command of Granian with this application."""
    return lambda port: [
        *(str(PEERS / "granian"), "--interface", "asgi", "--loop", loop(), "--workers", "1"),
        *("--no-access-log", "--log-level", "warning", "--port", str(port), app),
    ]


def uvicorn(app: str) -> Callable[[int], list[str]]:
    """The command of uvicorn with this application."""
    return lambda port: [
        *(str(PEERS / "uvicorn"), "--loop", loop(), "--http", "httptools", "--workers", "1"),
        *("--no-access-log", "--log-level", "warning", "--port", str(port), app),
    ]


def loop() -> str:
    """The fastest event loop that the peers have."""
    return "uvloop" if version_of("uvloop") is not None else "asyncio"


def version_of(package: str) -> str | None:
    """The version of a package in bench/.venv."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    line = common.first_line([str(PEERS / "python"), "-I", "-c", code])
    return line if re.fullmatch(r"[0-9][\w.+-]*", line) else None


def versions(*packages: str) -> str:
    """Packages with their versions, those that are there."""
    return ", ".join(f"{p} {v}" for p in packages if (v := version_of(p)) is not None)


# === start, check, end ===


@contextlib.contextmanager
def running(kind: Kind, cases: list[Case], folder: Path) -> Iterator[Running]:
    """Start a server, check that its answers are right, and end all of it afterwards."""
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
        wait_until_up(server)
        for case in cases:
            check(server, case)
        yield server
    finally:
        end(process)


def wait_until_up(server: Running, seconds: float = 30.0) -> None:
    """Wait until it takes a connection and answers something."""
    deadline = time.monotonic() + seconds
    ask = asker(server.port, "/")
    while True:
        try:
            ask(b"{}")
            return
        except OSError as error:
            if server.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"error: {server.kind.name} did not start: {error}\n{tail(server.log)}")
            time.sleep(0.05)


def check(server: Running, case: Case) -> None:
    """Nobody is measured who gives wrong answers."""
    if path := server.path(case):
        problem = wrong(case, asker(server.port, path))
        if problem:
            sys.exit(f"error: {case.key}: {server.kind.name} {problem}\n{tail(server.log)}")


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
