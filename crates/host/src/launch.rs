//! Starting one worker process, from the one thread that starts them all.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    sync::{
        OnceLock,
        mpsc::{Sender, channel},
    },
    thread,
};

use exuvia_core::spec::Source;
use exuvia_protocol::{Claims, Load, LoadTarget};
use exuvia_sys::{Process, SharedPage, Spawn};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    net::{UnixStream, unix::pipe},
    sync::oneshot,
};

use crate::config::PoolConfig;

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
r.main()
";

/// A worker process and our ends of what it was given.
pub(crate) struct Launched {
    pub(crate) process: Process,
    pub(crate) stream: UnixStream,
    pub(crate) page: SharedPage,
    pub(crate) crash: pipe::Receiver,
    pub(crate) stdout: pipe::Receiver,
    pub(crate) stderr: pipe::Receiver,
}

type Request = (Spawn, oneshot::Sender<io::Result<Process>>);

/// Starts a worker for `config` with a status page of `slots` slots.
pub(crate) async fn launch(config: &PoolConfig, slots: u16) -> io::Result<Launched> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let (crash, crash_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stdout, stdout_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, stderr_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let page = SharedPage::create(Claims::words_for(slots))?;
    let _ = Claims::format(page.words());
    let page_fd = rustix::io::fcntl_dupfd_cloexec(&page, 3)?;
    let process = spawn(Spawn {
        program: config.python.clone(),
        // -P: the working folder is not put into sys.path; the runtime does it where wanted.
        arguments: ["-P".into(), "-c".into(), BOOTSTRAP.into(), config.runtime.clone().into()]
            .into(),
        working_dir: config.working_dir.clone(),
        environment: vec![],
        output: [stdout_write, stderr_write],
        descriptors: vec![theirs.into(), crash_write, page_fd],
    })
    .await?;
    ours.set_nonblocking(true)?;
    Ok(Launched {
        process,
        stream: UnixStream::from_std(ours)?,
        page,
        crash: receiver(crash)?,
        stdout: receiver(stdout)?,
        stderr: receiver(stderr)?,
    })
}

fn receiver(fd: OwnedFd) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(fd)
}

/// Has the nursery start a process. The kernel kills a worker when the thread that started it
/// ends, so one thread that lives as long as this process starts them all.
async fn spawn(request: Spawn) -> io::Result<Process> {
    static NURSERY: OnceLock<io::Result<Sender<Request>>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (sender, requests) = channel::<Request>();
        thread::Builder::new().name("exuvia-nursery".into()).spawn(move || {
            for (request, reply) in requests {
                // A pool that is gone drops the process, which ends it.
                let _ = reply.send(exuvia_sys::spawn(request));
            }
        })?;
        Ok(sender)
    });
    let nursery = nursery.as_ref().map_err(|error| io::Error::from(error.kind()))?;
    let (reply, process) = oneshot::channel();
    let gone = |_| io::Error::other("the thread that starts workers is gone");
    nursery.send((request, reply)).map_err(|_| gone(()))?;
    process.await.map_err(|_| gone(()))?
}

/// What the workers of a pool import.
pub(crate) fn load(config: &PoolConfig) -> Load {
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
    for folder in &config.search_path {
        let folder = folder.to_string_lossy().into_owned();
        if !search_path.contains(&folder) {
            search_path.push(folder);
        }
    }
    Load { search_path, targets, concurrency: config.concurrency, ..Load::default() }
}
