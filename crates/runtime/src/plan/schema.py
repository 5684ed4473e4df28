"""JSON Schema of plans: what handlers take and give, for documents.

Compiled into the runtime, never looked for on disk, and loaded when the host asks.
"""

import inspect
import json
import re
import sys
import typing

import _exuvia_plan as plan
import _exuvia_plan_naming as naming
import _exuvia_plan_patterns as patterns
from _exuvia_plan_bounds import PlanError

# Bits of `mask` in `worker.py`.
LIST, DICT, TABLE = 1 << 5, 1 << 6, 1 << 7
INPUT, RESULT = "input", "result"
PLAIN = {
    "any": {},
    "none": {"type": "null"},
    "bool": {"type": "boolean"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "str": {"type": "string"},
    "date": {"type": "string", "format": "date", "pattern": patterns.DATE},
    # No formats: `date-time` and `time` have an offset, `duration` has no fractions.
    "datetime": {"type": "string", "pattern": patterns.DATETIME},
    "time": {"type": "string", "pattern": patterns.TIME},
    "timedelta": {"type": "string", "pattern": patterns.DURATION},
    "uuid": {"type": "string", "format": "uuid", "pattern": patterns.UUID},
}
# Keys that are read as text, by kind of node; the others look alike everywhere.
KEY_PATTERNS = {"int": patterns.INT_TEXT, "float": patterns.FLOAT_TEXT, "decimal": patterns.DECIMAL}
KEY_WORDS = {
    "bool": ["true", "True", "false", "False"],
    "none": ["null", "None", "none"],
    "bytes": None,
}
TEXT_PATTERNS = {
    "opened": patterns.BASE64,
    "IPv4Address": patterns.IPV4,
    "IPv4Interface": patterns.IPV4_WITH_NETWORK,
    "IPv4Network": patterns.IPV4_WITH_NETWORK,
}
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
NUMBER_WORDS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
NO_DEFAULT = object()


# === what the host asks for ===


def describe(handlers):
    """What handlers take and give, as plain data: see docs/types.md, "Inside".

    A handler is `(module, name, function, hints, params, streams)`, its parameters as `plan` in
    `worker.py` has them.
    """
    compiler = plan.Compiler()
    writer = Writer(compiler)
    told = {}
    for module, name, function, hints, params, streams in handlers:
        try:
            told[f"{module}:{name}"] = handler(writer, function, hints or {}, params, streams)
        except PlanError as error:
            raise PlanError(f"{module}:{name}: {error}", placed=True) from None
    definitions, names = naming.definitions(writer, told)
    return {"handlers": naming.resolved(told, names), "definitions": definitions}


def handler(writer, function, hints, params, streams):
    compiler = writer.compiler
    tables = {name for name, _, _, mask, target, *_ in params if is_table(mask, target)}
    nodes, returns = compiler.handler(function, hints, tables)
    defaults, is_open = signature_of(function)
    told = []
    for name, _, required, mask, target, *_ in params:
        node = nodes.get(name, plan.ANY)
        schema = table_schema(mask) if name in tables else writer.write(node, INPUT)
        param = {"name": name, "required": required, "schema": schema}
        default = as_json(defaults.get(name, NO_DEFAULT))
        if default is not NO_DEFAULT:
            param["default"] = default
        param["table"] = target if target is None or isinstance(target, str) else "table"
        told.append(param)
    whole, alone = whole_of(compiler, params, nodes, tables)
    return {
        "doc": inspect.getdoc(function) or "",
        "params": told,
        "whole": whole,
        "whole_alone": alone,
        "open": is_open,
        "returns": result(writer, function, hints, returns),
        "streams": streams,
    }


def signature_of(function):
    """Defaults of parameters, and whether there is `**kwargs`."""
    try:
        params = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        # Some functions written in C do not tell, and take what they take.
        return {}, True
    empty = inspect.Parameter.empty
    defaults = {param.name: param.default for param in params if param.default is not empty}
    return defaults, any(param.kind is param.VAR_KEYWORD for param in params)


def result(writer, function, hints, node):
    """The schema of what a handler gives, or `"table"`."""
    annotation = plan.result_of(function, hints)
    if node is None or annotation is inspect.Parameter.empty:
        return {}
    target = plan.table_target(annotation)
    if target is not None and target not in ("rows", "columns"):
        return "table"
    return writer.write(node, RESULT)


def is_table(mask, target):
    """Whether a parameter gets a table, and not lists or dicts as they come."""
    return target is not None and (bool(mask & TABLE) or not mask & (LIST | DICT))


def table_schema(mask):
    """JSON that may become a table: rows or columns. That each column has values of one kind, and
    all of them equally many, cannot be said."""
    if not mask & TABLE:
        return {}
    found = [
        {"type": "array", "items": {"type": "object"}},
        {"type": "object", "additionalProperties": {"type": "array"}},
    ]
    plain = ("none", "bool", "int", "float", "str")
    found += [PLAIN[kind] for bit, kind in enumerate(plain) if mask & 1 << bit]
    return {"anyOf": found}


def whole_of(compiler, params, nodes, tables):
    """The parameter that may be given as a whole, and if it is so whatever members it has."""
    if not params:
        return None, False
    first, _, _, mask, *_ = params[0]
    others = any(each[2] for each in params[1:])
    if first in tables:
        return (first if mask & TABLE or not mask else None), False
    node = nodes.get(first, plan.ANY)
    kinds = kinds_of(compiler, node)
    if others or not kinds <= {"o", "a", "z"} or kinds == {"z"}:
        return None, False
    names = set()
    fields_of(compiler, node, names)
    return first, first in names


def kinds_of(compiler, node):
    """The kinds of JSON values that a node takes, as letters."""
    kind = node[0]
    if kind == "ref":
        node = compiler.definitions[node[1]]
        kind = node[0]
    if kind == "union":
        return set().union(*(kinds_of(compiler, member) for member in node[1]))
    if kind == "model":
        return set(node[4])
    if kind == "object":
        return {"o", "a"} if node[1] == "namedtuple" else {"o"}
    if kind in ("list", "set", "frozenset", "tuple_of", "tuple"):
        return {"a"}
    return {"dict": {"o"}, "none": {"z"}}.get(kind, {"s"})


def fields_of(compiler, node, names):
    """Adds the names that an object may have."""
    if node[0] == "ref":
        node = compiler.definitions[node[1]]
    if node[0] == "object":
        names.update(field[0] for field in node[3] if field[1] is not None)
    elif node[0] == "model":
        names.update(node[5])
    elif node[0] == "union":
        for member in node[1]:
            fields_of(compiler, member, names)


# === defaults ===


def as_json(value):
    """A default as JSON, where it can be written; else `NO_DEFAULT`."""
    kind = type(value)
    if isinstance(value, sys.modules["enum"].Enum):
        return as_json(value.value)
    if kind in (bool, int, type(None)):
        return value
    if kind is str:
        return value if value.isascii() or is_text(value) else NO_DEFAULT
    if kind is float:
        return value if abs(value) < float("inf") else NO_DEFAULT
    if kind in (list, tuple, set, frozenset):
        found = [as_json(each) for each in value]
        return NO_DEFAULT if any(each is NO_DEFAULT for each in found) else found
    if kind is dict and all(type(key) is str for key in value):
        found = {key: as_json(each) for key, each in value.items()}
        return NO_DEFAULT if any(each is NO_DEFAULT for each in found.values()) else found
    return as_json_text(value, plan.known_name(kind))


def as_json_text(value, name):
    if name in (("datetime", "datetime"), ("datetime", "date"), ("datetime", "time")):
        return value.isoformat()
    is_text = name in (("decimal", "Decimal"), ("uuid", "UUID")) or name in plan.TEXTS
    return str(value) if is_text else NO_DEFAULT


def is_text(value):
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def default_of(default):
    """The default of a field as JSON."""
    if default is None:
        return NO_DEFAULT
    kind, found = default
    if kind == "value":
        return as_json(found)
    return as_json(found()) if found in (list, dict, set, tuple, frozenset) else NO_DEFAULT


# === schemas of nodes ===


class Writer:
    """Makes schemas of nodes. A class is referred to by a key: only at the end it gets its name."""

    def __init__(self, compiler):
        self.compiler = compiler
        # Schemas of definitions, by place and mode; of libraries' classes, by key.
        self.plans = {}
        self.models = {}
        # Places of what is written of libraries' classes, and is read by them.
        self._places = {}
        self.only_results = set()

    def write(self, node, mode):
        """The schema of a node."""
        schema = getattr(self, "write_" + node[0], self.write_plain)(node, mode)
        notes = getattr(node, "notes", None)
        return {**schema, **notes} if notes else schema

    def write_plain(self, node, mode):
        bounds = node[1] if len(node) > 1 else None
        schema = {**PLAIN[node[0]], **(bounds or {})}
        return with_pattern(schema) if bounds else schema

    def write_bytes(self, node, mode):
        if mode == RESULT:
            # JSON has no place for them: a result of bytes is of another media type.
            return {}
        schema = {"type": "string", "contentEncoding": "base64", "pattern": patterns.BASE64}
        bounds = node[1]
        if bounds:
            # Those of the bytes: a file has them as they are, base64 only by its pattern.
            schema["x-bytes"] = dict(bounds)
            least, most = bounds.get("minLength", 0), bounds.get("maxLength")
            schema["pattern"] = patterns.base64_of(least, most)
        return schema

    def write_decimal(self, node, mode):
        bounds = node[1] or {}
        pattern = patterns.DECIMAL
        limits = [word for word in NUMBER_WORDS if word in bounds]
        if len(limits) == 1 and bounds[limits[0]] == 0:
            pattern = patterns.DECIMAL_SIGNS[limits[0]]
        if mode == RESULT:
            return {"type": "string", "pattern": patterns.DECIMAL}
        numbers = {word: plain_number(bound) for word, bound in bounds.items()}
        if bounds and (limits != list(bounds) or pattern == patterns.DECIMAL):
            # Text cannot be compared in a schema.
            return {"type": "number", **numbers}
        return {"type": ["number", "string"], **numbers, "pattern": pattern}

    def write_text(self, node, mode):
        pattern = TEXT_PATTERNS.get(node[1].__name__)
        return {**node[3], **({"pattern": pattern} if pattern else {})}

    def write_literal(self, node, mode):
        return values_schema(node[1])

    def write_enum(self, node, mode):
        return values_schema([value for value, _ in node[2]])

    def write_list(self, node, mode):
        items = self.write(node[1], mode)
        return {"type": "array", **({"items": items} if items else {}), **(node[2] or {})}

    write_tuple_of = write_list

    def write_set(self, node, mode):
        if node[1][0] == "any":
            # Nothing else can be hashed.
            items = {"items": {"type": ["string", "number", "boolean", "null"]}}
            return {"type": "array", **items, "uniqueItems": True, **(node[2] or {})}
        return {**self.write_list(node, mode), "uniqueItems": True}

    write_frozenset = write_set

    def write_tuple(self, node, mode):
        return array_of([self.write(each, mode) for each in node[1]], len(node[1]))

    def write_dict(self, node, mode):
        schema = {"type": "object"}
        names = self.key(node[1], mode)
        if names:
            schema["propertyNames"] = names
        values = self.write(node[2], mode)
        if values:
            schema["additionalProperties"] = values
        return {**schema, **(node[3] or {})}

    def key(self, node, mode):
        """What the names in an object are that are keys."""
        kind = node[0]
        if kind == "float" and mode == RESULT:
            return {"pattern": patterns.FLOAT_KEY}
        if kind in KEY_PATTERNS:
            return {"pattern": KEY_PATTERNS[kind]}
        if kind in KEY_WORDS:
            return {"enum": KEY_WORDS[kind]} if KEY_WORDS[kind] else {}
        if kind in ("literal", "enum"):
            return {"enum": [text for value in plan.values_of(node) for text in texts_of(value)]}
        if kind == "union":
            parts = [self.key(member, mode) for member in node[1]]
            return {"anyOf": parts} if all(parts) else {}
        schema = {**self.write(node, INPUT)}
        schema.pop("type", None)
        return schema

    def write_union(self, node, mode):
        # Null comes last, as it is written.
        nodes = sorted(node[1], key=lambda member: member[0] == "none")
        found = [self.write(member, mode) for member in nodes]
        unique = [schema for place, schema in enumerate(found) if schema not in found[:place]]
        if {} in unique:
            return {}
        if len(unique) == 1:
            return unique[0]
        return nullable(unique) or {"anyOf": unique}

    def write_ref(self, node, mode):
        place = node[1]
        if (place, mode) not in self.plans:
            self.plans[place, mode] = None
            self.plans[place, mode] = self.definition(place, mode)
        return {"$ref": ("plan", place, mode)}

    def definition(self, place, mode):
        node = self.compiler.definitions[place]
        if node[0] != "object":
            return self.write(node, mode)
        _, how, _, fields, _, doc = node
        if mode == RESULT and how != "dict":
            # Also what may be left out when it is read is there when it is written.
            written = self.compiler.written.get(place, fields)
            fields = [(name, field, True, None) for name, field, *_ in written]
        properties, required = {}, []
        for name, field, needed, default in fields:
            if field is None:
                continue
            schema = self.write(field, mode)
            value = default_of(default)
            properties[name] = schema if value is NO_DEFAULT else {**schema, "default": value}
            if needed:
                required.append(name)
        schema = object_of(properties, required)
        if how == "namedtuple":
            array = array_of(list(properties.values()), len(required))
            schema = array if mode == RESULT else {"anyOf": [array, schema]}
        return {"description": doc, **schema} if doc else schema

    # === classes that libraries read ===

    def write_model(self, node, mode):
        annotation, make = node[2], node[3]
        schema = make(mode)
        if schema is None:
            return self.write_ref(("ref", self.place_of(annotation)), mode)
        cls = typing.get_origin(annotation) or annotation
        known = {} if mode == INPUT else parts_of(make(INPUT) or {}, cls)[1]
        top, parts = parts_of(schema, cls)
        keys = {}
        for name, part in parts.items():
            whole = closure(name, parts)
            is_other = mode == RESULT and (name not in known or whole != closure(name, known))
            shown = naming.plain(name) + ("Result" if is_other else "")
            keys[name] = ("model", shown, cls.__module__, whole)
            self.models[keys[name]] = part
        for name, key in keys.items():
            self.models[key] = keyed(parts[name], keys)
        return {"$ref": keys[top]}

    def place_of(self, annotation):
        """Where the definition is of what we write of a library's class."""
        key = plan.hashable(annotation)
        if key not in self._places:
            place = self._places[key] = self.compiler.reserve()
            self.only_results.add(place)
            node = plan.library().written(annotation, self.compiler)
            self.compiler.definitions[place] = node
        return self._places[key]


# === parts of schemas ===


def with_pattern(schema):
    """A schema whose pattern, if it has one, is text."""
    pattern = schema.pop("pattern", None)
    # Flags have no place in a schema: a pattern that has some is left out.
    if pattern is not None and pattern.flags == re.compile("").flags:
        schema["pattern"] = pattern.pattern
    return schema


def plain_number(bound):
    """A bound as JSON has numbers."""
    if isinstance(bound, int | float):
        return bound
    return int(bound) if bound == int(bound) else float(bound)


def values_schema(values):
    types = list(dict.fromkeys(TYPES[type(value)] for value in values))
    schema = {"type": types[0] if len(types) == 1 else types}
    return {**schema, **({"const": values[0]} if len(values) == 1 else {"enum": list(values)})}


def texts_of(value):
    """A value as text, as it may be read."""
    if value is None:
        return KEY_WORDS["none"]
    if isinstance(value, bool):
        return [str(value).lower(), str(value)]
    return [str(value)]


def array_of(items, least):
    """An array with a schema for each place, of which the last may be left out."""
    if not items:
        return {"type": "array", "maxItems": 0}
    return {"type": "array", "prefixItems": items, "items": False, "minItems": least}


def object_of(properties, required):
    schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return {**schema, "additionalProperties": False}


def nullable(schemas):
    """A schema and null in one, where that can be said by its type."""
    if len(schemas) != 2 or schemas[1] != {"type": "null"}:
        return None
    first = schemas[0]
    if not isinstance(first.get("type"), str) or "enum" in first or "const" in first:
        return None
    return {**first, "type": [first["type"], "null"]}


def parts_of(schema, cls):
    """A library's schema as named parts, and the name of the whole."""
    parts = dict(schema.get("$defs", {}))
    top = {word: value for word, value in schema.items() if word != "$defs"}
    if set(top) == {"$ref"}:
        return top["$ref"].removeprefix("#/$defs/"), parts
    name = schema.get("title") or cls.__name__
    while name in parts:
        name += "_"
    return name, {**parts, name: top}


def closure(name, parts):
    """A part with all it refers to, as text: what has the same is the same."""
    found, left = {}, [name]
    while left:
        name = left.pop()
        if name in parts and name not in found:
            found[name] = parts[name]
            left += re.findall(r'"#/\$defs/([^"]+)"', json.dumps(parts[name]))
    return json.dumps(found, sort_keys=True)


def keyed(schema, keys):
    """A schema with keys in place of references to parts."""
    if isinstance(schema, list):
        return [keyed(each, keys) for each in schema]
    if isinstance(schema, dict):
        return {word: keyed(value, keys) for word, value in schema.items()}
    if isinstance(schema, str) and schema.startswith("#/$defs/"):
        return keys.get(schema.removeprefix("#/$defs/"), schema)
    return schema
