//! What can go wrong while a process closes itself in.

use std::io;

/// A step that failed. The process has as many layers as it had before that step, and must end.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct JailError {
    /// What was being done.
    step: String,
    source: io::Error,
}

/// Names the step of an error.
pub(crate) trait Step<T> {
    fn step(self, step: &str) -> Result<T, JailError>;
    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, JailError>;
}

// === impl JailError ===

impl JailError {
    pub(crate) fn refused(step: &str, why: &str) -> Self {
        Self { step: step.into(), source: io::Error::other(why.to_owned()) }
    }

    /// What the kernel said.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

// === impl Step ===

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &str) -> Result<T, JailError> {
        self.map_err(|error| JailError { step: step.into(), source: error.into() })
    }

    fn step_with(self, step: impl FnOnce() -> String) -> Result<T, JailError> {
        self.map_err(|error| JailError { step: step(), source: error.into() })
    }
}
