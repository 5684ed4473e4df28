//! One request as it is counted: in the metrics, on the page, in a trace.

use std::{sync::Arc, time::Instant};

use exuvia_core::{Diagnostics, Failure};
use exuvia_observe::trace::{self, RequestSpan};
use http::{StatusCode, Version, request::Parts};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    connection::Client,
    failure,
    problem::CLIENT_CLOSED,
    routes::{Entry, LeadsTo},
    service::{TRACESTATE, traced},
    watch::Seen,
};

/// Counts one request, whatever becomes of it: dropped without a status, its client went away.
pub(crate) struct Counted {
    pub(crate) client: Arc<Client>,
    pub(crate) entry: Arc<Entry>,
    began: Instant,
    status: u16,
    /// The status of an answer that goes well to its end.
    pub(crate) good: StatusCode,
    pub(crate) seen: Option<Seen>,
    /// Its place among those of its route that run at a time.
    pub(crate) room: Option<OwnedSemaphorePermit>,
    pub(crate) span: RequestSpan,
}

// === impl Counted ===

impl Counted {
    pub(crate) fn new(client: Arc<Client>, entry: Arc<Entry>, parts: &Parts) -> Self {
        let began = Instant::now();
        let span = span(&entry, parts);
        client.begin();
        client.server.metrics.http.in_flight.inc();
        let seen = entry.number.map(|route| client.server.watch.began(route, began));
        Self {
            client,
            entry,
            began,
            status: CLIENT_CLOSED,
            good: StatusCode::OK,
            seen,
            room: None,
            span,
        }
    }

    /// The answer was made, or is not made any further.
    pub(crate) fn ended(&mut self, status: u16) {
        self.status = status;
    }

    /// All of a streamed answer was made, or it broke off for a reason.
    pub(crate) fn completed(&mut self, diagnostics: &Diagnostics, failure: Option<&Failure>) {
        self.status = failure.map_or(self.good.as_u16(), failure::status);
        self.told(diagnostics, failure);
        if let Some(failure) = failure {
            self.span.broke_off(failure);
        } else {
            self.client.set_open_ended(false);
        }
    }

    pub(crate) fn told(&mut self, diagnostics: &Diagnostics, failure: Option<&Failure>) {
        if let Some(seen) = &mut self.seen {
            seen.ended(diagnostics, self.status, failure, Instant::now());
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let now = Instant::now();
        self.client.server.metrics.http.in_flight.dec();
        self.entry.metrics.answered(self.status, now - self.began);
        if self.client.is_unread() {
            self.client.spoil();
        }
        self.client.end(now);
        self.span.end(self.status);
    }
}

/// The request's place in a trace, where this program is built to tell of them: of routes, not of
/// pages.
fn span(entry: &Entry, parts: &Parts) -> RequestSpan {
    if !trace::BUILT_IN || matches!(entry.leads_to, LeadsTo::Page(_)) {
        return RequestSpan::default();
    }
    let state = parts.headers.get(TRACESTATE).and_then(|state| state.to_str().ok());
    RequestSpan::start(&trace::Incoming {
        method: parts.method.as_str(),
        route: entry.number.map(|_| entry.path.as_str()),
        path: parts.uri.path(),
        version: if parts.version == Version::HTTP_2 { "2" } else { "1.1" },
        parent: traced(&parts.headers),
        state,
    })
}
