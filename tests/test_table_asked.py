"""What annotations ask for, and which objects are tables."""

import sys
from typing import Annotated, Any, NewType, Optional, Protocol, TypedDict

import arro3.core
import nanoarrow
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from conversions import (
    Made,
    Streams,
    conversions,
    in_a_process,
    table_of,
)
from exuvia._native import Table

# === what annotations ask for ===


class Frame(pd.DataFrame):
    """A subclass counts as its base."""


class Row(TypedDict):
    """A row."""

    a: int


Named = NewType("Named", pl.LazyFrame)

ASKED: list[tuple[Any, Any]] = [
    (pd.DataFrame, "pandas"),
    (Frame, "pandas"),
    (pd.Series, "pandas-series"),
    (pl.DataFrame, "polars"),
    (pl.LazyFrame, "polars-lazy"),
    (pl.Series, "polars-series"),
    (pa.Table, "pyarrow"),
    (pa.RecordBatch, "pyarrow-batch"),
    (pa.RecordBatchReader, "pyarrow-reader"),
    (arro3.core.Table, "arro3"),
    (arro3.core.RecordBatch, "arro3-batch"),
    (arro3.core.RecordBatchReader, "arro3-reader"),
    (np.ndarray, "numpy"),
    (npt.NDArray[np.float64], "numpy"),
    (np.ndarray[tuple[int, int], np.dtype[np.int8]], "numpy"),
    (dict[str, np.ndarray], "numpy-dict"),
    (dict[str, npt.NDArray[np.float64]], "numpy-dict"),
    (list[dict], "rows"),  # type: ignore[type-arg]
    (list[dict[str, Any]], "rows"),
    (list[Row], "rows"),
    (dict[str, list], "columns"),  # type: ignore[type-arg]
    (dict[str, list[float]], "columns"),
    (Table, ("class", Table)),
    (Streams, ("class", Streams)),
    (Made, ("class", Made)),
    (Named, "polars-lazy"),
    (Optional[pd.DataFrame], "pandas"),  # noqa: UP045 - both spellings are in use
    (pd.DataFrame | None, "pandas"),
    (int | pl.DataFrame | pd.DataFrame, "polars"),
    (Annotated[pa.Table, "hourly"], "pyarrow"),
    (Annotated[npt.NDArray[np.int8] | None, 1], "numpy"),
    (Optional["pl.DataFrame"], "polars"),
    ("pd.DataFrame", "pandas"),
    ("DataFrame", "pandas"),
    ("pandas.DataFrame | None", "pandas"),
    ("Optional['pl.LazyFrame']", "polars-lazy"),
    ("Annotated[pa.RecordBatchReader, 1]", "pyarrow-reader"),
    ("npt.NDArray[np.float64]", "numpy"),
    ("dict[str, np.ndarray]", "numpy-dict"),
    ("list[dict[str, int]]", "rows"),
    ("dict[str, list[int]]", "columns"),
    ("arro3.core.Table", "arro3"),
    *[
        (other, None)
        for other in (int, str, list, dict, list[int], dict[str, int], dict[int, list], Any, None)  # type: ignore[type-arg]
    ],
    *[(text, None) for text in ("int", "list", "my.Table", "not an annotation", "", "a" * 9999)],
    *[(other, None) for other in (object, type, Protocol, tuple[pd.DataFrame, int], 5, "dict[")],
]


@pytest.mark.parametrize("annotation, target", ASKED, ids=repr)
def test_an_annotation_asks_for_a_table_by_its_class(annotation: Any, target: Any) -> None:
    assert conversions.target_of(annotation) == target


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` is of Python 3.12")
def test_an_annotation_may_be_an_alias() -> None:
    scope: dict[str, Any] = {"pd": pd}
    exec("type A = pd.DataFrame\ntype B = Missing", scope)
    assert conversions.target_of(scope["A"]) == "pandas"
    assert conversions.target_of(scope["B"]) is None


def test_only_tables_and_their_columns_are_tables() -> None:
    frame = pd.DataFrame({"a": [1]})
    others = (pl.DataFrame(frame), pl.LazyFrame(), pl.Series([1]), pa.table({}), pa.array([1]))
    arro = (
        arro3.core.Table.from_pydict({"a": pa.array([1])}),
        nanoarrow.Array([1], nanoarrow.int8()),
    )
    for obj in (frame, frame["a"], table_of(a=[1]), Made(table_of(a=[1])), *others, *arro):
        assert conversions.is_table(obj), type(obj)
    scalars = (pa.scalar(1), arro3.core.Scalar(1, pa.int8()), np.float64(1), pd.Timestamp(0))
    plain: tuple[Any, ...] = (
        None,
        1,
        "a",
        b"",
        [],
        {},
        [{"a": 1}],
        {"a": [1]},
        np.zeros(3),
        object(),
        pd.DataFrame,
    )
    for obj in (*scalars, *plain, pa.schema([]), frame.index):
        assert not conversions.is_table(obj), type(obj)


def test_nothing_is_imported_to_tell_what_is_asked_for() -> None:
    told = in_a_process("""
        before = set(sys.modules)
        conversions = load()
        class Local: pass
        for annotation in (int, list[dict], dict[str, list], Local, int | None):
            conversions.target_of(annotation)
        for value in (1, [], {}, Local()):
            assert not conversions.is_table(value)
        print(sorted(name for name in set(sys.modules) - before if not name.startswith("_exuvia")))
    """)
    assert told.strip() == "[]"


def test_the_default_is_the_first_library_that_is_installed() -> None:
    told = in_a_process("""
        for hidden in ([], ["pandas"], ["pandas", "polars"], ["pandas", "polars", "pyarrow"],
                       ["pandas", "polars", "pyarrow", "arro3"]):
            sys.modules.update(dict.fromkeys(hidden))
            print(load().default_target())
        assert "numpy" not in sys.modules
    """)
    assert told.split() == ["pandas", "polars", "pyarrow", "arro3", "table"]
