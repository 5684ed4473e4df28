//! The pool's zygote: made, asked for workers, made again when it dies (`docs/processes.md`).

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use exuvia_core::Failure;
use exuvia_protocol::{Hello, ProtocolError, Report, Said, zygote::FORK};
use exuvia_sys::{Process, packet};
use tokio::{
    io::Interest,
    net::{UnixStream, unix::pipe},
    sync::{mpsc, oneshot},
    time::{sleep, timeout, timeout_at},
};

use crate::{
    child::Child,
    config::{StartError, StartMethod},
    image::Source,
    launch, nursery,
    output::drain_pipe,
    settle, stacks,
    state::Shared,
};

/// A fork takes milliseconds; a zygote that does not answer for so long is replaced.
const FORK_TIME: Duration = Duration::from_secs(10);
/// One that has forked and cannot now (the machine is full) is replaced after so long.
const REFUSING: Duration = Duration::from_secs(10);
/// A zygote that was told that the host is done may take so long to end.
const END_TIME: Duration = Duration::from_millis(500);
/// Items that may be left out one after the other before workers are started afresh instead.
const MOST_LEFT_OUT: usize = 16;
/// Zygotes that may die one after the other without a fork before workers are started afresh.
const PATIENCE: usize = 3;
/// Waits before another attempt at an image that did not come to be.
const BACKOFF: [u64; 6] = [0, 100, 500, 2_000, 10_000, 30_000];

/// Asks for forks.
#[derive(Clone, Debug)]
pub(crate) struct Handle(mpsc::Sender<Request>);

#[derive(Debug)]
struct Request {
    descriptors: Vec<OwnedFd>,
    reply: oneshot::Sender<io::Result<Process>>,
}

/// A zygote process and our ends of what it was given.
struct Zygote {
    child: Child,
    control: UnixStream,
    crash: pipe::Receiver,
    began: Instant,
    imports: Vec<(String, Duration)>,
    has_forked: bool,
    /// Since when it has not been able to fork.
    refusing: Option<Instant>,
}

/// How the making of an image ended.
enum Made {
    Ready(Box<(Zygote, Report)>),
    /// An item started threads.
    Threads {
        item: String,
        threads: Vec<String>,
    },
    /// A module to preload does not import, or a warm function raised.
    Refused(Failure),
    Lost(StartError),
}

/// How a ready zygote ended.
enum Over {
    Lost(String),
    /// It lives and cannot fork.
    CannotFork(String),
}

/// Keeps the pool's image there until the pool is stopped.
pub(crate) async fn keep(shared: Arc<Shared>) {
    if shared.config.image.start == StartMethod::Spawn {
        return;
    }
    let mut halted = shared.halted.subscribe();
    tokio::select! {
        // A zygote has nothing to finish: it is dropped, which ends it.
        _ = halted.wait_for(|halted| *halted) => {}
        () = keep_made(&shared) => {}
    }
}

async fn keep_made(shared: &Shared) {
    let mut failures = 0;
    loop {
        match Zygote::make(shared).await {
            Made::Ready(ready) => {
                let (mut zygote, report) = *ready;
                let over = zygote.serve(shared, report).await;
                // One that never forked counts as one that did not come to be.
                failures = if zygote.has_forked { 0 } else { failures + 1 };
                match over {
                    Over::Lost(words) if failures < PATIENCE => {
                        tracing::warn!("{words}; making another image");
                        continue;
                    }
                    Over::Lost(words) => shared.without_image(&words),
                    Over::CannotFork(why) => return shared.spawn_instead(why),
                }
            }
            Made::Threads { item, threads } => {
                let threads = threads.join(", ");
                let left_out = shared.image().status.left_out;
                if item.is_empty() {
                    let why = format!("Python itself has more than one thread ({threads})");
                    return shared.spawn_instead(why);
                }
                if left_out.len() >= MOST_LEFT_OUT {
                    return shared.spawn_instead("too many imports start threads".into());
                }
                if left_out.iter().any(|(known, _)| *known == item) {
                    let why =
                        format!("{item} starts a thread ({threads}), also where it is left out");
                    return shared.spawn_instead(why);
                }
                tracing::debug!(item, threads, "left out of the image");
                let why = format!("it starts a thread ({threads})");
                shared.publish(Source::Warming, |status| status.left_out.push((item, why)));
                continue;
            }
            Made::Refused(failure) => {
                let message = failure.to_string();
                shared.start_failed(StartError::Load(failure));
                failures += 1;
                shared.without_image(&message);
            }
            Made::Lost(error) => {
                failures += 1;
                shared.without_image(&error.to_string());
            }
        }
        sleep(Duration::from_millis(BACKOFF[failures.min(BACKOFF.len() - 1)])).await;
    }
}

// === impl Handle ===

impl Handle {
    /// Forks a worker that gets `descriptors`.
    pub(crate) async fn fork(&self, descriptors: Vec<OwnedFd>) -> io::Result<Process> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the zygote is gone");
        let (reply, forked) = oneshot::channel();
        self.0.send(Request { descriptors, reply }).await.map_err(|_| gone())?;
        forked.await.map_err(|_| gone())?
    }
}

// === impl Zygote ===

impl Zygote {
    /// Starts a zygote and waits until its imports are done.
    async fn make(shared: &Shared) -> Made {
        let mut zygote = match Self::start(shared).await {
            Ok(zygote) => zygote,
            Err(error) => {
                let python = shared.config.python.display();
                let message = format!("cannot run {python}: {error}");
                return Made::Lost(StartError::Python { message });
            }
        };
        let made = match timeout(shared.config.start_timeout, zygote.warm()).await {
            Ok(Ok(Said::Ready(report))) => return Made::Ready(Box::new((zygote, report))),
            Ok(Ok(Said::Threads { item, threads })) => Made::Threads { item, threads },
            Ok(Ok(Said::Failed(failure))) => Made::Refused(failure),
            Ok(Ok(_)) => Made::Lost(StartError::Python {
                message: "the zygote said what it may not say now".into(),
            }),
            Ok(Err(error)) => Made::Lost(error),
            Err(_) => {
                let limit = shared.config.start_timeout;
                let message = format!("the image was not ready within {limit:?}");
                Made::Lost(StartError::Python { message })
            }
        };
        match (zygote.end().await, made) {
            (words, Made::Lost(StartError::Io(_))) => {
                Made::Lost(StartError::Python { message: words })
            }
            (_, made) => made,
        }
    }

    async fn start(shared: &Shared) -> io::Result<Self> {
        let left_out = shared.image().status.left_out;
        let config = &shared.config;
        let started = launch::zygote(config, left_out.into_iter().map(|(item, _)| item)).await?;
        let control = StdUnixStream::from(started.control);
        control.set_nonblocking(true)?;
        tracing::debug!(pid = started.process.id(), "zygote started");
        Ok(Self {
            child: Child::new(started.process, [started.stdout, started.stderr], 0, config)?,
            control: UnixStream::from_std(control)?,
            crash: started.crash,
            began: Instant::now(),
            imports: Vec::new(),
            has_forked: false,
            refusing: None,
        })
    }

    /// Hears its greeting and then what it imports, until it says something else.
    async fn warm(&mut self) -> Result<Said, StartError> {
        let (packet, _) = launch::receive(&self.control).await?;
        Hello::read_packet(&packet).map_err(|error| match error {
            ProtocolError::Version { .. } => StartError::Runtime { message: error.to_string() },
            error => StartError::Python { message: error.to_string() },
        })?;
        loop {
            let (packet, _) = launch::receive(&self.control).await?;
            match Said::read(&packet).map_err(io::Error::other)? {
                Said::Imported(import) => {
                    let took = Duration::from_micros(import.us);
                    tracing::debug!(item = import.item, ?took, "imported");
                    self.imports.push((import.item, took));
                }
                said => return Ok(said),
            }
        }
    }

    /// Forks on request until the zygote ends.
    async fn serve(&mut self, shared: &Shared, report: Report) -> Over {
        let (sender, mut requests) = mpsc::channel(64);
        let took = self.began.elapsed();
        let imports = std::mem::take(&mut self.imports);
        tracing::debug!(?took, modules = report.modules, "image ready");
        shared.publish(Source::Fork(Handle(sender)), |status| {
            status.why_spawn = None;
            status.zygote = Some(self.child.process.id());
            status.took = took;
            status.imports = imports;
            status.notes = report.notes;
        });
        let over = loop {
            let request = tokio::select! {
                biased;
                _ = self.child.exit.readable() => break Over::Lost(self.end().await),
                _ = self.control.readable() => {
                    // Nothing is to be heard that was not asked for, not even the end.
                    let heard = || packet::receive(&self.control, &mut [0]);
                    match self.control.try_io(Interest::READABLE, heard) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        _ => break Over::Lost(self.end().await),
                    }
                }
                request = requests.recv() => request,
            };
            let Some(Request { descriptors, reply }) = request else {
                break Over::Lost(self.end().await);
            };
            match self.fork(&descriptors).await {
                Ok(process) => {
                    self.has_forked = true;
                    self.refusing = None;
                    drop(reply.send(Ok(process)));
                }
                Err(Refusal::Cannot { why, passing }) if !passing && !self.has_forked => {
                    break Over::CannotFork(why);
                }
                Err(Refusal::Cannot { why, .. }) => {
                    // What could be done once can be done again.
                    let since = *self.refusing.get_or_insert_with(Instant::now);
                    if since.elapsed() > REFUSING {
                        let _ = self.end().await;
                        break Over::Lost(format!("the zygote cannot fork any more: {why}"));
                    }
                    drop(reply.send(Err(io::Error::other(why))));
                }
                Err(Refusal::Lost(error)) => {
                    let words = format!("{} ({error})", self.end().await);
                    break Over::Lost(words);
                }
            }
        };
        // Whoever asks from now on, and whoever has asked already, asks the next one.
        shared.publish(Source::Warming, |status| status.zygote = None);
        over
    }

    async fn fork(&mut self, descriptors: &[OwnedFd]) -> Result<Process, Refusal> {
        let end = tokio::time::Instant::now() + FORK_TIME;
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.control
            .async_io(Interest::WRITABLE, || packet::send(&self.control, FORK, &borrowed))
            .await?;
        let answer = timeout_at(end, launch::receive(&self.control));
        let (packet, mut received) =
            answer.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        match Said::read(&packet).map_err(io::Error::other)? {
            Said::Forked { .. } => {
                let pidfd = received.pop().ok_or_else(|| io::Error::other("no process came"))?;
                Ok(Process::adopt(pidfd)?)
            }
            Said::NotForked { why, passing } => Err(Refusal::Cannot { why, passing }),
            _ => Err(io::Error::other("the zygote said what it may not say now").into()),
        }
    }

    /// Sees it to its end, and says how that was.
    async fn end(&mut self) -> String {
        let _ = timeout(END_TIME, self.child.exit.readable()).await;
        // What it imports may have started processes.
        self.child.process.kill();
        let ended = settle::words(self.child.ended().await);
        self.child.finish_output().await;
        let mut report = Vec::new();
        drain_pipe(&self.crash, &mut report);
        let at = stacks::crashed(&report).into_iter().next();
        let at = at.map(|frame| format!(" at {}:{}", frame.file, frame.line)).unwrap_or_default();
        let after = self.imports.last().map(|(item, _)| format!(" after importing {item}"));
        format!("the zygote {ended}{at}{}", after.unwrap_or_default())
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // It may have made a fork that it will not tell of.
        nursery::bury_strays();
    }
}

/// Why there is no fork.
enum Refusal {
    Cannot { why: String, passing: bool },
    Lost(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}
