"""A year of a house with solar panels and a battery: what the panels yield, when to charge.

Plain functions over pandas tables: nothing here knows of Exuvia, HTTP or Parquet. Served, each
function in ``__all__`` is a route: ``POST /battery/series`` and so on. Each row is an hour; names
end in their unit, and a mean power in kW over an hour is as much energy in kWh.
"""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

__all__ = ["dispatch", "schedule", "series", "summary"]

# Of the two TMY3 files in pvlib's wheel the one of Greensboro, North Carolina.
TMY3 = "723170TYA.CSV"
PANELS_KW, INVERTER_KW = 6.0, 5.0
TILT, SOUTH = 30.0, 180.0  # degrees
EXPORT_SHARE = 0.5  # what is sold earns half the price

Floats: TypeAlias = NDArray[np.float64]

# Bounds in the words of JSON Schema: what is outside is refused before a function is called.
CapacityKwh: TypeAlias = Annotated[float, {"minimum": 0, "maximum": 1e6}]
PowerKw: TypeAlias = Annotated[float, {"minimum": 0, "maximum": 1e6}]
Efficiency: TypeAlias = Annotated[float, {"minimum": 0.01, "maximum": 1}]


class UnfitSeriesError(ValueError):
    """What was sent is no year, or no part of one."""

    # Served, this is the caller's fault, told with this status.
    exuvia_status = 422


def series() -> pd.DataFrame:
    """Give the year: ``time``, the start of the hour, and eight columns of float64.

    ``ghi_w_m2``, ``dni_w_m2``, ``dhi_w_m2`` (irradiance: global horizontal, direct normal, diffuse
    horizontal), ``temp_air_c`` and ``wind_speed_m_s`` are the file's, ``pv_kw`` is pvlib's. The
    file has nothing like ``load_kw`` and ``price_eur_mwh``: these are formulas (README.md).
    """
    # Only this function needs it.
    import pvlib

    path = Path(pvlib.__file__).parent / "data" / TMY3
    tmy, site = pvlib.iotools.read_tmy3(path, coerce_year=1990, map_variables=True)
    # The file names an hour by its end.
    tmy.index -= pd.Timedelta(hours=1)
    measured = {
        "ghi_w_m2": "ghi",
        "dni_w_m2": "dni",
        "dhi_w_m2": "dhi",
        "temp_air_c": "temp_air",
        "wind_speed_m_s": "wind_speed",
    }
    year = pd.DataFrame({ours: tmy[theirs].astype(float) for ours, theirs in measured.items()})
    hour = tmy.index.hour.to_numpy() + 0.5
    year["load_kw"] = _load_kw(hour, year["temp_air_c"].to_numpy())
    year["price_eur_mwh"] = _price_eur_mwh(hour, tmy.index.day_of_year.to_numpy())
    year["pv_kw"] = _pv_kw(tmy, site)
    return year.rename_axis("time").reset_index()


def dispatch(
    series: pd.DataFrame,
    capacity_kwh: CapacityKwh = 13.5,
    power_kw: PowerKw = 5,
    efficiency: Efficiency = 0.9,
) -> dict[str, Any]:
    """Give the cheapest way to run the battery: its ``schedule`` and a ``summary``.

    ``series`` has ``time``, ``load_kw``, ``pv_kw`` and ``price_eur_mwh``, one row an hour.
    ``power_kw`` bounds charging and discharging, ``efficiency`` is that of a round trip. The
    battery starts and ends empty.
    """
    hours = _checked(series)
    one_way = efficiency**0.5
    soc = _soc_kwh(hours, capacity_kwh, power_kw, one_way)
    # The stored energy tells the rest. No hour both charges and discharges, not even one in which
    # the solver may do so, because energy costs nothing then.
    change = np.diff(soc, prepend=0.0)
    plan = hours[["time"]].copy()
    plan["charge_kw"] = np.maximum(change, 0) / one_way
    plan["discharge_kw"] = np.maximum(-change, 0) * one_way
    plan["grid_kw"] = hours["rest_kw"] + plan["charge_kw"] - plan["discharge_kw"]
    plan["soc_kwh"] = soc
    totals = _totals(hours, plan)
    totals["cycles"] = float(np.maximum(change, 0).sum() / capacity_kwh) if capacity_kwh else 0.0
    return {"schedule": plan, "summary": totals}


def schedule(
    series: pd.DataFrame,
    capacity_kwh: CapacityKwh = 13.5,
    power_kw: PowerKw = 5,
    efficiency: Efficiency = 0.9,
) -> pd.DataFrame:
    """Give the schedule of ``dispatch`` alone, a row for each hour of ``series``.

    ``charge_kw`` and ``discharge_kw`` are what goes into and comes out of the battery, ``grid_kw``
    is what is bought (negative: sold), and ``soc_kwh`` what is stored when the hour ends.
    """
    table: pd.DataFrame = dispatch(series, capacity_kwh, power_kw, efficiency)["schedule"]
    return table


def summary(
    series: pd.DataFrame,
    capacity_kwh: CapacityKwh = 13.5,
    power_kw: PowerKw = 5,
    efficiency: Efficiency = 0.9,
) -> dict[str, float]:
    """Give the numbers of ``dispatch`` alone: energies, costs, full cycles, own use of the PV."""
    numbers: dict[str, float] = dispatch(series, capacity_kwh, power_kw, efficiency)["summary"]
    return numbers


# === the year ===


def _bump(hour: Floats, centre: float, width: float) -> Floats:
    return np.exp(-(((hour - centre) / width) ** 2))


def _load_kw(hour: Floats, temp_air_c: Floats) -> Floats:
    """What is used at all times, in the morning, in the evening, and against heat and cold."""
    habits = 0.4 + 0.5 * _bump(hour, 7.5, 1.5) + 1.2 * _bump(hour, 19, 2.5)
    return habits + 0.08 * np.maximum(temp_air_c - 22, 0) + 0.04 * np.maximum(15 - temp_air_c, 0)


def _price_eur_mwh(hour: Floats, day: NDArray[np.integer[Any]]) -> Floats:
    """Two peaks and a hollow at noon, all of it dearer in winter."""
    peaks = 35 * _bump(hour, 8, 1.5) + 80 * _bump(hour, 19, 2)
    winter = 1 + 0.15 * np.cos(2 * np.pi * (day - 15) / 365)
    return (110 + peaks - 50 * _bump(hour, 13, 3)) * winter


def _pv_kw(tmy: pd.DataFrame, site: dict[str, Any]) -> Floats:
    """What the panels yield by PVWatts' model, with the sun of the middle of each hour."""
    import pvlib

    middle = pd.DatetimeIndex(tmy.index) + pd.Timedelta(minutes=30)
    sun = pvlib.solarposition.get_solarposition(
        middle, site["latitude"], site["longitude"], site["altitude"]
    ).set_index(tmy.index)
    towards = (TILT, SOUTH, sun["apparent_zenith"], sun["azimuth"])
    light = pvlib.irradiance.get_total_irradiance(*towards, tmy["dni"], tmy["ghi"], tmy["dhi"])
    passed = pvlib.iam.physical(pvlib.irradiance.aoi(*towards))
    mounting = pvlib.temperature.TEMPERATURE_MODEL_PARAMETERS["sapm"]["close_mount_glass_glass"]
    cells = pvlib.temperature.sapm_cell(
        light["poa_global"], tmy["temp_air"], tmy["wind_speed"], **mounting
    )
    absorbed = light["poa_direct"] * passed + light["poa_diffuse"]
    direct_kw = pvlib.pvsystem.pvwatts_dc(absorbed, cells, PANELS_KW, gamma_pdc=-0.0037)
    direct_kw *= 1 - pvlib.pvsystem.pvwatts_losses() / 100
    yielded: Floats = pvlib.inverter.pvwatts(direct_kw, INVERTER_KW / 0.96, 0.96).to_numpy()
    return yielded


# === the battery ===


def _checked(series: pd.DataFrame) -> pd.DataFrame:
    """The columns that count, with what the panels leave to buy or sell, if nothing is wrong."""
    numbers = ["load_kw", "pv_kw", "price_eur_mwh"]
    missing = {"time", *numbers} - set(series.columns)
    if missing:
        message = f"no column named {', '.join(sorted(missing))}: have {[*series.columns]}"
        raise UnfitSeriesError(message)
    try:
        hours = series[numbers].astype(float)
        time = pd.to_datetime(series["time"])
        steps = time.diff().iloc[1:]
    except (TypeError, ValueError, OverflowError) as error:
        raise UnfitSeriesError(f"numbers and times are needed: {error}") from error
    if hours.empty or not (hours.abs() < 1e9).to_numpy().all():
        message = f"each row needs a number for {', '.join(numbers)}, and a row is needed"
        raise UnfitSeriesError(message)
    if (hours["price_eur_mwh"] < 0).any():
        # To waste energy would pay then, and no linear programme keeps a plan from that.
        raise UnfitSeriesError("price_eur_mwh must not be negative")
    hours["time"] = time
    if (steps != pd.Timedelta(hours=1)).any():
        raise UnfitSeriesError("time must go from hour to hour")
    hours["rest_kw"] = hours["load_kw"] - hours["pv_kw"]
    return hours


def _soc_kwh(hours: pd.DataFrame, capacity: float, power: float, one_way: float) -> Floats:
    """What is stored after each hour on the cheapest path, by a linear programme."""
    n = len(hours)
    rest, price = hours["rest_kw"].to_numpy(), hours["price_eur_mwh"].to_numpy()
    full = np.full(n, float(capacity))
    full[-1] = 0
    one = sparse.eye_array(n)
    rise = one - sparse.eye_array(n, k=-1)
    # For each hour: charge, discharge, stored, bought, sold. First row: the battery, second: house.
    balances = [[-one_way * one, one / one_way, rise, None, None], [one, -one, None, -one, one]]
    most = np.concatenate([np.full(2 * n, power), full, np.full(2 * n, np.inf)])
    found = linprog(
        np.concatenate([np.zeros(3 * n), price, -EXPORT_SHARE * price]),
        A_eq=sparse.block_array(balances, format="csc"),
        b_eq=np.concatenate([np.zeros(n), -rest]),
        bounds=np.column_stack([np.zeros(5 * n), most]),
        method="highs",
    )
    if not found.success:
        raise RuntimeError(found.message)
    stored: Floats = found.x[2 * n : 3 * n].clip(0, full)
    return stored


def _totals(hours: pd.DataFrame, plan: pd.DataFrame) -> dict[str, float]:
    pv, load, price = hours["pv_kw"], hours["load_kw"], hours["price_eur_mwh"] / 1000

    def cost(grid: "pd.Series[float]") -> float:
        return float((price * grid.where(grid > 0, EXPORT_SHARE * grid)).sum())

    def own_use(use: "pd.Series[float]") -> float:
        return float(np.minimum(pv, use).sum() / pv.sum()) if pv.any() else 0.0

    without, with_battery = cost(hours["rest_kw"]), cost(plan["grid_kw"])
    return {
        "load_kwh": float(load.sum()),
        "pv_kwh": float(pv.sum()),
        "bought_kwh": float(plan["grid_kw"].clip(lower=0).sum()),
        "sold_kwh": float(-plan["grid_kw"].clip(upper=0).sum()),
        "cost_without_eur": without,
        "cost_with_eur": with_battery,
        "saved_eur": without - with_battery,
        "self_consumption_without": own_use(load),
        "self_consumption_with": own_use(load + plan["charge_kw"]),
    }
