//! Objects of classes with fields.

use jiter::Peek;
use pyo3::{
    intern,
    prelude::*,
    types::{PyDict, PyTuple, PyType},
};

use super::{
    fault::{Fault, Step, plural},
    leaf::{bare, is_refusal, set},
    node::{FieldDefault, How, NodeId, Object},
    read::{Read, Reader, Slot, Stop, unknown},
};
use crate::values::{malformed, new};

// === impl Reader ===

impl<'py> Reader<'_, 'py> {
    /// An object; its brace is next.
    pub(super) fn object(&mut self, object: &Object, depth: u32) -> Read<'py> {
        let outermost = depth == 0 && self.attempts == 0;
        let unless = self.unless;
        let depth = self.decoder.deeper(depth)?;
        let base = self.slots.len();
        let before = self.faults.len();
        self.slots.extend((0..object.given).map(|_| Slot::Missing));
        let mut expected = 0;
        let mut unknown = false;
        let mut separator = b'{';
        loop {
            let next = object.fields[..object.given].get(expected);
            let place = match next {
                Some(field) if self.decoder.pass(separator, &field.lead) => Some(expected),
                _ => match self.next_key(separator)? {
                    Some(key) => match object.find(key, expected) {
                        None if outermost && unless == Some(key) => return Err(Stop::Named),
                        None => {
                            let key = key.to_owned();
                            self.unknown_field(object, &key, before);
                            None
                        }
                        place => place,
                    },
                    None => break,
                },
            };
            separator = b',';
            let first = self.decoder.peek()?;
            match place {
                Some(place) => {
                    expected = place + 1;
                    self.field(object, (base, place), before, first, depth)?;
                }
                None => {
                    unknown = true;
                    self.decoder.skip(first, depth)?;
                }
            }
        }
        self.complete(object, base, unknown)
    }

    /// The first key of an object, or one that follows.
    fn next_key(&mut self, separator: u8) -> Result<Option<&str>, Stop> {
        let source = &mut self.decoder.source;
        let key = if separator == b'{' { source.known_object() } else { source.next_key() };
        Ok(key.map_err(malformed)?)
    }

    /// One field's value. Of equal keys the last counts, so what was wrong with an earlier one is
    /// forgotten.
    fn field(
        &mut self,
        object: &Object,
        (base, place): (usize, usize),
        before: usize,
        first: Peek,
        depth: u32,
    ) -> Result<(), Stop> {
        let field = &object.fields[place];
        if matches!(self.slots[base + place], Slot::Faulty) {
            self.forget(before, &Step::name(&field.name));
        }
        let mark = self.faults.len();
        // `find` gives none but those that have a node.
        let read = match field.node {
            Some(node) => self.value(node, first, depth)?,
            None => None,
        };
        self.slots[base + place] = match read {
            Some(value) => Slot::Value(value),
            None => {
                self.at(mark, &Step::name(&field.name));
                Slot::Faulty
            }
        };
        Ok(())
    }

    /// Drops faults noted since there were `before` that are below a step.
    #[cold]
    pub(super) fn forget(&mut self, before: usize, step: &Step) {
        let kept = self.faults.split_off(before);
        self.faults.extend(kept.into_iter().filter(|fault| !fault.is_below(step)));
    }

    #[cold]
    fn unknown_field(&mut self, object: &Object, name: &str, before: usize) {
        if self.is_full() {
            return;
        }
        let names = object.fields[..object.given].iter().map(|field| &*field.name);
        let fault = unknown("field", name, names);
        if !self.faults[before..].iter().any(|other| other.is(&fault)) {
            self.fault(fault);
        }
    }

    /// Makes the object of the fields that were read.
    fn complete(&mut self, object: &Object, base: usize, unknown: bool) -> Read<'py> {
        let mut whole = !unknown;
        for place in 0..object.given {
            match self.slots[base + place] {
                Slot::Value(_) => {}
                Slot::Faulty => whole = false,
                Slot::Missing if object.fields[place].required => {
                    whole = false;
                    self.missing(&object.fields[place].name);
                }
                Slot::Missing => {}
            }
        }
        if !whole {
            self.slots.truncate(base);
            return Ok(None);
        }
        let made = match object.how {
            How::Set | How::SetPost => self.set_fields(object, base)?,
            How::Dict => Ok(self.keywords(object, base)?.into_any()),
            How::Call | How::NamedTuple => {
                let keywords = self.keywords(object, base)?;
                object.class.bind(self.py).call((), Some(&keywords))
            }
        };
        self.slots.truncate(base);
        self.made(made)
    }

    #[cold]
    fn missing(&mut self, name: &str) {
        let mut fault = Fault::new("is missing");
        fault.step(Step::name(name));
        self.fault(fault);
    }

    /// An object, or why a class refused to be one.
    fn made(&mut self, made: PyResult<Bound<'py, PyAny>>) -> Read<'py> {
        match made {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_refusal(self.py, &error) => {
                let value = error.value(self.py);
                let said = value.str().map(|said| said.to_string_lossy().into_owned());
                let said = said.unwrap_or_default();
                let said = match said.trim() {
                    "" => format!("is refused: {}", value.get_type().name()?),
                    said => said.to_owned(),
                };
                Ok(self.fault(Fault::new(said)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// As the `__init__` that `dataclasses` writes does it: the inner error is of `__post_init__`.
    fn set_fields(
        &mut self,
        object: &Object,
        base: usize,
    ) -> PyResult<PyResult<Bound<'py, PyAny>>> {
        let py = self.py;
        let made = bare(object.class.bind(py))?;
        for (place, field) in object.fields.iter().enumerate() {
            let given = match self.slots.get(base + place) {
                Some(Slot::Value(value)) if place < object.given => {
                    set(&made, field.key.bind(py), value)?;
                    continue;
                }
                _ => &field.default,
            };
            match given {
                FieldDefault::None => {}
                FieldDefault::Value(value) => set(&made, field.key.bind(py), value.bind(py))?,
                FieldDefault::Factory(factory) => {
                    set(&made, field.key.bind(py), &factory.bind(py).call0()?)?;
                }
            }
        }
        if object.how == How::SetPost
            && let Err(error) = made.call_method0(intern!(py, "__post_init__"))
        {
            return Ok(Err(error));
        }
        Ok(Ok(made))
    }

    fn keywords(&mut self, object: &Object, base: usize) -> PyResult<Bound<'py, PyDict>> {
        let dict = new::dict(self.py)?;
        for (field, slot) in object.fields.iter().zip(&self.slots[base..base + object.given]) {
            if let Slot::Value(value) = slot {
                dict.set_item(&field.key, value)?;
            }
        }
        Ok(dict)
    }

    /// A named tuple of an array; its bracket is next.
    pub(super) fn named_tuple(&mut self, object: &Object, first: Peek, depth: u32) -> Read<'py> {
        if object.how != How::NamedTuple {
            let start = self.decoder.source.current_index();
            self.decoder.skip(first, depth)?;
            let found = self.found(first, start);
            return Ok(self.fault(Fault::new(format!("must be an object, not {found}"))));
        }
        let depth = self.decoder.deeper(depth)?;
        let required = object.fields.iter().filter(|field| field.required).count();
        let ids: Vec<_> = object.fields.iter().filter_map(|field| field.node).collect();
        let Some(values) = self.items(&ids, required, depth)? else { return Ok(None) };
        let class: &Bound<'py, PyType> = object.class.bind(self.py);
        let made = class.call1(PyTuple::new(self.py, values)?);
        self.made(made)
    }

    /// The items of an array, each of a type of its own; at least `required` of them.
    pub(super) fn items(
        &mut self,
        ids: &[NodeId],
        required: usize,
        depth: u32,
    ) -> Result<Option<Vec<Bound<'py, PyAny>>>, Stop> {
        let mut values = Vec::with_capacity(ids.len());
        let mut count = 0;
        let mut next = self.decoder.source.known_array().map_err(malformed)?;
        while let Some(first) = next {
            match ids.get(count) {
                Some(id) => {
                    let mark = self.faults.len();
                    match self.value(*id, first, depth)? {
                        Some(value) => values.push(value),
                        None => self.at(mark, &Step::Index(count)),
                    }
                }
                None => self.decoder.skip(first, depth)?,
            }
            count += 1;
            next = self.decoder.source.array_step().map_err(malformed)?;
        }
        if count < required || count > ids.len() {
            let wanted = match required == ids.len() {
                true => plural(required, "item"),
                false => format!("{required} to {}", plural(ids.len(), "item")),
            };
            self.fault(Fault::new(format!("must have {wanted}, not {count}")));
            return Ok(None);
        }
        Ok((values.len() == count).then_some(values))
    }
}
