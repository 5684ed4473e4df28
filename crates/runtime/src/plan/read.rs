//! Reads JSON by a plan, in one pass.
//!
//! Every function that reads a value passes over all of it, whatever is found wrong with it, so that
//! all faults of a document are told at once. `None` stands for a value with faults, which are in
//! [`Reader::faults`] by then.

use std::collections::HashMap;

use jiter::{Jiter, NumberAny, NumberInt, Peek};
use pyo3::{
    prelude::*,
    types::{PyBool, PyInt, PyString},
};

use super::{
    fault::{Fault, MOST, Step, quoted, shortened},
    leaf::{self, Taken},
    node::{Choice, Kind, Model, Node, NodeId, Plan, Scalar, words},
    union::Outcome,
};
use crate::values::{DecodeError, Decoder, Keys, malformed, new};

/// Reads the values of one document.
pub(super) struct Reader<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) decoder: Decoder<'a, 'py>,
    pub(super) plan: &'a Plan,
    /// All of the document.
    text: &'a [u8],
    pub(super) faults: Vec<Fault>,
    /// Values of the fields of all objects that are being read.
    pub(super) slots: Vec<Slot<'py>>,
    /// What was found out about unions while it was tried whether a value fits.
    pub(super) known: HashMap<(NodeId, usize), Outcome>,
    /// How many such attempts are going on.
    pub(super) attempts: u32,
    /// Whether the tags of a choice are looked for to the end of the object.
    pub(super) careful: bool,
    /// A member of this name, in the outermost object, ends the reading.
    pub(super) unless: Option<&'a str>,
}

/// A field's value while the others are read.
pub(super) enum Slot<'py> {
    Missing,
    Faulty,
    Value(Bound<'py, PyAny>),
}

/// Why reading ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The document is no JSON, or Python raised what is no fault of the data.
    Decode(DecodeError),
    /// There is a member of the name that [`Reader::unless`] has.
    Named,
    /// There may be an object with two tags: it is to be read again, with [`Reader::careful`] set.
    Careful,
}

/// The object, or `None` where there are faults.
pub(super) type Read<'py> = Result<Option<Bound<'py, PyAny>>, Stop>;

/// Digits of an int, at most: as many as Python reads.
const DIGITS: usize = 4300;

// === impl Reader ===

impl<'a, 'py> Reader<'a, 'py> {
    pub(super) fn new(py: Python<'py>, plan: &'a Plan, text: &'a [u8], keys: &'a mut Keys) -> Self {
        Self {
            py,
            decoder: Decoder::new(py, text, keys),
            plan,
            text,
            faults: Vec::new(),
            slots: Vec::new(),
            known: HashMap::new(),
            attempts: 0,
            careful: false,
            unless: None,
        }
    }

    /// One document, and nothing after it, read by `read` from its first value on.
    pub(super) fn document<T>(
        &mut self,
        mut read: impl FnMut(&mut Self, Peek) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        loop {
            let first = self.decoder.begin()?;
            let read = read(self, first).and_then(|read| {
                self.decoder.end()?;
                Ok(read)
            });
            match read {
                Err(Stop::Careful) if !self.careful => self.restart(),
                Err(Stop::Decode(error)) => return Err(error.moved(self.decoder.base).into()),
                read => return read,
            }
        }
    }

    /// Goes back to the beginning.
    fn restart(&mut self) {
        self.decoder.source = Jiter::new(self.text);
        self.decoder.text = self.text;
        self.decoder.base = 0;
        self.careful = true;
        self.faults.clear();
        self.slots.clear();
        self.known.clear();
        self.attempts = 0;
    }

    /// A value, `depth` containers down.
    pub(super) fn value(&mut self, id: NodeId, first: Peek, depth: u32) -> Read<'py> {
        let plan = self.plan;
        let node = plan.node(id);
        // More would not be told: what follows only has to be JSON.
        if self.is_full() {
            self.decoder.skip(first, depth)?;
            return Ok(None);
        }
        match node {
            Node::Str(None) if first == Peek::String => {
                let text = self.decoder.source.known_str().map_err(malformed)?;
                Ok(Some(PyString::from_bytes(self.py, text.as_bytes())?.into_any()))
            }
            Node::Object(object) if first == Peek::Object => self.object(object, depth),
            Node::Object(object) if first == Peek::Array => self.named_tuple(object, first, depth),
            Node::Array(array) if first == Peek::Array => self.array(array, depth),
            Node::Tuple(items) if first == Peek::Array => self.tuple(items, depth),
            Node::Dict(dict) if first == Peek::Object => self.dict(dict, depth),
            Node::Union(union) => self.union(id, union, first, depth),
            Node::Model(model) => self.model(model, first, depth),
            Node::Any => Ok(Some(self.decoder.value(first, depth)?)),
            _ => match Kind::of(first) {
                Kind::Number => self.number(node, first),
                Kind::String => self.string(node, first),
                Kind::Bool => self.truth(node, first),
                Kind::Null => self.null(node),
                Kind::Object | Kind::Array => self.misfit(node, first, depth),
            },
        }
    }

    // --- strings, true, false and null

    fn string(&mut self, node: &Node, first: Peek) -> Read<'py> {
        let text = self.decoder.source.known_str().map_err(malformed)?;
        match leaf::from_string(self.py, node, text)? {
            Some(Taken::Value(value)) => Ok(Some(value)),
            Some(Taken::Misfit) => {
                let found = quoted(text);
                Ok(self.not(node, &found))
            }
            Some(Taken::Not(fault)) => Ok(self.fault(fault)),
            None => Ok(self.not(node, Kind::of(first).a())),
        }
    }

    fn truth(&mut self, node: &Node, first: Peek) -> Read<'py> {
        let truth = self.decoder.source.known_bool(first).map_err(malformed)?;
        match node {
            Node::Bool => Ok(Some(PyBool::new(self.py, truth).to_owned().into_any())),
            node => self.chosen(node, &Scalar::Bool(truth)),
        }
    }

    fn null(&mut self, node: &Node) -> Read<'py> {
        self.decoder.source.known_null().map_err(malformed)?;
        match node {
            Node::None => Ok(Some(self.py.None().into_bound(self.py))),
            node => self.chosen(node, &Scalar::Null),
        }
    }

    /// A scalar where a choice may have it.
    fn chosen(&mut self, node: &Node, value: &Scalar) -> Read<'py> {
        match node {
            Node::Choice(choice) if choice.find(value).is_some() => {
                Ok(choice.find(value).map(|object| object.bind(self.py).clone()))
            }
            node => Ok(self.not(node, &value.shown())),
        }
    }

    // --- numbers

    fn number(&mut self, node: &Node, first: Peek) -> Read<'py> {
        let start = self.decoder.source.current_index();
        match node {
            Node::Float(bounds) => {
                let number = match self.decoder.source.known_float(first) {
                    Ok(number) => number,
                    Err(error) => return Err(self.decoder.no_number(start, error).into()),
                };
                if !number.is_finite() {
                    return Ok(self.fault(Fault::new("is too large for a float")));
                }
                let number = new::float(self.py, number)?;
                self.bounded(number, bounds.as_deref())
            }
            Node::Int(bounds) => match self.decoder.source.known_number(first) {
                Ok(NumberAny::Int(NumberInt::Int(number))) => {
                    let number = new::int(self.py, number)?;
                    self.bounded(number, bounds.as_deref())
                }
                read => {
                    if let Err(error) = read {
                        self.odd_digits(first, start, error)?;
                    }
                    let digits = self.decoder.source.slice_to_current(start);
                    match self.integer(digits, start)? {
                        Some(number) => self.bounded(number, bounds.as_deref()),
                        None => Ok(self.not(node, &shown(digits))),
                    }
                }
            },
            Node::Decimal(bounds) => {
                let digits = self.decoder.digits(first)?;
                match leaf::decimal(self.py, &String::from_utf8_lossy(digits))? {
                    Some(number) => self.bounded(number, bounds.as_deref()),
                    None => Ok(self.not(node, &shown(digits))),
                }
            }
            Node::Choice(choice) => {
                let digits = self.decoder.digits(first)?;
                match choice.find_number(digits) {
                    Some(object) => Ok(Some(object.bind(self.py).clone())),
                    None => Ok(self.not(node, &shown(digits))),
                }
            }
            node => {
                self.decoder.digits(first)?;
                Ok(self.not(node, Kind::Number.a()))
            }
        }
    }

    fn bounded(
        &mut self,
        number: Bound<'py, PyAny>,
        bounds: Option<&super::bounds::NumberBounds>,
    ) -> Read<'py> {
        match bounds.map(|bounds| bounds.check(&number)).transpose()?.flatten() {
            Some(message) => Ok(self.fault(Fault::new(message))),
            None => Ok(Some(number)),
        }
    }

    /// Passes over a number that jiter has no place for, or which is none.
    #[cold]
    fn odd_digits(
        &mut self,
        first: Peek,
        start: usize,
        error: jiter::JiterError,
    ) -> Result<(), Stop> {
        use jiter::{JiterErrorType::JsonError, JsonErrorType::NumberOutOfRange};
        match error.error_type {
            JsonError(NumberOutOfRange) => self.decoder.digits(first).map(drop).map_err(Stop::from),
            _ => Err(self.decoder.no_number(start, error).into()),
        }
    }

    /// The int that a number is, if it is one: also `3.0` and `1e2`, by their digits.
    fn integer(
        &mut self,
        digits: &[u8],
        start: usize,
    ) -> Result<Option<Bound<'py, PyAny>>, DecodeError> {
        match whole_digits(digits) {
            Some(digits) => integer(self.py, &digits, start).map(Some),
            None => Ok(None),
        }
    }

    // --- models

    fn model(&mut self, model: &Model, first: Peek, depth: u32) -> Read<'py> {
        let kind = Kind::of(first);
        let start = self.decoder.source.current_index();
        self.decoder.skip(first, depth)?;
        if !model.takes.has(kind) {
            let found = self.found(first, start);
            return Ok(self.fault(Fault::new(format!("must be {}, not {found}", model.words))));
        }
        let bytes = new::bytes(self.py, self.decoder.source.slice_to_current(start))?;
        self.decoded(model, &bytes)
    }

    /// What a library makes of a value's bytes.
    fn decoded(&mut self, model: &Model, bytes: &Bound<'py, pyo3::types::PyBytes>) -> Read<'py> {
        let py = self.py;
        let error = match model.decode.bind(py).call1((bytes,)) {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let Some(refused) = error.value(py).getattr_opt("faults")? else {
            return Err(error.into());
        };
        let mut any = false;
        for fault in refused.try_iter()? {
            let (path, detail): (Bound<'py, PyAny>, String) = fault?.extract()?;
            let mut fault = Fault::new(detail);
            let steps: Vec<Bound<'py, PyAny>> = path.try_iter()?.collect::<PyResult<_>>()?;
            for step in steps.iter().rev() {
                fault.step(match step.extract::<usize>() {
                    Ok(index) => Step::Index(index),
                    Err(_) => Step::name(&step.str()?.to_string_lossy()),
                });
            }
            self.fault(fault);
            any = true;
        }
        if !any {
            self.fault(Fault::new(error.value(py).str()?.to_string_lossy()));
        }
        Ok(None)
    }

    // --- faults

    /// What is wrong with a document that was read to no object.
    pub(super) fn told(&mut self) -> Vec<Fault> {
        if self.faults.is_empty() {
            // All that could be told was about members that a later one of the same name replaced,
            // and the rest of the document had not been looked at by then.
            self.fault(Fault::new("has too many faults, in members that are given twice"));
        }
        std::mem::take(&mut self.faults)
    }

    /// Whether no more faults are told.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.faults.len() >= MOST
    }

    /// Notes what is wrong with the value just passed over.
    #[cold]
    pub(super) fn fault(&mut self, fault: Fault) -> Option<Bound<'py, PyAny>> {
        if !self.is_full() {
            self.faults.push(fault);
        }
        None
    }

    #[cold]
    pub(super) fn not(&mut self, node: &Node, found: &str) -> Option<Bound<'py, PyAny>> {
        self.fault(Fault::new(format!("must be {}, not {found}", words(node))))
    }

    /// Passes over a value of a kind that a node does not take.
    #[cold]
    pub(super) fn misfit(&mut self, node: &Node, first: Peek, depth: u32) -> Read<'py> {
        let start = self.decoder.source.current_index();
        self.decoder.skip(first, depth)?;
        let found = self.found(first, start);
        Ok(self.not(node, &found))
    }

    /// What a value is that began at `start` and was passed over, in words.
    pub(super) fn found(&self, first: Peek, start: usize) -> String {
        match Kind::of(first) {
            Kind::Bool => shown(self.decoder.source.slice_to_current(start)),
            kind => kind.a().to_owned(),
        }
    }

    /// Puts a step before the way to all faults noted since there were `before`.
    #[cold]
    pub(super) fn at(&mut self, before: usize, step: &Step) {
        for fault in self.faults.iter_mut().skip(before) {
            fault.step(step.clone());
        }
    }
}

/// A number as it was written, for a message.
fn shown(digits: &[u8]) -> String {
    shortened(&String::from_utf8_lossy(digits))
}

/// An int of many digits.
pub(super) fn integer<'py>(
    py: Python<'py>,
    digits: &str,
    start: usize,
) -> Result<Bound<'py, PyAny>, DecodeError> {
    if let Ok(number) = digits.parse() {
        return Ok(new::int(py, number)?);
    }
    let text = PyString::from_bytes(py, digits.as_bytes())?;
    // Python may have been told to take fewer digits than usual.
    let made = py.get_type::<PyInt>().call1((text,));
    made.map_err(|error| DecodeError::blame(py, error, "this int is too long", start))
}

/// The digits of the int that a number is, if it has no fraction and they are not too many.
pub(super) fn whole_digits(number: &[u8]) -> Option<String> {
    let number = std::str::from_utf8(number).ok()?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number),
    };
    let (mantissa, exponent) = match number.split_once(['e', 'E']) {
        // What has so long an exponent has no fraction or nothing else.
        Some((mantissa, exponent)) => {
            let plain = exponent.trim_start_matches('+');
            let huge = if plain.starts_with('-') { i64::MIN / 4 } else { i64::MAX / 4 };
            (mantissa, plain.parse().unwrap_or(huge).clamp(i64::MIN / 4, i64::MAX / 4))
        }
        None => (number, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = String::with_capacity(sign.len() + mantissa.len());
    digits += sign;
    digits += whole;
    digits += fraction;
    // How many of the digits are behind the point.
    let behind = i64::try_from(fraction.len()).ok()? - exponent;
    if digits[sign.len()..].bytes().all(|digit| digit == b'0') {
        return Some("0".into());
    }
    for _ in 0..behind.clamp(0, i64::try_from(digits.len()).ok()?) {
        if digits.pop() != Some('0') {
            return None;
        }
    }
    let length = i64::try_from(digits.len()).ok()?.checked_sub(behind.min(0))?;
    if usize::try_from(length).ok()? > DIGITS + sign.len() {
        return None;
    }
    digits.extend((0..-behind.min(0)).map(|_| '0'));
    Some(digits)
}

// === impl Choice ===

impl Choice {
    fn find(&self, value: &Scalar) -> Option<&Py<PyAny>> {
        let option = self.options.iter().find(|option| option.value == *value);
        option.map(|option| &option.object)
    }

    /// The option that is this number, however it is written.
    pub(super) fn find_number(&self, digits: &[u8]) -> Option<&Py<PyAny>> {
        let whole = whole_digits(digits);
        let small = whole.as_deref().and_then(|digits| digits.parse().ok());
        let float = || std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
        let same = |value: &Scalar| match value {
            Scalar::Int(number) => small == Some(*number),
            Scalar::Big(number) => whole.as_ref() == Some(number),
            Scalar::Float(number) => float() == Some(*number),
            _ => false,
        };
        let option = self.options.iter().find(|option| same(&option.value));
        option.map(|option| &option.object)
    }
}

// === impl Stop ===

impl From<DecodeError> for Stop {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<PyErr> for Stop {
    fn from(error: PyErr) -> Self {
        Self::Decode(error.into())
    }
}

/// The name of an unknown member, for a message.
pub(super) fn unknown<'n>(
    what: &str,
    name: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Fault {
    let near = exuvia_core::suggest::did_you_mean(&shortened(name), names);
    let mut fault = Fault::new(format!("there is no {what} of this name.{near}"));
    fault.step(Step::name(name));
    fault
}

/// What a key must be instead.
pub(super) fn wrong_key(words: &str, key: &str) -> Fault {
    Fault::new(format!("the key must be {words}, not {}", quoted(key)))
}
