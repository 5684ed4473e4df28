"""`import exuvia`: single functions in worker processes, as a Python program sees them."""

import gc
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import exuvia
import numpy as np
import pandas as pd
import pytest
from conftest import Completed
from processes import alive, descendants, in_session, serving, wait_until
from programs import HANDLERS, Run, Start, lines

KINDS = HANDLERS / "kinds.py"
OWN = HANDLERS / "own.py"
UNRULY = HANDLERS / "unruly.py"


def workers() -> set[int]:
    """Our own children."""
    return set(descendants(os.getpid()))


# === results ===


def test_by_file_by_module_and_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exuvia.call(f"{KINDS}:adds", 1, 2) == 3
    assert exuvia.call(f"{KINDS}:adds", 1, second=2) == 3
    assert exuvia.call(f"{KINDS}:later", n=4) == 4
    assert exuvia.call("json:dumps", {"a": 1}, indent=None) == '{"a": 1}'
    assert exuvia.call(json.loads, "[1]") == [1]
    monkeypatch.chdir(HANDLERS)
    assert exuvia.call("kinds.py:adds", 1, 2) == 3
    assert exuvia.call("kinds:named", city="Oslo") == "Oslo 1"


def test_a_target_keeps_its_worker_and_its_name() -> None:
    with exuvia.Target(f"{OWN}:pid") as target:
        pids = {target() for _ in range(5)}
        assert len(pids) == 1 and os.getpid() not in pids
        assert target.handler == "own:pid"
        assert repr(target) == "<exuvia.Target own:pid>"
    with exuvia.Target(f"{OWN}:pid", workers=3) as target, ThreadPoolExecutor(3) as threads:
        wait_until("more than one", lambda: len(set(threads.map(lambda _: target(), range(9)))) > 1)


def test_a_function_of_the_program_itself(run: Run) -> None:
    done = run("""
        def double(n): return os.getpid(), 2 * n
        class Tool:
            @staticmethod
            def run(n): return n + 1
        if __name__ == "__main__":
            pid, result = exuvia.call(double, 21)
            assert pid != os.getpid()
            print(result, exuvia.call(Tool.run, 1))
            for wrong in (lambda: 1, 5, "no function"):
                try: exuvia.call(wrong)
                except ValueError as error: print(type(error).__name__)
    """)
    assert lines(done) == ["42 2", "ValueError", "ValueError", "ValueError"]


def test_what_the_program_can_import_its_workers_can(run: Run) -> None:
    done = run("""
        os.makedirs("lib/deep"); open("lib/ours.py", "w").write("def half(n): return n / 2")
        sys.path.insert(0, os.path.abspath("lib")); os.chdir("lib/deep")
        import ours
        print(exuvia.call(ours.half, 5))
    """)
    assert lines(done) == ["2.5"]


def test_a_function_may_call_another(tmp_path: Path) -> None:
    text = "import exuvia, os\ndef inner(): return os.getpid()\n"
    text += "def outer(): return os.getpid(), exuvia.call(__file__ + ':inner')\n"
    (tmp_path / "nest.py").write_text(text)
    outer, inner = exuvia.call(f"{tmp_path}/nest.py:outer")
    assert len({outer, inner, os.getpid()}) == 3


def test_arrays_and_tables() -> None:
    with exuvia.Target(f"{KINDS}:echoes") as echoes:
        array = np.arange(12, dtype="int16").reshape(3, 4)
        got = echoes(array)
        assert got.dtype == array.dtype and (got == array).all()
        index = pd.date_range("2024-02-28", periods=3, tz="Europe/Oslo")
        table = pd.DataFrame({"n": [1, 2, 3], "t": pd.Categorical(["a", None, "b"])}, index=index)
        pd.testing.assert_frame_equal(echoes(table), table)
        got = echoes({"one": table["n"], "two": [np.float32(1.5)]})
        pd.testing.assert_series_equal(got["one"], table["n"])
        assert type(got["two"][0]) is np.float32
    shape = exuvia.call(f"{HANDLERS}/tables.py:shape", pd.DataFrame({"n": [1]}))
    assert shape["kinds"] == {"n": "int64"}


def test_classes_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HANDLERS))
    own: Any = importlib.import_module("own")
    got = exuvia.call(f"{OWN}:move", own.Point(1, 2), dx=3)
    assert type(got) is own.Point and got == own.Point(4, 2)
    assert exuvia.call(f"{OWN}:make", 5, 6) == [own.Point(5, 6)]


def test_what_cannot_be_sent_or_read_is_said(run: Run) -> None:
    with exuvia.Target(f"{KINDS}:echoes") as echoes:
        for path, args, kwargs in [
            ('args[0]["k"][1]', ({"k": [1, threading.Lock()]},), {}),
            ('kwargs["value"]', (), {"value": threading.Lock()}),
        ]:
            with pytest.raises(TypeError, match="lock` has no place in") as caught:
                echoes(*args, **kwargs)
            assert str(caught.value).startswith(f"{path}: ")
        assert echoes(1) == 1
    # Its class is in a file that this program cannot import.
    done = run("""
        try: exuvia.call(f"{H}/own.py:make", 1, 2)
        except exuvia.ResultError as error: print(error.failure["path"], error)
        print(exuvia.call(f"{H}/own.py:pid") > 0)
    """)
    said, alive_still = lines(done)
    assert said.startswith("result ") and "cannot be read by this program" in said
    assert "ModuleNotFoundError: No module named 'own'" in said
    assert alive_still == "True"


def test_settings_out_of_bounds() -> None:
    for wrong in [{"timeout": 0}, {"timeout": -1}, {"timeout": float("nan")}, {"workers": 0}]:
        with pytest.raises(ValueError):
            exuvia.Target(f"{KINDS}:adds", **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 8 functions, name one of them: kinds:adds"):
        exuvia.Target(str(KINDS))
    with pytest.raises(ValueError, match="is not a target"):
        exuvia.Target("a b")
    with pytest.raises(RuntimeError, match="cannot run /no/such/python: No such file"):
        exuvia.Target(f"{KINDS}:adds", python="/no/such/python")


# === failures ===


def failure(kind: type[exuvia.CallError], call: Callable[[], Any]) -> Any:
    """The error of a call, which must be of exactly this class, and survives being pickled."""
    with pytest.raises(exuvia.CallError) as caught:
        call()
    error: Any = caught.value
    assert type(error) is kind, repr(error)
    assert error.kind == error.failure["kind"] and str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error)
    assert vars(again) == vars(error)
    if kind is not exuvia.LoadError:
        assert error.diagnostics.call_id and error.diagnostics.handler
    return error


def test_an_exception() -> None:
    error = failure(exuvia.HandlerError, lambda: exuvia.call(f"{OWN}:raises"))
    assert str(error) == "own.OwnError: no luck"
    assert (error.failure["class"], error.failure["message"]) == ("own.OwnError", "no luck")
    assert "KeyError: 'NO SUCH VARIABLE'" in error.traceback and "direct cause" in error.traceback
    assert error.traceback.count("own.py") == 2 and "<exuvia" not in error.traceback
    assert [frame["function"] for frame in error.failure["frames"]] == ["raises"]
    assert error.diagnostics.run_us > 0 and error.diagnostics.attempts == 1
    error = failure(exuvia.HandlerError, lambda: exuvia.call(f"{UNRULY}:quits"))
    assert error.failure["class"] == "SystemExit"


def test_wrong_arguments() -> None:
    error = failure(exuvia.InputError, lambda: exuvia.call(f"{KINDS}:adds", 1, secnd=2))
    assert issubclass(exuvia.InputError, ValueError) and error.kind == "input"
    assert error.failure["faults"] == [
        {
            "pointer": "/secnd",
            "message": "there is no parameter of this name. Did you mean `second`?",
        },
        {"pointer": "/second", "message": "is missing"},
    ]
    failure(exuvia.InputError, lambda: exuvia.call(f"{KINDS}:adds", 1, 2, 3))
    failure(exuvia.InputError, lambda: exuvia.call(f"{KINDS}:adds", 1, 2, first=1))


def test_results_that_cannot_be_sent() -> None:
    error = failure(exuvia.ResultError, lambda: exuvia.call(f"{OWN}:lock"))
    assert error.failure["path"] == 'result["a"][0]' and "lock" in error.failure["message"]


def test_time_limits() -> None:
    with exuvia.Target(f"{UNRULY}:nap", timeout=0.4) as nap:
        error = failure(exuvia.CallTimeoutError, lambda: nap(60_000))
        assert issubclass(exuvia.CallTimeoutError, TimeoutError)
        assert (error.failure["limit_ms"], error.failure["started"]) == (400, True)
        assert nap(1)["pid"] != error.diagnostics.pid, "the worker was replaced"
    with exuvia.Target(f"{UNRULY}:naps", timeout=0.4) as naps:
        pid = naps(1)["pid"]
        failure(exuvia.CallTimeoutError, lambda: naps(60_000))
        assert naps(1)["pid"] == pid, "a task can be cancelled"


def test_crashes_and_exits() -> None:
    error = failure(exuvia.WorkerCrashedError, lambda: exuvia.call(f"{UNRULY}:segfaults"))
    assert (error.kind, error.failure["signal"]) == ("crash", "SIGSEGV")
    assert "segfaults" in [frame["function"] for frame in error.failure["frames"]]
    error = failure(exuvia.WorkerCrashedError, lambda: exuvia.call(f"{UNRULY}:exits", 9))
    assert (error.kind, error.failure["status"]) == ("exited", 9)
    assert exuvia.call(f"{UNRULY}:echoes", "still here") == "still here"


def test_what_is_not_there(tmp_path: Path) -> None:
    error = failure(exuvia.LoadError, lambda: exuvia.call(f"{KINDS}:addz"))
    assert issubclass(exuvia.LoadError, ImportError) and "Did you mean `adds`?" in str(error)
    assert "there is no module" in str(failure(exuvia.LoadError, lambda: exuvia.call("gone:f")))
    error = failure(exuvia.LoadError, lambda: exuvia.call(f"{tmp_path}/gone.py:f"))
    assert "there is no file" in str(error)
    (tmp_path / "bad.py").write_text("import gone_package\ndef f(): pass")
    error = failure(exuvia.LoadError, lambda: exuvia.call(f"{tmp_path}/bad.py:f"))
    assert "No module named 'gone_package'" in str(error)
    assert "bad.py" in error.failure["traceback"] and "importlib" not in error.failure["traceback"]
    # Mended, it is there: nothing of the failure is kept.
    (tmp_path / "bad.py").write_text("def f(): return 'mended'")
    assert exuvia.call(f"{tmp_path}/bad.py:f") == "mended"


def test_a_full_queue_and_neighbours_of_the_condemned() -> None:
    with (
        exuvia.Target(f"{UNRULY}:nap", queue=1, timeout=20) as nap,
        ThreadPoolExecutor(12) as threads,
    ):
        calls = [threads.submit(nap, 300) for _ in range(12)]
        ends = [call.exception() for call in calls]
        refused = [end for end in ends if end is not None]
        assert refused and all(type(end) is exuvia.CallRejectedError for end in refused)
        assert any(end is None for end in ends)
    shy = f"{UNRULY}:blocks_loop"
    with exuvia.Target(shy, timeout=0.8) as target, ThreadPoolExecutor(2) as threads:
        first = threads.submit(target, 60)
        time.sleep(0.3)
        second = threads.submit(target, 60)
        assert type(first.exception()) is exuvia.CallTimeoutError
        # It waited in the same worker, had not begun, and went to the next one.
        assert isinstance(second.exception(), (exuvia.CallTimeoutError, exuvia.WorkerLostError))


# === threads, close, garbage ===


def test_many_threads_at_once() -> None:
    with exuvia.Target(f"{UNRULY}:naps", workers=2) as naps, ThreadPoolExecutor(16) as threads:
        began = time.monotonic()
        got = list(threads.map(lambda tag: naps(20, tag=tag)["tag"], range(320)))
        assert got == list(range(320))
        # 6.4 s one after another.
        assert time.monotonic() - began < 4


def test_other_threads_run_while_one_waits() -> None:
    ticks: list[float] = []
    over = threading.Event()

    def tick() -> None:
        while not over.wait(0.005):
            ticks.append(time.monotonic())

    ticker = threading.Thread(target=tick)
    ticker.start()
    exuvia.call(f"{UNRULY}:nap", 600)
    over.set()
    ticker.join()
    assert len(ticks) > 40


def test_more_targets_than_are_kept_at_once(tmp_path: Path) -> None:
    for number in range(20):
        text = f"import time\ndef f(s):\n    time.sleep(s)\n    return {number}\n"
        (tmp_path / f"t{number}.py").write_text(text)
    with ThreadPoolExecutor(20) as threads:
        # Each runs for longer than closing one would wait for it.
        one = lambda number: exuvia.call(f"{tmp_path}/t{number}.py:f", 1.5)  # noqa: E731
        assert list(threads.map(one, range(20))) == list(range(20))
    wait_until("those not kept to end", lambda: len(workers()) <= 10)


def test_close_ends_the_workers_and_is_final() -> None:
    before = workers()
    target = exuvia.Target(f"{OWN}:pid", workers=2)
    pid = target()
    assert pid in workers()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(target.close).result()
    assert not alive(pid)
    wait_until("both to end", lambda: workers() <= before)
    for _ in range(2):
        target.close()
        with pytest.raises(RuntimeError, match="closed"):
            target()


def test_close_ends_running_calls() -> None:
    target = exuvia.Target(f"{UNRULY}:nap")
    target(1)
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(target, 60_000)
        time.sleep(0.3)
        waiting = threads.submit(target, 60_000)
        time.sleep(0.1)
        began = time.monotonic()
        target.close()
        assert type(running.exception(5)) is exuvia.WorkerLostError
        assert type(waiting.exception(5)) is exuvia.CallRejectedError
        assert time.monotonic() - began < 4


def test_one_that_is_forgotten_ends() -> None:
    target: exuvia.Target | None = exuvia.Target(f"{OWN}:pid")
    assert target is not None
    pid = target()
    target = None
    gc.collect()
    wait_until("its worker to end", lambda: not alive(pid), 3)


# === the life of a program ===


@pytest.mark.parametrize(
    "end, code",
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("1 / 0", 1),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), 9)", -9),
        ("os.abort()", -6),
        ("import threading; threading.Thread(target=lambda: target(500)).start()", 0),
    ],
)
def test_whatever_the_end_no_process_is_left(run: Run, end: str, code: int) -> None:
    done = run(f"""
        target = exuvia.Target(H + "/unruly.py:nap", workers=2)
        target(1)
        exuvia.call(H + "/own.py:pid")
        {end}
    """)
    assert done.returncode == code, done.stderr
    assert code == 1 or done.stderr == ""


def test_what_a_handler_prints_appears_where_the_program_prints(run: Run) -> None:
    done = run("""
        import io, contextlib
        print("before")
        with exuvia.Target(H + "/kinds.py:chatters") as chatters:
            chatters()
        own = io.StringIO()
        with contextlib.redirect_stdout(own):
            with exuvia.Target(H + "/unruly.py:prints") as prints:
                prints("redirected")
        print("caught", own.getvalue().strip())
        print("after")
    """)
    assert done.returncode == 0, done.stderr
    # What was printed is there at the latest when the target is closed.
    said = ["before", "thinking aloud", "caught redirected", "after"]
    assert done.stdout.splitlines() == said
    assert done.stderr.splitlines() == ["complaining", "REDIRECTED"]


def test_ctrl_c_during_a_call(start: Start) -> None:
    process = start("""
        target = exuvia.Target(H + "/unruly.py:shy")
        began = time.monotonic()
        print("begun", flush=True)
        try:
            target(60)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
        # The worker is still good; the task was cancelled.
        # In one piece: what the handler prints may come between two.
        sys.stdout.write(f"{target(0.01)} {time.monotonic() - began < 10}\\n")
    """)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    began = time.monotonic()
    assert process.stderr.readline() == "interrupted\n"
    assert time.monotonic() - began < 1
    out, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "")
    assert sorted(out.splitlines()) == ["cancelled, cleaning up", "done True"]


def test_ctrl_c_while_a_worker_starts(start: Start, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\ndef f(): pass")
    process = start("""
        print("begun", flush=True)
        exuvia.call("slow.py:f")
    """)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    wait_until("the worker", lambda: descendants(process.pid))
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=5)
    assert "KeyboardInterrupt" in said
    wait_until("the worker to end", lambda: not in_session(process.pid), 2)


def test_after_a_fork_the_child_is_told_and_the_parent_goes_on(run: Run) -> None:
    done = run("""
        import gc, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        target = exuvia.Target(H + "/own.py:pid")
        pid = target()
        child = os.fork()
        if child == 0:
            for call in (target, lambda: exuvia.call(H + "/own.py:pid")):
                try:
                    call()
                except RuntimeError as error:
                    print(str(error)[:28], flush=True)
            del target
            gc.collect()
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), target() == pid)
    """)
    assert lines(done) == ["this process was forked from"] * 2 + ["7 True"]


def test_a_fork_before_the_first_use_is_no_trouble(run: Run) -> None:
    done = run("""
        child = os.fork()
        # In one piece: both write at a time.
        os.write(1, f"{exuvia.call(H + '/kinds.py:adds', 1, 2)}\\n".encode())
        if child:
            os.waitpid(child, 0)
    """)
    assert lines(done) == ["3", "3"]


def test_memory_does_not_grow(run: Run) -> None:
    done = run("""
        def rss():
            return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
        value = {"rows": [(n, str(n), n / 7) for n in range(100)]}
        with exuvia.Target(H + "/kinds.py:echoes") as echoes:
            for _ in range(1000):
                assert echoes(value) == value
            before = rss()
            for _ in range(5000):
                echoes(value)
            print(rss() - before)
    """)
    assert int(lines(done)[0]) < 4 << 20


# === the command ===


def test_the_command_of_the_wheel_is_the_binary(
    exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    script = project_python.with_name("exuvia")
    ways: list[list[str | Path]] = [[exuvia_bin], [project_python, "-m", "exuvia"], [script]]

    def every_way(*words: str | Path) -> Completed:
        ends = [
            subprocess.run(
                [*way, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                cwd=tmp_path,
                env={**os.environ, "VIRTUAL_ENV": ""},
                timeout=60,
                check=False,
            )
            for way in ways
        ]
        first, *others = [(end.returncode, end.stdout, end.stderr) for end in ends]
        for other in others:
            assert other == first
        return ends[0]

    assert every_way("--version").stdout.startswith("exuvia ")
    assert every_way("--help").returncode == 0
    chosen = ["--python", str(project_python)]
    done = every_way("call", f"{KINDS}:adds", "--arg", "first=1", "--arg", "second=2", *chosen)
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert every_way("call", f"{KINDS}:adds", *chosen).returncode == 4
    assert every_way("call", f"{UNRULY}:fails", *chosen).returncode == 1
    assert every_way("serve", KINDS, "--list", *chosen).stdout.count("POST /kinds/") == 8
    assert every_way("serve", *chosen).returncode == 2


@pytest.mark.parametrize(
    "way, origin",
    [
        (["-m", "exuvia"], "the Python that runs this command"),
        (["exuvia"], "the environment this command is installed in"),
    ],
)
def test_the_command_of_the_wheel_serves_with_its_own_python(
    project_python: Path, tmp_path: Path, way: list[str], origin: str
) -> None:
    # In a project of ours, its `.venv` would go first.
    own = tmp_path / "own.py"
    own.write_bytes(OWN.read_bytes())
    first = project_python if way[0] == "-m" else project_python.with_name("exuvia")
    command = [str(first), *(way if way[0] == "-m" else []), "serve", str(own), "--port", "0"]
    env = {"VIRTUAL_ENV": "", "EXUVIA_PYTHON": ""}
    with serving([*command, "--workers", "1"], cwd=tmp_path, env=env) as server:
        assert server.log().splitlines()[0].endswith(f"from {origin})")
        assert server.post("/own/pid").json() in server.children()
        os.kill(server.pid, signal.SIGINT)
        assert server.process.wait(10) == 0
        assert "KeyboardInterrupt" not in server.log()


def test_ctrl_c_ends_the_command_of_the_wheel(project_python: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [
        project_python,
        "-m",
        "exuvia",
        "call",
        f"{KINDS}:waits",
        "--arg",
        "seconds=60",
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    assert process.stderr is not None and process.stderr.readline() == "begun\n"
    os.kill(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=5)
    assert (process.returncode, out, said) == (130, "", "")
    wait_until("its worker to end", lambda: not in_session(process.pid), 2)


def test_the_package_is_the_one_that_is_installed(project_python: Path) -> None:
    assert Path(sys.executable).parent == project_python.parent
    assert exuvia.__file__ is not None and "site-packages" in exuvia.__file__
    assert set(exuvia.__all__) <= set(dir(exuvia))
