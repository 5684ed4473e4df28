//! The memory behind arrays: where it lies, and how much of it there is.

use std::{collections::HashSet, ops::Range};

use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;
use exuvia_core::Copied;

/// Addresses of the bytes of `buffer`.
pub(crate) fn addresses(buffer: &Buffer) -> Range<usize> {
    let start = buffer.as_ptr() as usize;
    start..start + buffer.len()
}

/// Calls `visit` with every buffer that holds data of the array.
///
/// Arrays without elements are passed over: what they have is made up by their type.
pub(crate) fn each(data: &ArrayData, visit: &mut impl FnMut(&Buffer)) {
    if data.is_empty() {
        return;
    }
    for buffer in data.buffers() {
        visit(buffer);
    }
    if let Some(nulls) = data.nulls() {
        visit(nulls.buffer());
    }
    for child in data.child_data() {
        each(child, visit);
    }
}

/// Bytes of all buffers of the batches, shared ones counted once.
pub(crate) fn bytes(batches: &[RecordBatch]) -> u64 {
    let mut seen = Seen::default();
    batches.iter().map(|batch| seen.more(batch)).sum()
}

/// Counts the bytes of one batch after the other. All must be there as long as this is.
#[derive(Default)]
pub(crate) struct Seen(HashSet<Range<usize>>);

impl Seen {
    /// Bytes of the buffers that no batch before had.
    pub(crate) fn more(&mut self, batch: &RecordBatch) -> u64 {
        let mut sum = 0;
        for column in batch.columns() {
            each(&column.to_data(), &mut |buffer| {
                if self.0.insert(addresses(buffer)) {
                    sum += buffer.len() as u64;
                }
            });
        }
        sum
    }
}

/// A copy for each column of the batches that has buffers outside `data`.
pub(crate) fn outside(
    data: &Buffer,
    batches: &[RecordBatch],
    why: impl Fn(usize) -> String,
) -> Vec<Copied> {
    let Some(first) = batches.first() else { return Vec::new() };
    let inside = addresses(data);
    let mut seen = HashSet::new();
    let mut copies = Vec::new();
    for (index, field) in first.schema_ref().fields().iter().enumerate() {
        let mut sum = 0;
        for batch in batches {
            each(&batch.column(index).to_data(), &mut |buffer| {
                let at = addresses(buffer);
                let lies_inside = inside.start <= at.start && at.end <= inside.end;
                if !lies_inside && !at.is_empty() && seen.insert(at) {
                    sum += buffer.len() as u64;
                }
            });
        }
        if sum > 0 {
            let what = format!("column \"{}\"", field.name());
            copies.push(Copied { what, bytes: sum, why: why(index) });
        }
    }
    copies
}
