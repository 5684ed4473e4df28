//! Reading a request's body, up to a limit: a short one into one piece of memory, one above
//! [`SHARED_FROM`] straight into memory that a worker can map.

use std::{
    future::{Future, poll_fn},
    io::{self, Write as _},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use exuvia_core::{Codec, Payload, SHARED_FROM};
use exuvia_sys::{Spill, Spilled};
use hyper::body::{Body, Frame, Incoming};
use tokio::time::Sleep;

/// Why a body could not be read.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It is longer than the limit.
    TooLarge,
    /// Nothing came for too long.
    Paused,
    /// It is not what its framing says, or the client went away.
    Broken(hyper::Error),
    /// There is no memory for it, or no descriptor.
    NoRoom(io::Error),
}

/// A body of which the first piece is there.
pub(crate) struct Reading {
    body: Incoming,
    first: Option<Bytes>,
    /// How long it says it is; 0 where it does not say.
    declared: u64,
    taken: u64,
    max: u64,
    pause: Duration,
}

// === impl Reading ===

impl Reading {
    /// Waits for the first piece of `body`, which may have `max` bytes and pause for `pause`.
    pub(crate) async fn begin(
        mut body: Incoming,
        max: u64,
        pause: Duration,
    ) -> Result<Self, BodyError> {
        let declared = body.size_hint().lower();
        if declared > max {
            return Err(BodyError::TooLarge);
        }
        let first = next(&mut body, pause).await?;
        let taken = first.as_ref().map_or(0, |first| first.len() as u64);
        if taken > max {
            return Err(BodyError::TooLarge);
        }
        Ok(Self { body, first, declared, taken, max, pause })
    }

    /// Whether nothing follows the first piece, as of the usual body.
    pub(crate) fn is_there(&self) -> bool {
        self.first.is_none() || self.body.is_end_stream() || self.taken == self.declared
    }

    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(piece) = next(&mut self.body, self.pause).await? else { return Ok(None) };
        self.taken += piece.len() as u64;
        if self.taken > self.max { Err(BodyError::TooLarge) } else { Ok(Some(piece)) }
    }

    /// All of it, as data in `codec`; without any it is a payload without data.
    pub(crate) async fn whole(mut self, codec: Codec) -> Result<Payload, BodyError> {
        if self.is_there() && self.taken <= SHARED_FROM as u64 {
            // What came in one piece is handed on as it is.
            return Ok(written_in(codec, self.first.take().unwrap_or_default()));
        }
        let spill = Spill::expecting(self.declared, SHARED_FROM);
        let mut spill = spill.map_err(BodyError::NoRoom)?;
        while let Some(piece) = self.next().await? {
            // Memory takes what it is given at once, so this waits for nobody.
            spill.write_all(&piece).map_err(BodyError::NoRoom)?;
        }
        gathered(codec, spill).map_err(BodyError::NoRoom)
    }
}

/// A payload of `bytes`; chunks may have come to none.
fn written_in(codec: Codec, bytes: Bytes) -> Payload {
    Payload::new(if bytes.is_empty() { Codec::Empty } else { codec }, bytes)
}

/// A payload of what was gathered.
fn gathered(codec: Codec, spill: Spill) -> io::Result<Payload> {
    match spill.finish()? {
        Spilled::Few(bytes) => Ok(written_in(codec, bytes.into())),
        Spilled::Many(sealed) => {
            Ok(Payload::in_memory(codec, sealed.memory().clone(), sealed.bytes()?))
        }
    }
}

/// The next piece of data; trailers are passed over.
async fn next(body: &mut Incoming, pause: Duration) -> Result<Option<Bytes>, BodyError> {
    loop {
        match frame(body, pause).await? {
            None => return Ok(None),
            Some(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The next frame, or an error after `pause` without one.
async fn frame(body: &mut Incoming, pause: Duration) -> Result<Option<Frame<Bytes>>, BodyError> {
    let mut asked = false;
    let mut timer: Pin<&mut Option<Sleep>> = pin!(None);
    poll_fn(|cx| {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Ok(Some(frame))),
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(BodyError::Broken(error))),
            Poll::Ready(None) => return Poll::Ready(Ok(None)),
            Poll::Pending => {}
        }
        if !asked {
            // hyper begins to look for a body only when asked for it, so the first answer is
            // always to wait. Look once more before paying for a timer: a small body is there.
            asked = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if timer.is_none() {
            timer.set(Some(tokio::time::sleep(pause)));
        }
        match timer.as_mut().as_pin_mut().map(|timer| timer.poll(cx)) {
            Some(Poll::Ready(())) => Poll::Ready(Err(BodyError::Paused)),
            _ => Poll::Pending,
        }
    })
    .await
}
