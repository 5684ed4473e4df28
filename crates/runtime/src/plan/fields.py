"""Classes with fields: dataclasses, TypedDicts, named tuples.

Compiled into the runtime, never looked for on disk.
"""

import inspect
import sys
import types
import typing

from _exuvia_plan_names import UNKNOWN, Scope, annotations_of, given, qualifier


def reader_of(cls):
    """What reads the fields of a class, if it has any."""
    if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
        return typed_dict
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return named_tuple
    return data_class if hasattr(cls, "__dataclass_fields__") else None


# === TypedDicts and named tuples ===


def typed_dict(compiler, cls, variables):
    fields = []
    for name, (annotation, scope) in typed_dict_hints(cls, variables).items():
        said, annotation = requirement(annotation, scope)
        required = name in cls.__required_keys__ if said is None else said
        fields.append((name, compiler.field(cls, name, annotation, scope), required, None))
    return "dict", fields, None


def typed_dict_hints(cls, variables):
    """Annotations with their scopes. A TypedDict's bases are only known by what they gave it."""
    scope = Scope.of_class(cls, variables)
    found, inherited = {}, {}
    for base in vars(cls).get("__orig_bases__", ()):
        origin = typing.get_origin(base) or base
        if isinstance(origin, type) and hasattr(origin, "__required_keys__"):
            parameters = getattr(origin, "__parameters__", ())
            found.update(typed_dict_hints(origin, given(parameters, typing.get_args(base), scope)))
            inherited.update(annotations_of(origin))
    for name, annotation in annotations_of(cls).items():
        if name not in inherited or inherited[name] is not annotation:
            found[name] = (annotation, scope)
    return found


def requirement(annotation, scope):
    """What `Required` or `NotRequired` say of a field, and the annotation that is looked at."""
    if isinstance(annotation, str | typing.ForwardRef):
        annotation = scope.look_up(annotation)
        annotation = typing.Any if annotation is UNKNOWN else annotation
    inner = annotation
    while True:
        origin = typing.get_origin(inner)
        name = qualifier(origin)
        if name in ("Required", "NotRequired"):
            return name == "Required", annotation
        if origin is typing.Annotated:
            inner = inner.__origin__
        elif name is not None:
            inner = typing.get_args(inner)[0]
        else:
            return None, annotation


def named_tuple(compiler, cls, variables):
    hints = class_hints(cls, variables)
    fields = []
    for name in cls._fields:
        annotation, scope = hints.get(name, (typing.Any, Scope({})))
        node = compiler.field(cls, name, annotation, scope)
        fields.append((name, node, name not in cls._field_defaults, None))
    return "namedtuple", fields, None


# === dataclasses ===


def data_class(compiler, cls, variables):
    """How a dataclass is made, its fields as they are read, and as they are written."""
    hints = class_hints(cls, variables, lambda base: "__dataclass_fields__" in vars(base))
    how = how_made(cls)
    fields, written = [], []
    for field in cls.__dataclass_fields__.values():
        if is_class_variable(field):
            continue
        default = default_of(field)
        annotation, scope = hints.get(field.name, (field.type, Scope({})))
        node = compiler.field(cls, field.name, annotation, scope)
        if not is_init_variable(field):
            written.append((field.name, node))
        if field.init:
            fields.append((field.name, node, default is None, default))
        elif how != "call" and set_by_init(cls, field):
            fields.append((field.name, None, False, default))
    return how, fields, written


def how_made(cls):
    """Whether setting its fields is all that making an object of the class is."""
    init = vars(cls).get("__init__")
    code = getattr(init, "__code__", None)
    is_plain = (
        type(cls) is type
        and cls.__new__ is object.__new__
        and "__dataclass_params__" in vars(cls)
        # Only `dataclasses` makes functions that are called so.
        and code is not None
        and (code.co_filename, code.co_qualname) == ("<string>", "__create_fn__.<locals>.__init__")
        # The one of a frozen class goes past it, as we do.
        and (cls.__dataclass_params__.frozen or cls.__setattr__ is object.__setattr__)
        and not any(map(is_init_variable, cls.__dataclass_fields__.values()))
        and not any(is_descriptor(cls, name) for name in cls.__dataclass_fields__)
    )
    if not is_plain:
        return "call"
    # As it was when the class was made: `__post_init__` may have come later.
    return "set_post" if "__post_init__" in code.co_names else "set"


def is_class_variable(field):
    return field._field_type is sys.modules["dataclasses"]._FIELD_CLASSVAR


def is_init_variable(field):
    return field._field_type is sys.modules["dataclasses"]._FIELD_INITVAR


def is_descriptor(cls, name):
    """Whether a field is set by what stands in its place in the class."""
    found = inspect.getattr_static(cls, name, None)
    is_slot = isinstance(found, types.MemberDescriptorType)
    return hasattr(type(found), "__set__") and not is_slot


def default_of(field):
    missing = sys.modules["dataclasses"].MISSING
    if field.default_factory is not missing:
        return ("factory", field.default_factory)
    return None if field.default is missing else ("value", field.default)


def set_by_init(cls, field):
    """Whether `__init__` sets a field that it does not take.

    A plain default is found in the class, unless there is a slot in its place.
    """
    default = default_of(field)
    in_slot = isinstance(vars(cls).get(field.name), types.MemberDescriptorType)
    return default is not None and (default[0] == "factory" or in_slot)


# === hints ===


def class_hints(cls, variables, counts=lambda base: True):
    """Annotations of a class and its bases, each with its scope."""
    scopes = {}
    add_scopes(cls, variables, scopes)
    hints = {}
    for base in reversed(cls.__mro__):
        if base in scopes and counts(base):
            for name, annotation in annotations_of(base).items():
                hints[name] = (annotation, scopes[base])
    return hints


def add_scopes(cls, variables, scopes):
    """A scope for a class and each of its bases, with what their type variables stand for."""
    if cls in scopes:
        return
    scope = scopes[cls] = Scope.of_class(cls, variables)
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(base) or base
        if isinstance(origin, type) and origin not in (object, typing.Generic, typing.Protocol):
            parameters = getattr(origin, "__parameters__", ())
            add_scopes(origin, given(parameters, typing.get_args(base), scope), scopes)


def doc_of(cls):
    """A class's own docstring, unless it was made by a library."""
    doc = inspect.cleandoc(vars(cls).get("__doc__") or "")
    return "" if doc.startswith(cls.__name__ + "(") else doc
