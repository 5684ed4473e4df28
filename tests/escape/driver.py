"""Runs attacks through `sandboxed` (crates/host/examples), which can leave layers out."""

from __future__ import annotations

import ast
import itertools
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes import ROOT, children_of, wait_until

HERE = Path(__file__).parent
FILES = ("processes", "files", "network", "kernel", "memory", "leaks")
# An ordinary user that is nobody else's.
ORDINARY = 200_001
# Whom the isolates of root's host run as.
NOBODY = 65534
MEMORY = 32 << 20
# No attack takes as long.
WALL_MS = 20_000
LAYERS = ("limits", "capabilities", "landlock", "seccomp", "user", "pid", "mounts", "ipc", "uts")
NAMESPACES = ("user", "pid", "mounts", "ipc", "uts")


@dataclass(frozen=True)
class Attack:
    """A function in one of the files here."""

    file: str
    name: str
    about: str

    @property
    def title(self) -> str:
        """As the table says it."""
        return f"{self.name.replace('_', ' ')}"

    def source(self, facts: dict[str, Any]) -> str:
        """Code for an isolate: what attacks share, the file, and the call."""
        texts = [_alone(HERE / f"{name}.py") for name in ("kit", self.file)]
        return "\n".join([*texts, f"attempt({self.name}, {facts!r})", ""])


def _alone(path: Path) -> str:
    """A file without what it imports from here: that comes before it."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and node.module == "escape.kit":
            lines[node.lineno - 1 : node.end_lineno] = []
    return "\n".join(lines)


def attacks() -> list[Attack]:
    """All of them, in order."""
    found = []
    for file in FILES:
        for node in ast.parse((HERE / f"{file}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                found.append(Attack(file, node.name, ast.get_docstring(node) or ""))
    return found


@dataclass(frozen=True)
class Ground:
    """Which layers are there."""

    name: str
    tier: str
    layers: tuple[str, ...]

    @property
    def without(self) -> list[str]:
        """What is left out."""
        return [layer for layer in LAYERS if layer not in self.layers]


@dataclass
class Guard:
    """A running sandbox, and one line for each call."""

    process: subprocess.Popen[str]
    hello: dict[str, Any]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def pid(self) -> int:
        """The host."""
        return int(self.hello["pid"])

    def ask(self, **call: Any) -> Any:
        """Make one call and wait for its end."""
        assert self.process.stdin is not None and self.process.stdout is not None
        number = next(self._numbers)
        self.process.stdin.write(json.dumps({"id": number, **call}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the host ended: {self.process.poll()}"
        told = json.loads(line)
        assert told["id"] == number
        return told["told"]

    def run(self, code: str, **limits: Any) -> Any:
        """Run source code; give its outcome."""
        return self.ask(code=code, **limits)

    def image(self) -> int:
        """The image's process."""
        return int(self.ask(ask="status")["image"])

    def siblings(self) -> list[int]:
        """Isolates that wait for a call, two at least: one of them is the next call's."""
        if self.ask(ask="status")["ready"] == 0:
            # The first call says which kind is wanted.
            self.run("None")
        wait_until("spares", lambda: self.ask(ask="status")["ready"] > 1, 30)
        image = self.image()
        return [pid for pid in children_of(self.pid) if pid != image]


def program() -> Path:
    """The built example. Built by `cargo test` too; this is quick where nothing changed."""
    cargo = shutil.which("cargo")
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    if cargo is not None:
        command = [cargo, "build", "--quiet", "--workspace", "--locked", "--example", "sandboxed"]
        subprocess.run(command, cwd=ROOT, check=True)
    return target / "debug/examples/sandboxed"


def runtime(binary: Path) -> Path:
    """The library for isolates beside a program."""
    suffix = "dylib" if sys.platform == "darwin" else "so"
    return binary.parent / f"lib_native.{suffix}"


def as_ordinary(command: list[str]) -> list[str]:
    """The same as an ordinary user."""
    user = str(ORDINARY)
    return ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--", *command]


def showing(python: Path, command: list[str]) -> list[str]:
    """The same, where ordinary users can reach this Python.

    Where they cannot, it is shown to them: in a mount namespace of its own, what is on the
    way there is replaced.
    """
    asked = [str(python), "-c", "import sys; print(sys.base_prefix)"]
    base = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    shut = [path for path in Path(base).parents if not path.stat().st_mode & 1]
    if not shut:
        return command
    script = """
        set -e
        base=$1 top=$2; shift 2
        mount --make-rprivate /
        mount -t tmpfs -o mode=755 none /mnt
        mkdir /mnt/base
        mount --bind "$base" /mnt/base
        mount -t tmpfs -o mode=755 none "$top"
        mkdir -p "$base"
        mount --bind /mnt/base "$base"
        umount -l /mnt
        exec "$@"
    """
    return ["unshare", "--mount", "sh", "-c", script, "sh", base, str(shut[-1]), *command]


@contextmanager
def guarded(
    binary: Path,
    python: Path,
    ground: Ground,
    *,
    ordinary: bool,
    word: str = "",
    **settings: Any,
) -> Iterator[Guard]:
    """Keep a sandbox while it is used. ``word`` is a secret among its variables and arguments."""
    config = {
        "python": str(python),
        "runtime": str(runtime(binary)),
        "tier": ground.tier,
        "without": ground.without,
        "memory": MEMORY,
        "wall_ms": WALL_MS,
        "word": word,
        **settings,
    }
    command = [str(program()), json.dumps(config)]
    if os.geteuid() == 0:
        command = as_ordinary(command) if ordinary else command
        # With a view, it is root that looks for what is in it.
        command = showing(python, command) if ordinary or ground.tier != "full" else command
    environment = {**os.environ, "EXUVIA_ESCAPE_WORD": word}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd="/",
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            line = process.stdout.readline()
            if not line:
                assert process.stderr is not None
                raise AssertionError(f"it did not start: {process.stderr.read()}")
            yield Guard(process, json.loads(line))
        finally:
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


@contextmanager
def prey(folder: Path, user: int) -> Iterator[dict[str, Any]]:
    """What attacks are after: files, sockets, a word. Gives what an attacker may know of it."""
    word = os.urandom(16).hex()
    folder.chmod(0o777)
    names = {name: folder / name for name in ("secret", "target", "removable")}
    for name, path in names.items():
        path.write_text(word if name == "secret" else name)
        path.chmod(0o600 if name == "secret" else 0o666)
        if os.geteuid() == 0:
            os.chown(path, user, user)
    with ExitStack() as open_:
        tcp = open_.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
        udp = open_.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        unix = open_.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        unix.listen(100)
        abstract = open_.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0exuvia-escape-{word[:8]}")
        abstract.listen(100)
        datagram = open_.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagram.bind(f"\0exuvia-escape-datagram-{word[:8]}")
        yield {
            **{name: str(path) for name, path in names.items()},
            "folder": str(folder),
            "word": word,
            "memory": MEMORY,
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
            "unix": str(folder / "socket"),
            "abstract": f"exuvia-escape-{word[:8]}",
            "abstract_datagram": f"exuvia-escape-datagram-{word[:8]}",
            "passwd": Path("/etc/passwd").read_text(),
            "hostname": platform.node(),
        }
