"""`exuvia.sandbox`: values, limits, failures and the life of a sandbox in a Python program."""

import asyncio
import json
import os
import pickle
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import exuvia
import exuvia.sandbox
import exuvia.values
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from exuvia.sandbox import Sandbox
from processes import wait_until
from programs import children
from sandboxes import adder
from table_cases import check_same
from value_cases import FIDELITY, HARD, same

ECHO = "def handler(value): return value"


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A sandbox with NumPy in its image."""
    with Sandbox(preload=["numpy"], wall="20s", memory="256MiB") as box:
        yield box


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle."""
    return adder(tmp_path)


# === values ===


def test_the_last_line_of_source_code_is_its_result(box: Sandbox) -> None:
    assert box.run("1 + 1").value == 2
    assert box.run("x = 4\nx * 2").value == 8
    assert box.run("x = 4").value is None
    assert box.run("").value is None


def test_a_function_is_called_with_the_arguments(box: Sandbox) -> None:
    code = "def handler(a, scale=1): return a * scale\ndef other(a): return -a"
    assert box.run(code, 3).value == 3
    assert box.run(code, 3, scale=2).value == 6
    assert box.with_options(entrypoint="other").run(code, 3).value == -3
    # Names of options are arguments like others.
    assert box.run("def handler(wall, files): return wall, files", wall=1, files=2).value == (1, 2)


def test_values_cross_both_ways_without_loss(box: Sandbox) -> None:
    values = [*FIDELITY, *HARD]
    back = box.run(ECHO, values).value
    assert len(back) == len(values) > 50
    for value, got in zip(values, back, strict=True):
        assert same(value, got), (value, got)


def test_arrays_and_tables_cross_both_ways(box: Sandbox) -> None:
    frame = pd.DataFrame({"n": range(20_000), "text": [f"row {n}" for n in range(20_000)]})
    with Sandbox(wall="30s") as slow:
        for value in (
            np.arange(3),
            np.arange(200_000.0).reshape(400, 500),
            frame.head(3),
            frame,
            pl.from_pandas(frame),
            pa.table({"n": pa.array([1, None, 3])}),
        ):
            check_same(slow.run(ECHO, value).value, value)
    doubled = box.run("def handler(x): return x * 2, x.sum().item()", np.arange(100_000))
    assert doubled.value[1] == sum(range(100_000))
    check_same(doubled.value[0], np.arange(100_000) * 2)


def test_an_argument_outside_the_value_model_is_a_type_error_that_names_its_place(
    box: Sandbox,
) -> None:
    with pytest.raises(TypeError, match=r"args\[0\]\[\"a\"\]\[1\]: `object` has no place"):
        box.run(ECHO, {"a": [1, object()]})
    with pytest.raises(TypeError, match=r"kwargs\[\"value\"\]"):
        box.run(ECHO, value=threading.Lock())


def test_the_document_is_json_and_has_the_result_where_that_can_be(box: Sandbox) -> None:
    outcome = box.run("def handler(): print('hi'); return {'n': [1, 2.5, None]}")
    document = json.loads(json.dumps(outcome.document()))
    assert document["schema"] == "exuvia.outcome/1"
    assert (document["status"], document["stdout"]) == ("ok", "hi\n")
    assert document["result"] == {"n": [1, 2.5, None]}
    assert document["usage"]["wall_ms"] == outcome.usage.wall_ms > 0
    assert set(box.run("1j").document()["result"]) == {"media_type", "bytes"}
    failed = box.run("1 / 0").document()
    assert failed["status"] == "failed" and failed["failure"]["kind"] == "exception"


# === how calls fail ===


def test_an_exception_has_the_lines_of_the_code(box: Sandbox) -> None:
    outcome = box.run("def handler():\n    wrong = 'value'\n    raise ValueError(wrong)")
    assert not outcome.ok
    with pytest.raises(exuvia.HandlerError, match="^ValueError: value$") as raised:
        _ = outcome.value
    assert raised.value is outcome.failure
    assert "line 3, in handler\n    raise ValueError(wrong)" in raised.value.traceback
    assert "exuvia" not in raised.value.traceback
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.failure) == (str(raised.value), raised.value.failure)


@pytest.mark.parametrize(
    "code, options, kind, error",
    [
        ("while True: pass", {"wall": 0.2}, "timeout", exuvia.CallTimeoutError),
        ("import time; time.sleep(60)", {"wall": "200ms"}, "timeout", exuvia.CallTimeoutError),
        ("while True: pass", {"cpu": timedelta(seconds=0.2)}, "cpu", exuvia.LimitExceededError),
        ("x = bytearray(200 << 20)", {"memory": "64MiB"}, "memory", exuvia.LimitExceededError),
        ("while True: print('x' * 99)", {"output": 4096}, "output", exuvia.LimitExceededError),
        ("b'x' * 10_000", {"result": "4KiB"}, "result", exuvia.LimitExceededError),
        (
            "open('/session/x', 'wb').write(b'x' * (2 << 20))",
            {"files": "read-write", "quota": "1MiB"},
            "files",
            exuvia.LimitExceededError,
        ),
        (
            "import threading, time\n"
            "for n in range(9): threading.Thread(target=time.sleep, args=(9,)).start()",
            {"threads": 4},
            "threads",
            exuvia.LimitExceededError,
        ),
        ("import socket; socket.socket()", {}, "denied", exuvia.PolicyDeniedError),
        ("open('/etc/shadow')", {}, "exception", exuvia.HandlerError),
        ("import ctypes; ctypes.string_at(0)", {}, "crash", exuvia.WorkerCrashedError),
        ("import os; os.abort()", {}, "crash", exuvia.WorkerCrashedError),
        ("import os; os._exit(7)", {}, "exited", exuvia.WorkerCrashedError),
        ("import sys; sys.exit(3)", {}, "exception", exuvia.HandlerError),
        ("def handler(:", {}, "exception", exuvia.HandlerError),
        ("object()", {}, "result", exuvia.ResultError),
        ("def handler(): 1", {"entrypoint": "nobody"}, "load", exuvia.LoadError),
    ],
)
def test_each_way_to_fail_has_its_exception(
    box: Sandbox, code: str, options: dict[str, Any], kind: str, error: type[exuvia.CallError]
) -> None:
    outcome = box.with_options(**options).run(code)
    failure = outcome.failure
    assert type(failure) is error, outcome.document()
    assert isinstance(failure, exuvia.CallError)
    assert failure.failure.get("resource", failure.kind) == kind
    with pytest.raises(error):
        outcome.raise_for_failure()


def test_wrong_arguments_are_the_callers_fault(box: Sandbox) -> None:
    outcome = box.run("def handler(a: int): return a", "x", 2)
    assert type(outcome.failure) is exuvia.InputError, outcome.document()


def test_a_refusal_that_was_caught_is_in_the_usage(box: Sandbox) -> None:
    outcome = box.run("""
import socket
for n in range(3):
    try: socket.socket()
    except PermissionError: pass
'went on'
""")
    assert outcome.value == "went on"
    assert outcome.usage.denied == 3
    assert [(denial.what, denial.count) for denial in outcome.usage.denials] == [("socket", 3)]


def test_a_call_leaves_nothing_to_the_next_one(box: Sandbox) -> None:
    writes = "import os\nbefore = os.listdir('/session')\nopen('/session/a', 'w').close()\nbefore"
    free = box.with_options(files="read-write")
    for _ in range(3):
        outcome = free.run(writes)
        assert outcome.value == []
        assert [file.path for file in outcome.usage.files] == ["a"]
    first, second = (box.run("import os, json\nos.spam = 1\nos.getpid()") for _ in range(2))
    assert first.usage.isolate.pid != second.usage.isolate.pid
    assert box.run("import os\nhasattr(os, 'spam')").value is False


# === what a guest sends ===

VALUE = 3
FORGED = """
import os, struct, time

def handler(body, codec):
    # The frame that ends this call, with whatever payload it likes; its id is in the page.
    (word,) = struct.unpack('<Q', os.pread(5, 8, 64))
    head = struct.pack('<BBBBIQQ', codec, 0, 0, 0, 0, 0, len(body))
    os.write(3, struct.pack('<IBBHQ', len(head) + len(body), 4, 0, 0, word >> 3) + head + body)
    time.sleep(60)
"""


def forged(box: Sandbox, body: bytes, codec: int) -> exuvia.sandbox.Outcome:
    """Give the outcome of a guest that writes the answer's frame itself."""
    return box.run(FORGED, body, codec)


class Trap:
    """An object whose pickle leaves a file behind when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("codec", range(17))
def test_a_guest_cannot_have_its_host_read_a_pickle(
    box: Sandbox, tmp_path: Path, codec: int
) -> None:
    trap = tmp_path / "sprung"
    body = exuvia.values.dumps([1, Trap(trap)], pickle=True)
    outcome = forged(box, body, codec)
    assert type(outcome.failure) is exuvia.ResultError, outcome.document()
    assert "pickle" in str(outcome.failure)
    assert not trap.exists()
    # It is a trap: who reads pickles falls into it.
    exuvia.values.loads(body, pickle=True)
    assert trap.exists()


def test_a_forged_answer_is_data_like_any_other(box: Sandbox) -> None:
    # That its own result is a lie is between a guest and its caller.
    value = forged(box, exuvia.values.dumps({"forged": True}), VALUE)
    assert value.value == {"forged": True}
    broken = forged(box, b"\xc1 no value", VALUE)
    assert type(broken.failure) is exuvia.ResultError
    assert broken.document()["status"] == "failed"


# === output ===


def test_output_is_there_live_and_in_the_outcome(box: Sandbox) -> None:
    came: list[tuple[str, float]] = []
    told: list[str] = []
    calls = box.with_options(
        on_stdout=lambda text: came.append((text, time.monotonic())), on_stderr=told.append
    )
    outcome = calls.run("""
import sys, time
print('first ä', flush=True)
print('wrong', file=sys.stderr, flush=True)
time.sleep(0.5)
print('second')
""")
    ended = time.monotonic()
    assert outcome.stdout == "first ä\nsecond\n" == "".join(text for text, _ in came)
    assert outcome.stderr == "wrong\n" == "".join(told)
    assert ended - came[0][1] > 0.4, "it came at the end only"


@pytest.mark.parametrize("persistent", [False, True])
def test_output_is_of_the_call_that_printed_it(persistent: bool) -> None:
    with Sandbox(persistent=persistent, concurrency=4, spares=4) as box:
        said = "def handler(n): print(n); return n"
        with ThreadPoolExecutor(4) as threads:
            outcomes = list(threads.map(lambda n: box.run(said, n), range(200)))
    wrong = [(n, got.stdout) for n, got in enumerate(outcomes) if got.stdout != f"{n}\n"]
    assert wrong == []


def test_a_character_that_comes_in_pieces_is_one(box: Sandbox) -> None:
    came: list[str] = []
    outcome = box.with_options(on_stdout=came.append).run("""
import os, time
for byte in '€'.encode() + b'\\xff':
    os.write(1, bytes([byte])); time.sleep(0.05)
os.write(1, '€'.encode()[:2])
""")
    assert outcome.ok
    assert "".join(came) == "€\ufffd\ufffd" == outcome.stdout


def test_what_a_listener_raises_ends_the_call(box: Sandbox) -> None:
    def angry(text: str) -> None:
        raise LookupError(text.strip())

    code = "import time\nprint('heard', flush=True)\ntime.sleep(60)"
    calls = box.with_options(on_stdout=angry)
    began = time.monotonic()
    with pytest.raises(LookupError, match="heard"):
        calls.run(code)
    with pytest.raises(LookupError, match="heard"):
        asyncio.run(calls.run_async(code))
    assert time.monotonic() - began < 15
    wait_until("both to be gone", lambda: box.status.running == 0)


# === options ===


def test_options_are_kept_by_what_they_were_given_to(box: Sandbox) -> None:
    short = box.with_options(wall="5s", memory="64MiB")
    shorter = short.with_options(wall=timedelta(seconds=1))
    assert short.run("1").usage.policy["wall_ms"] == 5000
    policy = shorter.run("1").usage.policy
    assert (policy["wall_ms"], policy["memory"]) == (1000, 64 << 20)
    assert box.run("1").usage.policy["wall_ms"] == 20_000


@pytest.mark.parametrize(
    "options, error, says",
    [
        ({"wall": "21s"}, ValueError, "wall: a call cannot have more than its sandbox allows"),
        ({"memory": "1GiB"}, ValueError, "memory: a call cannot have more"),
        ({"threads": 33}, ValueError, "threads: a call cannot have more"),
        ({"wall": 0}, ValueError, "wall must be"),
        ({"wall": "0s"}, ValueError, "wall must be"),
        ({"wall": timedelta(seconds=-1)}, ValueError, "wall must be"),
        ({"wall": "soon"}, ValueError, "wall: `soon` is not a duration"),
        ({"cpu": True}, TypeError, "cpu must be"),
        ({"memory": "12 potatoes"}, ValueError, "memory: `12 potatoes` is not a size"),
        ({"output": 0}, ValueError, "output must be"),
        ({"files": "write"}, ValueError, "files must be"),
        ({"inodes": 0}, ValueError, "inodes must be"),
        ({"entrypoint": 3}, TypeError, "entrypoint must be"),
        ({"on_stdout": 3}, TypeError, "on_stdout must be"),
    ],
)
def test_a_wrong_option_is_named(
    box: Sandbox, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        box.with_options(**options)


@pytest.mark.parametrize(
    "settings, error, says",
    [
        ({"isolate_uid": 0}, ValueError, "isolate_uid must be"),
        ({"isolate_gid": 0}, ValueError, "isolate_gid must be"),
        ({"preload": "numpy"}, TypeError, "preload must be a list"),
        ({"preload": ["no such"]}, ValueError, "preload: `no such` is not the name of a module"),
        ({"preload": ["nobody_has_this"]}, exuvia.LoadError, "nobody_has_this"),
        ({"concurrency": 0}, ValueError, "concurrency must be"),
        ({"persistent": 1}, TypeError, "persistent must be"),
        ({"trusted": 1}, TypeError, "trusted must be"),
        ({"view": "/srv"}, TypeError, "view must be"),
        ({"python": "/nowhere/python"}, RuntimeError, "/nowhere/python"),
    ],
)
def test_a_wrong_setting_is_named_and_leaves_nothing(
    settings: dict[str, Any], error: type[Exception], says: str, tmp_path: Path
) -> None:
    before = children()
    with pytest.raises(error, match=says):
        Sandbox(**settings)
    wait_until("its processes to end", lambda: children() <= before)


def test_a_path_is_a_file_and_text_is_code(box: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_bytes("# coding: latin-1\n'ä'".encode("latin-1"))
    assert box.run(file).value == "ä"
    with pytest.raises(TypeError, match="write pathlib.Path"):
        box.run(str(file))
    with pytest.raises(TypeError, match="code must be text"):
        box.run(print)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        box.run(tmp_path / "nothing.py")
    with pytest.raises(FileNotFoundError):
        box.run(tmp_path / "nothing.zip")


def test_isolates_see_the_view_and_no_other_file_of_the_machine(tmp_path: Path) -> None:
    shown, hidden = tmp_path / "shown", tmp_path / "hidden"
    for folder in (shown, hidden):
        folder.mkdir()
        (folder / "data").write_text(folder.name)
        folder.chmod(0o755)
    code = "def handler(path): return open(path).read()"
    with Sandbox(view=[shown]) as box:
        assert box.run(code, str(shown / "data")).value == "shown"
        outcome = box.run(code, str(hidden / "data"))
        assert "No such file" in str(outcome.failure)
        writes = "def handler(path): open(path, 'a')"
        outcome = box.with_options(files="read-write").run(writes, str(shown / "data"))
        assert not outcome.ok
    assert (shown / "data").read_text() == "shown"


# === bundles ===


def test_a_bundle_runs_from_a_folder_and_from_a_zip(box: Sandbox, bundle: Path) -> None:
    packed = Path(shutil.make_archive(str(bundle), "zip", bundle))
    for path in (bundle, packed, exuvia.sandbox.Bundle(packed)):
        assert box.run(path, 3).value == 4
        assert box.run(path, 3, b=4).value == 7
    opened = exuvia.sandbox.Bundle(packed)
    assert opened.fingerprint == exuvia.sandbox.Bundle(bundle).fingerprint
    assert opened.entrypoint == "main:handler"
    assert "part.py" in dict(opened.files)


def test_a_bundle_gets_the_smaller_of_what_both_say(box: Sandbox, bundle: Path) -> None:
    policy = box.run(bundle, 1).usage.policy
    assert (policy["memory"], policy["wall_ms"]) == (64 << 20, 20_000)
    assert policy["files"] == {"mode": "read-write", "bytes": 1 << 20, "inodes": 1024}
    writes = box.with_options(entrypoint="main:writes")
    left = writes.run(bundle)
    assert (left.value, [file.path for file in left.usage.files]) == (100, ["left"])
    # The sandbox's word counts, too.
    outcome = writes.with_options(files="read").run(bundle)
    assert type(outcome.failure) is exuvia.PolicyDeniedError
    assert box.with_options(wall="2s").run(bundle, 1).usage.policy["wall_ms"] == 2000


def test_a_bundle_that_was_prepared_finds_its_isolate(box: Sandbox, bundle: Path) -> None:
    box.prepare(bundle)
    assert box.run(bundle, 1).usage.isolate.on_demand is False


def test_a_bundle_that_cannot_be_used_says_all_that_is_wrong(box: Sandbox, bundle: Path) -> None:
    manifest = bundle / "exuvia.bundle.json"
    manifest.write_text('{"schema": "exuvia.bundle/1", "entrypont": "x", "limits": {"cpu": 0}}')
    with pytest.raises(exuvia.sandbox.BundleError, match="entrypoint") as raised:
        box.run(bundle)
    assert sorted(fault["pointer"] for fault in raised.value.faults) == [
        "/entrypont",
        "/limits/cpu",
    ]
    again = pickle.loads(pickle.dumps(raised.value))
    assert again.faults == raised.value.faults
    manifest.write_text(
        '{"schema": "exuvia.bundle/1", "packages": ["numpy>=1", "nobody-has-this>=2"]}'
    )
    with pytest.raises(exuvia.sandbox.PackagesError, match="pip install") as missing:
        box.run(bundle)
    assert missing.value.missing == ["nobody-has-this>=2"]
    assert "'nobody-has-this>=2'" in missing.value.command


# === real work ===

IRIS = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

def handler(max_iter):
    features, kinds = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=max_iter).fit(features, kinds).score(features, kinds)
"""

CANCER = """
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def handler():
    features, kinds = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(features, kinds).score(features, kinds)
"""


def test_scikit_learn_gives_the_accuracies_that_it_gives_outside() -> None:
    modules = ["sklearn.datasets", "sklearn.linear_model", "sklearn.pipeline"]
    limits = {"wall": "60s", "cpu": "60s", "memory": "1GiB"}
    with Sandbox(preload=modules, **limits) as box:  # type: ignore[arg-type]
        iris = box.run(IRIS, max_iter=1000)
        assert iris.value == pytest.approx(0.973333, abs=1e-6)
        assert iris.usage.file_bytes == 0
        assert box.run(CANCER).value == pytest.approx(0.987698, abs=1e-6)
