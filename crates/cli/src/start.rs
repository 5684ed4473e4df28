//! What `serve` and `call` do alike: find Python and the runtime, start the pool.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use exuvia_core::Failure;
use exuvia_env::{EnvError, Environment, Request, probe};
use exuvia_host::{Pool, PoolConfig, StartError};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Interpreter,
    exit::{Exit, Stop},
    render::{self, Around},
    resolve::{Resolved, Variables},
};

/// What the process was started with.
pub(crate) struct Origins {
    pub(crate) cwd: PathBuf,
    pub(crate) variables: Variables,
    /// The runtime library the wheel knows of.
    pub(crate) runtime: Option<PathBuf>,
    /// The interpreter that runs this process, where one does.
    pub(crate) python: Interpreter,
}

/// Finds the environment and the runtime. Executes interpreters: not on the thread of a runtime.
/// `folders` are those of the targets.
pub(crate) fn find(
    origins: &Origins,
    settings: &Resolved,
    folders: &[PathBuf],
) -> Result<(Environment, PathBuf), EnvError> {
    Ok((python(origins, settings, folders)?, runtime(origins, settings)?))
}

/// Finds the environment. Executes interpreters.
pub(crate) fn python(
    origins: &Origins,
    settings: &Resolved,
    folders: &[PathBuf],
) -> Result<Environment, EnvError> {
    let explicit = settings.path("python").map(|path| {
        let origin = settings.origin("python");
        (path, origin)
    });
    let (running, installed) = match &origins.python {
        Interpreter::None => (None, None),
        Interpreter::Running(python) => (Some(python), None),
        Interpreter::Installed(python) => (None, Some(python)),
    };
    exuvia_env::find(&Request {
        explicit,
        running: running.cloned(),
        installed: installed.cloned(),
        targets: folders,
        cwd: origins.cwd.clone(),
        env: &|name| origins.variables.get(std::ffi::OsStr::new(name)).cloned(),
        limit: probe::LIMIT,
    })
}

/// Finds the runtime library.
pub(crate) fn runtime(origins: &Origins, settings: &Resolved) -> Result<PathBuf, EnvError> {
    let explicit = settings.path("runtime").or_else(|| origins.runtime.clone());
    // Without a path of its own a process still has the folder it works in.
    let exe = std::env::current_exe().unwrap_or_else(|_| origins.cwd.join("exuvia"));
    exuvia_env::find_runtime(&exe, explicit)
}

/// The event loop of a command. One thread: the work is in the workers, and what little is left here
/// is faster without locks and hand-overs.
pub(crate) fn event_loop() -> Result<Runtime, Stop> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Stop::new(Exit::Internal, format!("no event loop: {error}")))
}

/// Does what may block on a thread of its own.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stop> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Stop::new(Exit::Internal, error.to_string()))
}

/// Starts a pool and puts what goes wrong into words.
pub(crate) async fn pool(
    config: PoolConfig,
    environment: &Environment,
    typed: &[String],
    cwd: &Path,
    traceback: bool,
) -> Result<Arc<Pool>, Stop> {
    let modules = config.working_dir.clone();
    let around = Around {
        targets: typed,
        handler: None,
        environment,
        cwd,
        modules: &modules,
        traceback,
        time_flag: None,
    };
    Pool::start(config).await.map_err(|error| match error {
        StartError::Load(failure) => render::stop(failure, None, &around),
        StartError::Runtime { .. } | StartError::Python { .. } | StartError::Io(_) => Stop {
            failure: Some(Box::new(Failure::Host { message: error.to_string() })),
            ..Stop::new(Exit::NoPython, format!("{error}\npython: {environment}"))
        },
    })
}
