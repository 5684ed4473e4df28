//! The order in which places are looked at.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{EnvError, Facts, Looked, OLDEST, probe};

/// Where an interpreter lies in a virtual environment.
const IN_ENVIRONMENT: &str = if cfg!(windows) { r"Scripts\python.exe" } else { "bin/python" };

/// The names looked for on `PATH`, best first.
const ON_PATH: [&str; 2] =
    if cfg!(windows) { ["python3.exe", "python.exe"] } else { ["python3", "python"] };

/// What ends the walk from a target upwards.
const PROJECT_MARKS: [&str; 3] = ["pyproject.toml", "exuvia.toml", ".git"];

/// What is known before the search.
pub struct Request<'a> {
    /// A Python executable, a virtual environment's folder or a command on `PATH`, and who chose
    /// it, in the words to show (`--python`).
    pub explicit: Option<(PathBuf, String)>,
    /// The interpreter that runs this very program, if one does (`python -m exuvia`). Who types a
    /// Python's path before `-m exuvia` has chosen it, so only `explicit` goes before it.
    pub running: Option<PathBuf>,
    /// The interpreter this program is installed with, if it is (a wheel's `exuvia` script): taken
    /// where nothing else was found, instead of what happens to be on `PATH`.
    pub installed: Option<PathBuf>,
    /// The folders of the targets.
    pub targets: &'a [PathBuf],
    /// The working folder, absolute.
    pub cwd: PathBuf,
    /// The environment variables.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// How long an interpreter may take to answer: [`probe::LIMIT`].
    pub limit: Duration,
}

/// Who chose an environment. Its `Display` is the words to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag, a variable or a project file, in the words of [`Request::explicit`].
    Chosen(String),
    /// The interpreter that runs this program.
    Running,
    /// An activated virtual environment.
    VirtualEnv,
    /// A `.venv` in a target's folder or above it.
    BesideTarget,
    /// A `.venv` in the working folder.
    WorkingFolder,
    /// The interpreter this program is installed with.
    Installed,
    /// The search path.
    Path,
}

/// A Python that was executed and can run handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The executable by its own path. Links are not followed: a virtual environment's `python` is
    /// a link, and behind it the environment would be lost.
    pub executable: PathBuf,
    /// Its version.
    pub version: (u8, u8, u8),
    /// `sys.prefix`.
    pub prefix: PathBuf,
    /// `sys.implementation.name`.
    pub implementation: String,
    /// Whether it is a virtual environment.
    pub is_virtual: bool,
    /// Where its packages are installed: `site-packages`, and what distributions have instead.
    pub packages: Vec<PathBuf>,
    /// Who chose it.
    pub origin: Origin,
}

/// Finds the environment: what was chosen, the running interpreter, `VIRTUAL_ENV`, a `.venv`
/// beside a target, a `.venv` in the working folder, the interpreter this program is installed
/// with, then `python3` and `python` on `PATH`.
///
/// # Errors
/// Why the chosen one does not do, or every place that was looked at.
pub fn find(request: &Request<'_>) -> Result<Environment, EnvError> {
    let mut looked = Vec::new();
    if let Some((path, by)) = &request.explicit {
        let executable = executable_of(path, request);
        return take(&executable, Origin::Chosen(by.clone()), request);
    }
    if let Some(path) = &request.running {
        return take(path, Origin::Running, request);
    }
    match (request.env)("VIRTUAL_ENV").filter(|folder| !folder.is_empty()) {
        Some(folder) => {
            let executable = absolute(Path::new(&folder), &request.cwd).join(IN_ENVIRONMENT);
            return take(&executable, Origin::VirtualEnv, request);
        }
        None => looked.push(Looked { place: "VIRTUAL_ENV".into(), why: "not set".into() }),
    }
    for folder in venv_folders(request) {
        let venv = folder.join(".venv");
        if !is_environment(&venv) {
            let place = venv.display().to_string();
            looked.push(Looked { place, why: "no environment there".into() });
            continue;
        }
        let origin =
            if folder == request.cwd { Origin::WorkingFolder } else { Origin::BesideTarget };
        return take(&venv.join(IN_ENVIRONMENT), origin, request);
    }
    if let Some(path) = &request.installed {
        return take(path, Origin::Installed, request);
    }
    search_path(request, looked)
}

/// The executables on `PATH`, each tried until one will do.
fn search_path(request: &Request<'_>, mut looked: Vec<Looked>) -> Result<Environment, EnvError> {
    let path = (request.env)("PATH").unwrap_or_default();
    let mut any = false;
    for name in ON_PATH {
        for executable in on_path(OsStr::new(name), &path) {
            any = true;
            match take(&executable, Origin::Path, request) {
                Ok(environment) => return Ok(environment),
                Err(error) => {
                    let place = executable.display().to_string();
                    looked.push(Looked { place, why: short_reason(&error) });
                }
            }
        }
    }
    if !any {
        looked.push(Looked { place: "PATH".into(), why: "has neither python3 nor python".into() });
    }
    Err(EnvError::NotFound { looked })
}

/// Executes one candidate and judges what it says.
fn take(executable: &Path, origin: Origin, request: &Request<'_>) -> Result<Environment, EnvError> {
    let path = executable.to_path_buf();
    // A dangling link is there, and broken: the probe says so better.
    if std::fs::symlink_metadata(executable).is_err() {
        return Err(EnvError::Missing { path, origin });
    }
    let facts = match probe::probe(executable, &request.cwd, request.limit) {
        Ok(facts) => facts,
        Err(reason) => return Err(EnvError::DoesNotExecute { path, origin, reason }),
    };
    let Facts { version, implementation, free_threaded, pointer_size, .. } = facts;
    if implementation != "cpython" {
        return Err(EnvError::NotCPython { path, origin, implementation });
    }
    if (version.0, version.1) < OLDEST {
        return Err(EnvError::TooOld { path, origin, version });
    }
    if free_threaded {
        return Err(EnvError::FreeThreaded { path, origin, version });
    }
    if usize::from(pointer_size) != size_of::<usize>() {
        return Err(EnvError::Width { path, origin, pointer_size });
    }
    // A shim is a script that chooses an interpreter anew at each start, by its folder; workers
    // must all be the one that was looked at.
    let behind = is_script(executable) && facts.executable.is_absolute();
    Ok(Environment {
        executable: if behind { facts.executable } else { path },
        version,
        is_virtual: facts.prefix != facts.base_prefix,
        prefix: facts.prefix,
        packages: facts.packages,
        implementation,
        origin,
    })
}

/// The executable meant by an explicit choice: itself, the one in a folder, or a command.
fn executable_of(path: &Path, request: &Request<'_>) -> PathBuf {
    let there = absolute(path, &request.cwd);
    if there.is_dir() {
        return there.join(IN_ENVIRONMENT);
    }
    let is_command = path.components().count() == 1 && !there.exists();
    let found = is_command
        .then(|| on_path(path.as_os_str(), &(request.env)("PATH").unwrap_or_default()).next())
        .flatten();
    found.unwrap_or(there)
}

/// The folders whose `.venv` counts: each target's, and above it those up to the working folder or
/// the project's root; then the working folder.
///
/// Above a target outside any project nothing is looked at: running what lies in some shared folder
/// (`/tmp/.venv`) would hand the process to whoever put it there.
fn venv_folders(request: &Request<'_>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for target in request.targets {
        let target = absolute(target, &request.cwd);
        let root = target.ancestors().find(|folder| {
            *folder == request.cwd || PROJECT_MARKS.iter().any(|mark| folder.join(mark).exists())
        });
        for folder in target.ancestors() {
            if !folders.iter().any(|known| known == folder) {
                folders.push(folder.to_path_buf());
            }
            if root.is_none_or(|root| root == folder) {
                break;
            }
        }
    }
    folders.retain(|folder| *folder != request.cwd);
    folders.push(request.cwd.clone());
    folders
}

/// Whether `folder` is meant as a virtual environment, working or not.
fn is_environment(folder: &Path) -> bool {
    folder.join("pyvenv.cfg").exists()
        || std::fs::symlink_metadata(folder.join(IN_ENVIRONMENT)).is_ok()
}

fn on_path<'a>(name: &'a OsStr, path: &'a OsStr) -> impl Iterator<Item = PathBuf> + 'a {
    std::env::split_paths(path)
        // An empty or relative entry means the working folder: not a place to run things from.
        .filter(|folder| folder.is_absolute())
        .map(move |folder| folder.join(name))
        .filter(|path| path.is_file())
}

fn is_script(path: &Path) -> bool {
    use std::io::Read;
    let mut start = [0; 2];
    std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && start == *b"#!"
}

fn absolute(path: &Path, cwd: &Path) -> PathBuf {
    let path = cwd.join(path);
    // Takes out `.` without looking at the disk, so that links stay what they are.
    std::path::absolute(&path).unwrap_or(path)
}

/// One line on a candidate from `PATH`.
fn short_reason(error: &EnvError) -> String {
    match error {
        EnvError::DoesNotExecute { reason, .. } => format!("does not run: {reason}"),
        EnvError::TooOld { version: (major, minor, patch), .. } => {
            format!("is Python {major}.{minor}.{patch}, too old")
        }
        EnvError::NotCPython { implementation, .. } => format!("is {implementation}, not CPython"),
        EnvError::FreeThreaded { .. } => "is a free-threaded build, not supported yet".into(),
        EnvError::Width { pointer_size, .. } => format!("is a {}-bit Python", pointer_size * 8),
        EnvError::Missing { .. } | EnvError::NotFound { .. } | EnvError::NoRuntime { .. } => {
            "is not there".into()
        }
    }
}

// === impl Environment ===

impl fmt::Display for Environment {
    /// `3.13.0 (/srv/app/.venv/bin/python, from .venv beside the target)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        let path = self.executable.display();
        write!(f, "{major}.{minor}.{patch} ({path}, from {})", self.origin)
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("explicit", &self.explicit)
            .field("running", &self.running)
            .field("installed", &self.installed)
            .field("targets", &self.targets)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}
