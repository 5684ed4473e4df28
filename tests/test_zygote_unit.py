"""What a zygote does in Python (crates/runtime/src/zygote.py), by itself: `os.fork` forks here."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import pytest
from processes import ROOT

FORKS = 20

# Runs `warm`, then what the test adds; writes what came of both to descriptor 1 as JSON.
DRIVER = """
import importlib.util, json, os, sys, types

def load(name):
    file = os.path.join({sources!r}, name + ".py")
    spec = importlib.util.spec_from_file_location("_exuvia_" + name, file)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

worker, scan, zygote = load("worker"), load("scan"), load("zygote")
# Where a zygote has what the host gave it.
while os.open("/dev/null", os.O_RDONLY) < 5:
    pass
told = json.load(sys.stdin)
items, said = [], {{}}

def forks(of, count={forks}):
    \"\"\"What each of some forks makes of it.\"\"\"
    wait, go = os.pipe()
    children = []
    for _ in range(count):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                zygote.after_fork()
                # All begin at once, when nobody can write to the pipe any more.
                os.close(go)
                os.read(wait, 1)
                answer = of()
            except BaseException as error:
                answer = "raised " + repr(error)
            with open(write, "w") as out:
                json.dump(answer, out)
            os._exit(0)
        os.close(write)
        children.append((child, read))
    os.close(go)
    os.close(wait)
    results = []
    for child, read in children:
        with open(read, "rb") as answer:
            results.append(json.loads(answer.read()))
        os.waitpid(child, 0)
    return results

result = None
before = set(sys.modules)
try:
    request = types.SimpleNamespace(**told["request"])
    said["modules"], said["notes"] = zygote.warm(worker, request, lambda *item: items.append(item))
    said["loaded"] = sorted(set(sys.modules) - before)
    exec(told["then"])
except zygote.ThreadsError as error:
    said["threads"] = [error.item, error.threads]
except worker.LoadError as error:
    said["error"], said["cause"] = str(error), repr(error.__cause__)
print(json.dumps({{**said, "items": items, "result": result}}))
"""


class Image(Protocol):
    """Writes files below the test's folder and warms an image of what is in `app`."""

    def __call__(
        self,
        files: Mapping[str, str | bytes],
        *targets: tuple[str, str | None, str | None],
        then: str = "",
        env: Mapping[str, str] | None = None,
        **request: Any,
    ) -> dict[str, Any]:
        """Give `items`, `loaded`, `notes`, `modules`, or `error` or `threads`, and `result`."""


@pytest.fixture
def image(tmp_path: Path, project_python: Path) -> Image:
    def warmed(
        files: Mapping[str, str | bytes],
        *targets: tuple[str, str | None, str | None],
        then: str = "",
        env: Mapping[str, str] | None = None,
        **request: Any,
    ) -> dict[str, Any]:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        whole = {
            "search_path": [str(tmp_path / "app")],
            "targets": targets,
            "preload": [],
            "warm": [],
            "leave_out": [],
            "environment": [],
            "blas_threads": 1,
            **request,
        }
        quiet = "background_thread:false"
        variables = {
            "PYTHONPATH": str(tmp_path / "site-packages"),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "JE_ARROW_MALLOC_CONF": quiet,
            "_RJEM_MALLOC_CONF": quiet,
            **(env or {}),
        }
        source = DRIVER.format(sources=str(ROOT / "crates/runtime/src"), forks=FORKS)
        done = subprocess.run(
            [project_python, "-P", "-c", source],
            input=json.dumps({"request": whole, "then": then}),
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return told

    return warmed


def names(told: dict[str, Any]) -> list[str]:
    """The items of an image; an image that could not be made has none to compare."""
    assert "error" not in told and "threads" not in told, told
    return [item for item, _ in told["items"]]


def installed(*packages: str) -> dict[str, str]:
    """Empty packages of somebody else."""
    return {f"site-packages/{name.replace('.', '/')}/__init__.py": "" for name in packages}


APP = ("app", None, None)


# === which imports are in the image ===


@pytest.mark.parametrize(
    "source, expected",
    [
        ("import one\nfrom two import x", ["one", "two"]),
        ("import one as o, two", ["one", "two"]),
        ("def f():\n    import one\nasync def g():\n    import one\nimport two", ["two"]),
        ("class C:\n    import one\n    def f(self):\n        import two", ["one"]),
        ("with open('/dev/null'):\n    import one", ["one"]),
        ("if True:\n    import one\nelif 1:\n    import two\nelse:\n    import three",
         ["one", "two", "three"]),
        ("try:\n    import one\nexcept ImportError:\n    import two\nelse:\n    import three",
         ["one", "three"]),
        ("try:\n    import one\nfinally:\n    import two", ["one", "two"]),
        ("try:\n    import one\nexcept* OSError:\n    import two", ["one"]),
        ("if TYPE_CHECKING:\n    import one\nelse:\n    import two", ["two"]),
        ("import typing\nif typing.TYPE_CHECKING:\n    import one", []),
        ("if not TYPE_CHECKING:\n    import one\nelse:\n    import two", ["one"]),
        ("if TYPE_CHECKING and x:\n    import one", []),
        ("if __name__ == '__main__':\n    import one\nelse:\n    import two", ["two"]),
        ("if '__main__' == __name__:\n    import one", []),
        ("import missing\nimport missing.too\nimport one", ["one"]),
        ("import one, one\nfrom one import x", ["one"]),
        ("import json, sys, one", ["one"]),
        ("from . import one\nfrom .. import two\nfrom .two import x", []),
    ],
)  # fmt: skip
def test_imports_that_run_with_the_module_are_in_the_image(
    image: Image, source: str, expected: list[str]
) -> None:
    told = image({**installed("one", "two", "three"), "app/app.py": source}, APP)
    assert names(told) == expected
    assert "app" not in told["loaded"]


def test_the_users_modules_are_looked_through_and_not_imported(image: Image) -> None:
    told = image(
        {
            **installed("one", "two", "three", "four", "five", "six"),
            "app/app.py": "import one\nimport pkg.deep.leaf\nfrom pkg import side\nimport six",
            "app/pkg/__init__.py": "import two",
            "app/pkg/deep/__init__.py": "from . import other",
            "app/pkg/deep/leaf.py": "from .. import side\nfrom ...pkg import nothing",
            "app/pkg/deep/other.py": "import three\nimport app",
            "app/pkg/side.py": "from .deep import leaf\nimport four",
            "app/pkg/unused.py": "import five",
        },
        APP,
    )
    assert names(told) == ["one", "two", "three", "four", "six"]
    assert not [name for name in told["loaded"] if name.split(".")[0] in ("app", "pkg")]


def test_a_file_is_a_target_of_its_own(image: Image, tmp_path: Path) -> None:
    files = {**installed("one", "two"), "app/odd name.py": "import one, helper"}
    file = str(tmp_path / "app/odd name.py")
    told = image({**files, "app/helper.py": "import two"}, ("odd name", file, "f"))
    assert names(told) == ["one", "two"]


def test_each_part_of_a_namespace_package_is_its_owners(image: Image) -> None:
    told = image(
        {
            **installed("one", "ns.theirs", "ns.inner.theirs"),
            "app/ns/mine.py": "import one",
            "app/app.py": "from ns import mine, theirs\nimport ns.inner.theirs\nimport ns.mine",
        },
        APP,
        then="result = 'ns.mine' in sys.modules",
    )
    assert sorted(names(told)) == ["ns.inner.theirs", "ns.theirs", "one"]
    assert told["result"] is False


def test_a_target_in_a_namespace_package_does_not_claim_its_neighbours(image: Image) -> None:
    files = {**installed("ns.theirs"), "app/ns/mine/__init__.py": "from ns import theirs"}
    told = image({**files, "app/ns/mine/h.py": ""}, ("ns.mine.h", None, None))
    assert names(told) == ["ns.theirs"]


def test_a_target_in_an_installed_package_is_not_imported(image: Image) -> None:
    told = image(
        {
            **installed("one", "two"),
            "site-packages/product/__init__.py": "import one",
            "site-packages/product/web/handlers.py": "from ..core import x\nfrom product import db",
            "site-packages/product/core.py": "import two",
            "site-packages/product/db.py": "",
        },
        ("product.web.handlers", None, None),
    )
    assert names(told) == ["one", "two"]
    assert not [name for name in told["loaded"] if name.startswith("product")]


def test_what_lies_beside_a_target_is_the_users_wherever_that_is(
    image: Image, tmp_path: Path
) -> None:
    files = {**installed("one"), "src/app.py": "import helper", "src/helper.py": "import one"}
    path = f"{tmp_path / 'src'}:{tmp_path / 'site-packages'}"
    told = image(files, APP, env={"PYTHONPATH": path})
    assert names(told) == ["one"]
    assert "helper" not in told["loaded"]


def test_a_project_that_is_edited_in_place_is_looked_through(image: Image, tmp_path: Path) -> None:
    """Installers put a finder of their own into `sys.meta_path`."""
    finder = f"""
import importlib.util, sys
class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        file = {str(tmp_path / "far/product/__init__.py")!r}
        folders = [{str(tmp_path / "far/product")!r}]
        if name == "product":
            return importlib.util.spec_from_file_location(
                name, file, submodule_search_locations=folders)
sys.meta_path.append(Finder)
"""
    told = image(
        {
            **installed("one", "two"),
            "site-packages/sitecustomize.py": finder,
            "far/product/__init__.py": "import one",
            "far/product/web.py": "import two, product.other",
            "far/product/other.py": "",
        },
        ("product.web", None, None),
    )
    assert names(told) == ["one", "two"]
    assert not [name for name in told["loaded"] if name.startswith("product")]


def test_what_is_installed_is_imported_though_it_is_searched_as_the_users(
    image: Image, tmp_path: Path, project_python: Path
) -> None:
    """A program gives its whole `sys.path`."""
    code = "import sys, json; print(json.dumps(sys.path[1:]))"
    done = subprocess.run([project_python, "-c", code], capture_output=True, check=True)
    path = [str(tmp_path / "app"), str(tmp_path / "site-packages"), *json.loads(done.stdout)]
    told = image(
        {**installed("one"), "app/app.py": "import one, xmlrpc.client"},
        APP,
        search_path=path,
    )
    assert "one" in names(told)
    assert "xmlrpc.client" in told["loaded"]


def test_submodules_are_items_by_their_own_names(image: Image) -> None:
    told = image(
        {
            **installed("one", "one.a", "one.b", "lazy", "lazy.part", "all", "all.x", "all.y"),
            "site-packages/lazy/__init__.py": "def __getattr__(name):\n    import lazy.part\n"
            "    return lazy.part\n",
            "site-packages/all/__init__.py": "__all__ = ['x']",
            "app/app.py": "from one import a, missing\nimport one.b\nfrom lazy import part\n"
            "from all import *",
        },
        APP,
    )
    assert names(told) == ["one", "one.a", "one.b", "lazy", "lazy.part", "all", "all.x"]


def test_what_is_left_out_takes_its_submodules_with_it(image: Image) -> None:
    told = image(
        {
            **installed("one", "one.a", "two", "two.b", "two.c"),
            "app/app.py": "from one import a\nimport one.a\nfrom two import b, c",
        },
        APP,
        preload=["one", "two"],
        leave_out=["one", "two.b"],
    )
    assert names(told) == ["two", "two.c"]
    assert not [name for name in told["loaded"] if name.startswith("one")]


@pytest.mark.parametrize("failure", ["raise ValueError", "raise SystemExit(3)", "import missing"])
def test_a_package_that_does_not_import_is_left_to_the_worker(image: Image, failure: str) -> None:
    files = {**installed("two"), "site-packages/one/__init__.py": failure}
    told = image({**files, "app/app.py": "import one\nfrom one import x\nimport two"}, APP)
    assert names(told) == ["two"]


@pytest.mark.parametrize(
    "odd",
    [
        b"import one\nx = '\xff\xfe'",
        b"import one\ndef",
        b"import one\0",
        b"# coding: nonsense\nimport one",
        b"x = " + b"(" * 5000,
        b"x = " + b"-" * 50_000 + b"1",
        b"import one\n" + b"#" * (2 << 20),
    ],
    ids=["bytes", "syntax", "null", "coding", "brackets", "deep", "huge"],
)
def test_sources_that_cannot_be_read_are_left_to_the_worker(image: Image, odd: bytes) -> None:
    files = {**installed("one", "two"), "app/app.py": "import odd, two"}
    assert names(image({**files, "app/odd.py": odd}, APP)) == ["two"]


def test_a_source_in_another_coding_and_one_that_warns_are_looked_through(image: Image) -> None:
    files = {**installed("one", "two"), "app/app.py": "import odd\nx = '\\d'\nimport two"}
    odd = "# coding: latin-1\nx = 'é'\nimport one".encode("latin-1")
    assert names(image({**files, "app/odd.py": odd}, APP)) == ["one", "two"]


def test_the_search_ends_after_so_many_sources(image: Image) -> None:
    files = installed("one", "two")
    files |= {f"app/m{n}.py": f"import m{n + 1}" for n in range(2100)}
    files |= {"app/m1990.py": "import one, m1991", "app/m2050.py": "import two, m2051"}
    told = image(files, ("m0", None, None))
    assert names(told) == ["one"]


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
result = [pools(), forks(work, 3)]
""",
    )
    before, forks = told["result"]
    assert {count for _, count in before} == {1}
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
zygote.reseed_numpy = zygote.reseed_uuid = zygote.close_descriptors = fails
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
    assert told["result"] == [4, "2", [2]]


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
