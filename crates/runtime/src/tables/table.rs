//! A table, for Python.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_data::ArrayData;
use arrow_schema::{FieldRef, Schema, SchemaRef};
use pyo3::{
    exceptions::{PyIndexError, PyKeyError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyCapsule, PyDict, PyInt, PyList, PyString},
};

use super::{
    capsule,
    column::Column,
    field::{Field, metadata_dict, metadata_map},
    items::a,
    lazy, objects, stream, types,
};
use crate::values::object::{new, type_name};

/// An immutable table of Arrow record batches.
#[pyclass(frozen, module = "exuvia")]
pub struct Table {
    table: exuvia_tables::Table,
    /// All of it was made for one call, so that its values may be written to.
    free: bool,
}

/// A column to be: its name, its values, its metadata if other than the column has.
type NewColumn<'py> = (String, Bound<'py, Column>, Option<Bound<'py, PyDict>>);

// === impl Table ===

impl Table {
    /// A table that was read for one call and is nobody else's: values of fixed width may be written
    /// to wherever they lie.
    #[must_use]
    pub fn free(table: exuvia_tables::Table) -> Self {
        Self { table, free: true }
    }

    /// The batches, and their schema.
    #[must_use]
    pub fn inner(&self) -> &exuvia_tables::Table {
        &self.table
    }

    /// Reads any object that gives Arrow data; `None` for one that does not.
    ///
    /// # Errors
    /// As the object's own code; the data makes no table.
    pub fn taken(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        if let Ok(table) = object.cast::<Self>() {
            return Ok(Some(table.get().table.clone().into()));
        }
        let Some((schema, batches)) = lazy::opened(object)? else { return Ok(None) };
        let batches = object.py().detach(|| batches.collect::<Result<Vec<_>, _>>());
        let batches = batches.map_err(capsule::raised)?;
        Ok(Some(exuvia_tables::Table { schema, batches }.into()))
    }

    fn field_at(&self, index: usize) -> &FieldRef {
        &self.table.schema.fields()[index]
    }

    fn column_at(&self, index: usize) -> Column {
        let chunks = self.table.batches.iter().map(|batch| batch.column(index).clone());
        let column = Column::new(self.field_at(index).clone(), chunks.collect());
        if self.free { column.free() } else { column }
    }

    /// The place of a column by number (from the end if negative) or name.
    fn index(&self, key: &Bound<'_, PyAny>) -> PyResult<usize> {
        let fields = self.table.schema.fields();
        if let Ok(name) = key.cast::<PyString>() {
            let name = name.to_str()?;
            let mut found = (0..fields.len()).filter(|index| fields[*index].name() == name);
            return match (found.next(), found.next()) {
                (Some(index), None) => Ok(index),
                (None, _) => Err(PyKeyError::new_err(name.to_owned())),
                (Some(_), Some(_)) => {
                    let message = format!("there are several columns {name:?}: take it by number");
                    Err(PyValueError::new_err(message))
                }
            };
        }
        let Ok(number) = key.cast::<PyInt>() else {
            let name = a(&type_name(key));
            return Err(PyTypeError::new_err(format!("a column has a name or number, not {name}")));
        };
        let number: isize = number.extract()?;
        let index = if number < 0 { number + fields.len() as isize } else { number };
        let index = usize::try_from(index).ok().filter(|index| *index < fields.len());
        index.ok_or_else(|| PyIndexError::new_err(format!("there is no column {number}")))
    }
}

impl From<exuvia_tables::Table> for Table {
    fn from(table: exuvia_tables::Table) -> Self {
        Self { table, free: false }
    }
}

#[pymethods]
impl Table {
    /// Makes a table of any object with `__arrow_c_stream__` or `__arrow_c_array__`; nothing is
    /// copied.
    #[staticmethod]
    fn from_arrow<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        if let Ok(table) = obj.cast::<Self>() {
            return Ok(table.clone());
        }
        match Self::taken(obj)? {
            Some(table) => Bound::new(obj.py(), table),
            None => Err(no_arrow(obj)),
        }
    }

    /// Makes a table of columns; nothing is copied.
    #[staticmethod]
    #[pyo3(signature = (columns, metadata=None, rows=None))]
    fn from_columns(
        columns: Vec<NewColumn<'_>>,
        metadata: Option<&Bound<'_, PyDict>>,
        rows: Option<usize>,
    ) -> PyResult<Self> {
        let rows = common_length(&columns, rows)?;
        let (mut fields, mut arrays) = (Vec::new(), Vec::new());
        for (name, column, own) in &columns {
            let column = column.get();
            let mut field = column.field().as_ref().clone().with_name(name);
            if let Some(own) = own {
                field = field.with_metadata(metadata_map(own)?);
            }
            fields.push(Arc::new(field));
            arrays.push(column.chunks());
        }
        let metadata = metadata.map_or_else(|| Ok(HashMap::new()), metadata_map)?;
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let batches = aligned(&schema, &arrays, rows)?;
        Ok(exuvia_tables::Table { schema, batches }.into())
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A wish, which the interface allows not to be heard.
        let _ = requested_schema;
        let field = Arc::new(stream::struct_field(&self.table.schema));
        let batches = self.table.batches.clone().into_iter();
        capsule::stream(py, field, Box::new(batches.map(|batch| Ok(stream::array_of(batch)))))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::schema(py, &stream::struct_field(&self.table.schema))
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.table.rows()
    }

    #[getter]
    fn num_columns(&self) -> usize {
        self.table.schema.fields().len()
    }

    #[getter]
    fn num_batches(&self) -> usize {
        self.table.batches.len()
    }

    /// The bytes of memory its values take.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.table.bytes()
    }

    #[getter]
    fn column_names(&self) -> Vec<&str> {
        self.table.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }

    #[getter]
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metadata_dict(py, self.table.schema.metadata())
    }

    #[getter]
    fn fields(&self) -> Vec<Field> {
        self.table.schema.fields().iter().map(|field| Field::new(field.clone())).collect()
    }

    /// A column by number or name.
    fn column(&self, i: &Bound<'_, PyAny>) -> PyResult<Column> {
        Ok(self.column_at(self.index(i)?))
    }

    /// Each batch as a table.
    fn batches(&self) -> Vec<Self> {
        let one = |batch: &RecordBatch| exuvia_tables::Table {
            schema: self.table.schema.clone(),
            batches: vec![batch.clone()],
        };
        self.table.batches.iter().map(|batch| one(batch).into()).collect()
    }

    /// A dict for each row.
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let columns = self.lists(py)?;
        let rows = new::list(py)?;
        for row in 0..self.table.rows() {
            let dict = new::dict(py)?;
            for (name, values) in &columns {
                dict.set_item(name, values.get_item(row)?)?;
            }
            rows.append(dict)?;
        }
        Ok(rows)
    }

    /// The values of each column, by its name.
    fn columns<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = new::dict(py)?;
        for (name, values) in self.lists(py)? {
            dict.set_item(name, values)?;
        }
        Ok(dict)
    }

    /// Where the buffers of each column begin in the first batch, 0 for one that is not there:
    /// the bitmap of nulls, then the others in Arrow's order.
    fn addresses(&self) -> Vec<Vec<usize>> {
        let Some(first) = self.table.batches.first() else {
            return vec![Vec::new(); self.num_columns()];
        };
        first.columns().iter().map(|column| addresses(&column.to_data())).collect()
    }

    fn __len__(&self) -> usize {
        self.table.rows()
    }

    fn __getitem__(&self, name: &Bound<'_, PyAny>) -> PyResult<Column> {
        self.column(name)
    }

    /// Whether schema and values are the same; a NaN is the same as one of the same bits.
    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> Py<PyAny> {
        let Ok(other) = other.cast::<Self>() else { return py.NotImplemented() };
        let (this, other) = (&self.table, &other.get().table);
        let same = this.schema == other.schema
            && this.rows() == other.rows()
            && (0..self.num_columns()).all(|index| same_values(index, this, other));
        pyo3::types::PyBool::new(py, same).to_owned().into_any().unbind()
    }

    fn __repr__(&self) -> String {
        let shown = self.table.schema.fields().iter().map(|field| {
            let null = if field.is_nullable() { "" } else { " not null" };
            format!("\n  {}: {}{null}", field.name(), types::name(field.data_type()))
        });
        let (rows, columns) = (self.table.rows(), self.num_columns());
        format!("<exuvia.Table of {rows} rows, {columns} columns>{}", shown.collect::<String>())
    }
}

impl Table {
    /// The values of each column; names have to be different.
    fn lists<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Vec<(Bound<'py, PyString>, Bound<'py, PyList>)>> {
        objects::distinct(self.table.schema.fields(), "columns")?;
        let column = |index: usize| {
            let name = PyString::new(py, self.field_at(index).name());
            Ok((name, self.column_at(index).to_list(py)?))
        };
        (0..self.num_columns()).map(column).collect()
    }
}

/// The complaint about an object that gives no Arrow data.
pub(super) fn no_arrow(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "{} has neither __arrow_c_stream__ nor __arrow_c_array__",
        type_name(object)
    ))
}

/// The rows of all columns, which have to be as many in each.
fn common_length(columns: &[NewColumn<'_>], rows: Option<usize>) -> PyResult<usize> {
    let Some((first, column, _)) = columns.first() else { return Ok(rows.unwrap_or(0)) };
    let (expected, whose) = match rows {
        Some(rows) => (rows, "the table".to_owned()),
        None => (column.get().rows(), format!("column {first:?}")),
    };
    match columns.iter().find(|(_, column, _)| column.get().rows() != expected) {
        None => Ok(expected),
        Some((name, column, _)) => Err(PyValueError::new_err(format!(
            "column {name:?} has {} values, {whose} has {expected}",
            column.get().rows()
        ))),
    }
}

/// Batches that end wherever a chunk of any column ends.
fn aligned(schema: &SchemaRef, columns: &[&[ArrayRef]], rows: usize) -> PyResult<Vec<RecordBatch>> {
    let mut ends = vec![rows];
    for chunks in columns {
        let mut end = 0;
        ends.extend(chunks.iter().map(|chunk| {
            end += chunk.len();
            end
        }));
    }
    ends.sort_unstable();
    ends.dedup();
    let mut batches = Vec::new();
    let mut start = 0;
    for end in ends.into_iter().filter(|end| *end > 0) {
        let length = end - start;
        let pieces = columns.iter().map(|chunks| slice(chunks, start, length)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(length));
        let batch = RecordBatch::try_new_with_options(schema.clone(), pieces, &options);
        batches.push(batch.map_err(capsule::raised)?);
        start = end;
    }
    Ok(batches)
}

/// A piece of a column that lies within one of its chunks.
fn slice(chunks: &[ArrayRef], mut start: usize, length: usize) -> ArrayRef {
    for chunk in chunks {
        if start < chunk.len() {
            let whole = start == 0 && length == chunk.len();
            return if whole { chunk.clone() } else { chunk.slice(start, length) };
        }
        start -= chunk.len();
    }
    unreachable!("batches end where chunks end")
}

fn addresses(data: &ArrayData) -> Vec<usize> {
    let nulls = data.nulls().map_or(0, |nulls| nulls.buffer().as_ptr() as usize);
    let own = data.buffers().iter().map(|buffer| buffer.as_ptr() as usize);
    let children = data.child_data().iter().flat_map(addresses);
    std::iter::once(nulls).chain(own).chain(children).collect()
}

/// Whether a column has the same values in two tables of as many rows, however they are divided.
fn same_values(column: usize, one: &exuvia_tables::Table, other: &exuvia_tables::Table) -> bool {
    let chunks = |table: &exuvia_tables::Table| {
        table.batches.iter().map(|batch| batch.column(column).clone()).collect::<Vec<_>>()
    };
    let (one, other) = (chunks(one), chunks(other));
    let mut ends: Vec<usize> = [&one, &other]
        .into_iter()
        .flat_map(|chunks| {
            chunks.iter().scan(0, |end, chunk| {
                *end += chunk.len();
                Some(*end)
            })
        })
        .collect();
    ends.sort_unstable();
    ends.dedup();
    let mut start = 0;
    ends.into_iter().filter(|end| *end > 0).all(|end| {
        let length = end - start;
        let same = slice(&one, start, length).to_data() == slice(&other, start, length).to_data();
        start = end;
        same
    })
}
