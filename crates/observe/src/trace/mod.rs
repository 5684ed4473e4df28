//! Requests and their calls as spans of a distributed trace (OpenTelemetry).
//!
//! Without the feature `otel` everything here does nothing and takes no room. With it, [`start`]
//! looks at the variables of the OpenTelemetry specification and sends spans to the collector that
//! they name.

use exuvia_core::{Failure, Outcome, TraceContext};

#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod otel;

#[cfg(not(feature = "otel"))]
use off as inner;
#[cfg(feature = "otel")]
use otel as inner;

/// The variable that names where traces are sent.
pub const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Whether this build can export traces.
pub const BUILT_IN: bool = cfg!(feature = "otel");

/// Sends spans for as long as it lives; what waits is sent when it is dropped.
///
/// Dropping it blocks for up to two seconds: not on a thread that runs futures.
#[derive(Debug)]
#[must_use = "spans are sent for as long as it lives"]
pub struct Exporting {
    _inner: inner::Exporting,
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A variable asks for what there is not.
    #[error("{variable}: {problem}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Something else.
    #[error("traces cannot be exported: {0}")]
    Other(String),
}

/// What is known of a request when it begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Incoming<'a> {
    /// The method, as it came.
    pub method: &'a str,
    /// The route's pattern (`/forecast/{asset}`), if one was found.
    pub route: Option<&'a str>,
    /// The path, without the query.
    pub path: &'a str,
    /// The version of HTTP: `1.1`, `2`.
    pub version: &'a str,
    /// `traceparent`, if the client sent one that can be read.
    pub parent: Option<TraceContext>,
    /// `tracestate`, as it came.
    pub state: Option<&'a str>,
}

/// A request as a span, and its call as a child of that.
///
/// Dropped without an end, it ends as a request whose client went away.
#[derive(Debug, Default)]
pub struct RequestSpan {
    inner: inner::Request,
}

/// Starts to export the spans of this process, if the environment asks for it:
/// `OTEL_EXPORTER_OTLP_ENDPOINT` (or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) names a collector that
/// takes OTLP over plain HTTP. `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
/// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, `OTEL_BSP_*`, and the timeout and headers
/// of `OTEL_EXPORTER_OTLP_*` are followed too. `OTEL_SDK_DISABLED=true` and
/// `OTEL_TRACES_EXPORTER=none` turn it off.
///
/// `version` is that of the service. Call it once: a process exports in one way.
///
/// # Errors
/// When a variable asks for what this build cannot do.
pub fn start(version: &'static str) -> Result<Option<Exporting>, TraceError> {
    Ok(inner::start(version)?.map(|inner| Exporting { _inner: inner }))
}

// === impl RequestSpan ===

impl RequestSpan {
    /// A request begins.
    #[must_use]
    pub fn start(incoming: &Incoming<'_>) -> Self {
        Self { inner: inner::Request::start(incoming) }
    }

    /// It makes a call, of the handler `module:function`. Given is the trace context for the worker;
    /// `None` where no spans are made, and what came with the request holds.
    pub fn call(&mut self, handler: &str) -> Option<TraceContext> {
        self.inner.call(handler)
    }

    /// How the call ended, or that its result begins to come: then it ends with the request.
    pub fn called(&mut self, outcome: &Outcome) {
        self.inner.called(outcome);
    }

    /// The result that began to come breaks off.
    pub fn broke_off(&mut self, failure: &Failure) {
        self.inner.broke_off(failure);
    }

    /// It was answered, all of it; 499 is a client that went away.
    pub fn end(&mut self, status: u16) {
        self.inner.end(status);
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        self.inner.end(inner::CLIENT_CLOSED);
    }
}

#[cfg(all(test, not(feature = "otel")))]
mod tests {
    use super::*;

    #[test]
    fn without_the_feature_a_span_takes_no_room_and_leaves_the_trace_as_it_came() {
        assert_eq!(size_of::<RequestSpan>(), 0);
        let mut span = RequestSpan::start(&Incoming { method: "GET", ..Incoming::default() });
        assert_eq!(span.call("m:f"), None);
        assert!(start("0").is_ok_and(|exporting| exporting.is_none()));
    }
}
