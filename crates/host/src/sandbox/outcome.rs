//! How a call in a sandbox ended, and what the host saw of it.

use std::time::{Duration, SystemTime};

use exuvia_core::{Failure, Outcome, Policy, Resource};
use exuvia_jail::Tier;
use exuvia_sys::{Ended, process::signal_name};

use crate::stacks;

/// What a guest's stderr says when Rust code in it found no memory.
const NO_MEMORY: &[u8] = b"memory allocation of ";
/// How much of the end of its stderr is looked at.
const LAST: usize = 4096;

/// The end of a call, and all that was measured.
#[derive(Debug, Clone)]
pub struct SandboxOutcome {
    /// The result, or why there is none.
    pub outcome: Outcome,
    /// What was printed to standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// What was printed to standard error, up to the limit.
    pub stderr: Vec<u8>,
    /// What was used.
    pub usage: Usage,
}

/// What the host measured of a call.
#[derive(Debug, Clone)]
pub struct Usage {
    /// When the call came.
    pub came: SystemTime,
    /// When it was handed to its isolate.
    pub started: Option<SystemTime>,
    /// When its end was known.
    pub ended: SystemTime,
    /// From its coming until an isolate was there for it.
    pub queued: Duration,
    /// From its handing over to its end.
    pub wall: Duration,
    /// CPU time of all its threads, user and system.
    pub cpu: Duration,
    /// The most resident memory beyond what it had when it was ready, in bytes.
    pub peak_memory: u64,
    /// Bytes printed, also those that were not kept.
    pub output_bytes: u64,
    /// Whether some of the output was not kept.
    pub output_truncated: bool,
    /// Bytes in `/session` at the end.
    pub file_bytes: u64,
    /// Files in `/session` at the end, with their sizes.
    pub files: Vec<(String, u64)>,
    /// What it was refused, in order, as far as it is kept.
    pub denials: Vec<Denied>,
    /// How often it was refused something.
    pub denied: u64,
    /// The layers it ran behind.
    pub tier: Tier,
    /// Whether no isolate was ready for it.
    pub on_demand: bool,
    /// Whether its isolate has run no other call.
    pub fresh: bool,
    /// Whether its isolate was shed because of it, though it was to be kept.
    pub quarantined: bool,
    /// The limits it had.
    pub policy: Policy,
}

/// Something a guest was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The system call.
    pub what: String,
    /// The file it was about.
    pub path: Option<String>,
    /// How often in a row.
    pub count: u64,
}

/// Why a call is over that gave no answer.
#[derive(Debug)]
pub(super) enum Stop {
    /// Its isolate ended.
    Died(Ended),
    /// The host ended it.
    Over(Failure),
    /// It sent itself a signal that it does not catch and that ends processes.
    Raised(i32),
    /// It broke the protocol.
    Broke(String),
}

/// What the host can see at the end of a call, for attribution.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    /// Its tasks.
    pub(super) threads: u32,
    /// `/session` has no byte or no name left.
    pub(super) full: bool,
    pub(super) peak_memory: u64,
}

// === impl Denied ===

impl Denied {
    /// What and where, in a line.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.path {
            Some(path) => format!("{} {path}", self.what),
            None => self.what.clone(),
        }
    }
}

// === impl Stop ===

impl Stop {
    /// The failure of a call that ended so.
    pub(super) fn failure(
        self,
        policy: &Policy,
        facts: Facts,
        stderr: &[u8],
        report: &[u8],
    ) -> Failure {
        let signal = match self {
            Self::Over(failure) => return failure,
            // Our own code in it keeps to the protocol: the guest wrote to the socket.
            Self::Broke(what) => {
                let what = format!("speaking to the host by itself ({what})");
                return Failure::Denied { what, count: 1 };
            }
            Self::Died(Ended::Exited(status)) => return Failure::Exited { status, running: 1 },
            Self::Died(Ended::Unknown) => {
                let reason = "the isolate ended, and nobody knows how".into();
                return Failure::WorkerLost { reason, retryable: false };
            }
            // The first process of a namespace cannot be aborted, and dies of trying.
            Self::Died(Ended::Killed(SIGSEGV)) if report.starts_with(ABORTED) => SIGABRT,
            // As a shell tells it: from outside, these would be nobody's but the machine's.
            Self::Raised(signal @ (SIGKILL | SIGTERM)) => {
                return Failure::Exited { status: 128 + signal, running: 1 };
            }
            Self::Died(Ended::Killed(signal)) | Self::Raised(signal) => signal,
        };
        let last = &stderr[stderr.len().saturating_sub(LAST)..];
        if last.windows(NO_MEMORY.len()).any(|text| text == NO_MEMORY) {
            return memory(policy, facts);
        }
        if signal == SIGSYS {
            return Failure::Denied { what: "a system call of another machine".into(), count: 1 };
        }
        Failure::Crash {
            signal: signal_name(signal),
            number: signal,
            running: 1,
            frames: stacks::crashed(report),
        }
    }
}

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const SIGSEGV: i32 = 11;
const SIGSYS: i32 = 31;
/// How the report of a crash begins where it was an abort.
const ABORTED: &[u8] = b"Fatal Python error: Aborted";

fn memory(policy: &Policy, facts: Facts) -> Failure {
    let (limit, used) = (policy.memory, Some(facts.peak_memory));
    Failure::Limit { resource: Resource::Memory, limit, used }
}

/// A failure that the guest reports, by what the host knows of it: an exception that a limit made
/// is told as that limit.
pub(super) fn attributed(
    failure: Failure,
    policy: &Policy,
    facts: Facts,
    denials: &[Denied],
    denied: u64,
) -> Failure {
    let Failure::Exception { class, message, .. } = &failure else { return failure };
    let name = class.rsplit('.').next().unwrap_or_default();
    let starts = |numbers: &[u32]| {
        numbers.iter().any(|number| message.starts_with(&format!("[Errno {number}]")))
    };
    let limit = |resource, limit| Failure::Limit { resource, limit, used: None };
    if name.ends_with("MemoryError") || starts(&[ENOMEM]) {
        return memory(policy, facts);
    }
    if message.contains("can't start new thread") || message.contains("failed to spawn thread") {
        return match facts.threads >= policy.threads {
            true => limit(Resource::Threads, policy.threads.into()),
            false => memory(policy, facts),
        };
    }
    if starts(&[ENOSPC, EFBIG, EDQUOT]) && (facts.full || starts(&[EFBIG])) {
        return limit(Resource::Files, policy.files.bytes);
    }
    let refused = starts(&[EPERM, EACCES, EROFS]) || name == "PermissionError";
    if let Some(last) = denials.last().filter(|_| refused) {
        return Failure::Denied { what: last.words(), count: denied };
    }
    failure
}

const EPERM: u32 = 1;
const ENOMEM: u32 = 12;
const EACCES: u32 = 13;
const EFBIG: u32 = 27;
const ENOSPC: u32 = 28;
const EROFS: u32 = 30;
const EDQUOT: u32 = 122;

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(class: &str, message: &str) -> Failure {
        let (class, message) = (class.to_owned(), message.to_owned());
        Failure::Exception { class, message, traceback: String::new(), frames: vec![] }
    }

    #[test]
    fn an_exception_that_a_limit_made_is_told_as_that_limit() {
        let policy = Policy::default();
        let told = |failure, facts| {
            let denied = Denied { what: "clone".into(), path: None, count: 1 };
            attributed(failure, &policy, facts, &[denied], 1)
        };
        let resource = |failure: Failure| match failure {
            Failure::Limit { resource, .. } => resource.word(),
            Failure::Denied { .. } => "denied",
            _ => "exception",
        };
        let (few, many) = (Facts::default(), Facts { threads: 32, ..Facts::default() });
        let full = Facts { full: true, ..Facts::default() };
        for (class, message, facts, expected) in [
            ("MemoryError", "", few, "memory"),
            ("numpy._core._exceptions._ArrayMemoryError", "Unable", few, "memory"),
            ("RuntimeError", "can't start new thread", many, "threads"),
            ("RuntimeError", "can't start new thread", few, "memory"),
            ("RuntimeError", "something else", many, "exception"),
            ("OSError", "[Errno 28] No space left on device", full, "files"),
            ("OSError", "[Errno 28] No space left on device", few, "exception"),
            ("PermissionError", "[Errno 1] Operation not permitted", few, "denied"),
            ("ValueError", "x", full, "exception"),
        ] {
            assert_eq!(
                resource(told(raised(class, message), facts)),
                expected,
                "{class} {message}"
            );
        }
    }
}
