"""The same handler in a program with much code of its own: its import takes its time.

A worker of Exuvia imports the user's own code by itself, so that it runs the code that is there
when it starts. What that costs is measured with this.
"""

import dataclasses

import handler

__all__ = ["total"]

# Making a dataclass compiles code, as do the models of most libraries for validation.
MODELS = [
    dataclasses.make_dataclass(
        f"Model{number}", [(f"field{index}", float, index / 2) for index in range(10)]
    )
    for number in range(60)
]


def total(n: int) -> float:
    """Give the handler's answer."""
    return handler.total(n)
