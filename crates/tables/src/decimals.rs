//! Decimals: none may have more digits than its column says.
//!
//! No decoder looks, and libraries go wrong on such numbers later, in code that is not to blame.

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, types::DecimalType};
use arrow_schema::DataType;

/// Looks at the columns themselves; what is nested in others, or in dictionaries, is left.
pub(crate) fn check(batch: &RecordBatch) -> Result<(), String> {
    let fields = batch.schema_ref().fields();
    batch.columns().iter().zip(fields).try_for_each(|(column, field)| {
        let wrong = wrong(column);
        wrong.map_or(Ok(()), |row| {
            let of = column.data_type();
            Err(format!("column \"{}\", row {row}: the number is too long for {of}", field.name()))
        })
    })
}

/// The first row whose number has too many digits.
fn wrong(column: &ArrayRef) -> Option<usize> {
    use arrow_array::types::{Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type};
    match column.data_type() {
        DataType::Decimal32(precision, _) => too_long::<Decimal32Type>(column, *precision),
        DataType::Decimal64(precision, _) => too_long::<Decimal64Type>(column, *precision),
        DataType::Decimal128(precision, _) => too_long::<Decimal128Type>(column, *precision),
        DataType::Decimal256(precision, _) => too_long::<Decimal256Type>(column, *precision),
        _ => None,
    }
}

fn too_long<T: DecimalType>(column: &ArrayRef, precision: u8) -> Option<usize> {
    let fits = |number| T::is_valid_decimal_precision(number, precision);
    column.as_primitive::<T>().iter().position(|number| number.is_some_and(|n| !fits(n)))
}
