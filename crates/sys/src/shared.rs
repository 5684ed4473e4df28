//! Memory that goes to another process by descriptor and can change no more.
//!
//! A [`MemoryWriter`] is filled and sealed; what comes of it is a [`Sealed`], which any process that
//! has the descriptor maps as it likes: read-only ([`Sealed::bytes`]), or private and writable
//! ([`Sealed::private`]), where edits touch the editor's own pages only.

use std::{
    io::{self, Write},
    os::fd::OwnedFd,
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
};

/// With these nobody can change what is in the memory, nor its size, nor the seals.
const SEALS: SealFlags =
    SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::SEAL);

/// Memory that is being filled, from its start to its end.
#[derive(Debug)]
pub struct MemoryWriter {
    memory: OwnedFd,
    length: u64,
}

/// Memory whose content and size are fixed.
#[derive(Debug, Clone)]
pub struct Sealed {
    memory: Arc<OwnedFd>,
    length: u64,
}

/// Bytes that are gathered in a buffer while they are few, and in memory for another process once
/// they are more than a threshold.
#[derive(Debug)]
pub struct Spill {
    few: Vec<u8>,
    many: Option<MemoryWriter>,
    threshold: usize,
}

/// What a [`Spill`] gathered.
#[derive(Debug)]
pub enum Spilled {
    /// At most the threshold.
    Few(Vec<u8>),
    /// More.
    Many(Sealed),
}

/// A private, writable view of sealed memory. Who writes to it changes pages of this process alone.
#[derive(Debug)]
pub struct PrivateMap(Map);

/// A mapping that is released when it is dropped.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    length: usize,
}

/// A read-only mapping.
struct View(Map);

// SAFETY: a mapping belongs to the value, not to the thread that made it.
unsafe impl Send for Map {}
// SAFETY: through a shared reference it is only read, or its address taken.
unsafe impl Sync for Map {}

// === impl MemoryWriter ===

impl MemoryWriter {
    /// Empty memory.
    ///
    /// # Errors
    /// As `memfd_create`.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        Ok(Self { memory: memfd_create("exuvia-payload", flags)?, length: 0 })
    }

    /// Bytes written so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Ends the writing for good.
    ///
    /// # Errors
    /// As `fcntl`; somebody else has the memory mapped for writing.
    pub fn seal(self) -> io::Result<Sealed> {
        fcntl_add_seals(&self.memory, SEALS)?;
        Ok(Sealed { memory: Arc::new(self.memory), length: self.length })
    }
}

impl Write for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = rustix::io::write(&self.memory, bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let written = rustix::io::writev(&self.memory, parts)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Spill ===

impl Spill {
    /// Nothing yet.
    #[must_use]
    pub fn new(threshold: usize) -> Self {
        Self { few: Vec::new(), many: None, threshold: sharing_from(threshold) }
    }

    /// The same for `length` bytes, if what is said of them is true.
    ///
    /// # Errors
    /// As [`MemoryWriter::new`].
    pub fn expecting(length: u64, threshold: usize) -> io::Result<Self> {
        let threshold = sharing_from(threshold);
        let few = usize::try_from(length).ok().filter(|length| *length <= threshold);
        let many = if few.is_some() { None } else { Some(MemoryWriter::new()?) };
        Ok(Self { few: Vec::with_capacity(few.unwrap_or(0)), many, threshold })
    }

    /// Bytes written so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.many.as_ref().map_or(self.few.len() as u64, MemoryWriter::length)
    }

    /// What was gathered.
    ///
    /// # Errors
    /// As [`MemoryWriter::seal`].
    pub fn finish(self) -> io::Result<Spilled> {
        match self.many {
            Some(memory) => memory.seal().map(Spilled::Many),
            None => Ok(Spilled::Few(self.few)),
        }
    }
}

impl Write for Spill {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(memory) = &mut self.many {
            return memory.write(bytes);
        }
        if self.few.len() + bytes.len() <= self.threshold {
            self.few.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let mut memory = MemoryWriter::new()?;
        memory.write_all(&std::mem::take(&mut self.few))?;
        self.many.insert(memory).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on what this process gathers in a [`Spill`] stays in it: it can make no memory for
/// others.
pub fn keep_here() {
    KEEPS.store(true, Ordering::Relaxed);
}

static KEEPS: AtomicBool = AtomicBool::new(false);

fn sharing_from(threshold: usize) -> usize {
    if KEEPS.load(Ordering::Relaxed) { usize::MAX } else { threshold }
}

// === impl Sealed ===

impl Sealed {
    /// Memory that holds `bytes`.
    ///
    /// # Errors
    /// As [`MemoryWriter`].
    pub fn holding(bytes: &[u8]) -> io::Result<Self> {
        let mut writer = MemoryWriter::new()?;
        writer.write_all(bytes)?;
        writer.seal()
    }

    /// Takes memory that another process filled, of which the first `length` bytes count.
    ///
    /// # Errors
    /// It is not sealed, so that its maker could change it or make us fault; it is shorter.
    pub fn open(memory: Arc<OwnedFd>, length: u64) -> io::Result<Self> {
        let unfit = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
        // What is no memfd has no seals.
        if !fcntl_get_seals(&memory).is_ok_and(|seals| seals.contains(SEALS)) {
            return Err(unfit("the memory is not sealed"));
        }
        if u64::try_from(fstat(&memory)?.st_size).unwrap_or(0) < length {
            return Err(unfit("the memory is shorter than it was said to be"));
        }
        Ok(Self { memory, length })
    }

    /// The descriptor, to be passed on.
    #[must_use]
    pub fn memory(&self) -> &Arc<OwnedFd> {
        &self.memory
    }

    /// Bytes that count.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// A read-only view; nothing is copied.
    ///
    /// # Errors
    /// As `mmap`.
    pub fn bytes(&self) -> io::Result<Bytes> {
        if self.length == 0 {
            return Ok(Bytes::new());
        }
        let map = Map::new(&self.memory, self.length, ProtFlags::READ, MapFlags::SHARED)?;
        Ok(Bytes::from_owner(View(map)))
    }

    /// A view that may be written to, whose changes nobody else sees.
    ///
    /// # Errors
    /// As `mmap`; there is nothing to map.
    pub fn private(&self) -> io::Result<PrivateMap> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        Map::new(&self.memory, self.length, access, MapFlags::PRIVATE).map(PrivateMap)
    }
}

// === impl PrivateMap ===

impl PrivateMap {
    /// A copy of these bytes, at least one.
    ///
    /// # Errors
    /// As `mmap`; there are none.
    pub fn holding(bytes: &[u8]) -> io::Result<Self> {
        let map = Map::anonymous(bytes.len())?;
        // JUSTIFICATION: a mapping is reached only by its address.
        // SAFETY: it is writable, as long as `bytes`, just made, and so apart from them.
        unsafe { map.start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(Self(map))
    }

    /// Where it begins. It is there as long as this value is.
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        self.0.start
    }

    /// Its bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty one cannot be mapped")]
    pub fn len(&self) -> usize {
        self.0.length
    }
}

// === impl Map ===

impl Map {
    fn anonymous(length: usize) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // JUSTIFICATION: memory of its own pages is only had by mapping it.
        // SAFETY: a fresh mapping chosen by the kernel overlaps nothing.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), length, access, MapFlags::PRIVATE)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    fn new(memory: &OwnedFd, length: u64, access: ProtFlags, how: MapFlags) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // JUSTIFICATION: another process's memory is only had by mapping it.
        // SAFETY: a fresh mapping chosen by the kernel overlaps nothing. The memory is sealed at no
        // less than `length` bytes, so reading never faults, and nobody can change it under us.
        let start = unsafe { mmap(std::ptr::null_mut(), length, access, how, memory, 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // JUSTIFICATION: a mapping is released only by its address.
        // SAFETY: every slice of it borrows from this value or from what owns it. Failing would
        // leak the mapping and harm nothing.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        // JUSTIFICATION: the mapping is known only by its address.
        // SAFETY: it is readable, `length` long, and lives as long as `self`; it is sealed, so its
        // content cannot change.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::ftruncate;

    #[test]
    fn what_is_sealed_reads_the_same_everywhere_and_changes_nowhere() {
        let sealed = Sealed::holding(b"a year of hours").expect("memory");
        let other = Sealed::open(sealed.memory().clone(), 6).expect("sealed");
        assert_eq!(&other.bytes().expect("a view")[..], b"a year");
        let map = sealed.private().expect("a map");
        // JUSTIFICATION: writing through the address is what a handler's array does.
        // SAFETY: the map is alive, writable and longer than one byte.
        unsafe { map.start().as_ptr().write(b'A') };
        // SAFETY: as above.
        assert_eq!(unsafe { map.start().as_ptr().read() }, b'A');
        assert_eq!(&sealed.bytes().expect("a view")[..1], b"a");
        assert!(rustix::io::pwrite(&**sealed.memory(), b"x", 0).is_err());
        assert!(ftruncate(&**sealed.memory(), 0).is_err());
    }

    #[test]
    fn few_bytes_stay_here_and_many_can_be_shared() {
        let spilled = |mut spill: Spill, pieces: &[&[u8]]| {
            pieces.iter().for_each(|piece| spill.write_all(piece).expect("written"));
            let length = spill.length();
            match spill.finish().expect("gathered") {
                Spilled::Few(bytes) => (false, bytes, length),
                Spilled::Many(sealed) => (true, sealed.bytes().expect("a view").to_vec(), length),
            }
        };
        let expect = |many, bytes: &[u8]| (many, bytes.to_vec(), bytes.len() as u64);
        assert_eq!(spilled(Spill::new(4), &[b"ab", b"cd"]), expect(false, b"abcd"));
        assert_eq!(spilled(Spill::new(4), &[b"ab", b"cde", b"f"]), expect(true, b"abcdef"));
        let expecting = |length| Spill::expecting(length, 4).expect("a place");
        assert_eq!(spilled(expecting(4), &[b"ab"]), expect(false, b"ab"));
        assert_eq!(spilled(expecting(9), &[b"ab"]), expect(true, b"ab"));
        assert_eq!(spilled(expecting(u64::MAX), &[]), expect(true, b""));
    }

    #[test]
    fn memory_that_its_maker_could_change_is_refused() {
        let mut writer = MemoryWriter::new().expect("memory");
        writer.write_all(b"abc").expect("written");
        let memory = Arc::new(writer.memory);
        assert!(Sealed::open(memory.clone(), 3).is_err());
        fcntl_add_seals(&*memory, SEALS).expect("sealed");
        assert!(Sealed::open(memory.clone(), 4).is_err());
        assert!(Sealed::open(memory, 3).is_ok());
        let (read, _write) = rustix::pipe::pipe().expect("a pipe");
        assert!(Sealed::open(Arc::new(read), 0).is_err());
    }
}
