//! The `exuvia` command, run by `python -m exuvia` and by the wheel's script.

use std::{ffi::OsString, path::PathBuf};

use exuvia_cli::Interpreter;
use pyo3::prelude::*;

/// Runs the command with `args`, the program's name first, and returns its exit code. `chosen`:
/// this interpreter was named by who typed the command (`python -m exuvia`).
///
/// # Errors
/// This module does not know its own file.
#[pyfunction]
pub fn main(py: Python<'_>, args: Vec<OsString>, chosen: bool) -> PyResult<i32> {
    let runtime = crate::runtime(py)?;
    let python: Option<PathBuf> = py.import("sys")?.getattr("executable")?.extract()?;
    let python = match python {
        Some(python) if chosen => Interpreter::Running(python),
        Some(python) => Interpreter::Installed(python),
        None => Interpreter::None,
    };
    Ok(py.detach(|| exuvia_cli::run(args, Some(runtime), python)))
}
