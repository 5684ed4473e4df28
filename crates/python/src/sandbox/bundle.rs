//! Bundles for Python: opened and checked here, run by a sandbox.

use std::path::PathBuf;

use exuvia_bundle::{
    Bundle as Opened, BundleError, Limits, Missing, Wrong, check_packages, install_command,
    installed,
};
use pyo3::{exceptions::PyOSError, prelude::*};
use serde_json::{Value, json};

use crate::result::as_object;

/// A bundle that was read and found sound.
#[pyclass(frozen, module = "exuvia._native")]
pub struct Bundle {
    pub(super) inner: Opened,
}

#[pymethods]
impl Bundle {
    /// Opens a ZIP file or a folder.
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let opened = py.detach(|| Opened::open(&path, &Limits::default()));
        Ok(Self { inner: opened.map_err(|error| raised(py, &error))? })
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.inner.path().to_owned()
    }

    /// 64 hexadecimal digits.
    #[getter]
    fn fingerprint(&self) -> String {
        self.inner.fingerprint().to_string()
    }

    /// `module:function`.
    #[getter]
    fn entrypoint(&self) -> String {
        self.inner.manifest().entrypoint.to_string()
    }

    #[getter]
    fn description(&self) -> Option<&str> {
        self.inner.manifest().description.as_deref()
    }

    #[getter]
    fn packages(&self) -> Vec<&str> {
        self.inner.manifest().packages.iter().map(|package| package.text()).collect()
    }

    #[getter]
    fn notes(&self) -> Vec<&str> {
        self.inner.manifest().notes.iter().map(String::as_str).collect()
    }

    /// Paths and sizes.
    #[getter]
    fn files(&self) -> Vec<(&str, u64)> {
        self.inner.files().iter().map(|file| (file.path.as_str(), file.size)).collect()
    }

    /// What of `packages` is not in these folders of packages, and the command that installs it.
    fn missing(
        &self,
        py: Python<'_>,
        python: PathBuf,
        folders: Vec<PathBuf>,
    ) -> Option<(Vec<String>, String)> {
        let manifest = self.inner.manifest();
        if manifest.packages.is_empty() {
            return None;
        }
        let missing = py.detach(|| check_packages(manifest, &installed(&folders)));
        let words = missing.iter().map(Missing::to_string).collect();
        (!missing.is_empty()).then(|| (words, install_command(&python, &missing)))
    }
}

/// The exception for a bundle that cannot be used, made by `exuvia.sandbox.bundles`. What the system says
/// of a file is the `OSError` of Python.
pub(super) fn raised(py: Python<'_>, error: &BundleError) -> PyErr {
    if let Wrong::Io { source, path } = &error.why
        && let Some(number) = source.raw_os_error()
    {
        let file = if path.is_empty() { error.bundle.clone() } else { error.bundle.join(path) };
        return PyOSError::new_err((number, strerror(source), file));
    }
    let made = || {
        let make = py.import("exuvia.sandbox.bundles")?.getattr("bundle_error")?;
        make.call1((error.to_string(), as_object(py, &data(&error.why))?))
    };
    match made() {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// Without the number, which Python puts before it.
fn strerror(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.into())
}

fn data(why: &Wrong) -> Value {
    match why {
        Wrong::BundleLimitExceeded { kind, path, actual, limit } => json!({
            "limit": { "kind": kind.word(), "path": path, "actual": actual, "limit": limit },
        }),
        Wrong::Manifest { faults, .. } => {
            let fault = |fault: &exuvia_bundle::Fault| json!({ "pointer": fault.pointer, "message": fault.message });
            json!({ "faults": faults.iter().map(fault).collect::<Vec<_>>() })
        }
        _ => json!({}),
    }
}
