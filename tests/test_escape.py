"""Attacks on the host, the image and other isolates: docs/security.md, sections 2 and 4.

Each attack is run without layers, where it succeeds or is refused by the kernel anyway; behind each
kind of layer alone; and behind all that a tier has. In the tier `full` none may get through.
`UPDATE_DOCS=1` writes the table of docs/security.md.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from escape.driver import (
    NAMESPACES,
    NOBODY,
    ORDINARY,
    Attack,
    Ground,
    Guard,
    attacks,
    guarded,
    prey,
)
from processes import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's")

DOCS = ROOT / "docs/security.md"
BEGIN, END = "<!-- attacks: made by tests/test_escape.py -->", "<!-- end of attacks -->"

ALL = ("limits", "capabilities", "landlock", "seccomp")
FULL = Ground("full", "full", (*ALL, *NAMESPACES))
REDUCED = Ground("reduced", "reduced", ALL)
BARE = Ground("no layer", "reduced", ())
# Nothing at all; but the tier leaves root root, so nobody attacks from there as root.
NONE = Ground("tier none", "none", ())
ALONE = (
    Ground("limits", "reduced", ("limits",)),
    Ground("Landlock", "reduced", ("landlock",)),
    Ground("seccomp", "reduced", ("seccomp",)),
    Ground("namespaces", "full", NAMESPACES),
)
COLUMNS = ("no layer", "limits", "Landlock", "seccomp", "namespaces", "reduced", "full")

# What section 5 says of the tier: where there are no namespaces, this much is to be had.
LOST_IN_REDUCED = {
    "sees_a_secrets_name",
    "finds_others",
    "number_of_the_host",
    "own_number",
    "name_of_the_host",
    "memory_of_many_files",
}

# What the kernel refuses an ordinary user without our layers too. Some of it would be had in
# namespaces of one's own, as the table shows.
REFUSED_ANYWAY = {
    "advises_memory",
    "reads_shadow",
    "writes_code",
    "makes_a_device",
    "mounts",
    "unmounts_proc",
    "mounts_anew",
    "changes_its_root",
    "sends_elsewhere_by_the_channel",
    "opens_raw_sockets",
    "counts_events",
    "enters_namespaces",
    "becomes_root",
    "has_rights",
    "modules",
    "reboots",
    "reads_the_log",
    "sets_the_clock",
    "quotas",
    "types_for_the_terminal",
    "real_time",
    "memory_of_huge_pages",
    "memory_of_the_stack",
}
# What no layer stands for that could be left out: what an isolate is never given.
NEVER_GIVEN = {
    "descriptors_of_the_image",
    "image_of_others",
    "memory_of_the_status_page",
    "variables_of_the_host",
    "variables_left_in_memory",
    "arguments_of_the_host",
    "user_of_the_host",
}

Cells = dict[str, dict[str, dict[str, Any]]]


class Battle:
    """All attacks on all grounds, by one user. Fought once, when first asked for."""

    def __init__(self, binary: Path, python: Path, *, ordinary: bool) -> None:
        self.binary = binary
        self.python = python
        self.ordinary = ordinary
        self.hello: dict[str, Any] = {}
        self._cells: Cells = {}

    @property
    def user(self) -> int:
        """Whom isolates run as."""
        if os.geteuid() != 0:
            return os.geteuid()
        return ORDINARY if self.ordinary else NOBODY

    def on(self, ground: Ground) -> dict[str, dict[str, Any]]:
        """What came of each attack on one ground, by name."""
        if ground.name not in self._cells:
            self._cells[ground.name] = self._fight(ground)
        return self._cells[ground.name]

    def open_somewhere(self) -> set[str]:
        """Attacks that succeed where there are no layers."""
        grounds = (BARE, NONE) if self.ordinary else (BARE,)
        return {
            name for ground in grounds for name, cell in self.on(ground).items() if cell["through"]
        }

    def _fight(self, ground: Ground) -> dict[str, dict[str, Any]]:
        with (
            tempfile.TemporaryDirectory(prefix="exuvia-escape-") as folder,
            prey(Path(folder), self.user) as facts,
            guarded(
                self.binary, self.python, ground, ordinary=self.ordinary, word=facts["word"]
            ) as guard,
        ):
            self.hello = guard.hello
            facts |= {"host": guard.pid, "python": str(self.python)}
            return {attack.name: self._try(guard, attack, facts) for attack in attacks()}

    def _try(self, guard: Guard, attack: Attack, facts: dict[str, Any]) -> dict[str, Any]:
        names = Path(facts["folder"])
        if not (names / "removable").exists():
            (names / "removable").write_text("again")
        before = (names / "target").stat()
        told = {**facts, "image": guard.image(), "siblings": guard.siblings()}
        # Attacks know the word where it is what they look for, and must not bring it along.
        document = guard.run(attack.source(told))
        if document["status"] == "ok":
            cell = dict(document["result"])
        else:
            failure = document["failure"]
            cell = {"through": False, "said": failure.get("signal") or failure["message"][:200]}
        cell["denied"] = document["usage"]["denied"]
        after = (names / "target").stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            cell["through"] = True
        return cell


def through(cells: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What got through, and what it said."""
    return {name: cell["said"] for name, cell in cells.items() if cell["through"]}


# One test, so that each ground is fought on once wherever tests run side by side.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("user", ["an ordinary user", "root"])
def test_attacks_that_succeed_without_layers_do_not_get_through_them(
    exuvia_bin: Path, project_python: Path, user: str
) -> None:
    if user == "root" and os.geteuid() != 0:
        pytest.skip("the tests are not run by root")
    battle = Battle(exuvia_bin, project_python, ordinary=user != "root")
    assert through(battle.on(REDUCED)).keys() <= LOST_IN_REDUCED
    has_full = battle.hello["tier"] == "full"
    if has_full:
        assert through(battle.on(FULL)) == {}
    refused = {attack.name for attack in attacks()} - battle.open_somewhere()
    assert NEVER_GIVEN - {"user_of_the_host"} <= refused
    if not battle.ordinary:
        return
    # Another kernel, or what this one runs in, may refuse more.
    if machine(battle) in DOCS.read_text():
        assert refused == REFUSED_ANYWAY | NEVER_GIVEN
    if has_full:
        check_table(battle)


def check_table(battle: Battle) -> None:
    text = DOCS.read_text()
    if os.environ.get("UPDATE_DOCS"):
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCS.write_text(f"{before}{BEGIN}\n\n{table(battle, COLUMNS)}\n\n{END}{after}")
        return
    written = text.partition(BEGIN)[2].partition(END)[0]
    rows = cells_of(written, COLUMNS)
    assert list(rows) == [attack.title for attack in attacks()]
    if machine(battle) in written:
        columns = ("no layer", "reduced", "full")
        seen = cells_of(table(battle, columns), columns)
        for title, row in seen.items():
            assert {column: rows[title][column] for column in columns} == row, title


def cells_of(text: str, columns: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """A table's rows, by the attack's title."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {words[0]: dict(zip(columns, words[1:], strict=True)) for words in lines[1:]}


def machine(battle: Battle) -> str:
    release = ".".join(platform.release().split(".")[:2])
    return f"Linux {release}, {platform.machine()}, Landlock ABI {battle.hello['landlock_abi']}"


def table(battle: Battle, columns: tuple[str, ...]) -> str:
    """What was seen, as the docs have it."""
    open_ = battle.open_somewhere()
    by_name = {ground.name: ground for ground in (*ALONE, REDUCED, FULL)}
    grounds = {name: battle.on(by_name[name]) for name in columns if name in by_name}
    lines = [
        f"As an ordinary user, on {machine(battle)}: of {len(attacks())} attacks {len(open_)}"
        " succeed without layers; the rest is refused by the kernel anyway, or there is nothing to"
        " be had.",
        "",
        f"| attack | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for attack in attacks():
        cells = ["open" if attack.name in open_ else "refused"]
        cells += ["open" if cells[attack.name]["through"] else "shut" for cells in grounds.values()]
        lines.append(f"| {' | '.join([attack.title, *cells])} |")
    return "\n".join(lines)


def test_what_isolates_are_never_given_would_be_found_if_it_were_there(
    project_python: Path,
) -> None:
    """The attacks that succeed nowhere, against a Python that has what they look for."""
    word = os.urandom(16).hex()
    names = NEVER_GIVEN - ({"user_of_the_host"} if os.geteuid() != 0 else set())
    image, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with image, other, os.fdopen(os.memfd_create("page"), "wb") as page:
        for attack in attacks():
            if attack.name not in names:
                continue
            lines = attack.source({"word": word, "siblings": [0]}).rstrip().splitlines()
            lines = [f"import os; os.dup2({page.fileno()}, 5)", *lines[:-1], f"print({lines[-1]})"]
            done = subprocess.run(
                [str(project_python), "-c", "\n".join(lines), word],
                env={**os.environ, "WORD": word},
                pass_fds=[page.fileno(), image.fileno()],
                capture_output=True,
                text=True,
                check=False,
            )
            # The code is among its arguments, with the word in it.
            assert "'through': True" in done.stdout, (attack.name, done.stdout, done.stderr)
