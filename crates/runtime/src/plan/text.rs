//! Values that came as text: in a path, a query, a header, a form, on the command line.

use pyo3::{prelude::*, types::PyList};

use super::{
    bounds::NumberBounds,
    fault::{Fault, Step, shortened},
    leaf::{self, Taken},
    node::{Array, Choice, Kind, Model, Node, NodeId, Plan, Scalar, Union},
    read::{Reader, Stop, integer, whole_digits},
};
use crate::values::{DecodeError, Keys, decode_json, new};

/// The object, or what is wrong; what Python raised that is no fault of the text.
pub(super) type TextRead<'py> = PyResult<Result<Bound<'py, PyAny>, Vec<Fault>>>;

/// Reads what was given once or several times under one name.
pub(super) fn texts<'py>(
    py: Python<'py>,
    plan: &Plan,
    id: NodeId,
    texts: &[&str],
) -> TextRead<'py> {
    let [text] = texts else { return several(py, plan, id, texts) };
    one(py, plan, id, text)
}

/// A value of a type that reads text by itself: a key of an object.
pub(super) fn scalar<'py>(
    py: Python<'py>,
    plan: &Plan,
    id: NodeId,
    text: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    one(py, plan, id, text).map(Result::ok)
}

fn one<'py>(py: Python<'py>, plan: &Plan, id: NodeId, text: &str) -> TextRead<'py> {
    let node = plan.node(id);
    let value = match node {
        Node::Any => Some(match decode_json(py, text.as_bytes()) {
            Ok(value) => value,
            Err(_) => leaf::string(py, text)?,
        }),
        Node::None => is_null(text).then(|| py.None().into_bound(py)),
        Node::Bool => truth(text).map(|truth| truth_object(py, truth)),
        Node::Int(bounds) => match number(text).and_then(|text| whole_digits(text.as_bytes())) {
            Some(digits) => match integer(py, &digits, 0) {
                Ok(number) => return bounded(number, bounds.as_deref()),
                Err(DecodeError::Python(error)) => return Err(*error),
                Err(DecodeError::Malformed(_)) => None,
            },
            None => None,
        },
        Node::Float(bounds) => match float(text) {
            Some(number) if number.is_infinite() && !text.contains("inf") => {
                return Ok(Err(vec![Fault::new("is too large for a float")]));
            }
            Some(number) => return bounded(new::float(py, number)?, bounds.as_deref()),
            None => None,
        },
        Node::Bytes(bounds) => {
            let value = new::bytes(py, text.as_bytes())?.into_any();
            return match bounds
                .as_ref()
                .map(|b| b.check(&value, || text.len(), "byte"))
                .transpose()?
                .flatten()
            {
                Some(message) => Ok(Err(vec![Fault::new(message)])),
                None => Ok(Ok(value)),
            };
        }
        Node::Choice(choice) => choice.of_text(text).map(|object| object.bind(py).clone()),
        Node::Array(array) => return one_array(py, plan, id, array, text),
        Node::Tuple(_) if text.trim_start().starts_with('[') => return json(py, plan, id, text),
        Node::Tuple(_) => return several(py, plan, id, &[text]),
        Node::Dict(_) | Node::Object(_) => return json(py, plan, id, text),
        Node::Model(model) => return self::model(py, plan, id, model, text),
        Node::Union(union) => return self::union(py, plan, union, text),
        node => match leaf::from_string(py, node, text)? {
            Some(Taken::Value(value)) => return Ok(Ok(value)),
            Some(Taken::Not(fault)) => return Ok(Err(vec![fault])),
            Some(Taken::Misfit) | None => None,
        },
    };
    Ok(value.ok_or_else(|| vec![not(&plan.words(id), text)]))
}

fn not(words: &str, text: &str) -> Fault {
    Fault::new(format!("must be {words}, not `{}`", shortened(text)))
}

fn bounded<'py>(number: Bound<'py, PyAny>, bounds: Option<&NumberBounds>) -> TextRead<'py> {
    match bounds.map(|bounds| bounds.check(&number)).transpose()?.flatten() {
        Some(message) => Ok(Err(vec![Fault::new(message)])),
        None => Ok(Ok(number)),
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "null" | "None" | "none")
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" => Some(true),
        "false" | "False" => Some(false),
        _ => None,
    }
}

fn truth_object(py: Python<'_>, truth: bool) -> Bound<'_, PyAny> {
    pyo3::types::PyBool::new(py, truth).to_owned().into_any()
}

/// A text that is a number as JSON writes it.
fn number(text: &str) -> Option<&str> {
    let text = text.trim_ascii();
    let mut source = jiter::Jiter::new(text.as_bytes());
    let is_number = source.next_number_bytes().is_ok() && source.finish().is_ok();
    is_number.then_some(text)
}

fn float(text: &str) -> Option<f64> {
    match text {
        "nan" | "inf" | "-inf" => text.parse().ok(),
        text => number(text)?.parse().ok(),
    }
}

/// A text as JSON.
fn json<'py>(py: Python<'py>, plan: &Plan, id: NodeId, text: &str) -> TextRead<'py> {
    let mut keys = Keys::take();
    let mut reader = Reader::new(py, plan, text.as_bytes(), &mut keys);
    match reader.document(|reader, first| reader.value(id, first, 0)) {
        Ok(Some(value)) => Ok(Ok(value)),
        Ok(None) if kind_of(text).is_some_and(|kind| plan.takes(id).has(kind)) => {
            Ok(Err(reader.told()))
        }
        Err(Stop::Decode(DecodeError::Python(error))) => Err(*error),
        Ok(None) | Err(_) => Ok(Err(vec![not(&plan.words(id), text)])),
    }
}

/// The kind of value that a text of JSON is.
fn kind_of(text: &str) -> Option<Kind> {
    jiter::Jiter::new(text.as_bytes()).peek().ok().map(Kind::of)
}

/// One text for an array: the JSON of one, or its only item.
fn one_array<'py>(
    py: Python<'py>,
    plan: &Plan,
    id: NodeId,
    array: &Array,
    text: &str,
) -> TextRead<'py> {
    if text.trim_start().starts_with('[') && decode_json(py, text.as_bytes()).is_ok() {
        return json(py, plan, id, text);
    }
    several_items(py, plan, array, &[text])
}

/// A name that was given several times.
fn several<'py>(py: Python<'py>, plan: &Plan, id: NodeId, texts: &[&str]) -> TextRead<'py> {
    match plan.node(id) {
        Node::Any => {
            let items = texts.iter().map(|text| one(py, plan, id, text));
            let items = items.collect::<PyResult<Result<Vec<_>, _>>>()?;
            Ok(Ok(PyList::new(py, items.unwrap_or_default())?.into_any()))
        }
        Node::Array(array) => several_items(py, plan, array, texts),
        Node::Tuple(items) => {
            if items.len() != texts.len() {
                let wanted = super::fault::plural(items.len(), "item");
                let fault = Fault::new(format!("must have {wanted}, not {}", texts.len()));
                return Ok(Err(vec![fault]));
            }
            let read = each(py, plan, items.iter().copied().zip(texts))?;
            Ok(match read {
                Ok(values) => Ok(pyo3::types::PyTuple::new(py, values)?.into_any()),
                Err(faults) => Err(faults),
            })
        }
        Node::Union(union) => {
            let mut faults = Vec::new();
            for member in &union.of_kind[Kind::Array as usize] {
                match several(py, plan, *member, texts)? {
                    Ok(value) => return Ok(Ok(value)),
                    Err(found) if faults.is_empty() => faults = found,
                    Err(_) => {}
                }
            }
            if faults.is_empty() {
                faults.push(often(&union.words, texts));
            }
            Ok(Err(faults))
        }
        node => Ok(Err(vec![often(&super::node::words(node), texts)])),
    }
}

fn often(words: &str, texts: &[&str]) -> Fault {
    Fault::new(format!("must be {words}, and is given {} times", texts.len()))
}

fn several_items<'py>(
    py: Python<'py>,
    plan: &Plan,
    array: &Array,
    texts: &[&str],
) -> TextRead<'py> {
    match each(py, plan, texts.iter().map(|text| (array.item, text)))? {
        Ok(values) => array.filled(py, values),
        Err(faults) => Ok(Err(faults)),
    }
}

/// Each text by its node.
fn each<'py, 't>(
    py: Python<'py>,
    plan: &Plan,
    items: impl Iterator<Item = (NodeId, &'t &'t str)>,
) -> PyResult<Result<Vec<Bound<'py, PyAny>>, Vec<Fault>>> {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for (index, (id, text)) in items.enumerate() {
        match one(py, plan, id, text)? {
            Ok(value) => values.push(value),
            Err(found) => faults.extend(found.into_iter().map(|mut fault| {
                fault.step(Step::Index(index));
                fault
            })),
        }
    }
    Ok(if faults.is_empty() { Ok(values) } else { Err(faults) })
}

/// What a library reads: JSON, or where it takes strings, the text.
fn model<'py>(
    py: Python<'py>,
    plan: &Plan,
    id: NodeId,
    model: &Model,
    text: &str,
) -> TextRead<'py> {
    let read = json(py, plan, id, text)?;
    if read.is_err() && model.takes.has(Kind::String) {
        let quoted = serde_json::to_string(text).unwrap_or_default();
        return json(py, plan, id, &quoted);
    }
    Ok(read)
}

/// The first member that fits.
fn union<'py>(py: Python<'py>, plan: &Plan, union: &Union, text: &str) -> TextRead<'py> {
    let holds = kind_of(text).filter(|kind| matches!(kind, Kind::Object | Kind::Array));
    let mut nearest: Option<Vec<Fault>> = None;
    for member in &union.members {
        match one(py, plan, *member, text)? {
            Ok(value) => return Ok(Ok(value)),
            // Of JSON it says more what is wrong in it.
            Err(faults) if holds.is_some_and(|kind| plan.takes(*member).has(kind)) => {
                if nearest.as_ref().is_none_or(|nearest| faults.len() < nearest.len()) {
                    nearest = Some(faults);
                }
            }
            Err(_) => {}
        }
    }
    Ok(Err(nearest.unwrap_or_else(|| vec![not(&union.words, text)])))
}

// === impl Choice ===

impl Choice {
    /// The option that a text says.
    fn of_text(&self, text: &str) -> Option<&Py<PyAny>> {
        let same = |value: &Scalar| match value {
            Scalar::Str(value) => **value == *text,
            Scalar::Bool(value) => truth(text) == Some(*value),
            Scalar::Null => is_null(text),
            Scalar::Int(_) | Scalar::Big(_) | Scalar::Float(_) => false,
        };
        // A string is a string before it is anything else.
        let strings = |value: &Scalar| matches!(value, Scalar::Str(value) if **value == *text);
        let found = self.options.iter().find(|option| strings(&option.value));
        let found = found.or_else(|| self.options.iter().find(|option| same(&option.value)));
        match found {
            Some(option) => Some(&option.object),
            None => self.find_number(number(text)?.as_bytes()),
        }
    }
}
