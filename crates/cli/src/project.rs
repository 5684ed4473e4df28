//! The project file: `exuvia.toml`, or `[tool.exuvia]` in `pyproject.toml`.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    ffi::OsStr,
    ops::Range,
    path::{Path, PathBuf},
};

use exuvia_core::suggest;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    exit::Stop,
    route_config::{RouteKey, RouteSettings},
    settings::{self, SETTINGS, Setting},
    value::{Kind, Value},
};

pub(crate) const OWN_FILE: &str = "exuvia.toml";
const PYPROJECT: &str = "pyproject.toml";

/// A project file that was read and found right.
#[derive(Debug)]
pub(crate) struct Project {
    /// The file as messages name it: relative to the working folder where it lies under it.
    pub(crate) name: String,
    /// The folder that its paths start from, absolute.
    pub(crate) folder: PathBuf,
    /// Each value with the line it stands on.
    pub(crate) values: BTreeMap<&'static str, (Value, usize)>,
}

/// A file's text while it is read, for positions in messages.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

/// The project that holds for the working folder: of the folder itself, or of the nearest one above
/// it within the same repository.
pub(crate) fn discover(cwd: &Path) -> Result<Option<Project>, Stop> {
    let in_repository = cwd.ancestors().any(|folder| folder.join(".git").exists());
    for folder in cwd.ancestors() {
        if let Some(project) = in_folder(folder, cwd)? {
            return Ok(Some(project));
        }
        if !in_repository || folder.join(".git").exists() {
            break;
        }
    }
    Ok(None)
}

/// The project whose file lies in `folder`.
pub(crate) fn in_folder(folder: &Path, cwd: &Path) -> Result<Option<Project>, Stop> {
    let own = folder.join(OWN_FILE);
    if own.is_file() {
        return read(&own, cwd);
    }
    let pyproject = folder.join(PYPROJECT);
    if pyproject.is_file() { read(&pyproject, cwd) } else { Ok(None) }
}

/// Reads one file; a `pyproject.toml` without `[tool.exuvia]` is `None`.
pub(crate) fn read(path: &Path, cwd: &Path) -> Result<Option<Project>, Stop> {
    let shown = path.strip_prefix(cwd).unwrap_or(path).display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Stop::usage(format!("{shown} cannot be read: {error}")))?;
    let source = Source { name: &shown, text: &text };
    let is_pyproject = path.file_name() == Some(OsStr::new(PYPROJECT));
    let document = match DeTable::parse(&text) {
        Ok(document) => document,
        // Someone else's file, and nothing says that it is meant for us.
        Err(_) if is_pyproject && !text.contains("tool.exuvia") => return Ok(None),
        Err(error) => {
            return Err(source.error(error.span().unwrap_or(0..0), error.message()));
        }
    };
    let table = if is_pyproject {
        let tool = document.get_ref().get("tool").and_then(|tool| tool.get_ref().get("exuvia"));
        match tool.map(Spanned::get_ref) {
            None => return Ok(None),
            Some(DeValue::Table(table)) => table,
            Some(_) => {
                let span = tool.map_or(0..0, Spanned::span);
                return Err(source.error(span, "`tool.exuvia` must be a table"));
            }
        }
    } else {
        document.get_ref()
    };
    let values = source.values(table)?;
    let folder = path.parent().unwrap_or(cwd).to_path_buf();
    Ok(Some(Project { name: shown, folder, values }))
}

// === impl Source ===

impl Source<'_> {
    fn values(&self, table: &DeTable<'_>) -> Result<BTreeMap<&'static str, (Value, usize)>, Stop> {
        // In the order of the file, so that the first mistake in it is the one reported.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut values = BTreeMap::new();
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let Some(setting) = settings::by_key(name) else {
                return Err(self.error(key.span(), &unknown(name)));
            };
            let (line, _) = position(self.text, key.span().start);
            values.insert(setting.key, (self.value(setting, value)?, line));
        }
        Ok(values)
    }

    fn value(&self, setting: &Setting, value: &Spanned<DeValue<'_>>) -> Result<Value, Stop> {
        let key = setting.key;
        let wrong_type = |value: &Spanned<DeValue<'_>>| {
            let expected = setting.kind.expected();
            let found = value.get_ref();
            let shown = match found {
                DeValue::Integer(number) => format!("the number {number}"),
                DeValue::Float(number) => format!("the number {number}"),
                DeValue::Boolean(flag) => format!("{flag}"),
                DeValue::String(text) => format!("the string \"{text}\""),
                DeValue::Array(_) => "a list".into(),
                DeValue::Table(_) => "a table".into(),
                DeValue::Datetime(_) => "a date".into(),
            };
            self.error(value.span(), &format!("`{key}` must be {expected}, not {shown}"))
        };
        let text = match (setting.kind, value.get_ref()) {
            (kind, DeValue::Array(items)) if kind.is_list() => {
                let item = |item: &Spanned<DeValue<'_>>| {
                    let text = item.get_ref().as_str().ok_or_else(|| wrong_type(item))?;
                    kind.item(text)
                        .map_err(|message| self.error(item.span(), &format!("`{key}`: {message}")))
                };
                return items.iter().map(item).collect::<Result<_, _>>().map(Value::List);
            }
            (Kind::Routes, DeValue::Table(routes)) => return self.routes(routes),
            (
                Kind::Text
                | Kind::Path
                | Kind::Size
                | Kind::Percent
                | Kind::Duration { .. }
                | Kind::Choice(_),
                DeValue::String(text),
            ) => text.to_string(),
            (
                Kind::Port
                | Kind::Count { .. }
                | Kind::Percent
                | Kind::Size
                | Kind::Duration { .. },
                DeValue::Integer(number),
            ) if number.radix() == 10 => number.as_str().into(),
            (Kind::Duration { .. }, DeValue::Float(number)) => number.as_str().into(),
            (Kind::Choice(words), DeValue::Boolean(flag))
                if words.contains(&flag.to_string().as_str()) =>
            {
                flag.to_string()
            }
            _ => return Err(wrong_type(value)),
        };
        setting
            .kind
            .parse(OsStr::new(&text))
            .map_err(|message| self.error(value.span(), &format!("`{key}`: {message}")))
    }

    /// `[routes."weather/spread"]` tables.
    fn routes(&self, routes: &DeTable<'_>) -> Result<Value, Stop> {
        let mut all = BTreeMap::new();
        for (route, table) in routes {
            let key = RouteKey::parse(route.get_ref())
                .map_err(|message| self.error(route.span(), &message))?;
            let name = key.text();
            let DeValue::Table(entries) = table.get_ref() else {
                let message =
                    format!("`routes.\"{name}\"` must be a table, like {{ timeout = \"5s\" }}");
                return Err(self.error(table.span(), &message));
            };
            let (line, _) = position(self.text, route.span().start);
            let mut said = RouteSettings { line, ..RouteSettings::default() };
            for (key, value) in entries {
                self.option(&mut said, key, value)?;
            }
            let wrong = match (&key, &said.handler) {
                (RouteKey::Path { .. }, None) => {
                    Some("needs `handler`: the module:function that answers")
                }
                (RouteKey::Own(_), Some(_)) => {
                    Some("is the route its handler has anyway, so `handler` cannot be set")
                }
                _ => None,
            };
            if let Some(wrong) = wrong {
                return Err(self.error(route.span(), &format!("`{name}` {wrong}")));
            }
            if all.insert(name.clone(), said).is_some() {
                return Err(self.error(route.span(), &format!("`{name}` is there twice")));
            }
        }
        Ok(Value::Routes(all))
    }

    fn option(
        &self,
        said: &mut RouteSettings,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), Stop> {
        let name = key.get_ref();
        if !RouteSettings::has(name) {
            let message = RouteSettings::unknown(name);
            return Err(self.error(key.span(), &message));
        }
        said.set(name, &plain(value.get_ref()))
            .map_err(|message| self.error(value.span(), &format!("`{name}`: {message}")))
    }

    fn error(&self, span: Range<usize>, message: &str) -> Stop {
        let (line, column) = position(self.text, span.start);
        Stop::usage(format!("{}:{line}:{column}: {message}", self.name))
    }
}

/// A value of a file as JSON has it.
fn plain(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Integer(number) => match number.as_str().replace('_', "").parse::<i64>() {
            Ok(whole) if number.radix() == 10 => whole.into(),
            _ => number.to_string().into(),
        },
        DeValue::Float(number) => number.as_str().parse::<f64>().ok().into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| plain(item.get_ref())).collect(),
        DeValue::Table(table) => serde_json::Value::Object(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref())))
                .collect(),
        ),
    }
}

fn unknown(key: &str) -> String {
    let keys = || SETTINGS.iter().filter(|setting| setting.in_file).map(|setting| setting.key);
    match suggest::did_you_mean(key, keys()) {
        hint if hint.is_empty() => {
            let keys: Vec<_> = keys().collect();
            format!("there is no setting `{key}`. The settings are: {}", keys.join(", "))
        }
        hint => format!("there is no setting `{key}`.{hint}"),
    }
}

/// Line and column, from 1, of a byte of `text`.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Reads `text` as the file `name`.
    fn check(name: &str, text: &str) -> Result<Option<Project>, String> {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        read(&path, folder.path()).map_err(|stop| stop.to_string())
    }

    fn shown(text: &str) -> Vec<String> {
        let project = check(OWN_FILE, text).unwrap_or_else(|error| panic!("{error}"));
        let values = project.expect("a project").values;
        values.iter().map(|(key, (value, line))| format!("{key}={value}@{line}")).collect()
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let text = r#"
targets = ["weather.py", "algos"]
host = "0.0.0.0"
port = 9000
timeout = 1.5
drain-timeout = "0s"
max-body = 1024
expose-errors = true
python = ".venv"
preload = ["numpy", "pkg.mod"]
warm = ["a,b.py:load"]
recycle-jitter = 5
max-rss = "300MiB"
max-calls = 1000

[routes."/weather/spread"]
timeout = "5s"
"#;
        assert_eq!(
            shown(text),
            [
                "drain-timeout=0s@6",
                "expose-errors=true@8",
                "host=0.0.0.0@3",
                "max-body=1KiB@7",
                "max-calls=1000@14",
                "max-rss=300MiB@13",
                "port=9000@4",
                "preload=numpy pkg.mod@10",
                "python=.venv@9",
                "recycle-jitter=5%@12",
                "routes=weather/spread=5s@16",
                "targets=weather.py algos@2",
                "timeout=1500ms@5",
                "warm=a,b.py:load@11",
            ]
        );
    }

    #[test]
    fn mistakes_are_placed_and_the_right_spelling_is_named() {
        for (text, expected) in [
            ("port = 1\nprot = 2", "2:1: there is no setting `prot`. Did you mean `port`?"),
            ("max_body = 1", "1:1: there is no setting `max_body`. Did you mean `max-body`?"),
            (
                "port = \"80\"",
                "1:8: `port` must be a whole number from 0 to 65535, not the string \"80\"",
            ),
            (
                "port = 70000",
                "1:8: `port`: `70000` is not a port: write a whole number from 0 to 65535",
            ),
            (
                "  timeout = true",
                "1:13: `timeout` must be a duration: a string like \"30s\", or a number of \
                 seconds, not true",
            ),
            (
                "timeout = \"5 potatoes\"",
                "1:11: `timeout`: `5 potatoes` is not a duration: write a number with a unit, like \
                 30s or 500ms",
            ),
            (
                "targets = [\"a.py\", 3]",
                "1:20: `targets` must be a list of strings, like [\"weather.py\"], not the number 3",
            ),
            (
                "targets = \"a.py\"",
                "1:11: `targets` must be a list of strings, like [\"weather.py\"], not the string \
                 \"a.py\"",
            ),
            (
                "preload = \"numpy\"",
                "1:11: `preload` must be a list of strings, like [\"numpy\"], not the string \
                 \"numpy\"",
            ),
            (
                "preload = [\"numpy\", \"my-pkg\"]",
                "1:21: `preload`: `my-pkg` is not the name of a module: write it as `import` does, \
                 like numpy.linalg. Did you mean `my_pkg`?",
            ),
            (
                "warm = [\"models.py\"]",
                "1:9: `warm`: `models.py` names no function: write it like models.py:warm",
            ),
            (
                "start-method = \"frok\"",
                "1:16: `start-method`: `frok` is not one of fork, spawn. Did you mean `fork`?",
            ),
            (
                "recycle-jitter = 200",
                "1:18: `recycle-jitter`: `200` is not a percentage: write 0% to 100%, like 10%",
            ),
            (
                "recycle-jitter = 1.5",
                "1:18: `recycle-jitter` must be a percentage: a string like \"10%\", or a whole \
                 number, not the number 1.5",
            ),
            ("max_rss = 1", "1:1: there is no setting `max_rss`. Did you mean `max-rss`?"),
            ("log-format = \"xml\"", "1:14: `log-format`: `xml` is not one of human, json."),
            (
                "[routes.weather]\ntimeout = \"5s\"",
                "1:9: `weather` is not a route: write `GET /path`, or module/function like \
                 weather/spread",
            ),
            (
                "[routes.\"a/b\"]\ntimeot = \"5s\"",
                "2:1: a route has no option `timeot`. Did you mean `timeout`?",
            ),
            (
                "[routes.\"GET /a\"]\ntimeout = \"5s\"",
                "1:9: `GET /a` needs `handler`: the module:function that answers",
            ),
            (
                "[routes.\"a/b\"]\nhandler = \"a:b\"",
                "1:9: `a/b` is the route its handler has anyway, so `handler` cannot be set",
            ),
            (
                "[routes.\"GTE /a\"]\nhandler = \"a:b\"",
                "1:9: `GTE` is not one of GET, POST, PUT, PATCH, DELETE. Did you mean `GET`?",
            ),
            ("runtime = \"x\"", "1:1: there is no setting `runtime`."),
            ("port = ", "1:8: "),
            ("port = 1\nport = 2", "2:1: duplicate key"),
        ] {
            let error = check(OWN_FILE, text).expect_err(text);
            assert!(error.starts_with(&format!("exuvia.toml:{expected}")), "{error}");
        }
    }

    #[test]
    fn pyproject_is_read_where_it_speaks_of_us() {
        assert!(check(PYPROJECT, "[tool.ruff]\nx = 1").expect("read").is_none());
        assert!(check(PYPROJECT, "not toml at all").expect("passed over").is_none());
        let text = "[project]\nname = \"x\"\n[tool.exuvia]\nport = 9";
        let project = check(PYPROJECT, text).expect("read").expect("a project");
        assert_eq!(project.values["port"], (Value::Port(9), 4));
        let error = check(PYPROJECT, "[tool.exuvia]\nprt = 9").expect_err("wrong");
        assert_eq!(error, "pyproject.toml:2:1: there is no setting `prt`. Did you mean `port`?");
        let error = check(PYPROJECT, "[tool]\nexuvia = 9").expect_err("wrong");
        assert_eq!(error, "pyproject.toml:2:10: `tool.exuvia` must be a table");
    }

    #[test]
    fn the_search_stays_within_the_repository() {
        let folder = tempfile::TempDir::new().expect("a temporary folder");
        let inner = folder.path().join("repo/a/b");
        fs::create_dir_all(&inner).expect("folders");
        fs::write(folder.path().join(OWN_FILE), "port = 1").expect("a file");
        assert!(discover(&inner).expect("searched").is_none());
        fs::create_dir(folder.path().join("repo/.git")).expect("a folder");
        assert!(discover(&inner).expect("searched").is_none());
        fs::write(folder.path().join("repo").join(OWN_FILE), "port = 2").expect("a file");
        let found = discover(&inner).expect("searched").expect("found");
        assert_eq!(found.values["port"].0, Value::Port(2));
        assert_eq!(found.folder, folder.path().join("repo"));
    }
}
