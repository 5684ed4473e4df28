//! Plain Python objects as values that a column can hold.

use std::sync::Arc;

use pyo3::{
    PyTypeCheck,
    exceptions::PyTypeError,
    intern,
    prelude::*,
    types::{
        PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString,
        PyTuple,
    },
};

use super::times::{self, DATE, DATETIME, TIME, TIMEDELTA};
use crate::values::{
    Unfit,
    object::{Lazy, Whole, index_step, text_step, type_name, whole},
};

static DECIMAL: Lazy = Lazy::new("decimal", "Decimal");
static NUMPY_SCALAR: Lazy = Lazy::new("numpy", "generic");
static NUMPY_ARRAY: Lazy = Lazy::new("numpy", "ndarray");
static PANDAS_NAT: Lazy = Lazy::new("pandas", "NaT");
static PANDAS_NA: Lazy = Lazy::new("pandas", "NA");

/// Lists and dicts inside one another; it is how a list that contains itself is noticed.
const MAX_DEPTH: u32 = 64;

/// A value, read from its object once.
#[derive(Debug)]
pub(super) enum Item<'py> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// It is known to be UTF-8.
    Text(Bound<'py, PyString>),
    Bytes(Bound<'py, PyBytes>),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Nanoseconds since 1970, with a zone in UTC.
    Instant {
        nanos: i128,
        zone: Option<Arc<str>>,
    },
    /// Nanoseconds.
    Delta(i128),
    Decimal(Decimal),
    List(Vec<Self>),
    Struct(Vec<(Bound<'py, PyString>, Self)>),
}

/// A finite decimal number: its digits times a power of ten.
#[derive(Debug)]
pub(super) struct Decimal {
    pub(super) negative: bool,
    pub(super) digits: String,
    pub(super) exponent: i64,
}

/// Reads objects, remembering what they share.
struct Reader<'py> {
    py: Python<'py>,
    /// The zone seen last, and its name.
    zone: Option<(Bound<'py, PyAny>, Arc<str>)>,
    /// The first moment of 1970, in no zone and in UTC.
    epochs: [Option<Bound<'py, PyAny>>; 2],
}

/// Reads objects; `place` names the one that has no place in a table.
pub(super) fn read<'py>(
    objects: &[Bound<'py, PyAny>],
    place: &impl Fn(usize) -> String,
) -> PyResult<Vec<Item<'py>>> {
    let Some(first) = objects.first() else { return Ok(Vec::new()) };
    let mut reader = Reader { py: first.py(), zone: None, epochs: [None, None] };
    let read = |(index, object)| reader.item(object, 0).map_err(|unfit| fault(unfit, place(index)));
    objects.iter().enumerate().map(read).collect()
}

/// What does not fit, by the place where it is: `value 3["a"]`.
pub(super) fn fault(unfit: Unfit, place: String) -> PyErr {
    match unfit {
        Unfit::Python(error) => *error,
        Unfit::Value(misfit) => {
            PyTypeError::new_err(format!("{} {}", misfit.path_from(&place), misfit.message))
        }
    }
}

// === impl Reader ===

impl<'py> Reader<'py> {
    fn item(&mut self, object: &Bound<'py, PyAny>, depth: u32) -> Result<Item<'py>, Unfit> {
        if object.is_none() {
            return Ok(Item::Null);
        }
        if let Some(truth) = a_kind::<PyBool>(object) {
            return Ok(Item::Bool(truth.is_true()));
        }
        if let Some(number) = a_kind::<PyFloat>(object) {
            return Ok(Item::Float(number.value()));
        }
        if let Some(number) = a_kind::<PyInt>(object) {
            return match whole(number)? {
                Whole::Signed(number) => Ok(Item::Int(number.into())),
                Whole::Unsigned(number) => Ok(Item::Int(number.into())),
                Whole::Big => Err(Unfit::new("is an int beyond 64 bits")),
            };
        }
        if let Some(text) = a_kind::<PyString>(object) {
            return match text.to_str() {
                Ok(_) => Ok(Item::Text(text.clone())),
                Err(_) => Err(Unfit::new("is a str with a lone surrogate")),
            };
        }
        if depth >= MAX_DEPTH {
            let message = format!("is nested deeper than {MAX_DEPTH} levels");
            return Err(Unfit::new(message));
        }
        if let Some(dict) = a_kind::<PyDict>(object) {
            return self.members(dict, depth);
        }
        if let Some(list) = a_kind::<PyList>(object) {
            return self.elements(list.iter(), depth);
        }
        if let Some(tuple) = a_kind::<PyTuple>(object) {
            return self.elements(tuple.iter(), depth);
        }
        self.rarer(object, depth)
    }

    fn members(&mut self, dict: &Bound<'py, PyDict>, depth: u32) -> Result<Item<'py>, Unfit> {
        // A copy: reading a value may run code that changes the dict.
        let members = dict.items().iter().map(|pair| {
            let (key, value): (Bound<'py, PyAny>, Bound<'py, PyAny>) = pair.extract()?;
            let Ok(key) = key.cast_into::<PyString>() else {
                return Err(Unfit::new("is a dict with keys that are no str"));
            };
            if key.to_str().is_err() {
                return Err(Unfit::new("is a dict with a lone surrogate in a key"));
            }
            let step = || text_step(&key.to_string_lossy());
            let item = self.item(&value, depth + 1).map_err(|unfit| unfit.at(step))?;
            Ok((key, item))
        });
        members.collect::<Result<_, _>>().map(Item::Struct)
    }

    fn elements(
        &mut self,
        elements: impl Iterator<Item = Bound<'py, PyAny>>,
        depth: u32,
    ) -> Result<Item<'py>, Unfit> {
        let elements = elements.enumerate().map(|(index, element)| {
            self.item(&element, depth + 1).map_err(|unfit| unfit.at(|| index_step(index)))
        });
        elements.collect::<Result<_, _>>().map(Item::List)
    }

    fn rarer(&mut self, object: &Bound<'py, PyAny>, depth: u32) -> Result<Item<'py>, Unfit> {
        let (py, ty) = (self.py, object.get_type());
        if let Some(bytes) = a_kind::<PyBytes>(object) {
            return Ok(Item::Bytes(bytes.clone()));
        }
        if object.is_instance_of::<PyByteArray>() || object.is_instance_of::<PyMemoryView>() {
            let bytes = py.get_type::<PyBytes>().call1((object,))?;
            return Ok(Item::Bytes(bytes.cast_into().map_err(PyErr::from)?));
        }
        // NaT claims to be a datetime.
        if PANDAS_NAT.is_of(&ty) || PANDAS_NA.is_of(&ty) {
            return Ok(Item::Null);
        }
        if DATETIME.is_base_of(&ty) {
            return Ok(self.instant(object)?);
        }
        if DATE.is_base_of(&ty) {
            return Ok(Item::Date(times::date_days(object)?));
        }
        if TIME.is_base_of(&ty) {
            let micros = times::time_micros(object)?;
            return micros.map(Item::Time).ok_or_else(|| Unfit::new("is a time with a zone"));
        }
        if TIMEDELTA.is_base_of(&ty) {
            return Ok(Item::Delta(times::delta_nanos(object)?));
        }
        if DECIMAL.is_base_of(&ty) {
            return decimal(object);
        }
        self.numpy(object, depth)
    }

    /// The scalars and arrays of numpy, where they have a Python object that is as much.
    fn numpy(&mut self, object: &Bound<'py, PyAny>, depth: u32) -> Result<Item<'py>, Unfit> {
        let (py, ty) = (self.py, object.get_type());
        let array = NUMPY_ARRAY.is_base_of(&ty);
        let no_place =
            || Unfit::new(format!("is {}, which no column holds", a(&type_name(object))));
        if !array && !NUMPY_SCALAR.is_base_of(&ty) {
            return Err(no_place());
        }
        let kind: String =
            object.getattr(intern!(py, "dtype"))?.getattr(intern!(py, "kind"))?.extract()?;
        let plain = if array {
            object.call_method0(intern!(py, "tolist"))?
        } else {
            object.call_method0(intern!(py, "item"))?
        };
        // Times of nanoseconds become mere numbers, and long doubles stay what they are.
        let time = matches!(kind.as_str(), "M" | "m");
        let lossy = if array { time } else { time && plain.is_instance_of::<PyInt>() };
        if lossy || NUMPY_SCALAR.is_base_of(&plain.get_type()) {
            return Err(no_place());
        }
        self.item(&plain, depth + 1)
    }

    fn instant(&mut self, datetime: &Bound<'py, PyAny>) -> PyResult<Item<'py>> {
        let py = self.py;
        let tzinfo = datetime.getattr(intern!(py, "tzinfo"))?;
        let zone = if tzinfo.is_none() { None } else { Some(self.zone_name(tzinfo)?) };
        let aware = zone.is_some();
        let epoch = &mut self.epochs[usize::from(aware)];
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => epoch.insert(times::epoch(py, aware)?),
        };
        let since = datetime.sub(&*epoch)?;
        Ok(Item::Instant { nanos: times::delta_nanos(&since)?, zone })
    }

    fn zone_name(&mut self, zone: Bound<'py, PyAny>) -> PyResult<Arc<str>> {
        if let Some((seen, name)) = &self.zone
            && seen.is(&zone)
        {
            return Ok(name.clone());
        }
        let name: Arc<str> = times::zone_name(&zone)?.into();
        self.zone = Some((zone, name.clone()));
        Ok(name)
    }
}

/// An object as a `T`, or as an instance of a class derived from it. Unlike `cast`, it makes no
/// error of a no, which is the answer more often than not.
fn a_kind<'a, 'py, T: PyTypeCheck>(object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, T>> {
    if T::type_check(object) { object.cast().ok() } else { None }
}

fn decimal<'py>(object: &Bound<'py, PyAny>) -> Result<Item<'py>, Unfit> {
    let py = object.py();
    let parts = object.call_method0(intern!(py, "as_tuple"))?;
    let (sign, digits, exponent): (u8, Vec<u8>, Bound<'_, PyAny>) = parts.extract()?;
    // NaN and infinity have a letter for an exponent.
    let Ok(exponent) = exponent.extract::<i64>() else {
        return Err(Unfit::new(format!("is the Decimal {object}, which no column holds")));
    };
    let digits: String = digits.into_iter().map(|digit| char::from(b'0' + digit)).collect();
    let digits = match digits.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_owned(),
    };
    Ok(Item::Decimal(Decimal { negative: sign == 1, digits, exponent }))
}

// === impl Item ===

impl Item<'_> {
    /// What Python calls such a value.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Text(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::Date(_) => "date",
            Self::Time(_) => "time",
            Self::Instant { zone: None, .. } => "datetime",
            Self::Instant { zone: Some(_), .. } => "datetime with a zone",
            Self::Delta(_) => "timedelta",
            Self::Decimal(_) => "Decimal",
            Self::List(_) => "list",
            Self::Struct(_) => "dict",
        }
    }
}

/// A name with its article.
pub(super) fn a(name: &str) -> String {
    let article = if name.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {name}")
}

// === impl Decimal ===

impl Decimal {
    /// Digits before and after the point.
    pub(super) fn sizes(&self) -> (i64, i64) {
        let digits = self.digits.len() as i64;
        if self.digits == "0" {
            return (0, (-self.exponent).max(0));
        }
        (digits.saturating_add(self.exponent).max(0), (-self.exponent).max(0))
    }

    /// The whole number that stands for it with `scale` digits after the point, if it is exact and
    /// has at most `precision` digits.
    pub(super) fn unscaled(&self, precision: u8, scale: i8) -> Option<String> {
        let sign = if self.negative { "-" } else { "" };
        let shift = self.exponent.checked_add(scale.into())?;
        if self.digits == "0" {
            return Some("0".to_owned());
        }
        let digits = match usize::try_from(shift) {
            Ok(zeros) if zeros + self.digits.len() > usize::from(precision) => return None,
            Ok(zeros) => format!("{}{}", self.digits, "0".repeat(zeros)),
            Err(_) => {
                let cut = usize::try_from(-shift).ok()?;
                let kept = self.digits.len().checked_sub(cut)?;
                let (kept, cut) = self.digits.split_at(kept);
                if cut.bytes().any(|digit| digit != b'0') {
                    return None;
                }
                kept.to_owned()
            }
        };
        (digits.len() <= usize::from(precision)).then(|| format!("{sign}{digits}"))
    }
}
