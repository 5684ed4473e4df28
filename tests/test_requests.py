"""What clients of `exuvia serve` send, rightly and wrongly, in every format, and what they get."""

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Serve
from exuvia import values
from problems import problem
from processes import Answer, Server, serving

HANDLERS = Path(__file__).parent / "handlers"
KINDS = HANDLERS / "kinds.py"
TABLES = HANDLERS / "tables.py"

VALUE = "application/vnd.exuvia.value+msgpack"
NDJSON = "application/x-ndjson"


@pytest.fixture(scope="module")
def server(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """One server for all tests that leave it as it was."""
    command = [str(exuvia_bin), "serve", str(KINDS), str(TABLES), "--port", "0"]
    command += ["--python", str(project_python), "--workers", "1", "--max-body", "64KiB"]
    with serving(command) as running:
        yield running


# === what clients send wrongly ===


@pytest.mark.parametrize(
    "body, place",
    [
        (b'{"first": 1,\n "second": }', "line 2, column 12"),
        (b"{", "line 1, column 2"),
        (b"[1] 2", "line 1, column 5"),
        (b'{"first": "\xff"}', "line 1, column 12"),
        (b'{"first": 1, "first": NaN}', "line 1, column 23"),
    ],
)
def test_malformed_json(server: Server, body: bytes, place: str) -> None:
    found = problem(server.post("/kinds/adds", raw=body), "malformed", 400)
    assert place in found["detail"] and found["responsible"] == "caller"


def test_malformed_lines_and_values(server: Server) -> None:
    told = {"content-type": NDJSON}
    found = problem(
        server.post("/kinds/rows", raw=b'{}\n{"a" 1}\n', headers=told), "malformed", 400
    )
    assert "line 2, column 6" in found["detail"]
    whole = values.dumps({"value": [1, 2, 3]})
    for body in [whole[:-1], whole + b"\0", b"\xc1"]:
        answer = server.post("/kinds/echoes", raw=body, headers={"content-type": VALUE})
        assert "byte " in problem(answer, "malformed", 400)["detail"]


def test_all_faults_are_told_at_once_with_pointers(server: Server) -> None:
    body = {"i": "x", "f": [], "b": 1, "l": {}, "d": [], "m": 1.5, "ss": 1, "a/b~c": 1}
    found = problem(server.post("/kinds/every", body), "input", 422)
    assert {fault["pointer"]: fault["detail"] for fault in found["errors"]} == {
        "/i": "must be an integer, not a string",
        "/f": "must be a number, not a list",
        "/b": "must be true or false, not a number",
        "/l": "must be a list, not an object",
        "/d": "must be an object, not a list",
        "/m": "must be an integer, not 1.5",
        "/ss": "there is no parameter of this name. Did you mean `s`?",
        "/a~1b~0c": "there is no parameter of this name.",
    }
    found = problem(server.post("/kinds/adds", {"first": True, "sekond": 1}), "input", 422)
    assert {fault["pointer"]: fault["detail"] for fault in found["errors"]} == {
        "/first": "must be an integer, not true",
        "/sekond": "there is no parameter of this name. Did you mean `second`?",
        "/second": "is missing",
    }
    assert found["responsible"] == "caller"


def test_nothing_and_too_much(server: Server) -> None:
    for answer in [server.post("/kinds/adds"), server.post("/kinds/adds", {})]:
        found = problem(answer, "input", 422)
        assert [fault["pointer"] for fault in found["errors"]] == ["/first", "/second"]
    found = problem(server.post("/kinds/chatters", [1]), "input", 422)
    assert found["errors"] == [
        {"pointer": "", "detail": "the handler takes no arguments: send no data"}
    ]
    assert server.post("/kinds/chatters").json() == {"answer": 42}
    assert server.post("/kinds/chatters", {}).json() == {"answer": 42}


def test_numbers_are_what_python_has(server: Server) -> None:
    got = server.post("/kinds/every", {"i": 2**70, "f": 3, "m": "x", "o": None}).json()
    assert (got["i"], got["f"], got["m"], got["o"]) == (str(2**70), "3.0", "'x'", "None")
    assert server.post("/kinds/echoes", {"value": 2**70}).json() == 2**70
    found = problem(server.post("/kinds/every", {"f": 10**400}), "input", 422)
    assert found["errors"] == [{"pointer": "/f", "detail": "is too large for a float"}]


def chunked(server: Server, path: str, pieces: list[bytes]) -> Answer:
    """Send a body whose length is not said."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    try:
        told = {"content-type": "application/json"}
        connection.request("POST", path, body=iter(pieces), headers=told)
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, names, answer.read())
    finally:
        connection.close()


def test_a_body_that_is_too_large(server: Server) -> None:
    answer = server.post("/kinds/echoes", raw=b"[" + b" " * 65536 + b"]")
    problem(answer, "too_large", 413)
    piece = b'"' + b"x" * 30_000 + b'"'
    assert chunked(server, "/kinds/echoes", [piece]).json() == "x" * 30_000
    answer = chunked(server, "/kinds/echoes", [b"[", piece, b",", piece, b",", piece, b"]"])
    problem(answer, "too_large", 413)
    # Said before any of it is sent.
    with socket.create_connection((server.host, server.port), timeout=20) as line:
        line.sendall(
            b"POST /kinds/echoes HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n"
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 413 ")
    assert server.post("/kinds/chatters").status == 200


def test_wrong_routes_methods_and_types(server: Server) -> None:
    found = problem(server.post("/kinds/ads", {}), "not_found", 404)
    assert "/kinds/adds" in found["detail"]
    problem(server.post("/kindz", {}), "not_found", 404)
    answer = server.get("/kinds/adds")
    problem(answer, "method_not_allowed", 405)
    assert "POST" in answer.headers["allow"]
    for kind in [
        "text/html",
        "application/xml",
        "application/json; charset=latin1",
    ]:
        answer = server.post("/kinds/adds", raw=b"{}", headers={"content-type": kind})
        problem(answer, "unsupported_media_type", 415)
    answer = server.post("/kinds/adds", {}, headers={"content-encoding": "lzw"})
    problem(answer, "unsupported_media_type", 415)
    answer = server.post("/kinds/adds", {}, headers={"accept": "text/html"})
    problem(answer, "not_acceptable", 406)


def test_a_failed_call_does_not_end_the_connection(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    told = {"content-type": "application/json"}
    for body, status in [("{", 400), ("{}", 422), ('{"first":1,"second":2}', 200)] * 3:
        connection.request("POST", "/kinds/adds", body=body, headers=told)
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (status, True)
    connection.close()


# === tables ===


@pytest.mark.parametrize(
    "body",
    [
        [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}],
        {"n": [1, 2], "t": ["a", "b"]},
        {"table": [{"n": 1, "t": "a"}, {"n": 2, "t": "b"}]},
        {"table": {"n": [1, 2], "t": ["a", "b"]}},
    ],
    ids=["rows", "columns", "named rows", "named columns"],
)
def test_a_table_is_rows_or_columns(server: Server, body: Any) -> None:
    got = server.post("/tables/shape", body).json()
    assert (got["rows"], got["columns"], got["kinds"]["n"]) == (2, ["n", "t"], "int64")
    doubled = server.post("/tables/doubled", body)
    assert doubled.json() == [{"n": 2, "t": "a"}, {"n": 4, "t": "b"}]


def test_a_table_by_lines_and_as_lines(server: Server) -> None:
    told = {"content-type": NDJSON, "accept": NDJSON}
    answer = server.post("/tables/doubled", raw=b'{"n":1}\n{"n":2.5}\n', headers=told)
    assert answer.body == b'{"n":2.0}\n{"n":5.0}\n'


def test_tables_with_other_arguments(server: Server) -> None:
    body = {"table": [{"m": 1}], "column": "m"}
    assert server.post("/tables/doubled", body).json() == [{"m": 2}]
    left, right = [{"k": 1, "a": 2}], [{"k": 1, "b": None}]
    got = server.post("/tables/joined", {"left": left, "right": right, "on": "k"})
    assert got.json() == [{"k": 1, "a": 2, "b": None}]
    assert server.post("/tables/either", {"table": None}).json() == -1
    assert server.post("/tables/either").json() == -1
    assert server.post("/tables/either", [{"a": 1}]).json() == 1


def test_tables_without_rows_or_with_holes(server: Server) -> None:
    assert server.post("/tables/shape", []).json()["rows"] == 0
    assert server.post("/tables/shape", {"n": []}).json()["columns"] == ["n"]
    got = server.post("/tables/doubled", [{"n": 1.5, "t": None}, {"t": "b"}])
    assert got.json() == [{"n": 3.0, "t": None}, {"n": None, "t": "b"}]


@pytest.mark.parametrize(
    "body, said",
    [
        ({"table": 5}, "must be a table (a list of objects), not an integer"),
        ({"table": "x"}, "must be a table (a list of objects), not a string"),
        ([[1, 2], [3, 4]], "is not a table: row 0 is a list, not a dict"),
        ([{"n": 1}, None], "is not a table: row 1 is a NoneType, not a dict"),
        ({"n": [1, 2], "t": ["a"]}, "is not a table: "),
        ({"n": 1}, "is not a table: "),
        ({"table": None}, "must be a table (a list of objects), not null"),
    ],
)
def test_what_is_no_table_is_a_fault_of_the_caller(server: Server, body: Any, said: str) -> None:
    (fault,) = problem(server.post("/tables/shape", body), "input", 422)["errors"]
    assert fault["pointer"] == "/table" and fault["detail"].startswith(said)


# === formats ===


def test_lines_in_and_out(server: Server) -> None:
    told = {"content-type": NDJSON, "accept": NDJSON}
    answer = server.post("/kinds/rows", raw=b'{"a":1}\n\n{"b":"\xc3\xa9"}', headers=told)
    assert (answer.headers["content-type"], answer.body) == (
        NDJSON,
        '{"a":1}\n{"b":"é"}\n'.encode(),
    )
    answer = server.post("/kinds/rows", raw=b"", headers=told)
    problem(answer, "input", 422)
    found = problem(server.post("/kinds/chatters", headers={"accept": NDJSON}), "result", 500)
    assert found["responsible"] == "guest"


def test_values_in_and_out(server: Server) -> None:
    both = {"content-type": VALUE, "accept": VALUE}
    sent = {"value": (1, {2, 3}, b"\0", 2**80)}
    answer = server.post("/kinds/echoes", raw=values.dumps(sent), headers=both)
    assert answer.headers["content-type"] == VALUE
    assert values.loads(answer.body) == sent["value"]
    # Either side by itself.
    answer = server.post("/kinds/adds", {"first": 1, "second": 2}, headers={"accept": VALUE})
    assert values.loads(answer.body) == 3
    raw = values.dumps({"rows": [{"a": 1}]})
    assert server.post("/kinds/rows", raw=raw, headers={"content-type": VALUE}).json() == [{"a": 1}]


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_a_pickle_from_outside_is_refused_and_never_run(server: Server, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    for sent in [{"value": Trap(trap)}, Trap(trap), [{"value": Trap(trap)}]]:
        body = values.dumps(sent, pickle=True)
        answer = server.post("/kinds/echoes", raw=body, headers={"content-type": VALUE})
        assert "pickle" in problem(answer, "malformed", 400)["detail"]
    assert not trap.exists()
    # The bytes are a trap indeed.
    values.loads(values.dumps(Trap(trap), pickle=True), pickle=True)
    assert trap.exists()


def test_no_pickle_leaves_either(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("class Own: pass\ndef f(): return [Own()]")
    server = serve(tmp_path / "own.py", args=["--workers", "1"])
    found = problem(server.post("/own/f", headers={"accept": VALUE}), "result", 500)
    assert "result[0]" in found["detail"]
