"""Handlers that look at their own process, and start others."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

__all__ = ["hangs_at_exit", "listens", "method", "nap", "squares", "starts", "tells_at_exit"]

# What ends a process by its nature, or is no message: their handlers would hide a crash.
NO_MESSAGES = {"SIGKILL", "SIGSTOP", "SIGCHLD", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"}


def nap(ms: float = 0) -> int:
    """Sleep; give the worker's process id."""
    time.sleep(ms / 1000)
    return os.getpid()


def method() -> str:
    """Tell how this worker was made: a fork has the command line of what it was forked from."""
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    return "fork" if b"zygote_main" in words else "spawn"


def starts(away: bool) -> int:
    """Start a process that stays, in this worker's group or away from it."""
    return subprocess.Popen(["sleep", "300"], start_new_session=away).pid


def square(number: int) -> int:
    return number * number


def squares(method: str) -> list[int]:
    """Have processes of this worker's own work for it, made in that way."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        return list(pool.map(square, range(5)))


def listens(path: str) -> int:
    """Write the number of each signal from now on into that file."""

    def write(number: int, _: object) -> None:
        with Path(path).open("a") as file:
            print(number, file=file)

    for number in signal.valid_signals() - {signal.SIGRTMAX - 3}:
        if not (isinstance(number, signal.Signals) and number.name in NO_MESSAGES):
            signal.signal(number, write)
    return os.getpid()


def tells_at_exit(path: str) -> int:
    """Write into that file when this worker ends by itself."""
    import atexit

    atexit.register(lambda: Path(path).write_text(str(os.getpid())))
    return os.getpid()


def hangs_at_exit() -> int:
    """Do not end when asked to."""
    import atexit

    atexit.register(time.sleep, 300)
    print("will hang", file=sys.stderr)
    return os.getpid()
