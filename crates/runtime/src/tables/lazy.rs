//! Batches that are made when somebody asks for them, from Rust and from Python.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{RecordBatch, RecordBatchIterator, RecordBatchOptions, RecordBatchReader};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyCapsule, PyIterator},
};

use super::{capsule, stream, table::Table};
use crate::{convert, values::object::type_name};

/// Batches that are still to be made.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// Batches made when somebody asks for them: an object with `__arrow_c_stream__`, which gives them
/// once.
#[pyclass(frozen, module = "exuvia")]
pub struct Stream {
    schema: SchemaRef,
    batches: Mutex<Option<Batches>>,
}

/// A Python iterator of tables, as batches of one schema.
struct Yielded {
    schema: SchemaRef,
    iterator: Option<Py<PyIterator>>,
    /// The batches of the table that came last.
    current: Option<Batches>,
}

// === the doors for Rust ===

/// Hands batches to Python code, lazily: `reader` runs whenever somebody pulls, on their thread.
///
/// What comes of it is an object with `__arrow_c_stream__`, which any library with Arrow takes,
/// once. Consumers detach from the interpreter while they pull; `reader` must not need it. An error
/// in it, or a panic, becomes the consumer's exception; so does a batch of another schema.
///
/// # Errors
/// Python has no memory left.
pub fn produce(
    py: Python<'_>,
    schema: SchemaRef,
    reader: impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send + 'static,
) -> PyResult<Bound<'_, PyAny>> {
    let expected = schema.clone();
    let batches = reader.map(move |batch| fitting(&expected, batch?));
    Ok(Bound::new(py, Stream::new(schema, Box::new(batches)))?.into_any())
}

/// Takes a table from Python code, lazily where the object can: anything with `__arrow_c_stream__`
/// or `__arrow_c_array__`, and any other table a handler may return.
///
/// Pull it detached: a stream that Python code makes attaches by itself.
///
/// # Errors
/// `TypeError` for what is no table; `ValueError` with the difference, line by line, for one of
/// another schema than is expected; and what the object's own code raises.
pub fn consume(
    object: &Bound<'_, PyAny>,
    expected: Option<&Schema>,
) -> PyResult<Box<dyn RecordBatchReader + Send>> {
    let (schema, batches) = taken(object)?;
    if let Some(expected) = expected {
        check(expected, &schema).map_err(PyValueError::new_err)?;
    }
    Ok(Box::new(RecordBatchIterator::new(batches, schema)))
}

// === impl Stream ===

impl Stream {
    fn new(schema: SchemaRef, batches: Batches) -> Self {
        Self { schema, batches: Mutex::new(Some(batches)) }
    }

    fn take(&self) -> PyResult<Batches> {
        let taken = self.batches.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| PyValueError::new_err("this stream was used before"))
    }
}

#[pymethods]
impl Stream {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        // A wish, which the interface allows not to be heard.
        let _ = requested_schema;
        let field = Arc::new(stream::struct_field(&self.schema));
        let batches = self.take()?;
        capsule::stream(py, field, Box::new(batches.map(|batch| batch.map(stream::array_of))))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        capsule::schema(py, &stream::struct_field(&self.schema))
    }

    #[getter]
    fn column_names(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect()
    }

    fn __repr__(&self) -> String {
        format!("<exuvia.Stream of {} columns>", self.schema.fields().len())
    }
}

/// The schema and the batches of an object that gives Arrow data; `None` for one that does not.
pub(super) fn opened(object: &Bound<'_, PyAny>) -> PyResult<Option<(SchemaRef, Batches)>> {
    if let Ok(stream) = object.cast::<Stream>() {
        // Past the C interface, exceptions stay what they are.
        let stream = stream.get();
        return Ok(Some((stream.schema.clone(), stream.take()?)));
    }
    let Some((field, arrays)) = capsule::taken(object)? else { return Ok(None) };
    let schema = Arc::new(stream::schema_of(&field));
    let one = schema.clone();
    Ok(Some((schema, Box::new(arrays.map(move |array| stream::batch_of(&one, array?))))))
}

/// The same for anything that is a table.
fn taken(object: &Bound<'_, PyAny>) -> PyResult<(SchemaRef, Batches)> {
    // pandas' own way needs pyarrow, and copies more.
    if !is_pandas(object)
        && let Some(opened) = opened(object)?
    {
        return Ok(opened);
    }
    match convert::take(object, &mut Vec::new())? {
        Some(table) => Ok((table.schema, Box::new(table.batches.into_iter().map(Ok)))),
        None => Err(PyTypeError::new_err(format!("{} is no table", type_name(object)))),
    }
}

fn is_pandas(object: &Bound<'_, PyAny>) -> bool {
    let module = object.get_type().module();
    module.is_ok_and(|module| module.to_string_lossy().split('.').next() == Some("pandas"))
}

/// Whether a schema is the one that is expected, metadata aside.
fn check(expected: &Schema, found: &Schema) -> Result<(), String> {
    match exuvia_tables::diff(expected, found) {
        None => Ok(()),
        Some(diff) => Err(format!("the schema is not the one that is expected:\n{diff}")),
    }
}

/// A batch under the schema of its stream.
fn fitting(schema: &SchemaRef, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch);
    }
    check(schema, batch.schema_ref()).map_err(ArrowError::SchemaError)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)
}

// === impl Yielded ===

impl Yielded {
    fn pull(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        loop {
            if let Some(batch) = self.current.as_mut().and_then(Iterator::next) {
                return fitting(&self.schema, batch?).map(Some);
            }
            let Some(iterator) = &self.iterator else { return Ok(None) };
            let table = Python::try_attach(|py| match iterator.bind(py).clone().next() {
                None => Ok(None),
                Some(table) => taken(&table?).map(Some),
            });
            match table {
                None => {
                    let text = "Python is shutting down".to_owned();
                    return Err(ArrowError::CDataInterface(text));
                }
                Some(Err(error)) => return Err(ArrowError::ExternalError(Box::new(error))),
                Some(Ok(None)) => self.close(),
                Some(Ok(Some((schema, batches)))) => {
                    check(&self.schema, &schema).map_err(ArrowError::SchemaError)?;
                    self.current = Some(batches);
                }
            }
        }
    }

    /// Lets go of the iterator at once, so that a generator ends now.
    fn close(&mut self) {
        if let Some(iterator) = self.iterator.take() {
            let _ = Python::try_attach(|py| iterator.drop_ref(py));
        }
    }
}

impl Iterator for Yielded {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pulled = self.pull().transpose();
        if !matches!(pulled, Some(Ok(_))) {
            self.current = None;
            self.close();
        }
        pulled
    }
}

impl Drop for Yielded {
    fn drop(&mut self) {
        self.close();
    }
}

// === the doors for Python ===

/// Makes a stream of tables that are made when somebody asks for them: each item of `batches` is
/// any table of the schema that `schema` has.
///
/// # Errors
/// `schema` has none; `batches` cannot be iterated over.
#[pyfunction]
#[pyo3(name = "produce")]
pub fn produce_from_python(
    schema: &Bound<'_, PyAny>,
    batches: &Bound<'_, PyAny>,
) -> PyResult<Stream> {
    let schema = Arc::new(stream::schema_of(&capsule::taken_schema(schema)?));
    let iterator = Some(batches.try_iter()?.unbind());
    let yielded = Yielded { schema: schema.clone(), iterator, current: None };
    Ok(Stream::new(schema, Box::new(yielded)))
}

/// Takes any table, all of it.
///
/// # Errors
/// As [`consume`].
#[pyfunction]
#[pyo3(name = "consume", signature = (obj, schema=None))]
pub fn consume_into_python(
    obj: &Bound<'_, PyAny>,
    schema: Option<&Bound<'_, PyAny>>,
) -> PyResult<Table> {
    let expected = schema.map(capsule::taken_schema).transpose()?;
    let expected = expected.map(|field| stream::schema_of(&field));
    let mut reader = consume(obj, expected.as_ref())?;
    let schema = reader.schema();
    let batches = obj.py().detach(|| reader.by_ref().collect::<Result<Vec<_>, _>>());
    let batches = batches.map_err(capsule::raised)?;
    Ok(exuvia_tables::Table { schema, batches }.into())
}
