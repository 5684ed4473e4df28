//! Watches the clock: deadlines, workers that do not answer, calls stuck behind others.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use exuvia_core::Failure;
use exuvia_protocol::SlotState;

use crate::{
    dispatch::{STALL, UNHEARD},
    state::{Because, Cancel, Job, Phase, Shared, State},
};

/// A worker whose loop turns says within this that it heard a cancel (section 7).
const HEARING: Duration = Duration::from_millis(250);
/// A cancelled task has so long to end.
const ENDING: Duration = Duration::from_secs(2);
/// A worker that was given calls, runs none and does not turn its loop for so long is stuck in
/// something that no deadline stops.
const DEAF: Duration = Duration::from_secs(5);
/// How often a stalled worker is looked at.
const RECOVERY: Duration = Duration::from_millis(20);

/// Runs until the pool is stopped.
pub(crate) async fn watch(shared: Arc<Shared>) {
    loop {
        let next = {
            let mut state = shared.lock();
            if state.stopped {
                return;
            }
            shared.look(&mut state, Instant::now())
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
        let (late, first) = state.queue.expire(now);
        for job in late {
            self.end_late(state, job);
        }
        let mut next = Next(first);
        let ids: Vec<u64> = state.workers.keys().copied().collect();
        for id in ids {
            self.expire_running(state, id, now, &mut next);
            self.take_back_stuck(state, id, now, &mut next);
        }
        // What it hands out may ask for an earlier look.
        state.next_look = next.0;
        self.dispatch(state);
        state.next_look
    }

    /// A call whose time was over before it began.
    pub(crate) fn end_late(&self, state: &mut State, job: Job) {
        let failure = Failure::Timeout {
            limit_ms: u64::try_from(job.limit.as_millis()).unwrap_or(u64::MAX),
            started: false,
            frames: Vec::new(),
        };
        self.end(state, job, None, 0, Err(Box::new(failure)), Vec::new());
    }

    fn expire_running(&self, state: &mut State, id: u64, now: Instant, next: &mut Next) {
        let Some(worker) = state.workers.get_mut(&id) else { return };
        if !worker.hears() {
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
                Cancel::No => {
                    if let Some(call) = worker.revoke(slot, wire) {
                        late.push(call.job);
                        continue;
                    }
                    worker.cancel(slot, wire);
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
                // It has ended; its answer may be under way yet.
                Cancel::Asked { at, .. }
                    if now < at + ENDING
                        && worker.claims().state(slot, wire) == SlotState::Done =>
                {
                    next.at(at + ENDING);
                }
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
                reason: format!("a call in it ran over its limit and {what}"),
            };
            worker.wake.notify_one();
        }
        for job in late {
            self.end_late(state, job);
        }
        state.gauge();
    }

    /// Calls that wait, unbegun, in a worker that gives no sign of life go back to the queue, and
    /// it gets no others until it does. Where no call runs in it that a deadline will stop, it is
    /// replaced in the end.
    fn take_back_stuck(&self, state: &mut State, id: u64, now: Instant, next: &mut Next) {
        let Some(worker) = state.workers.get_mut(&id).filter(|worker| worker.is_ready()) else {
            return;
        };
        let claims = worker.claims();
        let (mut queued, mut running) = (false, false);
        for (slot, call) in worker.slots.iter().enumerate() {
            let Some(call) = call else { continue };
            match claims.state(slot as u16, call.wire) {
                SlotState::Queued => queued = true,
                _ => running = true,
            }
        }
        let turns = claims.turns();
        if turns != worker.turns {
            worker.turns = turns;
            worker.stalled = false;
            worker.unheard = worker.unheard.filter(|_| queued).map(|_| now);
        }
        let Some(unheard) = worker.unheard else { return };
        if !running && now >= unheard + DEAF {
            let reason = "its loop stood still".into();
            worker.phase = Phase::Condemned { culprits: Vec::new(), reason };
            worker.wake.notify_one();
            return;
        }
        let patience = if running { STALL } else { UNHEARD };
        let stuck_at = |handed: Instant| unheard.max(handed) + patience;
        if !running {
            worker.stalled |= now >= unheard + UNHEARD;
            next.at(if worker.stalled { unheard + DEAF } else { unheard + UNHEARD });
        }
        let back = worker.revoke_all(|call| stuck_at(call.handed) <= now);
        worker.stalled |= !back.is_empty();
        for call in worker.slots.iter().flatten().filter(|_| queued) {
            // A call that has begun meanwhile costs a look in vain.
            if stuck_at(call.handed) > now {
                next.at(stuck_at(call.handed));
            }
        }
        if worker.stalled {
            next.at(now + RECOVERY);
        }
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
