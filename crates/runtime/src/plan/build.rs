//! Nodes from the tuples that `compile.py` makes.

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    ffi,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType},
};

use super::{
    bounds::{NumberBounds, SizeBounds, TextBounds},
    fault::quoted,
    node::{
        Array, ArrayKind, Choice, Dict, Field, FieldDefault, How, Kind, Kinds, Model, Node, NodeId,
        Object, Opt, Plan, Scalar, Tag, Text, Union, Whole, either, words,
    },
};
use crate::{handler::Handler, plan::sources, values::exact};

/// Makes the plan of a handler whose annotations are `hints`.
pub(super) fn plan(py: Python<'_>, handler: &Handler, hints: &Py<PyDict>) -> PyResult<Plan> {
    let tables = handler.params.iter().filter(|param| param.is_table());
    let skip = PyList::new(py, tables.map(|param| param.key.bind(py)))?;
    let function = handler.function.bind(py);
    let compile = sources::compiler(py)?.getattr("compile_handler")?;
    let compiled = compile.call1((function, hints, skip))?;
    let (definitions, params, _): (Bound<'_, PyAny>, Bound<'_, PyDict>, Bound<'_, PyAny>) =
        compiled.extract()?;
    let mut builder = Builder { nodes: Vec::new() };
    let definitions: Vec<Bound<'_, PyTuple>> = definitions.extract()?;
    // Their places come first, so that a reference is a place.
    builder.nodes.extend(definitions.iter().map(|_| Node::Any));
    for (place, definition) in definitions.iter().enumerate() {
        builder.nodes[place] = builder.node(definition)?;
    }
    let nodes = handler.params.iter().map(|param| match params.get_item(&param.name)? {
        Some(node) => builder.add(&node).map(Some),
        None => Ok(None),
    });
    let params = nodes.collect::<PyResult<Vec<_>>>()?;
    builder.finish()?;
    let mut plan =
        Plan { nodes: builder.nodes, params, whole: None, by_place: by_place(function)? };
    plan.whole = whole(handler, &plan);
    Ok(plan)
}

/// Whether arguments given by place reach the parameters of the signature: a wrapper may look at
/// those that are given by name.
fn by_place(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = function.py();
    let plain = py.import("types")?.getattr("FunctionType")?;
    Ok(function.get_type().is(&plain)
        && !function.hasattr("__wrapped__")?
        && !function.hasattr("__signature__")?)
}

/// The rule of `docs/types.md` for an object as a whole.
fn whole(handler: &Handler, plan: &Plan) -> Option<Whole> {
    let first = handler.params.first()?;
    let Some(Some(id)) = plan.params.first() else {
        return handler.whole.map(|_| Whole { alone: false });
    };
    let node = plan.node(*id);
    let takes = takes(&plan.nodes, node);
    let data = Kinds::of(Kind::Object).and(Kinds::of(Kind::Array));
    let only_data = takes.within(data.and(Kinds::of(Kind::Null)))
        && (takes.has(Kind::Object) || takes.has(Kind::Array));
    let alone = handler.required <= usize::from(first.required);
    (only_data && alone).then(|| Whole { alone: has_field(plan, node, &first.name) })
}

fn has_field(plan: &Plan, node: &Node, name: &str) -> bool {
    match node {
        Node::Object(object) => object.find(name, 0).is_some(),
        Node::Model(model) => model.fields.iter().any(|field| field == name),
        Node::Union(union) => {
            union.members.iter().any(|member| has_field(plan, plan.node(*member), name))
        }
        _ => false,
    }
}

impl Plan {
    /// The kinds of JSON value that a node may take.
    pub(super) fn takes(&self, id: NodeId) -> Kinds {
        takes(&self.nodes, self.node(id))
    }
}

struct Builder {
    nodes: Vec<Node>,
}

type Parts<'py> = Bound<'py, PyTuple>;

// === impl Builder ===

impl Builder {
    /// Puts a node, unless it is there already.
    fn add(&mut self, node: &Bound<'_, PyAny>) -> PyResult<NodeId> {
        let parts = node.cast::<PyTuple>()?;
        let node = match self.node(parts)? {
            Node::Ref(id) => return Ok(id),
            node => node,
        };
        let id = u32::try_from(self.nodes.len()).map_err(|_| odd("too many types"))?;
        self.nodes.push(node);
        Ok(NodeId(id))
    }

    fn all(&mut self, nodes: &Bound<'_, PyAny>) -> PyResult<Vec<NodeId>> {
        nodes.try_iter()?.map(|node| self.add(&node?)).collect()
    }

    fn node(&mut self, parts: &Parts<'_>) -> PyResult<Node> {
        let kind: String = parts.get_item(0)?.extract()?;
        let item = |place: usize| parts.get_item(place);
        let array = |builder: &mut Self, kind| {
            let bounds = SizeBounds::build(bounds(parts, 2)?.as_ref(), "Items")?;
            PyResult::Ok(Node::Array(Box::new(Array {
                kind,
                item: builder.add(&item(1)?)?,
                bounds,
            })))
        };
        Ok(match kind.as_str() {
            "any" => Node::Any,
            "none" => Node::None,
            "bool" => Node::Bool,
            "int" => Node::Int(NumberBounds::build(bounds(parts, 1)?.as_ref())?),
            "float" => Node::Float(NumberBounds::build(bounds(parts, 1)?.as_ref())?),
            "decimal" => Node::Decimal(NumberBounds::build(bounds(parts, 1)?.as_ref())?),
            "str" => Node::Str(TextBounds::build(bounds(parts, 1)?.as_ref())?),
            "bytes" => Node::Bytes(TextBounds::build(bounds(parts, 1)?.as_ref())?),
            "datetime" => Node::DateTime,
            "date" => Node::Date,
            "time" => Node::Time,
            "timedelta" => Node::TimeDelta,
            "uuid" => Node::Uuid,
            "text" => {
                let (make, words) = (item(1)?.unbind(), item(2)?.extract()?);
                Node::Text(Box::new(Text { make, words }))
            }
            "literal" => {
                let values = item(1)?.try_iter()?.map(|value| value.map(|it| (it.clone(), it)));
                Node::Choice(Box::new(choice(values.collect::<PyResult<_>>()?)?))
            }
            "enum" => Node::Choice(Box::new(choice(item(2)?.extract()?)?)),
            "list" => array(self, ArrayKind::List)?,
            "set" => array(self, ArrayKind::Set)?,
            "frozenset" => array(self, ArrayKind::FrozenSet)?,
            "tuple_of" => array(self, ArrayKind::Tuple)?,
            "tuple" => Node::Tuple(self.all(&item(1)?)?.into()),
            "dict" => {
                let bounds = SizeBounds::build(bounds(parts, 3)?.as_ref(), "Properties")?;
                let (key, value) = (self.add(&item(1)?)?, self.add(&item(2)?)?);
                Node::Dict(Box::new(Dict { key, value, bounds }))
            }
            "union" => self.union(parts)?,
            "object" => self.object(parts)?,
            "model" => Node::Model(Box::new(model(parts)?)),
            "ref" => Node::Ref(NodeId(item(1)?.extract()?)),
            other => return Err(odd(&format!("a type plan has no node {other:?}"))),
        })
    }

    /// What depends on other members, which may not be there yet, is filled in by `finish`.
    fn union(&mut self, parts: &Parts<'_>) -> PyResult<Node> {
        let members = self.all(&parts.get_item(1)?)?;
        let tag = match parts.get_item(2)? {
            tag if tag.is_none() => None,
            tag => {
                let (field, places): (String, Bound<'_, PyDict>) = tag.extract()?;
                let mut by_value = Vec::with_capacity(places.len());
                for (value, place) in places {
                    let place: usize = place.extract()?;
                    let member = members.get(place).ok_or_else(|| odd("a tag without a member"))?;
                    by_value.push((scalar(&value)?, *member));
                }
                let values: Vec<_> = by_value.iter().map(|(value, _)| value.shown()).collect();
                let (field, words) = (field.into(), either(&values));
                Some(Tag { field, places: by_value, words, optional: false })
            }
        };
        let of_kind = [(); 6].map(|()| Box::default());
        Ok(Node::Union(Box::new(Union { members, tag, of_kind, words: String::new() })))
    }

    fn object(&mut self, parts: &Parts<'_>) -> PyResult<Node> {
        type FieldParts<'py> = (String, Bound<'py, PyAny>, bool, Bound<'py, PyAny>);
        let how: String = parts.get_item(1)?.extract()?;
        let class = parts.get_item(2)?;
        let mut fields = Vec::new();
        for field in parts.get_item(3)?.try_iter()? {
            let (name, node, required, default): FieldParts<'_> = field?.extract()?;
            let node = if node.is_none() { None } else { Some(self.add(&node)?) };
            let quoted = serde_json::to_string(&name).map_err(|error| odd(&error.to_string()))?;
            fields.push(Field {
                lead: format!("{quoted}:").into_bytes().into(),
                key: PyString::intern(class.py(), &name).unbind(),
                name: name.into(),
                node,
                required,
                default: field_default(&default)?,
            });
        }
        // In the order of the class, but for those that data never gives.
        fields.sort_by_key(|field| field.node.is_none());
        let given = fields.iter().filter(|field| field.node.is_some()).count();
        let mut by_name: Vec<u32> = (0..given as u32).collect();
        by_name.sort_by(|one, other| fields[*one as usize].name.cmp(&fields[*other as usize].name));
        let how = match how.as_str() {
            "set" => How::Set,
            "set_post" => How::SetPost,
            "call" => How::Call,
            "dict" => How::Dict,
            "namedtuple" => How::NamedTuple,
            other => return Err(odd(&format!("objects are not made by {other:?}"))),
        };
        // A TypedDict's class is a class too, though nothing is an instance of it.
        let class = class.cast_into::<PyType>()?;
        let how = match how {
            How::Set | How::SetPost if !has_plain_new(&class) => How::Call,
            how => how,
        };
        let class = class.unbind();
        Ok(Node::Object(Box::new(Object { how, class, fields, given, by_name })))
    }

    /// Looks at what can only be seen when all nodes are there.
    fn finish(&mut self) -> PyResult<()> {
        for place in 0..self.nodes.len() {
            self.check_end(place)?;
        }
        for place in 0..self.nodes.len() {
            let Node::Union(union) = &self.nodes[place] else { continue };
            let of_kind = Kind::EACH.map(|kind| {
                let takes_it = |id: &&NodeId| takes(&self.nodes, self.resolved(**id)).has(kind);
                union.members.iter().filter(takes_it).copied().collect()
            });
            let words = self.union_words(union);
            let optional = self.is_optional(union);
            if let Node::Union(union) = &mut self.nodes[place] {
                union.of_kind = of_kind;
                union.words = words;
                if let Some(tag) = &mut union.tag {
                    tag.optional = optional;
                }
            }
        }
        Ok(())
    }

    fn resolved(&self, id: NodeId) -> &Node {
        let mut node = &self.nodes[id.0 as usize];
        while let Node::Ref(next) = node {
            node = &self.nodes[next.0 as usize];
        }
        node
    }

    /// A type that is a choice between itself and others would never be read to an end.
    fn check_end(&self, place: usize) -> PyResult<()> {
        let mut open = vec![place];
        let mut seen = vec![false; self.nodes.len()];
        while let Some(at) = open.pop() {
            let next: &[NodeId] = match self.nodes.get(at) {
                Some(Node::Ref(id)) => std::slice::from_ref(id),
                Some(Node::Union(union)) => &union.members,
                Some(_) => continue,
                None => return Err(odd("a reference leads nowhere")),
            };
            for id in next {
                let next = id.0 as usize;
                if next == place {
                    return Err(PyTypeError::new_err(
                        "a type alias is but another name for itself",
                    ));
                }
                if !std::mem::replace(
                    seen.get_mut(next).ok_or_else(|| odd("a reference leads nowhere"))?,
                    true,
                ) {
                    open.push(next);
                }
            }
        }
        Ok(())
    }

    fn union_words(&self, union: &Union) -> String {
        let mut all: Vec<String> = Vec::new();
        let mut open: Vec<NodeId> = union.members.iter().rev().copied().collect();
        while let Some(id) = open.pop() {
            match self.resolved(id) {
                Node::Union(inner) => open.extend(inner.members.iter().rev()),
                node => {
                    let words = words(node);
                    if !all.contains(&words) {
                        all.push(words);
                    }
                }
            }
        }
        either(&all)
    }

    /// Whether a member with the tag's field may leave it out.
    fn is_optional(&self, union: &Union) -> bool {
        let Some(tag) = &union.tag else { return false };
        union.members.iter().any(|id| match self.resolved(*id) {
            Node::Object(object) => {
                let field = object.find(&tag.field, 0).map(|place| &object.fields[place]);
                field.is_some_and(|field| !field.required)
            }
            _ => false,
        })
    }
}

/// The kinds of JSON value that a node may take.
fn takes(nodes: &[Node], node: &Node) -> Kinds {
    let of = Kinds::of;
    match node {
        Node::Any => Kinds::ALL,
        Node::None => of(Kind::Null),
        Node::Bool => of(Kind::Bool),
        Node::Int(_) | Node::Float(_) => of(Kind::Number),
        Node::Decimal(_) => of(Kind::Number).and(of(Kind::String)),
        Node::Str(_)
        | Node::Bytes(_)
        | Node::DateTime
        | Node::Date
        | Node::Time
        | Node::TimeDelta
        | Node::Uuid
        | Node::Text(_) => of(Kind::String),
        Node::Choice(choice) => {
            let kinds = choice.options.iter().map(|option| of(option.value.kind()));
            kinds.fold(Kinds::default(), Kinds::and)
        }
        Node::Array(_) | Node::Tuple(_) => of(Kind::Array),
        Node::Dict(_) => of(Kind::Object),
        Node::Object(object) if object.how == How::NamedTuple => {
            of(Kind::Object).and(of(Kind::Array))
        }
        Node::Object(_) => of(Kind::Object),
        Node::Model(model) => model.takes,
        Node::Union(union) => {
            let members = union.members.iter().map(|id| takes(nodes, &nodes[id.0 as usize]));
            members.fold(Kinds::default(), Kinds::and)
        }
        Node::Ref(id) => takes(nodes, &nodes[id.0 as usize]),
    }
}

fn choice(values: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)>) -> PyResult<Choice> {
    let mut options = Vec::with_capacity(values.len());
    for (value, object) in values {
        options.push(Opt { value: scalar(&value)?, object: object.unbind() });
    }
    let words: Vec<_> = options.iter().map(|option| option.value.shown()).collect();
    Ok(Choice { words: either(&words), options })
}

fn scalar(value: &Bound<'_, PyAny>) -> PyResult<Scalar> {
    Ok(if value.is_none() {
        Scalar::Null
    } else if let Some(truth) = exact::<PyBool>(value) {
        Scalar::Bool(truth.is_true())
    } else if let Ok(text) = value.cast::<PyString>() {
        Scalar::Str(text.to_str()?.into())
    } else if let Ok(number) = value.cast::<PyFloat>() {
        Scalar::Float(number.value())
    } else if let Ok(number) = value.cast::<PyInt>() {
        match number.extract() {
            Ok(number) => Scalar::Int(number),
            Err(_) => Scalar::Big(number.str()?.extract()?),
        }
    } else {
        return Err(odd("a Literal of a value that JSON does not have"));
    })
}

fn model(parts: &Parts<'_>) -> PyResult<Model> {
    let takes = Kinds::parse(&parts.get_item(4)?.extract::<String>()?);
    let fields = match parts.get_item(5)? {
        fields if fields.is_none() => Vec::new(),
        fields => fields.try_iter()?.map(|name| name?.extract()).collect::<PyResult<_>>()?,
    };
    let kinds = Kind::EACH.into_iter().filter(|kind| takes.has(*kind));
    let words = either(&kinds.map(Kind::a).collect::<Vec<_>>());
    Ok(Model { decode: parts.get_item(1)?.unbind(), takes, fields, words })
}

fn field_default(default: &Bound<'_, PyAny>) -> PyResult<FieldDefault> {
    if default.is_none() {
        return Ok(FieldDefault::None);
    }
    let (kind, what): (String, Bound<'_, PyAny>) = default.extract()?;
    Ok(match kind.as_str() {
        "value" => FieldDefault::Value(what.unbind()),
        _ => FieldDefault::Factory(what.unbind()),
    })
}

/// Whether instances are made by `object.__new__`.
fn has_plain_new(class: &Bound<'_, PyType>) -> bool {
    let object = class.py().get_type::<PyAny>();
    // JUSTIFICATION: a class has no attribute that says which function in C makes its instances.
    // SAFETY: both are live types; the slots are only compared.
    unsafe {
        ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_new)
            == ffi::PyType_GetSlot(object.as_type_ptr(), ffi::Py_tp_new)
    }
}

/// The bounds at a place of a node.
fn bounds<'py>(parts: &Parts<'py>, place: usize) -> PyResult<Option<Bound<'py, PyDict>>> {
    match parts.get_item(place) {
        Ok(bounds) if !bounds.is_none() => Ok(Some(bounds.cast_into()?)),
        _ => Ok(None),
    }
}

fn odd(message: &str) -> PyErr {
    PyValueError::new_err(message.to_owned())
}

// === impl Scalar ===

impl Scalar {
    fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) | Self::Big(_) | Self::Float(_) => Kind::Number,
            Self::Str(_) => Kind::String,
        }
    }

    /// As JSON writes it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(truth) => truth.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Big(digits) => digits.clone(),
            Self::Float(number) => number.to_string(),
            Self::Str(text) => quoted(text),
        }
    }
}
