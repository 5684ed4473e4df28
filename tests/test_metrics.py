"""What `/metrics` says of workers and of the zygote, beside what the kernel says of them."""

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Serve
from processes import Server, wait_until

UNRULY = Path(__file__).parent / "handlers" / "unruly.py"

MIB = 1 << 20

# Memory is read every 5 s, on a machine that runs other tests meanwhile.
PATIENCE = 30.0

STATES = {"starting", "ready", "spare", "retiring", "stopping"}

LINE = re.compile(r'(\w+)(?:\{(\w+)="([^"]*)"\})? ([-+.e0-9]+)')

# What the kernel calls it, in /proc/PID/smaps_rollup.
KERNEL = {"rss": ("Rss",), "pss": ("Pss",), "private": ("Private_Clean", "Private_Dirty")}


@dataclass
class Page:
    """One look at the metrics that have one label or none."""

    values: dict[tuple[str, str], float]

    def get(self, name: str, label: str = "") -> float:
        """Give the value; 0 when there is none."""
        return self.values.get((f"exuvia_{name}", label), 0)

    def labels(self, name: str) -> set[str]:
        """Give the labels under which the metric shows."""
        return {label for found, label in self.values if found == f"exuvia_{name}"}

    def workers(self) -> set[str]:
        """Give every name that shows in a metric of single workers, the zygote left out."""
        names = ["rss_bytes", "pss_bytes", "private_bytes", "age_seconds", "calls_total"]
        return set().union(*(self.labels(f"worker_{name}") for name in names)) - {"zygote"}

    def restarts(self) -> dict[str, float]:
        """Give how many workers were replaced, by reason."""
        name = "worker_restarts_total"
        return {label: self.get(name, label) for label in self.labels(name)}


def look(server: Server) -> Page:
    """Read the metrics."""
    found = map(LINE.fullmatch, server.get("/metrics").body.decode().splitlines())
    return Page({(m[1], m[3] or ""): float(m[4]) for m in found if m is not None})


def memory(pid: int) -> dict[str, int]:
    """What the kernel says of a process's memory, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size.split()[0]) << 10 for name, size in (line.split(":") for line in lines)}
    return {word: sum(sizes[name] for name in names) for word, names in KERNEL.items()}


def agree(page: Page, worker: str, pid: int) -> bool:
    """Whether the metrics of a worker say what the kernel says, to within 5 % and 1 MiB."""
    real = memory(pid)
    said = {word: page.get(f"worker_{word}_bytes", worker) for word in real}
    return all(abs(said[word] - real[word]) < MIB + real[word] / 20 for word in real)


def zygotes(server: Server) -> set[int]:
    """Its children that answer no call: with a single worker at rest, the zygote."""
    return set(server.children()) - {pid_of_worker(server)}


def pid_of_worker(server: Server) -> int:
    pid = server.post("/unruly/nap", {}).json()["pid"]
    assert isinstance(pid, int)
    return pid


def settled(server: Server, size: int) -> bool:
    """Whether so many workers are ready and no other is there."""
    page = look(server)
    states = {state: page.get("workers", state) for state in STATES}
    return states == dict.fromkeys(STATES, 0) | {"ready": size} and len(page.workers()) == size


# === memory, age, calls ===


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_workers_memory_is_what_the_kernel_says(serve: Serve, method: str) -> None:
    server = serve(UNRULY, args=["--workers", "1", "--start-method", method])
    pid = pid_of_worker(server)
    (worker,) = look(server).workers()
    wait_until("its memory", lambda: agree(look(server), worker, pid), PATIENCE)
    page = look(server)
    rss = page.get("worker_rss_bytes", worker)
    pss = page.get("worker_pss_bytes", worker)
    private = page.get("worker_private_bytes", worker)
    assert rss > 10 * MIB
    assert 0 < private <= pss <= rss


def test_the_zygote_shows_its_memory_and_how_long_it_took_and_takes_no_calls(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1"])
    (pid,) = zygotes(server)
    wait_until("its memory", lambda: agree(look(server), "zygote", pid), PATIENCE)
    page = look(server)
    assert page.get("worker_rss_bytes", "zygote") > 10 * MIB
    assert 0 < page.get("image_seconds") < 60
    assert "zygote" not in page.labels("worker_calls_total") | page.labels("worker_age_seconds")
    # Another takes its place, under the same name.
    os.kill(pid, signal.SIGKILL)
    wait_until("another zygote", lambda: zygotes(server) - {pid}, PATIENCE)
    (other,) = zygotes(server) - {pid}
    wait_until("its memory", lambda: agree(look(server), "zygote", other), PATIENCE)
    assert look(server).restarts() == {}, "a zygote is no worker"


def test_without_a_zygote_none_is_shown(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1", "--start-method", "spawn"])
    wait_until("a look", lambda: look(server).labels("worker_pss_bytes"), PATIENCE)
    page = look(server)
    assert all(label != "zygote" for _, label in page.values)
    assert page.get("image_seconds") == 0


def test_every_call_is_counted_once_and_by_the_worker_it_ran_in(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "2"])
    wait_until("both", lambda: settled(server, 2), PATIENCE)
    for _ in range(20):
        assert server.post("/unruly/nap", {"ms": 0}).status == 200
    for _ in range(5):
        assert server.post("/unruly/fails").status == 500
    page = look(server)
    counted = {worker: page.get("worker_calls_total", worker) for worker in page.workers()}
    assert len(counted) == 2
    assert sum(counted.values()) == 25, counted


def test_age_rises_with_the_clock(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1"])
    wait_until("an age", lambda: look(server).labels("worker_age_seconds"), PATIENCE)
    (worker,) = look(server).workers()
    before = look(server).get("worker_age_seconds", worker)

    def older() -> bool:
        return look(server).get("worker_age_seconds", worker) >= before + 2

    wait_until("two seconds more", older, PATIENCE)
    assert look(server).get("worker_age_seconds", worker) < before + PATIENCE


# === states ===


def test_every_state_shows_and_spares_are_counted_apart(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "2", "--spares", "1"])

    def there() -> bool:
        page = look(server)
        return (page.get("workers", "ready"), page.get("workers", "spare")) == (2, 1)

    wait_until("two workers and a spare", there, PATIENCE)
    page = look(server)
    assert page.labels("workers") == STATES
    assert len(page.workers()) == 3, "a spare has series of its own"


# === ends ===


def test_the_series_of_a_killed_worker_vanish(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1"])
    pid = pid_of_worker(server)
    wait_until("a look", lambda: look(server).labels("worker_pss_bytes"), PATIENCE)
    before = look(server).workers()
    os.kill(pid, signal.SIGKILL)
    wait_until("another", lambda: not before & look(server).workers(), PATIENCE)
    wait_until("it to be ready", lambda: settled(server, 1), PATIENCE)
    assert look(server).restarts() == {"signal": 1}


def test_workers_that_came_and_went_leave_no_series(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1", "--max-calls", "1"])

    def ten_gone() -> bool:
        # A worker has more calls than one while its replacement is made.
        assert server.post("/unruly/nap", {"ms": 0}).status == 200
        return look(server).restarts().get("calls", 0) >= 10

    wait_until("ten replacements", ten_gone, PATIENCE)
    wait_until("the last", lambda: settled(server, 1), PATIENCE)


def dies(server: Server) -> None:
    assert server.post("/unruly/segfaults").status == 502


def leaves(server: Server) -> None:
    assert server.post("/unruly/exits").status == 502


def hangs(server: Server) -> None:
    assert server.post("/unruly/spins").status == 504


def calls_thrice(server: Server) -> None:
    for _ in range(3):
        assert server.post("/unruly/nap").status == 200


@pytest.mark.parametrize(
    ("reason", "args", "act"),
    [
        ("signal", [], dies),
        ("exit", [], leaves),
        ("timeout", ["--timeout", "1s"], hangs),
        ("calls", ["--max-calls", "3", "--recycle-jitter", "0%"], calls_thrice),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_replacement_is_counted_once_by_its_reason(
    serve: Serve, reason: str, args: list[str], act: Callable[[Server], None]
) -> None:
    server = serve(UNRULY, args=["--workers", "1", *args])
    act(server)
    wait_until("the count", lambda: look(server).restarts(), PATIENCE)
    wait_until("another worker", lambda: settled(server, 1), PATIENCE)
    assert look(server).restarts() == {reason: 1}


def test_a_lifetime_that_is_over_is_counted_as_that(serve: Serve) -> None:
    server = serve(UNRULY, args=["--workers", "1", "--lifetime", "1s"])
    wait_until("the count", lambda: look(server).restarts(), PATIENCE)
    assert look(server).restarts().keys() == {"lifetime"}


GREEDY = """
import os, threading

kept = []

def hoards(megabytes: int, after: float) -> None:
    "Take memory once the call is over."
    threading.Timer(after, lambda: kept.append(os.urandom(1 << 20) * megabytes)).start()
"""


def test_a_worker_that_grows_at_rest_is_replaced_for_its_memory(
    serve: Serve, tmp_path: Path
) -> None:
    tmp_path.joinpath("greedy.py").write_text(GREEDY)
    server = serve(tmp_path / "greedy.py", args=["--workers", "1", "--max-rss", "200MiB"])
    before = look(server).workers()
    assert server.post("/greedy/hoards", {"megabytes": 300, "after": 0.5}).status == 200
    wait_until("the count", lambda: look(server).restarts(), PATIENCE)
    wait_until("another worker", lambda: settled(server, 1), PATIENCE)
    assert look(server).restarts() == {"rss": 1}
    assert not before & look(server).workers()


FICKLE = """
import os
from pathlib import Path

if Path(__file__).with_name("refuse").exists():
    os._exit(3)

def pid() -> int:
    return os.getpid()

def babbles() -> None:
    "Write into the socket of the protocol what is no frame."
    os.write(3, b"\\xff" * 64)
"""


def test_workers_that_do_not_get_ready_are_counted_as_that(serve: Serve, tmp_path: Path) -> None:
    tmp_path.joinpath("fickle.py").write_text(FICKLE)
    server = serve(tmp_path / "fickle.py", args=["--workers", "1"])
    pid = server.post("/fickle/pid").json()
    refuse = tmp_path / "refuse"
    refuse.touch()
    os.kill(pid, signal.SIGKILL)
    wait_until("starts that fail", lambda: look(server).restarts().get("start", 0) > 1, PATIENCE)
    refuse.unlink()
    wait_until("one that gets ready", lambda: settled(server, 1), PATIENCE)
    restarts = look(server).restarts()
    assert restarts.keys() == {"signal", "start"}
    assert restarts["signal"] == 1


def test_a_worker_that_breaks_the_protocol_is_counted_as_that(serve: Serve, tmp_path: Path) -> None:
    tmp_path.joinpath("fickle.py").write_text(FICKLE)
    server = serve(tmp_path / "fickle.py", args=["--workers", "1"])
    # Its host sees the babble before the call's end, or both at once.
    assert server.post("/fickle/babbles").status in (500, 503)
    wait_until("the count", lambda: look(server).restarts(), PATIENCE)
    wait_until("another worker", lambda: settled(server, 1), PATIENCE)
    assert look(server).restarts() == {"protocol": 1}
