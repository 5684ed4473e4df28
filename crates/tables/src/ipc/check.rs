//! What the messages of an IPC stream claim, checked before a decoder believes it.
//!
//! The decoder checks the values of what it has decoded. It reserves memory by what a message says,
//! though, so every claim about sizes is compared with the bytes that are there, first.

use arrow_buffer::Buffer;
use arrow_ipc::{CompressionType, Endianness, FieldNode, RecordBatch};
use arrow_schema::{DataType, Fields, UnionMode};

use crate::{
    Format, Limits, ReadError, lz4, schema,
    table::{ARRAY_BYTES, Budget, MAX_DEPTH},
};

/// Bytes that a compressed buffer begins with: how long it will be.
const PREFIX: usize = 8;

/// A schema message, before it is converted: fields may refer to the same bytes again and again.
pub(crate) fn schema(
    message: arrow_ipc::Schema<'_>,
    format: Format,
    limits: &Limits,
    budget: &Budget,
) -> Result<(), ReadError> {
    if message.endianness() != Endianness::Little {
        return Err(ReadError::malformed(format, "its numbers are big-endian"));
    }
    let mut walk = Walk { fields: 0, text: 0, limits, format };
    for field in message.fields().iter().flatten() {
        walk.field(field, 1)?;
    }
    for pair in message.custom_metadata().iter().flatten() {
        walk.pair(pair);
    }
    budget.check(walk.text)
}

struct Walk<'a> {
    fields: usize,
    text: u64,
    limits: &'a Limits,
    format: Format,
}

impl Walk<'_> {
    fn field(&mut self, field: arrow_ipc::Field<'_>, depth: usize) -> Result<(), ReadError> {
        self.fields += 1;
        if self.fields > self.limits.max_columns {
            return Err(schema::too_wide(self.format, self.limits));
        }
        let name = field.name().unwrap_or_default();
        if depth > MAX_DEPTH {
            return Err(ReadError::malformed(self.format, schema::too_deep(name)));
        }
        self.text += name.len() as u64;
        for pair in field.custom_metadata().iter().flatten() {
            self.pair(pair);
        }
        for child in field.children().iter().flatten() {
            self.field(child, depth + 1)?;
        }
        Ok(())
    }

    fn pair(&mut self, pair: arrow_ipc::KeyValue<'_>) {
        let texts = [pair.key(), pair.value()];
        self.text += texts.into_iter().flatten().map(|text| text.len() as u64).sum::<u64>();
    }
}

/// A batch of `fields`, whose buffers are said to lie in `body`. Tells how many bytes are made by
/// decoding it, and takes them from the budget.
pub(super) fn batch(
    batch: RecordBatch<'_>,
    body: &Buffer,
    fields: &Fields,
    budget: &mut Budget,
) -> Result<u64, Claim> {
    rows(batch, fields, budget)?;
    let codec = batch.compression().map(|compression| compression.codec());
    // Some types need more than the eight bytes to which most writers align.
    let align = if fields.iter().any(|field| is_wide(field.data_type())) { 16 } else { 8 };
    let (mut used, mut made) = (0_u64, 0_u64);
    for buffer in batch.buffers().iter().flatten() {
        let bytes = slice(body, buffer.offset(), buffer.length())?;
        // Each byte belongs to one buffer: otherwise a small body could stand for a huge table.
        used = used.saturating_add(bytes.len() as u64);
        if used > body.len() as u64 {
            return Err(Claim::Wrong("its buffers overlap".to_owned()));
        }
        made = made.saturating_add(match codec {
            Some(codec) if !bytes.is_empty() => compressed(bytes, codec)?,
            _ if !(bytes.as_ptr() as usize).is_multiple_of(align) => bytes.len() as u64,
            _ => 0,
        });
        budget.check(made)?;
    }
    budget.take(made)?;
    Ok(made)
}

/// Why a claim is not believed.
pub(super) enum Claim {
    Wrong(String),
    Limit(ReadError),
}

impl From<ReadError> for Claim {
    fn from(error: ReadError) -> Self {
        Self::Limit(error)
    }
}

fn slice(body: &Buffer, offset: i64, length: i64) -> Result<&[u8], Claim> {
    let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
    let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
    range
        .and_then(|range| body.get(range))
        .ok_or_else(|| Claim::Wrong("a buffer lies outside its message".to_owned()))
}

/// How many bytes a compressed buffer becomes.
fn compressed(bytes: &[u8], codec: CompressionType) -> Result<u64, Claim> {
    let wrong = |why: &str| Err(Claim::Wrong(why.to_owned()));
    let Some((prefix, content)) = bytes.split_first_chunk::<PREFIX>() else {
        return wrong("a compressed buffer is cut off");
    };
    match i64::from_le_bytes(*prefix) {
        // Stored as it is; but the prefix before it may have made it unaligned.
        -1 => Ok(content.len() as u64),
        length => match u64::try_from(length) {
            Ok(0) => Ok(0),
            Ok(length)
                if codec == CompressionType::LZ4_FRAME && !lz4::keeps_to(content, length) =>
            {
                wrong("a compressed buffer becomes longer than it says")
            }
            Ok(length) => Ok(length),
            Err(_) => wrong("a compressed buffer has a negative length"),
        },
    }
}

/// Lengths: of the batch, and of columns that have no bytes by which they could be checked.
fn rows(batch: RecordBatch<'_>, fields: &Fields, budget: &mut Budget) -> Result<(), Claim> {
    let mut nodes = Nodes { nodes: batch.nodes().into_iter().flatten(), weightless: 0, arrays: 0 };
    let length = u64::try_from(batch.length())
        .map_err(|_| Claim::Wrong("a batch has a negative number of rows".to_owned()))?;
    if fields.is_empty() {
        nodes.weightless = length;
    }
    for field in fields {
        nodes.take(field.data_type())?;
    }
    // Of many small messages the arrays themselves take more than what they refer to.
    budget.take(nodes.arrays * ARRAY_BYTES)?;
    // A row of nothing counts as a byte: some library will make an object of it.
    Ok(budget.check(nodes.weightless)?)
}

struct Nodes<I> {
    nodes: I,
    weightless: u64,
    arrays: u64,
}

impl<'a, I: Iterator<Item = &'a FieldNode>> Nodes<I> {
    /// Goes through the nodes of a column of this type, in the order in which they are written.
    fn take(&mut self, data_type: &DataType) -> Result<(), Claim> {
        let missing = || Claim::Wrong("a batch has fewer columns than its schema".to_owned());
        let node = self.nodes.next().ok_or_else(missing)?;
        self.arrays += 1;
        let (length, nulls) = (node.length(), node.null_count());
        if length < 0 || nulls < 0 || nulls > length {
            return Err(Claim::Wrong("a column has an impossible length".to_owned()));
        }
        if is_weightless(data_type) {
            self.weightless = self.weightless.saturating_add(length.unsigned_abs());
        }
        match data_type {
            DataType::List(child)
            | DataType::LargeList(child)
            | DataType::ListView(child)
            | DataType::LargeListView(child)
            | DataType::FixedSizeList(child, _)
            | DataType::Map(child, _) => self.take(child.data_type()),
            DataType::Struct(children) => {
                children.iter().try_for_each(|child| self.take(child.data_type()))
            }
            DataType::Union(children, _) => {
                children.iter().try_for_each(|(_, child)| self.take(child.data_type()))
            }
            DataType::RunEndEncoded(ends, values) => {
                self.take(ends.data_type())?;
                self.take(values.data_type())
            }
            _ => Ok(()),
        }
    }
}

/// Types whose elements may have no bytes at all.
fn is_weightless(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null
        | DataType::RunEndEncoded(..)
        | DataType::FixedSizeBinary(0)
        | DataType::FixedSizeList(_, 0) => true,
        DataType::Struct(children) => children.is_empty(),
        DataType::Union(children, mode) => *mode == UnionMode::Sparse && children.is_empty(),
        _ => false,
    }
}

/// Types whose memory must be aligned to 16 bytes.
fn is_wide(data_type: &DataType) -> bool {
    match data_type {
        DataType::Decimal128(..)
        | DataType::Decimal256(..)
        | DataType::Interval(_)
        | DataType::Utf8View
        | DataType::BinaryView => true,
        _ => schema::inner(data_type).into_iter().any(is_wide),
    }
}
