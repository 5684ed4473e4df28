"""Notes of when a worker was where, on the clock that all processes of a machine share."""

import os
import resource
import time

at: dict[str, int] = {}


def put(name: str) -> None:
    """Note that this is now."""
    at[name] = time.monotonic_ns()


def used() -> dict[str, int]:
    """What this process has used since it was forked."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu": time.process_time_ns(), "faults": usage.ru_minflt, "threads": threads()}


def threads() -> int:
    """How many threads this process has."""
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - one system call less


# The zygote is to fork; and the fork is in Python again.
os.register_at_fork(before=lambda: put("fork"), after_in_child=lambda: put("forked"))
