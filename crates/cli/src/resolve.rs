//! From the four places a setting can be made in to one value: flag over variable over project file
//! over default.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
    time::Duration,
};

use exuvia_core::suggest;

use crate::{
    exit::Stop,
    project::Project,
    route_config::RouteSettings,
    settings::{Cmd, SETTINGS, Setting},
    value::{Kind, Value},
};

/// The environment variables, as they were at start.
pub(crate) type Variables = BTreeMap<OsString, OsString>;

/// The flags that were given, by key.
pub(crate) type Flags = BTreeMap<&'static str, Vec<OsString>>;

/// Every setting with its value and where that came from.
#[derive(Debug)]
pub(crate) struct Resolved {
    entries: Vec<Entry>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: &'static str,
    pub(crate) value: Option<Value>,
    pub(crate) origin: Origin,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    File { name: String, line: usize },
    Default,
}

/// Resolves every setting that `command` has; of the others those that the project file gives are
/// checked all the same, when it is read.
pub(crate) fn resolve(
    command: Cmd,
    flags: &Flags,
    variables: &Variables,
    project: Option<&Project>,
) -> Result<Resolved, Stop> {
    let entry = |setting: &'static Setting| one(setting, command, flags, variables, project);
    let settings = SETTINGS.iter().filter(|setting| setting.is_for(command));
    Ok(Resolved { entries: settings.map(entry).collect::<Result<_, _>>()? })
}

/// Warnings about variables that look like settings and are none.
pub(crate) fn strange_variables(variables: &Variables) -> Vec<String> {
    let known = || SETTINGS.iter().filter_map(|setting| setting.env);
    let strange = |name: &OsString| {
        let name = name.to_str()?;
        if !name.starts_with("EXUVIA_") || known().any(|known| known == name) {
            return None;
        }
        // What all of them have in common makes none of them near.
        let own = known().filter_map(|known| known.strip_prefix("EXUVIA_"));
        let near = suggest::nearest(name.strip_prefix("EXUVIA_")?, own)?;
        Some(format!("the variable {name} is not a setting. Did you mean `EXUVIA_{near}`?"))
    };
    variables.keys().filter_map(strange).collect()
}

fn one(
    setting: &'static Setting,
    command: Cmd,
    flags: &Flags,
    variables: &Variables,
    project: Option<&Project>,
) -> Result<Entry, Stop> {
    let key = setting.key;
    let read = |text: &OsStr, by: &str| {
        setting.kind.parse(text).map_err(|message| Stop::usage(format!("{by}: {message}")))
    };
    if setting.kind == Kind::Routes {
        return routes(setting, flags, project);
    }
    if let Some(flag) = setting.flag
        && let Some((last, before)) = flags.get(key).and_then(|texts| texts.split_last())
    {
        let by = format!("--{flag}");
        let mut value = read(last, &by)?;
        if let Value::List(items) = &mut value {
            *items = list(before, items, |text| read(text, &by))?;
        }
        let value = Some(value);
        return Ok(Entry { key, value, origin: Origin::Flag(flag) });
    }
    if let Some(name) = setting.env
        && let Some(text) = variables.get(OsStr::new(name)).filter(|text| !text.is_empty())
    {
        return Ok(Entry { key, value: Some(read(text, name)?), origin: Origin::Variable(name) });
    }
    if let Some(project) = project
        && let Some((value, line)) = project.values.get(key)
    {
        let value = match value {
            Value::Path(path) => Value::Path(from_folder(path.clone(), project)),
            other => other.clone(),
        };
        let origin = Origin::File { name: project.name.clone(), line: *line };
        return Ok(Entry { key, value: Some(value), origin });
    }
    let value = setting
        .default_value(command)
        .map_err(|message| Stop::usage(format!("the default of {key}: {message}")))?;
    Ok(Entry { key, value, origin: Origin::Default })
}

/// The items of a flag that was given more than once, each item once.
fn list(
    before: &[OsString],
    last: &[String],
    read: impl Fn(&OsStr) -> Result<Value, Stop>,
) -> Result<Vec<String>, Stop> {
    let mut all = Vec::new();
    for text in before {
        if let Value::List(items) = read(text)? {
            all.extend(items);
        }
    }
    all.extend_from_slice(last);
    let mut seen = BTreeSet::new();
    all.retain(|item| seen.insert(item.clone()));
    Ok(all)
}

/// Routes add up: those of the file, each overridden by a flag that names it.
fn routes(
    setting: &'static Setting,
    flags: &Flags,
    project: Option<&Project>,
) -> Result<Entry, Stop> {
    let key = setting.key;
    let mut all = BTreeMap::new();
    let mut origin = Origin::Default;
    if let Some(project) = project
        && let Some((Value::Routes(routes), line)) = project.values.get(key)
    {
        all.clone_from(routes);
        origin = Origin::File { name: project.name.clone(), line: *line };
    }
    if let Some(flag) = setting.flag {
        for text in flags.get(key).into_iter().flatten() {
            let value = setting.kind.parse(text);
            let value = value.map_err(|message| Stop::usage(format!("--{flag}: {message}")))?;
            if let Value::Routes(routes) = value {
                for (route, said) in routes {
                    all.entry(route).or_insert_with(RouteSettings::default).extend(said);
                }
            }
            origin = Origin::Flag(flag);
        }
    }
    let value = (!all.is_empty()).then_some(Value::Routes(all));
    Ok(Entry { key, value, origin })
}

/// A path of a project file, from the file's folder; a bare command (`python3.13`) stays one.
fn from_folder(path: PathBuf, project: &Project) -> PathBuf {
    let there = project.folder.join(&path);
    if path.components().count() == 1 && !there.exists() { path } else { there }
}

// === impl Resolved ===

impl Resolved {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.entry(key)?.value.as_ref()
    }

    /// Who chose the value, in words to show.
    pub(crate) fn origin(&self, key: &str) -> String {
        self.entry(key).map_or(Origin::Default, |entry| entry.origin.clone()).to_string()
    }

    /// Whether the project file gave the value.
    pub(crate) fn is_from_file(&self, key: &str) -> bool {
        self.entry(key).is_some_and(|entry| matches!(entry.origin, Origin::File { .. }))
    }

    /// Whether the value was given, or has a default.
    pub(crate) fn is_set(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        match self.value(key) {
            Some(Value::Text(text)) => text,
            other => mismatch(key, other),
        }
    }

    /// The same of a setting that may have no value.
    pub(crate) fn maybe_text(&self, key: &str) -> Option<&str> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            None => None,
            other => mismatch(key, other),
        }
    }

    pub(crate) fn port(&self, key: &str) -> u16 {
        match self.value(key) {
            Some(Value::Port(port)) => *port,
            other => mismatch(key, other),
        }
    }

    pub(crate) fn count(&self, key: &str) -> u32 {
        match self.value(key) {
            // The kind takes no greater numbers.
            Some(Value::Count(count)) => u32::try_from(*count).unwrap_or(u32::MAX),
            other => mismatch(key, other),
        }
    }

    pub(crate) fn percent(&self, key: &str) -> u8 {
        match self.value(key) {
            Some(Value::Percent(percent)) => *percent,
            other => mismatch(key, other),
        }
    }

    pub(crate) fn size(&self, key: &str) -> u64 {
        match self.value(key) {
            Some(Value::Size(bytes)) => *bytes,
            other => mismatch(key, other),
        }
    }

    pub(crate) fn duration(&self, key: &str) -> Duration {
        match self.value(key) {
            Some(Value::Duration(time)) => *time,
            other => mismatch(key, other),
        }
    }

    pub(crate) fn path(&self, key: &str) -> Option<PathBuf> {
        match self.value(key) {
            Some(Value::Path(path)) => Some(path.clone()),
            None => None,
            other => mismatch(key, other),
        }
    }

    pub(crate) fn list(&self, key: &str) -> &[String] {
        match self.value(key) {
            Some(Value::List(items)) => items,
            None => &[],
            other => mismatch(key, other),
        }
    }

    pub(crate) fn routes(&self) -> BTreeMap<String, RouteSettings> {
        match self.value("routes") {
            Some(Value::Routes(routes)) => routes.clone(),
            _ => BTreeMap::new(),
        }
    }
}

/// The code asks for a setting by another type than its kind, or in a command that has it not: no
/// input can lead here, and a test asks for each of them.
#[track_caller]
fn mismatch(key: &str, value: Option<&Value>) -> ! {
    unreachable!("the setting {key} was asked for by the wrong type: {value:?}")
}

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(name) => f.write_str(name),
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(values: &[(&'static str, Value, usize)]) -> Project {
        let values = values.iter().map(|(key, value, line)| (*key, (value.clone(), *line)));
        Project { name: "exuvia.toml".into(), folder: "/p".into(), values: values.collect() }
    }

    fn resolved(flags: &Flags, variables: &Variables, project: Option<&Project>) -> Resolved {
        resolve(Cmd::Serve, flags, variables, project).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_flag_goes_before_a_variable_before_the_file_before_the_default() {
        let port = |resolved: &Resolved| (resolved.port("port"), resolved.origin("port"));
        let (mut flags, mut variables) = (Flags::new(), Variables::new());
        assert_eq!(port(&resolved(&flags, &variables, None)), (8000, "default".into()));
        let file = project(&[("port", Value::Port(1), 3)]);
        let from_file = resolved(&flags, &variables, Some(&file));
        assert_eq!(port(&from_file), (1, "exuvia.toml:3".into()));
        variables.insert("EXUVIA_PORT".into(), "2".into());
        let from_variable = resolved(&flags, &variables, Some(&file));
        assert_eq!(port(&from_variable), (2, "EXUVIA_PORT".into()));
        flags.insert("port", vec!["3".into()]);
        assert_eq!(port(&resolved(&flags, &variables, Some(&file))), (3, "--port".into()));
        variables.insert("EXUVIA_PORT".into(), "".into());
        flags.clear();
        assert_eq!(port(&resolved(&flags, &variables, Some(&file))).0, 1, "empty is unset");
    }

    #[test]
    fn wrong_values_name_who_gave_them() {
        let variables = Variables::from([("EXUVIA_PORT".into(), "x".into())]);
        let error = resolve(Cmd::Serve, &Flags::new(), &variables, None).expect_err("wrong");
        assert_eq!(
            error.to_string(),
            "EXUVIA_PORT: `x` is not a port: write a whole number from 0 to 65535"
        );
        resolve(Cmd::Call, &Flags::new(), &variables, None).expect("`call` has no port");
    }

    #[test]
    fn routes_add_up() {
        let limits = BTreeMap::from([
            ("a/f".to_owned(), RouteSettings::timeout(Duration::from_secs(1))),
            ("a/g".to_owned(), RouteSettings::timeout(Duration::from_secs(2))),
        ]);
        let file = project(&[("routes", Value::Routes(limits), 9)]);
        let flags = Flags::from([("routes", vec!["a/g=7s".into(), "/b/h=3s".into()])]);
        let resolved = resolved(&flags, &Variables::new(), Some(&file));
        assert_eq!(
            resolved.value("routes").map(ToString::to_string).as_deref(),
            Some("a/f=1s a/g=7s b/h=3s")
        );
    }

    #[test]
    fn paths_of_a_file_start_at_its_folder_and_commands_stay_commands() {
        let file = project(&[("python", Value::Path("env/bin/python".into()), 1)]);
        let python =
            |file: &Project| resolved(&Flags::new(), &Variables::new(), Some(file)).path("python");
        assert_eq!(python(&file), Some("/p/env/bin/python".into()));
        let file = project(&[("python", Value::Path("python3.13".into()), 1)]);
        assert_eq!(python(&file), Some("python3.13".into()));
    }

    #[test]
    fn a_mistyped_variable_is_noticed() {
        let variables = Variables::from([
            ("EXUVIA_PROT".into(), "1".into()),
            ("EXUVIA_PORT".into(), "1".into()),
            ("EXUVIA_SOMETHING_ELSE_ENTIRELY".into(), "1".into()),
        ]);
        assert_eq!(
            strange_variables(&variables),
            ["the variable EXUVIA_PROT is not a setting. Did you mean `EXUVIA_PORT`?"]
        );
    }

    #[test]
    fn a_list_adds_up_within_one_place_and_replaces_the_list_of_a_lower_one() {
        let file = project(&[("preload", Value::List(vec!["scipy".into()]), 2)]);
        let (mut flags, mut variables) = (Flags::new(), Variables::new());
        let found = |flags: &Flags, variables: &Variables| {
            let resolved = resolved(flags, variables, Some(&file));
            (resolved.list("preload").join(" "), resolved.is_from_file("preload"))
        };
        assert_eq!(found(&flags, &variables), ("scipy".into(), true));
        variables.insert("EXUVIA_PRELOAD".into(), "numpy,pandas".into());
        assert_eq!(found(&flags, &variables), ("numpy pandas".into(), false));
        flags.insert("preload", vec!["b,a".into(), "c".into(), "b".into()]);
        assert_eq!(found(&flags, &variables), ("b a c".into(), false));
        flags.insert("preload", vec!["x y".into(), "c".into()]);
        let error = resolve(Cmd::Serve, &flags, &variables, None).expect_err("wrong").to_string();
        assert!(error.starts_with("--preload: `x y` is not the name of a module"), "{error}");
    }

    #[test]
    fn every_setting_is_asked_for_by_its_type() {
        for (command, keys) in [(Cmd::Serve, &["host", "expose-errors"][..]), (Cmd::Call, &[])] {
            let settings = resolve(command, &Flags::new(), &Variables::new(), None)
                .unwrap_or_else(|error| panic!("{error}"));
            for key in ["log-level", "log-format"].iter().chain(keys) {
                assert!(!settings.text(key).is_empty());
            }
            for key in ["timeout", "start-timeout"] {
                assert!(!settings.duration(key).is_zero());
            }
            assert!(settings.size("max-output") > 0);
            assert_eq!(settings.size("max-table"), 1 << 30);
            assert_eq!((settings.path("python"), settings.path("runtime")), (None, None));
        }
        let settings = resolved(&Flags::new(), &Variables::new(), None);
        let counts = ["workers", "concurrency", "queue"].map(|key| settings.count(key) > 0);
        assert_eq!(counts, [true; 3]);
        assert_eq!(settings.port("port"), 8000);
        assert_eq!((settings.count("spares"), settings.percent("recycle-jitter")), (0, 10));
        for key in ["blas-threads", "max-rss", "max-calls", "lifetime", "preload", "warm"] {
            assert!(!settings.is_set(key), "{key}");
        }
        assert_eq!(settings.size("max-body"), 16 << 20);
        assert_eq!(settings.duration("drain-timeout").as_secs(), 10);
        assert!(settings.list("targets").is_empty() && settings.routes().is_empty());
    }
}
