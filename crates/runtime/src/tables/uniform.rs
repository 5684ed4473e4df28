//! Columns of plain floats, ints or texts, which most are: built without looking twice.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, ArrowPrimitiveType,
    builder::{PrimitiveBuilder, StringBuilder},
    types::{Float64Type, Int64Type},
};
use pyo3::{
    PyTypeInfo,
    prelude::*,
    types::{PyFloat, PyInt, PyString},
};

use crate::values::object::{Whole, exact, whole};

/// The array of values that are all of one of these types, or `None` and no array for others.
pub(super) fn array(values: &[Bound<'_, PyAny>]) -> Option<ArrayRef> {
    let first = values.iter().find(|value| !value.is_none())?;
    if exact::<PyFloat>(first).is_some() {
        return numbers::<PyFloat, Float64Type>(values, |number| Some(number.value()));
    }
    if exact::<PyInt>(first).is_some() {
        return numbers::<PyInt, Int64Type>(values, |number| match whole(number) {
            Ok(Whole::Signed(number)) => Some(number),
            _ => None,
        });
    }
    exact::<PyString>(first).and_then(|_| texts(values))
}

fn numbers<P: PyTypeInfo, T: ArrowPrimitiveType>(
    values: &[Bound<'_, PyAny>],
    number: impl Fn(&Bound<'_, P>) -> Option<T::Native>,
) -> Option<ArrayRef> {
    let mut builder = PrimitiveBuilder::<T>::with_capacity(values.len());
    for value in values {
        match exact::<P>(value) {
            Some(value) => builder.append_value(number(value)?),
            None if value.is_none() => builder.append_null(),
            None => return None,
        }
    }
    Some(Arc::new(builder.finish()))
}

fn texts(values: &[Bound<'_, PyAny>]) -> Option<ArrayRef> {
    let mut builder = StringBuilder::with_capacity(values.len(), 0);
    let mut bytes = 0;
    for value in values {
        match exact::<PyString>(value) {
            Some(value) => {
                let text = value.to_str().ok()?;
                bytes += text.len();
                // Beyond that the builder panics, and the type has to be another one.
                i32::try_from(bytes).ok()?;
                builder.append_value(text);
            }
            None if value.is_none() => builder.append_null(),
            None => return None,
        }
    }
    Some(Arc::new(builder.finish()))
}
