"""The doors: what `make` does before the program runs, and the example behind `make run`."""

import csv
import http.client
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import Call, Serve
from processes import ROOT, alive, serving

SCRIPTS = ROOT / "scripts"
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
WEATHER = ROOT / "examples/weather/weather.py"

# === a machine made of fakes ===


class Machine:
    """A home folder and a PATH of our own, with interpreters that behave as they are told."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / "home"
        self.path = root / "bin"
        self.home.mkdir()
        self.path.mkdir()
        # What the scripts themselves use, and nothing else of this machine.
        self.tools = root / "tools"
        self.tools.mkdir()
        for tool in ["sh", "cat", "grep", "head", "tr", "sed", "dirname", "timeout"]:
            real = shutil.which(tool)
            assert real is not None, tool
            (self.tools / tool).symlink_to(real)

    def program(self, place: str, body: str) -> Path:
        """An executable shell script at ``place``, below the root."""
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def python(
        self,
        place: str,
        version: tuple[int, int, int],
        *,
        level: str = "final",
        name: str = "cpython",
        gil: bool = True,
        lacks: str = "",
    ) -> Path:
        """A real interpreter that takes itself for another."""
        prelude = "; ".join(
            [
                "import sys",
                f"sys.version_info = {(*version, level, 0)}",
                f"sys.implementation.name = {name!r}",
                f"sys._is_gil_enabled = lambda: {gil}",
                f"sys._base_executable = {str(self.root / place)!r}",
                f"sys.modules.update(dict.fromkeys({lacks.split()!r}))",
            ]
        )
        # The third argument is the program that follows -ES -c.
        return self.program(place, f'exec {sys.executable} -ES -c "{prelude}\n$3"')

    def find(self, **env: str) -> subprocess.CompletedProcess[str]:
        """Run scripts/find-python on this machine."""
        given = {
            "HOME": str(self.home),
            "PATH": f"{self.path}:{self.tools}",
            "FIND_PYTHON_NO_SYSTEM": "1",
            "FIND_PYTHON_TIMEOUT": "5",
        }
        return subprocess.run(
            [SCRIPTS / "find-python"],
            env={**given, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# === find-python ===


def test_the_newest_wins_and_is_named(machine: Machine) -> None:
    machine.python("bin/python3", (3, 11, 9))
    newest = machine.python("bin/python3.13", (3, 13, 2))
    machine.python("bin/python", (3, 12, 7))
    found = machine.find()
    assert found.stdout == f"{newest}\n"
    assert found.stderr == f"python: 3.13.2 ({newest})\n"


def test_3_9_is_not_newer_than_3_11(machine: Machine) -> None:
    machine.python("bin/python3.9", (3, 9, 18))
    wanted = machine.python("bin/python3.11", (3, 11, 0))
    assert machine.find().stdout == f"{wanted}\n"


@pytest.mark.parametrize(
    "place",
    [
        "home/.pyenv/versions/3.13.0/bin/python3.13",
        "home/.local/share/uv/python/cpython-3.13.0-linux-x86_64-gnu/bin/python3.13",
        "home/.local/share/mise/installs/python/3.13/bin/python3",
        "home/.asdf/installs/python/3.13.0/bin/python3",
        "home/miniforge3/bin/python3.13",
        "home/miniconda3/envs/work/bin/python",
    ],
)
def test_managers_folders_are_searched(machine: Machine, place: str) -> None:
    machine.python("bin/python3", (3, 11, 2))
    wanted = machine.python(place, (3, 13, 0))
    assert machine.find().stdout == f"{wanted}\n"


def test_the_root_of_pyenv_may_be_elsewhere(machine: Machine) -> None:
    wanted = machine.python("else where/versions/3.12.1/bin/python3", (3, 12, 1))
    assert machine.find(PYENV_ROOT=str(machine.root / "else where")).stdout == f"{wanted}\n"


def test_a_shim_that_does_not_execute_is_passed_over(machine: Machine) -> None:
    machine.program("bin/python3.14", "echo 'pyenv: python3.14: command not found' >&2; exit 127")
    wanted = machine.python("bin/python3", (3, 12, 0))
    assert machine.find().stdout == f"{wanted}\n"


def test_one_that_hangs_is_passed_over(machine: Machine) -> None:
    machine.program("bin/python3.14", "while :; do :; done")
    wanted = machine.python("bin/python3", (3, 12, 0))
    assert machine.find(FIND_PYTHON_TIMEOUT="1").stdout == f"{wanted}\n"


def test_one_that_chatters_is_understood(machine: Machine) -> None:
    real = machine.python("bin/real", (3, 12, 0))
    machine.program("bin/python3", f'echo "activating tools"; exec {real} "$@"')
    assert machine.find().stdout == f"{real}\n"


def test_what_cannot_serve_is_passed_over_with_a_note(machine: Machine) -> None:
    machine.python("bin/python3.15", (3, 15, 0), level="beta")
    machine.python("bin/python3.14", (3, 14, 1), gil=False)
    machine.python("bin/python3.13", (3, 13, 1), lacks="ensurepip")
    machine.python("bin/python3.12", (3, 12, 1), name="pypy")
    wanted = machine.python("bin/python3.11", (3, 11, 1))
    found = machine.find()
    assert found.stdout == f"{wanted}\n"
    assert "(3.15.0): it is a pre-release" in found.stderr
    assert "(3.14.1): it is free-threaded" in found.stderr
    assert "(3.13.1): it cannot make virtual environments" in found.stderr
    assert "python3-venv" in found.stderr


def test_nothing_found_says_what_was_looked_at(machine: Machine) -> None:
    machine.python("bin/python3", (3, 10, 12))
    machine.program("bin/python3.12", "exit 127")
    found = machine.find()
    assert found.returncode == 1
    assert found.stdout == ""
    assert "no CPython 3.11 or newer" in found.stderr
    assert "bin/python3 (3.10.12): Exuvia needs 3.11 or newer" in found.stderr
    assert "bin/python3.12: it does not execute" in found.stderr
    assert "make PYTHON=" in found.stderr


def test_an_empty_machine(machine: Machine) -> None:
    found = machine.find()
    assert found.returncode == 1
    assert "There is no python3 on PATH" in found.stderr


def test_python_overrides(machine: Machine) -> None:
    machine.python("bin/python3.13", (3, 13, 0))
    older = machine.python("bin/python3.11", (3, 11, 4))
    assert machine.find(PYTHON="python3.11").stdout == f"{older}\n"
    assert machine.find(PYTHON=str(older)).stdout == f"{older}\n"


def test_python_may_name_a_pre_release(machine: Machine) -> None:
    wanted = machine.python("odd/python3", (3, 15, 0), level="candidate")
    assert machine.find(PYTHON=str(wanted)).stdout == f"{wanted}\n"


def test_an_override_that_will_not_do_is_an_error(machine: Machine) -> None:
    machine.python("bin/python3.13", (3, 13, 0))
    machine.python("bin/old", (3, 10, 1))
    machine.python("bin/free", (3, 14, 1), gil=False)
    machine.program("bin/shim", "exit 127")
    machine.program("bin/hangs", "while :; do :; done")
    for python, words in [
        ("old", "PYTHON=old is 3.10.1: Exuvia needs 3.11 or newer"),
        ("free", "PYTHON=free is 3.14.1: it is free-threaded"),
        ("shim", "PYTHON=shim: it does not execute"),
        ("hangs", "PYTHON=hangs: it did not answer within 1 s"),
        ("absent", "PYTHON=absent: there is no such program"),
    ]:
        found = machine.find(PYTHON=python, FIND_PYTHON_TIMEOUT="1")
        assert found.returncode == 1, python
        assert found.stdout == "", python
        assert words in found.stderr


# === .venv ===


def make_venv(folder: Path, requirements: Path, **env: str) -> str:
    """Run scripts/venv; give what it said."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    done = subprocess.run(
        [SCRIPTS / "venv", folder, requirements],
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_venv_is_made_kept_and_mended(tmp_path: Path) -> None:
    folder = tmp_path / "a venv"
    requirements = tmp_path / "none.txt"
    requirements.write_text("# nothing\n")

    first = make_venv(folder, requirements, PYTHON=sys.executable)
    assert "making" in first
    assert (folder / "bin/python").exists()

    # Neither a second time nor the same Python by name makes anything again.
    assert make_venv(folder, requirements) == ""
    assert "making" not in make_venv(folder, requirements, PYTHON=sys.executable)

    # Other requirements are installed into it.
    requirements.write_text("# still nothing\n")
    assert "making" not in (said := make_venv(folder, requirements))
    assert "installing" in said

    # An interpreter that went away, as after an upgrade.
    (folder / "bin/python").unlink()
    assert "is broken" in make_venv(folder, requirements, PYTHON=sys.executable)
    assert make_venv(folder, requirements) == ""


# === the other scripts ===


def test_requirements_are_exact_and_agree() -> None:
    pinned: dict[str, str] = {}
    for path in REQUIREMENTS:
        for line in path.read_text().splitlines():
            if not line or line.startswith(("#", "-r ")):
                continue
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9.]+)( ; python_version .*)?", line)
            assert match, f"{path.name}: {line!r} is not an exact version"
            name = (match[1].lower().replace("_", "-") + (match[3] or "")).strip()
            assert pinned.setdefault(name, match[2]) == match[2], f"{path.name}: {line}"
    assert "pandas" in pinned


def test_release_flags_hide_folders_and_keep_the_callers() -> None:
    show = [str(SCRIPTS / "release-flags"), "sh", "-c", 'printf %s "$CARGO_ENCODED_RUSTFLAGS"']
    env = {"PATH": os.environ["PATH"], "HOME": "/home/some one", "RUSTFLAGS": "-C opt-level=2"}
    flags = subprocess.run(show, env=env, capture_output=True, text=True, check=True).stdout
    parts = flags.split("\x1f")
    assert parts[:2] == ["-C", "opt-level=2"]
    assert "--remap-path-prefix=/home/some one=/home" in parts
    assert "--remap-path-prefix=/home/some one/.cargo/registry/src=/cargo" in parts


def test_no_rust_is_said_clearly(machine: Machine) -> None:
    done = subprocess.run(
        [SCRIPTS / "build", "program"],
        env={"HOME": str(machine.home), "PATH": str(machine.tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "cargo was not found" in done.stderr
    assert "https://rustup.rs" in done.stderr


def test_an_old_rust_is_said_clearly(machine: Machine) -> None:
    machine.program("bin/cargo", "echo 'cargo 1.79.0 (abc 2024-06-13)'")
    done = subprocess.run(
        [SCRIPTS / "build", "program"],
        env={"HOME": str(machine.home), "PATH": f"{machine.path}:{machine.tools}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "or newer is needed, this is 1.79" in done.stderr


def test_help_names_every_door() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for door in ["help", "run", "test", "build", "bench", "lint", "fmt", "clean"]:
        assert f"make {door}\t" in done.stdout


def test_scripts_are_executable_and_parse() -> None:
    scripts = [p for p in SCRIPTS.iterdir() if p.is_file()]
    for script in scripts:
        assert os.access(script, os.X_OK) == (script.suffix != ".sh"), script.name
        subprocess.run(["sh", "-n", script], check=True)
    assert os.access(ROOT / ".ci/run", os.X_OK)


# === the helpers, which must notice what is left behind ===


def test_a_process_left_behind_is_noticed(tmp_path: Path) -> None:
    program = tmp_path / "server.sh"
    # Ends when asked, and leaves a child that does not.
    program.write_text(
        "sh -c 'trap \"\" TERM; echo child $$ >&2; while :; do sleep 0.1; done' &\n"
        "trap 'exit 0' TERM\n"
        "sleep 0.3; echo 'listening on http://127.0.0.1:9' >&2\n"
        "while :; do sleep 0.1; done\n"
    )
    server = serving(["sh", str(program)])
    it = server.__enter__()
    assert it.port == 9
    child = int(re.findall(r"child (\d+)", it.log())[0])
    assert child in it.children()
    with pytest.raises(AssertionError, match="still running"):
        server.__exit__(None, None, None)
    assert not alive(child)


# === the example ===


def check_spread(rows: list[dict[str, object]]) -> None:
    """The oracle of seattle_temps."""
    spreads = {str(row["date"]): float(str(row["spread"])) for row in rows}
    assert len(rows) == len(spreads) == 365
    assert sum(spreads.values()) == pytest.approx(4096.4, abs=1e-6)
    widest = max(spreads, key=lambda date: spreads[date])
    assert widest == "2010-07-28"
    assert spreads[widest] == pytest.approx(18.6, abs=1e-6)


@pytest.fixture(scope="session")
def temps(tmp_path_factory: pytest.TempPathFactory, project_python: Path) -> Path:
    """The rows of seattle_temps as the example's own script writes them."""
    path = tmp_path_factory.mktemp("weather") / "seattle.json"
    script = WEATHER.with_name("rows.py")
    subprocess.run([project_python, script, path], check=True, timeout=60)
    return path


def test_the_rows_are_the_data_set(temps: Path) -> None:
    rows = json.loads(temps.read_text())
    assert len(rows) == 8759
    assert rows[0] == {"date": "2010-01-01T00:00:00", "temp": 39.4}


def test_the_example_needs_no_server(project_python: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    code = f"import weather; weather.seattle().to_csv({str(out)!r}, index=False)"
    subprocess.run([project_python, "-c", code], cwd=WEATHER.parent, check=True, timeout=60)
    check_spread(list(csv.DictReader(io.StringIO(out.read_text()))))


def test_the_example_by_call(call: Call, temps: Path) -> None:
    done = call(f"{WEATHER}:spread", "--in", str(temps), "--json")
    assert done.returncode == 0, done.stderr
    check_spread(json.loads(done.stdout))


def test_the_example_by_http(serve: Serve, temps: Path) -> None:
    server = serve(WEATHER.parent)
    answer = server.post("/weather/spread", raw=temps.read_bytes())
    assert answer.status == http.client.OK, answer.body
    check_spread(answer.json())
    check_spread(server.post("/weather/seattle").json())
    hottest = server.post("/weather/hottest", {"days": 1}).json()
    assert hottest == [{"date": "2010-07-28", "temp": 75.9}]
    # The script that writes the rows stands in the same folder and is no handler.
    assert server.post("/weather/rows").status == http.client.NOT_FOUND
    assert server.post("/rows/main").status == http.client.NOT_FOUND


# === what is published ===


def test_what_is_published_names_no_folder_of_the_builder(exuvia_bin: Path) -> None:
    cargo_home = os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")
    folders = [f"{ROOT}/".encode(), f"{cargo_home}/".encode()]
    contents = {exuvia_bin.name: exuvia_bin.read_bytes()}
    for wheel in (exuvia_bin.parent.parent / "wheels").glob("exuvia-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            contents |= {name: archive.read(name) for name in archive.namelist()}
    assert any("_native" in name for name in contents), "there is no wheel: run `make build` first"
    for name, content in contents.items():
        for folder in folders:
            at = content.find(folder)
            assert at < 0, f"{name}: {content[max(0, at - 40) : at + 120]!r}"
