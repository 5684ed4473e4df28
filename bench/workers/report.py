"""Figures, tables, and what the figures were taken on."""

import contextlib
import importlib.metadata
import math
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))
from common import columns, load_average, machine

__all__ = ["columns", "facts", "load_average", "median_of", "memory_of", "mib", "ms", "p99_of"]

PACKAGES = ("numpy", "pandas", "pyarrow", "polars", "scikit-learn", "scipy")


def median_of(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def p99_of(values: Sequence[float]) -> float:
    """The one that 99 of 100 do not exceed; of fewer than 100, the highest."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def ms(seconds: float) -> str:
    """Seconds as milliseconds."""
    return f"{seconds * 1e3:,.2f}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"


def mib(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / (1 << 20):,.1f}"


def facts() -> dict[str, str]:
    """What was measured on and with."""
    packages = {name: version_of(name) for name in PACKAGES}
    return {
        **machine(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items() if version),
        "Exuvia": version_of("exuvia"),
    }


def version_of(package: str) -> str:
    """The version of an installed package; empty if it is not there."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return ""


# === memory ===


def memory_of(pid: int) -> tuple[int, int]:
    """Proportional and private bytes of a process."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, _ = line.split()
        sizes[name.rstrip(":")] = int(size) << 10
    return sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"]
