//! A sandbox inside a Python program. What `exuvia.sandbox` stands on.
//!
//! It lives on the thread that pools live on too (`pool.rs`). A call is a task there; what its guest
//! prints and its end come back as messages, and are heard by the Python thread that asked, or by
//! its event loop. So none of ours ever waits for the interpreter.

mod bundle;
mod running;
mod settings;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use exuvia_bundle::Effective;
use exuvia_core::{Codec, Files, Policy};
use exuvia_host::sandbox::{BundleRef, CallLimits, Code, Job, Sandbox as HostSandbox};
use exuvia_jail::{Support, probe};
use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyString, PyTuple},
};
use tokio::sync::watch;

pub use self::{bundle::Bundle, running::Running};
use self::{
    running::Asked,
    settings::{Options, Settings},
};
use crate::{
    config::Arguments,
    pool::{host_runtime, outgoing, wait},
    result::start_error,
};

/// Isolates of an image, and the calls in them.
#[pyclass(frozen, module = "exuvia._native")]
pub struct Sandbox {
    /// The process that made it: a forked child has neither its threads nor its isolates.
    pid: u32,
    open: Mutex<Option<Arc<Open>>>,
    ceiling: Policy,
    /// What source code may write when its call does not say.
    files: Files,
    store: PathBuf,
}

struct Open {
    sandbox: HostSandbox,
    /// Says to calls that run that they are lost.
    closing: watch::Sender<bool>,
}

/// The fields of `exuvia.sandbox.SandboxStatus`, in order.
type StatusRow = (Option<u32>, usize, usize, usize, u64);

#[pymethods]
impl Sandbox {
    /// Makes the image. The settings are those of `exuvia.sandbox.Sandbox`, with the folder for
    /// unpacked bundles as `store`.
    #[new]
    #[pyo3(signature = (**settings))]
    fn new(py: Python<'_>, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let none = PyDict::new(py);
        let Settings { config, files } =
            Settings::read(py, &Arguments(settings.unwrap_or(&none)), support().tier)?;
        let runtime = host_runtime()?;
        let ceiling = config.policy.clone();
        let store = config.store.clone().unwrap_or_default();
        let sandbox = wait(py, runtime.spawn(HostSandbox::start(config)))?;
        let sandbox = sandbox.map_err(|error| start_error(py, error))?;
        let open = Arc::new(Open { sandbox, closing: watch::Sender::new(false) });
        let made =
            Self { pid: std::process::id(), open: Mutex::new(Some(open)), ceiling, files, store };
        let (code, limits) = made.code(py, PyString::new(py, "").as_any(), &Options::default())?;
        made.ahead(py, code, limits)?;
        Ok(made)
    }

    /// Begins a call of source code or of a `Bundle`. With `live`, what is printed comes as it is
    /// printed; with `belled`, a descriptor says when there is something to hear.
    #[expect(clippy::too_many_arguments, reason = "they are those of a call, and how to hear it")]
    fn start<'py>(
        &self,
        py: Python<'py>,
        code: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        options: &Bound<'py, PyDict>,
        live: bool,
        belled: bool,
    ) -> PyResult<Running> {
        let open = self.open()?;
        let options = Options::read(options, &self.ceiling)?;
        let (call, copies) = outgoing(args, kwargs, None, false)?;
        let (code, limits) = self.code(py, code, &options)?;
        let accept = Codec::Value;
        let job = Job { payload: call.payload, accept, limits, ..Job::new(code) };
        let closing = open.closing.subscribe();
        let asked = Asked { job, live, belled, copies };
        let run = move |job| async move { open.sandbox.run(job).await };
        Running::begin(host_runtime()?, asked, closing, run)
    }

    /// Has isolates made for calls of a `Bundle` with these options.
    fn prepare<'py>(
        &self,
        py: Python<'py>,
        code: &Bound<'py, PyAny>,
        options: &Bound<'py, PyDict>,
    ) -> PyResult<()> {
        let options = Options::read(options, &self.ceiling)?;
        let (code, limits) = self.code(py, code, &options)?;
        self.ahead(py, code, limits)
    }

    /// Raises what `start` would of its options.
    fn check(&self, options: &Bound<'_, PyDict>) -> PyResult<()> {
        Options::read(options, &self.ceiling).map(drop)
    }

    /// The sandbox at a glance.
    fn status(&self, py: Python<'_>) -> PyResult<StatusRow> {
        let open = self.open()?;
        let status = wait(py, host_runtime()?.spawn(async move { open.sandbox.status().await }))?;
        Ok((status.image, status.ready, status.running, status.waiting, status.calls))
    }

    /// Ends the isolates and the image. Calls that run are lost.
    fn close(&self, py: Python<'_>) {
        if self.is_inherited() {
            // They are the parent's, and one of its threads may have held the lock.
            return;
        }
        let Some(open) = self.lock().take() else { return };
        py.detach(|| {
            open.closing.send_replace(true);
            if let Ok(runtime) = host_runtime() {
                runtime.block_on(open.sandbox.close());
            }
        });
    }
}

impl Sandbox {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process was forked from the one that made it.
    fn is_inherited(&self) -> bool {
        self.pid != std::process::id()
    }

    fn open(&self) -> PyResult<Arc<Open>> {
        host_runtime()?;
        let closed = || PyRuntimeError::new_err("it is closed: its isolates have ended");
        self.lock().clone().ok_or_else(closed)
    }

    /// What to run, and under which limits.
    fn code(
        &self,
        py: Python<'_>,
        code: &Bound<'_, PyAny>,
        options: &Options,
    ) -> PyResult<(Code, CallLimits)> {
        if let Ok(text) = code.cast::<PyString>() {
            let text = text.to_str()?.to_owned();
            let limits = options.under(&self.ceiling, self.files);
            return Ok((Code::Source { text, entrypoint: options.entrypoint.clone() }, limits));
        }
        let wrong = |_| PyTypeError::new_err("the code is neither text nor a bundle");
        let bundle = code.cast::<Bundle>().map_err(wrong)?.get();
        let manifest = bundle.inner.manifest();
        let entrypoint = match &options.entrypoint {
            None => manifest.entrypoint.clone(),
            Some(name) => {
                name.parse().map_err(|why| PyValueError::new_err(format!("entrypoint: {why}")))?
            }
        };
        let effective = Effective::new(&self.ceiling, manifest)
            .map_err(|error| bundle::raised(py, &error))?
            .policy;
        let unpacked = py.detach(|| bundle.inner.unpack(&self.store));
        unpacked.map_err(|error| bundle::raised(py, &error))?;
        let code = Code::Bundle(BundleRef {
            folder: bundle.inner.fingerprint().to_string(),
            module: entrypoint.module,
            attribute: entrypoint.attribute,
            preload: manifest.preload.clone(),
        });
        Ok((code, options.under(&effective, effective.files)))
    }

    /// Has isolates made for such calls.
    fn ahead(&self, py: Python<'_>, code: Code, limits: CallLimits) -> PyResult<()> {
        let open = self.open()?;
        let job = Job { limits, ..Job::new(code) };
        wait(py, host_runtime()?.spawn(async move { open.sandbox.prepare(&job).await }))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.is_inherited() {
            // Ending what is in it would wait for threads that are not here.
            let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(open.take());
        }
    }
}

/// What this machine has for a sandbox: its tier, each layer (name, whether it is up, what more is
/// known of it) and the version of Landlock.
#[pyfunction]
pub fn sandbox_support(
    py: Python<'_>,
) -> (&'static str, Vec<(&'static str, bool, &'static str)>, u32) {
    let support = py.detach(support);
    let layers = support.layers.iter();
    let layers = layers.map(|layer| (layer.name, layer.up, layer.detail.as_str())).collect();
    (support.tier.word(), layers, support.landlock_abi)
}

/// Nothing of it changes while a program runs.
fn support() -> &'static Support {
    static SUPPORT: OnceLock<Support> = OnceLock::new();
    SUPPORT.get_or_init(probe)
}
