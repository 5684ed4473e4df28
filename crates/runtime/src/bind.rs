//! Fits a call's data to a handler's parameters: here by masks, in [`typed`] by type plans.
//!
//! The rules, in `docs/handlers.md` for users: an object gives arguments by name; anything else is
//! the first argument; an object is the first argument too where that one takes a table, or takes
//! nothing but data and is alone, unless the object names it. Arguments given as text are read by
//! the parameter's annotation. All faults are told at once.

mod text;
mod typed;

use exuvia_core::{Codec, Copied, Failure, InputFault, about, suggest::did_you_mean};
use exuvia_tables::Limits;
use pyo3::{
    intern,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyModule, PyString, PyTuple},
};

use self::text::Texts;

use crate::{
    attach::Attachments,
    bodies::{self, Gathered},
    data::Data,
    handler::{Handler, Mask, ParamKind, PlannedParam},
    plan::{MOST, escaped},
    raised,
    received::{self, Blame, Fits, Making},
    values::{DecodeOptions, decode_json, decode_ndjson, decode_value_with, exact},
};

/// What a handler is called with.
pub(crate) struct Arguments<'py> {
    pub(crate) positional: Bound<'py, PyTuple>,
    pub(crate) keywords: Option<Bound<'py, PyDict>>,
}

/// What came with a call.
pub(crate) struct Given<'a> {
    pub(crate) data: Data,
    /// Arguments as text, by name.
    pub(crate) text: &'a [(String, String)],
    /// How much reading one table may make.
    pub(crate) limits: Limits,
    /// Told what is wrong with data that is read while the handler runs.
    pub(crate) blame: Blame,
}

impl Given<'_> {
    /// What the host says of the call: see [`about`].
    fn about(&self, name: &str) -> Option<&str> {
        self.text.iter().find(|(own, _)| own == name).map(|(_, said)| said.as_str())
    }
}

/// The data of a call before it is checked.
struct Read<'py> {
    positional: Vec<Bound<'py, PyAny>>,
    keywords: Bound<'py, PyDict>,
    /// Whether types are checked: what comes from Python came with its types.
    checked: bool,
}

/// Reads a call's data and fits it to `handler`.
pub(crate) fn bind<'py>(
    python: &Bound<'py, PyModule>,
    handler: &Handler,
    given: Given<'_>,
    copies: &mut Vec<Copied>,
) -> Result<Arguments<'py>, Failure> {
    let py = python.py();
    let codec = given.data.codec;
    let plan = handler.plan(python)?;
    let texts = Texts::of(handler, given.text);
    // Data in other formats comes with types of its own.
    if let Some(plan) = plan
        && matches!(codec, Codec::Empty | Codec::Json | Codec::Ndjson)
        && given.data.feed.is_none()
        && !handler.params.is_empty()
    {
        return typed::bind(python, handler, plan, (&given, &texts), copies);
    }
    let limits = given.limits;
    let mut gathered = Gathered::default();
    if bodies::is_one(codec) {
        let media = given.about(about::MEDIA).unwrap_or_default();
        let making = &mut Making { copies, limits };
        let blame = given.blame.clone();
        gathered = bodies::gather(python, handler, &given.data, media, (making, blame))?;
        gathered.texts.extend_from_slice(given.text);
    }
    let texts = if bodies::is_one(codec) { Texts::of(handler, &gathered.texts) } else { texts };
    let mut given = match bodies::is_one(codec) {
        true => Read::none(py, true),
        false => read(python, handler, given, copies)?,
    };
    let making = &mut Making { copies, limits };
    let mut faults = gathered.faults;
    let name = |place: &usize| handler.params[*place].name.as_str();
    let mut unreadable: Vec<&str> = gathered.faulty.iter().map(name).collect();
    for (place, value) in gathered.values {
        set(python, &given.keywords, &handler.params[place], value)?;
    }
    for (place, texts) in texts.by_place() {
        let param = &handler.params[place];
        if given.keywords.contains(&param.key).unwrap_or(false) {
            faults.push(fault(&param.name, "is given twice".into()));
            continue;
        }
        match text::argument(python, (handler, plan), place, texts)? {
            Ok(value) => set(python, &given.keywords, param, value)?,
            Err(found) => {
                faults.extend(found);
                unreadable.push(param.name.as_str());
            }
        }
    }
    text::others(python, handler, &texts, (&given.keywords, &mut faults))?;
    check(python, handler, &mut given, &unreadable, (&mut faults, making))?;
    refuse(faults)?;
    finish(python, handler, given)
}

/// Ends a call with faults, if there are any.
fn refuse(mut faults: Vec<InputFault>) -> Result<(), Failure> {
    faults.truncate(MOST);
    if faults.is_empty() { Ok(()) } else { Err(Failure::Input { faults }) }
}

/// The data as positional and named arguments.
fn read<'py>(
    python: &Bound<'py, PyModule>,
    handler: &Handler,
    given: Given<'_>,
    copies: &mut Vec<Copied>,
) -> Result<Read<'py>, Failure> {
    let py = python.py();
    let Given { data, limits, blame, .. } = given;
    let codec = data.codec;
    let body = data.bytes();
    let malformed = |error| raised::malformed(python, &error);
    let value = match codec {
        Codec::Empty => return Ok(Read::none(py, true)),
        Codec::Json if data.feed.is_none() => decode_json(py, body).map_err(malformed)?,
        Codec::Ndjson if data.feed.is_none() => {
            decode_ndjson(py, body).map_err(malformed)?.into_any()
        }
        Codec::Value | Codec::Arguments => {
            // Bytes from outside are never unpickled; arguments come from our own Python front.
            let options = DecodeOptions { pickle: codec == Codec::Arguments };
            let attachments = Attachments::of(&data, limits);
            let value = decode_value_with(py, body, options, &attachments).map_err(malformed)?;
            copies.extend(attachments.copies());
            value
        }
        _ => {
            let param = handler.params.first();
            let table = received::table(python, param, data, (limits, blame), copies)?;
            return first(python, handler, table);
        }
    };
    if codec == Codec::Arguments {
        return from_python(&value).map_err(|error| Failure::Malformed {
            message: format!("not the arguments of a Python call: {error}"),
        });
    }
    let checked = codec != Codec::Value;
    match value.cast_into_exact::<PyDict>() {
        Ok(object) => {
            let whole = handler.whole.map(|place| &handler.params[place]);
            let names_it = |param: &PlannedParam| object.contains(&param.key).unwrap_or(false);
            Ok(match whole {
                Some(param) if !names_it(param) => {
                    Read { positional: vec![object.into_any()], ..Read::none(py, checked) }
                }
                _ => Read { positional: vec![], keywords: object, checked },
            })
        }
        Err(other) => {
            let mut read = first(python, handler, other.into_inner())?;
            read.checked = checked;
            Ok(read)
        }
    }
}

/// Data as the first argument.
fn first<'py>(
    python: &Bound<'py, PyModule>,
    handler: &Handler,
    value: Bound<'py, PyAny>,
) -> Result<Read<'py>, Failure> {
    let py = python.py();
    if !handler.open_positional && handler.params.is_empty() {
        let message = match handler.open_keywords {
            true => "the handler takes arguments by name: send an object",
            false => "the handler takes no arguments: send no data",
        };
        return Err(Failure::input("", message));
    }
    // A first parameter that only goes by name gets it by name.
    match handler.params.first() {
        Some(param) if param.kind == ParamKind::KeywordOnly => {
            let read = Read::none(py, true);
            set(python, &read.keywords, param, value)?;
            Ok(read)
        }
        _ => Ok(Read { positional: vec![value], ..Read::none(py, true) }),
    }
}

/// `[[positional...], {keyword: value}]`, as our own Python front writes it.
fn from_python<'py>(value: &Bound<'py, PyAny>) -> PyResult<Read<'py>> {
    let positional = value.get_item(0)?.extract()?;
    let keywords = value.get_item(1)?.cast_into::<PyDict>()?;
    Ok(Read { positional, keywords, checked: false })
}

/// Looks at each argument once: known, given once, of a type that is taken; and at what is missing.
/// What was given but is `unreadable` is not missing too.
fn check<'py>(
    python: &Bound<'py, PyModule>,
    handler: &Handler,
    given: &mut Read<'py>,
    unreadable: &[&str],
    (faults, making): (&mut Vec<InputFault>, &mut Making<'_>),
) -> Result<(), Failure> {
    let mut required = 0;
    let is_named = |param: &&PlannedParam| param.kind != ParamKind::KeywordOnly;
    let places = handler.params.iter().filter(is_named).count();
    if given.positional.len() > places && !handler.open_positional {
        let (got, s) = (given.positional.len(), if places == 1 { "" } else { "s" });
        faults
            .push(fault("", format!("the handler takes {places} argument{s} by place, not {got}")));
    }
    // What comes after the places goes into `*args`, whatever parameters follow that.
    for (value, param) in given.positional.iter_mut().zip(handler.params.iter().take(places)) {
        required += usize::from(param.required);
        if given.keywords.contains(&param.key).unwrap_or(false) {
            faults.push(fault(&param.name, "is given twice".into()));
        }
        if let Some(better) = fit(python, param, value, given.checked, (faults, making))? {
            *value = better;
        }
    }
    for value in given.positional.iter_mut().skip(places).filter(|_| given.checked) {
        *value = received::unnamed(python, value, making)?;
    }
    let mut changed = Vec::new();
    for (key, value) in given.keywords.iter() {
        let Some(param) = find(handler, &key) else {
            if !handler.open_keywords && faults.len() < MOST {
                faults.push(unknown(handler, &key.to_string()));
            }
            continue;
        };
        required += usize::from(param.required);
        if let Some(better) = fit(python, param, &value, given.checked, (faults, making))? {
            changed.push((key, better));
        }
    }
    for (key, value) in changed {
        given.keywords.set_item(key, value).map_err(|error| raised::exception(python, &error))?;
    }
    if required < handler.required {
        for (place, param) in handler.params.iter().enumerate() {
            let by_place = param.kind != ParamKind::KeywordOnly && place < given.positional.len();
            let by_name = given.keywords.contains(&param.key).unwrap_or(false)
                || unreadable.contains(&param.name.as_str());
            if param.required && !by_place && !by_name {
                faults.push(fault(&param.name, "is missing".into()));
            }
        }
    }
    Ok(())
}

/// Moves what can only be given by place out of the names.
fn finish<'py>(
    python: &Bound<'py, PyModule>,
    handler: &Handler,
    mut given: Read<'py>,
) -> Result<Arguments<'py>, Failure> {
    let raise = |error: PyErr| raised::exception(python, &error);
    if handler.has_positional_only {
        for param in handler.params.iter().skip(given.positional.len()) {
            if param.kind != ParamKind::PositionalOnly {
                break;
            }
            match given.keywords.get_item(&param.key).map_err(raise)? {
                Some(value) => {
                    given.keywords.del_item(&param.key).map_err(raise)?;
                    given.positional.push(value);
                }
                // One left to its default: no later one can be given by place.
                None => break,
            }
        }
    }
    let py = python.py();
    let positional = match given.positional.is_empty() {
        true => PyTuple::empty(py),
        false => PyTuple::new(py, given.positional).map_err(raise)?,
    };
    let keywords = (!given.keywords.is_empty()).then_some(given.keywords);
    Ok(Arguments { positional, keywords })
}

/// Checks one argument; returns what to give instead, where something else is to be given.
fn fit<'py>(
    python: &Bound<'py, PyModule>,
    param: &PlannedParam,
    value: &Bound<'py, PyAny>,
    checked: bool,
    (faults, making): (&mut Vec<InputFault>, &mut Making<'_>),
) -> Result<Option<Bound<'py, PyAny>>, Failure> {
    let mask = param.mask;
    let kind = kind_of(value);
    // A table that a Python program passes to who asks for nothing stays what it is.
    if (kind == Mask(0) && checked) || param.table.is_some() {
        let wants = |kind| !mask.has(kind) && !mask.has(Mask::ANY);
        let is_rows = (kind == Mask::LIST || kind == Mask::DICT) && wants(kind);
        match received::argument(python, param, value, is_rows, making)? {
            Fits::AsItIs => {}
            Fits::As(table) => return Ok(Some(table)),
            Fits::Not(message) => {
                faults.push(fault(&param.name, message));
                return Ok(None);
            }
        }
    }
    if mask.has(Mask::ANY) || mask.has(kind) {
        return Ok(None);
    }
    if mask.has(Mask::FLOAT) && kind == Mask::INT {
        // JSON knows no difference; Python's own conversion says when one is too large.
        return match value.extract::<f64>() {
            Ok(number) => Ok(Some(PyFloat::new(value.py(), number).into_any())),
            Err(_) => {
                faults.push(fault(&param.name, "is too large for a float".into()));
                Ok(None)
            }
        };
    }
    // A number without a fraction is an integer, however it is written.
    if mask.has(Mask::INT)
        && checked
        && let Some(number) = exact::<PyFloat>(value)
        && number.value().fract() == 0.0
    {
        let whole = value.call_method0(intern!(value.py(), "__int__"));
        return whole.map(Some).map_err(|error| raised::exception(python, &error));
    }
    // So does a number without a fraction, whatever JSON makes of it.
    if mask.has(Mask::INT)
        && kind == Mask::FLOAT
        && let Ok(true) = value.call_method0("is_integer").and_then(|whole| whole.is_truthy())
    {
        return value
            .call_method0("__int__")
            .map(Some)
            .map_err(|error| raised::exception(python, &error));
    }
    if checked {
        faults
            .push(fault(&param.name, format!("must be {}, not {}", mask.words(), a(kind, value))));
    }
    Ok(None)
}

fn kind_of(value: &Bound<'_, PyAny>) -> Mask {
    if value.is_exact_instance_of::<PyString>() {
        Mask::STR
    } else if value.is_exact_instance_of::<PyInt>() {
        Mask::INT
    } else if value.is_exact_instance_of::<PyFloat>() {
        Mask::FLOAT
    } else if value.is_exact_instance_of::<PyDict>() {
        Mask::DICT
    } else if value.is_exact_instance_of::<PyList>() {
        Mask::LIST
    } else if value.is_exact_instance_of::<PyBool>() {
        Mask::BOOL
    } else if value.is_none() {
        Mask::NONE
    } else {
        Mask(0)
    }
}

fn a(kind: Mask, value: &Bound<'_, PyAny>) -> String {
    match kind {
        Mask(0) => match value.get_type().qualname() {
            Ok(name) => format!("a {name}"),
            Err(_) => "that".into(),
        },
        Mask::BOOL => value.to_string().to_lowercase(),
        kind => kind.words(),
    }
}

fn find<'h>(handler: &'h Handler, key: &Bound<'_, PyAny>) -> Option<&'h PlannedParam> {
    let same = |param: &&PlannedParam| param.key.as_ptr() == key.as_ptr();
    handler.params.iter().find(same).or_else(|| {
        let key = key.cast::<PyString>().ok()?;
        let key = key.to_str().ok()?;
        handler.params.iter().find(|param| param.name == key)
    })
}

fn set<'py>(
    python: &Bound<'py, PyModule>,
    keywords: &Bound<'py, PyDict>,
    param: &PlannedParam,
    value: Bound<'py, PyAny>,
) -> Result<(), Failure> {
    keywords.set_item(&param.key, value).map_err(|error| raised::exception(python, &error))
}

fn unknown(handler: &Handler, name: &str) -> InputFault {
    let names: Vec<&str> = handler.params.iter().map(|param| param.name.as_str()).collect();
    let near = did_you_mean(name, names.iter().copied());
    fault(name, format!("there is no parameter of this name.{near}"))
}

fn fault(name: &str, message: String) -> InputFault {
    let pointer = match name {
        "" => String::new(),
        name => format!("/{}", escaped(name)),
    };
    InputFault { pointer, message }
}

impl<'py> Read<'py> {
    fn none(py: Python<'py>, checked: bool) -> Self {
        Self { positional: vec![], keywords: PyDict::new(py), checked }
    }
}
