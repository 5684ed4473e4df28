//! The bindings of the wheel, one file per front end.
//!
//! * [`command`]: the `exuvia` command;
//! * [`pool`]: a pool of workers inside a Python program; `config` reads its arguments, `result`
//!   turns its answers into objects and exceptions, [`results`] those of generators;
//! * [`sandbox`]: a sandbox inside a Python program.

pub mod command;
mod config;
pub mod pool;
mod result;
pub mod results;
pub mod sandbox;

use std::path::PathBuf;

use pyo3::prelude::*;

/// The file this extension module was loaded from: it is also what workers load.
fn runtime(py: Python<'_>) -> PyResult<PathBuf> {
    py.import("exuvia._native")?.getattr("__file__")?.extract()
}
