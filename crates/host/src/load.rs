//! What workers and zygotes are told: what to import, and in which environment.

use std::{env, ffi::OsString, path::Path};

use exuvia_core::{TargetSpec, spec::Source};
use exuvia_protocol::{Image, Load, LoadTarget};

use crate::config::PoolConfig;

/// Variables by which numeric libraries are told how many threads to use.
const THREADS: [&str; 4] =
    ["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"];

/// Variables by which allocators (pyarrow's, polars') are told to start no thread.
const ALLOCATORS: [&str; 2] = ["JE_ARROW_MALLOC_CONF", "_RJEM_MALLOC_CONF"];
const NO_THREAD: &str = "background_thread:false";

/// For a worker that starts afresh.
pub(crate) fn spawned(config: &PoolConfig) -> Load {
    let mut search_path = Vec::new();
    let mut add = |folder: &Path| {
        let folder = folder.to_string_lossy().into_owned();
        if !search_path.contains(&folder) {
            search_path.push(folder);
        }
    };
    for target in config.targets.iter().chain(&config.image.warm) {
        match &target.source {
            Source::Module(_) => add(&config.working_dir),
            Source::Path(path) => add(path.parent().unwrap_or(&config.working_dir)),
        }
    }
    if !config.image.preload.is_empty() {
        add(&config.working_dir);
    }
    config.search_path.iter().for_each(|folder| add(folder));
    Load {
        search_path,
        targets: config.targets.iter().map(load_target).collect(),
        concurrency: config.concurrency,
        preload: config.image.preload.clone(),
        warm: config.image.warm.iter().map(load_target).collect(),
        max_table: config.max_table,
        tolerant: config.tolerant,
    }
}

/// For a worker forked from an image without these items, by their names.
pub(crate) fn forked(config: &PoolConfig, left_out: &[(String, String)]) -> Load {
    let is_out = |name: &str| left_out.iter().any(|(item, _)| item == name);
    let mut load = spawned(config);
    load.preload.retain(|module| is_out(module));
    load.warm.retain(|function| {
        let attribute = function.attribute.as_deref().unwrap_or_default();
        is_out(&format!("{}:{attribute}()", function.module))
    });
    load
}

fn load_target(target: &TargetSpec) -> LoadTarget {
    let (module, file) = match &target.source {
        Source::Module(module) => (module.clone(), None),
        Source::Path(path) => {
            let stem = path.file_stem().unwrap_or_default();
            (stem.to_string_lossy().into_owned(), Some(path.to_string_lossy().into_owned()))
        }
    };
    LoadTarget { module, file, attribute: target.attribute.clone() }
}

/// What a zygote is told beside [`spawned`], and its variables.
pub(crate) fn image(
    config: &PoolConfig,
    leave_out: Vec<String>,
) -> (Image, Vec<(OsString, OsString)>) {
    let mut variables = Vec::new();
    let mut restored = Vec::new();
    for name in THREADS {
        variables.push((name.into(), "1".into()));
        restored.push((name.to_owned(), Some(threads_variable(config, name))));
    }
    for name in ALLOCATORS {
        let before = env::var(name).ok();
        let now = match &before {
            // The last word counts.
            Some(before) if !before.is_empty() => format!("{before},{NO_THREAD}"),
            _ => NO_THREAD.into(),
        };
        variables.push((name.into(), now.into()));
        restored.push((name.to_owned(), before));
    }
    let image = Image {
        parent: std::process::id(),
        leave_out,
        environment: restored,
        blas_threads: blas_threads(config),
        jail: None,
    };
    (image, variables)
}

/// The variables of a worker that starts afresh.
pub(crate) fn spawned_environment(config: &PoolConfig) -> Vec<(OsString, OsString)> {
    THREADS.map(|name| (name.into(), threads_variable(config, name).into())).into()
}

fn threads_variable(config: &PoolConfig, name: &str) -> String {
    let set = env::var(name).ok().filter(|_| config.image.blas_threads.is_none());
    set.unwrap_or_else(|| blas_threads(config).to_string())
}

/// Threads of numeric libraries per worker.
fn blas_threads(config: &PoolConfig) -> u32 {
    let number = |text: String| text.parse().ok().filter(|number| *number > 0);
    let set = || THREADS.iter().find_map(|name| env::var(name).ok().and_then(number));
    let share = || {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (cores / config.workers.max(1)).max(1) as u32
    };
    config.image.blas_threads.or_else(set).unwrap_or_else(share)
}
