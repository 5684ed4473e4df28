//! Keeps as many workers as there should be, and decides which of them take calls.
//!
//! A worker that is to go (it grew too large, is old enough, or there are too many) keeps taking
//! calls until a fresh one is ready in its place, then finishes what runs in it and ends by itself.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::timeout_at};

use crate::{
    config::{Recycle, WorkerState},
    link,
    state::{Phase, Shared, State, Worker},
};

/// Waits between attempts to start workers that do not get ready.
const BACKOFF: [u64; 7] = [0, 100, 200, 500, 1_000, 3_000, 10_000];
/// Between two looks at a busy worker's memory.
const RSS_PAUSE: Duration = Duration::from_millis(5);

/// Why a worker is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retire {
    Rss(u64),
    Calls,
    Lifetime,
    Scale,
}

/// A worker's own limits, after jitter.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) max_rss: Option<u64>,
    pub(crate) max_calls: Option<u64>,
    pub(crate) leaves_at: Option<Instant>,
}

/// How many workers there are and should be.
#[derive(Debug)]
pub(crate) struct Crew {
    /// How many take calls.
    pub(crate) size: usize,
    pub(crate) spares: usize,
    /// On their way to the books.
    pub(crate) launching: usize,
    /// Rounds of starts that came to nothing, since the last that did not.
    failures: usize,
    next_start: Option<Instant>,
}

/// Runs until the pool is stopped and its workers are buried.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut halted = shared.halted.subscribe();
    let mut lives = JoinSet::new();
    loop {
        let next = {
            let mut state = shared.lock();
            if state.stopped {
                break;
            }
            let now = Instant::now();
            let next = shared.retire_old(&mut state, now);
            // Some may have been on their way when fewer were wanted.
            shared.retire_excess(&mut state);
            shared.assign(&mut state);
            shared.dispatch(&mut state);
            for _ in 0..state.missing(now) {
                state.crew.launching += 1;
                lives.spawn(link::live(shared.clone()));
            }
            [next, state.crew.next_start.filter(|start| *start > now)].into_iter().flatten().min()
        };
        // Without a date the next word comes first.
        let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        let changed = async {
            tokio::select! {
                _ = halted.wait_for(|halted| *halted) => {}
                () = shared.keeper.notified() => {}
                Some(ended) = lives.join_next() => {
                    shared.lock().crew.ended(ended.unwrap_or(false), Instant::now());
                }
            }
        };
        let _ = timeout_at(next.into(), changed).await;
    }
    while lives.join_next().await.is_some() {}
}

// === impl Shared ===

impl Shared {
    /// Sets how many workers take calls.
    pub(crate) fn resize(&self, size: usize) {
        let mut state = self.lock();
        let state = &mut *state;
        state.crew.size = size;
        self.retire_excess(state);
        self.assign(state);
        self.dispatch(state);
        self.keeper.notify_one();
    }

    /// Decides which workers are to go where there are too many.
    fn retire_excess(&self, state: &mut State) {
        let mut fresh: Vec<_> =
            state.workers.iter().filter(|(_, worker)| worker.is_fresh()).collect();
        let excess = fresh.len().saturating_sub(state.crew.wanted());
        // Those that have least to finish go first, and of these the youngest.
        fresh.sort_by_key(|(id, worker)| (worker.in_flight, std::cmp::Reverse(**id)));
        let excess: Vec<u64> = fresh[..excess].iter().map(|(id, _)| **id).collect();
        for id in excess {
            self.retire(state, id, Retire::Scale);
        }
    }

    /// Decides that a worker is to go.
    pub(crate) fn retire(&self, state: &mut State, id: u64, why: Retire) {
        let Some(worker) = state.workers.get_mut(&id).filter(|worker| worker.retire.is_none())
        else {
            return;
        };
        worker.retire = Some(why);
        tracing::debug!(worker = id, "to be replaced: {}", why.words(&self.config.recycle));
        self.keeper.notify_one();
    }

    /// Decides which workers take calls: as many fresh ones as there are places, then those that
    /// are to go, the rest of which leave now. The caller dispatches what waits, when it can.
    pub(crate) fn assign(&self, state: &mut State) {
        let mut places = state.crew.size;
        let mut take = || {
            let free = places > 0;
            places -= usize::from(free);
            free
        };
        let ready = state.workers.iter_mut().filter(|(_, worker)| worker.is_ready());
        let (retiring, mut fresh): (Vec<_>, Vec<_>) =
            ready.partition(|(_, worker)| worker.retire.is_some());
        let retiring: Vec<u64> = retiring.into_iter().map(|(id, _)| *id).collect();
        // Who takes calls already goes on, then the oldest.
        fresh.sort_by_key(|(_, worker)| !worker.active);
        for (_, worker) in fresh {
            worker.active = take();
        }
        let mut back = Vec::new();
        for id in retiring.into_iter().rev() {
            let Some(worker) = state.workers.get_mut(&id) else { continue };
            worker.active = take();
            if !worker.active {
                worker.phase = Phase::Retiring;
                back.extend(worker.revoke_all(|_| true));
                worker.wake.notify_one();
            }
        }
        back.sort_unstable_by_key(|call| std::cmp::Reverse(call.wire));
        self.put_back(state, back);
        state.gauge();
    }

    /// Looks whether a worker that just ended a call has come to one of its limits.
    pub(crate) fn check_limits(&self, state: &mut State, id: u64) {
        let found = state.workers.get_mut(&id).filter(|worker| worker.is_fresh());
        let Some(worker) = found else { return };
        if worker.limits.max_calls.is_some_and(|most| worker.calls >= most) {
            self.retire(state, id, Retire::Calls);
            return self.assign(state);
        }
        if worker.limits.max_rss.is_none() || worker.rss_at.elapsed() < RSS_PAUSE {
            return;
        }
        worker.rss_at = Instant::now();
        if let Some(rss) = worker.rss_meter.read() {
            self.check_rss(state, id, rss);
        }
    }

    /// Looks whether a worker has grown too large.
    pub(crate) fn check_rss(&self, state: &mut State, id: u64, rss: u64) {
        let Some(worker) = state.workers.get(&id) else { return };
        if worker.is_ready()
            && worker.is_fresh()
            && worker.limits.max_rss.is_some_and(|most| rss > most)
        {
            self.retire(state, id, Retire::Rss(rss));
            self.assign(state);
        }
    }

    /// Gives a worker that got ready its own limits.
    pub(crate) fn set_limits(&self, worker: &mut Worker, id: u64) {
        worker.limits = Limits::new(&self.config.recycle);
        let rss = worker.rss_meter.read().unwrap_or_default();
        if let Some(most) = worker.limits.max_rss.filter(|most| rss > *most) {
            // To replace it would not help: the next one would have as much.
            worker.limits.max_rss = None;
            if self.told_max_rss.swap(true, Relaxed) {
                return;
            }
            tracing::error!(
                worker = id,
                "max-rss ({} MiB) is less than a worker has before its first call ({} MiB): it is \
                 not heeded",
                most >> 20,
                rss >> 20
            );
        }
    }

    /// Retires workers whose time is over; says when the next one's is.
    fn retire_old(&self, state: &mut State, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut old = Vec::new();
        for (id, worker) in state.workers.iter().filter(|(_, worker)| worker.is_fresh()) {
            match worker.limits.leaves_at {
                Some(at) if at <= now => old.push(*id),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        for id in &old {
            self.retire(state, *id, Retire::Lifetime);
        }
        next
    }
}

// === impl State ===

impl State {
    /// How many workers to start now.
    fn missing(&self, now: Instant) -> usize {
        if self.crew.next_start.is_some_and(|start| start > now) {
            return 0;
        }
        let there = self.workers.values().filter(|worker| worker.is_fresh()).count();
        self.crew.wanted().saturating_sub(there + self.crew.launching)
    }
}

// === impl Crew ===

impl Crew {
    pub(crate) fn new(size: usize, spares: usize) -> Self {
        Self { size, spares, launching: 0, failures: 0, next_start: None }
    }

    fn wanted(&self) -> usize {
        self.size.saturating_add(self.spares)
    }

    /// A worker has ended; it was of use or not.
    fn ended(&mut self, of_use: bool, now: Instant) {
        if of_use {
            self.failures = 0;
            self.next_start = None;
        } else if self.next_start.is_none_or(|start| start <= now) {
            self.failures += 1;
            let wait = BACKOFF[self.failures.min(BACKOFF.len() - 1)];
            self.next_start = Some(now + Duration::from_millis(wait));
        }
    }
}

// === impl Worker ===

impl Worker {
    /// Alive, and not to go.
    pub(crate) fn is_fresh(&self) -> bool {
        self.retire.is_none() && matches!(self.phase, Phase::Starting | Phase::Ready)
    }

    /// What it is to its users.
    pub(crate) fn state(&self) -> WorkerState {
        match &self.phase {
            Phase::Starting => WorkerState::Starting,
            Phase::Ready if self.retire.is_some() => WorkerState::Retiring,
            Phase::Ready if self.active => WorkerState::Ready,
            Phase::Ready => WorkerState::Spare,
            Phase::Retiring | Phase::Leaving | Phase::Condemned { .. } => WorkerState::Stopping,
        }
    }
}

// === impl Retire ===

impl Retire {
    /// The word for `exuvia_worker_restarts_total{reason}`; `None` where nothing is restarted.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Rss(_) => Some("rss"),
            Self::Calls => Some("calls"),
            Self::Lifetime => Some("lifetime"),
            Self::Scale => None,
        }
    }

    /// Why, for people.
    pub(crate) fn words(self, limits: &Recycle) -> String {
        match self {
            Self::Rss(rss) => {
                let most = limits.max_rss.unwrap_or_default();
                format!("its {} MiB of memory are over max-rss ({} MiB)", rss >> 20, most >> 20)
            }
            Self::Calls => "it reached max-calls".into(),
            Self::Lifetime => "it reached its lifetime".into(),
            Self::Scale => "fewer workers are wanted".into(),
        }
    }
}

// === impl Limits ===

impl Limits {
    /// For a worker that is ready now.
    pub(crate) fn new(recycle: &Recycle) -> Self {
        let less = |whole: u64| whole - random_up_to(percent(whole, recycle.jitter_percent));
        let lifetime = recycle.lifetime.map(|lifetime| {
            let millis = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
            Duration::from_millis(less(millis))
        });
        Self {
            max_rss: recycle.max_rss,
            max_calls: recycle.max_calls.map(|most| less(most).max(1)),
            leaves_at: lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime)),
        }
    }
}

fn percent(whole: u64, percent: u8) -> u64 {
    (u128::from(whole) * u128::from(percent.min(100)) / 100) as u64
}

fn random_up_to(most: u64) -> u64 {
    // The standard library's only source of chance: the key of a fresh hasher.
    let chance = RandomState::new().build_hasher().finish();
    if most == u64::MAX { chance } else { chance % (most + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_only_shortens_and_by_no_more_than_it_says() {
        let recycle = Recycle {
            max_calls: Some(1000),
            lifetime: Some(Duration::from_secs(100)),
            jitter_percent: 10,
            max_rss: None,
        };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let limits = Limits::new(&recycle);
            let calls = limits.max_calls.expect("a limit");
            assert!((900..=1000).contains(&calls), "{calls}");
            seen.insert(calls);
            let left = limits.leaves_at.expect("a limit") - Instant::now();
            assert!(left > Duration::from_secs(89) && left <= Duration::from_secs(100), "{left:?}");
        }
        assert!(seen.len() > 20, "{seen:?}");
        let exact = Limits::new(&Recycle { max_calls: Some(1), ..Recycle::default() });
        assert_eq!(exact.max_calls, Some(1));
        let most = Recycle { max_calls: Some(u64::MAX), jitter_percent: 100, ..recycle };
        assert!(Limits::new(&most).max_calls >= Some(1));
    }

    #[test]
    fn starts_that_come_to_nothing_are_spaced_out_and_one_success_forgets_them() {
        let mut crew = Crew::new(4, 0);
        let now = Instant::now();
        for _ in 0..4 {
            crew.ended(false, now);
        }
        assert_eq!(crew.next_start, Some(now + Duration::from_millis(100)), "four at once are one");
        let later = now + Duration::from_millis(150);
        crew.ended(false, later);
        assert_eq!(crew.next_start, Some(later + Duration::from_millis(200)));
        crew.ended(true, later);
        assert_eq!((crew.next_start, crew.failures), (None, 0));
    }
}
