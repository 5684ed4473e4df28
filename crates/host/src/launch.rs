//! Making one process, worker or zygote, and our ends of what it is given.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::Path,
    time::Duration,
};

use exuvia_protocol::{Claims, Hello, Limits, Load, zygote::MAX_PACKET};
use exuvia_sys::{Process, SharedPage, Spawn, packet};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    io::Interest,
    net::{UnixStream, unix::pipe},
};

use crate::{
    config::{PoolConfig, StartMethod},
    image::Source,
    load, nursery,
    state::Shared,
};

/// What runs in a worker: load our runtime by its absolute path, under a name of its own, and
/// never a copy that the environment may hold.
const BOOTSTRAP: &str = "\
import sys
from importlib.machinery import ExtensionFileLoader as L
from importlib.util import module_from_spec as m, spec_from_file_location as s
n = '_exuvia_runtime'
p = s(n, sys.argv[1], loader=L(n, sys.argv[1]))
r = m(p)
p.loader.exec_module(r)
getattr(r, sys.argv[2])()
";

/// How often a worker asks for a fork while zygotes die under it.
const ATTEMPTS: usize = 100;

/// A worker process and our ends of what it was given.
pub(crate) struct Launched {
    pub(crate) process: Process,
    pub(crate) stream: UnixStream,
    pub(crate) page: SharedPage,
    pub(crate) crash: pipe::Receiver,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
    /// How it was made.
    pub(crate) start: StartMethod,
    /// What it is to import by itself.
    pub(crate) load: Load,
}

/// A zygote process and our ends of what it was given.
pub(crate) struct LaunchedZygote {
    pub(crate) process: Process,
    pub(crate) control: OwnedFd,
    pub(crate) crash: pipe::Receiver,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

/// Three pipes: our ends, theirs.
pub(crate) struct Pipes {
    pub(crate) ours: [pipe::Receiver; 3],
    pub(crate) theirs: [OwnedFd; 3],
}

/// Makes a worker with a status page of `slots` slots, as the pool's image has it at present; waits
/// for an image that is being made.
pub(crate) async fn worker(shared: &Shared, slots: u16) -> io::Result<Launched> {
    let config = &shared.config;
    let mut last = io::Error::other("the pool is stopped");
    for _ in 0..ATTEMPTS {
        let pipes = Pipes::new()?;
        let (ours, theirs) = StdUnixStream::pair()?;
        let page = SharedPage::create(Claims::words_for(slots))?;
        let _ = Claims::format(page.words());
        let page_fd = rustix::io::fcntl_dupfd_cloexec(&page, 3)?;
        let [stdout, stderr, crash] = pipes.theirs;
        let Some(image) = shared.settled_image().await else {
            return Err(io::Error::other("the pool is stopped"));
        };
        let (process, start, load) = match image.source {
            Source::Fork(zygote) => {
                let descriptors = vec![stdout, stderr, theirs.into(), crash, page_fd];
                match zygote.fork(descriptors).await {
                    Ok(process) => {
                        (process, StartMethod::Fork, load::forked(config, &image.status.left_out))
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no fork");
                        last = error;
                        // It was the zygote's fault: the next one is asked.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                }
            }
            Source::Spawn | Source::Warming => {
                let environment = load::spawned_environment(config);
                let descriptors = vec![theirs.into(), crash, page_fd];
                let process =
                    spawn(config, "main", environment, [stdout, stderr], descriptors).await?;
                (process, StartMethod::Spawn, load::spawned(config))
            }
        };
        ours.set_nonblocking(true)?;
        let [stdout, stderr, crash] = pipes.ours;
        let stream = UnixStream::from_std(ours)?;
        return Ok(Launched { process, stream, page, crash, stdout, stderr, start, load });
    }
    Err(last)
}

/// Makes a zygote.
pub(crate) async fn zygote(
    config: &PoolConfig,
    left_out: impl Iterator<Item = String>,
) -> io::Result<LaunchedZygote> {
    let pipes = Pipes::new()?;
    let (control, theirs) = packet::pair()?;
    let (image, environment) = load::image(config, left_out.collect());
    let load = Some(load::spawned(config));
    let hello = Hello { load, image: Some(image), ..Hello::new(Limits::default()) };
    let instructions = hello.packet().map_err(io::Error::other)?;
    let mut file = File::from(memfd_create("exuvia-image", MemfdFlags::CLOEXEC)?);
    file.write_all(&instructions)?;
    let [stdout, stderr, crash] = pipes.theirs;
    let descriptors = vec![theirs, crash, file.into()];
    let process = spawn(config, "zygote_main", environment, [stdout, stderr], descriptors).await?;
    let [stdout, stderr, crash] = pipes.ours;
    Ok(LaunchedZygote { process, control, crash, stdout, stderr })
}

async fn spawn(
    config: &PoolConfig,
    entry: &str,
    environment: Vec<(OsString, OsString)>,
    output: [OwnedFd; 2],
    descriptors: Vec<OwnedFd>,
) -> io::Result<Process> {
    nursery::spawn(Spawn {
        program: config.python.clone(),
        // The working folder is not put into sys.path; the runtime does it where wanted.
        arguments: arguments(&["-P"], &config.runtime, entry),
        working_dir: config.working_dir.clone(),
        environment,
        only_these: false,
        output,
        descriptors,
    })
    .await
}

/// What Python is started with.
pub(crate) fn arguments(modes: &[&str], runtime: &Path, entry: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = modes.iter().map(Into::into).collect();
    arguments.extend(["-c".into(), BOOTSTRAP.into(), runtime.into(), entry.into()]);
    arguments
}

/// The next packet of a zygote.
pub(crate) async fn receive(control: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut buffer = vec![0; MAX_PACKET];
    let receive = || packet::receive(control, &mut buffer);
    let (length, descriptors) = control.async_io(Interest::READABLE, receive).await?;
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    buffer.truncate(length);
    Ok((buffer, descriptors))
}

impl Pipes {
    pub(crate) fn new() -> io::Result<Self> {
        let pipe = || {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            Ok::<_, io::Error>((pipe::Receiver::from_owned_fd(ours)?, theirs))
        };
        let (one, two, three) = (pipe()?, pipe()?, pipe()?);
        Ok(Self { ours: [one.0, two.0, three.0], theirs: [one.1, two.1, three.1] })
    }
}
