//! Tables of what JSON gives: a list of dicts, or a dict of lists.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema};
use exuvia_tables::Table;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};

use super::{capsule, column::objects_to_array, items::a};
use crate::values::object::type_name;

/// The values of a column, and what it is called.
type Named<'py> = (String, Vec<Bound<'py, PyAny>>);

/// Makes a table of rows (dicts; a key that a row lacks is null) or columns (equally long lists).
/// Columns are in the order in which their names come first.
///
/// # Errors
/// `TypeError` or `ValueError` that names row and column of what does not fit.
pub fn from_rows_or_columns(value: &Bound<'_, PyAny>) -> PyResult<Table> {
    let (columns, rows) = if let Ok(columns) = value.cast::<PyDict>() {
        columns_of(columns)?
    } else if let Ok(rows) = value.cast::<PyList>() {
        (columns_of_rows(rows.iter())?, rows.len())
    } else if let Ok(rows) = value.cast::<PyTuple>() {
        (columns_of_rows(rows.iter())?, rows.len())
    } else {
        let name = a(&type_name(value));
        let message = format!("a table is a list of dicts or a dict of lists, not {name}");
        return Err(PyTypeError::new_err(message));
    };
    table(columns, rows)
}

fn table(columns: Vec<Named<'_>>, rows: usize) -> PyResult<Table> {
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for (name, values) in columns {
        let place = |row: usize| format!("row {row}, column {name:?}");
        let array = objects_to_array(&values, None, place)?;
        fields.push(Field::new(name, array.data_type().clone(), true));
        arrays.push(array);
    }
    let schema = Arc::new(Schema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options);
    let batch = batch.map_err(capsule::raised)?;
    let batches = if rows == 0 { Vec::new() } else { vec![batch] };
    Ok(Table { schema, batches })
}

fn columns_of<'py>(columns: &Bound<'py, PyDict>) -> PyResult<(Vec<Named<'py>>, usize)> {
    let mut found: Vec<Named<'py>> = Vec::new();
    for (name, values) in columns.iter() {
        let name = key(&name, String::new)?;
        let values = if let Ok(list) = values.cast::<PyList>() {
            list.iter().collect::<Vec<_>>()
        } else if let Ok(tuple) = values.cast::<PyTuple>() {
            tuple.iter().collect()
        } else {
            let other = a(&type_name(&values));
            return Err(PyTypeError::new_err(format!("column {name:?} is {other}, not a list")));
        };
        if let Some((first, expected)) = found.first()
            && expected.len() != values.len()
        {
            let (more, expected) = (values.len(), expected.len());
            return Err(PyValueError::new_err(format!(
                "column {name:?} has {more} values, column {first:?} has {expected}"
            )));
        }
        found.push((name, values));
    }
    let rows = found.first().map_or(0, |(_, values)| values.len());
    Ok((found, rows))
}

fn columns_of_rows<'py>(
    rows: impl ExactSizeIterator<Item = Bound<'py, PyAny>>,
) -> PyResult<Vec<Named<'py>>> {
    let count = rows.len();
    let mut columns: Vec<Named<'py>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for (number, row) in rows.enumerate() {
        let Ok(row) = row.cast::<PyDict>() else {
            let message = format!("row {number} is {}, not a dict", a(&type_name(&row)));
            return Err(PyTypeError::new_err(message));
        };
        for (name, value) in row.iter() {
            let name = key(&name, || format!("row {number}: "))?;
            let place = *places.entry(name).or_insert_with_key(|name| {
                columns.push((name.clone(), Vec::with_capacity(count)));
                columns.len() - 1
            });
            if let Some((_, values)) = columns.get_mut(place) {
                // What the rows before lack is null.
                values.resize(number, none(&value));
                values.push(value);
            }
        }
    }
    for (_, values) in &mut columns {
        if let Some(value) = values.first().map(none) {
            values.resize(count, value);
        }
    }
    Ok(columns)
}

fn none<'py>(object: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    object.py().None().into_bound(object.py())
}

fn key(name: &Bound<'_, PyAny>, place: impl FnOnce() -> String) -> PyResult<String> {
    match name.cast::<PyString>() {
        Ok(name) => Ok(name.to_str()?.to_owned()),
        Err(_) => {
            let (place, other) = (place(), a(&type_name(name)));
            let message = format!("{place}the name of a column is a str, not {other}");
            Err(PyTypeError::new_err(message))
        }
    }
}
