//! Our tables to what a handler asks for, and what it returns to our tables.
//!
//! The work is done in Python, in `tables/*.py`, which is loaded when the first table comes.

use std::ffi::CStr;

use exuvia_core::Copied;
use pyo3::{
    ffi::c_str,
    prelude::*,
    sync::PyOnceLock,
    types::{PyList, PyModule, PyString},
};

use crate::tables::{Column, Table};

pub(crate) use crate::values::type_name;

/// What is needed once there is a table.
struct Modules {
    arrays: Py<PyModule>,
    tables: Py<PyModule>,
    exchange: Py<PyModule>,
}

/// What an annotation asks for: see `target_of` in `asked.py`.
#[pyfunction]
pub(crate) fn table_target<'py>(annotation: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = annotation.py();
    asked(py)?.getattr("target_of")?.call1((annotation,))
}

/// A table, or a stream of one, as the thing that was asked for; where nothing was, as what the
/// environment has.
pub(crate) fn give<'py>(
    py: Python<'py>,
    table: &Bound<'py, PyAny>,
    target: Option<&Bound<'py, PyAny>>,
    copies: &mut Vec<Copied>,
) -> PyResult<Bound<'py, PyAny>> {
    let modules = modules(py)?;
    let target = match target {
        Some(target) => target.clone(),
        None => asked(py)?.getattr("default_target")?.call0()?,
    };
    let noted = PyList::empty(py);
    let given = modules.tables.bind(py).getattr("give")?.call1((table, target, &noted))?;
    count(copies, &noted)?;
    Ok(given)
}

/// A table of any object that is one, or of which one can be made.
pub(crate) fn take(
    object: &Bound<'_, PyAny>,
    copies: &mut Vec<Copied>,
) -> PyResult<Option<exuvia_tables::Table>> {
    let py = object.py();
    taken(modules(py)?.tables.bind(py), object, copies)
}

/// The same for what [`kind_of`] has a number for.
pub(crate) fn take_faithfully(
    object: &Bound<'_, PyAny>,
    copies: &mut Vec<Copied>,
) -> PyResult<Option<exuvia_tables::Table>> {
    let py = object.py();
    taken(modules(py)?.exchange.bind(py), object, copies)
}

fn taken(
    module: &Bound<'_, PyModule>,
    object: &Bound<'_, PyAny>,
    copies: &mut Vec<Copied>,
) -> PyResult<Option<exuvia_tables::Table>> {
    let noted = PyList::empty(object.py());
    let taken = module.getattr("take")?.call1((object, &noted))?;
    count(copies, &noted)?;
    let table = taken.extract::<Option<PyRef<'_, Table>>>()?;
    Ok(table.map(|table| table.inner().clone()))
}

/// Whether an object is a table, by its type alone.
pub(crate) fn is_table(object: &Bound<'_, PyAny>) -> bool {
    let py = object.py();
    let answer = || asked(py)?.getattr("is_table")?.call1((object,))?.is_truthy();
    answer().unwrap_or(false)
}

/// The number under which a table crosses in a value, if it is one that can.
pub(crate) fn kind_of(object: &Bound<'_, PyAny>) -> Option<u8> {
    if !is_table(object) {
        return None;
    }
    let py = object.py();
    let module = modules(py).ok()?.exchange.bind(py);
    module.getattr("kind_of").ok()?.call1((object,)).ok()?.extract().ok()?
}

/// Whether an array is one that NumPy's format gives back as it was.
pub(crate) fn is_faithful_array(array: &Bound<'_, PyAny>) -> bool {
    let py = array.py();
    let answer = || {
        let module = modules(py)?.exchange.bind(py);
        module.getattr("is_tensor")?.call1((array,))?.is_truthy()
    };
    answer().unwrap_or(false)
}

/// A table as what it was.
pub(crate) fn of_kind<'py>(
    py: Python<'py>,
    table: exuvia_tables::Table,
    kind: u8,
    copies: &mut Vec<Copied>,
) -> PyResult<Bound<'py, PyAny>> {
    let table = Bound::new(py, Table::free(table))?;
    let noted = PyList::empty(py);
    let given = modules(py)?.exchange.bind(py).getattr("give")?.call1((table, kind, &noted))?;
    count(copies, &noted)?;
    Ok(given)
}

/// The module that knows NumPy's arrays.
pub(crate) fn arrays(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    Ok(modules(py)?.arrays.bind(py))
}

/// Adds what Python noted: `(what, bytes, why)` each.
pub(crate) fn count(copies: &mut Vec<Copied>, noted: &Bound<'_, PyList>) -> PyResult<()> {
    for note in noted {
        let (what, bytes, why) = note.extract::<(Bound<'_, PyString>, u64, String)>()?;
        copies.push(Copied { what: what.to_string_lossy().into_owned(), bytes, why });
    }
    Ok(())
}

/// Loads all of it now: workers forked later have it.
pub(crate) fn warm(py: Python<'_>) -> PyResult<()> {
    modules(py).map(drop)
}

fn asked(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static ASKED: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let asked = ASKED.get_or_try_init(py, || {
        load(py, c_str!(include_str!("tables/asked.py")), c"<exuvia asked>", c"_exuvia_asked")
    })?;
    Ok(asked.bind(py))
}

fn modules(py: Python<'_>) -> PyResult<&Modules> {
    static MODULES: PyOnceLock<Modules> = PyOnceLock::new();
    MODULES.get_or_try_init(py, || {
        // Each imports those before it.
        asked(py)?;
        let load = |source, file, name| load(py, source, file, name);
        let arrays = c_str!(include_str!("tables/arrays.py"));
        let arrays = load(arrays, c"<exuvia arrays>", c"_exuvia_arrays")?;
        let frames = c_str!(include_str!("tables/frames_in.py"));
        load(frames, c"<exuvia frames_in>", c"_exuvia_frames_in")?;
        let frames = c_str!(include_str!("tables/frames_out.py"));
        load(frames, c"<exuvia frames_out>", c"_exuvia_frames_out")?;
        let tables = c_str!(include_str!("tables/tables.py"));
        let tables = load(tables, c"<exuvia tables>", c"_exuvia_tables")?;
        let exchange = c_str!(include_str!("exchange.py"));
        let exchange = load(exchange, c"<exuvia exchange>", c"_exuvia_exchange")?;
        Ok(Modules { arrays, tables, exchange })
    })
}

fn load(py: Python<'_>, source: &CStr, file: &CStr, name: &CStr) -> PyResult<Py<PyModule>> {
    let module = PyModule::from_code(py, source, file, name)?;
    module.setattr("Table", py.get_type::<Table>())?;
    module.setattr("Column", py.get_type::<Column>())?;
    Ok(module.unbind())
}
