//! A build without traces.

use exuvia_core::{Failure, Outcome, TraceContext};

use super::{Incoming, TraceError};

pub(super) const CLIENT_CLOSED: u16 = 499;

#[derive(Debug)]
pub(super) enum Exporting {}

#[derive(Debug, Default)]
pub(super) struct Request;

pub(super) fn start(_version: &'static str) -> Result<Option<Exporting>, TraceError> {
    Ok(None)
}

// === impl Request ===

impl Request {
    pub(super) fn start(_incoming: &Incoming<'_>) -> Self {
        Self
    }

    pub(super) fn call(&mut self, _handler: &str) -> Option<TraceContext> {
        None
    }

    pub(super) fn called(&mut self, _outcome: &Outcome) {}

    pub(super) fn broke_off(&mut self, _failure: &Failure) {}

    pub(super) fn end(&mut self, _status: u16) {}
}
