"""What a zygote does in Python (crates/runtime/src/zygote.py), by itself: `os.fork` forks here."""

import json
import textwrap
from pathlib import Path
from uuid import UUID

import pytest
from zygotes import APP, FORKS, Image, image, installed, names

__all__ = ["image"]

# === preload and warm ===


def test_preloaded_modules_come_first_and_each_item_once(image: Image) -> None:
    files = {**installed("one", "two"), "app/app.py": "import one, two"}
    told = image({**files, "app/own.py": ""}, APP, preload=["two", "own", "two"])
    assert names(told) == ["two", "own", "one"]
    assert "own" in told["loaded"] and told["modules"] >= len(told["loaded"])


def test_a_preloaded_module_that_does_not_import_ends_the_image(image: Image) -> None:
    told = image({"app/bad.py": "raise SystemExit(3)"}, preload=["bad"])
    assert "bad, listed in preload" in told["error"]
    assert told["cause"] == "SystemExit(3)"


def test_warm_functions_are_called_once(image: Image, tmp_path: Path) -> None:
    files = {"app/own.py": "calls = []\ndef go():\n    calls.append(1)"}
    target = ("own", str(tmp_path / "app/own.py"), "go")
    told = image(files, warm=[target], then="import own; result = own.calls")
    assert names(told) == ["own:go()"]
    assert told["result"] == [1]
    left = image(files, warm=[target], leave_out=["own:go()"])
    assert names(left) == [] and "own" not in left["loaded"]


@pytest.mark.parametrize(
    "source, words",
    [
        ("def go(): raise KeyError('x')", ("own:go", "KeyError")),
        ("def go(): raise SystemExit", ("own:go", "SystemExit")),
        ("async def go(): pass", ("own:go", "plain function")),
        ("go = 1", ("go", "not a function")),
    ],
)
def test_a_warm_function_that_fails_ends_the_image(
    image: Image, source: str, words: tuple[str, str]
) -> None:
    told = image({"app/own.py": source}, warm=[("own", None, "go")])
    assert all(word in told["error"] for word in words), told


# === threads ===

STARTS = """
import threading, time
threading.Thread(target=time.sleep, args=(9,), daemon=True, {}).start()
"""


def test_an_item_that_starts_a_thread_is_named_with_the_thread(image: Image) -> None:
    thread = STARTS.format("name='flusher'")
    files = {**installed("one"), "site-packages/two/__init__.py": thread}
    told = image({**files, "app/app.py": "import one, two"}, APP)
    assert told["threads"] == ["two", ["flusher"]]
    assert [item for item, _ in told["items"]] == ["one"]
    assert image(files, preload=["one", "two"])["threads"] == ["two", ["flusher"]]
    out = image({**files, "app/app.py": "import one, two"}, APP, leave_out=["two"])
    assert names(out) == ["one"]


def test_a_guarded_import_that_fails_may_not_leave_a_thread_either(image: Image) -> None:
    files = {"site-packages/one/__init__.py": STARTS.format("name='t'") + "raise ImportError"}
    assert image({**files, "app/app.py": "import one"}, APP)["threads"] == ["one", ["t"]]


def test_a_warm_function_that_starts_a_thread_is_named(image: Image) -> None:
    source = "def go():\n    import threading, time\n"
    source += "    threading.Thread(target=time.sleep, args=(9,), daemon=True, name='t').start()\n"
    told = image({"app/own.py": source}, warm=[("own", None, "go")])
    assert told["threads"] == ["own:go()", ["t"]]


def test_a_thread_that_was_there_before_is_nobodys(image: Image) -> None:
    site = {"site-packages/sitecustomize.py": STARTS.format("name='agent'")}
    assert image(site)["threads"] == ["", ["agent"]]


def test_a_thread_that_is_about_to_end_is_waited_for(image: Image) -> None:
    source = STARTS.format("name='t'").replace("9", "0.03")
    files = {"site-packages/one/__init__.py": source, "app/app.py": "import one"}
    assert names(image(files, APP)) == ["one"]


# === random numbers ===

RANDOM = {
    "random": "import random; return random.random()",
    "random choice": "import random; return random.choices('ab', k=99)",
    "numpy legacy": "return float(numpy.random.random())",
    "numpy legacy normal": "return float(numpy.random.standard_normal())",
    "default_rng": "return float(made.rng.random())",
    "default_rng spawned": "return float(made.rng.spawn(1)[0].random())",
    "PCG64DXSM": "return int(made.bits.random_raw())",
    "RandomState": "return float(made.state.standard_normal())",
    "RandomState on PCG64": "return float(made.other.standard_normal())",
    "secrets as seed": "return float(made.recommended.random())",
    "in an object": "return float(made.Holder.rngs[0].random())",
    "uuid1": "import uuid; return uuid.uuid1().hex",
    "uuid4": "import uuid; return uuid.uuid4().hex",
    "RAND_bytes": "import ssl; return ssl.RAND_bytes(16).hex()",
    "SystemRandom": "import random; return random.SystemRandom().random()",
}

MADE = """
import random, secrets
import numpy as np
rng = np.random.default_rng()
bits = np.random.PCG64DXSM()
state, other = np.random.RandomState(), np.random.RandomState(np.random.PCG64())
state.standard_normal(), other.standard_normal(), np.random.standard_normal()
recommended = np.random.default_rng(secrets.randbits(128))
class Holder:
    rngs = [np.random.default_rng()]
seeded = np.random.default_rng(42)
# As numpy's own documentation recommends to write a seed down.
written = np.random.default_rng(122807528840384100672342137672332424406)
old = np.random.RandomState(42)
plain = random.Random(42)
sequence = np.random.SeedSequence()
system = random.SystemRandom()
"""


def test_forks_of_one_image_differ_in_every_source_of_random_numbers(image: Image) -> None:
    asked = "".join(
        f"def ask{n}():\n    {code.replace('; ', chr(10) + '    ')}\n"
        for n, code in enumerate(RANDOM.values())
    )
    then = f"import made, numpy, uuid; uuid.uuid1(); uuid.uuid4()\n{asked}"
    then += f"result = forks(lambda: [{', '.join(f'ask{n}()' for n in range(len(RANDOM)))}])"
    told = image({"site-packages/made.py": MADE}, preload=["made"], then=then)
    results = told["result"]
    assert all(isinstance(result, list) for result in results), results
    drawn = {
        source: len({json.dumps(result[n]) for result in results})
        for n, source in enumerate(RANDOM)
    }
    assert drawn == dict.fromkeys(RANDOM, FORKS)


def test_generators_with_a_deliberate_seed_are_left_as_they_are_and_named(image: Image) -> None:
    then = (
        "import made\nresult = forks(lambda: [float(made.seeded.random()), made.plain.random(),"
        " float(made.written.random()), float(made.old.random_sample())])"
    )
    told = image({"site-packages/made.py": MADE}, preload=["made"], then=then)
    fresh = told["result"][0]
    assert fresh[0] == 0.7739560485559633 and fresh[1] == 0.6394267984578837
    assert told["result"] == [fresh] * FORKS
    same = {note.split("`")[1] for note in told["notes"] if "same numbers" in note}
    again = {note.split("`")[1] for note in told["notes"] if "reseeded" in note}
    assert same == {f"made.{name}" for name in ("seeded", "written", "old", "plain", "sequence")}
    assert again == {f"made.{name}" for name in ("rng", "bits", "state", "other", "recommended")}


def test_a_generator_without_a_name_is_described_by_what_holds_it(image: Image) -> None:
    source = "import random\nclass Game:\n    def __init__(self):\n"
    source += "        self.dice = random.Random(1)\ngame = Game()\n"
    told = image({"site-packages/made.py": source}, preload=["made"])
    [note] = told["notes"]
    assert note.startswith("`random.Random of made.Game` was seeded at import")


def test_an_image_with_nothing_to_say_says_nothing(image: Image) -> None:
    """Libraries' own hidden generators are no news."""
    told = image(
        {"app/own.py": "import os, tempfile\nos.rmdir(tempfile.mkdtemp())"},
        preload=["own", "pandas"],
    )
    assert told["notes"] == []


def test_uuid1_never_repeats_among_forks_and_stays_what_it_is(image: Image) -> None:
    then = """
import uuid
node = uuid.uuid1().node
def many():
    made = [uuid.uuid1() for _ in range(500)]
    assert {each.node for each in made} == {node} and {each.version for each in made} == {1}
    assert made == sorted(made, key=lambda each: each.time)
    # Between two readings of the clock, whatever the time of day.
    assert abs(uuid.uuid1().time - uuid.UUID(bytes=original()[0]).time) < 10**8
    return [each.hex for each in made]
original = uuid._generate_time_safe
result = forks(many)
"""
    told = image({}, then=then)
    made = [each for fork in told["result"] for each in fork]
    assert len(set(made)) == FORKS * 500, made[:3]
    # What makes it so, also where two read the same time only rarely.
    assert len({UUID(fork[0]).clock_seq for fork in told["result"]}) == FORKS


# === what else forks must not share ===


def test_what_imports_opened_is_closed_in_workers_and_nothing_else(image: Image) -> None:
    source = """
import os, socket
pair = socket.socketpair()
pipe = os.pipe()
file = open(__file__)
null = os.open("/dev/null", os.O_RDWR)
folder = os.open("/", os.O_RDONLY)
"""
    then = """
import made, stat
def look():
    peer = [each.fileno() for each in made.pair]
    gone = [os.readlink(f"/proc/self/fd/{fd}") for fd in [*peer, *made.pipe]]
    made.pair[0].close()
    kept = [os.readlink(f"/proc/self/fd/{fd}") for fd in (made.file.fileno(), made.folder)]
    return [gone, kept, made.file.read(7).strip(), sorted(os.listdir("/proc/self/fd"))]
result = [forks(look, 1)[0], made.__file__, *made.pipe]
# The zygote's own are as they were.
os.write(made.pipe[1], b"x"), made.pair[0].send(b"y")
assert (os.read(made.pipe[0], 1), made.pair[1].recv(1)) == (b"x", b"y")
"""
    told = image({"site-packages/made.py": source}, preload=["made"], then=then)
    [gone, kept, text, _], file, read, write = told["result"]
    assert gone == ["/dev/null"] * 4
    assert kept == [file, "/"] and text == "import"
    closed = [note for note in told["notes"] if "is closed in workers" in note]
    assert len(closed) == 4 == len(told["notes"])
    assert sum("socket:[" in note for note in closed) == 2
    assert all(any(f"descriptor {fd} (pipe:[" in n for n in closed) for fd in (read, write))


def test_exit_handlers_of_the_image_run_in_no_worker_and_its_own_do(
    image: Image, tmp_path: Path
) -> None:
    """processes.md 4.5: a folder that all share must not go with the first that ends."""
    made = """
        import atexit, logging, multiprocessing.util, tempfile, weakref
        FOLDER = tempfile.TemporaryDirectory()
        CALLS = []
        atexit.register(CALLS.append, "of the image")
    """
    told = image(
        {"site-packages/made.py": textwrap.dedent(made)},
        preload=["made"],
        then=f"""
import atexit, made, weakref
log = {str(tmp_path / "log")!r}
def look():
    class Own: pass
    own = Own()
    weakref.finalize(own, lambda: open(log, "a").write("f"))
    atexit.register(lambda: open(log, "a").write("a"))
    atexit._run_exitfuncs()
    return [os.path.isdir(made.FOLDER.name), made.CALLS]
result = forks(look)
made.FOLDER.cleanup()
""",
    )
    assert told["result"] == [[True, []]] * FORKS
    assert sorted((tmp_path / "log").read_text()) == ["a"] * FORKS + ["f"] * FORKS


def test_the_environment_of_workers_is_the_original_one(image: Image) -> None:
    told = image(
        {},
        environment=[["OMP_NUM_THREADS", "3"], ["_RJEM_MALLOC_CONF", None], ["NEVER_SET", None]],
        then="""
import ctypes
get = ctypes.CDLL(None).getenv
get.restype = ctypes.c_char_p
def look():
    names = ("OMP_NUM_THREADS", "_RJEM_MALLOC_CONF", "NEVER_SET")
    return [[os.environ.get(name), (get(name.encode()) or b"").decode()] for name in names]
result = [forks(look, 1)[0], os.environ["OMP_NUM_THREADS"]]
""",
    )
    assert told["result"] == [[["3", "3"], [None, ""], [None, ""]], "1"]


def test_numeric_libraries_have_their_threads_back_and_are_right(image: Image) -> None:
    told = image(
        {"app/own.py": "import numpy\ndef go(): return numpy.ones((300, 300)) @ numpy.ones(300)"},
        preload=["numpy", "scipy.linalg", "sklearn.cluster", "pyarrow"],
        warm=[("own", None, "go")],
        blas_threads=2,
        then="""
import numpy, pyarrow, threadpoolctl
from scipy import linalg
def pools():
    return sorted([each["internal_api"], each["num_threads"]]
                  for each in threadpoolctl.threadpool_info())
def work():
    random = numpy.random.default_rng(7)
    matrix = random.integers(0, 100, (400, 400))
    right = bool((matrix.astype(float) @ matrix.astype(float) == matrix @ matrix).all())
    solved = linalg.solve(matrix.astype(float), matrix @ numpy.ones(400))
    return [pools(), pyarrow.cpu_count(), right, bool(numpy.allclose(solved, 1))]
result = [pools(), len(os.listdir("/proc/self/task")), forks(work, 3)]
""",
    )
    before, threads, forks = told["result"]
    # OpenBLAS is set already, and starts its threads with the first use of them.
    assert {count for api, count in before if api != "openblas"} == {1} == {threads}
    wanted = [[[api, 2] for api, _ in before], 2, True, True]
    assert forks == [wanted] * 3
    assert {"openblas", "openmp"} <= {api for api, _ in before}


def test_after_a_fork_nothing_is_imported_and_the_output_mark_is_new(image: Image) -> None:
    then = """
class Stream:
    _said = 7
def look():
    return [sorted(set(sys.modules) - loaded), stream._said]
stream, loaded = Stream(), set(sys.modules)
real, sys.stdout = sys.stdout, stream
result = forks(look, 1)[0]
sys.stdout = real
"""
    told = image({}, preload=["numpy", "pandas"], then=then)
    assert told["result"] == [[], 0]


def test_a_library_that_fails_in_a_worker_keeps_nothing_else_from_being_done(
    image: Image,
) -> None:
    then = """
import io
def fails(*_):
    raise RuntimeError("whim")
chance.reseed_numpy = chance.reseed_uuid = fails
zygote.inherited.set_threads.insert(0, fails)
sys.stderr = io.StringIO()
def look():
    done = os.environ.get("OMP_NUM_THREADS")
    import threadpoolctl
    counts = {each["num_threads"] for each in threadpoolctl.threadpool_info()}
    return [sys.stderr.getvalue().count("whim"), done, sorted(counts)]
result = forks(look, 1)[0]
sys.stderr = sys.__stderr__
"""
    environment = [["OMP_NUM_THREADS", "2"]]
    told = image({}, preload=["numpy.random"], environment=environment, blas_threads=2, then=then)
    assert told["result"] == [3, "2", [2]]


def test_what_a_worker_imports_late_is_in_every_image(image: Image) -> None:
    then = """
import inspect
def look():
    loaded = set(sys.modules)
    def handler(a: int, b: "str | None" = None) -> dict: ...
    worker.plan(worker, "handler", handler)
    try:
        worker.select(worker, "descrbe", "worker")
    except worker.LoadError as error:
        worker.describe(error, error.__traceback__)
    import asyncio, datetime, decimal, fractions, pickle, uuid, zoneinfo
    async def main():
        await asyncio.to_thread(int)
    with asyncio.Runner() as runner:
        runner.run(main())
    zoneinfo.ZoneInfo("Europe/Berlin"), pickle.dumps(decimal.Decimal(1))
    return sorted(set(sys.modules) - loaded)
result = forks(look, 1)[0]
"""
    assert image({}, then=then)["result"] == []
