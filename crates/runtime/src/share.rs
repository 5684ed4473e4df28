//! Tables and arrays that are put into memory once and handed to many calls.

use exuvia_core::Copied;
use exuvia_sys::{Sealed, Spilled};
use exuvia_tables::{Limits, WriteError};
use pyo3::{
    exceptions::{PyMemoryError, PyTypeError, PyValueError},
    prelude::*,
};

use crate::{attach, convert, encode, tensor, values::is_plain_array};

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
    if !convert::is_table(obj) && !is_plain_array(obj) {
        let message = format!("a `{name}` is neither a table nor an array");
        return Err(PyTypeError::new_err(message));
    }
    let unfit = |why: &str| PyTypeError::new_err(format!("this `{name}` cannot be shared: {why}"));
    let changed = "as a table it would not stay what it is; `exuvia.Table.from_arrow` makes one";
    let kind = convert::kind_of(obj).ok_or_else(|| unfit(changed))?;
    let table = match convert::take_faithfully(obj, &mut copies) {
        Ok(table) => table
            .filter(|table| table.is_readable(&Limits::default()))
            .ok_or_else(|| unfit(changed))?,
        Err(error)
            if error.is_instance_of::<PyTypeError>(py)
                || error.is_instance_of::<PyValueError>(py) =>
        {
            return Err(unfit(&error.value(py).to_string()));
        }
        Err(error) => return Err(error),
    };
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
