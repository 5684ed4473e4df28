//! A result that comes in pieces, between the link that hears them and whoever reads them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, Weak},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use exuvia_core::{CallId, Failure, Pieces};
use exuvia_protocol::Limits;

use crate::{output::lock, state::Shared};

/// Pieces that were heard and not read. What a worker was granted bounds them.
#[derive(Default)]
pub(crate) struct Flow(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    pieces: VecDeque<Bytes>,
    /// How it ended, once it has: well, or by a failure.
    end: Option<Option<Box<Failure>>>,
    reader: Option<Waker>,
    /// Its reader is gone, and somebody else sees to the call's end.
    forsaken: bool,
}

/// Reads a flow. Dropped before its end, it ends the call.
pub(crate) struct Reader {
    pub(crate) flow: Arc<Flow>,
    /// A stream that nobody closed keeps no pool: with it goes where output is written.
    pub(crate) shared: Weak<Shared>,
    pub(crate) call: CallId,
    /// The worker, and its call.
    pub(crate) place: (u64, u16, u64),
    /// Bytes read for which the worker has no credit yet.
    pub(crate) owed: u32,
    pub(crate) ended: bool,
}

// === impl Flow ===

impl Flow {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.0)
    }

    pub(crate) fn piece(&self, piece: Bytes) {
        let mut heard = self.heard();
        heard.pieces.push_back(piece);
        heard.wake();
    }

    pub(crate) fn forsake(&self) {
        self.heard().forsaken = true;
    }

    pub(crate) fn end(&self, failure: Option<Box<Failure>>) {
        let mut heard = self.heard();
        heard.end = Some(failure);
        heard.wake();
    }
}

impl Heard {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

// === impl Reader ===

impl Pieces for Reader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<Failure>>>> {
        let mut heard = self.flow.heard();
        if let Some(piece) = heard.pieces.pop_front() {
            drop(heard);
            self.took(piece.len());
            return Poll::Ready(Some(Ok(piece)));
        }
        match &mut heard.end {
            None => {
                heard.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(failure) => {
                self.ended = true;
                Poll::Ready(failure.take().map(Err))
            }
        }
    }
}

impl Reader {
    /// Grants the worker what was read, half a window at a time.
    fn took(&mut self, size: usize) {
        // A piece is no longer than a frame.
        self.owed += size as u32;
        if self.owed >= Limits::default().window / 2 {
            let owed = std::mem::take(&mut self.owed);
            if let Some(shared) = self.shared.upgrade() {
                shared.grant(self.place, owed);
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.ended
            && let Some(shared) = self.shared.upgrade()
            && !shared.is_copy()
            && !self.flow.heard().forsaken
        {
            shared.abandon(self.call);
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Lets a worker go on with a streamed result.
    fn grant(&self, (worker, slot, wire): (u64, u16, u64), amount: u32) {
        let mut state = self.lock();
        let Some(worker) = state.workers.get_mut(&worker) else { return };
        if worker.hears() {
            worker.connection.grant_stream(wire, slot, amount);
            worker.wake.notify_one();
        }
    }
}
