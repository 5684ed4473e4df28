//! What a sandbox is given.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use exuvia_core::{Codec, Files, Payload, Policy};
use exuvia_jail::{Layers, Tier};

use crate::config::{OutputSink, Stream};

/// Takes what a guest prints, as it prints it. Called on the sandbox's threads: must not block.
pub type LiveOutput = Arc<dyn Fn(Stream, &[u8]) + Send + Sync>;

/// How to run a sandbox. Every limit is finite.
#[derive(Clone)]
pub struct SandboxConfig {
    /// The Python that the image runs, as found; not resolved, or a virtual environment is lost.
    pub python: PathBuf,
    /// Our runtime library, absolute.
    pub runtime: PathBuf,
    /// What isolates see beside their bundle, Python and the system's libraries: files and folders,
    /// read-only, at the same paths.
    pub view: Vec<PathBuf>,
    /// The folder with unpacked bundles.
    pub store: Option<PathBuf>,
    /// What the image imports.
    pub preload: Vec<String>,
    /// Limits where a call says nothing else, and the most that it can say.
    pub policy: Policy,
    /// Which layers there can be ([`exuvia_jail::probe`]).
    pub tier: Tier,
    /// User and group of the image and its isolates, where this program is root.
    pub user: (u32, u32),
    /// Isolates that are kept ready for each kind of call.
    pub spares: usize,
    /// Isolates that run at a time.
    pub concurrency: usize,
    /// Calls that may wait for one.
    pub queue: usize,
    /// Whether an isolate takes one call after the other.
    pub persistent: bool,
    /// Threads of numeric libraries in each isolate.
    pub blas_threads: u32,
    /// How long the image may take.
    pub start_timeout: Duration,
    /// The layers. Fewer than all is for tests of what each is there for.
    pub layers: Layers,
    /// Where what the image prints goes.
    pub output: OutputSink,
}

/// One call of a sandbox.
#[derive(Clone)]
pub struct Job {
    /// What to run.
    pub code: Code,
    /// Its arguments.
    pub payload: Payload,
    /// Arguments given as text, by name.
    pub text_arguments: Vec<(String, String)>,
    /// How the result shall be written down.
    pub accept: Codec,
    /// Limits of this call.
    pub limits: CallLimits,
    /// Who hears what it prints while it runs.
    pub live: Option<LiveOutput>,
}

/// The code of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// Source code, as text.
    Source {
        /// The code.
        text: String,
        /// The function to call; `None`: `handler` where there is one, else the code is the
        /// function, and its last line the result.
        entrypoint: Option<String>,
    },
    /// A bundle.
    Bundle(BundleRef),
}

/// A bundle that is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BundleRef {
    /// Its folder in the store.
    pub folder: String,
    /// The module of its function.
    pub module: String,
    /// The function, `module.attribute` without the module.
    pub attribute: String,
    /// What to import before it.
    pub preload: Vec<String>,
}

/// Limits that a call may bring; each is at most that of the sandbox's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// Wall time.
    pub wall: Option<Duration>,
    /// CPU time.
    pub cpu: Option<Duration>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of the result.
    pub result: Option<u64>,
    /// Bytes of output.
    pub output: Option<u64>,
    /// Files: static, needs an isolate of its own kind.
    pub files: Option<Files>,
    /// Threads: static.
    pub threads: Option<u32>,
}

// === impl SandboxConfig ===

impl fmt::Debug for SandboxConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxConfig")
            .field("python", &self.python)
            .field("preload", &self.preload)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

// === impl Job ===

impl Job {
    /// A call without arguments.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self {
            code,
            payload: Payload::default(),
            text_arguments: Vec::new(),
            accept: Codec::Json,
            limits: CallLimits::default(),
            live: None,
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("code", &self.code).finish_non_exhaustive()
    }
}

// === impl CallLimits ===

impl CallLimits {
    /// The policy of a call: what it asks for, where that is less.
    #[must_use]
    pub fn under(&self, policy: &Policy) -> Policy {
        fn least<T: Ord + Copy>(asked: Option<T>, most: T) -> T {
            asked.map_or(most, |asked| asked.min(most))
        }
        let files = self.files.map_or(policy.files, |asked| Files {
            mode: asked.mode.min(policy.files.mode),
            bytes: asked.bytes.min(policy.files.bytes),
            inodes: asked.inodes.min(policy.files.inodes),
        });
        Policy {
            wall: least(self.wall, policy.wall),
            cpu: least(self.cpu, policy.cpu),
            memory: least(self.memory, policy.memory),
            result: least(self.result, policy.result),
            output: least(self.output, policy.output),
            files,
            threads: least(self.threads, policy.threads),
        }
    }
}
