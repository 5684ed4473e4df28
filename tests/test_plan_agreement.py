"""Reader and schema say the same: what one takes or writes, the other takes (docs/types.md)."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
from conftest import Serve
from plan_cases import CASES, CLASSES, shown
from plans import described, load, module_of

# What has no place in JSON as it is, or is no key there.
UNWRITTEN = (
    "bytes",
    "pathlib",
    "ipaddress",
    "dict[date",
    "dict[UUID",
    "dict[Decimal",
    "dict[Color",
)


def written(annotation: str) -> bool:
    return not any(word in annotation for word in UNWRITTEN)


def source(echoes: bool) -> str:
    """A module with a handler for each annotation, which gives back what it was given."""
    functions = []
    for number, annotation in enumerate(CASES):
        returns = f" -> {annotation}" if echoes and written(annotation) else ""
        body = "return given" if returns else "return None"
        functions.append(f"def f{number}(given: {annotation}){returns}:\n    {body}\n")
    return CLASSES + "\n".join(functions)


def validators(told: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    definitions = {"components": {"schemas": told["definitions"]}}
    return {
        name: jsonschema_rs.Draft202012Validator({**schema, **definitions}, validate_formats=True)
        for name, schema in schemas.items()
    }


def test_what_is_read_is_what_the_table_says(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "cases.py"
    file.write_text(source(echoes=False))
    server = serve(file)
    wrong = []
    for number, (annotation, (takes, refuses)) in enumerate(CASES.items()):
        for value, status in [*((each, 200) for each in takes), *((each, 422) for each in refuses)]:
            body = shown({"given": value}).encode()
            answer = server.post(f"/cases/f{number}", raw=body)
            if answer.status != status:
                wrong.append((annotation, value, answer.status, answer.body.decode()[:200]))
            elif status == 422:
                errors = json.loads(answer.body)["errors"]
                if not all(error["pointer"].startswith("/given") for error in errors):
                    wrong.append((annotation, value, 422, json.dumps(errors)))
    assert not wrong, "\n".join(map(repr, wrong))


def test_what_is_written_fits_the_schema_of_the_result(serve: Serve, tmp_path: Path) -> None:
    load()
    file = tmp_path / "cases.py"
    file.write_text(source(echoes=True))
    module = module_of(source(echoes=True))
    functions = {f"f{number}": value for number, value in enumerate(CASES) if written(value)}
    told = described(*(getattr(module, name) for name in functions))
    results = {name: told["handlers"][f"m:{name}"]["returns"] for name in functions}
    fits = validators(told, results)
    server = serve(file)
    wrong = []
    for name, annotation in functions.items():
        for value in CASES[annotation][0]:
            body = shown({"given": value}).encode()
            answer = server.post(f"/cases/{name}", raw=body)
            fit = answer.status == 200 and fits[name].is_valid(json.loads(answer.body))
            if not fit:
                wrong.append((annotation, value, answer.status, answer.body.decode()[:200]))
    assert len(functions) > 60
    assert not wrong, "\n".join(map(repr, wrong))
