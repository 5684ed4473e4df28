//! The host's end of the filter: hears of system calls, answers them, and keeps the record.

use std::{
    borrow::Cow,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use libc::{
    SECCOMP_IOCTL_NOTIF_ID_VALID, SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND,
    SECCOMP_USER_NOTIF_FLAG_CONTINUE, seccomp_data, seccomp_notif, seccomp_notif_resp,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, ResolveFlags, fstat, openat2},
    io::Errno,
};

use crate::{
    filter::{
        calls,
        writers::{self, At, Writer},
    },
    tier::Tier,
    view::SESSION,
};

/// Calls answered at once, if none of them leaves a record.
const BATCH: usize = 64;
/// A path is no longer than this to the kernel either.
const LONGEST: usize = 4096;
/// The least size of a page. What is there is there up to the end of one.
const PAGE: usize = 4096;
/// How much memory a guest may make unwritable, all in all. It does not count any more for
/// `RLIMIT_DATA` then, whatever was written to it. Loading libraries does it, with little.
const MOST_FROZEN: u64 = 128 << 20;
/// How often it may lock parts of files, or give them back.
const MOST_LOCKS: u64 = 20_000;

/// A system call that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Its number.
    pub syscall: i32,
    /// Its name; `syscall 999` of one nobody knows.
    pub name: Cow<'static, str>,
    /// The file it was about. The guest may have changed its mind since: it is for the record only.
    pub path: Option<String>,
    /// As they were in the registers.
    pub args: [u64; 6],
    /// The thread that made it, as the host sees it.
    pub pid: u32,
    raised: Option<i32>,
}

/// Hears of an isolate's system calls that are not simply allowed. Readable when there is one.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    tier: Tier,
    writable: Option<PathBuf>,
    /// What the kernel does not count. Held while a call is received: two at it at once, and one would
    /// wait for what the other took.
    account: Mutex<Account>,
}

/// What a guest has taken of what the kernel does not count.
#[derive(Debug, Default)]
struct Account {
    /// Bytes that were made unwritable.
    frozen: u64,
    /// Locks of files, those given back included.
    locks: u64,
}

/// What a call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// The kernel goes on with it.
    Go,
    Fail(i32),
}

// === impl Denial ===

impl Denial {
    /// The signal, if the guest sent itself one that ends a process and that it does not catch. In
    /// a pid namespace the kernel ignores that: its first process gets no such signals from inside.
    pub fn raised(&self) -> Option<i32> {
        self.raised
    }
}

// === impl Listener ===

impl Listener {
    /// Of an isolate that `confine` gave this for. `writable` is the folder where it may write, as it
    /// sees it: `/session` in [`Tier::Full`].
    pub fn new(fd: OwnedFd, tier: Tier, writable: Option<PathBuf>) -> Self {
        Self { fd, tier, writable, account: Mutex::default() }
    }

    /// The listener of an isolate in [`Tier::Full`], whose `/session` is writable or not.
    pub fn of_session(fd: OwnedFd, is_writable: bool) -> Self {
        Self::new(fd, Tier::Full, is_writable.then(|| SESSION.into()))
    }

    /// Answers what is waiting up to the first call that is to be recorded. Never waits itself. After
    /// `None` nothing is waiting, or many calls were answered of which there is nothing to record:
    /// [`Self::is_waited_for`] tells.
    ///
    /// # Errors
    /// The descriptor is no listener.
    pub fn next(&self) -> io::Result<Option<Denial>> {
        let mut account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..BATCH {
            // Without this the kernel would have us wait: it knows no listeners that do not.
            if !self.is_waited_for()? {
                return Ok(None);
            }
            let Some(asked) = self.receive()? else { continue };
            let (answer, denial) = self.judge(&asked, &mut account);
            self.answer(asked.id, answer)?;
            if denial.is_some() {
                return Ok(denial);
            }
        }
        Ok(None)
    }

    /// Whether a call is waiting for its answer right now.
    ///
    /// # Errors
    /// As `poll`.
    pub fn is_waited_for(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(fds[0].revents().contains(PollFlags::IN))
    }

    /// None: the caller died meanwhile.
    fn receive(&self) -> io::Result<Option<seccomp_notif>> {
        let data = seccomp_data { nr: 0, arch: 0, instruction_pointer: 0, args: [0; 6] };
        let mut asked = seccomp_notif { id: 0, pid: 0, flags: 0, data };
        match self.ioctl(SECCOMP_IOCTL_NOTIF_RECV, &mut asked) {
            Ok(()) => Ok(Some(asked)),
            Err(Errno::NOENT | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn answer(&self, id: u64, answer: Answer) -> io::Result<()> {
        let (error, flags) = match answer {
            Answer::Go => (0, SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Fail(errno) => (-errno, 0),
        };
        let mut told = seccomp_notif_resp { id, val: 0, error, flags };
        match self.ioctl(SECCOMP_IOCTL_NOTIF_SEND, &mut told) {
            // It died meanwhile.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn ioctl<T>(&self, request: libc::Ioctl, argument: &mut T) -> Result<(), Errno> {
        // JUSTIFICATION: no library has these without the C library's own.
        // SAFETY: each caller gives the structure that its request is numbered with the size of.
        let done =
            unsafe { libc::ioctl(self.fd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
        if done < 0 {
            let error = io::Error::last_os_error().raw_os_error();
            return Err(error.map_or(Errno::INVAL, Errno::from_raw_os_error));
        }
        Ok(())
    }

    fn judge(&self, asked: &seccomp_notif, account: &mut Account) -> (Answer, Option<Denial>) {
        let arguments = &asked.data.args;
        let counted = match libc::c_long::from(asked.data.nr) {
            libc::SYS_mprotect => freeze(arguments, &mut account.frozen),
            libc::SYS_fcntl => hold(arguments, &mut account.locks),
            _ => None,
        };
        if let Some(answer) = counted {
            return (answer, None);
        }
        if let Some(writer) = writers::find(asked.data.nr) {
            return self.judge_writer(asked, writer);
        }
        if let Some(signal) = self_inflicted(asked) {
            return match signal {
                Signal::Fatal(signal) => {
                    (Answer::Go, Some(Denial { raised: Some(signal), ..denial(asked, None) }))
                }
                Signal::Harmless => (Answer::Go, None),
            };
        }
        let path = path_of_refused(asked.data.nr).and_then(|at| self.text(asked, at).ok());
        (Answer::Fail(libc::EPERM), Some(denial(asked, path)))
    }

    /// What Landlock and the mounts decide is only recorded.
    fn judge_writer(&self, asked: &seccomp_notif, writer: &Writer) -> (Answer, Option<Denial>) {
        let cuts_off = writer.flags.is_some_and(|flags| {
            let flags = asked.data.args[usize::from(flags)] as i32;
            flags & libc::O_TRUNC != 0 && flags & libc::O_ACCMODE == libc::O_RDONLY
        });
        // Landlock may not know of cutting off, and knows nothing of modes and times.
        let is_fenced = self.tier == Tier::Full || !(writer.only_mounts || cuts_off);
        let answer = if is_fenced { Answer::Go } else { Answer::Fail(libc::EPERM) };
        for at in writer.paths {
            let path = match self.text(asked, at) {
                Ok(path) => Some(path),
                // Nothing to be read there for the kernel either; or no path, but what is open.
                Err(Errno::FAULT) if is_fenced => continue,
                Err(_) => None,
            };
            if !is_fenced || self.is_outside(asked, at, path.as_deref(), writer.flags.is_some()) {
                return (answer, Some(denial(asked, path)));
            }
        }
        (answer, None)
    }

    fn is_outside(&self, asked: &seccomp_notif, at: &At, path: Option<&str>, opens: bool) -> bool {
        let Some(path) = path else { return self.writable.is_none() };
        // Libraries look whether there are semaphores, and do without.
        if path == "/dev/null" || path.is_empty() || path.starts_with("/dev/shm/") {
            return false;
        }
        let Some(writable) = &self.writable else { return true };
        let mut whole = PathBuf::from(path);
        if whole.is_relative() {
            // It is decided by Landlock anyway; what cannot be seen is not put down.
            let Ok(base) = fs::read_link(base(asked, at)) else { return false };
            whole = base.join(whole);
        }
        let whole = plain(&whole);
        let in_temporary = self.tier == Tier::Full && whole.starts_with("/tmp");
        if !(in_temporary || whole.starts_with(writable)) {
            return true;
        }
        // A link in it may lead out: for who opens it.
        opens && leads_out(asked.pid, &whole, writable).unwrap_or(false)
    }

    /// The path a call is about.
    fn text(&self, asked: &seccomp_notif, at: &At) -> Result<String, Errno> {
        let address = asked.data.args[usize::from(at.path)] as usize;
        let mut bytes = read_memory(asked.pid, address)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        // If it died, its number may be another's by now.
        let mut id = asked.id;
        self.ioctl(SECCOMP_IOCTL_NOTIF_ID_VALID, &mut id)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

fn denial(asked: &seccomp_notif, path: Option<String>) -> Denial {
    Denial {
        syscall: asked.data.nr,
        name: calls::name(asked.data.nr),
        path,
        args: asked.data.args,
        pid: asked.pid,
        raised: None,
    }
}

/// A signal a guest sends to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// It ends it.
    Fatal(i32),
    /// It catches, blocks or ignores it.
    Harmless,
}

/// None: it is no signal, or not to itself.
fn self_inflicted(asked: &seccomp_notif) -> Option<Signal> {
    let signal = match libc::c_long::from(asked.data.nr) {
        libc::SYS_kill => asked.data.args[1],
        libc::SYS_tgkill => asked.data.args[2],
        _ => return None,
    };
    let status = fs::read_to_string(format!("/proc/{}/status", asked.pid)).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    // The last of its ids is the one it knows.
    let own = field("NStgid:")?.split_whitespace().last()?.parse::<u32>().ok()?;
    if asked.data.args[0] as u32 != own {
        return None;
    }
    let signal = signal as i32;
    let set = |name| u64::from_str_radix(field(name)?.trim(), 16).ok();
    let handled = set("SigBlk:")? | set("SigIgn:")? | set("SigCgt:")?;
    let is_handled = signal > 0 && handled & (1 << (signal - 1).min(63)) != 0;
    if is_handled { Some(Signal::Harmless) } else { Some(Signal::Fatal(signal)) }
}

/// Keeps account of memory that is made unwritable. None: it asks for something else.
fn freeze(arguments: &[u64; 6], frozen: &mut u64) -> Option<Answer> {
    let [_, length, protection, ..] = *arguments;
    let plain = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
    if protection & !plain != 0 {
        return None;
    }
    let sum = frozen.saturating_add(length);
    if sum > MOST_FROZEN {
        return Some(Answer::Fail(libc::ENOMEM));
    }
    *frozen = sum;
    Some(Answer::Go)
}

/// Keeps account of locks of files, which are memory of the kernel's. None: it asks for something
/// else.
fn hold(arguments: &[u64; 6], locks: &mut u64) -> Option<Answer> {
    let command = arguments[1] as i32;
    let locking = [libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_SETLK, libc::F_OFD_SETLKW];
    if !locking.contains(&command) {
        return None;
    }
    *locks = locks.saturating_add(1);
    Some(if *locks > MOST_LOCKS { Answer::Fail(libc::ENOLCK) } else { Answer::Go })
}

/// Where the path of a call is that is never allowed.
fn path_of_refused(number: i32) -> Option<&'static At> {
    const FIRST: At = At { folder: None, path: 0 };
    const SECOND: At = At { folder: Some(0), path: 1 };
    match libc::c_long::from(number) {
        libc::SYS_execve | libc::SYS_chroot => Some(&FIRST),
        libc::SYS_execveat | libc::SYS_mknodat | libc::SYS_fchownat => Some(&SECOND),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mknod | libc::SYS_chown | libc::SYS_lchown => Some(&FIRST),
        _ => None,
    }
}

/// The link to the folder that a relative path starts from.
fn base(asked: &seccomp_notif, at: &At) -> String {
    let folder = at.folder.map(|folder| asked.data.args[usize::from(folder)] as i32);
    match folder {
        Some(fd) if fd != libc::AT_FDCWD => format!("/proc/{}/fd/{fd}", asked.pid),
        _ => format!("/proc/{}/cwd", asked.pid),
    }
}

/// Whether a path leads to another file system than that of `home`, both as a process sees them.
fn leads_out(pid: u32, path: &Path, home: &Path) -> Result<bool, Errno> {
    let look = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), look, Mode::empty())?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let device = |path: &Path| -> Result<u64, Errno> {
        Ok(fstat(openat2(&root, path, look, Mode::empty(), within)?)?.st_dev)
    };
    let there = match (device(path), path.parent()) {
        // It is to be made.
        (Err(Errno::NOENT), Some(folder)) => device(folder),
        (there, _) => there,
    };
    Ok(there? != device(home)?)
}

/// Without `.` and `..`, as they are written.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// What another process has in its memory from an address on, up to the longest path.
fn read_memory(pid: u32, address: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0_u8; LONGEST];
    // The kernel gives whole pieces only: what ends with the first page must be one.
    let first = PAGE - address % PAGE;
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: LONGEST };
    let remote = [
        libc::iovec { iov_base: address as *mut libc::c_void, iov_len: first },
        libc::iovec {
            iov_base: address.wrapping_add(first) as *mut libc::c_void,
            iov_len: LONGEST - first,
        },
    ];
    // JUSTIFICATION: rustix does not have the call.
    // SAFETY: the kernel writes at most `LONGEST` bytes to `bytes`, which is as long; addresses in
    // the other process are checked there.
    let length = unsafe {
        libc::process_vm_readv(pid as libc::pid_t, &raw const local, 1, remote.as_ptr(), 2, 0)
    };
    let Ok(length) = usize::try_from(length) else {
        let error = io::Error::last_os_error().raw_os_error();
        return Err(error.map_or(Errno::FAULT, Errno::from_raw_os_error));
    };
    bytes.truncate(length);
    Ok(bytes)
}
