//! Which worker gets which call.
//!
//! The queue is first in, first out. A sync handler runs one call at a time in its worker, so a
//! worker normally holds one; but a call that takes microseconds would wait longer for its way
//! through the socket than it runs, so a worker may hold as many quick calls as make up
//! [`AHEAD_NS`]. Such calls wait in the worker unbegun: if it gets stuck they are taken back
//! (`warden`), if it dies they are given to another (`settle`).

use std::time::{Duration, Instant};

use exuvia_core::Codec;
use exuvia_protocol::{OutgoingCall, frame::CallHead};

use crate::state::{Cancel, InFlight, Phase, Shared, State, Worker};

/// Work that a worker may hold ahead, in expected nanoseconds.
const AHEAD_NS: u64 = 1_000_000;
/// What a call is expected to cost at least: its way through the worker.
const LEAST_NS: u64 = 2_000;
/// A worker that holds calls ahead and does not answer for so long gives them back.
pub(crate) const STALL: Duration = Duration::from_millis(5);

impl Shared {
    /// Hands out what can be handed out.
    pub(crate) fn dispatch(&self, state: &mut State) {
        while let Some(job) = state.queue.front() {
            let handler = &state.handlers[job.handler];
            let is_sync = handler.is_sync();
            let expected = match (is_sync, handler.usual_ns) {
                (false, _) => 0,
                (true, None) => AHEAD_NS,
                (true, Some(usual)) => usual.max(LEAST_NS),
            };
            let number = job.handler;
            let limit = self.config.concurrency as usize;
            let Some((&id, _)) = state
                .workers
                .iter()
                .filter(|(_, worker)| worker.can_take(number, is_sync, expected, limit))
                .min_by_key(|(_, worker)| (worker.backlog_ns, worker.in_flight))
            else {
                break;
            };
            self.hand_over(state, id, expected);
        }
        state.gauges.queue.set(state.queue.len() as i64);
    }

    /// Gives the first call of the queue to a worker.
    fn hand_over(&self, state: &mut State, id: u64, expected_ns: u64) {
        let Some(mut job) = state.queue.pop_front() else { return };
        let wire = state.next_call;
        state.next_call += 2;
        let Some(worker) = state.workers.get_mut(&id) else { return };
        let (Some(slot), Some(Some(number))) =
            (worker.free.pop(), worker.numbers.get(job.handler).copied())
        else {
            return;
        };
        let now = Instant::now();
        job.queued = now - job.arrived;
        job.attempts += 1;
        let left = job.deadline.saturating_duration_since(now).as_millis();
        let head = CallHead {
            handler: number,
            codec: job.call.payload.codec,
            accept: match job.call.accept {
                Codec::Empty => Codec::Json,
                accept => accept,
            },
            time_left_ms: u32::try_from(left).unwrap_or(u32::MAX).max(1),
            public_id: job.public(),
            trace: job.call.trace,
        };
        worker.claims().queue(slot, wire);
        let sent = worker.connection.call(OutgoingCall {
            call: wire,
            slot,
            head,
            text_arguments: &job.call.text_arguments,
            payload: job.call.payload.body.clone(),
        });
        if worker.in_flight == 0 {
            worker.progress = now;
        }
        worker.in_flight += 1;
        worker.backlog_ns += expected_ns;
        let ahead = worker.in_flight > 1 && expected_ns > 0;
        worker.slots[usize::from(slot)] =
            Some(InFlight { job, wire, expected_ns, cancel: Cancel::No });
        worker.wake.notify_one();
        if let Err(error) = sent {
            // Text arguments longer than a frame: nothing was written.
            let pid = worker.pid;
            if let Some(call) = worker.take(slot, wire) {
                let failure = exuvia_core::Failure::input("", error.to_string());
                self.end(state, call.job, Some((id, pid)), 0, Err(Box::new(failure)));
            }
        } else if ahead {
            self.look_by(state, now + STALL);
        }
    }
}

// === impl Worker ===

impl Worker {
    fn can_take(
        &self,
        handler: usize,
        is_sync: bool,
        expected_ns: u64,
        concurrency: usize,
    ) -> bool {
        matches!(self.phase, Phase::Ready)
            && !self.free.is_empty()
            && matches!(self.numbers.get(handler), Some(Some(_)))
            && if is_sync {
                self.backlog_ns == 0 || (!self.stalled && self.backlog_ns + expected_ns <= AHEAD_NS)
            } else {
                self.in_flight < concurrency && !self.stalled
            }
    }
}
