//! The body of an answer: whole, or in pieces as they are made.

use std::{
    fmt,
    mem::take,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use exuvia_core::{Diagnostics, Failure, Rest};
use http::Response;
use http_body_util::Full;
use hyper::body::{Frame, SizeHint};

use crate::{counted::Counted, edge::Dressed, failure, feed::Pump};

/// An answer on its way to a client.
pub(crate) type Answer = Response<Body>;

/// What an answer carries.
pub(crate) enum Body {
    Whole(Full<Bytes>),
    Streamed(Box<Streamed>),
    Dressed(Box<Dressed>),
}

/// A result that is still being made. Dropping it before its end cancels the call.
pub(crate) struct Streamed {
    start: Bytes,
    rest: Rest,
    diagnostics: Diagnostics,
    /// What brings the handler its data, where not all of that was there.
    pump: Option<Pump>,
    /// The request, which is counted answered when this ends; set once the answer is on its way.
    pub(crate) counted: Option<Counted>,
    /// Why it broke off, once what was made before is on its way.
    failure: Option<Box<Failure>>,
    /// How a failure is told in the answer itself, where that can be.
    pub(crate) last_word: Option<LastWord>,
    /// Nothing comes any more.
    over: bool,
}

/// Server-sent events can tell of a failure after the first of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastWord {
    pub(crate) expose: bool,
}

/// An answer that ends before its end; what became of it is in the log.
#[derive(Debug)]
pub(crate) struct BrokenOff;

// === impl Body ===

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx).map_err(|never| match never {}),
            Self::Streamed(streamed) => {
                streamed.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
            }
            Self::Dressed(dressed) => dressed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Streamed(_) | Self::Dressed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Streamed(_) | Self::Dressed(_) => SizeHint::new(),
        }
    }
}

// === impl Streamed ===

impl Streamed {
    /// `start`, and what `rest` gives after it.
    pub(crate) fn new(
        start: Bytes,
        rest: Rest,
        diagnostics: Diagnostics,
        pump: Option<Pump>,
    ) -> Self {
        Self {
            start,
            rest,
            diagnostics,
            pump,
            counted: None,
            failure: None,
            last_word: None,
            over: false,
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if !self.start.is_empty() {
            return Poll::Ready(Some(Ok(take(&mut self.start))));
        }
        if let Some(pump) = &mut self.pump
            && let Poll::Ready(error) = pump.poll_broken(cx)
        {
            // The handler hears that its data ends too early, and fails or not.
            let call = &self.diagnostics.call_id;
            tracing::debug!(call, ?error, "the body broke off while it was answered");
        }
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(failure) = self.failure.take() {
            self.ends(Some(&failure));
            return Poll::Ready(Some(self.told(&failure).ok_or(BrokenOff)));
        }
        match ready!(self.rest.poll_next(cx)) {
            Some(Ok(piece)) => Poll::Ready(Some(Ok(piece))),
            None => {
                self.ends(None);
                Poll::Ready(None)
            }
            Some(Err(failure)) => {
                self.log(&failure);
                self.failure = Some(failure);
                // An error throws away what waits to be written: let that go out first.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn ends(&mut self, failure: Option<&Failure>) {
        if let Some(mut counted) = self.counted.take() {
            counted.completed(&self.diagnostics, failure);
        }
    }

    /// What broke it off as an event, after which the answer ends as it should.
    fn told(&mut self, failure: &Failure) -> Option<Bytes> {
        let LastWord { expose } = self.last_word?;
        self.over = true;
        let problem = failure::problem(failure, &self.diagnostics.call_id, expose);
        let body = problem.into_call_body(&self.diagnostics.call_id);
        let mut event = b"event: error\ndata: ".to_vec();
        event.extend_from_slice(&body);
        event.extend_from_slice(b"\n\n");
        Some(event.into())
    }

    fn log(&self, failure: &Failure) {
        if let Some(counted) = &self.counted {
            failure::log(failure, &self.diagnostics, &counted.entry.path);
        }
    }
}

// === impl BrokenOff ===

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer broke off")
    }
}

impl std::error::Error for BrokenOff {}
