//! Watches the clock: deadlines, workers that do not answer, calls stuck behind others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use exuvia_core::Failure;
use exuvia_protocol::SlotState;

use crate::{
    dispatch::STALL,
    state::{Because, Cancel, Job, Phase, Shared, State},
};

/// A worker whose loop turns says within this that it heard a cancel (section 7).
const HEARING: Duration = Duration::from_millis(250);
/// A cancelled task has so long to end.
const ENDING: Duration = Duration::from_secs(2);

/// Runs until the pool is stopped.
pub(crate) async fn watch(shared: Arc<Shared>) {
    loop {
        let next = {
            let mut state = shared.lock();
            if state.stopped {
                return;
            }
            let next = shared.look(&mut state, Instant::now());
            state.next_look = next;
            next
        };
        let woken = shared.warden.notified();
        match next {
            Some(next) => {
                let _ = tokio::time::timeout_at(next.into(), woken).await;
            }
            None => woken.await,
        }
    }
}

impl Shared {
    /// Does what is due and says when something will be next.
    fn look(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let mut next = Next(None);
        self.expire_queue(state, now, &mut next);
        let ids: Vec<u64> = state.workers.keys().copied().collect();
        for id in ids {
            self.expire_running(state, id, now, &mut next);
            self.take_back_stuck(state, id, now, &mut next);
        }
        self.dispatch(state);
        next.0
    }

    fn expire_queue(&self, state: &mut State, now: Instant, next: &mut Next) {
        let mut place = 0;
        while let Some(job) = state.queue.get(place) {
            if job.deadline > now {
                next.at(job.deadline);
                place += 1;
            } else if let Some(job) = state.queue.remove(place) {
                self.end_late(state, job);
            }
        }
    }

    /// A call whose time was over before it began.
    fn end_late(&self, state: &mut State, job: Job) {
        let failure = Failure::Timeout {
            limit_ms: u64::try_from(job.limit.as_millis()).unwrap_or(u64::MAX),
            started: false,
            frames: Vec::new(),
        };
        self.end(state, job, None, 0, Err(Box::new(failure)));
    }

    fn expire_running(&self, state: &mut State, id: u64, now: Instant, next: &mut Next) {
        let Some(worker) = state.workers.get_mut(&id) else { return };
        if !matches!(worker.phase, Phase::Ready) {
            return;
        }
        let mut late = Vec::new();
        let mut culprits = Vec::new();
        let (mut deadline, mut heard) = (false, false);
        for slot in 0..worker.slots.len() {
            let Some(call) = worker.slots[slot].as_ref() else { continue };
            let (wire, due) = (call.wire, call.job.deadline);
            let slot = slot as u16;
            match call.cancel {
                Cancel::No if due > now => next.at(due),
                Cancel::No if worker.claims().revoke(slot, wire) => {
                    late.extend(worker.take(slot, wire).map(|call| call.job));
                }
                Cancel::No => {
                    worker.connection.cancel(wire, slot);
                    worker.wake.notify_one();
                    next.at(now + HEARING);
                    if let Some(call) = &mut worker.slots[usize::from(slot)] {
                        call.cancel = Cancel::Asked { at: now, because: Because::Deadline };
                    }
                }
                // Who left is in no hurry; the deadline stays.
                Cancel::Asked { because: Because::CallerGone, .. }
                | Cancel::Heard { because: Because::CallerGone, .. }
                    if due > now =>
                {
                    next.at(due);
                }
                Cancel::Asked { at, .. } if now < at + HEARING => next.at(at + HEARING),
                Cancel::Heard { at, .. } if now < at + ENDING => next.at(at + ENDING),
                cancel => {
                    deadline = true;
                    heard |= matches!(cancel, Cancel::Heard { .. });
                    culprits.push(wire);
                }
            }
        }
        if deadline {
            let what = if heard { "did not end when cancelled" } else { "blocked its worker" };
            worker.phase = Phase::Condemned {
                culprits,
                reason: format!("another call in it ran over its limit and {what}"),
            };
            worker.wake.notify_one();
        }
        for job in late {
            self.end_late(state, job);
        }
        state.gauge();
    }

    /// Calls that wait, unbegun, in a worker that is busy with something slow go back to the queue.
    fn take_back_stuck(&self, state: &mut State, id: u64, now: Instant, next: &mut Next) {
        let Some(worker) = state.workers.get_mut(&id) else { return };
        if worker.in_flight < 2 || worker.backlog_ns == 0 || !matches!(worker.phase, Phase::Ready) {
            return;
        }
        if now < worker.progress + STALL {
            return next.at(worker.progress + STALL);
        }
        let mut back = Vec::new();
        for slot in 0..worker.slots.len() {
            let Some(call) = worker.slots[slot].as_ref() else { continue };
            let (slot, wire) = (slot as u16, call.wire);
            if worker.claims().revoke(slot, wire) {
                back.extend(worker.take(slot, wire));
            }
        }
        let busy = worker.slots.iter().enumerate().any(|(slot, call)| {
            call.as_ref().is_some_and(|call| {
                worker.claims().state(slot as u16, call.wire) == SlotState::Running
            })
        });
        worker.stalled = busy;
        // The first sent goes first again.
        back.sort_unstable_by_key(|call| std::cmp::Reverse(call.wire));
        for call in back {
            state.queue.push_front(call.job);
        }
    }
}

/// The earliest of several times.
struct Next(Option<Instant>);

impl Next {
    fn at(&mut self, when: Instant) {
        self.0 = Some(self.0.map_or(when, |next| next.min(when)));
    }
}
