"""Between our tables and those of pandas, polars, pyarrow, arro3 and NumPy, both ways.

Compiled into the runtime, never looked for on disk. No library is needed, and each is imported only
when it is asked for. Every copy is told as `(what, bytes, why)`.
"""

import _exuvia_asked as asked
from _exuvia_asked import default_target, is_table, target_of

__all__ = ["default_target", "give", "is_table", "take", "target_of", "tensor", "tensor_parts"]

Table = Column = None  # put here by the runtime

# Words of types that polars does not have; some of them it takes, and dies of later.
NOT_IN_POLARS = {
    "decimal32",
    "decimal64",
    "decimal256",
    "interval",
    "list_view",
    "large_list_view",
    "run_end_encoded",
    "union",
}
# Types whose values polars lays out anew, by themselves or inside others.
NESTED = {"list", "large_list", "fixed_size_list", "struct"}
VIEWED = {"utf8", "large_utf8", "binary", "large_binary"}
CHANGED_INSIDE = {*VIEWED, "time32", "time64", "fixed_size_binary", "map"}


# === what a handler gets ===


def give(table, target, copies):
    """A table as what `target_of` said, or `default_target`."""
    if isinstance(target, tuple):
        return give_class(table, target[1])
    return GIVERS[target](table, copies)


def give_class(table, cls):
    """By the class's own `from_arrow`; without it, our table has the protocol as well."""
    make = getattr(cls, "from_arrow", None)
    if make is None or isinstance(table, cls if is_plain_class(cls) else ()):
        return table
    return make(table)


def is_plain_class(cls):
    # A protocol can be asked for instances only if it was made for it.
    return not getattr(cls, "_is_protocol", False)


def give_pandas(table, copies):
    import _exuvia_frames_in

    return _exuvia_frames_in.to_frame(table, copies)


def give_pandas_series(table, copies):
    import _exuvia_frames_in

    return _exuvia_frames_in.to_series(table, copies)


def give_polars(table, copies):
    import _exuvia_arrays as arrays
    import polars

    for name in arrays.unique_names(table, "polars"):
        column = table.column(name)
        unknown = asked.words_of(column.field.type) & NOT_IN_POLARS
        if unknown:
            shown = f"{arrays.named(name)} is of {column.field.type}"
            raise TypeError(f"{shown}, and polars has no {min(unknown)}")
        note_polars(column, name, copies)
    try:
        return polars.DataFrame(table)
    except BaseException as error:
        if not is_refusal(error):
            raise
        raise ValueError(first_refusal(table, arrays, polars) or said(error)) from None


def is_refusal(error):
    """Whether polars says no; its Rust code may panic instead, which is no `Exception`."""
    return type(error).__name__ == "PanicException" or "polars" in type(error).__module__


def first_refusal(table, arrays, polars):
    """What polars says of the column that it does not take."""
    for name in table.column_names:
        try:
            polars.DataFrame(Table.from_columns([(name, table.column(name), None)]))
        except BaseException as error:
            if not is_refusal(error):
                raise
            return f"{arrays.named(name)}: {said(error)}"
    return None


def said(error):
    return f"polars: {str(error).partition(chr(10))[0]}"


def give_polars_lazy(table, copies):
    return give_polars(table, copies).lazy()


def give_polars_series(table, copies):
    frame = give_polars(table, copies)
    if frame.width != 1:
        raise ValueError(f"a Series is one column, and the table has {frame.width}")
    return frame.to_series()


def note_polars(column, name, copies):
    """What polars copies, by what it has instead of Arrow's types."""
    import _exuvia_arrays as arrays

    field, rows = column.field, len(column)
    kind, size, why = field.kind, 0, ""
    if kind in VIEWED:
        size, why = 16 * rows, "it finds texts and bytes by views of 16 bytes"
    elif kind in ("timestamp", "duration") and field.unit == "s":
        size, why = 8 * rows, "it has no times in seconds"
    elif kind == "time32" or (kind == "time64" and field.unit != "ns"):
        size, why = 8 * rows, "it has times of day in nanoseconds"
    elif kind == "dictionary":
        size, why = 4 * rows, "it numbers categories its own way"
    elif kind in ("fixed_size_binary", "map"):
        size, why = arrays.size_of(column), f"it has no {kind}"
    elif kind in NESTED and asked.words_of(field.type) & CHANGED_INSIDE:
        size, why = arrays.size_of(column), "it has other types for what is in it"
    elif kind == "list":
        size, why = 8 * (rows + 1), "its lists have offsets of 64 bits"
    arrays.note(copies, name, size, f"polars needs a copy because {why}")


def give_pyarrow(table, copies):
    import pyarrow

    # `pyarrow.table` would import pandas, to see whether it is given a frame.
    return pyarrow.RecordBatchReader.from_stream(table).read_all()


def give_pyarrow_batch(table, copies):
    import pyarrow

    note_joined(table, "pyarrow", copies)
    # Of several batches this makes one.
    return pyarrow.record_batch(Column.from_arrow(table))


def give_pyarrow_reader(table, copies):
    import pyarrow

    return pyarrow.RecordBatchReader.from_stream(table)


def give_arro3(table, copies):
    from arro3 import core

    return core.Table.from_arrow(table)


def give_arro3_batch(table, copies):
    from arro3 import core

    note_joined(table, "arro3", copies)
    # Of several batches this makes one.
    return core.RecordBatch.from_arrow(Column.from_arrow(table))


def give_arro3_reader(table, copies):
    from arro3 import core

    return core.RecordBatchReader.from_stream(table)


def note_joined(table, library, copies):
    if table.num_batches > 1 and table.nbytes:
        why = f"{library} needs a copy because the table is in {table.num_batches} batches"
        copies.append(("table", table.nbytes, why))


def give_numpy(table, copies):
    import _exuvia_arrays

    return _exuvia_arrays.matrix_of(table, copies)


def give_numpy_dict(table, copies):
    import _exuvia_arrays

    return _exuvia_arrays.arrays_of(table, copies)


def give_rows(table, copies):
    note_objects(table, copies)
    return table.rows()


def give_columns(table, copies):
    note_objects(table, copies)
    return table.columns()


def note_objects(table, copies):
    if table.nbytes:
        copies.append(("table", table.nbytes, "lists and dicts hold Python objects"))


GIVERS = {
    "pandas": give_pandas,
    "pandas-series": give_pandas_series,
    "polars": give_polars,
    "polars-lazy": give_polars_lazy,
    "polars-series": give_polars_series,
    "pyarrow": give_pyarrow,
    "pyarrow-batch": give_pyarrow_batch,
    "pyarrow-reader": give_pyarrow_reader,
    "arro3": give_arro3,
    "arro3-batch": give_arro3_batch,
    "arro3-reader": give_arro3_reader,
    "numpy": give_numpy,
    "numpy-dict": give_numpy_dict,
    "rows": give_rows,
    "columns": give_columns,
    "table": lambda table, copies: table,
}


# === what a handler returned ===


def take(obj, copies):
    """A result as our table; `None` if it is none.

    Beside what `is_table` knows these are tables: an array of one or two dimensions, a structured
    one, a list of dicts with the same keys, a dict of equally long lists or arrays.
    """
    if isinstance(obj, Table):
        return obj
    if isinstance(obj, list):
        return take_rows(obj, copies)
    if isinstance(obj, dict):
        return take_columns(obj, copies)
    known = asked.library_of(obj)
    taker = TAKERS.get(known)
    if taker is not None:
        return taker(obj, copies)
    return Table.from_arrow(obj) if is_table(obj) else None


def take_pandas(frame, copies):
    import _exuvia_frames_out

    return _exuvia_frames_out.from_frame(frame, copies)


def take_pandas_series(series, copies):
    import _exuvia_frames_out

    return _exuvia_frames_out.from_series(series, copies)


def take_polars_lazy(frame, copies):
    return Table.from_arrow(frame.collect())


def take_polars_series(series, copies):
    return Table.from_arrow(series.to_frame(series.name or "value"))


def take_array(array, copies):
    import _exuvia_arrays

    columns = _exuvia_arrays.columns_from(array, copies)
    return None if columns is None else made_of(columns, array.shape[0])


def take_rows(rows, copies):
    """A list of dicts with the same keys, in whatever order."""
    if not rows:
        return Table.from_columns([], None, 0)
    first = rows[0]
    if not isinstance(first, dict) or not all(isinstance(key, str) for key in first):
        return None
    keys = first.keys()
    if not all(isinstance(row, dict) and row.keys() == keys for row in rows):
        return None
    import _exuvia_arrays as arrays

    columns = []
    for key in keys:
        values = [row[key] for row in rows]
        why = "lists and dicts hold Python objects"
        columns.append((key, arrays.column_from_list(values, None, key, copies, why)))
    return made_of(columns, len(rows))


def take_columns(columns, copies):
    """A dict of equally long lists, arrays or columns of any library."""
    made = []
    for name, values in columns.items():
        column = take_column(values, name, copies) if isinstance(name, str) else None
        if column is None:
            return None
        made.append((name, column))
    return made_of(made, len(made[0][1]) if made else 0)


def take_column(values, name, copies):
    """A list, an array or a column as a column; `None` if it is none of these."""
    import _exuvia_arrays as arrays

    if isinstance(values, (list, tuple)):
        return arrays.column_from_list(values, None, name, copies, "a list holds Python objects")
    known = asked.library_of(values)
    if known == ("numpy", "ndarray"):
        return arrays.column_from(values, name, copies) if values.ndim == 1 else None
    if known == ("pandas", "Series"):
        import _exuvia_frames_out

        return _exuvia_frames_out.column_of(values, name, copies)
    if isinstance(values, Column) or (known is None and is_table(values)):
        return Column.from_arrow(values)
    return Column.from_arrow(values) if known == ("polars", "Series") else None


def made_of(columns, rows):
    for name, column in columns:
        if len(column) != rows:
            expected = f'column "{columns[0][0]}" has {rows}'
            raise ValueError(f'column "{name}" has {len(column)} values, and {expected}')
    return Table.from_columns([(name, column, None) for name, column in columns], None, rows)


TAKERS = {
    ("pandas", "DataFrame"): take_pandas,
    ("pandas", "Series"): take_pandas_series,
    ("polars", "LazyFrame"): take_polars_lazy,
    ("polars", "Series"): take_polars_series,
    ("numpy", "ndarray"): take_array,
}


# === tensors ===


def tensor(data, copies):
    """A payload in NumPy's format as an array over the same memory."""
    import _exuvia_arrays

    return _exuvia_arrays.tensor(data, copies)


def tensor_parts(array, copies):
    """An array in NumPy's format as two parts: header, and values, not copied if it can be."""
    import _exuvia_arrays

    return _exuvia_arrays.tensor_parts(array, copies)
