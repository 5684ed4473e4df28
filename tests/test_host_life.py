"""The life of an `exuvia.Host`: its end, threads, forks, Ctrl-C and the program around it."""

import os
import signal
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import exuvia
import pytest
from processes import wait_until
from programs import HANDLERS, Run, Start, children, lines

KINDS = f"{HANDLERS}/kinds.py"
SHED = f"{HANDLERS}/shed.py"
UNRULY = f"{HANDLERS}/unruly.py"


# === its end ===


def test_drain_lets_calls_end_and_refuses_new_ones() -> None:
    before = children()
    host = exuvia.Host(f"{UNRULY}:nap")
    host.call("unruly:nap", 1)
    with ThreadPoolExecutor(3) as threads:
        calls: list[Future[Any]] = [threads.submit(host.call, "unruly:nap", 700) for _ in range(2)]
        wait_until("one to run", lambda: any(worker.running for worker in host.workers()))
        time.sleep(0.1)
        drained = threads.submit(host.drain)
        time.sleep(0.2)
        with pytest.raises(exuvia.CallRejectedError):
            host.call("unruly:nap", 1)
        assert host.wait_ready(5) is False
        assert drained.result(20) is True
        assert [call.result()["tag"] for call in calls] == [0, 0]
    assert host.drain() is True, "there is nothing left to end"
    with pytest.raises(RuntimeError, match="it is closed"):
        host.call("unruly:nap", 1)
    assert children() <= before


def test_drain_ends_what_takes_too_long() -> None:
    before = children()
    host = exuvia.Host(f"{UNRULY}:nap")
    host.call("unruly:nap", 1)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(host.call, "unruly:nap", 60_000)
        wait_until("it to run", lambda: any(worker.running for worker in host.workers()))
        assert host.drain(0.2) is False
        assert type(call.exception(5)) is exuvia.WorkerLostError
    assert children() <= before


def test_a_closed_host_has_no_processes_and_says_so() -> None:
    before = children()
    host = exuvia.Host(f"{KINDS}:adds", workers=2, spares=1)
    target = host.target("kinds:adds")
    assert host.wait_ready(60)
    # Two workers, and the one they come from; a spare may be on its way.
    assert len(children() - before) >= 3
    host.close()
    host.close()
    wait_until("all to end", lambda: children() <= before, 2)
    for use in (
        lambda: host.call("kinds:adds", 1, 2),
        lambda: host.target("kinds:adds"),
        lambda: target(1, 2),
        lambda: host.scale(2),
        lambda: host.workers(),
        lambda: host.image,
        lambda: host.wait_ready(),
    ):
        with pytest.raises(RuntimeError, match="it is closed"):
            use()
    assert host.handlers == ["kinds:adds"]


@pytest.mark.parametrize(
    "end, code",
    [
        ("pass", 0),
        ("sys.exit(3)", 3),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), 9)", -9),
        ("os.abort()", -6),
        ("import threading; threading.Thread(target=host.target('unruly:nap')).start()", 0),
    ],
)
def test_whatever_the_end_of_the_program_no_process_is_left(run: Run, end: str, code: int) -> None:
    done = run(f"""
        host = exuvia.Host(H + "/unruly.py:nap", workers=2, spares=1)
        assert host.wait_ready()
        {end}
    """)
    assert (done.returncode, done.stderr) == (code, "")


# === threads, fork, Ctrl-C ===


def test_a_host_outlives_the_thread_that_made_it(run: Run) -> None:
    done = run("""
        import threading
        made = []
        def make():
            made.append(exuvia.Host(H + "/shed.py:pid", workers=2, max_calls=20))
            made[0].call("shed:pid")
        thread = threading.Thread(target=make)
        thread.start(); thread.join()
        (host,) = made
        assert host.wait_ready()
        before = {worker.pid for worker in host.workers()}
        # Were they tied to the thread, they would be killed by now.
        time.sleep(0.5)
        assert {worker.pid for worker in host.workers()} == before
        seen = set()
        while len(seen) < 6:
            thread = threading.Thread(target=lambda: seen.add(host.call("shed:pid")))
            thread.start(); thread.join()
        # And made while short-lived threads use it.
        thread = threading.Thread(target=host.scale, args=(4,))
        thread.start(); thread.join()
        print(host.wait_ready(), len([w for w in host.workers() if w.state == "ready"]))
    """)
    assert lines(done) == ["True 4"]


def test_after_a_fork_every_use_in_the_child_is_told_and_the_parent_goes_on(run: Run) -> None:
    done = run("""
        import gc, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        host = exuvia.Host(H + "/shed.py:pid", workers=2)
        target = host.target("shed:pid")
        assert host.wait_ready()
        pids = {worker.pid for worker in host.workers()}
        child = os.fork()
        if child == 0:
            for use in (lambda: host.call("shed:pid"), target, lambda: host.target("shed:pid"),
                        lambda: host.scale(3), host.workers, lambda: host.image, host.wait_ready,
                        host.drain, lambda: exuvia.Host(H + "/shed.py:pid")):
                try:
                    print("no error", use(), flush=True)
                except RuntimeError as error:
                    print(str(error)[:28], flush=True)
            with host:
                pass
            host.close()
            del host, target
            gc.collect()
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print({worker.pid for worker in host.workers()} == pids, target() in pids)
    """)
    assert lines(done) == ["this process was forked from"] * 9 + ["7", "True True"]


def test_children_that_end_in_any_way_leave_the_workers_alone(run: Run) -> None:
    done = run("""
        import threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        host = exuvia.Host(H + "/unruly.py:nap", workers=2)
        over = threading.Event()
        calls = []
        def busy():
            while not over.is_set():
                calls.append(host.call("unruly:nap", 1)["tag"])
        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads: thread.start()
        codes = []
        # While other threads use the host, so that a lock of it may be held.
        for n in range(40):
            child = os.fork()
            if child == 0:
                if n % 2: os._exit(0)
                host.close()
                del host
                sys.exit(0)
            codes.append(os.waitpid(child, 0)[1])
        over.set()
        for thread in threads: thread.join()
        print(sum(codes), len(calls) > 10, sum(calls))
    """)
    assert lines(done) == ["0 True 0"]


@pytest.mark.parametrize("waits", ['host.call("unruly:shy", 60)', "host.wait_ready()"])
def test_ctrl_c_while_a_host_waits(start: Start, tmp_path: Path, waits: str) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n"
        "def f(): pass\n"
    )
    process = start(f"""
        host = exuvia.Host(H + "/unruly.py:shy", "slow.py:f")
        os.unlink("gate")
        if "wait" in {waits!r}: host.scale(2)
        print("begun", flush=True)
        try:
            {waits}
        except KeyboardInterrupt:
            # In one piece: what the handler prints may come between two.
            sys.stdout.write("interrupted\\n")
        open("gate", "w").close()
        sys.stdout.write(host.call("unruly:shy", 0.01) + "\\n")
        host.close()
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (0, "")
    assert {"interrupted", "done"} <= set(out.splitlines())


def test_the_children_of_the_program_are_its_own(run: Run) -> None:
    done = run("""
        import subprocess
        with exuvia.Host(H + "/shed.py:pid", workers=2, max_calls=3) as host:
            own = [subprocess.Popen(["sh", "-c", f"sleep 0.3; exit {n}"]) for n in range(5)]
            seen = set()
            while len(seen) < 5:
                seen.add(host.call("shed:pid"))
            print([process.wait() for process in own])
        try:
            print(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError:
            print("none is left to wait for")
    """)
    assert lines(done) == ["[0, 1, 2, 3, 4]", "none is left to wait for"]


def test_a_program_that_waits_for_any_child_stops_nothing(run: Run) -> None:
    done = run("""
        import threading
        def reap():
            while True:
                try: os.waitpid(-1, 0)
                except ChildProcessError: time.sleep(0.001)
        threading.Thread(target=reap, daemon=True).start()
        with exuvia.Host(H + "/unruly.py", workers=2, max_calls=3) as host:
            seen = set()
            while len(seen) < 5:
                seen.add(host.call("unruly:nap", 1)["pid"])
            for handler in ("segfaults", "exits", "aborts"):
                try:
                    host.call("unruly:" + handler)
                # Whoever waits first learns how it ended.
                except (exuvia.WorkerCrashedError, exuvia.WorkerLostError):
                    print(host.call("unruly:nap", 1, tag=7)["tag"])
    """)
    assert lines(done) == ["7", "7", "7"]


def test_in_a_program_that_is_pid_1(project_python: Path, tmp_path: Path) -> None:
    inside = ["unshare", "--pid", "--fork", "--mount-proc"]
    tried = subprocess.run([*inside, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no pid namespace here: {tried.stderr.strip()}")
    program = tmp_path / "program.py"
    program.write_text(
        "import exuvia, os\n"
        f"with exuvia.Host({SHED!r}, workers=2, max_calls=3) as host:\n"
        "    seen = set()\n"
        "    while len(seen) < 5:\n"
        "        seen.add(host.call('shed:pid'))\n"
        "    print(os.getpid(), host.image.start_method, host.image.why_spawn)\n"
        "print([pid for pid in os.listdir('/proc') if pid.isdigit()])\n"
    )
    done = subprocess.run(
        [*inside, project_python, program], capture_output=True, text=True, timeout=60, check=False
    )
    assert lines(done) == ["1 fork None", "['1']"]


def test_functions_of_the_program_itself(run: Run) -> None:
    done = run("""
        def double(n): return os.getpid(), 2 * n
        if __name__ == "__main__":
            with exuvia.Host(double, workers=2) as host:
                print(host.handlers, host.image.start_method, host.image.left_out)
                pid, result = host.call("program:double", 21)
                print(result, pid != os.getpid())
    """)
    assert lines(done) == ["['program:double'] fork {}", "42 True"]


def test_a_function_may_have_a_host_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "nest.py").write_text(
        "import exuvia, os\n"
        "def inner(): return os.getpid()\n"
        "def outer():\n"
        "    with exuvia.Host(f'{__file__}:inner', workers=2) as host:\n"
        "        return os.getpid(), host.image.start_method, host.call('nest:inner')\n"
    )
    before = children()
    with exuvia.Host(f"{tmp_path}/nest.py:outer", workers=2) as host:
        for _ in range(3):
            outer, method, inner = host.call("nest:outer")
            assert method == "fork" and len({outer, inner, os.getpid()}) == 3
        assert host.image.start_method == "fork"
    assert children() <= before


def test_hosts_that_are_closed_leave_no_descriptor_and_no_thread(run: Run) -> None:
    done = run("""
        def counts():
            return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        def use(method):
            with exuvia.Host(H + "/shed.py:pid", workers=2, spares=1, start_method=method) as host:
                host.wait_ready()
                host.scale(3)
                host.call("shed:pid")
        use("fork")
        before = counts()
        for n in range(10):
            use("spawn" if n % 5 == 0 else "fork")
        print(counts() == before, before, counts())
    """)
    (line,) = lines(done)
    assert line.startswith("True"), line
