//! How the engine answers calls.

use std::time::Instant;

use exuvia_core::{Codec, Copied, Failure, Resource, SHARED_FROM};
use exuvia_protocol::{Outgoing, frame::ResultHead};
use pyo3::{
    prelude::*,
    types::{PyList, PyModule},
};

use super::{Engine, Running, SCRATCH, TOGETHER, broken};
use crate::{
    encode::{Wanted, encode, held},
    pieces::Pieces,
    raised,
};

// === impl Engine ===

impl Engine {
    /// A task that was not asked to end and is cancelled all the same did it to itself: that is an
    /// exception like any other.
    pub(super) fn end_task(
        &self,
        task: &Bound<'_, PyAny>,
        running: Running,
        was_asked: bool,
    ) -> PyResult<()> {
        let py = task.py();
        let result = task.call_method0("result");
        if was_asked && let Err(error) = &result {
            let used = self.event_loop.borrow();
            let cancelled = used.as_ref().map(|used| used.cancelled.clone_ref(py));
            drop(used);
            if cancelled.is_some_and(|cancelled| error.matches(py, cancelled).unwrap_or(false)) {
                return self.fail(&running, &Failure::Cancelled);
            }
        }
        if self.is_streamed(running.call) {
            // Nothing of it is read any more, so it has no good end.
            return match result {
                Ok(_) if was_asked => self.fail(&running, &Failure::Cancelled),
                result => self.end_stream(py, running.call, result.map(drop)),
            };
        }
        self.end(py, running, result)
    }

    /// Writes a call's end.
    pub(super) fn end(
        &self,
        py: Python<'_>,
        mut running: Running,
        result: PyResult<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let python = self.python.bind(py);
        let value = match result {
            Ok(value) => value,
            Err(error) => return self.fail(&running, &running.raised(python, &error)),
        };
        let run_ns = running.run_ns();
        let mut out = self.scratch.take();
        out.clear();
        let wanted = running.wanted;
        let encoded = match running.gathered {
            true => joined(python, &value, wanted, &mut out, &mut running.copies),
            false => encode(python, &value, wanted, &mut out, &mut running.copies),
        };
        match encoded {
            Ok(None) if running.copies.is_empty() => {
                let mut connection = self.connection.borrow_mut();
                let head = ResultHead::new(wanted.codec, run_ns);
                connection.result_from(running.call, running.slot, head, &out);
            }
            Ok(payload) => {
                let payload =
                    payload.unwrap_or_else(|| Outgoing::from(bytes::Bytes::copy_from_slice(&out)));
                if let Some(failure) = self.too_long(&payload)? {
                    return self.fail(&running, &failure);
                }
                let head = ResultHead::new(wanted.codec, run_ns);
                let (call, slot) = (running.call, running.slot);
                self.connection.borrow_mut().result(call, slot, head, &running.copies, payload);
            }
            Err(failure) => return self.fail(&running, &failure),
        }
        if out.capacity() <= SCRATCH {
            self.scratch.replace(out);
        }
        self.ended_call(&running)
    }

    /// Why a payload may not be sent, if it is too long.
    fn too_long(&self, payload: &Outgoing) -> PyResult<Option<Failure>> {
        let limit = self.connection.borrow().peer_limits().unwrap_or_default().max_payload;
        let mut length = payload.bytes.len() as u64;
        for memory in &payload.descriptors {
            let size = rustix::fs::fstat(memory).map_err(std::io::Error::from)?.st_size;
            length = length.saturating_add(u64::try_from(size).unwrap_or(0));
        }
        if length <= limit {
            return Ok(None);
        }
        if self.confined.get() {
            let (resource, used) = (Resource::Result, Some(length));
            return Ok(Some(Failure::Limit { resource, limit, used }));
        }
        let message = format!("{length} bytes are more than the limit of {limit}");
        Ok(Some(Failure::Result { path: "result".into(), message }))
    }

    pub(super) fn fail(&self, running: &Running, failure: &Failure) -> PyResult<()> {
        let (call, slot, run_ns) = (running.call, running.slot, running.run_ns());
        self.streams.borrow_mut().remove(&call);
        self.connection.borrow_mut().failure(call, slot, run_ns, failure).map_err(broken)?;
        self.ended_call(running)
    }

    /// Ends are written together, as many as come within [`TOGETHER`].
    pub(super) fn ended_call(&self, running: &Running) -> PyResult<()> {
        Python::attach(|py| self.flush(self.python.bind(py)))?;
        self.claims().finish(running.slot, running.call);
        let now = Instant::now();
        if let Some(handler) = self.handlers.borrow().get(running.handler as usize) {
            handler.last_run.set(now - running.began);
        }
        match self.unwritten.get() {
            None if now - running.began < TOGETHER => self.unwritten.set(Some(now)),
            Some(since) if now - since < TOGETHER => {}
            _ => {
                self.write()?;
            }
        }
        Ok(())
    }
}

impl Running {
    pub(super) fn run_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

/// What a generator yielded, written as if it had been streamed.
fn joined(
    python: &Bound<'_, PyModule>,
    list: &Bound<'_, PyAny>,
    wanted: Wanted,
    out: &mut Vec<u8>,
    copies: &mut Vec<Copied>,
) -> Result<Option<Outgoing>, Failure> {
    if matches!(wanted.codec, Codec::Value | Codec::Arguments) {
        return encode(python, list, wanted, out, copies);
    }
    let mut pieces = Pieces::new(wanted);
    let values = list.cast::<PyList>().map_err(PyErr::from);
    let values = values.map_err(|error| raised::exception(python, &error))?;
    for value in values {
        out.extend_from_slice(&pieces.add(python, &value, copies)?);
    }
    out.extend_from_slice(&pieces.finish()?);
    if out.len() <= SHARED_FROM {
        return Ok(None);
    }
    held(out, Vec::new())
        .map(Some)
        .map_err(|error| Failure::Host { message: format!("no memory for the result: {error}") })
}

/// The codec an answer has where the caller did not say.
pub(super) fn usual(codec: Codec) -> Codec {
    if codec == Codec::Empty { Codec::Json } else { codec }
}
