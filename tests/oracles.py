"""What public data sets must come to, for the tests that send them through."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT
from vega_datasets import data

WEATHER = ROOT / "examples/weather/weather.py"


def seattle_temps() -> list[dict[str, Any]]:
    """The 8759 hourly temperatures of Seattle in 2010, as rows that JSON can hold."""
    text = data.seattle_temps().to_json(orient="records", date_format="iso", date_unit="s")
    rows: list[dict[str, Any]] = json.loads(text)
    assert len(rows) == 8759
    return rows


def write_ndjson(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write one row a line."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read_ndjson(text: str | bytes) -> list[Any]:
    """Read one value a line."""
    return [json.loads(line) for line in text.splitlines()]


def check_spread(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check the daily spread of `seattle_temps`."""
    spreads = {row["date"]: row["spread"] for row in rows}
    assert len(rows) == len(spreads) == 365
    assert sum(spreads.values()) == pytest.approx(4096.4, abs=1e-6)
    widest = max(spreads, key=lambda date: float(spreads[date]))
    assert widest == "2010-07-28"
    assert spreads[widest] == pytest.approx(18.6, abs=1e-6)
