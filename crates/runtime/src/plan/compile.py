"""Annotations compiled to type plans: what nodes are is in docs/types.md, "Inside".

Compiled into the runtime, never looked for on disk, and loaded when a handler's annotations say
more than `int` or `list`. No library is imported to find out what an annotation is: a class of one
can only be named where its library is loaded.
"""

import inspect
import sys
import types
import typing

from _exuvia_plan_bounds import PlanError, bound, take_metadata
from _exuvia_plan_fields import doc_of, reader_of
from _exuvia_plan_names import (
    UNKNOWN,
    Scope,
    close,
    fallback,
    given,
    known_name,
    name_of,
    named,
    names_of,
    qualifier,
)

# Told by the runtime: what kind of table an annotation asks for, see `asked.py`.
table_target = None
# Told by the runtime: gives another of these modules by its name.
plan_module = None

ANY = ("any",)

# By module and name of the class.
CLASSES = {
    ("builtins", "object"): ANY,
    ("builtins", "NoneType"): ("none",),
    ("builtins", "bool"): ("bool",),
    ("builtins", "int"): ("int", None),
    ("builtins", "float"): ("float", None),
    ("builtins", "str"): ("str", None),
    ("builtins", "bytes"): ("bytes", None),
    ("datetime", "datetime"): ("datetime",),
    ("datetime", "date"): ("date",),
    ("datetime", "time"): ("time",),
    ("datetime", "timedelta"): ("timedelta",),
    ("decimal", "Decimal"): ("decimal", None),
    ("uuid", "UUID"): ("uuid",),
}
# What is made of a string by its class: words, and the format in JSON Schema.
TEXTS = {
    ("pathlib", "Path"): ("a path", None),
    ("pathlib", "PosixPath"): ("a path", None),
    ("pathlib", "PurePath"): ("a path", None),
    ("pathlib", "PurePosixPath"): ("a path", None),
    ("pathlib", "PureWindowsPath"): ("a path", None),
    ("ipaddress", "IPv4Address"): ("an IPv4 address", "ipv4"),
    ("ipaddress", "IPv6Address"): ("an IPv6 address", "ipv6"),
    ("ipaddress", "IPv4Interface"): ("an IPv4 address, with or without a network", None),
    ("ipaddress", "IPv6Interface"): ("an IPv6 address, with or without a network", None),
    ("ipaddress", "IPv4Network"): ("an IPv4 network", None),
    ("ipaddress", "IPv6Network"): ("an IPv6 network", None),
}
# What is read from: a file that was sent, or, where there are only texts, base64.
FILES = {
    *(("typing", name) for name in ("BinaryIO", "IO")),
    *((module, name) for module in ("io", "_io") for name in ("BytesIO", "BufferedIOBase")),
}
# Containers of one kind of item, by module and name.
LISTS = ("Sequence", "MutableSequence", "Iterable", "Collection", "Reversible", "Container")
CONTAINERS = {
    ("builtins", "list"): "list",
    ("builtins", "set"): "set",
    ("builtins", "frozenset"): "frozenset",
    **{("collections.abc", name): "list" for name in LISTS},
    ("collections.abc", "Set"): "set",
    ("collections.abc", "MutableSet"): "set",
}
MAPPINGS = (
    ("builtins", "dict"),
    ("collections.abc", "Mapping"),
    ("collections.abc", "MutableMapping"),
)
# What a generator's annotation yields is its first part.
STREAMS = (
    "Iterator",
    "Iterable",
    "Generator",
    "AsyncIterator",
    "AsyncIterable",
    "AsyncGenerator",
)
# Kinds of nodes that read text, as the keys of an object must.
KEYS = {
    *("str", "int", "float", "bool", "none", "bytes", "decimal", "uuid", "text"),
    *("datetime", "date", "time", "timedelta", "literal", "enum"),
}
SCALARS = (str, int, float, bool, type(None))
LIBRARIES = ("pydantic", "msgspec")


# === a handler ===


def compile_handler(function, hints, skip):
    """A handler's plan: definitions, nodes of parameters that are not in `skip`, and the result's.

    `hints`: its annotations as `typing.get_type_hints(..., include_extras=True)` has them; what is
    not in them is looked up here, each by itself.
    """
    compiler = Compiler()
    params, returns = compiler.handler(function, hints or {}, skip)
    # Only now is it known what fields the members of a union have.
    known = compiler.definitions
    definitions = [tagged(node, known) for node in known]
    params = {name: tagged(node, known) for name, node in params.items()}
    return definitions, params, returns and tagged(returns, known)


class Noted(tuple):
    """A node of which `Annotated` says more than how it is read: `notes` is for its schema."""

    notes: dict


class Compiler:
    """Makes nodes; what may contain itself is in `definitions`, once for each type."""

    def __init__(self):
        self.definitions = []
        # What definitions without a class are called: name and module, by place.
        self.names = {}
        # Fields of objects as they are written, by place, where others are read.
        self.written = {}
        # Places of objects in `definitions`, by class and parameters.
        self._objects = {}
        # Names being looked at now, and their place in `definitions` if they contain themselves.
        self._open = {}
        # What names stand for that have been looked at.
        self._named = {}
        # Keys above are of objects that must not be freed.
        self._kept = []

    def handler(self, function, hints, skip):
        """Nodes for a handler's parameters, and for its result."""
        scope = scope_of_function(function)
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            # Some functions written in C do not tell.
            return {}, None
        params = {}
        for param in signature.parameters.values():
            is_open = param.kind in (param.VAR_POSITIONAL, param.VAR_KEYWORD)
            if is_open or param.name in skip:
                continue
            annotation = hints.get(param.name, param.annotation)
            with_place = f"parameter `{param.name}` of `{name_of_function(function)}`"
            params[param.name] = self.placed(with_place, annotation, scope)
        returns = result_of(function, hints)
        if returns is inspect.Parameter.empty:
            return params, None
        place = f"the result of `{name_of_function(function)}`"
        return params, self.placed(place, returns, scope)

    def placed(self, place, annotation, scope):
        """A node; what is wrong with it is said to be at `place`."""
        try:
            return self.node(annotation, scope)
        except PlanError as error:
            if error.placed:
                raise
            raise PlanError(f"{place}: {error}", placed=True) from None

    # === an annotation ===

    def node(self, annotation, scope):
        """The node of an annotation."""
        if annotation is None:
            return ("none",)
        if isinstance(annotation, str | typing.ForwardRef):
            return self.text(annotation, scope)
        if isinstance(annotation, type):
            return self.of_class(annotation, (), scope)
        if isinstance(annotation, typing.TypeVar):
            inner = scope.variables.get(annotation, UNKNOWN)
            return self.node(fallback(annotation) if inner is UNKNOWN else inner, scope)
        kind = type(annotation).__name__
        if kind == "NewType":
            return self.node(annotation.__supertype__, Scope(names_of(annotation.__module__)))
        if kind == "TypeAliasType":
            return self.alias(annotation, (), scope)
        if kind == "InitVar":
            return self.node(annotation.type, scope)
        if annotation is typing.Self:
            return self.node(scope.owner or typing.Any, scope)
        if annotation is typing.LiteralString:
            return ("str", None)
        return self.generic(annotation, scope)

    def generic(self, annotation, scope):
        """The node of an annotation with parts."""
        origin = typing.get_origin(annotation)
        parts = typing.get_args(annotation)
        if origin is None:
            return ANY
        if origin is typing.Annotated:
            return self.annotated(annotation, scope)
        if origin is typing.Union or origin is types.UnionType:
            return union([self.node(part, scope) for part in parts])
        if origin is typing.Literal:
            return literal(parts)
        if qualifier(origin):
            return self.node(parts[0], scope) if parts else ANY
        if type(origin).__name__ == "TypeAliasType":
            return self.alias(origin, parts, scope)
        if origin is tuple and annotation is not typing.Tuple:  # noqa: UP006 - as it was written
            return self.tuple(parts, scope)
        return self.of_class(origin, parts, scope) if isinstance(origin, type) else ANY

    def annotated(self, annotation, scope):
        node = self.node(annotation.__origin__, scope)
        words, notes = take_metadata(annotation.__metadata__, library)
        notes = {**getattr(node, "notes", {}), **notes}
        if words:
            node = bound(node, words)
        if notes:
            node = Noted(node)
            node.notes = notes
        return node

    def tuple(self, parts, scope):
        if any(typing.get_origin(part) is typing.Unpack or unpacked(part) for part in parts):
            return ("tuple_of", ANY, None)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return ("tuple_of", self.node(parts[0], scope), None)
        return ("tuple", [self.node(part, scope) for part in parts])

    def mapping(self, parts, scope):
        key, value = (parts or (str, typing.Any))[:2]
        key = self.node(key, scope)
        key = ("str", None) if key == ANY else key
        value = self.node(value, scope)
        return ("dict", key, value, None) if reads_text(key) else ANY

    def container(self, kind, parts, scope):
        item = self.node(parts[0], scope) if parts else ANY
        if kind != "list" and not self.is_hashable(item):
            raise PlanError(f"a {kind} cannot hold what cannot be hashed")
        return (kind, item, None)

    def is_hashable(self, node):
        if node[0] == "ref":
            node = self.definitions[node[1]] or ANY
        if node[0] == "object":
            return node[2].__hash__ is not None
        return node[0] not in ("list", "set", "dict")

    # === names, which may stand for what contains them ===

    def text(self, annotation, scope):
        found = scope.look_up(annotation)
        if found is UNKNOWN:
            return ANY
        if isinstance(found, type) or found is None:
            return self.node(found, scope)
        text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
        self._kept.append(scope)
        return self.named((text, id(scope)), text, found, scope)

    def alias(self, alias, parts, scope):
        """The node of `type X = ...`, with parts or without."""
        try:
            value = alias.__value__
        except Exception:
            # It is worked out now, and may name what is not there.
            return ANY
        variables = given(alias.__type_params__, parts, scope)
        inner = Scope(names_of(alias.__module__), named(alias.__type_params__), variables)
        key = (alias, hashable(tuple(variables.values())))
        self._kept.append(variables)
        return self.named(key, alias.__name__, value, inner)

    def named(self, key, name, annotation, scope):
        """The node of what has a name, by which it may contain itself."""
        if key in self._named:
            return self._named[key]
        if key in self._open:
            if self._open[key] is None:
                self._open[key] = self.reserve()
            return ("ref", self._open[key])
        self._open[key] = None
        try:
            node = self.node(annotation, scope)
        finally:
            place = self._open.pop(key)
        if place is not None:
            if ("ref", place) in members(node):
                raise PlanError(f"`{name}` stands for itself")
            self.names[place] = (name, scope.names.get("__name__", ""))
            self.definitions[place] = node
            node = ("ref", place)
        self._named[key] = node
        return node

    def reserve(self):
        self.definitions.append(None)
        return len(self.definitions) - 1

    # === classes ===

    def of_class(self, cls, parts, scope):
        """The node of a class, with parameters or without."""
        name = known_name(cls)
        if name in CLASSES:
            return CLASSES[name]
        if name in TEXTS:
            return text_node(cls, *TEXTS[name])
        if name in FILES:
            return ("text", opened, "a file", {"type": "string", "contentEncoding": "base64"})
        if name in CONTAINERS:
            return self.container(CONTAINERS[name], parts, scope)
        if name in MAPPINGS:
            return self.mapping(parts, scope)
        if cls is tuple:
            return ("tuple_of", ANY, None)
        if is_of_library(cls):
            return self.model(cls, parts, scope)
        if isinstance(cls, type(sys.modules["enum"].Enum)):
            return enum_node(cls)
        read = reader_of(cls)
        return ANY if read is None else self.object(cls, parts, scope, read)

    def model(self, cls, parts, scope):
        """The node of a class that a library reads."""
        annotation = cls
        if parts:
            annotation = cls[tuple(close(part, scope) for part in parts)]
        return library().model(annotation) or ANY

    def object(self, cls, parts, scope, read):
        """A reference to the definition of a class with fields; `read` gives these."""
        variables = given(getattr(cls, "__parameters__", ()), parts, scope)
        key = (cls, hashable(tuple(variables.values())))
        self._kept.append(variables)
        place = self._objects.get(key)
        if place is None:
            place = self._objects[key] = self.reserve()
            how, fields, written = read(self, cls, variables)
            if written is not None:
                self.written[place] = written
            name = "_".join([cls.__name__, *map(name_of, variables.values())])
            self.definitions[place] = ("object", how, cls, fields, name, doc_of(cls))
        return ("ref", place)

    def field(self, cls, name, annotation, scope):
        return self.placed(f"field `{name}` of `{cls.__qualname__}`", annotation, scope)


def scope_of_function(function):
    target = function
    while True:
        if hasattr(target, "__wrapped__"):
            target = target.__wrapped__
        elif isinstance(target, sys.modules["functools"].partial):
            target = target.func
        elif hasattr(target, "__func__"):
            target = target.__func__
        elif hasattr(target, "__globals__") or not hasattr(type(target), "__call__"):  # noqa: B004
            break
        elif hasattr(type(target).__call__, "__globals__"):
            target = type(target).__call__
        else:
            break
    variables = named(getattr(target, "__type_params__", ()))
    return Scope(getattr(target, "__globals__", {}), variables)


def name_of_function(function):
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def makes_stream(function):
    """Whether a handler yields, told as `plan` in `worker.py` does."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    call = getattr(type(function), "__call__", None)  # noqa: B004 - its kind is asked
    found = [function] if inspect.isroutine(function) else [function, call]
    return any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in found)


def result_of(function, hints):
    """The annotation of what a handler gives, or yields; `inspect.Parameter.empty` if none."""
    try:
        annotation = inspect.signature(function).return_annotation
    except (TypeError, ValueError):
        return inspect.Parameter.empty
    annotation = hints.get("return", annotation)
    if annotation is not inspect.Parameter.empty and makes_stream(function):
        return yielded(annotation, scope_of_function(function))
    return annotation


def yielded(annotation, scope):
    """What a generator with this annotation yields."""
    if isinstance(annotation, str):
        annotation = scope.look_up(annotation)
    origin = typing.get_origin(annotation)
    module, name = getattr(origin, "__module__", None), getattr(origin, "__name__", None)
    parts = typing.get_args(annotation)
    is_stream = module == "collections.abc" and name in STREAMS and parts
    return parts[0] if is_stream else typing.Any


def hashable(key):
    """A key for a dict; bounds in `Annotated` make an annotation that has no hash."""
    try:
        hash(key)
    except TypeError:
        return repr(key)
    return key


def unpacked(part):
    return isinstance(part, types.GenericAlias) and getattr(part, "__unpacked__", False)


def is_of_library(cls):
    """Whether pydantic or msgspec knows how to read a class."""
    bases = {str(base.__module__).partition(".")[0] for base in cls.__mro__}
    return not bases.isdisjoint(LIBRARIES) or "__pydantic_validator__" in vars(cls)


def library():
    """The module that knows libraries' types, loaded when one of them is met."""
    return plan_module("library")


# === small nodes ===


def text_node(cls, words, form):
    return ("text", cls, words, {"type": "string", **({"format": form} if form else {})})


def opened(text):
    """A file of what is in a text in base64."""
    import base64
    import io

    return io.BytesIO(base64.b64decode(text, validate=True))


def literal(values):
    """The node of `Literal[...]`: enum members in it are taken by their values."""
    plain = [value for value in values if type(value) in SCALARS]
    nodes = [("literal", plain)] if plain else []
    for value in values:
        if type(value) in SCALARS:
            continue
        inner = getattr(value, "value", None)
        if not isinstance(value, sys.modules["enum"].Enum) or not is_value(inner):
            return ANY
        nodes.append(("enum", type(value), [(inner, value)]))
    return union(nodes)


def enum_node(cls):
    members = [(member.value, member) for member in cls]
    fits = members and all(is_value(value) for value, _ in members)
    return ("enum", cls, members) if fits else ANY


def is_value(value):
    """Whether JSON can hold a value of an enum."""
    is_finite = type(value) is not float or abs(value) < float("inf")
    return type(value) in SCALARS and is_finite


def reads_text(node):
    if node[0] == "union":
        return all(map(reads_text, node[1]))
    return node[0] in KEYS


# === unions ===


def union(nodes):
    """The node of a union, its members in the order in which they are tried."""
    flat = []
    for node in nodes:
        flat += node[1] if node[0] == "union" else [node]
    floats = [place for place, node in enumerate(flat) if node[0] == "float"]
    if floats:
        # A number without a fraction is an integer where that is taken, too.
        late = [node for node in flat[floats[0] :] if node[0] == "int"]
        early = flat[: floats[0]]
        flat = early + late + [node for node in flat[floats[0] :] if node[0] != "int"]
    # What takes every string, and what takes everything, would leave nothing to the others.
    flat.sort(key=lambda node: {"str": 1, "any": 2}.get(node[0], 0))
    if len(flat) == 1:
        return flat[0]
    return ("union", flat, None)


def members(node):
    return node[1] if node[0] == "union" else [node]


def tagged(node, definitions):
    """The node with the tags of all unions in it."""
    match node:
        case ("union", nodes, _):
            nodes = [tagged(each, definitions) for each in nodes]
            made = ("union", nodes, tag_of(nodes, definitions))
        case ("tuple", nodes):
            made = ("tuple", [tagged(each, definitions) for each in nodes])
        case ("list" | "set" | "frozenset" | "tuple_of" as kind, item, bounds):
            made = (kind, tagged(item, definitions), bounds)
        case ("dict", key, value, bounds):
            made = ("dict", key, tagged(value, definitions), bounds)
        case ("object", how, cls, fields, *rest):
            fields = [(name, node and tagged(node, definitions), *of) for name, node, *of in fields]
            made = ("object", how, cls, fields, *rest)
        case _:
            return node
    return made


def tag_of(nodes, definitions):
    """The field by whose value objects of a union are told apart, and which value means which."""
    objects = {}
    for place, node in enumerate(nodes):
        found = definitions[node[1]] if node[0] == "ref" else None
        if node[0] == "model" and "o" in node[4]:
            objects[place] = library().tags(node[2])
        elif found is not None and found[0] == "object" and found[1] != "namedtuple":
            objects[place] = {field[0]: field[1] for field in found[3]}
        elif found is not None or node[0] in ("dict", "any"):
            return None
    if len(objects) < 2:
        return None
    for field in next(iter(objects.values())):
        places = places_by(field, objects)
        if places:
            return field, places
    return None


def places_by(field, objects):
    """The place of each value that a field may have, if all have it and no two share a value."""
    places = {}
    for place, fields in objects.items():
        node = fields.get(field) or ANY
        values = values_of(node)
        if not values or any(type(value) not in (str, int) or value in places for value in values):
            return None
        places.update(dict.fromkeys(values, place))
    return places


def values_of(node):
    if node[0] == "enum":
        return [value for value, _ in node[2]]
    return node[1] if node[0] == "literal" else []
