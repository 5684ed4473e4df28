//! The code that `exuvia run` is given.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use exuvia_bundle::{Bundle, Entrypoint, Missing, check_packages, install_command, installed};
use exuvia_env::Environment;
use exuvia_host::sandbox;

use crate::{
    bundle,
    exit::{Exit, Stop},
};

/// The most bytes of source code. What is larger is no code, or belongs into a bundle.
const MOST_SOURCE: u64 = 4 << 20;

/// Code that was found.
pub(crate) enum Code {
    Source {
        /// What to call it.
        name: String,
        text: String,
    },
    Bundle(Box<Bundle>),
}

// === impl Code ===

impl Code {
    /// Finds and reads what was typed: `-`, a Python file, or a bundle. May block.
    pub(crate) fn find(typed: &Path, cwd: &Path) -> Result<Self, Stop> {
        if typed.as_os_str() == "-" {
            return Self::source("stdin".into(), io::stdin());
        }
        let place = cwd.join(typed);
        let is_source = typed.extension().is_some_and(|ending| ending == "py") && !place.is_dir();
        if !is_source {
            return bundle::open(typed).map(Box::new).map(Self::Bundle);
        }
        let name = typed.display().to_string();
        let file = File::open(&place).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Stop::new(Exit::NotFound, format!("there is no file {name}"))
            }
            _ => Stop::new(Exit::NotFound, format!("{name} cannot be read: {error}")),
        })?;
        Self::source(name, file)
    }

    fn source(name: String, from: impl Read) -> Result<Self, Stop> {
        let wrong = |why: String| Stop::new(Exit::Input, format!("{name} {why}"));
        let mut bytes = Vec::new();
        from.take(MOST_SOURCE + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if bytes.len() as u64 > MOST_SOURCE {
            return Err(wrong(format!("has more than {MOST_SOURCE} bytes: make a bundle of it")));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong("is not in UTF-8".into()))?;
        Ok(Self::Source { name, text })
    }

    /// What runs, by the name messages have for it.
    pub(crate) fn name(&self, entrypoint: Option<&Entrypoint>) -> String {
        match (self, entrypoint) {
            (Self::Source { name, .. }, None) => name.clone(),
            (Self::Source { name, .. }, Some(entrypoint)) => {
                format!("{name}:{}", entrypoint.attribute)
            }
            (Self::Bundle(_), Some(entrypoint)) => entrypoint.to_string(),
            (Self::Bundle(bundle), None) => bundle.manifest().entrypoint.to_string(),
        }
    }

    /// For the sandbox; a bundle is unpacked into the store.
    pub(crate) fn ready(
        self,
        entrypoint: Option<Entrypoint>,
        store: Option<&Path>,
    ) -> Result<sandbox::Code, Stop> {
        let bundle = match (self, store) {
            (Self::Source { text, .. }, _) => {
                let entrypoint = entrypoint.map(|entrypoint| entrypoint.attribute);
                return Ok(sandbox::Code::Source { text, entrypoint });
            }
            (Self::Bundle(bundle), Some(store)) => {
                bundle.unpack(store).map_err(bundle::wrong)?;
                bundle
            }
            (Self::Bundle(_), None) => {
                return Err(Stop::new(Exit::Internal, "a bundle without a store"));
            }
        };
        let manifest = bundle.manifest();
        let entrypoint = entrypoint.unwrap_or_else(|| manifest.entrypoint.clone());
        Ok(sandbox::Code::Bundle(sandbox::BundleRef {
            folder: bundle.fingerprint().to_string(),
            module: entrypoint.module,
            attribute: entrypoint.attribute,
            preload: manifest.preload.clone(),
        }))
    }
}

/// Reads `--entrypoint`. In source code the module may be left out: there is one, `main`.
pub(crate) fn entrypoint(text: &str, code: &Code) -> Result<Entrypoint, Stop> {
    let wrong = |message: String| Stop::usage(format!("--entrypoint: {message}"));
    let full = match code {
        Code::Source { .. } if !text.contains(':') => format!("main:{text}"),
        _ => text.to_owned(),
    };
    let entrypoint: Entrypoint = full.parse().map_err(wrong)?;
    if matches!(code, Code::Source { .. }) && entrypoint.module != "main" {
        return Err(wrong(format!("`{text}` is in another module: write main:FUNCTION")));
    }
    Ok(entrypoint)
}

/// What a bundle needs and the environment does not have.
pub(crate) fn missing(bundle: &Bundle, environment: &Environment) -> Vec<Missing> {
    if bundle.manifest().packages.is_empty() {
        return Vec::new();
    }
    check_packages(bundle.manifest(), &installed(&environment.packages))
}

/// The error that says so.
pub(crate) fn packages_error(
    bundle: &Bundle,
    missing: &[Missing],
    environment: &Environment,
) -> Stop {
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    Stop::new(
        Exit::NoPython,
        format!(
            "{} needs packages that the environment does not have: {}\npython: {environment}\n\
             hint: {}",
            bundle.path().display(),
            names.join(", "),
            install_command(&environment.executable, missing),
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_code_has_one_module() {
        let code = Code::Source { name: "x.py".into(), text: String::new() };
        let read = |text: &str| {
            entrypoint(text, &code).map(|found| found.to_string()).map_err(|stop| stop.message)
        };
        assert_eq!(read("f").as_deref(), Ok("main:f"));
        assert_eq!(read("main:Model.run").as_deref(), Ok("main:Model.run"));
        assert_eq!(
            read("other:f").unwrap_err(),
            "--entrypoint: `other:f` is in another module: write main:FUNCTION"
        );
        assert!(read("a b").is_err());
    }
}
