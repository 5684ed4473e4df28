//! What becomes of a dead worker's calls (section 8 of the protocol page).

use exuvia_core::{Failure, Frame};
use exuvia_protocol::SlotState;
use exuvia_sys::{Ended, process::signal_name};

use crate::{
    stacks,
    state::{Because, Cancel, InFlight, Job, Phase, Shared, State, Worker},
};

/// How a worker came to its end, as the host saw it.
pub(crate) struct Death {
    pub(crate) ended: Ended,
    /// It broke the protocol, or closed its socket.
    pub(crate) broke: Option<String>,
    /// What is in its crash pipe.
    pub(crate) report: Vec<u8>,
    /// Whether it had got ready.
    pub(crate) got_ready: bool,
}

impl Shared {
    /// Takes a dead worker off the books: unbegun calls go back to the head of the queue, begun
    /// ones fail. Its socket has been read to the end.
    pub(crate) fn settle(&self, state: &mut State, id: u64, death: &Death) {
        let Some(mut worker) = state.workers.remove(&id) else { return };
        let mut begun = Vec::new();
        let mut unbegun = Vec::new();
        for slot in 0..worker.slots.len() {
            let slot = slot as u16;
            let Some(wire) = worker.slots[usize::from(slot)].as_ref().map(|call| call.wire) else {
                continue;
            };
            let at_death = worker.claims().state(slot, wire);
            let Some(call) = worker.take(slot, wire) else { continue };
            match at_death {
                // The page is the worker's word.
                _ if call.job.reply.has_begun() => begun.push((call, true)),
                SlotState::Queued | SlotState::Revoked => unbegun.push(call),
                SlotState::Running => begun.push((call, true)),
                SlotState::Done | SlotState::Free => begun.push((call, false)),
            }
        }
        let running = begun.iter().filter(|(_, running)| *running).count() as u32;
        let place = Some((id, worker.pid));
        for (call, was_running) in begun {
            let failure = if state.stopped {
                // Nothing but the end of the drain has hurt it.
                Failure::WorkerLost { reason: STOPPING.into(), retryable: true }
            } else if was_running {
                death.failure(&worker, &call, running)
            } else {
                Failure::WorkerLost {
                    reason: format!("{} before the answer was on its way", death.words()),
                    retryable: false,
                }
            };
            self.end(state, call.job, place, 0, Err(Box::new(failure)), Vec::new());
        }
        unbegun.sort_unstable_by_key(|call: &InFlight| std::cmp::Reverse(call.wire));
        self.put_back(state, unbegun);
        self.assign(state);
        self.dispatch(state);
    }

    /// Puts calls that have not begun back to the head of the queue; the last sent comes first.
    pub(crate) fn put_back(&self, state: &mut State, calls: Vec<InFlight>) {
        for InFlight { job, .. } in calls {
            if state.stopped {
                self.refuse_stopped(state, job);
            } else if job.reply.is_closed() {
                // Nobody waits for it any more.
                self.end(state, job, None, 0, Err(Box::new(Failure::Cancelled)), Vec::new());
            } else {
                // The warden knows its deadline already.
                state.queue.push_front(job);
            }
        }
    }

    /// Stops the pool: nothing new comes in, what waits is refused, workers are told to end.
    pub(crate) fn halt(&self) {
        let mut state = self.lock();
        state.draining = true;
        state.stopped = true;
        for job in state.queue.take() {
            self.refuse_stopped(&mut state, job);
        }
        for worker in state.workers.values() {
            worker.wake.notify_one();
        }
        drop(state);
        self.halted.send_replace(true);
        self.warden.notify_one();
    }

    /// Ends every call of a pool whose workers nobody looks after any more.
    pub(crate) fn abandon_workers(&self) {
        let mut state = self.lock();
        let ids: Vec<u64> = state.workers.keys().copied().collect();
        for id in ids {
            let death =
                Death { ended: Ended::Killed(9), broke: None, report: vec![], got_ready: true };
            self.settle(&mut state, id, &death);
        }
    }

    /// Ends a call that no worker will ever take.
    fn refuse_stopped(&self, state: &mut State, job: Job) {
        let failure = stopping();
        self.end(state, job, None, 0, Err(Box::new(failure)), Vec::new());
    }
}

const STOPPING: &str = "the server is stopping";

/// What a pool that is being stopped says.
pub(crate) fn stopping() -> Failure {
    Failure::Rejected { reason: STOPPING.into(), retry_after_ms: 1000 }
}

/// How a process ended, to follow its name.
pub(crate) fn words(ended: Ended) -> String {
    match ended {
        Ended::Killed(signal) => format!("died by {}", signal_name(signal)),
        Ended::Exited(status) => format!("exited with status {status}"),
        Ended::Unknown => "ended, and something else in this program waited for it, so nobody \
                           knows how"
            .into(),
    }
}

// === impl Death ===

impl Death {
    /// The word for `exuvia_worker_restarts_total{reason}`.
    pub(crate) fn reason(&self, phase: &Phase) -> &'static str {
        match (phase, &self.broke, self.ended) {
            (Phase::Condemned { .. }, _, _) => "timeout",
            _ if !self.got_ready => "start",
            (_, Some(_), Ended::Killed(9)) => "protocol",
            (_, _, Ended::Killed(_)) => "signal",
            (_, _, Ended::Exited(_) | Ended::Unknown) => "exit",
        }
    }

    /// What happened, for people: `the worker died by SIGKILL`.
    pub(crate) fn words(&self) -> String {
        match (&self.broke, self.ended) {
            (Some(broke), Ended::Killed(9)) => format!("the worker broke the protocol ({broke})"),
            (_, ended) => format!("the worker {}", words(ended)),
        }
    }

    fn failure(&self, worker: &Worker, call: &InFlight, running: u32) -> Failure {
        if let Phase::Condemned { culprits, reason } = &worker.phase {
            return self.condemned(call, culprits, reason);
        }
        match (&self.broke, self.ended) {
            (Some(broke), Ended::Killed(9)) => {
                Failure::Host { message: format!("the worker broke the protocol: {broke}") }
            }
            (_, Ended::Killed(number)) => Failure::Crash {
                signal: signal_name(number),
                number,
                running,
                frames: stacks::crashed(&self.report),
            },
            (_, Ended::Exited(status)) => Failure::Exited { status, running },
            (_, Ended::Unknown) => Failure::WorkerLost { reason: self.words(), retryable: false },
        }
    }

    /// The host killed the worker: for this call, or for another one's sake.
    fn condemned(&self, call: &InFlight, culprits: &[u64], reason: &str) -> Failure {
        if !culprits.contains(&call.wire) {
            return Failure::WorkerLost { reason: reason.into(), retryable: true };
        }
        match call.cancel {
            Cancel::Asked { because: Because::CallerGone, .. }
            | Cancel::Heard { because: Because::CallerGone, .. } => Failure::Cancelled,
            _ => Failure::Timeout {
                limit_ms: u64::try_from(call.job.limit.as_millis()).unwrap_or(u64::MAX),
                started: true,
                frames: self.stuck(),
            },
        }
    }

    fn stuck(&self) -> Vec<Frame> {
        stacks::main_thread(&self.report)
    }
}
