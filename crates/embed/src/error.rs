//! Why no interpreter was started.

use std::path::PathBuf;

use exuvia_env::EnvError;
use thiserror::Error;

/// Why no interpreter was started. A new attempt may be made, except after
/// [`AlreadyRunning`](Self::AlreadyRunning) and [`Crippled`](Self::Crippled).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartError {
    /// A process has one interpreter, and this one has it.
    #[error("this process runs a Python interpreter already, and can have only one")]
    AlreadyRunning,
    /// Nobody said which.
    #[error(
        "no Python was named, and this program was built without one\n\
         hint: set `Options::python`, or activate a virtual environment"
    )]
    NotNamed,
    /// The one that was named cannot be used.
    #[error("{}\nhint: `Options::python` or VIRTUAL_ENV names another", first_line(.0))]
    Unusable(#[from] EnvError),
    /// The named Python and the library in this program are of different versions: the packages of
    /// the one would not be found by the other, or crash it.
    #[error(
        "{} is Python {}.{}.{}, but this program is linked with Python {linked}\n\
         hint: name a Python {linked}, or build the program with EXUVIA_EMBED_PYTHON={}",
        .python.display(), .found.0, .found.1, .found.2, .python.display()
    )]
    OtherVersion {
        /// The executable.
        python: PathBuf,
        /// Its version.
        found: (u8, u8, u8),
        /// The version in this program, in its own words: `3.13.0`.
        linked: String,
    },
    /// This program is linked with a build without the global interpreter lock.
    #[error(
        "this program is linked with a free-threaded Python {linked}, which is not supported yet\n\
         hint: build it with EXUVIA_EMBED_PYTHON naming another"
    )]
    FreeThreaded {
        /// Its version.
        linked: String,
    },
    /// It runs, but its standard library does not.
    #[error("Python was started, but its standard library does not work: {reason}")]
    Crippled {
        /// The exception.
        reason: String,
    },
}

/// What is wrong, without the advice: that speaks of the flags of a command.
fn first_line(error: &EnvError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
