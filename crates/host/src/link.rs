//! One worker's life: start it, speak with it, bury it, start the next.

use std::{
    io::{self, ErrorKind},
    os::fd::AsFd,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use exuvia_core::{Failure, spec::Source};
use exuvia_protocol::{
    Connection, Event, Hello, Limits, Load, LoadTarget, ProtocolError, Ready, Role,
};
use exuvia_sys::{Ended, Process};
use tokio::{
    io::AsyncReadExt,
    net::{UnixStream, unix::pipe},
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    config::{PoolConfig, StartError, Stream},
    launch::{Launched, launch},
    output::{self, Lines, lock},
    settle::Death,
    state::{Because, Cancel, Handler, Phase, Shared, Started, State, Worker},
};

/// Slots of a worker at least: how many quick sync calls it can be given ahead.
const SLOTS_LEAST: u32 = 64;
/// Bytes asked for in one read.
const READ: usize = 32 << 10;
/// Asks a worker for the stacks of all its threads: `SIGRTMAX - 3`.
const STACKS_SIGNAL: i32 = 61;
/// How long the stacks may take.
const STACKS_TIME: Duration = Duration::from_millis(200);
/// When nothing more comes for so long the stacks are complete.
const STACKS_QUIET: Duration = Duration::from_millis(30);
/// A worker that closed its socket has so long to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Waits between attempts to start a worker that does not get ready.
const BACKOFF: [u64; 7] = [0, 100, 200, 500, 1_000, 3_000, 10_000];

/// Keeps one place of the pool filled until the pool is stopped.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut failures = 0;
    loop {
        if shared.lock().stopped {
            return;
        }
        let got_ready = live(&shared).await;
        failures = if got_ready { 0 } else { failures + 1 };
        let wait = BACKOFF[failures.min(BACKOFF.len() - 1)];
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
    }
}

/// One worker from start to burial. Says whether it ever took calls.
async fn live(shared: &Arc<Shared>) -> bool {
    let slots = u16::try_from(shared.config.concurrency.max(SLOTS_LEAST)).unwrap_or(u16::MAX);
    match launch(&shared.config, slots).await {
        Ok(launched) => match Link::new(shared.clone(), launched, slots) {
            Ok(link) => link.run().await,
            Err(error) => {
                tracing::error!(%error, "a worker could not be set up");
                shared.start_failed(StartError::Io(error));
                false
            }
        },
        Err(error) => {
            tracing::error!(%error, python = %shared.config.python.display(), "python does not start");
            let message = format!("cannot run {}: {error}", shared.config.python.display());
            shared.start_failed(StartError::Python { message });
            false
        }
    }
}

/// The host's end of one worker.
struct Link {
    shared: Arc<Shared>,
    id: u64,
    process: Process,
    /// The process's pidfd, which becomes readable when it ends and stays so. Tokio offers no safe
    /// way to watch a descriptor but this one; nothing is ever read from it.
    exit: pipe::Receiver,
    stream: UnixStream,
    crash: pipe::Receiver,
    wake: Arc<Notify>,
    output: [(JoinHandle<()>, Arc<Mutex<Lines>>); 2],
    began: Instant,
    got_ready: bool,
}

/// Why a link stopped speaking.
enum Stop {
    /// The process ended, or closed its socket.
    Gone,
    /// It said something it may not.
    Broke(String),
    /// The warden condemned it.
    Condemned,
    /// The pool is stopped.
    Stopped,
}

impl Link {
    fn new(shared: Arc<Shared>, launched: Launched, slots: u16) -> io::Result<Self> {
        let limits = Limits {
            max_payload: shared.config.max_payload.max(Limits::default().max_payload),
            ..Limits::default()
        };
        let mut connection = Connection::new(Role::Host, limits);
        let hello = Hello { load: Some(load(&shared.config)), ..Hello::new(limits) };
        connection.hello(&hello).map_err(io::Error::other)?;
        let pid = launched.process.id();
        let wake = Arc::new(Notify::new());
        let worker = Worker {
            pid,
            phase: Phase::Starting,
            connection,
            page: launched.page,
            wake: wake.clone(),
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            in_flight: 0,
            backlog_ns: 0,
            progress: Instant::now(),
            stalled: false,
            numbers: Vec::new(),
        };
        let id = {
            let mut state = shared.lock();
            let id = state.next_worker;
            state.next_worker += 1;
            state.workers.insert(id, worker);
            state.gauge();
            id
        };
        tracing::debug!(worker = id, pid, "worker started");
        let config = &shared.config;
        let read = |pipe, stream| {
            let lines = Lines::new(id, stream, config.max_output, config.output.clone());
            let lines = Arc::new(Mutex::new(lines));
            (tokio::spawn(output::read(pipe, lines.clone())), lines)
        };
        Ok(Self {
            id,
            exit: pipe::Receiver::from_owned_fd_unchecked(
                launched.process.as_fd().try_clone_to_owned()?,
            )?,
            process: launched.process,
            stream: launched.stream,
            crash: launched.crash,
            wake,
            output: [read(launched.stdout, Stream::Stdout), read(launched.stderr, Stream::Stderr)],
            began: Instant::now(),
            got_ready: false,
            shared: shared.clone(),
        })
    }

    async fn run(mut self) -> bool {
        let stop = self.speak().await;
        let mut broke = None;
        match stop {
            Stop::Gone => {
                let _ = timeout(LAST_WORDS, self.exit.readable()).await.map(drop);
            }
            Stop::Broke(what) => broke = Some(what),
            Stop::Condemned => {}
            Stop::Stopped => self.dismiss().await,
        }
        let mut report = Vec::new();
        if matches!(self.phase(), Some(Phase::Condemned { .. })) {
            report = self.stacks().await;
        }
        self.process.kill();
        let ended = self.wait().await;
        // What it said before it died counts.
        if broke.is_none()
            && let Err(Stop::Broke(what)) = self.read()
        {
            tracing::warn!(worker = self.id, what, "last words were cut short");
        }
        drain_pipe(&mut self.crash, &mut report);
        self.finish_output().await;
        self.bury(Death { ended, broke, report });
        self.got_ready
    }

    fn phase(&self) -> Option<Phase> {
        self.shared.lock().workers.get(&self.id).map(|worker| worker.phase.clone())
    }

    /// Reads and writes until something ends it.
    async fn speak(&mut self) -> Stop {
        let start_limit = sleep(self.shared.config.start_timeout);
        tokio::pin!(start_limit);
        loop {
            let blocked = match self.write() {
                Ok(blocked) => blocked,
                Err(stop) => return stop,
            };
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                readable = self.stream.readable() => {
                    if readable.is_err() {
                        return Stop::Gone;
                    }
                    if let Err(stop) = self.read() {
                        return stop;
                    }
                }
                _ = self.stream.writable(), if blocked => {}
                _ = self.exit.readable() => return Stop::Gone,
                () = &mut start_limit, if !self.got_ready => {
                    let limit = self.shared.config.start_timeout;
                    let message = format!("the handlers were not imported within {limit:?}");
                    self.shared.start_failed(StartError::Python { message });
                    return Stop::Broke("it did not get ready in time".into());
                }
            }
        }
    }

    /// Lets a worker that has nothing to do end by itself, so that its exit handlers run.
    async fn dismiss(&mut self) {
        {
            let mut state = self.shared.lock();
            let Some(worker) = state.workers.get_mut(&self.id) else { return };
            if worker.in_flight > 0 || !matches!(worker.phase, Phase::Ready) {
                return;
            }
            worker.connection.drain();
            // A full socket means that the worker does not read: it is killed.
            let _ = self.stream.try_write(worker.connection.outbound());
        }
        let _ = timeout(LAST_WORDS, self.exit.readable()).await.map(drop);
    }

    /// Writes what there is to write; says whether the socket is full.
    fn write(&self) -> Result<bool, Stop> {
        let mut state = self.shared.lock();
        let stopped = state.stopped;
        let Some(worker) = state.workers.get_mut(&self.id) else { return Err(Stop::Condemned) };
        if matches!(worker.phase, Phase::Condemned { .. }) {
            return Err(Stop::Condemned);
        }
        if stopped {
            return Err(Stop::Stopped);
        }
        loop {
            let outbound = worker.connection.outbound();
            if outbound.is_empty() {
                return Ok(false);
            }
            match self.stream.try_write(outbound) {
                Ok(written) => bytes::Buf::advance(outbound, written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(_) => return Err(Stop::Gone),
            }
        }
    }

    /// Reads what there is to read and does what it says.
    fn read(&mut self) -> Result<(), Stop> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        loop {
            let Some(worker) = state.workers.get_mut(&self.id) else { return Err(Stop::Condemned) };
            let inbound = worker.connection.inbound();
            inbound.reserve(READ);
            let read = match self.stream.try_read_buf(inbound) {
                Ok(0) => return Err(Stop::Gone),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(Stop::Gone),
            };
            while let Some(event) = self.next_event(&mut state)? {
                self.hear(&mut state, event)?;
            }
            shared.dispatch(&mut state);
            if read < READ {
                return Ok(());
            }
        }
    }

    fn next_event(&self, state: &mut State) -> Result<Option<Event>, Stop> {
        let Some(worker) = state.workers.get_mut(&self.id) else { return Ok(None) };
        worker.connection.next_event().map_err(|error| {
            if matches!(error, ProtocolError::Version { .. }) {
                let message = error.to_string();
                self.shared.start_failed(StartError::Runtime { message });
            }
            Stop::Broke(error.to_string())
        })
    }

    fn hear(&mut self, state: &mut State, event: Event) -> Result<(), Stop> {
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
        self.got_ready = true;
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
        if let Some(worker) = state.workers.get_mut(&self.id) {
            worker.phase = Phase::Ready;
            worker.numbers = numbers;
            tracing::debug!(worker = self.id, pid = worker.pid, took_ms, "worker ready");
        }
        state.gauge();
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
        worker.progress = Instant::now();
        worker.stalled = false;
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
        Ok(())
    }

    /// Asks a worker that does not answer where its threads are.
    async fn stacks(&mut self) -> Vec<u8> {
        let mut report = Vec::new();
        self.process.signal_number(STACKS_SIGNAL);
        let end = Instant::now() + STACKS_TIME;
        let mut buffer = vec![0; 16 << 10];
        loop {
            let quiet = if report.is_empty() { STACKS_TIME } else { STACKS_QUIET };
            let wait = quiet.min(end.saturating_duration_since(Instant::now()));
            match timeout(wait, self.crash.read(&mut buffer)).await {
                Ok(Ok(read)) if read > 0 => report.extend_from_slice(&buffer[..read]),
                _ => return report,
            }
        }
    }

    /// Waits for the process, which was killed.
    async fn wait(&self) -> Ended {
        loop {
            match self.process.try_wait() {
                Ok(Some(ended)) => return ended,
                // Somebody else reaped it: all that is known is that it is gone.
                Err(_) => return Ended::Exited(-1),
                Ok(None) => {}
            }
            if self.exit.readable().await.is_err() {
                return Ended::Exited(-1);
            }
        }
    }

    /// Prints what is still in the pipes. Grandchildren may hold them open: nobody waits for those.
    async fn finish_output(&mut self) {
        for (reader, lines) in &mut self.output {
            let _ = timeout(Duration::from_millis(100), &mut *reader).await;
            reader.abort();
            lock(lines).finish();
        }
    }

    fn bury(&self, death: Death) {
        let mut state = self.shared.lock();
        let Some(phase) = state.workers.get(&self.id).map(|worker| worker.phase.clone()) else {
            return;
        };
        if state.stopped {
            tracing::debug!(worker = self.id, "worker stopped");
        } else {
            let reason = death.reason(&phase);
            let words = death.words();
            let pid = self.process.id();
            tracing::warn!(worker = self.id, pid, reason, "{words}; starting another");
            self.shared.config.metrics.pool.restarts(reason).inc();
            if !self.got_ready {
                let message = format!("{words} before the handlers were imported");
                self.shared.start_failed(StartError::Python { message });
            }
        }
        self.shared.settle(&mut state, self.id, &death);
    }
}

impl Shared {
    /// Tells whoever waits for the pool's start that it failed; later failures are only logged.
    fn start_failed(&self, error: StartError) {
        self.started.send_if_modified(|started| {
            let first = matches!(started, Started::Waiting);
            if first {
                *started = Started::Failed(Some(error));
            }
            first
        });
    }
}

impl Handler {
    fn new(info: exuvia_core::HandlerInfo, config: &PoolConfig) -> Self {
        let name = info.target();
        Self {
            timeout: config.handler_timeouts.get(&name).copied().unwrap_or(config.timeout),
            metrics: config.metrics.pool.handler(&name),
            usual_ns: None,
            info: Arc::new(info),
            name,
        }
    }
}

/// What the workers of a pool import.
fn load(config: &PoolConfig) -> Load {
    let mut search_path = Vec::new();
    let mut targets = Vec::new();
    for target in &config.targets {
        let (folder, module, file) = match &target.source {
            Source::Module(module) => (config.working_dir.clone(), module.clone(), None),
            Source::Path(path) => {
                let folder = path.parent().unwrap_or(&config.working_dir).to_owned();
                let stem = path.file_stem().unwrap_or_default();
                let file = path.to_string_lossy().into_owned();
                (folder, stem.to_string_lossy().into_owned(), Some(file))
            }
        };
        let folder = folder.to_string_lossy().into_owned();
        if !search_path.contains(&folder) {
            search_path.push(folder);
        }
        targets.push(LoadTarget { module, file, attribute: target.attribute.clone() });
    }
    Load { search_path, targets, concurrency: config.concurrency }
}

/// Reads what is in a pipe without waiting.
fn drain_pipe(pipe: &mut pipe::Receiver, into: &mut Vec<u8>) {
    const MOST: usize = 256 << 10;
    let mut buffer = [0; 4096];
    while into.len() < MOST {
        match pipe.try_read(&mut buffer) {
            Ok(read) if read > 0 => into.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
}
