//! How the command ends: exit codes, and errors with the code they end in.

use std::fmt;

use exuvia_core::{Diagnostics, Failure};
use exuvia_env::EnvError;

/// What the process says to its parent. `docs/cli.md` and `--help` list them from [`Exit::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    Raised = 1,
    Usage = 2,
    NotFound = 3,
    Input = 4,
    TimedOut = 5,
    WorkerLost = 6,
    NoPython = 7,
    OverLimit = 8,
    Denied = 9,
    Internal = 70,
    Interrupted = 130,
    Terminated = 143,
}

/// An error on its way to the person who typed the command.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    /// In plain words, without the leading `error: `. More lines may follow the first.
    pub(crate) message: String,
    /// The call's failure, where one was made.
    pub(crate) failure: Option<Box<Failure>>,
    pub(crate) diagnostics: Option<Box<Diagnostics>>,
}

// === impl Exit ===

impl Exit {
    pub(crate) const ALL: [Self; 13] = [
        Self::Ok,
        Self::Raised,
        Self::Usage,
        Self::NotFound,
        Self::Input,
        Self::TimedOut,
        Self::WorkerLost,
        Self::NoPython,
        Self::OverLimit,
        Self::Denied,
        Self::Internal,
        Self::Interrupted,
        Self::Terminated,
    ];

    pub(crate) fn code(self) -> i32 {
        self as i32
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "it worked (for `serve`: stopped by a signal, after the last request)",
            Self::Raised => "the handler raised an exception, or its result cannot be written",
            Self::Usage => {
                "wrong arguments or settings, a port that is taken, a file that cannot be written"
            }
            Self::NotFound => "no such file, module or function, or the module does not import",
            Self::Input => {
                "the input cannot be read, or does not fit the function's parameters, or a bundle \
                 is faulty"
            }
            Self::TimedOut => "the call ran into its time limit",
            Self::WorkerLost => "the worker crashed, exited or was lost during the call",
            Self::NoPython => {
                "no usable Python environment, or the worker runtime, a bundle's package or the \
                 sandbox is missing"
            }
            Self::OverLimit => "the call took more of something than its policy gives (`run`)",
            Self::Denied => "the call did what its policy does not let it do (`run`)",
            Self::Internal => "a fault in Exuvia itself",
            Self::Interrupted => "stopped by Ctrl-C (for `serve`: by the second one)",
            Self::Terminated => "stopped by SIGTERM (for `serve`: by the second one)",
        }
    }
}

/// The exit codes as lines for `--help`.
pub(crate) fn help() -> String {
    let lines = Exit::ALL.iter().map(|exit| format!("  {:>3}  {}", exit.code(), exit.meaning()));
    format!("Exit codes:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

// === impl Stop ===

impl Stop {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), failure: None, diagnostics: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The error as `--json` prints it.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "ok": false,
            "exit_code": self.exit.code(),
            "message": self.message,
            "responsible": self.failure.as_ref().map(|failure| failure.responsible()),
            "failure": self.failure,
            "diagnostics": self.diagnostics,
        })
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<EnvError> for Stop {
    fn from(error: EnvError) -> Self {
        Self::new(Exit::NoPython, error.to_string())
    }
}
