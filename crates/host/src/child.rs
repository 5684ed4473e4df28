//! What worker and zygote have in common: a process of ours, its end, and what it prints.

use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex},
    time::Duration,
};

use exuvia_sys::{Ended, Process};
use tokio::{net::unix::pipe, task::JoinHandle, time::timeout};

use crate::{
    config::{PoolConfig, Stream},
    output::{self, Lines, lock},
};

/// How long pipes are read after the process's end: grandchildren may hold them open.
const LAST_LINES: Duration = Duration::from_millis(100);

/// A process and its output, line by line. Dropping it ends both.
pub(crate) struct Child {
    pub(crate) process: Process,
    /// The process's pidfd, which becomes readable when it ends and stays so. Tokio offers no safe
    /// way to watch a descriptor but this one; nothing is ever read from it.
    pub(crate) exit: pipe::Receiver,
    output: [Reader; 2],
}

/// One pipe that is read.
struct Reader {
    task: JoinHandle<()>,
    lines: Arc<Mutex<Lines>>,
}

impl Child {
    /// Looks after a process; its output counts as that of `worker`.
    pub(crate) fn new(
        process: Process,
        [stdout, stderr]: [pipe::Receiver; 2],
        worker: u64,
        config: &PoolConfig,
    ) -> io::Result<Self> {
        let exit = process.as_fd().try_clone_to_owned()?;
        let exit = pipe::Receiver::from_owned_fd_unchecked(exit)?;
        let read = |pipe, stream| {
            let lines = Lines::new(worker, stream, config.max_output, config.output.clone());
            let lines = Arc::new(Mutex::new(lines));
            Reader { task: tokio::spawn(output::read(pipe, lines.clone())), lines }
        };
        let output = [read(stdout, Stream::Stdout), read(stderr, Stream::Stderr)];
        Ok(Self { process, exit, output })
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Ended {
        loop {
            match self.process.try_wait() {
                Ok(Some(ended)) => return ended,
                Err(_) => return Ended::Unknown,
                Ok(None) => {}
            }
            if self.exit.readable().await.is_err() {
                return Ended::Unknown;
            }
        }
    }

    /// Prints what is still in the pipes.
    pub(crate) async fn finish_output(&mut self) {
        for Reader { task, lines } in &mut self.output {
            let _ = timeout(LAST_LINES, &mut *task).await;
            task.abort();
            lock(lines).finish();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Who holds a pipe open (a grandchild) must not keep its reader.
        for reader in &self.output {
            reader.task.abort();
        }
    }
}
