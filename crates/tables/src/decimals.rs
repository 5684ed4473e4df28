//! Decimals: none may have more digits than its column says.
//!
//! No decoder looks, and libraries go wrong on such numbers later, in code that is not to blame.

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, types::DecimalType};
use arrow_schema::{ArrowError, DataType};

use crate::error::said;

/// Looks at the columns themselves; what is nested in others, or in dictionaries, is left.
pub(crate) fn check(batch: &RecordBatch) -> Result<(), String> {
    let fields = batch.schema_ref().fields();
    batch.columns().iter().zip(fields).try_for_each(|(column, field)| {
        check_column(column)
            .map_err(|error| format!("column \"{}\": {}", field.name(), said(&error)))
    })
}

fn check_column(column: &ArrayRef) -> Result<(), ArrowError> {
    use arrow_array::types::{Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type};
    match column.data_type() {
        DataType::Decimal32(precision, _) => digits::<Decimal32Type>(column, *precision),
        DataType::Decimal64(precision, _) => digits::<Decimal64Type>(column, *precision),
        DataType::Decimal128(precision, _) => digits::<Decimal128Type>(column, *precision),
        DataType::Decimal256(precision, _) => digits::<Decimal256Type>(column, *precision),
        _ => Ok(()),
    }
}

fn digits<T: DecimalType>(column: &ArrayRef, precision: u8) -> Result<(), ArrowError> {
    column.as_primitive::<T>().validate_decimal_precision(precision)
}
