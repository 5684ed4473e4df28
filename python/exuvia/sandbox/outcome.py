"""How calls of a sandbox end."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from exuvia import _native
from exuvia.errors import CallError
from exuvia.outcome import Copied

__all__ = ["Denial", "Isolate", "Outcome", "SessionFile", "Usage"]


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A file that a call left under `/session`.

    Attributes:
        path: Its path there.
        bytes: Its size.
    """

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Denial:
    """Something a call was refused, whether its code caught the error or not.

    Attributes:
        what: The system call.
        path: The file it was about, where it was about one.
        count: How often in a row.
    """

    what: str
    path: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Isolate:
    """The process a call ran in.

    Attributes:
        pid: Its number on this machine; None: the call was given none.
        tier: The layers around it: `full`, `reduced` or `none`.
        fresh: It had run no other call.
        on_demand: None was ready, and it was made for this call.
        quarantined: It was to be kept, and was not because of this call.
    """

    pid: int | None
    tier: str
    fresh: bool
    on_demand: bool
    quarantined: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What the host measured of a call; nothing of it is what the code says of itself.

    Attributes:
        came_at: When the call came, in seconds since 1970.
        started_at: When an isolate was given it; None: none was.
        ended_at: When its end was known.
        queued_ms: Milliseconds from its coming until an isolate was there for it.
        wall_ms: Milliseconds from its handing over to its end.
        run_ms: Milliseconds the function ran, as the isolate tells.
        cpu_ms: CPU time of all its threads, user and system, in milliseconds.
        peak_memory: The most resident memory beyond what the isolate had before, in bytes.
        output_bytes: Bytes printed, also those that were not kept.
        output_truncated: Whether some of the output was not kept.
        file_bytes: Bytes under `/session` at its end.
        files: Files there.
        denied: How often it was refused something.
        denials: What it was refused, in order, as far as it is kept.
        copies: What was copied of tables and arrays, from the arguments to the result.
        isolate: Where it ran.
        policy: The limits it had: `wall_ms`, `cpu_ms`, `memory`, `result`, `output`, `threads` and
            `files` (`mode`, `bytes`, `inodes`).
    """

    came_at: float
    started_at: float | None
    ended_at: float
    queued_ms: float
    wall_ms: float
    run_ms: float
    cpu_ms: float
    peak_memory: int
    output_bytes: int
    output_truncated: bool
    file_bytes: int
    files: tuple[SessionFile, ...]
    denied: int
    denials: tuple[Denial, ...]
    copies: tuple[Copied, ...]
    isolate: Isolate
    policy: dict[str, Any]


class Outcome:
    """How a call ended, and what the host measured of it.

    Attributes:
        failure: Why there is no result: the exception that `value` raises; None if there is one.
        stdout: What it printed, as far as that was kept; what is no UTF-8 is replaced.
        stderr: The same of standard error.
        usage: What was measured.
    """

    __slots__ = ("_document", "_value", "failure", "stderr", "stdout", "usage")

    def __init__(self, value: Any, failure: CallError | None, document: dict[str, Any]) -> None:
        self._value = value
        self._document = document
        self.failure = failure
        self.stdout: str = document["stdout"]
        self.stderr: str = document["stderr"]
        self.usage = _usage(document["usage"])

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.failure is None

    @property
    def value(self) -> Any:
        """The result; raises `failure` if there is none."""
        self.raise_for_failure()
        return self._value

    def raise_for_failure(self) -> None:
        """Raise `failure`, if the call failed."""
        if self.failure is not None:
            raise self.failure

    def document(self) -> dict[str, Any]:
        """Give all of it as plain data: the schema `exuvia.outcome/1`, fit for JSON.

        `result` is the value where JSON can hold it, else its `media_type` and size in `bytes`.
        """
        document: dict[str, Any] = json.loads(json.dumps(self._document))
        if self.failure is None:
            with suppress(ValueError):
                document["result"] = json.loads(_native.json_dumps(self._value))
        return document

    def __repr__(self) -> str:
        word = "ok" if self.failure is None else self.failure.kind
        return f"<exuvia.sandbox.Outcome {word}, {self.usage.wall_ms:.1f} ms>"


def _usage(said: dict[str, Any]) -> Usage:
    isolate = said["isolate"]
    lists = {
        "files": tuple(SessionFile(each["path"], each["bytes"]) for each in said["files"]),
        "denials": tuple(
            Denial(each["what"], each["path"], each["count"]) for each in said["denials"]
        ),
        "copies": tuple(Copied(**each) for each in said["copies"]),
        "isolate": Isolate(
            isolate["pid"],
            isolate["tier"],
            isolate["fresh"],
            isolate["on_demand"],
            isolate["quarantined"],
        ),
    }
    known = Usage.__dataclass_fields__
    return Usage(**{**{name: said[name] for name in known}, **lists})
