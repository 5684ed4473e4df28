//! Arrow IPC: streams and files.

mod check;
mod decode;
mod file;
pub(crate) mod parts;
mod stream;

use arrow_buffer::Buffer;

pub(crate) use check::schema as check_schema;
pub(crate) use decode::has_dictionary;
pub(crate) use parts::whole;
pub(crate) use stream::StreamReader;

use crate::{Format, Limits, Read, ReadError, Table, buffers, table::Budget};
use decode::Decoder;

/// What an IPC file begins and ends with.
const MAGIC: &[u8] = b"ARROW1";

/// Reads a stream or a file, whichever it is. Uncompressed columns stay in `data`.
pub(crate) fn read(data: &Buffer, limits: &Limits) -> Result<Read, ReadError> {
    let is_file = data.starts_with(MAGIC);
    let format = if is_file { Format::ArrowFile } else { Format::ArrowStream };
    let mut decoder = Decoder::new(format, *limits);
    let mut budget = Budget::new(format, limits);
    let batches = if is_file {
        file::batches(data, &mut decoder, &mut budget)?
    } else {
        stream::batches(data, &mut decoder, &mut budget)?
    };
    let schema = decoder
        .schema()
        .ok_or_else(|| ReadError::malformed(format, "it ends before its schema"))?;
    let copies = buffers::outside(data, &batches, |column| decoder.why_copied(column));
    Ok(Read { table: Table { schema, batches }, copies })
}
