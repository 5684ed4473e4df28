//! How a call ends. Errors are data: every end has one shape, and says whose fault it was.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use crate::{Payload, Resource};

/// One call's end: its result or a typed failure, with what was seen on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The handler's answer, or why there is none.
    pub result: Result<Payload, Box<Failure>>,
    /// What the host measured.
    pub diagnostics: Diagnostics,
}

/// What the host saw of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// The call's id, unique in this host's life and named in every log line about it.
    pub call_id: String,
    /// `module:name` of the handler.
    pub handler: String,
    /// The worker that ran it last, if one did: a number never given twice by a host.
    pub worker: Option<u64>,
    /// That worker's process id.
    pub pid: Option<u32>,
    /// Microseconds from the call's arrival until it was handed to a worker, the last time.
    pub queued_us: u64,
    /// Microseconds the handler ran, as the worker measured it.
    pub run_us: u64,
    /// How often the call was handed to a worker. More than one: an earlier worker was lost before
    /// the call had started.
    pub attempts: u32,
    /// Data of tables and tensors that had to be copied on its way to the handler and back.
    #[serde(default)]
    pub copies: Vec<Copied>,
}

/// One copy of a table's or tensor's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// What was copied: `column "x"`, `table`.
    pub what: String,
    /// How many bytes.
    pub bytes: u64,
    /// Why, in a clause: `pandas needs a copy because it has nulls`.
    pub why: String,
}

/// Whose fault a failure was, judged only by what the host measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Responsible {
    /// Who made the call: bad arguments, a handler that does not exist.
    Caller,
    /// The handler's code.
    Guest,
    /// Exuvia itself.
    Host,
    /// Neither: load, the machine, a neighbour's death.
    Infrastructure,
}

/// One thing wrong with a call's arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFault {
    /// Where, as a JSON Pointer (RFC 6901) into the arguments: `/n`, or empty for the whole.
    pub pointer: String,
    /// What is wrong, in a plain sentence.
    pub message: String,
}

/// One line of a Python stack, innermost first in crashes and outermost first in tracebacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The source file.
    pub file: String,
    /// The line, from 1; 0 where it is not known.
    pub line: u32,
    /// The function.
    pub function: String,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Failure {
    /// The bytes of the call could not be read at all (not JSON, wrong encoding).
    Malformed {
        /// What is wrong, with line and column.
        message: String,
    },
    /// The arguments do not fit the handler.
    Input {
        /// Every fault at once.
        faults: Vec<InputFault>,
    },
    /// The handler raised.
    Exception {
        /// The exception's class, with its module unless it is a builtin: `KeyError`.
        class: String,
        /// `str()` of the exception.
        message: String,
        /// The traceback as Python prints it.
        traceback: String,
        /// The same as data, outermost first, without Exuvia's own frames.
        frames: Vec<Frame>,
    },
    /// The handler said that the caller asked for what cannot be: it raised an exception whose
    /// `exuvia_status` is from 400 to 499.
    Refused {
        /// That status.
        status: u16,
        /// The exception's class.
        class: String,
        /// What it said, for the caller.
        message: String,
    },
    /// The handler returned something that the answer's format cannot hold.
    Result {
        /// Where in the result: `result["a"][3]`.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// The handler overran its wall time and was stopped.
    Timeout {
        /// The limit in milliseconds.
        limit_ms: u64,
        /// Whether it had begun; a call that waited too long never does.
        started: bool,
        /// Where the worker's threads were when its loop no longer answered, innermost first;
        /// empty where the task could be cancelled.
        frames: Vec<Frame>,
    },
    /// The worker died by a signal while it ran this call.
    Crash {
        /// `SIGSEGV` and so on.
        signal: String,
        /// The signal's number.
        number: i32,
        /// Calls that ran in the worker at that time, this one included: only with 1 is it certain
        /// which one did it.
        running: u32,
        /// The crashed thread's Python stack, innermost first, where one could be had.
        frames: Vec<Frame>,
    },
    /// The worker ended itself while it ran this call (`os._exit`).
    Exited {
        /// The exit status.
        status: i32,
        /// Calls that ran in the worker at that time, this one included.
        running: u32,
    },
    /// The call took more of something than its policy gives, and was stopped.
    Limit {
        /// Of what.
        resource: Resource,
        /// How much it may take, in the resource's unit.
        limit: u64,
        /// How much the host saw it take, where that is known: at least so much.
        used: Option<u64>,
    },
    /// The call did what its policy does not let it do.
    Denied {
        /// What: the system call's name, or `write` with the file's name.
        what: String,
        /// How often it was denied something.
        count: u64,
    },
    /// The worker was stopped for something else than this call.
    WorkerLost {
        /// Why it was stopped.
        reason: String,
        /// Whether the call may be sent again: it had begun, so only its author can tell if it is
        /// safe to run twice.
        retryable: bool,
    },
    /// The call was not taken.
    Rejected {
        /// The queue was full, or the host drains.
        reason: String,
        /// When to come back, in milliseconds.
        retry_after_ms: u64,
    },
    /// The caller went away.
    Cancelled,
    /// The handler is not there: its module does not import, or has no such function.
    Load {
        /// What failed, in plain words.
        message: String,
        /// The traceback as Python prints it, or empty.
        traceback: String,
    },
    /// Exuvia failed.
    Host {
        /// What happened.
        message: String,
    },
}

/// A failure's kind without its data: the word in metrics, logs and problem types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is documented at the variant of `Failure` with its name")]
pub enum FailureKind {
    Malformed,
    Input,
    Exception,
    Refused,
    Result,
    Timeout,
    Crash,
    Exited,
    Limit,
    Denied,
    WorkerLost,
    Rejected,
    Cancelled,
    Load,
    Host,
}

// === impl Outcome ===

impl Outcome {
    /// The word for this end in metrics and logs: `ok` or the failure's kind.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match &self.result {
            Ok(_) => "ok",
            Err(failure) => failure.kind().word(),
        }
    }
}

// === impl FailureKind ===

impl FailureKind {
    /// Every kind, in the order of [`Failure`].
    pub const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Input,
        Self::Exception,
        Self::Refused,
        Self::Result,
        Self::Timeout,
        Self::Crash,
        Self::Exited,
        Self::Limit,
        Self::Denied,
        Self::WorkerLost,
        Self::Rejected,
        Self::Cancelled,
        Self::Load,
        Self::Host,
    ];

    /// The kind in `snake_case`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Input => "input",
            Self::Exception => "exception",
            Self::Refused => "refused",
            Self::Result => "result",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
            Self::Exited => "exited",
            Self::Limit => "limit",
            Self::Denied => "denied",
            Self::WorkerLost => "worker_lost",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Load => "load",
            Self::Host => "host",
        }
    }
}

// === impl Failure ===

impl Failure {
    /// An [`Failure::Input`] with a single fault.
    #[must_use]
    pub fn input(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Input {
            faults: vec![InputFault { pointer: pointer.into(), message: message.into() }],
        }
    }

    /// The kind alone.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Malformed { .. } => FailureKind::Malformed,
            Self::Input { .. } => FailureKind::Input,
            Self::Exception { .. } => FailureKind::Exception,
            Self::Refused { .. } => FailureKind::Refused,
            Self::Result { .. } => FailureKind::Result,
            Self::Timeout { .. } => FailureKind::Timeout,
            Self::Crash { .. } => FailureKind::Crash,
            Self::Exited { .. } => FailureKind::Exited,
            Self::Limit { .. } => FailureKind::Limit,
            Self::Denied { .. } => FailureKind::Denied,
            Self::WorkerLost { .. } => FailureKind::WorkerLost,
            Self::Rejected { .. } => FailureKind::Rejected,
            Self::Cancelled => FailureKind::Cancelled,
            Self::Load { .. } => FailureKind::Load,
            Self::Host { .. } => FailureKind::Host,
        }
    }

    /// Whose fault it was.
    #[must_use]
    pub fn responsible(&self) -> Responsible {
        match self {
            Self::Malformed { .. }
            | Self::Input { .. }
            | Self::Refused { .. }
            | Self::Cancelled => Responsible::Caller,
            Self::Exception { .. }
            | Self::Result { .. }
            | Self::Exited { .. }
            | Self::Limit { .. }
            | Self::Denied { .. }
            | Self::Load { .. } => Responsible::Guest,
            Self::Timeout { started, .. } => {
                if *started {
                    Responsible::Guest
                } else {
                    Responsible::Infrastructure
                }
            }
            // Nobody but the machine or its operator sends SIGKILL or SIGTERM to a worker from
            // outside the host; a guest could to itself, which the host cannot see.
            Self::Crash { number: 9 | 15, .. } => Responsible::Infrastructure,
            Self::Crash { .. } => Responsible::Guest,
            Self::WorkerLost { .. } | Self::Rejected { .. } => Responsible::Infrastructure,
            Self::Host { .. } => Responsible::Host,
        }
    }

    /// The Python frames of the failure, or none.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        match self {
            Self::Exception { frames, .. }
            | Self::Timeout { frames, .. }
            | Self::Crash { frames, .. } => frames,
            _ => &[],
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { message } | Self::Load { message, .. } | Self::Host { message } => {
                f.write_str(message)
            }
            Self::Input { faults } => {
                for (index, fault) in faults.iter().enumerate() {
                    if index > 0 {
                        f.write_str("; ")?;
                    }
                    if !fault.pointer.is_empty() {
                        write!(f, "{}: ", fault.pointer)?;
                    }
                    f.write_str(&fault.message)?;
                }
                Ok(())
            }
            Self::Exception { class, message, .. } if message.is_empty() => f.write_str(class),
            Self::Exception { class, message, .. } => write!(f, "{class}: {message}"),
            Self::Refused { class, message, .. } if message.is_empty() => f.write_str(class),
            Self::Refused { message, .. } => f.write_str(message),
            Self::Result { path, message } => write!(f, "{path}: {message}"),
            Self::Timeout { limit_ms, started: true, .. } => {
                write!(f, "the handler ran longer than its limit of {limit_ms} ms")
            }
            Self::Timeout { limit_ms, started: false, .. } => {
                write!(f, "no worker was free within the limit of {limit_ms} ms")
            }
            Self::Crash { signal, running, .. } => {
                write!(f, "the worker died by {signal} while it ran this call")?;
                others(f, *running)
            }
            Self::Exited { status, running } => {
                write!(f, "the worker exited with status {status} while it ran this call")?;
                others(f, *running)
            }
            Self::Limit { resource, limit, used } => {
                write!(f, "the call took more {} than its limit of ", resource.noun())?;
                resource.write_amount(f, *limit)?;
                match used {
                    Some(used) if used > limit => {
                        f.write_str(" (")?;
                        resource.write_amount(f, *used)?;
                        f.write_str(")")
                    }
                    _ => Ok(()),
                }
            }
            Self::Denied { what, count: 0 | 1 } => write!(f, "the call was denied: {what}"),
            Self::Denied { what, count } => {
                write!(f, "the call was denied {count} times, last: {what}")
            }
            Self::WorkerLost { reason, .. } => write!(f, "the worker was stopped: {reason}"),
            Self::Rejected { reason, .. } => f.write_str(reason),
            Self::Cancelled => f.write_str("the caller went away"),
        }
    }
}

impl std::error::Error for Failure {}

fn others(f: &mut fmt::Formatter<'_>, running: u32) -> fmt::Result {
    match running {
        0 | 1 => Ok(()),
        n => write!(f, ", as one of {n}"),
    }
}

/// A stack for people, one frame a line, indented by two.
#[must_use]
pub fn render_frames(frames: &[Frame]) -> String {
    let mut text = String::new();
    for frame in frames {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}:{} in {}", frame.file, frame.line, frame.function);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_kind_the_same_way_in_serde_and_in_metrics() {
        let failures = [
            Failure::Malformed { message: String::new() },
            Failure::input("/n", "must be an integer"),
            Failure::WorkerLost { reason: String::new(), retryable: true },
            Failure::Cancelled,
        ];
        for failure in failures {
            // rmp-serde and serde_json both go through this attribute; FailureKind is the shortest.
            let word = failure.kind().word();
            assert!(FailureKind::ALL.iter().any(|kind| kind.word() == word));
        }
    }

    #[test]
    fn a_kill_from_outside_is_not_the_guests_fault_but_a_segfault_is() {
        let crash =
            |number| Failure::Crash { signal: String::new(), number, running: 1, frames: vec![] };
        assert_eq!(crash(9).responsible(), Responsible::Infrastructure);
        assert_eq!(crash(11).responsible(), Responsible::Guest);
    }
}
