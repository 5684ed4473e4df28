//! Makes the namespaces of an image and of an isolate once, in a process that is thrown away.
//!
//! It is a copy of a program with many threads, of which it has one, so it does nothing but system
//! calls: any lock may be held for ever, that of the allocator too.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Gid, Mode, OFlags, Uid, mkdir, open},
    io::{Errno, read, write},
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    pipe::{PipeFlags, pipe_with},
    process::{DumpableBehavior, Pid, WaitOptions, set_dumpable_behavior, waitpid},
    thread::{UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::kernel;

/// Whom root becomes here. Any ordinary user will do.
const NOBODY: u32 = 65534;

/// One step, in the order they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Step {
    Unshare,
    Map,
    Private,
    Root,
    Pivot,
    User,
    IsolateClone,
    IsolateMap,
    IsolateMount,
    Done,
}

/// What is written down before the copy is made.
#[derive(Debug)]
struct Script {
    is_root: bool,
    user_map: String,
    group_map: String,
    report: OwnedFd,
}

type Failed = (Step, Errno);

// === impl Step ===

impl Step {
    const ALL: [Self; 10] = [
        Self::Unshare,
        Self::Map,
        Self::Private,
        Self::Root,
        Self::Pivot,
        Self::User,
        Self::IsolateClone,
        Self::IsolateMap,
        Self::IsolateMount,
        Self::Done,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unshare => "making the image's namespaces",
            Self::Map => "mapping the image's user",
            Self::Private => "private mounts",
            Self::Root => "mounting a root",
            Self::Pivot => "pivot_root",
            Self::User => "becoming an ordinary user",
            Self::IsolateClone => "making an isolate's namespaces",
            Self::IsolateMap => "mapping an isolate's user",
            Self::IsolateMount => "mounting an isolate's files",
            Self::Done => "the end",
        }
    }
}

/// Goes through all steps. Fails with the first one that did.
pub(super) fn rehearse() -> Result<(), (Step, io::Error)> {
    let first = |error: io::Error| (Step::Unshare, error);
    let (reader, report) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| first(error.into()))?;
    let is_root = rustix::process::geteuid().is_root();
    let (user, group) = match is_root {
        true => (NOBODY, NOBODY),
        false => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    };
    let script = Script {
        is_root,
        user_map: format!("{user} {user} 1"),
        group_map: format!("{group} {group} 1"),
        report,
    };
    let child = copy(0).map_err(|error| first(error.into()))?;
    let Some(child) = child else { script.end(script.image()) };
    drop(script);
    let mut told = [0; 5];
    let length = read(&reader, &mut told);
    let _ = waitpid(Some(child), WaitOptions::empty());
    let step = Step::ALL.into_iter().find(|step| *step as u8 == told[0]);
    match (length, step) {
        (Ok(5), Some(Step::Done)) => Ok(()),
        (Ok(5), Some(step)) => {
            let [_, errno @ ..] = told;
            Err((step, io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
        }
        _ => Err(first(io::Error::other("the process that tried it was killed"))),
    }
}

/// Clones this process with namespaces. `None` in the copy.
fn copy(namespaces: i32) -> Result<Option<Pid>, Errno> {
    let flags = (namespaces | libc::SIGCHLD) as libc::c_ulong;
    let nothing = 0 as libc::c_ulong;
    // JUSTIFICATION: fork of the C library would take locks that other threads may hold.
    // SAFETY: without CLONE_VM the copy has memory of its own; it makes system calls only, and ends
    // by one. All arguments but the flags are zero, in whatever order an architecture has them.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, nothing, nothing, nothing, nothing) };
    match pid {
        ..0 => Err(io::Error::last_os_error()
            .raw_os_error()
            .map_or(Errno::PERM, Errno::from_raw_os_error)),
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

// === impl Script ===

impl Script {
    /// Reports and ends this process.
    fn end(&self, result: Result<(), Failed>) -> ! {
        match result {
            Ok(()) => self.report(Step::Done, 0),
            Err((step, errno)) => self.report(step, errno.raw_os_error()),
        }
        self.leave(i32::from(result.is_err()))
    }

    fn report(&self, step: Step, errno: i32) {
        let [a, b, c, d] = errno.to_ne_bytes();
        let _ = write(&self.report, &[step as u8, a, b, c, d]);
    }

    fn leave(&self, status: i32) -> ! {
        // JUSTIFICATION: nothing of what the program has prepared for its end is to run.
        // SAFETY: the call has no preconditions.
        unsafe { libc::_exit(status) }
    }

    /// As `enter` does.
    fn image(&self) -> Result<(), Failed> {
        let at = |step| move |errno| (step, errno);
        let mut flags = UnshareFlags::NEWNS
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS;
        if !self.is_root {
            flags |= UnshareFlags::NEWUSER;
        }
        kernel::unshare(flags).map_err(at(Step::Unshare))?;
        if !self.is_root {
            self.map_ids(c"/proc/self").map_err(at(Step::Map))?;
        }
        private().map_err(at(Step::Private))?;
        tmpfs(c"/tmp").map_err(at(Step::Root))?;
        mkdir(c"/tmp/.old", Mode::RWXU | Mode::XGRP | Mode::XOTH).map_err(at(Step::Root))?;
        mkdir(c"/tmp/session", Mode::RWXU).map_err(at(Step::Root))?;
        rustix::process::pivot_root(c"/tmp", c"/tmp/.old").map_err(at(Step::Pivot))?;
        rustix::process::chdir(c"/").map_err(at(Step::Pivot))?;
        if self.is_root {
            become_nobody().map_err(at(Step::User))?;
        }
        let namespaces = libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS;
        match copy(namespaces).map_err(at(Step::IsolateClone))? {
            None => match self.isolate() {
                Ok(()) => self.leave(0),
                failed => self.end(failed),
            },
            Some(isolate) => {
                let ended = waitpid(Some(isolate), WaitOptions::empty());
                let status = ended.ok().flatten().and_then(|(_, status)| status.exit_status());
                // It has said itself what failed.
                if status == Some(0) { Ok(()) } else { self.leave(1) }
            }
        }
    }

    /// As `confine` does.
    fn isolate(&self) -> Result<(), Failed> {
        let at = |step| move |errno| (step, errno);
        self.map_ids(c"/.old/proc/self").map_err(at(Step::IsolateMap))?;
        private().map_err(at(Step::IsolateMount))?;
        tmpfs(c"/session").map_err(at(Step::IsolateMount))
    }

    fn map_ids(&self, process: &CStr) -> Result<(), Errno> {
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = open(process, folder, Mode::empty())?;
        put(process.as_fd(), c"setgroups", b"deny")?;
        put(process.as_fd(), c"uid_map", self.user_map.as_bytes())?;
        put(process.as_fd(), c"gid_map", self.group_map.as_bytes())
    }
}

fn put(folder: BorrowedFd<'_>, name: &CStr, content: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::openat(folder, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write(&file, content).map(drop)
}

fn private() -> Result<(), Errno> {
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

fn tmpfs(place: &CStr) -> Result<(), Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount(c"tmpfs", place, c"tmpfs", flags, c"size=1m,mode=0755")
}

fn become_nobody() -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    set_dumpable_behavior(DumpableBehavior::Dumpable)
}
