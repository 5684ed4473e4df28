"""The handler under measurement: what a small service with pandas does in a call."""

import time

import numpy as np
import pandas as pd

__all__ = ["hold", "total"]


def total(n: int) -> float:
    """Make a small frame and give a number."""
    frame = pd.DataFrame({"x": np.arange(n), "y": np.arange(n) * 0.5})
    return float(frame["y"].sum())


def hold(n: int, seconds: float) -> float:
    """Do the same, and keep the worker busy for a while."""
    result = total(n)
    time.sleep(seconds)
    return result
