//! `aardvark.manifest.json` 1.0, by its own rules.

use std::time::Duration;

use exuvia_core::FileMode;
use serde_json::{Map, Value};

use super::{
    Entrypoint, Manifest, THEIR_NAME, Wants, is_dotted,
    own::{count, no_javascript, no_network},
};
use crate::{error::Wrong, packages::Requirement, reader::Reader, show::Shown};

/// The Pyodide that their 1.0 goes with.
const PYODIDE: &str = "0.29.4";

/// The one capability they have.
const CAPABILITY: &str = "rawctx_buffers";

pub(super) fn read(text: &[u8]) -> Result<Manifest, Wrong> {
    let mut reader = Reader::default();
    let names = ["schemaVersion", "entrypoint", "packages", "runtime", "resources"];
    let value = reader.parse(text);
    let members = value.as_ref().and_then(|value| reader.object("", value, &names));
    let manifest = members.map(|members| document(&mut reader, members));
    reader.finish(THEIR_NAME)?;
    Ok(manifest.unwrap_or_default())
}

fn document(reader: &mut Reader, members: &Map<String, Value>) -> Manifest {
    for (name, like) in [("schemaVersion", "1.0"), ("entrypoint", "main:handler")] {
        if !members.contains_key(name) {
            reader.wrong(&format!("/{name}"), format!("is missing: write \"{name}\": \"{like}\""));
        }
    }
    reader.member("", members, "schemaVersion", "\"1.0\"", |value| {
        value.as_str().map(|version| match version {
            "1.0" => Ok(()),
            other => Err(format!("`{}` is not read: the version is \"1.0\"", Shown(other))),
        })
    });
    let entrypoint = reader.member("", members, "entrypoint", "a string", |value| {
        value.as_str().map(|text| text.trim().parse::<Entrypoint>())
    });
    let mut manifest = Manifest {
        file: Some(THEIR_NAME),
        entrypoint: entrypoint.unwrap_or_default(),
        packages: packages(reader, members),
        ..Manifest::default()
    };
    runtime(reader, members, &mut manifest);
    resources(reader, members, &mut manifest);
    manifest
}

fn packages(reader: &mut Reader, members: &Map<String, Value>) -> Vec<Requirement> {
    let named = reader.texts("", members, "packages", |text| text.trim().parse::<Requirement>());
    let mut once: Vec<Requirement> = Vec::with_capacity(named.len());
    let mut known = std::collections::HashSet::new();
    for package in named {
        if known.insert(package.text().to_lowercase()) {
            once.push(package);
        }
    }
    once
}

fn runtime(reader: &mut Reader, members: &Map<String, Value>, manifest: &mut Manifest) {
    let names = ["language", "pyodide"];
    let Some((at, runtime)) = reader.section("", members, "runtime", &names) else { return };
    let javascript = runtime.get("language").and_then(Value::as_str) == Some("javascript");
    let like = "\"python\" or \"javascript\"";
    reader.member(&at, runtime, "language", like, |value| {
        Some(match value.as_str()? {
            "python" => Ok(()),
            "javascript" => Err(no_javascript()),
            other => Err(format!("`{}` is not one of python, javascript", Shown(other))),
        })
    });
    if javascript
        && members.get("packages").and_then(Value::as_array).is_some_and(|all| !all.is_empty())
    {
        reader.wrong("/packages", "must be empty where `runtime.language` is javascript");
    }
    if javascript && runtime.contains_key("pyodide") {
        reader
            .wrong("/runtime/pyodide", "must not be there where `runtime.language` is javascript");
    }
    let names = ["version", "profile", "preloadImports"];
    let Some((at, pyodide)) = reader.section(&at, runtime, "pyodide", &names) else { return };
    reader.member(&at, pyodide, "version", "a string", |value| {
        value.as_str().map(|version| match version {
            PYODIDE => Ok(()),
            other => Err(format!("`{}` is not \"{PYODIDE}\"", Shown(other))),
        })
    });
    reader.member(&at, pyodide, "profile", "a string", |value| value.as_str().map(profile));
    manifest.preload = reader.texts(&at, pyodide, "preloadImports", |name| match name.trim() {
        name if is_dotted(name) => Ok(name.to_owned()),
        name => Err(format!("`{}` is not the name of a module", Shown(name))),
    });
    ignored(
        manifest,
        &at,
        pyodide,
        &["version", "profile"],
        "the installed Python runs the bundle",
    );
}

fn profile(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match name.trim() {
        name if !name.is_empty() && name.chars().all(fits) => Ok(()),
        name => Err(format!("`{}` has more than letters, digits, `_` and `-`", Shown(name))),
    }
}

fn resources(reader: &mut Reader, members: &Map<String, Value>, manifest: &mut Manifest) {
    let names = ["cpu", "network", "filesystem", "hostCapabilities"];
    let Some((at, resources)) = reader.section("", members, "resources", &names) else { return };
    let wants = &mut manifest.wants;
    if let Some((at, cpu)) = reader.section(&at, resources, "cpu", &["defaultLimitMs"]) {
        let limit = reader.member(&at, cpu, "defaultLimitMs", COUNT, count);
        wants.cpu = limit.map(Duration::from_millis);
    }
    if let Some((at, files)) = reader.section(&at, resources, "filesystem", &["mode", "quotaBytes"])
    {
        wants_files(reader, &at, files, wants);
    }
    network(reader, &at, resources, manifest);
    let capabilities = reader.texts(&at, resources, "hostCapabilities", |name| {
        match name.trim().to_lowercase().as_str() {
            CAPABILITY => Ok(()),
            other => {
                Err(format!("`{}` is no capability: `{CAPABILITY}` is the only one", Shown(other)))
            }
        }
    });
    if !capabilities.is_empty() {
        manifest.notes.push(format!(
            "`/resources/hostCapabilities`: `{CAPABILITY}` is not needed: buffers are arguments here"
        ));
    }
}

const COUNT: &str = "a whole number from 1 on";

fn wants_files(reader: &mut Reader, at: &str, files: &Map<String, Value>, wants: &mut Wants) {
    wants.mode = reader.member(at, files, "mode", "\"read\" or \"readWrite\"", |value| {
        Some(match value.as_str()? {
            "read" => Ok(FileMode::Read),
            "readWrite" => Ok(FileMode::ReadWrite),
            other => Err(format!("`{}` is not one of read, readWrite", Shown(other))),
        })
    });
    wants.quota = reader.member(at, files, "quotaBytes", COUNT, count);
}

fn network(reader: &mut Reader, at: &str, resources: &Map<String, Value>, manifest: &mut Manifest) {
    const APPLIED: [&str; 4] = ["httpsOnly", "maxRequestBytes", "maxResponseBytes", "timeoutMs"];
    let names = ["allow", "httpsOnly", "maxRequestBytes", "maxResponseBytes", "timeoutMs"];
    let Some((at, network)) = reader.section(at, resources, "network", &names) else { return };
    reader.texts(&at, network, "allow", |host| match host.trim() {
        "" => Err("is empty".into()),
        host => Err::<(), _>(no_network(host)),
    });
    reader.member(&at, network, "httpsOnly", "true or false", |value| value.as_bool().map(Ok));
    for name in &APPLIED[1..] {
        reader.member(&at, network, name, COUNT, count);
    }
    ignored(manifest, &at, network, &APPLIED, "all network is denied");
}

/// Notes which of `names` are there for nothing.
fn ignored(
    manifest: &mut Manifest,
    at: &str,
    members: &Map<String, Value>,
    names: &[&str],
    why: &str,
) {
    for name in names.iter().filter(|name| members.contains_key(**name)) {
        manifest.notes.push(format!("`{at}/{name}` is ignored: {why}"));
    }
}
