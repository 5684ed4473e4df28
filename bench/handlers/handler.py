"""The handler under measurement, as Exuvia takes it: a plain function."""

__all__ = ["greet"]


def greet(name: str, n: int) -> dict[str, str | int]:
    """Give a greeting and the next number."""
    return {"message": "hello, " + name, "n": n + 1}
