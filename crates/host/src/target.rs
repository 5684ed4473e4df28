//! A handler of a pool as something that can be called.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use exuvia_core::{
    Call, Failure, HandlerInfo, MAX_ATTACHED, Outcome, OutcomeFuture, Target, ids::CallId,
};
use tokio::sync::oneshot;

use crate::{
    settle::stopping,
    state::{Because, Cancel, Job, Reply, Shared, State},
};

/// When to come back to a pool that is full, or has no worker yet.
const RETRY_AFTER_MS: u64 = 1000;

/// One handler of a pool.
pub(crate) struct HandlerTarget {
    pub(crate) shared: Arc<Shared>,
    pub(crate) handler: usize,
    pub(crate) info: Arc<HandlerInfo>,
}

/// Takes the call back when its caller goes away.
struct Interest {
    shared: Arc<Shared>,
    id: CallId,
    answered: bool,
}

impl Target for HandlerTarget {
    fn info(&self) -> &Arc<HandlerInfo> {
        &self.info
    }

    fn call(&self, call: Call) -> OutcomeFuture {
        let (reply, outcome) = oneshot::channel();
        let id = self.shared.submit(self.handler, call, reply);
        let interest = Interest { shared: self.shared.clone(), id, answered: false };
        Box::pin(async move {
            let outcome = outcome.await;
            interest.satisfied();
            outcome.unwrap_or_else(|_| {
                let message = "the pool was stopped".into();
                Outcome {
                    result: Err(Box::new(Failure::Host { message })),
                    diagnostics: Default::default(),
                }
            })
        })
    }
}

impl Interest {
    /// The call has ended, or who reads its result sees to its end: there is nothing to take back.
    fn satisfied(mut self) {
        self.answered = true;
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if !self.answered && !self.shared.is_copy() {
            self.shared.abandon(self.id);
        }
    }
}

impl Shared {
    /// Takes a call in, or answers it at once.
    fn submit(&self, handler: usize, call: Call, reply: oneshot::Sender<Outcome>) -> CallId {
        let now = Instant::now();
        let id = self.ids.next();
        let mut state = self.lock();
        let limit = call.timeout.unwrap_or(state.handlers[handler].timeout);
        // A limit beyond the clock is no limit that anyone will see the end of.
        let deadline = now.checked_add(limit).unwrap_or(now + Duration::from_secs(1 << 30));
        let (size, attached) = (call.payload.size(), call.payload.attached.len());
        let reply = Reply::Whole(reply);
        let line = state.handlers[handler].line();
        let (queued, attempts) = (Duration::ZERO, 0);
        let job =
            Job { id, handler, line, call, arrived: now, deadline, limit, queued, attempts, reply };
        if let Some(failure) = self.refuse(&state, size, attached) {
            self.end(&mut state, job, None, 0, Err(Box::new(failure)), Vec::new());
            return id;
        }
        state.queue.push_back(job);
        // Behind others there is nothing to hand out that was not there before.
        if state.queue.waiting(line) == 1 {
            self.dispatch(&mut state);
        }
        let waiting = state.queue.len();
        if waiting > self.config.queue
            && state.queue.waiting(line) > 0
            && let Some(job) = state.queue.pop_back(line)
        {
            self.config.metrics.pool.queue_rejected.inc();
            let reason = format!("{} calls are waiting already", waiting - 1);
            let failure = Failure::Rejected { reason, retry_after_ms: RETRY_AFTER_MS };
            self.end(&mut state, job, None, 0, Err(Box::new(failure)), Vec::new());
        }
        self.look_by(&mut state, deadline);
        id
    }

    /// Why a call is not taken, if it is not.
    fn refuse(&self, state: &State, size: u64, attached: usize) -> Option<Failure> {
        if size > self.config.max_payload {
            let limit = self.config.max_payload;
            return Some(Failure::input(
                "",
                format!("{size} bytes are more than the limit of {limit}"),
            ));
        }
        if attached > MAX_ATTACHED {
            let message = format!("{attached} tables and arrays are more than {MAX_ATTACHED}");
            return Some(Failure::input("", message));
        }
        (state.draining || state.stopped).then(stopping)
    }

    /// Nobody waits for this call any more.
    pub(crate) fn abandon(&self, id: CallId) {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(job) = state.queue.remove(id) {
            self.end(state, job, None, 0, Err(Box::new(Failure::Cancelled)), Vec::new());
            // It may have stood in the way of another.
            self.dispatch(state);
            return;
        }
        let found = state.workers.iter_mut().find_map(|(number, worker)| {
            let has = |call: &Option<_>| {
                call.as_ref().is_some_and(|call: &crate::state::InFlight| call.job.id == id)
            };
            let slot = worker.slots.iter().position(has)?;
            Some((*number, worker, slot as u16))
        });
        let Some((number, worker, slot)) = found else { return };
        let Some(call) = &mut worker.slots[usize::from(slot)] else { return };
        let wire = call.wire;
        if call.cancel != Cancel::No {
            return;
        }
        call.cancel = Cancel::Asked { at: Instant::now(), because: Because::CallerGone };
        let pid = worker.pid;
        if let Some(call) = worker.revoke(slot, wire) {
            let place = Some((number, pid));
            self.end(state, call.job, place, 0, Err(Box::new(Failure::Cancelled)), Vec::new());
            self.dispatch(state);
        } else if worker.hears() {
            worker.cancel(slot, wire);
        }
    }
}
