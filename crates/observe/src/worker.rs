//! What one worker process comes to: its memory, its age, its calls.

use std::{borrow::Cow, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::labels::{Counters, Labels};

/// The label of a pool's zygote, which is no worker and has no number.
const ZYGOTE: &str = "zygote";

/// A gauge of seconds, parts of them included.
pub(crate) type Seconds = Gauge<f64, AtomicU64>;

/// One process. A series shows from its first value on: what was not measured is not 0. Dropping
/// this takes them all away, so there may be one per name at a time.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// `exuvia_worker_calls_total`: calls it has ended. Of a zygote, a counter that nobody sees.
    pub calls: Counter,
    name: Labels<1>,
    series: WorkerSeries,
}

/// The series of all processes of a pool.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerSeries {
    rss: Family<Labels<1>, Gauge>,
    pss: Family<Labels<1>, Gauge>,
    private: Family<Labels<1>, Gauge>,
    age: Family<Labels<1>, Seconds>,
    calls: Counters<1>,
}

// === impl WorkerSeries ===

impl WorkerSeries {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let series = Self::default();
        let Self { rss, pss, private, age, calls } = &series;
        for (name, help, family) in [
            ("worker_rss", "Resident memory, pages shared with others in full", rss),
            ("worker_pss", "Resident memory, shared pages divided among those that share", pss),
            ("worker_private", "Memory that no other process shares", private),
        ] {
            registry.register_with_unit(name, help, Unit::Bytes, family.clone());
        }
        registry.register_with_unit(
            "worker_age",
            "Time since the process was started",
            Unit::Seconds,
            age.clone(),
        );
        registry.register("worker_calls", "Calls the worker has ended", calls.clone());
        series
    }

    pub(crate) fn worker(&self, name: &str) -> WorkerMetrics {
        let name = label(Cow::Owned(name.to_owned()));
        let calls = self.calls.get_or_create_owned(&name);
        WorkerMetrics { calls, name, series: self.clone() }
    }

    pub(crate) fn zygote(&self) -> WorkerMetrics {
        let name = label(Cow::Borrowed(ZYGOTE));
        WorkerMetrics { calls: Counter::default(), name, series: self.clone() }
    }
}

fn label(name: Cow<'static, str>) -> Labels<1> {
    [("worker", name)]
}

// === impl WorkerMetrics ===

impl WorkerMetrics {
    /// Sets all there is to know about its memory, in bytes, as read in one go.
    pub fn memory(&self, rss: u64, pss: u64, private: u64) {
        self.rss(rss);
        self.set(&self.series.pss, pss);
        self.set(&self.series.private, private);
    }

    /// Sets its resident memory in bytes.
    pub fn rss(&self, bytes: u64) {
        self.set(&self.series.rss, bytes);
    }

    /// Sets the time since its start.
    pub fn age(&self, age: Duration) {
        self.series.age.get_or_create(&self.name).set(age.as_secs_f64());
    }

    fn set(&self, family: &Family<Labels<1>, Gauge>, bytes: u64) {
        family.get_or_create(&self.name).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl Drop for WorkerMetrics {
    fn drop(&mut self) {
        let WorkerSeries { rss, pss, private, age, calls } = &self.series;
        for family in [rss, pss, private] {
            family.remove(&self.name);
        }
        age.remove(&self.name);
        calls.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::Metrics;

    /// Every line about single processes, comments left out.
    fn series(metrics: &Metrics) -> Vec<String> {
        let page = metrics.render();
        let mut lines: Vec<String> =
            page.lines().filter(|line| line.contains("{worker=")).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn a_worker_shows_what_was_measured_and_nothing_else() {
        let metrics = Metrics::new();
        let worker = metrics.pool.worker("3");
        assert_eq!(series(&metrics), [r#"exuvia_worker_calls_total{worker="3"} 0"#]);
        worker.calls.inc();
        worker.memory(3 << 20, 2 << 20, 1 << 20);
        worker.rss(4 << 20);
        worker.age(Duration::from_millis(1500));
        let expected = [
            r#"exuvia_worker_age_seconds{worker="3"} 1.5"#,
            r#"exuvia_worker_calls_total{worker="3"} 1"#,
            r#"exuvia_worker_private_bytes{worker="3"} 1048576"#,
            r#"exuvia_worker_pss_bytes{worker="3"} 2097152"#,
            r#"exuvia_worker_rss_bytes{worker="3"} 4194304"#,
        ];
        assert_eq!(series(&metrics), expected);
    }

    #[test]
    fn a_zygote_is_no_worker_and_counts_no_calls() {
        let metrics = Metrics::new();
        let zygote = metrics.pool.zygote();
        zygote.calls.inc();
        zygote.rss(5);
        assert_eq!(series(&metrics), [r#"exuvia_worker_rss_bytes{worker="zygote"} 5"#]);
        drop(zygote);
        assert!(series(&metrics).is_empty());
    }

    #[test]
    fn ten_thousand_workers_that_came_and_went_leave_no_series() {
        let metrics = Metrics::new();
        let stays = metrics.pool.worker("0");
        stays.memory(1, 1, 1);
        stays.age(Duration::from_secs(1));
        let before = series(&metrics);
        for number in 1..=10_000 {
            let worker = metrics.pool.worker(&number.to_string());
            worker.calls.inc();
            worker.memory(1, 1, 1);
            worker.age(Duration::from_secs(1));
            if number % 1000 == 0 {
                assert_eq!(series(&metrics).len(), 2 * before.len());
            }
        }
        assert_eq!(series(&metrics), before);
    }
}
