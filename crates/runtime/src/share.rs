//! Tables and arrays that are put into memory once and handed to many calls.

use exuvia_core::Copied;
use exuvia_sys::{Sealed, Spilled};
use exuvia_tables::WriteError;
use pyo3::{
    exceptions::{PyMemoryError, PyTypeError, PyValueError},
    prelude::*,
};

use crate::{attach, convert, encode, tensor};

/// A table or array in memory that any worker can map. As an argument of a call it is what it was
/// made of, and nothing is copied.
#[pyclass(frozen, module = "exuvia")]
pub struct Shared {
    sealed: Sealed,
    /// The extension it is written as, and for a table which.
    number: i8,
    kind: Option<u8>,
    name: String,
}

#[pymethods]
impl Shared {
    /// Bytes of memory that it takes.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.sealed.length()
    }

    fn __repr__(&self) -> String {
        format!("<exuvia.Shared: a {} of {} bytes>", self.name, self.sealed.length())
    }
}

/// Puts a table or array into memory that calls hand over as it is.
///
/// # Errors
/// `TypeError` for what is neither; what its own code raises.
#[pyfunction]
pub fn share(obj: &Bound<'_, PyAny>) -> PyResult<Shared> {
    let py = obj.py();
    let mut copies: Vec<Copied> = Vec::new();
    let name = convert::type_name(obj);
    if tensor::is_tensor(obj) {
        let spilled = tensor::write_to(py, obj, &mut copies)?;
        let (sealed, number) = (sealed(spilled)?, attach::TENSOR);
        return Ok(Shared { sealed, number, kind: None, name });
    }
    let neither = || PyTypeError::new_err(format!("a `{name}` is neither a table nor an array"));
    let kind = convert::kind_of(obj).or_else(|| convert::is_table(obj).then_some(0));
    let kind = kind.ok_or_else(neither)?;
    let table = convert::take_faithfully(obj, &mut copies)?.ok_or_else(neither)?;
    let spilled = py.detach(|| encode::write_ipc(&table)).map_err(raised)?;
    let sealed = sealed(spilled)?;
    Ok(Shared { sealed, number: attach::TABLE, kind: Some(kind), name })
}

// === impl Shared ===

impl Shared {
    /// The number of its extension, what the extension's body begins with, and the memory.
    pub(crate) fn parts(&self) -> (i8, Vec<u8>, Sealed) {
        (self.number, self.kind.into_iter().collect(), self.sealed.clone())
    }
}

fn sealed(spilled: Spilled) -> PyResult<Sealed> {
    match spilled {
        Spilled::Many(sealed) => Ok(sealed),
        Spilled::Few(bytes) => Ok(Sealed::holding(&bytes)?),
    }
}

pub(crate) fn raised(error: WriteError) -> PyErr {
    match error {
        WriteError::Sink(error) => PyMemoryError::new_err(error.to_string()),
        error => PyValueError::new_err(error.to_string()),
    }
}
