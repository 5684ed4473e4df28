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
    /// How many workers, at least 1.
    pub workers: usize,
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
    /// Bytes of output per call and stream that reach the sink.
    pub max_output: u64,
    /// How long a worker may take until its imports are done.
    pub start_timeout: Duration,
    /// Where output goes.
    pub output: OutputSink,
    /// Where counts go.
    pub metrics: Arc<Metrics>,
}

/// A line a worker printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputLine {
    /// The worker's number.
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

// === impl Stream ===

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}
