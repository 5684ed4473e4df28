//! What a pool is given and what it tells.

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use exuvia_core::{Failure, TargetSpec};
use exuvia_observe::Metrics;

/// Takes what workers print, line by line. Called on the pool's thread: must not block.
pub type OutputSink = Arc<dyn Fn(OutputLine) + Send + Sync>;

/// How to run a pool. Every limit is finite.
#[derive(Clone)]
pub struct PoolConfig {
    /// The Python to run workers with, as found; not resolved, or a virtual environment is lost.
    pub python: PathBuf,
    /// Our runtime library, absolute.
    pub runtime: PathBuf,
    /// What to load; paths absolute.
    pub targets: Vec<TargetSpec>,
    /// Where workers start, and where modules are looked for.
    pub working_dir: PathBuf,
    /// Where modules are looked for besides, after the targets' own folders.
    pub search_path: Vec<PathBuf>,
    /// How many workers take calls; 0: calls wait until there are some.
    pub workers: usize,
    /// Workers beyond these that are kept ready to take the place of one that ends.
    pub spares: usize,
    /// How workers come into being.
    pub image: ImageConfig,
    /// When a worker is replaced by a fresh one.
    pub recycle: Recycle,
    /// Async calls at a time per worker, at least 1.
    pub concurrency: u32,
    /// Calls that may wait for a worker.
    pub queue: usize,
    /// Wall time of a call, waiting included.
    pub timeout: Duration,
    /// The same for single handlers, by `module:name`.
    pub handler_timeouts: HashMap<String, Duration>,
    /// Longest payload of a call in bytes.
    pub max_payload: u64,
    /// Bytes of memory that reading one table may make in a worker.
    pub max_table: u64,
    /// Whether targets that do not import are left out, as long as others do: [`crate::Pool::broken`]
    /// tells which. A worker that comes later must load what the first one could.
    pub tolerant: bool,
    /// Bytes of output per call and stream that reach the sink.
    pub max_output: u64,
    /// How long a worker may take until its imports are done.
    pub start_timeout: Duration,
    /// Where output goes.
    pub output: OutputSink,
    /// Where counts go.
    pub metrics: Arc<Metrics>,
}

/// How workers come into being, and what they have imported before their first call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    /// Forked from a warm zygote, or each started afresh.
    pub start: StartMethod,
    /// Modules to import beside those that the handlers import.
    pub preload: Vec<String>,
    /// Functions without arguments to call once these are imported; paths absolute.
    pub warm: Vec<TargetSpec>,
    /// Threads of numeric libraries (BLAS, OpenMP) in each worker. `None`: what the variables of
    /// those libraries say, else cores / workers, at least 1.
    pub blas_threads: Option<u32>,
}

/// How a worker process is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartMethod {
    /// Forked from a zygote that has the imports done; started afresh where that is not possible.
    Fork,
    /// Started afresh.
    Spawn,
}

/// When a worker is replaced. It leaves when its replacement is ready, between calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recycle {
    /// Resident memory in bytes, pages shared with the zygote included; looked at between calls.
    pub max_rss: Option<u64>,
    /// Calls it has ended.
    pub max_calls: Option<u64>,
    /// Time since it was ready.
    pub lifetime: Option<Duration>,
    /// Each worker's own `max_calls` and `lifetime` are shortened by up to so many percent, so
    /// that not all leave at once; at most 100.
    pub jitter_percent: u8,
}

/// One worker at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its number, never used twice in a pool.
    pub worker: u64,
    /// Its process.
    pub pid: u32,
    /// How far it is in its life.
    pub state: WorkerState,
    /// Calls it has ended.
    pub calls: u64,
    /// Calls handed to it and not ended.
    pub running: usize,
    /// Since its start.
    pub age: Duration,
    /// How it was made.
    pub start: StartMethod,
    /// Its memory; `None` when it is gone already.
    pub memory: Option<exuvia_sys::Memory>,
}

/// How far a worker is in its life, as its users see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Importing.
    Starting,
    /// Taking calls.
    Ready,
    /// Ready to take the place of another.
    Spare,
    /// Taking calls until its replacement is ready.
    Retiring,
    /// Ending.
    Stopping,
}

/// What workers of a pool are forked from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageStatus {
    /// How workers are made at present: `Spawn` also where forking was wanted and is not possible.
    pub start: StartMethod,
    /// Why they are not forked though that was wanted.
    pub why_spawn: Option<String>,
    /// The zygote's process, while it is ready.
    pub zygote: Option<u32>,
    /// From the zygote's start until it was ready.
    pub took: Duration,
    /// What was imported, in order, and the time each took without what came before.
    pub imports: Vec<(String, Duration)>,
    /// Items that each worker imports by itself, and why.
    pub left_out: Vec<(String, String)>,
    /// What its user should know: random generators that all workers share, closed descriptors.
    pub notes: Vec<String>,
    /// The zygote's memory.
    pub memory: Option<exuvia_sys::Memory>,
}

/// A line a worker printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// The worker's number; 0: the zygote.
    pub worker: u64,
    /// The call it was printed in, where the worker said so.
    pub call_id: Option<String>,
    /// Which stream.
    pub stream: Stream,
    /// The line, without its end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A pool at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// Workers that take calls.
    pub ready: usize,
    /// Workers there should be.
    pub size: usize,
    /// Calls waiting for a worker.
    pub queued: usize,
    /// Calls handed to a worker.
    pub running: usize,
    /// Whether new calls are refused because the pool is being stopped.
    pub draining: bool,
}

/// Why a pool did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A module does not import, or has no such handler.
    #[error("{0}")]
    Load(Failure),
    /// Python could not be started, or ended before it was ready.
    #[error("{message}")]
    Python {
        /// What happened.
        message: String,
    },
    /// The runtime library does not fit this program.
    #[error("{message}")]
    Runtime {
        /// What happened.
        message: String,
    },
    /// The machine refused.
    #[error("cannot start a worker: {0}")]
    Io(#[from] std::io::Error),
}

// === impl PoolConfig ===

impl fmt::Debug for PoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolConfig")
            .field("python", &self.python)
            .field("targets", &self.targets)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

// === impl ImageConfig ===

impl Default for ImageConfig {
    fn default() -> Self {
        Self { start: StartMethod::Fork, preload: vec![], warm: vec![], blas_threads: None }
    }
}

// === impl WorkerState ===

impl WorkerState {
    /// The word for metrics and listings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Spare => "spare",
            Self::Retiring => "retiring",
            Self::Stopping => "stopping",
        }
    }
}

// === impl StartMethod ===

impl StartMethod {
    /// The word for settings and listings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Spawn => "spawn",
        }
    }
}

// === impl Stream ===

impl Stream {
    /// The word for logs and listings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
