//! The Arrow PyCapsule interface: how Arrow data goes from one Python library to another.
//!
//! A capsule owns what is in it until a consumer moves it out, leaving an empty one behind; what
//! was never moved out is released with the capsule.

use std::sync::Arc;

use arrow_array::{ArrayRef, ffi_stream::FFI_ArrowArrayStream};
use arrow_data::ffi::FFI_ArrowArray;
use arrow_schema::{ArrowError, Field, ffi::FFI_ArrowSchema};
use pyo3::{
    exceptions::{PyMemoryError, PyTypeError, PyValueError},
    intern,
    prelude::*,
    types::{PyCapsule, PyTuple},
};

use super::{
    foreign,
    stream::{self, Arrays, Pulled},
};
use crate::values::object::type_name;

const SCHEMA: &std::ffi::CStr = c"arrow_schema";
const ARRAY: &std::ffi::CStr = c"arrow_array";
const STREAM: &std::ffi::CStr = c"arrow_array_stream";

/// The capsule of a type.
pub(super) fn schema<'py>(py: Python<'py>, field: &Field) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, stream::schema_for(field).map_err(raised)?, SCHEMA)
}

/// The capsules of an array: its type and itself.
pub(super) fn array<'py>(
    py: Python<'py>,
    field: &Field,
    array: &ArrayRef,
) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
    let exported = FFI_ArrowArray::new(&array.to_data());
    Ok((schema(py, field)?, PyCapsule::new_with_value(py, exported, ARRAY)?))
}

/// The capsule of arrays that are made when they are asked for.
pub(super) fn stream<'py>(
    py: Python<'py>,
    field: Arc<Field>,
    arrays: Arrays,
) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, stream::export(field, arrays), STREAM)
}

/// What an object that speaks the interface gives: a type, and the arrays of it.
///
/// The first word is `None` for an object that does not speak it. Nothing of a stream is pulled.
pub(super) fn taken(object: &Bound<'_, PyAny>) -> PyResult<Option<(Arc<Field>, Arrays)>> {
    let py = object.py();
    if let Some(method) = object.getattr_opt(intern!(py, "__arrow_c_stream__"))? {
        let stream = take_stream(&method.call0()?)?;
        // The producer may be Python code that waits for its turn.
        let pulled = py.detach(|| Pulled::open(stream)).map_err(raised)?;
        return Ok(Some((pulled.field().clone(), Box::new(pulled))));
    }
    let Some(method) = object.getattr_opt(intern!(py, "__arrow_c_array__"))? else {
        return Ok(None);
    };
    let (schema, array) = method.call0()?.cast_into::<PyTuple>()?.extract()?;
    let (field, array) = take_array(&schema, &array)?;
    Ok(Some((Arc::new(field), Box::new(std::iter::once(Ok(array))))))
}

/// The type of an object that speaks the interface.
pub(super) fn taken_schema(object: &Bound<'_, PyAny>) -> PyResult<Field> {
    let py = object.py();
    let Some(method) = object.getattr_opt(intern!(py, "__arrow_c_schema__"))? else {
        return match taken(object)? {
            Some((field, _)) => Ok(field.as_ref().clone()),
            None => Err(PyTypeError::new_err(format!("{} has no schema", type_name(object)))),
        };
    };
    borrow_schema(&method.call0()?)
}

fn take_stream(capsule: &Bound<'_, PyAny>) -> PyResult<FFI_ArrowArrayStream> {
    let pointer = capsule.cast::<PyCapsule>()?.pointer_checked(Some(STREAM))?;
    // JUSTIFICATION: a capsule has nothing but a pointer.
    // SAFETY: by its name it points to a stream; it is moved out, and the capsule keeps an empty one.
    Ok(unsafe { FFI_ArrowArrayStream::from_raw(pointer.as_ptr().cast()) })
}

fn take_array(schema: &Bound<'_, PyAny>, array: &Bound<'_, PyAny>) -> PyResult<(Field, ArrayRef)> {
    let pointer = array.cast::<PyCapsule>()?.pointer_checked(Some(ARRAY))?;
    // JUSTIFICATION: a capsule has nothing but a pointer.
    // SAFETY: by its name it points to an array; it is moved out, and the capsule keeps an empty one.
    let array = unsafe { FFI_ArrowArray::from_raw(pointer.as_ptr().cast()) };
    if array.is_released() {
        return Err(PyValueError::new_err("this array was used before"));
    }
    let field = borrow_schema(schema)?;
    let array = foreign::import(array, field.data_type()).map_err(raised)?;
    Ok((field, array))
}

fn borrow_schema(capsule: &Bound<'_, PyAny>) -> PyResult<Field> {
    let pointer = capsule.cast::<PyCapsule>()?.pointer_checked(Some(SCHEMA))?;
    // JUSTIFICATION: a capsule has nothing but a pointer.
    // SAFETY: by its name it points to a schema, which is only read, while the capsule is alive.
    let schema = unsafe { pointer.cast::<FFI_ArrowSchema>().as_ref() };
    stream::field_of(schema).map_err(raised)
}

/// An error of Arrow as an exception: the one that Python raised, if that was it.
pub(super) fn raised(error: ArrowError) -> PyErr {
    match error {
        ArrowError::ExternalError(error) => match error.downcast::<PyErr>() {
            Ok(error) => *error,
            Err(error) => PyValueError::new_err(error.to_string()),
        },
        ArrowError::MemoryError(text) => PyMemoryError::new_err(text),
        error => PyValueError::new_err(stream::error_text(&error)),
    }
}
