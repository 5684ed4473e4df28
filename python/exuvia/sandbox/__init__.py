"""Python that nobody vouches for, in isolates: no network, no files but its own, within limits.

Each call runs in a process of its own, made before the call was there and used once::

    import exuvia.sandbox

    with exuvia.sandbox.Sandbox(preload=["numpy"], wall="5s", memory="256MiB") as box:
        outcome = box.run("import numpy as np\\nint(np.arange(10).sum())")
        print(outcome.value, outcome.usage.cpu_ms)

A call that fails raises nothing by itself: `Outcome.value` does, with the exceptions of
`exuvia.errors`. What is kept apart, and what not, is in docs/security.md; `support` says which of
its layers this machine has.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from exuvia._native import Bundle
from exuvia.sandbox.box import Calls, Code, Sandbox, SandboxStatus
from exuvia.sandbox.bundles import BundleError, PackagesError
from exuvia.sandbox.outcome import Denial, Isolate, Outcome, SessionFile, Usage
from exuvia.sandbox.support import Layer, Support, UnavailableError, support

__all__ = [
    "Bundle",
    "BundleError",
    "Calls",
    "Denial",
    "Isolate",
    "Layer",
    "Outcome",
    "PackagesError",
    "Sandbox",
    "SandboxStatus",
    "SessionFile",
    "Support",
    "UnavailableError",
    "Usage",
    "run",
    "support",
]


def run(code: Code, /, *args: Any, **kwargs: Any) -> Outcome:
    """Run code in a sandbox that is made at the first call and kept: see `Sandbox.run`.

    It has the limits of `Sandbox` and preloads nothing.
    """
    return _default().run(code, *args, **kwargs)


_kept: Sandbox | None = None
_kept_lock = threading.Lock()


def _default() -> Sandbox:
    global _kept
    with _kept_lock:
        if _kept is None:
            _kept = Sandbox()
        return _kept


def _forget() -> None:
    # Another thread of the parent may have held the lock, and is not here to give it back.
    global _kept, _kept_lock
    _kept, _kept_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
