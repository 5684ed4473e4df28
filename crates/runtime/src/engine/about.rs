//! What a handler may ask of the call it runs in, and limits that hold for that call alone.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use exuvia_core::{TraceContext, about};
use exuvia_protocol::IncomingCall;
use pyo3::{exceptions::PyMemoryError, prelude::*, types::PyDict};
use rustix::process::{Resource, Rlimit};

use super::{Engine, Running};

/// What came with a call beside its data.
#[derive(Debug)]
pub(super) struct About {
    pub(super) trace: Option<TraceContext>,
    tracestate: Option<String>,
    request: Option<String>,
    /// Bytes of memory that it may take.
    memory: Option<u64>,
    /// The same, with what this process had before.
    ceiling: Cell<Option<u64>>,
}

/// A limit of this process's memory, for as long as this is held.
pub(super) struct Limited {
    before: Rlimit,
}

/// A call, as far as it is asked about.
#[derive(Debug, Clone)]
pub(super) struct Current {
    pub(super) public: u64,
    handler: u32,
    deadline: Option<Instant>,
    pub(super) about: Option<Rc<About>>,
}

// === impl About ===

impl About {
    pub(super) fn of(call: &IncomingCall) -> Option<Rc<Self>> {
        let said = |name: &str| {
            let mut texts = call.text_arguments.iter();
            texts.find(|(own, _)| own == name).map(|(_, text)| text.clone())
        };
        if call.head.trace.is_none() && !call.text_arguments.iter().any(|(n, _)| n.starts_with(':'))
        {
            return None;
        }
        Some(Rc::new(Self {
            trace: call.head.trace,
            tracestate: said(about::TRACESTATE),
            request: said(about::REQUEST),
            memory: said(about::MEMORY).and_then(|text| text.parse().ok()),
            ceiling: Cell::new(None),
        }))
    }
}

/// When a call is stopped; a time left of 0 is no limit.
pub(super) fn deadline(call: &IncomingCall) -> Option<Instant> {
    match call.head.time_left_ms {
        0 => None,
        left => Instant::now().checked_add(Duration::from_millis(left.into())),
    }
}

// === impl Limited ===

impl Limited {
    /// Holds a call to the memory that it may take, counted from when it began: what needs more
    /// gets a MemoryError, or what its library makes of it.
    pub(super) fn by(about: Option<&Rc<About>>) -> Option<Self> {
        let about = about?;
        let memory = about.memory?;
        let ceiling = match about.ceiling.get() {
            Some(ceiling) => ceiling,
            None => data_size()?.saturating_add(memory),
        };
        about.ceiling.set(Some(ceiling));
        let before = rustix::process::getrlimit(Resource::Data);
        let current = Some(before.maximum.map_or(ceiling, |most| most.min(ceiling)));
        rustix::process::setrlimit(Resource::Data, Rlimit { current, ..before }).ok()?;
        Some(Self { before })
    }

    /// Tells who raised it for want of memory that it was this limit.
    pub(super) fn explain(about: Option<&Rc<About>>, error: &PyErr, py: Python<'_>) {
        if let Some(memory) = about.and_then(|about| about.memory)
            && error.is_instance_of::<PyMemoryError>(py)
        {
            let note = format!("the call's route limits its memory to {memory} bytes");
            // A note that cannot be added is only missing.
            let _ = error.value(py).call_method1("add_note", (note,));
        }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // A limit below the hard one can always be set again.
        let _ = rustix::process::setrlimit(Resource::Data, self.before);
    }
}

/// Bytes of private, writable memory of this process, which is what the limit counts.
fn data_size() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(5)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

// === impl Current ===

impl Current {
    pub(super) fn of(running: &Running) -> Self {
        Self {
            public: running.public,
            handler: running.handler,
            deadline: running.deadline,
            about: running.about.clone(),
        }
    }
}

// === impl Engine ===

impl Engine {
    /// What is known of a call that runs, by its public number.
    pub(super) fn about<'py>(
        &self,
        py: Python<'py>,
        public: u64,
    ) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(call) = self.running(public) else { return Ok(None) };
        let known = PyDict::new(py);
        // As `exuvia_core::CallId` is written.
        known.set_item("id", format!("{:08x}-{:08x}", public >> 32, public & 0xffff_ffff))?;
        if let Some(handler) = self.names.borrow().get(call.handler as usize) {
            known.set_item("handler", handler)?;
        }
        let left = call.deadline.map(|end| end.saturating_duration_since(Instant::now()));
        known.set_item("time_left", left.map(|left| left.as_secs_f64()))?;
        if let Some(about) = &call.about {
            known.set_item("traceparent", about.trace.as_ref().map(TraceContext::to_string))?;
            known.set_item("tracestate", &about.tracestate)?;
            known.set_item("request_id", &about.request)?;
        }
        Ok(Some(known))
    }

    fn running(&self, public: u64) -> Option<Current> {
        if let Some(current) = self.current.borrow().as_ref().filter(|it| it.public == public) {
            return Some(current.clone());
        }
        let tasks = self.tasks.borrow();
        let task = tasks.values().map(|task| &task.running).find(|it| it.public == public);
        if let Some(running) = task {
            return Some(Current::of(running));
        }
        let streams = self.streams.borrow();
        let mut running = streams.values().map(|stream| &stream.running);
        running.find(|it| it.public == public).map(Current::of)
    }

    /// Makes a library for traces, where the environment has one that is loaded, know the caller's.
    pub(super) fn trace(&self, python: &Bound<'_, PyModule>, running: &Running) -> PyResult<()> {
        let about = running.about.as_ref();
        let trace = about.and_then(|about| Some((about.trace?, about.tracestate.as_deref())));
        if trace.is_none() && !self.traced.get() {
            return Ok(());
        }
        let said = trace.map(|(trace, state)| (trace.to_string(), state));
        let set = python.getattr("trace_call")?.call1((said,))?;
        self.traced.set(set.is_truthy()?);
        Ok(())
    }
}
