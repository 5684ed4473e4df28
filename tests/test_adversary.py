"""Imports and moments that are hostile to forking: workers are right all the same."""

import os
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import exuvia
import pytest
from processes import wait_until, zombies_of
from programs import Start, programs

Module = Callable[[str, str], Path]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    """Write a module that handlers can import."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> Path:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def start(project_python: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a program that uses `import exuvia`."""
    with programs(project_python, tmp_path) as go:
        yield go


def host(path: Path, **settings: Any) -> exuvia.Host:
    """One worker, forked."""
    return exuvia.Host(path.as_posix(), **{"workers": 1, "jitter": 0, **settings})


# === exit handlers and buffers ===


def test_exit_handlers_of_the_image_run_in_no_zygote(module: Module, tmp_path: Path) -> None:
    """processes.md 4.5: nor in a zygote that ends by itself, because an import is left out."""
    log = tmp_path / "ends"
    log.touch()
    module(
        "early",
        f"""
        import atexit, os
        atexit.register(lambda: open({str(log)!r}, "a").write(f"{{os.getpid()}}\\n"))
        """,
    )
    module(
        "threaded",
        """
        import threading, time
        threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
        """,
    )
    path = module("handlers", "import os\ndef pid(): return os.getpid()\n")
    with host(path, preload=["early", "threaded"]) as made:
        assert list(made.image.left_out) == ["threaded"]
        made.call("handlers:pid")
        assert made.drain(5)
    assert log.read_text() == ""


def test_what_c_code_has_printed_in_the_image_is_printed_once(
    module: Module, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """processes.md 4.2: buffers are state, too."""
    # Python has C buffer nothing then.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    module("banner", "import ctypes\nctypes.CDLL(None).printf(b'a banner\\n')\n")
    text = """
        import ctypes
        def say(n: int):
            ctypes.CDLL(None).printf(b"said %d\\n", n)
    """
    path = module("handlers", text)
    with host(path, preload=["banner"], workers=2) as made:
        assert made.wait_ready(20)
        for n in range(8):
            made.call("handlers:say", n)
        assert made.drain(5)
    out = capfd.readouterr().out
    assert out.count("a banner") == 1
    assert sorted(line for line in out.splitlines() if "said" in line) == [
        f"said {n}" for n in range(8)
    ]


def test_files_that_are_open_are_written_by_whoever_wrote_to_them(
    module: Module, tmp_path: Path
) -> None:
    """processes.md 4.2, 7.2: nothing is lost with a worker that ends, and nothing written twice."""
    module("journal", f"file = open({str(tmp_path / 'log')!r}, 'a')\nfile.write('opened\\n')\n")
    text = f"""
        import journal
        mine = open({str(tmp_path / "mine")!r}, "a")
        def note(n: int):
            journal.file.write(f"{{n}}\\n")
            mine.write(f"{{n}}\\n")
    """
    path = module("handlers", text)
    with host(path, preload=["journal"], workers=2, max_calls=2) as made:
        for n in range(10):
            made.call("handlers:note", n)
        assert made.drain(5)
    numbers = [str(n) for n in range(10)]
    assert sorted((tmp_path / "log").read_text().split()) == sorted(["opened", *numbers])
    assert sorted((tmp_path / "mine").read_text().split()) == numbers


# === names ===


@pytest.mark.parametrize("name", ["fractions", "pickle", "dataclasses"])
def test_handlers_in_a_file_named_like_a_late_import_of_ours_are_not_in_the_image(
    module: Module, name: str
) -> None:
    """processes.md 3.1: a replaced worker has their newest code."""
    text = "def version(): return {}\n"
    path = module(name, text.format(1))
    with host(path, max_calls=1) as made:
        assert made.call(f"{name}:version") == 1
        module(name, text.format(2))
        # A later time stamp than any cached code has.
        os.utime(path, (time.time() + 10, time.time() + 10))
        wait_until("newest code", lambda: made.call(f"{name}:version") == 2)


@pytest.mark.parametrize("name", ["secrets", "uuid", "tempfile", "fractions"])
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_module_of_the_users_named_like_one_of_the_standard_library_is_found(
    module: Module, name: str, start: str
) -> None:
    """processes.md 4.4: as by a worker that starts afresh."""
    module(name, "WORD = 'mine'\n")
    path = module("handlers", f"from {name} import WORD\ndef word(): return WORD\n")
    with host(path, start_method=start) as made:
        assert made.call("handlers:word") == "mine"


def test_the_search_path_that_imports_made_is_the_workers(module: Module, tmp_path: Path) -> None:
    """processes.md 4.4: as it is in a worker that starts afresh."""
    (tmp_path / "vendor").mkdir()
    module("vendor/both", "WHERE = 'vendor'\n")
    module("both", "WHERE = 'here'\n")
    module("paths", f"import sys\nsys.path.insert(0, {str(tmp_path / 'vendor')!r})\n")
    text = (
        "import importlib\nboth = importlib.import_module('both')\ndef where(): return both.WHERE\n"
    )
    path = module("handlers", text)
    found = {}
    for start in ("spawn", "fork"):
        with host(path, start_method=start, preload=["paths"]) as made:
            found[start] = made.call("handlers:where")
            assert made.workers()[0].start_method == start
    assert found == {"spawn": "vendor", "fork": "vendor"}


# === imports that fork, hang on to descriptors, start threads ===


def test_an_import_that_forks_and_leaves_by_exception_makes_no_second_zygote(
    module: Module,
) -> None:
    """processes.md 1.1"""
    module("forks", "import os, sys\nif os.fork() == 0:\n    sys.exit(0)\n")
    path = module("handlers", "import os\ndef pid(): return os.getpid()\n")
    with host(path, preload=["forks"]) as made:
        assert made.call("handlers:pid") in [worker.pid for worker in made.workers()]
        assert (made.image.start_method, made.image.why_spawn) == ("fork", None)


def test_what_a_fork_hook_opened_is_left_to_it(module: Module) -> None:
    """processes.md 2.2: only what the image opened is closed."""
    module(
        "connection",
        """
        import os, socket
        pair = list(socket.socketpair())
        def renew():
            pair[0].close()
            pair[1].close()
            pair[:] = socket.socketpair()
        os.register_at_fork(after_in_child=renew)
        """,
    )
    text = """
        import connection
        def through():
            connection.pair[0].sendall(b"hi")
            return connection.pair[1].recv(2).decode()
    """
    path = module("handlers", text)
    with host(path, preload=["connection"]) as made:
        assert made.image.start_method == "fork"
        assert made.call("handlers:through") == "hi"


def test_an_import_that_starts_very_many_threads_is_left_out(module: Module) -> None:
    """processes.md 3.3: their names need not fit a packet."""
    module(
        "many",
        """
        import threading, time
        for n in range(400):
            name = f"{n}" + "é" * 300
            threading.Thread(target=time.sleep, args=(1e6,), daemon=True, name=name).start()
        """,
    )
    path = module("handlers", "def one(): return 1\n")
    with host(path, preload=["many"]) as made:
        assert list(made.image.left_out) == ["many"]
        assert made.call("handlers:one") == 1
        assert made.workers()[0].start_method == "fork"


def test_a_fork_that_is_refused_once_is_asked_for_again(module: Module) -> None:
    """processes.md 3.4: what could be forked can be forked again."""
    module(
        "refuses",
        """
        import os, threading, time
        count = 0
        def before():
            global count
            count += 1
            if count in (3, 4):
                threading.Thread(target=time.sleep, args=(0.2,)).start()
        os.register_at_fork(before=before)
        """,
    )
    path = module("handlers", "import os\ndef pid(): return os.getpid()\n")
    with host(path, preload=["refuses"], max_calls=1) as made:
        pids: set[int] = set()
        until = time.monotonic() + 30
        while len(pids) < 6 and time.monotonic() < until:
            pids.add(made.call("handlers:pid"))
        assert len(pids) >= 6
        assert (made.image.start_method, made.image.why_spawn) == ("fork", None)
        assert {worker.start_method for worker in made.workers()} == {"fork"}


@pytest.mark.parametrize("missing", ["ssl", "ctypes"])
def test_a_python_without_a_module_of_ours_forks_all_the_same(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """processes.md 1.1: some are built without OpenSSL or libffi."""
    module(f"less/{missing}", "raise ImportError('not built')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "less"))
    path = module("handlers", "def one(): return 1\n")
    with host(path) as made:
        assert (made.image.start_method, made.image.why_spawn) == ("fork", None)
        assert made.call("handlers:one") == 1


def test_what_is_no_text_in_an_error_of_an_import_is_told(module: Module) -> None:
    """processes.md 3.5"""
    module("bad", "raise ImportError('no \\udc80 here')\n")
    path = module("handlers", "def one(): return 1\n")
    with pytest.raises(exuvia.LoadError, match="cannot import bad") as raised:
        host(path, preload=["bad"]).close()
    assert "here" in str(raised.value)


# === imports that go wrong ===


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import os\nif not os.environ.get('GO'): os._exit(7)\n", "status 7"),
        ("import ctypes\nctypes.string_at(0)\n", "SIGSEGV"),
    ],
)
def test_an_import_that_ends_the_zygote_is_named(
    module: Module, tmp_path: Path, text: str, why: str
) -> None:
    """processes.md 3.5, 6.2: the pool does not start, and says why."""
    module("ends", text)
    path = module("handlers", "def one(): return 1\n")
    with pytest.raises(RuntimeError, match=why):
        host(path, preload=["ends"]).close()


def test_an_import_that_prints_much_and_reads_its_input_is_in_the_image(
    module: Module, capfd: pytest.CaptureFixture[str]
) -> None:
    """processes.md section 2"""
    module("loud", "import sys\nprint('x' * 10_000_000)\nassert sys.stdin.read() == ''\n")
    path = module("handlers", "def one(): return 1\n")
    with host(path, preload=["loud"]) as made:
        assert made.image.start_method == "fork"
        assert made.call("handlers:one") == 1
    assert capfd.readouterr().out.count("x") == 10_000_000


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_handlers_may_use_multiprocessing(module: Module, method: str) -> None:
    """processes.md 4.4"""
    module("tasks", "def double(n): return 2 * n\n")
    text = f"""
        import multiprocessing, tasks
        def doubled():
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                return pool.map(tasks.double, range(4))
    """
    path = module("handlers", text)
    with host(path) as made:
        assert made.workers()[0].start_method == "fork"
        assert made.call("handlers:doubled") == [0, 2, 4, 6]
        assert made.call("handlers:doubled") == [0, 2, 4, 6]
        assert made.drain(5)


# === ends ===


def test_hosts_that_are_closed_while_they_fork_leave_no_zombie(
    start: Start, module: Module
) -> None:
    """processes.md 6.7: a fork of which only the zygote knew is buried, too."""
    module("handlers", "def one(): return 1\n")
    # The zygote takes its time between the fork and its answer.
    module(
        "slow",
        "import os, time\nos.register_at_fork(after_in_parent=lambda: time.sleep(0.05))\n",
    )
    process = start(
        """
        for n in range(20):
            host = exuvia.Host("handlers.py", workers=1, preload=["slow"])
            host.scale(6)
            time.sleep(0.01 * (n % 5))
            host.close()
        print("closed", flush=True)
        time.sleep(60)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "closed\n"
    wait_until("burials", lambda: not zombies_of(process.pid), 5.0)


def test_a_thousand_replacements_cost_no_memory_and_no_descriptor(module: Module) -> None:
    """processes.md 2.3, 6.7: neither in the host nor in the zygote."""
    path = module("handlers", "import os\ndef pid(): return os.getpid()\n")

    def size(pid: int) -> tuple[int, int]:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * 4096, len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208

    with host(path, max_calls=1) as made:

        def replace(count: int) -> None:
            seen: set[int] = set()
            while len(seen) < count:
                seen.add(made.call("handlers:pid"))

        replace(200)
        zygote = made.image.zygote
        assert zygote is not None
        before = size(os.getpid()), size(zygote)
        replace(1000)
        after = size(os.getpid()), size(zygote)
    for (rss, fds), (rss_before, fds_before) in zip(after, before, strict=True):
        assert fds - fds_before <= 20
        assert rss - rss_before < 8 << 20
