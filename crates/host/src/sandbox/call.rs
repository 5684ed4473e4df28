//! One call in one isolate.

use std::{
    fs::File,
    os::{fd::AsFd, unix::fs::FileExt},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use exuvia_core::{
    Codec, Diagnostics, Failure, FileMode, Outcome, Payload, Policy, Resource, about,
};
use exuvia_jail::Tier;
use exuvia_protocol::{Event, IncomingResult, Outgoing, OutgoingCall, frame::CallHead};

use super::{
    Code, Job, SandboxOutcome, Shared, Times, Usage,
    isolate::{Budget, Taken},
    outcome::{Facts, Stop, attributed},
    stock::{self, Kind, Loaded, Unmade},
};
use crate::hear;

/// How long a call has the cores for itself before an isolate for the next one is made. Most calls
/// end before.
const SHORT: Duration = Duration::from_millis(1);
/// What an isolate runs before its call is there: a little of everything that calls do, so that they
/// find it in memory that is the isolate's own.
const TOUCH: &str = r#"
import sys

def handler(count=3, *, name="each"):
    """Touches memory."""
    made = {f"{name} {each}": each * 0.5 for each in range(count)}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        made["sum"] = float(numpy.arange(count).sum())
    return [made, str(made), None]
"#;
/// Bytes of what the kernel says of a process; some 1,500.
const STATUS: usize = 4096;
/// Files of a session that are listed.
const MOST_FILES: usize = 1000;

/// An isolate that is ended, not dropped, when nobody waits for its call any more: that takes
/// milliseconds.
struct Held(Option<Loaded>);

/// What came of a call, before it is told.
#[derive(Debug)]
struct End {
    result: Result<Payload, Failure>,
    run: Duration,
    copies: Vec<exuvia_core::Copied>,
}

/// Runs a call.
pub(super) async fn run(
    shared: &Arc<Shared>,
    job: &Job,
    policy: Policy,
    times: Times,
) -> SandboxOutcome {
    let kind = Kind::of(job, &shared.config);
    let taken = shared.stock.take(&kind);
    let on_demand = taken.is_none();
    let made = match taken {
        Some(loaded) => Ok(loaded),
        None => stock::make(shared, &kind, &policy).await,
    };
    if !shared.config.persistent || on_demand {
        let (shared, kind) = (shared.clone(), kind.clone());
        tokio::spawn(async move {
            tokio::time::sleep(SHORT).await;
            // A closed sandbox would get another image for it.
            if !shared.closed.load(Ordering::Relaxed) {
                stock::fill(&shared, &kind).await;
            }
        });
    }
    let mut held = match made {
        Ok(loaded) => Held(Some(loaded)),
        Err(unmade) => {
            let mut outcome = SandboxOutcome::of_none(shared, job, times, policy, unmade.failure);
            outcome.usage.on_demand = true;
            if let Some(mut isolate) = unmade.isolate {
                if let Some(live) = &job.live {
                    isolate.repeat(live);
                }
                outcome.take(std::mem::take(&mut isolate.taken));
                tokio::spawn(super::bury(*isolate));
            }
            return outcome;
        }
    };
    let Some(loaded) = held.0.as_mut() else { unreachable!("it was just put in") };
    let outcome = loaded.call(shared, job, policy, times, on_demand).await;
    if let Some(loaded) = held.0.take() {
        if shared.config.persistent && !outcome.usage.quarantined {
            shared.stock.put(&kind, loaded);
        } else {
            tokio::spawn(super::bury(loaded.isolate));
        }
    }
    outcome
}

impl Drop for Held {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Handle::try_current();
        if let (Some(loaded), Ok(runtime)) = (self.0.take(), runtime) {
            runtime.spawn(super::bury(loaded.isolate));
        }
    }
}

// === impl Loaded ===

impl Loaded {
    async fn call(
        &mut self,
        shared: &Shared,
        job: &Job,
        policy: Policy,
        times: Times,
        on_demand: bool,
    ) -> SandboxOutcome {
        let (began, started) = (Instant::now(), SystemTime::now());
        let mut diagnostics = diagnostics(shared, job, times);
        diagnostics.pid = Some(self.isolate.process.id());
        diagnostics.attempts = 1;
        diagnostics.queued_us = micros(began - times.arrived);
        let cpu_before = self.isolate.cpu();
        let live = job.live.as_ref();
        let budget = Budget { policy: &policy, began, cpu_before, live };
        // What its bundle printed when it was imported.
        if let Some(live) = live {
            self.isolate.repeat(live);
        }
        let end = match self.begin(job, &policy) {
            Ok(wire) => self.wait(wire, &budget).await,
            Err(stop) => Err(stop),
        };
        // All that can still be seen is seen before the isolate is gone.
        let wall = began.elapsed();
        let cpu = self.isolate.cpu().saturating_sub(cpu_before);
        let (facts, files, file_bytes) = self.facts(&policy, shared.config.tier);
        let end = match end.and_then(|end| self.isolate.gather(&budget).map(|()| end)) {
            Ok(end) => end,
            Err(stop) => {
                self.isolate.end().await;
                let report = self.isolate.crash_report();
                let stderr = &self.isolate.taken.printed[1];
                End::failed(stop.failure(&policy, facts, stderr, &report))
            }
        };
        let taken = std::mem::take(&mut self.isolate.taken);
        let result = end
            .result
            .map_err(|failure| attributed(failure, &policy, facts, &taken.denials, taken.denied));
        let quarantined = taken.denied > 0 || result.as_ref().is_err_and(is_overrun);
        self.calls += 1;
        diagnostics.run_us = micros(end.run);
        diagnostics.copies = end.copies;
        let usage = Usage {
            started: Some(started),
            ended: SystemTime::now(),
            queued: began - times.arrived,
            wall,
            cpu,
            peak_memory: facts.peak_memory,
            file_bytes,
            files,
            on_demand,
            fresh: self.calls == 1,
            quarantined: quarantined && shared.config.persistent,
            ..Usage::none(times.came, Duration::ZERO, policy, shared.config.tier)
        };
        let result = result.map_err(Box::new);
        let mut outcome = SandboxOutcome {
            outcome: Outcome { result, diagnostics },
            stdout: Vec::new(),
            stderr: Vec::new(),
            usage,
        };
        outcome.take(taken);
        outcome
    }

    /// The same isolate after a call that does nothing: the memory that calls write to is its own
    /// then, and no longer copied while one waits.
    pub(super) async fn touched(mut self, policy: &Policy) -> Result<Self, Unmade> {
        let said = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let text_arguments = [said(about::SOURCE, TOUCH), said(about::ENTRYPOINT, about::TOUCH)];
        let payload = Outgoing::default();
        let head = head(self.handlers, Codec::Empty, Codec::Value);
        let cpu_before = self.isolate.cpu();
        let budget = Budget { policy, began: Instant::now(), cpu_before, live: None };
        let ended = match self.hand_over(head, &text_arguments, payload) {
            Ok(wire) => self.wait(wire, &budget).await,
            Err(stop) => Err(stop),
        };
        match ended {
            Ok(End { result: Ok(_), .. }) => Ok(self),
            ended => {
                tracing::debug!(?ended, "an isolate could not be touched");
                let message = "an isolate failed before its first call".into();
                let isolate = Some(Box::new(self.isolate));
                Err(Unmade { failure: Failure::Host { message }, isolate })
            }
        }
    }

    /// Begins the call.
    fn begin(&mut self, job: &Job, policy: &Policy) -> Result<u64, Stop> {
        let host = |message: String| Stop::Over(Failure::Host { message });
        // No guest can change it, so it is what was set last.
        if policy.memory != self.memory {
            let bytes = self.isolate.baseline.saturating_add(policy.memory);
            exuvia_jail::set_memory(self.isolate.process.id(), bytes)
                .map_err(|error| host(format!("the memory cannot be limited: {error}")))?;
            self.memory = policy.memory;
        }
        let mut text_arguments = job.text_arguments.clone();
        if let Code::Source { text, entrypoint } = &job.code {
            text_arguments.push((about::SOURCE.into(), text.clone()));
            let entrypoint = entrypoint.iter();
            text_arguments.extend(entrypoint.map(|name| (about::ENTRYPOINT.into(), name.clone())));
        }
        let head = head(self.handler, job.payload.codec, job.accept);
        self.hand_over(head, &text_arguments, Outgoing::from(&job.payload))
    }

    fn hand_over(
        &mut self,
        head: CallHead,
        text_arguments: &[(String, String)],
        payload: Outgoing,
    ) -> Result<u64, Stop> {
        let wire = self.next_call;
        self.next_call += 2;
        self.isolate.claims().free(0);
        self.isolate.claims().queue(0, wire);
        let head = CallHead { public_id: wire, ..head };
        let call = OutgoingCall { call: wire, slot: 0, head, text_arguments, payload };
        self.isolate
            .connection
            .call(call)
            .map_err(|error| Stop::Over(Failure::input("", error.to_string())))?;
        Ok(wire)
    }

    /// Waits for its end.
    async fn wait(&mut self, wire: u64, budget: &Budget<'_>) -> Result<End, Stop> {
        match self.isolate.attend(budget).await? {
            Event::Result(result) if result.call == wire => received(result, budget.policy),
            Event::Failure { call, run_ns, failure, .. } if call == wire => {
                let run = Duration::from_nanos(run_ns);
                Ok(End { result: Err(*failure), run, copies: Vec::new() })
            }
            _ => Err(Stop::Broke("it said what it may not say now".into())),
        }
    }

    /// What is seen of the process and its files.
    fn facts(&self, policy: &Policy, tier: Tier) -> (Facts, Vec<(String, u64)>, u64) {
        let vitals = Vitals::of(self.isolate.process.id()).unwrap_or_default();
        let mut facts = Facts {
            threads: vitals.threads,
            full: false,
            peak_memory: vitals.peak.saturating_sub(self.resident),
        };
        let session = self.isolate.session.as_ref();
        let Some(session) = session.filter(|_| policy.files.mode == FileMode::ReadWrite) else {
            return (facts, Vec::new(), 0);
        };
        let files = exuvia_jail::session_files(session.as_fd(), MOST_FILES);
        if tier != Tier::Full {
            // It is a folder of the machine's own.
            let bytes = files.iter().map(|(_, bytes)| bytes).sum();
            return (facts, files, bytes);
        }
        let Ok(usage) = exuvia_jail::session_usage(session.as_fd()) else {
            return (facts, files, 0);
        };
        facts.full = usage.bytes >= usage.bytes_limit || usage.inodes >= usage.inodes_limit;
        (facts, files, usage.bytes)
    }
}

fn head(handler: u32, codec: Codec, accept: Codec) -> CallHead {
    CallHead {
        handler,
        codec,
        accept,
        time_left_ms: 0,
        public_id: 0,
        trace: None,
        flags: 0,
        descriptors: 0,
    }
}

/// A result, if it is one that is taken.
fn received(result: IncomingResult, policy: &Policy) -> Result<End, Stop> {
    let run = Duration::from_nanos(result.head.run_ns);
    let payload = hear::received(result.head.codec, result.payload, u64::MAX)
        .map_err(|error| Stop::Broke(format!("it sent memory that is not fit: {error}")))?;
    let size = payload.size();
    if size > policy.result {
        let (resource, limit) = (Resource::Result, policy.result);
        return Ok(End::failed(Failure::Limit { resource, limit, used: Some(size) }));
    }
    Ok(End { result: Ok(payload), run, copies: result.copies })
}

// === impl End ===

impl End {
    fn failed(failure: Failure) -> Self {
        Self { result: Err(failure), run: Duration::ZERO, copies: Vec::new() }
    }
}

/// Whether an isolate is shed after a call that ended so.
fn is_overrun(failure: &Failure) -> bool {
    !matches!(
        failure,
        Failure::Exception { .. }
            | Failure::Input { .. }
            | Failure::Malformed { .. }
            | Failure::Refused { .. }
            | Failure::Result { .. }
            | Failure::Load { .. }
    )
}

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Vitals {
    pub(super) threads: u32,
    /// The most resident memory it had, in bytes.
    pub(super) peak: u64,
}

impl Vitals {
    pub(super) fn of(pid: u32) -> Option<Self> {
        // In one go: the kernel writes all of it anew for each read.
        let mut text = [0; STATUS];
        let file = File::open(format!("/proc/{pid}/status")).ok()?;
        let length = file.read_at(&mut text, 0).ok()?;
        // The first line has a name that the guest may have chosen.
        let text = String::from_utf8_lossy(&text[..length]);
        let number = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let threads = u32::try_from(number("Threads:")?).unwrap_or(u32::MAX);
        Some(Self { threads, peak: number("VmHWM:")?.saturating_mul(1024) })
    }
}

/// What is known of a call from its start.
pub(super) fn diagnostics(shared: &Shared, job: &Job, times: Times) -> Diagnostics {
    let handler = match &job.code {
        Code::Source { entrypoint, .. } => entrypoint.as_deref().unwrap_or("main").to_owned(),
        Code::Bundle(bundle) => format!("{}:{}", bundle.module, bundle.attribute),
    };
    Diagnostics {
        call_id: shared.ids.next().to_string(),
        handler,
        queued_us: micros(times.arrived.elapsed()),
        ..Diagnostics::default()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

// === impl SandboxOutcome ===

impl SandboxOutcome {
    /// Takes in what was printed and refused.
    fn take(&mut self, taken: Taken) {
        let [stdout, stderr] = taken.printed;
        let kept = (stdout.len() + stderr.len()) as u64;
        self.usage.output_bytes = taken.output_bytes;
        self.usage.output_truncated = kept < taken.output_bytes;
        self.usage.denials = taken.denials;
        self.usage.denied = taken.denied;
        (self.stdout, self.stderr) = (stdout, stderr);
    }
}

// === impl Usage ===

impl Usage {
    /// Of a call that has used nothing.
    pub(super) fn none(came: SystemTime, queued: Duration, policy: Policy, tier: Tier) -> Self {
        Self {
            came,
            started: None,
            ended: SystemTime::now(),
            queued,
            wall: Duration::ZERO,
            cpu: Duration::ZERO,
            peak_memory: 0,
            output_bytes: 0,
            output_truncated: false,
            file_bytes: 0,
            files: Vec::new(),
            denials: Vec::new(),
            denied: 0,
            tier,
            on_demand: false,
            fresh: true,
            quarantined: false,
            policy,
        }
    }
}
