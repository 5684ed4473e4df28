//! Why there is no environment, with the remedy.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{OLDEST, Origin};

/// A place that was looked at, and why nothing was taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The place: a path, or a variable's name.
    pub place: String,
    /// What was wrong with it.
    pub why: String,
}

/// Why no Python environment or no runtime could be had. The text of each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EnvError {
    /// No Python anywhere.
    #[error(
        "no usable Python was found\n{}\nhint: install CPython {}.{} or newer, or name one with --python",
        list(.looked), OLDEST.0, OLDEST.1
    )]
    NotFound {
        /// Every place that was looked at.
        looked: Vec<Looked>,
    },
    /// A chosen Python is not there.
    #[error("there is no Python at {} (from {origin})\nhint: {}", .path.display(), missing_hint(.path, .origin))]
    Missing {
        /// What was chosen.
        path: PathBuf,
        /// Who chose it.
        origin: Origin,
    },
    /// A chosen Python cannot be run.
    #[error("{} (from {origin}) does not run: {reason}\nhint: {}", .path.display(), broken_hint(.path, .origin))]
    DoesNotExecute {
        /// The executable.
        path: PathBuf,
        /// Who chose it.
        origin: Origin,
        /// What happened.
        reason: String,
    },
    /// An older Python than [`OLDEST`].
    #[error(
        "{} (from {origin}) is Python {}.{}.{}, which is too old: {}.{} or newer is needed\nhint: {}",
        .path.display(), .version.0, .version.1, .version.2, OLDEST.0, OLDEST.1, another_hint(.origin)
    )]
    TooOld {
        /// The executable.
        path: PathBuf,
        /// Who chose it.
        origin: Origin,
        /// Its version.
        version: (u8, u8, u8),
    },
    /// PyPy, GraalPy and others.
    #[error(
        "{} (from {origin}) is {implementation}; only CPython can run handlers\nhint: {}",
        .path.display(), another_hint(.origin)
    )]
    NotCPython {
        /// The executable.
        path: PathBuf,
        /// Who chose it.
        origin: Origin,
        /// What it calls itself.
        implementation: String,
    },
    /// A build without the global interpreter lock.
    #[error(
        "{} (from {origin}) is a free-threaded build of Python {}.{}, which is not supported yet\nhint: {}",
        .path.display(), .version.0, .version.1, another_hint(.origin)
    )]
    FreeThreaded {
        /// The executable.
        path: PathBuf,
        /// Who chose it.
        origin: Origin,
        /// Its version.
        version: (u8, u8, u8),
    },
    /// A 32-bit Python beside a 64-bit Exuvia, or the reverse.
    #[error(
        "{} (from {origin}) is a {}-bit Python, but this Exuvia is built for {} bits\nhint: {}",
        .path.display(), .pointer_size * 8, usize::BITS, another_hint(.origin)
    )]
    Width {
        /// The executable.
        path: PathBuf,
        /// Who chose it.
        origin: Origin,
        /// Bytes in one of its pointers.
        pointer_size: u8,
    },
    /// The library that workers load is not there.
    #[error(
        "the worker runtime library was not found\n{}\nhint: install Exuvia again, or set EXUVIA_RUNTIME to the library's path",
        list(.looked)
    )]
    NoRuntime {
        /// Every place that was looked at.
        looked: Vec<Looked>,
    },
}

fn list(looked: &[Looked]) -> String {
    let lines = looked.iter().map(|looked| format!("  {}: {}", looked.place, looked.why));
    lines.collect::<Vec<_>>().join("\n")
}

fn missing_hint(path: &Path, origin: &Origin) -> String {
    match origin {
        Origin::VirtualEnv => {
            "VIRTUAL_ENV names a folder that is not a virtual environment; unset it, or activate \
             the right one"
                .into()
        }
        Origin::BesideTarget | Origin::WorkingFolder => recreate(path),
        _ => "give the path of a python executable or of a virtual environment".into(),
    }
}

fn broken_hint(path: &Path, origin: &Origin) -> String {
    match origin {
        Origin::VirtualEnv | Origin::BesideTarget | Origin::WorkingFolder => recreate(path),
        Origin::Chosen(_) | Origin::Running | Origin::Installed | Origin::Path => {
            another_hint(origin)
        }
    }
}

/// How to make the environment again that `executable` belongs to.
fn recreate(executable: &Path) -> String {
    // `<environment>/bin/python` or `<environment>\Scripts\python.exe`
    let folder = executable.ancestors().nth(2).unwrap_or(executable);
    format!(
        "make the environment again with `python3 -m venv --clear {}` and install its packages",
        folder.display()
    )
}

fn another_hint(origin: &Origin) -> String {
    let how = match origin {
        Origin::VirtualEnv => ", or deactivate this environment",
        Origin::BesideTarget | Origin::WorkingFolder => {
            ", or make the environment with a newer one"
        }
        _ => "",
    };
    format!("name a CPython {}.{} or newer with --python{how}", OLDEST.0, OLDEST.1)
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chosen(by) => by,
            Self::Running => "the Python that runs this command",
            Self::Installed => "the environment this command is installed in",
            Self::VirtualEnv => "VIRTUAL_ENV",
            Self::BesideTarget => ".venv beside the target",
            Self::WorkingFolder => ".venv in the working folder",
            Self::Path => "PATH",
        })
    }
}
