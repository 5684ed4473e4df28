//! What the HTTP server counts.

use std::{borrow::Cow, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::labels::{Counters, Durations, Labels, durations};

/// Requests and connections.
#[derive(Debug)]
pub struct HttpMetrics {
    /// `exuvia_http_requests_in_flight`: requests read but not yet answered.
    pub in_flight: Gauge,
    connections: Gauge,
    requests: Counters<2>,
    duration: Durations,
}

/// The requests of one route.
#[derive(Debug, Clone)]
pub struct RouteMetrics {
    route: String,
    requests: Counters<2>,
    /// The counter of status 200, so that the usual answer looks nothing up.
    ok: Counter,
    duration: Histogram,
}

/// One open connection; dropping it counts the connection closed.
#[derive(Debug)]
pub struct ConnectionGuard(Gauge);

// === impl HttpMetrics ===

impl HttpMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            requests: Counters::default(),
            duration: durations(),
        };
        let Self { in_flight, connections, requests, duration } = &metrics;
        registry.register(
            "http_requests",
            "Requests answered, by route and status; 499 is a client that went away first",
            requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's head being read to its answer being ready to send",
            Unit::Seconds,
            duration.clone(),
        );
        registry.register("http_connections", "Open client connections", connections.clone());
        registry.register(
            "http_requests_in_flight",
            "Requests read but not yet answered",
            in_flight.clone(),
        );
        metrics
    }

    /// The handle of a route. Take it once, when the route is made.
    #[must_use]
    pub fn route(&self, route: &str) -> RouteMetrics {
        RouteMetrics {
            route: route.to_owned(),
            requests: self.requests.clone(),
            ok: self.requests.get_or_create_owned(&labels(route, 200)),
            duration: self.duration.get_or_create_owned(&[("route", Cow::Owned(route.to_owned()))]),
        }
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> i64 {
        self.connections.get()
    }

    /// Counts a connection open until the guard is dropped.
    #[must_use]
    pub fn connection(&self) -> ConnectionGuard {
        self.connections.inc();
        ConnectionGuard(self.connections.clone())
    }
}

// === impl RouteMetrics ===

impl RouteMetrics {
    /// Counts one request that took `elapsed`.
    pub fn answered(&self, status: u16, elapsed: Duration) {
        if status == 200 {
            self.ok.inc();
        } else {
            self.requests.get_or_create(&labels(&self.route, status)).inc();
        }
        self.duration.observe(elapsed.as_secs_f64());
    }
}

fn labels(route: &str, status: u16) -> Labels<2> {
    [("route", Cow::Owned(route.to_owned())), ("status", Cow::Owned(status.to_string()))]
}

// === impl ConnectionGuard ===

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}
