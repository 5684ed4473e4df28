//! A type plan: what a handler's parameters take, as nodes in one arena.

use pyo3::{
    prelude::*,
    types::{PyString, PyType},
};

use super::bounds::{NumberBounds, SizeBounds, TextBounds};

/// The place of a node in its [`Plan`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub(super) u32);

/// What a handler's parameters take.
pub(crate) struct Plan {
    pub(super) nodes: Vec<Node>,
    /// By the place of the parameter; `None`: it has no node, because it is a table.
    pub(crate) params: Vec<Option<NodeId>>,
    pub(crate) whole: Option<Whole>,
    /// Whether arguments may be given by place instead of by name.
    pub(crate) by_place: bool,
}

/// The first parameter, where an object as a whole may be for it.
pub(crate) struct Whole {
    /// An object with a member of the parameter's name is still the whole.
    pub(crate) alone: bool,
}

/// One type. `docs/types.md` has the tuples these are made of.
pub(super) enum Node {
    Any,
    None,
    Bool,
    Int(Option<Box<NumberBounds>>),
    Float(Option<Box<NumberBounds>>),
    Decimal(Option<Box<NumberBounds>>),
    Str(Option<Box<TextBounds>>),
    Bytes(Option<Box<TextBounds>>),
    DateTime,
    Date,
    Time,
    TimeDelta,
    Uuid,
    /// Made of a string by a callable.
    Text(Box<Text>),
    /// One of some values: a Literal, or an enum.
    Choice(Box<Choice>),
    Array(Box<Array>),
    Tuple(Box<[NodeId]>),
    Dict(Box<Dict>),
    Union(Box<Union>),
    Object(Box<Object>),
    /// A class that its library reads.
    Model(Box<Model>),
    /// A definition that is but another name.
    Ref(NodeId),
}

pub(super) struct Text {
    pub(super) make: Py<PyAny>,
    pub(super) words: String,
}

pub(super) struct Choice {
    pub(super) options: Vec<Opt>,
    /// `"post" or "van"`.
    pub(super) words: String,
}

/// One value of a [`Choice`], and what it becomes.
pub(super) struct Opt {
    pub(super) value: Scalar,
    pub(super) object: Py<PyAny>,
}

/// A value that JSON has a literal for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// An int beyond 64 bits, by its digits.
    Big(String),
    Float(f64),
    Str(Box<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArrayKind {
    List,
    Set,
    FrozenSet,
    Tuple,
}

pub(super) struct Array {
    pub(super) kind: ArrayKind,
    pub(super) item: NodeId,
    pub(super) bounds: Option<SizeBounds>,
}

pub(super) struct Dict {
    pub(super) key: NodeId,
    pub(super) value: NodeId,
    pub(super) bounds: Option<SizeBounds>,
}

pub(super) struct Union {
    pub(super) members: Vec<NodeId>,
    pub(super) tag: Option<Tag>,
    /// For each kind of JSON value, the members that may take it.
    pub(super) of_kind: [Box<[NodeId]>; 6],
    pub(super) words: String,
}

/// The field by which objects are told apart.
pub(super) struct Tag {
    pub(super) field: Box<str>,
    pub(super) places: Vec<(Scalar, NodeId)>,
    pub(super) words: String,
    /// Whether a member may be meant that does not say so.
    pub(super) optional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Fields are set on a bare instance.
    Set,
    /// The same, then `__post_init__()`.
    SetPost,
    /// The class is called.
    Call,
    /// A TypedDict.
    Dict,
    NamedTuple,
}

pub(super) struct Object {
    pub(super) how: How,
    pub(super) class: Py<PyType>,
    /// Those that data gives first, in the order of the class.
    pub(super) fields: Vec<Field>,
    /// How many of `fields` data gives.
    pub(super) given: usize,
    /// Places of those by name.
    pub(super) by_name: Vec<u32>,
}

pub(super) struct Field {
    pub(super) name: Box<str>,
    /// `"name":`
    pub(super) lead: Box<[u8]>,
    pub(super) key: Py<PyString>,
    /// `None`: it is never taken from data.
    pub(super) node: Option<NodeId>,
    pub(super) required: bool,
    pub(super) default: FieldDefault,
}

pub(super) enum FieldDefault {
    None,
    Value(Py<PyAny>),
    Factory(Py<PyAny>),
}

pub(super) struct Model {
    pub(super) decode: Py<PyAny>,
    pub(super) takes: Kinds,
    pub(super) fields: Vec<String>,
    pub(super) words: String,
}

/// A kind of JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// A set of [`Kind`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kinds(u8);

// === impl Plan ===

impl Plan {
    #[inline]
    pub(super) fn node(&self, id: NodeId) -> &Node {
        // Ids are made by `build` alone, for nodes it has put there.
        let mut node = &self.nodes[id.0 as usize];
        // Names of names: `build` has found that they end.
        while let Node::Ref(next) = node {
            node = &self.nodes[next.0 as usize];
        }
        node
    }

    /// What a node takes, in words: `an integer or null`.
    pub(super) fn words(&self, id: NodeId) -> String {
        words(self.node(id))
    }
}

pub(super) fn words(node: &Node) -> String {
    match node {
        Node::Any | Node::Ref(_) => "anything",
        Node::None => "null",
        Node::Bool => "true or false",
        Node::Int(_) => "an integer",
        Node::Float(_) => "a number",
        Node::Decimal(_) => "a decimal number",
        Node::Str(_) => "a string",
        Node::Bytes(_) => "a string in base64",
        Node::DateTime => "a time such as 2026-01-31T12:00:00Z",
        Node::Date => "a date such as 2026-01-31",
        Node::Time => "a time of day such as 12:00:00",
        Node::TimeDelta => "a duration such as P1DT2H3.5S",
        Node::Uuid => "a UUID",
        Node::Text(text) => &text.words,
        Node::Choice(choice) => &choice.words,
        Node::Array(_) | Node::Tuple(_) => "a list",
        Node::Dict(_) => "an object",
        Node::Object(object) if object.how == How::NamedTuple => "a list or an object",
        Node::Object(_) => "an object",
        Node::Union(union) => &union.words,
        Node::Model(model) => &model.words,
    }
    .to_owned()
}

// === impl Object ===

impl Object {
    /// The place of a field that data may give; `expected` is tried first.
    #[inline]
    pub(super) fn find(&self, name: &str, expected: usize) -> Option<usize> {
        match self.fields.get(expected) {
            Some(field) if expected < self.given && *field.name == *name => Some(expected),
            _ => self.search(name),
        }
    }

    fn search(&self, name: &str) -> Option<usize> {
        let named = |place: &u32| (*self.fields[*place as usize].name).cmp(name);
        let found = self.by_name.binary_search_by(named).ok()?;
        Some(self.by_name[found] as usize)
    }
}

// === impl Kinds ===

impl Kinds {
    pub(super) const ALL: Self = Self(0b11_1111);

    pub(super) const fn of(kind: Kind) -> Self {
        Self(1 << kind as u8)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn has(self, kind: Kind) -> bool {
        self.0 & Self::of(kind).0 != 0
    }

    /// Whether there is nothing but `others` in it.
    pub(super) fn within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// The letters of `docs/types.md`.
    pub(super) fn parse(letters: &str) -> Self {
        let kinds = letters.chars().filter_map(|letter| {
            Some(match letter {
                'o' => Kind::Object,
                'a' => Kind::Array,
                's' => Kind::String,
                'n' => Kind::Number,
                'b' => Kind::Bool,
                'z' => Kind::Null,
                _ => return None,
            })
        });
        kinds.fold(Self::default(), |all, kind| all.and(Self::of(kind)))
    }
}

// === impl Kind ===

impl Kind {
    pub(super) const EACH: [Self; 6] =
        [Self::Object, Self::Array, Self::String, Self::Number, Self::Bool, Self::Null];

    /// The kind of value that begins so.
    #[inline]
    pub(super) fn of(first: jiter::Peek) -> Self {
        match first {
            jiter::Peek::Object => Self::Object,
            jiter::Peek::Array => Self::Array,
            jiter::Peek::String => Self::String,
            jiter::Peek::True | jiter::Peek::False => Self::Bool,
            jiter::Peek::Null => Self::Null,
            // What begins no value at all is found out by who reads it as a number.
            _ => Self::Number,
        }
    }

    pub(super) fn a(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "a list",
            Self::String => "a string",
            Self::Number => "a number",
            Self::Bool => "true or false",
            Self::Null => "null",
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn either<S: AsRef<str>>(words: &[S]) -> String {
    let mut text = String::new();
    for (index, word) in words.iter().enumerate() {
        text += match index {
            0 => "",
            index if index + 1 == words.len() => " or ",
            _ => ", ",
        };
        text += word.as_ref();
    }
    text
}
