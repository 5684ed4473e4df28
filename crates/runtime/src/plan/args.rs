//! The arguments of a call in a document: each member of an object one, or the whole of it the first.

use exuvia_core::{InputFault, suggest::did_you_mean};
use jiter::Peek;
use pyo3::{prelude::*, types::PyDict};

use super::{
    fault::{Fault, Step, escaped, shortened},
    node::{Node, NodeId, Plan},
    read::{Reader, Stop},
    text,
};
use crate::{
    handler::Handler,
    values::{DecodeError, Decoder, Keys, malformed, new, without_mark},
};

/// Arguments that were read.
pub(crate) struct Args<'py> {
    /// By the place of the parameter.
    pub(crate) slots: Vec<Arg<'py>>,
    /// For `**kwargs`.
    pub(crate) more: Option<Bound<'py, PyDict>>,
    pub(crate) faults: Vec<InputFault>,
    /// Whether the first parameter was given by place.
    pub(crate) first_by_place: bool,
}

/// One argument.
pub(crate) enum Arg<'py> {
    Missing,
    /// It was given, and there are faults in it.
    Faulty,
    Given(Bound<'py, PyAny>),
}

/// How a document gives arguments.
enum Way {
    /// It is the first one.
    First,
    /// The same, unless it has a member of that parameter's name.
    FirstUnless,
    ByName,
}

// === impl Plan ===

impl Plan {
    /// The arguments of a JSON document.
    ///
    /// # Errors
    /// It is no JSON, or Python raised what is not the data's fault.
    pub(crate) fn read_json<'py>(
        &self,
        py: Python<'py>,
        handler: &Handler,
        body: &[u8],
    ) -> Result<Args<'py>, DecodeError> {
        let text = without_mark(body);
        let read = read(py, self, handler, text);
        read.map_err(|error| error.moved(body.len() - text.len()).placed(body, 0, 0))
    }

    /// The same of lines of JSON: they are a list.
    ///
    /// # Errors
    /// As of [`Plan::read_json`].
    pub(crate) fn read_ndjson<'py>(
        &self,
        py: Python<'py>,
        handler: &Handler,
        body: &[u8],
    ) -> Result<Args<'py>, DecodeError> {
        let array = joined(py, body)?;
        read(py, self, handler, &array)
    }

    /// An argument that was given as text, once or several times.
    ///
    /// # Errors
    /// Python raised what is not the data's fault.
    pub(crate) fn read_text<'py>(
        &self,
        py: Python<'py>,
        id: NodeId,
        name: &str,
        texts: &[&str],
    ) -> PyResult<Result<Bound<'py, PyAny>, Vec<InputFault>>> {
        let read = text::texts(py, self, id, texts)?;
        let root = format!("/{}", escaped(name));
        Ok(read.map_err(|faults| faults.into_iter().map(|fault| fault.told(&root)).collect()))
    }

    /// How an object gives arguments.
    fn way(&self, handler: &Handler, decoder: &Decoder<'_, '_>) -> Result<Way, DecodeError> {
        let (Some(whole), Some(first)) = (&self.whole, handler.params.first()) else {
            return Ok(Way::ByName);
        };
        if whole.alone {
            return Ok(Way::First);
        }
        let node = self.params.first().and_then(|id| id.map(|id| self.node(id)));
        // These notice such a member while they are read.
        if matches!(node, Some(Node::Object(_) | Node::Dict(_))) {
            return Ok(Way::FirstUnless);
        }
        Ok(if has_member(decoder, &first.name)? { Way::ByName } else { Way::First })
    }
}

fn read<'py>(
    py: Python<'py>,
    plan: &Plan,
    handler: &Handler,
    text: &[u8],
) -> Result<Args<'py>, DecodeError> {
    let mut keys = Keys::take();
    let mut reader = Reader::new(py, plan, text, &mut keys);
    let first = reader.decoder.begin()?;
    let way = match first {
        Peek::Object => plan.way(handler, &reader.decoder)?,
        _ => Way::First,
    };
    if matches!(way, Way::FirstUnless) {
        reader.unless = handler.params.first().map(|first| first.name.as_str());
    }
    let read = reader.document(|reader, first| match way {
        Way::ByName => reader.by_name(handler, first),
        Way::First | Way::FirstUnless => reader.first(handler, first),
    });
    let mut args = match read {
        Err(Stop::Named) => {
            reader = Reader::new(py, plan, text, &mut keys);
            reader.document(|reader, first| reader.by_name(handler, first))
        }
        read => read,
    }
    .map_err(Stop::error)?;
    let unsaid = reader.faults.is_empty() && args.slots.iter().any(|arg| arg.is_faulty());
    if unsaid || !reader.faults.is_empty() {
        args.faults = reader.told().into_iter().map(|fault| fault.told("")).collect();
    }
    Ok(args)
}

/// Whether the object that a decoder is at has a member of this name.
fn has_member(decoder: &Decoder<'_, '_>, name: &str) -> Result<bool, DecodeError> {
    let mut keys = Keys::none();
    let mut ahead = Decoder::new(decoder.py, decoder.text, &mut keys);
    ahead.source = decoder.source.clone();
    let mut next = ahead.source.known_object().map_err(malformed)?;
    while let Some(key) = next {
        if key == name {
            return Ok(true);
        }
        let first = ahead.peek()?;
        ahead.skip(first, 1)?;
        next = ahead.source.next_key().map_err(malformed)?;
    }
    Ok(false)
}

/// Lines of JSON as one array. Each must be a document by itself.
fn joined(py: Python<'_>, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut array = Vec::with_capacity(body.len() + 2);
    let mut before = 0;
    let mut keys = Keys::none();
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let text = without_mark(line);
        if !text.trim_ascii().is_empty() {
            let mut decoder = Decoder::new(py, text, &mut keys);
            let looked_at = decoder.begin().and_then(|first| decoder.skip(first, 1));
            let looked_at = looked_at.and_then(|()| decoder.end());
            looked_at.map_err(|error| {
                error.moved(line.len() - text.len()).placed(line, before, index)
            })?;
            array.push(if array.is_empty() { b'[' } else { b',' });
            array.extend_from_slice(text);
        }
        before += line.len() + 1;
    }
    if array.is_empty() {
        array.push(b'[');
    }
    array.push(b']');
    Ok(array)
}

// === impl Reader ===

impl<'py> Reader<'_, 'py> {
    /// The document as the first argument.
    fn first(&mut self, handler: &Handler, first: Peek) -> Result<Args<'py>, Stop> {
        let mut args = Args::none(handler);
        args.first_by_place = true;
        let read = match self.plan.params.first() {
            Some(Some(id)) => self.value(*id, first, 0)?,
            _ => Some(self.decoder.value(first, 0)?),
        };
        if let Some(slot) = args.slots.first_mut() {
            *slot = read.map_or(Arg::Faulty, Arg::Given);
        }
        Ok(args)
    }

    /// Each member of an object as an argument.
    fn by_name(&mut self, handler: &Handler, _: Peek) -> Result<Args<'py>, Stop> {
        let mut args = Args::none(handler);
        let mut expected = 0;
        let mut next = self.decoder.source.known_object().map_err(malformed)?;
        while let Some(name) = next {
            if let Some(place) = handler.find_param(name, expected) {
                expected = place + 1;
                self.argument(handler, place, &mut args)?;
            } else if handler.open_keywords {
                let key = self.decoder.keys.get(self.py, name.as_bytes())?;
                let first = self.decoder.peek()?;
                let value = self.decoder.value(first, 1)?;
                args.more(self.py)?.set_item(key, value)?;
            } else {
                let name = name.to_owned();
                self.unknown_argument(handler, &name);
                let first = self.decoder.peek()?;
                self.decoder.skip(first, 1)?;
            }
            next = self.decoder.source.next_key().map_err(malformed)?;
        }
        Ok(args)
    }

    /// One argument's value. Of equal names the last counts.
    fn argument(
        &mut self,
        handler: &Handler,
        place: usize,
        args: &mut Args<'py>,
    ) -> Result<(), Stop> {
        let step = || Step::name(&handler.params[place].name);
        if args.slots[place].is_faulty() {
            self.forget(0, &step());
        }
        let mark = self.faults.len();
        let first = self.decoder.peek()?;
        let read = match self.plan.params.get(place) {
            Some(Some(id)) => self.value(*id, first, 1)?,
            _ => Some(self.decoder.value(first, 1)?),
        };
        args.slots[place] = match read {
            Some(value) => Arg::Given(value),
            None => {
                self.at(mark, &step());
                Arg::Faulty
            }
        };
        Ok(())
    }

    #[cold]
    fn unknown_argument(&mut self, handler: &Handler, name: &str) {
        if self.is_full() {
            return;
        }
        let near = did_you_mean(&shortened(name), handler.params.iter().map(|it| it.name.as_str()));
        let mut fault = Fault::new(format!("there is no parameter of this name.{near}"));
        fault.step(Step::name(name));
        if !self.faults.iter().any(|other| other.is(&fault)) {
            self.fault(fault);
        }
    }
}

// === impl Args ===

impl<'py> Args<'py> {
    pub(crate) fn none(handler: &Handler) -> Self {
        let slots = handler.params.iter().map(|_| Arg::Missing).collect();
        Self { slots, more: None, faults: Vec::new(), first_by_place: false }
    }

    /// What is given to `**kwargs`.
    pub(crate) fn more(&mut self, py: Python<'py>) -> PyResult<&Bound<'py, PyDict>> {
        if self.more.is_none() {
            self.more = Some(new::dict(py)?);
        }
        Ok(self.more.get_or_insert_with(|| PyDict::new(py)))
    }
}

// === impl Arg ===

impl Arg<'_> {
    pub(crate) fn is_faulty(&self) -> bool {
        matches!(self, Self::Faulty)
    }
}

// === impl Stop ===

impl Stop {
    /// What a document that was read to no end is.
    fn error(self) -> DecodeError {
        match self {
            Self::Decode(error) => error,
            // Reading by name, or again, knows neither.
            Self::Named | Self::Careful => DecodeError::new("it cannot be read", 0),
        }
    }
}
