//! Results as the web has them: bytes and text as they are, and server-sent events.

use exuvia_core::{Codec, Failure};
use pyo3::{
    buffer::PyBuffer,
    prelude::*,
    types::{PyBytes, PyDict, PyInt, PyModule, PyString},
};

use crate::{convert::type_name, raised, values::encode_json};

/// The fields of an event, of which `data` is one.
const FIELDS: [&str; 4] = ["event", "id", "retry", "data"];

/// Whether results in this codec are written by [`write`].
pub(crate) fn is_one(codec: Codec) -> bool {
    matches!(codec, Codec::Bytes | Codec::Text | Codec::Events)
}

/// Writes a result, or one thing of many that a generator yields.
pub(crate) fn write(
    python: &Bound<'_, PyModule>,
    codec: Codec,
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    match codec {
        Codec::Bytes => bytes(value, out),
        Codec::Text => text(value, out),
        _ => event(python, value, out),
    }
}

fn bytes(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<(), Failure> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        out.extend_from_slice(bytes.as_bytes());
        return Ok(());
    }
    let Ok(buffer) = PyBuffer::<u8>::get(value) else {
        return Err(misfit(value, "`bytes`, as the route's media type is no format of Exuvia's"));
    };
    let start = out.len();
    out.resize(start + buffer.item_count(), 0);
    let copied = buffer.copy_to_slice(value.py(), &mut out[start..]);
    copied.map_err(|_| misfit(value, "`bytes` that lie in one piece"))
}

fn text(value: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Result<(), Failure> {
    let Ok(text) = value.cast::<PyString>() else {
        return Err(misfit(value, "`str`, as the route's media type is text"));
    };
    let Ok(text) = text.to_str() else {
        return Err(misfit(value, "text that UTF-8 can hold"));
    };
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// One event: its data in JSON, and the other fields where the value is a dict of nothing else.
fn event(
    python: &Bound<'_, PyModule>,
    value: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let py = value.py();
    let raise = |error: PyErr| raised::exception(python, &error);
    let mut data = value.clone();
    if let Some(fields) = fields(value) {
        for name in &FIELDS[..3] {
            let Some(field) = fields.get_item(name).map_err(raise)? else { continue };
            if field.is_none() {
                continue;
            }
            let fits = if *name == "retry" {
                field.is_instance_of::<PyInt>()
            } else {
                field.is_instance_of::<PyString>()
            };
            let field = field.str().map_err(raise)?.to_string_lossy().into_owned();
            if !fits || field.contains(['\n', '\r', '\0']) {
                let what = if *name == "retry" { "a whole number" } else { "text in one line" };
                let message = format!("the `{name}` of an event must be {what}");
                return Err(Failure::Result { path: format!("result[\"{name}\"]"), message });
            }
            out.extend_from_slice(format!("{name}: {field}\n").as_bytes());
        }
        data = fields.get_item("data").map_err(raise)?.unwrap_or(data);
    }
    out.extend_from_slice(b"data: ");
    encode_json(py, &data, out).map_err(|unfit| raised::unfit(python, &unfit))?;
    out.extend_from_slice(b"\n\n");
    Ok(())
}

/// A dict that says all of an event.
fn fields<'a, 'py>(value: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyDict>> {
    let dict = value.cast_exact::<PyDict>().ok()?;
    let known = |key: Bound<'_, PyAny>| {
        key.extract::<String>().is_ok_and(|key| FIELDS.contains(&key.as_str()))
    };
    (dict.contains("data").ok()? && dict.keys().into_iter().all(known)).then_some(dict)
}

fn misfit(value: &Bound<'_, PyAny>, wanted: &str) -> Failure {
    let message = format!("must be {wanted}, not a `{}`", type_name(value));
    Failure::Result { path: "result".into(), message }
}
