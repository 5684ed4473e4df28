"""How this program's functions are named for workers, and where those find its modules."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

Named: TypeAlias = str | os.PathLike[str] | Callable[..., Any]
"""What can be a target: the text of one, a file or a function."""


def name_of(target: Named) -> str:
    """Give the name under which a worker finds the function: `module:function` or by file."""
    if isinstance(target, str):
        return target
    if isinstance(target, os.PathLike):
        return os.fspath(target)
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", None)
    if module == "__main__":
        module = getattr(sys.modules["__main__"], "__file__", None)
    if not module or not name or "<" in name:
        raise ValueError(
            f"{target!r} cannot be found by a worker: give a function of a module or a file, "
            "by name or as it is"
        )
    return f"{module}:{name}"


def search_path() -> list[str]:
    """Give what this program has added to its interpreter's own path: its modules are there."""
    own = (sys.prefix, sys.base_prefix)
    return [entry for entry in sys.path if entry and not entry.startswith(own)]
