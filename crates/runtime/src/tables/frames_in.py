"""Tables as pandas' frames.

Compiled into the runtime, never looked for on disk. Needs no pyarrow; where it is there, text and
what pandas has no type for are kept in it, as pandas does itself. What a frame is beyond its
columns (index, dtypes, labels) is in the schema's metadata under `pandas`, as pandas and pyarrow
write and read it.
"""

import _exuvia_arrays as arrays
import _exuvia_asked as asked

TEXTS = ("utf8", "large_utf8", "utf8_view")
FLOATS = ("float16", "float32", "float64")
# Dtypes with a mask beside the values.
MASKED = frozenset(
    ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32", "Float64")
)
# Types of whose values no column can be made again: Python has other objects for them.
WITHOUT_OBJECTS = {"map", "union", "interval", "run_end_encoded"}
# Where a frame has what only Arrow has words for.
ATTRIBUTE = "arrow"


# === what pandas wrote ===


class Told:
    """What a table's metadata says about the frame that it was; anybody may have written it."""

    def __init__(self, metadata):
        import json

        try:
            said = json.loads(metadata[b"pandas"])
        except (KeyError, ValueError, RecursionError):
            said = {}
        if not isinstance(said, dict):
            said = {}
        self.columns = {}
        for column in listed(said, "columns"):
            name = column.get("field_name") if isinstance(column, dict) else None
            if name is None and isinstance(column, dict):
                name = column.get("name")
            if isinstance(name, str):
                self.columns.setdefault(name, column)
        self.index = listed(said, "index_columns")
        self.labels = [each for each in listed(said, "column_indexes") if isinstance(each, dict)]
        attributes = said.get("attributes")
        self.attributes = attributes if isinstance(attributes, dict) else {}
        # Before 3, text was of no other dtype than `object`.
        major = str(said.get("pandas_version")).partition(".")[0]
        self.knows_text = major.isdecimal() and int(major) >= 3

    def dtype(self, name):
        """The dtype that a column had, in pandas' words; empty if nobody said."""
        dtype = self.columns.get(name, {}).get("numpy_type")
        return dtype if isinstance(dtype, str) else ""

    def name(self, field):
        """What a column or a level of the index was called."""
        name = self.columns.get(field, {}).get("name", field)
        return name if isinstance(name, str) or name is None else field


def listed(said, key):
    value = said.get(key)
    return value if isinstance(value, list) else []


# === a table as a frame ===


def to_frame(table, copies):
    import pandas

    told = Told(table.metadata)
    names = table.column_names
    levels = [each for each in told.index if isinstance(each, str) and each in names]
    made, kept, types = {}, [], {}
    level_arrays = {}
    for at, name in enumerate(names):
        column = table.column(at)
        array = array_of(column, name, told, copies)
        kept_type = type_of_objects(array, column.field)
        if kept_type is not None:
            types[name] = kept_type
        if name in levels and name not in level_arrays:
            level_arrays[name] = array
        else:
            made[len(made)] = array
            kept.append(name)
    index = index_of(told, level_arrays, table.num_rows, pandas)
    for at, array in made.items():
        if is_objects(array):
            # An array of objects that are texts would be made one of texts.
            made[at] = pandas.Series(array, index=index, dtype=object, copy=False)
    frame = pandas.DataFrame(made, index=index, copy=False)
    frame.columns = labels_of(kept, told, pandas)
    remember(frame, table, told, types)
    return frame


def type_of_objects(array, field):
    """The Arrow type of what became Python's objects, of a column or of its categories."""
    if is_objects(array):
        return None if field.kind == "null" else field.type
    if field.kind == "dictionary" and is_objects(array.categories):
        return field.type.partition(", ")[2].removesuffix(">")
    return None


def is_objects(values):
    """Whether an array, Series or Index is of Python's objects."""
    return values.dtype.kind == "O" and values.dtype.name == "object"


def to_series(table, copies):
    frame = to_frame(table, copies)
    if frame.shape[1] != 1:
        raise ValueError(f"a Series is one column, and the table has {frame.shape[1]}")
    return frame.iloc[:, 0]


def index_of(told, level_arrays, rows, pandas):
    levels = []
    for each in told.index:
        if isinstance(each, dict) and each.get("kind") == "range":
            level = range_of(each, rows, pandas)
            if level is not None:
                levels.append((level, label_of(each.get("name"))))
        elif isinstance(each, str) and each in level_arrays:
            array, name = level_arrays[each], told.name(each)
            dtype = object if is_objects(array) else None
            level = pandas.Index(array, dtype=dtype, copy=False, tupleize_cols=False)
            is_generated = name == each and each.startswith("__index_level_")
            levels.append((level, None if is_generated else name))
    if not levels:
        return pandas.RangeIndex(rows)
    if len(levels) == 1:
        [(level, name)] = levels
        return level.rename(name)
    made, names = zip(*levels, strict=True)
    return pandas.MultiIndex.from_arrays(made, names=names)


def label_of(name):
    """A name as JSON has it, as pandas has it."""
    if isinstance(name, list):
        return tuple(map(label_of, name))
    return None if isinstance(name, dict) else name


def range_of(said, rows, pandas):
    """An index that is a range; `None` if it does not fit the table any more."""
    parts = [said.get(key) for key in ("start", "stop", "step")]
    if not all(type(part) is int and abs(part) < 2**62 for part in parts) or not parts[2]:
        return None
    return pandas.RangeIndex(*parts) if len(range(*parts)) == rows else None


def labels_of(fields, told, pandas):
    """The frame's labels: text, unless the metadata says what else they were."""
    texts = [told.name(field) for field in fields]
    names = [label_of(each.get("name")) for each in told.labels]
    plain = pandas.Index(texts, dtype=None if texts else "object", name=(names or [None])[0])
    if not told.labels:
        return plain
    try:
        if len(told.labels) == 1:
            return typed_labels(plain, told.labels[0], pandas)
        import ast

        rows = [ast.literal_eval(text) for text in texts]
        levels = [
            typed_labels(pandas.Index(values), said, pandas)
            for values, said in zip(zip(*rows, strict=True), told.labels, strict=True)
        ]
        return pandas.MultiIndex.from_arrays(levels, names=names)
    except Exception:
        # Labels that cannot be what they are said to have been stay text.
        return plain


def typed_labels(labels, said, pandas):
    kind, dtype = said.get("pandas_type"), said.get("numpy_type")
    if kind in ("unicode", "string", "empty") or str(kind).startswith("mixed"):
        is_empty = kind == "empty" and isinstance(dtype, str)
        return labels.astype(dtype) if is_empty else labels
    if kind == "bytes":
        return labels.map(str.encode)
    if kind == "decimal":
        from decimal import Decimal

        return labels.map(Decimal)
    if kind == "datetimetz":
        zone = said["metadata"]["timezone"]
        unit = dtype.partition("[")[2].rstrip("]")
        return pandas.to_datetime(labels, utc=True).tz_convert(zone).as_unit(unit)
    if kind == "date":
        import datetime

        return pandas.Index(list(map(datetime.date.fromisoformat, labels)), name=labels.name)
    return labels.astype(dtype)


def remember(frame, table, told, types):
    """Keeps in the frame's `attrs` what pandas has no place for, as text that any writer takes."""
    metadata = {key: value for key, value in table.metadata.items() if key != b"pandas"}
    fields = {field.name: as_text(field.metadata) for field in table.fields if field.metadata}
    kept = {"schema": as_text(metadata), "fields": fields, "types": types}
    kept = {key: value for key, value in kept.items() if value}
    attributes = {key: value for key, value in told.attributes.items() if key != ATTRIBUTE}
    if kept:
        attributes[ATTRIBUTE] = kept
    if attributes:
        frame.attrs = attributes


def as_text(metadata):
    return {key.decode(): value.decode() for key, value in metadata.items()}


# === a column as pandas has it ===


def array_of(column, name, told, copies):
    """A column as an array of the dtype that fits it best, or that it had."""
    import pandas

    field, said = column.field, told.dtype(name)
    kind = field.kind
    if kind == "dictionary":
        return categorical_of(column, name, copies, pandas)
    if said.endswith("[pyarrow]") and not said.startswith("string") and asked.is_there("pyarrow"):
        return arrow_array_of(column, pandas)
    if said.startswith(("period[", "interval[")) and asked.is_there("pyarrow"):
        return extension_of(column, name, said, copies, pandas)
    is_plain = kind == "bool" or kind in arrays.NUMBERS or (kind in TEXTS and told.knows_text)
    if said == "object" and is_plain:
        return objects_of(column, name, copies, pandas)
    if kind in TEXTS:
        return texts_of(column, name, said, copies, pandas)
    if kind in arrays.NUMBERS:
        return numbers_of(column, name, said, copies, pandas)
    if kind == "bool":
        values = arrays.bools_of(column, name, copies, "pandas")
        if not column.null_count and said != "boolean":
            return values
        return pandas.arrays.BooleanArray(values, masks_of(column, name, copies))
    if kind in ("timestamp", "duration"):
        return times_of(column, name, copies, pandas)
    if asked.words_of(field.type) & WITHOUT_OBJECTS and asked.is_there("pyarrow"):
        return arrow_array_of(column, pandas)
    return objects_of(column, name, copies, pandas)


def numbers_of(column, name, said, copies, pandas):
    is_float = column.field.kind in FLOATS
    if not column.null_count and said not in MASKED:
        return arrays.values_of(column, name, copies, "pandas")
    if column.null_count and said in FLOATS:
        # pandas wrote it with NaN for missing.
        if is_float:
            return arrays.values_of(column, name, copies, "pandas", float("nan"))
        made = floats_of(column, name, said, copies)
        if made is not None:
            return made
    if column.field.kind == "float16":
        return objects_of(column, name, copies, pandas, "float16")
    values = arrays.values_of(column, name, copies, "pandas")
    cls = pandas.arrays.FloatingArray if is_float else pandas.arrays.IntegerArray
    return cls(values, masks_of(column, name, copies))


def floats_of(column, name, dtype, copies):
    """Integers as floats with NaN for null; `None` if floats cannot hold them."""
    import numpy

    values = numpy.frombuffer(column.values(), arrays.dtype_of(column.field))
    mask = arrays.mask_of(column)
    made = values.astype(dtype)
    if (made.astype(values.dtype) != values)[~mask].any():
        return None
    made[mask] = numpy.nan
    arrays.note(copies, name, made.nbytes, "pandas needs a copy because it has nulls")
    return made


def masks_of(column, name, copies):
    mask = arrays.mask_of(column)
    has = "has nulls" if column.null_count else "is of a type with a mask"
    arrays.note(copies, name, mask.nbytes, f"pandas needs a copy because it {has}")
    return mask


def times_of(column, name, copies, pandas):
    values = arrays.values_of(column, name, copies, "pandas", "NaT")
    zone = column.field.tz
    if zone is None:
        return values
    try:
        dtype = pandas.DatetimeTZDtype(column.field.unit, zone)
    except Exception as error:
        raise ValueError(f'{arrays.named(name)} is in time zone "{zone}": {error}') from None
    return pandas.array(values.view("i8"), dtype=dtype, copy=False)


def texts_of(column, name, said, copies, pandas):
    if said.startswith("string"):
        dtype = pandas.StringDtype()
    elif int(pandas.__version__.partition(".")[0]) < 3:
        return objects_of(column, name, copies, pandas)
    else:
        dtype = pandas.StringDtype(na_value=float("nan"))
    if dtype.storage != "pyarrow":
        values = arrays.objects_of(column, name, copies, "pandas")
        return pandas.array(values, dtype=dtype)
    import pyarrow

    kind = column.field.kind
    if kind != "large_utf8":
        size = arrays.size_of(column) if kind == "utf8_view" else 8 * (len(column) + 1)
        why = "pandas needs a copy because it keeps text with offsets of 64 bits"
        arrays.note(copies, name, size, why)
    return dtype.__from_arrow__(pyarrow.chunked_array(column))


def categorical_of(column, name, copies, pandas):
    indices, values = column.dictionary()
    categories = array_of(values, name, Told({}), copies)
    codes = arrays.values_of(indices, name, copies, "pandas")
    if codes.dtype.kind == "u":
        codes = codes.astype("i8")
    if indices.null_count:
        codes[arrays.mask_of(indices)] = -1
    ordered = column.field.ordered
    try:
        return pandas.Categorical.from_codes(codes, pandas.Index(categories), ordered)
    except (ValueError, TypeError):
        # One of them is null, is there twice, or has no hash.
        pass
    try:
        kept = dict.fromkeys(value for value in values.to_list() if value is not None)
        return pandas.Categorical(column.to_list(), list(kept), ordered)
    except TypeError:
        return objects_of(column, name, copies, pandas)


def objects_of(column, name, copies, pandas, other=None):
    """Python's objects; as pyarrow has it what Python has no objects for."""
    reason = f"pandas has no nulls in {other}"
    if other is None:
        try:
            return arrays.objects_of(column, name, copies, "pandas")
        except (TypeError, ValueError, OverflowError) as error:
            reason = str(error)
    if not asked.is_there("pyarrow"):
        prefix = "" if reason.startswith("column ") else f"{arrays.named(name)}: "
        raise ValueError(f"{prefix}{reason}")
    return arrow_array_of(column, pandas)


def arrow_array_of(column, pandas):
    import pyarrow

    return pandas.arrays.ArrowExtensionArray(pyarrow.chunked_array(column))


def extension_of(column, name, said, copies, pandas):
    """Periods and intervals, which pandas itself makes of pyarrow's arrays."""
    import pyarrow

    try:
        made = pandas.api.types.pandas_dtype(said).__from_arrow__(pyarrow.chunked_array(column))
    except (TypeError, ValueError, KeyError, AttributeError, pyarrow.ArrowException):
        # It is not what it is said to be.
        return objects_of(column, name, copies, pandas)
    why = "pandas needs a copy because it keeps periods and intervals its own way"
    arrays.note(copies, name, made.nbytes, why)
    return made
