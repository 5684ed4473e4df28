"""Whose child each process is, what it holds, and what its death means (docs/processes.md)."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Serve
from processes import (
    WORKER,
    ZYGOTE,
    Server,
    alive,
    descriptors,
    held_at_rest,
    name_of,
    serving,
    stat_of,
    wait_for_rest,
    wait_until,
    zombies_of,
)
from programs import Run, lines
from test_pythons import found as found_pythons

KIN = Path(__file__).parent / "handlers" / "kin.py"
UNRULY = Path(__file__).parent / "handlers" / "unruly.py"
METHODS = ["fork", "spawn"]

NOBODY = 65534


def nap(server: Server, ms: float = 0) -> int:
    """Call; give the process that answered."""
    answer = server.post("/kin/nap", {"ms": ms}, timeout=40)
    assert answer.status == 200, answer.body
    pid = answer.json()
    assert isinstance(pid, int)
    return pid


def method(server: Server) -> str:
    """How the worker that answers was made."""
    return str(server.post("/kin/method", {}, timeout=40).json())


def wait_for_workers(server: Server, count: int) -> None:
    words = f"{count} of {count} workers ready"
    wait_until(words, lambda: words in server.get("/readyz").body.decode(), 30)


def has_other_than(server: Server, zygote: int) -> bool:
    """Whether there is another zygote."""
    return bool(set(server.zygotes()) - {zygote})


def ended(pid: int) -> bool:
    return not alive(pid)


@pytest.fixture(params=METHODS)
def server(serve: Serve, request: pytest.FixtureRequest) -> Server:
    """Two workers, forked or not."""
    server = serve(KIN, args=["--workers", "2", "--start-method", request.param])
    wait_for_workers(server, 2)
    assert method(server) == request.param
    return server


# === whose child ===


def test_workers_and_zygotes_are_children_of_the_host_and_have_their_names(server: Server) -> None:
    """processes.md 1.1 and 1.4."""
    workers, zygotes = server.workers(), server.zygotes()
    assert len(workers) == 2 and len(zygotes) == (method(server) == "fork")
    assert set(server.children()) == {*workers, *zygotes}, "each under one of the two names"
    for pid in workers + zygotes:
        stat = stat_of(pid)
        assert stat is not None and stat.parent == server.pid
    assert nap(server) in workers


def test_each_leads_a_group_of_its_own_and_ctrl_c_reaches_the_host_alone(server: Server) -> None:
    """processes.md 1.3: calls that run are finished."""
    children = server.children()
    assert [os.getpgid(pid) for pid in children] == children
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(nap, server, 1500) for _ in range(2)]
        time.sleep(0.5)
        # As a terminal does: to the whole group.
        os.killpg(os.getpgid(server.pid), signal.SIGINT)
        assert {call.result() for call in calls} <= set(children)
    assert server.process.wait(10) == 0


def test_what_a_handler_starts_is_killed_with_its_worker_unless_it_left_the_group(
    server: Server,
) -> None:
    """processes.md 1.3 and 6.1."""
    for away in (False, True):
        child = server.post("/kin/starts", {"away": away}).json()
        stat = stat_of(child)
        assert stat is not None
        worker = stat.parent
        assert (os.getpgid(child) == worker) is not away
        os.kill(worker, signal.SIGKILL)
        wait_until("the worker to end", partial(ended, worker))
        if away:
            time.sleep(0.5)
            assert alive(child)
            os.kill(child, signal.SIGKILL)
        wait_until("its child to end", partial(ended, child))
        wait_for_workers(server, 2)


# The program's thread that makes the host ends before anything else happens.
BORN = """
import signal, threading
made = []
thread = threading.Thread(target=lambda: made.append(
    exuvia.Host(H + "/kin.py", workers=2, max_calls=5)))
thread.start(); thread.join()
(host,) = made
assert host.wait_ready(60)
before = {worker.pid for worker in host.workers()}
time.sleep(1)
assert {worker.pid for worker in host.workers()} == before
zygote = host.image.zygote
os.kill(zygote, signal.SIGKILL)
assert {host.call("kin:nap") for _ in range(3)} <= before
pids = set()
while len(pids - before) < 3 or host.image.zygote in (None, zygote):
    pids.add(host.call("kin:nap"))
print(host.image.start_method)
"""


def test_workers_live_as_long_as_the_program_not_as_the_thread_that_made_the_host(run: Run) -> None:
    """processes.md 1.2: nor does a zygote that is made later."""
    assert lines(run(BORN)) == ["fork"]


# === descriptors ===

GIVEN = {0: "/dev/null", 1: "pipe:", 2: "pipe:", 3: "socket:", 4: "pipe:", 5: "/memfd:"}


def assert_only_given(pid: int) -> None:
    held = descriptors(pid)
    assert held.keys() == GIVEN.keys(), f"{name_of(pid)}: {held}"
    for number, what in GIVEN.items():
        assert f"{held[number]}:".startswith(what), f"{name_of(pid)}: {held}"


def test_a_worker_and_a_zygote_have_their_six_descriptors_and_no_other(serve: Serve) -> None:
    """processes.md 2.1, for those that came late, too."""
    for start in METHODS:
        # No `async def` handler: a loop has descriptors of its own.
        server = serve(f"{KIN}:nap", args=["--workers", "3", "--start-method", start])
        wait_for_workers(server, 3)
        # A connection that stays open meanwhile is one more of the host's.
        with ThreadPoolExecutor(2) as threads:
            slow = threads.submit(nap, server, 1000)
            os.kill(server.workers()[0], signal.SIGKILL)
            time.sleep(0.1)
            wait_for_workers(server, 3)
            for pid in server.workers() + server.zygotes():
                assert_only_given(pid)
            slow.exception()


@pytest.mark.parametrize("start", METHODS)
def test_what_the_host_inherited_is_not_handed_on(
    exuvia_bin: Path, project_python: Path, tmp_path: Path, start: str
) -> None:
    """processes.md 2.1: a worker has nothing of the host, such as what a supervisor left open."""
    command = [str(exuvia_bin), "serve", f"{KIN}:nap", "--port", "0", "--workers", "1"]
    command += ["--python", str(project_python), "--start-method", start]
    reading, writing = os.pipe()
    with tmp_path.joinpath("lock").open("w") as file:
        given = [reading, writing, file.fileno()]
        with serving(command, pass_fds=given) as server:
            assert set(given) <= descriptors(server.pid).keys()
            for pid in server.workers() + server.zygotes():
                assert_only_given(pid)
            assert "opened by an import" not in server.log()
    os.close(reading)
    os.close(writing)


OPENS = """
import eventlike, os, select, socket
FILE = open(__file__)
FOLDER = os.open("/", os.O_RDONLY)
DEVICE = os.open("/dev/zero", os.O_RDONLY)
ONE, OTHER = socket.socketpair()
READING, WRITING = os.pipe()
QUEUE = select.epoll()
"""
OPENED = """
import opens, os
def paths():
    return {name: os.readlink(f"/proc/self/fd/{fd if isinstance(fd, int) else fd.fileno()}")
            for name, fd in vars(opens).items() if name.isupper()}
def closes():
    "As their owners do, some time."
    opens.ONE.close(); opens.OTHER.close(); opens.QUEUE.close()
    os.close(opens.READING); os.close(opens.WRITING)
def reads():
    return opens.FILE.read(7), os.read(opens.DEVICE, 1).hex(), len(os.listdir(opens.FOLDER)) > 3
"""


def test_files_of_imports_stay_open_in_workers_and_what_has_one_reader_is_closed(
    serve: Serve, tmp_path: Path
) -> None:
    """processes.md 2.2: and the start says which."""
    library = tmp_path / "lib"
    library.mkdir()
    library.joinpath("opens.py").write_text(OPENS)
    library.joinpath("eventlike.py").write_text("import os\nCOUNTER = os.eventfd(0)\n")
    target = tmp_path / "opened.py"
    target.write_text(OPENED)
    server = serve(target, args=["--workers", "1"], env={"PYTHONPATH": str(library)})
    paths = server.post("/opened/paths").json()
    assert paths["FILE"] == str(library / "opens.py")
    assert (paths["FOLDER"], paths["DEVICE"]) == ("/", "/dev/zero")
    closed = ["ONE", "OTHER", "READING", "WRITING", "QUEUE"]
    assert {paths[name] for name in closed} == {"/dev/null"}
    said = re.findall(r"descriptor \d+ \((.+?)\), opened by an import, is closed", server.log())
    named = sorted(re.sub(r"[:\[].*", "", what) for what in said)
    assert named == ["anon_inode", "anon_inode", "pipe", "pipe", "socket", "socket"]
    assert server.post("/opened/reads").json() == [OPENS[:7], "00", True]
    assert server.post("/opened/closes").status == 200
    assert server.post("/opened/paths").status == 500, "they are closed"
    assert server.post("/opened/reads").status == 200


def at_rest(server: Server, workers: int) -> bool:
    """Whether nothing comes or goes, and nothing that went is still there."""
    there = (len(server.workers()), len(server.zygotes())) == (workers, 1)
    return there and not zombies_of(server.pid)


def test_processes_that_come_and_go_leave_nothing_in_the_host(serve: Serve, tmp_path: Path) -> None:
    """processes.md 2.3 and 6.7: no descriptor, map, zombie or file, whatever their end."""
    files = tmp_path / "files"
    files.mkdir()
    args = ["--workers", "2", "--max-calls", "5"]
    server = serve(KIN, UNRULY, args=args, env={"TMPDIR": str(files)})
    wait_for_workers(server, 2)
    shared = set(Path("/dev/shm").iterdir())
    before = held_at_rest(server.pid)
    for number in range(60):
        nap(server)
        if number % 6 == 0:
            assert server.post("/unruly/segfaults").status == 502
        if number % 20 == 0:
            (zygote,) = server.zygotes()
            os.kill(zygote, signal.SIGKILL)
            wait_until("another", partial(has_other_than, server, zygote), 30)
    wait_until("replacements", lambda: nap(server) and server.restarts().get("calls", 0) > 5, 30)
    wait_for_workers(server, 2)
    wait_until("rest", partial(at_rest, server, 2))
    wait_for_rest(server.pid, before)
    assert list(files.iterdir()) == []
    assert not [path for path in set(Path("/dev/shm").iterdir()) - shared if "exuvia" in path.name]


# === signals ===


def test_workers_hear_no_signal_that_they_could_miss(serve: Serve, tmp_path: Path) -> None:
    """processes.md 5.1: at a deadline, when they are replaced, and at the end."""
    heard = tmp_path / "heard"
    args = ["--workers", "2", "--max-calls", "4", "--timeout", "1s"]
    server = serve(KIN, UNRULY, args=args)
    wait_for_workers(server, 2)
    body = {"path": str(heard)}
    listening: set[int] = set()

    def replaced() -> bool:
        listening.add(server.post("/kin/listens", body).json())
        return sum(map(ended, listening)) >= 3

    wait_until("three to be replaced", replaced, 30)
    with ThreadPoolExecutor(2) as threads:
        # Whichever of them, it listens.
        for _ in range(4):
            threads.submit(server.post, "/kin/listens", body)
        assert threads.submit(server.post, "/unruly/spins").result().status == 504
    server.stop()
    assert not heard.exists(), f"signals {heard.read_text()}"


def test_a_worker_that_listens_hears_signals(serve: Serve, tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    heard = tmp_path / "heard"
    server = serve(KIN, args=["--workers", "1"])
    pid = server.post("/kin/listens", {"path": str(heard)}).json()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN):
        os.kill(pid, number)
    nap(server)
    wait_until("three", lambda: heard.exists() and len(heard.read_text().split()) == 3)


@pytest.mark.parametrize("end", ["replaced", "fewer", "stopped"])
def test_a_worker_that_is_to_go_runs_its_exit_handlers(
    serve: Serve, tmp_path: Path, end: str
) -> None:
    """processes.md 5.1: it is asked, not killed."""
    told = tmp_path / "told"
    args = ["--workers", "2", *(["--max-calls", "1"] if end == "replaced" else [])]
    server = serve(f"{KIN}:tells_at_exit", args=args)
    wait_for_workers(server, 2)
    pids = {server.post("/kin/tells_at_exit", {"path": str(told)}).json() for _ in range(10)}
    if end == "fewer":
        # The one that has run less goes first, so that both have to be asked.
        with ThreadPoolExecutor(8) as threads:
            body = {"path": str(told)}
            calls = [threads.submit(server.post, "/kin/tells_at_exit", body) for _ in range(100)]
            pids = {call.result().json() for call in calls}
        if len(pids) == 2:
            os.kill(server.pid, signal.SIGTTOU)
            wait_until("one to go", lambda: len(server.workers()) == 1)
    if end == "stopped" or (end == "fewer" and len(pids) < 2):
        server.stop()
    wait_until("its exit handler", lambda: told.exists() and told.read_text())
    assert int(told.read_text()) in pids


def test_a_worker_that_does_not_end_when_asked_is_killed_after_two_seconds(serve: Serve) -> None:
    """processes.md 5.1."""
    server = serve(f"{KIN}:hangs_at_exit", args=["--workers", "1", "--max-calls", "1"])
    pid = server.post("/kin/hangs_at_exit").json()
    began = time.monotonic()
    time.sleep(1.0)
    assert alive(pid), "it was not left the time"
    wait_until("it to be killed", partial(ended, pid), 8)
    assert time.monotonic() - began > 1.5


# === deaths ===


def test_a_worker_that_dies_is_replaced_and_counted(server: Server) -> None:
    """processes.md 6.1."""
    before = server.workers()
    os.kill(before[0], signal.SIGKILL)
    wait_until("another", lambda: len(server.workers()) == 2 and before[0] not in server.workers())
    wait_for_workers(server, 2)
    assert before[1] in server.workers()
    assert server.restarts() == {"signal": 1}
    assert zombies_of(server.pid) == []


def test_when_the_zygote_dies_workers_go_on_and_another_is_made(serve: Serve) -> None:
    """processes.md 6.2: no call notices."""
    server = serve(KIN, args=["--workers", "2"])
    wait_for_workers(server, 2)
    workers = server.workers()
    over = threading.Event()
    pids: list[int] = []

    def client() -> None:
        while not over.is_set():
            pids.append(nap(server))

    with ThreadPoolExecutor(2) as threads:
        clients = [threads.submit(client) for _ in range(2)]
        for _ in range(3):
            (zygote,) = server.zygotes()
            os.kill(zygote, signal.SIGKILL)
            wait_until("another", partial(has_other_than, server, zygote), 30)
            wait_until("the first to be buried", lambda: not zombies_of(server.pid))
        over.set()
        for each in clients:
            each.result()
    assert server.workers() == workers and set(pids) <= set(workers)


GATED = """
import pathlib, time
here = pathlib.Path(__file__).parent
if pathlib.Path("/proc/self/comm").read_text() == "exuvia-zygote\\n":
    with here.joinpath("attempts").open("a") as file:
        print(time.monotonic(), file=file)
    while here.joinpath("wait").exists(): time.sleep(0.01)
    if here.joinpath("refuse").exists():
        import os
        os._exit(3)
"""


@pytest.fixture
def gated(serve: Serve, tmp_path: Path) -> Iterator[Server]:
    """One worker, and an image that waits for a file to go, or refuses while there is one."""
    (tmp_path / "gate.py").write_text(GATED)
    env = {"PYTHONPATH": str(tmp_path)}
    yield serve(KIN, args=["--workers", "1", "--preload", "gate"], env=env)
    (tmp_path / "wait").unlink(missing_ok=True)


def test_who_needs_a_worker_while_another_image_is_made_waits_for_it(
    gated: Server, tmp_path: Path
) -> None:
    """processes.md 6.2: a fork, not one that starts afresh."""
    (tmp_path / "wait").touch()
    (worker,), (zygote,) = gated.workers(), gated.zygotes()
    os.kill(zygote, signal.SIGKILL)
    assert nap(gated) == worker, "workers go on"
    os.kill(worker, signal.SIGKILL)
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(method, gated)
        time.sleep(1)
        assert not call.done() and gated.workers() == []
        (tmp_path / "wait").unlink()
        assert call.result() == "fork"


def test_an_image_that_cannot_be_made_again_is_tried_less_often_and_workers_start_afresh(
    gated: Server, tmp_path: Path
) -> None:
    """processes.md 6.2."""
    (tmp_path / "refuse").touch()
    (worker,), (zygote,) = gated.workers(), gated.zygotes()
    for pid in (zygote, worker):
        os.kill(pid, signal.SIGKILL)
    assert method(gated) == "spawn"

    def attempts() -> list[float]:
        return [float(line) for line in (tmp_path / "attempts").read_text().split()][1:]

    wait_until("four attempts", lambda: len(attempts()) >= 4, 30)
    tried = attempts()
    pauses = [later - sooner for sooner, later in pairwise(tried)]
    assert pauses == sorted(pauses) and pauses[-1] > 2 * pauses[0], pauses
    (tmp_path / "refuse").unlink()
    wait_until("a zygote", lambda: gated.zygotes() and len(attempts()) > len(tried), 60)

    def is_fork_again() -> bool:
        # While the image was not ready, another may have started afresh.
        for pid in gated.workers():
            os.kill(pid, signal.SIGKILL)
        return method(gated) == "fork"

    wait_until("a fork", is_fork_again, 30)


@pytest.mark.parametrize("handler", ["nap", "spins_in_c", "stubborn", "forks"])
@pytest.mark.parametrize("start", METHODS)
def test_when_the_host_is_killed_the_tree_is_gone_within_a_second(
    serve: Serve, start: str, handler: str
) -> None:
    """processes.md 6.4 and 4.1: also while workers come and go."""
    args = ["--workers", "3", "--start-method", start, "--max-calls", "1"]
    server = serve(UNRULY, args=args)
    wait_for_workers(server, 3)

    def call() -> None:
        try:
            server.post(f"/unruly/{handler}", {"ms": 50} if handler == "nap" else {})
        except OSError:
            return

    threads = [threading.Thread(target=call, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    ours = [pid for pid in server.children() if name_of(pid) in (WORKER, ZYGOTE, "python")]
    assert len(ours) >= 3
    os.kill(server.pid, signal.SIGKILL)
    wait_until("the tree to be gone", lambda: not any(map(alive, ours)), 1.0)
    server.process.wait(1.0)
    # What handlers start is theirs: the kernel kills workers and zygotes.
    for pid in server.survivors():
        assert "sleep" in Path(f"/proc/{pid}/cmdline").read_text()
        os.kill(pid, signal.SIGKILL)


# === where it runs ===


@pytest.mark.parametrize("python", found_pythons(), ids=lambda path: path.name)
def test_workers_are_forked_by_every_cpython(serve: Serve, python: Path) -> None:
    """processes.md 1.1, 4.1 and 4.4: and behave like those that are not."""
    server = serve(KIN, UNRULY, args=["--workers", "2", "--timeout", "5s"], python=python)
    wait_for_workers(server, 2)
    assert method(server) == "fork"
    assert server.post("/unruly/echoes", {"value": [1, "a"]}).json() == [1, "a"]
    assert server.post("/unruly/naps", {"tag": 7}).json()["tag"] == 7
    assert server.post("/unruly/nests_loop").json() == "nested"
    fails = server.post("/unruly/fails").json()
    assert fails["exception"]["class"] == "LookupError"
    assert server.post("/unruly/segfaults").json()["signal"] == "SIGSEGV"
    spins = server.post("/unruly/spins").json()
    assert any(frame["function"] == "spins" for frame in spins["frames"]), spins
    wait_for_workers(server, 2)
    assert method(server) == "fork"


@pytest.fixture(scope="module")
def for_anybody() -> Path:
    """A Python that any user can run; only root can become another user."""
    if os.geteuid() != 0:
        pytest.skip("the tests are not run by root: every other one holds it for this user")
    pythons = [Path(sys.executable), *found_pythons(), Path("/usr/bin/python3")]
    for python in pythons:
        try:
            subprocess.run([python, "-c", ""], user=NOBODY, group=NOBODY, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip("no Python here can be run by another user")


def test_an_ordinary_user_has_the_same(exuvia_bin: Path, for_anybody: Path) -> None:
    """processes.md 1.1, 6.2 and 6.4, as nobody."""
    command = [str(exuvia_bin), "serve", str(KIN), "--port", "0", "--workers", "2"]
    command += ["--python", str(for_anybody), "--max-calls", "5"]
    with serving(command, user=NOBODY, cwd=Path("/"), env={"HOME": "/"}) as server:
        wait_for_workers(server, 2)
        assert method(server) == "fork"
        for pid in (server.pid, *server.children()):
            assert Path(f"/proc/{pid}").stat().st_uid == NOBODY
        pids: set[int] = set()

        def replaced() -> bool:
            pids.add(nap(server))
            return len(pids) > 2

        wait_until("a replacement", replaced, 30)
        os.kill(server.workers()[0], signal.SIGKILL)
        (zygote,) = server.zygotes()
        os.kill(zygote, signal.SIGKILL)
        wait_until("another", lambda: set(server.zygotes()) - {zygote}, 30)
        wait_for_workers(server, 2)
        assert method(server) == "fork"
        children = server.children()
        os.kill(server.pid, signal.SIGKILL)
        wait_until("the tree to be gone", lambda: not any(map(alive, children)), 1.0)


# The program loses its rights before it makes a host, which must not untie workers from it.
LESSER = """
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
os.chdir("/")
host = exuvia.Host(H + "/kin.py", python={python!r}, workers=2)
assert host.wait_ready(60)
print(host.image.start_method, host.call("kin:method"), flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_program_that_became_another_user_has_the_same(run: Run, for_anybody: Path) -> None:
    """processes.md 6.4 and 6.5: the tree ends with it."""
    done = run(LESSER.format(nobody=NOBODY, python=str(for_anybody)))
    assert (done.returncode, done.stdout, done.stderr) == (-9, "fork fork\n", "")


# Children of the program itself, whose ends are its own to hear of, while ours come and go.
FOSTER = """
import contextlib, signal, subprocess
host = exuvia.Host(H + "/kin.py", workers=2, max_calls=1)
assert host.wait_ready(60)
own = []
for number in range(60):
    own.append(subprocess.Popen(["sh", "-c", f"exit {number}"]))
    host.call("kin:nap")
    # It may have gone since it was looked up.
    if number % 10 == 0 and (zygote := host.image.zygote):
        with contextlib.suppress(ProcessLookupError):
            os.kill(zygote, signal.SIGKILL)
host.close()
print([child.wait() for child in own] == list(range(60)))
"""


def test_the_programs_own_children_are_left_to_it(run: Run) -> None:
    """processes.md 6.5: each of ours is waited for by its pidfd."""
    assert lines(run(FOSTER)) == ["True"]
