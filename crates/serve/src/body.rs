//! Reading a request's body, up to a limit: a short one into one piece of memory, one above
//! [`SHARED_FROM`] straight into memory that a worker can map. A packed one is gathered as it comes
//! and unpacked when it is all there: else a client could have much held for little, and wait.

use std::{
    future::{Future, poll_fn},
    io::{self, Write as _},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use exuvia_core::{Codec, Payload, Responsible, SHARED_FROM};
use exuvia_sys::{Spill, Spilled};
use http::StatusCode;
use hyper::body::{Body, Frame, Incoming};
use tokio::{sync::Semaphore, time::Sleep};

use crate::{
    connection::Client,
    decompress::{Coding, UnpackError, Unpacker},
    problem::Problem,
};

/// A packed body of at most this many bytes is unpacked where it is read, as long as it does not
/// become more than [`SHARED_FROM`]; another in a thread of its own.
const UNPACKED_HERE: usize = 16 << 10;

/// Bodies that are unpacked at a time.
static UNPACKING: Semaphore = Semaphore::const_new(4);

/// Why a body could not be read.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It is longer than the limit.
    TooLarge,
    /// Nothing came for too long.
    Paused,
    /// It is not what its framing says, or the client went away.
    Broken(hyper::Error),
    /// It cannot be unpacked.
    Packed(String),
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
    /// What unpacks it.
    unpacker: Option<Box<Unpacker>>,
    /// Who wants to know that it was read to a certain end.
    client: Option<Arc<Client>>,
}

// === impl Reading ===

impl Reading {
    /// Waits for the first piece of `body`, which may have `max` bytes, packed and unpacked, and
    /// pause for `pause`.
    pub(crate) async fn begin(
        client: &Arc<Client>,
        mut body: Incoming,
        coding: Option<Coding>,
        max: u64,
        pause: Duration,
    ) -> Result<Self, BodyError> {
        let declared = body.size_hint().lower();
        if declared > max {
            return Err(BodyError::TooLarge);
        }
        let client = client.is_unread().then(|| Arc::clone(client));
        let first = next(&mut body, client.as_deref(), pause).await?;
        let taken = first.as_ref().map_or(0, |first| first.len() as u64);
        if taken > max {
            return Err(BodyError::TooLarge);
        }
        let unpacker = coding.map(|coding| Unpacker::new(coding, max).map(Box::new)).transpose();
        let unpacker = unpacker.map_err(BodyError::NoRoom)?;
        Ok(Self { body, first, declared, taken, max, pause, unpacker, client })
    }

    /// Whether nothing follows the first piece, as of the usual body.
    pub(crate) fn is_there(&self) -> bool {
        self.first.is_none() || self.body.is_end_stream() || self.taken == self.declared
    }

    /// The next piece, unpacked; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.unpacker.is_none() {
            return self.as_it_comes().await;
        }
        loop {
            if let Some(unpacker) = &mut self.unpacker
                && let Some(piece) = unpacker.next()?
            {
                return Ok(Some(piece));
            }
            let came = self.as_it_comes().await?;
            let Some(unpacker) = &mut self.unpacker else { return Ok(came) };
            match came {
                Some(piece) => unpacker.feed(piece),
                None => {
                    unpacker.finish();
                    return Ok(unpacker.next()?);
                }
            }
        }
    }

    /// The next piece as it came over the wire.
    async fn as_it_comes(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let client = self.client.as_deref();
        let Some(piece) = next(&mut self.body, client, self.pause).await? else { return Ok(None) };
        self.taken += piece.len() as u64;
        if self.taken > self.max { Err(BodyError::TooLarge) } else { Ok(Some(piece)) }
    }

    /// All of it, as data in `codec`; without any it is a payload without data.
    pub(crate) async fn whole(mut self, codec: Codec) -> Result<Payload, BodyError> {
        let unpacker = self.unpacker.take();
        if self.is_there() && self.taken <= SHARED_FROM as u64 {
            // What came in one piece is handed on as it is.
            let all = self.first.take().unwrap_or_default();
            return match unpacker {
                None => Ok(written_in(codec, all)),
                Some(unpacker) => unpack(codec, unpacker, all).await,
            };
        }
        let spill = Spill::expecting(self.declared, SHARED_FROM);
        let mut spill = spill.map_err(BodyError::NoRoom)?;
        while let Some(piece) = self.as_it_comes().await? {
            // Memory takes what it is given at once, so this waits for nobody.
            spill.write_all(&piece).map_err(BodyError::NoRoom)?;
        }
        let Some(unpacker) = unpacker else {
            return gathered(codec, spill).map_err(BodyError::NoRoom);
        };
        let all = match spill.finish().map_err(BodyError::NoRoom)? {
            Spilled::Few(bytes) => bytes.into(),
            Spilled::Many(sealed) => sealed.bytes().map_err(BodyError::NoRoom)?,
        };
        unpack(codec, unpacker, all).await
    }
}

/// What `packed` is unpacked, as data in `codec`.
async fn unpack(
    codec: Codec,
    mut unpacker: Box<Unpacker>,
    packed: Bytes,
) -> Result<Payload, BodyError> {
    let few = packed.len() <= UNPACKED_HERE;
    unpacker.feed(packed);
    unpacker.finish();
    let mut spill = Spill::new(SHARED_FROM);
    if few && pour(&mut unpacker, &mut spill, SHARED_FROM as u64)? {
        return gathered(codec, spill).map_err(BodyError::NoRoom);
    }
    // It is never closed.
    let _permit = UNPACKING.acquire().await.ok();
    let pouring = tokio::task::spawn_blocking(move || {
        pour(&mut unpacker, &mut spill, u64::MAX)?;
        gathered(codec, spill).map_err(BodyError::NoRoom)
    });
    pouring.await.unwrap_or_else(|fault| Err(BodyError::NoRoom(io::Error::other(fault))))
}

/// Unpacks until `enough` is there; whether that was all.
fn pour(unpacker: &mut Unpacker, spill: &mut Spill, enough: u64) -> Result<bool, BodyError> {
    while spill.length() < enough {
        let Some(piece) = unpacker.next()? else { return Ok(true) };
        spill.write_all(&piece).map_err(BodyError::NoRoom)?;
    }
    Ok(false)
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

// === impl BodyError ===

impl From<UnpackError> for BodyError {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::TooLarge => Self::TooLarge,
            UnpackError::Broken(why) => Self::Packed(why),
        }
    }
}

impl BodyError {
    /// What the client is told, where a body may have `max` bytes and pause for `pause`. What is
    /// left of the body is still on the connection, which therefore ends.
    pub(crate) fn problem(&self, max: u64, pause: Duration) -> Problem {
        match self {
            Self::TooLarge => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "The body is too large",
                format!("a body may have {max} bytes here, packed and unpacked"),
            ),
            Self::Paused => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "The request came too slowly",
                format!("nothing of the body came for {} ms", pause.as_millis()),
            ),
            Self::Broken(error) => {
                let cause = std::error::Error::source(error)
                    .map_or_else(|| error.to_string(), |source| source.to_string());
                Problem::bad_request(format!("the body is not what its framing says: {cause}"))
            }
            Self::Packed(why) => Problem::bad_request(why.clone()),
            Self::NoRoom(error) => {
                tracing::error!("a request's body found no room: {error}");
                Problem {
                    responsible: Responsible::Infrastructure,
                    retry_after: Some(1),
                    ..Problem::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "no_room",
                        "There is no room for the body",
                        "the server has no memory or no file descriptor left for a body this large",
                    )
                }
            }
        }
        .closing()
    }
}

/// The next piece of data; trailers are passed over, and leave it open where the body ended.
async fn next(
    body: &mut Incoming,
    client: Option<&Client>,
    pause: Duration,
) -> Result<Option<Bytes>, BodyError> {
    let Some(frame) = frame(body, pause).await? else {
        if let Some(client) = client {
            client.set_unread(false);
        }
        return Ok(None);
    };
    // Nothing comes after trailers.
    Ok(frame.into_data().ok())
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
