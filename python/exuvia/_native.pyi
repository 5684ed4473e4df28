from typing import Any, final

__all__ = [
    "MalformedError",
    "Pool",
    "UnfitError",
    "json_dumps",
    "json_loads",
    "main",
    "ndjson_dumps",
    "ndjson_loads",
    "value_dumps",
    "value_loads",
]

class UnfitError(ValueError):
    path: str

class MalformedError(ValueError):
    offset: int
    line: int | None
    column: int | None

@final
class Pool:
    def __new__(
        cls,
        targets: list[str],
        *,
        python: str,
        working_dir: str,
        search_path: list[str],
        workers: int,
        concurrency: int,
        queue: int,
        timeout: float,
    ) -> Pool: ...
    @property
    def handlers(self) -> list[str]: ...
    def call(
        self,
        handler: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Any: ...
    def close(self) -> None: ...

def main(args: list[str], chosen: bool) -> int: ...
def value_dumps(obj: object, pickle: bool = False) -> bytes: ...
def value_loads(data: bytes | bytearray | memoryview | str, pickle: bool = False) -> Any: ...
def json_dumps(obj: object) -> bytes: ...
def json_loads(data: bytes | bytearray | memoryview | str) -> Any: ...
def ndjson_dumps(obj: object) -> bytes: ...
def ndjson_loads(data: bytes | bytearray | memoryview | str) -> list[Any]: ...
