"""Names in annotations, and what type variables stand for.

Compiled into the runtime, never looked for on disk.
"""

import re
import sys
import types
import typing

# An annotation whose names are not there.
UNKNOWN = object()
# Say something of a field, not of its type.
QUALIFIERS = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")


class Scope:
    """Where the names of an annotation are looked up, and what its type variables stand for."""

    __slots__ = ("later", "names", "owner", "variables")

    def __init__(self, names, later=None, variables=None, owner=None):
        self.names = names
        # Looked at where `names` has nothing.
        self.later = later or {}
        self.variables = variables or {}
        self.owner = owner

    @classmethod
    def of_class(cls, owner, variables=None):
        later = {**vars(owner), owner.__name__: owner}
        later.update(named(getattr(owner, "__type_params__", ())))
        return cls(names_of(owner.__module__), later, variables, owner)

    def look_up(self, annotation):
        """What the text of an annotation stands for."""
        names = self.names
        if not isinstance(annotation, str):
            module = getattr(annotation, "__forward_module__", None)
            names = names if module is None else names_of(getattr(module, "__name__", module))
            annotation = annotation.__forward_arg__
        try:
            # As `get_type_hints` does: a field's own default must not hide the type of that name.
            return eval(annotation, dict(self.later), names)
        except Exception:
            return UNKNOWN


def names_of(module):
    return vars(sys.modules[module]) if module in sys.modules else {}


def named(variables):
    return {variable.__name__: variable for variable in variables}


def annotations_of(cls):
    """A class's own annotations."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return vars(cls).get("__annotations__", {})


# === type variables ===


def given(variables, parts, scope):
    """What type variables stand for where a generic is named with these parts."""
    values = [close(part, scope) for part in parts[: len(variables)]]
    values += [fallback(variable) for variable in variables[len(values) :]]
    return dict(zip(variables, values, strict=True))


def close(annotation, scope):
    """The annotation with nothing left open: names looked up, type variables put in."""
    if isinstance(annotation, str | typing.ForwardRef):
        annotation = scope.look_up(annotation)
        if annotation is UNKNOWN:
            return typing.Any
    if isinstance(annotation, typing.TypeVar):
        inner = scope.variables.get(annotation, UNKNOWN)
        return fallback(annotation) if inner is UNKNOWN else inner
    variables = () if isinstance(annotation, type) else getattr(annotation, "__parameters__", ())
    if not variables:
        return annotation
    try:
        return annotation[tuple(close(variable, scope) for variable in variables)]
    except TypeError:
        return typing.Any


def fallback(variable):
    """What a type variable is where nothing is said: its default, its bound, its constraints."""
    found = typing.Any
    default = getattr(variable, "__default__", None)
    if hasattr(variable, "has_default") and variable.has_default():
        found = default
    elif getattr(variable, "__bound__", None) is not None:
        found = variable.__bound__
    elif getattr(variable, "__constraints__", ()):
        found = typing.Union[variable.__constraints__]  # noqa: UP007 - there may be any number
    open_ones = () if isinstance(found, type) else getattr(found, "__parameters__", ())
    return found[(typing.Any,) * len(open_ones)] if open_ones else found


# === what things are called ===


def name_of(annotation):
    """An annotation as a part of a name: `list_int`."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) or type(annotation).__name__ in ("NewType", "TypeAliasType"):
        return annotation.__name__
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return name_of(annotation.__origin__)
    text = str(annotation) if origin is None else getattr(origin, "__name__", "")
    parts = [] if origin is typing.Literal else list(map(name_of, typing.get_args(annotation)))
    if origin is typing.Union or origin is types.UnionType:
        return "_or_".join(parts)
    text = re.sub(r"\W+", "_", text.removeprefix("typing.")).strip("_")
    return "_".join([text, *parts])


def known_name(cls):
    """Module and name of a class, if it is the one found under them; else `None`."""
    module = cls.__module__
    # `pathlib` has its classes in a module of its own since 3.13.
    library = "pathlib" if str(module).startswith("pathlib.") else module
    found = getattr(sys.modules.get(library), cls.__name__, None)
    return (library, cls.__name__) if found is cls or cls is type(None) else None


def qualifier(origin):
    """The name of `Required` and its like."""
    name = getattr(origin, "_name", None)
    return name if name in QUALIFIERS else None
