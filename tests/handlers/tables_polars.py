"""The daily spread of hourly temperatures, by polars alone."""

import sys

import polars as pl

__all__ = ["spread", "spread_lazily"]


def spread_lazily(temps: pl.LazyFrame) -> pl.LazyFrame:
    """Give each day's spread, the sum of all that was read, and which other libraries are there."""
    date = pl.col("date")
    # JSON has no times.
    if temps.collect_schema()["date"] == pl.String:
        date = date.str.to_datetime()
    others = [name for name in ("pandas", "pyarrow", "arro3") if name in sys.modules]
    temp = pl.col("temp")
    return (
        temps.with_columns(date.dt.date(), seen=temp.sum())
        .group_by("date")
        .agg(
            spread=temp.max() - temp.min(),
            seen=pl.col("seen").first(),
            others=pl.lit(",".join(others) or "none"),
        )
        .sort("date")
    )


def spread(temps: pl.DataFrame) -> pl.DataFrame:
    """Do the same at once."""
    return spread_lazily(temps.lazy()).collect()
