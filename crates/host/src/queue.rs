//! Calls that wait for a worker.
//!
//! There are two lines, one of sync calls and one of async ones, because a worker that has no room
//! for one may have room for the other. Each is first in, first out; between them the older goes
//! first.

use std::{collections::VecDeque, time::Instant};

use exuvia_core::ids::CallId;

use crate::state::Job;

/// The waiting calls.
#[derive(Default)]
pub(crate) struct Queue {
    lines: [VecDeque<Job>; 2],
}

/// One of the two lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Sync,
    Async,
}

// === impl Queue ===

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.iter().all(VecDeque::is_empty)
    }

    /// How many wait in this line.
    pub(crate) fn waiting(&self, line: Line) -> usize {
        self.lines[line as usize].len()
    }

    pub(crate) fn push_back(&mut self, job: Job) {
        self.lines[job.line as usize].push_back(job);
    }

    /// Puts a call that was handed out before back to where it came from.
    pub(crate) fn push_front(&mut self, job: Job) {
        self.lines[job.line as usize].push_front(job);
    }

    pub(crate) fn front(&self, line: Line) -> Option<&Job> {
        self.lines[line as usize].front()
    }

    pub(crate) fn pop_front(&mut self, line: Line) -> Option<Job> {
        self.lines[line as usize].pop_front()
    }

    pub(crate) fn pop_back(&mut self, line: Line) -> Option<Job> {
        self.lines[line as usize].pop_back()
    }

    /// The line whose first call is the oldest, without those that are blocked.
    pub(crate) fn oldest(&self, blocked: [bool; 2]) -> Option<Line> {
        let of = |line: Line| {
            let first = self.front(line).filter(|_| !blocked[line as usize])?;
            Some((first.arrived, line))
        };
        match (of(Line::Sync), of(Line::Async)) {
            (Some(sync), Some(other)) => Some(if sync.0 <= other.0 { sync.1 } else { other.1 }),
            (one, other) => one.or(other).map(|(_, line)| line),
        }
    }

    /// Takes out a call wherever it stands.
    pub(crate) fn remove(&mut self, id: CallId) -> Option<Job> {
        self.lines.iter_mut().find_map(|line| {
            let place = line.iter().position(|job| job.id == id)?;
            line.remove(place)
        })
    }

    /// Takes out the calls whose time is over; also says when the next one's is.
    pub(crate) fn expire(&mut self, now: Instant) -> (Vec<Job>, Option<Instant>) {
        let mut late = Vec::new();
        let mut next: Option<Instant> = None;
        for line in &mut self.lines {
            let mut place = 0;
            while let Some(job) = line.get(place) {
                if job.deadline <= now {
                    late.extend(line.remove(place));
                } else {
                    next = Some(next.map_or(job.deadline, |next| next.min(job.deadline)));
                    place += 1;
                }
            }
        }
        (late, next)
    }

    /// Takes out all.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Job> + use<> {
        std::mem::take(&mut self.lines).into_iter().flatten()
    }
}
