//! A pool of workers inside a Python program.
//!
//! The pool lives on a thread of its own. Calling threads wait detached from the interpreter, and
//! come back now and then so that Ctrl-C is heard. What workers print is written by one more
//! thread, which alone may have to wait for the interpreter.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use exuvia_core::{
    Call, Codec, Copied, HandlerInfo, Outcome, Payload, Region, SHARED_FROM, Target, suggest,
};
use exuvia_host::{ImageStatus, OutputLine, Pool as HostPool, Stream, WorkerStatus};
use exuvia_runtime::{
    attach::Attacher,
    values::{EncodeOptions, encode_value_with},
};
use exuvia_sys::Sealed;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::{PyDict, PyTuple},
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    config::{Argument, Arguments},
    result::{measured, result, start_error, unfit},
    results::Results,
};

/// How long a waiting thread is deaf to Ctrl-C.
const DEAF: Duration = Duration::from_millis(50);
/// How long workers may take to end when a pool is closed.
const CLOSING: Duration = Duration::from_millis(500);
/// How often somebody who waits for workers looks.
const LOOK: Duration = Duration::from_millis(5);

/// Workers behind one queue. What `exuvia.Host` stands on.
#[pyclass(frozen, module = "exuvia._native")]
pub struct Pool {
    /// The process that made it: a forked child has neither its threads nor its workers.
    pid: u32,
    open: Mutex<Option<Open>>,
    handlers: Vec<Arc<HandlerInfo>>,
}

struct Open {
    pool: Arc<HostPool>,
    printer: JoinHandle<()>,
}

/// The fields of `exuvia.WorkerStatus`, in order.
type WorkerRow =
    (u64, u32, &'static str, u64, usize, f64, &'static str, Option<u64>, Option<u64>, Option<u64>);

/// The fields of `exuvia.ImageStatus`, in order.
type ImageRow = (
    &'static str,
    Option<String>,
    Option<u32>,
    f64,
    Vec<(String, f64)>,
    Vec<(String, String)>,
    Vec<String>,
);

#[pymethods]
impl Pool {
    /// Starts workers for `targets` (`file.py:function`, `module:function`, ...). The settings are
    /// those of `exuvia.Host`, with the folder that relative paths start from as `working_dir`, and
    /// as `search_path` what is in `sys.path` after the targets' folders.
    #[new]
    #[pyo3(signature = (targets, **settings))]
    fn new(
        py: Python<'_>,
        targets: Vec<String>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let none = PyDict::new(py);
        let (sender, lines) = mpsc::channel::<OutputLine>();
        // The printer ends with the pool; its lines are then nobody's.
        let output = Arc::new(move |line| drop(sender.send(line)));
        let config = Arguments(settings.unwrap_or(&none)).config(py, &targets, output)?;
        let runtime = host_runtime()?;
        let printer = thread::Builder::new()
            .name("exuvia-output".into())
            .spawn(move || lines.into_iter().for_each(print))?;
        let started = wait(py, runtime.spawn(HostPool::start(config)))?;
        let pool = started.map_err(|error| start_error(py, error))?;
        let handlers = pool.handlers();
        let open = Mutex::new(Some(Open { pool, printer }));
        Ok(Self { pid: std::process::id(), open, handlers })
    }

    /// The names of the handlers, `module:function`, each once.
    #[getter]
    fn handlers(&self) -> Vec<String> {
        let mut names = Vec::new();
        for name in self.handlers.iter().map(|handler| handler.target()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Raises what `call` would of its handler and its timeout.
    #[pyo3(signature = (handler, timeout=None))]
    fn check(&self, handler: &str, timeout: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        self.target(handler)?;
        timeout.map(|value| as_timeout(value).seconds()).transpose()?;
        Ok(())
    }

    /// Calls a handler and waits for its result; `timeout` in seconds, `None` for the pool's. With
    /// `pickle` false only values, tables and arrays may be arguments and result.
    #[pyo3(signature = (handler, args, kwargs, timeout=None, pickle=true))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        handler: &str,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        timeout: Option<Bound<'py, PyAny>>,
        pickle: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (call, copies) = outgoing(args, kwargs, timeout, pickle)?;
        result(py, &mut self.perform(py, handler, call, copies)?, pickle)
    }

    /// The same, and what the host measured meanwhile.
    #[pyo3(signature = (handler, args, kwargs, timeout=None, pickle=true))]
    fn outcome<'py>(
        &self,
        py: Python<'py>,
        handler: &str,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        timeout: Option<Bound<'py, PyAny>>,
        pickle: bool,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let (call, copies) = outgoing(args, kwargs, timeout, pickle)?;
        measured(py, self.perform(py, handler, call, copies)?, pickle)
    }

    /// Calls a handler and gives what it yields, one after the other, as it is asked for. As long
    /// as there is more, `owner` is kept.
    #[pyo3(signature = (owner, handler, args, kwargs, timeout=None, pickle=true))]
    #[expect(clippy::too_many_arguments, reason = "they are those of a call, and its owner")]
    fn stream<'py>(
        &self,
        py: Python<'py>,
        owner: Py<PyAny>,
        handler: &str,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        timeout: Option<Bound<'py, PyAny>>,
        pickle: bool,
    ) -> PyResult<Results> {
        let (call, copies) = outgoing(args, kwargs, timeout, pickle)?;
        let outcome = self.perform(py, handler, Call { streams: true, ..call }, copies)?;
        Results::of(py, outcome, pickle, owner)
    }

    /// Changes how many workers there shall be.
    fn scale<'py>(&self, py: Python<'py>, workers: Bound<'py, PyAny>) -> PyResult<()> {
        let pool = self.pool()?;
        let workers = Argument { name: "workers", value: workers }.workers()?;
        let runtime = host_runtime()?;
        py.detach(|| {
            let _inside = runtime.enter();
            pool.resize(workers);
        });
        Ok(())
    }

    /// The workers at a glance.
    fn workers(&self, py: Python<'_>) -> PyResult<Vec<WorkerRow>> {
        let pool = self.pool()?;
        // The kernel takes its time to count their memory.
        Ok(py.detach(|| pool.workers().into_iter().map(worker_row).collect()))
    }

    /// What workers are forked from.
    fn image(&self, py: Python<'_>) -> PyResult<ImageRow> {
        let pool = self.pool()?;
        Ok(image_row(py.detach(|| pool.image())))
    }

    /// Waits until as many workers are ready as there shall be; false: they were not in time, or
    /// the pool was closed meanwhile.
    #[pyo3(signature = (timeout=None))]
    fn wait_ready<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<Bound<'py, PyAny>>,
    ) -> PyResult<bool> {
        let pool = self.pool()?;
        let limit = timeout.map(|value| as_timeout(value).patience()).transpose()?;
        // A time that the clock cannot hold never comes.
        let end = limit.and_then(|limit| Instant::now().checked_add(limit));
        let ready = async move {
            loop {
                let status = pool.status();
                if status.draining || end.is_some_and(|end| Instant::now() >= end) {
                    return !status.draining && status.ready >= status.size;
                }
                if status.ready >= status.size {
                    return true;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        wait(py, host_runtime()?.spawn(ready))
    }

    /// Refuses new calls, lets the others end for `timeout` seconds at most, and ends the workers.
    /// True: every call ended by itself.
    fn drain<'py>(&self, py: Python<'py>, timeout: Bound<'py, PyAny>) -> PyResult<bool> {
        let runtime = host_runtime()?;
        let limit = as_timeout(timeout).patience()?;
        let pool = self.lock().as_ref().map(|open| open.pool.clone());
        let Some(pool) = pool else { return Ok(true) };
        let finished = wait(py, runtime.spawn(async move { pool.drain(limit).await }))?;
        self.close(py);
        Ok(finished)
    }

    /// Ends the workers. Calls that run are lost.
    fn close(&self, py: Python<'_>) {
        if self.is_inherited() {
            // The workers are the parent's, and one of its threads may have held the lock.
            return;
        }
        let Some(open) = self.lock().take() else { return };
        py.detach(|| {
            let Open { pool, printer } = open;
            if let Ok(runtime) = host_runtime() {
                runtime.block_on(pool.drain(CLOSING));
            }
            drop(pool);
            // The printer may be waiting for the interpreter, which is why we are detached.
            let _ = printer.join();
        });
    }
}

impl Pool {
    /// Calls a handler. What was copied on the way to the host is counted with the rest.
    fn perform(
        &self,
        py: Python<'_>,
        handler: &str,
        call: Call,
        mut copies: Vec<Copied>,
    ) -> PyResult<Outcome> {
        let target = self.target(handler)?;
        let mut outcome = wait(py, host_runtime()?.spawn(async move { target.call(call).await }))?;
        copies.append(&mut outcome.diagnostics.copies);
        outcome.diagnostics.copies = copies;
        Ok(outcome)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process was forked from the one that made it.
    fn is_inherited(&self) -> bool {
        self.pid != std::process::id()
    }

    fn pool(&self) -> PyResult<Arc<HostPool>> {
        host_runtime()?;
        let closed = || PyRuntimeError::new_err("it is closed: its workers have ended");
        self.lock().as_ref().map(|open| open.pool.clone()).ok_or_else(closed)
    }

    fn target(&self, handler: &str) -> PyResult<Arc<dyn Target>> {
        self.pool()?.target(handler).ok_or_else(|| {
            let names = self.handlers();
            let near = suggest::did_you_mean(handler, &names);
            let hint =
                if near.is_empty() { format!(" There are: {}", names.join(", ")) } else { near };
            PyValueError::new_err(format!("there is no handler `{handler}`.{hint}"))
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.is_inherited() {
            // Ending what is in it would wait for threads that are not here.
            let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(open.take());
        }
    }
}

/// A call with these arguments, and what was copied for it.
pub(crate) fn outgoing<'py>(
    args: &Bound<'py, PyTuple>,
    kwargs: &Bound<'py, PyDict>,
    timeout: Option<Bound<'py, PyAny>>,
    pickle: bool,
) -> PyResult<(Call, Vec<Copied>)> {
    let py = args.py();
    let timeout = timeout.map(|value| as_timeout(value).seconds()).transpose()?;
    let arguments = (args.to_list(), kwargs).into_pyobject(py)?.to_list();
    let (mut body, mut copies) = (Vec::new(), Vec::new());
    let mut attacher = Attacher::new(&mut copies);
    let options = EncodeOptions { pickle };
    encode_value_with(py, arguments.as_any(), &mut body, options, Some(&mut attacher))
        .map_err(unfit)?;
    let attached = attacher.attached;
    let payload = payload(body, attached)?;
    let accept = if pickle { Codec::Arguments } else { Codec::Value };
    Ok((Call { payload, accept, timeout, ..Call::default() }, copies))
}

/// Arguments as bytes, in memory that a worker can map where they are many.
fn payload(body: Vec<u8>, attached: Vec<Sealed>) -> PyResult<Payload> {
    let mut payload = match body.len() {
        0..=SHARED_FROM => Payload::new(Codec::Arguments, body),
        _ => {
            let sealed = Sealed::holding(&body)?;
            Payload::in_memory(Codec::Arguments, sealed.memory().clone(), sealed.bytes()?)
        }
    };
    payload.attached = attached
        .iter()
        .map(|sealed| Region { memory: sealed.memory().clone(), length: sealed.length() })
        .collect();
    Ok(payload)
}

fn as_timeout(value: Bound<'_, PyAny>) -> Argument<'_> {
    Argument { name: "timeout", value }
}

fn worker_row(status: WorkerStatus) -> WorkerRow {
    let memory = status.memory;
    (
        status.worker,
        status.pid,
        status.state.word(),
        status.calls,
        status.running,
        status.age.as_secs_f64(),
        status.start.word(),
        memory.map(|memory| memory.rss),
        memory.map(|memory| memory.pss),
        memory.map(|memory| memory.private),
    )
}

fn image_row(status: ImageStatus) -> ImageRow {
    let imports = status.imports.into_iter().map(|(item, took)| (item, took.as_secs_f64()));
    (
        status.start.word(),
        status.why_spawn,
        status.zygote,
        status.took.as_secs_f64(),
        imports.collect(),
        status.left_out,
        status.notes,
    )
}

/// The one thread that all pools of this process live on. A forked child does not have it.
pub(crate) fn host_runtime() -> PyResult<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<(u32, Runtime)>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("exuvia-host")
            .enable_all()
            .build()?;
        Ok((std::process::id(), runtime))
    });
    match runtime {
        Ok((pid, runtime)) if *pid == std::process::id() => Ok(runtime),
        Ok(_) => Err(PyRuntimeError::new_err(
            "this process was forked from one that had started exuvia workers, and has neither \
             them nor what runs them; fork before the first use, or start the process afresh \
             (multiprocessing's `spawn`)",
        )),
        Err(error) => Err(PyRuntimeError::new_err(error.to_string())),
    }
}

/// Waits for a task, detached, and lets Ctrl-C through: the task is then dropped.
pub(crate) fn wait<T: Send + 'static>(
    py: Python<'_>,
    task: tokio::task::JoinHandle<T>,
) -> PyResult<T> {
    let (sender, mut receiver) = mpsc::channel();
    let abort = task.abort_handle();
    host_runtime()?.spawn(async move {
        if let Ok(value) = task.await {
            let _ = sender.send(value);
        }
    });
    loop {
        let received = py.detach(move || {
            let received = receiver.recv_timeout(DEAF);
            (receiver, received)
        });
        receiver = received.0;
        match received.1 {
            Ok(value) => return Ok(value),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if let Err(interrupt) = py.check_signals() {
                    abort.abort();
                    return Err(interrupt);
                }
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err("the exuvia host failed"));
            }
        }
    }
}

/// Writes a worker's line to the stream of the same name, as the program has it now.
fn print(line: OutputLine) {
    Python::try_attach(|py| {
        let stream = match line.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        // A program may have no streams, or closed ones: then the line has nowhere to go.
        let _ = py
            .import("sys")
            .and_then(|sys| sys.getattr(stream))
            .and_then(|stream| stream.call_method1("write", (format!("{}\n", line.text),)));
    });
}
