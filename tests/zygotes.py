"""Fills images with the zygote's Python half, by itself: `os.fork` forks here."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from processes import ROOT

FORKS = 20

# Runs `warm`, then what the test adds; writes what came of both to descriptor 1 as JSON.
DRIVER = """
import importlib.util, json, os, sys, types

def load(name):
    file = os.path.join({sources!r}, name + ".py")
    spec = importlib.util.spec_from_file_location("_exuvia_" + name, file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

names = ("worker", "scan", "chance", "source", "zygote")
worker, scan, chance, _, zygote = map(load, names)
# The runtime puts it there; no handler here asks for a table.
worker.table_target = lambda annotation: None
# Where a zygote has what the host gave it.
while os.open("/dev/null", os.O_RDONLY) < 5:
    pass
told = json.load(sys.stdin)
items, said = [], {{}}

def forks(of, count={forks}):
    \"\"\"What each of some forks makes of it.\"\"\"
    wait, go = os.pipe()
    children = []
    for _ in range(count):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                zygote.after_fork()
                # All begin at once, when nobody can write to the pipe any more.
                os.close(go)
                os.read(wait, 1)
                answer = of()
            except BaseException as error:
                answer = "raised " + repr(error)
            with open(write, "w") as out:
                json.dump(answer, out)
            os._exit(0)
        os.close(write)
        children.append((child, read))
    os.close(go)
    os.close(wait)
    results = []
    for child, read in children:
        with open(read, "rb") as answer:
            results.append(json.loads(answer.read()))
        os.waitpid(child, 0)
    return results

result = None
before = set(sys.modules)
try:
    request = types.SimpleNamespace(**told["request"])
    said["modules"], said["notes"] = zygote.warm(worker, request, lambda *item: items.append(item))
    said["loaded"] = sorted(set(sys.modules) - before)
    exec(told["then"])
except zygote.ThreadsError as error:
    said["threads"] = [error.item, error.threads]
except worker.LoadError as error:
    said["error"], said["cause"] = str(error), repr(error.__cause__)
print(json.dumps({{**said, "items": items, "result": result}}))
"""


class Image(Protocol):
    """Writes files below the test's folder and warms an image of what is in `app`."""

    def __call__(
        self,
        files: Mapping[str, str | bytes],
        *targets: tuple[str, str | None, str | None],
        then: str = "",
        env: Mapping[str, str] | None = None,
        **request: Any,
    ) -> dict[str, Any]:
        """Give `items`, `loaded`, `notes`, `modules`, or `error` or `threads`, and `result`."""


@pytest.fixture
def image(tmp_path: Path, project_python: Path) -> Image:
    def warmed(
        files: Mapping[str, str | bytes],
        *targets: tuple[str, str | None, str | None],
        then: str = "",
        env: Mapping[str, str] | None = None,
        **request: Any,
    ) -> dict[str, Any]:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        whole = {
            "search_path": [str(tmp_path / "app")],
            "targets": targets,
            "preload": [],
            "warm": [],
            "leave_out": [],
            "environment": [],
            "blas_threads": 1,
            **request,
        }
        quiet = "background_thread:false"
        variables = {
            "PYTHONPATH": str(tmp_path / "site-packages"),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "JE_ARROW_MALLOC_CONF": quiet,
            "_RJEM_MALLOC_CONF": quiet,
            **(env or {}),
        }
        source = DRIVER.format(sources=str(ROOT / "crates/runtime/src"), forks=FORKS)
        done = subprocess.run(
            [project_python, "-P", "-c", source],
            input=json.dumps({"request": whole, "then": then}),
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    return warmed


def names(told: dict[str, Any]) -> list[str]:
    """The items of an image; an image that could not be made has none to compare."""
    assert "error" not in told and "threads" not in told, told
    return [item for item, _ in told["items"]]


def installed(*packages: str) -> dict[str, str]:
    """Empty packages of somebody else."""
    return {f"site-packages/{name.replace('.', '/')}/__init__.py": "" for name in packages}


APP = ("app", None, None)
