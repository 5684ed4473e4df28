//! The rarer types, each an extension of MessagePack.

use pyo3::{
    exceptions::{PyException, PyMemoryError},
    intern,
    prelude::*,
    types::{IntoPyDict, PyBytes, PyInt, PyRange, PyString, PyType},
};

use super::{
    encode::Encoder,
    ext::{
        DATE, DATETIME, DECIMAL, DUMPS, FOLD, FRACTION, SAFE_UUID, TIME, TIMEDELTA, TIMEZONE, UUID,
        ZONEINFO, number, zone,
    },
};
use crate::values::{
    Unfit,
    object::{exact, type_name},
};

/// What an object of a rarer type is written as.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Date,
    Time,
    DateTime,
    TimeDelta,
    Decimal,
    Fraction,
    Uuid,
    Range,
    Other,
}

/// Room for an int, or for the header of a big one.
const INT: usize = 9;

/// A time zone of the value model.
enum Zone<'py> {
    Naive,
    Utc,
    Offset { microseconds: i64, name: Option<Bound<'py, PyString>> },
    Key(Bound<'py, PyString>),
}

// === impl Kind ===

impl Kind {
    /// Subclasses are not looked through: they may hold more than their base.
    fn of(ty: &Bound<'_, PyType>) -> Self {
        if ty.is(ty.py().get_type::<PyRange>()) {
            return Self::Range;
        }
        let classes = [
            (&DATETIME, Self::DateTime),
            (&DATE, Self::Date),
            (&TIME, Self::Time),
            (&TIMEDELTA, Self::TimeDelta),
            (&DECIMAL, Self::Decimal),
            (&UUID, Self::Uuid),
            (&FRACTION, Self::Fraction),
        ];
        classes.iter().find(|(class, _)| class.is(ty)).map_or(Self::Other, |(_, kind)| *kind)
    }
}

// === impl Encoder ===

impl<'py> Encoder<'_, '_, 'py> {
    /// An object that is none of MessagePack's own types nor a builtin container.
    pub(super) fn extension(&mut self, object: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        match self.kinds.of(object, Kind::of) {
            Kind::Date => {
                let date = self.date_bytes(object)?;
                self.ext(number::DATE, &date)
            }
            Kind::Time => self.time(object),
            Kind::DateTime => self.datetime(object),
            Kind::TimeDelta => self.timedelta(object),
            Kind::Decimal => {
                let text = object.str()?;
                self.ext(number::DECIMAL, text.to_str()?.as_bytes())
            }
            Kind::Fraction => self.fraction(object),
            Kind::Uuid => self.uuid(object),
            Kind::Range => self.range(object),
            Kind::Other => match self.attached(object)? {
                Some((number, body)) => self.ext(number, &body),
                None => self.other(object, ""),
            },
        }
    }

    /// A table or a tensor, where those are written.
    fn attached(&mut self, object: &Bound<'py, PyAny>) -> Result<Option<(i8, Vec<u8>)>, Unfit> {
        match &mut self.attacher {
            Some(attacher) => attacher.extension(object),
            None => Ok(None),
        }
    }

    /// Two's complement, big end first, as many bytes as it takes.
    pub(super) fn big_int(&mut self, number: &Bound<'py, PyInt>) -> Result<(), Unfit> {
        let py = self.py;
        let bits: usize = number.call_method0(intern!(py, "bit_length"))?.extract()?;
        let signed = [("signed", true)].into_py_dict(py)?;
        let bytes =
            number.call_method(intern!(py, "to_bytes"), (bits / 8 + 1, "big"), Some(&signed))?;
        self.ext(number::INT, bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes())
    }

    fn date_bytes(&self, date: &Bound<'py, PyAny>) -> PyResult<[u8; 4]> {
        let py = self.py;
        let [high, low] = date.getattr(intern!(py, "year"))?.extract::<u16>()?.to_be_bytes();
        let month = date.getattr(intern!(py, "month"))?.extract()?;
        let day = date.getattr(intern!(py, "day"))?.extract()?;
        Ok([high, low, month, day])
    }

    fn time_bytes(&self, time: &Bound<'py, PyAny>) -> PyResult<[u8; 8]> {
        let py = self.py;
        let hour = time.getattr(intern!(py, "hour"))?.extract()?;
        let minute = time.getattr(intern!(py, "minute"))?.extract()?;
        let second = time.getattr(intern!(py, "second"))?.extract()?;
        let micros: u32 = time.getattr(intern!(py, "microsecond"))?.extract()?;
        let fold: u8 = time.getattr(intern!(py, "fold"))?.extract()?;
        let [a, b, c, d] = micros.to_be_bytes();
        Ok([hour, minute, second, if fold == 1 { FOLD } else { 0 }, a, b, c, d])
    }

    fn time(&mut self, time: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let Some(zone) = self.zone(time)? else { return self.other(time, &odd_zone(time)) };
        let mut bytes = self.time_bytes(time)?.to_vec();
        zone.write(&mut bytes)?;
        self.ext(number::TIME, &bytes)
    }

    fn datetime(&mut self, datetime: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let Some(zone) = self.zone(datetime)? else {
            return self.other(datetime, &odd_zone(datetime));
        };
        let mut bytes = self.date_bytes(datetime)?.to_vec();
        bytes.extend_from_slice(&self.time_bytes(datetime)?);
        zone.write(&mut bytes)?;
        self.ext(number::DATETIME, &bytes)
    }

    /// The zone of a time, or `None` if it is of a kind the value model does not have.
    fn zone(&self, time: &Bound<'py, PyAny>) -> PyResult<Option<Zone<'py>>> {
        let py = self.py;
        let zone = time.getattr(intern!(py, "tzinfo"))?;
        if zone.is_none() {
            return Ok(Some(Zone::Naive));
        }
        let ty = zone.get_type();
        if TIMEZONE.is(&ty) {
            if zone.is(&TIMEZONE.get(py)?.getattr(intern!(py, "utc"))?) {
                return Ok(Some(Zone::Utc));
            }
            // What `pickle` asks a timezone for: the offset, and the name if one was given.
            let given = zone.call_method0(intern!(py, "__getinitargs__"))?;
            let (days, seconds, micros) = self.delta_parts(&given.get_item(0)?)?;
            let name = match given.len()? {
                1 => None,
                _ => match given.get_item(1)?.cast_into::<PyString>() {
                    Ok(name) if name.to_str().is_ok() => Some(name),
                    _ => return Ok(None),
                },
            };
            let seconds = i64::from(days) * 86_400 + i64::from(seconds);
            let microseconds = seconds * 1_000_000 + i64::from(micros);
            return Ok(Some(Zone::Offset { microseconds, name }));
        }
        if ZONEINFO.is(&ty) {
            let key = zone.getattr(intern!(py, "key"))?;
            // A zone read from a file has no key.
            return Ok(exact::<PyString>(&key).map(|key| Zone::Key(key.clone())));
        }
        Ok(None)
    }

    fn delta_parts(&self, delta: &Bound<'py, PyAny>) -> PyResult<(i32, u32, u32)> {
        let py = self.py;
        Ok((
            delta.getattr(intern!(py, "days"))?.extract()?,
            delta.getattr(intern!(py, "seconds"))?.extract()?,
            delta.getattr(intern!(py, "microseconds"))?.extract()?,
        ))
    }

    fn timedelta(&mut self, delta: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let (days, seconds, micros) = self.delta_parts(delta)?;
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&days.to_be_bytes());
        bytes[4..8].copy_from_slice(&seconds.to_be_bytes());
        bytes[8..].copy_from_slice(&micros.to_be_bytes());
        self.ext(number::TIMEDELTA, &bytes)
    }

    fn fraction(&mut self, fraction: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let py = self.py;
        let numerator = fraction.getattr(intern!(py, "numerator"))?;
        let denominator = fraction.getattr(intern!(py, "denominator"))?;
        // A Fraction takes any rational parts, numpy's among them.
        let (Some(numerator), Some(denominator)) = (exact(&numerator), exact(&denominator)) else {
            return self.other(fraction, " with parts that are no plain int");
        };
        let opened = self.open();
        for part in [numerator, denominator] {
            Unfit::room(self.out, INT)?;
            self.int(part)?;
        }
        self.close(opened, number::FRACTION)
    }

    fn uuid(&mut self, uuid: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let py = self.py;
        let bytes = uuid.getattr(intern!(py, "bytes"))?;
        let mut bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes().to_vec();
        let safety = uuid.getattr(intern!(py, "is_safe"))?;
        let class = SAFE_UUID.get(py)?;
        if safety.is(&class.getattr(intern!(py, "safe"))?) {
            bytes.push(0);
        } else if safety.is(&class.getattr(intern!(py, "unsafe"))?) {
            bytes.push(1);
        }
        self.ext(number::UUID, &bytes)
    }

    fn range(&mut self, range: &Bound<'py, PyAny>) -> Result<(), Unfit> {
        let py = self.py;
        let opened = self.open();
        for part in [intern!(py, "start"), intern!(py, "stop"), intern!(py, "step")] {
            let number = range.getattr(part)?;
            Unfit::room(self.out, INT)?;
            self.int(number.cast::<PyInt>().map_err(PyErr::from)?)?;
        }
        self.close(opened, number::RANGE)
    }

    /// What the model has no place for; `detail` follows the type's name in the message.
    fn other(&mut self, object: &Bound<'py, PyAny>, detail: &str) -> Result<(), Unfit> {
        let name = type_name(object);
        if !self.pickle {
            return Err(Unfit::new(format!("`{name}`{detail} has no place in the value model")));
        }
        let py = self.py;
        let pickled = DUMPS.get(py)?.call1((object, 5)).map_err(|error| {
            // Python's own ways to say that an object cannot be pickled are many.
            if error.is_instance_of::<PyException>(py) && !error.is_instance_of::<PyMemoryError>(py)
            {
                Unfit::new(format!(
                    "`{name}`{detail} has no place in the value model and cannot be pickled: {error}"
                ))
            } else {
                error.into()
            }
        })?;
        self.ext(number::PICKLE, pickled.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes())
    }
}

// === impl Zone ===

impl Zone<'_> {
    fn write(&self, out: &mut Vec<u8>) -> PyResult<()> {
        match self {
            Self::Naive => {}
            Self::Utc => out.push(zone::UTC),
            Self::Offset { microseconds, name: None } => {
                out.push(zone::OFFSET);
                out.extend_from_slice(&microseconds.to_be_bytes());
            }
            Self::Offset { microseconds, name: Some(name) } => {
                out.push(zone::NAMED_OFFSET);
                out.extend_from_slice(&microseconds.to_be_bytes());
                out.extend_from_slice(name.to_str()?.as_bytes());
            }
            Self::Key(key) => {
                out.push(zone::KEY);
                out.extend_from_slice(key.to_str()?.as_bytes());
            }
        }
        Ok(())
    }
}

fn odd_zone(time: &Bound<'_, PyAny>) -> String {
    match time.getattr("tzinfo") {
        Ok(zone) => format!(" with a time zone of type `{}`", type_name(&zone)),
        Err(_) => " with an unknown time zone".to_owned(),
    }
}
