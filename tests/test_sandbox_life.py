"""The life of an `exuvia.sandbox.Sandbox`: asyncio, threads, forks, Ctrl-C and its end."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import exuvia
import exuvia.sandbox
import pytest
from exuvia.sandbox import Sandbox
from processes import wait_until
from programs import Run, Start, children, lines
from sandboxes import adder

ECHO = "def handler(value): return value"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A sandbox."""
    with Sandbox(wall="20s", memory="256MiB") as box:
        yield box


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle."""
    return adder(tmp_path)


def test_calls_are_awaited_side_by_side(box: Sandbox, bundle: Path) -> None:
    async def main() -> None:
        nap = "import time\ndef handler(n):\n    time.sleep(3)\n    return n"
        with Sandbox(concurrency=8, spares=8) as wide:
            outcomes = await asyncio.gather(*(wide.run_async(nap, n) for n in range(8)))
            assert [outcome.value for outcome in outcomes] == list(range(8))
            # They ran at the same time.
            first_end = min(outcome.usage.ended_at for outcome in outcomes)
            starts = [outcome.usage.started_at or 0 for outcome in outcomes]
            assert max(starts) < first_end
            # And the loop goes on meanwhile.
            call = asyncio.create_task(wide.run_async("import time; time.sleep(5)"))
            await asyncio.sleep(0.01)
            assert not call.done()
            call.cancel()
        assert (await box.run_async(bundle, 1, b=2)).value == 3
        live: list[str] = []
        await box.with_options(on_stdout=live.append).run_async("print('live')")
        assert live == ["live\n"]

    asyncio.run(main())


def test_to_cancel_a_call_ends_its_isolate(box: Sandbox) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(box.run_async("import time; time.sleep(60)"), 0.3)

    asyncio.run(main())
    wait_until("it to be gone", lambda: box.status.running == 0, 5)
    assert box.run("1").value == 1


def test_threads_share_a_sandbox(box: Sandbox) -> None:
    with ThreadPoolExecutor(8) as threads:
        calls = list(threads.map(lambda n: box.run(ECHO, n).value, range(40)))
    assert calls == list(range(40))


def test_calls_wait_for_their_turn_and_beyond_the_queue_are_rejected() -> None:
    nap = "import time; time.sleep(1)"
    with Sandbox(concurrency=1, queue=1) as box, ThreadPoolExecutor(3) as threads:
        first = threads.submit(box.run, nap)
        wait_until("the first to run", lambda: box.status.running == 1)
        second = threads.submit(box.run, "2")
        wait_until("the second to wait", lambda: box.status.waiting == 1)
        assert type(box.run("3").failure) is exuvia.CallRejectedError
        assert (first.result().value, second.result().value) == (None, 2)
        assert second.result().usage.queued_ms > 100


def test_a_persistent_sandbox_keeps_an_isolate_until_it_misbehaves() -> None:
    count = "import sys\nsys.n = getattr(sys, 'n', 0) + 1\nsys.n"
    with Sandbox(persistent=True, spares=1, concurrency=1) as box:
        first, second = box.run(count), box.run(count)
        assert (first.value, second.value) == (1, 2)
        assert (first.usage.isolate.fresh, second.usage.isolate.fresh) == (True, False)
        assert box.with_options(wall="100ms").run("while True: pass").usage.isolate.quarantined
        assert box.run(count).value == 1


def test_closing_loses_calls_that_run_and_leaves_nothing(bundle: Path) -> None:
    before = children()
    box = Sandbox()
    store = Path(box._store.path)
    assert box.run(bundle, 1).value == 2
    assert list(store.iterdir())
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(box.run, "import time; time.sleep(60)")
        wait_until("it to run", lambda: box.status.running == 1)
        box.close()
        assert type(call.exception(10)) is exuvia.WorkerLostError
    box.close()
    wait_until("its processes to end", lambda: children() <= before)
    assert not store.parent.exists()
    for use in (
        lambda: box.run("1"),
        lambda: box.status,
        lambda: asyncio.run(box.run_async("1")),
    ):
        with pytest.raises(RuntimeError, match="it is closed"):
            use()


def test_what_a_killed_program_left_is_removed_by_the_next_one(run: Run) -> None:
    killed = run("""
        import exuvia.sandbox
        box = exuvia.sandbox.Sandbox()
        print(box._store.path.parent, flush=True)
        os._exit(0)
    """)
    (left,) = map(Path, lines(killed))
    with Sandbox() as young:
        assert left.exists(), "it may be about to be used"
        os.utime(left, (0, 0))
        held = young._store.path.parent
        os.utime(held, (0, 0))
        with Sandbox():
            assert not left.exists()
            assert held.exists(), "it is in use"


def test_nobody_else_can_look_into_the_store() -> None:
    with Sandbox() as box:
        for folder in (box._store.path, box._store.path.parent):
            known = folder.stat()
            assert known.st_mode & 0o007 == 0
            assert known.st_uid == os.getuid()


def test_a_hundred_calls_leave_no_process_and_no_descriptor(box: Sandbox) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def settled() -> bool:
        return box.status.ready >= 2 and box.status.running == 0

    codes = ["1", "1/0", "import os; os._exit(1)", "import ctypes; ctypes.string_at(0)"]
    for code in codes:
        box.run(code)
    wait_until("spares", settled)
    time.sleep(0.3)
    open_before, before = descriptors(), len(children())
    for n in range(100):
        box.run(codes[n % len(codes)])
        if n % 10 == 0:
            asyncio.run(box.run_async("1"))
    gc.collect()
    wait_until("processes to be as many", lambda: settled() and len(children()) <= before)
    wait_until("descriptors to be as many", lambda: descriptors() <= open_before + 2)


def test_ctrl_c_ends_a_call_at_once(start: Start) -> None:
    process = start("""
        import exuvia.sandbox
        with exuvia.sandbox.Sandbox() as box:
            print("up", flush=True)
            began = time.monotonic()
            try:
                box.run("import time; time.sleep(60)")
            except KeyboardInterrupt:
                print("interrupted", time.monotonic() - began < 10, box.run("2").value)
    """)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=20)
    assert (process.returncode, said, out) == (0, "", "interrupted True 2\n")


@pytest.mark.parametrize(
    "end, code",
    [
        ("pass", 0),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), 9)", -9),
        (
            "import contextlib, threading\n"
            "def nap():\n"
            "    with contextlib.suppress(exuvia.WorkerLostError):\n"
            "        box.run('import time; time.sleep(60)')\n"
            "threading.Thread(target=nap, daemon=True).start(); time.sleep(0.3)",
            0,
        ),
    ],
)
def test_whatever_the_end_of_the_program_no_process_is_left(run: Run, end: str, code: int) -> None:
    done = run(f"import exuvia.sandbox\nbox = exuvia.sandbox.Sandbox()\n{end}")
    assert (done.returncode, done.stderr) == (code, "")


def test_a_forked_child_is_told_and_takes_nothing_from_its_parent(run: Run) -> None:
    done = run("""
        import exuvia.sandbox, warnings
        box = exuvia.sandbox.Sandbox()
        assert exuvia.sandbox.run("1").value == 1
        warnings.simplefilter("ignore")  # It has threads, says Python.
        child = os.fork()
        if child == 0:
            for use in (box.run, exuvia.sandbox.run):
                try:
                    use("1")
                except RuntimeError as error:
                    print("forked" in str(error), flush=True)
            box.close()
            sys.exit(0)
        print(os.waitpid(child, 0)[1])
        print(box._store.path.is_dir(), box.run("2").value, exuvia.sandbox.run("3").value)
    """)
    assert lines(done) == ["True", "True", "0", "True 2 3"]


def test_one_off_calls_share_a_sandbox(run: Run) -> None:
    done = run("""
        import exuvia.sandbox
        first, second = (exuvia.sandbox.run("def handler(n): return n", n) for n in (1, 2))
        print(first.value, second.value, len(exuvia.sandbox.box._open))
    """)
    assert lines(done) == ["1 2 1"]


def test_support_names_every_layer() -> None:
    known = exuvia.sandbox.support()
    assert known.tier in ("full", "reduced", "none")
    names = {layer.name for layer in known.layers}
    assert {"seccomp", "Landlock", "user namespace", "pid namespace"} <= names
    assert (known.tier == "full") == all(layer.up for layer in known.layers)


def test_without_a_sandbox_only_trusted_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> tuple[str, list[tuple[str, bool, str]], int]:
        return "none", [("seccomp", True, ""), ("Landlock", False, "it is off")], 0

    monkeypatch.setattr(exuvia._native, "sandbox_support", nothing)
    with pytest.raises(exuvia.sandbox.UnavailableError, match=r"Landlock \(it is off\)\."):
        Sandbox()
    with Sandbox(trusted=True) as box:
        assert box.run("1").value == 1
