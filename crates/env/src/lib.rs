//! Finds the Python environment that runs handlers, and the runtime library its workers load.
//!
//! Nothing here is guessed from names or files alone: an environment is taken only after its
//! interpreter was executed and has said what it is (see [`probe`]). A choice somebody made
//! (`--python`, `VIRTUAL_ENV`, a `.venv`) that does not work is an error with the remedy, never a
//! reason to take another one quietly; only the interpreters that merely happen to be on `PATH`
//! are tried one after the other.
//!
//! * [`find`]: from a [`Request`] to an [`Environment`];
//! * [`find_runtime`]: the runtime library;
//! * [`EnvError`]: why there is none.
#![forbid(unsafe_code)]

mod error;
mod find;
pub mod probe;
mod runtime;

pub use error::{EnvError, Looked};
pub use find::{Environment, Origin, Request, find};
pub use probe::Facts;
pub use runtime::{RUNTIME_FILES, find_runtime};

/// The oldest CPython that can run handlers.
pub const OLDEST: (u8, u8) = (3, 11);
