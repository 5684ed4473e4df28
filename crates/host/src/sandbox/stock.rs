//! Isolates that are ready for a call, by kind.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use exuvia_core::{Failure, FileMode, Files, Policy};
use exuvia_jail::{Layers, Listener, Tier};
use exuvia_protocol::{Event, Isolate as Wanted, Limits, Load, LoadTarget, Ready};

use tempfile::TempDir;

use super::{
    BundleRef, Code, Job, SandboxConfig, Shared,
    call::Vitals,
    isolate::{Budget, Ends, Isolate},
    outcome::{Facts, Stop, attributed},
};

/// Kinds whose isolates are kept; the one that was used longest ago goes first.
const MOST_KINDS: usize = 64;

/// CPU time that an isolate may use while it waits for a call.
const MOST_UNREST: Duration = Duration::from_millis(100);

/// Where guests may write.
const SESSION: &str = "/session";

/// What isolates must have in common to take each other's calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) bundle: Option<BundleRef>,
    pub(super) files: Files,
    pub(super) threads: u32,
}

/// An isolate that has loaded what its kind has.
pub(super) struct Loaded {
    pub(super) isolate: Isolate,
    /// The handler to call.
    pub(super) handler: u32,
    /// How many it has loaded.
    pub(super) handlers: u32,
    /// Calls it has taken.
    pub(super) calls: u64,
    /// The id of its next call, for the protocol.
    pub(super) next_call: u64,
    /// What its memory was limited to last, in bytes beyond the image's.
    pub(super) memory: u64,
    /// Resident memory when it was ready, in bytes.
    pub(super) resident: u64,
    /// CPU time that it had used when it came to wait.
    pub(super) rested: Duration,
}

/// Isolates that wait.
#[derive(Default)]
pub(super) struct Stock {
    shelves: Mutex<HashMap<Kind, Shelf>>,
}

#[derive(Default)]
struct Shelf {
    ready: VecDeque<Loaded>,
    /// How many are being made.
    coming: usize,
    used: Option<Instant>,
}

// === impl Kind ===

impl Kind {
    pub(super) fn of(job: &Job, config: &SandboxConfig) -> Self {
        let policy = job.limits.under(&config.policy);
        let bundle = match &job.code {
            Code::Source { .. } => None,
            Code::Bundle(bundle) => Some(bundle.clone()),
        };
        Self { bundle, files: policy.files, threads: policy.threads }
    }

    /// Where there are no namespaces `/session` is a folder of ours.
    fn folder(&self, config: &SandboxConfig) -> io::Result<Option<TempDir>> {
        if config.tier == Tier::Full || self.files.mode == FileMode::Read {
            return Ok(None);
        }
        let folder = tempfile::Builder::new().prefix("exuvia-session-").tempdir()?;
        if rustix::process::geteuid().is_root() && config.tier != Tier::None {
            let (user, group) = config.user;
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group))?;
        }
        Ok(Some(folder))
    }

    fn wanted(&self, config: &SandboxConfig, session: Option<&Path>) -> Wanted {
        Wanted {
            bundle: self.bundle.as_ref().map(|bundle| bundle.folder.clone()),
            writable: self.files.mode == FileMode::ReadWrite,
            bytes: self.files.bytes,
            inodes: self.files.inodes,
            memory: config.policy.memory,
            threads: self.threads,
            session: session.map(|path| path.to_string_lossy().into_owned()),
            layers: config.layers.bits(),
        }
    }

    fn load(&self, config: &SandboxConfig) -> Load {
        let Some(bundle) = &self.bundle else {
            return Load { concurrency: 1, max_table: config.policy.memory, ..Load::default() };
        };
        Load {
            search_path: vec![bundle.place(config)],
            targets: vec![LoadTarget {
                module: bundle.module.clone(),
                file: None,
                attribute: Some(bundle.attribute.clone()),
            }],
            concurrency: 1,
            preload: bundle.preload.clone(),
            max_table: config.policy.memory,
            ..Load::default()
        }
    }
}

impl BundleRef {
    /// Where it is, for its isolate.
    fn place(&self, config: &SandboxConfig) -> String {
        let folder = config.store.as_ref().filter(|_| config.tier != Tier::Full);
        let folder = folder.map(|store| store.join(&self.folder).to_string_lossy().into_owned());
        folder.unwrap_or_else(|| "/app".into())
    }
}

// === impl Stock ===

impl Stock {
    /// An isolate of this kind, if one is there.
    pub(super) fn take(&self, kind: &Kind) -> Option<Loaded> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = shelves.get_mut(kind)?;
        shelf.used = Some(Instant::now());
        // What its bundle left running may have ended it meanwhile.
        std::iter::from_fn(|| shelf.ready.pop_front()).find(|loaded| loaded.isolate.lives())
    }

    /// Takes those out that do not rest: what a bundle left running has no budget while nobody
    /// calls it.
    pub(super) fn restless(&self) -> Vec<Isolate> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        for shelf in shelves.values_mut() {
            let (rest, restless) =
                std::mem::take(&mut shelf.ready).into_iter().partition(|loaded| {
                    let used = loaded.isolate.cpu().saturating_sub(loaded.rested);
                    loaded.isolate.lives() && used < MOST_UNREST
                });
            shelf.ready = rest;
            let restless: VecDeque<Loaded> = restless;
            out.extend(restless.into_iter().map(|loaded| loaded.isolate));
        }
        out
    }

    /// Puts one back, or a new one in.
    pub(super) fn put(&self, kind: &Kind, mut loaded: Loaded) {
        loaded.rested = loaded.isolate.cpu();
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.entry(kind.clone()).or_default().ready.push_back(loaded);
    }

    /// How many are to be made of this kind, which then count as coming.
    fn order(&self, kind: &Kind, wanted: usize) -> (usize, Vec<Isolate>) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        if shelves.len() >= MOST_KINDS && !shelves.contains_key(kind) {
            let oldest = shelves.iter().min_by_key(|(_, shelf)| shelf.used).map(|(kind, _)| kind);
            if let Some(shelf) = oldest.cloned().and_then(|oldest| shelves.remove(&oldest)) {
                gone.extend(shelf.ready.into_iter().map(|loaded| loaded.isolate));
            }
        }
        let shelf = shelves.entry(kind.clone()).or_default();
        let missing = wanted.saturating_sub(shelf.ready.len() + shelf.coming);
        shelf.coming += missing;
        (missing, gone)
    }

    fn came(&self, kind: &Kind) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shelf) = shelves.get_mut(kind) {
            shelf.coming = shelf.coming.saturating_sub(1);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.values().map(|shelf| shelf.ready.len()).sum()
    }

    /// Takes all out.
    pub(super) fn clear(&self) -> Vec<Isolate> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = shelves.drain().flat_map(|(_, shelf)| shelf.ready);
        loaded.map(|loaded| loaded.isolate).collect()
    }
}

/// Has isolates of a kind made until there are as many as are to be kept.
pub(super) async fn fill(shared: &Arc<Shared>, kind: &Kind) {
    let (missing, gone) = shared.stock.order(kind, shared.config.spares);
    for isolate in gone {
        super::bury(isolate).await;
    }
    for _ in 0..missing {
        let made = match make(shared, kind, &shared.config.policy).await {
            Ok(loaded) => loaded.touched(&shared.config.policy).await,
            unmade => unmade,
        };
        shared.stock.came(kind);
        match made {
            Ok(loaded) if shared.closed.load(std::sync::atomic::Ordering::Relaxed) => {
                super::bury(loaded.isolate).await;
            }
            Ok(loaded) => shared.stock.put(kind, loaded),
            // The call that needs one will be told the same.
            Err(unmade) => {
                tracing::debug!(failure = %unmade.failure, "no isolate is kept ready");
                if let Some(isolate) = unmade.isolate {
                    super::bury(*isolate).await;
                }
            }
        }
    }
}

/// Why an isolate did not come to be; what its bundle did meanwhile is in it.
pub(super) struct Unmade {
    pub(super) failure: Failure,
    pub(super) isolate: Option<Box<Isolate>>,
}

/// Makes an isolate and has it load what its kind has, under a policy.
pub(super) async fn make(shared: &Shared, kind: &Kind, policy: &Policy) -> Result<Loaded, Unmade> {
    let config = &shared.config;
    let host = |message: String| Unmade { failure: Failure::Host { message }, isolate: None };
    let limits = Limits { max_payload: config.policy.result.max(64 << 10), ..Limits::default() };
    let ends = Ends::new().map_err(|error| host(format!("no isolate can be made: {error}")))?;
    let folder = kind.folder(config);
    let folder = folder.map_err(|error| host(format!("there is no room for files: {error}")))?;
    let session = folder.as_ref().map(TempDir::path);
    let wanted = kind.wanted(config, session);
    let forked = shared.image.fork(config, &wanted, &ends.theirs).await;
    let process = forked.map_err(|error| host(format!("no isolate can be forked: {error}")))?;
    let writable = (kind.files.mode == FileMode::ReadWrite)
        .then(|| session.map_or_else(|| SESSION.into(), Path::to_path_buf));
    // Without a filter, what comes first is the session's folder already.
    let is_heard = config.tier != Tier::None && config.layers.has(Layers::SECCOMP);
    let hears = is_heard.then_some(|descriptor| Listener::new(descriptor, config.tier, writable));
    let isolate = ends.isolate(process, limits, hears).await;
    let mut isolate =
        isolate.map_err(|error| host(format!("an isolate cannot be closed in: {error}")))?;
    isolate.session_folder = folder;
    match load(&mut isolate, kind, config, limits, policy).await {
        Ok(handlers) => {
            let resident = Vitals::of(isolate.process.id()).unwrap_or_default().peak;
            // Code that comes with its call gets the place after all others.
            let handler = if kind.bundle.is_some() { 0 } else { handlers };
            let rested = Duration::ZERO;
            let memory = config.policy.memory;
            let (calls, next_call) = (0, 2);
            Ok(Loaded { isolate, handler, handlers, calls, next_call, memory, resident, rested })
        }
        Err(failure) => Err(Unmade { failure, isolate: Some(Box::new(isolate)) }),
    }
}

/// Loads what the kind has; says how many handlers there are.
async fn load(
    isolate: &mut Isolate,
    kind: &Kind,
    config: &SandboxConfig,
    limits: Limits,
    policy: &Policy,
) -> Result<u32, Failure> {
    let began = Instant::now();
    let budget = Budget { policy, began, cpu_before: Duration::ZERO, live: None };
    let greeted = isolate.greet(limits, kind.load(config));
    let mut stop = greeted.err();
    while stop.is_none() {
        match isolate.attend(&budget).await {
            // What it was refused until now was not for its guest.
            Ok(Event::Hello(_)) => isolate.forget(),
            Ok(Event::Ready(ready)) => match *ready {
                Ready::Handlers(handlers, _) => return Ok(handlers.len() as u32),
                Ready::Failed(failure) => return Err(failed_load(failure, policy, isolate)),
            },
            Ok(_) => stop = Some(Stop::Broke("it said what it may not say now".into())),
            Err(stopped) => stop = Some(stopped),
        }
    }
    let stop = stop.unwrap_or_else(|| Stop::Broke("it said nothing".into()));
    isolate.end().await;
    let report = isolate.crash_report();
    Err(stop.failure(policy, Facts::default(), &isolate.taken.printed[1], &report))
}

/// The failure of an import: one that a limit made is told as that limit.
fn failed_load(failure: Failure, policy: &Policy, isolate: &Isolate) -> Failure {
    let Failure::Load { message, traceback } = &failure else { return failure };
    let said = message.rsplit(": ").nth(usize::from(message.contains(": ["))).unwrap_or_default();
    let class = ["MemoryError", "PermissionError"];
    let Some(class) = class.iter().find(|class| message.contains(*class)) else { return failure };
    let raised = Failure::Exception {
        class: (*class).into(),
        message: said.into(),
        traceback: traceback.clone(),
        frames: Vec::new(),
    };
    let taken = &isolate.taken;
    match attributed(raised, policy, Facts::default(), &taken.denials, taken.denied) {
        Failure::Exception { .. } => failure,
        attributed => attributed,
    }
}
