//! What a full queue does: one vocabulary for an HTTP backlog, a pipeline edge and a mailbox.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What happens to an item that finds its queue full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The new item is refused, and whoever sent it is told.
    Reject,
}

/// What a queue counted. Each name is that of its metric.
#[derive(Debug, Default)]
pub struct QueueCounters {
    /// Items taken in.
    pub accepted: AtomicU64,
    /// Items refused because the queue was full.
    pub rejected: AtomicU64,
}

impl QueueCounters {
    /// Counts an item taken in.
    pub fn accept(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// Counts an item refused.
    pub fn reject(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }
}
