//! Tensors: NumPy arrays as `.npy` bytes, and back where they lie.

use std::io::Write as _;

use arrow_buffer::Buffer;
use exuvia_core::{Copied, SHARED_FROM};
use exuvia_protocol::Outgoing;
use exuvia_sys::{Spill, Spilled};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyException, PyImportError, PyMemoryError},
    prelude::*,
    types::{PyBytes, PyList},
};

use crate::{convert, encode::outgoing, tables::Values, values::is_plain_array};

/// Whether an object is an array that `.npy` gives back as it was.
pub(crate) fn is_tensor(object: &Bound<'_, PyAny>) -> bool {
    is_plain_array(object) && convert::is_faithful_array(object)
}

/// An array as a payload.
pub(crate) fn write(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    copies: &mut Vec<Copied>,
) -> PyResult<Outgoing> {
    write_to(py, object, copies).map(outgoing)
}

/// An array's bytes, copied once: into what is sent.
pub(crate) fn write_to(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    copies: &mut Vec<Copied>,
) -> PyResult<Spilled> {
    let noted = PyList::empty(py);
    let parts = convert::arrays(py)?.getattr("tensor_parts")?.call1((object, &noted))?;
    let (header, values): (Bound<'_, PyBytes>, Bound<'_, PyAny>) = parts.extract()?;
    convert::count(copies, &noted)?;
    let values = PyUntypedBuffer::get(&values)?;
    let length = header.as_bytes().len() + values.len_bytes();
    let mut spill = Spill::expecting(length as u64, SHARED_FROM)?;
    spill.write_all(header.as_bytes())?;
    if values.len_bytes() > 0 {
        // JUSTIFICATION: the bytes of an array are only had by their address.
        // SAFETY: the buffer is held, is one run of bytes and so long; nobody else runs Python code
        // meanwhile, as the interpreter stays attached.
        let bytes =
            unsafe { std::slice::from_raw_parts(values.buf_ptr().cast(), values.len_bytes()) };
        spill.write_all(bytes)?;
    }
    let why = "it is put into memory that can be shared".to_owned();
    copies.push(Copied { what: "array".into(), bytes: values.len_bytes() as u64, why });
    Ok(spill.finish()?)
}

/// The array whose bytes these are; or why there is none.
pub(crate) fn read<'py>(
    py: Python<'py>,
    buffer: &Buffer,
    copies: &mut Vec<Copied>,
) -> PyResult<Result<Bound<'py, PyAny>, String>> {
    let values = Bound::new(py, Values::over(buffer.clone()))?;
    let noted = PyList::empty(py);
    let read = convert::arrays(py)?.getattr("tensor")?.call1((values, &noted));
    convert::count(copies, &noted)?;
    match read {
        Ok(array) => Ok(Ok(array)),
        Err(error)
            if error.is_instance_of::<PyException>(py)
                && !error.is_instance_of::<PyMemoryError>(py)
                && !error.is_instance_of::<PyImportError>(py) =>
        {
            Ok(Err(error.value(py).to_string()))
        }
        Err(error) => Err(error),
    }
}
