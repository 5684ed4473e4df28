//! What distinguishes two schemas, in words.

use std::{collections::HashSet, fmt};

use arrow_schema::{Field, Fields, Schema};
use exuvia_core::suggest::nearest;

use crate::names::{field_name, type_name};

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
                    lines.push(format!("+ {}", field_name(meant)));
                }
            }
        }
    }
    let rest = extra.iter().filter(|extra| !shown.contains(extra.name()));
    lines.extend(rest.map(|extra| format!("+ {}", field_name(extra))));
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
        lines.push(format!("- {}", field_name(expected)));
        lines.push(format!("+ {}", field_name(found)));
    }
}

fn missing(field: &Field, near: Option<&str>, lines: &mut Vec<String>) {
    let hint = near.map_or(String::new(), |near| format!("   (is it `{near}`?)"));
    lines.push(format!("- {}{hint}", field_name(field)));
}

fn names(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    names.join(", ")
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

    use arrow_schema::DataType;

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
