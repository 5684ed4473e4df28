//! Memory over many round trips; in a program of its own, since other tests' would count.
#![cfg(exuvia_libpython)]

mod support;

use std::{fs, sync::Arc};

use exuvia_embed::{
    arrow_array::{ArrayRef, Float64Array, RecordBatch, cast::AsArray, types::Float64Type},
    consume, produce,
    pyo3::prelude::*,
};
use support::{addresses, module, with, year};

const CALLS: usize = 10_000;
const MOST_GROWTH: i64 = 20 << 20;

/// Gives the table back with another column `d`.
const REPLACE: &std::ffi::CStr = c"
import numpy as np, pyarrow as pa
def replace(data):
    return pa.table(data).set_column(3, 'd', pa.array(np.ones(8760)))
";

#[test]
fn ten_thousand_round_trips_leave_memory_as_it_was() {
    with(&["pyarrow", "numpy"], |py| {
        let replace = module(py, REPLACE).getattr("replace").expect("a function");
        // Caches and allocators fill up.
        let year = year();
        for _ in 0..500 {
            round_trip(&replace, &copied(&year));
        }
        let before = resident();
        for _ in 0..CALLS {
            round_trip(&replace, &copied(&year));
        }
        let growth = resident() - before;
        assert!(growth < MOST_GROWTH, "{} KiB in {CALLS} calls", growth >> 10);
    });
}

/// In memory of its own: of what is shared, nothing grows however often it is kept.
fn copied(batch: &RecordBatch) -> RecordBatch {
    let copy = |column: &ArrayRef| -> ArrayRef {
        let values = column.as_primitive::<Float64Type>().values().to_vec();
        Arc::new(Float64Array::from(values))
    };
    let columns = batch.columns().iter().map(copy).collect();
    RecordBatch::try_new(batch.schema(), columns).expect("of the same types")
}

fn round_trip(replace: &Bound<'_, PyAny>, sent: &RecordBatch) {
    let py = replace.py();
    let data = produce(py, sent.schema(), std::iter::once(Ok(sent.clone()))).expect("produced");
    let back = replace.call1((data,)).expect("it replaces");
    let reader = consume(&back, None).expect("a table");
    let back = py.detach(|| support::all(reader)).expect("it is read");
    assert_eq!(addresses(&back[0])[4..], addresses(sent)[4..]);
}

/// Bytes of memory that this process has.
fn resident() -> i64 {
    let status = fs::read_to_string("/proc/self/status").expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is said");
    let kib: i64 = line.trim_end_matches("kB").trim().parse().expect("a number");
    kib << 10
}
