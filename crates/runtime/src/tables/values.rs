//! A column's values as memory.

use std::ffi::c_int;

use arrow_buffer::Buffer;
use pyo3::{ffi, prelude::*};

use super::column::Access;
use super::memory::{is_private, is_private_here};

/// The values of a fixed-width column, side by side: an object with the buffer protocol.
///
/// It may be written to where the memory under it is this process's own copy of a payload.
#[pyclass(frozen, module = "exuvia")]
pub struct Values {
    buffer: Buffer,
    writable: bool,
}

impl Values {
    /// A view of memory, which may be written to where it is a payload mapped for this process.
    #[must_use]
    pub fn over(buffer: Buffer) -> Self {
        let writable = is_private(buffer.as_ptr(), buffer.len());
        Self { buffer, writable }
    }

    /// The values of a column.
    pub(super) fn new(py: Python<'_>, buffer: Buffer, access: Access) -> Self {
        let writable = match access {
            Access::ByPlace => is_private_here(py, buffer.as_ptr(), buffer.len()),
            Access::Free => true,
            Access::Locked => false,
        };
        Self { buffer, writable }
    }
}

#[pymethods]
impl Values {
    /// Where the first value lies.
    #[getter]
    fn address(&self) -> usize {
        self.buffer.as_ptr() as usize
    }

    fn __len__(&self) -> usize {
        self.buffer.len()
    }

    fn __repr__(&self) -> String {
        let access = if self.writable { "writable" } else { "read-only" };
        format!("<exuvia.Values: {} bytes, {access}>", self.buffer.len())
    }

    // JUSTIFICATION: the buffer protocol is a C interface.
    // SAFETY: called by the interpreter with a view to be filled, as the protocol says.
    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let (start, length) = (this.buffer.as_ptr().cast_mut(), this.buffer.len());
        let readonly = c_int::from(!this.writable);
        // SAFETY: `start` is good for `length` bytes while `slf` lives, of which the view takes a
        // reference. It is told to be writable only where it is mapped so, or
        // lies on the heap and was made for this one table. A slice is never longer
        // than isize::MAX. With an exception set the answer is -1, and the view holds nothing.
        let filled = unsafe {
            let (start, length) = (start.cast(), length as isize);
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, readonly, flags)
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
