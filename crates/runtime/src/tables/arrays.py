"""Columns as NumPy's arrays and back, and tensors in NumPy's own format.

Compiled into the runtime, never looked for on disk. NumPy is imported when it is first needed.
"""

Table = Column = None  # put here by the runtime

# Kinds whose values NumPy has as they are, by Arrow's names.
NUMBERS = {
    "int8": "i1",
    "int16": "i2",
    "int32": "i4",
    "int64": "i8",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "float16": "f2",
    "float32": "f4",
    "float64": "f8",
}
UNITS = ("s", "ms", "us", "ns")
# Times of units that Arrow lacks, and what holds them exactly.
COARSE = {"Y": "D", "M": "D", "W": "D", "h": "s", "m": "s"}
# The integers from 0 up to here have no gap in a float of so many bytes.
EXACT = {2: 2**11, 4: 2**24, 8: 2**53}

# NumPy's format: magic, version 1.0 or later, length of the header, header, data.
MAGIC = b"\x93NUMPY"
# As NumPy itself: what is longer may be meant to break the parser.
MAX_HEADER = 10_000
ALIGN = 64


# === a column as an array ===


def dtype_of(field):
    """The dtype of what is side by side in a column of numbers or times; else `None`."""
    if field.kind in NUMBERS:
        return NUMBERS[field.kind]
    if field.kind == "timestamp":
        return f"M8[{field.unit}]"
    if field.kind == "duration":
        return f"m8[{field.unit}]"
    return "M8[ms]" if field.kind == "date64" else None


def values_of(column, name, copies, library, fill=None):
    """The values of numbers or times as an array that may be written to, with `fill` for null.

    Without `fill` there is any value where there are nulls. Nothing is copied of a column in one
    piece whose memory is the process's own.
    """
    import numpy

    array = numpy.frombuffer(column.values(), dtype_of(column.field))
    fills = fill is not None and column.null_count > 0
    if column.copied:
        why = f"it is in {column.num_chunks} pieces"
    elif fills:
        why = "it has nulls"
    elif not array.flags.writeable and len(array):
        why = "its memory may not be written to"
    else:
        return array
    note(copies, name, array.nbytes, f"{library} needs a copy because {why}")
    if not (column.copied and array.flags.writeable):
        array = array.copy()
    if fills:
        array[mask_of(column)] = fill
    return array


def mask_of(column):
    import numpy

    return numpy.frombuffer(column.mask(), "?")


def bools_of(column, name, copies, library):
    import numpy

    array = numpy.frombuffer(column.bools(), "?")
    why = f"{library} needs a copy because booleans are single bits in Arrow"
    note(copies, name, array.nbytes, why)
    return array


def dates_of(column, name, copies, library):
    """Days as 64 bits, as NumPy has them."""
    import numpy

    array = numpy.frombuffer(column.values(), "i4").astype("M8[D]")
    if column.null_count:
        array[mask_of(column)] = "NaT"
    note(copies, name, array.nbytes, f"{library} needs a copy because its days have 64 bits")
    return array


def objects_of(column, name, copies, library):
    """Any column as an array of Python's objects."""
    note(
        copies,
        name,
        size_of(column),
        f"{library} needs a copy because it keeps such values as Python objects",
    )
    return object_array(column.to_list())


def object_array(values):
    import numpy

    array = numpy.empty(len(values), object)
    # Assigned at once, lists in it would be taken for a further dimension.
    for at, value in enumerate(values):
        array[at] = value
    return array


def array_of(column, name, copies):
    """A column as an array: numbers and times as they are, everything else as objects."""
    kind = column.field.kind
    if kind in NUMBERS or kind == "bool":
        if column.null_count:
            raise ValueError(f"{named(name)} has nulls, and an array has no place for them")
        if kind == "bool":
            return bools_of(column, name, copies, "numpy")
        return values_of(column, name, copies, "numpy")
    if kind == "date32":
        return dates_of(column, name, copies, "numpy")
    if dtype_of(column.field) is None:
        return objects_of(column, name, copies, "numpy")
    return values_of(column, name, copies, "numpy", "NaT")


# === a table as an array ===


def matrix_of(table, copies):
    """A table as a matrix, rows by columns; one of one column as a vector."""
    import numpy

    names = table.column_names
    if len(names) == 1:
        return array_of(table.column(0), names[0], copies)
    parts = []
    for at, name in enumerate(names):
        parts.append(array_of(table.column(at), name, copies))
        if parts[-1].dtype == object:
            kind = table.column(at).field.kind
            raise ValueError(f"{named(name)} is of {kind}, and a matrix holds numbers")
    dtype = common_dtype(names, parts)
    matrix = numpy.empty((table.num_rows, len(parts)), dtype)
    why = "the columns of a table lie apart"
    for at, part in enumerate(parts):
        if part.dtype != dtype:
            why = f"the columns are of several types, and a matrix is of one, {dtype}"
        matrix[:, at] = exactly(part, dtype, names[at])
    if matrix.nbytes:
        copies.append(("table", matrix.nbytes, why))
    return matrix


def common_dtype(names, parts):
    import numpy

    dtype = parts[0].dtype if parts else numpy.dtype("f8")
    for name, part in zip(names, parts, strict=True):
        # Spans of time and numbers would be promoted to spans.
        if (part.dtype.kind in "Mm" or dtype.kind in "Mm") and part.dtype.kind != dtype.kind:
            shown = f"{named(name)} is of {part.dtype}, those before of {dtype}"
            raise ValueError(f"{shown}: no array holds both")
        dtype = numpy.result_type(dtype, part.dtype)
    return dtype


def exactly(array, dtype, name):
    """An array that is put into a matrix of that dtype; an error if that would change values."""
    if dtype.kind in "Mm" and array.dtype != dtype:
        import numpy

        return finer(array, numpy.datetime_data(dtype)[0], name)
    if dtype.kind == "f" and array.dtype.kind in "iu" and len(array):
        most = EXACT[dtype.itemsize]
        if int(array.max()) > most or int(array.min()) < -most:
            raise ValueError(f"{named(name)} has integers that {dtype} cannot hold exactly")
    return array


def arrays_of(table, copies):
    """A table as a dict of arrays."""
    names = unique_names(table, "a dict")
    return {name: array_of(table.column(at), name, copies) for at, name in enumerate(names)}


# === an array as a column ===


def column_from(array, name, copies, nulls=None, library="numpy"):
    """An array of one dimension as a column; `nulls` says which values are none."""
    import numpy

    if isinstance(array, numpy.ma.MaskedArray):
        nulls = numpy.ma.getmaskarray(array)
        nulls, array = nulls if nulls.any() else None, array.data
    kind, dtype = array.dtype.kind, array.dtype
    if kind in "OTUS":
        return column_from_objects(array, name, copies, nulls, library)
    if not dtype.isnative:
        array = array.astype(dtype.newbyteorder("="))
        note(copies, name, array.nbytes, f"its bytes are not in the machine's order in {library}")
    if kind in "Mm":
        return column_from_times(array, name, copies, nulls, library)
    array = side_by_side(array, name, copies, library)
    if nulls is not None:
        note(copies, name, (len(array) + 7) // 8, "nulls are single bits in Arrow")
        nulls = numpy.ascontiguousarray(nulls)
    if kind == "b":
        note(copies, name, (len(array) + 7) // 8, "booleans are single bits in Arrow")
        return Column.from_bools(array, nulls)
    if kind in "iuf" and dtype.itemsize <= 8:
        return Column.from_buffer(array, array.dtype.name, nulls)
    raise TypeError(f"{named(name)} is of {dtype}, which Arrow has no type for")


def side_by_side(array, name, copies, library):
    import numpy

    if array.flags.c_contiguous:
        return array
    array = numpy.ascontiguousarray(array)
    note(copies, name, array.nbytes, f"its values do not lie side by side in {library}")
    return array


def column_from_times(array, name, copies, nulls=None, library="numpy", zone=None):
    import numpy

    missing = numpy.isnat(array)
    if nulls is not None:
        missing |= nulls
    missing = missing if missing.any() else None
    if missing is not None:
        note(copies, name, (len(array) + 7) // 8, "nulls are single bits in Arrow")
    unit, count = numpy.datetime_data(array.dtype)
    fine = COARSE.get(unit, unit)
    is_date = array.dtype.kind == "M" and fine == "D"
    if array.dtype.kind == "m" and fine == "D":
        # A month is of no fixed length.
        fine = None if unit in "YM" else "s"
    if (fine, count) != (unit, 1):
        array = finer(array, fine, name)
        note(copies, name, array.nbytes, f"Arrow has no unit like {library}'s for it")
    if is_date:
        return column_from_days(array, name, copies, missing)
    if fine not in UNITS:
        raise TypeError(f"{named(name)} is of {array.dtype}, which Arrow has no type for")
    array = side_by_side(array, name, copies, library)
    kind = "timestamp" if array.dtype.kind == "M" else "duration"
    return Column.from_buffer(array.view("i8"), kind, missing, unit=fine, tz=zone)


def finer(array, unit, name):
    """Times in another unit, none of them changed."""
    import numpy

    if unit is None:
        raise TypeError(f"{named(name)} is of {array.dtype}, which Arrow has no type for")
    made = array.astype(f"{array.dtype.kind}8[{unit}]")
    if not numpy.array_equal(made.astype(array.dtype), array, equal_nan=True):
        raise ValueError(f"{named(name)} has times that 64 bits cannot hold in unit {unit}")
    return made


def column_from_days(array, name, copies, missing):
    days = array.view("i8")
    if missing is not None:
        days = days.copy()
        days[missing] = 0
    made = days.astype("i4")
    if (made != days).any():
        raise ValueError(f"{named(name)} has days that 32 bits cannot hold")
    note(copies, name, made.nbytes, "Arrow's days have 32 bits")
    return Column.from_buffer(made, "date32", missing)


def column_from_objects(array, name, copies, nulls=None, library="numpy"):
    """An array of objects or of texts as a column."""
    values = array.tolist()
    if nulls is not None:
        pairs = zip(values, nulls.tolist(), strict=True)
        values = [None if null else value for value, null in pairs]
    return column_from_list(
        values, None, name, copies, f"{library} keeps such values as Python objects"
    )


def column_from_list(values, type, name, copies, why):
    """Python's objects as a column, of the type given, or of one that holds them all."""
    try:
        column = Column.from_objects(values, type)
    except (TypeError, ValueError, OverflowError) as error:
        raise type_of(error)(f"{named(name)}: {error}") from None
    note(copies, name, size_of(column), why)
    return column


def type_of(error):
    return TypeError if isinstance(error, TypeError) else ValueError


def columns_from(array, copies):
    """An array of one or two dimensions, or a structured one, as named columns; else `None`."""
    if array.dtype.names is not None and array.ndim == 1:
        return [(name, column_from(array[name], name, copies)) for name in array.dtype.names]
    if array.ndim == 1:
        return [("value", column_from(array, "value", copies))]
    if array.ndim == 2:
        names = list(map(str, range(array.shape[1])))
        return [(name, column_from(array[:, int(name)], name, copies)) for name in names]
    return None


# === tensors ===


def tensor(data, copies):
    """NumPy's format as an array over the same memory; written to as far as that may be."""
    import numpy

    view = memoryview(data).cast("B")
    dtype, fortran, shape, start = read_header(view)
    count = 1
    for length in shape:
        count *= length
    if count * dtype.itemsize != len(view) - start:
        raise ValueError(
            f"the array of shape {shape} and {dtype} takes {count * dtype.itemsize} bytes, "
            f"and {len(view) - start} are there"
        )
    if not dtype.itemsize or not count:
        return numpy.empty(shape, dtype)
    array = numpy.frombuffer(view, dtype, count, start)
    array = array.reshape(shape, order="F" if fortran else "C")
    if not array.flags.aligned:
        array = array.copy(order="K")
        copies.append(("array", array.nbytes, "its values are not aligned in memory"))
    return array


def read_header(view):
    """Dtype, whether columns come first, shape, and where the values begin."""
    import ast

    from numpy.lib.format import descr_to_dtype

    wide = len(view) > 6 and view[6] > 1
    start = 12 if wide else 10
    if bytes(view[:6]) != MAGIC or len(view) < start or view[6] not in (1, 2, 3):
        raise ValueError("this is not NumPy's format")
    length = int.from_bytes(view[8:start], "little")
    if length > min(MAX_HEADER, len(view) - start):
        raise ValueError(f"the header of NumPy's format is too long, {length} bytes")
    try:
        text = bytes(view[start : start + length]).decode("utf-8" if view[6] == 3 else "latin-1")
        header = ast.literal_eval(text)
        if not isinstance(header, dict) or header.keys() != {"descr", "fortran_order", "shape"}:
            raise ValueError("it has the wrong parts")
        shape, dtype = header["shape"], descr_to_dtype(header["descr"])
        if not (isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)):
            raise ValueError("its shape is none")
        if len(shape) > 64:
            raise ValueError("it has more than 64 dimensions")
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, KeyError) as error:
        raise ValueError(f"the header of NumPy's format cannot be read: {error}") from None
    if dtype.hasobject:
        raise ValueError("an array of Python objects is not read from NumPy's format")
    return dtype, header["fortran_order"] is True, shape, start + length


def tensor_parts(array, copies):
    """An array in NumPy's format: the header, and the values as bytes, not copied if it can be."""
    import numpy
    from numpy.lib.format import dtype_to_descr

    if numpy.ma.is_masked(array):
        raise TypeError("a masked array has no place in NumPy's format")
    array = numpy.asarray(array)
    if array.dtype.hasobject or array.dtype.kind == "T":
        raise TypeError(f"an array of {array.dtype} has no place in NumPy's format")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    if not (fortran or array.flags.c_contiguous):
        array = numpy.ascontiguousarray(array)
        copies.append(("array", array.nbytes, "its values do not lie side by side"))
    shape = tuple(map(int, array.shape))
    descr = dtype_to_descr(array.dtype)
    text = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape!r}, }}"
    values = array.T if fortran else array
    return write_header(text), values.reshape(-1).view("u1") if array.nbytes else b""


def write_header(text):
    version, coded = (1, text.encode("latin-1")) if text.isascii() else (3, text.encode())
    start = 10 if version == 1 else 12
    if version == 1 and len(coded) > 65000:
        version, start = 2, 12
    coded += b" " * (-(start + len(coded) + 1) % ALIGN) + b"\n"
    length = len(coded).to_bytes(start - 8, "little")
    return MAGIC + bytes((version, 0)) + length + coded


# === small things ===


def named(name):
    return f'column "{name}"'


def note(copies, name, size, why):
    """Says that so many bytes of a column were copied."""
    if size:
        copies.append((named(name), size, why))


def size_of(column):
    """The bytes that the values of a column take in Arrow."""
    return Table.from_columns([("value", column, None)]).nbytes


def unique_names(table, what):
    names = table.column_names
    seen = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{named(name)} is there twice, and {what} takes a name once")
        seen.add(name)
    return names
