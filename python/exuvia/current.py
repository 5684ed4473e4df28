"""The call that a handler runs in."""

import sys
from dataclasses import dataclass

__all__ = ["CurrentCall", "current_call"]


@dataclass(frozen=True, slots=True)
class CurrentCall:
    """What is known of a call while its handler runs."""

    id: str
    """The id that the answer, the log and the metrics know it by."""

    handler: str
    """`module:function`."""

    time_left: float | None
    """Seconds until it is stopped, as of now; None without a limit."""

    request_id: str | None
    """`x-request-id` of the HTTP request, if its client gave one."""

    traceparent: str | None
    """The caller's place in a distributed trace (W3C trace context), if it told one."""

    tracestate: str | None
    """What systems on the way added to it."""


def current_call() -> CurrentCall | None:
    """The call that the running code belongs to; None outside of a worker's calls.

    It follows the context: tasks that a handler starts, and threads that are given a copy of its
    context, belong to its call. Where the environment has OpenTelemetry and a handler has imported
    it, the caller's span is the current one there as well, without this.
    """
    worker = sys.modules.get("_exuvia_worker")
    told = None if worker is None else worker.told_of_call()
    if told is None:
        return None
    return CurrentCall(
        id=told["id"],
        handler=told["handler"],
        time_left=told["time_left"],
        request_id=told.get("request_id"),
        traceparent=told.get("traceparent"),
        tracestate=told.get("tracestate"),
    )
