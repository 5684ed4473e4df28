//! The bindings of the wheel, one file per front end.
//!
//! * [`command`]: the `exuvia` command;
//! * [`pool`]: a pool of workers inside a Python program.

pub mod command;
pub mod pool;

use std::path::PathBuf;

use pyo3::prelude::*;

/// The file this extension module was loaded from: it is also what workers load.
fn runtime(py: Python<'_>) -> PyResult<PathBuf> {
    py.import("exuvia._native")?.getattr("__file__")?.extract()
}
