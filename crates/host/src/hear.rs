//! What a worker says, and what is done about it.

use std::time::Instant;

use exuvia_core::Failure;
use exuvia_protocol::{Event, ProtocolError, Ready};

use crate::{
    config::StartError,
    link::{Link, Stop},
    state::{Because, Cancel, Handler, Phase, Started, State},
};

impl Link {
    pub(crate) fn next_event(&self, state: &mut State) -> Result<Option<Event>, Stop> {
        let Some(worker) = state.workers.get_mut(&self.id) else { return Ok(None) };
        worker.connection.next_event().map_err(|error| {
            if matches!(error, ProtocolError::Version { .. }) {
                let message = error.to_string();
                self.shared.start_failed(StartError::Runtime { message });
            }
            Stop::Broke(error.to_string())
        })
    }

    pub(crate) fn hear(&mut self, state: &mut State, event: Event) -> Result<(), Stop> {
        match event {
            Event::Hello(hello) => {
                tracing::debug!(worker = self.id, python = hello.python, "worker greeted");
                Ok(())
            }
            Event::Ready(ready) => self.hear_ready(state, *ready),
            Event::Result { call, slot, head, payload } => {
                let payload = exuvia_core::Payload::new(head.codec, payload);
                self.hear_end(state, call, slot, head.run_ns, Ok(payload))
            }
            Event::Failure { call, slot, run_ns, failure } => {
                self.hear_end(state, call, slot, run_ns, Err(failure))
            }
            Event::Cancelling { call, slot } => {
                if let Some(worker) = state.workers.get_mut(&self.id)
                    && let Some(Some(held)) = worker.slots.get_mut(usize::from(slot))
                    && held.wire == call
                    && let Cancel::Asked { because, .. } = held.cancel
                {
                    held.cancel = Cancel::Heard { at: Instant::now(), because };
                }
                Ok(())
            }
            // There are no host functions yet: a worker that calls one is told so.
            Event::Call(incoming) => {
                let message = "the host offers no functions to workers".into();
                if let Some(worker) = state.workers.get_mut(&self.id) {
                    let failure = Failure::Load { message, traceback: String::new() };
                    worker
                        .connection
                        .failure(incoming.call, incoming.slot, 0, &failure)
                        .map_err(|error| Stop::Broke(error.to_string()))?;
                }
                Ok(())
            }
            Event::Cancel { .. } | Event::Drain => Ok(()),
        }
    }

    fn hear_ready(&mut self, state: &mut State, ready: Ready) -> Result<(), Stop> {
        let infos = match ready {
            Ready::Handlers(infos) => infos,
            Ready::Failed(failure) => {
                // Whoever starts the pool is told; a later worker's trouble is only seen here.
                if state.handlers.is_empty() {
                    tracing::debug!(worker = self.id, %failure, "handlers do not load");
                } else {
                    tracing::error!(worker = self.id, %failure, "handlers do not load any more");
                }
                self.shared.start_failed(StartError::Load(failure));
                return Err(Stop::Gone);
            }
        };
        let config = &self.shared.config;
        if state.handlers.is_empty() {
            state.handlers = infos.iter().cloned().map(|info| Handler::new(info, config)).collect();
        }
        let names: Vec<String> = infos.iter().map(|info| info.target()).collect();
        let number = |handler: &Handler| names.iter().position(|name| *name == handler.name);
        let numbers: Vec<_> =
            state.handlers.iter().map(|handler| Some(number(handler)? as u32)).collect();
        for (handler, number) in state.handlers.iter().zip(&numbers) {
            if number.is_none() {
                tracing::error!(worker = self.id, handler = handler.name, "the handler is gone");
            }
        }
        let took_ms = self.began.elapsed().as_millis() as u64;
        self.got_ready = Some(Instant::now());
        if let Some(worker) = state.workers.get_mut(&self.id) {
            // Said with its last breath it only tells that it had got so far.
            if matches!(worker.phase, Phase::Starting) && !self.leaving {
                worker.phase = Phase::Ready;
            }
            self.shared.set_limits(worker, self.id);
            worker.numbers = numbers;
            tracing::debug!(worker = self.id, pid = worker.pid, took_ms, "worker ready");
        }
        self.shared.assign(state);
        // It may come of age before all others.
        self.shared.keeper.notify_one();
        self.shared.started.send_if_modified(|started| {
            let first = matches!(started, Started::Waiting);
            if first {
                *started = Started::Ready;
            }
            first
        });
        Ok(())
    }

    fn hear_end(
        &self,
        state: &mut State,
        wire: u64,
        slot: u16,
        run_ns: u64,
        result: Result<exuvia_core::Payload, Box<Failure>>,
    ) -> Result<(), Stop> {
        let Some(worker) = state.workers.get_mut(&self.id) else { return Ok(()) };
        let Some(call) = worker.take(slot, wire) else {
            return Err(Stop::Broke(format!("it answered call {wire}, which it does not have")));
        };
        worker.unheard = (worker.in_flight > 0).then(Instant::now);
        worker.stalled = false;
        worker.calls += 1;
        worker.metrics.calls.inc();
        let pid = worker.pid;
        // A task that was cancelled at its deadline ended because of the deadline.
        let result = match (call.cancel, result) {
            (
                Cancel::Asked { because: Because::Deadline, .. }
                | Cancel::Heard { because: Because::Deadline, .. },
                Err(failure),
            ) if *failure == Failure::Cancelled => {
                let limit_ms = u64::try_from(call.job.limit.as_millis()).unwrap_or(u64::MAX);
                Err(Box::new(Failure::Timeout { limit_ms, started: true, frames: Vec::new() }))
            }
            (_, result) => result,
        };
        if run_ns > 0 {
            state.learn(call.job.handler, run_ns);
        }
        self.shared.end(state, call.job, Some((self.id, pid)), run_ns, result);
        self.shared.check_limits(state, self.id);
        Ok(())
    }
}
