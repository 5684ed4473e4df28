//! Reading a request's body, up to a limit.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
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
}

/// What is reserved ahead of a body that only says how long it will be.
const RESERVE_MOST: u64 = 1 << 20;

/// Reads `body` whole. It may have `max` bytes and pause for `pause`.
pub(crate) async fn read(
    mut body: Incoming,
    max: u64,
    pause: Duration,
) -> Result<Bytes, BodyError> {
    let declared = body.size_hint().lower();
    if declared > max {
        return Err(BodyError::TooLarge);
    }
    let Some(first) = next(&mut body, pause).await? else { return Ok(Bytes::new()) };
    if first.len() as u64 > max {
        return Err(BodyError::TooLarge);
    }
    if body.is_end_stream() || first.len() as u64 == declared {
        // The usual body came in one piece and is handed on as it is.
        return Ok(first);
    }
    let mut whole =
        BytesMut::with_capacity(declared.clamp(first.len() as u64, RESERVE_MOST) as usize);
    whole.extend_from_slice(&first);
    while let Some(piece) = next(&mut body, pause).await? {
        if whole.len() as u64 + piece.len() as u64 > max {
            return Err(BodyError::TooLarge);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
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
