//! Where the runtime library of the workers is.

use std::{
    env::consts::DLL_SUFFIX,
    path::{Path, PathBuf},
};

use crate::{EnvError, Looked};

/// The names the library has: in the wheel, and as cargo builds it.
pub const RUNTIME_FILES: [&str; 2] = ["_native.abi3.so", "lib_native.so"];

/// Finds the runtime library: `explicit` (`EXUVIA_RUNTIME`, or what the wheel knows) if it is
/// given, else the one beside the executable `exe`. A link to the executable is followed.
///
/// # Errors
/// [`EnvError::NoRuntime`] with every place that was looked at.
pub fn find_runtime(exe: &Path, explicit: Option<PathBuf>) -> Result<PathBuf, EnvError> {
    let not_there = |path: &Path| Looked {
        place: path.display().to_string(),
        why: if path.is_dir() { "is a folder".into() } else { "no such file".into() },
    };
    if let Some(path) = explicit {
        // Absolute, because the worker starts in a folder of its own.
        let path = std::path::absolute(&path).unwrap_or(path);
        if path.is_file() {
            return Ok(path);
        }
        return Err(EnvError::NoRuntime { looked: vec![not_there(&path)] });
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    for exe in [Some(exe.to_path_buf()), exe.canonicalize().ok()].into_iter().flatten() {
        if let Some(folder) = exe.parent()
            && !folders.iter().any(|known| known == folder)
        {
            folders.push(folder.to_path_buf());
        }
    }
    let mut looked = Vec::new();
    for folder in folders {
        for name in RUNTIME_FILES {
            // Python's own ending is `.so` everywhere; cargo's is the platform's.
            let name = match name.strip_prefix("lib").and_then(|name| name.strip_suffix(".so")) {
                Some(stem) => format!("lib{stem}{DLL_SUFFIX}"),
                None => name.to_owned(),
            };
            let path = folder.join(name);
            if path.is_file() {
                return Ok(std::path::absolute(&path).unwrap_or(path));
            }
            looked.push(not_there(&path));
        }
    }
    Err(EnvError::NoRuntime { looked })
}
