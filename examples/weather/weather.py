"""How far the temperature in Seattle swings in a day.

Plain functions over pandas tables: nothing here knows of Exuvia, HTTP or JSON. Served, each
function in ``__all__`` is a route: ``POST /weather/spread`` and so on.
"""

from typing import Annotated

import pandas as pd

__all__ = ["hottest", "seattle", "spread"]


class UnfitTableError(ValueError):
    """What was sent is no table of readings."""

    # Served, this is the caller's fault, told with this status.
    exuvia_status = 422


def spread(temps: pd.DataFrame) -> pd.DataFrame:
    """Give for each day the warmest reading minus the coldest.

    ``temps`` has a column ``date`` (a time, or text such as ``2010-07-28T15:00:00``) and a column
    ``temp``. The result has one row a day: ``date`` (``2010-07-28``) and ``spread``.
    """
    missing = {"date", "temp"} - set(temps.columns)
    if missing:
        message = f"no column named {' or '.join(sorted(missing))}: have {[*temps.columns]}"
        raise UnfitTableError(message)
    try:
        day = pd.to_datetime(temps["date"]).dt.strftime("%Y-%m-%d")
        by_day = pd.to_numeric(temps["temp"]).groupby(day)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnfitTableError(f"dates and temperatures are needed: {error}") from error
    return (by_day.max() - by_day.min()).rename("spread").reset_index()


def seattle() -> pd.DataFrame:
    """Give the daily spread of Seattle's temperatures in 2010, hour by hour, from vega_datasets."""
    return spread(_readings())


def hottest(days: Annotated[int, range(1, 367)] = 3) -> list[dict[str, str | float]]:
    """Give the days with the warmest reading of 2010 in Seattle, the warmest first."""
    readings = _readings()
    day = readings["date"].dt.strftime("%Y-%m-%d")
    # Days with equal readings come in the order of the calendar.
    top = readings["temp"].groupby(day).max().sort_values(ascending=False, kind="stable").head(days)
    return [{"date": str(date), "temp": float(temp)} for date, temp in top.items()]


def _readings() -> pd.DataFrame:
    # Only the functions without an argument need the data set: `spread` runs without it.
    from vega_datasets import data

    frame: pd.DataFrame = data.seattle_temps()
    return frame
