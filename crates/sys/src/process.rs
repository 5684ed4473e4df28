//! Starting a process that dies with its maker, and waiting for it without signals.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

/// What to start.
#[derive(Debug)]
pub struct Spawn {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it starts.
    pub working_dir: PathBuf,
    /// Variables to set.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether it gets these alone, and not those of this process beside them.
    pub only_these: bool,
    /// Standard output and standard error.
    pub output: [OwnedFd; 2],
    /// Given to the child as descriptors 3, 4, 5 and so on; it gets no others.
    pub descriptors: Vec<OwnedFd>,
}

/// A child of this process.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

/// The children somebody here looks after. Whoever buries one, or makes one known, holds the lock:
/// an id that is in here is not given to another process.
static KNOWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A killed process is gone well within this, unless the kernel holds it.
const DEATH: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// In a way that only the one knows who waited for it instead of us: another part of the
    /// program, or the kernel where `SIGCHLD` is ignored.
    Unknown,
}

/// Starts a process in its own process group. It is killed when the **thread** that called this
/// ends: call it from one that lives as long as the host.
///
/// # Errors
/// As `fork` and `exec`; or the parent was gone before the child could ask to die with it.
pub fn spawn(request: Spawn) -> io::Result<Process> {
    let [stdout, stderr] = request.output;
    let descriptors = request.descriptors;
    let parent = std::process::id();
    let mut command = Command::new(&request.program);
    if request.only_these {
        command.env_clear();
    }
    command
        .envs(request.environment)
        .args(&request.arguments)
        .current_dir(&request.working_dir)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0);
    // The places the child's copies go to must be taken while std makes a pipe of its own to hear
    // of a failed exec, or that pipe could come to lie there and be overwritten.
    let places = 3..3 + descriptors.len() as i32;
    let mut taken = Vec::new();
    while taken.last().is_none_or(|fd: &OwnedFd| fd.as_raw_fd() < places.end) {
        taken.push(File::open("/dev/null")?.into());
    }
    let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let mut parked = raw.clone();
    // JUSTIFICATION: the child must place its descriptors and tie its life to ours before the
    // program starts, and std has no safe way to say so.
    // SAFETY: the closure runs between fork and exec and makes only async-signal-safe calls; it
    // allocates nothing and touches only values moved into it.
    unsafe {
        command.pre_exec(move || {
            // First out of the way of all places, wherever the kernel has room, so that no dup2
            // overwrites a source that is still needed.
            for (place, &fd) in parked.iter_mut().zip(&raw) {
                *place = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, places.end);
                if *place < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            for (place, &fd) in places.clone().zip(&parked) {
                // The copy stays open across exec; the parked one does not.
                if libc::dup2(fd, place) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            // What the host has open is not for workers, also where it forgot to say so. A kernel
            // without this call is the only way to fail.
            let all = libc::c_uint::MAX;
            let _ = libc::syscall(
                libc::SYS_close_range,
                places.end as libc::c_uint,
                all,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            // A host that ignores or blocks signals must not hand that on.
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    let mut child = command.spawn()?;
    drop((descriptors, taken));
    let pid = Pid::from_child(&child);
    // Not reaped yet, so the id cannot be anybody else's.
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => {
            known().insert(child.id());
            Ok(Process { pid, pidfd })
        }
        // Nobody could look after it.
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error.into())
        }
    }
}

fn known() -> MutexGuard<'static, BTreeSet<u32>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Buries the dead children of one thread of this process that nobody looks after; says how many.
/// Those that a [`Process`] stands for are left alone. Others that have lived for `patience` are
/// killed; `None`: they may live.
///
/// For the thread that starts our own processes: a zygote may die after it forked and before it
/// said so. For the main thread of the first process of a namespace: orphans come to it.
///
/// Does nothing on a kernel that does not list children (`CONFIG_PROC_CHILDREN`).
pub fn reap_strays(thread: u32, patience: Option<Duration>) -> usize {
    let list = std::fs::read_to_string(format!("/proc/self/task/{thread}/children"));
    let list = list.unwrap_or_default();
    let mut reaped = 0;
    for pid in list.split_ascii_whitespace().filter_map(|word| word.parse().ok()) {
        let known = known();
        if known.contains(&pid) {
            continue;
        }
        let Some(child) = Pid::from_raw(pid as i32) else { continue };
        let Ok(pidfd) = pidfd_open(child, PidfdFlags::NONBLOCK) else { continue };
        let bury = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(pidfd.as_fd()), bury) {
            Ok(Some(_)) => reaped += 1,
            Ok(None) if patience.is_some_and(|most| age(pid).is_some_and(|age| age > most)) => {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
            _ => {}
        }
    }
    reaped
}

/// How long a process has lived.
fn age(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; the 20th word after it is the start.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let began = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9;
    Duration::try_from_secs_f64(now - began).ok()
}

// === impl Process ===

impl Process {
    /// Takes in a child of this process that another process made ([`crate::clone`]).
    ///
    /// # Errors
    /// It is no pidfd, or not of a child of ours that is still to be buried.
    pub fn adopt(pidfd: OwnedFd) -> io::Result<Self> {
        let mut known = known();
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(pidfd.as_fd()), look)?;
        let flags = rustix::fs::fcntl_getfl(&pidfd)? | rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&pidfd, flags)?;
        let info = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let info = std::fs::read_to_string(info)?;
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        let pid = pid.and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("not the descriptor of a process"))?;
        let process = Self { pid, pidfd };
        known.insert(process.id());
        Ok(process)
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// Whether the process has not ended.
    #[must_use]
    pub fn lives(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::PidFd(self.pidfd.as_fd()), look), Ok(None))
    }

    /// Sends a signal to the process alone. A process that is gone is not an error.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Sends a signal by number, which may be a real-time one.
    pub fn signal_number(&self, number: i32) {
        // JUSTIFICATION: rustix has no safe name for real-time signals.
        // SAFETY: plain numbers and a null pointer, which the call allows.
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                number,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            );
        }
    }

    /// Kills the process and every process of its group.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        // Until it is reaped the group's id cannot be given to another.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }

    /// How the process ended, if it has; only the first answer tells, as it also buries the process.
    /// Its process group is killed first, while its id still cannot be anybody else's.
    ///
    /// # Errors
    /// As `waitid`.
    pub fn try_wait(&self) -> io::Result<Option<Ended>> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::PidFd(self.pidfd.as_fd()), look)?.is_none() {
            return Ok(None);
        }
        let _ = kill_process_group(self.pid, Signal::KILL);
        let bury = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let mut known = known();
        let buried = waitid(WaitId::PidFd(self.pidfd.as_fd()), bury);
        if !matches!(buried, Ok(None)) {
            known.remove(&self.id());
        }
        drop(known);
        let Some(status) = buried? else { return Ok(None) };
        Ok(Some(match status.terminating_signal() {
            Some(signal) => Ended::Killed(signal),
            None => Ended::Exited(status.exit_status().unwrap_or(-1)),
        }))
    }
}

/// The descriptor becomes readable when the process ends.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> i32 {
        self.pidfd.as_raw_fd()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody waits for it any more: end it, and leave no zombie where that needs no waiting.
        if matches!(self.try_wait(), Ok(None)) {
            self.kill();
            // The descriptor is non-blocking, so waitid alone would not wait.
            let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
            let _ = poll(&mut ended, Some(&DEATH));
            if matches!(self.try_wait(), Ok(None)) {
                // It cannot be killed now, and will be buried as a stray.
                known().remove(&self.id());
            }
        }
    }
}

/// The name of a signal: `SIGSEGV`, or `signal 40` where it has none.
#[must_use]
pub fn signal_name(number: i32) -> String {
    let name = match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return format!("signal {number}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::io::Read;

    fn shell(script: &str, descriptors: Vec<OwnedFd>) -> (Process, std::fs::File) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
        let error = write.try_clone().expect("dup");
        let process = spawn(Spawn {
            only_these: false,
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            working_dir: "/".into(),
            environment: vec![("GREETING".into(), "hello".into())],
            output: [write, error],
            descriptors,
        })
        .expect("spawn");
        (process, read.into())
    }

    fn wait(process: &Process) -> Ended {
        loop {
            if let Some(ended) = process.try_wait().expect("waitid") {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_child_gets_its_descriptors_and_reports_its_end() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
        let (process, mut output) = shell("echo $GREETING; echo three >&3; exit 5", vec![write]);
        assert_eq!(wait(&process), Ended::Exited(5));
        let mut text = String::new();
        output.read_to_string(&mut text).expect("output");
        assert_eq!(text, "hello\n");
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).expect("fd 3");
        assert_eq!(text, "three\n");
    }

    /// std's own pipe, by which it hears of the failed exec, may lie anywhere around ours.
    #[test]
    fn a_program_that_is_not_there_is_an_error_wherever_descriptors_lie() {
        for holes in 0..8 {
            let make = || pipe_with(PipeFlags::CLOEXEC).expect("pipe");
            let (output, error, given) = (make(), make(), [make(), make()]);
            let below: Vec<_> = (0..holes).map(|_| make()).collect();
            let above = make();
            let descriptors = match holes % 2 {
                0 => vec![given[0].1.try_clone().expect("dup"), above.1],
                _ => vec![above.1, given[1].1.try_clone().expect("dup")],
            };
            drop(below);
            let missing = spawn(Spawn {
                only_these: false,
                program: "/nowhere/program".into(),
                arguments: vec![],
                working_dir: "/".into(),
                environment: vec![],
                output: [output.1, error.1],
                descriptors,
            });
            let kind = missing.expect_err("no such program").kind();
            assert_eq!(kind, io::ErrorKind::NotFound, "{holes} holes");
        }
    }

    #[test]
    fn a_child_gets_nothing_that_the_host_forgot_to_close() {
        let (read, write) = rustix::pipe::pipe().expect("pipe");
        let high = rustix::io::fcntl_dupfd_cloexec(&write, 50).expect("dup");
        rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).expect("inheritable");
        let (process, _output) = shell("sleep 60", vec![]);
        drop((write, high));
        let mut nothing = Vec::new();
        // Were it open in the child, this would last as long as the child.
        std::fs::File::from(read).read_to_end(&mut nothing).expect("read");
        assert!(matches!(process.try_wait(), Ok(None)));
    }

    /// processes.md 6.3: as the host buries a fork that nobody told it of.
    #[test]
    fn strays_are_buried_or_killed_in_the_end_and_others_left_alone() {
        let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let stray = || {
            let (process, output) = shell("sleep 60", vec![]);
            let (pid, pidfd) = (process.id(), process.pidfd.try_clone().expect("dup"));
            std::mem::forget(process);
            known().remove(&pid);
            (pid, pidfd, output)
        };
        let (mine, _output) = shell("sleep 60", vec![]);
        let (pid, pidfd, _stray_output) = stray();
        assert_eq!(reap_strays(thread, Some(Duration::from_secs(600))), 0, "both live");
        pidfd_send_signal(&pidfd, Signal::KILL).expect("killed");
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&DEATH));
        assert_eq!(reap_strays(thread, None), 1);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        let (pid, pidfd, _stray_output) = stray();
        std::thread::sleep(Duration::from_millis(50));
        reap_strays(thread, Some(Duration::from_millis(10)));
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&DEATH));
        assert_eq!(reap_strays(thread, None), 1);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        assert!(matches!(mine.try_wait(), Ok(None)), "one that is looked after lives");
    }

    #[test]
    fn a_dropped_child_is_ended_and_leaves_no_zombie() {
        let (process, _output) = shell("sleep 60", vec![]);
        let id = process.id();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn killing_a_child_kills_what_it_started() {
        let (process, mut output) = shell("sleep 60 & echo up; wait", vec![]);
        let mut up = [0; 3];
        output.read_exact(&mut up).expect("output");
        process.kill();
        assert_eq!(wait(&process), Ended::Killed(libc::SIGKILL));
        // The pipe ends only when the sleeper, its last writer, is gone too.
        let mut rest = Vec::new();
        output.read_to_end(&mut rest).expect("output");
    }
}
