"""Python objects as bytes, in the format that loses nothing.

``loads(dumps(x))`` equals ``x`` and has its type, all the way down, for everything in the value
model: None, bool, int of any size, float, complex, str, bytes, bytearray, list, tuple, dict, set,
frozenset, date, time, datetime, timedelta, Decimal, Fraction, UUID and range. The bytes are
MessagePack with extension types; ``docs/values.md`` has their layout.

>>> from datetime import date
>>> loads(dumps({"when": date(2024, 2, 29), "pair": (1, 2.5)}))
{'when': datetime.date(2024, 2, 29), 'pair': (1, 2.5)}
"""

from __future__ import annotations

from typing import Any

from exuvia._native import MalformedError, UnfitError, value_dumps, value_loads

__all__ = ["MalformedError", "UnfitError", "dumps", "loads"]


def dumps(obj: Any, *, pickle: bool = False) -> bytes:
    """Write ``obj`` as bytes.

    With ``pickle=True``, an object outside the value model goes as a pickle. Only a reader that
    trusts the writer should take it.

    Raises UnfitError, which names where in ``obj`` the misfit is, for example ``value["a"][3]``.
    """
    return value_dumps(obj, pickle)


def loads(data: bytes | bytearray | memoryview, *, pickle: bool = False) -> Any:
    """Read the object that ``data`` was written from.

    With ``pickle=True`` pickles are read too, which runs whatever code they name: never do that
    with bytes from somebody you would not run code for.

    Raises MalformedError, which names the byte, for anything that is not exactly one value.
    """
    return value_loads(data, pickle)
