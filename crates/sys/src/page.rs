//! A page of words that two processes share.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

/// Atomic words in a sealed memfd, mapped shared.
#[derive(Debug)]
pub struct SharedPage {
    start: NonNull<AtomicU64>,
    words: usize,
    fd: OwnedFd,
}

// SAFETY: the mapping belongs to this value alone and is only ever seen as `&[AtomicU64]`.
unsafe impl Send for SharedPage {}
// SAFETY: as above; atomics may be shared.
unsafe impl Sync for SharedPage {}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

impl SharedPage {
    /// Makes a page of at least `words` zeroed words, sealed against resizing.
    ///
    /// # Errors
    /// As `memfd_create`, `ftruncate` and `mmap`.
    pub fn create(words: usize) -> io::Result<Self> {
        let fd = memfd_create("exuvia-status", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, (words * size_of::<u64>()) as u64)?;
        fcntl_add_seals(&fd, SEALS)?;
        Self::map(fd, words)
    }

    /// Maps a page that another process made.
    ///
    /// # Errors
    /// It is not sealed against resizing, so that its maker could make us fault; or as `mmap`.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        if !fcntl_get_seals(&fd)?.contains(SEALS) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the status page is not sealed",
            ));
        }
        let bytes = usize::try_from(fstat(&fd)?.st_size).unwrap_or(0);
        Self::map(fd, bytes / size_of::<u64>())
    }

    fn map(fd: OwnedFd, words: usize) -> io::Result<Self> {
        let bytes = words * size_of::<u64>();
        // JUSTIFICATION: two processes can share words only by mapping the same memory.
        // SAFETY: a fresh mapping chosen by the kernel overlaps nothing; the length is not zero or
        // mmap fails; the file is sealed at no less than `bytes`, so reads never fault.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &fd,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, words, fd })
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // JUSTIFICATION: the mapping is known only by its address.
        // SAFETY: the mapping is page-aligned, `words` long and lives as long as `self`; other
        // processes change it only in ways that atomics allow.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl AsFd for SharedPage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SharedPage {
    fn drop(&mut self) {
        // JUSTIFICATION: a mapping is released only by its address.
        // SAFETY: nobody can hold a slice of it any more, as those borrow `self`. Failing would
        // leak the page and harm nothing.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;

    #[test]
    fn both_ends_see_the_same_words_and_neither_can_shrink_them() {
        let page = SharedPage::create(100).expect("memfd");
        let other = SharedPage::open(page.as_fd().try_clone_to_owned().expect("dup")).expect("map");
        page.words()[99].store(7, SeqCst);
        assert_eq!(other.words()[99].load(SeqCst), 7);
        assert!(ftruncate(&page.fd, 0).is_err());
        let unsealed = memfd_create("x", MemfdFlags::ALLOW_SEALING).expect("memfd");
        assert!(SharedPage::open(unsealed).is_err());
    }
}
