//! Opening a bundle: every byte of it is read once, within limits.

use std::{
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    BundleError, Limits, Manifest,
    archive::{self, Bytes, Member, Packed, Sizes},
    error::{LimitKind, Wrong},
    folder::Folder,
    manifest,
};

/// A bundle that was read and found sound.
///
/// What it holds in memory is names and the manifest; contents stay where they are until
/// [`Bundle::unpack`] writes them down.
#[derive(Debug)]
pub struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) source: Source,
    /// Sorted by path.
    pub(crate) files: Vec<BundleFile>,
    fingerprint: Fingerprint,
    manifest: Manifest,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// Its path from the bundle's top, with `/` between folders.
    pub path: String,
    /// Its bytes.
    pub size: u64,
    pub(crate) hash: blake3::Hash,
}

/// What a bundle is, and nothing else: BLAKE3 over its sorted paths and contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// Where the contents are.
#[derive(Debug)]
pub(crate) enum Source {
    Zip(Bytes),
    Folder(Folder),
}

/// Takes the content of one file, piece by piece.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), Wrong> + 'a;

/// Gives the content of one file to a sink.
pub(crate) type Content<'a> = dyn FnMut(&mut Sink<'_>) -> Result<(), Wrong> + 'a;

// === impl Bundle ===

impl Bundle {
    /// Opens a ZIP file or a folder, reads all of it and its manifest.
    ///
    /// # Errors
    /// [`BundleError`], with all faults of the manifest, or the first of the rest.
    pub fn open(path: impl AsRef<Path>, limits: &Limits) -> Result<Self, BundleError> {
        let path = path.as_ref();
        source(path)
            .and_then(|source| Self::read(path, source, limits))
            .map_err(|why| BundleError::new(path, why))
    }

    /// Reads a ZIP file that is in memory; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Bundle::open`].
    pub fn from_bytes(
        name: impl Into<PathBuf>,
        bytes: impl Into<Arc<[u8]>>,
        limits: &Limits,
    ) -> Result<Self, BundleError> {
        let name = name.into();
        Self::read(&name, Source::Zip(Bytes::Memory(bytes.into())), limits)
            .map_err(|why| BundleError::new(name, why))
    }

    fn read(path: &Path, source: Source, limits: &Limits) -> Result<Self, Wrong> {
        let mut files = Vec::new();
        let mut manifests = manifest::Found::default();
        source.each(limits, &mut |path, content| {
            let mut hasher = blake3::Hasher::new();
            let mut size = 0;
            let mut kept = manifests.wants(path);
            content(&mut |piece| {
                hasher.update(piece);
                size += piece.len() as u64;
                match &mut kept {
                    Some(kept) if size > Limits::MANIFEST => {
                        kept.clear();
                        Err(Wrong::limit(LimitKind::Manifest, path, size, Limits::MANIFEST))
                    }
                    Some(kept) => {
                        kept.extend_from_slice(piece);
                        Ok(())
                    }
                    None => Ok(()),
                }
            })?;
            if let Some(kept) = kept {
                manifests.keep(path, kept);
            }
            files.push(BundleFile { path: path.into(), size, hash: hasher.finalize() });
            Ok(())
        })?;
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let manifest = manifests.read(&files)?;
        Ok(Self {
            path: path.into(),
            limits: limits.clone(),
            source,
            fingerprint: Fingerprint::of(&files),
            files,
            manifest,
        })
    }

    /// The bundle as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files, sorted by path.
    #[must_use]
    pub fn files(&self) -> &[BundleFile] {
        &self.files
    }

    /// What identifies it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What its manifest says, or what holds without one.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

fn source(path: &Path) -> Result<Source, Wrong> {
    let known = std::fs::metadata(path).map_err(|error| Wrong::io("", error))?;
    if known.is_dir() {
        return Folder::open(path).map(Source::Folder).map_err(|error| Wrong::io("", error));
    }
    if !known.is_file() {
        return Err(Wrong::Archive("a bundle is a ZIP file or a folder".into()));
    }
    let bytes = File::open(path).and_then(Bytes::file).map_err(|error| Wrong::io("", error))?;
    Ok(Source::Zip(bytes))
}

// === impl Source ===

impl Source {
    /// Hands each file to `visit`: its path, and what gives its content piece by piece.
    pub(crate) fn each(
        &self,
        limits: &Limits,
        visit: &mut dyn FnMut(&str, &mut Content<'_>) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        let mut total = 0;
        match self {
            Self::Zip(bytes) => {
                let mut packed = Packed::open(bytes, limits)?;
                for member in packed.members(limits)? {
                    visit(&member.path, &mut |sink| {
                        unpack(&mut packed, &member, &mut total, limits, sink)
                    })?;
                }
            }
            Self::Folder(folder) => {
                for path in folder.files(limits)? {
                    visit(&path, &mut |sink| {
                        let mut file = folder.content(&path)?;
                        copy(&mut file, &path, None, &mut total, limits, sink)
                    })?;
                }
            }
        }
        Ok(())
    }
}

fn unpack(
    packed: &mut Packed<'_>,
    member: &Member,
    total: &mut u64,
    limits: &Limits,
    sink: &mut Sink<'_>,
) -> Result<(), Wrong> {
    let (mut content, sizes) = packed.content(member)?;
    copy(&mut content, &member.path, Some(sizes), total, limits, sink)
}

/// Counts what comes out, and ends at the first byte too many.
fn copy(
    content: &mut dyn Read,
    path: &str,
    sizes: Option<Sizes>,
    total: &mut u64,
    limits: &Limits,
    sink: &mut Sink<'_>,
) -> Result<(), Wrong> {
    let mut buffer = vec![0; 64 << 10];
    let mut size = 0;
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Wrong::io(path, error)),
        };
        size += read as u64;
        *total += read as u64;
        if size > limits.entry {
            return Err(Wrong::limit(LimitKind::Entry, path, size, limits.entry));
        }
        if *total > limits.total {
            return Err(Wrong::limit(LimitKind::Total, "", *total, limits.total));
        }
        if let Some(sizes) = sizes {
            archive::check_ratio(path, size, sizes.packed, limits)?;
        }
        sink(&buffer[..read])?;
    }
    match sizes {
        Some(Sizes { claimed, .. }) if claimed != size => {
            Err(Wrong::entry(path, format!("it has {size} bytes and says {claimed}")))
        }
        _ => Ok(()),
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Of files sorted by path.
    pub(crate) fn of(files: &[BundleFile]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"exuvia.bundle/1\n");
        for file in files {
            // Lengths first, so that no two lists of files read the same.
            hasher.update(&(file.path.len() as u64).to_le_bytes());
            hasher.update(file.path.as_bytes());
            hasher.update(&file.size.to_le_bytes());
            hasher.update(file.hash.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Fingerprint {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
