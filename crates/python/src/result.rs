//! What comes back from a pool, as Python objects and exceptions.

use exuvia_core::{Diagnostics, Failure, Outcome};
use exuvia_host::StartError;
use exuvia_runtime::values::{DecodeError, DecodeOptions, Unfit, decode_json, decode_value};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    prelude::*,
};

/// A call's result, or the exception for its failure.
pub(crate) fn result(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyAny>> {
    match outcome.result {
        Ok(payload) => {
            let options = DecodeOptions { pickle: true };
            decode_value(py, &payload.body, options).map_err(|error| match error {
                DecodeError::Python(error) => *error,
                // The class of a pickled object may be there and not here.
                DecodeError::Malformed(why) => {
                    let message = format!("it cannot be read by this program: {}", why.message);
                    let failure = Failure::Result { path: "result".into(), message };
                    call_error(py, &failure, &outcome.diagnostics)
                }
            })
        }
        Err(failure) => Err(call_error(py, &failure, &outcome.diagnostics)),
    }
}

/// The exception for a pool that did not start.
pub(crate) fn start_error(py: Python<'_>, error: StartError) -> PyErr {
    match error {
        StartError::Load(failure) => call_error(py, &failure, &Diagnostics::default()),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// The exception for arguments that cannot be written down as `[args, kwargs]`.
pub(crate) fn unfit(unfit: Unfit) -> PyErr {
    match unfit {
        Unfit::Value(misfit) => {
            let path = misfit.path_from("");
            let path = match (path.strip_prefix("[0]"), path.strip_prefix("[1]")) {
                (Some(rest), _) => format!("args{rest}"),
                (_, Some(rest)) => format!("kwargs{rest}"),
                _ => path,
            };
            PyTypeError::new_err(format!("{path}: {}", misfit.message))
        }
        Unfit::Python(error) => *error,
    }
}

/// The exception for a failure, made by `exuvia.errors`.
fn call_error(py: Python<'_>, failure: &Failure, diagnostics: &Diagnostics) -> PyErr {
    let object = |text: serde_json::Result<Vec<u8>>| {
        let text = text.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        decode_json(py, &text).map_err(|error| PyRuntimeError::new_err(error.to_string()))
    };
    let made = || {
        let data = object(serde_json::to_vec(failure))?;
        let diagnostics = object(serde_json::to_vec(diagnostics))?;
        let make = py.import("exuvia.errors")?.getattr("from_failure")?;
        make.call1((failure.to_string(), data, diagnostics))
    };
    match made() {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
