"""Frames of pandas as tables, with metadata by which pandas and pyarrow make them again.

Compiled into the runtime, never looked for on disk. Needs no pyarrow, except for what only pyarrow
can turn into Arrow: periods, intervals, types of its own.
"""

import _exuvia_arrays as arrays
import _exuvia_asked as asked
from _exuvia_frames_in import ATTRIBUTE, TEXTS, is_objects

Table = Column = None  # put here by the runtime

# What a column is called in pandas' metadata, by Arrow's kinds, where it is not the kind itself.
LOGICAL = {
    **dict.fromkeys(TEXTS, "unicode"),
    **dict.fromkeys(("binary", "large_binary", "binary_view", "fixed_size_binary"), "bytes"),
    **dict.fromkeys(("date32", "date64"), "date"),
    **dict.fromkeys(("time32", "time64"), "time"),
    **dict.fromkeys(("decimal32", "decimal64", "decimal128", "decimal256"), "decimal"),
    **dict.fromkeys(("list", "large_list", "struct", "map", "fixed_size_list"), "object"),
    "dictionary": "categorical",
    "null": "empty",
}
EXTENSION = "ARROW:extension:"


# === a frame as a table ===


def from_series(series, copies):
    name = "value" if series.name is None else series.name
    return from_frame(series.to_frame(name), copies)


def from_frame(frame, copies):
    kept = kept_in(frame)
    fields = [text_of(label) for label in frame.columns]
    columns, said = [], []
    for field, (label, series) in zip(fields, frame.items(), strict=True):
        column = column_of(series, field, copies, kept["types"].get(field))
        columns.append((field, column, metadata_of(column, field, kept)))
        name = label if isinstance(label, str) else text_or_none(label)
        said.append(describe(name, field, series, column))
    index, levels = [], index_levels(frame.index, fields)
    for level, field in levels:
        if field is None:
            index.append(describe_range(level))
            continue
        column = column_of(level, field, copies, kept["types"].get(field))
        columns.append((field, column, metadata_of(column, field, kept)))
        said.append(describe(text_or_none(level.name), field, level, column))
        index.append(field)
    metadata = {key.encode(): value.encode() for key, value in kept["schema"].items()}
    metadata[b"pandas"] = pandas_metadata(frame, said, index)
    return Table.from_columns(columns, metadata, len(frame))


def kept_in(frame):
    """What `remember` kept, as far as it is still what it was."""
    kept = frame.attrs.get(ATTRIBUTE)
    kept = kept if isinstance(kept, dict) else {}
    fields = kept.get("fields")
    fields = fields if isinstance(fields, dict) else {}
    return {
        "schema": texts_in(kept.get("schema")),
        "types": texts_in(kept.get("types")),
        "fields": {name: texts_in(metadata) for name, metadata in fields.items()},
    }


def texts_in(found):
    if not isinstance(found, dict):
        return {}
    pairs = found.items()
    return {key: text for key, text in pairs if isinstance(key, str) and isinstance(text, str)}


def metadata_of(column, field, kept):
    """The metadata a column had; what makes it of an extension's type only if its type is that."""
    own = column.field.metadata
    for key, value in kept["fields"].get(field, {}).items():
        if not key.startswith(EXTENSION) or column.field.type == kept["types"].get(field):
            own.setdefault(key.encode(), value.encode())
    return own


def text_of(label):
    """A label as the name of a column."""
    if isinstance(label, bytes):
        return label.decode(errors="backslashreplace")
    if isinstance(label, tuple):
        return str(tuple(map(text_of, label)))
    return str(label)


def text_or_none(label):
    return None if label is None or label != label else text_of(label)


def index_levels(index, taken):
    """The levels of an index and the columns they become; a range becomes none."""
    import pandas

    if isinstance(index, pandas.RangeIndex):
        return [(index, None)]
    levels, taken = [], set(taken)
    for at in range(index.nlevels):
        level = index.get_level_values(at)
        field = None if level.name is None else text_of(level.name)
        if field is None or field in taken:
            number = at
            while f"__index_level_{number}__" in taken:
                number += 1
            field = f"__index_level_{number}__"
        taken.add(field)
        levels.append((level, field))
    return levels


# === an array of pandas' as a column ===


def column_of(values, name, copies, type=None):
    """A Series or Index as a column; `type` is what one of objects was before, if that is known."""
    import numpy
    import pandas

    dtype, array = values.dtype, values.array
    if isinstance(dtype, numpy.dtype):
        if is_objects(values):
            return column_of_objects(values.tolist(), name, copies, type)
        return arrays.column_from(values.to_numpy(), name, copies, library="pandas")
    if isinstance(dtype, pandas.DatetimeTZDtype):
        times = array.view("i8").view(f"M8[{dtype.unit}]")
        zone = zone_name(dtype.tz, name)
        return arrays.column_from_times(times, name, copies, None, "pandas", zone)
    if isinstance(dtype, pandas.CategoricalDtype):
        return column_of_categories(array, name, copies, type)
    masked = pandas.arrays.IntegerArray, pandas.arrays.FloatingArray, pandas.arrays.BooleanArray
    if isinstance(array, masked):
        # There is no public way to both parts that does not copy them.
        mask = array._mask if array._mask.any() else None
        return arrays.column_from(array._data, name, copies, mask, "pandas")
    if isinstance(dtype, pandas.StringDtype) and dtype.storage == "python":
        texts = array.to_numpy(object, na_value=None).tolist()
        why = "pandas keeps text as Python objects"
        return arrays.column_from_list(texts, "utf8", name, copies, why)
    return column_of_arrow(array, name)


def column_of_arrow(array, name):
    """A column of what says by itself how it is in Arrow: text, pyarrow's types, periods, ..."""
    try:
        return Column.from_arrow(array.__arrow_array__())
    except (AttributeError, TypeError, ValueError, ImportError, NotImplementedError) as error:
        reason = f": {error}" if asked.is_there("pyarrow") else " without pyarrow"
        message = f"{arrays.named(name)} is of {array.dtype}, which is not in Arrow{reason}"
        raise TypeError(message) from None


def column_of_categories(array, name, copies, type=None):
    missing = array.codes < 0
    nulls = missing if missing.any() else None
    codes = arrays.column_from(array.codes, name, copies, nulls, "pandas")
    categories = column_of(array.categories, name, copies, type)
    return Column.from_dictionary(codes, categories, bool(array.ordered))


def column_of_objects(values, name, copies, type=None):
    why = "pandas keeps such values as Python objects"
    refusals = []
    for objects in objects_to_try(values, type):
        try:
            return arrays.column_from_list(*objects, name, copies, why)
        except (TypeError, ValueError) as error:
            refusals.append(error)
    made = by_pandas(values, name, copies)
    if made is None:
        made = by_pyarrow(values)
        if made is None:
            raise refusals[-1]
        arrays.note(copies, name, arrays.size_of(made), why)
    return made


def objects_to_try(values, type):
    """Ways to read objects, with the type they are to be of, the best one first."""
    if type is not None:
        # Unless the handler put something else there.
        yield values, type
    yield values, None
    # Beside text and the like NaN is how pandas says that something is missing.
    yield [None if isinstance(value, float) and value != value else value for value in values], None


def by_pandas(values, name, copies):
    """A column of periods or intervals, which only pandas makes an array of."""
    import pandas

    first = next((value for value in values if value is not None and value == value), None)
    if not any(library == "pandas" for library, _ in asked.names_of(type(first))):
        return None
    series = pandas.Series(pandas.array(values))
    return None if is_objects(series) else column_of(series, name, copies)


def by_pyarrow(values):
    """What pyarrow makes of objects, if it is there and makes anything of them."""
    if not asked.is_there("pyarrow"):
        return None
    import pyarrow

    try:
        return Column.from_arrow(pyarrow.array(values, from_pandas=True))
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
        return None


def zone_name(zone, name):
    """What Arrow calls a time zone."""
    key = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if isinstance(key, str):
        return key
    offset = zone.utcoffset(None)
    minutes, rest = divmod(0 if offset is None else offset.total_seconds(), 60)
    if offset is None or rest:
        raise TypeError(
            f"{arrays.named(name)} is in time zone {zone!r}, which has no name in Arrow"
        )
    if not minutes:
        return "UTC"
    hours, minutes = divmod(abs(int(minutes)), 60)
    return f"{'-' if offset.total_seconds() < 0 else '+'}{hours:02}:{minutes:02}"


# === what pandas reads ===


def describe(name, field, values, column):
    """What pandas' metadata says of a column: what it was called, and of which dtype it is."""
    kind, dtype = column.field.kind, str(values.dtype)
    logical, more = LOGICAL.get(kind, kind), None
    if kind == "timestamp":
        logical = "datetime" if column.field.tz is None else "datetimetz"
        if column.field.tz is not None and dtype.startswith("datetime64["):
            more, dtype = {"timezone": column.field.tz}, f"datetime64[{column.field.unit}]"
    elif kind == "dictionary" and dtype == "category":
        array = values.array
        dtype = str(array.codes.dtype)
        more = {"num_categories": len(array.categories), "ordered": bool(array.ordered)}
    elif logical == "decimal":
        precision, _, scale = column.field.type.partition("(")[2].rstrip(")").partition(",")
        more, dtype = {"precision": int(precision), "scale": int(scale)}, "object"
    return {
        "name": name,
        "field_name": field,
        "pandas_type": logical,
        "numpy_type": dtype,
        "metadata": more,
    }


def describe_range(index):
    name = index.name if isinstance(index.name, (str, int, float, type(None))) else str(index.name)
    parts = {"start": index.start, "stop": index.stop, "step": index.step}
    return {"kind": "range", "name": name, **parts}


def describe_labels(level, name):
    """What pandas' metadata says of the labels of columns."""
    from pandas.api.types import infer_dtype

    dtype, more = str(level.dtype), None
    kind = dtype
    if hasattr(level.dtype, "tz"):
        zone = zone_name(level.dtype.tz, name)
        kind, dtype, more = "datetimetz", f"datetime64[{level.dtype.unit}]", {"timezone": zone}
    elif dtype in ("object", "str", "string", "category"):
        kind = infer_dtype(level)
        if kind == "string":
            kind, more = "unicode", {"encoding": "UTF-8"}
    return {
        "name": name,
        "field_name": name,
        "pandas_type": kind,
        "numpy_type": dtype,
        "metadata": more,
    }


def pandas_metadata(frame, columns, index):
    import json

    import pandas

    labels = frame.columns
    levels = [labels.get_level_values(at) for at in range(labels.nlevels)]
    said = {
        "index_columns": index,
        "column_indexes": [describe_labels(level, text_or_none(level.name)) for level in levels],
        "columns": columns,
        "attributes": {},
        "creator": {"library": "exuvia"},
        "pandas_version": pandas.__version__,
    }
    try:
        attributes = {key: value for key, value in frame.attrs.items() if key != ATTRIBUTE}
        return json.dumps({**said, "attributes": attributes}).encode()
    except (TypeError, ValueError, RecursionError):
        # They hold more than JSON does, and are nobody's data.
        return json.dumps(said).encode()
