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
# Of an array, for the reader of NumPy's format.
MOST_AXES = 32


def kind_of(obj):
    """The number of what `obj` is, if it can cross as a table and be the same again."""
    cls = type(obj)
    if cls is tables.Table:
        return 0
    library = (cls.__module__ or "").partition(".")[0]
    number = NUMBERS.get(asked.CLASSES.get((library, cls.__name__)))
    keeps = FAITHFUL.get(library)
    return None if number is None or (keeps and not keeps(obj)) else number


def is_tensor(obj):
    """Whether an array is one that NumPy's format gives back as it was."""
    numpy = sys.modules.get("numpy")
    if numpy is None or type(obj) is not numpy.ndarray:
        return False
    dtype = obj.dtype
    if dtype.hasobject or dtype.kind == "T" or has_metadata(dtype) or obj.ndim > MOST_AXES:
        return False
    return dtype.kind != "V" or is_kept_record(dtype, numpy)


def has_metadata(dtype):
    fields = dtype.fields or {}
    inner = [dtype.subdtype[0]] if dtype.subdtype else [field[0] for field in fields.values()]
    return dtype.metadata is not None or any(map(has_metadata, inner))


def is_kept_record(dtype, numpy):
    """Whether a dtype of several fields is the same again after it was described."""
    try:
        described = numpy.lib.format.dtype_to_descr(dtype)
        again = numpy.lib.format.descr_to_dtype(described)
    except (TypeError, ValueError):
        return False
    return again == dtype and repr(again) == repr(dtype)


# === pandas ===


def is_faithful(frame):
    """Whether all that a pandas frame is has a place in Arrow."""
    pandas = sys.modules["pandas"]
    labels = frame.columns
    return (
        not frame.attrs
        and frame.flags.allows_duplicate_labels
        and type(labels) is pandas.Index
        and len(labels) > 0
        and labels.name is None
        and is_default_text(labels.dtype, pandas)
        and labels.is_unique
        and all(type(label) is str for label in labels)
        and all(is_kept(dtype, pandas) for dtype in frame.dtypes)
        and is_kept_index(frame.index, pandas)
    )


def is_kept(dtype, pandas):
    """Whether a column of a dtype comes back as one of the same."""
    if isinstance(dtype, pandas.CategoricalDtype):
        categories = dtype.categories
        return type(categories) is pandas.Index and (
            is_default_text(categories.dtype, pandas) or is_number(categories.dtype)
        )
    if isinstance(dtype, pandas.DatetimeTZDtype):
        return is_kept_zone(dtype.tz)
    if isinstance(dtype, pandas.StringDtype):
        return is_default_text(dtype, pandas)
    if isinstance(dtype, pandas.BooleanDtype) or is_number(dtype) or is_masked(dtype):
        return True
    is_time = getattr(dtype, "kind", "") in "mM" and not hasattr(dtype, "construct_array_type")
    return is_time and dtype.isnative


def is_number(dtype):
    numpy = sys.modules["numpy"]
    return isinstance(dtype, numpy.dtype) and dtype.kind in "biuf" and dtype.isnative


def is_masked(dtype):
    return getattr(dtype, "name", None) in MASKED


MASKED = frozenset(
    ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64")
)
_text = None


def is_default_text(dtype, pandas):
    """Whether text is kept the way pandas itself keeps it here."""
    global _text
    if _text is None:
        _text = pandas.Index(["a"]).dtype
    is_text = isinstance(dtype, pandas.StringDtype) and isinstance(_text, pandas.StringDtype)
    return is_text and repr(dtype) == repr(_text) and dtype.storage == _text.storage


def is_kept_zone(zone):
    import datetime
    import zoneinfo

    if type(zone) is zoneinfo.ZoneInfo:
        return zone.key is not None and zone.key != "UTC"
    return zone is datetime.UTC


def is_kept_index(index, pandas):
    if index.name is not None and type(index.name) is not str:
        return False
    if type(index) is pandas.RangeIndex:
        return True
    if type(index) is pandas.Index:
        return is_number(index.dtype) or is_default_text(index.dtype, pandas)
    if type(index) not in (pandas.DatetimeIndex, pandas.TimedeltaIndex):
        return False
    freq = index.freq
    named = freq is None or pandas.tseries.frequencies.to_offset(index.freqstr) == freq
    return named and is_kept(index.dtype, pandas)


# === polars ===


def is_faithful_polars(obj):
    polars = sys.modules["polars"]
    dtypes = obj.dtypes if hasattr(obj, "dtypes") else [obj.dtype]
    return len(dtypes) > 0 and not any(is_odd_polars(dtype, polars) for dtype in dtypes)


def is_odd_polars(dtype, polars):
    kinds = (
        polars.Object,
        polars.Unknown,
        polars.Int128,
        getattr(polars, "UInt128", polars.Int128),
    )
    if dtype in kinds:
        return True
    inner = getattr(dtype, "inner", None)
    fields = getattr(dtype, "fields", None) or ()
    return (inner is not None and is_odd_polars(inner, polars)) or any(
        is_odd_polars(field.dtype, polars) for field in fields
    )


FAITHFUL = {"pandas": is_faithful, "polars": is_faithful_polars}


# === there and back ===


def take(obj, copies):
    """Our table of what `kind_of` has a number for."""
    if kind_of(obj) == NUMBERS["polars-series"]:
        # Only as a frame does it keep a name that is empty.
        obj = obj.to_frame()
    table = tables.take(obj, copies)
    freq = getattr(getattr(obj, "index", None), "freqstr", None)
    if table is None or freq is None:
        return table
    fields = {field.name: field.metadata for field in table.fields}
    columns = [(name, table.column(name), fields[name]) for name in table.column_names]
    metadata = {**table.metadata, FREQ: freq.encode()}
    return tables.Table.from_columns(columns, metadata, rows=table.num_rows)


def give(table, number, copies):
    """What it was, from our table."""
    if number >= len(KINDS):
        raise ValueError(f"a table of kind {number} is not known here")
    obj = tables.give(table, KINDS[number], copies)
    freq = table.metadata.get(FREQ) if number == NUMBERS["pandas"] else None
    if freq is not None:
        obj.attrs.pop("arrow", None)
        obj.index.freq = freq.decode()
    return obj
