//! How much a bundle may be.

/// Limits on a bundle, held while it is read and unpacked. `docs/bundles.md` section 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive.
    pub archive: u64,
    /// Files and folders.
    pub entries: u64,
    /// Bytes of one file.
    pub entry: u64,
    /// Bytes of all files together.
    pub total: u64,
    /// Unpacked to packed size of a file, where that unpacks to more than [`Limits::RATIO_FROM`].
    pub ratio: u64,
    /// Folders in one another.
    pub depth: u64,
    /// Bytes of a path.
    pub path: u64,
}

// === impl Limits ===

impl Limits {
    /// Files that unpack to no more than this may be packed as tightly as they like.
    pub const RATIO_FROM: u64 = 1 << 20;
    /// Bytes of a manifest.
    pub const MANIFEST: u64 = 1 << 20;

    /// Bytes of an archive's directory. All of it is held in memory.
    pub(crate) fn directory(&self) -> u64 {
        self.entries.saturating_mul(1 << 10).saturating_add(64 << 10)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive: 256 << 20,
            entries: 10_000,
            entry: 128 << 20,
            total: 512 << 20,
            ratio: 200,
            depth: 32,
            path: 512,
        }
    }
}
