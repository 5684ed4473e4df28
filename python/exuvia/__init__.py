"""Exuvia: Python in skins it can shed.

Call a function in a worker process of its own, with a time limit, and get its result back without
loss; a crash or a hang is an exception here, not the end of this program::

    import exuvia

    exuvia.call("weather.py:hottest", days=3)

See `Host` for many functions and workers that are replaced before they hurt, `Target` for one
function with limits of its own, and `exuvia.errors` for how calls fail. The command `exuvia` (also
`python -m exuvia`) serves the same functions over HTTP.
"""

from exuvia.errors import (
    CallCancelledError,
    CallError,
    CallRejectedError,
    CallTimeoutError,
    HandlerError,
    HostError,
    InputError,
    LoadError,
    ResultError,
    WorkerCrashedError,
    WorkerLostError,
)
from exuvia.host import Host, HostTarget, ImageStatus, WorkerStatus
from exuvia.target import Target, call

__all__ = [
    "CallCancelledError",
    "CallError",
    "CallRejectedError",
    "CallTimeoutError",
    "HandlerError",
    "Host",
    "HostError",
    "HostTarget",
    "ImageStatus",
    "InputError",
    "LoadError",
    "ResultError",
    "Target",
    "WorkerCrashedError",
    "WorkerLostError",
    "WorkerStatus",
    "call",
]
