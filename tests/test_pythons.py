"""One binary and one runtime library serve every CPython that is on this machine."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Call

UNRULY = Path(__file__).parent / "handlers" / "unruly.py"

PROBE = (
    "import sys, sysconfig; print(sys.implementation.name, *sys.version_info[:2], "
    "sysconfig.get_config_var('Py_GIL_DISABLED') or 0)"
)


def found() -> list[Path]:
    """A CPython of each minor version there is, the one that runs the tests among them."""
    pythons = {sys.version_info[:2]: Path(sys.executable)}
    folders = [Path("/usr/bin"), Path("/usr/local/bin")]
    folders += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    folders += sorted(Path.home().glob(".local/share/uv/python/*/bin"))
    for folder in folders:
        for path in sorted(folder.glob("python3.[0-9]*")):
            minor = path.name.removeprefix("python3.")
            if minor.isdigit() and int(minor) >= 11 and (3, int(minor)) not in pythons:
                probed = subprocess.run(
                    [path, "-I", "-c", PROBE], capture_output=True, text=True, check=False
                )
                if probed.stdout.split() == ["cpython", "3", minor, "0"]:
                    pythons[3, int(minor)] = path
    return [path for _, path in sorted(pythons.items())]


@pytest.mark.parametrize("python", found(), ids=lambda path: path.name)
def test_handlers_run_crash_and_are_stopped_alike_on_every_cpython(
    call: Call, python: Path
) -> None:
    for handler in ("nap", "naps"):
        done = call(f"{UNRULY}:{handler}", "--arg", "tag=7", python=python)
        assert (done.returncode, '"tag":7' in done.stdout) == (0, True), done.stderr
    done = call(f"{UNRULY}:fails", python=python)
    assert (done.returncode, "LookupError" in done.stderr) == (1, True)
    assert "in fails" in done.stderr
    done = call(f"{UNRULY}:segfaults", python=python)
    assert (done.returncode, "SIGSEGV" in done.stderr) == (6, True)
    for handler in ("spins", "blocks_loop"):
        done = call(f"{UNRULY}:{handler}", "--timeout", "1s", python=python)
        assert (done.returncode, f"in {handler}" in done.stderr) == (5, True), done.stderr
