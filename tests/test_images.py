"""What is in an image and what is not, and how workers made from it differ."""

import importlib.util
import math
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import exuvia
import pytest
from conftest import Completed, Serve
from processes import alive, wait_until

HANDLERS = Path(__file__).parent / "handlers"
SCIENCE = HANDLERS / "science.py"
KIN = HANDLERS / "kin.py"
REHEARSAL = HANDLERS / "rehearsal.py"
SEEDS = HANDLERS / "seeds.py"
TORCHES = HANDLERS / "torches.py"

WORKERS = 20
BLAS_THREADS = 2

# Written by each module of `Sources` as it is imported.
TRACE = """
import os
from pathlib import Path
with Path({log!r}).open("a") as log:
    print({name!r}, os.getpid(), file=log)
"""

THREAD = """
import threading, time
threading.Thread(target=time.sleep, args=(1e6,), daemon=True, name="ticker").start()
"""


def loaded(path: Path) -> ModuleType:
    """The module of a handler file, in this process."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# === the large packages ===


@pytest.fixture(scope="module")
def science() -> Iterator[exuvia.Host]:
    """Two workers from an image with all of them, in which KMeans was used."""
    targets = [SCIENCE.as_posix(), f"{REHEARSAL}:by"]
    warm = [f"{REHEARSAL}:warm"]
    with exuvia.Host(*targets, workers=2, warm=warm, blas_threads=BLAS_THREADS) as host:
        assert host.wait_ready(100)
        yield host


@pytest.fixture(scope="module")
def here() -> ModuleType:
    """The same handlers in this process."""
    return loaded(SCIENCE)


@pytest.mark.parametrize(
    "module", ["numpy", "pyarrow", "pyarrow.compute", "scipy.linalg", "sklearn.cluster"]
)
def test_a_package_without_threads_is_in_the_image(tmp_path: Path, module: str) -> None:
    """processes.md 3.1 and 3.2: before the handlers' own code, with the time it took."""
    handler = tmp_path / "asks.py"
    handler.write_text(
        "import sys\nBEFORE = set(sys.modules)\n"
        f"import {module}\n"
        f"def there() -> bool:\n    return {module!r} in BEFORE\n"
    )
    with exuvia.Host(f"{handler}:there") as host:
        assert host.call("asks:there") is True
        image = host.image
        assert image.start_method == "fork" and image.left_out == {}
        assert next(iter(image.imports)) == module
        assert 0 < image.imports[module] < image.took
    with exuvia.Host(f"{handler}:there", start_method="spawn") as host:
        assert host.call("asks:there") is False, "the handler cannot tell"


def test_kmeans_that_was_used_in_warm_is_in_the_image(science: exuvia.Host) -> None:
    """processes.md 3.1: warm functions are called, and 3.2: with their time."""
    image = science.image
    assert image.start_method == "fork" and image.imports["rehearsal:warm()"] > 0
    assert {science.call("rehearsal:by")[0] for _ in range(10)} == {image.zygote}


def test_polars_starts_threads_and_is_imported_by_each_worker(science: exuvia.Host) -> None:
    """processes.md 3.3: the item is named, with its threads, and the rest is in the image."""
    left_out = science.image.left_out
    assert "polars" not in science.image.imports
    assert re.fullmatch(r"it starts a thread \(.*polars.*\)", left_out["polars"])
    assert science.image.imports.keys() >= {"numpy", "pyarrow", "scipy.linalg", "sklearn.cluster"}


@pytest.mark.parametrize(
    ("handler", "arguments"),
    [
        ("product", (600, 1)),
        ("solution", (400, 2)),
        ("clusters", (3,)),
        ("groups", (100_000, 4)),
        ("totals", (100_000, 5)),
    ],
)
def test_results_are_right_in_all_workers_with_threads(
    science: exuvia.Host, here: ModuleType, handler: str, arguments: tuple[int, ...]
) -> None:
    """processes.md 4.3: a library that got its threads back computes with them."""
    wanted = getattr(here, handler)(*arguments)
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(science.call, f"science:{handler}", *arguments) for _ in range(8)]
        for call in calls:
            assert same(call.result(), wanted)


def same(got: Any, wanted: Any) -> bool:
    """Whether both are equal; floats up to the order in which threads add."""
    if wanted and isinstance(wanted[0], float):
        pairs = zip(got, wanted, strict=True)
        return all(math.isclose(one, other, rel_tol=1e-9) for one, other in pairs)
    return bool(got == wanted)


def test_every_numeric_library_has_its_threads_back(science: exuvia.Host) -> None:
    """processes.md 4.3: BLAS and OpenMP have `blas-threads`, and use them."""
    alone = science.call("science:pools")
    assert {"blas", "openmp"} <= alone.keys()
    for kind in ("blas", "openmp", "pyarrow"):
        assert set(alone[kind]) == {BLAS_THREADS}, (kind, alone)
    science.call("science:product", 600, 1)
    assert science.call("science:pools")["running"][0] > 1, "it did not start any"


def test_torch_is_in_the_image_and_right_with_its_threads_back() -> None:
    """processes.md 3.1, 4.2 and 4.3 for torch."""
    pytest.importorskip("torch", reason="torch is not installed")
    here = loaded(TORCHES)
    with exuvia.Host(TORCHES.as_posix(), workers=4, blas_threads=BLAS_THREADS) as host:
        assert host.wait_ready(100)
        image = host.image
        assert ("torch" in image.imports) != ("torch" in image.left_out)
        assert host.call("torches:there_before") is ("torch" in image.imports)
        assert host.call("torches:threads") == BLAS_THREADS
        assert same(host.call("torches:product", 600, 1), here.product(600, 1))
        drawn = [host.call("torches:draw") for _ in range(40)]
        assert len(set(drawn)) == len(drawn)


# === order ===


class Sources:
    """A project: modules of the user's in `app`, of others in `lib`, all of which leave a trace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "imported"
        self.lib = folder / "lib"
        self.app = folder / "app"
        self.lib.mkdir()
        self.app.mkdir()

    def write(self, name: str, text: str = "") -> Path:
        """Write the module `lib.name` or `app.name`, as a file of that folder."""
        place, _, module = name.partition(".")
        path = self.folder / place / f"{module}.py"
        path.write_text(TRACE.format(log=str(self.log), name=name) + text)
        return path

    def imported(self, pid: int) -> list[str]:
        """What that process imported, in order."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [name for name, by in lines if int(by) == pid]

    @property
    def environment(self) -> dict[str, str]:
        """Where Python finds the modules of `lib`."""
        return {"PYTHONPATH": str(self.lib)}


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """An empty project."""
    return Sources(tmp_path)


Attempt = Callable[..., Completed]


@pytest.fixture
def attempt(exuvia_bin: Path, project_python: Path, sources: Sources) -> Attempt:
    """Run an `exuvia serve` that is to fail in the project's folder."""

    def run(*words: str | Path) -> Completed:
        command = [exuvia_bin, "serve", *words, "--port", "0", "--python", project_python]
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=sources.app,
            env={**os.environ, **sources.environment},
            timeout=60,
            check=False,
        )

    return run


def project(sources: Sources) -> list[str]:
    """Write a project; give the words that serve it with one worker."""
    for name in ("lib.preloaded", "lib.first", "lib.second", "lib.third", "lib.late", "lib.lazy"):
        sources.write(name)
    sources.write("app.helper", "import second\n")
    sources.write("app.warmers", "import late\ndef warm() -> None:\n    import third\n")
    handlers = "import first, helper, third\ndef answer() -> int:\n    import lazy\n    return 1\n"
    path = sources.write("app.handlers", handlers)
    warm = sources.app / "warmers.py"
    return [str(path), "--workers", "1", "--preload", "preloaded", "--warm", f"{warm}:warm"]


def test_an_image_is_filled_in_the_order_of_the_page_without_the_handlers_own_modules(
    serve: Serve, sources: Sources
) -> None:
    """processes.md 3.1: preload, imports of handlers found in their source, warm functions."""
    target, *words = project(sources)
    server = serve(target, args=words, env=sources.environment)
    (zygote,) = server.zygotes()
    (worker,) = server.workers()
    wanted = ["lib.preloaded", "lib.first", "lib.second", "lib.third", "app.warmers", "lib.late"]
    assert sources.imported(zygote) == wanted
    assert sources.imported(worker) == ["app.handlers", "app.helper"]


def test_a_replaced_worker_has_the_newest_code_of_the_handlers(
    serve: Serve, sources: Sources
) -> None:
    """processes.md 3.1: handlers' own modules are each worker's own."""
    target, *words = project(sources)
    server = serve(target, args=words, env=sources.environment)
    assert server.post("/handlers/answer").json() == 1
    (zygote,), (worker,) = server.zygotes(), server.workers()
    text = Path(target).read_text()
    Path(target).write_text(text.replace("return 1", "return 2_000"))
    os.kill(worker, signal.SIGKILL)
    wait_until("the other to answer", lambda: server.post("/handlers/answer").json() == 2000)
    assert server.zygotes() == [zygote]


def test_preload_puts_the_users_own_modules_into_the_image(serve: Serve, sources: Sources) -> None:
    """processes.md 3.1: what `preload` names is in the image all the same."""
    target, *words = project(sources)
    server = serve(target, args=[*words, "--preload", "helper,handlers"], env=sources.environment)
    (zygote,), (worker,) = server.zygotes(), server.workers()
    assert set(sources.imported(zygote)) >= {"app.helper", "app.handlers"}
    assert sources.imported(worker) == []
    assert server.post("/handlers/answer").json() == 1
    assert sources.imported(worker) == ["lib.lazy"]


def test_the_start_says_what_each_import_took(serve: Serve, sources: Sources) -> None:
    """processes.md 3.2: without what came before."""
    sources.write("lib.slow", "import time\ntime.sleep(0.5)\n")
    sources.write("lib.after", "import slow, time\ntime.sleep(0.05)\n")
    target = sources.write("app.handlers", "import slow, after\ndef answer(): return 1\n")
    server = serve(target, env=sources.environment)
    (line,) = [line for line in server.log().splitlines() if line.startswith("image: ")]
    whole, slow, after = (
        int(found[1])
        for what in ("image: ", r"[( ]slow ", " after ")
        if (found := re.search(rf"{what}(\d+) ms", line))
    )
    assert slow >= 500 and 50 <= after < 500 and whole >= slow + after, line


# === processes ===


def test_what_an_import_starts_is_killed_with_its_zygote(serve: Serve, sources: Sources) -> None:
    """processes.md 1.3: it is in the zygote's group."""
    starts = "import subprocess\nchild = subprocess.Popen(['sleep', '300'])\n"
    sources.write("lib.starts", starts)
    text = "import starts\ndef child() -> int:\n    return starts.child.pid\n"
    server = serve(sources.write("app.handlers", text), env=sources.environment)
    child = server.post("/handlers/child").json()
    (zygote,) = server.zygotes()
    assert alive(child) and os.getpgid(child) == zygote
    os.kill(zygote, signal.SIGKILL)
    wait_until("its end", lambda: not alive(child))
    assert server.post("/handlers/child").json() == child, "the worker goes on"


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_a_forked_worker_can_have_processes_of_its_own(serve: Serve, start: str) -> None:
    """processes.md 4.4: it is a worker like any other, to `multiprocessing`, too."""
    server = serve(f"{KIN}:squares", args=["--workers", "1"])
    assert server.post("/kin/squares", {"method": start}).json() == [0, 1, 4, 9, 16]
    assert len(server.zygotes()) == 1


# === threads ===


def test_what_starts_a_thread_is_named_left_out_and_imported_before_the_worker_is_ready(
    serve: Serve, sources: Sources
) -> None:
    """processes.md 3.3: of handlers' imports, of `preload` and of warm functions."""
    for name in ("lib.one", "lib.two"):
        sources.write(name, THREAD)
    sources.write(
        "app.warmers",
        f"def warm() -> None:\n    {THREAD.strip().splitlines()[0]}\n    "
        + THREAD.strip().splitlines()[1]
        + "\n",
    )
    handlers = "import one, threading\ndef threads():\n"
    handlers += "    return [thread.name for thread in threading.enumerate()]\n"
    target = sources.write("app.handlers", handlers)
    warm = f"{sources.app}/warmers.py:warm"
    server = serve(
        target,
        args=["--workers", "1", "--preload", "two", "--warm", warm],
        env=sources.environment,
    )
    for item, done in (("one", "imported"), ("two", "imported"), ("warmers:warm()", "called")):
        assert f"`{item}` is {done} by each worker instead: it starts a thread (ticker)" in (
            server.log()
        )
    (zygote,), (worker,) = server.zygotes(), server.workers()
    assert len(list(Path(f"/proc/{zygote}/task").iterdir())) == 1, "a zygote has one thread"
    assert set(sources.imported(worker)) >= {"lib.one", "lib.two", "app.handlers"}
    assert server.post("/handlers/threads").json().count("ticker") == 3


VARIABLES = """
import os
def given(names: list) -> dict:
    return {name: os.environ.get(name) for name in names}
"""
NUMBERS = ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"]
ALLOCATORS = ["JE_ARROW_MALLOC_CONF", "_RJEM_MALLOC_CONF"]


def variables_of(pid: int) -> dict[str, str]:
    """What a process was started with."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def test_variables_that_were_changed_for_the_zygote_are_what_they_were(
    serve: Serve, sources: Sources
) -> None:
    """processes.md 3.3: libraries are told to start no thread, and 4.3: workers do not see it."""
    target = sources.write("app.handlers", VARIABLES)
    before = {"OPENBLAS_NUM_THREADS": "3", "_RJEM_MALLOC_CONF": "narenas:2"}
    server = serve(target, args=["--workers", "1"], env=before)
    zygote = variables_of(*server.zygotes())
    assert [zygote[name] for name in NUMBERS] == ["1"] * 4
    assert zygote["JE_ARROW_MALLOC_CONF"] == "background_thread:false"
    assert zygote["_RJEM_MALLOC_CONF"] == "narenas:2,background_thread:false"
    given = server.post("/handlers/given", {"names": [*NUMBERS, *ALLOCATORS]}).json()
    assert given["OPENBLAS_NUM_THREADS"] == "3"
    assert given["_RJEM_MALLOC_CONF"] == "narenas:2"
    assert given["JE_ARROW_MALLOC_CONF"] is None


@pytest.mark.parametrize(
    ("args", "env", "wanted"),
    [
        (["--blas-threads", "5"], {"OPENBLAS_NUM_THREADS": "3"}, 5),
        ([], {"OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "3"}, 3),
        (["--workers", "1"], {}, len(os.sched_getaffinity(0))),
        (["--workers", "64"], {}, 1),
    ],
)
def test_threads_are_those_of_the_setting_or_the_variable_or_the_share_of_cores(
    serve: Serve, sources: Sources, args: list[str], env: dict[str, str], wanted: int
) -> None:
    """processes.md 4.3: in this order."""
    text = "import numpy, threadpoolctl\n"
    text += (
        "def found(): return [pool['num_threads'] for pool in threadpoolctl.threadpool_info()]\n"
    )
    target = sources.write("app.handlers", text)
    plain = {name: "" for name in NUMBERS if name in os.environ}
    server = serve(target, args=args, env={**plain, **env})
    assert set(server.post("/handlers/found").json()) == {wanted}


# === where forking is not possible ===

# Denies `clone` with CLONE_PARENT to the process that runs it, by a seccomp filter.
REFUSES = """
import ctypes, struct
CLONE, CLONE_PARENT = {number}, 0x8000
LOAD, EQUAL, SET, RETURN = 0x20, 0x15, 0x45, 0x06
steps = [(LOAD, 0, 0, 0), (EQUAL, 0, 3, CLONE), (LOAD, 0, 0, 16), (SET, 0, 1, CLONE_PARENT),
         (RETURN, 0, 0, 0x00050000 | 1), (RETURN, 0, 0, 0x7fff0000)]
code = b"".join(struct.pack("HBBI", *step) for step in steps)
buffer = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0
"""


def test_where_python_itself_has_threads_workers_are_started_afresh(
    serve: Serve, sources: Sources
) -> None:
    """processes.md 3.4: that is said once, with the reason."""
    sources.write("lib.sitecustomize", THREAD)
    target = sources.write("app.handlers", "import os\ndef pid() -> int: return os.getpid()\n")
    server = serve(target, args=["--workers", "2"], env=sources.environment)
    wait_until("two workers", lambda: len(server.workers()) == 2)
    assert server.zygotes() == []
    said = "workers are started afresh: Python itself has more than one thread"
    assert server.log().count("afresh") == server.log().count(said) == 1
    (victim, _) = server.workers()
    os.kill(victim, signal.SIGKILL)
    wait_until("another", lambda: len(server.workers()) == 2 and not alive(victim))
    assert server.post("/handlers/pid").json() in server.workers()
    assert server.log().count("afresh") == 1


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter is written for x86-64")
def test_where_forking_is_refused_workers_are_started_afresh(
    serve: Serve, sources: Sources
) -> None:
    """processes.md 3.4, and 4.1: the zygote answers why there is no worker."""
    sources.write(
        "lib.refuses",
        "import pathlib\n"
        "if pathlib.Path('/proc/self/comm').read_text() == 'exuvia-zygote\\n':\n"
        + "".join(f"    {line}\n" for line in REFUSES.format(number=56).splitlines()),
    )
    target = sources.write("app.handlers", "import refuses, os\ndef pid(): return os.getpid()\n")
    server = serve(target, args=["--workers", "2"], env=sources.environment)
    wait_until("two workers", lambda: len(server.workers()) == 2)
    assert server.post("/handlers/pid").json() in server.workers()
    wait_until("the zygote to end", lambda: server.zygotes() == [])
    lines = [line for line in server.log().splitlines() if "afresh" in line]
    assert len(lines) == 1 and "Operation not permitted" in lines[0], server.log()


# === images that cannot be made ===


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("", ["--preload", "nowhere"], "ModuleNotFoundError: No module named 'nowhere'"),
        ("", ["--preload", "broken"], "ZeroDivisionError: division by zero"),
        ("def warm(): return 1 / 0", ["--warm", "handlers:warm"], "raised ZeroDivisionError"),
    ],
)
def test_a_preload_that_fails_and_a_warm_function_that_raises_are_errors_at_the_start(
    attempt: Attempt, sources: Sources, text: str, words: list[str], said: str
) -> None:
    """processes.md 3.5: the command ends, says why, and leaves no process."""
    sources.write("lib.broken", "1 / 0\n")
    target = sources.write("app.handlers", f"def answer(): return 1\n{text}\n")
    done = attempt(target, *words)
    assert done.returncode not in (0, None)
    assert said in done.stderr, done.stderr


def test_a_guarded_import_of_a_handler_that_fails_is_left_to_it(
    serve: Serve, sources: Sources
) -> None:
    """processes.md 3.5: an import of handlers that fails does not end the zygote."""
    sources.write("lib.leaves", "import sys\nsys.exit(3)\n")
    guarded = "try:\n    import leaves\nexcept SystemExit:\n    leaves = None\n"
    target = sources.write("app.handlers", f"{guarded}def found(): return leaves is None\n")
    server = serve(target, env=sources.environment)
    assert server.post("/handlers/found").json() is True
    assert len(server.zygotes()) == 1


def test_an_import_of_a_handler_that_fails_is_reported_by_its_worker(
    attempt: Attempt, sources: Sources
) -> None:
    """processes.md 3.5: with the line of the handler's own code."""
    target = sources.write("app.handlers", "import nowhere_to_be_found\ndef answer(): return 1\n")
    done = attempt(target)
    assert done.returncode not in (0, None)
    assert "No module named 'nowhere_to_be_found'" in done.stderr
    assert "handlers.py" in done.stderr


# === chance ===


@pytest.fixture(scope="module")
def siblings() -> Iterator[exuvia.Host]:
    """20 workers of one image, in which the generators of a preloaded module were made."""
    with exuvia.Host(SEEDS.as_posix(), workers=WORKERS, preload=["seeds"]) as host:
        assert host.wait_ready(100)
        assert host.image.start_method == "fork" and "seeds" in host.image.imports
        yield host


def asked(siblings: exuvia.Host, what: str) -> list[Any]:
    """What each of them says."""
    said: dict[int, Any] = {}
    while len(said) < WORKERS:
        # As many calls at a time as there are workers: each has one.
        with ThreadPoolExecutor(WORKERS) as threads:
            calls = [
                threads.submit(siblings.call, "seeds:of_each", what, 0.5) for _ in range(WORKERS)
            ]
        for call in calls:
            pid, value = call.result()
            said.setdefault(pid, value)
    return list(said.values())


def test_twenty_workers_draw_twenty_values_from_every_source_of_chance(
    siblings: exuvia.Host,
) -> None:
    """processes.md 4.2, for the first draw of each."""
    drawn = asked(siblings, "draws")
    for source in drawn[0]:
        values = {draw[source] for draw in drawn}
        assert len(values) == WORKERS, f"{source}: {values}"
    # `uuid1` holds the time: without it siblings differ, too.
    assert len({draw["uuid1"].split("-")[3] for draw in drawn}) == WORKERS


def test_siblings_share_the_seed_of_hash_and_their_layout(siblings: exuvia.Host) -> None:
    """processes.md 4.2: what they do share is said, so that nobody relies on it."""
    assert len(set(asked(siblings, "shared"))) == 1


def test_generators_made_at_import_are_named(siblings: exuvia.Host) -> None:
    """processes.md 3.6: those seeded by the system differ, those with their own seed do not."""
    notes = siblings.image.notes
    for name in ("seeds.GENERATOR", "seeds.STATE"):
        assert f"`{name}` is reseeded in each worker" in notes
    (named,) = [note for note in notes if "seeds.FIXED" in note]
    assert "every worker of this image starts with the same numbers" in named
    assert set(asked(siblings, "fixed")) == {loaded(SEEDS).fixed()}
