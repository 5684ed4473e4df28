//! One JSON document per line.

use pyo3::{prelude::*, types::PyList};

use super::{
    convert::{Kind, plain_rows},
    decode::document,
    encode::Encoder,
    table::Layout,
};
use crate::values::{
    DecodeError, Unfit,
    keys::Keys,
    object::{index_step, new, type_name},
};

/// Writes each item of a list, tuple or set, each row of a table or each cell of a column on a
/// line of its own.
///
/// # Errors
/// [`Unfit`], as [`super::encode_json`], and for an object that is no sequence.
pub fn encode_ndjson(
    py: Python<'_>,
    object: &Bound<'_, PyAny>,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    let mut encoder = Encoder::new(py, out);
    let kind = encoder.kind(object)?;
    match kind {
        Kind::PandasFrame => encoder.pandas_rows(object, 0, Layout::Lines),
        Kind::PolarsFrame => encoder.polars_rows(object, 0, Layout::Lines),
        Kind::PandasSeries => encoder.pandas_column(object, 0, Layout::Lines),
        Kind::Items | Kind::NumpyArray | Kind::PolarsSeries | Kind::Arrow => {
            let rows = match kind {
                Kind::Arrow => plain_rows(object)?,
                _ => object.clone(),
            };
            for (index, item) in rows.try_iter()?.enumerate() {
                encoder.value(&item?, 1).map_err(|unfit| unfit.at(|| index_step(index)))?;
                encoder.out.push(b'\n');
            }
            Ok(())
        }
        _ => Err(Unfit::new(format!(
            "one document per line is for lists and tables; this is a `{}`",
            type_name(object)
        ))),
    }
}

/// Reads one JSON document from each line; blank lines count for nothing.
///
/// # Errors
/// [`DecodeError`], as [`super::decode_json`], with the line in the whole text.
pub fn decode_ndjson<'py>(
    py: Python<'py>,
    bytes: &[u8],
) -> Result<Bound<'py, PyList>, DecodeError> {
    let mut keys = Keys::take();
    let documents = new::list(py)?;
    let mut before = 0;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let blank = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii().is_empty();
        if !blank {
            let read = document(py, line, &mut keys);
            documents.append(read.map_err(|error| error.placed(line, before, index))?)?;
        }
        before += line.len() + 1;
    }
    Ok(documents)
}
