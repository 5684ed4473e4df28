//! Names for calls and errors: short enough to read out, unique where they meet.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::SystemTime,
};

/// A source of ids. Two sources, in one process or in two, start with different words.
#[derive(Debug)]
pub struct CallIds {
    source: u32,
    next: AtomicU64,
}

/// The name of a call, or of an error that happened before there was one: `3f9a1c02-0000002a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId {
    /// Which source gave it; random.
    pub source: u32,
    /// How many that source had given before.
    pub number: u64,
}

// === impl CallIds ===

impl CallIds {
    /// A new source, starting at 0.
    #[must_use]
    pub fn new() -> Self {
        // RandomState is the only randomness in std. The time is mixed in because it
        // takes its keys once per thread and then counts.
        let mut hasher = RandomState::new().build_hasher();
        if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            hasher.write_u128(now.as_nanos());
        }
        let random = hasher.finish();
        Self { source: (random ^ (random >> 32)) as u32, next: AtomicU64::new(0) }
    }

    /// The next id. It is never given twice.
    pub fn next(&self) -> CallId {
        CallId { source: self.source, number: self.next.fetch_add(1, Relaxed) }
    }
}

impl Default for CallIds {
    fn default() -> Self {
        Self::new()
    }
}

// === impl CallId ===

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // After 2^32 calls the number simply grows a digit.
        write!(f, "{:08x}-{:08x}", self.source, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::{CallId, CallIds};

    #[test]
    fn ids_count_up_and_read_as_two_words() {
        let ids = CallIds::new();
        assert_eq!((ids.next().number, ids.next().number), (0, 1));
        assert_eq!(CallId { source: 0x3f9a_1c02, number: 42 }.to_string(), "3f9a1c02-0000002a");
        assert_eq!(CallId { source: 1, number: 1 << 36 }.to_string(), "00000001-1000000000");
    }

    #[test]
    fn two_sources_do_not_start_alike() {
        let first = CallIds::new().next().source;
        assert!((0..4).any(|_| CallIds::new().next().source != first));
    }
}
