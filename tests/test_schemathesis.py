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

SEED = os.environ.get("SCHEMATHESIS_SEED", "5")
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES")

PHASES = "examples,coverage,fuzzing,stateful"

# Tables reach these as they are sent, and what columns they need is said nowhere but in the
# handler, which raises ValueError: a 500 of its own. The hooks hold them to exactly that.
WANT_COLUMNS = ["/weather/spread", "/battery/dispatch", "/battery/schedule", "/battery/summary"]


def settings(folder: Path) -> Path:
    """Write what goes for single operations alone."""
    paths = [
        f"""
        [[operations]]
        include-path = "{path}"
        checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 500]
        """
        for path in WANT_COLUMNS
    ]
    file = folder / "schemathesis.toml"
    file.write_text("".join(paths))
    return file


def examine(server: Server, python: Path, folder: Path, examples: int, *more: str) -> str:
    """Run schemathesis to its end, and give what it says; a failure is the test's."""
    command = [
        str(python.parent / "schemathesis"),
        "--config-file",
        str(settings(folder)),
        "run",
        f"{server.url}/openapi.json",
        "--checks=all",
        f"--phases={PHASES}",
        f"--seed={SEED}",
        f"--max-examples={EXAMPLES or examples}",
        "--continue-on-failure",
        "--generation-database=none",
        "--no-color",
        *more,
    ]
    done: Completed = subprocess.run(
        command,
        cwd=folder,
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
        # Each of its calls is a linear programme, and a year of weather.
        (ROOT / "examples" / "battery", 5),
        (EVERY_TYPE, 20),
    ],
    ids=["weather", "battery", "every_type"],
)
def test_what_the_document_says_is_what_happens(
    serve: Serve, project_python: Path, tmp_path: Path, target: Path, examples: int
) -> None:
    server = serve(target, args=["--workers", "2"])
    examine(server, project_python, tmp_path, examples)
    assert server.get("/readyz").status == 200
