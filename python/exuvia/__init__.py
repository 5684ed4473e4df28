"""Exuvia: Python in skins it can shed.

Call a function in a worker process of its own, with a time limit, and get its result back without
loss; a crash or a hang is an exception here, not the end of this program::

    import exuvia

    exuvia.call("weather.py:hottest", days=3)

See `Host` for many functions and workers that are replaced before they hurt, `Target` for one
function with limits of its own, and `exuvia.errors` for how calls fail. Tables and arrays cross
through memory that both processes see; `share` puts one there once for many calls, and `Table` is
Arrow's table without a library. `exuvia.sandbox`, imported by that name, runs code that nobody
vouches for. The command `exuvia` (also `python -m exuvia`) serves the same functions over HTTP.
"""

from exuvia._native import (
    Column,
    Field,
    Results,
    Shared,
    Stream,
    Table,
    Values,
    consume,
    produce,
    series,
    series_of,
    share,
)
from exuvia.current import CurrentCall, current_call
from exuvia.errors import (
    CallCancelledError,
    CallError,
    CallRejectedError,
    CallTimeoutError,
    HandlerError,
    HostError,
    InputError,
    LimitExceededError,
    LoadError,
    PolicyDeniedError,
    RequestRefusedError,
    ResultError,
    WorkerCrashedError,
    WorkerLostError,
)
from exuvia.host import Host, HostTarget, ImageStatus, WorkerStatus
from exuvia.outcome import Copied, Diagnostics, Outcome
from exuvia.target import Target, call

__all__ = [
    "CallCancelledError",
    "CallError",
    "CallRejectedError",
    "CallTimeoutError",
    "Column",
    "Copied",
    "CurrentCall",
    "Diagnostics",
    "Field",
    "HandlerError",
    "Host",
    "HostError",
    "HostTarget",
    "ImageStatus",
    "InputError",
    "LimitExceededError",
    "LoadError",
    "Outcome",
    "PolicyDeniedError",
    "RequestRefusedError",
    "ResultError",
    "Results",
    "Shared",
    "Stream",
    "Table",
    "Target",
    "Values",
    "WorkerCrashedError",
    "WorkerLostError",
    "WorkerStatus",
    "call",
    "consume",
    "current_call",
    "produce",
    "series",
    "series_of",
    "share",
]
