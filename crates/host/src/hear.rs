//! What a worker says, and what is done about it.

use std::{io, os::fd::OwnedFd, sync::Arc, time::Instant};

use bytes::Bytes;
use exuvia_core::{Broken, Codec, Copied, Failure, Outcome, Payload, Region, Rest};
use exuvia_protocol::{
    Event, Incoming, IncomingResult, Limits, ProtocolError, Ready, frame::STREAMS,
};
use exuvia_sys::Sealed;

use crate::{
    config::StartError,
    flow::{Flow, Reader},
    link::{Link, Stop},
    queue::Line,
    state::{Because, Cancel, Handler, Job, Phase, Reply, Started, State},
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
            Event::Result(result) if result.head.flags & STREAMS != 0 => {
                self.hear_stream(state, &result)
            }
            Event::Result(result) => {
                let IncomingResult { call, slot, head, copies, payload } = result;
                let payload = self.take(head.codec, payload)?;
                self.hear_end(state, call, slot, head.run_ns, Ok(payload), copies)
            }
            Event::Piece { call, slot, piece } => {
                self.hear_piece(state, call, slot, piece);
                Ok(())
            }
            Event::End { call, slot, run_ns, copies } => {
                self.hear_end(state, call, slot, run_ns, Ok(Payload::default()), copies)
            }
            Event::Failure { call, slot, run_ns, failure } => {
                self.hear_end(state, call, slot, run_ns, Err(failure), Vec::new())
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
        let (infos, broken) = match ready {
            Ready::Handlers(infos, broken) => match breaks(state, &broken) {
                Some(failure) => return self.does_not_load(state, failure),
                None => (infos, broken),
            },
            Ready::Failed(failure) => return self.does_not_load(state, failure),
        };
        let config = &self.shared.config;
        if state.handlers.is_empty() {
            state.broken = broken;
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

    /// Whoever starts the pool is told; a later worker's trouble is only seen here.
    fn does_not_load(&self, state: &State, failure: Failure) -> Result<(), Stop> {
        if state.handlers.is_empty() {
            tracing::debug!(worker = self.id, %failure, "handlers do not load");
        } else {
            tracing::error!(worker = self.id, %failure, "handlers do not load any more");
        }
        self.shared.start_failed(StartError::Load(failure));
        Err(Stop::Gone)
    }

    /// A payload with its memory, which is looked at before it is believed.
    fn take(&self, codec: Codec, came: Incoming) -> Result<Payload, Stop> {
        let limit = self.shared.config.max_payload.max(Limits::default().max_payload);
        received(codec, came, limit)
            .map_err(|error| Stop::Broke(format!("it sent memory that is not fit: {error}")))
    }

    /// A result begins that comes in pieces: its caller is told, and the call goes on.
    fn hear_stream(&self, state: &mut State, result: &IncomingResult) -> Result<(), Stop> {
        let (wire, slot) = (result.call, result.slot);
        let broke = || Stop::Broke(format!("it answered call {wire}, which it does not have"));
        let flow = Arc::new(Flow::default());
        let Some(worker) = state.workers.get_mut(&self.id) else { return Ok(()) };
        let place = Some((self.id, worker.pid));
        let held = worker.slots.get_mut(usize::from(slot)).and_then(Option::as_mut);
        let held = held.filter(|held| held.wire == wire).ok_or_else(broke)?;
        // Whoever waits is told of what breaks the protocol, so it comes before all changes.
        if !held.job.call.streams {
            return Err(Stop::Broke("it streams a result that was wanted whole".into()));
        }
        if held.job.reply.has_begun() {
            return Err(broke());
        }
        let reply = std::mem::replace(&mut held.job.reply, Reply::Streamed(flow.clone()));
        let Reply::Whole(reply) = reply else { return Err(broke()) };
        let (call, mut back) = (held.job.id, Vec::new());
        if held.job.line == Line::Sync {
            worker.in_flight_streams += 1;
            // Those behind it would wait as long as somebody reads.
            back = worker.revoke_all(|call| call.wire != wire);
        }
        let forsaken = flow.clone();
        let reader = Reader {
            flow,
            shared: Arc::downgrade(&self.shared),
            call,
            place: (self.id, slot, wire),
            owed: 0,
            ended: false,
        };
        let payload = Payload {
            codec: result.head.codec,
            rest: Some(Rest::new(reader)),
            ..Payload::default()
        };
        let job = self.held(state, wire, slot).ok_or_else(broke)?;
        let diagnostics =
            self.shared.diagnostics(state, job, place, result.head.run_ns, Vec::new());
        if let Err(unsent) = reply.send(Outcome { result: Ok(payload), diagnostics }) {
            // The caller left, and takes the call back itself as soon as the lock is free.
            forsaken.forsake();
            drop(unsent);
        }
        self.shared.put_back(state, back);
        Ok(())
    }

    /// A call that this worker has.
    fn held<'a>(&self, state: &'a State, wire: u64, slot: u16) -> Option<&'a Job> {
        let held = state.workers.get(&self.id)?.slots.get(usize::from(slot))?.as_ref()?;
        (held.wire == wire).then_some(&held.job)
    }

    fn hear_piece(&self, state: &State, wire: u64, slot: u16, piece: Bytes) {
        // Of a call that is no more it is of no use.
        if let Some(job) = self.held(state, wire, slot)
            && let Reply::Streamed(flow) = &job.reply
        {
            flow.piece(piece);
        }
    }

    fn hear_end(
        &self,
        state: &mut State,
        wire: u64,
        slot: u16,
        run_ns: u64,
        result: Result<Payload, Box<Failure>>,
        copies: Vec<Copied>,
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
        // A task that was cancelled at its deadline ended because of the deadline; so did a handler
        // that got no more data then.
        let result = match (call.cancel, result) {
            (
                Cancel::Asked { because: Because::Deadline, .. }
                | Cancel::Heard { because: Because::Deadline, .. },
                Err(failure),
            ) if *failure == Failure::Cancelled || call.job.call.payload.feed.is_some() => {
                let limit_ms = u64::try_from(call.job.limit.as_millis()).unwrap_or(u64::MAX);
                Err(Box::new(Failure::Timeout { limit_ms, started: true, frames: Vec::new() }))
            }
            (_, result) => result,
        };
        if run_ns > 0 {
            state.learn(call.job.handler, run_ns);
        }
        self.shared.end(state, call.job, Some((self.id, pid)), run_ns, result, copies);
        self.shared.check_limits(state, self.id);
        Ok(())
    }
}

/// A payload of a worker: its memory is mapped once nobody can change it any more.
pub(crate) fn received(codec: Codec, came: Incoming, limit: u64) -> io::Result<Payload> {
    let mut memory = came.descriptors.into_iter();
    let mut payload = Payload::new(codec, came.bytes);
    if let Some(length) = came.shared {
        let first = memory.next().ok_or(io::ErrorKind::UnexpectedEof)?;
        let sealed = Sealed::open(Arc::new(first), length)?;
        payload = Payload::in_memory(codec, sealed.memory().clone(), sealed.bytes()?);
    }
    for descriptor in memory {
        let sealed = whole(descriptor)?;
        let (memory, length) = (sealed.memory().clone(), sealed.length());
        payload.attached.push(Region { memory, length });
    }
    if payload.size() > limit {
        return Err(io::Error::other(format!("{} bytes, and {limit} are allowed", payload.size())));
    }
    Ok(payload)
}

/// All of what is in a descriptor.
fn whole(memory: OwnedFd) -> io::Result<Sealed> {
    let length = rustix::fs::fstat(&memory)?.st_size;
    Sealed::open(Arc::new(memory), u64::try_from(length).unwrap_or(0))
}

/// Why a worker is of no use that could not load these modules: handlers that are served come from
/// them.
fn breaks(state: &State, broken: &[Broken]) -> Option<Failure> {
    let serves =
        |module: &Broken| state.handlers.iter().any(|handler| handler.info.module == module.module);
    let Broken { message, traceback, .. } = broken.iter().find(|module| serves(module))?;
    Some(Failure::Load { message: message.clone(), traceback: traceback.clone() })
}
