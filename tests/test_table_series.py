"""Typed time series: unit and gaps are found once and stay with the table."""

import datetime as dt
from pathlib import Path
from typing import Any

import exuvia
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import Call
from table_formats import as_parquet, as_stream
from vega_datasets import data

SAME = Path(__file__).parent / "handlers/tables_same.py"

HOUR = dt.timedelta(hours=1)
UNITS = {"temp": "degF"}
# That night the clocks of Seattle went forward.
MISSING = dt.datetime(2010, 3, 14, 3)
SAID = {"time": "date", "step": HOUR, "gaps": [(MISSING, MISSING)], "units": UNITS}


def temps() -> Any:
    """The hourly temperatures of Seattle in 2010, without a word of metadata."""
    frame = data.seattle_temps()
    hours = pd.date_range(frame["date"].min(), frame["date"].max(), freq="h")
    assert list(hours.difference(frame["date"])) == [pd.Timestamp(MISSING)]
    table = pa.Table.from_pandas(frame).replace_schema_metadata()
    assert table.num_rows == 8759
    return table


def hours(*numbers: int | None) -> dict[str, Any]:
    start = dt.datetime(2024, 1, 1)
    at = [None if number is None else start + number * HOUR for number in numbers]
    return {"at": at, "power": [1.5] * len(at)}


def test_the_hour_that_is_missing_is_the_gap() -> None:
    noted = exuvia.series(temps(), "date", HOUR, UNITS)
    assert exuvia.series_of(noted) == SAID
    assert pa.table(noted).equals(temps())
    assert pa.table(noted).schema.field("temp").metadata == {b"unit": b"degF"}


def test_nothing_of_the_columns_is_copied() -> None:
    table = exuvia.Table.from_arrow(temps())
    assert exuvia.series(table, "date", 3600).addresses() == table.addresses()


@pytest.mark.parametrize(
    "make",
    [pd.DataFrame, pl.DataFrame, pa.table, dict],
    ids=["pandas", "polars", "pyarrow", "dict"],
)
@pytest.mark.parametrize("step", [HOUR, 3600, 3600.0])
def test_anything_that_is_a_table_can_be_a_series(make: Any, step: Any) -> None:
    noted = exuvia.series(make(hours(0, 1, 4, 5)), "at", step)
    first, last = dt.datetime(2024, 1, 1, 2), dt.datetime(2024, 1, 1, 3)
    assert exuvia.series_of(noted) == {
        "time": "at",
        "step": HOUR,
        "gaps": [(first, last)],
        "units": {},
    }


def test_gaps_know_the_zone_of_their_times() -> None:
    utc = pd.date_range("2024-03-31", periods=4, freq="h", tz="UTC").delete(1)
    frame = pd.DataFrame({"at": utc.tz_convert("Europe/Oslo")})
    said = exuvia.series_of(exuvia.series(frame, "at", HOUR))
    assert said is not None
    [(first, last)] = said["gaps"]
    assert first == last == dt.datetime(2024, 3, 31, 1, tzinfo=dt.UTC)
    assert first.isoformat() == "2024-03-31T03:00:00+02:00"


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((0, 1, 1), 'column "at", row 2: 2024-01-01T01:00:00 comes a second time'),
        ((0, 2, 1), 'column "at", row 2: 2024-01-01T01:00:00 comes after 2024-01-01T02:00:00'),
        ((0, None, 2), 'column "at", row 1: it is null'),
    ],
)
def test_times_out_of_order_are_refused_by_their_row(numbers: Any, said: str) -> None:
    with pytest.raises(ValueError, match="row") as caught:
        exuvia.series(pa.table(hours(*numbers)), "at", HOUR)
    assert str(caught.value).startswith(said)


def test_times_between_the_steps_are_refused_by_their_row() -> None:
    with pytest.raises(ValueError, match='column "at", row 1: .* is no step from'):
        exuvia.series(pa.table(hours(0, 1)), "at", 2 * HOUR)


def test_what_is_no_series_is_refused_in_words() -> None:
    table = pa.table(hours(0, 1))
    with pytest.raises(ValueError, match='there is no column "ta".*Did you mean `at`'):
        exuvia.series(table, "ta", HOUR)
    with pytest.raises(ValueError, match='no column "powr".*Did you mean `power`'):
        exuvia.series(table, "at", HOUR, {"powr": "kW"})
    with pytest.raises(ValueError, match='column "power" holds no times'):
        exuvia.series(table, "power", HOUR)
    steps: list[Any] = [0, -1, float("nan"), float("inf"), 1e-12, -HOUR]
    for step in steps:
        with pytest.raises(ValueError, match=r"(?i)step|negative"):
            exuvia.series(table, "at", step)
    no_steps: list[Any] = ["1h", None]
    for wrong in no_steps:
        with pytest.raises(TypeError, match="a step is a timedelta or a number of seconds"):
            exuvia.series(table, "at", wrong)
    with pytest.raises(TypeError, match="a unit is text, not an int"):
        exuvia.series(table, "at", HOUR, {"power": 1})  # type: ignore[dict-item] # that is the point
    with pytest.raises(TypeError, match="a series is a table, not an int"):
        exuvia.series(7, "at", HOUR)


def test_a_table_that_says_nothing_is_no_series() -> None:
    assert exuvia.series_of(temps()) is None
    broken = temps().replace_schema_metadata({"exuvia:series": "{"})
    with pytest.raises(ValueError, match="the metadata `exuvia:series` cannot be read"):
        exuvia.series_of(broken)


# === through handlers ===


def passed(call: Call, folder: Path, handler: str, ending: str) -> Any:
    """The series after a handler that gives back what it gets, as pyarrow reads it."""
    noted = pa.table(exuvia.series(temps(), "date", HOUR, UNITS))
    source, result = folder / f"in.{ending}", folder / f"out.{ending}"
    source.write_bytes(as_parquet(noted) if ending == "parquet" else as_stream(noted))
    done = call(f"{SAME}:{handler}", "--in", str(source), "--out", str(result))
    assert done.returncode == 0, done.stderr
    if ending == "parquet":
        return pa.parquet.read_table(result)
    return pa.ipc.open_stream(result.read_bytes()).read_all()


@pytest.mark.parametrize("handler", ["arrow", "arro", "frame"])
@pytest.mark.parametrize("ending", ["arrows", "parquet"])
def test_a_series_stays_one_through_a_handler(
    call: Call, tmp_path: Path, handler: str, ending: str
) -> None:
    assert exuvia.series_of(passed(call, tmp_path, handler, ending)) == SAID


def test_polars_has_no_place_for_it(call: Call, tmp_path: Path) -> None:
    assert exuvia.series_of(passed(call, tmp_path, "pola", "arrows")) is None


def test_a_handler_sees_it_in_the_attributes_of_its_frame(call: Call, tmp_path: Path) -> None:
    handler = tmp_path / "seen.py"
    handler.write_text(
        "import exuvia\n"
        "import pandas as pd\n\n"
        "def unit(table: pd.DataFrame) -> list[str]:\n"
        "    return [exuvia.series_of(table)['units']['temp'], str(table.attrs)]\n"
    )
    source = tmp_path / "in.arrows"
    source.write_bytes(as_stream(pa.table(exuvia.series(temps(), "date", HOUR, UNITS))))
    done = call(f"{handler}:unit", "--in", str(source))
    assert done.returncode == 0, done.stderr
    assert "degF" in done.stdout
    assert "exuvia:series" in done.stdout
