//! The `exuvia` command, run by `python -m exuvia` and by the wheel's script.

use std::{ffi::OsString, path::PathBuf};

use pyo3::prelude::*;

/// Runs the command with `args`, the program's name first, and returns its exit code.
///
/// # Errors
/// This module does not know its own file.
#[pyfunction]
pub fn main(py: Python<'_>, args: Vec<OsString>) -> PyResult<i32> {
    let runtime = crate::runtime(py)?;
    let python: Option<PathBuf> = py.import("sys")?.getattr("executable")?.extract()?;
    Ok(py.detach(|| exuvia_cli::run(args, Some(runtime), python)))
}
