"""`exuvia serve` as people use it: what is served, how data goes in and out, how it ends."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Completed, Serve
from oracles import WEATHER, check_spread, read_ndjson, seattle_temps
from problems import problem
from processes import Answer, Server, serving, wait_until

HANDLERS = Path(__file__).parent / "handlers"
KINDS = HANDLERS / "kinds.py"
UNRULY = HANDLERS / "unruly.py"

NDJSON = "application/x-ndjson"

Attempt = Callable[..., Completed]


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    command = [str(exuvia_bin), "serve", str(KINDS), "--port", "0", "--workers", "1"]
    command += ["--python", str(project_python)]
    with serving(command) as running:
        yield running


@pytest.fixture
def attempt(exuvia_bin: Path, project_python: Path, tmp_path: Path) -> Attempt:
    """Run ``exuvia serve`` to its end, which is expected: a start that fails, or ``--list``."""

    def run(*words: str | Path, cwd: Path | None = None) -> Completed:
        command: list[str | Path] = [
            exuvia_bin,
            "serve",
            *words,
            "--python",
            project_python,
            "--port",
            "0",
        ]
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=cwd or tmp_path,
            timeout=60,
            check=False,
        )

    return run


def routes(done: Completed) -> list[str]:
    """The paths that ``--list`` prints."""
    assert done.returncode == 0, done.stderr
    return re.findall(r"^POST (\S+)", done.stdout, re.MULTILINE)


def refused(done: Completed, code: int) -> str:
    """What was said of a start that failed."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "error: " in done.stderr and "listening on" not in done.stderr
    return done.stderr


# === the oracle ===


def test_the_weather_from_the_example_and_from_elsewhere(serve: Serve, tmp_path: Path) -> None:
    copy = tmp_path / "forecast.py"
    copy.write_bytes(WEATHER.read_bytes())
    rows = seattle_temps()
    body = json.dumps(rows).encode()
    lines = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    for target, path in [(WEATHER.parent, "/weather/spread"), (copy, "/forecast/spread")]:
        server = serve(target, args=["--workers", "1"], cwd=tmp_path)
        check_spread(server.post(path, raw=body).json())
        check_spread(server.post(path, raw=lines, headers={"content-type": NDJSON}).json())
        answer = server.post(path, raw=body, headers={"accept": NDJSON})
        assert answer.headers["content-type"] == NDJSON
        check_spread(read_ndjson(answer.body))


# === what is served ===


def test_list_prints_the_routes_and_ends(attempt: Attempt) -> None:
    done = attempt(KINDS, "--list")
    assert done.returncode == 0
    assert done.stderr.startswith("python: 3.")
    line = "POST /kinds/adds      adds(first: int, second: int) -> int  # Give the sum."
    assert line in done.stdout.splitlines()
    assert done.stdout.count("\n") == len(routes(done)) == 8


def test_list_gives_the_same_as_data(attempt: Attempt) -> None:
    done = attempt(f"{KINDS}:named", "--list", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == [
        {
            "method": "POST",
            "path": "/kinds/named",
            "handler": "kinds:named",
            "signature": "named(city: str, days: int = 1) -> str",
            "doc": "Take arguments by name only.",
            "params": [
                {"name": "city", "annotation": "str", "required": True, "default": None},
                {"name": "days", "annotation": "int", "required": False, "default": "1"},
            ],
            "returns": "str",
            "kind": "sync",
            "stub": False,
        }
    ]


OWN = """
import math
from json import dumps
from collections import OrderedDict as Renamed
import functools

def annotated(x: int) -> int: return x
def bare(x): return x
async def later(): pass
@functools.wraps(bare)
def wrapped(*args): pass
bound = functools.partial(bare, 1)
def _private(): pass
class Thing: pass
value = 3
"""


def test_routes_are_a_modules_own_public_functions(attempt: Attempt, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    assert routes(attempt("own.py", "--list")) == [
        "/own/annotated",
        "/own/bare",
        "/own/later",
        "/own/wrapped",
    ]


def test_all_says_otherwise(attempt: Attempt, tmp_path: Path) -> None:
    names = ["dumps", "_private", "bound", "Thing", "value", "dumps"]
    (tmp_path / "own.py").write_text(f"{OWN}\n__all__ = {names}\n")
    assert routes(attempt("own.py", "--list")) == ["/own/dumps", "/own/_private", "/own/bound"]
    (tmp_path / "own.py").write_text(f"{OWN}\n__all__ = ['bare', 'gone']\n")
    assert "`gone` is in `__all__` of own but not in it" in refused(attempt("own.py"), 3)


def test_a_folder_serves_its_files(attempt: Attempt, tmp_path: Path) -> None:
    for name in ["b.py", "a.py", "_c.py", "test_d.py", "conftest.py", "setup.py", "e.txt"]:
        (tmp_path / name).write_text("def f(): pass")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/g.py").write_text("def f(): pass")
    for typed in [".", str(tmp_path), f"{tmp_path}/"]:
        assert routes(attempt(typed, "--list")) == ["/a/f", "/b/f"]
    assert routes(attempt("below", "a.py", "--list")) == ["/g/f", "/a/f"]


def test_modules_and_single_functions(attempt: Attempt, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/__init__.py").write_text("def top(): pass")
    (tmp_path / "pack/deep.py").write_text("def f(): pass\ndef g(): pass")
    assert routes(attempt("pack.deep", "--list")) == ["/pack.deep/f", "/pack.deep/g"]
    assert routes(attempt("pack.deep:g", "--list")) == ["/pack.deep/g"]
    assert routes(attempt("pack", "--list")) == ["/pack/top"]
    assert routes(attempt("pack/", "--list")) == ["/deep/f", "/deep/g"]
    assert routes(attempt("pack/deep.py:f", "pack:top", "--list")) == ["/deep/f", "/pack/top"]


def test_one_route_twice_is_an_error_at_start(attempt: Attempt, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for path in ["f.py", "other/f.py"]:
        (tmp_path / path).write_text("def f(): pass")
    said = refused(attempt("f.py", "other/f.py"), 2)
    assert "f.py and other/f.py have the same name, so their routes would be the same" in said
    assert routes(attempt("f.py", "f.py", "--list")) == ["/f/f"], "the same twice is no harm"
    for words in [("f.py", "f:f"), ("f.py", "f.py:f"), ("f.py", "f:f", "--list")]:
        said = refused(attempt(*words), 2)
        assert "the route /f/f is there twice: does one TARGET hold another?" in said


# === the project file ===


def test_a_project_file_names_targets_limits_and_port(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/jobs.py").write_text(
        "import os, time\ndef naps(s: float): time.sleep(s)\ndef where(): return os.getcwd()"
    )
    (tmp_path / "exuvia.toml").write_text(
        'targets = ["src/jobs.py"]\nworkers = 1\ntimeout = "20s"\n'
        '[routes."jobs/naps"]\ntimeout = "300ms"\n'
    )
    # Named from elsewhere, and found from the working folder.
    for targets, cwd in [([tmp_path], None), ([], tmp_path)]:
        server = serve(*targets, cwd=cwd)
        assert server.post("/jobs/where").json() == str(tmp_path)
        body = problem(server.post("/jobs/naps", {"s": 30}), "timeout", 504)
        assert (body["limit_ms"], body["started"]) == (300, True)
        assert server.post("/jobs/naps", {"s": 0.001}).json() is None


@pytest.mark.parametrize(
    "text, said",
    [
        ('targets = ["f.py"]\ntimeot = "3s"\n', ":2:1: there is no setting `timeot`. Did you"),
        ('targets = ["f.py"]\nport = "x"\n', ":2:8: `port` must be a whole number from 0 to 65535"),
        ('targets = ["f.py"]\ntimeout = "3 parsecs"\n', ":2:11: `timeout`: "),
        (
            'targets = ["f.py"]\n[routes."f/f"]\ntimeot = 1\n',
            ":3:1: a route has no option `timeot`",
        ),
        ('targets = ["f.py"]\n[routes."f/g"]\ntimeout = 1\n', ":2: there is no route f/g. Did you"),
        ('targets = ["f.py"\n', ":1:18: unclosed array"),
        ('targets = ["g.py"]\n', ": there is no g.py. Did you mean `f.py`?"),
        ("targets = [1]\n", ":1:12: `targets` must be"),
    ],
)
def test_a_slip_in_the_project_file_is_placed(
    attempt: Attempt, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "f.py").write_text("def f(): pass")
    (tmp_path / "exuvia.toml").write_text(text)
    code = 3 if "g.py" in text else 2
    assert f"error: exuvia.toml{said}" in refused(attempt(), code)


# === starts that fail ===


@pytest.mark.parametrize(
    "text, said",
    [
        ("def f():\n    return 1 / 0\nx = f()\n", ["ZeroDivisionError", "where: bad.py:2 in f"]),
        ("import os\nimport gone_package\n", ["gone_package is not installed", "bad.py:2"]),
        ("def f(:\n", ["SyntaxError: invalid syntax (bad.py:1)", "where: bad.py:1"]),
    ],
)
@pytest.mark.parametrize("target", ["bad.py", "bad"])
def test_a_file_that_does_not_import_ends_the_start(
    attempt: Attempt, tmp_path: Path, target: str, text: str, said: list[str]
) -> None:
    (tmp_path / "bad.py").write_text(text)
    found = refused(attempt(target), 3)
    for words in said:
        assert words in found
    assert "importlib" not in found and "<exuvia" not in found


def test_nothing_to_serve_is_said(attempt: Attempt, tmp_path: Path) -> None:
    assert "nothing to serve: name a TARGET" in refused(attempt(), 2)
    assert "holds no Python file to serve" in refused(attempt("."), 3)
    (tmp_path / "bare.py").write_text("x = 1\n")
    assert "no handlers in" in refused(attempt("bare.py"), 3)
    assert "Did you mean `bare.py`" in refused(attempt("bear.py"), 3)


def test_a_port_in_use_is_said(exuvia_bin: Path, project_python: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command: list[str | Path] = [
            exuvia_bin,
            "serve",
            KINDS,
            "--port",
            str(port),
            "--python",
            project_python,
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, timeout=30, check=False
        )
    assert done.returncode == 2
    assert f"cannot listen on port {port} of host 127.0.0.1" in done.stderr
    assert "hint: stop that program, or choose another port" in done.stderr
    assert "python:" not in done.stderr, "said before Python is started"


# === pages and signals ===


def counters(server: Server) -> dict[str, float]:
    """The metrics by name and labels."""
    lines = server.get("/metrics").body.decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_pages_and_counters(serve: Serve) -> None:
    server = serve(KINDS, UNRULY, args=["--workers", "1"])
    assert server.get("/healthz").body == b"ok\n"
    assert server.get("/readyz").status == 200
    for _ in range(3):
        assert server.post("/kinds/adds", {"first": 1, "second": 2}).json() == 3
    server.post("/kinds/adds", raw=b"{")
    server.post("/kinds/adds", {})
    server.post("/unruly/fails")
    server.post("/nowhere")
    assert server.post("/unruly/exits").status == 502
    wait_until("the worker", lambda: server.get("/readyz").status == 200)
    found = counters(server)
    for outcome, count in [("ok", 3), ("malformed", 1), ("input", 1)]:
        name = f'exuvia_calls_total{{handler="kinds:adds",outcome="{outcome}"}}'
        assert found[name] == count
    assert found['exuvia_calls_total{handler="unruly:fails",outcome="exception"}'] == 1
    assert found['exuvia_calls_total{handler="unruly:exits",outcome="exited"}'] == 1
    assert found['exuvia_http_requests_total{route="/kinds/adds",status="200"}'] == 3
    assert found['exuvia_http_requests_total{route="/kinds/adds",status="422"}'] == 1
    assert found['exuvia_http_requests_total{route="unmatched",status="404"}'] == 1
    assert found['exuvia_call_run_seconds_count{handler="kinds:adds"}'] >= 3
    restarts = [name for name in found if name.startswith("exuvia_worker_restarts_total")]
    assert sum(found[name] for name in restarts) == 1
    assert found["exuvia_queue_length"] == 0


def test_the_pages_name_what_is_there(server: Server) -> None:
    assert "/kinds/adds" in server.get("/").body.decode()
    answer = server.request("GET", "/", headers={"accept": "application/json"})
    assert "/kinds/adds" in json.dumps(answer.json())


def test_the_first_lines_name_python_address_routes_and_lines_to_paste(
    server: Server, project_python: Path
) -> None:
    lines = server.log().splitlines()
    assert re.fullmatch(rf"python: 3\.\d+\.\d+ \({project_python}, from --python\)", lines[0])
    assert re.match(r"image: \d+ ms", lines[1])
    assert lines[2] == f"listening on {server.url}"
    assert any(line.startswith("  POST /kinds/adds ") for line in lines)
    pasted = [line for line in lines if line.startswith("curl ")]
    assert len(pasted) == 3
    for line in pasted:
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "urn:exuvia:problem" not in done.stdout, (line, done)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(serve: Serve, number: int) -> None:
    server = serve(UNRULY, args=["--workers", "1", "--drain-timeout", "10s"])
    got: list[Answer] = []
    slow = threading.Thread(target=lambda: got.append(server.post("/unruly/nap", {"ms": 1500})))
    waits = threading.Thread(target=lambda: got.append(server.post("/unruly/nap", {"ms": 1})))
    slow.start()
    time.sleep(0.3)
    waits.start()
    time.sleep(0.2)
    os.kill(server.pid, number)
    wait_until("the drain", lambda: server.get("/readyz").status == 503)
    late = server.post("/unruly/nap", {"ms": 1})
    problem(late, "rejected", 503)
    assert int(late.headers["retry-after"]) >= 1
    slow.join()
    waits.join()
    assert [answer.status for answer in got] == [200, 200]
    assert server.process.wait(10) == 0
    assert server.survivors() == []


def test_what_runs_too_long_is_cut_off_and_a_second_signal_waits_for_nothing(
    serve: Serve,
) -> None:
    for signals, limit, code in [(1, "500ms", 0), (2, "30s", 143)]:
        server = serve(UNRULY, args=["--workers", "1", "--drain-timeout", limit])
        threading.Thread(target=lambda server=server: outcome(server), daemon=True).start()
        time.sleep(0.4)
        began = time.monotonic()
        for _ in range(signals):
            os.kill(server.pid, signal.SIGTERM)
            time.sleep(0.1)
        assert server.process.wait(10) == code
        assert time.monotonic() - began < 5
        assert server.survivors() == []


def outcome(server: Server) -> object:
    """Call what takes long; the end does not matter."""
    try:
        return server.post("/unruly/nap", {"ms": 60_000})
    except (OSError, http.client.HTTPException) as error:
        return error


# === environments ===


@pytest.fixture(scope="module")
def venvs(project_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Make a virtual environment; give its executable."""

    def make(folder: Path) -> Path:
        command: list[str | Path] = [project_python, "-m", "venv", "--without-pip", folder]
        subprocess.run(command, check=True, timeout=60)
        return folder / "bin/python"

    return make


PREFIX = "import sys\ndef prefix(): return sys.prefix\n"


def served_by(
    exuvia_bin: Path, target: Path, args: list[str], cwd: Path, **variables: str
) -> tuple[str, str]:
    """The line about Python, and the prefix that handlers run under."""
    command = [str(exuvia_bin), "serve", str(target), "--port", "0", "--workers", "1", *args]
    env = {"VIRTUAL_ENV": "", "EXUVIA_PYTHON": "", **variables}
    with serving(command, cwd=cwd, env=env) as server:
        return server.log().splitlines()[0], server.post("/app/prefix").json()


def test_the_environment_is_chosen_in_order_and_named(
    exuvia_bin: Path, venvs: Callable[[Path], Path], tmp_path: Path
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "work").mkdir()
    app = tmp_path / "src/app.py"
    app.write_text(PREFIX)
    places = {
        "PATH": tmp_path / "on-path",
        ".venv in the working folder": tmp_path / "work/.venv",
        ".venv beside the target": tmp_path / "src/.venv",
        "VIRTUAL_ENV": tmp_path / "active",
        "EXUVIA_PYTHON": tmp_path / "variable",
        "--python": tmp_path / "flag",
    }
    args: list[str] = []
    env: dict[str, str] = {}
    # From the last that is looked at to the first: each goes before all that were made so far.
    for origin, folder in places.items():
        python = venvs(folder)
        if origin == "PATH":
            env["PATH"] = f"{folder}/bin:{os.environ['PATH']}"
            python = folder / "bin/python3"
        elif origin == "VIRTUAL_ENV":
            env["VIRTUAL_ENV"] = str(folder)
        elif origin == "EXUVIA_PYTHON":
            env["EXUVIA_PYTHON"] = str(folder)
        elif origin == "--python":
            args = ["--python", str(folder)]
        line, prefix = served_by(exuvia_bin, app, args, tmp_path / "work", **env)
        assert re.fullmatch(
            rf"python: 3\.\d+\.\d+ \({re.escape(str(python))}, from {origin}\)", line
        )
        assert prefix == str(folder)


def test_a_chosen_environment_that_is_broken_is_never_passed_over(
    exuvia_bin: Path, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(PREFIX)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to("/no/such/python3.11")
    command: list[str | Path] = [exuvia_bin, "serve", "app.py", "--port", "0"]
    env = {**os.environ, "VIRTUAL_ENV": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60, check=False
    )
    assert done.returncode == 7
    assert "it points to /no/such/python3.11, which is not there any more" in done.stderr
    assert f"hint: make the environment again with `python3 -m venv --clear {tmp_path}/.venv`" in (
        done.stderr
    )
