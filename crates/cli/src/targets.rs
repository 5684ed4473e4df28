//! From TARGETs as they are typed to the code that workers load.

use std::path::{Path, PathBuf};

use exuvia_core::{TargetSpec, spec::Source, suggest};

use crate::{
    exit::{Exit, Stop},
    project::{self, Project},
};

/// What to load, and from where.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Every target, with absolute paths.
    pub(crate) specs: Vec<TargetSpec>,
    /// The folders of the targets, where environments are looked for.
    pub(crate) folders: Vec<PathBuf>,
    /// Where modules are looked for and handlers run.
    pub(crate) working_dir: PathBuf,
}

/// What was typed, sorted by kind.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    /// The project file that a TARGET names.
    pub(crate) project: Option<Project>,
    /// All else.
    targets: Vec<String>,
}

/// Sorts the TARGETs of `serve` into a project and targets, and reads the project's file.
pub(crate) fn sort(typed: &[String], cwd: &Path) -> Result<Typed, Stop> {
    let mut sorted = Typed::default();
    for text in typed {
        let path = cwd.join(text);
        let project = if path.is_dir() {
            project::in_folder(&path, cwd)?
        } else if text.ends_with(".toml") {
            if !path.is_file() {
                return Err(missing(&path, cwd));
            }
            let found = project::read(&path, cwd)?;
            let none = || Stop::usage(format!("{text} has no table [tool.exuvia]"));
            Some(found.ok_or_else(none)?)
        } else {
            None
        };
        match (project, &sorted.project) {
            (None, _) => sorted.targets.push(text.clone()),
            (Some(project), None) => sorted.project = Some(project),
            (Some(second), Some(first)) if second.name == first.name => {}
            (Some(second), Some(first)) => {
                return Err(Stop::usage(format!(
                    "{} and {} are both project files: serve one at a time",
                    first.name, second.name
                )));
            }
        }
    }
    Ok(sorted)
}

/// The plan of `serve`: what was typed, or what the project file lists. `typed_project` says that a
/// TARGET named the project, so its own targets are meant too.
pub(crate) fn plan(
    typed: &Typed,
    listed: &[String],
    project: Option<&Project>,
    cwd: &Path,
    may_be_empty: bool,
) -> Result<Plan, Stop> {
    let mut specs = Vec::new();
    let mut working_dir = cwd.to_path_buf();
    let takes_listed = typed.project.is_some() || typed.targets.is_empty();
    if let Some(project) = project
        && takes_listed
    {
        working_dir.clone_from(&project.folder);
        for text in listed {
            let by = |stop: Stop| Stop { message: format!("{}: {stop}", project.name), ..stop };
            expand(text, &project.folder, cwd, &mut specs).map_err(by)?;
        }
        if listed.is_empty() && typed.project.is_some() {
            expand_folder(&project.folder, cwd, &mut specs)?;
        }
    }
    for text in &typed.targets {
        expand(text, cwd, cwd, &mut specs)?;
    }
    if specs.is_empty() && !may_be_empty {
        return Err(Stop::usage(match project {
            Some(project) => format!(
                "nothing to serve: name a TARGET, or list `targets` in {}\n\
                 example: exuvia serve weather.py",
                project.name
            ),
            None => "nothing to serve: name a TARGET, or list `targets` in an exuvia.toml\n\
                     example: exuvia serve weather.py"
                .into(),
        }));
    }
    one_name_each(&specs, cwd, "their routes would be the same")?;
    let folders = folders(&specs, &working_dir);
    Ok(Plan { specs, folders, working_dir })
}

/// The plan of `call`: one function, or one module that may have just one.
pub(crate) fn single(text: &str, cwd: &Path) -> Result<Plan, Stop> {
    if cwd.join(text).is_dir() && !is_package(text, &cwd.join(text)) {
        return Err(Stop::usage(format!(
            "{text} is a folder: name one function, like {}/file.py:function",
            text.trim_end_matches('/')
        )));
    }
    let mut specs = Vec::new();
    expand(text, cwd, cwd, &mut specs)?;
    let folders = folders(&specs, cwd);
    Ok(Plan { specs, folders, working_dir: cwd.to_path_buf() })
}

/// The functions called `names`, whose paths start at `base`, to load beside the plan's targets.
pub(crate) fn functions(
    names: &[String],
    base: &Path,
    cwd: &Path,
    plan: &Plan,
) -> Result<Vec<TargetSpec>, Stop> {
    let mut specs = Vec::new();
    for name in names {
        expand(name, base, cwd, &mut specs)?;
    }
    let all: Vec<TargetSpec> = plan.specs.iter().chain(&specs).cloned().collect();
    one_name_each(&all, cwd, "they would be the same module")?;
    Ok(specs)
}

/// Reads one target, whose path starts at `base`.
fn expand(text: &str, base: &Path, cwd: &Path, specs: &mut Vec<TargetSpec>) -> Result<(), Stop> {
    let folder = base.join(text);
    if folder.is_dir() && !is_package(text, &folder) {
        return expand_folder(&plain(&folder), cwd, specs);
    }
    let mut spec = TargetSpec::parse(text).map_err(Stop::usage)?;
    if let Source::Path(path) = &mut spec.source {
        *path = plain(&base.join(&*path));
        if path.is_dir() {
            let attribute = spec.attribute.as_deref().unwrap_or_default();
            return Err(Stop::usage(format!(
                "{text} names a function in a folder: name its file, like {}/file.py:{attribute}",
                shown(path, cwd)
            )));
        }
        if !path.exists() {
            return Err(missing(path, cwd));
        }
        if path.extension().is_none_or(|extension| extension != "py") {
            return Err(Stop::usage(format!("{} is not a .py file", shown(path, cwd))));
        }
    }
    if !specs.contains(&spec) {
        specs.push(spec);
    }
    Ok(())
}

/// Each handler file that lies directly in `folder`.
fn expand_folder(folder: &Path, cwd: &Path, specs: &mut Vec<TargetSpec>) -> Result<(), Stop> {
    let cannot = |error: std::io::Error| {
        Stop::usage(format!("{} cannot be read: {error}", shown(folder, cwd)))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_handler_file(&name) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Stop::new(
            Exit::NotFound,
            format!(
                "{} holds no Python file to serve (names that start with `_` or `test_`, \
                 conftest.py and setup.py are passed over)",
                shown(folder, cwd)
            ),
        ));
    }
    files.sort();
    for path in files {
        let spec = TargetSpec { source: Source::Path(path), attribute: None };
        if !specs.contains(&spec) {
            specs.push(spec);
        }
    }
    Ok(())
}

fn is_handler_file(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".py") else { return false };
    let tooling = stem.starts_with("test_") || matches!(stem, "conftest" | "setup");
    !stem.is_empty() && !stem.starts_with(['_', '.']) && !tooling
}

/// Whether `text` is the bare name of a package: then the module is meant, not the folder.
fn is_package(text: &str, folder: &Path) -> bool {
    !text.contains(['/', '.']) && folder.join("__init__.py").is_file()
}

/// Routes begin with a module's name, so two files of one name would hide each other.
fn one_name_each(specs: &[TargetSpec], cwd: &Path, else_what: &str) -> Result<(), Stop> {
    let files = || {
        specs.iter().filter_map(|spec| match &spec.source {
            Source::Path(path) => Some(path.as_path()),
            Source::Module(_) => None,
        })
    };
    for (index, first) in files().enumerate() {
        let same = |second: &&Path| *second != first && second.file_stem() == first.file_stem();
        if let Some(second) = files().skip(index + 1).find(same) {
            return Err(Stop::usage(format!(
                "{} and {} have the same name, so {else_what}: rename one",
                shown(first, cwd),
                shown(second, cwd)
            )));
        }
    }
    Ok(())
}

fn folders(specs: &[TargetSpec], working_dir: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for spec in specs {
        let folder = match &spec.source {
            Source::Path(path) => path.parent().unwrap_or(working_dir),
            Source::Module(_) => working_dir,
        };
        if !folders.iter().any(|known| known == folder) {
            folders.push(folder.to_path_buf());
        }
    }
    folders
}

/// The error for a path that is not there, with the nearest name in its folder.
fn missing(path: &Path, cwd: &Path) -> Stop {
    let wrong = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(cwd);
    let names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    let hint = suggest::did_you_mean(&wrong, names.iter());
    Stop::new(Exit::NotFound, format!("there is no {}.{hint}", shown(path, cwd)))
}

/// The path without `.` parts; links stay.
fn plain(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// The path as short as it can be told.
pub(crate) fn shown(path: &Path, cwd: &Path) -> String {
    match path.strip_prefix(cwd) {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.display().to_string(),
        _ => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn bench(files: &[&str]) -> TempDir {
        let folder = TempDir::new().expect("a temporary folder");
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, "").expect("a file");
        }
        folder
    }

    /// What `serve` would load, with paths relative to the working folder.
    fn serve(folder: &TempDir, typed: &[&str]) -> Result<Vec<String>, String> {
        let cwd = folder.path();
        let typed: Vec<String> = typed.iter().map(ToString::to_string).collect();
        let plan = || {
            let mut typed = sort(&typed, cwd)?;
            let found = if typed.project.is_none() { project::discover(cwd)? } else { None };
            let project = typed.project.take();
            typed.project = project;
            let project = typed.project.as_ref().or(found.as_ref());
            let listed = project.and_then(|project| match project.values.get("targets") {
                Some((crate::value::Value::List(items), _)) => Some(items.clone()),
                _ => None,
            });
            plan(&typed, &listed.unwrap_or_default(), project, cwd, false)
        };
        let at = format!("{}/", cwd.display());
        match plan() {
            Ok(plan) => {
                Ok(plan.specs.iter().map(|spec| spec.to_string().replace(&at, "")).collect())
            }
            Err(stop) => Err(format!("{}: {}", stop.exit.code(), stop.message.replace(&at, ""))),
        }
    }

    fn ok(specs: &[&str]) -> Result<Vec<String>, String> {
        Ok(specs.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_folder_is_its_handler_files() {
        let folder = bench(&[
            "algos/b.py",
            "algos/a.py",
            "algos/_private.py",
            "algos/test_a.py",
            "algos/conftest.py",
            "algos/setup.py",
            "algos/notes.txt",
            "algos/inner/c.py",
            "empty/readme.md",
        ]);
        assert_eq!(serve(&folder, &["algos"]), ok(&["algos/a.py", "algos/b.py"]));
        assert_eq!(serve(&folder, &["./algos/"]), ok(&["algos/a.py", "algos/b.py"]));
        assert_eq!(
            serve(&folder, &["algos/a.py:f", "algos/a.py:g", "pkg.mod:h", "algos/a.py:f"]),
            ok(&["algos/a.py:f", "algos/a.py:g", "pkg.mod:h"])
        );
        let error = serve(&folder, &["empty"]).expect_err("nothing in it");
        assert!(error.starts_with("3: empty holds no Python file to serve"), "{error}");
    }

    #[test]
    fn a_package_by_its_bare_name_is_a_module() {
        let folder = bench(&["pkg/__init__.py", "pkg/a.py"]);
        assert_eq!(serve(&folder, &["pkg"]), ok(&["pkg"]));
        assert_eq!(serve(&folder, &["pkg/"]), ok(&["pkg/a.py"]));
    }

    #[test]
    fn a_project_brings_its_targets() {
        let folder = bench(&["p/a.py", "p/b.py", "other.py", "bare/exuvia.toml", "bare/x.py"]);
        fs::write(folder.path().join("p/exuvia.toml"), "targets = [\"a.py\", \"mod:f\"]")
            .expect("a file");
        assert_eq!(serve(&folder, &["p"]), ok(&["p/a.py", "mod:f"]));
        assert_eq!(serve(&folder, &["p/exuvia.toml"]), ok(&["p/a.py", "mod:f"]));
        assert_eq!(serve(&folder, &["p", "other.py"]), ok(&["p/a.py", "mod:f", "other.py"]));
        assert_eq!(serve(&folder, &["bare"]), ok(&["bare/x.py"]), "the folder itself");
        assert_eq!(
            serve(&folder, &["p", "bare"]),
            Err(
                "2: p/exuvia.toml and bare/exuvia.toml are both project files: serve one at a time"
                    .into()
            )
        );
        fs::write(folder.path().join("p/exuvia.toml"), "targets = [\"gone.py\"]").expect("a file");
        assert_eq!(serve(&folder, &["p"]), Err("3: p/exuvia.toml: there is no p/gone.py.".into()));
    }

    #[test]
    fn without_targets_the_project_of_the_working_folder_is_taken() {
        let folder = bench(&["a.py", "b.py"]);
        let error = serve(&folder, &[]).expect_err("nothing");
        assert!(error.starts_with("2: nothing to serve: name a TARGET"), "{error}");
        fs::write(folder.path().join("exuvia.toml"), "targets = [\"a.py\"]").expect("a file");
        assert_eq!(serve(&folder, &[]), ok(&["a.py"]));
        assert_eq!(serve(&folder, &["b.py"]), ok(&["b.py"]), "what is typed goes first");
    }

    #[test]
    fn functions_are_found_like_targets_and_share_no_name_with_them() {
        let folder = bench(&["p/models.py", "a.py", "q/a.py"]);
        let cwd = folder.path();
        let plan = single("a.py", cwd).expect("a plan");
        let functions = |names: &[&str], base: &Path| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let at = format!("{}/", cwd.display());
            let found = super::functions(&names, base, cwd, &plan);
            let shown = |spec: &TargetSpec| spec.to_string().replace(&at, "");
            found
                .map(|specs| specs.iter().map(shown).collect::<Vec<_>>())
                .map_err(|stop| format!("{}: {}", stop.exit.code(), stop.message.replace(&at, "")))
        };
        let names = ["models.py:load", "pkg.mod:warm", "./models.py:load"];
        let expected = ok(&["p/models.py:load", "pkg.mod:warm"]);
        assert_eq!(functions(&names, &cwd.join("p")), expected);
        assert_eq!(functions(&["a.py:f"], cwd), ok(&["a.py:f"]), "the file of a target");
        assert_eq!(
            functions(&["p/model.py:load"], cwd),
            Err("3: there is no p/model.py. Did you mean `models.py`?".into())
        );
        assert_eq!(
            functions(&["q/a.py:f"], cwd),
            Err("2: a.py and q/a.py have the same name, so they would be the same module: \
                 rename one"
                .into())
        );
    }

    #[test]
    fn wrong_targets_are_named() {
        let folder = bench(&["weather.py", "notes.txt", "x/a.py", "y/a.py"]);
        for (typed, expected) in [
            (&["wether.py"][..], "3: there is no wether.py. Did you mean `weather.py`?"),
            (&["wether.py:f"], "3: there is no wether.py. Did you mean `weather.py`?"),
            (&["./notes.txt"], "2: notes.txt is not a .py file"),
            (&["./x:f"], "2: ./x:f names a function in a folder: name its file, like x/file.py:f"),
            (&["gone.toml"], "3: there is no gone.toml."),
            (
                &["x/a.py", "y/a.py"],
                "2: x/a.py and y/a.py have the same name, so their routes would be the same: \
                 rename one",
            ),
            (
                &["a b"],
                "2: `a b` is not a target: `a b` is neither a .py file nor the name of a module",
            ),
        ] {
            assert_eq!(serve(&folder, typed), Err(expected.into()));
        }
        let error = single("x", folder.path()).expect_err("a folder").to_string();
        assert_eq!(error, "x is a folder: name one function, like x/file.py:function");
    }
}
