//! Dictionaries: indices, and the values they stand for.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array,
    cast::AsArray,
    downcast_integer_array,
    types::{ArrowDictionaryKeyType, Int32Type},
};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use arrow_select::{concat::concat, take::take};
use pyo3::{exceptions::PyTypeError, prelude::*};

use super::{capsule::raised, column::Column, items::a, types};

/// A column's indices and values. Chunks with values of their own get a set of values for all.
///
/// Indices are read-only: Arrow's own code trusts that they lie within the values.
pub(super) fn split(field: &FieldRef, chunks: &[ArrayRef]) -> PyResult<(Column, Column)> {
    let DataType::Dictionary(key, value) = field.data_type() else {
        let name = types::name(field.data_type());
        return Err(PyTypeError::new_err(format!("{} column has no dictionary", a(&name))));
    };
    let (indices, values) = if shared(chunks) {
        let indices = chunks.iter().map(|chunk| keys(chunk)).collect();
        (indices, chunks.first().map(|chunk| chunk.as_any_dictionary().values().clone()))
    } else {
        let (indices, values) = unified(chunks, key, value).map_err(raised)?;
        (indices, Some(values))
    };
    let key = indices.first().map_or(key.as_ref(), |chunk: &ArrayRef| chunk.data_type());
    let indices = Column::new(Arc::new(Field::new("", key.clone(), true)), indices);
    let values = Column::new(
        Arc::new(Field::new("", value.as_ref().clone(), true)),
        values.into_iter().collect(),
    );
    Ok((indices.locked(), values))
}

/// A column of dictionary values.
pub(super) fn join(indices: &Column, values: &Column, ordered: bool) -> PyResult<Column> {
    let values = values.whole()?;
    let key = indices.field().data_type();
    if !key.is_dictionary_key_type() {
        let name = types::name(key);
        return Err(PyTypeError::new_err(format!("indices are whole numbers, not {name}")));
    }
    let data_type =
        DataType::Dictionary(Box::new(key.clone()), Box::new(values.data_type().clone()));
    let chunks = indices.chunks().iter().map(|chunk| {
        downcast_integer_array!(
            chunk => dictionary(chunk, &values),
            other => Err(ArrowError::InvalidArgumentError(format!("{other} is no index"))),
        )
    });
    let chunks = chunks.collect::<Result<Vec<_>, _>>().map_err(raised)?;
    let field = Field::new("", data_type, true).with_dict_is_ordered(ordered);
    Ok(Column::new(Arc::new(field), chunks))
}

fn dictionary<K: ArrowDictionaryKeyType>(
    keys: &arrow_array::PrimitiveArray<K>,
    values: &ArrayRef,
) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(DictionaryArray::try_new(keys.clone(), values.clone())?))
}

/// The indices of one chunk.
fn keys(chunk: &ArrayRef) -> ArrayRef {
    let keys = chunk.as_any_dictionary().keys();
    keys.slice(0, keys.len())
}

/// Whether all chunks have the very same values.
fn shared(chunks: &[ArrayRef]) -> bool {
    let mut sets = chunks.iter().map(|chunk| chunk.as_any_dictionary().values());
    let Some(first) = sets.next() else { return true };
    sets.all(|set| Arc::ptr_eq(first, set) || first == set)
}

/// The indices of each chunk into the values of all, in the order in which they come first.
fn unified(
    chunks: &[ArrayRef],
    key: &DataType,
    value: &DataType,
) -> Result<(Vec<ArrayRef>, ArrayRef), ArrowError> {
    let sets: Vec<&ArrayRef> =
        chunks.iter().map(|chunk| chunk.as_any_dictionary().values()).collect();
    let all = concat(&sets.iter().map(|set| set.as_ref()).collect::<Vec<_>>())?;
    let numbered = DataType::Dictionary(Box::new(DataType::Int32), Box::new(value.clone()));
    let numbered = cast(&all, &numbered)?;
    let numbered = numbered.as_dictionary::<Int32Type>();
    let mut start = 0;
    let mut indices = Vec::with_capacity(chunks.len());
    for (chunk, set) in chunks.iter().zip(sets) {
        let place: Int32Array = numbered.keys().slice(start, set.len());
        start += set.len();
        indices.push(take(&place, chunk.as_any_dictionary().keys(), None)?);
    }
    // Where all still fits, the indices stay of the type they had.
    let fits = |array: &ArrayRef| {
        cast(array, key).ok().filter(|narrow| narrow.null_count() == array.null_count())
    };
    if let Some(narrow) = indices.iter().map(fits).collect::<Option<Vec<_>>>() {
        indices = narrow;
    }
    Ok((indices, numbered.values().clone()))
}
