//! `exuvia bundle check` and `exuvia bundle pack`.

mod pack;

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::ArgMatches;
use exuvia_bundle::{
    Bundle, BundleError, Effective, Fault, Limits, Missing, Wrong, install_command,
};
use exuvia_env::Environment;
use serde_json::{Value, json};

use crate::{
    exit::{Exit, Stop},
    policy,
    run::{self as sandbox, trust::Ground},
    settings::Cmd,
    start::Origins,
    terminal,
};

/// A sound bundle, with what it would get here.
struct Checked {
    bundle: Bundle,
    effective: Effective,
    notes: Vec<String>,
    /// Looked for where the bundle needs packages.
    environment: Option<Environment>,
    missing: Vec<Missing>,
}

/// Runs `exuvia bundle`.
pub(crate) fn run(matches: &ArgMatches, origins: &Origins) -> Result<Exit, Stop> {
    match matches.subcommand() {
        Some(("check", matches)) => check(matches, origins),
        Some(("pack", matches)) => pack::run(matches),
        _ => Ok(Exit::Usage),
    }
}

/// The bundle that is named.
pub(crate) fn path(matches: &ArgMatches) -> &Path {
    matches.get_one::<PathBuf>("bundle").map_or(Path::new(""), PathBuf::as_path)
}

/// Opens a bundle.
pub(crate) fn open(path: &Path) -> Result<Bundle, Stop> {
    Bundle::open(path, &Limits::default()).map_err(wrong)
}

/// The error for a bundle that cannot be used.
pub(crate) fn wrong(error: BundleError) -> Stop {
    let exit = match &error.why {
        Wrong::Io { path, source }
            if path.is_empty() && source.kind() == io::ErrorKind::NotFound =>
        {
            let bundle = error.bundle.display();
            return Stop::new(Exit::NotFound, format!("there is no bundle {bundle}"));
        }
        Wrong::ZeroLimit { .. } => Exit::Usage,
        _ => Exit::Input,
    };
    Stop::new(exit, error.to_string())
}

fn check(matches: &ArgMatches, origins: &Origins) -> Result<Exit, Stop> {
    let path = path(matches);
    let as_json = matches.get_flag("json");
    let bundle = match Bundle::open(path, &Limits::default()) {
        Ok(bundle) => bundle,
        Err(error) if as_json => {
            let faults = faults(&error);
            let stop = wrong(error);
            print(&faulty_json(path, &stop, &faults))?;
            return Ok(stop.exit);
        }
        Err(error) => return Err(wrong(error)),
    };
    let checked = Checked::new(bundle, Ground::of(path, &origins.cwd), matches, origins)?;
    print(&if as_json { format!("{:#}\n", checked.json()) } else { checked.text() })?;
    match (&checked.environment, as_json) {
        _ if checked.missing.is_empty() => Ok(Exit::Ok),
        (Some(environment), false) => {
            Err(sandbox::packages_error(&checked.bundle, &checked.missing, environment))
        }
        _ => Ok(Exit::NoPython),
    }
}

fn print(text: &str) -> Result<(), Stop> {
    terminal::data(text.as_bytes())
        .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}")))
}

/// The faults of a manifest; none where something else is wrong.
fn faults(error: &BundleError) -> Vec<Fault> {
    match &error.why {
        Wrong::Manifest { faults, .. } => faults.clone(),
        _ => Vec::new(),
    }
}

fn faulty_json(path: &Path, stop: &Stop, faults: &[Fault]) -> String {
    let fault = |fault: &Fault| {
        let (line, column) = fault.position.unzip();
        json!({
            "pointer": fault.pointer,
            "line": line,
            "column": column,
            "message": fault.message,
        })
    };
    let document = json!({
        "ok": false,
        "bundle": path.display().to_string(),
        "message": stop.message,
        "faults": faults.iter().map(fault).collect::<Vec<_>>(),
    });
    format!("{document:#}\n")
}

// === impl Checked ===

impl Checked {
    fn new(
        bundle: Bundle,
        ground: Ground,
        matches: &ArgMatches,
        origins: &Origins,
    ) -> Result<Self, Stop> {
        let settings = ground.settings(Cmd::Check, matches, origins)?;
        let effective = policy::effective(&settings, &bundle)?;
        let mut notes = policy::notes(&bundle, &effective);
        notes.extend(elsewhere(&bundle));
        let needs = !bundle.manifest().packages.is_empty();
        let environment = needs.then(|| ground.python(origins, &settings)).transpose()?;
        let missing = environment
            .as_ref()
            .map_or_else(Vec::new, |environment| sandbox::missing(&bundle, environment));
        Ok(Self { bundle, effective, notes, environment, missing })
    }

    fn bytes(&self) -> u64 {
        self.bundle.files().iter().map(|file| file.size).sum()
    }

    fn text(&self) -> String {
        let manifest = self.bundle.manifest();
        let files = self.bundle.files().len();
        let names = |names: Vec<String>| match &names[..] {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        let rows = [
            ("bundle", self.bundle.path().display().to_string()),
            ("fingerprint", self.bundle.fingerprint().to_string()),
            ("files", format!("{files} ({})", sandbox::size(self.bytes()))),
            ("manifest", manifest.file.unwrap_or("none").into()),
            ("entrypoint", manifest.entrypoint.to_string()),
            ("packages", names(manifest.packages.iter().map(ToString::to_string).collect())),
            ("preload", names(manifest.preload.clone())),
        ];
        let rows = rows.iter().map(|(name, value)| format!("{name:11}  {value}\n"));
        let notes = self.notes.iter().map(|note| format!("note: {note}\n"));
        format!(
            "{}\n{}{}",
            rows.collect::<String>(),
            self.effective.explain(),
            notes.collect::<String>()
        )
    }

    fn json(&self) -> Value {
        let manifest = self.bundle.manifest();
        let texts = |items: &[exuvia_bundle::Requirement]| -> Vec<String> {
            items.iter().map(ToString::to_string).collect()
        };
        let file =
            |file: &exuvia_bundle::BundleFile| json!({ "path": file.path, "bytes": file.size });
        let missing = |missing: &Missing| json!({ "package": missing.requirement.text(), "installed": missing.installed });
        let install = self.environment.as_ref().filter(|_| !self.missing.is_empty());
        json!({
            "ok": self.missing.is_empty(),
            "bundle": self.bundle.path().display().to_string(),
            "fingerprint": self.bundle.fingerprint().to_string(),
            "bytes": self.bytes(),
            "files": self.bundle.files().iter().map(file).collect::<Vec<_>>(),
            "manifest": {
                "file": manifest.file,
                "description": manifest.description,
                "entrypoint": manifest.entrypoint.to_string(),
                "packages": texts(&manifest.packages),
                "preload": manifest.preload,
            },
            "policy": self.effective.to_json(),
            "missing": self.missing.iter().map(missing).collect::<Vec<_>>(),
            "install": install.map(|found| install_command(&found.executable, &self.missing)),
            "notes": self.notes,
        })
    }
}

/// An entrypoint may be a package's; a module that is in no file of the bundle is more often a slip.
fn elsewhere(bundle: &Bundle) -> Option<String> {
    let module = &bundle.manifest().entrypoint.module;
    let path = module.replace('.', "/");
    let own = [format!("{path}.py"), format!("{path}/__init__.py")];
    let is_there = bundle.files().iter().any(|file| own.contains(&file.path));
    (!is_there).then(|| {
        format!("no file of the bundle is the module `{module}`: it must be in the environment")
    })
}
