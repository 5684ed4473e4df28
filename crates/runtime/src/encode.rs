//! A handler's result, written down in the format that was asked for.

use std::io::{self, IoSlice, Write};

use bytes::Bytes;
use exuvia_core::{Codec, Copied, Failure, SHARED_FROM};
use exuvia_protocol::Outgoing;
use exuvia_sys::{Sealed, Spill, Spilled};
use exuvia_tables::{Format, Table, WriteError};
use pyo3::{prelude::*, types::PyModule};

use crate::{
    attach::Attacher,
    convert, raised, tensor,
    values::{EncodeOptions, encode_json, encode_ndjson, encode_value_with},
    web,
};

/// How a result is to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) codec: Codec,
    /// Whether an object outside the value model may go as a pickle.
    pub(crate) pickle: bool,
}

/// Writes a result. What is short is left in `out`; what is returned is not.
pub(crate) fn encode(
    python: &Bound<'_, PyModule>,
    value: &Bound<'_, PyAny>,
    wanted: Wanted,
    out: &mut Vec<u8>,
    copies: &mut Vec<Copied>,
) -> Result<Option<Outgoing>, Failure> {
    let py = python.py();
    let mut attached = Vec::new();
    let encoded = match wanted.codec {
        codec if web::is_one(codec) => {
            web::write(python, codec, value, out)?;
            Ok(())
        }
        Codec::Ndjson => encode_ndjson(py, value, out),
        Codec::Value | Codec::Arguments => {
            let mut attacher = Attacher::new(copies);
            let options = EncodeOptions { pickle: wanted.pickle };
            let encoded = encode_value_with(py, value, out, options, Some(&mut attacher));
            attached = attacher.attached;
            encoded
        }
        Codec::Json | Codec::Empty => encode_json(py, value, out),
        Codec::Npy => return tensor::write(py, value, copies).map(Some).map_err(unfit(python)),
        codec => {
            let table = table_of(python, value, copies)?;
            let format = Format::of(codec).unwrap_or(Format::ArrowStream);
            return write_table(py, format, &table, copies).map(Some).map_err(write_failure);
        }
    };
    encoded.map_err(|unfit| raised::unfit(python, &unfit))?;
    if attached.is_empty() && out.len() <= SHARED_FROM {
        return Ok(None);
    }
    let payload = held(out, attached).map_err(no_memory)?;
    Ok(Some(payload))
}

/// A result as a table.
pub(crate) fn table_of(
    python: &Bound<'_, PyModule>,
    value: &Bound<'_, PyAny>,
    copies: &mut Vec<Copied>,
) -> Result<Table, Failure> {
    match convert::take(value, copies) {
        Ok(Some(table)) => Ok(table),
        Ok(None) => {
            let message = format!(
                "a `{}` is no table, and a table's format was asked for",
                convert::type_name(value)
            );
            Err(Failure::Result { path: "result".into(), message })
        }
        Err(error) => Err(unfit(python)(error)),
    }
}

/// What cannot be expressed is the result's fault; anything else is an exception like others.
fn unfit<'a>(python: &'a Bound<'_, PyModule>) -> impl Fn(PyErr) -> Failure + 'a {
    use pyo3::exceptions::{PyTypeError, PyValueError};
    move |error| {
        let py = python.py();
        if error.is_instance_of::<PyTypeError>(py) || error.is_instance_of::<PyValueError>(py) {
            let message = error.value(py).to_string();
            return Failure::Result { path: "result".into(), message };
        }
        raised::exception(python, &error)
    }
}

/// A table in a format, in memory of its own where it is large. The interpreter does other things
/// meanwhile.
fn write_table(
    py: Python<'_>,
    format: Format,
    table: &Table,
    copies: &mut Vec<Copied>,
) -> Result<Outgoing, WriteError> {
    let written = py.detach(|| match format {
        Format::ArrowStream => write_ipc(table),
        format => {
            let mut spill = Spill::new(SHARED_FROM);
            exuvia_tables::write(format, table, &mut spill)?;
            Ok(spill.finish()?)
        }
    })?;
    let why = match format {
        Format::ArrowStream | Format::ArrowFile => "it is the result, and is sent",
        _ => "it is written in another format",
    };
    let (what, bytes) = ("the result".into(), table.bytes());
    copies.push(Copied { what, bytes, why: why.into() });
    Ok(outgoing(written))
}

/// A table as an Arrow IPC stream, its columns copied once: into the memory that is sent.
pub(crate) fn write_ipc(table: &Table) -> Result<Spilled, WriteError> {
    let parts = exuvia_tables::ipc_parts(table)?;
    let mut spill = Spill::expecting(parts.length, SHARED_FROM)?;
    let mut slices: Vec<IoSlice<'_>> =
        parts.parts.iter().map(|part| IoSlice::new(part.as_slice())).collect();
    write_all(&mut spill, &mut slices)?;
    Ok(spill.finish()?)
}

fn write_all(spill: &mut Spill, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    // What is empty would make a write of nothing look like the end.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match spill.write_vectored(slices)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut slices, written),
        }
    }
    Ok(())
}

/// A payload of what was gathered.
pub(crate) fn outgoing(spilled: Spilled) -> Outgoing {
    match spilled {
        Spilled::Few(bytes) => Outgoing::from(Bytes::from(bytes)),
        Spilled::Many(sealed) => Outgoing {
            shared: Some(sealed.length()),
            descriptors: vec![sealed.memory().clone()],
            ..Outgoing::default()
        },
    }
}

/// A payload of bytes and of what they refer to.
pub(crate) fn held(out: &[u8], attached: Vec<Sealed>) -> io::Result<Outgoing> {
    let mut spill = Spill::new(SHARED_FROM);
    spill.write_all(out)?;
    let mut payload = outgoing(spill.finish()?);
    payload.descriptors.extend(attached.iter().map(|sealed| sealed.memory().clone()));
    Ok(payload)
}

fn write_failure(error: WriteError) -> Failure {
    match error {
        WriteError::Sink(error) => no_memory(error),
        error => Failure::Result { path: "result".into(), message: error.to_string() },
    }
}

fn no_memory(error: io::Error) -> Failure {
    Failure::Host { message: format!("there is no memory for the result: {error}") }
}
