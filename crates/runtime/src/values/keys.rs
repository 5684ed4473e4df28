//! The str objects of keys seen lately: rows of a table repeat theirs thousands of times.
//!
//! They are deliberately not interned in Python's sense: some CPython versions keep an interned
//! str for ever, and these names come from outside.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use pyo3::{prelude::*, types::PyString};

const SLOTS: usize = 1024;
const LONGEST: usize = 31;

static KEYS: Mutex<Vec<Slot>> = Mutex::new(Vec::new());

/// The cache for the time of one document, or nothing while another document has it.
///
/// It is only ever tried for, so Python code that runs inside a conversion and starts another one
/// finds no lock to wait on.
pub(crate) struct Keys(Option<MutexGuard<'static, Vec<Slot>>>);

/// One remembered key. A key's hash names the only slot it can be in.
pub(crate) struct Slot {
    length: u8,
    text: [u8; LONGEST],
    object: Option<Py<PyString>>,
}

// === impl Keys ===

impl Keys {
    pub(crate) fn take() -> Self {
        let mut slots = match KEYS.try_lock() {
            Ok(slots) => slots,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return Self(None),
        };
        if slots.is_empty() {
            slots.resize_with(SLOTS, Slot::empty);
        }
        Self(Some(slots))
    }

    /// No cache, for who makes no objects.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// The str of this UTF-8 text.
    #[inline]
    pub(crate) fn get<'py>(
        &mut self,
        py: Python<'py>,
        text: &[u8],
    ) -> PyResult<Bound<'py, PyString>> {
        let Some(slots) = self.0.as_mut().filter(|_| text.len() <= LONGEST) else {
            return PyString::from_bytes(py, text);
        };
        let Some(slot) = slots.get_mut(hash(text) % SLOTS) else {
            return PyString::from_bytes(py, text);
        };
        if usize::from(slot.length) == text.len()
            && slot.text[..text.len()] == *text
            && let Some(object) = &slot.object
        {
            return Ok(object.bind(py).clone());
        }
        let object = PyString::from_bytes(py, text)?;
        slot.length = text.len() as u8; // at most LONGEST
        slot.text[..text.len()].copy_from_slice(text);
        slot.object = Some(object.clone().unbind());
        Ok(object)
    }
}

// === impl Slot ===

impl Slot {
    fn empty() -> Self {
        Self { length: 0, text: [0; LONGEST], object: None }
    }
}

/// Speed over quality: a collision costs one new str.
fn hash(text: &[u8]) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = text.len() as u64;
    for chunk in text.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = (state ^ u64::from_le_bytes(word)).wrapping_mul(MIX);
        state ^= state >> 29;
    }
    (state >> 16) as usize
}
