//! Writing to the person: data on stdout, everything else on stderr.

use std::{
    ffi::OsStr,
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
};

use crate::{exit::Stop, resolve::Variables};

/// Writes data to stdout. A reader that went away (`| head`) has what it wanted: no error.
pub(crate) fn data(bytes: &[u8]) -> io::Result<()> {
    piece(bytes).map(drop)
}

/// Writes some of the data to stdout, so that a reader has it now. It breaks where the reader went
/// away.
pub(crate) fn piece(bytes: &[u8]) -> io::Result<ControlFlow<()>> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        result => result.map(ControlFlow::Continue),
    }
}

/// Writes a line to stderr. If that cannot be done there is nobody left to tell.
pub(crate) fn say(line: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(format!("{line}\n").as_bytes());
}

/// Shows an error.
pub(crate) fn show(stop: &Stop, variables: &Variables) {
    if stop.message.is_empty() {
        return;
    }
    say(&format!("{} {}", label("error:", "31", variables), stop.message));
}

/// Shows a warning.
pub(crate) fn warn(message: &str, variables: &Variables) {
    say(&format!("{} {message}", label("warning:", "33", variables)));
}

/// Whether stderr takes colours.
pub(crate) fn colours(variables: &Variables) -> bool {
    let set = |name: &str| variables.get(OsStr::new(name)).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|term| term != "dumb")
        && io::stderr().is_terminal()
}

fn label(word: &str, colour: &str, variables: &Variables) -> String {
    if colours(variables) { format!("\u{1b}[1;{colour}m{word}\u{1b}[0m") } else { word.into() }
}
