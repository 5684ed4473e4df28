//! What can be wrong with a bundle, in words for the person who made it.

use std::{fmt, io, path::PathBuf};

use crate::show::Shown;

/// A bundle that cannot be used. Its text names the bundle, the entry or field, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", bundle.display())]
pub struct BundleError {
    /// The bundle, as it was named.
    pub bundle: PathBuf,
    /// What is wrong with it.
    pub why: Wrong,
}

/// What is wrong with a bundle.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// It, or something in it, cannot be read or written.
    #[error("{}{source}", place(path))]
    Io {
        /// The entry; empty for the bundle as a whole.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is no ZIP file as bundles have it.
    #[error("{0}")]
    Archive(String),
    /// An entry that no bundle may have.
    #[error("{}: {why}", Shown(path))]
    Entry {
        /// The entry, as far as it is text.
        path: String,
        /// Why not.
        why: String,
    },
    /// More than [`crate::Limits`] allow.
    #[error("{}", over(*kind, path, *actual, *limit))]
    BundleLimitExceeded {
        /// Which limit.
        kind: LimitKind,
        /// The entry; empty for the bundle as a whole.
        path: String,
        /// How much there is, at least: counting ends at the first one too many.
        actual: u64,
        /// How much there may be.
        limit: u64,
    },
    /// A manifest with faults: all of them.
    #[error("{}", list(file, faults))]
    Manifest {
        /// The manifest's name.
        file: &'static str,
        /// What is wrong in it; never empty.
        faults: Vec<Fault>,
    },
    /// It changed between being opened and being unpacked.
    #[error("{}changed while it was read: try again when nobody writes to it", place(path))]
    Changed {
        /// The entry.
        path: String,
    },
    /// The host's own policy has a limit of zero.
    #[error("the host's limit `{field}` is zero: nothing could run")]
    ZeroLimit {
        /// Which one.
        field: &'static str,
    },
}

/// One fault of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a JSON Pointer; empty for the document as a whole.
    pub pointer: String,
    /// Line and column, from 1, where the text is no JSON.
    pub position: Option<(usize, usize)>,
    /// What is wrong and what would be right.
    pub message: String,
}

/// A limit of [`crate::Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Bytes of the archive.
    Archive,
    /// Bytes of the archive's directory.
    Directory,
    /// Number of files and folders.
    Entries,
    /// Bytes of one file.
    Entry,
    /// Bytes of all files.
    Total,
    /// Unpacked to packed size of one file.
    Ratio,
    /// Folders in one another.
    Depth,
    /// Bytes of a path.
    Path,
    /// Bytes of the manifest.
    Manifest,
}

// === impl BundleError ===

impl BundleError {
    pub(crate) fn new(bundle: impl Into<PathBuf>, why: Wrong) -> Self {
        Self { bundle: bundle.into(), why }
    }
}

// === impl Wrong ===

impl Wrong {
    pub(crate) fn entry(path: &str, why: impl Into<String>) -> Self {
        Self::Entry { path: path.into(), why: why.into() }
    }

    pub(crate) fn io(path: &str, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.into(), source: source.into() }
    }

    pub(crate) fn limit(kind: LimitKind, path: &str, actual: u64, limit: u64) -> Self {
        Self::BundleLimitExceeded { kind, path: path.into(), actual, limit }
    }
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{}: ", Shown(path)) }
}

fn over(kind: LimitKind, path: &str, actual: u64, limit: u64) -> String {
    let place = place(path);
    let least = |what: &str| format!("{place}{what}: {actual} bytes or more, allowed are {limit}");
    match kind {
        LimitKind::Archive => least("the archive is too large"),
        LimitKind::Directory => least("the directory of the archive is too large"),
        LimitKind::Entry => least("the file is too large"),
        LimitKind::Total => least("the files are too large together"),
        LimitKind::Path => least("the path is too long"),
        LimitKind::Manifest => least("the manifest is too large"),
        LimitKind::Entries => {
            format!("{place}too many files and folders: {actual} or more, allowed are {limit}")
        }
        LimitKind::Depth => {
            format!("{place}too many folders in one another: {actual}, allowed are {limit}")
        }
        LimitKind::Ratio => format!(
            "{place}unpacks to {actual} times its packed size or more, allowed are {limit} times: \
             store it uncompressed if that is meant"
        ),
    }
}

fn list(file: &str, faults: &[Fault]) -> String {
    match faults {
        [fault] => format!("{file}: {fault}"),
        _ => faults.iter().fold(format!("{file} has {} faults:", faults.len()), |text, fault| {
            format!("{text}\n  {fault}")
        }),
    }
}

// === impl Fault ===

impl Fault {
    pub(crate) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), position: None, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", Shown(&self.pointer))?;
        }
        f.write_str(&self.message)
    }
}

// === impl LimitKind ===

impl LimitKind {
    /// The word for it, as in `docs/bundles.md`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Archive => "archive",
            Self::Directory => "directory",
            Self::Entries => "entries",
            Self::Entry => "entry",
            Self::Total => "total",
            Self::Ratio => "ratio",
            Self::Depth => "depth",
            Self::Path => "path",
            Self::Manifest => "manifest",
        }
    }
}
