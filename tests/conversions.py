"""The conversions between tables, loaded from their sources, and what their tests share."""

import ctypes
import importlib.util
import subprocess
import sys
import textwrap
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from exuvia._native import Column, Table
from processes import ROOT

SOURCES = ROOT / "crates/runtime/src/tables"
MODULES = ("asked", "arrays", "frames_in", "frames_out", "tables")
ROWS = 8760

Note = tuple[str, int, str]
SOURCE = {f"c{at}": np.arange(ROWS, dtype="f8") * at for at in range(8)}


def load() -> Any:
    """The conversions, as the runtime loads them."""
    for name in MODULES:
        spec = importlib.util.spec_from_file_location(f"_exuvia_{name}", SOURCES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        module.Table, module.Column = Table, Column
    return module


conversions = load()


def table_of(**columns: Any) -> Table:
    return Table.from_arrow(pa.table(columns))


def given_as(table: Table, target: Any) -> tuple[Any, list[Note]]:
    copies: list[Note] = []
    return conversions.give(table, target, copies), copies


def taken(obj: Any) -> tuple[Any, list[Note]]:
    copies: list[Note] = []
    return conversions.take(obj, copies), copies


def arrow(table: Any) -> Any:
    return pa.table(table)


def types_of(table: Any) -> list[str]:
    return [field.type for field in Table.from_arrow(table).fields]


# === memory that may be written to ===


class Mapped:
    """Stands for a table whose columns lie in a private map: what they hold may be written to."""

    def __init__(self, table: Table, columns: dict[int, "MappedColumn"] | None = None) -> None:
        self._table = table
        self._columns = columns if columns is not None else {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def column(self, at: int) -> Any:
        column = self._table.column(at)
        if sys.modules["_exuvia_arrays"].dtype_of(column.field) is None:
            return column
        return self._columns.setdefault(at, MappedColumn(column))


class MappedColumn:
    """A column whose values lie in memory of its own."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self.memory = bytearray()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._column, name)

    def __len__(self) -> int:
        return len(self._column)

    def values(self) -> bytearray:
        if not self.memory:
            self.memory = bytearray(self._column.values())
        return self.memory


def address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def start(memory: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


# === classes that know Arrow ===


class Streams(Protocol):
    """Anything with Arrow's protocol."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


class Made:
    """Makes itself of Arrow data."""

    def __init__(self, table: Any) -> None:
        self.table = table

    @classmethod
    def from_arrow(cls, table: Any) -> "Made":
        return cls(table)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


# === a Python of its own ===


def in_a_process(code: str) -> str:
    """What a fresh Python that has loaded the conversions prints."""
    head = f"""
        import importlib.util, sys
        def load(Table=None, Column=None):
            for name in {MODULES!r}:
                file = {str(SOURCES)!r} + "/" + name + ".py"
                spec = importlib.util.spec_from_file_location("_exuvia_" + name, file)
                module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
                module.Table, module.Column = Table, Column
            return module
    """
    text = textwrap.dedent(head) + textwrap.dedent(code)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
