//! Strings as values of a type.

use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use pyo3::{
    exceptions::{PyArithmeticError, PyAssertionError, PyTypeError, PyValueError},
    ffi, intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyString, PyTuple},
};

use super::{
    fault::Fault,
    node::{Node, Scalar},
    times::{self, Clock, Date},
};
use crate::values::{Lazy, new};

static DATE: Lazy = Lazy::new("datetime", "date");
static TIME: Lazy = Lazy::new("datetime", "time");
static DATETIME: Lazy = Lazy::new("datetime", "datetime");
static TIMEDELTA: Lazy = Lazy::new("datetime", "timedelta");
static TIMEZONE: Lazy = Lazy::new("datetime", "timezone");
static DECIMAL: Lazy = Lazy::new("decimal", "Decimal");
static UUID: Lazy = Lazy::new("uuid", "UUID");

/// The bits that the last letter has too many are not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What became of a string.
pub(super) enum Taken<'py> {
    Value(Bound<'py, PyAny>),
    /// It is not what its words say.
    Misfit,
    /// It is, but out of bounds.
    Not(Fault),
}

/// A string of JSON as what a node takes; `None` where it takes no string at all.
pub(super) fn from_string<'py>(
    py: Python<'py>,
    node: &Node,
    text: &str,
) -> PyResult<Option<Taken<'py>>> {
    let made = match node {
        Node::Any => return Ok(Some(Taken::Value(string(py, text)?))),
        Node::Str(bounds) => {
            let value = string(py, text)?;
            if let Some(bounds) = bounds
                && let Some(message) = bounds.check(&value, || text.chars().count(), "character")?
            {
                return Ok(Some(Taken::Not(Fault::new(message))));
            }
            return Ok(Some(Taken::Value(value)));
        }
        Node::Bytes(bounds) => {
            let Ok(bytes) = BASE64.decode(text) else { return Ok(Some(Taken::Misfit)) };
            let value = new::bytes(py, &bytes)?.into_any();
            if let Some(bounds) = bounds
                && let Some(message) = bounds.check(&value, || bytes.len(), "byte")?
            {
                return Ok(Some(Taken::Not(Fault::new(message))));
            }
            return Ok(Some(Taken::Value(value)));
        }
        Node::Decimal(bounds) => {
            let Some(value) = decimal(py, text)? else { return Ok(Some(Taken::Misfit)) };
            if let Some(bounds) = bounds
                && let Some(message) = bounds.check(&value)?
            {
                return Ok(Some(Taken::Not(Fault::new(message))));
            }
            Some(value)
        }
        Node::DateTime => times::datetime(text).map(|time| datetime(py, time, text)).transpose()?,
        Node::Date => match times::date(text) {
            Some(_) => Some(call(FROM_ISO.date(py)?, &string(py, text)?)?),
            None => None,
        },
        Node::Time => times::time(text).map(|clock| time(py, clock)).transpose()?,
        Node::TimeDelta => match times::duration(text) {
            Some(parts) => {
                Some(TIMEDELTA.get(py)?.call1((parts.days, parts.seconds, parts.micros))?)
            }
            None => None,
        },
        Node::Uuid => times::uuid(text).map(|digits| uuid(py, &digits)).transpose()?,
        Node::Text(made) => match call(made.make.bind(py), &string(py, text)?) {
            Ok(value) => Some(value),
            Err(error) if is_refusal(py, &error) => None,
            Err(error) => return Err(error),
        },
        Node::Choice(choice) => {
            let same = |value: &Scalar| matches!(value, Scalar::Str(value) if **value == *text);
            let option = choice.options.iter().find(|option| same(&option.value));
            option.map(|option| option.object.bind(py).clone())
        }
        _ => return Ok(None),
    };
    Ok(Some(made.map_or(Taken::Misfit, Taken::Value)))
}

/// Whether an error is a class's or function's way to refuse a value.
pub(super) fn is_refusal(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyValueError>(py)
        || error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyAssertionError>(py)
}

pub(super) fn string<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    Ok(PyString::from_bytes(py, text.as_bytes())?.into_any())
}

/// A decimal number by its digits.
pub(super) fn decimal<'py>(py: Python<'py>, text: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    if !times::is_decimal(text) {
        return Ok(None);
    }
    match call(DECIMAL.get(py)?, &string(py, text)?) {
        Ok(decimal) if !text.contains(['e', 'E']) => Ok(Some(decimal)),
        Ok(decimal) => {
            // An exponent beyond all bounds, where the trap for it is switched off.
            let finite = decimal.call_method0(intern!(py, "is_finite"))?.is_truthy()?;
            Ok(finite.then_some(decimal))
        }
        Err(error) if error.is_instance_of::<PyArithmeticError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `fromisoformat` of the two classes: it takes much else besides, but what it takes it reads five
/// times as fast as the classes take numbers.
struct FromIso {
    date: PyOnceLock<Py<PyAny>>,
    datetime: PyOnceLock<Py<PyAny>>,
}

static FROM_ISO: FromIso = FromIso { date: PyOnceLock::new(), datetime: PyOnceLock::new() };

impl FromIso {
    fn date<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let found = self
            .date
            .get_or_try_init(py, || DATE.get(py)?.getattr("fromisoformat").map(Bound::unbind))?;
        Ok(found.bind(py))
    }

    fn datetime<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        let found = self.datetime.get_or_try_init(py, || {
            DATETIME.get(py)?.getattr("fromisoformat").map(Bound::unbind)
        })?;
        Ok(found.bind(py))
    }
}

/// The datetime that `text` was found to be.
fn datetime<'py>(
    py: Python<'py>,
    (date, clock): (Date, Clock),
    text: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let upper = !text.bytes().any(|byte| byte.is_ascii_lowercase());
    if upper && matches!(clock.digits, 0 | 3 | 6) {
        return call(FROM_ISO.datetime(py)?, &string(py, text)?);
    }
    let class = DATETIME.get(py)?;
    let Clock { hour, minute, second, micros, .. } = clock;
    let Date { year, month, day } = date;
    let zone = zone(py, clock.offset)?;
    class.call1((year, month, day, hour, minute, second, micros, zone))
}

fn time<'py>(py: Python<'py>, clock: Clock) -> PyResult<Bound<'py, PyAny>> {
    let Clock { hour, minute, second, micros, offset, .. } = clock;
    TIME.get(py)?.call1((hour, minute, second, micros, zone(py, offset)?))
}

fn zone(py: Python<'_>, offset: Option<i16>) -> PyResult<Option<Bound<'_, PyAny>>> {
    static UTC: Lazy = Lazy::new("datetime", "UTC");
    match offset {
        None => Ok(None),
        Some(0) => Ok(Some(UTC.get(py)?.clone())),
        Some(minutes) => {
            let offset = TIMEDELTA.get(py)?.call1((0, i32::from(minutes) * 60))?;
            TIMEZONE.get(py)?.call1((offset,)).map(Some)
        }
    }
}

/// What is needed to make a UUID without its Python code, which takes longer than all else here.
struct Uuids {
    class: Py<PyAny>,
    unknown: Py<PyAny>,
    /// Whether instances have the two slots that Python's own `__init__` sets.
    plain: bool,
}

fn uuid<'py>(py: Python<'py>, digits: &[u8; 33]) -> PyResult<Bound<'py, PyAny>> {
    static UUIDS: PyOnceLock<Uuids> = PyOnceLock::new();
    let uuids = UUIDS.get_or_try_init(py, || {
        let class = UUID.get(py)?.clone();
        let slots: Option<Vec<String>> =
            class.getattr_opt("__slots__")?.and_then(|slots| slots.extract().ok());
        let unknown = py.import("uuid")?.getattr("SafeUUID")?.getattr("unknown")?;
        let plain = slots.is_some_and(|slots| slots.iter().take(2).eq(["int", "is_safe"].iter()));
        PyResult::Ok(Uuids { class: class.unbind(), unknown: unknown.unbind(), plain })
    })?;
    let class = uuids.class.bind(py);
    if !uuids.plain {
        return class.call1((String::from_utf8_lossy(&digits[..32]),));
    }
    let made = bare(class.cast()?)?;
    set(&made, intern!(py, "int"), &wide(py, digits)?)?;
    set(&made, intern!(py, "is_safe"), uuids.unknown.bind(py))?;
    Ok(made)
}

/// The int of 32 hexadecimal digits and a zero byte.
fn wide<'py>(py: Python<'py>, digits: &[u8; 33]) -> PyResult<Bound<'py, PyAny>> {
    // JUSTIFICATION: where the ABI is the limited one, PyO3 does this by arithmetic in Python.
    // SAFETY: `times::uuid` ends the digits with a zero byte; null stands for "do not tell where they end". It
    // answers with a new reference, or null and an exception set.
    unsafe {
        let made = ffi::PyLong_FromString(digits.as_ptr().cast(), std::ptr::null_mut(), 16);
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// Calls with one argument.
#[inline]
pub(super) fn call<'py>(
    callable: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let end = std::ptr::null_mut::<ffi::PyObject>();
    // JUSTIFICATION: PyO3 makes a tuple for each call where the ABI is the limited one, which takes
    // as long as what is called here.
    // SAFETY: both are live objects, and null ends the arguments. It answers with a new reference, or
    // null and an exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(
            callable.py(),
            ffi::PyObject_CallFunctionObjArgs(callable.as_ptr(), argument.as_ptr(), end),
        )
    }
}

/// An instance of a class whose `__new__` is `object`'s, with nothing in it.
#[inline]
pub(super) fn bare<'py>(class: &Bound<'py, pyo3::types::PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let empty = PyTuple::empty(py);
    // JUSTIFICATION: by `object.__new__` as an attribute it takes several times as long.
    // SAFETY: `class` is a live type; every type that can have instances has a `tp_new`, and a null
    // is looked for; it takes a tuple of arguments, and null for those by name. It answers with a
    // new reference, or null and an exception set.
    unsafe {
        let new = ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_new);
        if new.is_null() {
            return class.call0();
        }
        let new: ffi::newfunc = std::mem::transmute(new);
        Bound::from_owned_ptr_or_err(
            py,
            new(class.as_type_ptr(), empty.as_ptr(), std::ptr::null_mut()),
        )
    }
}

/// Sets an attribute as `object.__setattr__` does, whatever the class has in its place.
#[inline]
pub(super) fn set<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    value: &Bound<'py, PyAny>,
) -> PyResult<()> {
    // JUSTIFICATION: a frozen class has a `__setattr__` that refuses; this is what its own `__init__`
    // calls, through Python.
    // SAFETY: all three are live objects, `name` a str; the answer is 0, or -1 and an exception set.
    let done =
        unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value.as_ptr()) };
    match done {
        0 => Ok(()),
        _ => Err(PyErr::fetch(object.py())),
    }
}
