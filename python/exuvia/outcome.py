"""What is known of a call that has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Copied", "Diagnostics", "Outcome"]


@dataclass(frozen=True, slots=True)
class Copied:
    """Data of a table or array that was copied on its way.

    Attributes:
        what: What was copied: `column "x"`, `array`, `a table`.
        bytes: How much of it.
        why: The reason, in a clause: `pandas needs a copy because it has nulls`.
    """

    what: str
    bytes: int
    why: str


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What was measured of a call.

    Attributes:
        call_id: Its id, the same as in the log.
        handler: The function, `module:function`.
        worker: The worker that ran it last, a number never used twice in a host; None: none did.
        pid: That worker's process.
        queued_us: Microseconds from the call's arrival until it was handed to a worker.
        run_us: Microseconds the function ran.
        attempts: How often it was handed to a worker. More than one: an earlier worker was lost
            before the call had begun.
        copies: What was copied of tables and arrays, from the arguments to the result.
    """

    call_id: str
    handler: str
    worker: int | None
    pid: int | None
    queued_us: int
    run_us: int
    attempts: int
    copies: tuple[Copied, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """A call's result, and what was measured meanwhile.

    Attributes:
        value: What the function returned.
        diagnostics: What was measured.
    """

    value: Any
    diagnostics: Diagnostics


def diagnosed(said: dict[str, Any]) -> Diagnostics:
    """Diagnostics as the native module tells them."""
    copies = tuple(Copied(**each) for each in said["copies"])
    return Diagnostics(**{**said, "copies": copies})
