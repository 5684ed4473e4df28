//! The log on stderr.

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::Duration,
};

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
        .with_writer(|| Stderr)
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

/// Standard error, for a thread that must not wait for who reads it: a pipe that nobody reads would
/// stop the server. What does not go through is lost, and counted.
struct Stderr;

/// What went wrong with it.
struct Trouble {
    /// Lines that were lost since one went through.
    lost: u64,
}

static TROUBLE: Mutex<Trouble> = Mutex::new(Trouble { lost: 0 });

/// How long a line may wait, once; while nobody reads, the next ones do not wait at all.
const PATIENCE: Duration = Duration::from_millis(100);

/// As much as a pipe that takes anything takes at once (PIPE_BUF).
const AT_ONCE: usize = 4096;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut trouble = TROUBLE.lock().unwrap_or_else(PoisonError::into_inner);
        let patience = if trouble.lost == 0 { PATIENCE } else { Duration::ZERO };
        if trouble.lost > 0 && is_writable(patience) {
            let lost = std::mem::take(&mut trouble.lost);
            let note = format!("{lost} lines of the log were lost: nobody read it\n");
            trouble.lost += u64::from(!put(note.as_bytes(), patience)?);
        }
        trouble.lost += u64::from(!put(line, patience)?);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all of `bytes`; false where nobody reads them.
fn put(mut bytes: &[u8], patience: Duration) -> io::Result<bool> {
    while !bytes.is_empty() {
        if !is_writable(patience) {
            return Ok(false);
        }
        let most = bytes.len().min(AT_ONCE);
        match rustix::io::write(io::stderr(), &bytes[..most]) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn is_writable(patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stderr = io::stderr();
    let mut asked = [PollFd::new(&stderr, PollFlags::OUT)];
    let patience = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
    // A closed one is "ready" too: writing says what is wrong.
    !matches!(poll(&mut asked, Some(&patience)), Ok(0))
}

/// Whether stderr is read by machines.
pub(crate) fn is_json(settings: &Resolved) -> bool {
    settings.text("log-format") == "json"
}
