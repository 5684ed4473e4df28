"""Sandboxes and the calls in them."""

from __future__ import annotations

import asyncio
import atexit
import codecs
import os
import sys
import tokenize
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

from exuvia import _native
from exuvia._native import Bundle
from exuvia.errors import CallError
from exuvia.sandbox.bundles import PackagesError, Store, search_path
from exuvia.sandbox.outcome import Outcome
from exuvia.sandbox.support import require

__all__ = ["Calls", "Code", "Printed", "Sandbox", "SandboxStatus", "Size", "Time"]

Time: TypeAlias = float | str | timedelta
"""Seconds, text like "500ms", or a timedelta; more than 0."""

Size: TypeAlias = int | str
"""Bytes, or text like "256MiB"; more than 0."""

Code: TypeAlias = str | os.PathLike[str] | Bundle
"""Source code as text; the path of a `.py` file or of a bundle; or a bundle that was opened."""

Printed: TypeAlias = Callable[[str], object]
"""Takes what a guest prints, piece by piece, as it prints it."""

_open: weakref.WeakSet[Sandbox] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    """A sandbox at a glance.

    Attributes:
        image: The process that isolates are forked from, while there is one.
        ready: Isolates that wait for a call.
        running: Calls that run.
        waiting: Calls that wait for their turn.
        calls: Calls that have ended.
    """

    image: int | None
    ready: int
    running: int
    waiting: int
    calls: int


class Calls:
    """Calls of a sandbox with options of their own, made by `Sandbox.with_options`.

    Keeps the sandbox alive. Usable from several threads at once.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        options: dict[str, Any],
        on_stdout: Printed | None,
        on_stderr: Printed | None,
    ) -> None:
        self._sandbox = sandbox
        self._options = options
        self._on_stdout = on_stdout
        self._on_stderr = on_stderr

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox whose isolates run them."""
        return self._sandbox

    def run(self, code: Code, /, *args: Any, **kwargs: Any) -> Outcome:
        """Run code and wait for its end: see `Sandbox.run`."""
        begun, sink = self._begin(code, args, kwargs, awaited=False)
        end = begun.wait(sink)
        sink.finish()
        return Outcome(*end)

    async def run_async(self, code: Code, /, *args: Any, **kwargs: Any) -> Outcome:
        """Run code without blocking the event loop: see `Sandbox.run_async`."""
        if isinstance(code, str):
            begun, sink = self._begin(code, args, kwargs, awaited=True)
        else:
            # Files are read and written on a thread that may wait for them.
            begin = partial(self._begin, code, args, kwargs, awaited=True)
            begun, sink = await asyncio.to_thread(begin)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[tuple[Any, CallError | None, dict[str, Any]]] = loop.create_future()

        def hear() -> None:
            try:
                end = begun.advance(sink)
            except Exception as error:
                loop.remove_reader(begun.fileno())
                if not ended.done():
                    ended.set_exception(error)
            else:
                if end is not None and not ended.done():
                    ended.set_result(end)

        loop.add_reader(begun.fileno(), hear)
        try:
            end = await ended
        finally:
            loop.remove_reader(begun.fileno())
            begun.cancel()
        sink.finish()
        return Outcome(*end)

    def prepare(self, code: Code) -> None:
        """Make isolates for such calls ahead: see `Sandbox.prepare`."""
        sandbox = self._sandbox
        sandbox._native.prepare(sandbox._code(code), self._options)

    def with_options(
        self,
        *,
        entrypoint: str | None = None,
        wall: Time | None = None,
        cpu: Time | None = None,
        memory: Size | None = None,
        output: Size | None = None,
        result: Size | None = None,
        files: Literal["read", "read-write"] | None = None,
        quota: Size | None = None,
        inodes: int | None = None,
        threads: int | None = None,
        on_stdout: Printed | None = None,
        on_stderr: Printed | None = None,
    ) -> Calls:
        """Give the same with these options instead of its own: see `Sandbox.with_options`."""
        given = {
            "entrypoint": entrypoint,
            "wall": wall,
            "cpu": cpu,
            "memory": memory,
            "output": output,
            "result": result,
            "files": files,
            "quota": quota,
            "inodes": inodes,
            "threads": threads,
        }
        said = {name: value for name, value in given.items() if value is not None}
        options = {**given, **self._options, **said}
        self._sandbox._native.check(options)
        for name, sink in (("on_stdout", on_stdout), ("on_stderr", on_stderr)):
            if sink is not None and not callable(sink):
                raise TypeError(f"{name} must be a function that takes text, not {sink!r}")
        return Calls(
            self._sandbox, options, on_stdout or self._on_stdout, on_stderr or self._on_stderr
        )

    def _begin(
        self, code: Code, args: tuple[Any, ...], kwargs: dict[str, Any], *, awaited: bool
    ) -> tuple[_native.Running, _Sink]:
        sink = _Sink(self._on_stdout, self._on_stderr)
        live = self._on_stdout is not None or self._on_stderr is not None
        sandbox = self._sandbox
        ready = sandbox._code(code)
        begun = sandbox._native.start(ready, args, kwargs, self._options, live, awaited)
        return begun, sink

    def __repr__(self) -> str:
        said = (f"{name}={value!r}" for name, value in self._options.items() if value is not None)
        return f"<exuvia.sandbox.Calls {', '.join(said)}>"


_NO_OPTIONS: dict[str, Any] = dict.fromkeys(
    (
        *("entrypoint", "wall", "cpu", "memory", "output", "result"),
        *("files", "quota", "inodes", "threads"),
    )
)


class Sandbox:
    """Runs code in isolates: processes that can reach nothing but what they are given.

    Isolates are forked from an image that has imported `preload`, so one is there in a millisecond.
    Each takes one call, unless `persistent`. Usable from several threads at once. Not usable after
    `os.fork()` in the child: every use there raises RuntimeError.

    Args:
        preload: Modules that the image imports. They are the operator's choice: they run before
            any isolate is closed in.
        wall: Wall time of a call.
        cpu: CPU time of a call, all its threads together.
        memory: Memory of a call beyond what the image takes.
        output: Standard output and error of a call together.
        result: Size of a result.
        files: Whether `/session` may be written. Default: source code may not, a bundle may if its
            manifest asks for it.
        quota: All files under `/session` together, where that may be written.
        inodes: How many files and folders there may be.
        threads: Threads of an isolate, the first one included.
        spares: Isolates that are kept ready for each kind of call.
        concurrency: Calls that run at a time. Default: as many as there are processor cores.
        queue: Calls that may wait for one before others are rejected.
        persistent: Keep an isolate for one call after the other, until it overran a limit, crashed
            or was refused something. Calls then see what earlier ones left.
        trusted: Run also on a machine that has no sandbox, with limits of time and memory only.
        python: The interpreter of the isolates. Default: the one that runs this program.
        view: Files and folders that isolates may read beside Python, its packages and the system's
            libraries, at the same paths.
        isolate_uid: Whom isolates run as where this program is root's. Not root.
        isolate_gid: The group of the same.
        blas_threads: Threads of numeric libraries in each isolate.

    Raises:
        LoadError: A module to preload does not import.
        RuntimeError: The image cannot be made.
        TypeError: An argument is of the wrong kind.
        UnavailableError: This machine has no sandbox.
        ValueError: An argument is out of bounds.
    """

    def __init__(
        self,
        *,
        preload: Iterable[str] = (),
        wall: Time = 30.0,
        cpu: Time = 30.0,
        memory: Size = "512MiB",
        output: Size = "1MiB",
        result: Size = "64MiB",
        files: Literal["read", "read-write"] | None = None,
        quota: Size = "16MiB",
        inodes: int = 1024,
        threads: int = 32,
        spares: int = 2,
        concurrency: int | None = None,
        queue: int = 1024,
        persistent: bool = False,
        trusted: bool = False,
        python: str | os.PathLike[str] | None = None,
        view: Iterable[str | os.PathLike[str]] = (),
        isolate_uid: int = 65534,
        isolate_gid: int = 65534,
        blas_threads: int = 1,
    ) -> None:
        if not isinstance(trusted, bool):
            raise TypeError(f"trusted must be True or False, not {trusted!r}")
        if not trusted:
            require()
        if isinstance(view, str | os.PathLike):
            raise TypeError(f"view must be a list of paths, not {view!r}")
        self._python = os.fspath(sys.executable if python is None else python)
        self._checked: set[str] = set()
        self._store = Store(isolate_gid)
        try:
            self._native = _native.Sandbox(
                python=self._python,
                store=self._store.path,
                preload=preload,
                wall=wall,
                cpu=cpu,
                memory=memory,
                output=output,
                result=result,
                files=files,
                quota=quota,
                inodes=inodes,
                threads=threads,
                spares=spares,
                concurrency=_cores() if concurrency is None else concurrency,
                queue=queue,
                persistent=persistent,
                view=[Path(path).absolute() for path in view],
                isolate_uid=isolate_uid,
                isolate_gid=isolate_gid,
                blas_threads=blas_threads,
            )
        except BaseException:
            self._store.remove()
            raise
        _open.add(self)

    def run(self, code: Code, /, *args: Any, **kwargs: Any) -> Outcome:
        """Run code in an isolate and wait for its end.

        Source code that has a function `handler` is that function; else it is run as it is, takes
        no arguments, and the value of its last line is the result. A bundle is the function that
        its manifest names. Arguments and results are plain values, tables and arrays, as for
        `exuvia.Host`; nothing is ever a pickle, in neither direction.

        All arguments are the code's; limits and the like are given by `with_options`.

        Args:
            code: Text, or the path of a `.py` file or a bundle, or a `Bundle`.
            *args: The function's arguments.
            **kwargs: The function's arguments by name.

        Returns:
            What came of it, whether it failed or not.

        Raises:
            BundleError: The bundle cannot be used.
            OSError: The file cannot be read.
            RuntimeError: The sandbox is closed.
            TypeError: An argument cannot be sent.
            WorkerLostError: The sandbox was closed meanwhile.
        """
        return self._calls().run(code, *args, **kwargs)

    async def run_async(self, code: Code, /, *args: Any, **kwargs: Any) -> Outcome:
        """Run code as `run` does, without blocking asyncio's event loop.

        To cancel it ends the isolate.
        """
        return await self._calls().run_async(code, *args, **kwargs)

    def with_options(
        self,
        *,
        entrypoint: str | None = None,
        wall: Time | None = None,
        cpu: Time | None = None,
        memory: Size | None = None,
        output: Size | None = None,
        result: Size | None = None,
        files: Literal["read", "read-write"] | None = None,
        quota: Size | None = None,
        inodes: int | None = None,
        threads: int | None = None,
        on_stdout: Printed | None = None,
        on_stderr: Printed | None = None,
    ) -> Calls:
        """Give something that runs code here with options of its own.

        A limit is at most the sandbox's; what is not given is the sandbox's, for a bundle the
        smaller one of that and its manifest's. `files`, `quota`, `inodes` and `threads` need
        isolates of their own, of which the first one is made when the first call is there.

        Args:
            entrypoint: The function to call: its name in source code, `module:function` in a
                bundle.
            wall: Wall time of a call.
            cpu: CPU time of a call.
            memory: Memory of a call.
            output: Standard output and error together.
            result: Size of the result.
            files: Whether `/session` may be written.
            quota: All files there together.
            inodes: How many files and folders there may be.
            threads: Threads.
            on_stdout: Called with what the code prints, as it prints it, by the thread that waits
                for the call. What it raises ends the call.
            on_stderr: The same for standard error.

        Raises:
            TypeError: An option is of the wrong kind.
            ValueError: An option is out of bounds, or more than the sandbox allows.
        """
        return self._calls().with_options(
            entrypoint=entrypoint,
            wall=wall,
            cpu=cpu,
            memory=memory,
            output=output,
            result=result,
            files=files,
            quota=quota,
            inodes=inodes,
            threads=threads,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
        )

    def prepare(self, code: Code) -> None:
        """Make isolates for a bundle ahead, so that its first call finds one.

        Its modules are imported in them. For source code that is done when the sandbox is made.
        """
        self._calls().prepare(code)

    @property
    def status(self) -> SandboxStatus:
        """The sandbox at a glance."""
        return SandboxStatus(*self._native.status())

    def close(self) -> None:
        """End the isolates and the image. Calls that run are lost."""
        self._native.close()
        self._store.remove()

    def _calls(self) -> Calls:
        return Calls(self, _NO_OPTIONS, None, None)

    def _code(self, code: Code) -> str | Bundle:
        """Read what is to be run, and see that it can be."""
        if isinstance(code, str):
            if code.endswith((".py", ".zip")) and "\n" not in code and Path(code).is_file():
                raise TypeError(f"text is code, and {code!r} is a file: write pathlib.Path(...)")
            return code
        if isinstance(code, os.PathLike):
            path = Path(code)
            if path.suffix == ".py":
                with tokenize.open(path) as file:
                    return file.read()
            code = Bundle(path)
        if not isinstance(code, Bundle):
            raise TypeError(
                f"code must be text, the path of a file or bundle, or a Bundle, not {code!r}"
            )
        if code.packages and code.fingerprint not in self._checked:
            missing = code.missing(self._python, search_path(self._python))
            if missing is not None:
                raise PackagesError(str(code.path), *missing)
            self._checked.add(code.fingerprint)
        return code

    def __del__(self) -> None:
        # One that could not be made has nothing.
        if hasattr(self, "_native"):
            self.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class _Sink:
    """Takes bytes of both streams and hands them on as text."""

    def __init__(self, on_stdout: Printed | None, on_stderr: Printed | None) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._streams = [(on_stdout, decoder("replace")), (on_stderr, decoder("replace"))]

    def __call__(self, stream: int, data: bytes, final: bool = False) -> None:
        printed, decoder = self._streams[stream - 1]
        text = decoder.decode(data, final)
        if text and printed is not None:
            printed(text)

    def finish(self) -> None:
        """Hand on what was left of a character."""
        for stream in (1, 2):
            self(stream, b"", final=True)


@atexit.register
def _close_all() -> None:
    for sandbox in list(_open):
        sandbox.close()
