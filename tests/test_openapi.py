"""`/openapi.json` and `exuvia openapi`: documents that validators take, and that tell the truth."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Completed, Serve
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from processes import ROOT, Server, serving

HANDLERS = Path(__file__).parent / "handlers"
EVERY_TYPE = HANDLERS / "every_type.py"
EVERY_FILE = HANDLERS / "every_file.py"

# docs/routes.md, and what its table of options says.
SHOP = '''
"""A shop."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import pandas as pd


@dataclass
class Line:
    item: str
    n: Annotated[int, {"minimum": 1}] = 1


@dataclass
class Order:
    customer: str
    lines: list[Line] = field(default_factory=list)


def forecast(asset: str, hours: int = 24, model: str = "mean") -> list[float]:
    """What an asset will load.

    An hour each.
    """
    return [float(len(asset) + len(model))] * hours


def order(order: Order) -> Order:
    return order


def hello() -> str:
    return "hello"


def total(lines: list[Line], discount: float = 0.0) -> float:
    return sum(line.n for line in lines) * (1 - discount)


def stock(table: pd.DataFrame, keep: bool = False) -> pd.DataFrame:
    return table


def keep(data: bytes, name: str = "data") -> int:
    return len(data)


def count(to: Annotated[int, range(0, 10)] = 3) -> Iterator[int]:
    yield from range(to)


def secret() -> None: ...


def rest(path: str) -> str:
    return path


__routes__ = {
    "GET /forecast/{asset}": {
        "handler": "forecast", "headers": {"model": "x-model"}, "tags": ["load"],
    },
    "PUT,POST /orders": {"handler": order, "status": 201, "summary": "Order it."},
    "GET /hello": {"handler": "hello", "media": "text/plain", "deprecated": True},
    "GET /secret": {"handler": "secret", "hidden": True},
    "GET /rest/{*path}": "rest",
}
'''


@pytest.fixture(scope="module")
def shop(
    exuvia_bin: Path, project_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """One server for all tests of the shop."""
    folder = tmp_path_factory.mktemp("shop")
    file = folder / "shop.py"
    file.write_text(SHOP)
    command = [str(exuvia_bin), "serve", str(file), "--port", "0", "--workers", "1"]
    with serving([*command, "--python", str(project_python)], cwd=folder) as running:
        yield running


@pytest.fixture(scope="module")
def document(shop: Server) -> dict[str, Any]:
    """What the shop's server says of it."""
    return read(shop)


def read(server: Server) -> dict[str, Any]:
    """Fetch the document, as programs do."""
    answer = server.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = answer.json()
    return found


def check_valid(document: dict[str, Any]) -> None:
    """Hold it to OpenAPI 3.1, and to references that lead somewhere."""
    assert document["openapi"].startswith("3.1.")
    validate(document, cls=OpenAPIV31SpecValidator)
    for place in references(document):
        found: Any = document
        for name in place.removeprefix("#/").split("/"):
            assert name in found, place
            found = found[name]


def references(value: Any) -> Iterator[str]:
    """Give every `$ref`."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def body_of(operation: dict[str, Any], media: str = "application/json") -> dict[str, Any]:
    """Give the schema of its body."""
    found: dict[str, Any] = operation["requestBody"]["content"][media]["schema"]
    return found


def result_of(operation: dict[str, Any], status: int = 200) -> dict[str, Any]:
    """Give the formats of its result."""
    found: dict[str, Any] = operation["responses"][str(status)]["content"]
    return found


# === validity ===


@pytest.mark.parametrize(
    "target",
    [ROOT / "examples" / "weather", ROOT / "examples" / "battery", EVERY_TYPE, EVERY_FILE],
    ids=lambda target: target.stem,
)
def test_validators_take_the_document(serve: Serve, target: Path) -> None:
    server = serve(target, args=["--workers", "1"])
    document = read(server)
    check_valid(document)
    operations = [one for path in document["paths"].values() for one in path.values()]
    routes = server.request("GET", "/", headers={"accept": "application/json"}).json()["handlers"]
    assert operations and {one["x-exuvia-handler"] for one in operations} == {
        route["handler"] for route in routes
    }


def test_the_same_routes_give_the_same_document_and_so_does_the_command(
    exuvia_bin: Path, project_python: Path, shop: Server, document: dict[str, Any]
) -> None:
    assert json.dumps(read(shop)) == json.dumps(document)
    target = Path(shop.process.args[2]) if isinstance(shop.process.args, list) else Path()
    command = [str(exuvia_bin), "openapi", str(target), "--python", str(project_python)]
    done: Completed = subprocess.run(
        command, capture_output=True, text=True, cwd=target.parent, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    check_valid(printed)
    for place in ("paths", "components", "tags"):
        assert printed[place] == document[place]


# === what it says ===


def test_routes_parameters_and_headers_stand_in_it(document: dict[str, Any]) -> None:
    check_valid(document)
    forecast = document["paths"]["/forecast/{asset}"]["get"]
    assert forecast["operationId"] == "shop.forecast"
    assert forecast["summary"] == "What an asset will load."
    assert forecast["description"] == "An hour each."
    assert forecast["tags"] == ["load"]
    assert "requestBody" not in forecast
    told = {(one["in"], one["name"]): one for one in forecast["parameters"]}
    assert told.keys() == {("path", "asset"), ("query", "hours"), ("header", "x-model")}
    assert told["path", "asset"]["required"] is True
    hours = told["query", "hours"]
    assert (hours["required"], hours["schema"]) == (False, {"type": "integer", "default": 24})
    assert result_of(forecast)["application/json"]["schema"] == {
        "type": "array",
        "items": {"type": "number"},
    }


def test_options_of_a_route_stand_in_it(document: dict[str, Any]) -> None:
    orders = document["paths"]["/orders"]
    assert orders.keys() == {"put", "post"}
    for method, operation in orders.items():
        assert operation["operationId"] == f"shop.order.{method}.orders"
        assert operation["summary"] == "Order it."
        assert "201" in operation["responses"] and "200" not in operation["responses"]
    hello = document["paths"]["/hello"]["get"]
    assert hello["deprecated"] is True
    assert [media.split(";")[0] for media in result_of(hello)] == ["text/plain"]
    assert "/secret" not in document["paths"]
    assert document["paths"]["/rest/{path}"]["get"]["parameters"][0]["in"] == "path"
    assert "/shop/order" not in document["paths"], "it has the routes it was given only"


def test_bodies_are_as_exact_as_the_reading(document: dict[str, Any]) -> None:
    order = body_of(document["paths"]["/orders"]["post"])
    by_name, whole = order["anyOf"]
    assert by_name["required"] == ["order"] and by_name["additionalProperties"] is False
    assert whole == {"$ref": "#/components/schemas/Order"}
    schema = document["components"]["schemas"]["Order"]
    assert schema["required"] == ["customer"] and schema["additionalProperties"] is False
    line = document["components"]["schemas"]["Line"]
    assert line["properties"]["n"]["minimum"] == 1
    total = document["paths"]["/shop/total"]["post"]
    assert total["requestBody"]["required"] is True
    stock = document["paths"]["/shop/stock"]["post"]
    assert {"text/csv", "application/vnd.apache.parquet", "multipart/form-data"} <= set(
        stock["requestBody"]["content"]
    )
    assert "application/vnd.apache.arrow.stream" in result_of(stock)
    keep = document["paths"]["/shop/keep"]["post"]["requestBody"]["content"]
    assert {"application/octet-stream", "multipart/form-data"} <= keep.keys()
    count = result_of(document["paths"]["/shop/count"]["post"])
    assert {"application/json", "application/x-ndjson", "text/event-stream"} <= count.keys()


def test_what_it_says_is_what_happens(shop: Server, document: dict[str, Any]) -> None:
    def answered(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
        raw = None if body is None else json.dumps(body).encode()
        named = {"content-type": "application/json"} if raw else {}
        answer = shop.request(method, path, raw, {**named, **headers})
        return answer.status, answer.body.decode()

    assert answered("GET", "/forecast/pv?hours=2", **{"x-model": "max"}) == (200, "[5.0,5.0]")
    order = {"customer": "a", "lines": [{"item": "nut", "n": 2}]}
    for method in ("PUT", "POST"):
        assert answered(method, "/orders", order)[0] == 201
        assert answered(method, "/orders", {"order": order})[0] == 201
        assert answered(method, "/orders", {"order": order, "customer": "a"})[0] == 422
    assert answered("GET", "/hello") == (200, "hello")
    assert answered("GET", "/secret")[0] == 200
    assert answered("GET", "/rest/a/b%2Fc") == (200, '"a/b/c"')
    assert answered("POST", "/shop/total", [{"item": "nut", "n": 2}]) == (200, "2.0")
    # A status that is not said does not come.
    status, body = answered("POST", "/shop/total", {"lines": [{"n": 0}], "discount": "x"})
    said = document["paths"]["/shop/total"]["post"]["responses"][str(status)]
    assert said == {"$ref": "#/components/responses/Unfit"}
    problem = document["components"]["schemas"]["Problem"]
    assert set(problem["required"]) <= json.loads(body).keys()
    pointers = {fault["pointer"] for fault in json.loads(body)["errors"]}
    assert pointers == {"/lines/0/item", "/lines/0/n", "/discount"}
