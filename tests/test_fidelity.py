"""What goes through a worker comes back as it was: the same values, of the same types, no pickles.

The values are the scenario "Fidelity": those that JSON, and those who use it, lose.
"""

import math
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import exuvia
import pytest
from exuvia import values
from processes import Server, serving
from value_cases import FIDELITY, HARD, same

KINDS = Path(__file__).parent / "handlers" / "kinds.py"
VALUE = "application/vnd.exuvia.value+msgpack"

# The scenario by name; more of its kind are in HARD.
SCENARIO = FIDELITY


@pytest.fixture(scope="module")
def echoes() -> Iterator[exuvia.Target]:
    """A function that gives its argument back, in a worker."""
    with exuvia.Target(f"{KINDS}:echoes") as target:
        yield target


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """The same function behind HTTP."""
    command = [str(exuvia_bin), "serve", f"{KINDS}:echoes", "--port", "0", "--workers", "1"]
    with serving([*command, "--python", str(project_python)]) as running:
        yield running


def by_http(server: Server, value: Any) -> Any:
    """Send a value and get it back, both without a pickle."""
    sent = values.dumps({"value": value})
    assert not holds_pickle(sent)
    told = {"content-type": VALUE, "accept": VALUE}
    answer = server.post("/kinds/echoes", raw=sent, headers=told)
    assert answer.status == 200, answer.body
    assert not holds_pickle(answer.body)
    return values.loads(answer.body)


def holds_pickle(data: bytes) -> bool:
    """Whether a pickle begins somewhere in the bytes."""
    for place in range(len(data) - 1):
        # The first opcode of all protocols from 2 on, and its argument.
        if data[place] == 0x80 and 2 <= data[place + 1] <= 5:
            try:
                if sum(1 for _ in pickletools.genops(data[place:])) > 1:
                    return True
            except ValueError:
                pass
    return False


def check(got: list[Any]) -> None:
    """Equal, and of identical types; said once more without our own helper."""
    assert same(got, SCENARIO)
    assert math.isnan(got[0]) and math.copysign(1, got[2]) == -1
    assert got[1:] == SCENARIO[1:]
    assert [type(value) for value in got] == [type(value) for value in SCENARIO]
    assert [type(part) for part in got[6]] == [int, str]
    assert got[7].tzinfo is None and str(got[8]) == "0.1"


def test_the_scenario_through_python(echoes: exuvia.Target) -> None:
    check(echoes(SCENARIO))
    check(echoes(value=SCENARIO))
    check(echoes(echoes(SCENARIO)))
    check(exuvia.call(f"{KINDS}:echoes", SCENARIO))


def test_the_scenario_through_http(server: Server) -> None:
    check(by_http(server, SCENARIO))
    check(by_http(server, by_http(server, SCENARIO)))


def test_no_pickle_is_needed() -> None:
    # Without leave to pickle, whatever is outside the value model would be an error.
    assert values.dumps(SCENARIO) == values.dumps(SCENARIO, pickle=True)
    assert not holds_pickle(values.dumps(SCENARIO))
    assert holds_pickle(values.dumps([KINDS], pickle=True)), "it would be seen"


def test_deep_inside_and_as_keys(echoes: exuvia.Target, server: Server) -> None:
    inner = {(1, "a"): SCENARIO, b"\xff": (frozenset({1}), [SCENARIO]), None: {2**80: -0.0}}
    value = [inner, (inner,), {"deep": [[[[inner]]]]}]
    assert same(echoes(value), value)
    assert same(by_http(server, value), value)


def test_every_hard_value_both_ways(echoes: exuvia.Target, server: Server) -> None:
    for value in [FIDELITY, *HARD]:
        assert same(echoes(value), value), value
        assert same(by_http(server, value), value), value


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1_000_000, 40_000_000])
def test_large_values(echoes: exuvia.Target, size: int) -> None:
    value = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert echoes(value) == value


def test_many_small_values(echoes: exuvia.Target, server: Server) -> None:
    value = [SCENARIO] * 5_000
    assert same(echoes(value), value)
    assert same(by_http(server, value[:500]), value[:500])
