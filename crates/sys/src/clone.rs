//! Forking a child that is not ours but our parent's, and making a worker of it.
//!
//! `fork` of the C library cannot make a sibling, so this is the system call itself. It runs no
//! `pthread_atfork` handlers: those put locks in order that other threads may hold, and the caller
//! has no other threads.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Where a clone returns.
#[derive(Debug)]
pub enum Side {
    /// In the process that called; the child is its sibling.
    Caller {
        /// The child.
        pid: u32,
        /// Its pidfd.
        pidfd: OwnedFd,
    },
    /// In the child.
    Child,
}

/// `PR_GET_TID_ADDRESS`, which the libc crate does not name.
const PR_GET_TID_ADDRESS: libc::c_int = 40;

/// The flags that a caller may add.
const NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS) as u64;

/// How many threads this process has, as the kernel counts.
///
/// # Errors
/// `/proc` is not there.
pub fn threads() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    // A folder for each thread, beside `.` and `..`.
    Ok(std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

/// Forks: the child is a copy of this process and a child of this process's parent, in particular
/// of the very thread that started this process. `namespaces` are the `CLONE_NEW*` flags of those
/// that it has for itself; 0: none.
///
/// # Errors
/// As `clone`: `EINVAL` in the first process of a namespace, `EPERM` where a filter forbids it. More
/// than one thread. A kernel without `PR_GET_TID_ADDRESS`.
///
/// # Safety
/// Whatever in this process must be told of a fork (an interpreter) is to be told by the caller,
/// before and after, on both sides. A thread that starts between the check and the call would be
/// gone in the child, with the locks it held.
pub unsafe fn clone_to_parent(namespaces: u64) -> io::Result<Side> {
    let count = threads()?;
    if count != 1 {
        return Err(io::Error::other(format!("the process has {count} threads")));
    }
    let mut tid_address: *mut libc::pid_t = std::ptr::null_mut();
    // JUSTIFICATION: the C library keeps the thread's id in memory; only the kernel can renew it in
    // the child, and only the kernel tells where it is.
    // SAFETY: the call writes one pointer to the place given.
    if unsafe { libc::prctl(PR_GET_TID_ADDRESS, &raw mut tid_address) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::CLONE_PARENT
        | libc::CLONE_PIDFD
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::SIGCHLD;
    let flags = flags as libc::c_ulong | (namespaces & NAMESPACES) as libc::c_ulong;
    let mut pidfd: libc::c_int = -1;
    let (no_stack, no_tls) = (0 as libc::c_ulong, 0 as libc::c_ulong);
    // JUSTIFICATION: no safe interface makes a sibling.
    // SAFETY: without CLONE_VM the child has a copy of this memory and goes on from here like after
    // a fork; `tid_address` is the C library's own place for the id; `pidfd` outlives the call.
    let pid = unsafe {
        // The order of the last two differs between architectures.
        #[cfg(target_arch = "x86_64")]
        let pid =
            libc::syscall(libc::SYS_clone, flags, no_stack, &raw mut pidfd, tid_address, no_tls);
        #[cfg(not(target_arch = "x86_64"))]
        let pid =
            libc::syscall(libc::SYS_clone, flags, no_stack, &raw mut pidfd, no_tls, tid_address);
        pid
    };
    match pid {
        0 => Ok(Side::Child),
        pid if pid > 0 => {
            // JUSTIFICATION: the kernel gives the pidfd as a number.
            // SAFETY: it was just made for us, and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Caller { pid: pid as u32, pidfd })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the child of [`clone_to_parent`] a worker: it dies with `parent`'s thread, has a process
/// group and a name of its own, and `descriptors` as 1, 2, 3 and so on; from 3 on they are
/// close-on-exec. In a pid namespace of its own nobody can tell who its parent is (`None`): the end
/// of its socket tells it that the host is gone.
///
/// # Errors
/// `parent` is gone; as `dup3`.
pub fn become_worker(
    parent: Option<u32>,
    name: &CStr,
    descriptors: Vec<OwnedFd>,
) -> io::Result<()> {
    let done = |result: libc::c_int| match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    };
    rustix::thread::set_name(name)?;
    // JUSTIFICATION: rustix does not reach these, or (dup3 over a number) has no safe name for them.
    // SAFETY: plain numbers. What lay at the places was the
    // parent's and is not used here any more.
    unsafe {
        done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        // The parent may have died before the line above.
        if parent.is_some_and(|parent| libc::getppid() as u32 != parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        done(libc::setpgid(0, 0))?;
        let past = 1 + descriptors.len() as libc::c_int;
        let mut parked = Vec::with_capacity(descriptors.len());
        for fd in &descriptors {
            // Out of the way of all places, so that none overwrites one that is still needed.
            parked.push(done(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, past))?);
        }
        drop(descriptors);
        for (place, fd) in (1..past).zip(parked) {
            let flags = if place < 3 { 0 } else { libc::O_CLOEXEC };
            done(libc::dup3(fd, place, flags))?;
            libc::close(fd);
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` on.
///
/// # Errors
/// A kernel before 5.9.
///
/// # Safety
/// Whatever owns one of them must never use or close it again: it would be somebody else's.
pub unsafe fn close_from(first: u32) -> io::Result<()> {
    // JUSTIFICATION: no safe interface closes what it does not own.
    // SAFETY: the caller's, as above.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if closed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends this process at once: nothing of what its parent prepared is run or written.
pub fn exit_now(status: i32) -> ! {
    // JUSTIFICATION: a half-made child must not run the exit handlers it was copied with.
    // SAFETY: the call has no preconditions.
    unsafe { libc::_exit(status) }
}
