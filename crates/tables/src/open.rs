//! Reading a table while it comes.

use std::io::Read;

use arrow_array::RecordBatchReader;

use crate::{Format, Limits, ReadError, csv, ipc::StreamReader, json, quiet::guarded};

/// Reads a table from the front: the first batch is there before the last bytes are.
///
/// Where the format does not say of what types the columns are (CSV, NDJSON), they are those of the
/// rows that come first, and a later value of another type is an error. [`Limits::max_bytes`] is for
/// a batch here, not for all of them.
///
/// # Errors
/// The format cannot be read from the front; what comes first is not of that format. What is wrong
/// later, the reader says.
pub fn open(
    format: Format,
    source: Box<dyn Read + Send>,
    limits: &Limits,
) -> Result<Box<dyn RecordBatchReader + Send>, ReadError> {
    let open = || -> Result<Box<dyn RecordBatchReader + Send>, ReadError> {
        Ok(match format {
            Format::ArrowStream => Box::new(StreamReader::open(source, limits)?),
            Format::Csv => Box::new(csv::CsvReader::open(source, limits)?),
            Format::Ndjson => Box::new(json::LineReader::open(source, limits)?),
            _ => return Err(ReadError::NotFromTheFront { format }),
        })
    };
    guarded(open).unwrap_or_else(|why| Err(ReadError::malformed(format, why)))
}
