//! What a generator in a worker yields, as an iterator here.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::{Buf, Bytes, BytesMut};
use exuvia_core::{Diagnostics, Outcome, Rest};
use exuvia_runtime::attach::Attachments;
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
};

use crate::{
    pool::{host_runtime, wait},
    result::{call_error, read},
};

/// Bytes of the length before each value.
const LENGTH: usize = 4;

/// The values that a handler yields. The handler waits while none is asked for; closed or dropped
/// before its end, the call is stopped.
#[pyclass(frozen, module = "exuvia")]
pub struct Results {
    /// Held by the thread that reads.
    reading: AtomicBool,
    state: Mutex<State>,
    diagnostics: Diagnostics,
    pickle: bool,
    /// What owns the workers, kept as long as somebody may read on.
    _owner: Py<PyAny>,
}

struct State {
    rest: Option<Rest>,
    /// What has come and is not a whole value yet.
    came: BytesMut,
}

#[pymethods]
impl Results {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.reading.swap(true, Ordering::Acquire) {
            return Err(PyValueError::new_err("another thread is reading this stream already"));
        }
        let next = self.next(py);
        self.reading.store(false, Ordering::Release);
        next
    }

    /// Stops the handler; nothing more comes.
    fn close(&self) {
        // Dropped outside the lock: it tells the host.
        let rest = self.state().rest.take();
        drop(rest);
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        self.close();
    }
}

// === impl Results ===

impl Results {
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        loop {
            let (whole, rest) = {
                let mut state = self.state();
                (state.value(), state.rest.clone())
            };
            if let Some(value) = whole {
                let attachments = Attachments::none();
                return read(py, &value, &attachments, self.pickle, &self.diagnostics).map(Some);
            }
            let Some(rest) = rest else { return Ok(None) };
            let next = wait(py, host_runtime()?.spawn(async move { rest.next().await }));
            // What was on its way when Ctrl-C came may be lost.
            let next = next.inspect_err(|_| self.close())?;
            match next {
                Some(Ok(piece)) => self.state().came.extend_from_slice(&piece),
                Some(Err(failure)) => {
                    self.close();
                    return Err(call_error(py, &failure, &self.diagnostics));
                }
                None => {
                    self.close();
                    if self.state().came.is_empty() {
                        return Ok(None);
                    }
                    return Err(PyRuntimeError::new_err("the last value came in part only"));
                }
            }
        }
    }

    pub(crate) fn of(
        py: Python<'_>,
        outcome: Outcome,
        pickle: bool,
        owner: Py<PyAny>,
    ) -> PyResult<Self> {
        let Outcome { result, diagnostics } = outcome;
        let payload = result.map_err(|failure| call_error(py, &failure, &diagnostics))?;
        let Some(rest) = payload.rest else {
            let message = format!("{} yields nothing: it is no generator", diagnostics.handler);
            return Err(PyTypeError::new_err(message));
        };
        let state = State { rest: Some(rest), came: BytesMut::from(&payload.body[..]) };
        Ok(Self {
            reading: AtomicBool::new(false),
            state: Mutex::new(state),
            diagnostics,
            pickle,
            _owner: owner,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// The next value, if all of it has come.
    fn value(&mut self) -> Option<Bytes> {
        let length = u32::from_le_bytes(*self.came.first_chunk::<LENGTH>()?) as usize;
        if self.came.len() < LENGTH + length {
            return None;
        }
        self.came.advance(LENGTH);
        Some(self.came.split_to(length).freeze())
    }
}
