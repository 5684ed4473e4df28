//! The metrics of an Exuvia host, in the text format that Prometheus reads, and its traces.
//!
//! [`Metrics`] is made once per pool and shared. Whoever counts takes a handle first
//! ([`HttpMetrics::route`], [`PoolMetrics::handler`], [`PoolMetrics::worker`]) and then counts on
//! it: counting looks nothing up and locks nothing but one histogram. What each name means is in
//! `docs/http.md`.
//!
//! [`trace`] makes spans of requests and calls, for a collector of OpenTelemetry.
#![forbid(unsafe_code)]

mod http;
mod labels;
mod pool;
pub mod trace;
mod worker;

use std::sync::Arc;

use prometheus_client::{encoding::text, registry::Registry};

pub use http::{ConnectionGuard, HttpMetrics, RouteMetrics};
pub use pool::{HandlerMetrics, PoolMetrics};
pub use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
pub use worker::WorkerMetrics;

/// Everything that is counted, and the page that shows it.
#[derive(Debug)]
pub struct Metrics {
    /// What the HTTP server counts.
    pub http: HttpMetrics,
    /// What a pool of workers counts.
    pub pool: PoolMetrics,
    registry: Registry,
}

// === impl Metrics ===

impl Metrics {
    /// The media type of [`Metrics::render`].
    pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// All metrics at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("exuvia");
        let http = HttpMetrics::register(&mut registry);
        let pool = PoolMetrics::register(&mut registry);
        Arc::new(Self { http, pool, registry })
    }

    /// The page for `/metrics`, in OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = String::with_capacity(4096);
        // Writing to a String cannot fail, and no metric here has an encoder of its own.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Metrics;

    #[track_caller]
    fn has(page: &str, line: &str) {
        assert!(page.lines().any(|l| l == line), "no line `{line}` in\n{page}");
    }

    #[test]
    fn the_page_is_well_formed_and_names_every_metric() {
        let metrics = Metrics::new();
        // A metric with labels shows from its first handle on.
        let _ = (metrics.http.route("/"), metrics.pool.handler("m:f"));
        let _ = (metrics.pool.workers("spare"), metrics.pool.restarts("rss"));
        let worker = metrics.pool.worker("1");
        worker.memory(3, 2, 1);
        worker.age(Duration::from_secs(1));
        let page = metrics.render();
        for name in [
            "http_requests",
            "http_request_duration_seconds",
            "http_connections",
            "http_requests_in_flight",
            "calls",
            "call_run_seconds",
            "queue_length",
            "queue_rejected",
            "workers",
            "worker_restarts",
            "worker_rss_bytes",
            "worker_pss_bytes",
            "worker_private_bytes",
            "worker_age_seconds",
            "worker_calls",
            "image_seconds",
        ] {
            assert!(page.contains(&format!("# TYPE exuvia_{name} ")), "{name} in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn http_counts_by_route_and_status() {
        let metrics = Metrics::new();
        let route = metrics.http.route("/weather/spread");
        route.answered(200, Duration::from_millis(3));
        route.answered(200, Duration::from_millis(3));
        route.answered(422, Duration::from_micros(30));
        let open = metrics.http.connection();
        let page = metrics.render();
        has(&page, r#"exuvia_http_requests_total{route="/weather/spread",status="200"} 2"#);
        has(&page, r#"exuvia_http_requests_total{route="/weather/spread",status="422"} 1"#);
        has(&page, r#"exuvia_http_request_duration_seconds_count{route="/weather/spread"} 3"#);
        has(&page, "exuvia_http_connections 1");
        drop(open);
        has(&metrics.render(), "exuvia_http_connections 0");
    }

    #[test]
    fn pools_count_by_handler_outcome_state_and_reason() {
        let metrics = Metrics::new();
        let spread = metrics.pool.handler("weather:spread");
        spread.ended("ok", Some(Duration::from_millis(2)));
        spread.ended("crash", None);
        metrics.pool.workers("retiring").set(2);
        metrics.pool.restarts("signal").inc();
        metrics.pool.image(Duration::from_millis(250));
        metrics.pool.queue_length.set(7);
        metrics.pool.queue_rejected.inc();
        let page = metrics.render();
        has(&page, r#"exuvia_calls_total{handler="weather:spread",outcome="ok"} 1"#);
        has(&page, r#"exuvia_calls_total{handler="weather:spread",outcome="crash"} 1"#);
        has(&page, r#"exuvia_call_run_seconds_count{handler="weather:spread"} 1"#);
        has(&page, r#"exuvia_workers{state="retiring"} 2"#);
        has(&page, r#"exuvia_worker_restarts_total{reason="signal"} 1"#);
        has(&page, "exuvia_image_seconds 0.25");
        has(&page, "exuvia_queue_length 7");
        has(&page, "exuvia_queue_rejected_total 1");
    }
}
