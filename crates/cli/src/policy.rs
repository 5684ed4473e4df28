//! What the host gives to code in the sandbox, and `exuvia policy explain`.

use std::path::Path;

use clap::ArgMatches;
use exuvia_bundle::{Bundle, Effective, default_ceiling};
use exuvia_core::{FileMode, Files, Policy};
use serde_json::json;

use crate::{
    bundle,
    exit::{Exit, Stop},
    resolve::Resolved,
    run::trust::Ground,
    settings::Cmd,
    start::Origins,
    terminal,
};

/// Runs `exuvia policy explain`.
pub(crate) fn run(matches: &ArgMatches, origins: &Origins) -> Result<Exit, Stop> {
    let Some((_, matches)) = matches.subcommand() else { return Ok(Exit::Usage) };
    let path = bundle::path(matches);
    let settings = Ground::of(path, &origins.cwd).settings(Cmd::Explain, matches, origins)?;
    let bundle = bundle::open(path)?;
    let effective = effective(&settings, &bundle)?;
    let text = if matches.get_flag("json") {
        json(&bundle, &effective)
    } else {
        let notes = notes(&bundle, &effective);
        let notes = notes.iter().map(|note| format!("note: {note}\n"));
        effective.explain() + &notes.collect::<String>()
    };
    terminal::data(text.as_bytes())
        .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}")))?;
    Ok(Exit::Ok)
}

/// What a bundle gets of what the settings allow.
pub(crate) fn effective(settings: &Resolved, bundle: &Bundle) -> Result<Effective, Stop> {
    Effective::new(&ceiling(settings), bundle.manifest()).map_err(bundle::wrong)
}

/// What the manifest's reader and the merging have to say.
pub(crate) fn notes(bundle: &Bundle, effective: &Effective) -> Vec<String> {
    bundle.manifest().notes.iter().cloned().chain(effective.notes()).collect()
}

/// What the settings allow a bundle.
pub(crate) fn ceiling(settings: &Resolved) -> Policy {
    with_mode(settings, default_ceiling().files.mode)
}

/// What the settings give to code that can ask for nothing.
pub(crate) fn of_source(settings: &Resolved) -> Policy {
    with_mode(settings, FileMode::Read)
}

fn with_mode(settings: &Resolved, unsaid: FileMode) -> Policy {
    let mode = match settings.maybe_text("files") {
        Some("read-write") => FileMode::ReadWrite,
        Some(_) => FileMode::Read,
        None => unsaid,
    };
    Policy {
        wall: settings.duration("wall"),
        cpu: settings.duration("cpu"),
        memory: settings.size("memory"),
        result: settings.size("result-limit"),
        output: settings.size("output-limit"),
        files: Files {
            mode,
            bytes: settings.size("quota"),
            inodes: settings.count("inodes").into(),
        },
        threads: settings.count("threads"),
    }
}

fn json(bundle: &Bundle, effective: &Effective) -> String {
    let mut document = effective.to_json();
    document["bundle"] = json!(Path::new(bundle.path()).display().to_string());
    document["fingerprint"] = json!(bundle.fingerprint().to_string());
    document["notes"] = json!(notes(bundle, effective));
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::{self, Flags, Variables};

    fn settings(flags: &Flags) -> Resolved {
        resolve::resolve(Cmd::Run, flags, &Variables::new(), None)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn who_says_nothing_has_the_defaults_of_the_sandbox() {
        let settings = settings(&Flags::new());
        assert_eq!(ceiling(&settings), default_ceiling());
        assert_eq!(of_source(&settings), Policy::default());
    }

    #[test]
    fn each_flag_is_its_limit() {
        let given = [
            ("wall", "1s"),
            ("cpu", "2s"),
            ("memory", "3MiB"),
            ("result-limit", "4B"),
            ("output-limit", "5B"),
            ("threads", "6"),
            ("files", "read-write"),
            ("quota", "7B"),
            ("inodes", "8"),
        ];
        let flags = given.map(|(key, text)| (key, vec![text.into()]));
        let policy = of_source(&settings(&Flags::from(flags)));
        assert_eq!((policy.wall.as_secs(), policy.cpu.as_secs()), (1, 2));
        assert_eq!((policy.memory, policy.result, policy.output), (3 << 20, 4, 5));
        assert_eq!(policy.threads, 6);
        let files = Files { mode: FileMode::ReadWrite, bytes: 7, inodes: 8 };
        assert_eq!(policy.files, files);
        let read = Flags::from([("files", vec!["read".into()])]);
        assert_eq!(ceiling(&settings(&read)).files.mode, FileMode::Read);
    }
}
