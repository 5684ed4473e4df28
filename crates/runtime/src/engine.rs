//! The worker's end of the protocol: reads calls, runs them, writes their ends.
//!
//! Everything happens on the main thread, in [`Engine::turn`]: by itself where all handlers are
//! sync, or as what asyncio's loop does when it selects. No borrow of the state is held while
//! Python code runs, because that code may come back here (a task's end, a nested loop).

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::CStr,
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use bytes::Buf;
use exuvia_core::{Codec, Failure, HandlerInfo};
use exuvia_protocol::{
    Claims, Connection, Event, Hello, IncomingCall, Limits, LoadTarget, Ready, Role, STACKS_SIGNAL,
    frame::ResultHead,
};
use exuvia_sys::SharedPage;
use pyo3::{
    exceptions::{PyConnectionError, PyOSError},
    ffi::c_str,
    prelude::*,
    types::{PyList, PyModule, PyTuple},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    bind::bind,
    handler::Handler,
    raised,
    values::{EncodeOptions, encode_json, encode_ndjson, encode_value},
};

/// The name of a worker's process.
pub(crate) const WORKER_NAME: &CStr = c"exuvia-worker";
/// The descriptors a worker is given (section 1 of the protocol page).
const SOCKET_FD: i32 = 3;
const PAGE_FD: i32 = 5;
/// Bytes asked for in one read.
const READ: usize = 32 << 10;
/// Ends of calls wait no longer than this for company before they are written.
const TOGETHER: Duration = Duration::from_micros(100);
/// A scratch buffer that grew beyond this is given back.
const SCRATCH: usize = 1 << 20;

/// Runs this process as a worker. Called once, by the host's bootstrap.
///
/// # Errors
/// The descriptors are not what a host gives; or the host broke the protocol.
#[pyfunction]
pub fn main(py: Python<'_>) -> PyResult<()> {
    let _ = rustix::thread::set_name(WORKER_NAME);
    let python = worker_module(py)?;
    let engine = Bound::new(py, Engine::open(&python)?)?;
    python.getattr("main")?.call1((engine, STACKS_SIGNAL))?;
    Ok(())
}

/// The Python half of a worker.
pub(crate) fn worker_module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let source = c_str!(include_str!("worker.py"));
    PyModule::from_code(py, source, c"<exuvia worker>", c"_exuvia_worker")
}

/// One worker's state.
#[pyclass(unsendable, frozen, module = "_exuvia_runtime")]
pub struct Engine {
    socket: OwnedFd,
    page: SharedPage,
    /// The Python half.
    python: Py<PyModule>,
    /// Which call the current context belongs to.
    current_call: Py<PyAny>,
    coroutine: Py<PyAny>,
    handlers: RefCell<Vec<Handler>>,
    connection: RefCell<Connection>,
    tasks: RefCell<HashMap<u64, Task>>,
    event_loop: RefCell<Option<EventLoop>>,
    /// What is read goes here first.
    buffer: RefCell<Vec<u8>>,
    /// Results are written here first.
    scratch: RefCell<Vec<u8>>,
    /// When the oldest unwritten end was made.
    unwritten: Cell<Option<Instant>>,
    /// The host has no more calls: what is open is ended, then this worker ends.
    draining: Cell<bool>,
    ended: Cell<bool>,
}

/// What is needed of asyncio.
struct EventLoop {
    event_loop: Py<PyAny>,
    start: Py<PyAny>,
    set_running_loop: Py<PyAny>,
    cancelled: Py<PyAny>,
}

/// A call whose coroutine was suspended.
struct Task {
    task: Py<PyAny>,
    running: Running,
    /// The host asked for its end.
    cancelled: Cell<bool>,
}

/// What is kept of a call while it runs.
#[derive(Clone, Copy)]
struct Running {
    call: u64,
    slot: u16,
    handler: u32,
    accept: Codec,
    may_pickle: bool,
    began: Instant,
}

/// Tells the engine that a task has ended.
#[pyclass(unsendable, frozen, module = "_exuvia_runtime")]
struct Done {
    engine: Py<Engine>,
    call: u64,
}

#[pymethods]
impl Engine {
    /// Greets the host and returns what to import: `(search path, [(module, file, attribute)],
    /// preload, [(module, file, attribute)])`; `None` when the host is gone.
    fn greet<'py>(
        &self,
        py: Python<'py>,
        version: String,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let load = loop {
            match self.next_event()? {
                Some(Event::Hello(hello)) => {
                    let limits =
                        Limits { max_payload: hello.limits.max_payload, ..Limits::default() };
                    let greeting = Hello { python: Some(version), ..Hello::new(limits) };
                    self.connection.borrow_mut().hello(&greeting).map_err(broken)?;
                    break hello.load.unwrap_or_default();
                }
                Some(_) => return Err(broken("the host did not greet")),
                None if self.ended.get() => return Ok(None),
                None => {
                    self.wait(py, -1, None)?;
                    self.read()?;
                }
            }
        };
        self.write()?;
        let list = |targets: Vec<LoadTarget>| {
            let targets = targets.into_iter();
            let parts = |target: LoadTarget| (target.module, target.file, target.attribute);
            PyList::new(py, targets.map(parts).collect::<Vec<_>>())
        };
        let (targets, warm) = (list(load.targets)?, list(load.warm)?);
        Ok(Some((load.search_path, targets, load.preload, warm).into_pyobject(py)?))
    }

    /// Tells the host that a handler is not there.
    fn refuse(&self, py: Python<'_>, message: String, traceback: String) -> PyResult<()> {
        self.tell(py, &Ready::Failed(Failure::Load { message, traceback }))
    }

    /// Takes the handlers and tells the host that they are there.
    fn ready(&self, py: Python<'_>, plans: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        let mut handlers = Vec::with_capacity(plans.len());
        let mut infos: Vec<HandlerInfo> = Vec::with_capacity(plans.len());
        for plan in &plans {
            let (handler, info) = Handler::from_plan(plan)?;
            handlers.push(handler);
            infos.push(info);
        }
        self.handlers.replace(handlers);
        self.tell(py, &Ready::Handlers(infos))
    }

    /// Whether any handler needs an event loop.
    #[getter]
    fn has_async(&self) -> bool {
        self.handlers.borrow().iter().any(|handler| handler.is_async)
    }

    /// Uses asyncio's loop for coroutines.
    fn use_loop(
        &self,
        event_loop: Py<PyAny>,
        start: Py<PyAny>,
        set_running_loop: Py<PyAny>,
        cancelled: Py<PyAny>,
    ) {
        let used = EventLoop { event_loop, start, set_running_loop, cancelled };
        self.event_loop.replace(Some(used));
    }

    /// Waits up to `timeout` ms (-1: for ever) for the host or for `other` (a descriptor; -1:
    /// none), and does what there is to do. Says whether `other` is readable; `None` when the host
    /// is done with this worker.
    fn turn(slf: &Bound<'_, Self>, timeout: i64, other: i32) -> PyResult<Option<bool>> {
        let this = slf.borrow();
        let py = slf.py();
        this.write()?;
        let other = match other {
            -1 => None,
            // JUSTIFICATION: asyncio's selector gives its descriptor as a number.
            // SAFETY: the selector that called us owns it and is alive for the whole call.
            fd => Some(unsafe { BorrowedFd::borrow_raw(fd) }),
        };
        let other_ready = this.wait(py, timeout, other)?;
        this.claims().tick();
        this.read()?;
        while let Some(event) = this.next_event()? {
            Self::obey(slf, event)?;
        }
        let written = this.write()?;
        let drained = this.draining.get() && written && this.tasks.borrow().is_empty();
        Ok(if this.ended.get() || drained { None } else { Some(other_ready) })
    }
}

#[pymethods]
impl Done {
    /// A task's done callback.
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let engine = self.engine.bind(task.py()).borrow();
        let held = engine.tasks.borrow_mut().remove(&self.call);
        match held {
            Some(held) => engine.end_task(task, held.running, held.cancelled.get()),
            None => Ok(()),
        }
    }
}

impl Engine {
    /// Takes the descriptors the host gave.
    pub(crate) fn open(python: &Bound<'_, PyModule>) -> PyResult<Self> {
        // JUSTIFICATION: descriptors are handed down by number.
        // SAFETY: the host gives these two to a worker and nobody else in this process knows them;
        // `main` is called once. If they are not open, the next lines fail and say so.
        let (socket, page) =
            unsafe { (OwnedFd::from_raw_fd(SOCKET_FD), OwnedFd::from_raw_fd(PAGE_FD)) };
        let not_a_worker = |error: io::Error| {
            PyOSError::new_err(format!("this process was not started by an exuvia host: {error}"))
        };
        rustix::io::ioctl_fionbio(&socket, true).map_err(|error| not_a_worker(error.into()))?;
        let page = SharedPage::open(page).map_err(not_a_worker)?;
        if Claims::open(page.words()).is_none() {
            return Err(not_a_worker(io::Error::other("no status page")));
        }
        Ok(Self {
            socket,
            page,
            python: python.clone().unbind(),
            current_call: python.getattr("current_call")?.getattr("set")?.unbind(),
            coroutine: python.getattr("types")?.getattr("CoroutineType")?.unbind(),
            handlers: RefCell::default(),
            connection: RefCell::new(Connection::new(Role::Worker, Limits::default())),
            tasks: RefCell::default(),
            event_loop: RefCell::default(),
            buffer: RefCell::new(vec![0; READ]),
            scratch: RefCell::default(),
            unwritten: Cell::new(None),
            draining: Cell::new(false),
            ended: Cell::new(false),
        })
    }

    fn claims(&self) -> Claims<'_> {
        Claims::of(self.page.words())
    }

    // --- the socket

    /// Sends a message now.
    fn tell(&self, py: Python<'_>, ready: &Ready) -> PyResult<()> {
        self.connection.borrow_mut().ready(ready).map_err(broken)?;
        while !self.write()? {
            self.wait(py, -1, None)?;
        }
        Ok(())
    }

    fn next_event(&self) -> PyResult<Option<Event>> {
        self.connection.borrow_mut().next_event().map_err(broken)
    }

    /// Waits, detached from the interpreter, until there is something to do.
    fn wait(&self, py: Python<'_>, timeout: i64, other: Option<BorrowedFd<'_>>) -> PyResult<bool> {
        let mut events = PollFlags::IN;
        if !self.connection.borrow_mut().outbound().is_empty() {
            events |= PollFlags::OUT;
        }
        let limit = u64::try_from(timeout).ok().map(|timeout| Timespec {
            tv_sec: (timeout / 1000) as i64,
            tv_nsec: (timeout % 1000 * 1_000_000) as i64,
        });
        let mut watched = [
            PollFd::new(&self.socket, events),
            PollFd::from_borrowed_fd(other.unwrap_or(self.socket.as_fd()), PollFlags::IN),
        ];
        let watched = if other.is_some() { &mut watched[..] } else { &mut watched[..1] };
        match py.detach(|| poll(watched, limit.as_ref())) {
            Ok(_) => Ok(watched.get(1).is_some_and(|other| !other.revents().is_empty())),
            // A signal: Python's handlers run, and the caller comes back.
            Err(rustix::io::Errno::INTR) => py.check_signals().map(|()| false),
            Err(error) => Err(PyOSError::new_err(format!("poll: {error}"))),
        }
    }

    /// Reads what is there. The end of the stream is the end of this worker.
    fn read(&self) -> PyResult<()> {
        let mut connection = self.connection.borrow_mut();
        let mut buffer = self.buffer.borrow_mut();
        loop {
            let read = match rustix::io::read(&self.socket, &mut buffer[..]) {
                Ok(0) => 0,
                Ok(read) => read,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => 0,
            };
            if read == 0 {
                self.ended.set(true);
                return Ok(());
            }
            connection.inbound().extend_from_slice(&buffer[..read]);
            if read < READ {
                return Ok(());
            }
        }
    }

    /// Writes what can be written; says whether that was all.
    fn write(&self) -> PyResult<bool> {
        let mut connection = self.connection.borrow_mut();
        self.unwritten.set(None);
        loop {
            let outbound = connection.outbound();
            if outbound.is_empty() {
                return Ok(true);
            }
            match rustix::io::write(&self.socket, outbound) {
                Ok(written) => outbound.advance(written),
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                // The host is gone, and with it whoever wanted to know.
                Err(_) => {
                    self.ended.set(true);
                    outbound.clear();
                    return Ok(true);
                }
            }
        }
    }

    // --- calls

    fn obey(slf: &Bound<'_, Self>, event: Event) -> PyResult<()> {
        let this = slf.borrow();
        match event {
            Event::Call(call) => Self::run(slf, &call),
            Event::Cancel { call, slot } => this.cancel(slf.py(), call, slot),
            Event::Drain => {
                this.draining.set(true);
                Ok(())
            }
            // We open no calls yet, so nothing answers one.
            Event::Hello(_)
            | Event::Ready(_)
            | Event::Result { .. }
            | Event::Failure { .. }
            | Event::Cancelling { .. } => Ok(()),
        }
    }

    /// Runs a call to its end, or to its first suspension.
    fn run(slf: &Bound<'_, Self>, call: &IncomingCall) -> PyResult<()> {
        let this = slf.borrow();
        let py = slf.py();
        if !this.claims().claim(call.slot, call.call) {
            return Ok(());
        }
        let running = Running {
            call: call.call,
            slot: call.slot,
            handler: call.head.handler,
            accept: call.head.accept,
            may_pickle: call.head.codec == Codec::Arguments,
            began: Instant::now(),
        };
        let python = this.python.bind(py);
        this.current_call.call1(py, (call.head.public_id,))?;
        let bound = {
            let handlers = this.handlers.borrow();
            let handler = handlers.get(call.head.handler as usize);
            if handler.is_none_or(|handler| handler.last_run.get() > TOGETHER) {
                // What has ended must neither wait for a slow handler nor be lost with a bad one.
                this.write()?;
            }
            match handler {
                Some(handler) => bind(python, handler, call)
                    .map(|arguments| (handler.function.clone_ref(py), handler.is_async, arguments)),
                None => {
                    let message = format!("this worker has no handler {}", call.head.handler);
                    Err(Failure::Load { message, traceback: String::new() })
                }
            }
        };
        let (function, is_async, arguments) = match bound {
            Ok(bound) => bound,
            Err(failure) => return this.fail(running, &failure),
        };
        let paused = if is_async { None } else { this.pause_loop(py)? };
        let result = function.bind(py).call(arguments.positional, arguments.keywords.as_ref());
        drop(function);
        if let Some(event_loop) = paused {
            this.resume_loop(py, &event_loop)?;
        }
        match result {
            Ok(value) if is_async || this.is_coroutine(&value) => Self::start(slf, running, &value),
            result => this.end(py, running, result),
        }
    }

    fn is_coroutine(&self, value: &Bound<'_, PyAny>) -> bool {
        value.get_type().as_ptr() == self.coroutine.as_ptr()
    }

    /// A sync handler may run a loop of its own (`asyncio.run`), so it must not see ours.
    fn pause_loop(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let used = self.event_loop.borrow();
        let Some(used) = used.as_ref() else { return Ok(None) };
        used.set_running_loop.call1(py, (py.None(),))?;
        Ok(Some(used.event_loop.clone_ref(py)))
    }

    fn resume_loop(&self, py: Python<'_>, event_loop: &Py<PyAny>) -> PyResult<()> {
        let used = self.event_loop.borrow();
        let Some(used) = used.as_ref() else { return Ok(()) };
        used.set_running_loop.call1(py, (event_loop,)).map(drop)
    }

    /// Starts a coroutine as a task.
    fn start(
        slf: &Bound<'_, Self>,
        running: Running,
        coroutine: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let this = slf.borrow();
        let py = slf.py();
        let start = this.event_loop.borrow().as_ref().map(|used| used.start.clone_ref(py));
        let Some(start) = start else {
            coroutine.call_method0("close")?;
            let message = "the function returned a coroutine but is not declared `async def`";
            let failure = Failure::Result { path: "result".into(), message: message.into() };
            return this.fail(running, &failure);
        };
        let task = match start.bind(py).call1((coroutine,)) {
            Ok(task) => task,
            // An eager first step lets SystemExit and KeyboardInterrupt through.
            Err(error) => return this.end(py, running, Err(error)),
        };
        if task.call_method0("done")?.is_truthy()? {
            return this.end_task(&task, running, false);
        }
        let done = Done { engine: slf.clone().unbind(), call: running.call };
        task.call_method1("add_done_callback", (Bound::new(py, done)?,))?;
        let cancelled = Cell::new(false);
        let task = Task { task: task.unbind(), running, cancelled };
        this.tasks.borrow_mut().insert(running.call, task);
        Ok(())
    }

    fn cancel(&self, py: Python<'_>, call: u64, slot: u16) -> PyResult<()> {
        let task = self.tasks.borrow().get(&call).map(|held| {
            held.cancelled.set(true);
            held.task.clone_ref(py)
        });
        // No task: the call's end is on its way already.
        let Some(task) = task else { return Ok(()) };
        self.connection.borrow_mut().cancelling(call, slot);
        task.call_method0(py, "cancel").map(drop)
    }

    /// A task that was not asked to end and is cancelled all the same did it to itself: that is an
    /// exception like any other.
    fn end_task(&self, task: &Bound<'_, PyAny>, running: Running, was_asked: bool) -> PyResult<()> {
        let py = task.py();
        let result = task.call_method0("result");
        if was_asked && let Err(error) = &result {
            let used = self.event_loop.borrow();
            let cancelled = used.as_ref().map(|used| used.cancelled.clone_ref(py));
            drop(used);
            if cancelled.is_some_and(|cancelled| error.matches(py, cancelled).unwrap_or(false)) {
                return self.fail(running, &Failure::Cancelled);
            }
        }
        self.end(py, running, result)
    }

    /// Writes a call's end.
    fn end(
        &self,
        py: Python<'_>,
        running: Running,
        result: PyResult<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let python = self.python.bind(py);
        let value = match result {
            Ok(value) => value,
            Err(error) => return self.fail(running, &raised::exception(python, &error)),
        };
        let run_ns = running.run_ns();
        let mut out = self.scratch.take();
        out.clear();
        let options = EncodeOptions { pickle: running.may_pickle };
        let codec = running.accept;
        let encoded = match codec {
            Codec::Ndjson => encode_ndjson(py, &value, &mut out),
            Codec::Value | Codec::Arguments => encode_value(py, &value, &mut out, options),
            Codec::Json | Codec::Empty => encode_json(py, &value, &mut out),
        };
        if let Err(unfit) = encoded {
            return self.fail(running, &raised::unfit(python, &unfit));
        }
        let mut connection = self.connection.borrow_mut();
        let limit = connection.peer_limits().unwrap_or_default().max_payload;
        if out.len() as u64 > limit {
            drop(connection);
            let message = format!("{} bytes are more than the limit of {limit}", out.len());
            return self.fail(running, &Failure::Result { path: "result".into(), message });
        }
        let codec = if codec == Codec::Empty { Codec::Json } else { codec };
        let head = ResultHead { codec, run_ns };
        connection.result_from(running.call, running.slot, head, &out);
        drop(connection);
        if out.capacity() <= SCRATCH {
            self.scratch.replace(out);
        }
        self.ended_call(running)
    }

    fn fail(&self, running: Running, failure: &Failure) -> PyResult<()> {
        let (call, slot, run_ns) = (running.call, running.slot, running.run_ns());
        self.connection.borrow_mut().failure(call, slot, run_ns, failure).map_err(broken)?;
        self.ended_call(running)
    }

    /// Ends are written together, as many as come within [`TOGETHER`].
    fn ended_call(&self, running: Running) -> PyResult<()> {
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
    fn run_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

pub(crate) fn broken(error: impl ToString) -> PyErr {
    PyConnectionError::new_err(error.to_string())
}
