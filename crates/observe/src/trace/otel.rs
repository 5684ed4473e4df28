//! A build with traces.
//!
//! Names follow the semantic conventions for HTTP servers, version 1.23 and later; what those do
//! not know is called `exuvia.*`.

use std::{env, sync::OnceLock, time::Duration};

use exuvia_core::{Diagnostics, Failure, Outcome, Responsible, TraceContext};
use opentelemetry::{
    Context, InstrumentationScope, KeyValue, TraceFlags,
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
        TraceId, TraceState, TracerProvider as _,
    },
};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracer, SdkTracerProvider, Span, SpanData},
};
use tokio::runtime;

use super::{Incoming, TraceError};

/// The status of a request whose client went away: nobody got an answer.
pub(super) const CLIENT_CLOSED: u16 = 499;

/// `error.type` of what nobody waits for any more.
const CANCELLED: &str = "cancelled";

/// Methods that may stand in a span's name; any other could be anything a client thinks of.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// How long the end of a process may be held up to send what waits.
const FLUSH: Duration = Duration::from_secs(2);

/// What makes the spans of this process, from [`start`] on.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

#[derive(Debug)]
pub(super) struct Exporting(SdkTracerProvider);

#[derive(Debug, Default)]
pub(super) struct Request {
    /// None where there is no tracer, and once it has ended.
    span: Option<Span>,
    /// The call that it makes, while that goes on.
    call: Option<Span>,
}

/// Sends spans by a runtime of its own.
///
/// The batches are made on a thread of the SDK's that knows no runtime, and hyper needs one; that
/// of the server is not for this, as it may be gone when the last spans are sent.
#[derive(Debug)]
struct Sender {
    runtime: runtime::Runtime,
    exporter: SpanExporter,
}

pub(super) fn start(version: &'static str) -> Result<Option<Exporting>, TraceError> {
    if !is_wanted()? {
        return Ok(None);
    }
    let other = |error: &dyn std::error::Error| TraceError::Other(error.to_string());
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| other(&error))?;
    let exporter = SpanExporter::builder().with_http().build().map_err(|error| other(&error))?;
    let mut resource = Resource::builder();
    if !is_named() {
        resource = resource.with_service_name("exuvia");
    }
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(Sender { runtime, exporter })
        .with_resource(resource.with_attribute(KeyValue::new("service.version", version)).build())
        .build();
    let scope = InstrumentationScope::builder("exuvia").with_version(version).build();
    if TRACER.set(provider.tracer_with_scope(scope)).is_err() {
        return Err(TraceError::Other("they are exported already".to_owned()));
    }
    Ok(Some(Exporting(provider)))
}

/// Whether the environment asks for traces, in a way that there is.
fn is_wanted() -> Result<bool, TraceError> {
    if set("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER").is_some_and(|text| text == "none")
    {
        return Ok(false);
    }
    for variable in [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT] {
        let Some(endpoint) = set(variable) else { continue };
        if !endpoint.starts_with("http://") {
            let problem = format!("`{endpoint}` must begin with http://: there is no TLS here");
            return Err(TraceError::Variable { variable, problem });
        }
        return Ok(true);
    }
    Ok(false)
}

/// Whether the service was given a name.
fn is_named() -> bool {
    set("OTEL_SERVICE_NAME").is_some()
        || set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|text| {
            text.split(',').any(|entry| entry.trim_start().starts_with("service.name="))
        })
}

/// A variable that says something: an empty one counts as not there.
fn set(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|text| !text.is_empty())
}

// === impl Exporting ===

impl Drop for Exporting {
    fn drop(&mut self) {
        // What could not be sent was logged by the SDK, and there is nobody else to tell.
        let _ = self.0.shutdown_with_timeout(FLUSH);
    }
}

// === impl Sender ===

impl opentelemetry_sdk::trace::SpanExporter for Sender {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.runtime.block_on(self.exporter.export(batch))
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

// === impl Request ===

impl Request {
    pub(super) fn start(incoming: &Incoming<'_>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self::default() };
        let method = METHODS.into_iter().find(|method| *method == incoming.method);
        let name = match (method.unwrap_or("HTTP"), incoming.route) {
            (method, Some(route)) => format!("{method} {route}"),
            (method, None) => method.to_owned(),
        };
        let span = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes_of(incoming, method))
            .start_with_context(tracer, &parent_of(incoming));
        Self { span: Some(span), call: None }
    }

    pub(super) fn call(&mut self, handler: &str) -> Option<TraceContext> {
        let (tracer, request) = (TRACER.get()?, self.span.as_ref()?);
        let parent = Context::new().with_remote_span_context(request.span_context().clone());
        let call = SpanBuilder::from_name(handler.to_owned())
            .with_kind(SpanKind::Internal)
            .with_attributes([KeyValue::new("exuvia.handler", handler.to_owned())])
            .start_with_context(tracer, &parent);
        let context = call.span_context();
        let given = TraceContext {
            trace_id: context.trace_id().to_bytes(),
            span_id: context.span_id().to_bytes(),
            flags: context.trace_flags().to_u8(),
        };
        self.call = Some(call);
        Some(given)
    }

    pub(super) fn called(&mut self, outcome: &Outcome) {
        let Some(call) = &mut self.call else { return };
        describe(call, &outcome.diagnostics);
        match &outcome.result {
            Ok(payload) if payload.rest.is_some() => return,
            Ok(_) => {}
            Err(failure) => fail(call, failure),
        }
        call.end();
        self.call = None;
    }

    pub(super) fn broke_off(&mut self, failure: &Failure) {
        if let Some(mut call) = self.call.take() {
            fail(&mut call, failure);
            call.end();
        }
    }

    pub(super) fn end(&mut self, status: u16) {
        if let Some(mut call) = self.call.take() {
            // All of its result was made, or nobody waits for it any more.
            judge(&mut call, status);
            call.end();
        }
        if let Some(mut span) = self.span.take() {
            if status != CLIENT_CLOSED {
                let code = i64::from(status);
                span.set_attribute(KeyValue::new("http.response.status_code", code));
            }
            judge(&mut span, status);
            span.end();
        }
    }
}

fn attributes_of(incoming: &Incoming<'_>, method: Option<&'static str>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("http.request.method", method.unwrap_or("_OTHER")),
        KeyValue::new("url.path", incoming.path.to_owned()),
        KeyValue::new("url.scheme", "http"),
    ];
    if method.is_none() {
        let original = incoming.method.to_owned();
        attributes.push(KeyValue::new("http.request.method_original", original));
    }
    if let Some(route) = incoming.route {
        attributes.push(KeyValue::new("http.route", route.to_owned()));
    }
    if !incoming.version.is_empty() {
        let version = incoming.version.to_owned();
        attributes.push(KeyValue::new("network.protocol.version", version));
    }
    attributes
}

/// The context of the client's span, or none.
fn parent_of(incoming: &Incoming<'_>) -> Context {
    let Some(TraceContext { trace_id, span_id, flags }) = incoming.parent else {
        return Context::new();
    };
    // One that cannot be read is as good as none (W3C trace context, 3.3).
    let state = incoming.state.and_then(|state| state.parse::<TraceState>().ok());
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes(trace_id),
        SpanId::from_bytes(span_id),
        TraceFlags::new(flags),
        true,
        state.unwrap_or_default(),
    ))
}

/// Says what the host measured of a call.
fn describe(call: &mut Span, diagnostics: &Diagnostics) {
    let Diagnostics { call_id, worker, pid, queued_us, run_us, attempts, .. } = diagnostics;
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let seconds = |us: u64| us as f64 / 1e6;
    call.set_attributes([
        KeyValue::new("exuvia.call.id", call_id.clone()),
        KeyValue::new("exuvia.call.queue_time", seconds(*queued_us)),
        KeyValue::new("exuvia.call.run_time", seconds(*run_us)),
        KeyValue::new("exuvia.call.attempts", i64::from(*attempts)),
    ]);
    if let Some(worker) = worker {
        call.set_attribute(KeyValue::new("exuvia.worker.id", whole(*worker)));
    }
    if let Some(pid) = pid {
        call.set_attribute(KeyValue::new("exuvia.worker.pid", i64::from(*pid)));
    }
}

/// Says why a call has no result. Texts of exceptions stay in the log, where `exuvia.call.id`
/// leads.
fn fail(call: &mut Span, failure: &Failure) {
    let kind = match failure {
        Failure::Exception { class, .. } => class.clone(),
        other => other.kind().word().to_owned(),
    };
    call.set_attribute(KeyValue::new("error.type", kind));
    if failure.responsible() != Responsible::Caller {
        call.set_status(Status::error(""));
    }
}

/// Says what a status means: only from 500 on it is an error of a server's.
fn judge(span: &mut Span, status: u16) {
    if status == CLIENT_CLOSED {
        span.set_attribute(KeyValue::new("error.type", CANCELLED));
    } else if status >= 500 {
        span.set_attribute(KeyValue::new("error.type", status.to_string()));
        span.set_status(Status::error(""));
    }
}
