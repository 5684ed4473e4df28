"""Fixtures: the built program, the project's Python, a server and a call."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from processes import ROOT, Server, serving
from programs import Completed, Run, Start, programs, to_the_end

__all__ = ["Call", "Completed", "Serve"]


class Serve(Protocol):
    """Starts ``exuvia serve TARGET...``; the server ends with the test."""

    def __call__(
        self,
        *targets: str | Path,
        args: list[str] | None = None,
        python: str | Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Server:
        """Give the server once it listens."""


class Call(Protocol):
    """Runs ``exuvia call TARGET`` to its end."""

    def __call__(
        self,
        target: str | Path,
        *args: str,
        stdin: str | None = None,
        python: str | Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        """Give what it wrote and its exit code."""


@pytest.fixture(scope="session")
def exuvia_bin() -> Path:
    """The built program: EXUVIA_BIN, else the release build."""
    path = Path(os.environ.get("EXUVIA_BIN") or ROOT / "target/release/exuvia").absolute()
    if not path.is_file():
        pytest.fail(f"{path} does not exist: run `make build` first")
    return path


@pytest.fixture(scope="session")
def project_python() -> Path:
    """The Python that has the wheel and the packages of the tests."""
    path = Path(os.environ.get("EXUVIA_TEST_PYTHON") or ROOT / ".venv/bin/python")
    # Started by hand in another environment, that one is as good.
    return path if path.is_file() else Path(sys.executable)


@pytest.fixture
def serve(exuvia_bin: Path, project_python: Path) -> Iterator[Serve]:
    """Start servers that end with the test; the test fails when one leaves a process behind."""
    with ExitStack() as running:

        def start(
            *targets: str | Path,
            args: list[str] | None = None,
            python: str | Path | None = None,
            cwd: Path | None = None,
            env: Mapping[str, str] | None = None,
        ) -> Server:
            command = [str(exuvia_bin), "serve", *map(str, targets), "--port", "0"]
            command += ["--python", str(python or project_python), *(args or [])]
            return running.enter_context(serving(command, cwd=cwd, env=env))

        yield start


@pytest.fixture
def call(exuvia_bin: Path, project_python: Path) -> Call:
    """Run ``exuvia call``; ``stdin`` is text for it, and the exit code is left to the test."""

    def run(
        target: str | Path,
        *args: str,
        stdin: str | None = None,
        python: str | Path | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Completed:
        command = [str(exuvia_bin), "call", str(target), *args]
        command += ["--python", str(python or project_python)]
        return subprocess.run(
            command,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=cwd or ROOT,
            env={**os.environ, **(env or {})},
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def start(project_python: Path, tmp_path: Path) -> Iterator[Start]:
    """Start programs; nothing of them may outlive the test."""
    with programs(project_python, tmp_path) as start:
        yield start


@pytest.fixture
def run(start: Start) -> Run:
    """Run a program to its end."""
    return to_the_end(start)
