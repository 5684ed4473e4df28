//! Guests against the real kernel, by the program in `jailed`. Each test runs as root, where it can,
//! and as an ordinary user.

#![allow(clippy::print_stderr, reason = "to say what is skipped")]

use std::{
    collections::HashMap,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use exuvia_jail::{Layers, Tier, probe};

const VIEW: &str = "view=/usr:/lib:/lib64:/bin";
/// An ordinary user, for tests that run as root.
const ORDINARY: u32 = 200_001;

const EPERM: &str = "1";
const ENOENT: &str = "2";
const ENOMEM: &str = "12";
const EACCES: &str = "13";
const EROFS: &str = "30";

/// What a host heard of its guest.
#[derive(Debug)]
struct Heard {
    lines: HashMap<String, String>,
    denied: Vec<String>,
    left: Vec<String>,
    whole: String,
}

impl Heard {
    fn of(&self, attempt: &str) -> &str {
        self.lines.get(attempt).unwrap_or_else(|| panic!("no `{attempt}` in\n{}", self.whole))
    }

    #[track_caller]
    fn check(&self, attempts: &[(&str, &str)]) {
        for (attempt, expected) in attempts {
            assert_eq!(self.of(attempt), *expected, "{attempt}\n{}", self.whole);
        }
    }

    fn numbers(&self, attempt: &str) -> Vec<u64> {
        let words = self.of(attempt).trim_start_matches("ok ").split(' ');
        words.map(|word| word.parse().expect("a number")).collect()
    }
}

fn program() -> PathBuf {
    let exe = std::env::current_exe().expect("a path");
    let profile = exe.ancestors().nth(2).expect("target/PROFILE/deps");
    let program = profile.join("examples/jailed");
    assert!(program.exists(), "build it first: cargo build -p exuvia-jail --example jailed");
    program
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn is_full() -> bool {
    probe().tier == Tier::Full
}

fn run(user: Option<u32>, options: &[&str], attempts: &[&str]) -> Heard {
    let mut command = Command::new(program());
    command.args(options).arg(VIEW);
    match user {
        Some(user) => _ = command.uid(user).gid(user),
        None if is_root() => _ = command.arg("user=65534"),
        None => {}
    }
    let output = command.arg("--").args(attempts).output().expect("run");
    let whole = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let mut heard =
        Heard { lines: HashMap::new(), denied: Vec::new(), left: Vec::new(), whole: whole.clone() };
    for line in whole.lines() {
        let Some((what, rest)) = line.split_once(": ").or(line.split_once(':')) else { continue };
        match what {
            "denied" => heard.denied.push(rest.into()),
            "left" => heard.left.push(rest.into()),
            _ => _ = heard.lines.insert(what.into(), rest.trim().into()),
        }
    }
    heard
}

/// As whoever runs the tests, and where that is root, as an ordinary user too.
fn for_each_user(options: &[&str], attempts: &[&str], check: impl Fn(&Heard)) {
    if !options.contains(&"tier=reduced") && !is_full() {
        return eprintln!("skipped: this machine does not have the full tier");
    }
    for user in [None, Some(ORDINARY)].into_iter().take(if is_root() { 2 } else { 1 }) {
        check(&run(user, options, attempts));
    }
}

/// Runs each attempt, and expects it to come out so.
fn expect(options: &[&str], attempts: &[(&str, &str)]) {
    let names: Vec<_> = attempts.iter().map(|(attempt, _)| *attempt).collect();
    for_each_user(options, &names, |heard| heard.check(attempts));
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("everybody's");
    dir
}

fn option(key: &str, path: &Path) -> String {
    format!("{key}={}", path.display())
}

#[test]
fn a_guest_sees_the_view_and_nothing_else() {
    let secret = folder();
    fs::write(secret.path().join("secret"), "x").expect("written");
    let read = format!("read {}/secret", secret.path().display());
    expect(
        &[],
        &[
            (&read, ENOENT),
            ("read /etc/shadow", ENOENT),
            ("list /", EACCES),
            ("list /proc", EACCES),
            ("list /.bundles", ENOENT),
            ("list /session", "ok"),
            ("list /app", "ok"),
            ("read /dev/zero", ENOENT),
            ("write /dev/null", "ok"),
            ("list /root", ENOENT),
        ],
    );
    for_each_user(&[], &["list /usr/bin", "read /etc/group"], |heard| {
        assert!(heard.of("list /usr/bin").contains("env"));
        assert!(heard.of("read /etc/group").contains("isolate"));
        assert!(heard.denied.is_empty(), "{heard:?}");
    });
}

#[test]
fn links_of_the_view_lead_where_they_lead_outside() {
    let dir = folder();
    let real = dir.path().join("real");
    fs::create_dir(&real).expect("made");
    fs::write(real.join("text"), "here").expect("written");
    std::os::unix::fs::symlink("real", dir.path().join("link")).expect("linked");
    let view = option("view", &dir.path().join("link/text"));
    let view = format!("{view}:/usr:/lib:/lib64:/bin");
    let [by_link, beside] =
        ["link/text", "other"].map(|name| format!("read {}/{name}", dir.path().display()));
    for_each_user(&[], &[], |_| ());
    if is_full() {
        let output = Command::new(program())
            .args(is_root().then_some("user=65534"))
            .args([view.as_str(), "--", &by_link, &beside])
            .output()
            .expect("run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(&format!("{by_link}: ok here")), "{text}");
        assert!(text.contains(&format!("{beside}: {ENOENT}")), "{text}");
    }
}

#[test]
fn a_bundle_is_at_app_and_no_other_is_there() {
    let store = folder();
    for name in ["mine", "other"] {
        fs::create_dir(store.path().join(name)).expect("made");
        fs::write(store.path().join(name).join("file"), name).expect("written");
    }
    let store = option("store", store.path());
    expect(
        &[&store, "bundle=mine"],
        &[
            ("read /app/file", "ok mine"),
            ("write /app/new", EROFS),
            ("list /.bundles", EACCES),
            ("read /.bundles/other/file", ENOENT),
            ("read /app/../.bundles/mine/file", ENOENT),
        ],
    );
    for bad in ["bundle=..", "bundle=mine/../other", "bundle=.", "bundle=/etc", "bundle="] {
        for_each_user(&[&store, bad], &["sys 39"], |heard| {
            assert!(heard.whole.contains("isolate: the bundle"), "{bad}: {heard:?}");
        });
    }
}

#[test]
fn what_is_written_goes_to_the_session_and_is_bounded_in_bytes_and_names() {
    let attempts =
        ["write /session/a", "write /tmp/b", "write /usr/x", "fill /session/big", "files /session"];
    for_each_user(&["bytes=65536", "inodes=10"], &attempts, |heard| {
        heard.check(&[("write /session/a", "ok"), ("write /tmp/b", "ok"), ("write /usr/x", EROFS)]);
        assert_eq!(heard.numbers("fill /session/big"), [65536 - 2 * 4096, 28]);
        assert_eq!(heard.numbers("files /session"), [7, 28]);
        assert_eq!(heard.numbers("usage"), [65536, 65536, 11, 11]);
        assert!(heard.left.contains(&"a 5".to_owned()), "{heard:?}");
        assert_eq!(heard.denied, ["openat /usr/x by true"]);
    });
}

#[test]
fn without_a_session_every_write_is_refused_and_recorded() {
    let attempts = ["write /session/a", "sys 263 -100 @/usr/bin/env 0", "chdir /usr", "write b"];
    for_each_user(&[], &attempts, |heard| {
        heard.check(&[("write /session/a", EROFS), ("write b", EROFS)]);
        let denied =
            ["openat /session/a by true", "unlinkat /usr/bin/env by true", "openat b by true"];
        assert_eq!(heard.denied, denied);
    });
}

/// Numbers of system calls, by name.
macro_rules! sys {
    ($name:ident $($rest:literal)?) => { format!(concat!("sys {}", $($rest)?), libc::$name) };
}

#[test]
fn each_class_of_calls_is_refused_and_its_name_recorded() {
    let refused = [
        ("ptrace", sys!(SYS_ptrace " 16902 1 0 0")),
        ("process_vm_readv", sys!(SYS_process_vm_readv " 1 0 0 0 0 0")),
        ("pidfd_open", sys!(SYS_pidfd_open " 1 0")),
        ("kill", sys!(SYS_kill " -1 0")),
        ("kill", sys!(SYS_kill " 0 9")),
        ("tkill", sys!(SYS_tkill " 1 9")),
        ("tgkill", sys!(SYS_tgkill " 2 2 9")),
        ("clone", sys!(SYS_clone " 17 0 0 0 0")),
        ("clone", sys!(SYS_clone " 0x10000000 0 0 0 0")),
        ("unshare", sys!(SYS_unshare " 0x10000000")),
        ("setns", sys!(SYS_setns " 0 0")),
        ("execve", sys!(SYS_execve " @/usr/bin/env 0 0")),
        ("socket", sys!(SYS_socket " 1 1 0")),
        ("socket", sys!(SYS_socket " 2 1 0")),
        ("socket", sys!(SYS_socket " 16 3 0")),
        ("socketpair", sys!(SYS_socketpair " 1 2 0 #8")),
        ("setsockopt", sys!(SYS_setsockopt " 3 1 7 #4 4")),
        ("mount", sys!(SYS_mount " @none @/session @tmpfs 0 0")),
        ("umount2", sys!(SYS_umount2 " @/proc 2")),
        ("open_tree", sys!(SYS_open_tree " -100 @/ 1")),
        ("memfd_create", sys!(SYS_memfd_create " @x 0")),
        ("shmget", sys!(SYS_shmget " 0 4096 512")),
        ("userfaultfd", sys!(SYS_userfaultfd " 1")),
        ("io_uring_setup", sys!(SYS_io_uring_setup " 4 #120")),
        ("bpf", sys!(SYS_bpf " 0 0 0")),
        ("keyctl", sys!(SYS_keyctl " 0 -3 0")),
        ("prctl", sys!(SYS_prctl " 4 1 0 0 0")),
        ("prctl", sys!(SYS_prctl " 1 0 0 0 0")),
        ("personality", sys!(SYS_personality " 0x40000")),
        ("prlimit64", sys!(SYS_prlimit64 " 0 2 #16 0")),
        ("fcntl", sys!(SYS_fcntl " 3 8 1")),
        ("fcntl", sys!(SYS_fcntl " 3 1031 1048576")),
        ("ioctl", sys!(SYS_ioctl " 0 0x5412 @x")),
        ("sendmsg", sys!(SYS_sendmsg " 7 #56 0")),
        ("close", sys!(SYS_close " 3")),
        ("dup3", sys!(SYS_dup3 " 0 3 0")),
        ("close_range", sys!(SYS_close_range " 0 100 0")),
        ("splice", sys!(SYS_splice " 0 0 0 0 0 0")),
        ("name_to_handle_at", sys!(SYS_name_to_handle_at " -100 @/ #16 #4 0")),
        ("seccomp", sys!(SYS_seccomp " 2 0 #4")),
        ("flock", sys!(SYS_flock " 0 2")),
        ("syscall 999", "sys 999".to_owned()),
    ];
    let attempts: Vec<_> = refused.iter().map(|(_, attempt)| attempt.as_str()).collect();
    for_each_user(&[], &attempts, |heard| {
        for attempt in &attempts {
            assert_eq!(heard.of(attempt), EPERM, "{attempt}");
        }
        let names: Vec<_> = heard.denied.iter().map(|line| line.split(" ").next()).collect();
        let expected: Vec<_> = refused.iter().map(|(name, _)| name.split(' ').next()).collect();
        assert_eq!(names, expected);
        assert!(heard.denied.contains(&"execve /usr/bin/env by true".to_owned()), "{heard:?}");
    });
}

#[test]
fn what_libraries_merely_try_is_refused_without_a_record() {
    let attempts = [
        (sys!(SYS_clone3 " #88 88"), "38"),
        (sys!(SYS_openat2 " -100 @/ #24 24"), "38"),
        (sys!(SYS_mbind " 0 0 0 0 0 0"), EPERM),
        (sys!(SYS_sched_setaffinity " 0 0 0"), EPERM),
        (sys!(SYS_fsetxattr " 0 @user.x @x 1 0"), "95"),
    ];
    let names: Vec<_> = attempts.iter().map(|(attempt, _)| attempt.as_str()).collect();
    for_each_user(&[], &names, |heard| {
        for (attempt, errno) in &attempts {
            assert_eq!(heard.of(attempt), *errno, "{attempt}");
        }
        assert!(heard.denied.is_empty(), "{heard:?}");
    });
}

#[test]
fn memory_is_limited_and_every_way_around_it_is_shut() {
    expect(
        &["memory=67108864"],
        &[
            ("map 50000000 3 34", "ok"),
            ("map 50000000 3 0x22", ENOMEM),
            ("map 4096 3 0x21", EPERM),
            ("map 4096 3 0x122", EPERM),
            ("map 4096 3 0x40022", EPERM),
            ("mapfile /dev/zero 4096 1", ENOENT),
            ("mapfile /usr/bin/env 4096 1", "ok"),
        ],
    );
    // Filled, then unwritable: it would not count any more.
    for_each_user(&["memory=67108864"], &["freeze 4000000 1000"], |heard| {
        let numbers = heard.numbers("freeze 4000000 1000");
        assert!(numbers[0] <= 256 << 20, "{numbers:?}");
        assert_eq!(numbers[1], 12);
        assert!(heard.denied.is_empty(), "{heard:?}");
    });
}

#[test]
fn the_host_grants_more_memory_or_less_while_the_guest_lives() {
    expect(&["memory=67108864", "grant=134217728"], &[("map 100000000 3 34", "ok")]);
    expect(&["memory=67108864", "grant=16777216"], &[("map 50000000 3 34", ENOMEM)]);
}

#[test]
fn threads_are_limited_for_each_guest() {
    for_each_user(&["threads=8"], &["threads 50"], |heard| {
        assert_eq!(heard.numbers("threads 50"), [7, 11]);
    });
}

#[test]
fn the_host_measures_the_processor_time_of_a_guest() {
    for_each_user(&[], &["spin 200"], |heard| {
        let used = heard.numbers("cpu")[0];
        assert!(used > 20_000, "{used}");
    });
}

#[test]
fn a_guest_that_ends_itself_is_seen_to() {
    for_each_user(&[], &["abort"], |heard| {
        assert_eq!(heard.denied.first().map(String::as_str), Some("tgkill - by true raised 6"));
    });
    for_each_user(&[], &["sys -1"], |heard| {
        if cfg!(target_arch = "x86_64") {
            assert_eq!(heard.of("ended"), "signal 31");
        }
    });
}

#[test]
fn it_is_the_first_process_it_can_see_and_has_no_rights() {
    let attempts = [
        sys!(SYS_getpid),
        sys!(SYS_getppid),
        sys!(SYS_prctl " 39 0 0 0 0"),
        sys!(SYS_prctl " 3 0 0 0 0"),
    ];
    let names: Vec<_> = attempts.iter().map(String::as_str).collect();
    for_each_user(&[], &names, |heard| {
        heard.check(&[(names[0], "ok 1"), (names[1], "ok 0"), (names[2], "ok 1")]);
    });
}

/// Seccomp off: Landlock and the mounts hold alone. Landlock off too: the mounts do.
#[test]
fn files_are_shut_by_more_than_one_layer() {
    let outside = folder();
    fs::write(outside.path().join("secret"), "x").expect("written");
    let read = format!("read {}/secret", outside.path().display());
    for layers in
        [Layers::SECCOMP, Layers::from_bits(Layers::SECCOMP.bits() | Layers::LANDLOCK.bits())]
    {
        let without = format!("without={}", layers.bits());
        expect(
            &[&without],
            &[
                (&read, ENOENT),
                ("write /usr/x", EROFS),
                ("list /proc", if layers == Layers::SECCOMP { EACCES } else { "ok" }),
            ],
        );
    }
}

#[test]
fn without_namespaces_contents_are_shut_and_one_folder_is_writable() {
    let (session, outside) = (folder(), folder());
    let secret = outside.path().join("secret");
    fs::write(&secret, "x").expect("written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o666)).expect("everybody's");
    let path = |verb: &str, path: &Path| format!("{verb} {}", path.display());
    let inside = session.path().join("mine");
    let attempts = [
        (path("read", &secret), EACCES),
        (path("write", &secret), EACCES),
        (path("write", &inside), "ok"),
        (format!("sys {} -100 @{} 0", libc::SYS_fchmodat, inside.display()), EPERM),
        (format!("sys {} @{} 0", libc::SYS_truncate, secret.display()), EPERM),
        (sys!(SYS_socket " 2 1 0"), EPERM),
        (sys!(SYS_kill " 1 0"), EPERM),
    ];
    let names: Vec<_> = attempts.iter().map(|(attempt, _)| attempt.as_str()).collect();
    let folder = option("folder", session.path());
    for_each_user(&["tier=reduced", &folder, "bytes=65536"], &names, |heard| {
        for (attempt, expected) in &attempts {
            assert_eq!(heard.of(attempt), *expected, "{attempt}\n{}", heard.whole);
        }
        assert_eq!(heard.denied.len(), 5, "{heard:?}");
        fs::remove_file(&inside).expect("left by the guest");
    });
    let big = path("fill", &inside);
    for_each_user(&["tier=reduced", &folder, "bytes=65536"], &[&big], |heard| {
        assert_eq!(heard.numbers(&big), [65536, 27]);
        fs::remove_file(&inside).expect("left by the guest");
    });
}

#[test]
fn root_never_stays_root() {
    if !is_root() {
        return eprintln!("skipped: not root");
    }
    for options in [&["user=0"] as &[&str], &[]] {
        let output = Command::new(program()).args(options).args([VIEW, "--", "sys 39"]).output();
        let text = String::from_utf8_lossy(&output.expect("run").stdout).into_owned();
        assert!(text.starts_with("image: user"), "{text}");
    }
}

#[test]
fn the_probe_names_each_layer_once() {
    let support = probe();
    let names: std::collections::BTreeSet<_> =
        support.layers.iter().map(|layer| layer.name).collect();
    assert_eq!(names.len(), support.layers.len());
    let is_up = support.layers.iter().all(|layer| layer.up);
    assert_eq!(is_up, support.tier == Tier::Full, "{support:?}");
    eprintln!("{support:#?}");
}
