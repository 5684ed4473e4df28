"""What an annotation asks for, and what a result is, told without importing any library.

Compiled into the runtime, never looked for on disk. A class is known by its name and its library's,
and by those of its bases: an annotation names a class only if its library is loaded already.
"""

import sys

# By library and name of the class.
CLASSES = {
    ("pandas", "DataFrame"): "pandas",
    ("polars", "DataFrame"): "polars",
    ("polars", "LazyFrame"): "polars-lazy",
    ("pandas", "Series"): "pandas-series",
    ("polars", "Series"): "polars-series",
    ("pyarrow", "Table"): "pyarrow",
    ("pyarrow", "RecordBatch"): "pyarrow-batch",
    ("pyarrow", "RecordBatchReader"): "pyarrow-reader",
    ("arro3", "Table"): "arro3",
    ("arro3", "RecordBatch"): "arro3-batch",
    ("arro3", "RecordBatchReader"): "arro3-reader",
    ("numpy", "ndarray"): "numpy",
}
# What libraries are called in annotations that stayed text.
ALIASES = {"pd": "pandas", "pl": "polars", "pa": "pyarrow", "np": "numpy", "npt": "numpy"}
# What an unresolved name without a library stands for.
BARE = {
    "DataFrame": "pandas",
    "LazyFrame": "polars-lazy",
    "RecordBatch": "pyarrow-batch",
    "RecordBatchReader": "pyarrow-reader",
    "ndarray": "numpy",
    "NDArray": "numpy",
}
# Annotations that stand for another one, and where they have it.
SPECIAL = {
    "TypeAliasType": "__value__",
    "NewType": "__supertype__",
    "ForwardRef": "__forward_arg__",
}
# A single value, though it has the protocol of an array.
SCALARS = {("arro3", "Scalar"), ("pyarrow", "Scalar")}
ARROW = ("__arrow_c_stream__", "__arrow_c_array__")
# Most results are of these, and are no tables.
PLAIN = {type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set}
DEFAULTS = ("pandas", "polars", "pyarrow", "arro3")

LISTS = (list, "Sequence", "MutableSequence", "Iterable", "Collection")
DICTS = (dict, "Mapping", "MutableMapping")

_default = None


# === what is asked for ===


def target_of(annotation):
    """The kind of table that an annotation asks for; `None` if it takes no table.

    A kind is a name, see CLASSES, or `"numpy-dict"`, `"rows"`, `"columns"`, or `("class", cls)` for
    any other class with Arrow's protocol. For plain `list` and `dict` the caller decides.
    """
    if isinstance(annotation, str):
        return target_of_text(annotation)
    if isinstance(annotation, type):
        return target_of_class(annotation)
    special = SPECIAL.get(type(annotation).__name__)
    if special is not None:
        return target_of_special(annotation, special)
    origin = getattr(annotation, "__origin__", None)
    parts = getattr(annotation, "__args__", None)
    if is_union(annotation, origin):
        return next(filter(None, map(target_of, parts)), None)
    if origin is None:
        return None
    # Of `Annotated` the origin is what is in it.
    is_annotated = hasattr(annotation, "__metadata__")
    return (not is_annotated and target_of_container(origin, parts)) or target_of(origin)


def target_of_special(annotation, inner):
    try:
        return target_of(getattr(annotation, inner))
    except Exception:
        # The value of `type X = ...` is worked out now, and may name what is not there.
        return None


def is_union(annotation, origin):
    # Since 3.14 both spellings are of one class.
    if type(annotation).__name__ in ("UnionType", "Union"):
        return True
    typing = sys.modules.get("typing")
    return typing is not None and origin is typing.Union


def target_of_container(origin, parts):
    """Of `list[dict]`, `dict[str, list]` and `dict[str, numpy.ndarray]`."""
    if not parts:
        return None
    if is_one_of(origin, LISTS):
        return "rows" if is_dict(parts[0]) else None
    if is_one_of(origin, DICTS) and len(parts) == 2 and parts[0] is str:
        if is_one_of(getattr(parts[1], "__origin__", parts[1]), LISTS):
            return "columns"
        return "numpy-dict" if target_of(parts[1]) == "numpy" else None
    return None


def is_dict(annotation):
    origin = getattr(annotation, "__origin__", annotation)
    return is_one_of(origin, DICTS) or type(annotation).__name__ == "_TypedDictMeta"


def is_one_of(cls, kinds):
    """Whether a class is the builtin one, or one of the names in `collections.abc`."""
    if cls is kinds[0]:
        return True
    module = getattr(cls, "__module__", None)
    return module == "collections.abc" and cls.__name__ in kinds[1:]


def target_of_class(cls):
    for name in names_of(cls):
        if name in CLASSES:
            return CLASSES[name]
    if any(hasattr(cls, name) for name in ARROW):
        return ("class", cls)
    return None


def names_of(cls):
    """Library and name of a class and its bases."""
    for each in cls.__mro__:
        yield (str(each.__module__).partition(".")[0], each.__qualname__)


# === annotations that stayed text ===


def target_of_text(text):
    """The same for an annotation whose names could not be looked up."""
    import ast

    try:
        return target_of_node(ast.parse(text.strip(), mode="eval").body, ast)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def target_of_node(node, ast):
    if isinstance(node, ast.Constant):
        return target_of_text(node.value) if isinstance(node.value, str) else None
    if isinstance(node, ast.BinOp):
        return target_of_node(node.left, ast) or target_of_node(node.right, ast)
    if not isinstance(node, ast.Subscript):
        return target_of_name(dotted(node, ast))
    name = dotted(node.value, ast)
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    kind = name.rpartition(".")[2]
    if kind in ("Union", "Optional"):
        return next(filter(None, (target_of_node(part, ast) for part in parts)), None)
    if kind == "Annotated":
        return target_of_node(parts[0], ast)
    if kind in ("list", "List", *LISTS[1:]):
        return "rows" if named(parts[0], ast) in ("dict", "Dict", *DICTS[1:]) else None
    if kind in ("dict", "Dict", *DICTS[1:]) and len(parts) == 2:
        if named(parts[1], ast) in ("list", "List", *LISTS[1:]):
            return "columns"
        return "numpy-dict" if target_of_node(parts[1], ast) == "numpy" else None
    return target_of_name(name)


def named(node, ast):
    """The last part of the name of a class, whatever its parameters are."""
    return dotted(node.value if isinstance(node, ast.Subscript) else node, ast).rpartition(".")[2]


def dotted(node, ast):
    """`a.b.C` as text; empty for what is no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, ast)
        return before and f"{before}.{node.attr}"
    return ""


def target_of_name(name):
    library, _, kind = name.rpartition(".")
    if not library:
        return BARE.get(kind)
    first = library.partition(".")[0]
    if kind == "NDArray":
        kind = "ndarray"
    return CLASSES.get((ALIASES.get(first, first), kind))


# === what is there ===


def default_target():
    """What a handler gets that does not say what it wants: the first library there is."""
    global _default
    if _default is None:
        _default = next(filter(is_there, DEFAULTS), "table")
    return _default


def is_there(library):
    """Whether a library is installed."""
    if library in sys.modules:
        return sys.modules[library] is not None
    import importlib.util

    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def is_table(obj):
    """Whether an object is a table or a column of one, by its type alone.

    Lists, dicts and NumPy's arrays are not, though a table can be made of them.
    """
    cls = type(obj)
    if cls in PLAIN:
        return False
    if hasattr(cls, "__arrow_c_stream__"):
        return True
    if hasattr(cls, "__arrow_c_array__"):
        return SCALARS.isdisjoint(names_of(cls))
    library = library_of(obj)
    return library is not None and library[0] != "numpy"


def library_of(obj):
    """Library and class by which an object is known, its own or a base: `("polars", "Series")`."""
    return next((name for name in names_of(type(obj)) if name in CLASSES), None)


def words_of(type):
    """The types in a type's name; what stands before a colon is the name of a field."""
    import re

    return set(re.findall(r"\w+", re.sub(r"[^<,]*:", " ", type)))
