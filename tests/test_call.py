"""`exuvia call` as people use it: what goes in, what comes out, and what is said when it does not.

The target is a file or a module anywhere; the result is on stdout or in a file, all else on stderr.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Call, Completed
from oracles import WEATHER, check_spread, read_ndjson, seattle_temps, write_ndjson
from processes import in_session, wait_until

HANDLERS = Path(__file__).parent / "handlers"
KINDS = HANDLERS / "kinds.py"
UNRULY = HANDLERS / "unruly.py"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of the test's own folder."""

    def to(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return to


def result(done: Completed) -> Any:
    """The result of a call that worked, which is one line of JSON."""
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1 and done.stdout.endswith("\n")
    return json.loads(done.stdout)


def error(done: Completed, code: int) -> str:
    """What was said of a call that failed; nothing of it is on stdout."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    # Nothing of our own inside is shown to anyone.
    assert "<exuvia" not in done.stderr and "panicked" not in done.stderr
    return done.stderr


# === the oracle ===


@pytest.mark.parametrize("copied", [False, True], ids=["example", "copy"])
@pytest.mark.parametrize("form", ["json", "ndjson", "jsonl"])
def test_the_weather(call: Call, tmp_path: Path, form: str, copied: bool) -> None:
    target = WEATHER
    if copied:
        target = tmp_path / "forecast.py"
        target.write_bytes(WEATHER.read_bytes())
    rows = seattle_temps()
    given = tmp_path / f"in.{form}"
    if form == "json":
        given.write_text(json.dumps(rows))
    else:
        write_ndjson(given, rows)
    made = tmp_path / f"out.{form}"
    done = call(f"{target}:spread", "--in", str(given), "--out", str(made), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    text = made.read_text()
    check_spread(json.loads(text) if form == "json" else read_ndjson(text))


def test_the_weather_through_pipes(call: Call, tmp_path: Path) -> None:
    text = "".join(f"{json.dumps(row)}\n" for row in seattle_temps())
    formats = ["--in-format", "ndjson", "--out-format", "ndjson"]
    target = f"{WEATHER}:spread"
    done = call(target, "--in", "-", "--out", "-", *formats, stdin=text, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check_spread(read_ndjson(done.stdout))


# === targets ===


def test_a_file_outside_the_repository_finds_its_neighbours(
    call: Call, write: Write, tmp_path: Path
) -> None:
    write("helper.py", "def double(n): return 2 * n")
    path = write("work/../main.py", "from helper import double\ndef f(n: int): return double(n)")
    assert result(call(f"{path}:f", "--arg", "n=21", cwd=tmp_path / "work")) == 42


def test_a_relative_file_starts_at_the_working_folder(
    call: Call, write: Write, tmp_path: Path
) -> None:
    write("below/it.py", "import os\ndef f(): return os.getcwd()")
    assert result(call("below/it.py:f", cwd=tmp_path)) == str(tmp_path)


def test_a_module_is_found_from_the_working_folder(
    call: Call, write: Write, tmp_path: Path
) -> None:
    write("pack/__init__.py", "")
    write("pack/deep.py", "class Tool:\n    @staticmethod\n    def run(): return 'ran'\n")
    write("flat.py", "def only(): return 1")
    assert result(call("flat:only", cwd=tmp_path)) == 1
    assert result(call("flat", cwd=tmp_path)) == 1, "there is no other function"
    assert result(call("pack.deep:Tool.run", cwd=tmp_path)) == "ran"
    assert result(call("json:dumps", "--arg", "obj=[1]", cwd=tmp_path)) == "[1]"


def test_a_file_named_like_a_module_of_python_is_the_file(call: Call, write: Write) -> None:
    path = write("json.py", "def f(): return __name__")
    assert result(call(f"{path}:f")) in ("json", "exuvia_targets.json")


def test_an_async_handler(call: Call) -> None:
    assert result(call(f"{KINDS}:later", "--arg", "n=3")) == 3


def test_what_several_functions_or_a_folder_mean_is_asked(call: Call, tmp_path: Path) -> None:
    said = error(call(KINDS), 2)
    assert "has several functions: say which" in said
    assert "adds, chatters, echoes, every" in said
    said = error(call(HANDLERS), 2)
    assert "is a folder: name one function, like" in said
    said = error(call("empty.py", cwd=tmp_path), 3)
    assert "there is no empty.py" in said


def test_a_function_that_is_not_there_is_named_with_its_neighbours(call: Call) -> None:
    said = error(call(f"{KINDS}:addz"), 3)
    assert "has no function `addz`. Did you mean `adds`? It has: adds, chatters," in said
    said = error(call(f"{KINDS}:asyncio"), 3)
    assert "`asyncio` in" in said and "is not a function but a module" in said


def test_a_file_that_is_not_there_is_named_with_the_nearest(
    call: Call, write: Write, tmp_path: Path
) -> None:
    write("weather.py", "")
    said = error(call("wether.py:f", cwd=tmp_path), 3)
    assert said == "error: there is no wether.py. Did you mean `weather.py`?\n"
    said = error(call(f"{tmp_path}/no/folder.py:f"), 3)
    assert f"there is no {tmp_path}/no/folder.py" in said


def test_a_module_that_is_not_there(call: Call, write: Write, tmp_path: Path) -> None:
    said = error(call("no_such_module:f", cwd=tmp_path), 3)
    assert said.splitlines() == [
        "error: there is no module no_such_module",
        f"hint: modules are looked for in {tmp_path} and in the environment",
    ]
    write("pack/__init__.py", "")
    assert "there is no module pack.gone" in error(call("pack.gone:f", cwd=tmp_path), 3)


def test_a_file_without_handlers(call: Call, write: Write) -> None:
    said = error(call(write("bare.py", "from math import sin\nclass C: pass")), 3)
    assert "no handlers in" in said and "bare.py" in said


# === modules that fail to import ===


@pytest.mark.parametrize("target", ["broken.py:f", "broken:f"])
def test_an_import_that_fails_shows_its_own_frame(
    call: Call, write: Write, tmp_path: Path, target: str
) -> None:
    write("broken.py", "def g():\n    return 1 / 0\n\nx = g()\ndef f(): pass\n")
    said = error(call(target, cwd=tmp_path), 3)
    name = target.partition(":")[0]
    assert said.splitlines() == [
        f"error: cannot import {name}: ZeroDivisionError: division by zero",
        "where: broken.py:2 in g",
        "hint: --traceback shows how it came to this",
    ]
    said = error(call(target, "--traceback", cwd=tmp_path), 3)
    assert said.count('File "') == said.count('broken.py", line') == 2, said
    assert "importlib" not in said


@pytest.mark.parametrize("target", ["main.py:f", "main:f"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    call: Call, write: Write, tmp_path: Path, project_python: Path, target: str
) -> None:
    write("main.py", "import os\nimport no_such_package.part\ndef f(): pass\n")
    said = error(call(target, cwd=tmp_path), 3).splitlines()
    assert said[:2] == ["error: the package no_such_package is not installed", "where: main.py:2"]
    assert said[2].startswith("python: 3.") and f"({project_python}, from --python)" in said[2]
    assert said[3] == f"hint: {project_python} -m pip install no_such_package"


def test_a_package_missing_during_the_call_is_named_too(
    call: Call, write: Write, tmp_path: Path
) -> None:
    write("main.py", "def f():\n    import sklearn_is_gone\n")
    said = error(call("main.py:f", cwd=tmp_path), 1)
    assert "main.py:2 in f" in said and "-m pip install sklearn_is_gone" in said


@pytest.mark.parametrize("target", ["typo.py:f", "typo:f"])
def test_a_syntax_error_has_its_file_and_line(
    call: Call, write: Write, tmp_path: Path, target: str
) -> None:
    write("typo.py", "def f():\n    return 1\n\ndef g(:\n    pass\n")
    said = error(call(target, cwd=tmp_path), 3)
    assert "SyntaxError: invalid syntax (typo.py:4)" in said
    assert "where: typo.py:4" in said


def test_an_import_that_ends_the_process_or_the_patience(call: Call, write: Write) -> None:
    path = write("quits.py", "import sys\nsys.exit('no')\ndef f(): pass")
    assert "SystemExit: no" in error(call(f"{path}:f"), 3)
    path = write("sleeps.py", "import time\ntime.sleep(60)\ndef f(): pass")
    began = time.monotonic()
    done = call(f"{path}:f", "--start-timeout", "500ms")
    assert done.returncode == 7 and "500ms" in done.stderr, done.stderr
    assert time.monotonic() - began < 10


# === arguments ===


@pytest.mark.parametrize(
    "given, seen",
    [
        ("i=4", "4"),
        ("i=-4", "-4"),
        ("i=123456789012345678901234567890", "123456789012345678901234567890"),
        ("f=4", "4.0"),
        ("f=4.5e3", "4500.0"),
        ("f=nan", "nan"),
        ("b=true", "True"),
        ("b=False", "False"),
        ("s=4", "'4'"),
        ("s=", "''"),
        ("s=a=b", "'a=b'"),
        ("s=null", "'null'"),
        ("s=☃ \U0001f600", "'☃ \U0001f600'"),
        ("o=7", "7"),
        ("o=null", "None"),
        ("o=None", "None"),
        ("l=[1, 2]", "[1, 2]"),
        ('d={"a": 1}', "{'a': 1}"),
        ("m=5", "5"),
        ("m=five", "'five'"),
        ("u=5", "5"),
        ("u=five", "'five'"),
        ('u={"a": [null]}', "{'a': [None]}"),
    ],
)
def test_text_is_read_by_the_annotation(call: Call, given: str, seen: str) -> None:
    assert result(call(f"{KINDS}:every", "--arg", given))[given[0]] == seen


def test_all_faults_are_told_at_once_with_the_signature(call: Call) -> None:
    wrong = ["i=4.5", "f=x", "b=yes", "o=x", "l=x", "d=[]", "ss=1"]
    arguments = [word for text in wrong for word in ("--arg", text)]
    said = error(call(f"{KINDS}:every", *arguments), 4).splitlines()
    assert said[:8] == [
        "error: the input does not fit every",
        "  i: must be an integer, not `4.5`",
        "  f: must be a number, not `x`",
        "  b: must be true or false, not `yes`",
        "  o: must be an integer or null, not `x`",
        "  l/0: must be an integer, not `x`",
        "  d: must be an object, not `[]`",
        "  ss: there is no parameter of this name. Did you mean `s`?",
    ]
    assert said[8].startswith("function: every(i: int = 0, f: float = 0.0, b: bool = False")
    assert len(said) == 9


def test_data_and_arguments_together(call: Call) -> None:
    given = ["--in", "-", "--arg", "second=2"]
    assert result(call(f"{KINDS}:adds", *given, stdin='{"first": 40}')) == 42
    said = error(call(f"{KINDS}:adds", *given, stdin='{"first": "x", "frist": true}'), 4)
    assert said.splitlines() == [
        "error: the input does not fit adds",
        "  first: must be an integer, not a string",
        "  frist: there is no parameter of this name. Did you mean `first`?",
        "function: adds(first: int, second: int) -> int",
    ]
    said = error(call(f"{KINDS}:adds"), 4)
    assert "  first: is missing\n  second: is missing\n" in said


def test_arguments_by_name_only(call: Call) -> None:
    assert result(call(f"{KINDS}:named", "--arg", "city=Oslo", "--arg", "days=2")) == "Oslo 2"


@pytest.mark.parametrize("arguments", [["--arg", "days"], ["--arg", "a=1", "--arg", "a=2"]])
def test_arguments_that_are_none(call: Call, arguments: list[str]) -> None:
    assert "error: --arg" in error(call(f"{KINDS}:named", *arguments), 2)


# === input ===


@pytest.mark.parametrize("name", ["in.json", "in.ndjson", "in.jsonl", "IN.JSON", "data.txt"])
def test_the_ending_or_the_flag_says_what_the_input_holds(
    call: Call, write: Write, name: str
) -> None:
    text = '[{"a":1},{"a":2}]' if name.lower() == "in.json" else '{"a":1}\n\n{"a":2}'
    told = ["--in-format", "ndjson"] if name == "data.txt" else []
    done = call(f"{KINDS}:rows", "--in", str(write(name, text)), *told)
    assert result(done) == [{"a": 1}, {"a": 2}]


def test_stdin_is_json_unless_said_otherwise(call: Call) -> None:
    target = f"{KINDS}:echoes"
    assert result(call(target, "--in", "-", stdin="[1, 2.5, null]")) == [1, 2.5, None]
    lines = ["--in", "-", "--in-format", "ndjson"]
    assert result(call(target, *lines, stdin="1\n2\n")) == [1, 2]
    assert result(call(f"{KINDS}:every", stdin="not read without --in"))["i"] == "0"


@pytest.mark.parametrize(
    "name, text, place",
    [
        ("in.json", '{"value": 1,\n "b": }', "line 2, column 7"),
        ("in.json", "", "line 1, column 1"),
        ("in.json", "[1, 2", "line 1, column 6"),
        ("in.json", '{"value": "é"}\n\n x', "line 3, column 2"),
        ("in.json", "[\"éé\", 'a']", "line 1, column 8"),
        ("in.json", '["\\ud800"]', "line 1, column 9"),
        ("in.ndjson", '{"a": 1}\n{"a" 2}\n', "line 2, column 6"),
        ("in.json", b'{"value": "\xff"}', "line 1, column 12"),
    ],
)
def test_malformed_json_is_placed(
    call: Call, write: Write, name: str, text: str | bytes, place: str
) -> None:
    said = error(call(f"{KINDS}:echoes", "--in", str(write(name, text))), 4)
    assert said.startswith(f"error: the input cannot be read: {place}: "), said
    assert "function: echoes(value)" in said


def test_input_that_cannot_be_had(call: Call, tmp_path: Path) -> None:
    target = f"{KINDS}:echoes"
    said = error(call(target, "--in", "gone.json", cwd=tmp_path), 4)
    assert said == "error: the input gone.json is not there\n"
    (tmp_path / "folder.json").mkdir()
    said = error(call(target, "--in", "folder.json", cwd=tmp_path), 4)
    assert "the input folder.json cannot be read" in said
    for flag in ("--in", "--out"):
        said = error(call(target, flag, "data.xlsx", cwd=tmp_path), 2)
        assert f"{flag} data.xlsx: the ending .xlsx does not name a format" in said
        assert ".json, .ndjson, .jsonl, .csv, " in said


# === output ===


def test_what_the_handler_prints_is_not_its_result(call: Call) -> None:
    done = call(f"{KINDS}:chatters")
    assert result(done) == {"answer": 42}
    assert sorted(done.stderr.splitlines()) == ["complaining", "thinking aloud"]


def test_output_without_a_line_end_and_beside_the_streams_is_passed_on(
    call: Call, write: Write
) -> None:
    body = "    import os, sys\n    os.write(1, b'raw\\n')\n    sys.stdout.write('no end')\n"
    done = call(f"{write('it.py', f'def f():{chr(10)}{body}')}:f")
    assert result(done) is None
    assert sorted(done.stderr.splitlines()) == ["no end", "raw"]


@pytest.mark.parametrize("name", ["out.json", "out.ndjson", "out.jsonl", "out.txt"])
def test_the_ending_or_the_flag_says_how_the_result_is_written(
    call: Call, tmp_path: Path, name: str
) -> None:
    told = ["--out-format", "ndjson"] if name == "out.txt" else []
    given = ["--in", "-", "--out", name, *told]
    done = call(f"{KINDS}:rows", *given, stdin='[{"a": 1}, {"b": "é"}]', cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    one_line = '[{"a":1},{"b":"é"}]\n'
    lines = '{"a":1}\n{"b":"é"}\n'
    assert (tmp_path / name).read_text() == (one_line if name == "out.json" else lines)


def test_a_result_that_is_no_list_has_no_lines(call: Call) -> None:
    said = error(call(f"{KINDS}:named", "--arg", "city=Oslo", "--out-format", "ndjson"), 1)
    assert "what named returned cannot be written" in said
    assert "one document per line is for lists and tables; this is a `str`" in said


def test_a_failed_call_leaves_the_old_file_and_nothing_beside_it(
    call: Call, tmp_path: Path
) -> None:
    old = tmp_path / "out.json"
    old.write_text("the old result\n")
    for target, code in [
        (f"{UNRULY}:fails", 1),
        (f"{UNRULY}:unwritable", 1),
        (f"{UNRULY}:segfaults", 6),
        (f"{KINDS}:adds", 4),
        (f"{KINDS}:gone", 3),
    ]:
        error(call(target, "--out", str(old)), code)
        assert old.read_text() == "the old result\n"
        assert os.listdir(tmp_path) == ["out.json"]  # noqa: PTH208


def test_a_place_that_cannot_be_written_is_said_before_the_call(call: Call, tmp_path: Path) -> None:
    done = call(f"{KINDS}:chatters", "--out", "no/such/out.json", cwd=tmp_path)
    said = error(done, 2)
    assert said == "error: no/such/out.json cannot be written: its folder is not there\n"


def test_a_reader_that_goes_away_is_no_error(exuvia_bin: Path, project_python: Path) -> None:
    command: list[str | Path] = [
        exuvia_bin,
        "call",
        f"{UNRULY}:echoes",
        "--in",
        "-",
        "--python",
        project_python,
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    # More than a pipe holds.
    process.stdin.write(json.dumps("x" * 1_000_000).encode())
    process.stdin.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(30), said) == (0, b"")


def test_a_result_that_cannot_be_written_is_an_error(
    exuvia_bin: Path, project_python: Path
) -> None:
    command: list[str | Path] = [exuvia_bin, "call", f"{KINDS}:later", "--arg", "n=1"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "--python", project_python],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: stdout cannot be written: No space left on device")


def test_what_no_format_holds_is_named(call: Call, write: Write) -> None:
    path = write("it.py", "def f():\n    return object()\n")
    assert "`object` has no place in JSON" in error(call(f"{path}:f"), 1)


# === failures ===


def test_an_exception_is_told_in_words_with_its_place(call: Call) -> None:
    said = error(call(f"{UNRULY}:fails"), 1).splitlines()
    assert said[0] == "error: fails failed: no such thing (LookupError)"
    assert said[1].startswith("where: tests/handlers/unruly.py:") and said[1].endswith(" in fails")
    assert said[2:] == ["hint: --traceback shows how it came to this"]
    said = error(call(f"{UNRULY}:fails", "--traceback"), 1).splitlines()
    assert "Traceback (most recent call last):" in said
    assert said[-1] == "LookupError: no such thing"


@pytest.mark.parametrize(
    "target, arguments, code, kind, responsible",
    [
        ("unruly.py:fails", [], 1, "exception", "guest"),
        ("unruly.py:unwritable", [], 1, "result", "guest"),
        ("unruly.py:fails", ["--json=x"], 2, None, None),
        ("unruly.py:fails", ["--arg", "x"], 2, None, None),
        ("unruly.py:gone", [], 3, "load", "guest"),
        ("gone.py:f", [], 3, None, None),
        ("kinds.py:adds", [], 4, "input", "caller"),
        ("kinds.py:echoes", ["--in", "-"], 4, "malformed", "caller"),
        ("kinds.py:echoes", ["--in", "gone.json"], 4, None, None),
        ("unruly.py:naps", ["--timeout", "300ms", "--arg", "ms=60000"], 5, "timeout", "guest"),
        ("unruly.py:spins", ["--timeout", "300ms"], 5, "timeout", "guest"),
        ("unruly.py:segfaults", [], 6, "crash", "guest"),
        ("unruly.py:exits", [], 6, "exited", "guest"),
        ("kinds.py:chatters", ["--python", "/no/such/python"], 7, None, None),
    ],
)
def test_each_failure_has_its_code_in_words_and_as_json(
    exuvia_bin: Path,
    project_python: Path,
    target: str,
    arguments: list[str],
    code: int,
    kind: str | None,
    responsible: str | None,
) -> None:
    command = [str(exuvia_bin), "call", target, *arguments]
    if "--python" not in arguments:
        command += ["--python", str(project_python)]

    def run(*more: str) -> Completed:
        return subprocess.run(
            [*command, *more],
            input="{]",
            capture_output=True,
            text=True,
            timeout=60,
            cwd=HANDLERS,
            check=False,
        )

    error(run(), code)
    if "--json=x" in arguments:
        # The command line itself was not understood.
        return
    done = run("--json")
    assert done.returncode == code, done.stderr
    body = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert (body["ok"], body["exit_code"]) == (False, code)
    assert body["message"] and not body["message"].startswith("error:")
    assert (body["failure"] or {}).get("kind") == kind
    assert body["responsible"] == responsible
    if kind not in (None, "load"):
        assert body["diagnostics"]["call_id"]
        assert body["diagnostics"]["handler"] == target.replace(".py", "")


def test_a_crash_names_the_signal_and_a_timeout_the_limit(call: Call) -> None:
    said = error(call(f"{UNRULY}:segfaults"), 6)
    assert "segfaults crashed its Python process (SIGSEGV)" in said
    assert " in segfaults" in said
    said = error(call(f"{UNRULY}:exits", "--arg", "status=9"), 6)
    assert "exits ended its Python process with status 9" in said
    said = error(call(f"{UNRULY}:spins", "--timeout", "300ms"), 5)
    assert "spins ran longer than its limit of 300ms and was stopped" in said
    assert " in spins" in said and "hint: allow more time with --timeout" in said


def test_a_missing_runtime_or_python_is_said_with_the_remedy(call: Call, tmp_path: Path) -> None:
    target = f"{KINDS}:chatters"
    said = error(call(target, env={"EXUVIA_RUNTIME": str(tmp_path / "gone.so")}), 7)
    assert "runtime library was not found" in said and f"{tmp_path}/gone.so" in said
    said = error(call(target, python=tmp_path / "bin/python"), 7)
    assert f"there is no Python at {tmp_path}/bin/python (from --python)" in said
    text = tmp_path / "python"
    text.write_text("#!/bin/sh\necho hello\n")
    text.chmod(0o755)
    assert "does not answer as a Python does" in error(call(target, python=text), 7)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_call_at_once_and_leaves_no_process(
    exuvia_bin: Path, project_python: Path, tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "out.json"
    command: list[str | Path] = [
        exuvia_bin,
        "call",
        f"{KINDS}:waits",
        "--arg",
        "seconds=60",
        "--out",
        out,
    ]
    command += ["--python", project_python]
    log_path = tmp_path / "stderr"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    wait_until("the handler", lambda: "begun" in log_path.read_text(), 30)
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == code
    assert time.monotonic() - began < 3
    wait_until("its worker to end", lambda: not in_session(process.pid), 3)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["stderr"]


def test_a_signal_while_stdin_is_awaited(exuvia_bin: Path, project_python: Path) -> None:
    command: list[str | Path] = [
        exuvia_bin,
        "call",
        f"{KINDS}:echoes",
        "--in",
        "-",
        "--python",
        project_python,
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    assert process.stdin is not None
    process.stdin.close()
    assert in_session(process.pid) == []
