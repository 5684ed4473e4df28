//! The log on stderr.

use tracing_subscriber::{
    filter::{EnvFilter, LevelFilter},
    fmt,
};

use crate::{
    resolve::{Resolved, Variables},
    terminal,
};

/// Starts the log as the settings say. In a process that has one already (a Python program that
/// called twice) that one stays.
pub(crate) fn start(settings: &Resolved, variables: &Variables) {
    let level = settings.text("log-level").parse().unwrap_or(LevelFilter::INFO);
    // They tell of every frame, and a client may send many.
    let theirs = level.min(LevelFilter::WARN);
    let filter = EnvFilter::new(format!("{level},h2={theirs},hyper={theirs},hyper_util={theirs}"));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // A closed stderr must not end the server.
        .log_internal_errors(false);
    // An error means that there is a log already.
    let _ = if is_json(settings) {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.compact().with_ansi(terminal::colours(variables)).try_init()
    };
}

/// Whether stderr is read by machines.
pub(crate) fn is_json(settings: &Resolved) -> bool {
    settings.text("log-format") == "json"
}
