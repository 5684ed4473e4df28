//! One isolate: forked, closed in, loaded; then attended to while code runs in it.
//!
//! [`Isolate::attend`] is the one place where limits are kept. It is used while a bundle is imported
//! and while a call runs, and ends with what the guest said, or with why it says nothing any more.

use std::{
    future::pending,
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    sync::OnceLock,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use exuvia_core::{Failure, Policy, Resource};
use exuvia_jail::{Denial, Listener};
use exuvia_protocol::{Claims, Connection, Event, Hello, Limits, Load, Role, Said};
use exuvia_sys::{Process, SharedPage, packet, stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;
use tokio::{
    io::Interest,
    net::{UnixStream, unix::pipe},
    time::{sleep_until, timeout},
};

use super::{
    config::LiveOutput,
    outcome::{Denied, Stop},
};
use crate::{config::Stream, launch::Pipes, output::drain_pipe};

/// How long an isolate may take to close itself in.
const CONFINE_TIME: Duration = Duration::from_secs(10);
/// Bytes asked for in one read.
const READ: usize = 64 << 10;
/// Refusals after which an isolate is ended.
const MOST_DENIALS: u64 = 1000;
/// Different refusals that are kept.
const KEPT_DENIALS: usize = 100;
/// The shortest time between two looks at the clock of a process.
const LOOK: Duration = Duration::from_millis(1);

/// A process that is closed in, and our ends of what it was given.
pub(super) struct Isolate {
    pub(super) process: Process,
    /// Its pidfd, readable when it ends; never read.
    exit: pipe::Receiver,
    stream: UnixStream,
    pub(super) connection: Connection,
    page: SharedPage,
    crash: pipe::Receiver,
    output: [pipe::Receiver; 2],
    /// Whether nothing more can come of each.
    ended: [bool; 2],
    listener: Option<Denials>,
    /// Its `/session`.
    pub(super) session: Option<OwnedFd>,
    /// The same where it is a folder of ours, which goes with the isolate.
    pub(super) session_folder: Option<TempDir>,
    pub(super) baseline: u64,
    pub(super) taken: Taken,
    buffer: Vec<u8>,
    came: Vec<OwnedFd>,
}

/// Where its refused system calls are heard.
struct Denials {
    listener: Listener,
    /// The same descriptor, to be waited for.
    readiness: UnixStream,
}

/// What a guest printed and was refused.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) printed: [Vec<u8>; 2],
    pub(super) output_bytes: u64,
    pub(super) denials: Vec<Denied>,
    pub(super) denied: u64,
}

/// What a guest may use from now on, and who hears what it prints.
pub(super) struct Budget<'a> {
    pub(super) policy: &'a Policy,
    pub(super) began: Instant,
    pub(super) cpu_before: Duration,
    pub(super) live: Option<&'a LiveOutput>,
}

/// The two ends of what an isolate is given.
pub(super) struct Ends {
    pub(super) theirs: Vec<OwnedFd>,
    ours: Ours,
}

struct Ours {
    output: [pipe::Receiver; 2],
    crash: pipe::Receiver,
    stream: UnixStream,
    page: SharedPage,
    report: UnixStream,
}

// === impl Ends ===

impl Ends {
    pub(super) fn new() -> io::Result<Self> {
        let Pipes { ours: [stdout, stderr, crash], theirs } = Pipes::new()?;
        let (ours, their_socket) = StdUnixStream::pair()?;
        let page = SharedPage::create(Claims::words_for(1))?;
        let _ = Claims::format(page.words());
        let their_page = rustix::io::fcntl_dupfd_cloexec(&page, 3)?;
        let (report, their_report) = packet::pair()?;
        let [their_stdout, their_stderr, their_crash] = theirs;
        let theirs = vec![
            their_stdout,
            their_stderr,
            their_socket.into(),
            their_crash,
            their_page,
            their_report,
        ];
        let stream = tokio_stream(ours)?;
        let report = tokio_stream(StdUnixStream::from(report))?;
        let output = [stdout, stderr];
        Ok(Self { theirs, ours: Ours { output, crash, stream, page, report } })
    }

    /// The isolate that `process` has become, once it is closed in.
    pub(super) async fn isolate(
        self,
        process: Process,
        limits: Limits,
        hears: Option<impl FnOnce(OwnedFd) -> Listener>,
    ) -> Result<Isolate, String> {
        drop(self.theirs);
        let words = |error: io::Error| error.to_string();
        let Ours { output, crash, stream, page, report } = self.ours;
        let mut buffer = vec![0; 4096];
        let receive = report.async_io(Interest::READABLE, || packet::receive(&report, &mut buffer));
        let received = timeout(CONFINE_TIME, receive).await;
        let (length, descriptors) = match received {
            Ok(received) => received.map_err(words)?,
            Err(_) => return Err(format!("not closed in within {CONFINE_TIME:?}")),
        };
        if length == 0 {
            return Err("the isolate ended before it was closed in".into());
        }
        // What says this is the image's code still: no guest's has run.
        let baseline = match Said::read(&buffer[..length]) {
            Ok(Said::Confined { baseline }) => baseline,
            Ok(Said::Unconfined { why }) => return Err(why),
            _ => return Err("the isolate said what it may not say now".into()),
        };
        let mut descriptors = descriptors.into_iter();
        let listener = hears.and_then(|hears| descriptors.next().map(hears));
        let listener = listener.map(Denials::new).transpose().map_err(words)?;
        let exit = process.as_fd().try_clone_to_owned().map_err(words)?;
        Ok(Isolate {
            exit: pipe::Receiver::from_owned_fd_unchecked(exit).map_err(words)?,
            process,
            stream,
            connection: Connection::new(Role::Host, limits),
            page,
            crash,
            output,
            ended: [false; 2],
            listener,
            session: descriptors.next(),
            session_folder: None,
            baseline,
            taken: Taken::default(),
            buffer: vec![0; READ],
            came: Vec::new(),
        })
    }
}

fn tokio_stream(socket: StdUnixStream) -> io::Result<UnixStream> {
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

// === impl Isolate ===

impl Isolate {
    /// Tells it what to load.
    pub(super) fn greet(&mut self, limits: Limits, load: Load) -> Result<(), Stop> {
        let hello = Hello { load: Some(load), ..Hello::new(limits) };
        self.connection.hello(&hello).map_err(|error| Stop::Broke(error.to_string()))
    }

    pub(super) fn claims(&self) -> Claims<'_> {
        Claims::of(self.page.words())
    }

    /// The CPU time it has used.
    pub(super) fn cpu(&self) -> Duration {
        exuvia_jail::cpu_time(self.process.id()).unwrap_or_default()
    }

    /// Waits for what it says next, and keeps it to its budget meanwhile.
    pub(super) async fn attend(&mut self, budget: &Budget<'_>) -> Result<Event, Stop> {
        let mut look = Instant::now();
        loop {
            self.hear_output(budget, false)?;
            if Instant::now() >= look {
                look = self.look(budget)?;
            }
            let blocked = self.write()?;
            match self.connection.next_event() {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => return Err(Stop::Broke(error.to_string())),
            }
            tokio::select! {
                biased;
                () = sleep_until(look.into()) => {}
                denial = next_denial(self.listener.as_ref()) => match denial {
                    Ok(denial) => self.taken.deny(denial)?,
                    Err(_) => self.listener = None,
                },
                _ = self.output[0].readable(), if !self.ended[0] => {}
                _ = self.output[1].readable(), if !self.ended[1] => {}
                readable = self.stream.readable() => {
                    if readable.is_err() || !self.read()? {
                        return Err(self.died(budget).await);
                    }
                }
                _ = self.stream.writable(), if blocked => {}
                _ = self.exit.readable() => return Err(self.died(budget).await),
            }
        }
    }

    /// Looks at the clocks; says when to look again.
    fn look(&self, budget: &Budget<'_>) -> Result<Instant, Stop> {
        let Policy { wall, cpu, threads, .. } = budget.policy;
        let now = Instant::now();
        let left = wall.saturating_sub(now - budget.began);
        if left.is_zero() {
            let limit_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
            return Err(Stop::Over(Failure::Timeout { limit_ms, started: true, frames: vec![] }));
        }
        let used = self.cpu().saturating_sub(budget.cpu_before);
        if used >= *cpu {
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let (limit, used) = (millis(*cpu), Some(millis(used)));
            return Err(Stop::Over(Failure::Limit { resource: Resource::Cpu, limit, used }));
        }
        // It cannot use more than all cores until then.
        let soonest = (*cpu - used) / cores().min(*threads).max(1);
        Ok(now + left.min(soonest.max(LOOK)))
    }

    /// Reads what it printed: what tokio knows of, or what is there.
    fn hear_output(&mut self, budget: &Budget<'_>, all: bool) -> Result<(), Stop> {
        for (pipe, number) in self.output.iter().zip([0, 1]) {
            loop {
                let read = match all {
                    true => rustix::io::read(pipe, &mut self.buffer[..]).map_err(io::Error::from),
                    false => pipe.try_read(&mut self.buffer),
                };
                let read = match read {
                    Ok(0) => {
                        self.ended[number] = true;
                        break;
                    }
                    Ok(read) => read,
                    Err(_) => break,
                };
                self.taken.print(number, &self.buffer[..read], budget);
                // It is closed in already: what it prints beyond its limit is not read at all.
                if self.taken.output_bytes > budget.policy.output {
                    let (limit, used) = (budget.policy.output, Some(self.taken.output_bytes));
                    let resource = Resource::Output;
                    return Err(Stop::Over(Failure::Limit { resource, limit, used }));
                }
            }
        }
        Ok(())
    }

    /// Hears what it was refused, as far as that is there.
    fn hear_denials(&mut self) -> Result<(), Stop> {
        let Some(denials) = &self.listener else { return Ok(()) };
        while let Ok(denial) = denials.now() {
            self.taken.deny(denial)?;
        }
        Ok(())
    }

    /// Writes what there is to write; says whether the socket is full.
    fn write(&mut self) -> Result<bool, Stop> {
        while let Some(to_send) = self.connection.to_send() {
            let write = || Ok(stream::write(&self.stream, to_send.bytes, to_send.descriptors)?);
            match self.stream.try_io(Interest::WRITABLE, write) {
                Ok(written) => self.connection.sent(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                // Its end is seen by who reads.
                Err(_) => self.connection.forget_outbound(),
            }
        }
        Ok(false)
    }

    /// Reads what it says; false: there will be no more.
    fn read(&mut self) -> Result<bool, Stop> {
        let (buffer, came) = (&mut self.buffer, &mut self.came);
        let reading = || Ok(stream::read(&self.stream, buffer, came)?);
        match self.stream.try_io(Interest::READABLE, reading) {
            Ok(0) => Ok(false),
            Ok(read) => {
                // It has nothing to send that is no copy of ours, and ours are not without number.
                if !std::mem::take(&mut self.came).is_empty() {
                    return Err(Stop::Broke("it sent descriptors".into()));
                }
                self.connection.inbound().extend_from_slice(&self.buffer[..read]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(_) => Ok(false),
        }
    }

    /// It ended, or closed its socket, which ends it.
    async fn died(&mut self, budget: &Budget<'_>) -> Stop {
        // What it closed by itself it may still be about to leave.
        let is_gone = timeout(Duration::from_millis(100), self.exit.readable()).await.is_ok();
        let ended = self.end().await;
        if let Err(stop) = self.hear_output(budget, true).and_then(|()| self.hear_denials()) {
            return stop;
        }
        if !is_gone {
            // How it ended is our doing.
            return Stop::Broke("it closed its channel".into());
        }
        Stop::Died(ended)
    }

    /// Whether it still runs. Who waits for its end is still told how that was.
    pub(super) fn lives(&self) -> bool {
        self.process.lives()
    }

    /// Ends it, and says how it ended.
    pub(super) async fn end(&mut self) -> exuvia_sys::Ended {
        self.process.kill();
        loop {
            match self.process.try_wait() {
                Ok(Some(ended)) => return ended,
                Err(_) => return exuvia_sys::Ended::Unknown,
                Ok(None) => {}
            }
            if self.exit.readable().await.is_err() {
                return exuvia_sys::Ended::Unknown;
            }
        }
    }

    /// Tells what it has printed so far to who did not hear it.
    pub(super) fn repeat(&self, live: &LiveOutput) {
        for (printed, stream) in self.taken.printed.iter().zip([Stream::Stdout, Stream::Stderr]) {
            if !printed.is_empty() {
                live(stream, printed);
            }
        }
    }

    /// Forgets what it printed and was refused.
    pub(super) fn forget(&mut self) {
        let _ = self.hear_denials();
        self.taken = Taken::default();
    }

    /// Takes in what is there of its output and refusals.
    pub(super) fn gather(&mut self, budget: &Budget<'_>) -> Result<(), Stop> {
        self.hear_output(budget, true)?;
        self.hear_denials()
    }

    /// What its crash handler wrote.
    pub(super) fn crash_report(&self) -> Vec<u8> {
        let mut report = Vec::new();
        drain_pipe(&self.crash, &mut report);
        report
    }
}

/// How many cores there are. Asking reads files of cgroups, so it is done once.
fn cores() -> u32 {
    static CORES: OnceLock<u32> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, |cores| cores.get() as u32))
}

/// Waits for the next refusal.
async fn next_denial(denials: Option<&Denials>) -> io::Result<Denial> {
    let Some(denials) = denials else { return pending().await };
    loop {
        denials.readiness.readable().await?;
        let heard = denials.readiness.try_io(Interest::READABLE, || denials.now());
        match heard {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            heard => return heard,
        }
    }
}

// === impl Denials ===

impl Denials {
    fn new(listener: Listener) -> io::Result<Self> {
        // Tokio offers no safe way to watch a descriptor but as one of its own kinds; nothing is
        // ever read from or written to this one.
        let watched = StdUnixStream::from(listener.as_fd().try_clone_to_owned()?);
        Ok(Self { readiness: tokio_stream(watched)?, listener })
    }

    /// The next refusal that is there.
    fn now(&self) -> io::Result<Denial> {
        loop {
            if let Some(denial) = self.listener.next()? {
                return Ok(denial);
            }
            let mut state = [PollFd::new(&self.listener, PollFlags::IN)];
            poll(&mut state, Some(&Timespec::default()))?;
            let state = state[0].revents();
            // There will be none when all of its threads are gone; to tokio that is readable too.
            if state.contains(PollFlags::HUP) {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if !state.contains(PollFlags::IN) {
                return Err(ErrorKind::WouldBlock.into());
            }
        }
    }
}

// === impl Taken ===

impl Taken {
    fn print(&mut self, number: usize, bytes: &[u8], budget: &Budget<'_>) {
        let room = budget.policy.output.saturating_sub(self.output_bytes);
        self.output_bytes += bytes.len() as u64;
        let kept = &bytes[..bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        self.printed[number].extend_from_slice(kept);
        if let Some(live) = budget.live
            && !kept.is_empty()
        {
            let stream = if number == 0 { Stream::Stdout } else { Stream::Stderr };
            live(stream, kept);
        }
    }

    fn deny(&mut self, denial: Denial) -> Result<(), Stop> {
        // The first process of a namespace does not die of that; any other would.
        if let Some(signal) = denial.raised() {
            return Err(Stop::Raised(signal));
        }
        self.denied += 1;
        let (what, path) = (denial.name.to_string(), denial.path);
        let is_full = self.denials.len() >= KEPT_DENIALS;
        match self.denials.last_mut() {
            Some(last) if last.what == what && last.path == path => last.count += 1,
            // The last one says what it is about now.
            Some(last) if is_full => *last = Denied { what, path, count: 1 },
            _ => self.denials.push(Denied { what, path, count: 1 }),
        }
        match self.denials.last() {
            Some(last) if self.denied >= MOST_DENIALS => {
                Err(Stop::Over(Failure::Denied { what: last.words(), count: self.denied }))
            }
            _ => Ok(()),
        }
    }
}
