"""What an operator may have called in the image: what pandas imports and sets up at first use."""

import numpy as np
import pandas as pd


def warm() -> None:
    """Use a frame once. The handler itself stays out of the image."""
    frame = pd.DataFrame({"a": np.arange(3), "b": np.arange(3) * 0.1})
    frame["b"].sum()
