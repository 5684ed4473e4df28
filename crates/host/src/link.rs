//! One worker's life: start it, speak with it, bury it, start the next.

use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use exuvia_protocol::{Connection, Hello, Limits, Role, STACKS_SIGNAL};
use exuvia_sys::{RssMeter, stream};
use rustix::io::Errno;
use tokio::{
    io::{AsyncReadExt, Interest},
    net::{UnixStream, unix::pipe},
    sync::Notify,
    time::{sleep, timeout},
};

use crate::{
    child::Child,
    config::StartError,
    dispatch::AHEAD_CALLS,
    keeper::{Limits as OwnLimits, Retire},
    launch::{self, Launched},
    output::drain_pipe,
    settle::Death,
    state::{Phase, Shared, Started, State, Worker},
};

/// Bytes asked for in one read.
const READ: usize = 32 << 10;
/// Reads before others have their turn, however much there is.
const READS: usize = 4;
/// Reads of the last words of a worker, at most: more than a socket holds.
const LAST_READS: usize = 256;
/// Bytes that a worker may make us write (answers to its own calls, credit) without reading them.
const MOST_OWED: usize = 1 << 20;
/// Bytes of a crash report that are kept.
const REPORT: usize = 256 << 10;
/// A worker that got ready, was given no call and ended within this counts as one that failed to
/// start.
const SOON: Duration = Duration::from_secs(1);
/// How long the stacks may take.
const STACKS_TIME: Duration = Duration::from_millis(200);
/// When nothing more comes for so long the stacks are complete.
const STACKS_QUIET: Duration = Duration::from_millis(30);
/// A worker that closed its socket has so long to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// One worker from start to burial. Says whether it was of use.
pub(crate) async fn live(shared: Arc<Shared>) -> bool {
    let slots = shared.config.concurrency.max(1).saturating_add(AHEAD_CALLS);
    let slots = u16::try_from(slots).unwrap_or(u16::MAX);
    let launched = launch::worker(&shared, slots).await;
    let link = match launched {
        Ok(launched) => Link::new(shared.clone(), launched, slots).map_err(|error| {
            tracing::error!(%error, "a worker could not be set up");
            StartError::Io(error)
        }),
        Err(error) => {
            let python = shared.config.python.display();
            if !*shared.halted.borrow() {
                tracing::error!(%error, %python, "no worker can be made");
            }
            Err(StartError::Python { message: format!("cannot run {python}: {error}") })
        }
    };
    shared.lock().crew.launching -= 1;
    match link {
        Ok(link) => link.run().await,
        Err(error) => {
            shared.start_failed(error);
            false
        }
    }
}

/// The host's end of one worker.
pub(crate) struct Link {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: u64,
    child: Child,
    stream: UnixStream,
    crash: pipe::Receiver,
    wake: Arc<Notify>,
    pub(crate) began: Instant,
    pub(crate) got_ready: Option<Instant>,
    /// It has stopped speaking: what is still read are its last words.
    pub(crate) leaving: bool,
    /// It left because another has its place, with nothing running in it.
    retired: bool,
    /// Bytes that it made us write since it last read all of them.
    owed: usize,
    /// What is read goes here first.
    buffer: Vec<u8>,
    /// Descriptors that came with it.
    came: Vec<OwnedFd>,
}

/// Why a link stopped speaking.
pub(crate) enum Stop {
    /// The process ended, or closed its socket.
    Gone,
    /// It said something it may not.
    Broke(String),
    /// The warden condemned it.
    Condemned,
    /// The pool is stopped.
    Stopped,
    /// Another has its place, and nothing runs in it.
    Retired,
}

impl Link {
    fn new(shared: Arc<Shared>, launched: Launched, slots: u16) -> io::Result<Self> {
        let limits = Limits {
            max_payload: shared.config.max_payload.max(Limits::default().max_payload),
            ..Limits::default()
        };
        let mut connection = Connection::new(Role::Host, limits);
        let hello = Hello { load: Some(launched.load), ..Hello::new(limits) };
        connection.hello(&hello).map_err(io::Error::other)?;
        let id = {
            let mut state = shared.lock();
            state.next_worker += 1;
            state.next_worker - 1
        };
        // Whatever can fail comes before the worker is put on the books.
        let pid = launched.process.id();
        let output = [launched.stdout, launched.stderr];
        let child = Child::new(launched.process, output, id, &shared.config)?;
        let wake = Arc::new(Notify::new());
        let rss_meter = RssMeter::open(pid)?;
        let began = Instant::now();
        let worker = |metrics| Worker {
            pid,
            phase: Phase::Starting,
            connection,
            page: launched.page,
            wake: wake.clone(),
            slots: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            in_flight: 0,
            in_flight_async: 0,
            in_flight_streams: 0,
            handed: 0,
            backlog_ns: 0,
            unheard: None,
            turns: 0,
            stalled: false,
            active: false,
            retire: None,
            limits: OwnLimits::default(),
            calls: 0,
            began,
            start: launched.start,
            rss_meter,
            rss_at: began,
            metrics,
            numbers: Vec::new(),
        };
        {
            let mut state = shared.lock();
            let metrics = shared.config.metrics.pool.worker(&id.to_string());
            state.workers.insert(id, worker(metrics));
            state.gauge();
        }
        tracing::debug!(worker = id, pid, "worker started");
        Ok(Self {
            id,
            child,
            stream: launched.stream,
            crash: launched.crash,
            wake,
            began,
            got_ready: None,
            leaving: false,
            retired: false,
            owed: 0,
            buffer: vec![0; READ],
            came: Vec::new(),
            shared: shared.clone(),
        })
    }

    async fn run(mut self) -> bool {
        let stop = self.speak().await;
        self.leave();
        let mut broke = None;
        match stop {
            Stop::Gone => {
                if timeout(LAST_WORDS, self.child.exit.readable()).await.is_err() {
                    broke = Some("it closed its socket and lived on".into());
                }
            }
            Stop::Broke(what) => broke = Some(what),
            Stop::Condemned => {}
            Stop::Stopped => self.dismiss().await,
            Stop::Retired => {
                self.retired = true;
                self.dismiss().await;
            }
        }
        let mut report = Vec::new();
        if matches!(self.phase(), Some(Phase::Condemned { .. })) {
            report = self.stacks().await;
        }
        self.child.process.kill();
        let ended = self.child.ended().await;
        if broke.is_none() {
            self.last_words();
        }
        drain_pipe(&self.crash, &mut report);
        self.child.finish_output().await;
        self.bury(Death { ended, broke, report, got_ready: self.got_ready.is_some() })
    }

    /// Nothing more goes into this worker, and what it has not begun it will not begin.
    fn leave(&mut self) {
        self.leaving = true;
        let mut state = self.shared.lock();
        let Some(worker) = state.workers.get_mut(&self.id) else { return };
        if worker.hears() {
            worker.phase = Phase::Leaving;
        }
        let back = worker.revoke_all(|_| true);
        self.shared.put_back(&mut state, back);
        self.shared.assign(&mut state);
        self.shared.dispatch(&mut state);
        self.shared.keeper.notify_one();
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
            if !blocked {
                self.owed = 0;
            }
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                readable = self.stream.readable() => {
                    if readable.is_err() {
                        return Stop::Gone;
                    }
                    match self.read() {
                        Ok(false) => {}
                        // There is more, but others have their turn first.
                        Ok(true) => tokio::task::yield_now().await,
                        Err(stop) => return stop,
                    }
                }
                _ = self.stream.writable(), if blocked => {}
                _ = self.child.exit.readable() => return Stop::Gone,
                () = &mut start_limit, if self.got_ready.is_none() => {
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
            if worker.in_flight > 0 || self.got_ready.is_none() {
                return;
            }
            worker.connection.drain();
        }
        // One that does not read is killed.
        let _ = timeout(LAST_WORDS, async {
            while matches!(self.write_out(), Ok(true)) {
                tokio::select! {
                    _ = self.child.exit.readable() => return,
                    _ = self.stream.writable() => {}
                }
            }
            drop(self.child.exit.readable().await);
        })
        .await;
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
        // What there is still to write is nothing that it needs: it may not even read.
        if worker.in_flight == 0 && matches!(worker.phase, Phase::Retiring) {
            return Err(Stop::Retired);
        }
        drop(state);
        self.write_out()
    }

    /// The same, whatever it may be for.
    fn write_out(&self) -> Result<bool, Stop> {
        let mut state = self.shared.lock();
        let Some(worker) = state.workers.get_mut(&self.id) else { return Err(Stop::Condemned) };
        loop {
            let Some(to_send) = worker.connection.to_send() else { return Ok(false) };
            let write = || Ok(stream::write(&self.stream, to_send.bytes, to_send.descriptors)?);
            match self.stream.try_io(Interest::WRITABLE, write) {
                Ok(written) => worker.connection.sent(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(_) => return Err(Stop::Gone),
            }
        }
    }

    /// Reads what there is to read, up to a measure, and does what it says. Says whether there may
    /// be more.
    fn read(&mut self) -> Result<bool, Stop> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        for _ in 0..READS {
            let Some(worker) = state.workers.get_mut(&self.id) else { return Err(Stop::Condemned) };
            let (buffer, came) = (&mut self.buffer, &mut self.came);
            let reading = || Ok(stream::read(&self.stream, buffer, came)?);
            let read = match self.stream.try_io(Interest::READABLE, reading) {
                Ok(0) => return Err(Stop::Gone),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                    let what = "its descriptors could not all be taken: more than a frame has, or \
                                too many are open here";
                    return Err(Stop::Broke(what.into()));
                }
                Err(_) => return Err(Stop::Gone),
            };
            worker.connection.inbound().extend_from_slice(&self.buffer[..read]);
            self.take_descriptors(&mut state)?;
            self.digest(&mut state)?;
            shared.dispatch(&mut state);
            if read < READ {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads what a dead worker said before it died: that counts. It does not ask tokio, which may
    /// not have been told yet that there is something.
    fn last_words(&mut self) {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        for _ in 0..LAST_READS {
            let read = match stream::read(&self.stream, &mut self.buffer, &mut self.came) {
                Ok(0) => return,
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            let Some(worker) = state.workers.get_mut(&self.id) else { return };
            worker.connection.inbound().extend_from_slice(&self.buffer[..read]);
            let digested = self.take_descriptors(&mut state).and_then(|()| self.digest(&mut state));
            if let Err(stop) = digested {
                if let Stop::Broke(what) = stop {
                    tracing::warn!(worker = self.id, what, "last words were cut short");
                }
                return;
            }
        }
    }

    fn take_descriptors(&mut self, state: &mut State) -> Result<(), Stop> {
        let Some(worker) = state.workers.get_mut(&self.id) else { return Ok(()) };
        if self.came.is_empty() {
            return Ok(());
        }
        let came = std::mem::take(&mut self.came);
        worker.connection.descriptors(came).map_err(|error| Stop::Broke(error.to_string()))
    }

    fn unwritten(&self, state: &State) -> usize {
        state.workers.get(&self.id).map_or(0, |worker| worker.connection.unwritten())
    }

    /// Does what has been read.
    fn digest(&mut self, state: &mut State) -> Result<(), Stop> {
        let before = self.unwritten(state);
        while let Some(event) = self.next_event(state)? {
            self.hear(state, event)?;
        }
        self.owed += self.unwritten(state).saturating_sub(before);
        if self.owed > MOST_OWED {
            return Err(Stop::Broke("it opens calls and does not read the answers".into()));
        }
        Ok(())
    }

    /// Asks a worker that does not answer where its threads are.
    async fn stacks(&mut self) -> Vec<u8> {
        let mut report = Vec::new();
        self.child.process.signal_number(STACKS_SIGNAL);
        let end = Instant::now() + STACKS_TIME;
        let mut buffer = vec![0; 16 << 10];
        loop {
            let quiet = if report.is_empty() { STACKS_TIME } else { STACKS_QUIET };
            let wait = quiet.min(end.saturating_duration_since(Instant::now()));
            match timeout(wait, self.crash.read(&mut buffer)).await {
                Ok(Ok(read)) if read > 0 && report.len() < REPORT => {
                    report.extend_from_slice(&buffer[..read]);
                }
                _ => return report,
            }
        }
    }

    /// Takes it off the books; says whether it was of use.
    fn bury(&self, death: Death) -> bool {
        let mut state = self.shared.lock();
        let Some(worker) = state.workers.get(&self.id) else { return false };
        let served = worker.handed > 0;
        if state.stopped {
            tracing::debug!(worker = self.id, "worker stopped");
        } else if let Some(why) = worker.retire.filter(|_| self.retired) {
            self.say_retired(why, worker.calls);
        } else {
            let reason = death.reason(&worker.phase);
            let words = match &worker.phase {
                Phase::Condemned { reason, .. } => format!("the worker was killed: {reason}"),
                _ => death.words(),
            };
            let pid = self.child.process.id();
            tracing::warn!(worker = self.id, pid, reason, "{words}; starting another");
            self.shared.config.metrics.pool.restarts(reason).inc();
            if self.got_ready.is_none() {
                let message = format!("{words} before the handlers were imported");
                self.shared.start_failed(StartError::Python { message });
            }
        }
        self.shared.settle(&mut state, self.id, &death);
        self.retired || self.got_ready.is_some_and(|since| served || since.elapsed() >= SOON)
    }
}

impl Link {
    fn say_retired(&self, why: Retire, calls: u64) {
        let pid = self.child.process.id();
        let why_words = why.words(&self.shared.config.recycle);
        if let Some(reason) = why.reason() {
            tracing::info!(worker = self.id, pid, reason, calls, "replaced: {why_words}");
            self.shared.config.metrics.pool.restarts(reason).inc();
        } else {
            tracing::info!(worker = self.id, pid, calls, "ended: {why_words}");
        }
    }
}

impl Shared {
    /// Tells whoever waits for the pool's start that it failed; later failures are only logged.
    pub(crate) fn start_failed(&self, error: StartError) {
        self.started.send_if_modified(|started| {
            let first = matches!(started, Started::Waiting);
            if first {
                *started = Started::Failed(Some(error));
            }
            first
        });
    }
}
