//! What a server is told.

use std::{sync::Arc, time::Duration};

use exuvia_core::{Broken, Target};

use crate::watch::BackendState;

use crate::access::AccessLog;

/// Limits and habits of a server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The most bytes a request's body may have.
    pub max_body: u64,
    /// The most bytes a request's line and headers may have together.
    pub max_header: usize,
    /// The most connections open at a time. More wait in the kernel's backlog.
    pub max_connections: usize,
    /// How long a request's head may take from its first byte on, and how long a new connection
    /// may say nothing.
    pub header_timeout: Duration,
    /// How long a request's body may pause.
    pub body_timeout: Duration,
    /// How long a client may refuse to read its answer.
    pub write_timeout: Duration,
    /// How long a connection may rest between two requests.
    pub idle_timeout: Duration,
    /// How long `/readyz` says no before a shutdown stops accepting, for load balancers that look
    /// only now and then.
    pub unready_for: Duration,
    /// Whether answers carry exceptions and tracebacks. They tell a stranger about the code.
    pub expose_errors: bool,
    /// Names, besides those of this machine's own addresses, by which the built-in pages may be
    /// asked for in `Host`.
    pub hosts: Vec<String>,
    /// Where a line for every request is written.
    pub access_log: Option<AccessLog>,
    /// Whether answers are packed for clients that read them so.
    pub compress: bool,
}

/// Whether calls can be answered now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The answer of `/readyz`.
    pub ready: bool,
    /// Why, in a few words: `1 of 2 workers ready`.
    pub reason: String,
}

/// What stands behind the targets, seen as a whole.
pub trait Backend: Send + Sync {
    /// Whether calls can be answered now. Asked at every `/readyz`.
    fn readiness(&self) -> Readiness;

    /// Modules that could not be loaded, while others could. Asked once.
    fn broken(&self) -> Vec<Broken> {
        Vec::new()
    }

    /// A target without arguments that tells, as JSON, what the handlers take and give: see
    /// `docs/types.md`. Asked once.
    fn description(&self) -> Option<Arc<dyn Target>> {
        None
    }

    /// What stubs take and give, in the same form. Asked once.
    fn stubs(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Workers and queue, for the page.
    fn state(&self) -> BackendState {
        BackendState::default()
    }
}

// === impl ServerConfig ===

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_body: 64 << 20,
            max_header: 32 << 10,
            max_connections: 4096,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            unready_for: Duration::ZERO,
            expose_errors: false,
            hosts: Vec::new(),
            access_log: None,
            compress: false,
        }
    }
}
