//! A bundle in a ZIP file. The `zip` crate unpacks; what it lets pass is looked at here.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    sync::Arc,
};

use zip::{
    CompressionMethod, ZipArchive,
    read::{ArchiveOffset, Config, ZipFileEntry},
};

use crate::{
    Limits,
    error::{LimitKind, Wrong},
    show::Shown,
    tree::{self, Tree},
};

/// The bytes of an archive, readable at any place by anyone at any time.
pub(crate) enum Bytes {
    /// A file, and how long it was when it was opened.
    File(File, u64),
    /// Memory.
    Memory(Arc<[u8]>),
}

/// One reader's place in [`Bytes`].
#[derive(Debug)]
pub(crate) struct At<'a> {
    bytes: &'a Bytes,
    place: u64,
}

/// An archive whose directory is sound.
pub(crate) struct Packed<'a> {
    zip: ZipArchive<BufReader<At<'a>>>,
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) path: String,
    pub(crate) index: usize,
}

/// What an archive says of a member's size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Its bytes in the archive; there are no more.
    pub(crate) packed: u64,
    /// Its bytes unpacked, which may be a lie.
    pub(crate) claimed: u64,
}

/// The end record's own length, without its comment.
const END: usize = 22;
const END_MAGIC: &[u8] = b"PK\x05\x06";

// === impl Bytes ===

impl Bytes {
    pub(crate) fn file(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::File(file, length))
    }

    fn len(&self) -> u64 {
        match self {
            Self::File(_, length) => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    fn reader(&self) -> At<'_> {
        At { bytes: self, place: 0 }
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

// === impl At ===

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.len().saturating_sub(self.place));
        let most = buffer.len().min(left.unwrap_or(usize::MAX));
        let read = match self.bytes {
            Bytes::File(file, _) => file.read_at(&mut buffer[..most], self.place)?,
            Bytes::Memory(bytes) => {
                let from = bytes.len() - left.unwrap_or(0);
                buffer[..most].copy_from_slice(&bytes[from..from + most]);
                most
            }
        };
        self.place += read as u64;
        Ok(read)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(by) => self.bytes.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.place.checked_add_signed(by),
        };
        self.place = place.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.place)
    }
}

// === impl Packed ===

impl<'a> Packed<'a> {
    /// Reads the directory.
    pub(crate) fn open(bytes: &'a Bytes, limits: &Limits) -> Result<Self, Wrong> {
        if bytes.len() > limits.archive {
            return Err(Wrong::limit(LimitKind::Archive, "", bytes.len(), limits.archive));
        }
        check_end(bytes, limits)?;
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let reader = BufReader::new(bytes.reader());
        let zip = ZipArchive::with_config(config, reader).map_err(|error| broken(&error))?;
        Ok(Self { zip })
    }

    /// The files, after everything that can be said of them without unpacking is found right.
    pub(crate) fn members(&mut self, limits: &Limits) -> Result<Vec<Member>, Wrong> {
        let mut tree = Tree::default();
        let mut members = Vec::with_capacity(self.zip.len());
        let mut first = u64::MAX;
        for index in 0..self.zip.len() {
            let entry = self.zip.by_index_data(index).map_err(|error| broken(&error))?;
            first = first.min(entry.header_start());
            members.extend(member(&entry, index, &mut tree, limits)?);
            if tree.len() > limits.entries {
                return Err(Wrong::limit(LimitKind::Entries, "", tree.len(), limits.entries));
            }
        }
        if self.zip.has_duplicate_names() {
            return Err(Wrong::Archive("two entries of the archive have the same name".into()));
        }
        if first > 0 && first < u64::MAX {
            return Err(Wrong::Archive("the archive has bytes before its first entry".into()));
        }
        self.zip.validate_header_consistency().map_err(|error| broken(&error))?;
        Ok(members)
    }

    /// The content of a member, and what the archive says of its size.
    pub(crate) fn content(&mut self, member: &Member) -> Result<(impl Read, Sizes), Wrong> {
        let file = self.zip.by_index(member.index);
        let file = file.map_err(|error| Wrong::entry(&member.path, error.to_string()))?;
        let sizes = Sizes { packed: file.compressed_size(), claimed: file.size() };
        Ok((file, sizes))
    }
}

/// The file that an entry is; `None` for folders and for what is no part of a bundle.
fn member(
    entry: &ZipFileEntry<'_>,
    index: usize,
    tree: &mut Tree,
    limits: &Limits,
) -> Result<Option<Member>, Wrong> {
    let raw = entry.name_raw();
    let (name, is_folder) = match raw.strip_suffix(b"/") {
        Some(name) => (name, true),
        None => (raw, false),
    };
    let path = tree::checked(name, limits)?;
    if let Some(why) = unfit(entry, is_folder) {
        return Err(Wrong::entry(path, why));
    }
    if is_folder {
        tree.folder(path)?;
        return Ok(None);
    }
    tree.file(path)?;
    if tree::is_ignored(path) {
        return Ok(None);
    }
    // Its word is enough to refuse it, never to let it in.
    let (claimed, packed) = (entry.size(), entry.compressed_size());
    if claimed > limits.entry {
        return Err(Wrong::limit(LimitKind::Entry, path, claimed, limits.entry));
    }
    check_ratio(path, claimed, packed, limits)?;
    Ok(Some(Member { path: path.into(), index }))
}

/// Why a bundle may not have the entry.
fn unfit(entry: &ZipFileEntry<'_>, is_folder: bool) -> Option<String> {
    // The upper half is the mode of Unix, whatever system the entry says it comes from.
    let kind = entry.external_attributes() >> 16 & 0o170_000;
    match kind {
        0o120_000 => return Some("it is a link: bundles have files only".into()),
        0 | 0o100_000 | 0o040_000 => {}
        _ => return Some("it is a device, a socket or a pipe: bundles have files only".into()),
    }
    if (kind == 0o040_000 && !is_folder) || (kind == 0o100_000 && is_folder) {
        return Some("it is a file by its name and a folder by its mode, or the reverse".into());
    }
    if is_folder && entry.size() > 0 {
        return Some("it is a folder with content".into());
    }
    if entry.encrypted() {
        return Some("it is encrypted: bundles are not".into());
    }
    let method = entry.compression();
    if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) {
        return Some(format!("its compression ({method}) is not read: use deflate, or none"));
    }
    None
}

/// Whether `unpacked` bytes may come of `packed` ones.
pub(crate) fn check_ratio(
    path: &str,
    unpacked: u64,
    packed: u64,
    limits: &Limits,
) -> Result<(), Wrong> {
    if unpacked > Limits::RATIO_FROM && unpacked > packed.saturating_mul(limits.ratio) {
        let ratio = unpacked / packed.max(1);
        return Err(Wrong::limit(LimitKind::Ratio, path, ratio, limits.ratio));
    }
    Ok(())
}

/// Looks at the record at the end before the library does, which would believe its numbers: it must
/// end the file, count no more entries than allowed, and have the directory right before it.
fn check_end(bytes: &Bytes, limits: &Limits) -> Result<(), Wrong> {
    let wrong = |text: &str| Err(Wrong::Archive(text.into()));
    let window = bytes.len().min((END + usize::from(u16::MAX)) as u64);
    let mut tail = Vec::new();
    let mut reader = bytes.reader();
    reader
        .seek(SeekFrom::End(-(window as i64)))
        .and_then(|_| reader.read_to_end(&mut tail))
        .map_err(|error| Wrong::io("", error))?;
    let found = tail.windows(END_MAGIC.len()).rposition(|four| four == END_MAGIC);
    let Some((at, record)) = found.and_then(|at| Some((at, tail.get(at..at + END)?))) else {
        return wrong("it is no ZIP file: a bundle is a ZIP file or a folder");
    };
    let short = |at: usize| u64::from(u16::from_le_bytes([record[at], record[at + 1]]));
    let long = |at: usize| short(at) | short(at + 2) << 16;
    let (disk, first_disk, here, entries) = (short(4), short(6), short(8), short(10));
    let (size, start, comment) = (long(12), long(16), short(20));
    if (at + END) as u64 + comment != tail.len() as u64 {
        return wrong("the archive has bytes after its end");
    }
    let short_most = u64::from(u16::MAX);
    if [disk, first_disk, here, entries].contains(&short_most)
        || [size, start].contains(&u64::from(u32::MAX))
    {
        return wrong("the archive is a ZIP64 one: no bundle is that large");
    }
    if disk != 0 || first_disk != 0 || here != entries {
        return wrong("the archive is in several parts");
    }
    if entries > limits.entries {
        return Err(Wrong::limit(LimitKind::Entries, "", entries, limits.entries));
    }
    if size > limits.directory() {
        return Err(Wrong::limit(LimitKind::Directory, "", size, limits.directory()));
    }
    if start + size != bytes.len() - tail.len() as u64 + at as u64 {
        return wrong("the archive has bytes before it, or its directory is not at its end");
    }
    Ok(())
}

fn broken(error: &zip::result::ZipError) -> Wrong {
    let text = error.to_string();
    let said = text.strip_prefix("invalid Zip archive: ").unwrap_or(&text);
    let said = said.strip_prefix("header inconsistency detected: ").unwrap_or(said);
    Wrong::Archive(format!("the archive is broken: {}", Shown(said)))
}
