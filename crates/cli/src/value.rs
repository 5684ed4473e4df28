//! What values settings take: how they are read, and how they are shown again.

use std::{collections::BTreeMap, ffi::OsStr, fmt, path::PathBuf, time::Duration};

use exuvia_core::{
    TargetSpec,
    spec::Source,
    suggest,
    units::{self, duration_text, size_text},
};

use crate::{
    render,
    route_config::{RouteKey, RouteSettings},
};

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Port,
    /// A whole number; zero only where `zero`.
    Count {
        zero: bool,
    },
    /// A whole number of percent, 100 at most.
    Percent,
    /// Bytes, at least 1.
    Size,
    /// A time; zero only where `zero`.
    Duration {
        zero: bool,
    },
    Path,
    Choice(&'static [&'static str]),
    /// A list of files and folders.
    Paths,
    /// A list of targets.
    Targets,
    /// A list of modules to import.
    Modules,
    /// A list of functions to call.
    Functions,
    /// Settings of single routes: a table in the file, `ROUTE=TIME` as a flag.
    Routes,
}

/// A value that was read and is within its bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Port(u16),
    Count(u64),
    Percent(u8),
    Size(u64),
    Duration(Duration),
    Path(PathBuf),
    List(Vec<String>),
    Routes(BTreeMap<String, RouteSettings>),
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
            Self::Count { zero } => match text.parse::<u32>() {
                Ok(number) if number > 0 || zero => Ok(Value::Count(number.into())),
                _ => Err(format!("`{text}` is not a count: write {}", self.expected())),
            },
            Self::Percent => match text.strip_suffix('%').unwrap_or(text).trim_end().parse() {
                Ok(percent @ 0..=100) => Ok(Value::Percent(percent)),
                _ => Err(format!("`{text}` is not a percentage: write 0% to 100%, like 10%")),
            },
            Self::Size => match units::size(text)? {
                0 => Err("the size must be more than 0".into()),
                bytes => Ok(Value::Size(bytes)),
            },
            Self::Duration { zero } => duration(text, zero).map(Value::Duration),
            Self::Choice(words) => choice(text, words).map(Value::Text),
            Self::Targets => self.item(text).map(|item| Value::List(vec![item])),
            Self::Paths | Self::Modules | Self::Functions => text
                .split(',')
                .map(|item| self.item(item.trim()))
                .collect::<Result<_, _>>()
                .map(Value::List),
            Self::Routes => {
                let wrong = || {
                    format!(
                        "`{text}` is not a route's limit: write ROUTE=TIME, like weather/spread=5s"
                    )
                };
                let (route, time) = text.split_once('=').ok_or_else(wrong)?;
                let route = RouteKey::parse(route)?.text();
                let limit = RouteSettings::timeout(duration(time, false)?);
                Ok(Value::Routes([(route, limit)].into()))
            }
            Self::Path => Ok(Value::Path(text.into())),
        }
    }

    /// Reads one entry of a list.
    pub(crate) fn item(self, text: &str) -> Result<String, String> {
        match self {
            Self::Modules => module_name(text),
            Self::Functions => function_name(text),
            Self::Paths if text.is_empty() => Err("the path is empty".into()),
            _ => Ok(text.into()),
        }
    }

    /// Whether a project file has a list of strings for it.
    pub(crate) fn is_list(self) -> bool {
        matches!(self, Self::Paths | Self::Targets | Self::Modules | Self::Functions)
    }

    /// Whether a flag may be given again, to add to the first.
    pub(crate) fn is_repeatable(self) -> bool {
        self.is_list() || self == Self::Routes
    }

    /// The placeholder in `--help`.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Text => "ADDRESS",
            Self::Port => "PORT",
            Self::Count { .. } => "N",
            Self::Percent => "PERCENT",
            Self::Size => "SIZE",
            Self::Duration { .. } => "TIME",
            Self::Path => "PATH",
            Self::Choice(_) => "WORD",
            Self::Paths => "PATH,...",
            Self::Targets => "TARGET",
            Self::Modules => "MODULE,...",
            Self::Functions => "MODULE:FUNCTION,...",
            Self::Routes => "ROUTE=TIME",
        }
    }

    /// What a project file must hold, to follow "must be".
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text | Self::Path => "a string".into(),
            Self::Port => "a whole number from 0 to 65535".into(),
            Self::Count { zero: false } => "a whole number, at least 1".into(),
            Self::Count { zero: true } => "a whole number, 0 or more".into(),
            Self::Percent => "a percentage: a string like \"10%\", or a whole number".into(),
            Self::Size => "a size: a string like \"16MiB\", or a whole number of bytes".into(),
            Self::Duration { .. } => {
                "a duration: a string like \"30s\", or a number of seconds".into()
            }
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::Paths => "a list of strings, like [\"/srv/models\"]".into(),
            Self::Targets => "a list of strings, like [\"weather.py\"]".into(),
            Self::Modules => "a list of strings, like [\"numpy\"]".into(),
            Self::Functions => "a list of strings, like [\"weather.py:warm\"]".into(),
            Self::Routes => "a table with an entry for each route".into(),
        }
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
    let hint = suggest::did_you_mean(text, words.iter().copied());
    Err(format!("`{text}` is not one of {}.{hint}", words.join(", ")))
}

/// A module's name, as `import` takes it.
fn module_name(text: &str) -> Result<String, String> {
    let is_module = |text: &str| {
        let spec = TargetSpec::parse(text);
        spec.is_ok_and(|spec| matches!(spec.source, Source::Module(_)) && spec.attribute.is_none())
    };
    if is_module(text) {
        return Ok(text.into());
    }
    // What is installed, a file, or an attribute is easily taken for the module.
    let near = render::import_name(text).map(str::to_owned).unwrap_or_else(|| {
        text.strip_suffix(".py").unwrap_or(text).replace('-', "_").replace([':', '/'], ".")
    });
    let hint = if is_module(&near) { format!(" Did you mean `{near}`?") } else { String::new() };
    Err(format!(
        "`{text}` is not the name of a module: write it as `import` does, like numpy.linalg.{hint}"
    ))
}

/// A function, as a target names it.
fn function_name(text: &str) -> Result<String, String> {
    match TargetSpec::parse(text) {
        Ok(TargetSpec { attribute: Some(_), .. }) => Ok(text.into()),
        Ok(_) => Err(format!("`{text}` names no function: write it like {text}:warm")),
        Err(_) => {
            Err(format!("`{text}` is not a function: write module:function or file.py:function"))
        }
    }
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
                .map(|(route, said)| (route.clone(), said.json()))
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
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Size(bytes) => f.write_str(&size_text(*bytes)),
            Self::Duration(time) => f.write_str(&duration_text(*time)),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::List(items) => f.write_str(&items.join(" ")),
            Self::Routes(routes) => {
                let shown = |(route, said): (&String, &RouteSettings)| match said {
                    RouteSettings { handler: None, options, .. }
                        if *options == RouteSettings::timeout(options.timeout?).options =>
                    {
                        Some(format!("{route}={}", duration_text(options.timeout?)))
                    }
                    _ => None,
                };
                let shown = |item: (&String, &RouteSettings)| {
                    shown(item).unwrap_or_else(|| format!("{} {}", item.0, item.1.json()))
                };
                f.write_str(&routes.iter().map(shown).collect::<Vec<_>>().join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::LOG_FORMATS;

    fn parse(kind: Kind, text: &str) -> Result<String, String> {
        kind.parse(OsStr::new(text)).map(|value| value.to_string())
    }

    #[test]
    fn values_are_read_and_shown_again() {
        for (kind, text, shown) in [
            (Kind::Port, "0", "0"),
            (Kind::Count { zero: false }, "7", "7"),
            (Kind::Count { zero: true }, "0", "0"),
            (Kind::Percent, "0%", "0%"),
            (Kind::Percent, "100", "100%"),
            (Kind::Modules, "numpy, a.b_c", "numpy a.b_c"),
            (Kind::Paths, "/srv/my models,b", "/srv/my models b"),
            (
                Kind::Functions,
                "pkg.mod:warm,./a/b.py:Model.load",
                "pkg.mod:warm ./a/b.py:Model.load",
            ),
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
            (
                Kind::Count { zero: false },
                "0",
                "`0` is not a count: write a whole number, at least 1",
            ),
            (
                Kind::Count { zero: false },
                "-1",
                "`-1` is not a count: write a whole number, at least 1",
            ),
            (
                Kind::Count { zero: true },
                "-1",
                "`-1` is not a count: write a whole number, 0 or more",
            ),
            (Kind::Percent, "101%", "`101%` is not a percentage: write 0% to 100%, like 10%"),
            (Kind::Percent, "1.5%", "`1.5%` is not a percentage: write 0% to 100%, like 10%"),
            (Kind::Percent, "%", "`%` is not a percentage: write 0% to 100%, like 10%"),
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
                "`weather` is not a route: write `GET /path`, or module/function like weather/spread",
            ),
            (
                Kind::Routes,
                "weather/spread",
                "`weather/spread` is not a route's limit: write ROUTE=TIME, like weather/spread=5s",
            ),
            (Kind::Path, "", "the path is empty"),
            (
                Kind::Functions,
                "a.py:f,weather.py",
                "`weather.py` names no function: write it like weather.py:warm",
            ),
            (
                Kind::Functions,
                "a.py:f,",
                "`` is not a function: write module:function or file.py:function",
            ),
        ] {
            assert_eq!(parse(kind, text), Err(expected.into()));
        }
    }

    #[test]
    fn what_is_no_module_is_told_with_the_module_that_was_meant() {
        for (text, hint) in [
            ("weather.py", " Did you mean `weather`?"),
            ("numpy,scikit-learn", " Did you mean `sklearn`?"),
            ("my-pkg", " Did you mean `my_pkg`?"),
            ("pkg/mod.py", " Did you mean `pkg.mod`?"),
            ("numpy:linalg", " Did you mean `numpy.linalg`?"),
            ("", ""),
            ("a b", ""),
            ("2to3", ""),
            ("..pkg", ""),
        ] {
            let wrong = text.rsplit(',').next().unwrap_or_default();
            let expected = format!(
                "`{wrong}` is not the name of a module: write it as `import` does, like \
                 numpy.linalg.{hint}"
            );
            assert_eq!(parse(Kind::Modules, text), Err(expected));
        }
    }
}
