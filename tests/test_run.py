"""`exuvia run` and what belongs to it, as people use them: bundles and code in, outcomes out."""

import json
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jsonschema_rs
import pytest
from conftest import Completed
from processes import ROOT, descendants, in_session, wait_until

BUNDLES = ROOT / "examples/bundles"
SCHEMA = json.loads((ROOT / "docs/outcome.schema.json").read_text())

Write = Callable[..., Path]


class Exuvia(Protocol):
    """Runs a command of the program to its end."""

    def __call__(
        self,
        *args: str | Path,
        stdin: str = "",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Give what it wrote and its exit code."""


@pytest.fixture
def exuvia(exuvia_bin: Path, project_python: Path, tmp_path: Path) -> Exuvia:
    """Run a command, with the project's Python where a command takes one."""

    def go(
        *args: str | Path,
        stdin: str = "",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        return subprocess.run(
            [exuvia_bin, *args],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=cwd or tmp_path,
            env={**os.environ, "EXUVIA_PYTHON": str(project_python), **(env or {})},
            timeout=120,
            check=False,
        )

    return go


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of the test's own folder."""

    def to(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return to


def bundle(write: Write, name: str, code: str, manifest: Any, *, theirs: bool = False) -> Path:
    """Write a folder with a manifest, ours or Aardvark's."""
    file = "aardvark.manifest.json" if theirs else "exuvia.bundle.json"
    write(f"{name}/{file}", json.dumps(manifest))
    return write(f"{name}/main.py", code).parent


def zipped(folder: Path) -> Path:
    """Make a ZIP file of a folder, as any tool does."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def outcome(done: Completed) -> dict[str, Any]:
    """The outcome on stdout, which is all that is there, and as its schema says."""
    assert done.stdout.count("\n") == 1, (done.stdout, done.stderr)
    document: dict[str, Any] = json.loads(done.stdout)
    jsonschema_rs.Draft202012Validator(SCHEMA).validate(document)
    return document


def said(done: Completed, code: int) -> str:
    """What was said of a call that failed; nothing of it is on stdout."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "error: " in done.stderr
    assert "panicked" not in done.stderr and "<exuvia" not in done.stderr
    return done.stderr


# === the same bundle format ===


def test_a_bundle_of_theirs_gives_its_result_and_keeps_what_it_prints_apart(
    exuvia: Exuvia, tmp_path: Path
) -> None:
    packed = tmp_path / "numpy_bundle.zip"
    assert exuvia("bundle", "pack", BUNDLES / "numpy_mean", packed).returncode == 0
    done = exuvia("run", packed)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        '{"sum":15,"mean":3.0}\n',
        "5 numbers\n",
    )
    told = outcome(exuvia("run", packed, "--json"))
    assert (told["status"], told["result"]) == ("ok", {"sum": 15, "mean": 3.0})
    assert (told["stdout"], told["stderr"]) == ("5 numbers\n", "")


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        ({"schemaVersion": "1.0", "entrypoint": "main:handler", "extra": 1}, "/extra"),
        ({"schemaVersion": "2.0", "entrypoint": "main:handler"}, "/schemaVersion"),
        ({"schemaVersion": "1.0", "entrypoint": "main"}, "/entrypoint"),
        (
            {
                "schemaVersion": "1.0",
                "entrypoint": "main:handler",
                "runtime": {"language": "javascript"},
                "packages": ["numpy"],
            },
            "/packages",
        ),
    ],
    ids=["extra", "version", "entrypoint", "javascript"],
)
def test_a_wrong_manifest_is_told_by_the_field(
    exuvia: Exuvia, write: Write, manifest: Any, field: str
) -> None:
    path = zipped(bundle(write, "b", "def handler(): return 1", manifest, theirs=True))
    for command in (["run"], ["bundle", "check"], ["policy", "explain"]):
        text = said(exuvia(*command, path), 4)
        assert f"{field}: " in text, text
    told = json.loads(exuvia("bundle", "check", path, "--json").stdout)
    assert field in [fault["pointer"] for fault in told["faults"]]


def test_all_faults_of_a_manifest_are_told_at_once(exuvia: Exuvia, write: Write) -> None:
    manifest = {"schema": "exuvia.bundle/1", "entrypont": "x", "limits": {"memory": "12 potatoes"}}
    path = bundle(write, "b", "", manifest)
    text = said(exuvia("bundle", "check", path), 4)
    assert "exuvia.bundle.json has 2 faults" in text
    assert "Did you mean `entrypoint`?" in text and "/limits/memory" in text


# === a real model ===


def test_a_model_on_irises(exuvia: Exuvia) -> None:
    told = outcome(exuvia("run", BUNDLES / "iris", "--json"))
    assert told["result"]["accuracy"] == pytest.approx(0.973333, abs=1e-6)
    assert (told["usage"]["file_bytes"], told["usage"]["files"]) == (0, [])


def test_a_model_on_tumours(exuvia: Exuvia, write: Write) -> None:
    code = """
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

def handler():
    x, y = load_breast_cancer(return_X_y=True)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y).score(x, y)
"""
    path = bundle(write, "b", code, {"schema": "exuvia.bundle/1", "packages": ["scikit-learn"]})
    done = exuvia("run", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(0.987698, abs=1e-6)


# === memory ===


def test_memory_runs_out_during_the_call(
    exuvia_bin: Path, project_python: Path, write: Write
) -> None:
    code = write("hog.py", "def handler():\n    b = []\n    while True: b.append(b'x' * 10**7)")
    command = [str(exuvia_bin), "run", str(code), "--python", str(project_python)]
    command += ["--memory", "128MiB", "--json"]
    peak = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as host:
        while host.poll() is None:
            peak = max(peak, resident(host.pid))
            time.sleep(0.01)
        assert host.stdout and host.stderr
        done = Completed(command, host.returncode, host.stdout.read(), host.stderr.read())
    told = outcome(done)
    assert done.returncode == 8
    assert (told["failure"]["kind"], told["failure"]["resource"]) == ("limit", "memory")
    assert told["failure"]["limit"] == 128 << 20
    assert 120e6 < told["usage"]["peak_memory"] < 200e6
    assert 0 < peak < 200e6, "the host holds nothing of it"


def resident(pid: int) -> int:
    """The most resident memory a process had, in bytes; 0 where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0")
    return int(line.split()[1]) * 1024


# === files ===

FILES = """
import os, pathlib
HERE = pathlib.Path("/session")
SIZE = 600 << 10

def attempt(do):
    try:
        do()
    except OSError as error:
        return type(error).__name__
    return "done"

def handler(last: bool = False):
    seen = os.listdir(HERE)
    (HERE / "a").write_bytes(bytes(SIZE))
    (HERE / "a").unlink()
    (HERE / "b").write_bytes(bytes(SIZE))
    if last:
        (HERE / "c").write_bytes(bytes(SIZE))
    os.symlink("/app/main.py", HERE / "link")
    return {
        "seen": seen,
        "third": attempt(lambda: (HERE / "c").write_bytes(bytes(SIZE))),
        "above": attempt(lambda: open("../../etc/passwd", "w")),
        "link": attempt(lambda: open(HERE / "link", "a")),
        "app": attempt(lambda: open("/app/main.py", "w")),
        "secret": attempt(lambda: open("../../etc/shadow")),
    }
"""

FILES_MANIFEST = {
    "schemaVersion": "1.0",
    "entrypoint": "main:handler",
    "resources": {"filesystem": {"mode": "readWrite", "quotaBytes": 1 << 20}},
}


def test_files_are_limited_by_what_is_there_and_nothing_else_is_written(
    exuvia: Exuvia, write: Write
) -> None:
    path = zipped(bundle(write, "b", FILES, FILES_MANIFEST, theirs=True))
    for _ in range(2):
        done = exuvia("run", path, "--json")
        told = outcome(done)
        result = told["result"]
        assert result.pop("seen") == [], "nothing is left of the call before"
        assert set(result.values()) <= {"OSError", "PermissionError", "FileNotFoundError"}, result
        refused = {denial["path"] for denial in told["usage"]["denials"]}
        assert {"../../etc/passwd", "/app/main.py", "/session/link"} <= refused
        assert "b" in [Path(file["path"]).name for file in told["usage"]["files"]]
        assert told["usage"]["file_bytes"] >= 600 << 10


def test_files_over_the_quota_end_a_call_that_does_not_catch_it(
    exuvia: Exuvia, write: Write
) -> None:
    path = bundle(write, "b", FILES, FILES_MANIFEST, theirs=True)
    text = said(exuvia("run", path, "--arg", "last=true"), 8)
    assert "room for files" in text
    assert "the bundle itself asks for no more `files.quota`" in text


def test_who_may_only_read_is_refused_to_write(exuvia: Exuvia, write: Write) -> None:
    code = write("w.py", "def handler():\n    open('/session/a', 'w').write('x')")
    done = exuvia("run", code)
    text = said(done, 9)
    assert "denied: " in text and "/session/a" in text
    assert "hint: --files read-write lets it write to /session" in text
    done = exuvia("run", code, "--files", "read-write")
    assert (done.returncode, done.stdout) == (0, "null\n"), done.stderr


# === code and arguments ===


def test_source_code_is_called_or_is_the_result(exuvia: Exuvia, write: Write) -> None:
    assert exuvia("run", "-", stdin="x = 6\nx * 7").stdout == "42\n"
    code = write("f.py", "def handler(a, b: int = 2): return [a, b]\ndef other(): return 'other'")
    one = write("one.json", "[1, 2]")
    named = write("named.json", '{"a": 1, "b": 5}')
    assert exuvia("run", code, "--input", one).stdout == "[[1,2],2]\n"
    assert exuvia("run", code, "--input", named).stdout == "[1,5]\n"
    assert exuvia("run", code, "--arg", "a=x", "--arg", "b=3").stdout == '["x",3]\n'
    assert exuvia("run", code, "--input", "-", stdin='{"a": null}').stdout == "[null,2]\n"
    assert exuvia("run", code, "--entrypoint", "other").stdout == '"other"\n'
    text = said(exuvia("run", code, "--arg", "a=1", "--arg", "b=x"), 4)
    assert "the input does not fit" in text and "b: " in text
    for flags, exit_code, kind in ([], 4, "input"), (["--entrypoint", "nope"], 3, "load"):
        done = exuvia("run", code, *flags, "--json")
        assert (done.returncode, outcome(done)["failure"]["kind"]) == (exit_code, kind)
    assert "stdin cannot be both" in said(exuvia("run", "-", "--input", "-"), 2)


def test_a_result_goes_to_a_file_in_the_format_of_its_ending(
    exuvia: Exuvia, write: Write, tmp_path: Path
) -> None:
    code = write("t.py", "import pandas\ndef handler(): return pandas.DataFrame({'a': [1, 2]})")
    done = exuvia("run", code, "--out", "t.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert outcome(done)["status"] == "ok"
    assert (tmp_path / "t.csv").read_text() == "a\n1\n2\n"


def test_a_table_goes_in_by_its_ending(exuvia: Exuvia, write: Write) -> None:
    write("t.csv", "a,b\n1,2\n3,4\n")
    code = write("t.py", "import pandas\ndef handler(t: pandas.DataFrame): return int(t.b.sum())")
    assert exuvia("run", code, "--input", "t.csv").stdout == "6\n"


# === ends ===


@pytest.mark.parametrize(
    ("code", "flags", "exit_code", "kind", "words"),
    [
        ("raise KeyError('x')", [], 1, "exception", "there is no entry 'x' (KeyError)"),
        ("import time; time.sleep(60)", ["--wall", "300ms"], 5, "timeout", "more with --wall"),
        ("while True: pass", ["--cpu", "200ms"], 8, "limit", "allow more with --cpu"),
        ("print('x' * 10**6)", ["--output-limit", "1KiB"], 8, "limit", "--output-limit"),
        ("'x' * 10**4", ["--result-limit", "1KiB"], 8, "limit", "--result-limit"),
        ("import socket; socket.socket()", [], 9, "denied", "denied: socket"),
        ("import os; os._exit(3)", [], 6, "exited", "ended its Python process with status 3"),
        ("import os; os.abort()", [], 6, "crash", "crashed its Python process (SIGABRT)"),
        ("import no_such_module", [], 1, "exception", "no_such_module"),
        ("lambda: 1", [], 1, "result", "cannot be written"),
    ],
    ids=["raise", "wall", "cpu", "output", "result", "denied", "exit", "abort", "import", "value"],
)
def test_each_end_has_its_code_and_its_words(
    exuvia: Exuvia, code: str, flags: list[str], exit_code: int, kind: str, words: str
) -> None:
    text = said(exuvia("run", "-", *flags, stdin=code), exit_code)
    assert words in text
    assert "used: wall " in text
    done = exuvia("run", "-", "--json", *flags, stdin=code)
    told = outcome(done)
    assert (done.returncode, told["failure"]["kind"]) == (exit_code, kind)


def test_a_failure_shows_where_it_was(exuvia: Exuvia, write: Write) -> None:
    write("f.py", "def inner(): return 1 / 0\ndef handler():\n    return inner()")
    text = said(exuvia("run", "f.py"), 1)
    assert text.startswith("error: f.py failed: division by zero (ZeroDivisionError)\n"), text
    assert "where: main.py:1 in inner" in text
    assert "Traceback (most recent call last):" in text
    assert "return inner()" in text


def test_what_was_refused_is_told_though_the_code_caught_it(exuvia: Exuvia) -> None:
    code = """
import socket
for _ in range(3):
    try:
        socket.socket()
    except OSError:
        pass
'fine'
"""
    done = exuvia("run", "-", stdin=code)
    assert (done.returncode, done.stdout) == (0, '"fine"\n')
    assert done.stderr == "warning: denied: socket (3 times)\n"


def test_what_code_prints_is_there_before_it_ends(
    exuvia_bin: Path, project_python: Path, write: Write
) -> None:
    code = write("p.py", "import time\nprint('begun', flush=True)\ntime.sleep(60)")
    command = [str(exuvia_bin), "run", str(code), "--python", str(project_python)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as host:
        assert host.stderr
        assert host.stderr.readline() == "begun\n"
        assert host.poll() is None
        host.terminate()
        assert host.wait(10) == 143


def test_a_reader_that_does_not_read_keeps_no_code_running(
    exuvia_bin: Path, project_python: Path, write: Write
) -> None:
    # More than a pipe holds, and less than the code may print.
    code = write("p.py", "print('x' * 500_000, flush=True)\nwhile True: pass")
    command = [str(exuvia_bin), "run", str(code), "--python", str(project_python)]
    with subprocess.Popen([*command, "--wall", "1s"], stderr=subprocess.PIPE) as host:
        wait_until("its processes to start", lambda: len(descendants(host.pid)) > 1, 10)
        wait_until("its processes to end", lambda: not descendants(host.pid), 20)
        assert host.stderr
        text = host.stderr.read()
        assert (host.wait(10), text.count(b"x") >= 500_000) == (5, True)
        assert b"longer than its limit of 1s" in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once_and_leaves_nothing(
    exuvia_bin: Path, project_python: Path, write: Write, tmp_path: Path, number: int, code: int
) -> None:
    folder = bundle(
        write,
        "b",
        "import time\ndef handler():\n    print('begun', flush=True)\n    time.sleep(60)",
        {"schema": "exuvia.bundle/1"},
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    host = subprocess.Popen(
        [exuvia_bin, "run", folder, "--python", project_python],
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    assert host.stderr
    assert host.stderr.readline() == b"begun\n"
    began = time.monotonic()
    os.killpg(host.pid, number)
    assert host.wait(10) == code
    assert time.monotonic() - began < 10
    host.stderr.close()
    wait_until("its processes to end", lambda: not in_session(host.pid), 5)
    assert list(temporary.iterdir()) == []


# === who may be believed ===


def test_a_bundle_cannot_choose_the_python_of_the_host(exuvia: Exuvia, write: Write) -> None:
    folder = bundle(write, "b", "def handler(): return 1", {"schema": "exuvia.bundle/1"})
    evil = write("b/.venv/bin/python", f"#!/bin/sh\ntouch {folder.parent}/taken\nexit 1\n")
    evil.chmod(0o755)
    write("b/exuvia.toml", 'python = ".venv"\n')
    none = {"EXUVIA_PYTHON": ""}
    text = said(exuvia("run", ".", cwd=folder, env=none), 2)
    assert "--python .venv if it is yours" in text
    assert exuvia("run", ".", cwd=folder).stdout == "1\n"
    exuvia("run", folder, env=none)
    assert not (folder.parent / "taken").exists()


def test_what_code_says_cannot_steer_a_terminal(exuvia: Exuvia) -> None:
    text = said(exuvia("run", "-", stdin="raise ValueError('a\\x1b[2Jb')"), 1)
    assert "\x1b" not in text and "a\\u{1b}[2Jb" in text


def test_files_are_shown_where_the_operator_says_so(exuvia: Exuvia, write: Write) -> None:
    path = write("data/x.txt", "shown")
    path.chmod(0o644)
    code = write("r.py", f"def handler(): return open({str(path)!r}).read()")
    assert "FileNotFoundError" in said(exuvia("run", code), 1)
    assert exuvia("run", code, "--view", "data").stdout == '"shown"\n'
    assert "--view: nowhere cannot be shown" in said(exuvia("run", code, "--view", "nowhere"), 2)
    assert "--view: / cannot be shown" in said(exuvia("run", code, "--view", "/"), 2)


# === packages, limits, the machine ===


def test_a_missing_package_is_named_with_the_command(exuvia: Exuvia, write: Write) -> None:
    manifest = {"schema": "exuvia.bundle/1", "packages": ["numpy<1", "no-such-package"]}
    path = bundle(write, "b", "def handler(): return 1", manifest)
    for command in (["run"], ["bundle", "check"]):
        done = exuvia(*command, path)
        assert done.returncode == 7
        assert "needs packages that the environment does not have: numpy<1 (" in done.stderr
        assert "-m pip install 'numpy<1' no-such-package" in done.stderr
    done = exuvia("bundle", "check", path, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (7, False)
    assert [missing["package"] for missing in told["missing"]] == ["numpy<1", "no-such-package"]


def test_a_bundle_gets_the_smaller_of_what_it_asks_for_and_what_there_is(
    exuvia: Exuvia, write: Write
) -> None:
    manifest = {"schema": "exuvia.bundle/1", "limits": {"cpu": "5s", "memory": "2GiB"}}
    path = bundle(write, "b", "def handler(): return 1", manifest)
    text = exuvia("policy", "explain", path, "--wall", "9s").stdout
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    assert rows["cpu"] == ["5s", "bundle", "5s"]
    assert rows["memory"] == ["512MiB", "host", "2GiB"]
    assert rows["wall"] == ["9s", "host"]
    assert "note: the bundle asks for `memory` 2GiB; the host allows 512MiB" in text
    told = json.loads(exuvia("policy", "explain", path, "--json").stdout)
    assert told["limits"]["memory"]["value"] == 512 << 20
    used = outcome(exuvia("run", path, "--wall", "9s", "--json"))["usage"]["policy"]
    assert (used["wall_ms"], used["cpu_ms"], used["memory"]) == (9000, 5000, 512 << 20)


def test_limits_may_stand_in_the_project_file(exuvia: Exuvia, write: Write) -> None:
    write("exuvia.toml", 'wall = "300ms"\n')
    text = said(exuvia("run", "-", stdin="import time; time.sleep(60)"), 5)
    assert "longer than its limit of 300ms" in text


def test_a_packed_folder_is_the_same_bundle_and_always_the_same_bytes(
    exuvia: Exuvia, write: Write, tmp_path: Path
) -> None:
    folder = bundle(write, "b", "def handler(): return 1", {"schema": "exuvia.bundle/1"})
    write("b/zeros.bin", bytes(3 << 20))
    for name in ("one.zip", "two.zip"):
        done = exuvia("bundle", "pack", folder, name)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    prints = {
        json.loads(exuvia("bundle", "check", path, "--json").stdout)["fingerprint"]
        for path in (folder, "one.zip")
    }
    assert prints == {done.stdout.split()[0]}
    assert exuvia("run", "one.zip").stdout == "1\n"


def test_the_doctor_says_what_there_is(exuvia: Exuvia) -> None:
    done = exuvia("doctor")
    told = json.loads(exuvia("doctor", "--json").stdout)
    assert done.returncode == (0 if told["tier"] != "none" else 7)
    assert done.stdout.startswith(f"tier: {told['tier']}\n")
    names = [layer["name"] for layer in told["layers"]]
    assert {"seccomp", "Landlock", "user namespace"} <= set(names)
    for name in names:
        assert f"  {name} " in done.stdout
    assert all(layer["up"] for layer in told["layers"]) == (told["lost"] == [])


def test_what_is_not_there_is_said(exuvia: Exuvia, tmp_path: Path) -> None:
    assert "there is no bundle nowhere.zip" in said(exuvia("run", "nowhere.zip"), 3)
    assert "there is no file nowhere.py" in said(exuvia("run", "nowhere.py"), 3)
    done = exuvia("run", "nowhere.py", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ok"], told["failure"]) == (3, False, None)
    (tmp_path / "x.zip").write_bytes(b"no zip")
    said(exuvia("bundle", "check", "x.zip"), 4)
