//! IPC files: a stream with an index at its end.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{Block, root_as_footer};

use super::{MAGIC, decode::Decoder, stream::body_length};
use crate::{ReadError, table::Budget};

/// At the end: the length of the footer, and the magic again.
const TRAILER: usize = 4 + MAGIC.len();

/// All batches of a file that lies in memory.
pub(super) fn batches(
    data: &Buffer,
    decoder: &mut Decoder,
    budget: &mut Budget,
) -> Result<Vec<RecordBatch>, ReadError> {
    let footer = footer(data).ok_or_else(|| decoder.wrong("its end is missing or broken"))?;
    let footer = root_as_footer(&footer).map_err(|_| decoder.wrong("its footer is broken"))?;
    let schema = footer.schema().ok_or_else(|| decoder.wrong("it has no schema"))?;
    decoder.take_schema(schema, budget)?;
    let dictionaries = footer.dictionaries().into_iter().flatten();
    let mut batches = Vec::new();
    let mut used = 0_u64;
    for block in dictionaries.chain(footer.recordBatches().into_iter().flatten()) {
        // Blocks that lie on one another would make a large table of a small file.
        used = used.saturating_add(block.bodyLength().unsigned_abs());
        if used > data.len() as u64 {
            return Err(decoder.wrong("its blocks overlap"));
        }
        batches.extend(take(data, block, decoder, budget)?);
    }
    Ok(batches)
}

/// The footer's bytes, aligned as its reader wants them.
fn footer(data: &Buffer) -> Option<Buffer> {
    let (rest, trailer) = data.split_at_checked(data.len().checked_sub(TRAILER)?)?;
    let length = trailer.strip_suffix(MAGIC)?;
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let start = rest.len().checked_sub(usize::try_from(length).ok()?)?;
    Some(Buffer::from(&rest[start..]))
}

fn take(
    data: &Buffer,
    block: &Block,
    decoder: &mut Decoder,
    budget: &mut Budget,
) -> Result<Option<RecordBatch>, ReadError> {
    let outside = || "a block lies outside the file";
    let length = |number: i64| usize::try_from(number).ok();
    let start = length(block.offset());
    let head = length(block.metaDataLength().into());
    let (start, head) = start.zip(head).ok_or_else(|| decoder.wrong(outside()))?;
    let head_end = start.checked_add(head).filter(|end| *end <= data.len());
    let head_end = head_end.ok_or_else(|| decoder.wrong(outside()))?;
    let prefix = if data[start..head_end].starts_with(&[0xff; 4]) { 8 } else { 4 };
    if head <= prefix {
        return Err(decoder.wrong("a block is too short"));
    }
    let metadata = decoder.metadata(data.slice_with_length(start + prefix, head - prefix))?;
    let body = body_length(&metadata, decoder)?;
    if Some(body) != length(block.bodyLength()) || body > data.len() - head_end {
        return Err(decoder.wrong(outside()));
    }
    decoder.message(&metadata, &data.slice_with_length(head_end, body), budget)
}
