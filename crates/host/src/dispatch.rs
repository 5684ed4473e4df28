//! Which worker gets which call.
//!
//! The queue is first in, first out among sync calls and among async ones (`queue`). A sync
//! handler runs one call at a time in its worker, so a worker normally holds one; but a call that
//! takes microseconds would wait longer for its way through the socket than it runs, so a worker
//! may hold as many quick calls as make up [`AHEAD_NS`]. Such calls wait in the worker unbegun: if
//! it gets stuck they are taken back (`warden`), if it dies they are given to another (`settle`).

use std::time::{Duration, Instant};

use exuvia_core::{Codec, Failure};
use exuvia_protocol::{
    Outgoing, OutgoingCall,
    frame::{CallHead, STREAMS},
};

use crate::{
    queue::Line,
    state::{Cancel, InFlight, Job, Phase, Shared, State, Worker},
};

/// Work that a worker may hold ahead, in expected nanoseconds.
const AHEAD_NS: u64 = 1_000_000;
/// Sync calls that a worker may hold, at most.
pub(crate) const AHEAD_CALLS: u32 = 64;
/// What a call is expected to cost at least: its way through the worker.
const LEAST_NS: u64 = 2_000;
/// A worker that runs something, holds calls behind it and gives no sign of life for so long
/// gives them back.
pub(crate) const STALL: Duration = Duration::from_millis(5);
/// The same for a worker that runs nothing.
pub(crate) const UNHEARD: Duration = Duration::from_millis(250);

impl Shared {
    /// Hands out what can be handed out.
    pub(crate) fn dispatch(&self, state: &mut State) {
        let mut blocked = [false; 2];
        while let Some(line) = state.queue.oldest(blocked) {
            let Some(job) = state.queue.front(line) else { break };
            let number = job.handler;
            let expected = match (line, state.handlers[number].usual_ns) {
                (Line::Async, _) => 0,
                (Line::Sync, None) => AHEAD_NS,
                (Line::Sync, Some(usual)) => usual.max(LEAST_NS),
            };
            let limit = self.config.concurrency as usize;
            let taker = state
                .workers
                .iter()
                .filter(|(_, worker)| worker.can_take(number, line, expected, limit))
                .min_by_key(|(_, worker)| (worker.backlog_ns, worker.in_flight))
                .map(|(&id, _)| id);
            match taker {
                Some(id) => self.hand_over(state, line, id, expected),
                None if state.is_nowhere(number) => self.end_nowhere(state, line),
                None => blocked[line as usize] = true,
            }
        }
        state.gauges.queue.set(state.queue.len() as i64);
    }

    /// Ends the first call of a line, whose handler no ready worker has.
    fn end_nowhere(&self, state: &mut State, line: Line) {
        let Some(job) = state.queue.pop_front(line) else { return };
        let name = &state.handlers[job.handler].name;
        let message = format!("the handler {name} is gone: its code has changed since the start");
        let failure = Failure::Load { message, traceback: String::new() };
        self.end(state, job, None, 0, Err(Box::new(failure)), Vec::new());
    }

    /// Gives the first call of a line to a worker.
    fn hand_over(&self, state: &mut State, line: Line, id: u64, expected_ns: u64) {
        let Some(mut job) = state.queue.pop_front(line) else { return };
        let now = Instant::now();
        // The warden may be late; a call whose time is over does not begin.
        if job.deadline <= now {
            return self.end_late(state, job);
        }
        let wire = state.next_call;
        state.next_call += 2;
        let Some(worker) = state.workers.get_mut(&id) else { return state.queue.push_front(job) };
        let Some((slot, number)) = worker.place(job.handler) else {
            return state.queue.push_front(job);
        };
        job.queued = now - job.arrived;
        job.attempts += 1;
        worker.claims().queue(slot, wire);
        let sent = worker.connection.call(OutgoingCall {
            call: wire,
            slot,
            head: head(&job, number, now),
            text_arguments: &job.call.text_arguments,
            payload: Outgoing::from(&job.call.payload),
        });
        if worker.unheard.is_none() {
            worker.unheard = Some(now);
            worker.turns = worker.claims().turns();
        }
        worker.handed += 1;
        worker.in_flight += 1;
        worker.in_flight_async += usize::from(line == Line::Async);
        worker.backlog_ns = worker.backlog_ns.saturating_add(expected_ns);
        let patience = if worker.in_flight > 1 { STALL } else { UNHEARD };
        worker.slots[usize::from(slot)] =
            Some(InFlight { job, wire, expected_ns, handed: now, cancel: Cancel::No });
        worker.wake.notify_one();
        if let Err(error) = sent {
            // Text arguments longer than a frame: nothing was written.
            let pid = worker.pid;
            if let Some(call) = worker.take(slot, wire) {
                let failure = Failure::input("", error.to_string());
                self.end(state, call.job, Some((id, pid)), 0, Err(Box::new(failure)), Vec::new());
            }
        } else {
            self.look_by(state, now + patience);
        }
    }
}

/// What the worker is told of a call.
fn head(job: &Job, number: u32, now: Instant) -> CallHead {
    let left = job.deadline.saturating_duration_since(now).as_millis();
    CallHead {
        handler: number,
        codec: job.call.payload.codec,
        accept: match job.call.accept {
            Codec::Empty => Codec::Json,
            accept => accept,
        },
        time_left_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
        public_id: job.public(),
        trace: job.call.trace,
        flags: if job.call.streams { STREAMS } else { 0 },
        descriptors: 0,
    }
}

// === impl State ===

impl State {
    /// Whether there are ready workers, and none of them has this handler.
    fn is_nowhere(&self, handler: usize) -> bool {
        let mut ready = self.workers.values().filter(|worker| worker.is_ready()).peekable();
        let has = |worker: &Worker| matches!(worker.numbers.get(handler), Some(Some(_)));
        ready.peek().is_some() && !ready.any(has)
    }
}

// === impl Worker ===

impl Worker {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// Whether it hears what is said to it of the calls it has.
    pub(crate) fn hears(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Retiring)
    }

    fn can_take(&self, handler: usize, line: Line, expected: u64, concurrency: usize) -> bool {
        self.is_ready()
            && self.active
            && !self.stalled
            && !self.free.is_empty()
            && matches!(self.numbers.get(handler), Some(Some(_)))
            && match line {
                Line::Sync if self.in_flight_streams > 0 => false,
                Line::Sync => {
                    self.backlog_ns == 0
                        || (self.backlog_ns.saturating_add(expected) <= AHEAD_NS
                            && self.in_flight - self.in_flight_async < AHEAD_CALLS as usize)
                }
                Line::Async => self.in_flight_async < concurrency,
            }
    }

    /// A free slot, and this worker's number for the handler.
    fn place(&mut self, handler: usize) -> Option<(u16, u32)> {
        let number = (*self.numbers.get(handler)?)?;
        Some((self.free.pop()?, number))
    }
}
