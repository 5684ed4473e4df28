//! Memory that somebody else made, as Arrow's buffers: a mapped payload, a Python object's buffer.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    io,
    panic::{RefUnwindSafe, UnwindSafe},
    ptr::NonNull,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow_buffer::Buffer;
use exuvia_sys::{PrivateMap, Sealed};
use pyo3::{
    buffer::PyUntypedBuffer,
    exceptions::{PyTypeError, PyValueError},
    ffi,
    prelude::*,
};

use crate::values::object::type_name;

/// The private maps that are there now: where each begins and ends.
static PRIVATE: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

/// Where copies of this library find each other: a name in `sys`.
const PUBLISHED: &CStr = c"_exuvia_is_private";

/// A payload mapped for this process alone, kept for as long as a buffer of it is in use.
///
/// Python code may write to such memory (see [`is_private`]) while Arrow arrays lie in it. Rust code
/// here reads those arrays only while it is attached and hands no slice of them to code that runs
/// Python, so as far as Python's own threads take turns no slice is alive while a handler writes.
/// What may be written to are the values of fixed-width columns alone, of which every bit pattern
/// is a value; offsets, views, and the indices of dictionaries are never handed out as writable.
#[derive(Debug)]
pub struct Origin(PrivateMap);

/// A Python object's buffer, given back to its object when the last Arrow array that uses it goes.
#[derive(Debug)]
struct Lent {
    /// Attaches by itself when it is dropped, and is leaked once there is no interpreter any more.
    _buffer: PyUntypedBuffer,
}

// === impl Origin ===

impl Origin {
    /// Maps a payload; nothing of it is copied, and what is written to it nobody else sees.
    ///
    /// # Errors
    /// As `mmap`.
    pub fn mapped(sealed: &Sealed) -> io::Result<Buffer> {
        if sealed.length() == 0 {
            return Ok(Buffer::from_vec(Vec::<u8>::new()));
        }
        Ok(Self::owned(sealed.private()?))
    }

    /// The same of a copy.
    pub fn copied(bytes: &[u8]) -> io::Result<Buffer> {
        match bytes {
            [] => Ok(Buffer::from_vec(Vec::<u8>::new())),
            bytes => Ok(Self::owned(PrivateMap::holding(bytes)?)),
        }
    }

    fn owned(map: PrivateMap) -> Buffer {
        let (start, length) = (map.start(), map.len());
        ranges().insert(start.as_ptr() as usize, start.as_ptr() as usize + length);
        let origin = Arc::new(Self(map));
        // JUSTIFICATION: Arrow takes foreign memory by its address only.
        // SAFETY: the map is readable, `length` bytes long and stays until `origin` is dropped,
        // which the buffer holds. That Python writes to it: see `Origin`.
        unsafe { Buffer::from_custom_allocation(start, length, origin) }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Before the kernel can give the same addresses to another map.
        ranges().remove(&(self.0.start().as_ptr() as usize));
    }
}

// A panic can leave nothing half done in a mapping that is only ever taken whole.
impl UnwindSafe for Origin {}
impl RefUnwindSafe for Origin {}

/// [`Origin::mapped`].
///
/// # Errors
/// As `mmap`.
pub fn mapped(sealed: &Sealed) -> io::Result<Buffer> {
    Origin::mapped(sealed)
}

// === impl Lent ===

impl UnwindSafe for Lent {}
impl RefUnwindSafe for Lent {}

/// Whether all of this memory lies in a payload mapped for this process alone, so that writing to
/// it is seen by nobody else.
pub(super) fn is_private(start: *const u8, length: usize) -> bool {
    let start = start as usize;
    let ranges = ranges();
    let Some((_, end)) = ranges.range(..=start).next_back() else { return false };
    start.checked_add(length).is_some_and(|last| last <= *end && start < *end)
}

/// The same, asking a worker's runtime too: where a handler imports `exuvia` from a wheel that is
/// another copy of this library, the payloads are known to the runtime's copy alone.
pub(super) fn is_private_here(py: Python<'_>, start: *const u8, length: usize) -> bool {
    is_private(start, length)
        || published(py).is_some_and(|ask| {
            let answer = ask.call1((start as usize, length));
            answer.and_then(|answer| answer.is_truthy()).unwrap_or(false)
        })
}

/// What [`publish`] put into `sys`, here or in another copy.
fn published(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    // JUSTIFICATION: this is asked for each column, and looking for an attribute that is not there
    // makes an exception, which takes longer than all the rest.
    // SAFETY: the name is a C string; the answer is a borrowed reference or null, without an
    // exception, and becomes an owned one before anything else runs.
    unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PySys_GetObject(PUBLISHED.as_ptr())) }
}

/// Lets other copies of this library in the interpreter ask what this one has mapped.
///
/// # Errors
/// Python has no memory left.
pub fn publish(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let ask = wrap_pyfunction!(is_private_at, module)?;
    module.py().import("sys")?.setattr(PUBLISHED, ask)
}

#[pyfunction]
fn is_private_at(start: usize, length: usize) -> bool {
    is_private(std::ptr::without_provenance(start), length)
}

/// The bytes of any C-contiguous Python buffer object, without a copy. The object is kept, and
/// cannot change its size, until the last array of it is gone.
pub(super) fn lent(object: &Bound<'_, PyAny>) -> PyResult<Buffer> {
    let buffer = contiguous(object)?;
    let length = buffer.len_bytes();
    let Some(start) = NonNull::new(buffer.buf_ptr().cast::<u8>()).filter(|_| length > 0) else {
        return Ok(Buffer::from_vec(Vec::<u8>::new()));
    };
    let owner = Arc::new(Lent { _buffer: buffer });
    // JUSTIFICATION: Arrow takes foreign memory by its address only.
    // SAFETY: the buffer protocol keeps `length` readable bytes at `start` until the buffer is
    // released, which `owner` does. The object's maker may write to them, as with any consumer of
    // the protocol; every bit pattern is a value of the types these buffers are used for.
    Ok(unsafe { Buffer::from_custom_allocation(start, length, owner) })
}

/// A copy of the bytes of a Python buffer object of single bytes: flags, one for each value.
pub(super) fn flags(object: &Bound<'_, PyAny>) -> PyResult<Vec<bool>> {
    let buffer = contiguous(object)?;
    if buffer.item_size() != 1 {
        let size = buffer.item_size();
        return Err(PyTypeError::new_err(format!("flags are single bytes, not {size} bytes each")));
    }
    let Some(start) = NonNull::new(buffer.buf_ptr().cast::<u8>()) else { return Ok(Vec::new()) };
    // JUSTIFICATION: PyO3 gives typed slices by the exact format only, and flags come as `?`, `b`
    // and `B`.
    // SAFETY: `len_bytes` readable bytes are there while `buffer` is; no Python code runs meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), buffer.len_bytes()) };
    Ok(bytes.iter().map(|byte| *byte != 0).collect())
}

fn contiguous(object: &Bound<'_, PyAny>) -> PyResult<PyUntypedBuffer> {
    let buffer = PyUntypedBuffer::get(object)?;
    if buffer.is_c_contiguous() {
        return Ok(buffer);
    }
    let name = type_name(object);
    Err(PyValueError::new_err(format!("the values of this {name} do not lie side by side")))
}

fn ranges() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    PRIVATE.lock().unwrap_or_else(PoisonError::into_inner)
}
