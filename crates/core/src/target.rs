//! What can be called, and what a call carries.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{Codec, HandlerInfo, Outcome, Payload};

/// The future of one call's end. It must be polled by a tokio runtime with time and I/O enabled.
pub type OutcomeFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Anything that can be called: a handler in a pool, and later a pipeline or an actor.
///
/// Front ends know each other only by this trait.
pub trait Target: Send + Sync {
    /// What the target says about itself.
    fn info(&self) -> &Arc<HandlerInfo>;

    /// Starts a call. Dropping the future cancels the call: an unstarted one is forgotten, a
    /// started one is told to stop.
    fn call(&self, call: Call) -> OutcomeFuture;
}

/// One use of a handler.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The data, still as it came from outside.
    pub payload: Payload,
    /// Arguments given as text, by name (from a path, a query, a command line): the worker reads
    /// each by the parameter's annotation. A name that is there several times is a list. Names that
    /// begin with `:` are no arguments but say what else is known of the call: [`about`].
    pub text_arguments: Vec<(String, String)>,
    /// How the answer shall be written down.
    pub accept: Codec,
    /// Whether a result may come in pieces ([`Payload::rest`]). Where not, what a generator yields
    /// is gathered first.
    pub streams: bool,
    /// Wall time from now until the call is stopped; `None` takes the pool's limit.
    pub timeout: Option<Duration>,
    /// The caller's place in a distributed trace, handed on to the worker.
    pub trace: Option<TraceContext>,
}

/// Names in [`Call::text_arguments`] that are no arguments; no parameter can be called so.
pub mod about {
    /// The media type of the data, with its parameters, as it came.
    pub const MEDIA: &str = ":media";
    /// The id that the client gave its request.
    pub const REQUEST: &str = ":request";
    /// `tracestate` (W3C trace context).
    pub const TRACESTATE: &str = ":tracestate";
    /// Bytes of memory that the call may take.
    pub const MEMORY: &str = ":memory";
    /// Source code of the handler, for an isolate.
    pub const SOURCE: &str = ":source";
    /// The function in that source code.
    pub const ENTRYPOINT: &str = ":entrypoint";
    /// The [`ENTRYPOINT`] of a call that is there for the sake of the memory that it touches.
    pub const TOUCH: &str = ":touch";
}

/// W3C trace context (`traceparent`): 16 bytes of trace id, 8 of the caller's span, flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The whole trace's id; never all zero.
    pub trace_id: [u8; 16],
    /// The caller's span id; never all zero.
    pub span_id: [u8; 8],
    /// `01` when the caller records the trace.
    pub flags: u8,
}

impl TraceContext {
    /// Reads a `traceparent` header (version 00, and by its rules any later one).
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let (version, trace, span, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let version = unhex::<1>(version)?[0];
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let context =
            Self { trace_id: unhex(trace)?, span_id: unhex(span)?, flags: unhex::<1>(flags)?[0] };
        (context.trace_id != [0; 16] && context.span_id != [0; 8]).then_some(context)
    }
}

impl fmt::Display for TraceContext {
    /// As a `traceparent` header has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// `N` bytes of lower-case hexadecimal text.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::TraceContext;

    #[test]
    fn traceparent_follows_the_w3c_rules() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parsed = TraceContext::parse(good);
        assert_eq!(parsed.map(|context| context.flags), Some(1));
        assert_eq!(parsed.map(|context| context.to_string()).as_deref(), Some(good));
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-é",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }
}
