//! What every labelled metric is made of.

use std::borrow::Cow;

use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};

/// `N` label names with their values.
pub(crate) type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// Counters told apart by `N` labels.
pub(crate) type Counters<const N: usize> = Family<Labels<N>, Counter>;

/// Histograms of seconds told apart by one label.
pub(crate) type Durations = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// From 100 microseconds, about what one trip to a worker takes, to a minute.
const SECONDS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0,
];

/// A family of histograms over [`SECONDS`].
pub(crate) fn durations() -> Durations {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}
