//! Arrow's types by name: `int64`, `timestamp[us, tz=UTC]`, `list<utf8>`.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, TimeUnit};
pub(super) use exuvia_tables::{type_kind as kind, type_name as name, unit_name};

/// Types inside one another; a text of more may be meant to break the parser.
const MAX_DEPTH: u32 = 64;

/// The unit of a time's type.
pub(super) fn unit(data_type: &DataType) -> Option<TimeUnit> {
    match data_type {
        DataType::Timestamp(unit, _)
        | DataType::Time32(unit)
        | DataType::Time64(unit)
        | DataType::Duration(unit) => Some(*unit),
        _ => None,
    }
}

/// The bytes of a value, where all values of the type have the same and at least one.
pub(super) fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok().filter(|width| *width > 0),
        _ => data_type.primitive_width(),
    }
}

/// The type of this name, which may bear its unit and zone itself (`timestamp[us, tz=UTC]`) or have
/// them beside it.
pub(super) fn parse(
    text: &str,
    unit: Option<&str>,
    zone: Option<&str>,
) -> Result<DataType, String> {
    let unknown = || format!("{text:?} is no type that is known here");
    // The C interface, by which columns leave, ends its texts at a NUL.
    if text.contains('\0') || zone.is_some_and(|zone| zone.contains('\0')) {
        return Err(unknown());
    }
    if text.contains('<') {
        return nested(text, 0).ok_or_else(unknown);
    }
    let (kind, inner) = split(text).ok_or_else(unknown)?;
    if let Some(plain) = plain(kind) {
        return if inner.is_empty() { Ok(plain) } else { Err(unknown()) };
    }
    let mut words = inner.split(',').map(str::trim).filter(|word| !word.is_empty());
    if let Some(made) = sized(kind, &words.clone().collect::<Vec<_>>()) {
        return made.ok_or_else(unknown);
    }
    let unit = match words.next().or(unit) {
        Some(word) => parse_unit(word).ok_or_else(|| format!("{word:?} is no unit of time"))?,
        None => TimeUnit::Microsecond,
    };
    let zone = words.next().and_then(|word| word.strip_prefix("tz=")).or(zone);
    timed(kind, unit, zone).ok_or_else(unknown)
}

/// A type with others inside. A name does not tell where that of a struct's member ends, if there
/// are commas and brackets in it: such a type is another one, or none.
fn nested(text: &str, depth: u32) -> Option<DataType> {
    use DataType as T;
    if depth > MAX_DEPTH {
        return None;
    }
    let Some((kind, inner)) = text.split_once('<') else { return parse(text, None, None).ok() };
    let parts = parts(inner.strip_suffix('>')?)?;
    let item = |text: &str| child(Field::LIST_FIELD_DEFAULT_NAME, text, depth);
    match (kind, parts.as_slice()) {
        ("list", [one]) => Some(T::List(item(one)?)),
        ("large_list", [one]) => Some(T::LargeList(item(one)?)),
        ("fixed_size_list", [one, size]) => {
            let size = size.parse().ok().filter(|size| *size >= 0)?;
            Some(T::FixedSizeList(item(one)?, size))
        }
        ("struct", members) => {
            let member = |text: &&str| {
                let (name, text) = text.split_once(": ")?;
                child(name, text, depth)
            };
            Some(T::Struct(members.iter().map(member).collect::<Option<_>>()?))
        }
        ("map", [key, value]) => {
            let key = Field::new("key", nested(key, depth + 1)?, false);
            let pair = vec![Arc::new(key), child("value", value, depth)?];
            Some(T::Map(Arc::new(Field::new("entries", T::Struct(pair.into()), false)), false))
        }
        ("dictionary", [key, value]) => {
            let key = nested(key, depth + 1).filter(DataType::is_dictionary_key_type)?;
            Some(T::Dictionary(key.into(), nested(value, depth + 1)?.into()))
        }
        _ => None,
    }
}

fn child(name: &str, text: &str, depth: u32) -> Option<FieldRef> {
    let (text, nullable) = match text.strip_suffix(" not null") {
        Some(text) => (text, false),
        None => (text, true),
    };
    Some(Arc::new(Field::new(name, nested(text, depth + 1)?, nullable)))
}

/// What stands between the commas that are in no brackets.
fn parts(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, 0_usize);
    for (at, letter) in text.char_indices() {
        match letter {
            '<' | '[' | '(' => open += 1,
            '>' | ']' | ')' => open = open.checked_sub(1)?,
            ',' if open == 0 => {
                parts.push(text[start..at].trim_start());
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = text[start..].trim_start();
    if !(last.is_empty() && parts.is_empty()) {
        parts.push(last);
    }
    Some(parts)
}

fn timed(kind: &str, unit: TimeUnit, zone: Option<&str>) -> Option<DataType> {
    match (kind, unit) {
        ("timestamp", _) => Some(DataType::Timestamp(unit, zone.map(Into::into))),
        ("duration", _) => Some(DataType::Duration(unit)),
        ("time32", TimeUnit::Second | TimeUnit::Millisecond) => Some(DataType::Time32(unit)),
        ("time64", TimeUnit::Microsecond | TimeUnit::Nanosecond) => Some(DataType::Time64(unit)),
        _ => None,
    }
}

/// Types with numbers in brackets; the inner `None` for numbers that make no type.
fn sized(kind: &str, words: &[&str]) -> Option<Option<DataType>> {
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<i32>().ok());
    let decimal = |make: fn(u8, i8) -> DataType, most: i32| {
        let precision = number(0).filter(|precision| (1..=most).contains(precision))?;
        let scale = number(1).unwrap_or(0);
        Some(make(u8::try_from(precision).ok()?, i8::try_from(scale).ok()?))
    };
    match kind {
        "fixed_size_binary" => Some(number(0).filter(|n| *n > 0).map(DataType::FixedSizeBinary)),
        "decimal32" => Some(decimal(DataType::Decimal32, 9)),
        "decimal64" => Some(decimal(DataType::Decimal64, 18)),
        "decimal128" => Some(decimal(DataType::Decimal128, 38)),
        "decimal256" => Some(decimal(DataType::Decimal256, 76)),
        _ => None,
    }
}

fn plain(kind: &str) -> Option<DataType> {
    use DataType as T;
    const PLAIN: [DataType; 21] = [
        T::Null,
        T::Boolean,
        T::Int8,
        T::Int16,
        T::Int32,
        T::Int64,
        T::UInt8,
        T::UInt16,
        T::UInt32,
        T::UInt64,
        T::Float16,
        T::Float32,
        T::Float64,
        T::Date32,
        T::Date64,
        T::Binary,
        T::LargeBinary,
        T::BinaryView,
        T::Utf8,
        T::LargeUtf8,
        T::Utf8View,
    ];
    PLAIN.into_iter().find(|data_type| self::kind(data_type) == kind)
}

/// The first word of a name, and what is in the brackets that end it.
fn split(text: &str) -> Option<(&str, &str)> {
    let Some(open) = text.find(['[', '(']) else { return Some((text, "")) };
    let close = if text.as_bytes().get(open) == Some(&b'[') { ']' } else { ')' };
    Some((&text[..open], text[open + 1..].strip_suffix(close)?))
}

fn parse_unit(word: &str) -> Option<TimeUnit> {
    use TimeUnit as U;
    [U::Second, U::Millisecond, U::Microsecond, U::Nanosecond]
        .into_iter()
        .find(|unit| unit_name(*unit) == word)
}
