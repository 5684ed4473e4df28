//! Exceptions and misfits as data.

use exuvia_core::{Failure, Frame};
use pyo3::{prelude::*, types::PyModule};

use crate::values::{DecodeError, Unfit};

/// An exception a handler raised. `python` is the worker's Python half.
pub(crate) fn exception(python: &Bound<'_, PyModule>, error: &PyErr) -> Failure {
    type Described = (String, String, String, Vec<(String, u32, String)>);
    let py = python.py();
    let described = python
        .getattr("describe")
        // Before Python 3.12 a raised exception and its traceback are kept apart.
        .and_then(|describe| describe.call1((error.value(py), error.traceback(py))))
        .and_then(|described| described.extract::<Described>());
    match described {
        Ok((class, message, traceback, frames)) => {
            let frames = frames
                .into_iter()
                .map(|(file, line, function)| Frame { file, line, function })
                .collect();
            Failure::Exception { class, message, traceback, frames }
        }
        // Out of memory, or text that is not UTF-8: say what can be said.
        Err(second) => {
            let class = error.get_type(py).to_string();
            let message = format!("(it could not be described: {second})");
            Failure::Exception { traceback: format!("{class}\n"), class, message, frames: vec![] }
        }
    }
}

/// A result that the answer's format cannot hold.
pub(crate) fn unfit(python: &Bound<'_, PyModule>, unfit: &Unfit) -> Failure {
    match unfit {
        Unfit::Value(misfit) => {
            Failure::Result { path: misfit.path(), message: misfit.message.clone() }
        }
        Unfit::Python(error) => exception(python, error),
    }
}

/// Data that could not be read.
pub(crate) fn malformed(python: &Bound<'_, PyModule>, error: &DecodeError) -> Failure {
    match error {
        DecodeError::Malformed(malformed) => Failure::Malformed { message: malformed.to_string() },
        DecodeError::Python(error) => exception(python, error),
    }
}
