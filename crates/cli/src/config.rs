//! `exuvia config`: every setting, its value and where that comes from.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::ArgMatches;

use crate::{
    args,
    exit::{Exit, Stop},
    project::{self, Project},
    resolve::{self, Resolved, Variables},
    settings::{self, Cmd},
    terminal,
    value::Value,
};

/// Runs the command.
pub(crate) fn run(matches: &ArgMatches, cwd: &Path, variables: &Variables) -> Result<Exit, Stop> {
    let matches = matches.subcommand().map_or(matches, |(_, show)| show);
    let project = match matches.get_one::<PathBuf>("project") {
        Some(path) => Some(named(path, cwd)?),
        None => project::discover(cwd)?,
    };
    let flags = args::flags(matches, Cmd::Serve);
    let resolved = resolve::resolve(Cmd::Serve, &flags, variables, project.as_ref())?;
    let text = if matches.get_flag("json") {
        json(&resolved, project.as_ref())
    } else {
        table(&resolved, project.as_ref())
    };
    terminal::data(text.as_bytes())
        .map_err(|error| Stop::usage(format!("stdout cannot be written: {error}")))?;
    Ok(Exit::Ok)
}

/// The project at a path that was named, which must be one.
fn named(path: &Path, cwd: &Path) -> Result<Project, Stop> {
    let there = cwd.join(path);
    let found =
        if there.is_dir() { project::in_folder(&there, cwd)? } else { project::read(&there, cwd)? };
    found.ok_or_else(|| {
        let path = path.display();
        Stop::usage(format!("{path} has neither an exuvia.toml nor a [tool.exuvia]"))
    })
}

fn table(resolved: &Resolved, project: Option<&Project>) -> String {
    let rows: Vec<_> = resolved
        .entries()
        .iter()
        .map(|entry| {
            let value = match &entry.value {
                Some(value) => value.to_string(),
                None => {
                    let unset = settings::SETTINGS.iter().find(|s| s.key == entry.key);
                    unset.map_or(String::new(), |s| format!("({})", s.default_text()))
                }
            };
            (entry.key, value, entry.origin.to_string())
        })
        .collect();
    let widest = |width: fn(&(&str, String, String)) -> usize| rows.iter().map(width).max();
    let key = widest(|row| row.0.len()).unwrap_or(0);
    let value = widest(|row| row.1.chars().count()).unwrap_or(0).min(40);
    let mut text = String::new();
    // Writing to a String cannot fail.
    for row in &rows {
        let _ = writeln!(text, "{:key$}  {:value$}  {}", row.0, row.1, row.2);
    }
    let file = project.map_or("none", |project| project.name.as_str());
    let _ = writeln!(text, "\nproject file: {file}");
    text
}

fn json(resolved: &Resolved, project: Option<&Project>) -> String {
    let settings: serde_json::Map<_, _> = resolved
        .entries()
        .iter()
        .map(|entry| {
            let value = entry.value.as_ref().map(Value::json);
            let origin = entry.origin.to_string();
            (entry.key.into(), serde_json::json!({ "value": value, "origin": origin }))
        })
        .collect();
    let file = project.map(|project| project.name.as_str());
    let document = serde_json::json!({ "project_file": file, "settings": settings });
    format!("{document:#}\n")
}
