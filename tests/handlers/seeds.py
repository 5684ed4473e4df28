"""Handlers that draw from every source of chance, with generators made at import."""

import os
import random
import secrets
import ssl
import time
import uuid

import numpy as np

__all__ = ["of_each"]

GENERATOR = np.random.default_rng()
STATE = np.random.RandomState()
FIXED = np.random.default_rng(7)


def draws() -> dict[str, str]:
    """Draw once from each source."""
    return {
        "pid": str(os.getpid()),
        "random": random.random().hex(),
        "numpy.random": np.random.random().hex(),
        "numpy.random.RandomState": STATE.random_sample().hex(),
        "numpy.random.default_rng": GENERATOR.random().hex(),
        "uuid1": str(uuid.uuid1()),
        "uuid4": str(uuid.uuid4()),
        "ssl": ssl.RAND_bytes(16).hex(),
        "secrets": secrets.token_hex(16),
    }


def fixed() -> float:
    """Give the next number of the generator that has a seed of its own."""
    number: float = FIXED.random()
    return number


def shared() -> tuple[int, int]:
    """Give what is the same in all workers of an image: the seed of `hash` and the layout."""
    return hash("exuvia"), id(np)


def of_each(what: str, seconds: float) -> tuple[int, object]:
    """Give this process and what one of the others says, and leave time to ask its siblings."""
    said = {"draws": draws, "fixed": fixed, "shared": shared}[what]()
    time.sleep(seconds)
    return os.getpid(), said
