//! Objects to JSON.

use std::sync::Arc;

use pyo3::{
    exceptions::{PyUnicodeEncodeError, PyValueError},
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyNone, PyString, PyTuple},
};

use super::{shape::Shape, text};
use crate::values::{
    MAX_DEPTH, Unfit,
    object::{DictWalk, Whole, exact, index_step, key_step, type_name, whole},
};

/// Writes an object as one JSON document behind what `out` holds, without a line break in it.
///
/// # Errors
/// [`Unfit`], when the object or something in it has no place in JSON; `out` then ends with a part
/// of it.
pub fn encode_json(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    Encoder::new(py, out).value(object, 0)
}

pub(super) struct Encoder<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) out: &'a mut Vec<u8>,
    /// What is known of types that were met, by their address.
    pub(super) shapes: [Option<Arc<Shape>>; SHAPES],
}

// === impl Encoder ===

impl<'a, 'py> Encoder<'a, 'py> {
    pub(super) fn new(py: Python<'py>, out: &'a mut Vec<u8>) -> Self {
        Self { py, out, shapes: [const { None }; SHAPES] }
    }

    /// Any object, `depth` containers down. The commonest types come first.
    pub(super) fn value(&mut self, object: &Bound<'py, PyAny>, depth: u32) -> Result<(), Unfit> {
        Unfit::room(self.out, SHORT)?;
        if let Some(text) = exact::<PyString>(object) {
            self.string(text)
        } else if let Some(number) = exact::<PyInt>(object) {
            self.int(number)
        } else if let Some(dict) = exact::<PyDict>(object) {
            self.dict(dict, depth)
        } else if let Some(list) = exact::<PyList>(object) {
            self.list(list, depth)
        } else if let Some(number) = exact::<PyFloat>(object) {
            self.float(number.value())
        } else if object.is_exact_instance_of::<PyNone>() {
            self.out.extend_from_slice(b"null");
            Ok(())
        } else if let Some(truth) = exact::<PyBool>(object) {
            self.out.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
            Ok(())
        } else if let Some(tuple) = exact::<PyTuple>(object) {
            self.tuple(tuple, depth)
        } else {
            self.converted(object, depth)
        }
    }

    pub(super) fn string(&mut self, string: &Bound<'py, PyString>) -> Result<(), Unfit> {
        match string.to_str() {
            Ok(string) => text::write(self.out, string),
            Err(error) if error.is_instance_of::<PyUnicodeEncodeError>(self.py) => {
                Err(Unfit::new("a str with a lone surrogate has no place in JSON"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An int or the number in an instance of a subclass.
    pub(super) fn int(&mut self, number: &Bound<'py, PyInt>) -> Result<(), Unfit> {
        match whole(number)? {
            Whole::Signed(number) => self.number(number),
            Whole::Unsigned(number) => self.number(number),
            Whole::Big => self.big_int(number),
        }
    }

    #[cold]
    fn big_int(&mut self, number: &Bound<'py, PyInt>) -> Result<(), Unfit> {
        // By the type, as a subclass may print itself in its own way.
        let digits = self.py.get_type::<PyInt>().call_method1("__repr__", (number,));
        let digits = digits.map_err(|error| {
            if error.is_instance_of::<PyValueError>(self.py) {
                let error = error.value(self.py);
                Unfit::new(format!("an int this long has no place in JSON: {error}"))
            } else {
                error.into()
            }
        })?;
        let digits = digits.cast::<PyString>().map_err(PyErr::from)?.to_str()?.as_bytes();
        Unfit::room(self.out, digits.len())?;
        self.out.extend_from_slice(digits);
        Ok(())
    }

    pub(super) fn float(&mut self, number: f64) -> Result<(), Unfit> {
        if !number.is_finite() {
            return Err(not_finite(number));
        }
        self.number(number)
    }

    fn number(&mut self, number: impl serde::Serialize) -> Result<(), Unfit> {
        serde_json::to_writer(&mut *self.out, &number)
            .map_err(|error| Unfit::new(error.to_string()))
    }

    fn dict(&mut self, dict: &Bound<'py, PyDict>, depth: u32) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        let mut items = DictWalk::new(dict);
        let mut separator = b'{';
        for (key, value) in &mut items {
            self.out.push(separator);
            separator = b',';
            match exact::<PyString>(&key) {
                Some(key) => self.string(key).map_err(|unfit| unfit.at(|| "<key>".into()))?,
                None => self.odd_key(&key, dict)?,
            }
            self.out.push(b':');
            self.value(&value, depth).map_err(|unfit| unfit.at(|| key_step(&key)))?;
        }
        if !items.complete() {
            return Err(Unfit::changed("dict"));
        }
        self.close(separator == b'{', b'{', b'}')
    }

    /// Ends a container, and begins it too if there was nothing in it.
    pub(super) fn close(&mut self, empty: bool, opening: u8, closing: u8) -> Result<(), Unfit> {
        Unfit::room(self.out, SHORT)?;
        if empty {
            self.out.push(opening);
        }
        self.out.push(closing);
        Ok(())
    }

    /// A key that is no str, as Python's own `json` writes it.
    pub(super) fn odd_key(
        &mut self,
        key: &Bound<'py, PyAny>,
        among: &Bound<'py, PyAny>,
    ) -> Result<(), Unfit> {
        let text = self.key_text(key)?;
        // Two equal names in one object would be one of them lost at the other end.
        if !key.is_instance_of::<PyString>() && among.contains(&text)? {
            return Err(Unfit::new(format!("two keys would both be {text:?} in JSON"))
                .at(|| "<key>".into()));
        }
        text::write(self.out, &text)
    }

    pub(super) fn key_text(&self, key: &Bound<'py, PyAny>) -> Result<String, Unfit> {
        let misfit = |message: String| Unfit::new(message).at(|| "<key>".into());
        if let Some(truth) = exact::<PyBool>(key) {
            Ok(if truth.is_true() { "true" } else { "false" }.to_owned())
        } else if key.is_none() {
            Ok("null".to_owned())
        } else if let Ok(text) = key.cast::<PyString>() {
            let text = text.to_str();
            Ok(text.map_err(|_| misfit("a lone surrogate has no place in JSON".into()))?.to_owned())
        } else if key.is_instance_of::<PyInt>() {
            let digits = self.py.get_type::<PyInt>().call_method1("__repr__", (key,))?;
            Ok(digits.extract()?)
        } else if let Ok(number) = key.cast::<PyFloat>() {
            match number.value() {
                number if number.is_nan() => Ok("NaN".to_owned()),
                f64::INFINITY => Ok("Infinity".to_owned()),
                f64::NEG_INFINITY => Ok("-Infinity".to_owned()),
                _ => {
                    let digits = self.py.get_type::<PyFloat>().call_method1("__repr__", (key,))?;
                    Ok(digits.extract()?)
                }
            }
        } else {
            Err(misfit(format!(
                "a key of type `{}` has no place in JSON; make it a str",
                type_name(key)
            )))
        }
    }

    fn list(&mut self, list: &Bound<'py, PyList>, depth: u32) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        let count = list.len();
        for index in 0..count {
            self.out.push(if index == 0 { b'[' } else { b',' });
            // The list may have become shorter while an item of it was looked at.
            let Ok(item) = list.get_item(index) else { return Err(Unfit::changed("list")) };
            self.value(&item, depth).map_err(|unfit| unfit.at(|| index_step(index)))?;
        }
        if list.len() != count {
            return Err(Unfit::changed("list"));
        }
        self.close(count == 0, b'[', b']')
    }

    pub(super) fn tuple(&mut self, tuple: &Bound<'py, PyTuple>, depth: u32) -> Result<(), Unfit> {
        let depth = deeper(depth)?;
        for index in 0..tuple.len() {
            self.out.push(if index == 0 { b'[' } else { b',' });
            let item = tuple.get_borrowed_item(index)?;
            self.value(&item, depth).map_err(|unfit| unfit.at(|| index_step(index)))?;
        }
        self.close(tuple.is_empty(), b'[', b']')
    }
}

/// Types that one document is expected to hold.
pub(super) const SHAPES: usize = 16;

/// Room for any number, literal, time or duration, with what stands around it.
pub(super) const SHORT: usize = 48;

/// The depth inside a container at `depth`.
pub(super) fn deeper(depth: u32) -> Result<u32, Unfit> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(Unfit::too_deep()) }
}

#[cold]
pub(super) fn not_finite(number: f64) -> Unfit {
    let name = match number {
        f64::INFINITY => "infinity",
        f64::NEG_INFINITY => "-infinity",
        _ => "NaN",
    };
    Unfit::new(format!("{name} has no place in JSON; return None, or ask for the value format"))
}
