//! Signals: the ends, one worker more or less, and the death of orphans.

use std::{fmt, io, time::Duration};

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Stop};

/// How often a process that is PID 1 looks for orphans without being told of a death.
const ROUND: Duration = Duration::from_secs(1);

/// The signals that ask the process to end. From the time they are made nothing else heeds them.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// The signals that ask for more or fewer workers.
pub(crate) struct Scaling {
    more: Signal,
    fewer: Signal,
}

/// What such a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// SIGTTIN: one worker more.
    More,
    /// SIGTTOU: one less.
    Fewer,
}

// === impl Signals ===

impl Signals {
    pub(crate) fn new() -> Result<Self, Stop> {
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The next signal, as the code of a process that it ended.
    pub(crate) async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
        }
    }
}

// === impl Scaling ===

impl Scaling {
    pub(crate) fn new() -> Result<Self, Stop> {
        let kind = |number: Number| SignalKind::from_raw(number.as_raw());
        Ok(Self { more: listen(kind(Number::TTIN))?, fewer: listen(kind(Number::TTOU))? })
    }

    pub(crate) async fn next(&mut self) -> Scale {
        tokio::select! {
            _ = self.more.recv() => Scale::More,
            _ = self.fewer.recv() => Scale::Fewer,
        }
    }
}

// === impl Scale ===

impl Scale {
    /// How many workers there are to be where there are `workers`: never none.
    pub(crate) fn of(self, workers: usize) -> usize {
        match self {
            Self::More => workers.saturating_add(1),
            Self::Fewer => workers.saturating_sub(1).max(1),
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::More => "one worker more (SIGTTIN)",
            Self::Fewer => "one worker less (SIGTTOU)",
        })
    }
}

/// As PID 1: buries, for as long as the event loop turns, the processes whose parents are gone.
/// Nobody else would.
pub(crate) fn bury_orphans() -> Result<(), Stop> {
    let mut deaths = listen(SignalKind::child())?;
    tokio::spawn(async move {
        let mut round = tokio::time::interval(ROUND);
        loop {
            // A process that ended before it became ours made a signal for another.
            tokio::select! {
                _ = deaths.recv() => {}
                _ = round.tick() => {}
            }
            exuvia_host::reap_orphans();
        }
    });
    Ok(())
}

fn listen(kind: SignalKind) -> Result<Signal, Stop> {
    signal(kind).map_err(|error: io::Error| {
        Stop::new(Exit::Internal, format!("signals cannot be listened to: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_or_one_less_but_never_none() {
        assert_eq!([1, 2].map(|workers| Scale::More.of(workers)), [2, 3]);
        assert_eq!([3, 2, 1].map(|workers| Scale::Fewer.of(workers)), [2, 1, 1]);
    }
}
