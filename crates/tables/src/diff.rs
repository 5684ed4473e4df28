//! What distinguishes two schemas, in words.

use std::{collections::HashSet, fmt};

use arrow_schema::{DataType, Field, Fields, IntervalUnit, Schema, TimeUnit};
use exuvia_core::suggest::nearest;

/// How a schema differs from the one that was expected; shown, a line for each difference.
///
/// ```text
/// - price: float64 not null
/// + price: utf8
/// - volume: int64   (is it `volumne`?)
/// + volumne: int64
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaDiff {
    lines: Vec<String>,
}

/// Compares names, types and order of columns, and which may hold nulls; metadata does not count.
///
/// A column that never holds nulls fits where one that may is expected.
#[must_use]
pub fn diff(expected: &Schema, found: &Schema) -> Option<SchemaDiff> {
    let mut lines = Vec::new();
    let matches = pair_up(expected.fields(), found.fields());
    let taken: HashSet<usize> = matches.iter().flatten().copied().collect();
    let is_extra = |(index, _): &(usize, &Field)| !taken.contains(index);
    let found_fields = || found.fields().iter().map(AsRef::as_ref).enumerate();
    let extra: Vec<&Field> = found_fields().filter(is_extra).map(|(_, field)| field).collect();
    let mut shown = HashSet::new();
    for (field, place) in expected.fields().iter().zip(&matches) {
        match place {
            Some(place) => changed(field, found.field(*place), &mut lines),
            None => {
                let near = nearest(field.name(), extra.iter().map(|extra| extra.name()));
                missing(field, near, &mut lines);
                let meant = extra.iter().find(|extra| Some(extra.name().as_str()) == near);
                if let Some(meant) = meant
                    && shown.insert(meant.name())
                {
                    lines.push(format!("+ {}", line(meant)));
                }
            }
        }
    }
    let rest = extra.iter().filter(|extra| !shown.contains(extra.name()));
    lines.extend(rest.map(|extra| format!("+ {}", line(extra))));
    if lines.is_empty() && !matches.is_sorted() {
        lines.push(format!("~ order: {}, not {}", names(found), names(expected)));
    }
    (!lines.is_empty()).then_some(SchemaDiff { lines })
}

/// For each expected field where it was found. Names that come twice are paired in their order.
fn pair_up(expected: &Fields, found: &Fields) -> Vec<Option<usize>> {
    let mut places: std::collections::HashMap<&str, std::collections::VecDeque<usize>> =
        std::collections::HashMap::new();
    for (index, field) in found.iter().enumerate() {
        places.entry(field.name()).or_default().push_back(index);
    }
    let place = |field: &std::sync::Arc<Field>| places.get_mut(field.name().as_str())?.pop_front();
    expected.iter().map(place).collect()
}

fn changed(expected: &Field, found: &Field, lines: &mut Vec<String>) {
    let same_type = type_name(expected.data_type()) == type_name(found.data_type());
    let nullable_fits = expected.is_nullable() || !found.is_nullable();
    if !(same_type && nullable_fits) {
        lines.push(format!("- {}", line(expected)));
        lines.push(format!("+ {}", line(found)));
    }
}

fn missing(field: &Field, near: Option<&str>, lines: &mut Vec<String>) {
    let hint = near.map_or(String::new(), |near| format!("   (is it `{near}`?)"));
    lines.push(format!("- {}{hint}", line(field)));
}

fn names(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.join(", ")
}

fn line(field: &Field) -> String {
    let not_null = if field.is_nullable() { "" } else { " not null" };
    format!("{}: {}{not_null}", field.name(), type_name(field.data_type()))
}

/// The type's name in lower case, with what is in it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    let fields =
        |fields: &Fields| fields.iter().map(|field| line(field)).collect::<Vec<_>>().join(", ");
    let child = |field: &Field| {
        let not_null = if field.is_nullable() { "" } else { " not null" };
        format!("{}{not_null}", type_name(field.data_type()))
    };
    match data_type {
        DataType::Timestamp(unit, None) => format!("timestamp[{}]", unit_name(*unit)),
        DataType::Timestamp(unit, Some(zone)) => {
            format!("timestamp[{}, {zone}]", unit_name(*unit))
        }
        DataType::Time32(unit) => format!("time32[{}]", unit_name(*unit)),
        DataType::Time64(unit) => format!("time64[{}]", unit_name(*unit)),
        DataType::Duration(unit) => format!("duration[{}]", unit_name(*unit)),
        DataType::Interval(IntervalUnit::YearMonth) => "interval[months]".to_owned(),
        DataType::Interval(IntervalUnit::DayTime) => "interval[days, ms]".to_owned(),
        DataType::Interval(IntervalUnit::MonthDayNano) => "interval[months, days, ns]".to_owned(),
        DataType::FixedSizeBinary(width) => format!("binary[{width}]"),
        DataType::Decimal32(precision, scale) => format!("decimal32({precision}, {scale})"),
        DataType::Decimal64(precision, scale) => format!("decimal64({precision}, {scale})"),
        DataType::Decimal128(precision, scale) => format!("decimal128({precision}, {scale})"),
        DataType::Decimal256(precision, scale) => format!("decimal256({precision}, {scale})"),
        DataType::List(item) => format!("list<{}>", child(item)),
        DataType::LargeList(item) => format!("large_list<{}>", child(item)),
        DataType::ListView(item) => format!("list_view<{}>", child(item)),
        DataType::LargeListView(item) => format!("large_list_view<{}>", child(item)),
        DataType::FixedSizeList(item, size) => format!("list[{size}]<{}>", child(item)),
        DataType::Struct(children) => format!("struct<{}>", fields(children)),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(children) => format!("map<{}>", fields(children)),
            other => format!("map<{}>", type_name(other)),
        },
        DataType::Dictionary(keys, values) => {
            format!("dictionary<{}, {}>", type_name(keys), type_name(values))
        }
        DataType::RunEndEncoded(ends, values) => {
            format!("run_end_encoded<{}, {}>", type_name(ends.data_type()), child(values))
        }
        DataType::Union(children, mode) => {
            let children: Vec<String> = children.iter().map(|(_, field)| line(field)).collect();
            format!("{}_union<{}>", format!("{mode:?}").to_lowercase(), children.join(", "))
        }
        DataType::LargeUtf8 => "large_utf8".to_owned(),
        DataType::Utf8View => "utf8_view".to_owned(),
        DataType::LargeBinary => "large_binary".to_owned(),
        DataType::BinaryView => "binary_view".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        plain => plain.to_string().to_lowercase(),
    }
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

// === impl SchemaDiff ===

impl fmt::Display for SchemaDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> Schema {
        let field = |(name, data_type, nullable): &(&str, DataType, bool)| {
            Field::new(*name, data_type.clone(), *nullable)
        };
        Schema::new(fields.iter().map(field).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check(expected: &Schema, found: &Schema, lines: &str) {
        let shown = diff(expected, found).map(|diff| diff.to_string()).unwrap_or_default();
        assert_eq!(shown, lines);
    }

    #[test]
    fn each_difference_is_a_line() {
        use DataType::{Float64, Int64, Utf8};
        let expected = schema(&[("price", Float64, false), ("volume", Int64, true)]);
        check(&expected, &expected, "");
        check(
            &expected,
            &schema(&[("price", Utf8, true), ("volumne", Int64, true), ("x", Int64, true)]),
            "- price: float64 not null\n+ price: utf8\n- volume: int64   (is it `volumne`?)\n\
             + volumne: int64\n+ x: int64",
        );
        check(
            &expected,
            &schema(&[("volume", Int64, true), ("price", Float64, false)]),
            "~ order: volume, price, not price, volume",
        );
        check(&expected, &schema(&[("price", Float64, false)]), "- volume: int64");
    }

    #[test]
    fn a_column_without_nulls_fits_one_that_may_have_them_but_not_the_reverse() {
        let may = schema(&[("a", DataType::Int8, true)]);
        let never = schema(&[("a", DataType::Int8, false)]);
        check(&may, &never, "");
        check(&never, &may, "- a: int8 not null\n+ a: int8");
    }

    #[test]
    fn metadata_and_the_names_of_list_items_do_not_count() {
        let list = |name: &str| {
            let item = Field::new(name, DataType::Int8, true)
                .with_metadata(HashMap::from([("k".to_owned(), name.to_owned())]));
            schema(&[("a", DataType::List(item.into()), true)])
        };
        check(&list("item"), &list("element"), "");
        let other = schema(&[("a", DataType::new_list(DataType::Int16, false), true)]);
        check(&list("item"), &other, "- a: list<int8>\n+ a: list<int16 not null>");
    }
}
