"""Handlers that compute with large packages, and tell what was there before this module."""

import os
import sys
from typing import Any

BEFORE = frozenset(sys.modules)

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import scipy.linalg  # noqa: E402
import threadpoolctl  # type: ignore[import-untyped]  # noqa: E402
from sklearn.cluster import KMeans  # noqa: E402

__all__ = ["clusters", "groups", "pools", "product", "solution", "there_before", "totals"]


def there_before(modules: list[str]) -> dict[str, bool]:
    """Tell which modules were there when this one began."""
    return {name: name in BEFORE for name in modules}


def pools() -> dict[str, list[int]]:
    """Give how many threads each numeric library would use, by its kind."""
    found: dict[str, list[int]] = {}
    for pool in threadpoolctl.threadpool_info():
        found.setdefault(pool["user_api"], []).append(pool["num_threads"])
    found["pyarrow"] = [pa.cpu_count()]
    found["running"] = [len(os.listdir("/proc/self/task"))]  # noqa: PTH208 - the folder's names
    return found


def product(size: int, seed: int) -> list[float]:
    """Multiply two matrices, large enough for several threads; give the sums of the rows."""
    chance = np.random.default_rng(seed)
    rows: list[float] = (chance.random((size, size)) @ chance.random((size, size))).sum(1).tolist()
    return rows


def solution(size: int, seed: int) -> list[float]:
    """Solve a system of equations with scipy."""
    chance = np.random.default_rng(seed)
    matrix = chance.random((size, size)) + np.eye(size) * size
    solved: list[float] = scipy.linalg.solve(matrix, chance.random(size)).tolist()
    return solved


def clusters(seed: int) -> list[int]:
    """Find three clusters."""
    chance = np.random.default_rng(seed)
    points = np.concatenate([chance.normal(center, 0.1, (4000, 3)) for center in (0, 3, 9)])
    labels: list[int] = KMeans(3, n_init=2, random_state=seed).fit(points).labels_.tolist()
    return labels


def groups(rows: int, seed: int) -> list[dict[str, Any]]:
    """Group and sum with polars."""
    chance = np.random.default_rng(seed)
    columns = {"key": chance.integers(0, 10, rows), "value": chance.integers(0, 1000, rows)}
    table = pl.DataFrame(columns).group_by("key").agg(pl.col("value").sum()).sort("key")
    return table.to_dicts()


def totals(rows: int, seed: int) -> list[dict[str, Any]]:
    """Group and sum with pyarrow."""
    chance = np.random.default_rng(seed)
    columns = {"key": chance.integers(0, 10, rows), "value": chance.integers(0, 1000, rows)}
    table = pa.table(columns).group_by("key").aggregate([("value", "sum")]).sort_by("key")
    assert pc.sum(table["value_sum"]).as_py() == int(columns["value"].sum())
    found: list[dict[str, Any]] = table.to_pylist()
    return found
