//! Keyword arguments of a Python program as the settings of a pool. What is wrong is said by the
//! argument's name: a wrong kind of value is a `TypeError`, a value out of bounds a `ValueError`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use exuvia_core::{TargetSpec, spec::Source, suggest, units};
use exuvia_host::{ImageConfig, OutputSink, PoolConfig, Recycle, StartMethod};
use exuvia_observe::Metrics;
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyDict, PyString},
};

/// Bytes of output per call that are passed on.
const MAX_OUTPUT: u64 = 16 << 20;
/// Largest arguments and results.
const MAX_PAYLOAD: u64 = 16 << 30;
/// Most memory that a worker may make of one table. What comes is the program's own.
const MAX_TABLE: u64 = 64 << 30;
/// Longer than any machine lives: such a deadline could not be written down.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The keyword arguments of a pool.
pub(crate) struct Arguments<'a, 'py>(pub(crate) &'a Bound<'py, PyDict>);

/// One argument: its name and its value.
pub(crate) struct Argument<'py> {
    pub(crate) name: &'static str,
    pub(crate) value: Bound<'py, PyAny>,
}

// === impl Arguments ===

impl<'py> Arguments<'_, 'py> {
    /// The settings of a pool that serves `targets` and hands its lines to `output`.
    pub(crate) fn config(
        &self,
        py: Python<'py>,
        targets: &[String],
        output: OutputSink,
    ) -> PyResult<PoolConfig> {
        let working_dir = self.required("working_dir")?.path()?;
        Ok(PoolConfig {
            python: self.required("python")?.path()?,
            runtime: crate::runtime(py)?,
            targets: distinct(targets, &working_dir)?,
            search_path: self.required("search_path")?.paths()?,
            workers: self.required("workers")?.workers()?,
            spares: self.required("spares")?.workers()?,
            image: self.image(&working_dir)?,
            recycle: self.recycle()?,
            concurrency: self.required("concurrency")?.whole(1)?,
            queue: self.required("queue")?.whole(0)?,
            timeout: self.required("timeout")?.seconds()?,
            handler_timeouts: Default::default(),
            max_payload: MAX_PAYLOAD,
            max_table: MAX_TABLE,
            tolerant: false,
            max_output: MAX_OUTPUT,
            start_timeout: Duration::from_secs(120),
            output,
            metrics: Metrics::new(),
            working_dir,
        })
    }

    fn image(&self, working_dir: &Path) -> PyResult<ImageConfig> {
        let blas_threads = self.optional("blas_threads")?;
        Ok(ImageConfig {
            start: self.required("start_method")?.start_method()?,
            preload: self.required("preload")?.modules()?,
            warm: self.required("warm")?.functions(working_dir)?,
            blas_threads: blas_threads.map(|argument| argument.whole(1)).transpose()?,
        })
    }

    fn recycle(&self) -> PyResult<Recycle> {
        let max_calls = self.optional("max_calls")?;
        Ok(Recycle {
            max_rss: self.optional("max_rss")?.map(|argument| argument.size()).transpose()?,
            max_calls: max_calls.map(|argument| argument.whole(1)).transpose()?,
            lifetime: self.optional("lifetime")?.map(|argument| argument.seconds()).transpose()?,
            jitter_percent: self.required("jitter")?.percent()?,
        })
    }

    pub(crate) fn required(&self, name: &'static str) -> PyResult<Argument<'py>> {
        let missing = || PyTypeError::new_err(format!("{name} is missing"));
        let value = self.0.get_item(name)?.ok_or_else(missing)?;
        Ok(Argument { name, value })
    }

    pub(crate) fn optional(&self, name: &'static str) -> PyResult<Option<Argument<'py>>> {
        Ok(Some(self.required(name)?).filter(|argument| !argument.value.is_none()))
    }
}

// === impl Argument ===

impl<'py> Argument<'py> {
    fn wrong_kind(&self, expected: &str) -> PyErr {
        PyTypeError::new_err(format!("{} must be {expected}, not {}", self.name, self.shown()))
    }

    fn out_of_bounds(&self, expected: &str) -> PyErr {
        PyValueError::new_err(format!("{} must be {expected}, not {}", self.name, self.shown()))
    }

    fn shown(&self) -> String {
        let text = self.value.repr().map(|text| text.to_string_lossy().into_owned());
        let text = text.unwrap_or_else(|_| "what it is".into());
        if text.chars().count() <= 80 {
            text
        } else {
            text.chars().take(77).collect::<String>() + "..."
        }
    }

    /// A whole number of at least `least`, as large as its place in the settings allows.
    pub(crate) fn whole<T: TryFrom<i128>>(&self, least: u8) -> PyResult<T> {
        let expected = format!("a whole number, at least {least}");
        if self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong_kind(&expected));
        }
        let number = match self.value.extract::<i64>() {
            Ok(number) => i128::from(number),
            Err(error) if error.is_instance_of::<PyTypeError>(self.value.py()) => {
                return Err(self.wrong_kind(&expected));
            }
            Err(_) => return Err(self.out_of_bounds(&expected)),
        };
        let found = Some(number).filter(|number| *number >= i128::from(least));
        found
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.out_of_bounds(&expected))
    }

    /// A number of processes.
    pub(crate) fn workers(&self) -> PyResult<usize> {
        let number = self.whole(0)?;
        let expected = "no more than 10000";
        if number > 10_000 { Err(self.out_of_bounds(expected)) } else { Ok(number) }
    }

    /// Not truth values, which Python counts as numbers.
    fn number(&self, expected: &str) -> PyResult<f64> {
        if self.value.is_instance_of::<PyBool>() {
            return Err(self.wrong_kind(expected));
        }
        self.value.extract().map_err(|_| self.wrong_kind(expected))
    }

    /// A time above 0.
    pub(crate) fn seconds(&self) -> PyResult<Duration> {
        let expected = "a number of seconds above 0 and no more than a century";
        let found = self.time(expected)?.filter(|time| !time.is_zero());
        found.ok_or_else(|| self.out_of_bounds(expected))
    }

    /// A time that may be 0.
    pub(crate) fn patience(&self) -> PyResult<Duration> {
        let expected = "a number of seconds, at least 0 and no more than a century";
        self.time(expected)?.ok_or_else(|| self.out_of_bounds(expected))
    }

    fn time(&self, expected: &str) -> PyResult<Option<Duration>> {
        let found = Duration::try_from_secs_f64(self.number(expected)?).ok();
        Ok(found.filter(|time| *time <= CENTURY))
    }

    /// A part of 1 as whole percents.
    fn percent(&self) -> PyResult<u8> {
        let expected = "a number from 0 to 1";
        let part = self.number(expected)?;
        if !(0.0..=1.0).contains(&part) {
            return Err(self.out_of_bounds(expected));
        }
        Ok((part * 100.0).round() as u8)
    }

    /// Bytes, or text like `300MiB`.
    pub(crate) fn size(&self) -> PyResult<u64> {
        let Ok(text) = self.value.cast::<PyString>() else {
            return self.whole(1).map_err(|error| {
                let expected = "a number of bytes above 0 or text like \"300MiB\"";
                if error.is_instance_of::<PyTypeError>(self.value.py()) {
                    self.wrong_kind(expected)
                } else {
                    self.out_of_bounds(expected)
                }
            });
        };
        let text = text.to_string_lossy();
        match units::size(&text) {
            Ok(0) => Err(self.out_of_bounds("more than 0")),
            Ok(bytes) => Ok(bytes),
            Err(why) => {
                let unit =
                    text.trim_start_matches(|c: char| c.is_ascii_digit() || " .".contains(c));
                let units = ["MiB", "GiB", "KiB", "MB", "GB", "kB"];
                let hint = suggest::did_you_mean(unit, units);
                let stop = if hint.is_empty() { "" } else { "." };
                Err(PyValueError::new_err(format!("{}: {why}{stop}{hint}", self.name)))
            }
        }
    }

    fn start_method(&self) -> PyResult<StartMethod> {
        let methods = [StartMethod::Fork, StartMethod::Spawn];
        let expected = "\"fork\" or \"spawn\"";
        let text = self.value.cast::<PyString>().map_err(|_| self.wrong_kind(expected))?;
        let text = text.to_string_lossy();
        let found = methods.into_iter().find(|method| method.word() == text);
        found.ok_or_else(|| {
            let hint = suggest::did_you_mean(&text, methods.map(StartMethod::word));
            let stop = if hint.is_empty() { "" } else { "." };
            let name = self.name;
            let shown = self.shown();
            PyValueError::new_err(format!("{name} must be {expected}, not {shown}{stop}{hint}"))
        })
    }

    pub(crate) fn path(&self) -> PyResult<PathBuf> {
        self.value.extract().map_err(|_| self.wrong_kind("a path"))
    }

    pub(crate) fn paths(&self) -> PyResult<Vec<PathBuf>> {
        self.value.extract().map_err(|_| self.wrong_kind("a list of paths"))
    }

    /// Strings; a single one is refused, since its letters would be taken for the items.
    fn texts(&self, expected: &str) -> PyResult<Vec<String>> {
        if self.value.is_instance_of::<PyString>() {
            return Err(self.wrong_kind(expected));
        }
        let items = self.value.try_iter().map_err(|_| self.wrong_kind(expected))?;
        items.map(|item| item?.extract().map_err(|_| self.wrong_kind(expected))).collect()
    }

    pub(crate) fn modules(&self) -> PyResult<Vec<String>> {
        let names = self.texts("a list of names of modules, like [\"numpy\"]")?;
        for name in &names {
            let parsed = TargetSpec::parse(name).ok();
            let is_module = parsed.is_some_and(|spec| {
                matches!(spec.source, Source::Module(_)) && spec.attribute.is_none()
            });
            if !is_module {
                let why = format!("{}: `{name}` is not the name of a module", self.name);
                return Err(PyValueError::new_err(why));
            }
        }
        Ok(names)
    }

    fn functions(&self, working_dir: &Path) -> PyResult<Vec<TargetSpec>> {
        let expected = "a list of functions, by name or as they are, like [\"warmup:run\"]";
        let name = self.name;
        let read = |text: &String| {
            let spec = absolute(text, working_dir)
                .map_err(|why| PyValueError::new_err(format!("{name}: {why}")))?;
            if spec.attribute.is_none() {
                return Err(PyValueError::new_err(format!(
                    "{name}: `{text}` names no function: write {text}:function"
                )));
            }
            Ok(spec)
        };
        self.texts(expected)?.iter().map(read).collect()
    }
}

/// The targets, each once. Handlers are told apart by their module's name, so two files of one name
/// are refused.
fn distinct(targets: &[String], working_dir: &Path) -> PyResult<Vec<TargetSpec>> {
    let mut found: Vec<TargetSpec> = Vec::new();
    for target in targets {
        let spec = absolute(target, working_dir).map_err(PyValueError::new_err)?;
        let clash = found.iter().find(|known| {
            let names = (file_name(known), file_name(&spec));
            matches!(names, (Some(one), Some(other)) if one == other) && known.source != spec.source
        });
        if let Some(known) = clash {
            return Err(PyValueError::new_err(format!(
                "{known} and {spec} have the same module name, so their handlers could not be told \
                 apart: rename one file"
            )));
        }
        if !found.contains(&spec) {
            found.push(spec);
        }
    }
    Ok(found)
}

fn file_name(spec: &TargetSpec) -> Option<&std::ffi::OsStr> {
    match &spec.source {
        Source::Path(path) => path.file_stem(),
        Source::Module(_) => None,
    }
}

fn absolute(target: &str, working_dir: &Path) -> Result<TargetSpec, String> {
    let mut spec = TargetSpec::parse(target)?;
    if let Source::Path(path) = &mut spec.source {
        *path = working_dir.join(&*path);
    }
    Ok(spec)
}
