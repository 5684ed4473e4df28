//! Every setting, declared once: its key in a project file, its flag, its variable, what values it
//! takes, its default and the commands that use it. The argument parser, the reader of project
//! files, `exuvia config` and `docs/cli.md` are all made from [`SETTINGS`].

use std::{collections::BTreeMap, ffi::OsStr, fmt, path::PathBuf, time::Duration};

use exuvia_core::units;

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

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Port,
    /// A whole number, at least 1.
    Count,
    /// Bytes, at least 1.
    Size,
    /// A time; zero only where `zero`.
    Duration {
        zero: bool,
    },
    Path,
    Choice(&'static [&'static str]),
    /// A list of targets.
    Targets,
    /// Settings of single routes: a table in the file, `ROUTE=TIME` as a flag.
    Routes,
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

/// A value that was read and is within its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Port(u16),
    Count(u64),
    Size(u64),
    Duration(Duration),
    Path(PathBuf),
    List(Vec<String>),
    Routes(BTreeMap<String, Duration>),
}

const BOTH: &[Cmd] = &[Cmd::Serve, Cmd::Call];
const SERVE: &[Cmd] = &[Cmd::Serve];

pub(crate) const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
pub(crate) const LOG_FORMATS: &[&str] = &["human", "json"];
pub(crate) const EXPOSE: &[&str] = &["auto", "true", "false"];

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
        kind: Kind::Count,
        default: Default::Cores,
        help: "Worker processes",
        commands: SERVE,
    },
    Setting {
        key: "concurrency",
        flag: Some("concurrency"),
        env: Some("EXUVIA_CONCURRENCY"),
        in_file: true,
        kind: Kind::Count,
        default: Default::Text("64"),
        help: "Calls of `async def` handlers that run in one worker at a time",
        commands: SERVE,
    },
    Setting {
        key: "queue",
        flag: Some("queue"),
        env: Some("EXUVIA_QUEUE"),
        in_file: true,
        kind: Kind::Count,
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
        help: "Time the calls of one route may take, as ROUTE=TIME; in a file \
               `[routes.\"weather/spread\"]` with `timeout = \"5s\"`",
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
];

/// Variables of others that Exuvia heeds.
pub(crate) static FOREIGN_VARIABLES: &[(&str, &str)] = &[
    ("VIRTUAL_ENV", "the virtual environment that is active"),
    ("PATH", "where `python3` and `python` are looked for last"),
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

// === impl Kind ===

impl Kind {
    /// Reads a value written as text.
    pub(crate) fn parse(self, text: &OsStr) -> Result<Value, String> {
        if self == Self::Path {
            if text.is_empty() {
                return Err("the path is empty".into());
            }
            return Ok(Value::Path(text.into()));
        }
        let shown = text.to_string_lossy();
        let text = text.to_str().ok_or_else(|| format!("`{shown}` is not text"))?;
        match self {
            Self::Text if text.is_empty() => Err("the value is empty".into()),
            Self::Text => Ok(Value::Text(text.into())),
            Self::Port => {
                let wrong =
                    |_| format!("`{text}` is not a port: write a whole number from 0 to 65535");
                text.parse().map(Value::Port).map_err(wrong)
            }
            Self::Count => match text.parse::<u32>() {
                Ok(number) if number > 0 => Ok(Value::Count(number.into())),
                _ => Err(format!("`{text}` is not a count: write a whole number, at least 1")),
            },
            Self::Size => match units::size(text)? {
                0 => Err("the size must be more than 0".into()),
                bytes => Ok(Value::Size(bytes)),
            },
            Self::Duration { zero } => duration(text, zero).map(Value::Duration),
            Self::Choice(words) => choice(text, words).map(Value::Text),
            Self::Targets => Ok(Value::List(vec![text.into()])),
            Self::Routes => {
                let wrong = || {
                    format!(
                        "`{text}` is not a route's limit: write ROUTE=TIME, like weather/spread=5s"
                    )
                };
                let (route, time) = text.split_once('=').ok_or_else(wrong)?;
                let route = route_name(route)?;
                Ok(Value::Routes([(route, duration(time, false)?)].into()))
            }
            Self::Path => Ok(Value::Path(text.into())),
        }
    }

    /// The placeholder in `--help`.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "ADDRESS",
            Self::Port => "PORT",
            Self::Count => "N",
            Self::Size => "SIZE",
            Self::Duration { .. } => "TIME",
            Self::Path => "PATH",
            Self::Choice(_) => "WORD",
            Self::Targets => "TARGET",
            Self::Routes => "ROUTE=TIME",
        }
    }

    /// What a project file must hold, to follow "must be".
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text | Self::Path => "a string".into(),
            Self::Port => "a whole number from 0 to 65535".into(),
            Self::Count => "a whole number, at least 1".into(),
            Self::Size => "a size: a string like \"16MiB\", or a whole number of bytes".into(),
            Self::Duration { .. } => {
                "a duration: a string like \"30s\", or a number of seconds".into()
            }
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Targets => "a list of strings, like [\"weather.py\"]".into(),
            Self::Routes => "a table with an entry for each route".into(),
        }
    }
}

/// A route without the slashes around it, checked to have the form `module/function`.
pub(crate) fn route_name(text: &str) -> Result<String, String> {
    let name = text.trim_matches('/');
    match name.rsplit_once('/') {
        Some((module, function)) if !module.is_empty() && !function.is_empty() => Ok(name.into()),
        _ => Err(format!("`{text}` is not a route: write module/function, like weather/spread")),
    }
}

pub(crate) fn duration(text: &str, zero: bool) -> Result<Duration, String> {
    let duration = units::duration(text)?;
    // Longer than any machine lives: such a deadline could not be written down.
    let too_long = duration > Duration::from_secs(100 * 365 * 24 * 3600);
    match duration {
        Duration::ZERO if !zero => Err("the time must be more than 0".into()),
        _ if too_long => Err(format!("`{text}` is too long")),
        duration => Ok(duration),
    }
}

fn choice(text: &str, words: &[&'static str]) -> Result<String, String> {
    if words.contains(&text) {
        return Ok(text.into());
    }
    let hint = exuvia_core::suggest::did_you_mean(text, words.iter().copied());
    Err(format!("`{text}` is not one of {}.{hint}", words.join(", ")))
}

// === impl Value ===

impl Value {
    /// The value as a project file would hold it.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Self::Port(number) => (*number).into(),
            Self::Count(number) => (*number).into(),
            Self::List(items) => items.clone().into(),
            Self::Routes(routes) => routes
                .iter()
                .map(|(route, time)| {
                    (route.clone(), serde_json::json!({ "timeout": duration_text(*time) }))
                })
                .collect::<serde_json::Map<_, _>>()
                .into(),
            other => other.to_string().into(),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Port(number) => write!(f, "{number}"),
            Self::Count(number) => write!(f, "{number}"),
            Self::Size(bytes) => f.write_str(&size_text(*bytes)),
            Self::Duration(time) => f.write_str(&duration_text(*time)),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::List(items) => f.write_str(&items.join(" ")),
            Self::Routes(routes) => {
                let items =
                    routes.iter().map(|(route, time)| format!("{route}={}", duration_text(*time)));
                f.write_str(&items.collect::<Vec<_>>().join(" "))
            }
        }
    }
}

/// A size in the largest unit that keeps it whole.
fn size_text(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// A time as people write it.
pub(crate) fn duration_text(time: Duration) -> String {
    match time.as_micros() {
        micros if micros % 1_000_000 == 0 => format!("{}s", micros / 1_000_000),
        micros if micros % 1_000 == 0 => format!("{}ms", micros / 1_000),
        micros => format!("{micros}us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Kind, text: &str) -> Result<String, String> {
        kind.parse(OsStr::new(text)).map(|value| value.to_string())
    }

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

    #[test]
    fn values_are_read_and_shown_again() {
        for (kind, text, shown) in [
            (Kind::Port, "0", "0"),
            (Kind::Count, "7", "7"),
            (Kind::Size, "2048", "2KiB"),
            (Kind::Size, "1GiB", "1GiB"),
            (Kind::Size, "1000", "1000B"),
            (Kind::Duration { zero: false }, "1.5", "1500ms"),
            (Kind::Duration { zero: true }, "0s", "0s"),
            (Kind::Duration { zero: false }, "2m", "120s"),
            (Kind::Choice(LOG_FORMATS), "json", "json"),
            (Kind::Routes, "/weather/spread=5s", "weather/spread=5s"),
            (Kind::Routes, "pkg/mod/f=5s", "pkg/mod/f=5s"),
        ] {
            assert_eq!(parse(kind, text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn wrong_values_say_what_is_right() {
        for (kind, text, expected) in [
            (Kind::Port, "65536", "`65536` is not a port: write a whole number from 0 to 65535"),
            (Kind::Count, "0", "`0` is not a count: write a whole number, at least 1"),
            (Kind::Count, "-1", "`-1` is not a count: write a whole number, at least 1"),
            (Kind::Size, "0", "the size must be more than 0"),
            (Kind::Duration { zero: false }, "0s", "the time must be more than 0"),
            (Kind::Duration { zero: true }, "9999999h", "`9999999h` is too long"),
            (
                Kind::Choice(LOG_FORMATS),
                "jsn",
                "`jsn` is not one of human, json. Did you mean `json`?",
            ),
            (
                Kind::Routes,
                "weather=5s",
                "`weather` is not a route: write module/function, like weather/spread",
            ),
            (
                Kind::Routes,
                "weather/spread",
                "`weather/spread` is not a route's limit: write ROUTE=TIME, like weather/spread=5s",
            ),
            (Kind::Path, "", "the path is empty"),
        ] {
            assert_eq!(parse(kind, text), Err(expected.into()));
        }
    }
}
