//! Keys that a hostile writer made to have the same hash.
//!
//! A dict finds a key by its hash, and goes through all that have the same one. Those of text and
//! bytes nobody can foresee; those of numbers, and of what holds numbers, anybody can.

use std::collections::HashMap;

use pyo3::{
    prelude::*,
    types::{PyBytes, PyString},
};

/// In a container as small as this they do no harm.
const SMALL: usize = 64;
/// Keys of one hash that may be in a larger one. -1 and -2 have the same, and little else.
const MOST: u32 = 16;

/// The keys of one container.
pub(super) struct Crowd {
    counts: Option<HashMap<isize, u32>>,
}

// === impl Crowd ===

impl Crowd {
    /// Of a container of `count` keys.
    pub(super) fn of(count: usize) -> Self {
        Self { counts: (count > SMALL).then(HashMap::new) }
    }

    /// Takes one more in; says whether too many have its hash.
    pub(super) fn is_too_dense(&mut self, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(counts) = &mut self.counts else { return Ok(false) };
        if key.is_exact_instance_of::<PyString>() || key.is_exact_instance_of::<PyBytes>() {
            return Ok(false);
        }
        let count = counts.entry(key.hash()?).or_insert(0);
        *count += 1;
        Ok(*count > MOST)
    }
}
