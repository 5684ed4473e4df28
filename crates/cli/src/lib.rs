//! The `exuvia` command: arguments to calls. The binary and the wheel's `python -m exuvia` share it.
//!
//! How a setting gets its value is in `settings` (the one table), `value`, `args`, `project` and
//! `resolve`; what the commands do in `serve`, `call` and `config`; what `call` reads and writes in
//! `input`, `output` and `formats`; what people read in `render`, `routes` and `exit`. The sandbox's
//! commands are `run`, `bundle`, `policy` and `doctor`. Nothing here knows how anything works: that is
//! for `exuvia-env`, `exuvia-host`, `exuvia-bundle`, `exuvia-jail` and `exuvia-serve`.
#![forbid(unsafe_code)]

mod args;
mod backend;
mod bundle;
mod call;
mod config;
mod declared;
pub mod docs;
mod doctor;
mod edge;
mod exit;
mod formats;
mod image;
mod input;
mod json;
mod listen;
mod logging;
mod output;
mod policy;
mod project;
mod render;
mod resolve;
mod route_config;
mod routes;
mod run;
mod serve;
mod settings;
mod signals;
mod start;
mod targets;
mod terminal;
mod value;

use std::{ffi::OsString, path::PathBuf};

use clap::error::ErrorKind;

use crate::{
    exit::{Exit, Stop},
    start::Origins,
};

/// The Python interpreter that runs this command, where one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interpreter {
    /// None does: this is the binary.
    None,
    /// The person chose it by running it (`python -m exuvia`): handlers run with it unless
    /// `--python` or a project file names another.
    Running(PathBuf),
    /// The command is a script of its environment: handlers run with it where no other environment
    /// is found.
    Installed(PathBuf),
}

/// Runs the command with `args`, the program's name first, and gives the exit code.
///
/// `runtime` is the worker runtime library where the caller knows it: a wheel knows its own native
/// module.
#[must_use]
pub fn run(args: Vec<OsString>, runtime: Option<PathBuf>, python: Interpreter) -> i32 {
    let matches = match args::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version go to stdout; a reader that went away has what it wanted.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { Exit::Ok } else { Exit::Usage }.code();
        }
    };
    let variables: resolve::Variables = std::env::vars_os().collect();
    for warning in resolve::strange_variables(&variables) {
        terminal::warn(&warning, &variables);
    }
    let Some((name, matches)) = matches.subcommand() else { return Exit::Usage.code() };
    let as_json = errors_as_json(name, matches);
    let result = working_folder().and_then(|cwd| match name {
        "config" => config::run(matches, &cwd, &variables),
        name => {
            let origins = Origins { cwd, variables: variables.clone(), runtime, python };
            match name {
                "serve" => serve::run(matches, false, origins),
                "openapi" => serve::run(matches, true, origins),
                "run" => run::run(matches, origins),
                "bundle" => bundle::run(matches, &origins),
                "policy" => policy::run(matches, &origins),
                "doctor" => doctor::run(matches, &origins),
                _ => call::run(matches, origins),
            }
        }
    });
    match result {
        Ok(exit) => exit.code(),
        Err(stop) => {
            if as_json {
                // Who asked for JSON and does not read it gets the exit code.
                let _ = terminal::data(format!("{}\n", stop.json()).as_bytes());
            } else {
                terminal::show(&stop, &variables);
            }
            stop.exit.code()
        }
    }
}

/// Whether errors are data, too.
fn errors_as_json(name: &str, matches: &clap::ArgMatches) -> bool {
    let matches = matches.subcommand().map_or(matches, |(_, matches)| matches);
    let has = ["call", "run", "bundle", "policy", "doctor"].contains(&name);
    has && matches.try_get_one::<bool>("json").is_ok_and(|given| given == Some(&true))
}

fn working_folder() -> Result<PathBuf, Stop> {
    std::env::current_dir().map_err(|error| {
        Stop::usage(format!("the working folder is not there any more, or not readable: {error}"))
    })
}
