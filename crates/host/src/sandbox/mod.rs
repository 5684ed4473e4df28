//! Sandboxes: code that nobody vouches for, in isolates (`docs/sandbox.md`).
//!
//! [`Sandbox::run`] takes an isolate that is ready, or has one made, gives it one call, and tells how
//! that ended. What closes isolates in is `exuvia_jail`; this is who makes, watches and ends them.

mod call;
mod config;
mod document;
mod image;
mod isolate;
mod outcome;
mod stock;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use exuvia_core::{CallIds, Failure, Outcome};
use tokio::sync::Semaphore;

pub use self::{
    config::{BundleRef, CallLimits, Code, Job, LiveOutput, SandboxConfig},
    document::{SCHEMA, policy as policy_document},
    outcome::{Denied, SandboxOutcome, Usage},
};
use self::{image::ImageKeeper, isolate::Isolate, stock::Stock};
use crate::config::StartError;

/// How often isolates that wait are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// When who finds the queue full may come back.
const RETRY_AFTER_MS: u64 = 1000;

/// Isolates from one image. Dropping it ends them.
pub struct Sandbox {
    shared: Arc<Shared>,
}

/// A sandbox at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxStatus {
    /// The image's process, while there is one.
    pub image: Option<u32>,
    /// Isolates that are ready for a call.
    pub ready: usize,
    /// Calls that run.
    pub running: usize,
    /// Calls that wait.
    pub waiting: usize,
    /// Calls that have ended.
    pub calls: u64,
}

pub(in crate::sandbox) struct Shared {
    config: SandboxConfig,
    image: ImageKeeper,
    stock: Stock,
    ids: CallIds,
    room: Semaphore,
    waiting: AtomicUsize,
    calls: AtomicU64,
    closed: AtomicBool,
}

/// When a call came and was handed over.
#[derive(Debug, Clone, Copy)]
struct Times {
    came: SystemTime,
    arrived: Instant,
}

// === impl Sandbox ===

impl Sandbox {
    /// Makes the image. Must be called inside a tokio runtime, on which the sandbox then lives.
    ///
    /// # Errors
    /// The image cannot be made: Python does not run, a module to preload does not import, a layer
    /// that the tier has cannot be set up.
    pub async fn start(config: SandboxConfig) -> Result<Self, StartError> {
        let image = ImageKeeper::start(&config).await?;
        let shared = Arc::new(Shared {
            image,
            stock: Stock::default(),
            ids: CallIds::new(),
            room: Semaphore::new(config.concurrency.max(1)),
            waiting: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            config,
        });
        tokio::spawn(watch(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Has isolates made for calls of this kind, so that the next ones find them.
    pub async fn prepare(&self, job: &Job) {
        let kind = stock::Kind::of(job, &self.shared.config);
        let shared = self.shared.clone();
        // What is ordered is made, also when nobody waits for it any more.
        let _ = tokio::spawn(async move { stock::fill(&shared, &kind).await }).await;
    }

    /// Runs one call. Dropping the future ends the call and its isolate.
    pub async fn run(&self, job: Job) -> SandboxOutcome {
        let times = Times { came: SystemTime::now(), arrived: Instant::now() };
        let policy = job.limits.under(&self.shared.config.policy);
        let refused =
            |failure| SandboxOutcome::of_none(&self.shared, &job, times, policy.clone(), failure);
        let reject = |reason: &str| {
            refused(Failure::Rejected { reason: reason.into(), retry_after_ms: RETRY_AFTER_MS })
        };
        if self.shared.closed.load(Ordering::Relaxed) {
            return reject("the sandbox is closed");
        }
        let waiting = Waiting::enter(&self.shared);
        if waiting.before >= self.shared.config.queue + self.shared.config.concurrency {
            return reject("too many calls are waiting already");
        }
        let wait = tokio::time::timeout(policy.wall, self.shared.room.acquire());
        let permit = match wait.await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return reject("the sandbox is closed"),
            Err(_) => {
                let limit_ms = u64::try_from(policy.wall.as_millis()).unwrap_or(u64::MAX);
                return refused(Failure::Timeout { limit_ms, started: false, frames: vec![] });
            }
        };
        let outcome = call::run(&self.shared, &job, policy.clone(), times).await;
        drop(permit);
        self.shared.calls.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// The sandbox at a glance.
    pub async fn status(&self) -> SandboxStatus {
        let config = &self.shared.config;
        let running = config.concurrency.max(1) - self.shared.room.available_permits();
        SandboxStatus {
            image: self.shared.image.pid().await,
            ready: self.shared.stock.len(),
            running,
            waiting: self.shared.waiting.load(Ordering::Relaxed).saturating_sub(running),
            calls: self.shared.calls.load(Ordering::Relaxed),
        }
    }

    /// Takes no more calls, and ends the isolates that wait for one and the image. Calls that run
    /// come to their end.
    pub async fn close(&self) {
        self.shared.close().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.shared.stock.clear();
    }
}

// === impl Shared ===

impl Shared {
    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.room.close();
        for isolate in self.stock.clear() {
            bury(isolate).await;
        }
        self.image.stop().await;
    }
}

/// Sheds isolates that do not rest while they wait for a call.
async fn watch(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(shared) = shared.upgrade() else { return };
        for isolate in shared.stock.restless() {
            tracing::debug!(pid = isolate.process.id(), "an isolate did not rest, and is shed");
            bury(isolate).await;
        }
    }
}

/// One that waits or runs, counted.
struct Waiting<'a> {
    shared: &'a Shared,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn enter(shared: &'a Shared) -> Self {
        Self { shared, before: shared.waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends an isolate. That takes milliseconds, in which nobody waits for it.
async fn bury(mut isolate: Isolate) {
    isolate.end().await;
}

// === impl SandboxOutcome ===

impl SandboxOutcome {
    /// The end of a call that no isolate was given.
    fn of_none(
        shared: &Shared,
        job: &Job,
        times: Times,
        policy: exuvia_core::Policy,
        failure: Failure,
    ) -> Self {
        let diagnostics = call::diagnostics(shared, job, times);
        Self {
            outcome: Outcome { result: Err(Box::new(failure)), diagnostics },
            stdout: Vec::new(),
            stderr: Vec::new(),
            usage: Usage::none(times.came, times.arrived.elapsed(), policy, shared.config.tier),
        }
    }
}
