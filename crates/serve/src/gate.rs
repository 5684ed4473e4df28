//! How many calls of one route run at a time, and how many wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use exuvia_core::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// When to come back to a route that is full.
const RETRY_AFTER_MS: u64 = 1000;

/// A route's own limits.
pub(crate) struct Gate {
    room: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    queue: usize,
}

/// A place in the queue; it is given up when this is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

// === impl Gate ===

impl Gate {
    /// `concurrency` calls at a time, and `queue` that wait; without it there is no limit of its
    /// own to those.
    pub(crate) fn new(concurrency: usize, queue: Option<usize>) -> Self {
        let room = Arc::new(Semaphore::new(concurrency.min(Semaphore::MAX_PERMITS)));
        Self { room, waiting: Arc::default(), queue: queue.unwrap_or(usize::MAX) }
    }

    /// Calls that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Room for one call, when there is some; it is given back when dropped. Calls come in the
    /// order in which they asked.
    ///
    /// # Errors
    /// Too many wait already, or `limit` was over before it came to this one's turn.
    pub(crate) async fn enter(
        &self,
        limit: Option<Duration>,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        let room = self.room.clone();
        let began = Instant::now();
        match room.clone().try_acquire_owned() {
            Ok(permit) => return Ok(permit),
            Err(_) if self.waiting() >= self.queue => {
                let reason = format!("{} calls of this route are waiting already", self.waiting());
                return Err(Failure::Rejected { reason, retry_after_ms: RETRY_AFTER_MS });
            }
            Err(_) => {}
        }
        self.waiting.fetch_add(1, Relaxed);
        let _place = Place(self.waiting.clone());
        let turn = room.acquire_owned();
        let permit = match limit {
            None => turn.await,
            Some(limit) => match tokio::time::timeout(limit, turn).await {
                Ok(permit) => permit,
                Err(_) => {
                    let limit_ms = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
                    return Err(Failure::Timeout { limit_ms, started: false, frames: Vec::new() });
                }
            },
        };
        permit.map_err(|_| Failure::Host { message: "the route's gate was closed".into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_route_lets_wait_as_many_as_it_says_and_no_more() {
        let gate = Gate::new(1, Some(1));
        let first = gate.enter(None).await.expect("room");
        let second = gate.enter(Some(Duration::from_secs(5)));
        tokio::pin!(second);
        assert!(futures_poll(&mut second).await, "the second waits");
        assert_eq!(gate.waiting(), 1);
        let third = gate.enter(None).await;
        assert!(matches!(third, Err(Failure::Rejected { .. })), "{third:?}");
        drop(first);
        drop(second.await.expect("its turn"));
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn who_waits_too_long_never_started() {
        let gate = Gate::new(1, None);
        let _first = gate.enter(None).await.expect("room");
        let late = gate.enter(Some(Duration::from_millis(5))).await;
        assert!(matches!(late, Err(Failure::Timeout { started: false, .. })), "{late:?}");
        assert_eq!(gate.waiting(), 0);
    }

    /// Whether a future is not ready when it is asked once.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }
}
