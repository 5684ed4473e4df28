//! Tables and tensors that came with a call, as what the handler's parameter asks for.

use std::{
    fs::File,
    io::{self, Read},
    sync::{Arc, OnceLock},
};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;
use bytes::Bytes;
use exuvia_core::{Codec, Copied, Failure};
use exuvia_tables::{Format, Limits};
use pyo3::{
    exceptions::{PyException, PyImportError, PyMemoryError, PyValueError},
    prelude::*,
    types::{PyDict, PyList, PyModule, PySet, PyString},
};

use crate::{
    convert,
    data::Data,
    handler::{Mask, PlannedParam},
    raised,
    tables::{Stream, Table, from_rows_or_columns, produce},
    tensor,
    values::is_plain_array,
};

/// How a value fits a parameter.
pub(crate) enum Fits<'py> {
    /// Nothing is to be done for it here.
    AsItIs,
    /// This is to be given instead.
    As(Bound<'py, PyAny>),
    /// Not at all, in words.
    Not(String),
}

/// What tables are made under: what is copied is counted, and how much may be made.
pub(crate) struct Making<'a> {
    pub(crate) copies: &'a mut Vec<Copied>,
    pub(crate) limits: Limits,
}

/// What was wrong with data that a handler reads piece by piece, once that is known: what the handler
/// raises then is not its own fault.
pub(crate) type Blame = Arc<OnceLock<String>>;

/// Batches that remember why they ended.
struct Blaming<R> {
    batches: R,
    blame: Blame,
}

impl<R: Iterator<Item = Result<RecordBatch, ArrowError>>> Iterator for Blaming<R> {
    type Item = R::Item;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.batches.next();
        if let Some(Err(error)) = &next {
            // The first is the reason.
            let _ = self.blame.set(match error {
                ArrowError::ExternalError(ours) => ours.to_string(),
                other => other.to_string(),
            });
        }
        next
    }
}

/// Memory that a cell of a table made of plain objects may take.
const CELL: u64 = 16;

/// The data of a call in a table's or tensor's format: our [`Table`], an array, or a stream where
/// `param` reads one.
pub(crate) fn table<'py>(
    python: &Bound<'py, PyModule>,
    param: Option<&PlannedParam>,
    mut data: Data,
    (limits, blame): (Limits, Blame),
    copies: &mut Vec<Copied>,
) -> Result<Bound<'py, PyAny>, Failure> {
    let py = python.py();
    let format = Format::of(data.codec).unwrap_or(Format::Ndjson);
    if let Some(feed) = data.feed.take() {
        let source: Box<dyn Read + Send> =
            Box::new(Feed { socket: File::from(feed), left: Some(0) });
        return lazily(python, format, source, (limits, blame));
    }
    let no_memory = |error: io::Error| Failure::Host {
        message: format!("the call's memory cannot be mapped: {error}"),
    };
    let buffer = data.buffer(copies).map_err(no_memory)?;
    if data.codec == Codec::Npy {
        let read = tensor::read(py, &buffer, copies);
        let read = read.map_err(|error| raised::exception(python, &error))?;
        return read.map_err(|message| Failure::Malformed { message });
    }
    if param.is_some_and(|param| param.reads) && matches!(format, Format::Csv | Format::Ndjson) {
        let source: Box<dyn Read + Send> =
            Box::new(io::Cursor::new(Bytes::copy_from_slice(&buffer)));
        return lazily(python, format, source, (limits, blame));
    }
    let read = py.detach(|| exuvia_tables::read(format, &buffer, &limits));
    let read = read.map_err(|error| Failure::Malformed { message: error.to_string() })?;
    copies.extend(read.copies);
    let table = Bound::new(py, Table::free(read.table));
    table.map(Bound::into_any).map_err(|error| raised::exception(python, &error))
}

/// A table that is read as somebody asks for its rows.
fn lazily<'py>(
    python: &Bound<'py, PyModule>,
    format: Format,
    source: Box<dyn Read + Send>,
    (limits, blame): (Limits, Blame),
) -> Result<Bound<'py, PyAny>, Failure> {
    let py = python.py();
    // The schema may be long in coming.
    let opened = py.detach(|| exuvia_tables::open(format, source, &limits));
    let reader = opened.map_err(|error| Failure::Malformed { message: error.to_string() })?;
    let schema = reader.schema();
    let batches = Blaming { batches: reader, blame };
    produce(py, schema, batches).map_err(|error| raised::exception(python, &error))
}

/// Makes of a value what a parameter asks for, where that is a table or a tensor, or where the value
/// is one. `is_rows`: a list or dict that is to become a table.
pub(crate) fn argument<'py>(
    python: &Bound<'py, PyModule>,
    param: &PlannedParam,
    value: &Bound<'py, PyAny>,
    is_rows: bool,
    making: &mut Making<'_>,
) -> Result<Fits<'py>, Failure> {
    let py = python.py();
    let target = param.table.as_ref().map(|table| table.bind(py));
    if param.reads && value.is_instance_of::<Stream>() {
        let reader = convert::give(py, value, target, making.copies);
        return reader.map(Fits::As).map_err(|error| raised::exception(python, &error));
    }
    let is_array = is_plain_array(value);
    let wants_array = || target.is_some_and(|target| target.eq("numpy").unwrap_or(false));
    let table = if let Ok(table) = value.cast::<Table>() {
        table.clone()
    } else if (is_array && wants_array()) || is_asked_for(value, target) {
        return Ok(Fits::As(value.clone()));
    } else if target.is_some() && (is_rows || is_array || convert::is_table(value)) {
        match as_table(value, is_rows, making) {
            Ok(table) => table,
            Err(error) if is_innocent(&error, py) => return Err(raised::exception(python, &error)),
            Err(error) => return Ok(Fits::Not(format!("is not a table: {}", error.value(py)))),
        }
    } else {
        return Ok(Fits::AsItIs);
    };
    let plain = match target {
        None if param.mask.has(Mask::LIST) => Some("rows"),
        None if param.mask.has(Mask::DICT) => Some("columns"),
        None if !param.mask.has(Mask::ANY) => {
            return Ok(Fits::Not(format!("must be {}, not a table", param.mask.words())));
        }
        _ => None,
    };
    let plain = plain.map(|word| PyString::new(py, word).into_any());
    match convert::give(py, table.as_any(), plain.as_ref().or(target), making.copies) {
        Ok(given) => Ok(Fits::As(given)),
        Err(error) if is_innocent(&error, py) => Err(raised::exception(python, &error)),
        Err(error) => Ok(Fits::Not(error.value(py).to_string())),
    }
}

/// The same for a value of `*args`, which asks for nothing.
pub(crate) fn unnamed<'py>(
    python: &Bound<'py, PyModule>,
    value: &Bound<'py, PyAny>,
    making: &mut Making<'_>,
) -> Result<Bound<'py, PyAny>, Failure> {
    if !value.is_instance_of::<Table>() {
        return Ok(value.clone());
    }
    let given = convert::give(python.py(), value, None, making.copies);
    given.map_err(|error| raised::exception(python, &error))
}

/// Whether a value is what was asked for already, as it may be that comes from Python.
fn is_asked_for(value: &Bound<'_, PyAny>, target: Option<&Bound<'_, PyAny>>) -> bool {
    let Some(target) = target else { return false };
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut arrays = dict.values().into_iter();
        return target.eq("numpy-dict").unwrap_or(false)
            && !dict.is_empty()
            && arrays.all(|array| is_plain_array(&array));
    }
    convert::is_table(value)
        && convert::table_target(value.get_type().as_any())
            .is_ok_and(|own| own.eq(target).unwrap_or(false))
}

/// A table of rows or columns as JSON gives them, or of another library's table.
fn as_table<'py>(
    value: &Bound<'py, PyAny>,
    is_rows: bool,
    making: &mut Making<'_>,
) -> PyResult<Bound<'py, Table>> {
    let py = value.py();
    if is_rows {
        within(value, &making.limits)?;
        // JSON has plain lists; what comes from Python may have arrays in their place.
        let table = from_rows_or_columns(value).or_else(|error| {
            let taken = convert::take(value, making.copies);
            taken.ok().flatten().ok_or(error)
        });
        return Bound::new(py, Table::from(table?));
    }
    let none = || pyo3::exceptions::PyTypeError::new_err("it has no columns");
    let table = convert::take(value, making.copies)?.ok_or_else(none)?;
    Bound::new(py, Table::from(table))
}

/// Whether rows or columns may become a table: each row may have columns of its own, and a table has
/// a cell for every one of them.
fn within(value: &Bound<'_, PyAny>, limits: &Limits) -> PyResult<()> {
    let mut cells = 0;
    if let Ok(rows) = value.cast::<PyList>() {
        let names = PySet::empty(value.py())?;
        for row in rows {
            let Ok(row) = row.cast_into::<PyDict>() else { continue };
            for name in row.keys() {
                names.add(name)?;
            }
        }
        cells = rows.len() as u64 * names.len() as u64;
    } else if let Ok(columns) = value.cast::<PyDict>() {
        for column in columns.values() {
            cells += column.len().unwrap_or(0) as u64;
        }
    }
    if cells.saturating_mul(CELL) <= limits.max_bytes {
        return Ok(());
    }
    let limit = limits.max_bytes;
    Err(PyValueError::new_err(format!("it has {cells} cells, more than fit into {limit} bytes")))
}

/// What cannot be blamed on the data: no pandas, no memory, an interrupt.
fn is_innocent(error: &PyErr, py: Python<'_>) -> bool {
    !error.is_instance_of::<PyException>(py)
        || error.is_instance_of::<PyMemoryError>(py)
        || error.is_instance_of::<PyImportError>(py)
}

/// Data that comes through a socket while it is read: section 10.5 of the protocol page.
struct Feed {
    socket: File,
    /// Bytes left of the current piece; `None` after the last.
    left: Option<u32>,
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let early = || io::Error::new(io::ErrorKind::UnexpectedEof, "the data ended early");
        while self.left == Some(0) {
            let mut length = [0; 4];
            self.socket.read_exact(&mut length).map_err(|_| early())?;
            self.left = Some(u32::from_le_bytes(length)).filter(|length| *length > 0);
        }
        let Some(left) = self.left else { return Ok(0) };
        let most = buffer.len().min(left as usize);
        let read = self.socket.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(early());
        }
        // No more than `left`, a u32.
        self.left = Some(left - read as u32);
        Ok(read)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The host has the descriptor, too: closing ours alone would tell the feeder nothing.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}
