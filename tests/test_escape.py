"""Attacks on the host, the image and other isolates: docs/security.md, sections 2 and 4.

Each attack is run without layers, where it succeeds or is refused by the kernel anyway; behind each
kind of layer alone; and behind all that a tier has. In the tier `full` none may get through.
`UPDATE_DOCS=1` writes the table of docs/security.md.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
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
    "memory_of_files",
    "memory_of_mapped_files",
    "memory_of_many_files",
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
        return {name for ground in grounds for name, cell in self.on(ground).items() if cell["through"]}

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


@pytest.fixture(scope="module", params=["an ordinary user", "root"])
def battle(request: pytest.FixtureRequest, exuvia_bin: Path, project_python: Path) -> Iterator[Battle]:
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("the tests are not run by root")
    yield Battle(exuvia_bin, project_python, ordinary=request.param != "root")


def need_full(battle: Battle) -> None:
    battle.on(REDUCED)
    if battle.hello["tier"] != "full":
        pytest.skip(f"the tier of this machine is {battle.hello['tier']}")


def through(cells: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: cell["said"] for name, cell in cells.items() if cell["through"]}


def test_no_attack_gets_through_in_the_tier_full(battle: Battle) -> None:
    need_full(battle)
    assert through(battle.on(FULL)) == {}


def test_in_the_tier_reduced_only_what_the_docs_say_gets_through(battle: Battle) -> None:
    assert through(battle.on(REDUCED)).keys() <= LOST_IN_REDUCED


# What the kernel refuses an ordinary user anyway, or no kernel has.
REFUSED_ANYWAY: set[str] = set()


def test_each_attack_succeeds_without_layers_or_is_known_to_be_refused_anyway(battle: Battle) -> None:
    names = {attack.name for attack in attacks()}
    refused = names - battle.open_somewhere()
    if battle.ordinary:
        assert refused - REFUSED_ANYWAY == set()


def test_the_table_of_the_docs_is_what_was_seen(
    battle: Battle, record_property: Any
) -> None:
    if not battle.ordinary:
        pytest.skip("the table is an ordinary user's")
    need_full(battle)
    made = table(battle)
    text = DOCS.read_text()
    if os.environ.get("UPDATE_DOCS"):
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCS.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")
        return
    written = text.partition(BEGIN)[2].partition(END)[0].strip()
    rows = [row.split("|")[1] for row in written.splitlines() if row.startswith("|")]
    assert rows == [row.split("|")[1] for row in made.splitlines() if row.startswith("|")]
    if machine(battle) in written:
        assert written == made


def machine(battle: Battle) -> str:
    release = ".".join(platform.release().split(".")[:2])
    return f"Linux {release}, {platform.machine()}, Landlock ABI {battle.hello['landlock_abi']}"


def table(battle: Battle) -> str:
    open_ = battle.open_somewhere()
    grounds = {ground.name: battle.on(ground) for ground in (*ALONE, REDUCED, FULL)}
    lines = [
        f"As an ordinary user on {machine(battle)}: {len(attacks())} attacks, {len(open_)} of which"
        " succeed without layers. The others the kernel refuses an ordinary user anyway.",
        "",
        "| attack | " + " | ".join(COLUMNS) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for attack in attacks():
        cells = ["open" if attack.name in open_ else "refused"]
        cells += [
            "open" if grounds[name][attack.name]["through"] else "shut" for name in COLUMNS[1:]
        ]
        lines.append(f"| {attack.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
