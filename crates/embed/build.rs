//! Finds the libpython that programs with an interpreter inside are linked with.
//!
//! Where none is to be had the crate is built all the same, without `cfg(exuvia_libpython)`: its
//! tests are left out, and a warning says why.
#![allow(clippy::print_stdout, reason = "a build script speaks to cargo on stdout")]

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The variable that names the interpreter to be linked.
const CHOICE: &str = "EXUVIA_EMBED_PYTHON";

/// The oldest version whose ABI pyo3 is built for here.
const OLDEST: (u32, u32) = (3, 11);

/// Printed one a line after a mark, since a site customisation may print lines of its own.
const PROGRAM: &str = "\
import sys, sysconfig
get = sysconfig.get_config_var
print('exuvia-embed', sys.implementation.name, sys.version_info[0], sys.version_info[1],
    get('Py_ENABLE_SHARED'), get('Py_GIL_DISABLED') or 0, get('LDLIBRARY'), sys.executable,
    get('LIBDIR'), sys.base_prefix + '/lib', '%s/%s' % (get('LIBDIR'), get('MULTIARCH')), sep='\\n')";

/// A shared libpython, and the interpreter that said where it is.
struct Found {
    folder: PathBuf,
    /// As the linker wants it: `python3.13`.
    name: String,
    executable: String,
}

fn main() {
    println!("cargo::rustc-check-cfg=cfg(exuvia_libpython)");
    println!("cargo::rerun-if-changed=build.rs");
    let (python, chosen) = choose();
    match look(&python) {
        Ok(found) => found.link(),
        Err(why) if chosen => {
            println!("cargo::error={CHOICE}: {} {why}", python.display());
        }
        Err(why) => println!(
            "cargo::warning=no interpreter is linked, and the tests that need one are left out: {} \
             {why}. {CHOICE}=/path/to/python names another",
            python.display()
        ),
    }
}

/// The interpreter to ask, and whether somebody named it for this very purpose.
fn choose() -> (PathBuf, bool) {
    if let Some(python) = variable(CHOICE) {
        return (python, true);
    }
    if let Some(environment) = variable("VIRTUAL_ENV") {
        return (in_environment(&environment), false);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let environment = root.canonicalize().unwrap_or(root).join(".venv");
    let python = in_environment(&environment);
    if python.exists() {
        return (python, false);
    }
    println!("cargo::rerun-if-env-changed=PATH");
    ("python3".into(), false)
}

fn variable(name: &str) -> Option<PathBuf> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Also asks to be run again once the environment is made, or made with another Python.
fn in_environment(folder: &Path) -> PathBuf {
    println!("cargo::rerun-if-changed={}", folder.join("pyvenv.cfg").display());
    folder.join("bin/python")
}

/// # Errors
/// Why it does not do, fit to follow its path.
fn look(python: &Path) -> Result<Found, String> {
    if env::var_os("HOST") != env::var_os("TARGET") {
        return Err("is of this machine, not of the one that is built for".into());
    }
    let output = Command::new(python)
        .args(["-I", "-c", PROGRAM])
        .output()
        .map_err(|error| format!("does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines().skip_while(|line| *line != "exuvia-embed").skip(1);
    let answer: [&str; 7] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let [implementation, major, minor, shared, no_gil, library, executable] = answer;
    let version = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
    if implementation != "cpython" || version < OLDEST {
        return Err(format!("is not a CPython of version {}.{} or newer", OLDEST.0, OLDEST.1));
    }
    if no_gil != "0" {
        return Err("is a free-threaded build, which is not supported yet".into());
    }
    let name = library.strip_prefix("lib").and_then(|name| name.strip_suffix(".so"));
    let Some(name) = name.filter(|_| shared == "1") else {
        return Err("is built without a shared libpython".into());
    };
    let folder = lines.map(PathBuf::from).find(|folder| folder.join(library).is_file());
    let folder = folder.ok_or(format!("names a {library} that is not installed"))?;
    Ok(Found { folder, name: name.into(), executable: executable.into() })
}

// === impl Found ===

impl Found {
    /// Tells cargo. The library goes into the programs this crate becomes a part of and into no
    /// other; the search path at run time only into this crate's own tests.
    fn link(&self) {
        let folder = self.folder.display();
        println!("cargo::rustc-cfg=exuvia_libpython");
        println!("cargo::rustc-link-search=native={folder}");
        println!("cargo::rustc-link-lib=dylib={}", self.name);
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
        println!("cargo::rustc-env=EXUVIA_EMBED_BUILT_WITH={}", self.executable);
    }
}
