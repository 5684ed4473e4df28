//! A Python interpreter inside a Rust program.
//!
//! ```no_run
//! use exuvia_embed::{Interpreter, Options, pyo3::prelude::*};
//!
//! let python = Interpreter::start(&Options { python: Some(".venv/bin/python".into()) })?;
//! let pi: f64 = python.attach(|py| py.import("math")?.getattr("pi")?.extract())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Building
//!
//! The program is linked with a shared libpython, found by its interpreter: the one that
//! `EXUVIA_EMBED_PYTHON` names at build time, else the one of `VIRTUAL_ENV`, else the project's
//! `.venv`, else `python3`. The interpreter started later must be of the same version.
//!
//! The program must find that library again when it runs. A build script's search path does not
//! travel to the crates that depend on it, so put it into your own: let `build.rs` call
//! `pyo3_build_config::add_libpython_rpath_link_args()`, or set `LD_LIBRARY_PATH`.
//!
//! Where no shared libpython is to be had, the crate compiles (`cargo check`, `cargo clippy`), but
//! what is linked with it lacks Python's symbols.

mod error;
mod interpreter;

pub use error::StartError;
pub use interpreter::{Interpreter, Options};

pub use exuvia_env::{EnvError, Environment};
pub use exuvia_runtime::tables::{consume, produce};

pub use arrow_array;
pub use arrow_schema;
pub use pyo3;
