//! The pool, as the server asks after it; and what workers print, on its way to log and page.

use std::sync::{Arc, OnceLock};

use exuvia_core::{Broken, Target};
use exuvia_host::{OutputLine, OutputSink, Pool, PoolStatus, WorkerStatus};
use exuvia_observe::Metrics;
use exuvia_serve::{Backend, BackendState, Readiness, Server, WorkerRow};

/// The pool, if anything is called at all.
pub(crate) struct PoolBackend {
    pub(crate) pool: Option<Arc<Pool>>,
    pub(crate) queue: usize,
    pub(crate) metrics: Arc<Metrics>,
    /// What stubs of a document take and give.
    pub(crate) stubs: serde_json::Value,
}

/// The server that shows what is printed, once it is up.
pub(crate) type Shown = Arc<OnceLock<Arc<Server>>>;

// === impl PoolBackend ===

impl Backend for PoolBackend {
    fn readiness(&self) -> Readiness {
        let Some(pool) = &self.pool else {
            return Readiness { ready: true, reason: "stubs need no workers".into() };
        };
        let PoolStatus { ready, size, draining, .. } = pool.status();
        if draining {
            return Readiness { ready: false, reason: "the server is stopping".into() };
        }
        Readiness { ready: ready > 0, reason: format!("{ready} of {size} workers ready") }
    }

    fn broken(&self) -> Vec<Broken> {
        self.pool.as_ref().map(|pool| pool.broken()).unwrap_or_default()
    }

    fn description(&self) -> Option<Arc<dyn Target>> {
        self.pool.as_ref()?.description()
    }

    fn stubs(&self) -> serde_json::Value {
        self.stubs.clone()
    }

    fn state(&self) -> BackendState {
        let Some(pool) = &self.pool else { return BackendState::default() };
        BackendState {
            workers: pool.workers().into_iter().map(row).collect(),
            queued: pool.status().queued,
            queue_limit: self.queue,
            rejected: self.metrics.pool.queue_rejected.get(),
        }
    }
}

fn row(status: WorkerStatus) -> WorkerRow {
    let WorkerStatus { worker, pid, state, calls, running, age, memory, .. } = status;
    WorkerRow {
        worker,
        pid,
        state: state.word(),
        age,
        calls,
        running,
        rss: memory.map(|memory| memory.rss),
        pss: memory.map(|memory| memory.pss),
        private: memory.map(|memory| memory.private),
    }
}

/// Where lines go that workers print.
pub(crate) fn sink(shown: &Shown) -> OutputSink {
    let shown = shown.clone();
    Arc::new(move |line| {
        if let (Some(server), Some(call)) = (shown.get(), &line.call_id) {
            server.output(call, line.stream.word(), &line.text);
        }
        log(line);
    })
}

/// A line that a worker printed, as a line of the log.
fn log(line: OutputLine) {
    let OutputLine { worker, call_id, stream, text } = line;
    match call_id {
        Some(call) => tracing::info!(worker, call, %stream, "{text}"),
        None => tracing::info!(worker, %stream, "{text}"),
    }
}
