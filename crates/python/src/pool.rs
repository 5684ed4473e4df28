//! A pool of workers inside a Python program.
//!
//! The pool lives on a thread of its own. Calling threads wait detached from the interpreter, and
//! come back now and then so that Ctrl-C is heard. What workers print is written by one more
//! thread, which alone may have to wait for the interpreter.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use exuvia_core::{
    Call, Codec, Failure, HandlerInfo, Outcome, Payload, Target, TargetSpec, spec::Source,
};
use exuvia_host::{OutputLine, Pool as HostPool, PoolConfig, StartError, Stream};
use exuvia_observe::Metrics;
use exuvia_runtime::values::{
    DecodeError, DecodeOptions, EncodeOptions, Unfit, decode_json, decode_value, encode_value,
};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyTuple},
};
use tokio::runtime::{Builder, Runtime};

/// How long a waiting thread is deaf to Ctrl-C.
const DEAF: Duration = Duration::from_millis(50);
/// How long workers may take to end when a pool is closed.
const CLOSING: Duration = Duration::from_millis(500);
/// Bytes of output per call that are passed on.
const MAX_OUTPUT: u64 = 16 << 20;
/// Largest arguments and results.
const MAX_PAYLOAD: u64 = 1 << 30;

/// Workers behind one queue. What `exuvia.Target` stands on.
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

#[pymethods]
impl Pool {
    /// Starts workers for `targets` (`file.py:function`, `module:function`, ...), run by `python`
    /// in `working_dir`, with `search_path` after the targets' folders in `sys.path`; each call limited to `timeout` seconds.
    #[new]
    #[pyo3(signature = (targets, *, python, working_dir, search_path, workers, concurrency, queue, timeout))]
    #[expect(clippy::too_many_arguments, reason = "keywords of one Python constructor")]
    fn new(
        py: Python<'_>,
        targets: Vec<String>,
        python: PathBuf,
        working_dir: PathBuf,
        search_path: Vec<PathBuf>,
        workers: usize,
        concurrency: u32,
        queue: usize,
        timeout: f64,
    ) -> PyResult<Self> {
        for (name, number) in [("workers", workers), ("concurrency", concurrency as usize)] {
            if number == 0 {
                return Err(PyValueError::new_err(format!("{name} must be at least 1, not 0")));
            }
        }
        let targets = targets
            .iter()
            .map(|target| absolute(target, &working_dir))
            .collect::<Result<Vec<_>, _>>()
            .map_err(PyValueError::new_err)?;
        let (sender, lines) = mpsc::channel::<OutputLine>();
        let config = PoolConfig {
            python,
            runtime: crate::runtime(py)?,
            targets,
            working_dir,
            search_path,
            workers,
            spares: 0,
            image: Default::default(),
            recycle: Default::default(),
            concurrency,
            queue,
            timeout: seconds(timeout)?,
            handler_timeouts: Default::default(),
            max_payload: MAX_PAYLOAD,
            max_output: MAX_OUTPUT,
            start_timeout: Duration::from_secs(120),
            // The printer ends with the pool; its lines are then nobody's.
            output: Arc::new(move |line| drop(sender.send(line))),
            metrics: Metrics::new(),
        };
        let printer = thread::Builder::new()
            .name("exuvia-output".into())
            .spawn(move || lines.into_iter().for_each(print))?;
        let runtime = host_runtime()?;
        let started = wait(py, runtime.spawn(HostPool::start(config)))?;
        let pool = started.map_err(|error| start_error(py, error))?;
        let handlers = pool.handlers();
        let open = Mutex::new(Some(Open { pool, printer }));
        Ok(Self { pid: std::process::id(), open, handlers })
    }

    /// The names of the handlers, `module:function`.
    #[getter]
    fn handlers(&self) -> Vec<String> {
        self.handlers.iter().map(|handler| handler.target()).collect()
    }

    /// Calls a handler and waits for its result; `timeout` in seconds, `None` for the pool's.
    #[pyo3(signature = (handler, args, kwargs, timeout=None))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        handler: &str,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let target = self.target(handler)?;
        let timeout = timeout.map(seconds).transpose()?;
        let arguments = (args.to_list(), kwargs).into_pyobject(py)?.to_list();
        let mut body = Vec::new();
        encode_value(py, arguments.as_any(), &mut body, EncodeOptions { pickle: true })
            .map_err(unfit)?;
        let payload = Payload::new(Codec::Arguments, body);
        let call = Call { payload, accept: Codec::Value, timeout, ..Call::default() };
        let outcome = wait(py, host_runtime()?.spawn(async move { target.call(call).await }))?;
        result(py, outcome)
    }

    /// Ends the workers. Calls that run are lost.
    fn close(&self, py: Python<'_>) {
        let Some(open) = self.lock().take() else { return };
        if self.pid != std::process::id() {
            // The workers are the parent's; nothing of them is here.
            std::mem::forget(open);
            return;
        }
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
    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, handler: &str) -> PyResult<Arc<dyn Target>> {
        host_runtime()?;
        let open = self.lock();
        let open = open.as_ref().ok_or_else(|| PyRuntimeError::new_err("the Target is closed"))?;
        let known = || format!("there is no handler `{handler}`");
        open.pool.target(handler).ok_or_else(|| PyValueError::new_err(known()))
    }
}

/// The one thread that all pools of this process live on. A forked child does not have it.
fn host_runtime() -> PyResult<&'static Runtime> {
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
fn wait<T: Send + 'static>(py: Python<'_>, task: tokio::task::JoinHandle<T>) -> PyResult<T> {
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

fn result(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyAny>> {
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

fn start_error(py: Python<'_>, error: StartError) -> PyErr {
    match error {
        StartError::Load(failure) => call_error(py, &failure, &Default::default()),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// The exception for a failure, made by `exuvia.errors`.
fn call_error(py: Python<'_>, failure: &Failure, diagnostics: &exuvia_core::Diagnostics) -> PyErr {
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

fn unfit(unfit: Unfit) -> PyErr {
    match unfit {
        Unfit::Value(misfit) => {
            // What is written down is `[args, kwargs]`.
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

fn seconds(seconds: f64) -> PyResult<Duration> {
    let wrong = || PyValueError::new_err(format!("{seconds} is not a number of seconds above 0"));
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    if duration.is_zero() { Err(wrong()) } else { Ok(duration) }
}

fn absolute(target: &str, working_dir: &Path) -> Result<TargetSpec, String> {
    let mut spec = TargetSpec::parse(target)?;
    if let Source::Path(path) = &mut spec.source {
        *path = working_dir.join(&*path);
    }
    Ok(spec)
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
