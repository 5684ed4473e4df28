"""Names of the classes in a document: each schema that is referred to gets one.

Compiled into the runtime, never looked for on disk.
"""

import re

INPUT, RESULT = "input", "result"
PREFIX = "#/components/schemas/"


def definitions(writer, told):
    """Schemas of all that `told` refers to, by name, and the names of keys."""
    other = differing(writer)

    def settled(key):
        # One schema serves both ways where they are the same.
        is_both = key[0] == "plan" and key[1] not in other
        return ("plan", key[1], INPUT) if is_both else key

    def schema_of(key):
        return writer.plans[key[1:]] if key[0] == "plan" else writer.models[key]

    found, left = {}, list(references(told))
    aliases = {}
    while left:
        key = left.pop(0)
        aliases[key] = settled(key)
        if aliases[key] not in found:
            found[aliases[key]] = schema_of(aliases[key])
            left += references(found[aliases[key]])
    called = named(writer, found, other)
    names = {key: PREFIX + called[settled] for key, settled in aliases.items()}
    shown = {called[key]: schema for key, schema in found.items()}
    return {name: resolved(shown[name], names) for name in sorted(shown)}, names


def differing(writer):
    """Places of what is written otherwise than it is read, by itself or by what is in it."""
    done = set()
    while len(done) < len(writer.plans):
        # Each way may lead to what was not seen yet.
        for place, mode in list(writer.plans):
            done.add((place, mode))
            if place not in writer.only_results:
                for each in (INPUT, RESULT):
                    writer.write(("ref", place), each)
    inner, other = {}, set(writer.only_results)
    for place in {place for place, _ in writer.plans} - other:
        read, written = writer.plans[place, INPUT], writer.plans[place, RESULT]
        inner[place] = {key[1] for key in references([read, written]) if key[0] == "plan"}
        if without_modes(read) != without_modes(written):
            other.add(place)
    while True:
        more = {place for place, parts in inner.items() if parts & other} - other
        if not more:
            return other
        other |= more


def named(writer, found, other):
    """A name for each key: that of its class, with the module before it where two share it."""
    wanted = {}
    for key in found:
        if key[0] == "model":
            name, module = key[1], key[2]
        else:
            name, module = name_of(writer.compiler, key[1])
        suffix = "Result" if key[0] == "plan" and key[1] in other and key[2] == RESULT else ""
        wanted[key] = (plain(name), plain(module), suffix)
    shared = {}
    for key, (name, _, suffix) in wanted.items():
        shared.setdefault(name + suffix, set()).add(identity(key))
    names, taken = {}, set()
    for key, (name, module, suffix) in wanted.items():
        if len(shared[name + suffix]) > 1:
            name = f"{module}.{name}"
        base, number = name + suffix, 2
        name = base
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        names[key] = name
    return names


def identity(key):
    return key[:2] if key[0] == "plan" else key


def name_of(compiler, place):
    """Name and module of a definition."""
    node = compiler.definitions[place]
    if node[0] == "object":
        return node[4], node[2].__module__
    return compiler.names[place]


def plain(name):
    """A name with nothing in it that components may not have in theirs."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_") or "_"


# === references ===


def references(schema):
    """The keys in a schema, which stand in place of references."""
    if isinstance(schema, tuple):
        yield schema
    elif isinstance(schema, dict):
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


def resolved(schema, names):
    """A schema with the names of keys."""
    if isinstance(schema, tuple):
        return names[schema]
    if isinstance(schema, dict):
        return {word: resolved(value, names) for word, value in schema.items()}
    if isinstance(schema, list):
        return [resolved(value, names) for value in schema]
    return schema


def without_modes(schema):
    """A schema whose references say nothing of reading or writing."""
    if isinstance(schema, tuple):
        return schema[:2] if schema[0] == "plan" else schema
    if isinstance(schema, dict):
        return {word: without_modes(value) for word, value in schema.items()}
    if isinstance(schema, list):
        return [without_modes(value) for value in schema]
    return schema
