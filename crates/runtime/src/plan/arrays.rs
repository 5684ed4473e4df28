//! Arrays, and objects whose members are all of one type.

use pyo3::{
    prelude::*,
    types::{PyDict, PyFrozenSet, PyList, PySet, PyString, PyTuple},
};

use super::{
    fault::{Fault, Step},
    leaf::is_refusal,
    node::{Array, ArrayKind, Dict, Node, NodeId},
    read::{Read, Reader, Stop, wrong_key},
    text::{self, TextRead},
};
use crate::values::{malformed, new};

/// What items are put into as they are read.
enum Into<'py> {
    List(Bound<'py, PyList>),
    Set(Bound<'py, PySet>),
}

// === impl Reader ===

impl<'py> Reader<'_, 'py> {
    /// An array whose items are all of one type; its bracket is next.
    pub(super) fn array(&mut self, array: &Array, depth: u32) -> Read<'py> {
        let depth = self.decoder.deeper(depth)?;
        let into = Into::new(self.py, array.kind)?;
        let mut whole = true;
        let mut count = 0;
        let mut next = self.decoder.source.known_array().map_err(malformed)?;
        while let Some(first) = next {
            let mark = self.faults.len();
            let fits = match self.value(array.item, first, depth)? {
                Some(value) => self.put(&into, value)?,
                None => false,
            };
            if !fits {
                whole = false;
                self.at(mark, &Step::Index(count));
            }
            count += 1;
            next = self.decoder.source.array_step().map_err(malformed)?;
        }
        if let Some(message) = array.bounds.and_then(|bounds| bounds.check(count, "item")) {
            return Ok(self.fault(Fault::new(message)));
        }
        match whole {
            true => Ok(Some(into.finished(array.kind)?)),
            false => Ok(None),
        }
    }

    /// Puts an item; false where it has no place.
    fn put(&mut self, into: &Into<'py>, value: Bound<'py, PyAny>) -> PyResult<bool> {
        match into.put(value)? {
            Some(message) => {
                self.fault(Fault::new(message));
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// An array with a type for each item.
    pub(super) fn tuple(&mut self, items: &[NodeId], depth: u32) -> Read<'py> {
        let depth = self.decoder.deeper(depth)?;
        match self.items(items, items.len(), depth)? {
            Some(values) => Ok(Some(PyTuple::new(self.py, values)?.into_any())),
            None => Ok(None),
        }
    }

    /// An object whose members are all of one type; its brace is next.
    pub(super) fn dict(&mut self, dict: &Dict, depth: u32) -> Read<'py> {
        let outermost = depth == 0 && self.attempts == 0;
        let depth = self.decoder.deeper(depth)?;
        let before = self.faults.len();
        let made = new::dict(self.py)?;
        // Names of members with faults; more than can be told are not remembered.
        let mut faulty: Vec<String> = Vec::new();
        let mut whole = true;
        let mut next = self.decoder.source.known_object().map_err(malformed)?;
        while let Some(name) = next {
            if outermost && self.unless == Some(name) {
                return Err(Stop::Named);
            }
            let key = self.decoder.keys.get(self.py, name.as_bytes())?;
            if !faulty.is_empty() {
                self.again(&key, &mut faulty, before)?;
            }
            if self.is_full() {
                let first = self.decoder.peek()?;
                self.decoder.skip(first, depth)?;
                whole = false;
            } else if !self.member(dict, &made, &key, depth)? {
                faulty.push(key.to_str()?.to_owned());
            }
            next = self.decoder.source.next_key().map_err(malformed)?;
        }
        if let Some(message) = dict.bounds.and_then(|bounds| bounds.check(made.len(), "member"))
            && whole
            && faulty.is_empty()
        {
            return Ok(self.fault(Fault::new(message)));
        }
        Ok((whole && faulty.is_empty()).then(|| made.into_any()))
    }

    /// Of equal keys the last counts: what was wrong with an earlier one is forgotten.
    fn again(
        &mut self,
        key: &Bound<'py, PyString>,
        faulty: &mut Vec<String>,
        before: usize,
    ) -> PyResult<()> {
        let key = key.to_str()?;
        if let Some(place) = faulty.iter().position(|name| name == key) {
            faulty.swap_remove(place);
            self.forget(before, &Step::name(key));
        }
        Ok(())
    }

    /// Reads one member; false where it, or its name, has faults.
    fn member(
        &mut self,
        dict: &Dict,
        made: &Bound<'py, PyDict>,
        name: &Bound<'py, PyString>,
        depth: u32,
    ) -> Result<bool, Stop> {
        let mark = self.faults.len();
        let key = match self.plan.node(dict.key) {
            Node::Str(None) | Node::Any => Some(name.clone().into_any()),
            _ => self.key(dict.key, name)?,
        };
        let first = self.decoder.peek()?;
        let value = self.value(dict.value, first, depth)?;
        match (key, value) {
            (Some(key), Some(value)) => {
                made.set_item(key, value)?;
                Ok(true)
            }
            _ => {
                self.at(mark, &Step::name(&name.to_string_lossy()));
                Ok(false)
            }
        }
    }

    /// The name of a member as a value of a type.
    fn key(&mut self, id: NodeId, name: &Bound<'py, PyString>) -> Read<'py> {
        let text = name.to_str()?;
        match text::scalar(self.py, self.plan, id, text)? {
            Some(value) => Ok(Some(value)),
            None => {
                let words = self.plan.words(id);
                Ok(self.fault(wrong_key(&words, text)))
            }
        }
    }
}

// === impl Into ===

impl<'py> Into<'py> {
    fn new(py: Python<'py>, kind: ArrayKind) -> PyResult<Self> {
        Ok(match kind {
            ArrayKind::List | ArrayKind::Tuple => Self::List(new::list(py)?),
            ArrayKind::Set | ArrayKind::FrozenSet => Self::Set(PySet::empty(py)?),
        })
    }

    /// Puts an item; says why where it has no place.
    fn put(&self, value: Bound<'py, PyAny>) -> PyResult<Option<&'static str>> {
        let set = match self {
            Self::List(list) => return list.append(value).map(|()| None),
            Self::Set(set) => set,
        };
        let length = set.len();
        match set.add(value) {
            Ok(()) if set.len() > length => Ok(None),
            Ok(()) => Ok(Some("is equal to an item before it")),
            Err(error) if is_refusal(set.py(), &error) => Ok(Some("cannot be in a set")),
            Err(error) => Err(error),
        }
    }

    fn finished(self, kind: ArrayKind) -> PyResult<Bound<'py, PyAny>> {
        Ok(match (kind, self) {
            (ArrayKind::Tuple, Self::List(list)) => list.to_tuple().into_any(),
            (ArrayKind::FrozenSet, Self::Set(set)) => {
                set.py().get_type::<PyFrozenSet>().call1((set,))?
            }
            (_, Self::List(list)) => list.into_any(),
            (_, Self::Set(set)) => set.into_any(),
        })
    }
}

// === impl Array ===

impl Array {
    /// An array of values that were read one by one.
    pub(super) fn filled<'py>(
        &self,
        py: Python<'py>,
        values: Vec<Bound<'py, PyAny>>,
    ) -> TextRead<'py> {
        let into = Into::new(py, self.kind)?;
        let mut faults = Vec::new();
        let count = values.len();
        for (index, value) in values.into_iter().enumerate() {
            if let Some(message) = into.put(value)? {
                let mut fault = Fault::new(message);
                fault.step(Step::Index(index));
                faults.push(fault);
            }
        }
        if let Some(message) = self.bounds.and_then(|bounds| bounds.check(count, "item")) {
            faults.push(Fault::new(message));
        }
        match faults.is_empty() {
            true => into.finished(self.kind).map(Ok),
            false => Ok(Err(faults)),
        }
    }
}
