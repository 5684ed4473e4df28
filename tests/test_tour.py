"""The tour in README.md works when pasted."""

import os
import re
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from processes import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def tour() -> list[tuple[str, str]]:
    """The fenced blocks of the tour, as (language, text)."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Five-minute tour")[2].partition("\n## ")[0]
    return [(block[1], block[2]) for block in BLOCK.finditer(section)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def as_pattern(expected: str) -> re.Pattern[str]:
    """What a line of the README stands for: three dots stand for anything."""
    parts = (re.escape(part) for part in expected.split("..."))
    return re.compile(".*".join(parts))


def test_the_tour_in_the_readme_works_when_pasted(exuvia_bin: Path, tmp_path: Path) -> None:
    blocks = tour()
    assert [kind for kind, _ in blocks].count("sh") >= 8
    script = "\n".join(text for kind, text in blocks if kind == "sh")
    script = script.replace("8000", str(free_port()))
    # The program under test is the one that was built for the tests.
    script = script.replace("$PWD/target/release", str(exuvia_bin.parent))
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environment["TMPDIR"] = str(tmp_path)
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    rest = output
    for kind, text in blocks:
        for line in text.splitlines() if kind == "text" else ():
            found = as_pattern(line).search(rest)
            assert found, f"the tour did not print\n{line}\nin what was left of\n{rest}"
            rest = rest[found.end() :]
