//! The program against what it was made of.

use proptest::prelude::*;

use super::{
    super::{calls, rules, rules::Setting, writers},
    *,
};

/// Runs a program as the kernel does, on `struct seccomp_data`.
fn run(program: &[sock_filter], arch: u32, number: u32, arguments: &[u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_ne_bytes());
    data.extend(arch.to_ne_bytes());
    data.extend(0_u64.to_ne_bytes());
    data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        match u32::from(code) {
            0x20 => {
                let word = &data[k as usize..k as usize + 4];
                accumulator = u32::from_ne_bytes(word.try_into().expect("four bytes"));
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x35 => at += jump(accumulator >= k),
            0x06 => return k,
            code => panic!("no such instruction: {code:#x}"),
        }
    }
}

/// Where the main stack begins, as an example.
const STACK: u64 = 0x7ffc_5000_0000;

fn settings() -> impl Iterator<Item = Setting> {
    [1, 4711]
        .into_iter()
        .flat_map(|pid| [true, false].map(|mounts| Setting { pid, mounts, stack: STACK }))
}

/// Arguments on which some test of the policy depends, and their neighbours.
fn interesting(rule: Option<&Rule>) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6], [u64::MAX; 6], [1; 6], [1 << 32; 6]];
    let tests = rule.iter().flat_map(|rule| rule.cases.iter()).map(|case| &case.tests);
    for tests in tests {
        let mut fitting = [0; 6];
        for test in tests {
            fitting[usize::from(test.argument)] |= test.value;
        }
        all.push(fitting);
        for test in tests {
            for bit in 0..64 {
                let mut other = fitting;
                other[usize::from(test.argument)] ^= 1 << bit;
                all.push(other);
            }
        }
    }
    all
}

#[test]
fn the_tree_says_of_every_number_and_argument_what_the_list_says() {
    for setting in settings() {
        let policy = rules::policy(setting);
        let program = policy.compile();
        let numbers = (0..1100).chain([X32 - 1, X32, X32 + 1, u32::MAX]);
        for number in numbers {
            for arguments in interesting(policy.rules.get(&number)) {
                let said = run(&program, ARCHITECTURE, number, &arguments);
                let meant = policy.decide(number, &arguments).code();
                assert_eq!(said, meant, "{number} {arguments:x?} {setting:?}");
            }
        }
    }
}

#[test]
fn another_architecture_is_killed_whatever_it_calls() {
    let program = rules::policy(Setting { pid: 1, mounts: true, stack: STACK }).compile();
    for number in 0..500 {
        for arch in [0, 0x4000_0003, !ARCHITECTURE] {
            assert_eq!(run(&program, arch, number, &[0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
        }
    }
}

#[test]
fn the_program_fits_the_kernel() {
    for setting in settings() {
        let length = rules::policy(setting).compile().len();
        assert!(length < libc::BPF_MAXINSNS as usize, "{length}");
    }
}

/// What no isolate may do, whatever the arguments: never allowed by number.
#[test]
fn what_leaves_the_process_is_on_no_list() {
    let policy = rules::policy(Setting { pid: 1, mounts: true, stack: STACK });
    let all = interesting(None);
    #[rustfmt::skip]
    let never = [
        "execve", "execveat", "fork", "vfork", "socket", "connect", "bind", "listen", "accept",
        "accept4", "sendmmsg", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open",
        "pidfd_getfd", "pidfd_send_signal", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "unshare",
        "setns", "mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen",
        "fsmount", "mount_setattr", "memfd_create", "memfd_secret", "shmget", "shmat", "msgget",
        "semget", "mq_open", "userfaultfd", "io_uring_setup", "io_setup", "bpf", "perf_event_open",
        "keyctl", "add_key", "request_key", "seccomp", "landlock_restrict_self", "setrlimit", "kcmp",
        "name_to_handle_at", "open_by_handle_at", "quotactl", "init_module", "reboot", "swapon",
        "inotify_init1", "fanotify_init", "splice", "tee", "vmsplice", "remap_file_pages",
        "process_madvise", "timer_create", "setuid", "setgid", "capset", "setsockopt", "mknodat",
        "fchownat", "flock", "syslog", "acct", "sethostname",
    ];
    for name in never {
        let numbers = (0..500).filter(|number| calls::name(*number) == name);
        for number in numbers {
            for arguments in &all {
                let action = policy.decide(number as u32, arguments);
                assert_eq!(action, Action::Notify, "{name} {arguments:x?}");
            }
        }
    }
}

#[test]
fn each_writer_is_asked_about_when_it_writes_and_only_then() {
    let policy = rules::policy(Setting { pid: 1, mounts: true, stack: STACK });
    for writer in writers::all() {
        let mut reading = [0; 6];
        assert_eq!(
            policy.decide(writer.number as u32, &reading) == Action::Allow,
            writer.flags.is_some(),
            "{}",
            writer.number
        );
        for flag in
            [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE | 2]
        {
            if let Some(flags) = writer.flags {
                reading[usize::from(flags)] = flag as u64;
            }
            assert_eq!(policy.decide(writer.number as u32, &reading), Action::Notify);
        }
    }
}

fn any_test() -> impl Strategy<Value = Test> {
    let mask = prop_oneof![Just(u64::MAX), Just(0xFFFF_FFFF), Just(0), any::<u64>(), 0_u64..16];
    (0_u8..6, mask, prop_oneof![any::<u64>(), 0_u64..4])
        .prop_map(|(argument, mask, value)| Test::bits(argument, mask, value))
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Notify),
        Just(Action::Kill),
        (1_i32..100).prop_map(Action::Errno)
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let case = (prop::collection::vec(any_test(), 0..7), any_action())
        .prop_map(|(tests, action)| Case { tests, action });
    (prop::collection::vec(case, 0..5), any_action())
        .prop_map(|(cases, otherwise)| Rule { cases, otherwise })
}

proptest! {
    #[test]
    fn any_policy_is_compiled_to_what_it_says(
        rules in prop::collection::btree_map(0_u32..300, any_rule(), 0..80),
        otherwise in any_action(),
        calls in prop::collection::vec((0_u32..310, prop::array::uniform6(prop_oneof![any::<u64>(), 0_u64..4])), 20),
    ) {
        let policy = Policy { rules, otherwise };
        let program = policy.compile();
        for (number, arguments) in calls {
            prop_assert_eq!(
                run(&program, ARCHITECTURE, number, &arguments),
                policy.decide(number, &arguments).code()
            );
        }
    }
}

#[test]
fn the_main_stack_cannot_be_moved_and_all_that_is_below_it_can() {
    let policy = rules::policy(Setting { pid: 1, mounts: true, stack: STACK });
    let decide = |address: u64, flags: u64| {
        policy.decide(libc::SYS_mremap as u32, &[address, 4096, 8192, flags, 0, 0])
    };
    let moves = libc::MREMAP_MAYMOVE as u64;
    for below in [0, 4096, 0x5555_5555_0000, STACK >> 1, STACK - 4096, STACK - 1] {
        assert_eq!(decide(below, moves), Action::Allow, "{below:x}");
        assert_eq!(decide(below, 0), Action::Allow, "{below:x}");
        // These may concern several mappings.
        assert_eq!(decide(below, moves | libc::MREMAP_FIXED as u64), Action::Notify);
        assert_eq!(decide(below, moves | libc::MREMAP_DONTUNMAP as u64), Action::Notify);
    }
    for there in [STACK, STACK + 1, STACK + (64 << 20), 0x7fff_ffff_f000, u64::MAX] {
        assert_eq!(decide(there, moves), Action::Notify, "{there:x}");
    }
}
