//! The extensions of MessagePack back to the rarer types.

use pyo3::{
    intern,
    prelude::*,
    types::{IntoPyDict, PyComplex, PyFrozenSet, PyInt, PyRange, PySet, PyTuple},
};

use super::{
    crowd::Crowd,
    decode::{Decoded, Decoder, TOO_DENSE},
    ext::{
        DATE, DATETIME, DECIMAL, FOLD, FRACTION, LOADS, SAFE_UUID, TIME, TIMEDELTA, TIMEZONE, UUID,
        ZONEINFO, number, zone,
    },
};
use crate::values::{DecodeError, object::new};

// === impl Decoder ===

impl<'a, 'py> Decoder<'a, 'py> {
    /// The extension value whose bytes are all that is left; `start` is where it began.
    pub(super) fn ext(&mut self, number: i8, start: usize, depth: u32) -> Decoded<'py> {
        let py = self.py;
        match number {
            number::INT => self.big_int(start),
            number::COMPLEX => {
                let (real, imaginary) = (self.array()?, self.array()?);
                let (real, imaginary) = (f64::from_be_bytes(real), f64::from_be_bytes(imaginary));
                Ok(PyComplex::from_doubles(py, real, imaginary).into_any())
            }
            number::SURROGATE_STR => {
                let text = new::surrogate_str(py, self.take_rest());
                text.map_err(|error| DecodeError::blame(py, error, "a str is not UTF-8", start))
            }
            number::BYTEARRAY => Ok(new::bytearray(py, self.take_rest())?.into_any()),
            number::TUPLE => {
                let items = self.items(depth)?;
                Ok(PyTuple::new(py, items.into_iter().map(|(_, item)| item))?.into_any())
            }
            number::SET => self.set(depth),
            // There is no adding to a frozenset, so it starts as a set.
            number::FROZENSET => Ok(py.get_type::<PyFrozenSet>().call1((self.set(depth)?,))?),
            number::DATE => {
                let date = self.date()?;
                DATE.get(py)?.call1(date).map_err(|error| self.blame(error, "date", start))
            }
            number::TIME => self.time(start),
            number::DATETIME => self.datetime(start),
            number::TIMEDELTA => self.timedelta(start),
            number::DECIMAL => self.decimal(start),
            number::FRACTION => {
                let (numerator, denominator) = (self.int()?, self.int()?);
                let made = FRACTION.get(py)?.call1((numerator, denominator));
                made.map_err(|error| self.blame(error, "Fraction", start))
            }
            number::UUID => self.uuid(start),
            number::RANGE => {
                let parts = (self.int()?, self.int()?, self.int()?);
                let made = py.get_type::<PyRange>().call1(parts);
                made.map_err(|error| self.blame(error, "range", start))
            }
            number::PICKLE => self.unpickle(start),
            number::TABLE => {
                let body = self.take_rest();
                let table = self.attachments.table(py, body)?;
                table.map_err(|why| DecodeError::new(why, start))
            }
            number::TENSOR => {
                let body = self.take_rest();
                let tensor = self.attachments.tensor(py, body)?;
                tensor.map_err(|why| DecodeError::new(why, start))
            }
            unknown => {
                Err(DecodeError::new(format!("extension type {unknown} is not known here"), start))
            }
        }
    }

    fn blame(&self, error: PyErr, what: &str, start: usize) -> DecodeError {
        DecodeError::blame(self.py, error, &format!("this is no {what}"), start)
    }

    fn big_int(&mut self, start: usize) -> Decoded<'py> {
        let bytes = self.take_rest();
        if bytes.is_empty() {
            return Err(DecodeError::new("an int without bytes", start));
        }
        let py = self.py;
        let signed = [("signed", true)].into_py_dict(py)?;
        let int = py.get_type::<PyInt>();
        Ok(int.call_method(
            intern!(py, "from_bytes"),
            (new::bytes(py, bytes)?, "big"),
            Some(&signed),
        )?)
    }

    /// A value that has to be an int.
    fn int(&mut self) -> Decoded<'py> {
        let start = self.position;
        // No container is an int, so none is gone into.
        let number = self.value(crate::values::MAX_DEPTH)?;
        if number.is_exact_instance_of::<PyInt>() {
            Ok(number)
        } else {
            Err(DecodeError::new("an int belongs here", start))
        }
    }

    fn set(&mut self, depth: u32) -> Decoded<'py> {
        let set = PySet::empty(self.py)?;
        let items = self.items(depth)?;
        let mut crowd = Crowd::of(items.len());
        for (index, (start, element)) in items.into_iter().enumerate() {
            if crowd.is_too_dense(&element).unwrap_or(false) {
                return Err(DecodeError::new(TOO_DENSE, start));
            }
            set.add(element).map_err(|error| {
                DecodeError::blame(self.py, error, "this element cannot be one", start)
            })?;
            if set.len() != index + 1 {
                return Err(DecodeError::new("an element appears twice in one set", start));
            }
        }
        Ok(set.into_any())
    }

    fn date(&mut self) -> Result<(u16, u8, u8), DecodeError> {
        Ok((u16::from_be_bytes(self.array()?), self.byte()?, self.byte()?))
    }

    fn clock(&mut self) -> Result<(u8, u8, u8, u32, u8), DecodeError> {
        let [hour, minute, second, flags] = self.array()?;
        if flags & !FOLD != 0 {
            return Err(self.wrong("a time has flags that are not known here"));
        }
        Ok((hour, minute, second, u32::from_be_bytes(self.array()?), flags & FOLD))
    }

    fn time(&mut self, start: usize) -> Decoded<'py> {
        let py = self.py;
        let (hour, minute, second, micros, fold) = self.clock()?;
        let zone = self.zone(start)?;
        let fold = [("fold", fold)].into_py_dict(py)?;
        let made = TIME.get(py)?.call((hour, minute, second, micros, zone), Some(&fold));
        made.map_err(|error| self.blame(error, "time", start))
    }

    fn datetime(&mut self, start: usize) -> Decoded<'py> {
        let py = self.py;
        let (year, month, day) = self.date()?;
        let (hour, minute, second, micros, fold) = self.clock()?;
        let zone = self.zone(start)?;
        let fold = [("fold", fold)].into_py_dict(py)?;
        let parts = (year, month, day, hour, minute, second, micros, zone);
        let made = DATETIME.get(py)?.call(parts, Some(&fold));
        made.map_err(|error| self.blame(error, "datetime", start))
    }

    /// The zone that fills the rest of a time; nothing at all is a naive time.
    fn zone(&mut self, start: usize) -> Result<Option<Bound<'py, PyAny>>, DecodeError> {
        let py = self.py;
        if self.position == self.data.len() {
            return Ok(None);
        }
        let zone = match self.byte()? {
            zone::UTC => TIMEZONE.get(py)?.getattr(intern!(py, "utc")).map_err(DecodeError::from),
            zone::OFFSET => {
                let offset = self.offset(start)?;
                TIMEZONE.get(py)?.call1((offset,)).map_err(|e| self.blame(e, "time zone", start))
            }
            zone::NAMED_OFFSET => {
                let offset = self.offset(start)?;
                let name = self.rest_text(start)?;
                let made = TIMEZONE.get(py)?.call1((offset, name));
                made.map_err(|error| self.blame(error, "time zone", start))
            }
            zone::KEY => {
                let key = self.rest_text(start)?;
                let made = ZONEINFO.get(py)?.call1((key,));
                made.map_err(|error| {
                    let what = format!("the time zone {key:?} is not to be had here");
                    DecodeError::blame(py, error, &what, start)
                })
            }
            kind => Err(DecodeError::new(format!("zone kind {kind} is not known here"), start)),
        };
        zone.map(Some)
    }

    fn offset(&mut self, start: usize) -> Decoded<'py> {
        let microseconds = i64::from_be_bytes(self.array()?);
        let made = TIMEDELTA.get(self.py)?.call1((0, 0, microseconds));
        made.map_err(|error| self.blame(error, "time zone", start))
    }

    fn rest_text(&mut self, start: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.take_rest())
            .map_err(|_| DecodeError::new("a name is not UTF-8", start))
    }

    fn timedelta(&mut self, start: usize) -> Decoded<'py> {
        let days = i32::from_be_bytes(self.array()?);
        let seconds = u32::from_be_bytes(self.array()?);
        let micros = u32::from_be_bytes(self.array()?);
        if seconds >= 86_400 || micros >= 1_000_000 {
            return Err(DecodeError::new("this is no timedelta: a part of it is too large", start));
        }
        let made = TIMEDELTA.get(self.py)?.call1((days, seconds, micros));
        made.map_err(|error| self.blame(error, "timedelta", start))
    }

    fn decimal(&mut self, start: usize) -> Decoded<'py> {
        let text = self.rest_text(start)?;
        // Python would also take blanks, underscores and the digits of other scripts.
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let not_a_decimal = || DecodeError::new("this is no Decimal", start);
        if !plain {
            return Err(not_a_decimal());
        }
        let made = DECIMAL.get(self.py)?.call1((text,));
        let decimal = made.map_err(|error| self.blame(error, "Decimal", start))?;
        // Where a program has switched the trap off, nonsense becomes NaN instead of an error.
        let nan: bool = decimal.call_method0(intern!(self.py, "is_nan"))?.extract()?;
        if nan && !text.bytes().any(|byte| byte.eq_ignore_ascii_case(&b'a')) {
            return Err(not_a_decimal());
        }
        Ok(decimal)
    }

    fn uuid(&mut self, start: usize) -> Decoded<'py> {
        let py = self.py;
        let bytes = new::bytes(py, self.take(16)?)?;
        let arguments = [("bytes", bytes.into_any())].into_py_dict(py)?;
        if self.position < self.data.len() {
            let name = match self.byte()? {
                0 => intern!(py, "safe"),
                1 => intern!(py, "unsafe"),
                _ => return Err(DecodeError::new("a UUID with an unknown safety", start)),
            };
            arguments.set_item("is_safe", SAFE_UUID.get(py)?.getattr(name)?)?;
        }
        let made = UUID.get(py)?.call((), Some(&arguments));
        made.map_err(|error| self.blame(error, "UUID", start))
    }

    fn unpickle(&mut self, start: usize) -> Decoded<'py> {
        if !self.pickle {
            return Err(DecodeError::new(
                "there is a pickle here, and pickles are not read from where this came from",
                start,
            ));
        }
        let py = self.py;
        let bytes = new::bytes(py, self.take_rest())?;
        let made = LOADS.get(py)?.call1((bytes,));
        made.map_err(|error| DecodeError::blame(py, error, "this pickle could not be read", start))
    }
}
