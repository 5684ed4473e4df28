//! What comes back from a pool, as Python objects and exceptions.

use exuvia_core::{Diagnostics, Failure, Outcome};
use exuvia_host::StartError;
use exuvia_runtime::{
    attach::Attachments,
    data::Data,
    values::{DecodeError, DecodeOptions, Unfit, decode_json, decode_value_with},
};
use exuvia_tables::Limits;
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    prelude::*,
};

/// A call's result, or the exception for its failure.
pub(crate) fn result<'py>(
    py: Python<'py>,
    outcome: &mut Outcome,
    pickle: bool,
) -> PyResult<Bound<'py, PyAny>> {
    match &outcome.result {
        Ok(payload) => {
            let data = Data::of(payload)?;
            let attachments = Attachments::of(&data, limits());
            let value = read(py, data.bytes(), &attachments, pickle, &outcome.diagnostics)?;
            outcome.diagnostics.copies.append(&mut attachments.copies());
            Ok(value)
        }
        Err(failure) => Err(call_error(py, failure, &outcome.diagnostics)),
    }
}

/// The same with what the host measured, as `exuvia.Diagnostics` takes it.
pub(crate) fn measured(
    py: Python<'_>,
    mut outcome: Outcome,
    pickle: bool,
) -> PyResult<(Bound<'_, PyAny>, Bound<'_, PyAny>)> {
    let value = result(py, &mut outcome, pickle)?;
    Ok((value, as_object(py, &outcome.diagnostics)?))
}

/// An object of a result's bytes.
pub(crate) fn read<'py>(
    py: Python<'py>,
    bytes: &[u8],
    attachments: &Attachments<'_>,
    pickle: bool,
    diagnostics: &Diagnostics,
) -> PyResult<Bound<'py, PyAny>> {
    let options = DecodeOptions { pickle };
    decode_value_with(py, bytes, options, attachments).map_err(|error| match error {
        DecodeError::Python(error) => *error,
        // The class of a pickled object may be there and not here.
        DecodeError::Malformed(why) => {
            let message = format!("it cannot be read by this program: {}", why.message);
            let failure = Failure::Result { path: "result".into(), message };
            call_error(py, &failure, diagnostics)
        }
    })
}

/// A result is as large as it is: the worker that made it has had the memory.
fn limits() -> Limits {
    Limits { max_bytes: u64::MAX, ..Limits::default() }
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
pub(crate) fn call_error(py: Python<'_>, failure: &Failure, diagnostics: &Diagnostics) -> PyErr {
    let made = || {
        let data = as_object(py, failure)?;
        let diagnostics = as_object(py, diagnostics)?;
        let make = py.import("exuvia.errors")?.getattr("from_failure")?;
        make.call1((failure.to_string(), data, diagnostics))
    };
    match made() {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// Our data as dicts, lists and plain values.
pub(crate) fn as_object<'py>(
    py: Python<'py>,
    data: &impl serde::Serialize,
) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_vec(data);
    let text = text.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    decode_json(py, &text).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
