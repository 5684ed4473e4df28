//! System calls that change files by path: allowed, and recorded by the host.
//!
//! Landlock and the mounts decide about them; the record is for the outcome.

use libc::{O_ACCMODE, O_CREAT, O_RDONLY, O_TRUNC, c_long};

use super::calls::SYS_FCHMODAT2;

/// A call that may change files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    pub(crate) number: c_long,
    /// Where the paths it changes are among its arguments.
    pub(crate) paths: &'static [At],
    /// The argument with flags as those of `open`, where it only writes with some of them.
    pub(crate) flags: Option<u8>,
    /// What it does is no business of Landlock's: where there are no mounts, it must be refused.
    pub(crate) only_mounts: bool,
}

/// Where a path is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At {
    /// The argument with the descriptor of the folder that it is relative to. None: the working
    /// directory.
    pub(crate) folder: Option<u8>,
    /// The argument that points to it.
    pub(crate) path: u8,
}

/// Flags of `open` without any of which nothing is written.
pub(crate) const WRITING: u64 = (O_ACCMODE | O_CREAT | O_TRUNC) as u64;

const _: () = assert!(O_RDONLY == 0);

const fn here(path: u8) -> At {
    At { folder: None, path }
}

const fn at(folder: u8) -> At {
    At { folder: Some(folder), path: folder + 1 }
}

const fn writer(number: c_long, paths: &'static [At]) -> Writer {
    Writer { number, paths, flags: None, only_mounts: false }
}

const fn opener(number: c_long, paths: &'static [At], flags: u8) -> Writer {
    Writer { flags: Some(flags), ..writer(number, paths) }
}

/// Modes and times, which Landlock leaves alone; and cutting off, as it did before its third version.
const fn unfenced(number: c_long, paths: &'static [At]) -> Writer {
    Writer { only_mounts: true, ..writer(number, paths) }
}

const COMMON: &[Writer] = &[
    opener(libc::SYS_openat, &[at(0)], 2),
    writer(libc::SYS_mkdirat, &[at(0)]),
    writer(libc::SYS_unlinkat, &[at(0)]),
    writer(libc::SYS_renameat2, &[at(0), at(2)]),
    writer(libc::SYS_linkat, &[at(2)]),
    writer(libc::SYS_symlinkat, &[at(1)]),
    unfenced(libc::SYS_fchmodat, &[at(0)]),
    unfenced(SYS_FCHMODAT2, &[at(0)]),
    unfenced(libc::SYS_utimensat, &[at(0)]),
    unfenced(libc::SYS_truncate, &[here(0)]),
];

#[cfg(target_arch = "x86_64")]
const ONLY: &[Writer] = &[
    opener(libc::SYS_open, &[here(0)], 1),
    writer(libc::SYS_creat, &[here(0)]),
    writer(libc::SYS_mkdir, &[here(0)]),
    writer(libc::SYS_rmdir, &[here(0)]),
    writer(libc::SYS_unlink, &[here(0)]),
    writer(libc::SYS_rename, &[here(0), here(1)]),
    writer(libc::SYS_renameat, &[at(0), at(2)]),
    writer(libc::SYS_link, &[here(1)]),
    writer(libc::SYS_symlink, &[here(1)]),
    unfenced(libc::SYS_chmod, &[here(0)]),
    unfenced(libc::SYS_utime, &[here(0)]),
    unfenced(libc::SYS_utimes, &[here(0)]),
    unfenced(libc::SYS_futimesat, &[at(0)]),
];
#[cfg(not(target_arch = "x86_64"))]
const ONLY: &[Writer] = &[writer(SYS_RENAMEAT, &[at(0), at(2)])];

/// libc names it for the oldest architecture only.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const SYS_RENAMEAT: c_long = 38;

/// Every one of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Writer> {
    COMMON.iter().chain(ONLY)
}

/// The one of this number.
pub(crate) fn find(number: i32) -> Option<&'static Writer> {
    all().find(|writer| writer.number == c_long::from(number))
}
