//! What a handler would be called with, for tests: binding without a worker around it.

use bytes::Bytes;
use exuvia_core::{Codec, Failure};
use exuvia_tables::Limits;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyModule, PyTuple},
};

use crate::{
    bind::{Given, bind},
    data::Data,
    engine::worker_module,
    handler::Handler,
    received::Blame,
};

/// A handler as a worker has it.
#[pyclass(unsendable, frozen, module = "exuvia._native")]
pub struct Probe {
    handler: Handler,
}

#[pymethods]
impl Probe {
    #[new]
    fn new(function: &Bound<'_, PyAny>) -> PyResult<Self> {
        let python = python(function.py())?;
        let no_routes: Vec<(String, String)> = Vec::new();
        let plan = python.getattr("plan")?.call1(("probe", "probe", function, no_routes))?;
        Ok(Self { handler: Handler::from_plan(&plan)?.0 })
    }

    /// The arguments of a call with this data: `(positional, keywords)`.
    ///
    /// # Errors
    /// A ValueError of the faults, `[(pointer, message)]`, or of one message where the data is no
    /// JSON; a RuntimeError of what else went wrong.
    #[pyo3(signature = (body, text = Vec::new(), lines = false))]
    fn arguments<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyBytes>,
        text: Vec<(String, String)>,
        lines: bool,
    ) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
        let codec = match body.as_bytes() {
            [] => Codec::Empty,
            _ if lines => Codec::Ndjson,
            _ => Codec::Json,
        };
        let data = Data::whole(codec, Bytes::copy_from_slice(body.as_bytes()));
        let (limits, blame) = (Limits::default(), Blame::default());
        let given = Given { data, text: &text, limits, blame };
        match bind(python(py)?, &self.handler, given, &mut Vec::new()) {
            Ok(arguments) => Ok((arguments.positional, arguments.keywords)),
            Err(Failure::Input { faults }) => {
                let faults = faults.into_iter().map(|fault| (fault.pointer, fault.message));
                Err(PyValueError::new_err((faults.collect::<Vec<_>>(),)))
            }
            Err(Failure::Malformed { message }) => Err(PyValueError::new_err(message)),
            Err(other) => Err(PyRuntimeError::new_err(other.to_string())),
        }
    }
}

fn python(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static PYTHON: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let python = PYTHON.get_or_try_init(py, || worker_module(py).map(Bound::unbind))?;
    Ok(python.bind(py))
}
