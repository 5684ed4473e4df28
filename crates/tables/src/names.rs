//! What types are called: `int64`, `timestamp[us, tz=UTC]`, `list<utf8 not null>`.

use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit, UnionMode};

/// A type in words, with whatever is in it; what may not be null is `not null`.
///
/// Metadata, the names of what is in lists, maps and runs, and whether a map is sorted are left
/// out.
#[must_use]
pub fn type_name(data_type: &DataType) -> String {
    use DataType as T;
    let kind = type_kind(data_type);
    match data_type {
        T::Timestamp(unit, None) => format!("timestamp[{}]", unit_name(*unit)),
        T::Timestamp(unit, Some(zone)) => format!("timestamp[{}, tz={zone}]", unit_name(*unit)),
        T::Time32(unit) | T::Time64(unit) | T::Duration(unit) => {
            format!("{kind}[{}]", unit_name(*unit))
        }
        T::Interval(unit) => format!("interval[{}]", interval_name(*unit)),
        T::FixedSizeBinary(width) => format!("fixed_size_binary({width})"),
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => format!("{kind}({precision}, {scale})"),
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) => {
            format!("{kind}<{}>", unnamed(item))
        }
        T::FixedSizeList(item, length) => format!("fixed_size_list<{}, {length}>", unnamed(item)),
        T::Struct(fields) => format!("struct<{}>", named(fields.iter().map(AsRef::as_ref))),
        T::Map(entries, _) => format!("map<{}>", pair(entries)),
        T::Union(fields, mode) => {
            let mode = if *mode == UnionMode::Sparse { "sparse" } else { "dense" };
            format!("union[{mode}]<{}>", named(fields.iter().map(|(_, field)| field.as_ref())))
        }
        T::Dictionary(key, value) => {
            format!("dictionary<{}, {}>", type_name(key), type_name(value))
        }
        T::RunEndEncoded(ends, values) => {
            format!("run_end_encoded<{}, {}>", type_name(ends.data_type()), unnamed(values))
        }
        _ => kind.to_owned(),
    }
}

/// The first word of a type's name.
#[must_use]
pub fn type_kind(data_type: &DataType) -> &'static str {
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

/// `us` and its like.
#[must_use]
pub fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

/// A field's name and type: `price: float64 not null`.
pub(crate) fn field_name(field: &Field) -> String {
    format!("{}: {}", field.name(), unnamed(field))
}

fn unnamed(field: &Field) -> String {
    let not_null = if field.is_nullable() { "" } else { " not null" };
    format!("{}{not_null}", type_name(field.data_type()))
}

fn named<'a>(fields: impl Iterator<Item = &'a Field>) -> String {
    fields.map(field_name).collect::<Vec<_>>().join(", ")
}

/// The key's and the value's type of a map's entries; keys are never null.
fn pair(entries: &Field) -> String {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => {
            format!("{}, {}", type_name(fields[0].data_type()), unnamed(&fields[1]))
        }
        other => type_name(other),
    }
}

fn interval_name(unit: IntervalUnit) -> &'static str {
    match unit {
        IntervalUnit::YearMonth => "year_month",
        IntervalUnit::DayTime => "day_time",
        IntervalUnit::MonthDayNano => "month_day_nano",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data_type: &DataType, name: &str) {
        assert_eq!(type_name(data_type), name);
    }

    #[test]
    fn a_name_says_all_that_distinguishes_types() {
        use DataType as T;
        let zone = Some("UTC".into());
        check(&T::Timestamp(TimeUnit::Microsecond, zone), "timestamp[us, tz=UTC]");
        check(&T::Interval(IntervalUnit::DayTime), "interval[day_time]");
        check(&T::FixedSizeBinary(16), "fixed_size_binary(16)");
        check(&T::Decimal256(70, -2), "decimal256(70, -2)");
        check(&T::new_list(T::Int8, false), "list<int8 not null>");
        check(&T::new_fixed_size_list(T::Utf8View, 3, true), "fixed_size_list<utf8_view, 3>");
        let fields = vec![Field::new("a", T::Boolean, true), Field::new("b", T::Null, false)];
        check(&T::Struct(fields.into()), "struct<a: bool, b: null not null>");
        let entries = vec![Field::new("k", T::Utf8, false), Field::new("v", T::Int64, true)];
        let entries = Field::new("entries", T::Struct(entries.into()), false);
        check(&T::Map(entries.into(), false), "map<utf8, int64>");
        let dictionary = T::Dictionary(T::Int8.into(), T::LargeUtf8.into());
        check(&dictionary, "dictionary<int8, large_utf8>");
    }
}
