"""What docs/types.md promises, through the real program: typed bodies, typed text, all faults."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Call
from problems import problem
from processes import Server, serving

TYPED = Path(__file__).parent / "handlers" / "typed.py"
NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server for all tests, which leave it as it was."""
    command = [str(exuvia_bin), "serve", str(TYPED), "--port", "0"]
    command += ["--python", str(project_python), "--workers", "1"]
    with serving(command) as running:
        yield running


def faults(server: Server, path: str, body: object) -> dict[str, str]:
    """The faults of a body that is refused, by their pointers."""
    found = problem(server.post(path, body), "input", 422)
    assert found["responsible"] == "caller"
    return {fault["pointer"]: fault["detail"] for fault in found["errors"]}


def test_the_example_of_the_page_answers_as_the_page_says(server: Server) -> None:
    body = {"customer": 7, "lines": [{"item": "nut", "n": 0}, {}], "ship": "boat"}
    assert faults(server, "/typed/total", body) == {
        "/customer": "must be a string, not a number",
        "/lines/0/n": "must be at least 1, not 0",
        "/lines/1/item": "is missing",
        "/ship": 'must be "post" or "van", not "boat"',
    }
    right = {"customer": "Ada", "lines": [{"item": "nut", "n": 3}, {"item": "bolt"}]}
    assert server.post("/typed/total", right).json() == 4


def test_an_object_is_the_argument_as_a_whole_or_names_it(server: Server) -> None:
    order: dict[str, Any] = {"customer": "Ada", "lines": []}
    assert server.post("/typed/total", order).json() == 0
    assert server.post("/typed/total", {"order": order}).json() == 0
    assert faults(server, "/typed/total", {"order": {}}) == {
        "/order/customer": "is missing",
        "/order/lines": "is missing",
    }
    assert faults(server, "/typed/total", [1]) == {"": "must be an object, not a list"}
    assert faults(server, "/typed/total", None) == {"": "must be an object, not null"}


def test_every_kind_of_value_arrives_as_its_type(server: Server) -> None:
    given = {
        "flag": True,
        "number": 3.0,
        "share": 1,
        "text": "æ",
        "raw": "aGk=",
        "price": "1.10",
        "at": "2026-01-31T12:00:00Z",
        "day": "2026-01-31",
        "clock": "12:00",
        "wait": "P1DT2H3.5S",
        "key": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "place": "/tmp/x",
        "host": "127.0.0.1",
        "color": 2,
        "point": {"x": 1},
        "movie": {"name": "M"},
    }
    seen = [
        "bool True",
        "int 3",
        "float 1.0",
        "str 'æ'",
        "bytes b'hi'",
        "Decimal Decimal('1.10')",
        "datetime datetime.datetime(2026, 1, 31, 12, 0, tzinfo=datetime.timezone.utc)",
        "date datetime.date(2026, 1, 31)",
        "time datetime.time(12, 0)",
        "timedelta datetime.timedelta(days=1, seconds=7203, microseconds=500000)",
        "UUID UUID('f81d4fae-7dec-11d0-a765-00a0c91e6bf6')",
        "PosixPath PosixPath('/tmp/x')",
        "IPv4Address IPv4Address('127.0.0.1')",
        "Color <Color.TWO: 2>",
        "Point Point(x=1, y=0.5)",
        "dict {'name': 'M'}",
    ]
    assert server.post("/typed/everything", given).json() == seen
    assert server.post("/typed/everything", list(given.values())).json() == seen
    wrong = {name: [1, 2, 3] for name in given}
    found = faults(server, "/typed/everything", wrong)
    assert found.keys() == {f"/{name}" for name in given}
    assert found["/wait"] == "must be a duration such as P1DT2H3.5S, not a list"


def test_a_class_refuses_by_raising_and_fails_by_raising_what_is_no_refusal(
    server: Server,
) -> None:
    assert server.post("/typed/ranged", {"low": 1, "high": 3}).json() == 2
    body = {"range": {"low": 2, "high": 1}, "more": [{"low": 0, "high": 0}, {"low": 5, "high": 4}]}
    assert faults(server, "/typed/ranged", body) == {
        "/range": "2 is above 1",
        "/more/1": "5 is above 4",
    }
    found = problem(server.post("/typed/ranged", {"low": 13, "high": 14}), "exception", 500)
    assert found["responsible"] == "guest" and "own trouble" in found["detail"]


def test_models_of_libraries_are_read_and_written(server: Server) -> None:
    account = {"name": "Ada", "balance": 1.5}
    assert server.post("/typed/account", account).json() == account
    found = faults(server, "/typed/account", {"account": {"name": 3, "balance": -1}})
    assert found.keys() == {"/account/name", "/account/balance"}
    cat = {"type": "cat", "lives": 3}
    assert server.post("/typed/cat", cat).json() == cat
    assert faults(server, "/typed/cat", {"type": "cat", "lives": "x"}).keys() == {"/lives"}


def test_results_are_written_as_they_are_read(server: Server) -> None:
    order = {
        "customer": "Ada",
        "lines": [{"item": "nut", "n": 3}],
        "due": "2026-01-31",
        "ship": "van",
        "tags": ["a"],
    }
    assert server.post("/typed/returns", order).json() == order
    assert server.post("/typed/yields", order).json() == order["lines"]


def test_lines_are_a_list_of_their_type(server: Server) -> None:
    told = {"content-type": NDJSON}
    body = b'{"item": "nut", "n": 3}\n\n{"item": "bolt"}\n'
    assert server.post("/typed/rows", raw=body, headers=told).json() == 4
    body = b'{"item": "nut", "n": 0}\n{"item": 1}\n'
    found = problem(server.post("/typed/rows", raw=body, headers=told), "input", 422)
    assert [fault["pointer"] for fault in found["errors"]] == ["/0/n", "/1/item"]
    for line in [b'{"item": }', b'{"item": "a"},{"item": "b"}', b'{"item": "a"} 1']:
        body = b'{"item": "nut"}\n' + line + b"\n"
        found = problem(server.post("/typed/rows", raw=body, headers=told), "malformed", 400)
        assert "line 2, column " in found["detail"]


def test_malformed_json_is_malformed_whatever_else_is_wrong(server: Server) -> None:
    for body in [b'{"customer": 7, "lines": [}', b'{"customer": NaN}', b'{"lines": [1e]}']:
        problem(server.post("/typed/total", raw=body), "malformed", 400)


def test_an_annotation_that_cannot_be_kept_fails_its_handler_alone(server: Server) -> None:
    found = problem(server.post("/typed/unkept", {"x": 1}), "load", 503)
    assert "minLength" in found["detail"]
    assert server.post("/typed/total", {"customer": "Ada", "lines": []}).json() == 0


@pytest.mark.parametrize(
    "given, seen",
    [
        (["asset=a1"], ["a1", 24, None, None, None]),
        (["asset=7", "hours=48"], ["7", 48, None, None, None]),
        (["asset=a", "day=2026-01-31"], ["a", 24, "2026-01-31", None, None]),
        (["asset=a", "day=null"], ["a", 24, None, None, None]),
        (["asset=a", "tags=x"], ["a", 24, None, ["x"], None]),
        (["asset=a", 'tags=["x", "y"]'], ["a", 24, None, ["x", "y"], None]),
        (
            ["asset=a", 'order={"customer": "Ada", "lines": []}'],
            ["a", 24, None, None, "Ada"],
        ),
    ],
)
def test_text_is_read_by_its_type(call: Call, given: list[str], seen: list[Any]) -> None:
    arguments = [word for text in given for word in ("--arg", text)]
    done = call(f"{TYPED}:texts", *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == seen


def test_all_faults_of_text_are_told_at_once(call: Call) -> None:
    wrong = ["hours=100", "day=tomorrow", 'order={"lines": 3}', "assset=a"]
    done = call(f"{TYPED}:texts", *[word for text in wrong for word in ("--arg", text)])
    assert done.returncode == 4
    for said in [
        "  hours: must be below 100, not 100\n",
        "  day: must be a date such as 2026-01-31 or null, not `tomorrow`\n",
        "  order/lines: must be a list, not a number\n",
        "  order/customer: is missing\n",
        "  assset: there is no parameter of this name. Did you mean `asset`?\n",
        "  asset: is missing\n",
    ]:
        assert said in done.stderr
