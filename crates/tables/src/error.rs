//! Why a table could not be read or written, in sentences.

use std::io;

use arrow_schema::ArrowError;
use thiserror::Error;

use crate::Format;

/// Why bytes are no table.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The bytes are not what the format says they are.
    #[error("this {format} data cannot be read: {why}")]
    Malformed {
        /// The format they were read as.
        format: Format,
        /// What is wrong; of text also where.
        why: String,
    },
    /// Reading them would take more memory or columns than is allowed.
    #[error("this {format} data is too large: {why}")]
    TooLarge {
        /// The format they were read as.
        format: Format,
        /// Which limit it breaks.
        why: String,
    },
    /// The format cannot be read before its end is there.
    #[error("{format} cannot be read from the front: its reader needs the end first")]
    NotFromTheFront {
        /// The format.
        format: Format,
    },
    /// The bytes themselves could not be had.
    #[error("the {format} data did not arrive: {source}")]
    Source {
        /// The format they were read as.
        format: Format,
        /// Why not.
        source: io::Error,
    },
}

/// Why a table could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The format has no place for a column or a value of the table.
    #[error("{format} cannot hold this table: {why}")]
    Unsupported {
        /// The format it was to be written in.
        format: Format,
        /// What has no place, by the name of its column.
        why: String,
    },
    /// A batch has other columns than the ones before it.
    #[error("this batch does not fit what was written before it:\n{0}")]
    Schema(String),
    /// The bytes could not be put where they were to go.
    #[error("the table could not be written: {0}")]
    Sink(#[from] io::Error),
}

// === impl ReadError ===

impl ReadError {
    pub(crate) fn malformed(format: Format, why: impl Into<String>) -> Self {
        Self::Malformed { format, why: why.into() }
    }

    pub(crate) fn too_large(format: Format, why: impl Into<String>) -> Self {
        Self::TooLarge { format, why: why.into() }
    }

    /// What a library said, without its own prefix. An error of ours that went through the
    /// library comes out as it was.
    pub(crate) fn arrow(format: Format, error: ArrowError) -> Self {
        match error {
            ArrowError::ExternalError(inner) => match inner.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(other) => Self::malformed(format, other.to_string()),
            },
            // Not of the source: it is read by us. A decompressor says it so.
            ArrowError::IoError(said, _) => Self::malformed(format, said),
            other => Self::malformed(format, said(&other)),
        }
    }

    /// An input error: the source's own, unless one of ours went through it.
    pub(crate) fn io(format: Format, source: io::Error) -> Self {
        match source.downcast::<Self>() {
            Ok(ours) => ours,
            Err(source) => Self::Source { format, source },
        }
    }
}

impl From<ReadError> for ArrowError {
    fn from(error: ReadError) -> Self {
        Self::ExternalError(Box::new(error))
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

// === impl WriteError ===

impl WriteError {
    pub(crate) fn unsupported(format: Format, why: impl Into<String>) -> Self {
        Self::Unsupported { format, why: why.into() }
    }

    pub(crate) fn arrow(format: Format, error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, source) => Self::Sink(source),
            other => Self::unsupported(format, said(&other)),
        }
    }
}

/// What an Arrow error says, without the name of its kind.
pub(crate) fn said(error: &ArrowError) -> String {
    let text = error.to_string();
    match text.split_once("rror: ") {
        Some((kind, rest)) if kind.len() < 32 => rest.to_owned(),
        _ => text,
    }
}
