//! Every setting, declared once: its key in a project file, its flag, its variable, what values it
//! takes, its default and the commands that use it. The argument parser, the reader of project
//! files, `exuvia config` and `docs/cli.md` are all made from [`SETTINGS`].

use std::ffi::OsStr;

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
}

/// The value of a setting that nobody set.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Default {
    Text(&'static str),
    /// One value for `serve`, another for `call`.
    PerCommand {
        serve: &'static str,
        call: &'static str,
    },
    /// One for each processor core.
    Cores,
    /// None; what happens then, in words.
    Unset(&'static str),
}

const BOTH: &[Cmd] = &[Cmd::Serve, Cmd::Call];
const SERVE: &[Cmd] = &[Cmd::Serve];

pub(crate) const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
pub(crate) const LOG_FORMATS: &[&str] = &["human", "json"];
pub(crate) const ACCESS_LOGS: &[&str] = &["off", "human", "json"];
pub(crate) const SWITCH: &[&str] = &["off", "on"];
pub(crate) const EXPOSE: &[&str] = &["auto", "true", "false"];
pub(crate) const START_METHODS: &[&str] = &["fork", "spawn"];

/// The table.
pub(crate) static SETTINGS: &[Setting] = &[
    Setting {
        key: "targets",
        flag: None,
        env: None,
        in_file: true,
        kind: Kind::Targets,
        default: Default::Unset("the TARGETs of the command line"),
        help: "What to serve when the command line names nothing; paths start at the file's folder",
        commands: SERVE,
    },
    Setting {
        key: "host",
        flag: Some("host"),
        env: Some("EXUVIA_HOST"),
        in_file: true,
        kind: Kind::Text,
        default: Default::Text("127.0.0.1"),
        help: "Address to listen on; 0.0.0.0 or :: for all",
        commands: SERVE,
    },
    Setting {
        key: "port",
        flag: Some("port"),
        env: Some("EXUVIA_PORT"),
        in_file: true,
        kind: Kind::Port,
        default: Default::Text("8000"),
        help: "Port to listen on; 0 takes any free one",
        commands: SERVE,
    },
    Setting {
        key: "workers",
        flag: Some("workers"),
        env: Some("EXUVIA_WORKERS"),
        in_file: true,
        kind: Kind::Count { zero: false },
        default: Default::Cores,
        help: "Worker processes",
        commands: SERVE,
    },
    Setting {
        key: "spares",
        flag: Some("spares"),
        env: Some("EXUVIA_SPARES"),
        in_file: true,
        kind: Kind::Count { zero: true },
        default: Default::Text("0"),
        help: "Workers beyond `workers` that are kept ready to take the place of one that ends",
        commands: SERVE,
    },
    Setting {
        key: "start-method",
        flag: Some("start-method"),
        env: Some("EXUVIA_START_METHOD"),
        in_file: true,
        kind: Kind::Choice(START_METHODS),
        default: Default::Text("fork"),
        help: "How workers are made: forked from a process that has the imports done, or each \
               started afresh",
        commands: SERVE,
    },
    Setting {
        key: "preload",
        flag: Some("preload"),
        env: Some("EXUVIA_PRELOAD"),
        in_file: true,
        kind: Kind::Modules,
        default: Default::Unset("none"),
        help: "Modules to import before workers are forked, beside those the handlers import",
        commands: SERVE,
    },
    Setting {
        key: "warm",
        flag: Some("warm"),
        env: Some("EXUVIA_WARM"),
        in_file: true,
        kind: Kind::Functions,
        default: Default::Unset("none"),
        help: "Functions to call once, before workers are forked",
        commands: SERVE,
    },
    Setting {
        key: "blas-threads",
        flag: Some("blas-threads"),
        env: Some("EXUVIA_BLAS_THREADS"),
        in_file: true,
        kind: Kind::Count { zero: false },
        default: Default::Unset("cores / workers"),
        help: "Threads of numeric libraries (BLAS, OpenMP) in each worker",
        commands: SERVE,
    },
    Setting {
        key: "max-rss",
        flag: Some("max-rss"),
        env: Some("EXUVIA_MAX_RSS"),
        in_file: true,
        kind: Kind::Size,
        default: Default::Unset("never"),
        help: "Resident memory at which a worker is replaced; looked at between calls",
        commands: SERVE,
    },
    Setting {
        key: "max-calls",
        flag: Some("max-calls"),
        env: Some("EXUVIA_MAX_CALLS"),
        in_file: true,
        kind: Kind::Count { zero: false },
        default: Default::Unset("never"),
        help: "Calls after which a worker is replaced",
        commands: SERVE,
    },
    Setting {
        key: "lifetime",
        flag: Some("lifetime"),
        env: Some("EXUVIA_LIFETIME"),
        in_file: true,
        kind: Kind::Duration { zero: false },
        default: Default::Unset("never"),
        help: "Time after which a worker is replaced",
        commands: SERVE,
    },
    Setting {
        key: "recycle-jitter",
        flag: Some("recycle-jitter"),
        env: Some("EXUVIA_RECYCLE_JITTER"),
        in_file: true,
        kind: Kind::Percent,
        default: Default::Text("10%"),
        help: "By how much, at most, chance shortens `max-calls` and `lifetime` of each worker: not \
               all leave at once",
        commands: SERVE,
    },
    Setting {
        key: "concurrency",
        flag: Some("concurrency"),
        env: Some("EXUVIA_CONCURRENCY"),
        in_file: true,
        kind: Kind::Count { zero: false },
        default: Default::Text("64"),
        help: "Calls of `async def` handlers that run in one worker at a time",
        commands: SERVE,
    },
    Setting {
        key: "queue",
        flag: Some("queue"),
        env: Some("EXUVIA_QUEUE"),
        in_file: true,
        kind: Kind::Count { zero: false },
        default: Default::Text("1024"),
        help: "Calls that may wait for a worker; one more is refused with 503",
        commands: SERVE,
    },
    Setting {
        key: "timeout",
        flag: Some("timeout"),
        env: Some("EXUVIA_TIMEOUT"),
        in_file: true,
        kind: Kind::Duration { zero: false },
        default: Default::Text("30s"),
        help: "Time a call may take, waiting included",
        commands: BOTH,
    },
    Setting {
        key: "routes",
        flag: Some("route-timeout"),
        env: None,
        in_file: true,
        kind: Kind::Routes,
        default: Default::Unset("`timeout`"),
        help: "Time the calls of one route may take, as ROUTE=TIME; a file has all that there is \
               to say of routes, like `[routes.\"weather/spread\"]` with `timeout = \"5s\"`",
        commands: SERVE,
    },
    Setting {
        key: "openapi",
        flag: Some("openapi"),
        env: Some("EXUVIA_OPENAPI"),
        in_file: true,
        kind: Kind::Path,
        default: Default::Unset("none"),
        help: "An OpenAPI document (JSON or YAML) to take routes from; those without a handler \
               answer with its examples",
        commands: SERVE,
    },
    Setting {
        key: "max-body",
        flag: Some("max-body"),
        env: Some("EXUVIA_MAX_BODY"),
        in_file: true,
        kind: Kind::Size,
        default: Default::Text("16MiB"),
        help: "Largest request body; a larger one is refused with 413",
        commands: SERVE,
    },
    Setting {
        key: "max-table",
        flag: Some("max-table"),
        env: Some("EXUVIA_MAX_TABLE"),
        in_file: true,
        kind: Kind::Size,
        default: Default::Text("1GiB"),
        help: "Memory that reading one table may take",
        commands: BOTH,
    },
    Setting {
        key: "max-output",
        flag: Some("max-output"),
        env: Some("EXUVIA_MAX_OUTPUT"),
        in_file: true,
        kind: Kind::Size,
        default: Default::Text("1MiB"),
        help: "How much of what one call prints is kept; the rest is counted and dropped",
        commands: BOTH,
    },
    Setting {
        key: "python",
        flag: Some("python"),
        env: Some("EXUVIA_PYTHON"),
        in_file: true,
        kind: Kind::Path,
        default: Default::Unset("looked for"),
        help: "Python to run handlers with: an executable or a virtual environment's folder",
        commands: BOTH,
    },
    Setting {
        key: "runtime",
        flag: None,
        env: Some("EXUVIA_RUNTIME"),
        in_file: false,
        kind: Kind::Path,
        default: Default::Unset("beside the executable"),
        help: "The library that workers load",
        commands: BOTH,
    },
    Setting {
        key: "start-timeout",
        flag: Some("start-timeout"),
        env: Some("EXUVIA_START_TIMEOUT"),
        in_file: true,
        kind: Kind::Duration { zero: false },
        default: Default::Text("60s"),
        help: "Time a worker may take to start and import its targets",
        commands: BOTH,
    },
    Setting {
        key: "drain-timeout",
        flag: Some("drain-timeout"),
        env: Some("EXUVIA_DRAIN_TIMEOUT"),
        in_file: true,
        kind: Kind::Duration { zero: true },
        default: Default::Text("10s"),
        help: "Time running requests have to finish after SIGTERM or Ctrl-C",
        commands: SERVE,
    },
    Setting {
        key: "expose-errors",
        flag: Some("expose-errors"),
        env: Some("EXUVIA_EXPOSE_ERRORS"),
        in_file: true,
        kind: Kind::Choice(EXPOSE),
        default: Default::Text("auto"),
        help: "Whether answers carry exception messages and tracebacks; auto: when the host is \
               loopback",
        commands: SERVE,
    },
    Setting {
        key: "log-level",
        flag: Some("log-level"),
        env: Some("EXUVIA_LOG_LEVEL"),
        in_file: true,
        kind: Kind::Choice(LOG_LEVELS),
        default: Default::PerCommand { serve: "info", call: "off" },
        help: "Least severity to log",
        commands: BOTH,
    },
    Setting {
        key: "log-format",
        flag: Some("log-format"),
        env: Some("EXUVIA_LOG_FORMAT"),
        in_file: true,
        kind: Kind::Choice(LOG_FORMATS),
        default: Default::Text("human"),
        help: "How the log on stderr is written",
        commands: BOTH,
    },
    Setting {
        key: "access-log",
        flag: Some("access-log"),
        env: Some("EXUVIA_ACCESS_LOG"),
        in_file: true,
        kind: Kind::Choice(ACCESS_LOGS),
        default: Default::Text("off"),
        help: "Whether stderr gets a line for every request, and how it looks",
        commands: SERVE,
    },
    Setting {
        key: "compress",
        flag: Some("compress"),
        env: Some("EXUVIA_COMPRESS"),
        in_file: true,
        kind: Kind::Choice(SWITCH),
        default: Default::Text("off"),
        help: "Whether answers are packed (zstd, br, gzip) for clients that read them so",
        commands: SERVE,
    },
    Setting {
        key: "admin",
        flag: Some("admin"),
        env: Some("EXUVIA_ADMIN"),
        in_file: true,
        kind: Kind::Text,
        default: Default::Unset("with the handlers on a loopback address, nowhere on others"),
        help: "Address and port, or only a port, for the built-in pages: 127.0.0.1:9000",
        commands: SERVE,
    },
    Setting {
        key: "max-connections",
        flag: Some("max-connections"),
        env: Some("EXUVIA_MAX_CONNECTIONS"),
        in_file: true,
        kind: Kind::Count { zero: false },
        default: Default::Text("4096"),
        help: "Connections open at a time; more wait",
        commands: SERVE,
    },
    Setting {
        key: "max-header",
        flag: Some("max-header"),
        env: Some("EXUVIA_MAX_HEADER"),
        in_file: true,
        kind: Kind::Size,
        default: Default::Text("32KiB"),
        help: "Largest head of a request: its line and headers together",
        commands: SERVE,
    },
    Setting {
        key: "header-timeout",
        flag: Some("header-timeout"),
        env: Some("EXUVIA_HEADER_TIMEOUT"),
        in_file: true,
        kind: Kind::Duration { zero: false },
        default: Default::Text("10s"),
        help: "Time a request's head may take, and a new connection may be silent",
        commands: SERVE,
    },
    Setting {
        key: "body-timeout",
        flag: Some("body-timeout"),
        env: Some("EXUVIA_BODY_TIMEOUT"),
        in_file: true,
        kind: Kind::Duration { zero: false },
        default: Default::Text("30s"),
        help: "Time between two pieces of a body",
        commands: SERVE,
    },
    Setting {
        key: "write-timeout",
        flag: Some("write-timeout"),
        env: Some("EXUVIA_WRITE_TIMEOUT"),
        in_file: true,
        kind: Kind::Duration { zero: false },
        default: Default::Text("30s"),
        help: "Time a client may refuse to read its answer",
        commands: SERVE,
    },
    Setting {
        key: "idle-timeout",
        flag: Some("idle-timeout"),
        env: Some("EXUVIA_IDLE_TIMEOUT"),
        in_file: true,
        kind: Kind::Duration { zero: false },
        default: Default::Text("75s"),
        help: "Time a connection may rest between two requests",
        commands: SERVE,
    },
];

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

// === impl Setting ===

impl Setting {
    pub(crate) fn is_for(&self, command: Cmd) -> bool {
        self.commands.contains(&command)
    }

    /// What the default is, for help and documentation.
    pub(crate) fn default_text(&self) -> String {
        match self.default {
            Default::Text(text) => text.into(),
            Default::PerCommand { serve, call } => format!("{serve}, for `call` {call}"),
            Default::Cores => "one per core".into(),
            Default::Unset(words) => words.into(),
        }
    }

    /// The default as a value, where there is one.
    pub(crate) fn default_value(&self, command: Cmd) -> Result<Option<Value>, String> {
        let text = match (self.default, command) {
            (Default::Text(text), _)
            | (Default::PerCommand { serve: text, .. }, Cmd::Serve)
            | (Default::PerCommand { call: text, .. }, Cmd::Call) => text,
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
            for command in BOTH {
                setting.default_value(*command).unwrap_or_else(|error| panic!("{key}: {error}"));
            }
            assert_eq!(SETTINGS.iter().filter(|other| other.key == key).count(), 1, "{key}");
        }
    }
}
