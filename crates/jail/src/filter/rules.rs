//! Which system calls an isolate may make.
//!
//! A list of what is allowed: a number that nobody thought of is refused, and the host hears of it.
//! What libraries merely try, and can do without, is refused without a record.

use libc::*;

use super::{
    bpf::{Action, Case, Policy, Rule, Test},
    calls::{SYS_CACHESTAT, SYS_MAP_SHADOW_STACK, SYS_MSEAL},
    writers::{self, WRITING},
};

/// The descriptor of an isolate on which it speaks to its host: the only socket that may carry
/// descriptors, that nothing can be put in place of and that cannot be closed.
///
/// Descriptors under way count for the user, so one guest that has many of them under way, on a
/// socket of its own, would take from all others the right to send any.
const CHANNEL: u32 = 3;
/// The descriptors from here to 511 are beyond its limit: it can have what was there before, and
/// open no other.
const PAST_LIMIT: u32 = 256;

/// What the filter depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The process's id, as it sees it itself: the only one it may signal.
    pub(crate) pid: u32,
    /// Files outside are out of sight or on read-only mounts.
    pub(crate) mounts: bool,
    /// From here on addresses are those of the main stack: [`main_stack`].
    pub(crate) stack: u64,
}

/// The lowest address that the main stack of this process can come to, and of its forks; rounded
/// down, so that the filter has few comparisons. To be asked on the main thread.
pub(crate) fn main_stack() -> u64 {
    let here = 0_u8;
    let here = std::ptr::from_ref(&here).addr() as u64;
    here.saturating_sub(MOST_STACK) & !(STACK_STEP - 1)
}

/// What a main stack may grow to.
pub(crate) const MOST_STACK: u64 = 64 << 20;
/// There is nothing else so near to it: the kernel leaves gigabytes free.
const STACK_STEP: u64 = 256 << 20;

/// Harmless with any arguments: they concern this process's memory, descriptors, time and threads.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // Reading and writing what is open.
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev,
    SYS_preadv2, SYS_pwritev2, SYS_lseek, SYS_sendfile, SYS_copy_file_range, SYS_fsync, SYS_fdatasync,
    SYS_ftruncate, SYS_fallocate, SYS_fadvise64, SYS_dup, SYS_getdents64,
    // Looking at files.
    SYS_fstat, SYS_newfstatat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_faccessat, SYS_faccessat2,
    SYS_readlinkat, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_umask, SYS_getxattr, SYS_lgetxattr,
    SYS_fgetxattr, SYS_listxattr, SYS_llistxattr, SYS_flistxattr,
    // Waiting.
    SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2,
    SYS_eventfd2, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime, SYS_pipe2,
    SYS_nanosleep, SYS_clock_nanosleep, SYS_getitimer, SYS_setitimer, SYS_wait4, SYS_waitid,
    SYS_restart_syscall,
    // Memory, which RLIMIT_DATA counts.
    SYS_munmap, SYS_brk, SYS_mincore, SYS_msync, SYS_mlock, SYS_munlock,
    // Signals to itself, threads.
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigpending, SYS_rt_sigtimedwait,
    SYS_rt_sigsuspend, SYS_sigaltstack, SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_getparam,
    SYS_sched_getscheduler, SYS_sched_get_priority_max, SYS_sched_get_priority_min,
    SYS_set_robust_list, SYS_set_tid_address, SYS_rseq, SYS_exit, SYS_exit_group,
    // Who and where it is, what time it is.
    SYS_getpid, SYS_getppid, SYS_gettid, SYS_getpgid, SYS_getsid, SYS_getuid, SYS_geteuid, SYS_getgid,
    SYS_getegid, SYS_getresuid, SYS_getresgid, SYS_getgroups, SYS_getpriority, SYS_getrusage,
    SYS_times, SYS_uname, SYS_sysinfo, SYS_getcpu, SYS_getrandom, SYS_clock_gettime,
    SYS_clock_getres, SYS_gettimeofday,
    // Over sockets that are open already; none can be made but a pair.
    SYS_recvfrom, SYS_recvmsg, SYS_shutdown, SYS_getsockname, SYS_getpeername,
];

/// As above; only the oldest architecture has them.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_ONLY: &[c_long] = &[
    SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_getdents, SYS_poll, SYS_select,
    SYS_epoll_create, SYS_epoll_wait, SYS_eventfd, SYS_pipe, SYS_pause, SYS_alarm, SYS_getpgrp,
    SYS_getrlimit, SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_ONLY: &[c_long] = &[super::calls::SYS_GETRLIMIT];

/// Tried by libraries that can do without: placing memory and threads, copying attributes.
const QUIET: &[(c_long, c_int)] = &[
    (SYS_mbind, EPERM),
    (SYS_get_mempolicy, EPERM),
    (SYS_set_mempolicy, EPERM),
    (SYS_set_mempolicy_home_node, EPERM),
    (SYS_sched_setaffinity, EPERM),
    (SYS_sched_setscheduler, EPERM),
    (SYS_sched_setparam, EPERM),
    (SYS_sched_setattr, EPERM),
    (SYS_setpriority, EPERM),
    (SYS_mlock2, EPERM),
    (SYS_mlockall, EPERM),
    (SYS_munlockall, EPERM),
    (SYS_setxattr, EOPNOTSUPP),
    (SYS_lsetxattr, EOPNOTSUPP),
    (SYS_fsetxattr, EOPNOTSUPP),
    // With these the C library goes back to older calls.
    (SYS_clone3, ENOSYS),
    (SYS_openat2, ENOSYS),
    (SYS_pkey_alloc, ENOSYS),
    (SYS_pkey_free, ENOSYS),
    (SYS_pkey_mprotect, ENOSYS),
    (SYS_futex_waitv, ENOSYS),
    (SYS_CACHESTAT, ENOSYS),
    (SYS_MAP_SHADOW_STACK, ENOSYS),
    (SYS_MSEAL, ENOSYS),
];

/// A thread that shares all that threads share, in the same namespaces, of the same parent.
const THREAD: c_int = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
/// `CLONE_NEWTIME`, which shares its bit with the signal of a child.
const NEWTIME: c_int = 0x80;
const NOT_THREAD: c_int = CLONE_NEWCGROUP
    | CLONE_NEWIPC
    | CLONE_NEWNET
    | CLONE_NEWNS
    | CLONE_NEWPID
    | CLONE_NEWUSER
    | CLONE_NEWUTS
    | CLONE_PARENT
    | CLONE_PIDFD
    | CLONE_PTRACE
    | CLONE_UNTRACED
    | CLONE_VFORK
    | CLONE_IO
    | NEWTIME;

/// Flags of `mmap` that tell whether the memory counts. What grows downwards is a stack to
/// `RLIMIT_DATA`, which does not count these; huge pages are from a pool that all share.
const MAP_COUNTED: c_int = MAP_TYPE | MAP_GROWSDOWN | MAP_HUGETLB;

/// Operations of `futex`: all but those with priority inheritance, which glibc uses only for mutexes
/// that ask for it, and which have had more faults than any other.
const FUTEX: [c_int; 7] = [0, 1, 3, 4, 5, 9, 10];
/// Bits of `futex` beside the operation: private, and by which clock.
const FUTEX_FLAGS: u32 = 128 | 256;

/// Commands of `fcntl`: descriptors, flags, locks, sizes of pipes read and not set, seals. None that
/// sends signals.
const FCNTL: [c_int; 12] = [
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_SETFD,
    F_GETFL,
    F_SETFL,
    F_GETLK,
    F_OFD_GETLK,
    F_GETPIPE_SZ,
    F_GET_SEALS,
    F_ADD_SEALS,
    // F_GETOWN: asked by socket libraries.
    9,
];

/// `ioctl`: is it a terminal and of what size, how much is there to read, block or not, close on
/// exec.
const IOCTL: [u64; 7] = [TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX];
/// Copying files by sharing their blocks, which Python tries first.
const FICLONE: u32 = 0x4004_9409;

/// Names of threads and of memory; what is set already.
const PRCTL: [c_int; 8] = [
    PR_SET_NAME,
    PR_GET_NAME,
    PR_SET_VMA,
    PR_CAPBSET_READ,
    PR_GET_DUMPABLE,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_PDEATHSIG,
    PR_GET_SECCOMP,
];

/// Socket options that can be read: none that tells who is at the other end.
const GETSOCKOPT: [c_int; 7] =
    [SO_TYPE, SO_ERROR, SO_SNDBUF, SO_RCVBUF, SO_PROTOCOL, SO_DOMAIN, SO_ACCEPTCONN];

/// `membarrier`: what is there, and the two that concern no other process.
const MEMBARRIER: [c_int; 3] = [0, 8, 16];

/// `arch_prctl`: what is there, and the wide registers of matrix libraries. None that moves
/// registers of threads that run.
#[cfg(target_arch = "x86_64")]
const ARCH_PRCTL: [c_int; 6] = [0x1003, 0x1004, 0x1021, 0x1022, 0x1023, 0x3001];

/// The rules for an isolate.
pub(crate) fn policy(setting: Setting) -> Policy {
    let mut policy = Policy { rules: Default::default(), otherwise: Action::Notify };
    let mut set = |number: c_long, rule: Rule| {
        let before = policy.rules.insert(number as u32, rule);
        debug_assert!(before.is_none(), "two rules for {number}");
    };
    for number in ALLOWED.iter().chain(ALLOWED_ONLY) {
        set(*number, Rule::always(Action::Allow));
    }
    for (number, errno) in QUIET {
        set(*number, Rule::always(Action::Errno(*errno)));
    }
    // A file of the same user that is open for reading lets its mode be changed.
    let by_mounts = if setting.mounts { Action::Allow } else { Action::Notify };
    set(SYS_fchmod, Rule::always(by_mounts));
    for writer in writers::all() {
        let reads = writer.flags.map(|flags| Test::bits(flags, WRITING, 0));
        set(writer.number, allow(reads.map(|test| vec![test])));
    }
    for (number, rule) in
        memory(setting.stack).into_iter().chain(processes(setting.pid)).chain(descriptors())
    {
        set(number, rule);
    }
    policy
}

fn memory(stack: u64) -> Vec<(c_long, Rule)> {
    let map =
        |kind: c_int, more: c_int| vec![Test::bits(3, (MAP_COUNTED | more) as u64, kind as u64)];
    let advise = [MADV_MERGEABLE, MADV_HWPOISON, MADV_SOFT_OFFLINE];
    vec![
        // Shared memory that is no file's would not count.
        (
            SYS_mmap,
            allow([
                map(MAP_PRIVATE, 0),
                map(MAP_SHARED, MAP_ANONYMOUS),
                map(MAP_SHARED_VALIDATE, MAP_ANONYMOUS),
            ]),
        ),
        // Filled and then made read-only, memory would not count any more: the host keeps account.
        (
            SYS_mprotect,
            allow([vec![Test::bits(2, !PROT_PLAIN | PROT_WRITE as u64, PROT_WRITE as u64)]]),
        ),
        // What grows downwards does not count, and stays so where it is moved to. With no other flag
        // a call concerns one mapping.
        (
            SYS_mremap,
            allow(
                below(0, stack)
                    .map(|place| vec![place, Test::bits(3, !(libc::MREMAP_MAYMOVE as u64), 0)]),
            ),
        ),
        (SYS_madvise, refuse(advise.map(|advice| vec![Test::int(2, advice as u32)]), EPERM)),
        (SYS_futex, allow(FUTEX.map(|op| vec![Test::bits(1, u64::from(!FUTEX_FLAGS), op as u64)]))),
        (
            SYS_membarrier,
            quiet_but(MEMBARRIER.map(|command| vec![Test::int(0, command as u32)]), ENOSYS),
        ),
    ]
}

/// Tests of which one holds if an argument is below a limit, which has no low bits.
fn below(argument: u8, limit: u64) -> impl Iterator<Item = Test> {
    let ones = (0..u64::BITS).filter(move |bit| limit >> bit & 1 == 1);
    // As the limit is above that bit, and 0 where the limit is 1.
    ones.map(move |bit| Test::bits(argument, !0 << bit, limit & (!0 << bit) & !(1 << bit)))
}

/// Signals that programs end themselves by.
const FATAL: [c_int; 10] =
    [SIGABRT, SIGKILL, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGTERM, SIGSYS, SIGQUIT];

/// What protection of memory may be.
const PROT_PLAIN: u64 = (PROT_READ | PROT_WRITE | PROT_EXEC) as u64;

fn processes(pid: u32) -> Vec<(c_long, Rule)> {
    let clone = Test::bits(0, (THREAD | NOT_THREAD) as u32 as u64, THREAD as u64);
    let no_limits = Test::null(2);
    #[allow(unused_mut, reason = "other architectures have no more")]
    let mut rules = vec![
        (SYS_clone, allow([vec![clone]])),
        (SYS_tgkill, to_itself(pid, 2)),
        (SYS_kill, to_itself(pid, 1)),
        (
            SYS_prlimit64,
            allow([vec![Test::int(0, 0), no_limits], vec![Test::int(0, pid), no_limits]]),
        ),
        (SYS_prctl, allow(PRCTL.map(|option| vec![Test::int(0, option as u32)]))),
        // What the personality is.
        (SYS_personality, allow([vec![Test::int(0, u32::MAX)]])),
    ];
    #[cfg(target_arch = "x86_64")]
    rules.push((
        SYS_arch_prctl,
        quiet_but(ARCH_PRCTL.map(|option| vec![Test::int(0, option as u32)]), EINVAL),
    ));
    rules
}

fn descriptors() -> Vec<(c_long, Rule)> {
    let stream = vec![Test::int(0, AF_UNIX as u32), Test::bits(1, 0xF, SOCK_STREAM as u64)];
    let not_channel = |argument| deny([vec![Test::int(argument, CHANNEL)]]);
    let ioctl = IOCTL.map(|request| vec![Test::int(1, request as u32)]);
    let ioctl = Rule {
        cases: allow(ioctl)
            .cases
            .into_iter()
            .chain([Case { tests: vec![Test::int(1, FICLONE)], action: Action::Errno(EOPNOTSUPP) }])
            .collect(),
        otherwise: Action::Notify,
    };
    let getsockopt =
        GETSOCKOPT.map(|option| vec![Test::int(1, SOL_SOCKET as u32), Test::int(2, option as u32)]);
    let high = Test::bits(0, 0xFFFF_FF00, u64::from(PAST_LIMIT));
    let senders = [Test::int(0, CHANNEL), high].map(|test| vec![test]);
    #[allow(unused_mut, reason = "other architectures have no more")]
    let mut rules = vec![
        (SYS_socketpair, allow([stream])),
        // To an address, a pair of datagrams could reach any socket of that kind.
        // Bytes out of band are little used, and have had faults.
        (SYS_sendto, allow([vec![Test::null(4), Test::bits(3, MSG_OOB as u64, 0)]])),
        (SYS_sendmsg, allow(senders)),
        (SYS_getsockopt, allow(getsockopt)),
        (SYS_close, not_channel(0)),
        (SYS_dup3, not_channel(1)),
        (SYS_close_range, deny((0..=CHANNEL).map(|first| vec![Test::int(0, first)]))),
        (SYS_fcntl, allow(FCNTL.map(|command| vec![Test::int(1, command as u32)]))),
        (SYS_ioctl, ioctl),
    ];
    #[cfg(target_arch = "x86_64")]
    rules.push((SYS_dup2, not_channel(1)));
    rules
}

/// Signals to this process. Of those that end one the host is told: the first process of a pid
/// namespace does not get them.
fn to_itself(pid: u32, signal: u8) -> Rule {
    let fatal = FATAL.map(|number| Case {
        tests: vec![Test::int(signal, number as u32)],
        action: Action::Notify,
    });
    let own = Case { tests: vec![Test::int(0, pid)], action: Action::Allow };
    Rule { cases: fatal.into_iter().chain([own]).collect(), otherwise: Action::Notify }
}

/// Allowed in these cases, else refused and recorded.
fn allow(cases: impl IntoIterator<Item = Vec<Test>>) -> Rule {
    let cases = cases.into_iter().map(|tests| Case { tests, action: Action::Allow });
    Rule { cases: cases.collect(), otherwise: Action::Notify }
}

/// Allowed in these cases, else refused without a record.
fn quiet_but(cases: impl IntoIterator<Item = Vec<Test>>, errno: c_int) -> Rule {
    Rule { otherwise: Action::Errno(errno), ..allow(cases) }
}

/// Refused without a record in these cases, else allowed.
fn refuse(cases: impl IntoIterator<Item = Vec<Test>>, errno: c_int) -> Rule {
    let cases = cases.into_iter().map(|tests| Case { tests, action: Action::Errno(errno) });
    Rule { cases: cases.collect(), otherwise: Action::Allow }
}

/// Refused and recorded in these cases, else allowed.
fn deny(cases: impl IntoIterator<Item = Vec<Test>>) -> Rule {
    let cases = cases.into_iter().map(|tests| Case { tests, action: Action::Notify });
    Rule { cases: cases.collect(), otherwise: Action::Allow }
}
