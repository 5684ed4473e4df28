//! The zygote of a sandbox: started in a root of its own, asked for isolates, made anew when it dies.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use exuvia_protocol::{Hello, Image, Isolate, Jail, Limits, Load, ProtocolError, Said};
use exuvia_sys::{Process, Spawn, packet};
use rustix::fs::{MemfdFlags, memfd_create};
use tokio::{
    io::Interest,
    net::{UnixStream, unix::pipe},
    sync::Mutex,
    time::timeout,
};

use super::SandboxConfig;
use crate::{
    config::StartError,
    launch::{self, Pipes},
    nursery,
    output::drain_pipe,
};

/// A fork takes milliseconds.
const FORK_TIME: Duration = Duration::from_secs(10);
/// Bytes of what a failed image printed that are told.
const SAID: usize = 2000;

/// An image, ready to fork.
pub(super) struct Zygote {
    process: Process,
    control: UnixStream,
    /// Held open, so that what it prints does not end it.
    _output: [pipe::Receiver; 2],
    /// Answers that are still to come.
    owed: usize,
}

/// The image of a sandbox.
pub(super) struct ImageKeeper {
    zygote: Mutex<Option<Zygote>>,
    /// There will be no other.
    stopped: AtomicBool,
}

// === impl ImageKeeper ===

impl ImageKeeper {
    /// Makes the image.
    pub(super) async fn start(config: &SandboxConfig) -> Result<Self, StartError> {
        let zygote = Zygote::make(config).await?;
        Ok(Self { zygote: Mutex::new(Some(zygote)), stopped: AtomicBool::new(false) })
    }

    /// Forks an isolate that gets `descriptors`. An image that is lost is made anew, once.
    pub(super) async fn fork(
        &self,
        config: &SandboxConfig,
        isolate: &Isolate,
        descriptors: &[OwnedFd],
    ) -> io::Result<Process> {
        let mut held = self.zygote.lock().await;
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("the sandbox is closed"));
        }
        if let Some(zygote) = held.as_mut() {
            match zygote.fork(isolate, descriptors).await {
                Ok(process) => return Ok(process),
                Err(Refusal::Cannot(why)) => return Err(io::Error::other(why)),
                Err(Refusal::Lost(error)) => {
                    tracing::warn!(%error, "the sandbox's image was lost; making another");
                    *held = None;
                    nursery::bury_strays();
                }
            }
        }
        let zygote = Zygote::make(config).await.map_err(io::Error::other)?;
        match held.insert(zygote).fork(isolate, descriptors).await {
            Ok(process) => Ok(process),
            Err(Refusal::Cannot(why)) => Err(io::Error::other(why)),
            Err(Refusal::Lost(error)) => {
                *held = None;
                Err(error)
            }
        }
    }

    /// The image's process.
    pub(super) async fn pid(&self) -> Option<u32> {
        self.zygote.lock().await.as_ref().map(|zygote| zygote.process.id())
    }

    /// Ends it.
    pub(super) async fn stop(&self) {
        let mut held = self.zygote.lock().await;
        self.stopped.store(true, Ordering::Relaxed);
        drop(held.take());
        nursery::bury_strays();
    }
}

/// Why there is no fork.
enum Refusal {
    Cannot(String),
    Lost(io::Error),
}

// === impl Zygote ===

impl Zygote {
    async fn make(config: &SandboxConfig) -> Result<Self, StartError> {
        let Pipes { ours: [stdout, stderr, crash], theirs } = Pipes::new()?;
        let (control, their_control) = packet::pair()?;
        let mut file =
            File::from(memfd_create("exuvia-image", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
        file.write_all(&instructions(config)?)?;
        let [their_stdout, their_stderr, their_crash] = theirs;
        let process = nursery::spawn(Spawn {
            program: config.python.clone(),
            // Nothing of the user's: no folder of theirs, no variables. Nothing can be written.
            arguments: launch::arguments(&["-I", "-B"], &config.runtime, "zygote_main"),
            working_dir: Path::new("/").into(),
            environment: environment(),
            only_these: true,
            output: [their_stdout, their_stderr],
            descriptors: vec![their_control, their_crash, file.into()],
        })
        .await
        .map_err(|error| StartError::Python {
            message: format!("cannot run {}: {error}", config.python.display()),
        })?;
        let control = StdUnixStream::from(control);
        control.set_nonblocking(true)?;
        let control = UnixStream::from_std(control)?;
        let mut zygote = Self { process, control, _output: [stdout, stderr], owed: 0 };
        let warmed = timeout(config.start_timeout, zygote.warm()).await;
        let error = match warmed {
            Ok(Ok(())) => return Ok(zygote),
            Ok(Err(error)) => error,
            Err(_) => {
                let limit = config.start_timeout;
                StartError::Python { message: format!("the image was not ready within {limit:?}") }
            }
        };
        zygote.process.kill();
        let mut said = Vec::new();
        drain_pipe(&crash, &mut said);
        drain_pipe(&zygote._output[1], &mut said);
        Err(told(error, &said))
    }

    async fn warm(&mut self) -> Result<(), StartError> {
        let (packet, _) = launch::receive(&self.control).await?;
        Hello::read_packet(&packet).map_err(|error| match error {
            ProtocolError::Version { .. } => StartError::Runtime { message: error.to_string() },
            error => StartError::Python { message: error.to_string() },
        })?;
        loop {
            let (packet, _) = launch::receive(&self.control).await?;
            match Said::read(&packet).map_err(io::Error::other)? {
                Said::Imported(import) => tracing::debug!(item = import.item, "imported"),
                Said::Ready(_) => return Ok(()),
                Said::Failed(failure) => return Err(StartError::Load(failure)),
                Said::Threads { item, threads } => {
                    let threads = threads.join(", ");
                    let message =
                        format!("{item} starts a thread ({threads}): it cannot be preloaded");
                    return Err(StartError::Python { message });
                }
                _ => {
                    let message = "the image said what it may not say now".into();
                    return Err(StartError::Python { message });
                }
            }
        }
    }

    async fn fork(
        &mut self,
        isolate: &Isolate,
        descriptors: &[OwnedFd],
    ) -> Result<Process, Refusal> {
        let packet = isolate.packet().map_err(|error| Refusal::Cannot(error.to_string()))?;
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let send = || packet::send(&self.control, &packet, &borrowed);
        self.control.async_io(Interest::WRITABLE, send).await?;
        self.owed += 1;
        loop {
            let (packet, received) = timeout(FORK_TIME, launch::receive(&self.control))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            self.owed -= 1;
            let process = forked(&packet, received);
            // Whose call was cancelled waits for no answer: what was forked for it comes first, is
            // nobody's, and ends here.
            if self.owed == 0 {
                return process;
            }
        }
    }
}

/// What an image answers to who asks it for an isolate.
fn forked(packet: &[u8], mut received: Vec<OwnedFd>) -> Result<Process, Refusal> {
    match Said::read(packet).map_err(io::Error::other)? {
        Said::Forked { .. } => {
            let pidfd = received.pop().ok_or_else(|| io::Error::other("no process came"))?;
            Ok(Process::adopt(pidfd)?)
        }
        Said::NotForked { why, .. } => Err(Refusal::Cannot(why)),
        _ => Err(io::Error::other("the image said what it may not say now").into()),
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// An error with the last of what the image said, where nothing else says why.
fn told(error: StartError, said: &[u8]) -> StartError {
    let StartError::Io(io) = error else { return error };
    let said = String::from_utf8_lossy(said);
    let from = said.ceil_char_boundary(said.len().saturating_sub(SAID));
    let said = said[from..].trim();
    let message = match said {
        "" => format!("the image ended before it was ready ({io})"),
        said => format!("the image ended before it was ready: {said}"),
    };
    StartError::Python { message }
}

/// What the image does.
fn instructions(config: &SandboxConfig) -> io::Result<Vec<u8>> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let jail = Jail {
        tier: config.tier.word().into(),
        view: config.view.iter().map(|path| text(path)).collect(),
        store: config.store.as_deref().map(text),
        user: rustix::process::geteuid().is_root().then_some(config.user),
    };
    let image = Image {
        parent: std::process::id(),
        blas_threads: config.blas_threads,
        jail: Some(jail),
        ..Image::default()
    };
    let load = Load { preload: config.preload.clone(), ..Load::default() };
    let hello = Hello { load: Some(load), image: Some(image), ..Hello::new(Limits::default()) };
    hello.packet().map_err(io::Error::other)
}

/// All variables of the image and its isolates: nothing of the host's.
fn environment() -> Vec<(OsString, OsString)> {
    let fixed = [
        ("HOME", "/session"),
        ("TMPDIR", "/session"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("LC_ALL", "C.UTF-8"),
        ("MALLOC_ARENA_MAX", "2"),
        // Threads in the image would be missing in its forks.
        ("OPENBLAS_NUM_THREADS", "1"),
        ("OMP_NUM_THREADS", "1"),
        ("MKL_NUM_THREADS", "1"),
        ("BLIS_NUM_THREADS", "1"),
        ("JE_ARROW_MALLOC_CONF", "background_thread:false"),
        ("_RJEM_MALLOC_CONF", "background_thread:false"),
    ];
    fixed.map(|(name, value)| (name.into(), value.into())).into()
}
