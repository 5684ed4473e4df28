//! The interpreter the tests of a program share, and a year of hourly data to send through it.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
};

use exuvia_embed::{
    Interpreter, Options,
    arrow_array::{ArrayRef, Float64Array, RecordBatch, cast::AsArray, types::Float64Type},
    arrow_schema::ArrowError,
    pyo3::{prelude::*, types::PyModule},
};

pub const COLUMNS: usize = 8;
pub const HOURS: usize = 8760;

// === the interpreter ===

/// The Python the tests run in: the one the project's tests were told, else the one that was linked.
pub fn python() -> PathBuf {
    told().unwrap_or_else(|| env!("EXUVIA_EMBED_BUILT_WITH").into())
}

fn told() -> Option<PathBuf> {
    env::var_os("EXUVIA_TEST_PYTHON").filter(|python| !python.is_empty()).map(PathBuf::from)
}

/// Makes a virtual environment of [`python`]'s installation.
pub fn make_environment(folder: &Path) -> PathBuf {
    let made = Command::new(python())
        .args(["-I", "-m", "venv", "--without-pip"])
        .arg(folder)
        .status()
        .expect("python runs");
    assert!(made.success(), "no virtual environment: {made}");
    folder.join("bin/python")
}

fn interpreter() -> &'static Interpreter {
    static INTERPRETER: OnceLock<Interpreter> = OnceLock::new();
    INTERPRETER.get_or_init(|| {
        let options = Options { python: Some(python()) };
        Interpreter::start(&options).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Runs a test that needs Python packages. It is skipped, with a word on stderr, where they are
/// missing, unless the project's tests named the Python: theirs must have them.
pub fn with(packages: &[&str], test: impl FnOnce(Python<'_>)) {
    interpreter().attach(|py| {
        let missing = packages.iter().find_map(|name| Some((name, py.import(*name).err()?)));
        let Some((name, error)) = missing else { return test(py) };
        assert!(told().is_none(), "{name} is missing: {error}");
        // Not eprintln!, which the test harness would swallow.
        let text = format!("skipped: {} has no {name}\n", python().display());
        std::io::stderr().write_all(text.as_bytes()).expect("stderr is open");
    });
}

/// A Python module of the tests' own.
pub fn module<'py>(py: Python<'py>, code: &std::ffi::CStr) -> Bound<'py, PyModule> {
    PyModule::from_code(py, code, c"testing.py", c"testing").expect("it is valid")
}

// === the data ===

/// Eight columns, `a` to `h`, of whole numbers, so that their sums are exact in any order.
pub fn year() -> RecordBatch {
    hours(0, HOURS)
}

/// The rows of [`year`] from `start` on.
pub fn hours(start: usize, count: usize) -> RecordBatch {
    let column = |c: usize| -> ArrayRef {
        let values = (start..start + count).map(|hour| value(c, hour));
        Arc::new(values.collect::<Float64Array>())
    };
    // Nullable, as Python's libraries say of every column.
    let columns = names().enumerate().map(|(c, name)| (name, column(c), true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("equally long")
}

pub fn names() -> impl Iterator<Item = String> {
    (b'a'..).take(COLUMNS).map(|letter| char::from(letter).to_string())
}

#[allow(clippy::cast_precision_loss, reason = "small whole numbers")]
fn value(column: usize, hour: usize) -> f64 {
    (hour * (column + 1) % 1000) as f64
}

/// The sum of all values of [`year`].
pub fn total() -> f64 {
    (0..COLUMNS).flat_map(|c| (0..HOURS).map(move |hour| value(c, hour))).sum()
}

/// Where each column's values begin.
pub fn addresses(batch: &RecordBatch) -> Vec<usize> {
    let values = |c: &ArrayRef| c.as_primitive::<Float64Type>().values().as_ptr().addr();
    batch.columns().iter().map(values).collect()
}

/// All that comes, or the first error.
pub fn all(
    reader: impl Iterator<Item = Result<RecordBatch, ArrowError>>,
) -> Result<Vec<RecordBatch>, ArrowError> {
    reader.collect()
}
