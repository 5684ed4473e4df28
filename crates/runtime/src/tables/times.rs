//! Arrow's times and Python's.

use arrow_schema::{DataType, TimeUnit};
use pyo3::{
    exceptions::{PyOverflowError, PyValueError},
    intern,
    prelude::*,
};

use super::types::unit_name;
use crate::values::object::Lazy;

pub(super) static DATE: Lazy = Lazy::new("datetime", "date");
pub(super) static TIME: Lazy = Lazy::new("datetime", "time");
pub(super) static DATETIME: Lazy = Lazy::new("datetime", "datetime");
pub(super) static TIMEDELTA: Lazy = Lazy::new("datetime", "timedelta");
pub(super) static TIMEZONE: Lazy = Lazy::new("datetime", "timezone");
static ZONEINFO: Lazy = Lazy::new("zoneinfo", "ZoneInfo");

const MICROS_PER_DAY: i64 = 86_400_000_000;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

type Made<'py> = PyResult<Bound<'py, PyAny>>;

/// How to make an object of a value of this type, which is a date, a time, a timestamp or a
/// duration.
pub(super) fn maker<'py>(
    py: Python<'py>,
    data_type: &DataType,
) -> PyResult<Box<dyn Fn(i64) -> Made<'py> + 'py>> {
    Ok(match data_type {
        DataType::Date32 => {
            let epoch = DATE.get(py)?.call1((1970, 1, 1))?;
            Box::new(move |days| after(&epoch, days, 0))
        }
        DataType::Date64 => {
            let epoch = DATE.get(py)?.call1((1970, 1, 1))?;
            Box::new(move |millis| match millis.rem_euclid(86_400_000) {
                0 => after(&epoch, millis.div_euclid(86_400_000), 0),
                _ => Err(PyValueError::new_err(format!("{millis} ms are no whole number of days"))),
            })
        }
        DataType::Timestamp(unit, zone) => timestamp(py, *unit, zone.as_deref())?,
        DataType::Time32(unit) | DataType::Time64(unit) => {
            let unit = *unit;
            Box::new(move |value| clock(py, micros(value, unit)?))
        }
        other => {
            let unit = super::types::unit(other).unwrap_or(TimeUnit::Microsecond);
            Box::new(move |value| {
                let micros = micros(value, unit)?;
                delta(py, micros.div_euclid(MICROS_PER_DAY), micros.rem_euclid(MICROS_PER_DAY))
            })
        }
    })
}

fn timestamp<'py>(
    py: Python<'py>,
    unit: TimeUnit,
    zone: Option<&str>,
) -> PyResult<Box<dyn Fn(i64) -> Made<'py> + 'py>> {
    let epoch = epoch(py, zone.is_some())?;
    let zone = match zone {
        Some("UTC") | None => None,
        Some(zone) => Some(self::zone(py, zone)?),
    };
    Ok(Box::new(move |value| {
        let micros = micros(value, unit)?;
        let days = micros.div_euclid(MICROS_PER_DAY);
        let made = after(&epoch, days, micros.rem_euclid(MICROS_PER_DAY))?;
        match &zone {
            Some(zone) => made.call_method1(intern!(py, "astimezone"), (zone,)),
            None => Ok(made),
        }
    }))
}

/// The first moment of 1970, in UTC or in no zone.
pub(super) fn epoch(py: Python<'_>, aware: bool) -> Made<'_> {
    let day = (1970, 1, 1);
    if !aware {
        return DATETIME.get(py)?.call1(day);
    }
    let utc = TIMEZONE.get(py)?.getattr(intern!(py, "utc"))?;
    DATETIME.get(py)?.call1((day.0, day.1, day.2, 0, 0, 0, 0, utc))
}

/// A zone by its name in Arrow: a key of the zone database, or `+02:00`.
fn zone<'py>(py: Python<'py>, name: &str) -> Made<'py> {
    if let Some(minutes) = offset_minutes(name) {
        let offset = TIMEDELTA.get(py)?.call1((0, minutes * 60))?;
        return TIMEZONE.get(py)?.call1((offset,));
    }
    ZONEINFO.get(py)?.call1((name,))
}

fn offset_minutes(name: &str) -> Option<i32> {
    let (sign, digits) = match name.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':').or_else(|| digits.split_at_checked(2))?;
    let part = |text: &str| text.parse::<i32>().ok().filter(|_| text.len() == 2);
    let minutes = if minutes.is_empty() { 0 } else { part(minutes)? };
    Some(sign * (part(hours)? * 60 + minutes))
}

/// A value of some unit as microseconds, if that is exact.
fn micros(value: i64, unit: TimeUnit) -> PyResult<i64> {
    let scaled = match unit {
        TimeUnit::Second => value.checked_mul(1_000_000),
        TimeUnit::Millisecond => value.checked_mul(1_000),
        TimeUnit::Microsecond => Some(value),
        TimeUnit::Nanosecond if value % 1_000 == 0 => Some(value / 1_000),
        TimeUnit::Nanosecond => {
            let message = format!("{value} ns are no whole microseconds, and Python has no less");
            return Err(PyValueError::new_err(message));
        }
    };
    scaled.ok_or_else(|| {
        PyOverflowError::new_err(format!("{value} {} are out of Python's range", unit_name(unit)))
    })
}

fn delta(py: Python<'_>, days: i64, micros: i64) -> Made<'_> {
    TIMEDELTA.get(py)?.call1((days, micros / 1_000_000, micros % 1_000_000))
}

/// What is some time after a moment.
fn after<'py>(start: &Bound<'py, PyAny>, days: i64, micros: i64) -> Made<'py> {
    start.add(delta(start.py(), days, micros)?)
}

fn clock(py: Python<'_>, micros: i64) -> Made<'_> {
    if !(0..MICROS_PER_DAY).contains(&micros) {
        let message = format!("{micros} us are no time of a day");
        return Err(PyValueError::new_err(message));
    }
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    TIME.get(py)?.call1((seconds / 3600, seconds / 60 % 60, seconds % 60, micros))
}

// === Python's to Arrow's ===

/// The nanoseconds of a timedelta; pandas' have more digits than Python's.
pub(super) fn delta_nanos(delta: &Bound<'_, PyAny>) -> PyResult<i128> {
    let py = delta.py();
    let days: i64 = delta.getattr(intern!(py, "days"))?.extract()?;
    let seconds: i64 = delta.getattr(intern!(py, "seconds"))?.extract()?;
    let micros: i64 = delta.getattr(intern!(py, "microseconds"))?.extract()?;
    let nanos: i64 = if TIMEDELTA.is(&delta.get_type()) {
        0
    } else {
        let nanos = delta.getattr_opt(intern!(py, "nanoseconds"))?;
        nanos.map_or(Ok(0), |nanos| nanos.extract())?
    };
    let whole = i128::from(days) * 86_400 + i128::from(seconds);
    Ok(whole * NANOS_PER_SECOND + i128::from(micros) * 1_000 + i128::from(nanos))
}

/// The days of a date since 1970.
pub(super) fn date_days(date: &Bound<'_, PyAny>) -> PyResult<i32> {
    const EPOCH: i32 = 719_163;
    let ordinal: i32 = date.call_method0(intern!(date.py(), "toordinal"))?.extract()?;
    Ok(ordinal - EPOCH)
}

/// The microseconds of a time since midnight; `None` for one with a zone.
pub(super) fn time_micros(time: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    let py = time.py();
    if !time.getattr(intern!(py, "tzinfo"))?.is_none() {
        return Ok(None);
    }
    let hour: i64 = time.getattr(intern!(py, "hour"))?.extract()?;
    let minute: i64 = time.getattr(intern!(py, "minute"))?.extract()?;
    let second: i64 = time.getattr(intern!(py, "second"))?.extract()?;
    let micros: i64 = time.getattr(intern!(py, "microsecond"))?.extract()?;
    Ok(Some(((hour * 60 + minute) * 60 + second) * 1_000_000 + micros))
}

/// The name of a zone in Arrow; UTC for one that has none there.
pub(super) fn zone_name(zone: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = zone.py();
    // A ZoneInfo has a key, a zone of pytz a name.
    for attribute in [intern!(py, "key"), intern!(py, "zone")] {
        if let Some(name) = zone.getattr_opt(attribute)?
            && let Ok(name) = name.extract::<String>()
        {
            return Ok(name);
        }
    }
    const MINUTE: i128 = 60 * NANOS_PER_SECOND;
    if TIMEZONE.is(&zone.get_type()) {
        let offset = delta_nanos(&zone.call_method1(intern!(py, "utcoffset"), (py.None(),))?)?;
        if offset != 0 && offset % MINUTE == 0 {
            let (sign, minutes) = (if offset < 0 { '-' } else { '+' }, offset.abs() / MINUTE);
            return Ok(format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        }
    }
    Ok("UTC".to_owned())
}
