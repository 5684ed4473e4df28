//! The search, with shell scripts in the place of interpreters.
#![cfg(unix)]

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use exuvia_env::{EnvError, Environment, Origin, Request, find};
use tempfile::TempDir;

/// Held while a script is written and while one is started: a child that is just being forked
/// holds every open file, and a script that is open for writing cannot be run.
static GATE: Mutex<()> = Mutex::new(());

/// A folder for one test, with the request being built.
struct Bench {
    folder: TempDir,
    explicit: Option<(PathBuf, String)>,
    running: Option<PathBuf>,
    installed: Option<PathBuf>,
    targets: Vec<PathBuf>,
    env: HashMap<String, OsString>,
    limit: Duration,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::create_dir(folder.path().join("here")).expect("a working folder");
        Self {
            folder,
            explicit: None,
            running: None,
            installed: None,
            targets: Vec::new(),
            env: HashMap::new(),
            limit: Duration::from_secs(20),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A fake interpreter that answers with `answer`.
    fn python(&self, name: &str, answer: &str) -> PathBuf {
        self.script(name, &format!("echo '{answer}'"))
    }

    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        let _gate = GATE.lock();
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        path
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.insert(name.into(), value.into());
    }

    fn choose(&mut self, path: impl Into<PathBuf>) {
        self.explicit = Some((path.into(), "--python".into()));
    }

    fn find(&self) -> Result<Environment, EnvError> {
        let _gate = GATE.lock();
        find(&Request {
            explicit: self.explicit.clone(),
            running: self.running.clone(),
            installed: self.installed.clone(),
            targets: &self.targets,
            cwd: self.path("here"),
            env: &|name| self.env.get(name).cloned(),
            limit: self.limit,
        })
    }

    fn found(&self) -> (PathBuf, Origin) {
        let found = self.find().unwrap_or_else(|error| panic!("{error}"));
        (found.executable, found.origin)
    }

    /// The error's text with the temporary folder's name taken out.
    fn error(&self) -> String {
        let error = self.find().expect_err("an error");
        error.to_string().replace(&self.folder.path().display().to_string(), "")
    }
}

fn answer(version: &str, more: &str) -> String {
    format!(
        r#"{{"version": [{version}], "implementation": "cpython", "executable": "", "prefix": "/p", "base_prefix": "/b", "free_threaded": false, "pointer_size": {}{more}}}"#,
        size_of::<usize>()
    )
}

fn good() -> String {
    answer("3, 13, 0", "")
}

#[test]
fn places_are_looked_at_in_order() {
    let mut bench = Bench::new();
    let on_path = bench.python("bin/python3", &good());
    bench.set("PATH", bench.path("bin"));
    assert_eq!(bench.found(), (on_path, Origin::Path));

    let installed = bench.python("installed/bin/python", &good());
    bench.installed = Some(installed.clone());
    assert_eq!(bench.found(), (installed, Origin::Installed));

    let in_cwd = bench.python("here/.venv/bin/python", &good());
    assert_eq!(bench.found(), (in_cwd, Origin::WorkingFolder));

    bench.targets = vec![bench.path("here/app/inner")];
    fs::create_dir_all(&bench.targets[0]).expect("folders");
    let beside = bench.python("here/app/.venv/bin/python", &good());
    assert_eq!(bench.found(), (beside, Origin::BesideTarget));

    let active = bench.python("active/bin/python", &good());
    bench.set("VIRTUAL_ENV", bench.path("active"));
    assert_eq!(bench.found(), (active, Origin::VirtualEnv));

    let running = bench.python("running/bin/python", &good());
    bench.running = Some(running.clone());
    assert_eq!(bench.found(), (running, Origin::Running));

    let chosen = bench.python("chosen/bin/python", &good());
    bench.choose(chosen.clone());
    assert_eq!(bench.found(), (chosen.clone(), Origin::Chosen("--python".into())));
    bench.choose(bench.path("chosen"));
    assert_eq!(bench.found().0, chosen, "a virtual environment's folder will do");
    bench.choose("python3");
    assert_eq!(bench.found().0, bench.path("bin/python3"), "so will a command");
}

#[test]
fn what_is_found_describes_itself() {
    let mut bench = Bench::new();
    bench.choose(bench.python("app/.venv/bin/python", &good()));
    let found = bench.find().expect("an environment");
    assert_eq!((found.version, found.is_virtual), ((3, 13, 0), true));
    let path = bench.path("app/.venv/bin/python");
    assert_eq!(found.to_string(), format!("3.13.0 ({}, from --python)", path.display()));
}

#[test]
fn the_walk_upwards_ends_at_the_project_and_never_leaves_it() {
    let mut bench = Bench::new();
    bench.set("PATH", bench.path("bin"));
    let on_path = bench.python("bin/python3", &good());
    bench.targets = vec![bench.path("shared/project/src")];
    fs::create_dir_all(&bench.targets[0]).expect("folders");
    bench.python("shared/.venv/bin/python", &good());
    let project = bench.python("shared/project/.venv/bin/python", &good());
    assert_eq!(bench.found().0, on_path, "without a mark only the target's own folder counts");
    fs::write(bench.path("shared/project/pyproject.toml"), "").expect("a mark");
    assert_eq!(bench.found().0, project);
    fs::remove_dir_all(bench.path("shared/project/.venv")).expect("removal");
    assert_eq!(bench.found().0, on_path, "above the mark nothing counts");
}

#[test]
fn a_choice_that_fails_is_an_error_and_never_skipped() {
    let mut bench = Bench::new();
    bench.python("bin/python3", &good());
    bench.set("PATH", bench.path("bin"));

    bench.python("here/.venv/bin/python", &answer("3, 9, 1", ""));
    assert_eq!(
        bench.error(),
        "/here/.venv/bin/python (from .venv in the working folder) is Python 3.9.1, which is too \
         old: 3.11 or newer is needed\n\
         hint: name a CPython 3.11 or newer with --python, or make the environment with a newer one"
    );
    bench.set("VIRTUAL_ENV", bench.path("gone"));
    assert_eq!(
        bench.error(),
        "there is no Python at /gone/bin/python (from VIRTUAL_ENV)\n\
         hint: VIRTUAL_ENV names a folder that is not a virtual environment; unset it, or activate \
         the right one"
    );
    bench.choose("nowhere");
    assert_eq!(
        bench.error(),
        "there is no Python at /here/nowhere (from --python)\n\
         hint: give the path of a python executable or of a virtual environment"
    );
}

#[test]
fn a_venv_whose_base_is_gone_says_so() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("here/.venv/bin")).expect("folders");
    std::os::unix::fs::symlink("/opt/gone/python3", bench.path("here/.venv/bin/python"))
        .expect("a link");
    assert_eq!(
        bench.error(),
        "/here/.venv/bin/python (from .venv in the working folder) does not run: it points to \
         /opt/gone/python3, which is not there any more\n\
         hint: make the environment again with `python3 -m venv --clear /here/.venv` and install \
         its packages"
    );
}

#[test]
fn unfit_interpreters_are_named_with_the_reason() {
    for (answer, expected) in [
        (good().replace("cpython", "pypy"), "is pypy; only CPython can run handlers"),
        (
            good().replace("\"free_threaded\": false", "\"free_threaded\": true"),
            "is a free-threaded build of Python 3.13, which is not supported yet",
        ),
        (answer("3, 13, 0", r#", "pointer_size": 2"#), "does not answer as a Python does"),
        (good().replace("\"pointer_size\": 8", "\"pointer_size\": 4"), "is a 32-bit Python"),
        ("hello".into(), "it does not answer as a Python does (it printed `hello`)"),
    ] {
        let mut bench = Bench::new();
        bench.choose(bench.python("python", &answer));
        let error = bench.error();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("/python (from --python)"), "{error}");
        assert!(error.contains("\nhint: "), "{error}");
    }
}

#[test]
fn path_is_tried_until_one_runs_and_the_rest_is_remembered() {
    let mut bench = Bench::new();
    let shim = "echo 'shim: python3: command not found' >&2; exit 127";
    bench.script("one/python3", shim);
    bench.python("two/python3", &answer("3, 8, 2", ""));
    bench.script("two/python", "echo 'Unknown option: -I' >&2; exit 2");
    bench.set("PATH", std::env::join_paths([bench.path("one"), bench.path("two")]).expect("PATH"));
    assert_eq!(
        bench.error(),
        "no usable Python was found\n\
         \u{20} VIRTUAL_ENV: not set\n\
         \u{20} /here/.venv: no environment there\n\
         \u{20} /one/python3: does not run: shim: python3: command not found (exit status: 127)\n\
         \u{20} /two/python3: is Python 3.8.2, too old\n\
         \u{20} /two/python: does not run: it is Python 2\n\
         hint: install CPython 3.11 or newer, or name one with --python"
    );
    let good = bench.python("one/python", &good());
    assert_eq!(bench.found(), (good, Origin::Path));
}

#[test]
fn a_shim_gives_the_interpreter_behind_it() {
    let mut bench = Bench::new();
    let real = good().replace(r#""executable": """#, r#""executable": "/opt/python/bin/python3""#);
    bench.python("bin/python3", &real);
    bench.set("PATH", bench.path("bin"));
    assert_eq!(bench.found().0, Path::new("/opt/python/bin/python3"));
}

#[test]
fn an_interpreter_that_hangs_is_killed_at_the_limit() {
    let mut bench = Bench::new();
    bench.choose(bench.script("python", "exec sleep 30"));
    bench.limit = Duration::from_millis(150);
    let started = std::time::Instant::now();
    let error = bench.error();
    assert!(error.contains("does not run: it gave no answer within 150ms"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn one_that_prints_without_end_is_read_to_the_end_and_refused() {
    let mut bench = Bench::new();
    bench.choose(bench.script("python", "head -c 3000000 /dev/zero | tr '\\0' x"));
    let error = bench.error();
    assert!(error.contains("does not answer as a Python does"), "{error}");
    assert!(error.len() < 500, "{error}");
}

#[test]
fn relative_entries_of_path_are_not_run() {
    let mut bench = Bench::new();
    bench.python("here/bin/python3", &good());
    bench.set("PATH", "bin:");
    assert!(matches!(bench.find(), Err(EnvError::NotFound { .. })));
}
