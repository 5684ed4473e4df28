"""The Python half of type plans (crates/runtime/src/plan/*.py), by itself: no worker, no Rust."""

import itertools
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

RUNTIME = Path(__file__).parents[1] / "crates/runtime/src"
# As `sources.rs` loads them.
ORDER = ("bounds", "names", "fields", "compile", "patterns", "library", "naming", "schema")
_numbers = itertools.count()


def load() -> None:
    """Puts the modules where they look for one another, and what the runtime tells them."""
    if "_exuvia_plan_schema" in sys.modules:
        return
    asked = execute("_exuvia_asked", (RUNTIME / "tables/asked.py").read_text())
    for name in ORDER:
        source = (RUNTIME / f"plan/{name}.py").read_text()
        module = execute(full_name(name), source)
        module.__dict__.update(table_target=asked.target_of, plan_module=plan_module)
    worker = execute("_exuvia_worker", (RUNTIME / "worker.py").read_text())
    worker.__dict__.update(table_target=asked.target_of, plan_module=plan_module)


def full_name(name: str) -> str:
    return "_exuvia_plan" if name == "compile" else f"_exuvia_plan_{name}"


def plan_module(name: str) -> types.ModuleType:
    return sys.modules[full_name(name)]


def execute(name: str, source: str) -> types.ModuleType:
    """A module of that name with that source."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)
    return module


def module_of(source: str) -> types.ModuleType:
    """A module of its own with that source."""
    return execute(f"written{next(_numbers)}", source)


def compiled(function: Callable[..., Any], *skip: str) -> tuple[list[Any], dict[str, Any], Any]:
    """Definitions, parameters and result of a handler, as a worker compiles it."""
    load()
    hints = sys.modules["_exuvia_worker"].type_hints(function)
    plan: tuple[list[Any], dict[str, Any], Any]
    plan = plan_module("compile").compile_handler(function, hints, skip)
    return plan


def described(*functions: Callable[..., Any]) -> dict[str, Any]:
    """What the host is told of handlers."""
    load()
    worker = sys.modules["_exuvia_worker"]
    plans = [worker.plan("m", function.__name__, function, []) for function in functions]
    handlers = [
        (module, name, function, worker.type_hints(function), params, streams)
        for function, module, name, _, streams, params, *_ in plans
    ]
    told: dict[str, Any] = plan_module("schema").describe(handlers)
    # It crosses as JSON.
    assert json.loads(json.dumps(told)) == told
    return told
