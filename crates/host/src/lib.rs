//! Pools of workers: the Rust side that owns queues, deadlines and processes.
//!
//! A [`Pool`] keeps a number of worker processes alive, each the user's own `python` running our
//! runtime, and gives calls to them. It knows neither HTTP nor the Python C API.
//!
//! The life of a call: [`Pool::target`] gives a [`exuvia_core::Target`]; its `call` puts a job into
//! the `queue`, `dispatch` hands it to a worker, the worker's `link` writes it to the worker's
//! socket and reads the answer, and `hear` resolves the caller's future. `warden` watches the
//! clock meanwhile. What happens when a worker dies is in `settle`. The rules are those of
//! `docs/protocol.md`.
//!
//! The life of a worker: `keeper` sees that one is missing, `launch` has it forked from what
//! `zygote` keeps warm, `link` speaks with it, `keeper` decides when it is to go. The rules are
//! those of `docs/processes.md`.
#![forbid(unsafe_code)]

mod child;
mod config;
mod dispatch;
mod flow;
mod hear;
mod image;
mod keeper;
mod launch;
mod link;
mod load;
mod nursery;
mod output;
mod pool;
mod queue;
mod sampler;
pub mod sandbox;
mod settle;
mod stacks;
mod state;
mod target;
mod warden;
mod zygote;

pub use config::{
    ImageConfig, ImageStatus, OutputLine, OutputSink, PoolConfig, PoolStatus, Recycle, StartError,
    StartMethod, Stream, WorkerState, WorkerStatus,
};
pub use pool::Pool;

/// Buries orphans that came to this process as the first of its namespace (PID 1). Its own workers
/// are left to their pools. Does nothing in any other process.
pub fn reap_orphans() {
    if std::process::id() == 1 {
        exuvia_sys::reap_strays(1, None);
    }
}
