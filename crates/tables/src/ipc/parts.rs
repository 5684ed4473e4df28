//! A table as an Arrow IPC stream in pieces, its columns not copied.

use std::collections::HashSet;

use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::{root_as_message, writer::StreamEncoder};

use crate::{Format, Table, WriteError, buffers, quiet::guarded, schema::check_depth};

/// An Arrow IPC stream, to be written piece after piece.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The pieces, in order: the table's own memory, and between them what the format adds.
    pub parts: Vec<Buffer>,
    /// Bytes of all pieces.
    pub length: u64,
    /// Bytes of columns that had to be copied into pieces of their own.
    pub copied: u64,
}

/// Buffers begin at multiples of this, counted from the start of the stream.
const ALIGN: u64 = 64;

/// Pieces of the format up to this size are put together where they meet.
const SMALL: usize = 4096;

/// The table as an Arrow IPC stream whose data are the table's own buffers, wherever they can be.
///
/// # Errors
/// A type that IPC cannot write; a batch with another schema.
pub fn ipc_parts(table: &Table) -> Result<Parts, WriteError> {
    check_depth(&table.schema, Format::ArrowStream)?;
    let wrong = |error| WriteError::arrow(Format::ArrowStream, error);
    guarded(|| {
        let mut encoder = StreamEncoder::try_new(&table.schema).map_err(wrong)?;
        let mut sorter = Sorter::new(&table.batches);
        for batch in &table.batches {
            sorter.extend(encoder.encode(&whole(batch)).map_err(wrong)?);
        }
        sorter.extend(encoder.finish().map_err(wrong)?);
        Ok(sorter.finish())
    })
    .unwrap_or_else(|why| Err(WriteError::unsupported(Format::ArrowStream, why)))
}

/// The batch as the encoder can take it: of runs of which nothing is left it makes broken ones.
pub(crate) fn whole(batch: &RecordBatch) -> RecordBatch {
    match batch.num_rows() {
        0 => RecordBatch::new_empty(batch.schema()),
        _ => batch.clone(),
    }
}

/// Tells the table's own buffers from what the encoder made.
struct Sorter {
    /// Where the table's buffers lie: start addresses.
    own: Vec<std::ops::Range<usize>>,
    parts: Vec<Buffer>,
    /// Small pieces that wait for being put together.
    small: Vec<u8>,
    length: u64,
    copied: u64,
    /// What of the stream comes next.
    next: Next,
}

#[derive(Clone, Copy)]
enum Next {
    Prefix,
    Metadata,
    /// The body of a message, and where in the stream it ends, once its beginning is known.
    Body {
        length: u64,
        end: Option<u64>,
    },
}

// === impl Sorter ===

impl Sorter {
    fn new(batches: &[RecordBatch]) -> Self {
        let mut own = HashSet::new();
        for column in batches.iter().flat_map(RecordBatch::columns) {
            buffers::each(&column.to_data(), &mut |buffer| {
                own.insert(buffers::addresses(buffer));
            });
        }
        let mut own: Vec<_> = own.into_iter().collect();
        own.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
        // Of ranges that lie in one another the outer one is enough.
        own.dedup_by(|inner, outer| inner.end <= outer.end);
        let next = Next::Prefix;
        Self { own, parts: Vec::new(), small: Vec::new(), length: 0, copied: 0, next }
    }

    fn extend(&mut self, pieces: Vec<Buffer>) {
        for piece in pieces {
            self.push(piece);
        }
    }

    fn push(&mut self, piece: Buffer) {
        if piece.is_empty() {
            return;
        }
        let is_own = self.is_own(&piece);
        if self.is_data(&piece) && !is_own {
            self.copied += piece.len() as u64;
        }
        self.length += piece.len() as u64;
        if is_own || piece.len() > SMALL {
            self.flush();
            self.parts.push(piece);
        } else {
            self.small.extend_from_slice(&piece);
        }
    }

    fn is_own(&self, piece: &Buffer) -> bool {
        let at = buffers::addresses(piece);
        let after = self.own.partition_point(|range| range.start <= at.start);
        after.checked_sub(1).is_some_and(|index| at.end <= self.own[index].end)
    }

    /// Follows the encoder through the stream; whether this piece is data of a column.
    fn is_data(&mut self, piece: &Buffer) -> bool {
        let aligned = self.length.is_multiple_of(ALIGN);
        if let Next::Body { length, end } = self.next {
            // Between metadata and body there may be padding.
            let end = end.or_else(|| aligned.then_some(self.length + length));
            self.next = Next::Body { length, end };
            match end {
                // Data begins aligned; what does not is padding.
                Some(end) if self.length < end => return aligned,
                Some(_) => self.next = Next::Prefix,
                None => return false,
            }
        }
        self.next = match self.next {
            Next::Prefix => Next::Metadata,
            _ => match root_as_message(piece) {
                Ok(message) => {
                    Next::Body { length: message.bodyLength().unsigned_abs(), end: None }
                }
                Err(_) => Next::Prefix,
            },
        };
        false
    }

    fn flush(&mut self) {
        if !self.small.is_empty() {
            self.parts.push(Buffer::from_vec(std::mem::take(&mut self.small)));
        }
    }

    fn finish(mut self) -> Parts {
        self.flush();
        Parts { parts: self.parts, length: self.length, copied: self.copied }
    }
}
