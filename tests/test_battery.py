"""examples/battery: the year is what its file says, the plan is physics and the cheapest there is.

What is checked against stands here by itself: the TMY3 file read by pandas alone, the sun by
textbook formulas, the cheapest plan by dynamic programming and by the conditions of optimality.
"""

import importlib.util
import json
import math
import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import Call, Serve
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import ROOT

# Not for every Python: CPython 3.15 has no wheel of h5py, which pvlib needs.
pvlib: Any = pytest.importorskip("pvlib", reason="pvlib is not installed")

FOLDER = ROOT / "examples/battery"
BATTERY = FOLDER / "battery.py"
LATITUDE, LONGITUDE, ZONE = math.radians(36.1), -79.95, -5
KWH, KW, EFFICIENCY = 13.5, 5.0, 0.9  # the defaults
TINY = 1e-6


def load() -> ModuleType:
    """The example as a module of this process."""
    spec = importlib.util.spec_from_file_location("battery", BATTERY)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


battery = load()


@cache
def year() -> pd.DataFrame:
    table: pd.DataFrame = battery.series()
    return table


@cache
def both() -> dict[str, Any]:
    result: dict[str, Any] = battery.dispatch(year())
    return result


@cache
def file() -> pd.DataFrame:
    """The TMY3 file, by pandas alone."""
    return pd.read_csv(Path(pvlib.__file__).parent / "data/723170TYA.CSV", skiprows=1)


def hours(rest: Any, price: Any) -> pd.DataFrame:
    """Hours in which the house lacks ``rest`` (negative: has too much)."""
    rest = np.asarray(rest, float)
    return pd.DataFrame(
        {
            "time": pd.date_range("2026-01-01", periods=len(rest), freq="h", tz="UTC"),
            "load_kw": rest.clip(min=0),
            "pv_kw": (-rest).clip(min=0),
            "price_eur_mwh": np.asarray(price, float),
        }
    )


# === the year ===


def test_the_year_is_the_file(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "year.json"
    done = call(f"{BATTERY}:series", "--out", str(out))
    assert done.returncode == 0, done.stderr
    table = pd.DataFrame(json.loads(out.read_text()))
    assert list(table) == [
        "time", "ghi_w_m2", "dni_w_m2", "dhi_w_m2", "temp_air_c", "wind_speed_m_s",
        "load_kw", "price_eur_mwh", "pv_kw",
    ]  # fmt: skip
    assert len(table) == len(file()) == 8760
    assert table["ghi_w_m2"].sum() == 1566203
    assert table["dni_w_m2"].sum() == 1476549
    assert table["dhi_w_m2"].sum() == 682223
    for ours, theirs in {
        "ghi_w_m2": "GHI (W/m^2)",
        "dni_w_m2": "DNI (W/m^2)",
        "dhi_w_m2": "DHI (W/m^2)",
        "temp_air_c": "Dry-bulb (C)",
        "wind_speed_m_s": "Wspd (m/s)",
    }.items():
        assert table[ours].tolist() == file()[theirs].tolist(), ours
    assert table["time"][0] == "1990-01-01T00:00:00-05:00"
    assert table["time"][8759] == "1990-12-31T23:00:00-05:00"
    # The file says "01:00" of the hour that ends then.
    ends = pd.to_datetime(table["time"]) + pd.Timedelta(hours=1)
    named = file()["Time (HH:MM)"].str[:2].astype(int) % 24
    assert ends.dt.hour.tolist() == named.tolist()


def test_the_year_is_eight_columns_of_float64_without_a_gap() -> None:
    table = year()
    assert isinstance(table["time"].dtype, pd.DatetimeTZDtype)
    assert table["time"].diff().iloc[1:].unique().tolist() == [pd.Timedelta(hours=1)]
    assert [str(kind) for kind in table.dtypes.iloc[1:]] == ["float64"] * 8
    assert np.isfinite(table.iloc[:, 1:].to_numpy()).all()
    assert (table[["load_kw", "price_eur_mwh"]] > 0).all(axis=None)
    pd.testing.assert_frame_equal(table, battery.series(), check_exact=True)


def sun(tilt: float) -> np.ndarray[Any, Any]:
    """The cosine of the sun's angle to a plane that faces south, in the middle of each hour.

    Declination and equation of time by Spencer (1971), the angle by Duffie and Beckman.
    """
    time = year()["time"].dt
    angle = 2 * np.pi * (time.day_of_year.to_numpy() - 1) / 365
    declination = (
        0.006918 - 0.399912 * np.cos(angle) + 0.070257 * np.sin(angle)
        - 0.006758 * np.cos(2 * angle) + 0.000907 * np.sin(2 * angle)
        - 0.002697 * np.cos(3 * angle) + 0.00148 * np.sin(3 * angle)
    )  # fmt: skip
    minutes = 229.18 * (
        0.000075 + 0.001868 * np.cos(angle) - 0.032077 * np.sin(angle)
        - 0.014615 * np.cos(2 * angle) - 0.04089 * np.sin(2 * angle)
    )  # fmt: skip
    clock = time.hour.to_numpy() + 0.5 + LONGITUDE / 15 - ZONE + minutes / 60
    west = np.radians(15 * (clock - 12))
    at = LATITUDE - math.radians(tilt)
    cosine = np.sin(declination) * np.sin(at)
    cosine += np.cos(declination) * np.cos(at) * np.cos(west)
    above: np.ndarray[Any, Any] = np.maximum(cosine, 0)
    return above


def test_hours_are_named_by_their_start() -> None:
    """Direct and diffuse light add up to the global, if the sun is where these times put it."""
    table = year()

    def off(shift: int) -> float:
        added = table["dni_w_m2"] * np.roll(sun(0), shift) + table["dhi_w_m2"]
        return float((added - table["ghi_w_m2"]).abs().mean())

    assert 4 * off(0) < min(off(-1), off(1))


def test_the_yield_is_what_a_simpler_model_says() -> None:
    table = year()
    sky, ground = (1 + math.cos(math.radians(30))) / 2, (1 - math.cos(math.radians(30))) / 2
    plane = table["dni_w_m2"] * sun(30) + table["dhi_w_m2"] * sky
    plane += 0.25 * table["ghi_w_m2"] * ground
    # A cell is some 35 K warmer than the air in full sun; 14 % and 4 % are lost on the way.
    warmth = table["temp_air_c"] + 0.035 * plane - 25
    expected = 6.0 * plane / 1000 * (1 - 0.0037 * warmth) * 0.86 * 0.96
    assert table["pv_kw"].sum() == pytest.approx(expected.sum(), rel=0.05)
    assert np.corrcoef(table["pv_kw"], expected)[0, 1] > 0.99
    assert table["pv_kw"].between(0, 5.0).all()
    assert (table["pv_kw"][table["ghi_w_m2"] == 0] == 0).all()


# === the plan ===


def paid(grid: Any, price: Any) -> float:
    """What the house pays: half the price for what it sells."""
    pairs = zip(grid, price, strict=True)
    return math.fsum(each * (kw if kw > 0 else kw / 2) / 1000 for kw, each in pairs)


def check_plan(
    table: pd.DataFrame,
    plan: pd.DataFrame,
    kwh: float = KWH,
    kw: float = KW,
    eff: float = EFFICIENCY,
) -> None:
    """Check what no plan may break."""
    assert list(plan) == ["time", "charge_kw", "discharge_kw", "grid_kw", "soc_kwh"]
    assert len(plan) == len(table)
    pd.testing.assert_series_equal(
        pd.to_datetime(plan["time"], utc=True), pd.to_datetime(table["time"], utc=True),
        check_dtype=False,
    )  # fmt: skip
    charge, discharge, grid, soc = (plan[name].to_numpy(float) for name in plan.columns[1:])
    given = table["pv_kw"] + discharge + grid - table["load_kw"] - charge
    assert np.abs(given).max() < TINY, "what comes into the house is not what leaves it"
    stored = np.diff(soc, prepend=0.0) - charge * eff**0.5 + discharge / eff**0.5
    assert np.abs(stored).max() < TINY, "what is stored is not what went in and out"
    assert soc.min() >= 0 and soc.max() <= kwh and soc[-1] == pytest.approx(0, abs=TINY)
    assert min(charge.min(), discharge.min()) >= 0
    assert max(charge.max(), discharge.max()) <= kw + TINY
    assert not ((charge > 0) & (discharge > 0)).any()


def is_cheapest(table: pd.DataFrame, soc: Any, kwh: float, kw: float, eff: float) -> bool:
    """Tell whether no other path of stored energy is cheaper.

    The cost is a sum of convex functions, one of each hour's change. So a path is the cheapest if
    and only if (Karush, Kuhn, Tucker) a kWh in store can be given a value in each hour that is
    between what one kWh less and one more would cost then, and that from one hour to the next rises
    only where the battery is full and falls only where it is empty. ``low`` and ``high`` bound it.
    """
    one_way = eff**0.5

    def cost_of_more(rest: float, price: float, change: float) -> float:
        unit: float = 1 / one_way if change > 0 else one_way
        if abs(change * unit) > kw:
            return math.copysign(math.inf, change)
        return price * unit * (1 if rest + change * unit > 0 else 0.5)

    low, high = -math.inf, math.inf
    rest = (table["load_kw"] - table["pv_kw"]).tolist()
    price = table["price_eur_mwh"].tolist()
    before = 0.0
    for lacks, each, after in zip(rest, price, soc, strict=True):
        change = after - before
        low = max(low, cost_of_more(lacks, each, change - TINY))
        high = min(high, cost_of_more(lacks, each, change + TINY))
        if low > high + TINY:
            return False
        if after <= TINY:
            low = -math.inf
        if after >= kwh - TINY:
            high = math.inf
        before = after
    return True


def test_the_plan_of_the_year_is_physics() -> None:
    check_plan(year(), both()["schedule"])


def test_no_plan_of_the_year_is_cheaper() -> None:
    soc = both()["schedule"]["soc_kwh"].tolist()
    assert is_cheapest(year(), soc, KWH, KW, EFFICIENCY)
    # The judge sees through a plan that is a little worse, and through having no plan.
    worse = [each * 0.999 for each in soc]
    assert not is_cheapest(year(), worse, KWH, KW, EFFICIENCY)
    assert not is_cheapest(year(), [0.0] * 8760, KWH, KW, EFFICIENCY)


def test_the_summary_is_what_the_schedule_adds_up_to() -> None:
    table, plan, said = year(), both()["schedule"], both()["summary"]
    lacks = table["load_kw"] - table["pv_kw"]
    without, with_battery = (
        paid(grid, table["price_eur_mwh"]) for grid in (lacks, plan["grid_kw"])
    )
    assert said == pytest.approx(
        {
            "load_kwh": table["load_kw"].sum(),
            "pv_kwh": table["pv_kw"].sum(),
            "bought_kwh": sum(kw for kw in plan["grid_kw"] if kw > 0),
            "sold_kwh": -sum(kw for kw in plan["grid_kw"] if kw < 0),
            "cost_without_eur": without,
            "cost_with_eur": with_battery,
            "saved_eur": without - with_battery,
            "self_consumption_without": _own(table["pv_kw"], table["load_kw"]),
            "self_consumption_with": _own(table["pv_kw"], table["load_kw"] + plan["charge_kw"]),
            "cycles": plan["charge_kw"].sum() * EFFICIENCY**0.5 / KWH,
        }
    )
    assert said["cost_with_eur"] < said["cost_without_eur"]
    assert 0 < said["self_consumption_without"] < said["self_consumption_with"] < 1


def _own(pv: Any, use: Any) -> float:
    return math.fsum(min(pair) for pair in zip(pv, use, strict=True)) / math.fsum(pv)


def test_the_readme_states_the_summary() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, value in both()["summary"].items():
        stated = re.search(rf"^\| `{name}` \|[^|]*\| ([\d.]+) \|$", text, re.MULTILINE)
        assert stated, name
        digits = len(stated[1].partition(".")[2])
        assert stated[1] == f"{value:.{digits}f}", name


kilowatts = st.integers(-4, 4)
prices = st.integers(0, 30).map(lambda price: price * 10)


def decimals(least: float, most: float, digits: int) -> st.SearchStrategy[float]:
    """Numbers as people have them: the solver takes what differs by less than 1e-7 as equal."""
    scale: int = 10**digits
    whole = st.integers(round(least * scale), round(most * scale))
    return whole.map(lambda number: number / scale)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(kilowatts, prices), min_size=1, max_size=10), st.integers(0, 5),
       st.integers(0, 3))  # fmt: skip
def test_without_losses_the_plan_is_that_of_dynamic_programming(
    given: list[tuple[int, int]], kwh: int, kw: int
) -> None:
    """In whole numbers, that has to look at whole kWh only: the flow in a network is integral."""
    cheapest = {0: 0.0}
    for lacks, price in given:
        reached: dict[int, float] = {}
        for stored, cost in cheapest.items():
            for after in range(max(0, stored - kw), min(kwh, stored + kw) + 1):
                total = cost + paid([lacks + after - stored], [price])
                reached[after] = min(total, reached.get(after, math.inf))
        cheapest = reached
    result = battery.dispatch(hours(*zip(*given, strict=True)), kwh, kw, 1.0)
    assert result["summary"]["cost_with_eur"] == pytest.approx(cheapest[0], abs=1e-9)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(decimals(-9, 9, 3), decimals(0, 400, 2)), min_size=1, max_size=48),
    decimals(0, 20, 3),
    decimals(0, 9, 3),
    decimals(0.1, 1, 2),
)
def test_any_plan_is_physics_and_the_cheapest(
    given: list[tuple[float, float]], kwh: float, kw: float, eff: float
) -> None:
    table = hours(*zip(*given, strict=True))
    result = battery.dispatch(table, kwh, kw, eff)
    plan, said = result["schedule"], result["summary"]
    check_plan(table, plan, kwh, kw, eff)
    assert is_cheapest(table, plan["soc_kwh"].tolist(), kwh, kw, eff)
    assert said["cost_with_eur"] <= said["cost_without_eur"] + TINY


def test_a_plan_known_by_heart() -> None:
    """Store 4 kWh at 100, of which 1 is left after the losses, and use it at 500."""
    table = hours([0, 0, 3], [100, 300, 500])
    plan = battery.schedule(table, capacity_kwh=2, power_kw=9, efficiency=0.25)
    assert plan["charge_kw"].tolist() == pytest.approx([4, 0, 0])
    assert plan["discharge_kw"].tolist() == pytest.approx([0, 0, 1])
    assert plan["soc_kwh"].tolist() == pytest.approx([2, 2, 0])
    said = battery.summary(table, capacity_kwh=2, power_kw=9, efficiency=0.25)
    assert said["cost_without_eur"] == pytest.approx(1.5)
    assert said["cost_with_eur"] == pytest.approx(1.4)


def spoiled(**columns: Any) -> pd.DataFrame:
    table = hours([1, 2, 3], [10, 20, 30])
    for name, value in columns.items():
        table[name] = value
    return table


@pytest.mark.parametrize(
    "table, said",
    [
        (hours([], []), "a row is needed"),
        (spoiled().drop(columns=["pv_kw", "time"]), "no column named pv_kw, time"),
        (spoiled(load_kw=[1, None, 1]), "a number for load_kw"),
        (spoiled(load_kw=[1, "a", 1]), "numbers and times are needed"),
        (spoiled(pv_kw=[1, math.inf, 1]), "a number for load_kw, pv_kw"),
        (spoiled(price_eur_mwh=[1, -1, 1]), "price_eur_mwh must not be negative"),
        (spoiled(time=pd.date_range("2026", periods=3, freq="2h")), "from hour to hour"),
    ],
)
def test_what_makes_no_sense_is_said(table: pd.DataFrame, said: str) -> None:
    with pytest.raises(battery.UnfitSeriesError, match=said):
        battery.summary(table)


def test_what_makes_no_sense_is_the_callers_fault(serve: Serve) -> None:
    server = serve(FOLDER)
    rows = json.loads(spoiled().to_json(orient="records", date_format="iso"))
    told = {"series": rows, "capacity_kwh": -1, "power_kw": 2e6, "efficiency": 1.1}
    answer = server.post("/battery/summary", told)
    assert answer.status == 422
    faults = {each["pointer"]: each["detail"] for each in answer.json()["errors"]}
    assert faults == {
        "/capacity_kwh": "must be at least 0, not -1.0",
        "/power_kw": "must be at most 1000000.0, not 2000000.0",
        "/efficiency": "must be at most 1, not 1.1",
    }
    rows[1]["price_eur_mwh"] = -1
    answer = server.post("/battery/summary", {"series": rows})
    assert answer.status == 422 and answer.json()["type"] == "urn:exuvia:problem:refused"
    assert answer.json()["detail"] == "price_eur_mwh must not be negative"


# === through the program ===


def read_json(path: Path) -> pd.DataFrame:
    return pd.DataFrame(json.loads(path.read_text()))


def read_ndjson(path: Path) -> pd.DataFrame:
    return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])


def read_stream(path: Path) -> pd.DataFrame:
    frame: pd.DataFrame = pa.ipc.open_stream(path.read_bytes()).read_pandas()
    return frame


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "json": read_json,
    "ndjson": read_ndjson,
    "csv": pd.read_csv,
    "parquet": pd.read_parquet,
    "arrow": pd.read_feather,
    "arrows": read_stream,
}


def read(path: Path) -> pd.DataFrame:
    """What a client of pandas and pyarrow finds in the file; times to compare by their instants."""
    table = READERS[path.suffix[1:]](path)
    table["time"] = pd.to_datetime(table["time"], utc=True)
    return table


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    """Check that two tables are the same to the last bit."""
    right = right.assign(time=pd.to_datetime(right["time"], utc=True))
    pd.testing.assert_frame_equal(left, right, check_exact=True, check_dtype=False)


@pytest.mark.parametrize("form", READERS)
def test_the_year_goes_in_and_its_plan_comes_out(call: Call, tmp_path: Path, form: str) -> None:
    given, made = tmp_path / f"year.{form}", tmp_path / f"plan.{form}"
    done = call(f"{BATTERY}:series", "--out", str(given))
    assert done.returncode == 0, done.stderr
    same(read(given), year())
    if form in {"parquet", "arrow", "arrows"}:
        zone = READERS[form](given)["time"].dt.tz
        assert zone.utcoffset(None) == timedelta(hours=-5)
    done = call(f"{BATTERY}:schedule", "--in", str(given), "--out", str(made))
    assert done.returncode == 0, done.stderr
    same(read(made), both()["schedule"])
    check_plan(year(), read(made))
    done = call(f"{BATTERY}:summary", "--in", str(given), "--arg", "capacity_kwh=0")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["saved_eur"], said["cycles"]) == (0, 0)
    assert said["cost_without_eur"] == both()["summary"]["cost_without_eur"]


def test_a_table_beside_numbers_is_one_answer(call: Call, tmp_path: Path) -> None:
    given, made = tmp_path / "year.json", tmp_path / "both.json"
    year().to_json(given, orient="records", date_format="iso", double_precision=15)
    done = call(f"{BATTERY}:dispatch", "--in", str(given), "--out", str(made))
    assert done.returncode == 0, done.stderr
    answer = json.loads(made.read_text())
    assert list(answer) == ["schedule", "summary"]
    check_plan(year(), pd.DataFrame(answer["schedule"]))
    assert answer["summary"] == pytest.approx(both()["summary"])


def test_the_lines_of_its_readme_work_when_pasted(
    serve: Serve, exuvia_bin: Path, project_python: Path, tmp_path: Path
) -> None:
    server = serve(FOLDER)
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    script = "\n".join(blocks).replace("http://127.0.0.1:8000", server.url)
    script = script.replace("target/release/exuvia", str(exuvia_bin))
    script = script.replace(".venv/bin/python", str(project_python))
    assert script.count("exuvia call ") >= 3 and script.count("curl ") >= 3
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    same(read(tmp_path / "year.parquet"), year())
    saved = re.findall(r'"saved_eur":([\d.]+)', done.stdout)
    assert float(saved[0]) == pytest.approx(both()["summary"]["saved_eur"])
