"""Start the real program, talk to it, and be sure that it is gone afterwards."""

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent

# A start imports what the handlers import, on a machine that runs other tests meanwhile.
START_SECONDS = 60.0
STOP_SECONDS = 15.0

# `None` is a value to send: this is the absence of one.
NOTHING: Any = object()

# How the kernel names our processes.
WORKER = "exuvia-worker"
ZYGOTE = "exuvia-zygote"

LISTENING = re.compile(r"listening on (http://([0-9.]+|\[[0-9a-f:]+\]):([0-9]+))")


def wait_until(what: str, true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until ``true()`` is; fail with ``what`` was waited for when it never comes."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


# === processes, as /proc shows them ===


@dataclass(frozen=True)
class Stat:
    """What the kernel says of a running process."""

    parent: int
    session: int
    # Tells a process from a later one that was given the same number.
    started: int


def stat_of(pid: int) -> Stat | None:
    """``None`` when no such process runs. A zombie does not run."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, so what follows the last one counts.
    words = text.rpartition(")")[2].split()
    if words[0] in "ZX":
        return None
    return Stat(parent=int(words[1]), session=int(words[3]), started=int(words[19]))


def alive(pid: int) -> bool:
    """Whether the process runs."""
    return stat_of(pid) is not None


def all_processes() -> Iterator[int]:
    """Every process there is."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def descendants(pid: int) -> list[int]:
    """Children of the process and theirs, running ones only."""
    children: dict[int, list[int]] = {}
    for process in all_processes():
        stat = stat_of(process)
        if stat is not None:
            children.setdefault(stat.parent, []).append(process)
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def in_session(session: int) -> list[int]:
    """Running processes of a session: those whose parent died are still found here."""
    return [
        process
        for process in all_processes()
        if (stat := stat_of(process)) is not None and stat.session == session
    ]


def children_of(pid: int) -> list[int]:
    """Running processes whose parent it is."""
    return [
        process
        for process in all_processes()
        if (stat := stat_of(process)) is not None and stat.parent == pid
    ]


def name_of(pid: int) -> str:
    """What `ps` and `top` call it; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


def named(name: str, parent: int) -> list[int]:
    """Running children of the process that have this name."""
    return [pid for pid in children_of(parent) if name_of(pid) == name]


def zombies_of(parent: int) -> list[int]:
    """Children that ended and that nobody has buried."""
    found = []
    for process in all_processes():
        with suppress(OSError):
            words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            if words[0] == "Z" and int(words[1]) == parent:
                found.append(process)
    return found


def descriptors(pid: int) -> dict[int, str]:
    """What each descriptor of a process is: a path, or a kind like `socket`."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed meanwhile.
        with suppress(OSError):
            found[int(entry.name)] = re.sub(r":\[\d+\]$", "", str(entry.readlink()))
    return found


def held(pid: int) -> tuple[Counter[str], int]:
    """How many descriptors of each kind a process has, and how many maps of memfds.

    Those stay when the descriptor is closed.
    """
    maps = Path(f"/proc/{pid}/maps").read_text().count("/memfd:")
    kinds = (re.sub(r"^/proc/\d+", "/proc/N", what) for what in descriptors(pid).values())
    return Counter(kinds), maps


def held_at_rest(pid: int) -> tuple[Counter[str], int]:
    """The same once it does not change: connections take a moment to be closed."""
    seen = held(pid)
    for _ in range(100):
        time.sleep(0.1)
        before, seen = seen, held(pid)
        if seen == before:
            break
    return seen


def wait_for_rest(pid: int, before: tuple[Counter[str], int], seconds: float = 10.0) -> None:
    """Wait until a process holds what it held, see `held`; say what is more or less."""
    try:
        wait_until("rest", lambda: held(pid) == before, seconds)
    except AssertionError:
        (kinds, maps), (kinds_before, maps_before) = held(pid), before
        more, less = kinds - kinds_before, kinds_before - kinds
        text = f"more {dict(more)}, less {dict(less)}, memfds mapped {maps_before} -> {maps}"
        raise AssertionError(text) from None


# === answers ===


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Give the body, read as JSON."""
        return json.loads(self.body)


# === the server ===


@dataclass
class Server:
    """A running ``exuvia serve``."""

    process: subprocess.Popen[bytes]
    log_path: Path
    url: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    _seen: dict[int, Stat] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """The host process."""
        return self.process.pid

    def log(self) -> str:
        """What it has written to stderr so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def children(self) -> list[int]:
        """Its running workers and zygotes, and what those started."""
        found = descendants(self.pid)
        for process in found:
            if (stat := stat_of(process)) is not None:
                self._seen[process] = stat
        return found

    def workers(self) -> list[int]:
        """Its running workers."""
        return named(WORKER, self.pid)

    def zygotes(self) -> list[int]:
        """The process that workers are forked from, while there is one."""
        return named(ZYGOTE, self.pid)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """Send one request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, names, answer.read())
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """What `/metrics` says, by name and labels as they stand there."""
        lines = self.get("/metrics").body.decode().splitlines()
        words = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in words}

    def restarts(self) -> dict[str, int]:
        """How many workers were replaced, by reason."""
        found = {}
        for name, value in self.metrics().items():
            if match := re.fullmatch(r'exuvia_worker_restarts_total\{reason="(\w+)"\}', name):
                found[match[1]] = int(value)
        return found

    def get(self, path: str, timeout: float = 30.0) -> Answer:
        """GET ``path``."""
        return self.request("GET", path, timeout=timeout)

    def post(
        self,
        path: str,
        json: Any = NOTHING,
        *,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Answer:
        """POST ``json`` as JSON, ``raw`` as it is, or an empty body."""
        named = {"content-type": "application/json", **(headers or {})}
        body = raw if raw is not None else b"" if json is NOTHING else _to_json(json)
        return self.request("POST", path, body, named, timeout)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Ask it to end by SIGTERM, and return its exit code. It must end in time."""
        self.children()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    # --- the two ends of its life ---

    def wait_until_listening(self) -> Self:
        """Wait for the line that names the address."""
        deadline = time.monotonic() + START_SECONDS
        while (found := LISTENING.search(self.log())) is None:
            code = self.process.poll()
            if code is not None:
                raise AssertionError(f"exuvia serve ended with code {code}:\n{self.log()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"no address after {START_SECONDS:g} s:\n{self.log()}")
            time.sleep(0.02)
        self.url = found[1]
        self.host = found[2].strip("[]")
        self.port = int(found[3])
        return self

    def survivors(self) -> list[int]:
        """Running processes that began with this server, wherever their parent went."""
        # Started in a session of its own, whose number is the pid of the first process.
        found = {*in_session(self.pid), *descendants(self.pid)}
        for process, before in self._seen.items():
            now = stat_of(process)
            if now is not None and now.started == before.started:
                found.add(process)
        return sorted(found)

    def end(self) -> str:
        """Stop everything, by force where asking does not help; say what did not end when asked."""
        self.children()
        trouble = ""
        try:
            self.stop()
            wait_until("its processes to end", lambda: not self.survivors(), 2.0)
        except (subprocess.TimeoutExpired, AssertionError):
            names = ", ".join(_describe(process) for process in self.survivors())
            trouble = f"still running after SIGTERM: {names}\n{self.log()}"
        for process in self.survivors():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()
        # The orphans are reaped by another: a killed one may take a moment to be gone.
        wait_until("killed processes to be gone", lambda: not self.survivors())
        return trouble


def _to_json(value: Any) -> bytes:
    # In `post` the name `json` is the parameter's.
    return json.dumps(value).encode()


def _describe(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return f"{pid} ({b' '.join(words).decode(errors='replace').strip()})"
    return str(pid)


@contextmanager
def serving(
    command: list[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    user: int | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[Server]:
    """Run ``command`` as a server until the block ends; then nothing of it may be left.

    As another user where `user` is given; with these descriptors beside the standard ones.
    """
    with tempfile.TemporaryDirectory(prefix="exuvia-test-") as folder:
        log_path = Path(folder, "stderr")
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=cwd or ROOT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                pass_fds=pass_fds,
            )
        server = Server(process, log_path)
        try:
            yield server.wait_until_listening()
        except BaseException:
            # The failure of the block is the news; what the stop finds is added to it.
            trouble = server.end()
            if trouble:
                print(trouble)
            raise
        trouble = server.end()
        if trouble:
            raise AssertionError(trouble)
