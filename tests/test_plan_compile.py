"""Annotations to nodes (docs/types.md, "Inside"), in Python alone."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from plans import compiled, load, module_of, plan_module
from test_pythons import found

# Classes that the annotations below are of.
CLASSES = """
import collections.abc, enum, ipaddress, pathlib, re, typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import *
from uuid import UUID

if TYPE_CHECKING:
    from nowhere import Missing

T = TypeVar("T")
B = TypeVar("B", bound=int)
C = TypeVar("C", int, str)
UserId = NewType("UserId", int)
Json = Union[dict[str, "Json"], list["Json"], str, None]

class Color(enum.Enum):
    RED = "red"
    ROSE = "red"
    BLUE = 2

class Odd(enum.Enum):
    PAIR = (1, 2)

@dataclass
class Line:
    "One line."
    item: str
    n: Annotated[int, {"minimum": 1}] = 1

@dataclass
class Tree(Generic[T]):
    value: T
    kids: "list[Tree[T]]" = field(default_factory=list)

@dataclass
class Grove(Tree[list[T]], Generic[T]):
    name: T | None = None

class Partial(TypedDict, total=False):
    a: int
    b: Required[str]

class Whole(Partial):
    c: float
    d: NotRequired[bool]

class Of(TypedDict, Generic[T]):
    one: T

class Pair(NamedTuple):
    x: int
    y: float = 0.0

class Both(NamedTuple, Generic[T]):
    one: T
    other: list[T]

@dataclass
class Cat:
    kind: Literal["cat"]

@dataclass
class Dog:
    kind: Literal["dog", "hound"]

@dataclass
class Add:
    op: Literal["add"]
    parts: "list[Add | Value]"

@dataclass
class Value:
    op: Literal["value"]
    n: int

@dataclass
class Hidden:
    known: int
    later: "Missing"
    date: "date | None" = None
"""

# An annotation and its node; what stands in definitions is shown in place of a reference.
NODES = {
    # scalars
    "bool": "('bool',)",
    "int": "('int', None)",
    "float": "('float', None)",
    "str": "('str', None)",
    "bytes": "('bytes', None)",
    "None": "('none',)",
    "Any": "('any',)",
    "object": "('any',)",
    "Decimal": "('decimal', None)",
    "datetime": "('datetime',)",
    "date": "('date',)",
    "time": "('time',)",
    "timedelta": "('timedelta',)",
    "UUID": "('uuid',)",
    "LiteralString": "('str', None)",
    "UserId": "('int', None)",
    # what is not known is not checked
    "complex": "('any',)",
    "type[int]": "('any',)",
    "typing.Callable[[int], int]": "('any',)",
    "'Missing'": "('any',)",
    "'list[Missing]'": "('any',)",
    "Odd": "('any',)",
    "Literal[b'x']": "('any',)",
    "dict[tuple[int, int], str]": "('any',)",
    # one of some values
    "Literal['a', 1, True, None]": "('literal', ['a', 1, True, None])",
    "Literal['a', Color.RED]":
        "('union', [('literal', ['a']), ('enum', Color, [('red', Color.RED)])], None)",
    "Color": "('enum', Color, [('red', Color.RED), (2, Color.BLUE)])",
    # containers
    "list": "('list', ('any',), None)",
    "List[int]": "('list', ('int', None), None)",
    "Sequence[int]": "('list', ('int', None), None)",
    "typing.Sequence": "('list', ('any',), None)",
    "collections.abc.Iterable[str]": "('list', ('str', None), None)",
    "set[int]": "('set', ('int', None), None)",
    "AbstractSet[int]": "('set', ('int', None), None)",
    "frozenset": "('frozenset', ('any',), None)",
    "tuple": "('tuple_of', ('any',), None)",
    "Tuple": "('tuple_of', ('any',), None)",
    "tuple[()]": "('tuple', [])",
    "tuple[int, str]": "('tuple', [('int', None), ('str', None)])",
    "tuple[int, ...]": "('tuple_of', ('int', None), None)",
    "tuple[int, *tuple[str, ...]]": "('tuple_of', ('any',), None)",
    "dict": "('dict', ('str', None), ('any',), None)",
    "Mapping[date, list[int]]": "('dict', ('date',), ('list', ('int', None), None), None)",
    "dict[int | Literal['all'], bool]":
        "('dict', ('union', [('int', None), ('literal', ['all'])], None), ('bool',), None)",
    # unions
    "int | None": "('union', [('int', None), ('none',)], None)",
    "Optional[int]": "('union', [('int', None), ('none',)], None)",
    "float | int": "('union', [('int', None), ('float', None)], None)",
    "Decimal | float | int": "('union', [('decimal', None), ('int', None), ('float', None)], None)",
    "str | date | Color":
        "('union', [('date',), ('enum', Color, [('red', Color.RED), (2, Color.BLUE)]),"
        " ('str', None)], None)",
    "Any | int": "('union', [('int', None), ('any',)], None)",
    "Union[int, Optional[Union[str, float]]]":
        "('union', [('int', None), ('float', None), ('none',), ('str', None)], None)",
    # type variables
    "T": "('any',)",
    "B": "('int', None)",
    "list[C]": "('list', ('union', [('int', None), ('str', None)], None), None)",
    # bounds
    "Annotated[int, {'minimum': 1, 'maximum': 3}]": "('int', {'minimum': 1, 'maximum': 3})",
    "Annotated[int, range(1, 10)]": "('int', {'minimum': 1, 'exclusiveMaximum': 10})",
    "Annotated[float, {'multipleOf': 0.5}]": "('float', {'multipleOf': 0.5})",
    "Annotated[Decimal, {'exclusiveMinimum': Decimal('0.1')}]":
        "('decimal', {'exclusiveMinimum': Decimal('0.1')})",
    "Annotated[str, re.compile('^a')]": "('str', {'pattern': re.compile('^a')})",
    "Annotated[str, {'minLength': 1, 'pattern': 'b'}, 'words']":
        "('str', {'minLength': 1, 'pattern': re.compile('b')})",
    "Annotated[list[int], {'maxItems': 3}]": "('list', ('int', None), {'maxItems': 3})",
    "Annotated[tuple[int, ...], {'minItems': 3}]": "('tuple_of', ('int', None), {'minItems': 3})",
    "Annotated[dict[str, int], {'minProperties': 1}]":
        "('dict', ('str', None), ('int', None), {'minProperties': 1})",
    "Annotated[int | str | None, {'minimum': 1, 'maxLength': 3}]":
        "('union', [('int', {'minimum': 1}), ('none',), ('str', {'maxLength': 3})], None)",
    "Annotated[Annotated[int, {'minimum': 1, 'maximum': 9}], {'minimum': 0, 'maximum': 5}]":
        "('int', {'minimum': 1, 'maximum': 5})",
    "Annotated[int, object(), 3]": "('int', None)",
    # what is made of text
    "ipaddress.IPv4Address":
        "('text', ipaddress.IPv4Address, 'an IPv4 address',"
        " {'type': 'string', 'format': 'ipv4'})",
    "pathlib.Path": "('text', pathlib.Path, 'a path', {'type': 'string'})",
    # classes
    "Line":
        "('object', 'set', Line, [('item', ('str', None), True, None),"
        " ('n', ('int', {'minimum': 1}), False, ('value', 1))], 'Line', 'One line.')",
    "Partial":
        "('object', 'dict', Partial, [('a', ('int', None), False, None),"
        " ('b', ('str', None), True, None)], 'Partial', '')",
    "Whole":
        "('object', 'dict', Whole, [('a', ('int', None), False, None),"
        " ('b', ('str', None), True, None), ('c', ('float', None), True, None),"
        " ('d', ('bool',), False, None)], 'Whole', '')",
    "Of[int]": "('object', 'dict', Of, [('one', ('int', None), True, None)], 'Of_int', '')",
    "Pair":
        "('object', 'namedtuple', Pair, [('x', ('int', None), True, None),"
        " ('y', ('float', None), False, None)], 'Pair', '')",
    "Both[str]":
        "('object', 'namedtuple', Both, [('one', ('str', None), True, None),"
        " ('other', ('list', ('str', None), None), True, None)], 'Both_str', '')",
    "Grove[int]":
        "('object', 'set', Grove, [('value', ('list', ('int', None), None), True, None),"
        " ('kids', ('list', ('ref', 1), None), False, ('factory', list)),"
        " ('name', ('union', [('int', None), ('none',)], None), False, ('value', None))],"
        " 'Grove_int', '')",
    "Hidden":
        "('object', 'set', Hidden, [('known', ('int', None), True, None),"
        " ('later', ('any',), True, None), ('date', ('union', [('date',), ('none',)], None),"
        " False, ('value', None))], 'Hidden', '')",
}  # fmt: skip


def value(module: Any, text: str) -> Any:
    return eval(text, vars(module))


def compile_in(module: Any, annotation: str, future: bool = False) -> tuple[list[Any], Any]:
    """Definitions, and the node of a parameter with this annotation."""
    line = "from __future__ import annotations\n" if future else ""
    handler = compile(f"{line}def f(a: {annotation}): ...", "<handler>", "exec", dont_inherit=True)
    exec(handler, vars(module))
    definitions, params, _ = compiled(module.f)
    return definitions, params["a"]


@pytest.fixture(scope="module")
def classes() -> Any:
    load()
    return module_of(CLASSES)


@pytest.mark.parametrize("future", [False, True], ids=["now", "as text"])
@pytest.mark.parametrize("annotation", NODES)
def test_an_annotation_is_the_node_of_the_table(
    classes: Any, annotation: str, future: bool
) -> None:
    definitions, node = compile_in(classes, annotation, future)
    if node[0] == "ref":
        node = definitions[node[1]]
    assert node == value(classes, NODES[annotation])


def test_classes_mean_the_same_where_annotations_are_text(classes: Any) -> None:
    later = module_of("from __future__ import annotations\n" + CLASSES)
    for name in ("Line", "Partial", "Whole", "Of[int]", "Pair", "Both[str]", "Grove[int]"):
        now, text = (compile_in(module, name)[0] for module in (classes, later))
        assert repr(text).replace(later.__name__, "") == repr(now).replace(classes.__name__, "")


# === what contains itself ===


def test_a_class_that_is_met_twice_is_one_definition(classes: Any) -> None:
    definitions, node = compile_in(classes, "tuple[Line, list[Line], Tree[int], Tree[int], Tree]")
    assert node[1][0] == node[1][1][1] and node[1][2] == node[1][3] != node[1][4]
    assert [each[4] for each in definitions] == ["Line", "Tree_int", "Tree_Any"]


def test_a_class_with_other_bounds_inside_is_another_definition(classes: Any) -> None:
    definitions, _ = compile_in(
        classes,
        "tuple[Tree[Annotated[int, {'minimum': 1}]], Tree[Annotated[int, {'minimum': 2}]],"
        " Tree[Annotated[int, {'minimum': 1}]]]",
    )
    values = [definition[3][0][1] for definition in definitions]
    assert values == [("int", {"minimum": 1}), ("int", {"minimum": 2})]


def test_a_class_may_contain_itself(classes: Any) -> None:
    definitions, node = compile_in(classes, "Tree[str]")
    assert node == ("ref", 0)
    assert definitions[0][3][1][1] == ("list", ("ref", 0), None)


def test_a_name_may_contain_itself(classes: Any) -> None:
    definitions, node = compile_in(classes, "Json")
    [(_, members, _)] = definitions
    assert members[:2] == [("dict", ("str", None), ("ref", 0), None), ("list", ("ref", 0), None)]
    # Names in hints are looked up once, inside them here.
    assert node[1][0] == ("dict", ("str", None), ("union", members, None), None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type X = ...` is younger")
def test_type_statements_may_contain_themselves_and_have_parameters() -> None:
    module = module_of(
        "from dataclasses import dataclass\n"
        "type Json = dict[str, Json] | list[Json] | str | None\n"
        "type Many[T] = list[T] | tuple[T, ...]\n"
        "type Nested[T] = T | list[Nested[T]]\n"
        "type Itself = Itself | int\n"
        "@dataclass\nclass Page[T]:\n    items: Many[T]\n    later: 'Many[T]'\n"
        "def f(a: Json, b: Many[int], c: Page[Json], d: Nested[bool]): ...\n"
        "def g[T: int](a: T): ...\n"
        "def h(a: Itself): ...\n"
    )
    definitions, params, _ = compiled(module.f)
    place = params["a"][1]
    json = definitions[place]
    assert json[1][:2] == [
        ("dict", ("str", None), ("ref", place), None),
        ("list", ("ref", place), None),
    ]
    many = [("list", ("int", None), None), ("tuple_of", ("int", None), None)]
    assert params["b"] == ("union", many, None)
    page = definitions[params["c"][1]]
    assert page[4] == "Page_Json"
    assert page[3][0][1] == page[3][1][1]
    assert page[3][0][1][1][0] == ("list", params["a"], None)
    nested = definitions[params["d"][1]]
    assert nested[1] == [("bool",), ("list", params["d"], None)]
    assert compiled(module.g)[1]["a"] == ("int", None)
    with pytest.raises(plan_module("bounds").PlanError, match="`Itself` stands for itself"):
        compiled(module.h)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="defaults of type variables are younger")
def test_a_type_variable_stands_for_its_default() -> None:
    module = module_of("def f[T = bool](a: T, b: list[T]): ...")
    assert compiled(module.f)[1] == {"a": ("bool",), "b": ("list", ("bool",), None)}


# === unions of objects ===


@pytest.mark.parametrize(
    "annotation, tag",
    [
        ("Cat | Dog", ("kind", {"cat": 0, "dog": 1, "hound": 1})),
        ("None | Cat | str | Dog", ("kind", {"cat": 1, "dog": 2, "hound": 2})),
        ("Cat | Dog | Line", None),
        ("Cat | Dog | dict[str, int]", None),
        ("Cat | None", None),
        ("Cat | Cat", None),
    ],
)
def test_objects_with_a_literal_in_common_are_told_apart_by_it(
    classes: Any, annotation: str, tag: Any
) -> None:
    _, node = compile_in(classes, annotation)
    assert (node[2] if node[0] == "union" else None) == tag


def test_objects_that_contain_their_union_are_told_apart_too(classes: Any) -> None:
    definitions, node = compile_in(classes, "Add | Value")
    tag = ("op", {"add": 0, "value": 1})
    assert node[2] == tag
    [add] = [each for each in definitions if each[0] == "object" and each[4] == "Add"]
    assert add[3][1][1][1][2] == tag


# === how objects are made ===

MAKING = {
    "@dataclass\nclass K:\n    a: int": "set",
    "@dataclass(frozen=True, slots=True, kw_only=True)\nclass K:\n    a: int": "set",
    "@dataclass\nclass P:\n    b: int\n@dataclass\nclass K(P):\n    a: int": "set",
    "@dataclass\nclass K:\n    a: int\n    def __post_init__(self): ...": "set_post",
    "class P:\n    def __post_init__(self): ...\n@dataclass\nclass K(P):\n    a: int": "set_post",
    "@dataclass\nclass K:\n    a: int\nK.__post_init__ = print": "set",
    "@dataclass\nclass K:\n    a: int\n    def __init__(self, a): ...": "call",
    "@dataclass(init=False)\nclass K:\n    a: int\n    def __init__(self, a): ...": "call",
    "@dataclass\nclass K:\n    a: int\n    def __new__(cls, a): ...": "call",
    "@dataclass\nclass K(Exception):\n    a: int": "call",
    "@dataclass\nclass K:\n    a: int\n    def __setattr__(self, n, v): ...": "call",
    "class P:\n    def __setattr__(self, n, v): ...\n@dataclass\nclass K(P):\n    a: int": "call",
    "@dataclass\nclass K:\n    a: int\n    b: InitVar[int] = 1": "call",
    "class M(type): ...\n@dataclass\nclass K(metaclass=M):\n    a: int": "call",
    "import abc\n@dataclass\nclass K(abc.ABC):\n    a: int": "call",
    "@dataclass\nclass P:\n    a: int\nclass K(P): ...": "call",
    "class D:\n    def __get__(s, o, t=None): return 1\n    def __set__(s, o, v): ...\n"
    "@dataclass\nclass K:\n    a: int = D()": "call",
    "@dataclass\nclass K:\n    a: int\nold = K.__init__\nK.__init__ = lambda self, a: old(self, a)":
        "call",
}  # fmt: skip


@pytest.mark.parametrize("source", MAKING)
def test_fields_are_set_only_where_that_is_all_that_init_does(source: str) -> None:
    module = module_of(f"from dataclasses import InitVar, dataclass\n{source}\ndef f(k: K): ...")
    assert compiled(module.f)[0][0][1] == MAKING[source]


def test_fields_that_are_not_taken_are_set_as_init_sets_them() -> None:
    module = module_of(
        "from dataclasses import dataclass, field\nfrom typing import ClassVar, Final\n"
        "class Base:\n"
        "    a: int\n"
        "    none: str = field(init=False)\n"
        "    one: str = field(init=False, default='x')\n"
        "    two: list = field(init=False, default_factory=list)\n"
        "    three: ClassVar[int] = 3\n"
        "    four: Final[int] = 4\n"
        "K = dataclass(type('K', (), dict(vars(Base))))\n"
        "S = dataclass(slots=True)(type('S', (), dict(vars(Base))))\n"
        "def f(k: K): ...\ndef g(s: S): ..."
    )
    taken = ("a", ("int", None), True, None), ("four", ("int", None), False, ("value", 4))
    factory = ("two", None, False, ("factory", list))
    [node] = compiled(module.f)[0]
    assert node[1] == "set" and node[3] == [taken[0], factory, taken[1]]
    [node] = compiled(module.g)[0]
    value = ("one", None, False, ("value", "x"))
    assert node[1] == "set" and node[3] == [taken[0], value, factory, taken[1]]


def test_what_init_would_make_and_what_fields_say_are_the_same() -> None:
    module = module_of(
        "from dataclasses import dataclass, field\n"
        "@dataclass\nclass Base:\n    a: int = 1\n    b: list = field(default_factory=list)\n"
        "@dataclass\nclass K(Base):\n"
        "    a: str = 'x'\n    c: int = field(kw_only=True, default=3)\n"
        "    d: dict = field(init=False, default_factory=dict)\n"
        "def f(k: K): ..."
    )
    [(_, how, cls, fields, _, _)] = compiled(module.f)[0]
    made = cls.__new__(cls)
    for name, _, _, default in fields:
        kind, given = default
        object.__setattr__(made, name, given if kind == "value" else given())
    assert how == "set"
    assert vars(made) == vars(cls())


def test_a_docstring_that_dataclass_wrote_is_none() -> None:
    module = module_of(
        "from dataclasses import dataclass\n@dataclass\nclass K:\n    a: int\ndef f(k: K): ..."
    )
    assert module.K.__doc__.startswith("K(") and compiled(module.f)[0][0][5] == ""


# === what is wrong ===

WRONG = {
    "Annotated[int, {'minimun': 1}]": "there is no bound `minimun`. Did you mean `minimum`?",
    "Annotated[int, {'ge': 1}]": "there is no bound `ge`. Did you mean `minimum`?",
    "Annotated[int, {'min_length': 1}]":
        "there is no bound `min_length`. Did you mean `minLength`?",
    "Annotated[int, {'colour': 1}]": "there is no bound `colour`.",
    "Annotated[int, {'minLength': 1}]":
        "`minLength` is no bound of an integer: it can have minimum, maximum, exclusiveMinimum,"
        " exclusiveMaximum, multipleOf",
    "Annotated[date, {'minimum': 1}]": "`minimum` is no bound of a date",
    "Annotated[Line, {'minimum': 1}]": "`minimum` is no bound of a class",
    "Annotated[int | None, {'pattern': 'a'}]": "none of the union can have `pattern`",
    "Annotated[int, {'minimum': '1'}]": "`minimum` must be a number, not '1'",
    "Annotated[int, {'minimum': True}]": "`minimum` must be a number, not True",
    "Annotated[float, {'maximum': float('nan')}]": "`maximum` must be a number, not nan",
    "Annotated[int, {'multipleOf': 0}]": "`multipleOf` must be above 0, not 0",
    "Annotated[str, {'minLength': -1}]": "`minLength` must be an integer from 0 on, not -1",
    "Annotated[str, {'pattern': '('}]": "`pattern` '(' is no regular expression",
    "Annotated[str, re.compile(b'a')]": "`pattern` must be a string",
    "Annotated[int, {'title': 3}]": "`title` must be a string, not 3",
    "Annotated[int, {'examples': 3}]": "`examples` must be a list, not 3",
    "Annotated[int, {'minimum': 3, 'maximum': 2}]": "no value has minimum 3 and maximum 2",
    "Annotated[int, {'minimum': 3, 'exclusiveMaximum': 3}]":
        "no value has minimum 3 and exclusiveMaximum 3",
    "Annotated[str, {'minLength': 3, 'maxLength': 2}]": "no value has minLength 3 and maxLength 2",
    "Annotated[int, range(0)]": "range(0, 0) is empty",
    "Annotated[int, range(0, 9, 2)]": "range(0, 9, 2) has a step",
    "Annotated[str, {'pattern': 'a'}, re.compile('b')]": "there are two of `pattern`",
    "set[list[int]]": "a set cannot hold what cannot be hashed",
    "frozenset[Line]": "a frozenset cannot hold what cannot be hashed",
}  # fmt: skip


@pytest.mark.parametrize("annotation", WRONG)
def test_what_cannot_be_kept_is_an_error_that_says_where(classes: Any, annotation: str) -> None:
    with pytest.raises(plan_module("bounds").PlanError) as refused:
        compile_in(classes, annotation)
    place, _, said = str(refused.value).partition(": ")
    assert place == "parameter `a` of `f`"
    assert said.startswith(WRONG[annotation]), said


def test_an_error_inside_a_class_names_the_field_and_one_of_a_result_the_result() -> None:
    module = module_of(
        "from dataclasses import dataclass\nfrom typing import Annotated\n"
        "@dataclass\nclass K:\n    a: int\n    b: Annotated[int, {'mini': 1}]\n"
        "def f(k: list[K]): ...\ndef g() -> Annotated[int, {'mini': 1}]: ..."
    )
    wrong = plan_module("bounds").PlanError
    with pytest.raises(wrong, match=r"^field `b` of `K`: there is no bound `mini`\."):
        compiled(module.f)
    with pytest.raises(wrong, match=r"^the result of `g`: there is no bound `mini`\."):
        compiled(module.g)


# === handlers ===


def test_a_plan_has_what_is_not_skipped_and_what_a_generator_yields() -> None:
    module = module_of(
        "import functools\nfrom collections.abc import AsyncIterator, Generator\n"
        "def f(a: int, /, b: str, *args: int, c: bool = True, **more: int) -> float: ...\n"
        "def g(a: int) -> Generator[int, None, None]: yield 1\n"
        "async def h(a: int) -> 'AsyncIterator[list[str]]': yield ['a']\n"
        "part = functools.partial(f, 1)\n"
        "class Callable:\n    def __call__(self, a: 'int') -> 'str': ...\n"
        "called = Callable()\n"
    )
    assert compiled(module.f, "b") == ([], {"a": ("int", None), "c": ("bool",)}, ("float", None))
    assert compiled(module.g)[2] == ("int", None)
    assert compiled(module.h)[2] == ("list", ("str", None), None)
    assert compiled(module.part)[1] == {"b": ("str", None), "c": ("bool",)}
    assert compiled(module.called)[1:] == ({"a": ("int", None)}, ("str", None))
    assert compiled(print)[2] is None


def test_one_unknown_name_hides_no_other_parameter() -> None:
    module = module_of(
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from nowhere import Missing\n"
        "def f(a: int, b: Missing, c: list[Missing], d: str) -> Missing: ..."
    )
    any_, text, number = ("any",), ("str", None), ("int", None)
    nodes = {"a": number, "b": any_, "c": any_, "d": text}
    assert compiled(module.f) == ([], nodes, any_)
    plan = plan_module("compile").compile_handler(module.f, None, ())
    assert plan == ([], nodes, any_)


# === other Pythons ===

DRIVER = """
import json, sys
sys.path.insert(0, {tests!r})
import plans
plans.load()
module = plans.execute("same", {classes!r})
annotations = json.load(sys.stdin)
for future in ("", "from __future__ import annotations\\n"):
    for annotation in annotations:
        exec(compile(future + "def f(a: " + annotation + "): ...", "f", "exec"), vars(module))
        shown = repr(plans.compiled(module.f))
        # Its home moved within its module.
        print(shown.replace("pathlib._local", "pathlib"))
later = plans.execute("same", "from __future__ import annotations\\n" + {classes!r})
for annotation in annotations:
    exec("def f(a: " + annotation + "): ...", vars(later))
    print(repr(plans.compiled(later.f)).replace("pathlib._local", "pathlib"))
libraries = sorted({{"pydantic", "msgspec", "numpy", "annotated_types"}} & set(sys.modules))
print(libraries)
"""


def test_every_cpython_compiles_alike_and_imports_no_library(tmp_path: Path) -> None:
    asked = tmp_path / "annotations.json"
    asked.write_text(json.dumps(list(NODES)))
    driver = DRIVER.format(tests=str(Path(__file__).parent), classes=CLASSES)
    shown = {}
    for python in found():
        with asked.open() as told:
            done = subprocess.run(
                [python, "-c", textwrap.dedent(driver)],
                stdin=told,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        assert done.returncode == 0, done.stderr
        shown[python.name] = done.stdout.splitlines()
    assert len({len(lines) for lines in shown.values()}) == 1
    first = next(iter(shown.values()))
    count = len(NODES)
    assert len(first) == 3 * count + 1 and first[-1] == "[]"
    # As text or not: of the handler, and of the classes.
    assert first[:count] == first[count : 2 * count] == first[2 * count : 3 * count]
    for name, lines in shown.items():
        assert lines == first, name
