//! Tables that go from Rust to Python and from Python to Rust, in one process.
#![cfg(exuvia_libpython)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use arrow_cast::cast;
use exuvia_embed::{
    arrow_array::{
        RecordBatch, RecordBatchReader,
        cast::AsArray,
        types::{Float64Type, Int64Type},
    },
    arrow_schema::{ArrowError, DataType, Field, Schema},
    consume, produce,
    pyo3::{self, prelude::*},
};
use support::{HOURS, addresses, hours, module, total, with, year};

/// Long enough for any machine; only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(30);

fn once(batch: RecordBatch) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> + Send {
    std::iter::once(Ok(batch))
}

fn to_python<'py>(py: Python<'py>, batch: &RecordBatch) -> Bound<'py, PyAny> {
    produce(py, batch.schema(), once(batch.clone())).expect("it is produced")
}

/// The batches of a Python object, pulled without the interpreter.
fn to_rust(object: &Bound<'_, PyAny>) -> Vec<RecordBatch> {
    let reader = consume(object, None).expect("it is a table");
    object.py().detach(|| support::all(reader)).expect("it is read")
}

// === Rust to Python ===

/// Each makes a table of an Arrow object, sums it up, and says where the column `a` begins,
/// where that can be asked.
const SUMS: &std::ffi::CStr = c"
def with_pyarrow(data):
    import pyarrow as pa, pyarrow.compute as pc
    table = pa.table(data)
    return sum(pc.sum(c).as_py() for c in table.columns), table['a'].chunk(0).buffers()[1].address

def with_polars(data):
    import polars as pl
    frame = pl.DataFrame(data)
    return frame.sum_horizontal().sum(), frame['a'].to_numpy().ctypes.data

def with_pandas(data):
    import pandas as pd
    return pd.DataFrame.from_arrow(data).to_numpy().sum(), None

def with_arro3(data):
    from arro3.core import Table
    return sum(c.to_numpy().sum() for c in Table.from_arrow(data).columns), None
";

fn python_sums(library: &str, packages: &[&str]) {
    with(packages, |py| {
        let batch = year();
        let data = to_python(py, &batch);
        let summed = module(py, SUMS).getattr(library).expect("a function").call1((data,));
        let (sum, address): (f64, Option<usize>) =
            summed.expect("it adds").extract().expect("both");
        assert_eq!(sum, total());
        if let Some(address) = address {
            assert_eq!(address, addresses(&batch)[0], "the values were copied");
        }
    });
}

#[test]
fn a_batch_of_rust_is_summed_by_pyarrow_where_it_lies() {
    python_sums("with_pyarrow", &["pyarrow"]);
}

#[test]
fn a_batch_of_rust_is_summed_by_polars_where_it_lies() {
    python_sums("with_polars", &["polars", "numpy"]);
}

#[test]
fn a_batch_of_rust_is_summed_by_arro3() {
    // Which shows no address, and copies for numpy; that it keeps the values where they are is
    // shown by the way back, below.
    python_sums("with_arro3", &["arro3.core", "numpy"]);
}

#[test]
fn a_batch_of_rust_is_summed_by_pandas() {
    // pandas itself asks pyarrow to read Arrow data.
    python_sums("with_pandas", &["pandas", "pyarrow"]);
}

// === Python to Rust ===

/// Each makes the same table of two columns.
const TABLES: &std::ffi::CStr = c"
hours = range(8760)

def of_pyarrow():
    import pyarrow as pa
    return pa.table({'hour': pa.array(hours, pa.int64()), 'name': [str(h) for h in hours]})

def of_polars():
    import polars as pl
    return pl.DataFrame({'hour': hours, 'name': [str(h) for h in hours]})

def of_arro3():
    from arro3.core import Array, DataType, Table
    hour, name = Array(hours, DataType.int64()), Array([str(h) for h in hours], DataType.utf8())
    return Table.from_pydict({'hour': hour, 'name': name})

def of_pandas():
    import pandas as pd
    return pd.DataFrame({'hour': hours, 'name': [str(h) for h in hours]})

def of_numpy():
    import numpy as np
    return {'hour': np.arange(8760), 'name': np.array([str(h) for h in hours])}
";

fn rust_reads(maker: &str, packages: &[&str]) {
    with(packages, |py| {
        let table = module(py, TABLES).getattr(maker).expect("a function").call0().expect("made");
        let batches = to_rust(&table);
        // The buffers do not need the Python object any more.
        drop(table);
        let mut hour = 0;
        for batch in &batches {
            // Each library has its own kind of text.
            let hours = cast(batch.column(0), &DataType::Int64).expect("whole numbers");
            let names = cast(batch.column(1), &DataType::Utf8).expect("text");
            let names = names.as_string::<i32>().iter().map(|name| name.expect("not null"));
            for (found, name) in hours.as_primitive::<Int64Type>().values().iter().zip(names) {
                assert_eq!((*found, name), (hour, hour.to_string().as_str()));
                hour += 1;
            }
        }
        assert_eq!(hour, 8760);
    });
}

#[test]
fn rust_reads_a_table_of_pyarrow() {
    rust_reads("of_pyarrow", &["pyarrow"]);
}

#[test]
fn rust_reads_a_frame_of_polars() {
    rust_reads("of_polars", &["polars"]);
}

#[test]
fn rust_reads_a_table_of_arro3() {
    rust_reads("of_arro3", &["arro3.core"]);
}

#[test]
fn rust_reads_a_frame_of_pandas() {
    rust_reads("of_pandas", &["pandas", "pyarrow"]);
}

#[test]
fn rust_reads_arrays_of_numpy() {
    rust_reads("of_numpy", &["numpy"]);
}

// === there and back ===

/// Each gives the table back with another column `d`.
const REPLACED: &std::ffi::CStr = c"
def by_pyarrow(data):
    import numpy as np, pyarrow as pa
    return pa.table(data).set_column(3, 'd', pa.array(np.ones(8760)))

def by_polars(data):
    import polars as pl
    return pl.DataFrame(data).with_columns(d=pl.lit(1.0))

def by_arro3(data):
    import numpy as np
    from arro3.core import ChunkedArray, DataType, Field, Table
    ones = ChunkedArray([np.ones(8760)])
    return Table.from_arrow(data).set_column(3, Field('d', DataType.float64()), ones)
";

fn replaced(library: &str, packages: &[&str]) {
    with(packages, |py| {
        let sent = year();
        let replace = module(py, REPLACED).getattr(library).expect("a function");
        let back = to_rust(&replace.call1((to_python(py, &sent),)).expect("it replaces"));
        let [back] = back.as_slice() else { panic!("{} batches", back.len()) };
        for (column, (before, after)) in addresses(&sent).iter().zip(addresses(back)).enumerate() {
            assert_eq!(*before != after, column == 3, "column {column}: {before:x}, {after:x}");
        }
        assert_eq!(back.column(3).as_primitive::<Float64Type>().values(), [1.0; HOURS].as_slice());
    });
}

#[test]
fn columns_that_pyarrow_left_alone_come_back_from_where_they_were() {
    replaced("by_pyarrow", &["pyarrow", "numpy"]);
}

#[test]
fn columns_that_polars_left_alone_come_back_from_where_they_were() {
    replaced("by_polars", &["polars"]);
}

#[test]
fn columns_that_arro3_left_alone_come_back_from_where_they_were() {
    replaced("by_arro3", &["arro3.core", "numpy"]);
}

// === one batch after the other ===

/// A day a batch; `made` counts them.
fn days(count: usize, made: &Arc<AtomicUsize>) -> impl Iterator<Item = Made> + Send + use<> {
    let made = Arc::clone(made);
    (0..count).map(move |day| {
        made.fetch_add(1, Ordering::SeqCst);
        Ok(hours(day * 24, 24))
    })
}

type Made = Result<RecordBatch, ArrowError>;

#[test]
fn python_has_the_first_batch_before_rust_makes_the_second() {
    with(&["pyarrow"], |py| {
        let made = Arc::new(AtomicUsize::new(0));
        let data = produce(py, year().schema(), days(365, &made)).expect("it is produced");
        let reader =
            py.import("pyarrow").expect("there").getattr("RecordBatchReader").expect("there");
        let reader = reader.call_method1("from_stream", (data,)).expect("a reader");
        assert_eq!(made.load(Ordering::SeqCst), 0);
        for pulled in 1..=365 {
            reader.call_method0("read_next_batch").expect("a batch");
            assert_eq!(made.load(Ordering::SeqCst), pulled);
        }
        let end = reader.call_method0("read_next_batch").expect_err("it was the last");
        assert!(end.is_instance_of::<pyo3::exceptions::PyStopIteration>(py), "{end}");
    });
}

#[test]
fn rust_has_the_first_batch_before_python_makes_the_second() {
    with(&["pyarrow"], |py| {
        let code = c"
import pyarrow as pa
made = []
schema = pa.schema({'n': pa.int64()})
def batches():
    for n in range(100):
        made.append(n)
        yield pa.record_batch({'n': [n]}, schema)
stream = pa.RecordBatchReader.from_batches(schema, batches())
";
        let python = module(py, code);
        let made = || python.getattr("made").and_then(|made| made.len()).expect("a list");
        let mut reader =
            consume(&python.getattr("stream").expect("there"), None).expect("a stream");
        for pulled in 1..=100 {
            // Python makes it, so Rust must not keep the interpreter meanwhile.
            py.detach(|| reader.next()).expect("a batch").expect("it is read");
            assert_eq!(made(), pulled);
        }
        assert!(py.detach(|| reader.next()).is_none());
    });
}

#[test]
fn other_threads_use_python_while_rust_makes_a_batch() {
    with(&["pyarrow"], |py| {
        let batches = std::iter::repeat_with(|| another_thread_attaches().map(|()| hours(0, 24)));
        let data = produce(py, year().schema(), batches.take(3)).expect("it is produced");
        let table = py.import("pyarrow").expect("there").call_method1("table", (data,));
        assert_eq!(table.expect("nobody was kept out").len().expect("a table"), 3 * 24);
    });
}

/// Fails if this thread, or who called it, keeps the interpreter to itself.
fn another_thread_attaches() -> Result<(), ArrowError> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(Python::attach(|py| py.import("sys").is_ok())));
    match receiver.recv_timeout(DEADLINE) {
        Ok(true) => Ok(()),
        other => Err(ArrowError::ComputeError(format!("another thread waited: {other:?}"))),
    }
}

#[test]
fn a_thread_of_rust_that_knows_no_python_feeds_a_python_loop() {
    with(&["pyarrow"], |py| {
        // Without room for a second batch: it is made only once the first was taken.
        let (sender, receiver) = mpsc::sync_channel::<Made>(0);
        let thread =
            thread::spawn(move || (0..7).all(|d| sender.send(Ok(hours(d * 24, 24))).is_ok()));
        let data = produce(py, year().schema(), receiver.into_iter()).expect("it is produced");
        let code = c"
import pyarrow as pa
def lengths(data):
    return [len(batch) for batch in pa.RecordBatchReader.from_stream(data)]
";
        let lengths = module(py, code).getattr("lengths").expect("there").call1((data,));
        assert_eq!(lengths.expect("read").extract::<Vec<usize>>().expect("numbers"), [24; 7]);
        assert!(thread.join().expect("no panic"), "somebody stopped listening");
    });
}

// === what goes wrong ===

#[test]
fn a_schema_that_was_not_expected_is_said_line_by_line() {
    with(&["pyarrow"], |py| {
        let code = c"{'hour': [0, 1], 'price': ['1.5', '2'], 'wind': [1.0, 2.0]}";
        let columns = py.eval(code, None, None).expect("valid");
        let table = py.import("pyarrow").expect("there").call_method1("table", (columns,));
        let expected = Schema::new(vec![
            Field::new("hour", DataType::Int64, true),
            Field::new("price", DataType::Float64, true),
            Field::new("wind", DataType::Float64, true),
        ]);
        let error = consume(&table.expect("made"), Some(&expected)).err().expect("it differs");
        let text = error.value(py).to_string();
        let line = |begin: &str| text.lines().any(|line| line.trim().starts_with(begin));
        assert!(line("- price: float64") && line("+ price: utf8"), "{text}");
        assert!(!line("- hour") && !line("+ hour") && !line("- wind"), "{text}");
    });
}

#[test]
fn the_schema_that_was_expected_passes() {
    with(&["pyarrow"], |py| {
        let batch = year();
        let reader = consume(&to_python(py, &batch), Some(&batch.schema())).expect("as expected");
        assert_eq!(reader.schema(), batch.schema());
    });
}

#[test]
fn an_exception_in_a_python_stream_becomes_an_error_with_its_text() {
    with(&["pyarrow"], |py| {
        let code = c"
import pyarrow as pa
schema = pa.schema({'n': pa.int64()})
def batches():
    yield pa.record_batch({'n': [1]}, schema)
    raise RuntimeError('the meter is gone')
stream = pa.RecordBatchReader.from_batches(schema, batches())
";
        let stream = module(py, code).getattr("stream").expect("there");
        let mut reader = consume(&stream, None).expect("a stream");
        py.detach(|| {
            assert_eq!(reader.next().expect("a batch").expect("it is read").num_rows(), 1);
            let error = reader.next().expect("something").expect_err("it raised").to_string();
            assert!(error.contains("the meter is gone"), "{error}");
            assert!(reader.next().is_none(), "nothing comes after a failure");
        });
    });
}

fn python_is_told(batches: impl Iterator<Item = Made> + Send + 'static, words: &str) {
    with(&["pyarrow"], move |py| {
        let data = produce(py, year().schema(), batches).expect("it is produced");
        let table = py.import("pyarrow").expect("there").call_method1("table", (data,));
        let error = table.expect_err("a batch is missing").to_string();
        assert!(error.contains(words), "{error}");
    });
}

#[test]
fn an_error_of_the_producer_becomes_an_exception_with_its_text() {
    let failed = ArrowError::ComputeError("the meter is gone".into());
    python_is_told(once(hours(0, 24)).chain([Err(failed)]), "the meter is gone");
}

#[test]
fn a_panic_of_the_producer_becomes_an_exception() {
    let panics = std::iter::once_with(|| panic!("on purpose"));
    python_is_told(once(hours(0, 24)).chain(panics), "panicked");
}

#[test]
fn a_batch_of_another_schema_becomes_an_exception() {
    let other = hours(0, 24).project(&[1, 0]).expect("two columns");
    python_is_told(once(hours(0, 24)).chain([Ok(other)]), "schema");
}

#[test]
fn what_is_no_table_is_refused() {
    with(&[], |py| {
        let nothing = py.eval(c"object()", None, None).expect("valid");
        let error = consume(&nothing, None).err().expect("it is none").to_string();
        assert!(error.contains("object"), "{error}");
    });
}
