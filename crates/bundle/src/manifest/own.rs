//! `exuvia.bundle.json`.

use std::time::Duration;

use exuvia_core::{FileMode, suggest, units};
use serde_json::{Map, Value};

use super::{Entrypoint, Manifest, OWN_NAME, Wants, is_dotted};
use crate::{error::Wrong, packages::Requirement, reader::Reader, show::Shown};

/// The one version there is.
pub(super) const SCHEMA: &str = "exuvia.bundle/1";

const MEMBERS: [&str; 10] = [
    "$schema",
    "schema",
    "description",
    "entrypoint",
    "language",
    "packages",
    "preload",
    "limits",
    "files",
    "network",
];
const LIMITS: [&str; 6] = ["wall", "cpu", "memory", "output", "result", "threads"];
const FILES: [&str; 3] = ["mode", "quota", "inodes"];

pub(super) fn read(text: &[u8]) -> Result<Manifest, Wrong> {
    let mut reader = Reader::default();
    let value = reader.parse(text);
    let members = value.as_ref().and_then(|value| reader.object("", value, &MEMBERS));
    let manifest = members.map(|members| document(&mut reader, members));
    reader.finish(OWN_NAME)?;
    Ok(manifest.unwrap_or_default())
}

fn document(reader: &mut Reader, members: &Map<String, Value>) -> Manifest {
    schema(reader, members);
    let text = |value: &Value| value.as_str().map(|text| Ok(text.to_owned()));
    reader.member("", members, "$schema", "a string", text);
    let description = reader.member("", members, "description", "a string", text);
    let entrypoint =
        reader.member("", members, "entrypoint", "a string, like \"main:handler\"", |value| {
            value.as_str().map(str::parse::<Entrypoint>)
        });
    reader.member("", members, "language", "\"python\"", language);
    let packages = reader.texts("", members, "packages", str::parse::<Requirement>);
    let preload = reader.texts("", members, "preload", module);
    let mut wants = Wants::default();
    if let Some((pointer, limits)) = reader.section("", members, "limits", &LIMITS) {
        limit(reader, &pointer, limits, &mut wants);
    }
    if let Some((pointer, files)) = reader.section("", members, "files", &FILES) {
        wants.mode = reader.member(&pointer, files, "mode", "\"read\" or \"read-write\"", mode);
        wants.quota = reader.member(&pointer, files, "quota", SIZE, size);
        wants.inodes = reader.member(&pointer, files, "inodes", COUNT, count);
    }
    if let Some((pointer, network)) = reader.section("", members, "network", &["allow"]) {
        reader.texts(&pointer, network, "allow", |host| Err::<(), _>(no_network(host)));
    }
    Manifest {
        file: Some(OWN_NAME),
        description,
        entrypoint: entrypoint.unwrap_or_default(),
        packages,
        preload,
        wants,
        notes: Vec::new(),
    }
}

fn schema(reader: &mut Reader, members: &Map<String, Value>) {
    if !members.contains_key("schema") {
        reader.wrong("/schema", format!("is missing: write \"schema\": \"{SCHEMA}\""));
    }
    reader.member("", members, "schema", &format!("\"{SCHEMA}\""), |value| {
        value.as_str().map(|text| match text {
            SCHEMA => Ok(()),
            other => Err(format!("`{}` is not read: the version is \"{SCHEMA}\"", Shown(other))),
        })
    });
}

fn limit(reader: &mut Reader, at: &str, limits: &Map<String, Value>, wants: &mut Wants) {
    wants.wall = reader.member(at, limits, "wall", TIME, time);
    wants.cpu = reader.member(at, limits, "cpu", TIME, time);
    wants.memory = reader.member(at, limits, "memory", SIZE, size);
    wants.output = reader.member(at, limits, "output", SIZE, size);
    wants.result = reader.member(at, limits, "result", SIZE, size);
    wants.threads = reader.member(at, limits, "threads", COUNT, |value| {
        let read = count(value)?;
        Some(read.and_then(|count| u32::try_from(count).map_err(|_| too_large())))
    });
}

fn language(value: &Value) -> Option<Result<(), String>> {
    Some(match value.as_str()? {
        "python" => Ok(()),
        "javascript" => Err(no_javascript()),
        other => {
            let hint = slip(other, &["python"]);
            Err(format!("`{}` is no language of bundles: only python is.{hint}", Shown(other)))
        }
    })
}

fn mode(value: &Value) -> Option<Result<FileMode, String>> {
    Some(match value.as_str()? {
        "read" => Ok(FileMode::Read),
        "read-write" => Ok(FileMode::ReadWrite),
        other => {
            let hint = slip(other, &["read", "read-write"]);
            Err(format!("`{}` is not one of read, read-write.{hint}", Shown(other)))
        }
    })
}

fn slip(word: &str, right: &[&str]) -> String {
    if word.len() > 64 { String::new() } else { suggest::did_you_mean(word, right.iter().copied()) }
}

fn module(name: &str) -> Result<String, String> {
    if is_dotted(name) {
        return Ok(name.into());
    }
    Err(format!(
        "`{}` is not the name of a module: write it as `import` does, like numpy.linalg",
        Shown(name)
    ))
}

pub(super) fn no_javascript() -> String {
    "`javascript` is not built yet: bundles are in python".into()
}

pub(super) fn no_network(host: &str) -> String {
    format!("all network is denied, and no host can be allowed yet: leave out `{}`", Shown(host))
}

const TIME: &str = "a time: a string like \"30s\", or a number of seconds";
const SIZE: &str = "a size: a string like \"512MiB\", or a whole number of bytes";
const COUNT: &str = "a whole number from 1 on";

fn time(value: &Value) -> Option<Result<Duration, String>> {
    let read = match value {
        Value::String(text) => units::duration(text),
        Value::Number(number) => {
            let seconds = number.as_f64().unwrap_or(-1.0);
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| format!("{number} is not a number of seconds"))
        }
        _ => return None,
    };
    Some(read.and_then(|time| if time.is_zero() { Err(zero()) } else { Ok(time) }))
}

fn size(value: &Value) -> Option<Result<u64, String>> {
    match value {
        Value::String(text) => {
            let read = units::size(text);
            Some(read.and_then(|size| if size == 0 { Err(zero()) } else { Ok(size) }))
        }
        Value::Number(_) => count(value),
        _ => None,
    }
}

pub(super) fn count(value: &Value) -> Option<Result<u64, String>> {
    match value {
        Value::Number(number) => Some(match number.as_u64() {
            Some(0) => Err(zero()),
            Some(count) => Ok(count),
            None => Err(format!("{number} is not a whole number from 1 on")),
        }),
        _ => None,
    }
}

fn zero() -> String {
    "is zero: nothing could run. Leave it out for what the host gives".into()
}

pub(super) fn too_large() -> String {
    "is too large".into()
}
