"""How calls fail. Every failure is a `CallError`; its class says which kind."""

from typing import Any

from exuvia.outcome import Diagnostics, diagnosed

__all__ = [
    "CallCancelledError",
    "CallError",
    "CallRejectedError",
    "CallTimeoutError",
    "HandlerError",
    "HostError",
    "InputError",
    "LimitExceededError",
    "LoadError",
    "PolicyDeniedError",
    "RequestRefusedError",
    "ResultError",
    "WorkerCrashedError",
    "WorkerLostError",
]


class CallError(Exception):
    """A call has no result.

    Attributes:
        kind: The failure's kind, the same word as in logs, metrics and HTTP problems: `exception`,
            `timeout`, `crash` and so on.
        failure: The failure as data, with `kind` and what that kind knows (`signal`, `frames`,
            `faults`, `limit_ms`, ...).
        diagnostics: What was measured until it failed.
    """

    kind: str
    failure: dict[str, Any]
    diagnostics: Diagnostics

    def __init__(self, message: str, failure: dict[str, Any], diagnostics: Diagnostics) -> None:
        super().__init__(message)
        self.kind = failure["kind"]
        self.failure = failure
        self.diagnostics = diagnostics

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.failure, self.diagnostics)


class HandlerError(CallError):
    """The handler raised. `traceback` is what Python printed in the worker."""

    @property
    def traceback(self) -> str:
        """The traceback as text."""
        return str(self.failure["traceback"])


class InputError(CallError, ValueError):
    """The arguments do not fit the handler, or could not be read."""


class RequestRefusedError(CallError):
    """The handler refused the request: its exception has an ``exuvia_status`` of 400 to 499."""

    @property
    def status(self) -> int:
        """The HTTP status it gave."""
        return int(self.failure["status"])


class ResultError(CallError):
    """The handler returned something that cannot be sent back, or not be read here."""


class CallTimeoutError(CallError, TimeoutError):
    """The call was not over in time, and was stopped."""


class WorkerCrashedError(CallError):
    """The worker died by a signal, or ended itself, while it ran the call."""


class LimitExceededError(CallError):
    """The call took more of something than its policy gives, and was stopped."""

    @property
    def resource(self) -> str:
        """Of what: `cpu`, `memory`, `result`, `output`, `files` or `threads`."""
        return str(self.failure["resource"])


class PolicyDeniedError(CallError):
    """The call did what its policy does not let it do."""


class WorkerLostError(CallError):
    """The worker was stopped for something else than this call."""


class CallRejectedError(CallError):
    """The call was not taken: too many are waiting, or the workers are being stopped."""


class CallCancelledError(CallError):
    """The call was cancelled."""


class LoadError(CallError, ImportError):
    """The handler is not there: its module does not import, or has no such function."""


class HostError(CallError):
    """Exuvia itself failed."""


_CLASSES: dict[str, type[CallError]] = {
    "malformed": InputError,
    "input": InputError,
    "exception": HandlerError,
    "refused": RequestRefusedError,
    "result": ResultError,
    "timeout": CallTimeoutError,
    "crash": WorkerCrashedError,
    "exited": WorkerCrashedError,
    "limit": LimitExceededError,
    "denied": PolicyDeniedError,
    "worker_lost": WorkerLostError,
    "rejected": CallRejectedError,
    "cancelled": CallCancelledError,
    "load": LoadError,
    "host": HostError,
}


def from_failure(message: str, failure: dict[str, Any], diagnostics: dict[str, Any]) -> CallError:
    """The exception for a failure; called by the native module."""
    return _CLASSES[failure["kind"]](message, failure, diagnosed(diagnostics))
