//! Why an object has no bytes, or bytes are no object.

use std::fmt;

use pyo3::{
    exceptions::{PyException, PyMemoryError, PyRecursionError},
    prelude::*,
};

/// Why an object could not be written.
#[derive(Debug)]
pub enum Unfit {
    /// The format has no place for it.
    Value(Box<Misfit>),
    /// Python raised while the object was looked at.
    Python(Box<PyErr>),
}

/// An object that a format has no place for, and where in the whole it sits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The way to it, innermost step first: it is written down while the calls return.
    steps: Vec<String>,
    /// What is wrong with it.
    pub message: String,
}

/// Why bytes could not be read.
#[derive(Debug)]
pub enum DecodeError {
    /// They do not follow the format.
    Malformed(Box<Malformed>),
    /// Python raised while the objects were made.
    Python(Box<PyErr>),
}

/// Bytes that do not follow their format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub message: String,
    /// The byte where it was noticed, from 0.
    pub offset: usize,
    /// The same for people, in text formats.
    pub position: Option<Position>,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in it, from 1.
    pub column: usize,
}

/// Steps of a path that are shown at either end of a longer one.
const SHOWN: usize = 8;

// === impl Unfit ===

impl Unfit {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Value(Box::new(Misfit { steps: Vec::new(), message: message.into() }))
    }

    /// Puts a step before the way so far.
    #[cold]
    pub(crate) fn at(mut self, step: impl FnOnce() -> String) -> Self {
        if let Self::Value(misfit) = &mut self {
            misfit.steps.push(step());
        }
        self
    }

    pub(crate) fn too_deep() -> Self {
        Self::new(format!(
            "nested deeper than {} levels (does it contain itself?)",
            super::MAX_DEPTH
        ))
    }

    pub(super) fn changed(what: &str) -> Self {
        Self::new(format!("this {what} changed its size while it was written"))
    }

    pub(super) fn too_long(what: &str) -> Self {
        Self::new(format!("this {what} is longer than the 4 GiB a value may have"))
    }

    /// Makes room for some more bytes. Where memory is limited, a Vec that grew by itself would
    /// abort the whole worker.
    #[inline]
    pub(super) fn room(out: &mut Vec<u8>, bytes: usize) -> Result<(), Self> {
        match out.try_reserve(bytes) {
            Ok(()) => Ok(()),
            Err(_) => Err(PyMemoryError::new_err("no memory left to write the value").into()),
        }
    }
}

impl From<PyErr> for Unfit {
    #[cold]
    fn from(error: PyErr) -> Self {
        Self::Python(Box::new(error))
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(misfit) => misfit.fmt(f),
            Self::Python(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Unfit {}

// === impl Misfit ===

impl Misfit {
    /// The way to the object, as Python would write it: `result["a"][3]`.
    #[must_use]
    pub fn path(&self) -> String {
        self.path_from("result")
    }

    /// The same from another name than `result`.
    #[must_use]
    pub fn path_from(&self, root: &str) -> String {
        let mut path = root.to_owned();
        let hidden = self.steps.len().saturating_sub(2 * SHOWN);
        for (index, step) in self.steps.iter().rev().enumerate() {
            if hidden == 0 || index < SHOWN || index >= SHOWN + hidden {
                path += step;
            } else if index == SHOWN {
                path += &format!("... {hidden} more ...");
            }
        }
        path
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path(), self.message)
    }
}

// === impl DecodeError ===

impl DecodeError {
    #[cold]
    pub(crate) fn new(message: impl Into<String>, offset: usize) -> Self {
        Self::Malformed(Box::new(Malformed { message: message.into(), offset, position: None }))
    }

    pub(super) fn too_deep(offset: usize) -> Self {
        Self::new(format!("nested deeper than {} levels", super::MAX_DEPTH), offset)
    }

    pub(super) fn no_memory() -> Self {
        PyMemoryError::new_err("no memory left to read the value").into()
    }

    /// What Python said about a part of the input: the input's fault, unless it is one that no
    /// input can be blamed for (memory, the stack, an interrupt).
    #[cold]
    pub(crate) fn blame(py: Python<'_>, error: PyErr, what: &str, offset: usize) -> Self {
        let innocent = !error.is_instance_of::<PyException>(py)
            || error.is_instance_of::<PyMemoryError>(py)
            || error.is_instance_of::<PyRecursionError>(py);
        if innocent { error.into() } else { Self::new(format!("{what}: {error}"), offset) }
    }
}

impl From<PyErr> for DecodeError {
    #[cold]
    fn from(error: PyErr) -> Self {
        Self::Python(Box::new(error))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Python(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DecodeError {}

// === impl Malformed ===

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(Position { line, column }) => {
                write!(f, "line {line}, column {column}: {}", self.message)
            }
            None => write!(f, "byte {}: {}", self.offset, self.message),
        }
    }
}

// === impl Position ===

impl Position {
    /// Where `offset` is in `text`, of which `lines` lines went before.
    pub(super) fn find(text: &[u8], offset: usize, lines: usize) -> Self {
        let before = &text[..offset.min(text.len())];
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        Self {
            line: lines + 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            // Continuation bytes of UTF-8 begin no character.
            column: 1 + before[start..].iter().filter(|byte| **byte & 0xc0 != 0x80).count(),
        }
    }
}
