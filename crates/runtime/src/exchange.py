"""Tables that two Python programs hand to each other, each as what it was.

Compiled into the runtime, never looked for on disk.
"""

import sys

import _exuvia_asked as asked
import _exuvia_tables as tables

# What a table is written as in a value, by number: see values.md. Numbers keep their meaning.
KINDS = (
    "table",
    "pandas",
    "polars",
    "pyarrow",
    "pyarrow-batch",
    "arro3",
    "arro3-batch",
    "polars-series",
)
NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
FREQ = b"exuvia:freq"


def kind_of(obj):
    """The number of what `obj` is, if it can cross as a table and be the same again."""
    cls = type(obj)
    if cls is tables.Table:
        return 0
    library = (cls.__module__ or "").partition(".")[0]
    number = NUMBERS.get(asked.CLASSES.get((library, cls.__name__)))
    if number == 1 and not is_faithful(obj):
        return None
    return number


def is_faithful(frame):
    """Whether all that a pandas frame is has a place in Arrow."""
    pandas = sys.modules["pandas"]
    labels = frame.columns
    return (
        not frame.attrs
        and frame.flags.allows_duplicate_labels
        and labels.nlevels == 1
        and labels.name is None
        and labels.is_unique
        and all(type(label) is str for label in labels)
        and all(is_kept(dtype, pandas) for dtype in frame.dtypes)
        and is_kept_index(frame.index, pandas)
    )


def is_kept(dtype, pandas):
    if isinstance(dtype, pandas.CategoricalDtype):
        return is_kept(dtype.categories.dtype, pandas)
    if isinstance(dtype, (pandas.ArrowDtype, pandas.PeriodDtype, pandas.IntervalDtype)):
        return False
    if isinstance(dtype, pandas.SparseDtype):
        return False
    return dtype.kind not in "Oc" or isinstance(dtype, pandas.StringDtype)


def is_kept_index(index, pandas):
    if type(index) is pandas.RangeIndex:
        return True
    return (
        type(index) in (pandas.Index, pandas.DatetimeIndex, pandas.TimedeltaIndex)
        and (index.name is None or type(index.name) is str)
        and is_kept(index.dtype, pandas)
    )


def take(obj, copies):
    """Our table of what `kind_of` has a number for."""
    table = tables.take(obj, copies)
    freq = getattr(getattr(obj, "index", None), "freqstr", None)
    if table is None or freq is None:
        return table
    fields = {field.name: field.metadata for field in table.fields}
    columns = [(name, table.column(name), fields[name]) for name in table.column_names]
    metadata = {**table.metadata, FREQ: freq.encode()}
    return tables.Table.from_columns(columns, metadata, rows=table.num_rows)


def give(table, number):
    """What it was, from our table."""
    if number >= len(KINDS):
        raise ValueError(f"a table of kind {number} is not known here")
    obj = tables.give(table, KINDS[number], [])
    freq = table.metadata.get(FREQ) if number == 1 else None
    if freq is not None:
        obj.attrs.pop("arrow", None)
        obj.index.freq = freq.decode()
    return obj
