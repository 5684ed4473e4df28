//! What an isolate may use. Finite by default.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Limits of one isolate, or of one call in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Wall time of a call.
    pub wall: Duration,
    /// CPU time of a call, all threads together, user and system.
    pub cpu: Duration,
    /// Bytes of private writable memory beyond what the image has.
    pub memory: u64,
    /// Bytes of a result.
    pub result: u64,
    /// Bytes of standard output and error together.
    pub output: u64,
    /// Files under `/session`.
    pub files: Files,
    /// Threads, the first one included.
    pub threads: u32,
}

/// What an isolate may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Files {
    /// Whether it may write at all.
    pub mode: FileMode,
    /// Bytes of all files together, at any one time.
    pub bytes: u64,
    /// Files and folders, at any one time.
    pub inodes: u64,
}

/// Whether `/session` may be written.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum FileMode {
    /// Nothing may be written.
    #[default]
    Read,
    /// `/session` may be written.
    ReadWrite,
}

/// What can be used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// CPU time, in milliseconds.
    Cpu,
    /// Memory, in bytes.
    Memory,
    /// The result, in bytes.
    Result,
    /// Standard output and error, in bytes.
    Output,
    /// Files under `/session`, in bytes.
    Files,
    /// Threads.
    Threads,
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(30),
            cpu: Duration::from_secs(30),
            memory: 512 << 20,
            result: 64 << 20,
            output: 1 << 20,
            files: Files::default(),
            threads: 32,
        }
    }
}

// === impl Files ===

impl Default for Files {
    fn default() -> Self {
        Self { mode: FileMode::Read, bytes: 16 << 20, inodes: 1024 }
    }
}

// === impl Resource ===

impl Resource {
    /// The word for outcomes and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Result => "result",
            Self::Output => "output",
            Self::Files => "files",
            Self::Threads => "threads",
        }
    }

    /// The word in sentences.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Cpu => "CPU time",
            Self::Memory => "memory",
            Self::Result => "room for its result",
            Self::Output => "output",
            Self::Files => "room for files",
            Self::Threads => "threads",
        }
    }

    pub(crate) fn write_amount(self, f: &mut fmt::Formatter<'_>, amount: u64) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "{amount} ms"),
            Self::Threads => write!(f, "{amount}"),
            _ => write!(f, "{amount} bytes"),
        }
    }
}
