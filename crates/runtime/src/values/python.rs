//! The converters as Python sees them, in `exuvia.values`.

use pyo3::{
    create_exception,
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyList, PyString},
};

use super::{DecodeError, DecodeOptions, EncodeOptions, Malformed, Misfit, Unfit};

create_exception!(
    exuvia.values,
    UnfitError,
    PyValueError,
    "An object that the format has no place for; `path` says where it is."
);
create_exception!(
    exuvia.values,
    MalformedError,
    PyValueError,
    "Bytes that do not follow their format; `offset`, and for text `line` and `column`, say where."
);

/// Writes an object in the value format.
///
/// # Errors
/// `UnfitError`, or what Python raised while the object was looked at.
#[pyfunction]
#[pyo3(signature = (obj, pickle=false))]
pub fn value_dumps<'py>(obj: &Bound<'py, PyAny>, pickle: bool) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    written(py, |out| super::encode_value(py, obj, out, EncodeOptions { pickle }))
}

/// Reads an object in the value format.
///
/// # Errors
/// `MalformedError`, or what Python raised while the objects were made.
#[pyfunction]
#[pyo3(signature = (data, pickle=false))]
pub fn value_loads<'py>(data: &Bound<'py, PyAny>, pickle: bool) -> PyResult<Bound<'py, PyAny>> {
    let (py, data) = (data.py(), input(data)?);
    Ok(super::decode_value(py, data.as_bytes(), DecodeOptions { pickle })?)
}

/// Writes an object as one JSON document.
///
/// # Errors
/// `UnfitError`, or what Python raised while the object was looked at.
#[pyfunction]
pub fn json_dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    written(py, |out| super::encode_json(py, obj, out))
}

/// Reads one JSON document.
///
/// # Errors
/// `MalformedError`, or what Python raised while the objects were made.
#[pyfunction]
pub fn json_loads<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (py, data) = (data.py(), input(data)?);
    Ok(super::decode_json(py, data.as_bytes())?)
}

/// Writes each item of a list or table as one line of JSON.
///
/// # Errors
/// `UnfitError`, or what Python raised while the object was looked at.
#[pyfunction]
pub fn ndjson_dumps<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = obj.py();
    written(py, |out| super::encode_ndjson(py, obj, out))
}

/// Reads a list from lines of JSON.
///
/// # Errors
/// `MalformedError`, or what Python raised while the objects were made.
#[pyfunction]
pub fn ndjson_loads<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let (py, data) = (data.py(), input(data)?);
    Ok(super::decode_ndjson(py, data.as_bytes())?)
}

fn written<'py>(
    py: Python<'py>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Unfit>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut out = Vec::with_capacity(128);
    write(&mut out)?;
    super::object::new::bytes(py, &out)
}

/// The bytes of an argument. Those of anything but `bytes` are copied: reading them may run code
/// that changes them.
fn input<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = data.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    if let Ok(text) = data.cast::<PyString>() {
        return text.encode_utf8();
    }
    let bytes = data.py().get_type::<PyBytes>();
    // bytes(5) would be five zeros.
    let view = data.py().get_type::<pyo3::types::PyMemoryView>().call1((data,))?;
    Ok(bytes.call1((view,))?.cast_into()?)
}

impl From<Unfit> for PyErr {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Value(misfit) => unfit_error(&misfit),
            Unfit::Python(error) => *error,
        }
    }
}

impl From<DecodeError> for PyErr {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed(malformed) => malformed_error(&malformed),
            DecodeError::Python(error) => *error,
        }
    }
}

fn unfit_error(misfit: &Misfit) -> PyErr {
    let path = misfit.path_from("value");
    let error = UnfitError::new_err(format!("{path}: {}", misfit.message));
    Python::attach(|py| match error.value(py).setattr("path", path) {
        Ok(()) => error,
        Err(error) => error,
    })
}

fn malformed_error(malformed: &Malformed) -> PyErr {
    let error = MalformedError::new_err(malformed.to_string());
    let described = Python::attach(|py| -> PyResult<()> {
        let value = error.value(py);
        value.setattr("offset", malformed.offset)?;
        value.setattr("line", malformed.position.map(|position| position.line))?;
        value.setattr("column", malformed.position.map(|position| position.column))
    });
    described.err().unwrap_or(error)
}
