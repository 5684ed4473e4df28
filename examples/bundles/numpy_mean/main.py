"""Sum and mean of some numbers, by numpy."""

import numpy as np


def handler(numbers: list[float] | None = None) -> dict[str, float]:
    """Of 1 to 5, where nothing else is given."""
    values = np.array(numbers or [1, 2, 3, 4, 5])
    print(f"{values.size} numbers")
    return {"sum": values.sum().item(), "mean": values.mean().item()}
