//! What workers are made from and when they are replaced: the settings of it, and how it went.

use std::{cmp::Reverse, path::Path, time::Duration};

use exuvia_host::{ImageConfig, ImageStatus, Recycle, StartMethod};

use crate::{
    exit::Stop,
    project::Project,
    resolve::Resolved,
    targets::{self, Plan},
    terminal,
};

/// An import that took less is not worth a word.
const WORTH_A_WORD: Duration = Duration::from_millis(5);

/// Imports that are named at most.
const NAMED: usize = 8;

/// The image that the settings ask for.
pub(crate) fn config(
    settings: &Resolved,
    project: Option<&Project>,
    plan: &Plan,
    cwd: &Path,
) -> Result<ImageConfig, Stop> {
    let base = match project {
        Some(project) if settings.is_from_file("warm") => &project.folder,
        _ => cwd,
    };
    let warm = targets::functions(settings.list("warm"), base, cwd, plan).map_err(|stop| {
        let message = format!("{}: {stop}", settings.origin("warm"));
        Stop { message, ..stop }
    })?;
    Ok(ImageConfig {
        start: match settings.text("start-method") {
            "spawn" => StartMethod::Spawn,
            _ => StartMethod::Fork,
        },
        preload: settings.list("preload").to_vec(),
        warm,
        blas_threads: given(settings, "blas-threads", Resolved::count),
    })
}

/// When the settings have workers replaced.
pub(crate) fn recycle(settings: &Resolved) -> Recycle {
    Recycle {
        max_rss: given(settings, "max-rss", Resolved::size),
        max_calls: given(settings, "max-calls", Resolved::count).map(u64::from),
        lifetime: given(settings, "lifetime", Resolved::duration),
        jitter_percent: settings.percent("recycle-jitter"),
    }
}

fn given<T>(settings: &Resolved, key: &str, read: fn(&Resolved, &str) -> T) -> Option<T> {
    settings.is_set(key).then(|| read(settings, key))
}

/// Says how the image went: lines for a person, or one record.
pub(crate) fn tell(image: &ImageStatus, as_json: bool) {
    if as_json {
        record(image);
    } else {
        for line in lines(image) {
            terminal::say(&line);
        }
    }
}

fn lines(image: &ImageStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(why) = &image.why_spawn {
        lines.push(format!("workers are started afresh: {why}"));
    } else if image.start == StartMethod::Fork {
        let imports = match imports(image) {
            imports if imports.is_empty() => imports,
            imports => format!(" ({imports})"),
        };
        lines.push(format!("image: {}{imports}", millis(image.took)));
    }
    let left_out = |(item, why): &(String, String)| {
        let done = if item.ends_with("()") { "called" } else { "imported" };
        format!("`{item}` is {done} by each worker instead: {why}")
    };
    lines.extend(image.left_out.iter().map(left_out));
    lines.extend(image.notes.iter().cloned());
    lines
}

fn record(image: &ImageStatus) {
    let left_out = image.left_out.iter().map(|(item, why)| format!("{item}: {why}"));
    // What there is nothing to say of has no field.
    let some = |text: String| (!text.is_empty()).then_some(text);
    tracing::info!(
        start = image.start.word(),
        why_spawn = image.why_spawn,
        took_ms = (!image.took.is_zero()).then_some(image.took.as_millis() as u64),
        imports = some(imports(image)),
        left_out = some(left_out.collect::<Vec<_>>().join("; ")),
        notes = some(image.notes.join("; ")),
        "image"
    );
}

/// The imports that took longest, in the order they were made.
fn imports(image: &ImageStatus) -> String {
    let mut slow: Vec<(usize, &(String, Duration))> =
        image.imports.iter().enumerate().filter(|(_, (_, took))| *took >= WORTH_A_WORD).collect();
    slow.sort_by_key(|(_, (_, took))| Reverse(*took));
    let more = slow.len().saturating_sub(NAMED);
    slow.truncate(NAMED);
    slow.sort_by_key(|(place, _)| *place);
    let named = slow.iter().map(|(_, (item, took))| format!("{item} {}", millis(*took)));
    let more = (more > 0).then(|| format!("and {more} more"));
    named.chain(more).collect::<Vec<_>>().join(", ")
}

fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(imports: &[(&str, u64)]) -> ImageStatus {
        let import =
            |(item, micros): &(&str, u64)| ((*item).to_owned(), Duration::from_micros(*micros));
        ImageStatus {
            start: StartMethod::Fork,
            why_spawn: None,
            zygote: Some(7),
            took: Duration::from_micros(412_300),
            imports: imports.iter().map(import).collect(),
            left_out: vec![],
            notes: vec![],
            memory: None,
        }
    }

    #[test]
    fn the_longest_imports_are_named_in_their_order() {
        let few = status(&[("numpy", 78_400), ("json", 4_999), ("pandas", 301_000)]);
        assert_eq!(lines(&few), ["image: 412 ms (numpy 78 ms, pandas 301 ms)"]);
        assert_eq!(lines(&status(&[("json", 100)])), ["image: 412 ms"]);
        let many: Vec<(&str, u64)> = [
            ("a", 90_000),
            ("short", 6_000),
            ("b", 20_000),
            ("c", 30_000),
            ("d", 40_000),
            ("e", 50_000),
            ("shorter", 5_000),
            ("f", 60_000),
            ("g", 70_000),
            ("h", 10_000),
        ]
        .into();
        assert_eq!(
            lines(&status(&many)),
            ["image: 412 ms (a 90 ms, b 20 ms, c 30 ms, d 40 ms, e 50 ms, f 60 ms, g 70 ms, \
                 h 10 ms, and 2 more)"]
        );
    }

    #[test]
    fn what_is_not_in_the_image_is_said_with_the_reason() {
        let mut image = status(&[]);
        image.left_out = vec![
            ("polars".into(), "it starts a thread (jemalloc_bg_thd)".into()),
            ("models:load()".into(), "it starts a thread (a, b)".into()),
        ];
        image.notes = vec!["weather.rng is the same in all workers".into()];
        assert_eq!(
            lines(&image),
            [
                "image: 412 ms",
                "`polars` is imported by each worker instead: it starts a thread (jemalloc_bg_thd)",
                "`models:load()` is called by each worker instead: it starts a thread (a, b)",
                "weather.rng is the same in all workers",
            ]
        );
    }

    #[test]
    fn spawned_workers_need_no_word_unless_forking_was_wanted() {
        let mut image = status(&[]);
        image.start = StartMethod::Spawn;
        assert_eq!(lines(&image), [""; 0]);
        image.why_spawn = Some("clone3: EPERM".into());
        assert_eq!(lines(&image), ["workers are started afresh: clone3: EPERM"]);
    }
}
