//! A pool as its users see it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use exuvia_core::{Broken, HandlerInfo, Target};
use exuvia_sys::Memory;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{
    config::{ImageStatus, PoolConfig, PoolStatus, StartError, WorkerStatus},
    keeper,
    output::lock,
    sampler,
    state::{Shared, Started, Worker},
    target::HandlerTarget,
    warden, zygote,
};

/// Worker processes behind one queue. Dropping it kills them.
pub struct Pool {
    shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The handler that every worker has beside those it was told to load.
const DESCRIBE: &str = "exuvia:describe";

/// How long the last worker may take to die once it is killed.
const BURIAL: Duration = Duration::from_secs(5);

impl Pool {
    /// Starts the workers and returns when the first is ready; the others follow. Must be called
    /// inside a tokio runtime, on which the pool then lives.
    ///
    /// # Errors
    /// The first worker to get so far said that a handler is not there; or none could be started.
    pub async fn start(config: PoolConfig) -> Result<Arc<Self>, StartError> {
        let workers = config.workers;
        let shared = Arc::new(Shared::new(config));
        let tasks = vec![
            // First, because it waits for the workers to be buried.
            tokio::spawn(keeper::keep(shared.clone())),
            tokio::spawn(warden::watch(shared.clone())),
            tokio::spawn(sampler::sample(shared.clone())),
            tokio::spawn(zygote::keep(shared.clone())),
        ];
        let pool = Arc::new(Self { shared, tasks: Mutex::new(tasks) });
        let mut started = pool.shared.started.subscribe();
        let waited = started.wait_for(|started| !matches!(started, Started::Waiting)).await;
        drop(waited.map(drop));
        let mut failed = None;
        pool.shared.started.send_if_modified(|started| {
            if let Started::Failed(error) = started {
                failed = error.take();
            }
            false
        });
        match failed {
            None => {
                // One was needed to know the handlers.
                if workers == 0 {
                    pool.resize(0);
                }
                Ok(pool)
            }
            Some(error) => {
                pool.stop().await;
                Err(error)
            }
        }
    }

    /// The handlers, in the order they were loaded.
    #[must_use]
    pub fn handlers(&self) -> Vec<Arc<HandlerInfo>> {
        let state = self.shared.lock();
        let own = state.handlers.iter().filter(|handler| handler.name != DESCRIBE);
        own.map(|handler| handler.info.clone()).collect()
    }

    /// Modules that were left out because they do not import ([`PoolConfig::tolerant`]).
    #[must_use]
    pub fn broken(&self) -> Vec<Broken> {
        self.shared.lock().broken.clone()
    }

    /// What the handlers take and give, as the page on types says: a target without arguments,
    /// whose result is JSON.
    #[must_use]
    pub fn description(self: &Arc<Self>) -> Option<Arc<dyn Target>> {
        self.target(DESCRIBE)
    }

    /// The handler called `module:name`.
    #[must_use]
    pub fn target(self: &Arc<Self>, handler: &str) -> Option<Arc<dyn Target>> {
        let state = self.shared.lock();
        let place = state.handlers.iter().position(|known| known.name == handler)?;
        let info = state.handlers[place].info.clone();
        Some(Arc::new(HandlerTarget { shared: self.shared.clone(), handler: place, info }))
    }

    /// The pool at a glance.
    #[must_use]
    pub fn status(&self) -> PoolStatus {
        let state = self.shared.lock();
        PoolStatus {
            ready: state
                .workers
                .values()
                .filter(|worker| worker.active && worker.is_ready())
                .count(),
            size: state.crew.size,
            queued: state.queue.len(),
            running: state.running(),
            draining: state.draining,
        }
    }

    /// Sets how many workers take calls. Those that are missing start now; those that are too many
    /// finish what runs in them and end. With 0 calls wait until there are workers again.
    pub fn resize(&self, workers: usize) {
        self.shared.resize(workers);
    }

    /// Every worker at a glance, the oldest first. Reads the memory of each: that takes up to
    /// milliseconds per process.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerStatus> {
        let status = |(id, worker): (&u64, &Worker)| WorkerStatus {
            worker: *id,
            pid: worker.pid,
            state: worker.state(),
            calls: worker.calls,
            running: worker.in_flight,
            age: worker.began.elapsed(),
            start: worker.start,
            memory: None,
        };
        let mut workers: Vec<_> = self.shared.lock().workers.iter().map(status).collect();
        for worker in &mut workers {
            worker.memory = Memory::of(worker.pid);
        }
        workers
    }

    /// What the workers are made from. Reads the zygote's memory.
    #[must_use]
    pub fn image(&self) -> ImageStatus {
        let mut status = self.shared.image().status;
        status.memory = status.zygote.and_then(Memory::of);
        status
    }

    /// Refuses new calls, lets the others end for `limit` at most, and stops the workers. True:
    /// every call ended by itself.
    pub async fn drain(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        self.shared.lock().draining = true;
        let finished = loop {
            let ended = self.shared.idle.notified();
            tokio::pin!(ended);
            // Listen before looking, or an end between the two is missed.
            ended.as_mut().enable();
            {
                let state = self.shared.lock();
                if state.queue.is_empty() && state.running() == 0 {
                    break true;
                }
            }
            if timeout_at(end, ended).await.is_err() {
                break false;
            }
        };
        self.stop().await;
        finished
    }

    /// Kills the workers and waits until they are buried.
    async fn stop(&self) {
        self.shared.halt();
        let end = Instant::now() + BURIAL;
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for task in tasks {
            let abort = task.abort_handle();
            if timeout_at(end, task).await.is_err() {
                abort.abort();
            }
        }
        self.shared.abandon_workers();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Callers may hold on to what the pool shares with them: they are told now.
        self.shared.halt();
        // Each task owns its process, which is killed when the task is dropped.
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
        self.shared.abandon_workers();
    }
}
