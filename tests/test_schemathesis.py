"""schemathesis against our own OpenAPI document: what it says is taken, and nothing else is.

For every operation it makes requests that the document allows and such that it forbids, and looks
at each answer: status, media type, headers, schema. A failure prints the request as `curl`. By
hand, with more examples and another seed::

    SCHEMATHESIS_EXAMPLES=2000 SCHEMATHESIS_SEED=7 .venv/bin/python -m pytest \\
        tests/test_schemathesis.py --timeout 3600
"""

import os
import subprocess
from pathlib import Path

import pytest
from conftest import Completed, Serve
from processes import ROOT, Server

HERE = Path(__file__).parent
EVERY_TYPE = HERE / "handlers" / "every_type.py"
EVERY_FILE = HERE / "handlers" / "every_file.py"

SEED = os.environ.get("SCHEMATHESIS_SEED", "5")
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES")

PHASES = "examples,coverage,fuzzing,stateful"

# What columns a table needs is said nowhere but in these handlers, and that all rows have values of
# one kind cannot be said at all: they refuse what the document allows. What is then said is held to
# that by `what_fits_is_refused_by_handlers_only`.
OF_TABLES = {
    "weather": ["/weather/spread"],
    "battery": ["/battery/dispatch", "/battery/schedule", "/battery/summary"],
    "every_file": [
        f"/every_file/{name}" for name in ("frame", "polar", "arrow", "batches", "array")
    ],
}

# A form is text: an object in the place of a file is the text of it, which is a file as any other.
OF_FORMS = {"every_file": ["/every_file/several"]}


def settings(folder: Path, name: str) -> Path:
    """Write what goes for single operations alone."""
    tables = "checks.positive_data_acceptance.expected-statuses = ['2xx', 422]"
    forms = "checks.negative_data_rejection.expected-statuses = ['2xx', 400, 415, 422]"
    said = [(path, tables) for path in OF_TABLES.get(name, [])]
    said += [(path, forms) for path in OF_FORMS.get(name, [])]
    file = folder / "schemathesis.toml"
    file.write_text(
        "".join(f'[[operations]]\ninclude-path = "{path}"\n{line}\n' for path, line in said)
    )
    return file


def examine(server: Server, python: Path, config: Path, examples: int) -> str:
    """Run schemathesis to its end, and give what it says; a failure is the test's."""
    command = [
        str(python.parent / "schemathesis"),
        "--config-file",
        str(config),
        "run",
        f"{server.url}/openapi.json",
        "--checks=all",
        f"--phases={PHASES}",
        f"--seed={SEED}",
        f"--max-examples={EXAMPLES or examples}",
        "--continue-on-failure",
        "--workers=2",
        "--generation-database=none",
        "--no-color",
    ]
    done: Completed = subprocess.run(
        command,
        cwd=config.parent,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + server.log()
    return done.stdout


@pytest.mark.parametrize(
    ("target", "examples"),
    [
        (ROOT / "examples" / "weather", 30),
        # Each of its calls is a linear programme, or a year of weather.
        (ROOT / "examples" / "battery", 5),
        (EVERY_TYPE, 15),
        (EVERY_FILE, 20),
    ],
    ids=["weather", "battery", "every_type", "every_file"],
)
def test_what_the_document_says_is_what_happens(
    serve: Serve, project_python: Path, tmp_path: Path, target: Path, examples: int
) -> None:
    server = serve(target, args=["--workers", "2"])
    examine(server, project_python, settings(tmp_path, target.stem), examples)
    assert server.get("/readyz").status == 200
    assert sum(server.restarts().values()) == 0, server.log()
