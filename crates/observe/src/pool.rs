//! What a pool of workers counts.

use std::{borrow::Cow, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    labels::{Counters, Durations, Labels, durations},
    worker::{Seconds, WorkerMetrics, WorkerSeries},
};

/// Calls, their queue and the workers that take them.
#[derive(Debug)]
pub struct PoolMetrics {
    /// `exuvia_queue_length`: calls that wait for a worker.
    pub queue_length: Gauge,
    /// `exuvia_queue_rejected_total`: calls refused because the queue was full.
    pub queue_rejected: Counter,
    workers: Family<Labels<1>, Gauge>,
    restarts: Counters<1>,
    calls: Counters<2>,
    run: Durations,
    image: Seconds,
    series: WorkerSeries,
}

/// The calls of one handler.
#[derive(Debug, Clone)]
pub struct HandlerMetrics {
    handler: String,
    calls: Counters<2>,
    /// The counter of outcome `ok`, so that the usual end looks nothing up.
    ok: Counter,
    run: Histogram,
}

// === impl PoolMetrics ===

impl PoolMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            queue_length: Gauge::default(),
            queue_rejected: Counter::default(),
            workers: Family::default(),
            restarts: Counters::default(),
            calls: Counters::default(),
            run: durations(),
            image: Seconds::default(),
            series: WorkerSeries::register(registry),
        };
        let Self { queue_length, queue_rejected, workers, restarts, calls, run, image, .. } =
            &metrics;
        registry.register("calls", "Calls ended, by handler and outcome", calls.clone());
        registry.register_with_unit(
            "call_run",
            "Time a handler ran, as its worker measured it",
            Unit::Seconds,
            run.clone(),
        );
        registry.register("queue_length", "Calls that wait for a worker", queue_length.clone());
        registry.register(
            "queue_rejected",
            "Calls refused because the queue was full",
            queue_rejected.clone(),
        );
        registry.register("workers", "Workers, by state", workers.clone());
        registry.register(
            "worker_restarts",
            "Workers replaced, by the reason the old one ended",
            restarts.clone(),
        );
        registry.register_with_unit(
            "image",
            "Time from the start of the zygote until workers could be forked from it; 0 while there is none",
            Unit::Seconds,
            image.clone(),
        );
        metrics
    }

    /// The handle of a handler. Take it once, when the handler is known.
    #[must_use]
    pub fn handler(&self, handler: &str) -> HandlerMetrics {
        HandlerMetrics {
            handler: handler.to_owned(),
            calls: self.calls.clone(),
            ok: self.calls.get_or_create_owned(&labels(handler, "ok")),
            run: self.run.get_or_create_owned(&[("handler", Cow::Owned(handler.to_owned()))]),
        }
    }

    /// The number of workers in `state`: `exuvia_workers`. Keep the handle.
    #[must_use]
    pub fn workers(&self, state: &'static str) -> Gauge {
        self.workers.get_or_create_owned(&[("state", Cow::Borrowed(state))])
    }

    /// Workers replaced for `reason`: `exuvia_worker_restarts_total`.
    #[must_use]
    pub fn restarts(&self, reason: &'static str) -> Counter {
        self.restarts.get_or_create_owned(&[("reason", Cow::Borrowed(reason))])
    }

    /// The worker with this number. Take it when the worker starts; drop it when it is gone.
    #[must_use]
    pub fn worker(&self, name: &str) -> WorkerMetrics {
        self.series.worker(name)
    }

    /// The zygote, as `worker="zygote"`. Take it when it starts; drop it when it is gone.
    #[must_use]
    pub fn zygote(&self) -> WorkerMetrics {
        self.series.zygote()
    }

    /// Says how long the image took: `exuvia_image_seconds`.
    pub fn image(&self, took: Duration) {
        self.image.set(took.as_secs_f64());
    }
}

// === impl HandlerMetrics ===

impl HandlerMetrics {
    /// Counts a call that ended with `outcome` (`ok` or the failure's kind); `run` is how long the
    /// handler ran, if it did.
    pub fn ended(&self, outcome: &'static str, run: Option<Duration>) {
        if outcome == "ok" {
            self.ok.inc();
        } else {
            self.calls.get_or_create(&labels(&self.handler, outcome)).inc();
        }
        if let Some(run) = run {
            self.run.observe(run.as_secs_f64());
        }
    }
}

fn labels(handler: &str, outcome: &'static str) -> Labels<2> {
    [("handler", Cow::Owned(handler.to_owned())), ("outcome", Cow::Borrowed(outcome))]
}
