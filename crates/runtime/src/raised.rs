//! Exceptions and misfits as data.

use exuvia_core::{Failure, Frame};
use pyo3::{exceptions::PyBaseException, prelude::*, types::PyModule};

use crate::values::{DecodeError, Unfit, object::Lazy};

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
        Ok((class, message, ..)) if let Some((status, said)) = refusal(error.value(py)) => {
            Failure::Refused { status, class, message: said.unwrap_or(message) }
        }
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

/// Whether an exception says that the caller asked for what cannot be: with which status, and in
/// which words. The attribute's name is our own, so that an error of some other service's client is
/// not taken for one; the exceptions that web frameworks have for it are known.
fn refusal(error: &Bound<'_, PyBaseException>) -> Option<(u16, Option<String>)> {
    let text = |name: &str| error.getattr(name).ok()?.extract::<String>().ok();
    let (status, said) = if let Ok(status) = error.getattr("exuvia_status") {
        (status, None)
    } else if STARLETTE.is_base_of(&error.get_type()) {
        (error.getattr("status_code").ok()?, text("detail"))
    } else if WERKZEUG.is_base_of(&error.get_type()) {
        (error.getattr("code").ok()?, text("description"))
    } else {
        return None;
    };
    let status: u16 = status.extract().ok()?;
    (400..500).contains(&status).then_some((status, said))
}

static STARLETTE: Lazy = Lazy::new("starlette.exceptions", "HTTPException");
static WERKZEUG: Lazy = Lazy::new("werkzeug.exceptions", "HTTPException");

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
