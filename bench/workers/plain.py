"""A handler that has pandas and does not use it: what is left is the worker's own time."""

import time

import numpy as np
import pandas as pd

__all__ = ["hold", "pd", "total"]


def total(n: int) -> float:
    """Give the same number by numpy alone."""
    return float((np.arange(n) * 0.5).sum())


def hold(n: int, seconds: float) -> float:
    """Do the same, and keep the worker busy for a while."""
    result = total(n)
    time.sleep(seconds)
    return result
