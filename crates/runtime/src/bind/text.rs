//! Arguments that came as text: by a type plan, or by a mask.

use exuvia_core::{Failure, InputFault};
use pyo3::{
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyList, PyModule, PyString},
};

use super::{fault, kind_of, unknown};
use crate::{
    handler::{Handler, Mask, PlannedParam},
    plan::{MOST, Plan},
    raised,
    values::decode_json,
};

/// Texts of a call by the parameter they are for: a name may be given several times.
pub(super) struct Texts<'a> {
    known: Vec<(usize, Vec<&'a str>)>,
    others: Vec<(&'a str, &'a str)>,
}

// === impl Texts ===

impl<'a> Texts<'a> {
    pub(super) fn of(handler: &Handler, given: &'a [(String, String)]) -> Self {
        let mut texts = Self { known: Vec::new(), others: Vec::new() };
        for (name, text) in given {
            // What is said about the call, `exuvia_core::about`, is no argument of it.
            if name.starts_with(':') {
                continue;
            }
            let Some(place) = handler.find_param(name, 0) else {
                texts.others.push((name, text));
                continue;
            };
            match texts.known.iter_mut().find(|(known, _)| *known == place) {
                Some((_, several)) => several.push(text),
                None => texts.known.push((place, vec![text])),
            }
        }
        texts
    }

    /// Whether there are any that no parameter is named for.
    pub(super) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    pub(super) fn by_place(&self) -> impl Iterator<Item = (usize, &[&'a str])> {
        self.known.iter().map(|(place, texts)| (*place, texts.as_slice()))
    }
}

/// Reads texts that were given for one parameter.
pub(super) fn argument<'py>(
    python: &Bound<'py, PyModule>,
    (handler, plan): (&Handler, Option<&Plan>),
    place: usize,
    texts: &[&str],
) -> Result<Result<Bound<'py, PyAny>, Vec<InputFault>>, Failure> {
    let py = python.py();
    let param = &handler.params[place];
    if let Some(plan) = plan
        && let Some(Some(id)) = plan.params.get(place)
    {
        let read = plan.read_text(py, *id, &param.name, texts);
        return read.map_err(|error| raised::exception(python, &error));
    }
    let read = match texts {
        [text] => from_text(py, param, text),
        texts => several(py, param, texts),
    };
    Ok(read.map_err(|message| vec![fault(&param.name, message)]))
}

/// Texts that no parameter is named for go to `**kwargs`; without it they are faults.
pub(super) fn others<'py>(
    python: &Bound<'py, PyModule>,
    handler: &Handler,
    texts: &Texts<'_>,
    (keywords, faults): (&Bound<'py, PyDict>, &mut Vec<InputFault>),
) -> Result<(), Failure> {
    let py = python.py();
    let raise = |error: PyErr| raised::exception(python, &error);
    let several = PyDict::new(py);
    for (name, text) in &texts.others {
        if !handler.open_keywords {
            if faults.len() < MOST {
                faults.push(unknown(handler, name));
            }
            continue;
        }
        let value = from_any_text(py, text);
        let list = match several.get_item(name).map_err(raise)? {
            Some(list) => list.cast_into::<PyList>().map_err(|error| raise(error.into()))?,
            None => {
                if keywords.contains(name).map_err(raise)? {
                    faults.push(fault(name, "is given twice".into()));
                    continue;
                }
                let list = PyList::empty(py);
                several.set_item(name, &list).map_err(raise)?;
                list
            }
        };
        list.append(value).map_err(raise)?;
    }
    for (name, list) in several {
        let list = list.cast_into::<PyList>().map_err(|error| raise(error.into()))?;
        let value = match list.len() {
            1 => list.get_item(0).map_err(raise)?,
            _ => list.into_any(),
        };
        keywords.set_item(name, value).map_err(raise)?;
    }
    Ok(())
}

/// Texts of a name that was given several times, for a parameter that takes a list.
fn several<'py>(
    py: Python<'py>,
    param: &PlannedParam,
    texts: &[&str],
) -> Result<Bound<'py, PyAny>, String> {
    if !param.mask.has(Mask::LIST) && !param.mask.has(Mask::ANY) {
        return Err(format!("must be {}, and is given {} times", param.mask.words(), texts.len()));
    }
    let items = texts.iter().map(|text| from_any_text(py, text));
    PyList::new(py, items).map(Bound::into_any).map_err(|error| error.to_string())
}

/// Reads text by the parameter's annotation.
fn from_text<'py>(
    py: Python<'py>,
    param: &PlannedParam,
    text: &str,
) -> Result<Bound<'py, PyAny>, String> {
    let mask = param.mask;
    let string = || PyString::new(py, text).into_any();
    if mask.has(Mask::ANY) {
        return Ok(from_any_text(py, text));
    }
    if mask.has(Mask::NONE) && matches!(text, "null" | "None" | "none") {
        return Ok(py.None().into_bound(py));
    }
    if mask.has(Mask::BOOL) && matches!(text, "true" | "True" | "false" | "False") {
        return Ok(PyBool::new(py, text.eq_ignore_ascii_case("true")).to_owned().into_any());
    }
    if let Ok(value) = decode_json(py, text.as_bytes()) {
        let kind = kind_of(&value);
        let table = mask.has(Mask::TABLE) && (kind == Mask::LIST || kind == Mask::DICT);
        let number = mask.has(Mask::FLOAT) && kind == Mask::INT;
        if kind != Mask::STR && kind != Mask::BOOL && (mask.has(kind) || table || number) {
            return Ok(value);
        }
    }
    if mask.has(Mask::STR) {
        return Ok(string());
    }
    if mask.has(Mask::FLOAT) && matches!(text, "nan" | "inf" | "-inf") {
        return Ok(PyFloat::new(py, text.parse().unwrap_or(f64::NAN)).into_any());
    }
    Err(format!("must be {}, not `{text}`", mask.words()))
}

/// Text for a parameter that says nothing: JSON where it is JSON, else the text itself.
fn from_any_text<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyAny> {
    decode_json(py, text.as_bytes()).unwrap_or_else(|_| PyString::new(py, text).into_any())
}
