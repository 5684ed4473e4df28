//! Reading under a limit, with every byte counted that is made by it.
#![allow(clippy::unwrap_used, reason = "in a test a value that is not there is the failure")]
#![allow(dead_code, reason = "each test uses some of it")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use arrow_buffer::Buffer;
use arrow_ipc::{
    CompressionType,
    writer::{IpcWriteOptions, StreamWriter},
};
use exuvia_tables::{Format, Limits, Read, ReadError, Table, read, write};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    file::properties::WriterPropertiesBuilder,
};

/// Counts what each thread holds, and the most it ever held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// JUSTIFICATION: what a decoder asks for is seen only by the allocator.
// SAFETY: everything is left to the system's allocator; counting touches two numbers of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may both be there for a while.
        count(size.cast_signed());
        count(-layout.size().cast_signed());
        // SAFETY: as the caller promises.
        unsafe { System.realloc(start, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

pub(crate) const MIB: usize = 1 << 20;

pub(crate) fn limits() -> Limits {
    Limits { max_bytes: MIB as u64, ..Limits::default() }
}

/// What calling this made, at the most, above what was there before.
pub(crate) fn peak<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let outcome = call();
    (outcome, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

/// Reads under a limit of one MiB, and sees that not much more is made.
#[track_caller]
pub(crate) fn try_read(format: Format, bytes: &[u8]) -> Result<Read, ReadError> {
    let data = Buffer::from(bytes);
    let (outcome, peak) = peak(|| read(format, &data, &limits()));
    let allowed = 4 * MIB + 8 * bytes.len();
    assert!(peak <= allowed, "{format}: {peak} bytes were made of {}: {outcome:?}", bytes.len());
    outcome
}

#[track_caller]
pub(crate) fn too_large(format: Format, bytes: &[u8]) {
    match try_read(format, bytes) {
        Err(ReadError::TooLarge { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub(crate) fn malformed(format: Format, bytes: &[u8], said: &str) {
    match try_read(format, bytes) {
        Err(ReadError::Malformed { why, .. }) if why.contains(said) => {}
        other => panic!("{other:?}"),
    }
}

pub(crate) fn written(format: Format, table: &Table) -> Vec<u8> {
    let mut out = Vec::new();
    // Not every table has a place in every format.
    if write(format, table, &mut out).is_err() {
        out.truncate(out.len() / 2);
    }
    out
}
pub(crate) fn compressed(table: &Table, codec: CompressionType) -> Vec<u8> {
    let options = IpcWriteOptions::default().try_with_compression(Some(codec)).unwrap();
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &table.schema, options).unwrap();
    table.batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

pub(crate) fn parquet_with(table: &Table, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let options = ArrowWriterOptions::new()
        .with_properties(properties.build())
        .with_skip_arrow_metadata(true);
    let mut writer =
        ArrowWriter::try_new_with_options(Vec::new(), table.schema.clone(), options).unwrap();
    table.batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}
