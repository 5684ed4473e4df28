//! Of which type a column of CSV is.

use arrow_array::types::{
    Date32Type, Float64Type, Int64Type, TimestampNanosecondType, TimestampSecondType,
};
use arrow_cast::parse::Parser;
use arrow_schema::{DataType, TimeUnit};

/// The narrowest type that holds every value seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Guess {
    /// Nothing but empty fields.
    #[default]
    Empty,
    Bool,
    Int,
    Float,
    Date,
    /// A time with so many digits of a second, with or without an offset from UTC.
    Time {
        digits: u8,
        zoned: bool,
    },
    Text,
}

// === impl Guess ===

impl Guess {
    /// Takes another field into account.
    pub(super) fn widen(&mut self, field: &str) {
        if field.is_empty() || *self == Self::Text {
            return;
        }
        // Most fields are of the type of those before: that is tried first.
        *self = match *self {
            Self::Int if is_int(field) => return,
            Self::Float if is_float(field) => return,
            before => before.with(Self::of(field)),
        };
    }

    fn of(field: &str) -> Self {
        match () {
            () if is_int(field) => Self::Int,
            () if is_float(field) => Self::Float,
            () if is_bool(field) => Self::Bool,
            () if is_date(field) => Self::Date,
            () => time(field).unwrap_or(Self::Text),
        }
    }

    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Empty, other) => other,
            (before, other) if before == other => before,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            (Self::Date, Self::Time { digits, zoned: false })
            | (Self::Time { digits, zoned: false }, Self::Date) => {
                Self::Time { digits, zoned: false }
            }
            (Self::Time { digits: a, zoned }, Self::Time { digits: b, zoned: also })
                if zoned == also =>
            {
                Self::Time { digits: a.max(b), zoned }
            }
            _ => Self::Text,
        }
    }

    pub(super) fn data_type(self) -> DataType {
        match self {
            Self::Empty => DataType::Null,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time { digits, zoned } => {
                let unit = match digits {
                    0 => TimeUnit::Second,
                    1..=3 => TimeUnit::Millisecond,
                    4..=6 => TimeUnit::Microsecond,
                    _ => TimeUnit::Nanosecond,
                };
                DataType::Timestamp(unit, zoned.then(|| "UTC".into()))
            }
            Self::Text => DataType::Utf8,
        }
    }
}

fn is_int(field: &str) -> bool {
    let digits = field.strip_prefix('-').unwrap_or(field);
    digits.as_bytes().first().is_some_and(u8::is_ascii_digit) && Int64Type::parse(field).is_some()
}

/// A number with a point or an exponent, or one of the words for what is no number.
fn is_float(field: &str) -> bool {
    match field {
        "NaN" | "nan" | "inf" | "-inf" | "Infinity" | "-Infinity" => {
            Float64Type::parse(field).is_some()
        }
        _ => {
            let digits = field.strip_prefix('-').unwrap_or(field).as_bytes();
            let begins = digits.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
            let has_point = digits.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
            // A whole number that is no integer is too long for one: as a float it would lose digits.
            begins && has_point && Float64Type::parse(field).is_some()
        }
    }
}

fn is_bool(field: &str) -> bool {
    field.eq_ignore_ascii_case("true") || field.eq_ignore_ascii_case("false")
}

/// `2010-07-28`
fn is_date(field: &str) -> bool {
    field.len() == 10 && has_dashes(field) && Date32Type::parse(field).is_some()
}

fn has_dashes(field: &str) -> bool {
    let bytes = field.as_bytes();
    bytes.get(4) == Some(&b'-') && bytes.get(7) == Some(&b'-')
}

/// `2010-07-28T12:00:00`, with a space for the `T`, with a fraction, with an offset.
fn time(field: &str) -> Option<Guess> {
    let rest = field.get(19..)?;
    if !has_dashes(field) || !matches!(field.as_bytes()[10], b'T' | b' ') {
        return None;
    }
    TimestampSecondType::parse(field)?;
    let fraction = rest.strip_prefix('.').unwrap_or_default();
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    // Nanoseconds since 1970 end in 2262.
    if digits > 9 || (digits > 6 && TimestampNanosecondType::parse(field).is_none()) {
        return None;
    }
    let end = if digits > 0 { 1 + digits } else { 0 };
    Some(Guess::Time { digits: u8::try_from(digits).ok()?, zoned: rest.len() > end })
}

#[cfg(test)]
mod tests {
    use super::Guess;

    #[track_caller]
    fn check(fields: &[&str], expected: &str) {
        let mut guess = Guess::default();
        fields.iter().for_each(|field| guess.widen(field));
        assert_eq!(guess.data_type().to_string(), expected, "{fields:?}");
    }

    #[test]
    fn the_narrowest_type_that_holds_every_value_is_chosen() {
        check(&["", ""], "Null");
        check(&["1", "", "-2"], "Int64");
        check(&["007"], "Int64");
        check(&["1", "2.5", "1e3", "NaN", "-inf"], "Float64");
        check(&["9223372036854775808"], "Utf8");
        check(&["1", "9223372036854775808"], "Utf8");
        check(&["true", "False"], "Boolean");
        check(&["true", "1"], "Utf8");
        check(&["2010-07-28"], "Date32");
        check(&["2010-13-45"], "Utf8");
        check(&["2010-01-01 00:00:00"], "Timestamp(s)");
        check(&["2010-01-01T00:00:00.5+01:00"], "Timestamp(ms, \"UTC\")");
        check(&["2010-01-01T00:00:00Z", "2010-01-01T00:00:00.1234567Z"], "Timestamp(ns, \"UTC\")");
        check(&["2010-01-01", "2010-01-01T00:00:00"], "Timestamp(s)");
        check(&["2010-01-01T00:00:00", "2010-01-01T00:00:00Z"], "Utf8");
        check(&["2400-01-01T00:00:00.1234567"], "Utf8");
        check(&["-"], "Utf8");
        check(&["e5", "x"], "Utf8");
    }
}
