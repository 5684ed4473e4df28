//! Every setting, declared once: its key in a project file, its flag, its variable, what values it
//! takes, its default and the commands that use it. The argument parser, the reader of project
//! files, `exuvia config` and `docs/cli.md` are all made from [`SETTINGS`].

mod table;

use std::ffi::OsStr;

pub(crate) use self::table::SETTINGS;
use crate::value::{Kind, Value};

/// One setting.
pub(crate) struct Setting {
    /// Its name, and its key in a project file if `in_file`.
    pub(crate) key: &'static str,
    pub(crate) flag: Option<&'static str>,
    pub(crate) env: Option<&'static str>,
    pub(crate) in_file: bool,
    pub(crate) kind: Kind,
    pub(crate) default: Default,
    pub(crate) help: &'static str,
    pub(crate) commands: &'static [Cmd],
}

/// A command that has settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cmd {
    Serve,
    Call,
    Run,
    Check,
    Explain,
    Doctor,
}

/// The value of a setting that nobody set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Default {
    Text(&'static str),
    /// One value for `serve`, another for all commands that end by themselves.
    PerCommand {
        serve: &'static str,
        others: &'static str,
    },
    /// One for each processor core.
    Cores,
    /// None; what happens then, in words.
    Unset(&'static str),
}

pub(crate) const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
pub(crate) const LOG_FORMATS: &[&str] = &["human", "json"];
pub(crate) const ACCESS_LOGS: &[&str] = &["off", "human", "json"];
pub(crate) const SWITCH: &[&str] = &["off", "on"];
pub(crate) const EXPOSE: &[&str] = &["auto", "true", "false"];
pub(crate) const START_METHODS: &[&str] = &["fork", "spawn"];
pub(crate) const FILE_MODES: &[&str] = &["read", "read-write"];

/// Variables of others that Exuvia heeds.
pub(crate) static FOREIGN_VARIABLES: &[(&str, &str)] = &[
    ("VIRTUAL_ENV", "the virtual environment that is active"),
    ("PATH", "where `python3` and `python` are looked for last"),
    (
        "OMP_NUM_THREADS",
        "threads of numeric libraries in each worker, where `blas-threads` is not set; \
         `OPENBLAS_NUM_THREADS`, `MKL_NUM_THREADS` and `BLIS_NUM_THREADS` count as well",
    ),
    ("NO_COLOR", "set to anything: no colours"),
];

// === impl Cmd ===

impl Cmd {
    /// As it is typed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Call => "call",
            Self::Run => "run",
            Self::Check => "bundle check",
            Self::Explain => "policy explain",
            Self::Doctor => "doctor",
        }
    }
}

// === impl Setting ===

impl Setting {
    pub(crate) fn is_for(&self, command: Cmd) -> bool {
        self.commands.contains(&command)
    }

    /// What the default is, for help and documentation.
    pub(crate) fn default_text(&self) -> String {
        match self.default {
            Default::Text(text) => text.into(),
            Default::PerCommand { serve, others } => format!("{serve} for `serve`, else {others}"),
            Default::Cores => "one per core".into(),
            Default::Unset(words) => words.into(),
        }
    }

    /// The default as a value, where there is one.
    pub(crate) fn default_value(&self, command: Cmd) -> Result<Option<Value>, String> {
        let text = match (self.default, command) {
            (Default::Text(text), _)
            | (Default::PerCommand { serve: text, .. }, Cmd::Serve)
            | (Default::PerCommand { others: text, .. }, _) => text,
            (Default::Cores, _) => {
                let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
                return Ok(Some(Value::Count(cores as u64)));
            }
            (Default::Unset(_), _) => return Ok(None),
        };
        self.kind.parse(OsStr::new(text)).map(Some)
    }
}

/// The setting with this key in project files.
pub(crate) fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.in_file && setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        for setting in SETTINGS {
            let key = setting.key;
            assert!(setting.help.chars().next().is_some_and(char::is_uppercase), "{key}");
            assert!(!setting.help.ends_with('.'), "{key}");
            if let Some(env) = setting.env {
                let expected = format!("EXUVIA_{}", key.to_uppercase().replace('-', "_"));
                assert_eq!(env, expected, "a variable is the key in capitals");
            }
            if let Some(flag) = setting.flag
                && setting.kind != Kind::Routes
            {
                assert_eq!(flag, key);
            }
            for command in [Cmd::Serve, Cmd::Call, Cmd::Run, Cmd::Check, Cmd::Explain, Cmd::Doctor]
            {
                setting.default_value(command).unwrap_or_else(|error| panic!("{key}: {error}"));
            }
            assert_eq!(SETTINGS.iter().filter(|other| other.key == key).count(), 1, "{key}");
        }
    }
}
