//! Times and durations as ISO 8601 writes them.

use std::io::Write as _;

/// What one tick of a column of times is.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

// === impl Unit ===

impl Unit {
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "s" => Some(Self::Seconds),
            "ms" => Some(Self::Millis),
            "us" => Some(Self::Micros),
            "ns" => Some(Self::Nanos),
            _ => None,
        }
    }

    fn per_second(self) -> i64 {
        match self {
            Self::Seconds => 1,
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }
}

/// Writes a time since 1970 as pandas' `Timestamp.isoformat` does, in quotes; false, and nothing
/// written, if its year does not have four digits.
pub(super) fn write_ticks(out: &mut Vec<u8>, ticks: i64, unit: Unit, utc: bool) -> bool {
    let seconds = ticks.div_euclid(unit.per_second());
    let nanos = ticks.rem_euclid(unit.per_second()) * (1_000_000_000 / unit.per_second());
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    if !(1..=9999).contains(&year) {
        return false;
    }
    let clock = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    // Writing to a Vec cannot fail, here and below.
    let _ = write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if nanos % 1000 != 0 {
        let _ = write!(out, ".{nanos:09}");
    } else if nanos != 0 {
        let _ = write!(out, ".{:06}", nanos / 1000);
    }
    out.extend_from_slice(if utc { b"+00:00\"" } else { b"\"" });
    true
}

/// The proleptic Gregorian date of a day counted from 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last of its year, in eras of 400
/// years, which all have the same length.
fn civil(day: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    const YEAR_ZERO: i64 = 719_468; // days from 0000-03-01 to 1970-01-01
    let day = day + YEAR_ZERO;
    let (era, of_era) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let leap_days = of_era / 1_460 - of_era / 36_524 + of_era / (ERA - 1);
    let year_of_era = (of_era - leap_days) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, five months have 153 days, again and again.
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_month)
}

/// Writes a duration, in quotes: `P1DT2H3M4.5S`. A negative one is the positive one with a minus
/// before it; nothing at all is `PT0S`.
pub(super) fn write_duration(out: &mut Vec<u8>, microseconds: i128) {
    out.push(b'"');
    if microseconds < 0 {
        out.push(b'-');
    }
    let whole = microseconds.unsigned_abs();
    let (seconds, micros) = (whole / 1_000_000, whole % 1_000_000);
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    out.push(b'P');
    if days != 0 {
        let _ = write!(out, "{days}D");
    }
    let clock = hours != 0 || minutes != 0 || seconds != 0 || micros != 0;
    if clock || days == 0 {
        out.push(b'T');
    }
    if hours != 0 {
        let _ = write!(out, "{hours}H");
    }
    if minutes != 0 {
        let _ = write!(out, "{minutes}M");
    }
    if micros != 0 {
        let fraction = format!("{micros:06}");
        let _ = write!(out, "{seconds}.{}S", fraction.trim_end_matches('0'));
    } else if seconds != 0 || !clock && days == 0 {
        let _ = write!(out, "{seconds}S");
    }
    out.push(b'"');
}

/// Writes a date, and a time of that day, as `isoformat` does, in quotes, of the bytes they are
/// pickled as: of the date two for the year, month, day; of the time hour, minute, second and three
/// for the microsecond.
pub(super) fn write_state(out: &mut Vec<u8>, date: &[u8], clock: &[u8], utc: bool) {
    out.push(b'"');
    if let [century, year, month, day] = *date {
        digits::<4>(out, u32::from(century) << 8 | u32::from(year));
        out.push(b'-');
        digits::<2>(out, u32::from(month));
        out.push(b'-');
        digits::<2>(out, u32::from(day));
    }
    if let [hour, minute, second, high, middle, low] = *clock {
        for (separator, part) in [(b'T', hour), (b':', minute), (b':', second)] {
            out.push(separator);
            digits::<2>(out, u32::from(part));
        }
        let micros = u32::from_be_bytes([0, high, middle, low]);
        if micros != 0 {
            out.push(b'.');
            digits::<6>(out, micros);
        }
    }
    out.extend_from_slice(if utc { b"+00:00\"" } else { b"\"" });
}

/// A number with zeros before it.
fn digits<const COUNT: usize>(out: &mut Vec<u8>, mut number: u32) {
    let mut text = [b'0'; COUNT];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text);
}

/// Writes the digits of a UUID, of which leading zeros are left out, in quotes.
pub(super) fn write_uuid(out: &mut Vec<u8>, digits: &str) {
    let mut text = [b'0'; 32];
    let start = text.len().saturating_sub(digits.len());
    text[start..].copy_from_slice(&digits.as_bytes()[..32 - start]);
    out.push(b'"');
    let mut at = 0;
    for length in [8, 4, 4, 4, 12] {
        if at > 0 {
            out.push(b'-');
        }
        out.extend_from_slice(&text[at..at + length]);
        at += length;
    }
    out.push(b'"');
}
