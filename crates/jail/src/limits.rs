//! What the host sets and measures of a running isolate.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, fstatvfs, openat, statat},
    process::{geteuid, getgid, getuid},
    thread::{set_thread_res_gid, set_thread_res_uid},
};

/// How deep [`session_files`] looks.
const DEPTH: usize = 32;
/// How many names [`session_files`] looks at for each file it may list.
const LOOKS: usize = 16;

/// What is used of a session's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that files take, in whole pages.
    pub bytes: u64,
    /// Bytes there may be.
    pub bytes_limit: u64,
    /// Files, folders and links.
    pub inodes: u64,
    /// How many there may be.
    pub inodes_limit: u64,
}

/// Sets how much private writable memory another process may have (`RLIMIT_DATA`), the image's
/// included. Its hard limit stays: the host may go up again for a later call. A guest cannot, for
/// seccomp refuses it every way of setting limits.
///
/// # Errors
/// There is no such process, or it is not ours.
pub fn set_memory(pid: u32, bytes_total: u64) -> io::Result<()> {
    match limit_data(pid, bytes_total) {
        // Root of a container may not have CAP_SYS_RESOURCE.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && geteuid().is_root() => {
            as_its_user(pid, || limit_data(pid, bytes_total))?
        }
        done => done,
    }
}

fn limit_data(pid: u32, bytes_total: u64) -> io::Result<()> {
    let pid = pid as libc::pid_t;
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // JUSTIFICATION: rustix reads another process's limits only by setting them.
    // SAFETY: both calls read or write one structure that outlives them.
    let done = unsafe {
        let got = libc::prlimit64(pid, libc::RLIMIT_DATA, std::ptr::null(), &raw mut old);
        let new = libc::rlimit64 { rlim_cur: bytes_total.min(old.rlim_max), ..old };
        if got == 0 {
            libc::prlimit64(pid, libc::RLIMIT_DATA, &raw const new, std::ptr::null_mut())
        } else {
            got
        }
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Does something with the real user and group of another process, on this thread alone: the ids by
/// which the kernel compares who may set whose limits. The effective ones, and all rights, stay.
fn as_its_user<T>(pid: u32, action: impl FnOnce() -> T) -> io::Result<T> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let id = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let id = line.and_then(|ids| ids.split_whitespace().next()?.parse::<u32>().ok());
        id.ok_or(io::Error::from(io::ErrorKind::InvalidData))
    };
    let (user, group) = (Uid::from_raw(id("Uid:")?), Gid::from_raw(id("Gid:")?));
    let (own_user, own_group) = (getuid(), getgid());
    set_thread_res_gid(group, None, None)?;
    let done = set_thread_res_uid(user, None, None).map(|()| action());
    set_thread_res_uid(own_user, None, None)?;
    set_thread_res_gid(own_group, None, None)?;
    Ok(done?)
}

/// CPU time that a process has used, of all its threads, user and system. Of one that has ended too,
/// until it is reaped.
///
/// # Errors
/// There is no such process.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    // How the kernel numbers the clock of a process: see `clock_getcpuclockid`.
    let clock = (!(pid as libc::clockid_t) << 3) | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // JUSTIFICATION: rustix has no clocks of other processes but by pidfd, which the kernel has not.
    // SAFETY: the call writes one structure that outlives it.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// What is used of a session's tmpfs. Of any other folder, what is used of its file system.
///
/// # Errors
/// As `fstatfs`.
pub fn session_usage(dir: BorrowedFd<'_>) -> io::Result<Usage> {
    let stat = fstatvfs(dir)?;
    Ok(Usage {
        bytes: (stat.f_blocks.saturating_sub(stat.f_bfree)).saturating_mul(stat.f_frsize),
        bytes_limit: stat.f_blocks.saturating_mul(stat.f_frsize),
        inodes: stat.f_files.saturating_sub(stat.f_ffree),
        inodes_limit: stat.f_files,
    })
}

/// The files left in a session with their sizes, at most `most`, in no order. Follows no links and
/// opens nothing but folders; what cannot be read is left out. The guest may still be at work.
pub fn session_files(dir: BorrowedFd<'_>, most: usize) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut looks = most.saturating_mul(LOOKS);
    let Ok(root) = open_folder(dir, c".") else { return found };
    let mut folders = vec![(root, String::new(), 0)];
    while let Some((folder, path, depth)) = folders.pop() {
        let Ok(entries) = Dir::read_from(&folder) else { continue };
        for entry in entries.flatten() {
            if found.len() == most || looks == 0 {
                return found;
            }
            looks -= 1;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let path = format!("{path}{}", name.to_string_lossy());
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory if depth < DEPTH => {
                    if let Ok(below) = open_folder(folder.as_fd(), name) {
                        folders.push((below, path + "/", depth + 1));
                    }
                }
                FileType::RegularFile => found.push((path, stat.st_size as u64)),
                _ => {}
            }
        }
    }
    found
}

fn open_folder(at: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}
