//! What each failure of a call looks like from outside, and what the log says of it.

use exuvia_core::{Diagnostics, Failure, FailureKind, Frame, outcome::render_frames};
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::problem::{CLIENT_CLOSED, Problem};

/// The problem that tells a client of `failure`; `expose` puts the handler's own words in it.
pub(crate) fn problem(failure: &Failure, call_id: &str, expose: bool) -> Problem {
    let mut problem = Problem {
        status: status(failure),
        kind: failure.kind().word(),
        title: title(failure.kind()),
        detail: detail(failure, call_id, expose),
        responsible: failure.responsible(),
        more: Box::default(),
        retry_after: retry_after(failure),
        allow: None,
        close: false,
    };
    members(failure, expose, &mut problem.more);
    problem
}

/// Writes `failure` to the log, once: what went wrong on this side as error or warning, what the
/// caller did as debug.
pub(crate) fn log(failure: &Failure, diagnostics: &Diagnostics, route: &str) {
    let kind = failure.kind().word();
    let Diagnostics { call_id: error_id, handler, worker, pid, .. } = diagnostics;
    let (worker, pid) = (worker.unwrap_or_default(), pid.unwrap_or_default());
    let traceback = traceback(failure);
    match failure {
        Failure::Malformed { .. }
        | Failure::Input { .. }
        | Failure::Refused { .. }
        | Failure::Cancelled => {
            tracing::debug!(error_id, handler, route, kind, "{failure}");
        }
        // Load and the death of neighbours pass by themselves.
        Failure::Rejected { .. }
        | Failure::WorkerLost { .. }
        | Failure::Timeout { started: false, .. } => {
            tracing::warn!(error_id, handler, route, kind, "{failure}");
        }
        _ if traceback.is_empty() => {
            tracing::error!(error_id, handler, route, kind, worker, pid, "{failure}");
        }
        _ => {
            tracing::error!(error_id, handler, route, kind, worker, pid, traceback, "{failure}");
        }
    }
}

/// The status that tells of `failure`.
pub(crate) fn status(failure: &Failure) -> u16 {
    let status = match failure {
        Failure::Refused { status, .. } => return *status,
        Failure::Malformed { .. } => StatusCode::BAD_REQUEST,
        Failure::Input { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Failure::Exception { .. } | Failure::Result { .. } | Failure::Host { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Failure::Crash { .. }
        | Failure::Exited { .. }
        | Failure::Limit { .. }
        | Failure::Denied { .. } => StatusCode::BAD_GATEWAY,
        Failure::Timeout { started: true, .. } => StatusCode::GATEWAY_TIMEOUT,
        Failure::Timeout { started: false, .. }
        | Failure::WorkerLost { .. }
        | Failure::Rejected { .. }
        | Failure::Load { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Failure::Cancelled => return CLIENT_CLOSED,
    };
    status.as_u16()
}

fn title(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Malformed => "The body cannot be read",
        FailureKind::Input => "The arguments do not fit the handler",
        FailureKind::Exception => "The handler raised an exception",
        FailureKind::Refused => "The handler refused the request",
        FailureKind::Result => "The handler's result cannot be written down",
        FailureKind::Timeout => "The call took too long",
        FailureKind::Crash => "The worker crashed",
        FailureKind::Exited => "The worker ended itself",
        FailureKind::Limit => "The call took more than its limit",
        FailureKind::Denied => "The call did what it may not do",
        FailureKind::WorkerLost => "The worker was lost",
        FailureKind::Rejected => "The call was not taken",
        FailureKind::Cancelled => "The caller went away",
        FailureKind::Load => "The handler cannot be loaded",
        FailureKind::Host => "Exuvia failed",
    }
}

fn detail(failure: &Failure, call_id: &str, expose: bool) -> String {
    match failure {
        Failure::Exception { .. } if !expose => {
            format!("The handler raised an exception. The server's log has it under {call_id}.")
        }
        // An import's failure is an exception's text too.
        Failure::Load { .. } if !expose => {
            format!("The handler cannot be loaded. The server's log says why under {call_id}.")
        }
        Failure::Input { faults } if faults.len() > 1 => {
            format!("{} things are wrong with the arguments: {failure}", faults.len())
        }
        _ => failure.to_string(),
    }
}

fn retry_after(failure: &Failure) -> Option<u64> {
    match failure {
        Failure::Rejected { retry_after_ms, .. } => Some(retry_after_ms.div_ceil(1000).max(1)),
        Failure::Timeout { started: false, .. } => Some(1),
        Failure::WorkerLost { retryable: true, .. } => Some(0),
        _ => None,
    }
}

/// What a problem of the failure's kind says beyond the members all have.
fn members(failure: &Failure, expose: bool, more: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| {
        more.insert(name.to_owned(), value);
    };
    match failure {
        Failure::Input { faults } => {
            let faults = faults
                .iter()
                .map(|fault| json!({ "pointer": fault.pointer, "detail": fault.message }));
            put("errors", faults.collect());
        }
        Failure::Exception { class, message, traceback, .. } if expose => {
            let exception = json!({ "class": class, "message": message, "traceback": traceback });
            put("exception", exception);
        }
        Failure::Load { traceback, .. } if expose && !traceback.is_empty() => {
            put("traceback", json!(traceback));
        }
        Failure::Timeout { limit_ms, started, .. } => {
            put("limit_ms", json!(limit_ms));
            put("started", json!(started));
        }
        Failure::Crash { signal, .. } => put("signal", json!(signal)),
        Failure::Exited { status, .. } => put("exit_status", json!(status)),
        Failure::Limit { resource, limit, used } => {
            put("resource", json!(resource));
            put("limit", json!(limit));
            put("used", json!(used));
        }
        Failure::Denied { what, count } => {
            put("denied", json!(what));
            put("count", json!(count));
        }
        Failure::WorkerLost { retryable, .. } => put("retryable", json!(retryable)),
        _ => {}
    }
    if let Failure::Timeout { frames, .. } | Failure::Crash { frames, .. } = failure
        && expose
        && !frames.is_empty()
    {
        put("frames", frames.iter().map(frame).collect());
    }
}

fn frame(frame: &Frame) -> Value {
    json!({ "file": frame.file, "line": frame.line, "function": frame.function })
}

/// Where it happened, for the log: Python's own traceback, or the frames that were found.
fn traceback(failure: &Failure) -> String {
    match failure {
        Failure::Exception { traceback, .. } | Failure::Load { traceback, .. } => traceback.clone(),
        _ => render_frames(failure.frames()),
    }
}
