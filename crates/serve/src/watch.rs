//! What happens here, as the page shows it: calls now, the last ones, how long each route takes,
//! and what failed or printed.
//!
//! All of it is bounded, and an ordinary call allocates nothing: it takes a place in two fixed
//! rings and gives it to the next.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, SecondsFormat};
use exuvia_core::{Broken, Diagnostics, Failure};
use serde_json::{Value, json};

use crate::{kept::Kept, problem::CLIENT_CLOSED};

/// The last calls of all routes.
const CALLS: usize = 200;
/// The last durations of each route.
const DURATIONS: usize = 512;
/// Running calls that are listed; there may be more.
const LISTED: usize = 200;

/// The record. One mutex: it is held for a few stores, and the server is one thread.
#[derive(Debug)]
pub(crate) struct Watch {
    record: Mutex<Record>,
    /// When the record began, by the clock that does not jump and by the one on the wall.
    began: Instant,
    began_at: SystemTime,
    /// Whether texts of the handlers' own are kept.
    expose: bool,
}

/// One request on its way. Dropped without a word, its client went away.
#[derive(Debug)]
pub(crate) struct Seen {
    watch: Arc<Watch>,
    place: usize,
    waits: bool,
    ended: bool,
}

/// A route, as it is named on the page.
#[derive(Debug, Clone)]
pub(crate) struct RouteName {
    /// `POST /shop/price`.
    pub(crate) route: String,
    /// `shop:price`.
    pub(crate) handler: String,
}

/// What stands behind the targets, as the page shows it.
#[derive(Debug, Clone, Default)]
pub struct BackendState {
    /// Workers, in the order of their numbers.
    pub workers: Vec<WorkerRow>,
    /// Calls that wait for a worker.
    pub queued: usize,
    /// How many may.
    pub queue_limit: usize,
    /// Calls that were refused because that many did.
    pub rejected: u64,
}

/// One worker.
#[derive(Debug, Clone)]
pub struct WorkerRow {
    /// Its number.
    pub worker: u64,
    /// Its process.
    pub pid: u32,
    /// `starting`, `ready`, `spare`, `retiring` or `stopping`.
    pub state: &'static str,
    /// Since its start.
    pub age: Duration,
    /// Calls it has ended.
    pub calls: u64,
    /// Calls it has now.
    pub running: usize,
    /// Bytes of resident memory, where they are known.
    pub rss: Option<u64>,
    /// Bytes of memory with shared pages divided among those who share them.
    pub pss: Option<u64>,
    /// Bytes of memory that nobody shares.
    pub private: Option<u64>,
}

/// What the server knows besides the record.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) ready: bool,
    pub(crate) reason: &'a str,
    pub(crate) backend: &'a BackendState,
    /// Modules that could not be loaded.
    pub(crate) broken: &'a [Broken],
    /// Open connections.
    pub(crate) connections: i64,
    /// Requests read and not answered.
    pub(crate) in_flight: i64,
    /// Routes that only a document describes: `GET /x/{y}`.
    pub(crate) stubs: &'a [String],
}

/// The id of a call, held in place.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Id {
    len: u8,
    bytes: [u8; 31],
}

/// A call that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) id: Id,
    route: usize,
    status: u16,
    took: Duration,
    /// Since the record began.
    at: Duration,
    kind: Option<&'static str>,
    worker: Option<u64>,
}

#[derive(Debug)]
struct Record {
    routes: Vec<Route>,
    /// Requests now. A place that is free is used again.
    running: Vec<Option<Running>>,
    free: Vec<usize>,
    calls: VecDeque<Ended>,
    kept: Kept,
}

#[derive(Debug)]
struct Route {
    name: RouteName,
    calls: u64,
    errors: u64,
    in_flight: u64,
    waiting: u64,
    /// The last durations in microseconds; once full, `next` is the oldest.
    durations: Vec<u32>,
    next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    route: usize,
    began: Instant,
    id: Id,
}

// === impl Watch ===

impl Watch {
    /// A record of these routes, which are named by their places from here on. Where `expose` is
    /// not set, texts of handlers (tracebacks, output) are not kept.
    pub(crate) fn new(routes: Vec<RouteName>, expose: bool) -> Arc<Self> {
        let record = Record {
            routes: routes.into_iter().map(Route::new).collect(),
            running: Vec::new(),
            free: Vec::new(),
            calls: VecDeque::with_capacity(CALLS),
            kept: Kept::default(),
        };
        Arc::new(Self {
            record: Mutex::new(record),
            began: Instant::now(),
            began_at: SystemTime::now(),
            expose,
        })
    }

    /// A request for a route begins.
    pub(crate) fn began(self: &Arc<Self>, route: usize, now: Instant) -> Seen {
        let running = Some(Running { route, began: now, id: Id::default() });
        let mut record = self.record();
        if let Some(route) = record.routes.get_mut(route) {
            route.in_flight += 1;
        }
        let place = if let Some(place) = record.free.pop() {
            record.running[place] = running;
            place
        } else {
            record.running.push(running);
            record.running.len() - 1
        };
        drop(record);
        Seen { watch: Arc::clone(self), place, waits: false, ended: false }
    }

    /// A call printed a line. It may not have ended yet.
    pub(crate) fn output(&self, call_id: &str, stream: &'static str, text: &str) {
        if self.expose {
            self.record().kept.line(Id::new(call_id), stream, text);
        }
    }

    /// Everything that happens now: `/_exuvia/state.json`.
    pub(crate) fn state(&self, around: &Surroundings<'_>) -> Value {
        let now = Instant::now();
        let BackendState { workers, queued, queue_limit, rejected } = around.backend;
        let workers: Vec<_> = workers.iter().map(worker).collect();
        let broken: Vec<_> = around.broken.iter().map(|broken| self.broken(broken)).collect();
        let record = self.record();
        let routes: Vec<_> = record.routes.iter().map(Route::row).collect();
        let failures: Vec<_> = record.kept.failures().map(|call| self.row(&record, call)).collect();
        let calls: Vec<_> = record.calls.iter().rev().map(|call| self.row(&record, call)).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": now.saturating_duration_since(self.began).as_secs_f64(),
            "ready": around.ready,
            "reason": around.reason,
            "broken": broken,
            "stubs": around.stubs,
            "queue": { "length": queued, "limit": queue_limit, "rejected": rejected },
            "connections": around.connections,
            "in_flight": around.in_flight,
            "workers": workers,
            "routes": routes,
            "running": record.running(now),
            "calls": calls,
            "failures": failures,
        })
    }

    /// One of the last calls with what is kept of it: `/_exuvia/calls/<id>.json`.
    pub(crate) fn call(&self, call_id: &str) -> Option<Value> {
        let id = Id::new(call_id);
        let record = self.record();
        let kept = record.kept.get(id);
        let ended = record.calls.iter().rev().find(|call| call.id == id);
        let ended = ended.or_else(|| kept.and_then(|kept| kept.ended.as_ref()));
        if ended.is_none() && kept.is_none() {
            return None;
        }
        let mut call = match ended {
            Some(ended) => self.row(&record, ended),
            // It still runs.
            None => json!({ "id": call_id }),
        };
        if let Some(kept) = kept {
            kept.describe(&mut call);
        }
        Some(call)
    }

    fn ended(&self, place: usize, mut call: Ended, failure: Option<&Failure>, detail: &str) {
        let mut record = self.record();
        let Some(running) = record.running.get_mut(place).and_then(Option::take) else { return };
        record.free.push(place);
        call.route = running.route;
        // `at` was set to the present.
        call.took = (self.began + call.at).saturating_duration_since(running.began);
        if let Some(route) = record.routes.get_mut(call.route) {
            route.ended(&call);
        }
        if record.calls.len() == CALLS {
            record.calls.pop_front();
        }
        record.calls.push_back(call);
        if self.expose && call.kind.is_some() {
            record.kept.failed(call, failure, detail);
        }
    }

    /// A call as a row of the page.
    fn row(&self, record: &Record, call: &Ended) -> Value {
        json!({
            "id": call.id.text(),
            "route": record.routes.get(call.route).map(|route| &route.name.route),
            "status": call.status,
            "ms": milliseconds(call.took),
            "at": self.timestamp(call.at),
            "kind": call.kind,
            "worker": call.worker,
            "has_more": record.kept.get(call.id).is_some(),
        })
    }

    pub(crate) fn broken(&self, broken: &Broken) -> Value {
        let Broken { module, file, message, traceback } = broken;
        if self.expose {
            json!({ "module": module, "file": file, "message": message, "traceback": traceback })
        } else {
            let message = "it cannot be imported; the server's log says why";
            json!({ "module": module, "file": file, "message": message, "traceback": "" })
        }
    }

    /// A moment as RFC 3339 writes it.
    fn timestamp(&self, since: Duration) -> Option<String> {
        let moment = (self.began_at + since).duration_since(UNIX_EPOCH).ok()?;
        let moment = DateTime::from_timestamp_millis(moment.as_millis().try_into().ok()?)?;
        Some(moment.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        // Whatever panicked left at worst a count that is off by one.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Seen ===

impl Seen {
    /// It waits, or no longer waits, for others of its route.
    pub(crate) fn waits(&mut self, waits: bool) {
        if self.waits == waits {
            return;
        }
        self.waits = waits;
        let mut record = self.watch.record();
        if let Some(route) = record.route_of(self.place) {
            route.waiting = if waits { route.waiting + 1 } else { route.waiting.saturating_sub(1) };
        }
    }

    /// It has this id, and goes on: its answer is streamed.
    pub(crate) fn named(&mut self, call_id: &str) {
        let mut record = self.watch.record();
        if let Some(Some(running)) = record.running.get_mut(self.place) {
            running.id = Id::new(call_id);
        }
    }

    /// The call ended, and this was answered.
    pub(crate) fn ended(
        &mut self,
        diagnostics: &Diagnostics,
        status: u16,
        failure: Option<&Failure>,
        now: Instant,
    ) {
        let kind = failure.map(|failure| failure.kind().word());
        let call = self.call(&diagnostics.call_id, status, kind, diagnostics.worker, now);
        let detail = failure.map(ToString::to_string);
        self.end(call, failure, detail.as_deref().unwrap_or_default());
    }

    /// It was answered before there was a call.
    pub(crate) fn refused(&mut self, id: &str, status: u16, kind: &'static str, detail: &str) {
        let call = self.call(id, status, Some(kind), None, Instant::now());
        self.end(call, None, detail);
    }

    fn call(
        &self,
        id: &str,
        status: u16,
        kind: Option<&'static str>,
        worker: Option<u64>,
        now: Instant,
    ) -> Ended {
        let at = self.watch.since(now);
        Ended { id: Id::new(id), route: 0, status, took: Duration::ZERO, at, kind, worker }
    }

    fn end(&mut self, call: Ended, failure: Option<&Failure>, detail: &str) {
        if !self.ended {
            self.waits(false);
            self.ended = true;
            self.watch.ended(self.place, call, failure, detail);
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        if !self.ended {
            let gone = self.call("", CLIENT_CLOSED, Some("cancelled"), None, Instant::now());
            self.end(gone, None, "the client went away");
        }
    }
}

// === impl Record ===

impl Record {
    fn route_of(&mut self, place: usize) -> Option<&mut Route> {
        let running = self.running.get(place).copied().flatten()?;
        self.routes.get_mut(running.route)
    }

    /// Calls now, the longest first.
    fn running(&self, now: Instant) -> Vec<Value> {
        let mut running: Vec<&Running> = self.running.iter().flatten().collect();
        running.sort_by_key(|call| call.began);
        let row = |call: &&Running| {
            json!({
                "id": call.id.text(),
                "route": self.routes.get(call.route).map(|route| &route.name.route),
                "for_ms": milliseconds(now.saturating_duration_since(call.began)),
            })
        };
        running.iter().take(LISTED).map(row).collect()
    }
}

// === impl Route ===

impl Route {
    fn new(name: RouteName) -> Self {
        Self {
            name,
            calls: 0,
            errors: 0,
            in_flight: 0,
            waiting: 0,
            durations: Vec::with_capacity(DURATIONS),
            next: 0,
        }
    }

    fn ended(&mut self, call: &Ended) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.calls += 1;
        // Who goes away is no error of the route.
        if call.status >= 400 && call.status != CLIENT_CLOSED {
            self.errors += 1;
        }
        let took = u32::try_from(call.took.as_micros()).unwrap_or(u32::MAX);
        if self.durations.len() < DURATIONS {
            self.durations.push(took);
        } else {
            self.durations[self.next] = took;
            self.next = (self.next + 1) % DURATIONS;
        }
    }

    fn row(&self) -> Value {
        let mut durations = self.durations.clone();
        durations.sort_unstable();
        json!({
            "route": self.name.route,
            "handler": self.name.handler,
            "calls": self.calls,
            "errors": self.errors,
            "in_flight": self.in_flight,
            "waiting": self.waiting,
            "p50_ms": percentile(&durations, 50),
            "p99_ms": percentile(&durations, 99),
        })
    }
}

// === impl Id ===

impl Id {
    /// As much of `text` as an id may have.
    pub(crate) fn new(text: &str) -> Self {
        let mut bytes = [0; 31];
        let len = text.floor_char_boundary(bytes.len());
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Self { len: len as u8, bytes }
    }

    /// The id, where there is one.
    pub(crate) fn text(&self) -> Option<&str> {
        let bytes = &self.bytes[..usize::from(self.len)];
        std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text().unwrap_or_default())
    }
}

// === impl Ended ===

impl Ended {
    /// Whether it went wrong on this side.
    pub(crate) fn is_ours(&self) -> bool {
        self.status >= 500
    }
}

/// The value below which so many of a hundred are, in milliseconds; `sorted` are microseconds.
fn percentile(sorted: &[u32], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).map(|&us| f64::from(us) / 1000.0)
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

fn worker(row: &WorkerRow) -> Value {
    json!({
        "worker": row.worker,
        "pid": row.pid,
        "state": row.state,
        "age_s": row.age.as_secs_f64(),
        "calls": row.calls,
        "running": row.running,
        "rss": row.rss,
        "pss": row.pss,
        "private": row.private,
    })
}

#[cfg(test)]
mod tests;
