//! Looks at the memory of a pool's processes, for the metrics and for `max-rss`.

use std::{sync::Arc, time::Duration};

use exuvia_observe::WorkerMetrics;
use exuvia_sys::Memory;
use tokio::{task::spawn_blocking, time::timeout};

use crate::{nursery, state::Shared};

/// How often resident memory and ages are read, which costs microseconds.
const GLANCE: Duration = Duration::from_secs(1);
/// Every so many glances it is also read what is shared, which costs milliseconds per process.
const GLANCES_PER_LOOK: usize = 5;

/// The zygote whose memory is shown.
struct Zygote {
    pid: u32,
    metrics: WorkerMetrics,
}

/// Processes to look at: workers by number, and the zygote.
struct Pids {
    workers: Vec<(u64, u32)>,
    zygote: Option<u32>,
}

/// What was seen of those that were still there.
struct Seen {
    workers: Vec<(u64, u32, Memory)>,
    zygote: Option<Memory>,
}

/// Runs until the pool is stopped.
pub(crate) async fn sample(shared: Arc<Shared>) {
    let mut halted = shared.halted.subscribe();
    let mut zygote = None;
    for turn in (0..GLANCES_PER_LOOK).cycle() {
        shared.follow_zygote(&mut zygote);
        shared.glance();
        if turn == 0 {
            nursery::reap_strays();
            shared.look_closely(zygote.as_ref()).await;
        }
        if timeout(GLANCE, halted.wait_for(|halted| *halted)).await.is_ok() {
            return;
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Shows the zygote there is at present, and how long its image took.
    fn follow_zygote(&self, known: &mut Option<Zygote>) {
        let (pid, took) = {
            let image = self.image.borrow();
            (image.status.zygote, image.status.took)
        };
        if known.as_ref().map(|zygote| zygote.pid) == pid {
            return;
        }
        // The old one's series go before the new one's come: they bear the same name.
        *known = None;
        let metrics = &self.config.metrics.pool;
        *known = pid.map(|pid| Zygote { pid, metrics: metrics.zygote() });
        metrics.image(pid.map_or(Duration::ZERO, |_| took));
    }

    /// Reads every worker's resident memory and age.
    fn glance(&self) {
        let mut state = self.lock();
        let mut read = Vec::with_capacity(state.workers.len());
        for (id, worker) in &state.workers {
            worker.metrics.age(worker.began.elapsed());
            let Some(rss) = worker.rss_meter.read() else { continue };
            worker.metrics.rss(rss);
            read.push((*id, rss));
        }
        for (id, rss) in read {
            self.check_rss(&mut state, id, rss);
        }
        self.dispatch(&mut state);
    }

    /// Reads all there is to know about every process's memory, without the lock.
    async fn look_closely(&self, zygote: Option<&Zygote>) {
        let pids = {
            let state = self.lock();
            let workers = state.workers.iter().map(|(id, worker)| (*id, worker.pid)).collect();
            Pids { workers, zygote: zygote.map(|zygote| zygote.pid) }
        };
        // It fails only where the whole runtime ends.
        let Ok(seen) = spawn_blocking(move || pids.look()).await else { return };
        if let (Some(zygote), Some(memory)) = (zygote, seen.zygote) {
            zygote.metrics.memory(memory.rss, memory.pss, memory.private);
        }
        let state = self.lock();
        for (id, pid, memory) in seen.workers {
            if let Some(worker) = state.workers.get(&id).filter(|worker| worker.pid == pid) {
                worker.metrics.memory(memory.rss, memory.pss, memory.private);
            }
        }
    }
}

// === impl Pids ===

impl Pids {
    /// Blocks for up to milliseconds per process.
    fn look(self) -> Seen {
        let look = |(id, pid)| Some((id, pid, Memory::of(pid)?));
        Seen {
            workers: self.workers.into_iter().filter_map(look).collect(),
            zygote: self.zygote.and_then(Memory::of),
        }
    }
}
