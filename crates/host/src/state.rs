//! What a pool knows, behind one lock that is held for moments only.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool},
    time::{Duration, Instant},
};

use exuvia_core::ids::{CallId, CallIds};
use exuvia_core::{
    Broken, Call, Copied, Diagnostics, Failure, HandlerInfo, HandlerKind, Outcome, Payload,
};
use exuvia_observe::{Gauge, HandlerMetrics, WorkerMetrics};
use exuvia_protocol::{Claims, Connection};
use exuvia_sys::{RssMeter, SharedPage};
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    config::{PoolConfig, StartError, StartMethod, WorkerState},
    flow::Flow,
    image::Image,
    keeper::{Crew, Limits, Retire},
    output::lock,
    queue::{Line, Queue},
};

/// Memory of so many bytes is not given back on the host's thread.
const SLOW_TO_FREE: u64 = 16 << 20;

/// Everything the tasks of a pool share.
pub(crate) struct Shared {
    pub(crate) config: PoolConfig,
    pub(crate) ids: CallIds,
    /// Wakes the warden before its time.
    pub(crate) warden: Notify,
    /// Told when a call ends while the pool drains.
    pub(crate) idle: Notify,
    /// How the pool's start went.
    pub(crate) started: watch::Sender<Started>,
    /// Where workers come from.
    pub(crate) image: watch::Sender<Image>,
    /// Wakes the keeper: there are too few workers, or too many.
    pub(crate) keeper: Notify,
    /// That `max-rss` is too small is said once.
    pub(crate) told_max_rss: AtomicBool,
    /// True once the pool is stopped; wakes who waits to start another worker.
    pub(crate) halted: watch::Sender<bool>,
    /// The process whose pool it is.
    process: u32,
    state: Mutex<State>,
}

/// How far a pool's start has got.
pub(crate) enum Started {
    Waiting,
    Ready,
    Failed(Option<StartError>),
}

/// The state itself.
pub(crate) struct State {
    pub(crate) queue: Queue,
    pub(crate) workers: BTreeMap<u64, Worker>,
    pub(crate) handlers: Vec<Handler>,
    /// Modules that the first worker could not load.
    pub(crate) broken: Vec<Broken>,
    pub(crate) next_worker: u64,
    pub(crate) next_call: u64,
    /// When the warden looks next.
    pub(crate) next_look: Option<Instant>,
    pub(crate) crew: Crew,
    pub(crate) draining: bool,
    pub(crate) stopped: bool,
    pub(crate) gauges: Gauges,
}

/// Metrics that follow the state.
pub(crate) struct Gauges {
    pub(crate) queue: Gauge,
    pub(crate) starting: Gauge,
    pub(crate) ready: Gauge,
    pub(crate) spare: Gauge,
    pub(crate) retiring: Gauge,
    pub(crate) stopping: Gauge,
}

/// A handler as the pool's first worker reported it.
pub(crate) struct Handler {
    pub(crate) info: Arc<HandlerInfo>,
    pub(crate) name: String,
    pub(crate) timeout: Duration,
    pub(crate) metrics: HandlerMetrics,
    /// A moving average of run times in nanoseconds; `None` before the first.
    pub(crate) usual_ns: Option<u64>,
}

/// A call between its arrival and its end.
pub(crate) struct Job {
    pub(crate) id: CallId,
    pub(crate) handler: usize,
    pub(crate) line: Line,
    pub(crate) call: Call,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Instant,
    pub(crate) limit: Duration,
    pub(crate) queued: Duration,
    pub(crate) attempts: u32,
    pub(crate) reply: Reply,
}

/// Who waits for a call's end.
pub(crate) enum Reply {
    /// The caller.
    Whole(oneshot::Sender<Outcome>),
    /// Who reads the result that has begun.
    Streamed(Arc<Flow>),
}

/// A worker process as the pool sees it.
pub(crate) struct Worker {
    pub(crate) pid: u32,
    pub(crate) phase: Phase,
    pub(crate) connection: Connection,
    pub(crate) page: SharedPage,
    /// Wakes the worker's link: there is something to write, or it was condemned.
    pub(crate) wake: Arc<Notify>,
    pub(crate) slots: Vec<Option<InFlight>>,
    pub(crate) free: Vec<u16>,
    pub(crate) in_flight: usize,
    /// The async ones of these.
    pub(crate) in_flight_async: usize,
    /// The sync ones whose results come in pieces: they last as long as somebody reads.
    pub(crate) in_flight_streams: usize,
    /// Calls it was ever given.
    pub(crate) handed: u64,
    /// Expected nanoseconds of the sync calls it holds.
    pub(crate) backlog_ns: u64,
    /// Since when it has been given calls and gave no sign of life: no answer, no turn of its loop.
    pub(crate) unheard: Option<Instant>,
    /// How often its loop had turned when last looked at.
    pub(crate) turns: u64,
    /// It sat on calls it had not begun and they were taken back: nothing more until it gives a
    /// sign of life.
    pub(crate) stalled: bool,
    /// It has a place: calls are given to it.
    pub(crate) active: bool,
    /// Why it is to go, if it is.
    pub(crate) retire: Option<Retire>,
    pub(crate) limits: Limits,
    /// Calls it has ended.
    pub(crate) calls: u64,
    pub(crate) began: Instant,
    pub(crate) start: StartMethod,
    pub(crate) rss_meter: RssMeter,
    /// When its memory was looked at last.
    pub(crate) rss_at: Instant,
    pub(crate) metrics: WorkerMetrics,
    /// This worker's number for each of the pool's handlers.
    pub(crate) numbers: Vec<Option<u32>>,
}

/// How far a worker is in its life.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Importing.
    Starting,
    /// Able to take calls.
    Ready,
    /// Another has its place: it finishes what runs in it, and ends.
    Retiring,
    /// Its process or its socket has ended: nothing more goes in, its last words are read.
    Leaving,
    /// To be killed for what these calls (by wire id) did.
    Condemned { culprits: Vec<u64>, reason: String },
}

/// A call that was sent to a worker.
pub(crate) struct InFlight {
    pub(crate) job: Job,
    pub(crate) wire: u64,
    pub(crate) expected_ns: u64,
    /// When it was handed over.
    pub(crate) handed: Instant,
    pub(crate) cancel: Cancel,
}

/// How far the stopping of a running call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancel {
    No,
    Asked { at: Instant, because: Because },
    Heard { at: Instant, because: Because },
}

/// Why a running call is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Because {
    Deadline,
    CallerGone,
}

// === impl Shared ===

impl Shared {
    /// Whether this is the copy that a forked child has. The ends of calls are not in its hands, and
    /// locks may be held by threads that it does not have.
    pub(crate) fn is_copy(&self) -> bool {
        std::process::id() != self.process
    }

    pub(crate) fn new(config: PoolConfig) -> Self {
        let pool = &config.metrics.pool;
        let gauges = Gauges {
            queue: pool.queue_length.clone(),
            starting: pool.workers("starting"),
            ready: pool.workers("ready"),
            spare: pool.workers("spare"),
            retiring: pool.workers("retiring"),
            stopping: pool.workers("stopping"),
        };
        let state = State {
            queue: Queue::default(),
            workers: BTreeMap::new(),
            handlers: Vec::new(),
            broken: Vec::new(),
            next_worker: 1,
            next_call: 2,
            next_look: None,
            crew: Crew::new(config.workers.max(1), config.spares),
            draining: false,
            stopped: false,
            gauges,
        };
        Self {
            ids: CallIds::new(),
            process: std::process::id(),
            warden: Notify::new(),
            idle: Notify::new(),
            started: watch::Sender::new(Started::Waiting),
            image: watch::Sender::new(Image::new(&config)),
            keeper: Notify::new(),
            told_max_rss: AtomicBool::new(false),
            halted: watch::Sender::new(false),
            state: Mutex::new(state),
            config,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Sees to it that the warden looks no later than `when`.
    pub(crate) fn look_by(&self, state: &mut State, when: Instant) {
        if state.next_look.is_none_or(|next| when < next) {
            state.next_look = Some(when);
            self.warden.notify_one();
        }
    }

    /// What is known of a call at its end, or when its result begins.
    pub(crate) fn diagnostics(
        &self,
        state: &State,
        job: &Job,
        worker: Option<(u64, u32)>,
        run_ns: u64,
        copies: Vec<Copied>,
    ) -> Diagnostics {
        Diagnostics {
            call_id: job.id.to_string(),
            handler: state.handlers[job.handler].name.clone(),
            worker: worker.map(|(id, _)| id),
            pid: worker.map(|(_, pid)| pid),
            queued_us: micros(job.queued),
            run_us: run_ns / 1000,
            attempts: job.attempts,
            copies,
        }
    }

    /// Ends a call and counts it.
    pub(crate) fn end(
        &self,
        state: &mut State,
        job: Job,
        worker: Option<(u64, u32)>,
        run_ns: u64,
        result: Result<Payload, Box<Failure>>,
        copies: Vec<Copied>,
    ) {
        let diagnostics = self.diagnostics(state, &job, worker, run_ns, copies);
        let outcome = Outcome { result, diagnostics };
        let handler = &state.handlers[job.handler];
        handler.metrics.ended(outcome.word(), (run_ns > 0).then(|| Duration::from_nanos(run_ns)));
        match job.reply {
            // The caller may have gone: its end is then nobody's.
            Reply::Whole(reply) => drop(reply.send(outcome)),
            Reply::Streamed(flow) => flow.end(outcome.result.err()),
        }
        discard(job.call.payload);
        if state.draining {
            self.idle.notify_waiters();
        }
    }
}

// === impl State ===

impl State {
    /// Calls handed to workers.
    pub(crate) fn running(&self) -> usize {
        self.workers.values().map(|worker| worker.in_flight).sum()
    }

    /// Sets the gauges to what is there.
    pub(crate) fn gauge(&self) {
        let count = |wanted: WorkerState| {
            self.workers.values().filter(|worker| worker.state() == wanted).count() as i64
        };
        self.gauges.starting.set(count(WorkerState::Starting));
        self.gauges.ready.set(count(WorkerState::Ready));
        self.gauges.spare.set(count(WorkerState::Spare));
        self.gauges.retiring.set(count(WorkerState::Retiring));
        self.gauges.stopping.set(count(WorkerState::Stopping));
        self.gauges.queue.set(self.queue.len() as i64);
    }

    /// Learns from a run how long a handler usually takes.
    pub(crate) fn learn(&mut self, handler: usize, run_ns: u64) {
        // The number is the worker's word: a year is as good as for ever.
        let run_ns = run_ns.min(1 << 55);
        let usual = &mut self.handlers[handler].usual_ns;
        *usual = Some(usual.map_or(run_ns, |usual| usual - usual / 8 + run_ns / 8));
    }
}

// === impl Handler ===

impl Handler {
    pub(crate) fn new(info: HandlerInfo, config: &PoolConfig) -> Self {
        let name = info.target();
        Self {
            timeout: config.handler_timeouts.get(&name).copied().unwrap_or(config.timeout),
            metrics: config.metrics.pool.handler(&name),
            usual_ns: None,
            info: Arc::new(info),
            name,
        }
    }

    pub(crate) fn line(&self) -> Line {
        match self.info.kind {
            HandlerKind::Sync => Line::Sync,
            HandlerKind::Async => Line::Async,
        }
    }
}

// === impl Worker ===

impl Worker {
    pub(crate) fn claims(&self) -> Claims<'_> {
        Claims::of(self.page.words())
    }

    /// Takes a call off the books.
    pub(crate) fn take(&mut self, slot: u16, wire: u64) -> Option<InFlight> {
        let place = self.slots.get_mut(usize::from(slot))?;
        if place.as_ref()?.wire != wire {
            return None;
        }
        let taken = place.take()?;
        self.claims().free(slot);
        self.free.push(slot);
        self.in_flight -= 1;
        self.in_flight_async -= usize::from(taken.job.line == Line::Async);
        let streamed = matches!(taken.job.reply, Reply::Streamed(_));
        self.in_flight_streams -= usize::from(streamed && taken.job.line == Line::Sync);
        self.backlog_ns = self.backlog_ns.saturating_sub(taken.expected_ns);
        Some(taken)
    }

    /// Asks for the end of a call that runs. One that waits for data gets no more of it, so that it
    /// can hear.
    pub(crate) fn cancel(&mut self, slot: u16, wire: u64) {
        self.connection.cancel(wire, slot);
        self.wake.notify_one();
        let held = self.slots.get(usize::from(slot)).and_then(Option::as_ref);
        if let Some(feed) = held.and_then(|held| held.job.call.payload.feed.as_ref()) {
            // It fails where the feeder has done so before.
            let _ = rustix::net::shutdown(&*feed.0, rustix::net::Shutdown::Both);
        }
    }

    /// Takes a call back, unless it has begun.
    pub(crate) fn revoke(&mut self, slot: u16, wire: u64) -> Option<InFlight> {
        // A result that comes already has begun, whatever the page says.
        let call = self.slots.get(usize::from(slot))?.as_ref()?;
        if call.job.reply.has_begun() || !self.claims().revoke(slot, wire) {
            return None;
        }
        // What is left of a large payload need not be sent.
        self.connection.abort(wire);
        self.wake.notify_one();
        self.take(slot, wire)
    }

    /// Takes back every call that has not begun and that `which` names; the last sent comes first.
    pub(crate) fn revoke_all(&mut self, which: impl Fn(&InFlight) -> bool) -> Vec<InFlight> {
        let mut back = Vec::new();
        for slot in 0..self.slots.len() {
            let Some(call) = self.slots[slot].as_ref().filter(|call| which(call)) else { continue };
            let wire = call.wire;
            back.extend(self.revoke(slot as u16, wire));
        }
        back.sort_unstable_by_key(|call| std::cmp::Reverse(call.wire));
        back
    }
}

// === impl Job ===

impl Job {
    /// The number the worker shows people.
    pub(crate) fn public(&self) -> u64 {
        u64::from(self.id.source) << 32 | (self.id.number & 0xffff_ffff)
    }
}

impl Reply {
    /// Whether nobody waits any more.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Whole(reply) => reply.is_closed(),
            Self::Streamed(_) => false,
        }
    }

    /// Whether a result comes already, piece by piece.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(self, Self::Streamed(_))
    }
}

/// Gives a payload's memory back. Where that is much it takes the kernel a while, for which the
/// host's thread has no time.
fn discard(payload: Payload) {
    if payload.size() >= SLOW_TO_FREE {
        drop(std::thread::Builder::new().spawn(move || drop(payload)));
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
