"""JSON Schema of type plans (docs/types.md), in Python alone."""

import datetime
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from plan_cases import CASES, CLASSES, shown
from plans import compiled, described, load, module_of, plan_module

sys.path.insert(0, str(Path(__file__).parent / "handlers"))


def validator(schema: Any, definitions: Any) -> jsonschema_rs.Draft202012Validator:
    whole = {**schema, "components": {"schemas": definitions}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


@pytest.fixture(scope="module")
def classes() -> Any:
    load()
    return module_of(CLASSES)


def described_in(module: Any, *sources: str) -> dict[str, Any]:
    """What is told of functions with this source."""
    functions = []
    for number, source in enumerate(sources):
        name = f"f{number}"
        exec(f"def {name}{source}: yield" if "Iterator" in source else f"def {name}{source}: ...",
             vars(module))  # fmt: skip
        functions.append(getattr(module, name))
    return described(*functions)


def param(told: dict[str, Any], place: int = 0) -> Any:
    [handler] = told["handlers"].values()
    return handler["params"][place]


def returns(told: dict[str, Any]) -> Any:
    [handler] = told["handlers"].values()
    return handler["returns"]


# === what is taken ===


@pytest.mark.parametrize("annotation", CASES)
def test_a_schema_takes_what_is_taken_and_refuses_what_is_not(
    classes: Any, annotation: str
) -> None:
    told = described_in(classes, f"(a: {annotation})")
    takes, refuses = CASES[annotation]
    schema = validator(param(told)["schema"], told["definitions"])
    for value in takes:
        assert schema.is_valid(json.loads(shown(value))), value
    for value in refuses:
        assert not schema.is_valid(json.loads(shown(value))), value


def test_every_type_of_the_fixture_has_a_schema_that_takes_its_defaults() -> None:
    every_type = importlib.import_module("every_type")
    functions = [
        function
        for name, function in vars(every_type).items()
        if getattr(function, "__module__", "") == "every_type" and type(function) is type(load)
    ]
    assert len(functions) > 30
    told = described(*functions)
    for handler in told["handlers"].values():
        for each in handler["params"]:
            schema = validator(each["schema"], told["definitions"])
            assert "default" not in each or schema.is_valid(each["default"]), each
        jsonschema_rs.meta.validate(handler["returns"])
    for schema in told["definitions"].values():
        jsonschema_rs.meta.validate(schema)


# === results ===


@pytest.mark.parametrize(
    "annotation, takes, refuses",
    [
        ("Pair", [[1, 2.5]], [[1], {"x": 1, "y": 2}]),
        ("Line", [{"item": "a", "n": 1, "made": 0}], [{"item": "a", "n": 1}, {"item": "a"}]),
        ("Page[Line]", [{"items": []}], [{"items": [], "extra": 1}, {"items": [{"item": "a"}]}]),
        ("Partial", [{"a": 1}, {"a": 1, "b": ""}], [{}]),
        ("Decimal", ["1.50", "1E+30"], [1.5, 3]),
        ("datetime", ["2026-01-31T12:00:00", "2026-01-31T12:00:00+00:00"], ["a", 3]),
        ("timedelta", ["P1DT2H3M4.5S", "-PT1S", "PT0S", "P999999999DT23H59M59.999999S"], ["a"]),
        ("set[str]", [["a", "b"]], [["a", "a"]]),
        ("dict[int, Line]", [{"1": {"item": "a", "n": 1, "made": 0}}], [{"1": {"item": "a"}}]),
        ("Color", ["red", 2, None], ["blue"]),
        ("tuple[int, Pair]", [[1, [1, 0.5]]], [[1, [1]]]),
        ("None", [None], [3]),
        ("bytes", ["a", 3], []),
        ("Iterator[Line]", [{"item": "a", "n": 1, "made": 0}], [[]]),
    ],
)
def test_the_schema_of_a_result_is_that_of_what_is_written(
    classes: Any, annotation: str, takes: list[object], refuses: list[object]
) -> None:
    told = described_in(classes, f"() -> {annotation}")
    schema = validator(returns(told), told["definitions"])
    assert all(map(schema.is_valid, takes)) and not any(map(schema.is_valid, refuses))


def test_durations_are_written_as_the_schema_says() -> None:
    patterns = plan_module("patterns")
    for text in ("P1DT2H3M4.5S", "-P999999999D", "PT59.000001S", "P999999999DT23H59M59S"):
        assert re.search(patterns.DURATION, text)
    assert not re.search(patterns.DURATION, "P9999999999D")


@pytest.mark.parametrize("year", [1, 4, 100, 400, 1900, 1999, 2000, 2023, 2024, 9999])
def test_the_pattern_of_dates_has_exactly_the_days_there_are(year: int) -> None:
    pattern = re.compile(plan_module("patterns").DATE)
    for month in range(14):
        for day in range(33):
            try:
                datetime.date(year, month, day)
            except ValueError:
                there = False
            else:
                there = True
            text = f"{year:04}-{month:02}-{day:02}"
            assert bool(pattern.search(text)) is there, text
    assert not pattern.search("0000-01-01")


# === names ===


def test_a_class_that_is_written_otherwise_than_it_is_read_has_two_schemas(classes: Any) -> None:
    told = described_in(classes, "(a: Tree, b: Cat) -> Tree", "(c: Dog) -> Dog")
    assert list(told["definitions"]) == ["Cat", "Dog", "Tree", "TreeResult"]
    tree = told["definitions"]["TreeResult"]
    assert tree["required"] == ["value", "kids"]
    # Also where it is in itself.
    assert tree["properties"]["kids"]["items"] == {"$ref": "#/components/schemas/TreeResult"}


def test_a_class_that_only_holds_one_written_otherwise_has_two_schemas(classes: Any) -> None:
    exec("@dataclass\nclass Held:\n    line: Line", vars(classes))
    told = described_in(classes, "(a: Held) -> Held")
    result = told["definitions"]["HeldResult"]["properties"]["line"]
    assert result == {"$ref": "#/components/schemas/LineResult"}


def test_two_classes_of_one_name_have_their_modules_before_it() -> None:
    source = "from dataclasses import dataclass\n@dataclass\nclass Same:\n    {}: int\n"
    one, other = module_of(source.format("a")), module_of(source.format("b"))
    both = module_of(
        f"import {one.__name__} as one, {other.__name__} as other\n"
        "def f(a: one.Same, b: other.Same): ..."
    )
    told = described(both.f)
    assert set(told["definitions"]) == {f"{one.__name__}.Same", f"{other.__name__}.Same"}
    references = [each["schema"]["$ref"] for each in told["handlers"]["m:f"]["params"]]
    for reference, field in zip(references, "ab", strict=True):
        name = reference.removeprefix("#/components/schemas/")
        assert list(told["definitions"][name]["properties"]) == [field]


def test_names_have_only_what_components_may_have_in_theirs(classes: Any) -> None:
    told = described_in(classes, "(a: Page[int | None], b: Page[list[Line]], c: Page['Json'])")
    assert set(told["definitions"]) >= {"Page_int_or_None", "Page_list_Line", "Line", "Json"}
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in told["definitions"])


def test_a_type_statement_that_contains_itself_has_its_own_name(classes: Any) -> None:
    told = described_in(classes, "(a: Json)")
    [(name, schema)] = told["definitions"].items()
    assert name == "Json"
    assert schema["anyOf"][0]["additionalProperties"] == {"$ref": "#/components/schemas/Json"}


# === what is told beside schemas ===


def test_notes_and_defaults_are_told(classes: Any) -> None:
    told = described_in(
        classes,
        "(a: Annotated[int, 'how many', {'title': 'A', 'examples': [3], 'minimum': 1}] = 3,"
        " b: Annotated[Line, 'a line'] = None, c: Annotated[bool, 'on'] = False)",
    )
    [a, b, c] = (param(told, place)["schema"] for place in range(3))
    notes = {"description": "how many", "title": "A", "examples": [3]}
    assert a == {"type": "integer", "minimum": 1, **notes}
    assert b == {"$ref": "#/components/schemas/Line", "description": "a line"}
    assert c == {"type": "boolean", "description": "on"}
    assert told["definitions"]["Line"]["properties"]["n"]["default"] == 1


def test_a_default_is_told_only_where_json_can_hold_it(classes: Any) -> None:
    told = described_in(
        classes,
        "(a=None, b=(1, 'x'), c=Color.RED, d=Decimal('1.5'), e=date(2026, 1, 2), f=float('inf'),"
        " g=print, h={'a': [1.5]}, i={1: 2}, j='\\ud800', k=[print], l=pathlib.Path('a'))",
    )
    [handler] = told["handlers"].values()
    found = {each["name"]: each["default"] for each in handler["params"] if "default" in each}
    assert found == {
        "a": None,
        "b": [1, "x"],
        "c": "red",
        "d": "1.5",
        "e": "2026-01-02",
        "h": {"a": [1.5]},
        "l": "a",
    }
    assert not any(each["required"] for each in handler["params"])


@pytest.mark.parametrize(
    "params, whole",
    [
        ("(line: Line)", ("line", False)),
        ("(item: Line)", ("item", True)),
        ("(line: Line, n: int = 3)", ("line", False)),
        ("(line: Line, n: int)", (None, False)),
        ("(line: Line | None)", ("line", False)),
        ("(n: int = 1, *, line: Line)", (None, False)),
        ("(a: dict[str, int])", ("a", False)),
        ("(a: list[int])", ("a", False)),
        ("(a: Pair)", ("a", False)),
        ("(x: Pair)", ("x", True)),
        ("(kind: Cat | Dog)", ("kind", True)),
        ("(a: Line | str)", (None, False)),
        ("(a: Any)", (None, False)),
        ("(a: None)", (None, False)),
        ("(a)", (None, False)),
        ("()", (None, False)),
    ],
)
def test_who_may_be_given_as_a_whole_is_told(
    classes: Any, params: str, whole: tuple[str | None, bool]
) -> None:
    [handler] = described_in(classes, params)["handlers"].values()
    assert (handler["whole"], handler["whole_alone"]) == whole


def test_bounds_of_bytes_are_told_beside_the_pattern_of_their_base64(classes: Any) -> None:
    told = described_in(classes, "(a: Annotated[bytes, {'minLength': 4}], b: bytes)")
    bounded, plain = (param(told, place)["schema"] for place in range(2))
    assert bounded["x-bytes"] == {"minLength": 4}
    assert "x-bytes" not in plain and plain["contentEncoding"] == "base64"


def test_the_rest_of_a_handler_is_told(classes: Any) -> None:
    told = described_in(classes, "(a, **rest)", "(a: int) -> Iterator[int]", "(b: 'str') -> 'int'")
    first, second, third = told["handlers"].values()
    assert (first["open"], first["streams"], first["returns"]) == (True, False, {})
    assert first["params"] == [{"name": "a", "required": True, "schema": {}, "table": None}]
    assert (second["open"], second["streams"], second["returns"]) == (
        False,
        True,
        {"type": "integer"},
    )
    assert third["returns"] == {"type": "integer"}

    def documented() -> None:
        """First line.

        More.
        """

    [handler] = described(documented)["handlers"].values()
    assert handler["doc"] == "First line.\n\nMore."


def test_tables_are_told_by_their_kind() -> None:
    module = module_of(
        "import numpy, pandas\nfrom typing import *\n"
        "class Ours:\n    def __arrow_c_stream__(self, schema=None): ...\n"
        "def f(a: pandas.DataFrame, b: numpy.ndarray | None, c: list[dict], d: Ours,\n"
        "      e: 'polars.DataFrame') -> pandas.DataFrame: ...\n"
        "def g(a: dict[str, list]) -> Iterator['pandas.DataFrame']: yield\n"
        "def h(a: int) -> list[dict]: ...\n"
    )
    told = described(module.f, module.g, module.h)
    first, second, third = told["handlers"].values()
    kinds = [each["table"] for each in first["params"]]
    assert kinds == ["pandas", "numpy", "rows", "table", "polars"]
    rows, columns = [{"a": 1}, {"a": 2}], {"a": [1, 2]}
    cases: list[tuple[list[Any], list[Any]]] = [
        ([rows, columns], [3, "a", None, [1]]),
        ([rows, columns, None], [3, "a", [1]]),
        ([rows, []], [columns, [1]]),
        ([rows, columns], [3]),
    ]
    for place, (takes, refuses) in enumerate(cases):
        schema = validator(first["params"][place]["schema"], told["definitions"])
        assert all(schema.is_valid(each) for each in takes)
        assert not any(schema.is_valid(each) for each in refuses)
    assert (first["whole"], first["whole_alone"], first["returns"]) == ("a", False, "table")
    assert (second["params"][0]["table"], second["returns"]) == ("columns", "table")
    assert third["returns"] == {"type": "array", "items": {"type": "object"}}


def test_an_error_names_the_handler(classes: Any) -> None:
    with pytest.raises(plan_module("bounds").PlanError) as refused:
        described_in(classes, "(a: Annotated[int, {'mini': 1}])")
    assert str(refused.value).startswith("m:f0: parameter `a` of `f0`: there is no bound `mini`.")


# === libraries' classes ===

LIBRARY = """
import msgspec, pydantic
from decimal import Decimal
from datetime import timedelta
from typing import *

T = TypeVar("T")

class Item(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    name: Annotated[str, pydantic.Field(min_length=1)]
    kids: list["Item"] = []
    size: int = pydantic.Field(default=1, alias="theSize")

class Box(pydantic.BaseModel, Generic[T]):
    inside: T
    item: Item | None = None

class Many(pydantic.RootModel[list[int]]): ...

@pydantic.dataclasses.dataclass
class Spot:
    x: int
    y: int = 0

class Kitten(pydantic.BaseModel):
    kind: Literal["kitten"]
    age: int

class Puppy(pydantic.BaseModel):
    kind: Literal["puppy"]
    tricks: list[str]

class Flat(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    my_name: str
    price: Decimal = Decimal(1)
    step: timedelta | None = None
    data: bytes = b""

class Round(msgspec.Struct, tag="round"):
    r: Annotated[float, msgspec.Meta(gt=0)]

class Square(msgspec.Struct, tag="square"):
    side: float

class Row(msgspec.Struct, array_like=True):
    a: int
    b: str

class Pages(msgspec.Struct, Generic[T]):
    items: list[T]
"""


@pytest.fixture(scope="module")
def library() -> Any:
    load()
    return module_of(LIBRARY)


def node_in(module: Any, annotation: str) -> Any:
    exec(f"def f(a: {annotation}): ...", vars(module))
    return compiled(module.f)[1]["a"]


@pytest.mark.parametrize(
    "annotation, takes, fields",
    [
        ("Item", "o", ["name", "kids", "theSize"]),
        ("Box[int]", "o", ["inside", "item"]),
        ("Many", "a", []),
        ("Spot", "o", ["x", "y"]),
        ("Flat", "o", ["myName", "price", "step", "data"]),
        ("Row", "a", []),
        ("Pages[int]", "o", ["items"]),
    ],
)
def test_a_class_of_a_library_is_read_by_it(
    library: Any, annotation: str, takes: str, fields: list[str]
) -> None:
    node = node_in(library, annotation)
    assert (node[0], node[4], node[5]) == ("model", takes, fields)


@pytest.mark.parametrize(
    "annotation, data, shown",
    [
        ("Item", '{"name": "a", "kids": [{"name": "b", "theSize": 2}]}', "kids=[Item(name='b'"),
        ("Box[int]", '{"inside": 3, "item": {"name": "a"}}', "inside=3"),
        ("Many", "[1, 2]", "root=[1, 2]"),
        ("Spot", '{"x": 3}', "Spot(x=3, y=0)"),
        ("Flat", '{"myName": "a", "price": "1.50", "step": "PT1S"}', "price=Decimal('1.50')"),
        ("Row", '[1, "a"]', "Row(a=1, b='a')"),
        ("Pages[int]", '{"items": [1]}', "Pages(items=[1])"),
    ],
)
def test_what_a_library_reads_is_its_object(
    library: Any, annotation: str, data: str, shown: str
) -> None:
    assert shown in repr(node_in(library, annotation)[1](data.encode()))


@pytest.mark.parametrize(
    "annotation, data, faults",
    [
        (
            "Item",
            '{"name": "", "kids": [{"name": 3}, {}], "theSize": "x"}',
            [
                (("name",), "must have at least 1 character"),
                (("kids", 0, "name"), "must be a valid string"),
                (("kids", 1, "name"), "is missing"),
                (("theSize",), "must be a valid integer"),
            ],
        ),
        ("Item", "3", [((), "must be an object")]),
        ("Box[int | list[bool]]", '{"inside": "x"}', [(("inside",), "must be")]),
        ("Flat", '{"myName": 3}', [(("myName",), "must be a string, not an integer")]),
        ("Flat", "{}", [(("myName",), "is missing")]),
        ("Flat", '{"myName": "", "no": 1}', [(("no",), "there is no field of this name")]),
        ("Flat", "[]", [((), "must be an object, not an array")]),
        ("Pages[int]", '{"items": [1, "a"]}', [(("items", 1), "must be an integer, not a string")]),
        ("Round", '{"type": "round", "r": 0}', [(("r",), "must be a number > 0")]),
    ],
)
def test_what_a_library_refuses_is_told_by_place_and_sentence(
    library: Any, annotation: str, data: str, faults: list[Any]
) -> None:
    refused = plan_module("library").Refused
    with pytest.raises(refused) as raised:
        node_in(library, annotation)[1](data.encode())
    found = raised.value.faults
    assert {path for path, _ in found} == {path for path, _ in faults}
    for path, words in faults:
        assert any(p == path and words.lower() in said.lower() for p, said in found), found
    # A sentence goes on after the place it is about.
    assert all(said[:1].islower() for _, said in found), found


def test_what_a_validator_raises_is_a_fault_and_other_errors_are_not() -> None:
    module = module_of(
        "import pydantic\n"
        "class A(pydantic.BaseModel):\n"
        "    n: int\n"
        "    @pydantic.field_validator('n')\n"
        "    @classmethod\n"
        "    def look(cls, n):\n"
        "        if n == 1: raise ValueError('1 is taken')\n"
        "        if n == 2: raise KeyError('bug')\n"
        "        return n\n"
    )
    decode = node_in(module, "A")[1]
    with pytest.raises(plan_module("library").Refused) as refused:
        decode(b'{"n": 1}')
    assert refused.value.faults == [(("n",), "1 is taken")]
    with pytest.raises(KeyError):
        decode(b'{"n": 2}')


def test_libraries_objects_are_told_apart_by_their_tags(library: Any) -> None:
    assert node_in(library, "Kitten | Puppy")[2] == ("kind", {"kitten": 0, "puppy": 1})
    assert node_in(library, "Round | Square")[2] == ("type", {"round": 0, "square": 1})
    assert node_in(library, "Annotated[Kitten | Puppy, pydantic.Field(discriminator='kind')]")[2]
    assert node_in(library, "Kitten | Item")[2] is None


def test_bounds_in_libraries_words_are_ours(library: Any) -> None:
    import annotated_types

    library.at = annotated_types
    for annotation, bounds in {
        "Annotated[int, pydantic.Field(ge=1, lt=5, multiple_of=2)]": {
            "minimum": 1,
            "exclusiveMaximum": 5,
            "multipleOf": 2,
        },
        "Annotated[str, pydantic.Field(max_length=3, pattern='^a')]": {
            "maxLength": 3,
            "pattern": re.compile("^a"),
        },
        "Annotated[list[int], msgspec.Meta(min_length=1, max_length=2)]": {
            "minItems": 1,
            "maxItems": 2,
        },
        "Annotated[int, at.Interval(gt=1, le=3)]": {"exclusiveMinimum": 1, "maximum": 3},
        "Annotated[bytes, at.Len(2, 4)]": {"minLength": 2, "maxLength": 4},
        "Annotated[dict[str, int], at.MinLen(1)]": {"minProperties": 1},
        "Annotated[float, at.Gt(0), at.MultipleOf(0.5)]": {
            "exclusiveMinimum": 0,
            "multipleOf": 0.5,
        },
        "pydantic.PositiveInt": {"exclusiveMinimum": 0},
    }.items():
        assert node_in(library, annotation)[-1] == bounds, annotation
    wrong = plan_module("bounds").PlanError
    for annotation, words in {
        "Annotated[int, msgspec.Meta(min_length=1)]": "`minLength` is no bound of an integer",
        "Annotated[int, at.Predicate(bool)]": "`annotated_types.Predicate` is not supported",
    }.items():
        with pytest.raises(wrong, match=words):
            node_in(library, annotation)


def test_schemas_of_libraries_are_theirs_under_one_name_each(library: Any) -> None:
    told = described_in(library, "(a: Item, b: Box[int], c: Flat | None) -> Box[int]")
    definitions = told["definitions"]
    assert list(definitions) == ["Box_int", "Box_intResult", "Flat", "Item", "ItemResult"]
    item = {"$ref": "#/components/schemas/Item"}
    assert definitions["Item"]["properties"]["kids"]["items"] == item
    assert "$defs" not in json.dumps(told)
    schema = validator(param(told, 2)["schema"], definitions)
    assert schema.is_valid({"myName": "a", "price": "1.50", "step": "PT1S", "data": "YQ=="})
    for wrong in ({"price": "x"}, {"step": "1s"}, {"data": "a"}, {"other": 1}):
        assert not schema.is_valid({"myName": "a", **wrong}), wrong


def test_a_struct_is_written_with_all_of_its_fields(library: Any) -> None:
    told = described_in(library, "() -> Pages[Flat]", "() -> Spot")
    definitions = told["definitions"]
    assert list(definitions) == ["FlatResult", "Pages_FlatResult", "SpotResult"]
    assert definitions["FlatResult"]["required"] == ["myName", "price", "step", "data"]
    assert definitions["SpotResult"]["required"] == ["x", "y"]
    items = definitions["Pages_FlatResult"]["properties"]["items"]["items"]
    assert items == {"$ref": "#/components/schemas/FlatResult"}


def test_a_model_that_is_written_otherwise_has_two_schemas() -> None:
    module = module_of(
        "import pydantic\nfrom decimal import Decimal\n"
        "class A(pydantic.BaseModel):\n    price: Decimal\n    same: 'B'\n"
        "class B(pydantic.BaseModel):\n    n: int\n"
        "def f(a: A) -> A: ..."
    )
    told = described(module.f)
    assert list(told["definitions"]) == ["A", "AResult", "B"]
    assert told["handlers"]["m:f"]["returns"] == {"$ref": "#/components/schemas/AResult"}
