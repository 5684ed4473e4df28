"""Handlers that compute with torch."""

import sys

BEFORE = "torch" in sys.modules

import torch  # type: ignore[import-not-found, unused-ignore]  # noqa: E402

__all__ = ["draw", "product", "there_before", "threads"]


def there_before() -> bool:
    """Tell whether torch was there when this module began."""
    return BEFORE


def threads() -> int:
    """Give how many threads torch would use."""
    number: int = torch.get_num_threads()
    return number


def product(size: int, seed: int) -> list[float]:
    """Multiply two matrices; give the sums of the rows."""
    chance = torch.Generator().manual_seed(seed)
    one, other = (torch.rand(size, size, generator=chance, dtype=torch.float64) for _ in range(2))
    rows: list[float] = (one @ other).sum(1).tolist()
    return rows


def draw() -> float:
    """Give a number of torch's own generator."""
    return float(torch.rand(1, dtype=torch.float64))
