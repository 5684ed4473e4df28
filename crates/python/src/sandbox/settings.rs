//! Keyword arguments as the settings of a sandbox, and options as the limits of a call.

use std::{sync::Arc, time::Duration};

use exuvia_core::{FileMode, Files, Policy, units};
use exuvia_host::sandbox::{CallLimits, SandboxConfig};
use exuvia_jail::{Layers, Tier};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBool, PyDelta, PyDict, PyString},
};

use crate::config::{Argument, Arguments};

/// Longest start of an image.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// How to run a sandbox.
pub(super) struct Settings {
    pub(super) config: SandboxConfig,
    /// What source code may write when its call does not say.
    pub(super) files: Files,
}

/// What a call says of itself; `None` where it says nothing.
#[derive(Default)]
pub(super) struct Options {
    pub(super) entrypoint: Option<String>,
    wall: Option<Duration>,
    cpu: Option<Duration>,
    memory: Option<u64>,
    output: Option<u64>,
    result: Option<u64>,
    threads: Option<u32>,
    mode: Option<FileMode>,
    quota: Option<u64>,
    inodes: Option<u64>,
}

// === impl Settings ===

impl Settings {
    pub(super) fn read<'py>(
        py: Python<'py>,
        given: &Arguments<'_, 'py>,
        tier: Tier,
    ) -> PyResult<Self> {
        let options = Options::of(given)?;
        // A bundle may write where its manifest asks for it, unless it is said that none may.
        let ceiling =
            Files { mode: options.mode.unwrap_or(FileMode::ReadWrite), ..Files::default() };
        let policy = options.instead_of(Policy { files: ceiling, ..Policy::default() });
        let files = Files { mode: options.mode.unwrap_or_default(), ..policy.files };
        let config = SandboxConfig {
            python: given.required("python")?.path()?,
            runtime: crate::runtime(py)?,
            view: given.required("view")?.paths()?,
            store: Some(given.required("store")?.path()?),
            preload: given.required("preload")?.modules()?,
            policy,
            tier,
            user: (user(given, "isolate_uid")?, user(given, "isolate_gid")?),
            spares: given.required("spares")?.workers()?,
            concurrency: given.required("concurrency")?.whole(1)?,
            queue: given.required("queue")?.whole(0)?,
            persistent: switch(&given.required("persistent")?)?,
            blas_threads: given.required("blas_threads")?.whole(1)?,
            start_timeout: START_TIMEOUT,
            layers: Layers::ALL,
            output: Arc::new(|_| ()),
        };
        Ok(Self { config, files })
    }
}

/// Whom root becomes. Never root.
fn user(given: &Arguments<'_, '_>, name: &'static str) -> PyResult<u32> {
    given.required(name)?.whole(1)
}

fn switch(argument: &Argument<'_>) -> PyResult<bool> {
    let wrong = |_| PyTypeError::new_err(format!("{} must be True or False", argument.name));
    Ok(argument.value.cast::<PyBool>().map_err(wrong)?.is_true())
}

// === impl Options ===

impl Options {
    /// Reads the options of a call. What it asks for must be there.
    pub(super) fn read(given: &Bound<'_, PyDict>, ceiling: &Policy) -> PyResult<Self> {
        let given = Arguments(given);
        let mut options = Self::of(&given)?;
        if let Some(name) = given.optional("entrypoint")? {
            options.entrypoint = Some(name.value.extract().map_err(|_| {
                PyTypeError::new_err(
                    "entrypoint must be text, like \"handler\" or \"main:handler\"",
                )
            })?);
        }
        options.within(ceiling)?;
        Ok(options)
    }

    fn of(given: &Arguments<'_, '_>) -> PyResult<Self> {
        let size = |name| given.optional(name)?.map(|argument| argument.size()).transpose();
        let time = |name| given.optional(name)?.map(|argument| time(&argument)).transpose();
        Ok(Self {
            entrypoint: None,
            wall: time("wall")?,
            cpu: time("cpu")?,
            memory: size("memory")?,
            output: size("output")?,
            result: size("result")?,
            threads: given.optional("threads")?.map(|argument| argument.whole(1)).transpose()?,
            mode: given.optional("files")?.map(|argument| mode(&argument)).transpose()?,
            quota: size("quota")?,
            inodes: given.optional("inodes")?.map(|argument| argument.whole(1)).transpose()?,
        })
    }

    /// Refuses what would be granted in part only.
    fn within(&self, ceiling: &Policy) -> PyResult<()> {
        let files = ceiling.files;
        for (name, is_more) in [
            ("wall", self.wall.is_some_and(|wall| wall > ceiling.wall)),
            ("cpu", self.cpu.is_some_and(|cpu| cpu > ceiling.cpu)),
            ("memory", self.memory.is_some_and(|memory| memory > ceiling.memory)),
            ("output", self.output.is_some_and(|output| output > ceiling.output)),
            ("result", self.result.is_some_and(|result| result > ceiling.result)),
            ("threads", self.threads.is_some_and(|threads| threads > ceiling.threads)),
            ("files", self.mode.is_some_and(|mode| mode > files.mode)),
            ("quota", self.quota.is_some_and(|quota| quota > files.bytes)),
            ("inodes", self.inodes.is_some_and(|inodes| inodes > files.inodes)),
        ] {
            if is_more {
                let why = format!("{name}: a call cannot have more than its sandbox allows");
                return Err(PyValueError::new_err(why));
            }
        }
        Ok(())
    }

    /// The limits of a call where a policy and what may be written are given.
    pub(super) fn under(&self, policy: &Policy, files: Files) -> CallLimits {
        let asked = CallLimits {
            wall: self.wall,
            cpu: self.cpu,
            memory: self.memory,
            result: self.result,
            output: self.output,
            files: Some(Files {
                mode: self.mode.unwrap_or(files.mode),
                bytes: self.quota.unwrap_or(files.bytes),
                inodes: self.inodes.unwrap_or(files.inodes),
            }),
            threads: self.threads,
        };
        let Policy { wall, cpu, memory, result, output, files, threads } = asked.under(policy);
        CallLimits {
            wall: Some(wall),
            cpu: Some(cpu),
            memory: Some(memory),
            result: Some(result),
            output: Some(output),
            files: Some(files),
            threads: Some(threads),
        }
    }

    /// What is said here, and for the rest `usual`.
    fn instead_of(&self, usual: Policy) -> Policy {
        Policy {
            wall: self.wall.unwrap_or(usual.wall),
            cpu: self.cpu.unwrap_or(usual.cpu),
            memory: self.memory.unwrap_or(usual.memory),
            result: self.result.unwrap_or(usual.result),
            output: self.output.unwrap_or(usual.output),
            files: Files {
                mode: usual.files.mode,
                bytes: self.quota.unwrap_or(usual.files.bytes),
                inodes: self.inodes.unwrap_or(usual.files.inodes),
            },
            threads: self.threads.unwrap_or(usual.threads),
        }
    }
}

/// A time above 0: seconds, a `timedelta`, or text like `500ms`.
fn time(argument: &Argument<'_>) -> PyResult<Duration> {
    let name = argument.name;
    let found = if let Ok(text) = argument.value.cast::<PyString>() {
        let read = units::duration(&text.to_string_lossy());
        read.map_err(|why| PyValueError::new_err(format!("{name}: {why}")))?
    } else if argument.value.is_instance_of::<PyDelta>() {
        let wrong = |_| PyValueError::new_err(format!("{name} must be a time above 0"));
        argument.value.extract().map_err(wrong)?
    } else {
        argument.seconds()?
    };
    if found.is_zero() {
        return Err(PyValueError::new_err(format!("{name} must be more than 0")));
    }
    Ok(found)
}

fn mode(argument: &Argument<'_>) -> PyResult<FileMode> {
    let expected = "files must be \"read\" or \"read-write\"";
    let text = argument.value.cast::<PyString>().map_err(|_| PyTypeError::new_err(expected))?;
    match text.to_string_lossy().as_ref() {
        "read" => Ok(FileMode::Read),
        "read-write" => Ok(FileMode::ReadWrite),
        other => Err(PyValueError::new_err(format!("{expected}, not {other:?}"))),
    }
}
