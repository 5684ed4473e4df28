//! The worker's end of the protocol: reads calls, runs them, writes their ends.
//!
//! Everything happens on the main thread, in [`Engine::turn`]: by itself where all handlers are
//! sync, or as what asyncio's loop does when it selects. No borrow of the state is held while
//! Python code runs, because that code may come back here (a task's end, a nested loop).

mod about;
mod answer;
mod socket;
mod source;
mod streams;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, VecDeque},
    ffi::CStr,
    io,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use exuvia_core::{Broken, Codec, Copied, Failure, HandlerInfo};
use exuvia_protocol::{
    Claims, Connection, Event, Hello, IncomingCall, Limits, LoadTarget, Ready, Role, STACKS_SIGNAL,
    frame::STREAMS,
};
use exuvia_sys::SharedPage;
use pyo3::{
    exceptions::{PyConnectionError, PyOSError},
    ffi::c_str,
    prelude::*,
    types::{PyDict, PyList, PyModule, PyTuple},
};

use self::{
    about::{About, Current, Limited},
    answer::usual,
    streams::Stream,
};
use crate::{
    bind::{Given, bind},
    convert,
    data::Data,
    encode::Wanted,
    handler::Handler,
    plan::sources::plan_module,
    raised,
    received::Blame,
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

/// What this side takes. The host has its own limit for what it sends.
fn limits() -> Limits {
    Limits { max_payload: u64::MAX, ..Limits::default() }
}

/// The Python half of a worker.
pub(crate) fn worker_module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let source = c_str!(include_str!("worker.py"));
    let module = PyModule::from_code(py, source, c"<exuvia worker>", c"_exuvia_worker")?;
    module.setattr("table_target", wrap_pyfunction!(convert::table_target, &module)?)?;
    module.setattr("plan_module", wrap_pyfunction!(plan_module, &module)?)?;
    Ok(module)
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
    /// The types of what a function may return that has not run yet.
    coroutine: Py<PyAny>,
    generator: Py<PyAny>,
    async_generator: Py<PyAny>,
    handlers: RefCell<Vec<Handler>>,
    connection: RefCell<Connection>,
    tasks: RefCell<HashMap<u64, Task>>,
    /// Results that are made piece by piece, by call: the oldest first.
    streams: RefCell<BTreeMap<u64, Stream>>,
    /// Calls that came while a generator of a `def` handler lives.
    parked: RefCell<VecDeque<IncomingCall>>,
    /// How much reading one table may make.
    limits: Cell<exuvia_tables::Limits>,
    event_loop: RefCell<Option<EventLoop>>,
    /// What is read goes here first.
    buffer: RefCell<Vec<u8>>,
    /// Results are written here first.
    scratch: RefCell<Vec<u8>>,
    /// When the oldest unwritten end was made.
    unwritten: Cell<Option<Instant>>,
    /// The call that was begun last.
    current: RefCell<Option<Current>>,
    /// Names of the handlers, as people know them.
    names: RefCell<Vec<String>>,
    /// Whether a library for traces knows of a call.
    traced: Cell<bool>,
    /// This is an isolate: its code may come with a call, and what it prints is complete when the
    /// call ends.
    confined: Cell<bool>,
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
struct Running {
    call: u64,
    slot: u16,
    /// The number that people know it by.
    public: u64,
    handler: u32,
    wanted: Wanted,
    /// Whether its result may come in pieces.
    streams: bool,
    /// Its result is the list of what a generator yielded.
    gathered: bool,
    began: Instant,
    deadline: Option<Instant>,
    about: Option<Rc<About>>,
    copies: Vec<Copied>,
    /// What it yielded and could not be written.
    misfit: Option<Box<Failure>>,
    /// What is wrong with the data that it reads.
    blame: Blame,
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
    /// preload, [(module, file, attribute)], whether to leave out what does not load)`; `None` when
    /// the host is gone.
    fn greet<'py>(
        &self,
        py: Python<'py>,
        version: String,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let load = loop {
            match self.next_event()? {
                Some(Event::Hello(hello)) => {
                    let greeting = Hello { python: Some(version), ..Hello::new(limits()) };
                    self.connection.borrow_mut().hello(&greeting).map_err(broken)?;
                    let load = hello.load.unwrap_or_default();
                    if load.max_table > 0 {
                        let limits = exuvia_tables::Limits::default();
                        self.limits
                            .set(exuvia_tables::Limits { max_bytes: load.max_table, ..limits });
                    }
                    break load;
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
        let request = (load.search_path, targets, load.preload, warm, load.tolerant);
        Ok(Some(request.into_pyobject(py)?))
    }

    /// Tells the host that a handler is not there.
    fn refuse(&self, py: Python<'_>, message: String, traceback: String) -> PyResult<()> {
        self.tell(py, &Ready::Failed(Failure::Load { message, traceback }))
    }

    /// Takes the handlers and tells the host that they are there.
    fn ready(
        &self,
        py: Python<'_>,
        plans: Vec<Bound<'_, PyAny>>,
        broken: Vec<(String, Option<String>, String, String)>,
    ) -> PyResult<()> {
        let mut handlers = Vec::with_capacity(plans.len());
        let mut infos: Vec<HandlerInfo> = Vec::with_capacity(plans.len());
        for plan in &plans {
            let (handler, info) = Handler::from_plan(plan)?;
            handlers.push(handler);
            infos.push(info);
        }
        self.names.replace(infos.iter().map(HandlerInfo::target).collect());
        self.handlers.replace(handlers);
        let broken = broken.into_iter().map(|(module, file, message, traceback)| Broken {
            module,
            file,
            message,
            traceback,
        });
        self.tell(py, &Ready::Handlers(infos, broken.collect()))
    }

    /// Whether any handler needs an event loop.
    #[getter]
    fn has_async(&self) -> bool {
        self.handlers.borrow().iter().any(|handler| handler.is_async)
    }

    /// What is known of a call that runs: a dict, or None.
    #[pyo3(name = "about")]
    fn tell_about<'py>(&self, py: Python<'py>, call: u64) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.about(py, call)
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
        // Whoever looks while this one sleeps must see that what it was at is done.
        this.claims().tick();
        let other_ready = this.wait(py, if this.is_wanted() { 0 } else { timeout }, other)?;
        this.claims().tick();
        this.read()?;
        while let Some(event) = this.next_event()? {
            Self::obey(slf, event)?;
        }
        this.advance(py)?;
        while !this.has_generator()
            && let Some(parked) = this.unpark()
        {
            Self::run(slf, parked)?;
        }
        let written = this.write()?;
        let open = !this.tasks.borrow().is_empty() || !this.streams.borrow().is_empty();
        let drained = this.draining.get() && written && !open;
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
            generator: python.getattr("types")?.getattr("GeneratorType")?.unbind(),
            async_generator: python.getattr("types")?.getattr("AsyncGeneratorType")?.unbind(),
            handlers: RefCell::default(),
            connection: RefCell::new(Connection::new(Role::Worker, limits())),
            tasks: RefCell::default(),
            streams: RefCell::default(),
            parked: RefCell::default(),
            limits: Cell::new(exuvia_tables::Limits::default()),
            event_loop: RefCell::default(),
            buffer: RefCell::new(vec![0; READ]),
            scratch: RefCell::default(),
            unwritten: Cell::new(None),
            current: RefCell::default(),
            names: RefCell::default(),
            traced: Cell::new(false),
            confined: Cell::new(false),
            draining: Cell::new(false),
            ended: Cell::new(false),
        })
    }

    fn claims(&self) -> Claims<'_> {
        Claims::of(self.page.words())
    }

    // --- calls

    fn obey(slf: &Bound<'_, Self>, event: Event) -> PyResult<()> {
        let this = slf.borrow();
        match event {
            // A sync handler runs alone, and a generator is one that still runs.
            Event::Call(call) if this.has_generator() && !this.is_async(&call) => {
                this.parked.borrow_mut().push_back(call);
                Ok(())
            }
            Event::Call(call) => Self::run(slf, call),
            Event::Cancel { call, slot } => this.cancel(slf.py(), call, slot),
            Event::Drain => {
                this.draining.set(true);
                Ok(())
            }
            // We open no calls yet, so nothing answers one.
            Event::Hello(_)
            | Event::Ready(_)
            | Event::Result(_)
            | Event::Piece { .. }
            | Event::End { .. }
            | Event::Failure { .. }
            | Event::Cancelling { .. } => Ok(()),
        }
    }

    fn is_async(&self, call: &IncomingCall) -> bool {
        let handlers = self.handlers.borrow();
        handlers.get(call.head.handler as usize).is_some_and(|handler| handler.is_async)
    }

    fn unpark(&self) -> Option<IncomingCall> {
        self.parked.borrow_mut().pop_front()
    }

    /// Runs a call to its end, or to its first suspension.
    fn run(slf: &Bound<'_, Self>, mut call: IncomingCall) -> PyResult<()> {
        let this = slf.borrow();
        let py = slf.py();
        if !this.claims().claim(call.slot, call.call) {
            return Ok(());
        }
        let mut running = Running::of(&call);
        let python = this.python.bind(py);
        this.current_call.call1(py, (running.public,))?;
        this.current.replace(Some(Current::of(&running)));
        this.trace(python, &running)?;
        if this.confined.get()
            && let Err(failure) = this.define(python, &mut call, &mut running)?
        {
            return this.fail(&running, &failure);
        }
        let bound = this.bound(python, call, &mut running)?;
        let (function, is_async, arguments) = match bound {
            Ok(bound) => bound,
            Err(failure) => return this.fail(&running, &failure),
        };
        let paused = if is_async { None } else { this.pause_loop(py)? };
        let limited = if is_async { None } else { Limited::by(running.about.as_ref()) };
        let result = function.bind(py).call(arguments.positional, arguments.keywords.as_ref());
        drop(limited);
        if let Err(error) = &result {
            Limited::explain(running.about.as_ref(), error, py);
        }
        drop(function);
        if let Some(event_loop) = paused {
            this.resume_loop(py, &event_loop)?;
        }
        match result {
            Ok(value) if this.is(&value, &this.generator) => this.generate(py, running, &value),
            Ok(value) if this.is(&value, &this.async_generator) => {
                Self::start_stream(slf, running, &value)
            }
            Ok(value) if is_async || this.is(&value, &this.coroutine) => {
                Self::start(slf, running, &value)
            }
            result => this.end(py, running, result),
        }
    }

    /// A call's handler and arguments.
    #[expect(clippy::type_complexity, reason = "the parts of one call, taken apart at once")]
    fn bound<'py>(
        &self,
        python: &Bound<'py, PyModule>,
        call: IncomingCall,
        running: &mut Running,
    ) -> PyResult<Result<(Py<PyAny>, bool, crate::bind::Arguments<'py>), Failure>> {
        let handlers = self.handlers.borrow();
        let handler = handlers.get(call.head.handler as usize);
        if handler.is_none_or(|handler| handler.last_run.get() > TOGETHER) {
            // What has ended must neither wait for a slow handler nor be lost with a bad one.
            self.write()?;
        }
        let Some(handler) = handler else {
            let message = format!("this worker has no handler {}", call.head.handler);
            return Ok(Err(Failure::Load { message, traceback: String::new() }));
        };
        let data = match Data::arrived(call.head.codec, call.payload, call.head.flags) {
            Ok(data) => data,
            Err(error) => {
                let message = format!("the call's memory cannot be mapped: {error}");
                return Ok(Err(Failure::Host { message }));
            }
        };
        let (text, blame) = (&call.text_arguments, running.blame.clone());
        let given = Given { data, text, limits: self.limits.get(), blame };
        let bound = bind(python, handler, given, &mut running.copies);
        let function = handler.function.clone_ref(python.py());
        Ok(bound.map(|arguments| (function, handler.is_async, arguments)))
    }

    /// Whether a value is of exactly this type.
    fn is(&self, value: &Bound<'_, PyAny>, ty: &Py<PyAny>) -> bool {
        value.get_type().as_ptr() == ty.as_ptr()
    }

    /// What becomes of a generator that a handler returned.
    fn generate(
        &self,
        py: Python<'_>,
        running: Running,
        generator: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if running.streams {
            self.take_stream(running, Some(generator));
            return Ok(());
        }
        let running = Running { gathered: true, ..running };
        let paused = self.pause_loop(py)?;
        let list = streams::gathered(generator);
        if let Some(event_loop) = paused {
            self.resume_loop(py, &event_loop)?;
        }
        self.end(py, running, list)
    }

    /// The same for an async one: a task advances it.
    fn start_stream(
        slf: &Bound<'_, Self>,
        running: Running,
        generator: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let this = slf.borrow();
        let python = this.python.bind(slf.py());
        if !running.streams {
            let running = Running { gathered: true, ..running };
            let task = python.getattr("gather")?.call1((generator,))?;
            return Self::start(slf, running, &task);
        }
        let sink = Self::sink(slf, running.call)?;
        let task = python.getattr("stream")?.call1((generator, sink))?;
        let kept = running.kept();
        this.take_stream(running, None);
        Self::start(slf, kept, &task)
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
            return this.fail(&running, &failure);
        };
        let task = match start.bind(py).call1((coroutine,)) {
            Ok(task) => task,
            // An eager first step lets SystemExit and KeyboardInterrupt through.
            Err(error) if this.is_streamed(running.call) => {
                return this.end_stream(py, running.call, Err(error));
            }
            Err(error) => return this.end(py, running, Err(error)),
        };
        if task.call_method0("done")?.is_truthy()? {
            return this.end_task(&task, running, false);
        }
        let done = Done { engine: slf.clone().unbind(), call: running.call };
        task.call_method1("add_done_callback", (Bound::new(py, done)?,))?;
        let call = running.call;
        let task = Task { task: task.unbind(), running, cancelled: Cell::new(false) };
        this.tasks.borrow_mut().insert(call, task);
        Ok(())
    }

    fn cancel(&self, py: Python<'_>, call: u64, slot: u16) -> PyResult<()> {
        if self.cancel_stream(py, call, slot)? {
            return Ok(());
        }
        let task = self.tasks.borrow().get(&call).map(|held| {
            held.cancelled.set(true);
            held.task.clone_ref(py)
        });
        // No task: the call's end is on its way already.
        let Some(task) = task else { return Ok(()) };
        self.connection.borrow_mut().cancelling(call, slot);
        task.call_method0(py, "cancel").map(drop)
    }
}

impl Running {
    fn of(call: &IncomingCall) -> Self {
        let head = &call.head;
        let pickle = head.codec == Codec::Arguments && head.accept == Codec::Arguments;
        Self {
            call: call.call,
            slot: call.slot,
            public: head.public_id,
            handler: head.handler,
            wanted: Wanted { codec: usual(head.accept), pickle },
            streams: head.flags & STREAMS != 0,
            gathered: false,
            began: Instant::now(),
            deadline: about::deadline(call),
            about: About::of(call),
            copies: Vec::new(),
            misfit: None,
            blame: Blame::default(),
        }
    }

    /// The same call once more, for the task that makes its stream.
    fn kept(&self) -> Self {
        Self {
            copies: Vec::new(),
            misfit: None,
            blame: self.blame.clone(),
            about: self.about.clone(),
            ..*self
        }
    }
}

impl Running {
    /// What became of a call whose handler raised.
    fn raised(&self, python: &Bound<'_, PyModule>, error: &PyErr) -> Failure {
        match self.blame.get() {
            Some(why) => Failure::Malformed { message: why.clone() },
            None => raised::exception(python, error),
        }
    }
}

pub(crate) fn broken(error: impl ToString) -> PyErr {
    PyConnectionError::new_err(error.to_string())
}
