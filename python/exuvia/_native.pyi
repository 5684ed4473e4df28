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
    # Settings are checked one by one, by name: they are of any type until then.
    def __new__(cls, targets: list[str], **settings: Any) -> Pool: ...
    @property
    def handlers(self) -> list[str]: ...
    def check(self, handler: str, timeout: float | None = None) -> None: ...
    def call(
        self,
        handler: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None = None,
    ) -> Any: ...
    def scale(self, workers: int) -> None: ...
    def workers(
        self,
    ) -> list[tuple[int, int, str, int, int, float, str, int | None, int | None, int | None]]: ...
    def image(
        self,
    ) -> tuple[
        str,
        str | None,
        int | None,
        float,
        list[tuple[str, float]],
        list[tuple[str, str]],
        list[str],
    ]: ...
    def wait_ready(self, timeout: float | None = None) -> bool: ...
    def drain(self, timeout: float) -> bool: ...
    def close(self) -> None: ...

def main(args: list[str], chosen: bool) -> int: ...
def value_dumps(obj: object, pickle: bool = False) -> bytes: ...
def value_loads(data: bytes | bytearray | memoryview | str, pickle: bool = False) -> Any: ...
def json_dumps(obj: object) -> bytes: ...
def json_loads(data: bytes | bytearray | memoryview | str) -> Any: ...
def ndjson_dumps(obj: object) -> bytes: ...
def ndjson_loads(data: bytes | bytearray | memoryview | str) -> list[Any]: ...
