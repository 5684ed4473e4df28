"""Classes that pydantic and msgspec read, and bounds in their words.

Compiled into the runtime, never looked for on disk, and loaded when one of them is met: then its
library is imported already.
"""

import json
import re
import sys
import typing

from _exuvia_plan_bounds import PlanError, take_word
from _exuvia_plan_fields import doc_of
from _exuvia_plan_names import Scope, close, given, name_of
from _exuvia_plan_patterns import BASE64, DECIMAL, DURATION

ALL_KINDS = "oasnbz"
KINDS = {
    "object": "o",
    "array": "a",
    "string": "s",
    "integer": "n",
    "number": "n",
    "boolean": "b",
    "null": "z",
}
# By class in `annotated_types`: our word and the attribute that has the value.
WORDS = {
    "Gt": (("exclusiveMinimum", "gt"),),
    "Ge": (("minimum", "ge"),),
    "Lt": (("exclusiveMaximum", "lt"),),
    "Le": (("maximum", "le"),),
    "MultipleOf": (("multipleOf", "multiple_of"),),
    "MinLen": (("min_length", "min_length"),),
    "MaxLen": (("max_length", "max_length"),),
}
# Those of several.
META = {
    "gt": "exclusiveMinimum",
    "ge": "minimum",
    "lt": "exclusiveMaximum",
    "le": "maximum",
    "multiple_of": "multipleOf",
    "min_length": "min_length",
    "max_length": "max_length",
    "pattern": "pattern",
}
NOTES = ("title", "description", "examples")
# What would be checked by them, and is not by us.
UNCHECKED = ("Predicate", "Timezone", "Not")
# Formats that schemas of libraries only name.
FORMATS = {"duration": DURATION, "decimal": DECIMAL}
# What msgspec calls types, in our words.
TYPES = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "null": "null",
    "array": "an array",
    "object": "an object",
}


class Refused(Exception):  # noqa: N818 - it is what it says
    """Data that a library does not take: `faults` are `(path, detail)`."""

    def __init__(self, faults):
        super().__init__(f"{len(faults)} faults")
        self.faults = faults


def model(annotation):
    """The node of a class that a library reads, if it is one."""
    cls = typing.get_origin(annotation) or annotation
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(cls, msgspec.Struct) and cls is not msgspec.Struct:
        return struct_node(msgspec, annotation, cls)
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or cls is pydantic.BaseModel:
        return None
    if issubclass(cls, pydantic.BaseModel) or "__pydantic_validator__" in vars(cls):
        return pydantic_node(pydantic, annotation, cls)
    return None


def tags(cls):
    """Fields of a class that may tell it from others: nodes of their Literals, by name in JSON."""
    cls = typing.get_origin(cls) or cls
    if hasattr(cls, "__struct_config__"):
        tag = cls.__struct_config__.tag
        return {} if tag is None else {cls.__struct_config__.tag_field: ("literal", [tag])}
    found = {}
    for name, field in fields_of(cls).items():
        values = typing.get_args(field.annotation)
        is_literal = typing.get_origin(field.annotation) is typing.Literal
        # One that may be left out tells nothing.
        if is_literal and field.is_required():
            found[name] = ("literal", list(values))
    return found


def fields_of(cls):
    """Fields of a pydantic class, by name in JSON."""
    fields = getattr(cls, "__pydantic_fields__", {})
    return {alias_of(name, field): field for name, field in fields.items()}


def alias_of(name, field):
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    return alias if isinstance(alias, str) else name


# === pydantic ===


def pydantic_node(pydantic, annotation, cls):
    is_model = issubclass(cls, pydantic.BaseModel)
    adapter = None if is_model else pydantic.TypeAdapter(annotation)
    validate = (cls.__pydantic_validator__ if is_model else adapter.validator).validate_json

    def decode(data):
        try:
            return validate(data)
        except pydantic.ValidationError as error:
            raise Refused(pydantic_faults(data, error)) from None

    def schema(mode):
        if mode == "result" and not is_model:
            return None
        direction = "serialization" if mode == "result" else "validation"
        by_alias = mode != "result" or bool(cls.model_config.get("serialize_by_alias"))
        make = cls.model_json_schema if is_model else adapter.json_schema
        try:
            return mended(make(by_alias=by_alias, mode=direction))
        except pydantic.errors.PydanticInvalidForJsonSchema:
            return {}

    is_root = is_model and getattr(cls, "__pydantic_root_model__", False)
    takes = kinds_of(schema("input")) if is_root else "o"
    fields = [] if is_root else list(fields_of(cls))
    return ("model", decode, annotation, schema, takes, fields)


def kinds_of(schema):
    """The kinds of JSON values that a schema takes; what cannot be told is all of them."""
    kinds = kinds_in(schema, schema.get("$defs", {}), 0)
    # It reads numbers in strings, too, and more of this kind.
    return kinds if set(kinds) <= {"o", "a"} else ALL_KINDS


def kinds_in(schema, definitions, depth):
    reference = schema.get("$ref")
    if depth > 9:
        return ALL_KINDS
    if reference:
        return kinds_in(definitions.get(reference.rpartition("/")[2], {}), definitions, depth + 1)
    parts = schema.get("anyOf") or schema.get("oneOf")
    if parts:
        return "".join(sorted({k for p in parts for k in kinds_in(p, definitions, depth + 1)}))
    return KINDS.get(schema.get("type"), ALL_KINDS)


def pydantic_faults(data, error):
    """What pydantic found, as paths into the data and sentences."""
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    faults = [(located(found["loc"], value, found["type"]), sentence(found)) for found in errors]
    return list(dict.fromkeys(faults))


def located(steps, value, kind):
    """The part of a location that is in the data: the names of a union's members are not."""
    path = []
    for place, step in enumerate(steps):
        is_last = place == len(steps) - 1
        is_item = isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)
        if is_item or (isinstance(value, dict) and step in value):
            value = value[step]
        elif not (is_last and kind == "missing" and isinstance(value, dict)):
            continue
        path.append(step)
    return tuple(path)


def sentence(found):
    """A message in our words: `must be a valid string`."""
    message = found["msg"]
    if found["type"] == "missing":
        return "is missing"
    if found["type"] == "extra_forbidden":
        return "there is no field of this name"
    for prefix in ("Value error, ", "Assertion failed, "):
        if message.startswith(prefix):
            # What the class itself says.
            return message.removeprefix(prefix)
    return lowered(re.sub(r"^[A-Z][a-z]+ should ", "must ", message))


def lowered(message):
    """A message without its capital, unless it is that of a word such as URL."""
    return message[:1].lower() + message[1:] if not message[1:2].isupper() else message


# === msgspec ===


def struct_node(msgspec, annotation, cls):
    decoder = msgspec.json.Decoder(annotation)

    def decode(data):
        try:
            return decoder.decode(data)
        except msgspec.DecodeError as error:
            raise Refused([struct_fault(str(error))]) from None

    def schema(mode):
        if mode == "result":
            return None
        template = "#/$defs/{name}"
        [found], definitions = msgspec.json.schema_components([annotation], ref_template=template)
        return mended({**found, "$defs": definitions})

    is_array = cls.__struct_config__.array_like
    fields = [] if is_array else list(cls.__struct_encode_fields__)
    return ("model", decode, annotation, schema, "a" if is_array else "o", fields)


def struct_fault(message):
    """What msgspec found first, as path and sentence."""
    message, _, place = message.partition(" - at `")
    path = path_of(place.removesuffix("`").removeprefix("key in "))
    for pattern, words in (
        (r"Object missing required field `(.*)`", "is missing"),
        (r"Object contains unknown field `(.*)`", "there is no field of this name"),
    ):
        found = re.fullmatch(pattern, message)
        if found:
            return (*path, found[1]), words
    message = re.sub(r"`([a-z]+)`", lambda found: TYPES.get(found[1], found[0]), message)
    message = re.sub(r"^Expected (.*), got (.*)$", r"must be \1, not \2", message)
    message = re.sub(r"^Expected ", "must be ", message)
    return path, lowered(message)


def path_of(place):
    """`$.a[0].b` as a path. Under `[...]`, a value of a dict, msgspec does not tell the key."""
    path = []
    for name, index in re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", place):
        if index == "...":
            break
        path.append(name or int(index))
    return tuple(path)


# === what they write ===


def mended(schema):
    """A library's schema, with patterns for formats that JSON Schema only names."""
    if isinstance(schema, list):
        return [mended(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {word: mended(value) for word, value in schema.items()}
    if schema.get("type") == "string" and "pattern" not in schema:
        pattern = FORMATS.get(schema.get("format"))
        if schema.get("contentEncoding") == "base64":
            pattern = BASE64
        if pattern:
            schema["pattern"] = pattern
    return schema


def written(annotation, compiler):
    """The node of an object of a class that we write ourselves, as it is in a result."""
    cls = typing.get_origin(annotation) or annotation
    variables = given(getattr(cls, "__parameters__", ()), typing.get_args(annotation), Scope({}))
    scope = Scope.of_class(cls, variables)
    if hasattr(cls, "__struct_config__"):
        hints = typing.get_type_hints(cls, include_extras=True)
        names = zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True)
        hints = {name: hints[own] for name, own in names}
    else:
        hints = {name: field.annotation for name, field in cls.__pydantic_fields__.items()}
    fields = []
    for name, annotation in hints.items():
        node = compiler.field(cls, name, close(annotation, scope), scope)
        fields.append((name, node, True, None))
    name = "_".join([cls.__name__, *map(name_of, variables.values())])
    return ("object", "call", cls, fields, name, doc_of(cls))


# === bounds ===


def metadata(item):
    """Bounds and notes that something in `Annotated` says, if it is of a library we know."""
    library = type(item).__module__.partition(".")[0]
    name = type(item).__name__
    if library == "annotated_types":
        return of_annotated_types(item, name), {}
    if library == "msgspec" and name == "Meta":
        if item.tz is not None:
            raise PlanError("`tz` of msgspec.Meta is not supported")
        return of_several(item), notes_of(item)
    if library == "pydantic" and name == "FieldInfo":
        words = []
        for inner in item.metadata:
            module = type(inner).__module__.partition(".")[0]
            if module == "annotated_types":
                words += of_annotated_types(inner, type(inner).__name__)
            elif module == "pydantic":
                words += of_several(inner)
        return words, notes_of(item)
    return [], {}


def of_annotated_types(item, name):
    if name in UNCHECKED:
        raise PlanError(f"`annotated_types.{name}` is not supported")
    if name in ("Interval", "Len"):
        return of_several(item)
    found = [(word, getattr(item, attribute)) for word, attribute in WORDS.get(name, ())]
    return [(word, value) for word, value in found if not is_default(word, value)]


def of_several(item):
    found = [(META[name], getattr(item, name, None)) for name in META]
    return [(word, value) for word, value in found if not is_default(word, value)]


def is_default(word, value):
    return value is None or (word == "min_length" and value == 0)


def notes_of(item):
    notes = {}
    for word in NOTES:
        if getattr(item, word, None) is not None:
            take_word(word, getattr(item, word), [], notes)
    return notes
