"""Bounds in `Annotated`: which words there are, what they may be, and which node can have them.

Compiled into the runtime, never looked for on disk.
"""

import difflib
import re

# Words that say something about the type, not about values.
NOTES = {"title": str, "description": str, "examples": list}
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
NUMBER = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
LENGTH = ("minLength", "maxLength")
ITEMS = ("minItems", "maxItems")
PROPERTIES = ("minProperties", "maxProperties")
WORDS = (*NUMBER, *LENGTH, "pattern", *ITEMS, *PROPERTIES)
# By kind of node: what it is called, and which words it can have.
KINDS = {
    "int": ("an integer", NUMBER),
    "float": ("a number", NUMBER),
    "decimal": ("a decimal", NUMBER),
    "str": ("a string", (*LENGTH, "pattern")),
    "bytes": ("bytes", LENGTH),
    "list": ("a list", ITEMS),
    "set": ("a set", ITEMS),
    "frozenset": ("a frozenset", ITEMS),
    "tuple_of": ("a tuple of any length", ITEMS),
    "dict": ("a dict", PROPERTIES),
}
SIZES = (*LENGTH, *ITEMS, *PROPERTIES)
# What others call them.
OTHERS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "min": "minimum",
    "max": "maximum",
    "regex": "pattern",
    "example": "examples",
}
# A length as libraries say it, of whatever has one: the word depends on the node.
LENGTHS = {"min_length": 0, "max_length": 1}


class PlanError(Exception):
    """An annotation that promises what cannot be kept. The message is for people."""

    def __init__(self, message, placed=False):
        super().__init__(message)
        # Whether the message says where.
        self.placed = placed


def take_metadata(items, library):
    """Bounds and notes that `Annotated` has beside the type; `library` gives who knows others'."""
    words, notes = [], {}
    for item in items:
        if isinstance(item, str):
            notes["description"] = item
        elif type(item) is dict:
            for word, value in item.items():
                take_word(word, value, words, notes)
        elif isinstance(item, range):
            words += bounds_of_range(item)
        elif isinstance(item, re.Pattern):
            words.append(("pattern", item))
        elif type(item).__module__.partition(".")[0] in ("annotated_types", "msgspec", "pydantic"):
            more, said = library().metadata(item)
            words += more
            notes.update(said)
    return words, notes


def take_word(word, value, words, notes):
    if word in NOTES:
        if not isinstance(value, NOTES[word]):
            kind = "a list" if word == "examples" else "a string"
            raise PlanError(f"`{word}` must be {kind}, not {value!r}")
        notes[word] = value
    elif word in WORDS:
        words.append((word, value))
    else:
        raise PlanError(f"there is no bound `{word}`.{near(word)}")


def near(word):
    """The word that was meant, as a sentence; nothing where none is near."""
    found = OTHERS.get(word)
    if found is None:
        close = difflib.get_close_matches(str(word), (*WORDS, *NOTES), 1, 0.6)
        found = close[0] if close else None
    return f" Did you mean `{found}`?" if found else ""


def bounds_of_range(item):
    if item.step != 1:
        raise PlanError(f"{item!r} has a step: only `range(start, stop)` is a bound")
    if not item:
        raise PlanError(f"{item!r} is empty")
    return [("minimum", item.start), ("exclusiveMaximum", item.stop)]


# === bounds of a node ===


def bound(node, words):
    """The node with more bounds; of a union each member gets what it can have."""
    if node[0] != "union":
        return bound_one(node, words)
    members = list(node[1])
    for word in words:
        can = [place for place, member in enumerate(members) if can_have(member, word[0])]
        if not can:
            raise PlanError(f"none of the union can have `{shown(word[0])}`")
        for place in can:
            members[place] = bound_one(members[place], [word])
    return ("union", members, node[2])


def can_have(node, word):
    words = KINDS.get(node[0], ("", ()))[1]
    return word in words or (word in LENGTHS and any(name in words for name in SIZES))


def bound_one(node, words):
    bounds = dict(node[-1] or {}) if node[0] in KINDS else {}
    for word, value in words:
        if not can_have(node, word):
            raise PlanError(cannot(node, word))
        if word in LENGTHS:
            sizes = [name for name in KINDS[node[0]][1] if name in SIZES]
            word = sizes[LENGTHS[word]]
        value = checked(node[0], word, value)
        bounds[word] = value if word not in bounds else stricter(word, bounds[word], value)
    contradictions(bounds)
    return (*node[:-1], bounds) if words else node


def shown(word):
    return {"min_length": "minLength", "max_length": "maxLength"}.get(word, word)


def cannot(node, word):
    name, words = KINDS.get(node[0], (None, ()))
    if name is None:
        kind = {"ref": "class", "any": "type that is not checked"}.get(node[0], node[0])
        return f"`{shown(word)}` is no bound of a {kind}"
    return f"`{shown(word)}` is no bound of {name}: it can have {', '.join(words)}"


def checked(kind, word, value):
    """The value of a bound, if it is one."""
    if word == "pattern":
        return checked_pattern(value)
    if word in NUMBER:
        return checked_number(kind, word, value)
    if type(value) is not int or value < 0:
        raise PlanError(f"`{word}` must be an integer from 0 on, not {value!r}")
    return value


def checked_pattern(value):
    if isinstance(value, str):
        try:
            value = re.compile(value)
        except re.error as error:
            raise PlanError(f"`pattern` {value!r} is no regular expression: {error}") from None
    if not isinstance(value, re.Pattern) or isinstance(value.pattern, bytes):
        raise PlanError(f"`pattern` must be a string, not {value!r}")
    return value


def checked_number(kind, word, value):
    is_decimal = type(value).__name__ == "Decimal"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # A NaN is below nothing; asked of a signalling one, `Decimal` raises.
    is_finite = value.is_finite() if is_decimal else is_number and abs(value) < float("inf")
    if not is_finite:
        raise PlanError(f"`{word}` must be a number, not {value!r}")
    if is_decimal and kind != "decimal":
        # Of other types all numbers are floats or integers.
        value = int(value) if value == int(value) else float(value)
    if word == "multipleOf" and value <= 0:
        raise PlanError(f"`multipleOf` must be above 0, not {value!r}")
    return value


def stricter(word, one, other):
    """The bound where there are two of one word."""
    if word in LOWER:
        return max(one, other)
    if word in UPPER:
        return min(one, other)
    if one != other:
        raise PlanError(f"there are two of `{word}`, and one type can have one")
    return one


def contradictions(bounds):
    """Refuses bounds that no value is within."""
    for low, high in zip(LOWER[2:], UPPER[2:], strict=True):
        if bounds.get(low, 0) > bounds.get(high, float("inf")):
            raise PlanError(f"no value has {low} {bounds[low]} and {high} {bounds[high]}")
    for low in LOWER[:2]:
        for high in UPPER[:2]:
            if low not in bounds or high not in bounds:
                continue
            least, most = bounds[low], bounds[high]
            is_open = low == "exclusiveMinimum" or high == "exclusiveMaximum"
            if least > most or (is_open and least == most):
                raise PlanError(f"no value has {low} {least} and {high} {most}")
