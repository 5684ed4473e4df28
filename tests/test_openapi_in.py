"""`exuvia serve --openapi`: docs/routes.md, "From OpenAPI to routes", through the real program."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from conftest import Serve
from problems import problem
from processes import Answer, Server, serving

HANDLERS = Path(__file__).parent / "handlers"
SPEC = HANDLERS / "desk.yaml"
DESK = HANDLERS / "desk.py"
ORDER = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
FORECAST = "/desk/v1/assets/north/forecast"


@pytest.fixture(scope="module")
def stubs(exuvia_bin: Path) -> Iterator[Server]:
    """The document by itself: no handler and no Python."""
    command = [str(exuvia_bin), "serve", "--openapi", str(SPEC), "--port", "0"]
    with serving(command) as server:
        yield server


@pytest.fixture(scope="module")
def desk(exuvia_bin: Path, project_python: Path) -> Iterator[Server]:
    """The document, and handlers for half of it."""
    command = [str(exuvia_bin), "serve", str(DESK), "--openapi", str(SPEC), "--port", "0"]
    command += ["--python", str(project_python), "--workers", "1"]
    with serving(command) as server:
        yield server


def faults(answer: Answer) -> dict[str, str]:
    """Faults of a call, by pointer."""
    errors: list[dict[str, str]] = problem(answer, "input", 422)["errors"]
    return {error["pointer"]: error["detail"] for error in errors}


def is_stub(answer: Answer) -> bool:
    """Whether it says that it is the answer of a stub."""
    return answer.headers.get("exuvia-stub") == "true"


# === without handlers ===


def test_a_document_alone_is_served_without_a_process(stubs: Server) -> None:
    """Stubs need no worker; all of them are named at the start."""
    assert stubs.children() == []
    for name in (
        "GET /desk/v1/assets/{assetId}/forecast",
        "POST /desk/v1/orders",
        "DELETE /desk/v1/orders/{order}",
        "GET /desk/v1/motd",
    ):
        assert f"{name} has no handler yet" in stubs.log()
    assert stubs.get("/readyz").status == 200
    state = stubs.get("/_exuvia/state.json").json()
    assert len(state["stubs"]) == 4


def test_a_stub_answers_with_the_first_example(stubs: Server) -> None:
    """The document's own, in its order, with its status and media type."""
    answer = stubs.get(f"{FORECAST}?hoursAhead=3")
    assert (answer.status, is_stub(answer)) == (200, True)
    assert answer.json() == {"asset": "north", "loads": [3.5, 4.0]}
    answer = stubs.get("/desk/v1/motd")
    assert (answer.body, is_stub(answer)) == (b"Good morning\n", True)
    assert answer.headers["content-type"].startswith("text/plain")
    answer = stubs.request("DELETE", f"/desk/v1/orders/{ORDER}")
    assert (answer.status, answer.body, is_stub(answer)) == (204, b"", True)


def test_a_stub_without_an_example_answers_what_its_schema_takes(stubs: Server) -> None:
    """The example is made of `allOf`, `oneOf`, constants and formats."""
    order = {"legs": [{"kind": "spot", "volume": 1}]}
    answer = stubs.post("/desk/v1/orders", order)
    assert (answer.status, is_stub(answer)) == (201, True)
    receipt = answer.json()
    assert receipt["state"] == "open"
    assert receipt["legs"][0]["kind"] == "spot"
    assert receipt["legs"][0]["volume"] > 0
    again = stubs.post("/desk/v1/orders", order)
    assert again.body == answer.body


def test_a_stub_tells_all_faults_of_parameters_and_body(stubs: Server) -> None:
    """Path, query, headers and body are held against the document at once."""
    query = urlencode([("hoursAhead", "99"), ("quantile", "0.5"), ("quantile", "much")])
    answer = stubs.request(
        "GET", f"/desk/v1/assets/n/forecast?{query}", headers={"x-model": "guess"}
    )
    assert faults(answer) == {
        "/assetId": "must have at least 2 characters, not 1",
        "/hoursAhead": "must be at most 48, not 99",
        "/quantile/1": "must be a number, not `much`",
        "/X-Model": 'must be "mean" or "flat", not "guess"',
    }
    assert faults(stubs.get(FORECAST)) == {"/hoursAhead": "is missing"}
    assert "/hours" in faults(stubs.get(f"{FORECAST}?hoursAhead=1&hours=2"))
    order = {"legs": [{"kind": "forward", "volume": 0, "from": "soon"}], "note": "x" * 11}
    assert faults(stubs.post("/desk/v1/orders", order)) == {
        "/legs/0/volume": "must be above 0, not 0",
        "/legs/0/from": 'must be a date such as 2026-01-31, not "soon"',
        "/note": "must have at most 10 characters, not 11",
    }
    assert list(faults(stubs.post("/desk/v1/orders"))) == [""]
    problem(stubs.post("/desk/v1/orders", raw=b"{"), "malformed", 400)
    bad = stubs.request("DELETE", "/desk/v1/orders/7")
    assert faults(bad) == {"/order": 'must be a UUID, not "7"'}


def test_stubs_take_and_give_what_the_document_says(stubs: Server, tmp_path: Path) -> None:
    """Schemathesis finds no answer that the document does not allow.

    Except for statuses: that arguments which do not fit are answered 422 or 400 is ours to say.
    """
    program = Path(sys.executable).with_name("schemathesis")
    url = f"{stubs.url}/desk/v1"
    command = [str(program), "run", str(SPEC), "--url", url, "--seed", "1", "--no-color"]
    command += ["--checks", "all", "--exclude-checks", "status_code_conformance"]
    command += ["--max-examples", "25", "--phases", "examples,coverage,fuzzing"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout
    assert "Tested: 4" in done.stdout


def test_a_path_or_method_that_is_not_in_the_document_is_told(stubs: Server) -> None:
    """As for any route: the nearest path, the methods there are."""
    assert "/desk/v1/orders" in problem(stubs.get("/desk/v1/order"), "not_found", 404)["detail"]
    answer = stubs.get("/desk/v1/orders")
    problem(answer, "method_not_allowed", 405)
    assert answer.headers["allow"] == "POST, OPTIONS"


def test_the_documents_of_stubs_and_handlers_name_every_operation(
    stubs: Server, desk: Server
) -> None:
    """`/openapi.json` has what was read, whoever answers."""
    for server in (stubs, desk):
        document: dict[str, Any] = server.get("/openapi.json").json()
        paths = document["paths"]
        assert "get" in paths["/desk/v1/motd"]
        assert "post" in paths["/desk/v1/orders"]
        forecast = next(item for path, item in paths.items() if path.endswith("/forecast"))
        names = {(param["in"], param["name"]) for param in forecast["get"]["parameters"]}
        assert {("query", "hoursAhead"), ("query", "quantile")} <= names
        assert ("header", "x-model") in names


# === with handlers ===


def test_operations_lead_to_the_handlers_called_like_them(desk: Server) -> None:
    """`getForecast` is `get_forecast`; its parameters come under the document's names."""
    answer = desk.request(
        "GET",
        f"{FORECAST}?hoursAhead=3&quantile=0.1&quantile=0.9",
        headers={"x-model": "flat"},
    )
    assert (answer.status, is_stub(answer)) == (200, False)
    assert answer.json() == {
        "asset": "north",
        "hours": 3,
        "quantile": [0.1, 0.9],
        "model": "flat",
    }
    # Faults are told in the client's words, not in the handler's.
    assert list(faults(desk.get(f"{FORECAST}?hoursAhead=soon"))) == ["/hoursAhead"]
    assert list(faults(desk.get(FORECAST))) == ["/hoursAhead"]


def test_a_handler_that_the_document_names_answers(desk: Server) -> None:
    """By `x-exuvia-handler`, with the document's status."""
    answer = desk.request("DELETE", f"/desk/v1/orders/{ORDER}")
    assert (answer.status, is_stub(answer)) == (204, False)


def test_what_has_no_handler_is_still_a_stub(desk: Server) -> None:
    """And the only ones that are named."""
    answer = desk.post("/desk/v1/orders", {"legs": [{"kind": "spot", "volume": 1}]})
    assert (answer.status, is_stub(answer)) == (201, True)
    state = desk.get("/_exuvia/state.json").json()
    assert sorted(state["stubs"]) == ["GET /desk/v1/motd", "POST /desk/v1/orders"]
    assert "forecast has no handler yet" not in desk.log()


def test_handlers_that_no_operation_leads_to_are_served_as_ever(desk: Server) -> None:
    """And those that one leads to have its route only."""
    assert desk.post("/desk/spare", {"n": 3}).json() == 3
    problem(desk.post("/desk/get_forecast", {}), "not_found", 404)


def test_json_says_the_same_as_yaml(serve: Serve, stubs: Server, tmp_path: Path) -> None:
    """The server's own document, read again, makes the same routes."""
    written = tmp_path / "again.json"
    written.write_bytes(stubs.get("/openapi.json").body)
    again = serve(args=["--openapi", str(written)])
    first, second = (server.get("/_exuvia/state.json").json() for server in (stubs, again))
    assert sorted(second["stubs"]) == sorted(first["stubs"])
    assert faults(again.get(FORECAST))["/hoursAhead"] == "is missing"


# === documents that cannot be served ===


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("openapi: 3.1.0", "openapi: 4.0.0", "this is OpenAPI 4.0.0; 3.0 and 3.1 are understood"),
        (
            "schemas/Forecast",
            "schemas/Forcast",
            "`#/components/schemas/Forcast` leads nowhere: /components/schemas has no `Forcast`."
            " Did you mean `Forecast`?",
        ),
        ("desk:withdraw", "desk:withdrew", "there is no `desk:withdrew`. Did you mean"),
        (
            "name: hoursAhead",
            "name: hours",
            "GET /desk/v1/assets/{assetId}/forecast has the parameter `hours` in its query, and its"
            " handler desk:get_forecast has none of that name",
        ),
        ("paths:", "paths: [", "this is not YAML"),
    ],
)
def test_a_document_that_cannot_be_served_is_refused_with_its_place(
    exuvia_bin: Path, project_python: Path, tmp_path: Path, old: str, new: str, told: str
) -> None:
    """File, line, JSON Pointer and the nearest right name, and exit code 2."""
    spec = tmp_path / "spec.yaml"
    text = SPEC.read_text(encoding="utf-8")
    assert old in text
    spec.write_text(text.replace(old, new, 1), encoding="utf-8")
    command = [exuvia_bin, "serve", DESK, "--openapi", spec, "--python", project_python]
    done = subprocess.run(
        [*map(str, command), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert str(spec) in done.stderr


def test_a_document_that_is_not_there_is_told(exuvia_bin: Path, tmp_path: Path) -> None:
    """Before anything else is started."""
    command = [str(exuvia_bin), "serve", "--openapi", str(tmp_path / "no.yaml"), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no.yaml" in done.stderr


def test_a_hostile_body_is_refused_and_others_are_served(serve: Serve, tmp_path: Path) -> None:
    """A schema that contains itself in alternatives: nesting costs its sender, not the server."""
    node = {"$ref": "#/components/schemas/Node"}
    members = {"x": node}
    schemas = {
        "Node": {
            "oneOf": [
                {"type": "object", "required": ["p"], "properties": members},
                {"type": "object", "required": ["q"], "properties": members},
            ]
        }
    }
    content = {"application/json": {"schema": node}}
    document = {
        "openapi": "3.1.0",
        "paths": {"/n": {"post": {"requestBody": {"content": content}}}},
        "components": {"schemas": schemas},
    }
    spec = tmp_path / "nodes.json"
    spec.write_text(json.dumps(document), encoding="utf-8")
    server = serve(args=["--openapi", str(spec)])
    body = b'{"x":' * 100 + b"{}" + b"}" * 100
    answer = server.post("/n", raw=body)
    assert faults(answer) == {"": "does not fit the schema, and is too large to tell where"}
    assert list(faults(server.post("/n", {"x": {}, "p": 1}))) == ["/x/p"]
    too_deep = server.post("/n", raw=b'{"x":' * 100_000)
    problem(too_deep, "malformed", 400)
    assert server.post("/n", raw=b" " * (2 << 20)).status == 413
    assert server.get("/healthz").status == 200
