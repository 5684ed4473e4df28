//! What of the place where a command is typed may be believed.
//!
//! A project file and a `.venv` say which Python runs. Those that come along with a bundle are its
//! author's, whom nobody vouches for: to take them would run that author's programs outside the
//! sandbox.

use std::{ffi::OsStr, path::Path};

use clap::ArgMatches;
use exuvia_env::Environment;

use crate::{
    Interpreter, args,
    exit::Stop,
    project::{self, Project},
    resolve::{self, Resolved},
    settings::Cmd,
    start::{self, Origins},
};

/// The working folder, as far as code at some path leaves it to the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    Own,
    /// It is, or lies in, the folder of the code.
    Foreign,
}

// === impl Ground ===

impl Ground {
    pub(crate) fn of(code: &Path, cwd: &Path) -> Self {
        let (Ok(code), Ok(cwd)) = (cwd.join(code).canonicalize(), cwd.canonicalize()) else {
            return Self::Own;
        };
        if code.is_dir() && cwd.starts_with(code) { Self::Foreign } else { Self::Own }
    }

    /// The project file that counts.
    fn project(self, cwd: &Path) -> Result<Option<Project>, Stop> {
        match self {
            Self::Own => project::discover(cwd),
            Self::Foreign => Ok(None),
        }
    }

    /// The settings of a command, without the files that its paths start from.
    pub(crate) fn settings(
        self,
        command: Cmd,
        matches: &ArgMatches,
        origins: &Origins,
    ) -> Result<Resolved, Stop> {
        self.settings_and_project(command, matches, origins).map(|(settings, _)| settings)
    }

    pub(crate) fn settings_and_project(
        self,
        command: Cmd,
        matches: &ArgMatches,
        origins: &Origins,
    ) -> Result<(Resolved, Option<Project>), Stop> {
        let project = self.project(&origins.cwd)?;
        let flags = args::flags(matches, command);
        let settings = resolve::resolve(command, &flags, &origins.variables, project.as_ref())?;
        Ok((settings, project))
    }

    /// The environment. Executes interpreters.
    pub(crate) fn python(
        self,
        origins: &Origins,
        settings: &Resolved,
    ) -> Result<Environment, Stop> {
        let active = origins.variables.get(OsStr::new("VIRTUAL_ENV"));
        let chosen = settings.is_set("python")
            || matches!(origins.python, Interpreter::Running(_))
            || active.is_some_and(|folder| !folder.is_empty());
        if self == Self::Foreign && !chosen && origins.cwd.join(".venv").exists() {
            return Err(Stop::usage(
                "the .venv here came with the bundle, for all that is known: say --python .venv if \
                 it is yours",
            ));
        }
        Ok(start::python(origins, settings, &[])?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_bundle_has_no_say_in_which_python_runs() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let top = folder.path();
        fs::create_dir_all(top.join("bundle/inner")).expect("folders");
        fs::write(top.join("bundle/exuvia.toml"), "python = \"evil\"").expect("a file");
        fs::write(top.join("bundle/main.py"), "").expect("a file");
        for (code, cwd, ground) in [
            ("bundle", "", Ground::Own),
            (".", "bundle", Ground::Foreign),
            ("..", "bundle/inner", Ground::Foreign),
            ("main.py", "bundle", Ground::Own),
            ("nowhere", "bundle", Ground::Own),
            ("inner", "bundle", Ground::Own),
        ] {
            let found = Ground::of(Path::new(code), &top.join(cwd));
            assert_eq!(found, ground, "{code} in {cwd}");
        }
        let python = |ground: Ground| {
            let project = ground.project(&top.join("bundle")).expect("read");
            project.is_some_and(|project| project.values.contains_key("python"))
        };
        assert_eq!((python(Ground::Own), python(Ground::Foreign)), (true, false));
    }
}
