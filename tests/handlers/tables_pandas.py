"""The daily spread of hourly temperatures, by pandas alone."""

import sys
from typing import Any

import pandas as pd

__all__ = ["spread", "spread_of_anything"]


def spread(temps: pd.DataFrame) -> pd.DataFrame:
    """Give each day's spread, the sum of all that was read, and which other libraries are there."""
    day = pd.to_datetime(temps["date"]).dt.strftime("%Y-%m-%d")
    by_day = temps["temp"].groupby(day)
    made = (by_day.max() - by_day.min()).rename("spread").reset_index()
    others = [name for name in ("polars", "arro3") if name in sys.modules]
    return made.assign(seen=float(temps["temp"].sum()), others=",".join(others) or "none")


def spread_of_anything(temps):  # type: ignore[no-untyped-def] # that is the point
    """Do the same with whatever comes, which must be a frame of pandas."""
    frame: Any = temps
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"a {type(frame).__name__} came")
    return spread(frame)
