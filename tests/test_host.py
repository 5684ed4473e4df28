"""`exuvia.Host`: a pool of workers inside a Python program, and `docs/python.md`."""

import contextlib
import gc
import inspect
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import exuvia
import pytest
from processes import ROOT, alive, wait_until
from programs import HANDLERS, children

KINDS = f"{HANDLERS}/kinds.py"
SHED = f"{HANDLERS}/shed.py"
UNRULY = f"{HANDLERS}/unruly.py"
METHODS = ["fork", "spawn"]


def ready(host: exuvia.Host) -> list[exuvia.WorkerStatus]:
    """The workers that take calls."""
    return [worker for worker in host.workers() if worker.state == "ready"]


def has_workers(host: exuvia.Host, size: int) -> Callable[[], bool]:
    return lambda: len(host.workers()) == size


def has_more(got: list[Any], number: int) -> Callable[[], bool]:
    """Whether the list has grown by so many."""
    wanted = len(got) + number
    return lambda: len(got) >= wanted


def in_turn(call: Callable[[], int], number: int) -> list[int]:
    """Call until so many different workers have answered; give the answer of each call."""
    pids: list[int] = []

    def enough() -> bool:
        pids.append(call())
        return len(set(pids)) >= number

    wait_until(f"{number} workers in turn", enough, 30)
    return pids


@contextlib.contextmanager
def busy(call: Callable[[], Any], threads: int = 4) -> Iterator[list[Any]]:
    """Calls without a pause, from several threads, until the block ends; none may fail."""
    over = threading.Event()
    got: list[Any] = []

    def go() -> None:
        while not over.is_set():
            got.append(call())

    with ThreadPoolExecutor(threads) as pool:
        calls = [pool.submit(go) for _ in range(threads)]
        try:
            yield got
        finally:
            over.set()
    for ended in calls:
        ended.result()


# === calls ===


def test_one_host_runs_the_functions_of_many_modules() -> None:
    with exuvia.Host(KINDS, f"{UNRULY}:nap", "json:dumps", os.path.basename, workers=2) as host:
        assert host.handlers[-3:] == ["unruly:nap", "json:dumps", "posixpath:basename"]
        assert host.handlers[0] == "kinds:adds"
        assert repr(host) == "<exuvia.Host kinds:adds, kinds:chatters, kinds:echoes and 8 more>"
        assert host.call("kinds:adds", 1, second=2) == 3
        assert host.call("json:dumps", {"a": 1}, indent=None) == '{"a": 1}'
        assert host.call("posixpath:basename", "/a/b") == "b"
        with ThreadPoolExecutor(8) as threads:
            got = list(threads.map(lambda n: host.call("kinds:later", n), range(200)))
        assert got == list(range(200))


def test_arguments_of_any_name_reach_the_function() -> None:
    with exuvia.Host("builtins:dict") as host:
        names = {"self": 1, "handler": 2, "timeout": 3, "args": 4, "kwargs": 5}
        assert host.call("builtins:dict", **names) == names
        assert host.target("builtins:dict")(**names) == names


def test_what_is_named_twice_is_there_once() -> None:
    with exuvia.Host(f"{KINDS}:adds", f"{KINDS}:adds", KINDS) as host:
        assert len(host.handlers) == len(set(host.handlers)) == 8
        assert host.call("kinds:adds", 1, 2) == 3


def test_calls_fail_as_those_of_a_target() -> None:
    with exuvia.Host(UNRULY, KINDS, timeout=20) as host:
        cases: list[tuple[type[Exception], Callable[[], Any]]] = [
            (exuvia.HandlerError, lambda: host.call("unruly:fails")),
            (exuvia.InputError, lambda: host.call("kinds:adds", 1, secnd=2)),
            (exuvia.WorkerCrashedError, lambda: host.call("unruly:aborts")),
            (exuvia.CallTimeoutError, lambda: host.target("unruly:naps", timeout=0.2)(60_000)),
            (TypeError, lambda: host.call("kinds:echoes", threading.Lock())),
        ]
        for kind, call in cases:
            with pytest.raises(kind) as caught:
                call()
            assert type(caught.value) is kind
        # The other one's limit is still the host's.
        assert host.call("unruly:naps", 400)["tag"] == 0


def test_an_unknown_handler_is_answered_with_the_nearest() -> None:
    with exuvia.Host(f"{KINDS}:adds", f"{KINDS}:later") as host:
        for use in (host.call, host.target):
            with pytest.raises(ValueError) as caught:
                use("kinds:addds")
            assert str(caught.value) == (
                "there is no handler `kinds:addds`. Did you mean `kinds:adds`?"
            )
            with pytest.raises(ValueError, match="There are: kinds:adds, kinds:later"):
                use("something:else")


def test_a_target_of_a_host_keeps_its_workers() -> None:
    host: exuvia.Host | None = exuvia.Host(f"{SHED}:pid", f"{KINDS}:adds")
    assert host is not None
    before = children()
    target: exuvia.HostTarget | None = host.target("shed:pid")
    assert target is not None and target.host is host
    assert (target.handler, repr(target)) == ("shed:pid", "<exuvia.HostTarget shed:pid>")
    host = None
    gc.collect()
    pid = target()
    assert pid in before
    target = None
    gc.collect()
    wait_until("its worker to end", lambda: not alive(pid), 3)


def test_target_takes_the_settings_of_a_host(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text("def f(): return __import__('os').getpid()")
    target = exuvia.Target(
        f"{tmp_path}/small.py:f",
        start_method="spawn",
        preload=["decimal"],
        max_rss="1GiB",
        max_calls=3,
        jitter=0,
    )
    with target:
        assert target.host.image.start_method == "spawn"
        in_turn(target, 3)
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        exuvia.Target(f"{tmp_path}/small.py:f", workers=0)


# === arguments ===


@pytest.mark.parametrize(
    "argument, value, kind, said",
    [
        ("workers", -1, ValueError, "a whole number, at least 0, not -1"),
        ("workers", "4", TypeError, "a whole number, at least 0, not '4'"),
        ("workers", True, TypeError, "a whole number, at least 0, not True"),
        ("workers", 2.5, TypeError, "a whole number, at least 0, not 2.5"),
        ("workers", None, TypeError, "a whole number, at least 0, not None"),
        ("spares", -1, ValueError, "a whole number, at least 0, not -1"),
        ("concurrency", 0, ValueError, "a whole number, at least 1, not 0"),
        ("concurrency", 1 << 40, ValueError, "a whole number, at least 1, not 1099511627776"),
        ("queue", -1, ValueError, "a whole number, at least 0, not -1"),
        ("timeout", 0, ValueError, "above 0 and no more than a century, not 0"),
        ("timeout", float("inf"), ValueError, "no more than a century, not inf"),
        ("timeout", "3s", TypeError, "a number of seconds above 0"),
        ("start_method", "frok", ValueError, "not 'frok'. Did you mean `fork`?"),
        ("start_method", "forkserver", ValueError, '"fork" or "spawn", not \'forkserver\''),
        ("start_method", 1, TypeError, '"fork" or "spawn", not 1'),
        ("preload", "numpy", TypeError, "names of modules, like [\"numpy\"], not 'numpy'"),
        ("preload", [1], TypeError, "names of modules"),
        ("preload", ["num-py"], ValueError, "`num-py` is not the name of a module"),
        ("preload", ["json:dumps"], ValueError, "`json:dumps` is not the name of a module"),
        ("warm", "warmup:run", TypeError, "a list of functions"),
        ("warm", len, TypeError, "a list of functions"),
        ("warm", ["warmup"], ValueError, "`warmup` names no function: write warmup:function"),
        ("warm", ["a b:c"], ValueError, "`a b:c` is not a target"),
        ("warm", [lambda: 1], ValueError, "cannot be found by a worker"),
        ("blas_threads", 0, ValueError, "a whole number, at least 1, not 0"),
        ("max_rss", 0, ValueError, "a number of bytes above 0"),
        ("max_rss", "0MiB", ValueError, "more than 0"),
        ("max_rss", 1.5, TypeError, 'a number of bytes above 0 or text like "300MiB", not 1.5'),
        ("max_rss", "300MiBs", ValueError, "Did you mean `MiB`?"),
        ("max_rss", "plenty", ValueError, "`plenty` is not a size"),
        ("max_calls", 0, ValueError, "a whole number, at least 1, not 0"),
        ("lifetime", -1, ValueError, "a number of seconds above 0"),
        ("jitter", 10, ValueError, "a number from 0 to 1, not 10"),
        ("jitter", "10%", TypeError, "a number from 0 to 1, not '10%'"),
        ("python", 5, TypeError, "a path, not 5"),
    ],
)
def test_a_wrong_argument_is_named_with_what_it_must_be(
    argument: str, value: Any, kind: type[Exception], said: str
) -> None:
    settings: dict[str, Any] = {argument: value}
    for front in (exuvia.Host, exuvia.Target):
        with pytest.raises(kind) as caught:
            front(f"{KINDS}:adds", **settings)
        assert type(caught.value) is kind
        text = str(caught.value)
        assert text.startswith((f"{argument} must be ", f"{argument}: ")), text
        assert said in text


def test_wrong_targets_are_named(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(TypeError, match="targets are missing"):
        exuvia.Host()
    with pytest.raises(ValueError, match="is not a target"):
        exuvia.Host("a b")
    with pytest.raises(ValueError, match="have the same module name"):
        exuvia.Host(KINDS, f"{tmp_path}/kinds.py")
    with pytest.raises(exuvia.LoadError, match="Did you mean `adds`"):
        exuvia.Host(f"{KINDS}:addds")
    with pytest.raises(exuvia.LoadError, match="no_such_module"):
        exuvia.Host(f"{KINDS}:adds", preload=["no_such_module"])
    with pytest.raises(exuvia.LoadError, match="OwnError: no luck"):
        exuvia.Host(f"{KINDS}:adds", warm=[f"{HANDLERS}/own.py:raises"])
    assert children() <= before, "what did not start has left nothing"


@pytest.mark.parametrize("wrong", [-1, "2", None, 1.5])
def test_scale_and_waits_name_their_argument(wrong: Any) -> None:
    with exuvia.Host(f"{KINDS}:adds") as host:
        with pytest.raises((TypeError, ValueError), match="workers must be a whole number"):
            host.scale(wrong)
        if wrong in (-1, "2"):
            for use in (host.wait_ready, host.drain):
                with pytest.raises((TypeError, ValueError), match="timeout must be a number"):
                    use(wrong)
        assert host.call("kinds:adds", 1, 2) == 3


# === images ===


@pytest.mark.parametrize("method", METHODS)
def test_the_status_tells_how_workers_are_made(method: Any) -> None:
    with exuvia.Host(f"{SHED}:pid", workers=2, start_method=method, preload=["numpy"]) as host:
        assert host.wait_ready(60)
        image = host.image
        assert (image.start_method, image.why_spawn) == (method, None)
        assert {worker.start_method for worker in host.workers()} == {method}
        if method == "fork":
            assert image.zygote in children()
            assert 0 < image.imports["numpy"] <= image.took
            assert image.left_out == {}
        else:
            assert image.zygote is None


@pytest.mark.parametrize("method", METHODS)
def test_what_is_preloaded_is_there_before_the_first_call(method: Any) -> None:
    with exuvia.Host(f"{SHED}:imported", start_method=method) as host:
        assert host.call("shed:imported", "wsgiref.validate") is False
    preload = ["wsgiref.validate"]
    with exuvia.Host(f"{SHED}:imported", start_method=method, preload=preload) as host:
        assert host.call("shed:imported", "wsgiref.validate") is True


def test_warm_functions_run_once_for_all_forked_workers() -> None:
    with exuvia.Host(f"{SHED}:warmed", workers=3, warm=[f"{SHED}:warm"]) as host:
        assert host.wait_ready(60)
        zygote = host.image.zygote
        for _ in range(30):
            pid, by = host.call("shed:warmed")
            assert by == [zygote] and pid != zygote


def test_warm_functions_run_in_each_worker_that_is_started_afresh() -> None:
    settings: Any = {"start_method": "spawn", "warm": [f"{SHED}:warm"]}
    with exuvia.Host(f"{SHED}:warmed", workers=2, **settings) as host:
        for _ in range(10):
            pid, by = host.call("shed:warmed")
            assert by == [pid]


def test_what_starts_a_thread_is_left_out_and_works(tmp_path: Path) -> None:
    (tmp_path / "ticks.py").write_text(
        "import threading, time\n"
        "def tick():\n    while True: time.sleep(1)\n"
        "threading.Thread(target=tick, daemon=True, name='ticker').start()\n"
    )
    (tmp_path / "uses.py").write_text(
        "import threading\ndef f(): return [thread.name for thread in threading.enumerate()]\n"
    )
    # As with a package of the environment: on the path, and not beside the handlers.
    (tmp_path / "lib").mkdir()
    (tmp_path / "ticks.py").rename(tmp_path / "lib/ticks.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path / "lib"))
        with exuvia.Host(f"{tmp_path}/uses.py:f", preload=["ticks"]) as host:
            assert "ticker" in host.call("uses:f")
            image = host.image
            assert list(image.left_out) == ["ticks"] and image.left_out["ticks"]
            assert image.start_method == "fork"


def test_each_worker_has_so_many_blas_threads() -> None:
    with exuvia.Host(f"{SHED}:threads", preload=["numpy"], blas_threads=2) as host:
        got = host.call("shed:threads")
        assert got and set(got) == {2}


# === workers come and go ===


def test_the_status_of_workers_is_what_their_processes_are() -> None:
    began = time.monotonic()
    with exuvia.Host(f"{SHED}:pid", f"{UNRULY}:nap", workers=2) as host:
        assert host.wait_ready(60)
        pids = [host.call("shed:pid") for _ in range(20)]
        workers = {worker.pid: worker for worker in ready(host)}
        assert len(workers) == 2 and set(pids) <= set(workers) <= children()
        for pid, worker in workers.items():
            assert worker.calls == pids.count(pid) and worker.running == 0
            assert 0 < worker.age < time.monotonic() - began
            assert worker.rss and worker.pss and worker.private
            assert worker.private <= worker.pss <= worker.rss < 1 << 30
            with pytest.raises(FrozenInstanceError):
                worker.pid = 1  # type: ignore[misc]
        assert len({worker.worker for worker in workers.values()}) == 2
        with ThreadPoolExecutor(1) as threads:
            nap = threads.submit(host.call, "unruly:nap", 2000)
            wait_until("it to run", lambda: sum(worker.running for worker in ready(host)) == 1)
            nap.result()


@pytest.mark.parametrize("method", METHODS)
def test_workers_come_and_go_while_calls_run(method: Any) -> None:
    with exuvia.Host(f"{UNRULY}:nap", start_method=method) as host:
        target = host.target("unruly:nap")
        with busy(lambda: target(5)["pid"]) as got:
            for size in (4, 1, 3, 2):
                host.scale(size)
                assert host.wait_ready(60)
                wait_until(f"{size} workers", has_workers(host, size), 30)
                wait_until("calls", has_more(got, 20))
        assert len(set(got)) >= 4


def test_without_workers_calls_wait_until_there_are_some() -> None:
    with exuvia.Host(f"{KINDS}:adds", workers=0) as host, ThreadPoolExecutor(1) as threads:
        assert host.handlers == ["kinds:adds"]
        for _ in range(2):
            wait_until("none", lambda: not host.workers(), 20)
            assert host.wait_ready(5), "none is wanted and none is there"
            call = threads.submit(host.call, "kinds:adds", 1, 2)
            time.sleep(0.3)
            assert not call.done()
            host.scale(1)
            assert call.result(30) == 3
            host.scale(0)


def test_wait_ready_ends_in_time_when_ready_and_with_the_host(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
        "def f(): pass\n"
    )
    got: list[bool] = []

    def wait_for_ever(host: exuvia.Host) -> threading.Thread:
        # A daemon: one that waits too long must not hold the tests up.
        thread = threading.Thread(target=lambda: got.append(host.wait_ready()), daemon=True)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        return thread

    with exuvia.Host(f"{tmp_path}/slow.py:f") as host:
        gate.unlink()
        host.scale(2)
        assert host.wait_ready(0) is False
        assert host.wait_ready(0.2) is False
        assert host.call("slow:f") is None, "the first one goes on"
        waiting = wait_for_ever(host)
        gate.touch()
        waiting.join(30)
        assert got == [True]
        gate.unlink()
        host.scale(3)
        waiting = wait_for_ever(host)
        closing = threading.Thread(target=host.close, daemon=True)
        closing.start()
        for thread in (closing, waiting):
            thread.join(10)
            assert not thread.is_alive(), "it waits for what will never come"
        assert got == [True, False]


def test_a_worker_leaves_after_max_calls_and_no_call_fails() -> None:
    with exuvia.Host(f"{SHED}:pid", max_calls=5, jitter=0) as host:
        pids = in_turn(host.target("shed:pid"), 5)
        # Not before its time: each ran at least so many, but for the one that has just begun.
        assert min(pids.count(pid) for pid in set(pids) - {pids[-1]}) >= 5


def test_a_worker_leaves_when_its_memory_is_too_large_and_no_call_fails() -> None:
    with exuvia.Host(f"{SHED}:leaks", max_rss="150MiB") as host:
        in_turn(lambda: host.call("shed:leaks", 10), 4)
        wait_until("a small one", lambda: all((w.rss or 0) < 200 << 20 for w in host.workers()))


def test_a_worker_leaves_after_its_lifetime() -> None:
    with exuvia.Host(f"{SHED}:pid", lifetime=0.3, jitter=0.5) as host:
        first = host.call("shed:pid")
        wait_until("another", lambda: host.call("shed:pid") != first, 20)
        wait_until("it to end", lambda: not alive(first))


def test_a_spare_is_ready_and_takes_no_calls_until_it_is_needed() -> None:
    with exuvia.Host(f"{SHED}:pid", spares=1) as host:

        def spares() -> list[int]:
            return [worker.pid for worker in host.workers() if worker.state == "spare"]

        wait_until("a spare", spares, 30)
        (spare,) = spares()
        first = host.call("shed:pid")
        assert first != spare
        assert {host.call("shed:pid") for _ in range(20)} == {first}
        os.kill(first, signal.SIGKILL)
        wait_until("its place to be taken", lambda: host.call("shed:pid") == spare)
        wait_until("the next spare", lambda: len(spares()) == 1 and spares() != [spare], 30)


def test_a_killed_worker_and_a_killed_zygote_are_replaced() -> None:
    with exuvia.Host(f"{SHED}:pid", workers=2) as host:
        assert host.wait_ready(60)
        zygote = host.image.zygote
        assert zygote is not None
        numbers = {worker.worker for worker in host.workers()}
        os.kill(zygote, signal.SIGKILL)
        for worker in host.workers():
            os.kill(worker.pid, signal.SIGKILL)
        wait_until("new ones", lambda: not numbers & {w.worker for w in ready(host)}, 30)
        assert host.wait_ready(60)
        assert host.call("shed:pid") in {worker.pid for worker in host.workers()}
        wait_until("a new zygote", lambda: host.image.zygote not in (None, zygote), 30)
        assert not alive(zygote)


# === docs/python.md ===

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page() -> str:
    return (ROOT / "docs/python.md").read_text(encoding="utf-8")


def examples() -> list[tuple[dict[str, str], str]]:
    """Each: files, of which the last is the program, and what it prints."""
    found: list[tuple[dict[str, str], str]] = []
    files: dict[str, str] = {}
    for block in BLOCK.finditer(page()):
        if block[1] == "text":
            found.append((files, block[2]))
            files = {}
        else:
            assert block[1] == "python"
            files[block[2].partition("\n")[0].removeprefix("# ")] = block[2]
    assert files == {}, "what does the last one print?"
    return found


@pytest.mark.parametrize("program", ["main.py", "year.py"])
def test_the_examples_of_the_page_print_what_the_page_says(
    program: str, project_python: Path, tmp_path: Path
) -> None:
    assert [[*files][-1] for files, _ in examples()] == ["main.py", "year.py"]
    [(files, printed)] = [each for each in examples() if program in each[0]]
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [project_python, program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed


@pytest.mark.parametrize("front", [exuvia.Host, exuvia.Target])
def test_the_page_lists_every_argument_with_its_default(front: type) -> None:
    section = page().partition("\n## Arguments")[2].partition("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", section, re.MULTILINE))
    taken = {
        name: repr(parameter.default)
        for name, parameter in inspect.signature(front).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert listed == taken


def test_the_page_lists_every_error() -> None:
    named = set(re.findall(r"^\| `(\w+Error)` \|", page(), re.MULTILINE))
    classes = {cls.__name__ for cls in exuvia.CallError.__subclasses__()}
    assert named == classes
