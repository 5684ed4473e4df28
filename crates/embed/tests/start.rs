//! Starting the interpreter, and being told why it was not.
#![cfg(exuvia_libpython)]

mod support;

use std::{
    env, fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use exuvia_embed::{EnvError, Interpreter, Options, StartError, pyo3::prelude::*};

/// Set in the process that a test has for itself.
const ALONE: &str = "EXUVIA_TEST_ALONE";

/// The tests below that start an interpreter do it in a process of their own: there is but one in
/// each. Whether this is that process.
fn is_alone() -> bool {
    env::var_os(ALONE).is_some()
}

/// Runs the test `name` in a process of its own, where [`is_alone`], and returns what it printed.
fn alone(name: &str, set: &[(&str, &Path)]) -> String {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", name, "--nocapture"]).env(ALONE, "1").env_remove("VIRTUAL_ENV");
    // Such as PYTHONUNBUFFERED, with which nothing is left to be written.
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"PYTHON")) {
        command.env_remove(name);
    }
    let output = command.envs(set.iter().copied()).output().expect("it runs");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    assert!(stdout.contains("1 passed"), "no such test:\n{stdout}");
    stdout
}

fn options(python: impl Into<PathBuf>) -> Options {
    Options { python: Some(python.into()) }
}

/// A program that answers as a Python with these facts would.
fn pretender(folder: &Path, facts: &str) -> PathBuf {
    let path = folder.join("python");
    // Another process writes it: what this one held open for writing, a child that another test
    // starts meanwhile would hold too, and nothing could run it ("text file busy").
    let status = Command::new("sh")
        .args(["-c", "printf %s \"$2\" > \"$1\" && chmod 755 \"$1\"", "-"])
        .arg(&path)
        .arg(format!("#!/bin/sh\necho '{facts}'\n"))
        .status();
    assert!(status.expect("a shell").success());
    path
}

fn string(py: Python<'_>, code: &std::ffi::CStr) -> String {
    py.eval(code, None, None).expect("it evaluates").extract().expect("a string")
}

// === a virtual environment ===

#[test]
fn a_virtual_environment_is_honoured() {
    if is_alone() {
        return in_the_environment();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let python = support::make_environment(folder.path());
    alone("a_virtual_environment_is_honoured", &[("NAMED", &python), ("PREFIX", folder.path())]);
}

#[test]
fn an_environment_is_found_by_letters_beyond_ascii_in_any_locale() {
    if is_alone() {
        return in_the_environment();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let prefix = folder.path().join("ümgebung");
    let python = support::make_environment(&prefix);
    for locale in ["C", "C.UTF-8"] {
        let locale = ("LC_ALL", Path::new(locale));
        alone(
            "an_environment_is_found_by_letters_beyond_ascii_in_any_locale",
            &[("NAMED", &python), ("PREFIX", &prefix), locale],
        );
    }
}

#[test]
fn an_activated_environment_is_taken_where_none_is_named() {
    if is_alone() {
        return in_the_environment();
    }
    let folder = tempfile::tempdir().expect("a folder");
    support::make_environment(folder.path());
    alone(
        "an_activated_environment_is_taken_where_none_is_named",
        &[("VIRTUAL_ENV", folder.path()), ("PREFIX", folder.path())],
    );
}

#[test]
fn an_environment_may_be_named_by_its_folder() {
    if is_alone() {
        return in_the_environment();
    }
    let folder = tempfile::tempdir().expect("a folder");
    support::make_environment(folder.path());
    alone(
        "an_environment_may_be_named_by_its_folder",
        &[("NAMED", folder.path()), ("PREFIX", folder.path())],
    );
}

fn in_the_environment() {
    let named = env::var_os("NAMED").map(PathBuf::from);
    let prefix = PathBuf::from(env::var_os("PREFIX").expect("it is given"));
    let packages = site_packages(&prefix);
    fs::write(packages.join("only_here.py"), "answer = 'yes'").expect("a module");
    let python = Interpreter::start(&Options { python: named }).expect("it starts");
    assert_eq!(python.environment().prefix, prefix);
    python.attach(|py| {
        assert_eq!(Path::new(&string(py, c"__import__('sys').prefix")), prefix);
        let executable = string(py, c"__import__('sys').executable");
        assert_eq!(Path::new(&executable), prefix.join("bin/python"));
        assert_eq!(string(py, c"__import__('only_here').answer"), "yes");
        // The standard library is the installation's, not looked for in the environment.
        let library = string(py, c"__import__('os').__file__");
        assert!(!Path::new(&library).starts_with(&prefix), "{library}");
    });
}

fn site_packages(prefix: &Path) -> PathBuf {
    let mut versions = fs::read_dir(prefix.join("lib")).expect("an environment");
    versions.next().expect("a version").expect("readable").path().join("site-packages")
}

// === once ===

#[test]
fn a_process_has_one_interpreter() {
    if is_alone() {
        return only_the_first_start_succeeds();
    }
    alone("a_process_has_one_interpreter", &[]);
}

fn only_the_first_start_succeeds() {
    // One that failed is none.
    let error = Interpreter::start(&options("/nowhere/python")).expect_err("it is not there");
    assert!(matches!(error, StartError::Unusable(EnvError::Missing { .. })), "{error}");
    let starts =
        [(); 4].map(|()| std::thread::spawn(|| Interpreter::start(&options(support::python()))));
    let started: Vec<_> = starts.map(|thread| thread.join().expect("no panic")).into();
    let running = started.iter().filter(|started| started.is_ok()).count();
    assert_eq!(running, 1, "{started:?}");
    for started in &started {
        assert!(matches!(started, Ok(_) | Err(StartError::AlreadyRunning)), "{started:?}");
    }
    let again = Interpreter::start(&Options::default()).expect_err("there is one");
    assert!(again.to_string().contains("already"), "{again}");
}

// === what is refused ===

#[test]
fn another_version_is_refused_and_both_are_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let python = pretender(
        folder.path(),
        r#"{"version": [3, 99, 1], "implementation": "cpython", "executable": "/there/python",
            "prefix": "/there", "base_prefix": "/usr", "free_threaded": false,
            "pointer_size": 8}"#
            .replace('\n', "")
            .as_str(),
    );
    let error = Interpreter::start(&options(python)).expect_err("there is no 3.99 here");
    let StartError::OtherVersion { linked, .. } = &error else { panic!("{error}") };
    let text = error.to_string();
    assert!(text.starts_with("/there/python is Python 3.99.1, but this program"), "{text}");
    assert!(text.contains(&format!("linked with Python {linked}\n")), "{text}");
    assert!(linked.starts_with("3."), "{linked}");
}

#[test]
fn what_is_no_python_is_refused_with_what_it_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let python = pretender(folder.path(), "hello");
    let error = Interpreter::start(&options(&python)).expect_err("it is none");
    let text = error.to_string();
    assert!(text.starts_with(&format!("{} (from `Options::python`)", python.display())), "{text}");
    assert!(text.contains("hello"), "{text}");
    // The command's flag is of no use to who calls a function.
    assert!(!text.contains("--python"), "{text}");
}

// === living with the rest of the program ===

#[test]
fn the_program_keeps_its_signals() {
    if is_alone() {
        return signals_are_as_before();
    }
    alone("the_program_keeps_its_signals", &[]);
}

fn signals_are_as_before() {
    let before = signals();
    let python = Interpreter::start(&options(support::python())).expect("it starts");
    python.attach(|py| py.import("signal").map(drop).expect("it imports"));
    assert_eq!(signals(), before);
}

/// The signals that are ignored and those that are caught, as the kernel has them.
fn signals() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").expect("it runs");
    let masks =
        status.lines().filter(|line| line.starts_with("SigIgn") || line.starts_with("SigCgt"));
    masks.map(str::to_owned).collect()
}

#[test]
fn what_python_printed_is_written_when_the_interpreter_is_dropped() {
    if is_alone() {
        return python_prints();
    }
    let printed = alone("what_python_printed_is_written_when_the_interpreter_is_dropped", &[]);
    assert!(printed.contains("printed by Python"), "{printed}");
}

fn python_prints() {
    let python = Interpreter::start(&options(support::python())).expect("it starts");
    python.attach(|py| py.run(c"print('printed by Python')", None, None)).expect("it prints");
}

#[test]
fn any_thread_may_attach_and_other_threads_run_meanwhile() {
    if is_alone() {
        return threads_attach();
    }
    alone("any_thread_may_attach_and_other_threads_run_meanwhile", &[]);
}

fn threads_attach() {
    let python = Interpreter::start(&options(support::python())).expect("it starts");
    // The thread that started it is not attached, or these would wait for ever.
    let sum: u64 = std::thread::scope(|scope| {
        let threads = [1_u64, 2, 3].map(|n| {
            let python = &python;
            scope.spawn(move || python.attach(|py| add_up(py, n)))
        });
        threads.map(|thread| thread.join().expect("no panic")).iter().sum()
    });
    assert_eq!(sum, 6 * 499_500);
}

fn add_up(py: Python<'_>, n: u64) -> u64 {
    let sum = py.import("builtins").expect("it is there").getattr("sum").expect("it is there");
    let numbers: Vec<u64> = (0..1000).map(|i| i * n).collect();
    sum.call1((numbers,)).expect("it adds").extract().expect("a number")
}
