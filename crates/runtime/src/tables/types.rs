//! Arrow's types by name: `int64`, `timestamp[us, tz=UTC]`, `list<utf8>`.

use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};

/// A type in Arrow's words.
pub(super) fn name(data_type: &DataType) -> String {
    use DataType as T;
    match data_type {
        T::Timestamp(unit, None) => format!("timestamp[{}]", unit_name(*unit)),
        T::Timestamp(unit, Some(zone)) => format!("timestamp[{}, tz={zone}]", unit_name(*unit)),
        T::Time32(unit) | T::Time64(unit) | T::Duration(unit) => {
            format!("{}[{}]", kind(data_type), unit_name(*unit))
        }
        T::Interval(unit) => format!("interval[{}]", interval_name(*unit)),
        T::FixedSizeBinary(width) => format!("fixed_size_binary({width})"),
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => format!("{}({precision}, {scale})", kind(data_type)),
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) => {
            format!("{}<{}>", kind(data_type), name(item.data_type()))
        }
        T::FixedSizeList(item, length) => {
            format!("fixed_size_list<{}, {length}>", name(item.data_type()))
        }
        T::Struct(fields) => format!("struct<{}>", named(fields.iter().map(AsRef::as_ref))),
        T::Map(entries, _) => format!("map<{}>", pair(entries)),
        T::Union(fields, _) => format!("union<{}>", named(fields.iter().map(|(_, f)| f.as_ref()))),
        T::Dictionary(key, value) => format!("dictionary<{}, {}>", name(key), name(value)),
        T::RunEndEncoded(ends, values) => {
            let (ends, values) = (name(ends.data_type()), name(values.data_type()));
            format!("run_end_encoded<{ends}, {values}>")
        }
        _ => kind(data_type).to_owned(),
    }
}

/// The first word of a type's name.
pub(super) fn kind(data_type: &DataType) -> &'static str {
    use DataType as T;
    match data_type {
        T::Null => "null",
        T::Boolean => "bool",
        T::Int8 => "int8",
        T::Int16 => "int16",
        T::Int32 => "int32",
        T::Int64 => "int64",
        T::UInt8 => "uint8",
        T::UInt16 => "uint16",
        T::UInt32 => "uint32",
        T::UInt64 => "uint64",
        T::Float16 => "float16",
        T::Float32 => "float32",
        T::Float64 => "float64",
        T::Timestamp(..) => "timestamp",
        T::Date32 => "date32",
        T::Date64 => "date64",
        T::Time32(_) => "time32",
        T::Time64(_) => "time64",
        T::Duration(_) => "duration",
        T::Interval(_) => "interval",
        T::Binary => "binary",
        T::FixedSizeBinary(_) => "fixed_size_binary",
        T::LargeBinary => "large_binary",
        T::BinaryView => "binary_view",
        T::Utf8 => "utf8",
        T::LargeUtf8 => "large_utf8",
        T::Utf8View => "utf8_view",
        T::List(_) => "list",
        T::ListView(_) => "list_view",
        T::FixedSizeList(..) => "fixed_size_list",
        T::LargeList(_) => "large_list",
        T::LargeListView(_) => "large_list_view",
        T::Struct(_) => "struct",
        T::Union(..) => "union",
        T::Dictionary(..) => "dictionary",
        T::Decimal32(..) => "decimal32",
        T::Decimal64(..) => "decimal64",
        T::Decimal128(..) => "decimal128",
        T::Decimal256(..) => "decimal256",
        T::Map(..) => "map",
        T::RunEndEncoded(..) => "run_end_encoded",
    }
}

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

/// `us` and its like.
pub(super) fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

/// The bytes of a value, where all values of the type have the same and at least one.
pub(super) fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok().filter(|width| *width > 0),
        _ => data_type.primitive_width(),
    }
}

/// The flat type of this name, which may bear its unit and zone itself (`timestamp[us, tz=UTC]`)
/// or have them beside it.
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

fn interval_name(unit: IntervalUnit) -> &'static str {
    match unit {
        IntervalUnit::YearMonth => "year_month",
        IntervalUnit::DayTime => "day_time",
        IntervalUnit::MonthDayNano => "month_day_nano",
    }
}

fn named<'a>(fields: impl Iterator<Item = &'a Field>) -> String {
    let named = fields.map(|field| format!("{}: {}", field.name(), name(field.data_type())));
    named.collect::<Vec<_>>().join(", ")
}

/// The key's and the value's type of a map's entries.
fn pair(entries: &Field) -> String {
    let DataType::Struct(fields) = entries.data_type() else { return name(entries.data_type()) };
    let names = fields.iter().map(|field| name(field.data_type()));
    names.collect::<Vec<_>>().join(", ")
}
