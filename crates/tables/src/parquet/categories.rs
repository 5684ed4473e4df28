//! Dictionary columns with all the values of their dictionary.
//!
//! The library makes a dictionary anew, of the values that rows have and in the order in which they
//! come: categories nobody uses would be lost, and ordered ones would get another order. So the two
//! pages of such a column are made here, as Arrow's writer in C++ makes them.

use std::{io::Write, iter::repeat_n};

use arrow_array::{
    Array, ArrayRef, GenericByteArray, builder::BinaryBuilder, cast::AsArray, types::ByteArrayType,
};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::{
    basic::{Compression, Encoding},
    column::{
        page::{CompressedPage, Page, PageWriteSpec, PageWriter},
        writer::ColumnCloseResult,
    },
    errors::{ParquetError, Result},
    file::{
        metadata::{ColumnChunkMetaData, OffsetIndexBuilder},
        statistics::{Statistics, ValueStatistics},
        writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite},
    },
    schema::types::ColumnDescPtr,
};

/// A dictionary page is read at once: larger ones are left to the library, which makes plain values
/// of them.
const LARGEST: usize = 64 << 20;

/// Whether columns of this type are written here. Parquet knows no others as categories.
pub(super) fn is_one(data_type: &DataType) -> bool {
    let DataType::Dictionary(_, values) = data_type else { return false };
    matches!(
        values.as_ref(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary
    )
}

/// A column chunk: its pages, and what the file says of them.
pub(super) struct Chunk {
    pages: Bytes,
    close: ColumnCloseResult,
}

// === impl Chunk ===

impl Chunk {
    /// Makes the pages of a column; `None` if its dictionary has no place in one.
    pub(super) fn new(column: &ArrayRef, descriptor: &ColumnDescPtr) -> Result<Option<Self>> {
        let Some(dictionary) = column.as_any_dictionary_opt() else { return Ok(None) };
        let values = dictionary.values();
        let Some(plain) = plain(values) else { return Ok(None) };
        let (rows, nulls) = (column.len(), column.null_count());
        let mut data = Vec::new();
        if descriptor.max_def_level() > 0 {
            let levels = match column.nulls() {
                Some(present) => hybrid(present.iter().map(u32::from), rows, 1),
                None => hybrid(repeat_n(1, rows), rows, 1),
            };
            data.extend(number(levels.len())?.to_le_bytes());
            data.extend(levels);
        } else if nulls > 0 {
            return Ok(None);
        }
        let width = usize::BITS - (values.len() - 1).leading_zeros();
        let width = width.max(1);
        data.push(u8::try_from(width).map_err(|error| too_large(&error))?);
        let keys = dictionary.normalized_keys();
        let keys = keys.iter().enumerate().filter(|(row, _)| column.is_valid(*row));
        data.extend(hybrid(keys.map(|(_, key)| *key as u32), rows - nulls, width));
        Self::of_pages(&plain, number(values.len())?, &data, (rows, nulls), descriptor).map(Some)
    }

    fn of_pages(
        dictionary: &[u8],
        values: u32,
        data: &[u8],
        (rows, nulls): (usize, usize),
        descriptor: &ColumnDescPtr,
    ) -> Result<Self> {
        let mut sink = TrackedWrite::new(Vec::new());
        let mut writer = SerializedPageWriter::new(&mut sink);
        let first = put(&mut writer, dictionary, |buf| Page::DictionaryPage {
            buf,
            num_values: values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        })?;
        let num_values = number(rows)?;
        let second = put(&mut writer, data, |buf| Page::DataPage {
            buf,
            num_values,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        let (rows, nulls) = (rows as u64, nulls as u64);
        let size = first.bytes_written + second.bytes_written;
        let unpacked = first.uncompressed_size + second.uncompressed_size;
        let counted = ValueStatistics::new(None, None, None, Some(nulls), false);
        let metadata = ColumnChunkMetaData::builder(descriptor.clone())
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
            .set_compression(Compression::SNAPPY)
            .set_num_values(rows.cast_signed())
            .set_total_compressed_size(size.cast_signed())
            .set_total_uncompressed_size(unpacked as i64)
            .set_dictionary_page_offset(Some(first.offset.cast_signed()))
            .set_data_page_offset(second.offset.cast_signed())
            .set_statistics(Statistics::ByteArray(counted))
            .build()?;
        let mut index = OffsetIndexBuilder::new();
        index.append_row_count(rows.cast_signed());
        let length = i32::try_from(second.bytes_written).map_err(|error| too_large(&error))?;
        index.append_offset_and_size(second.offset.cast_signed(), length);
        let close = ColumnCloseResult {
            bytes_written: size,
            rows_written: rows,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(index.build()),
        };
        Ok(Self { pages: sink.into_inner()?.into(), close })
    }

    pub(super) fn append_to<W: Write + Send>(
        self,
        group: &mut SerializedRowGroupWriter<'_, W>,
    ) -> Result<()> {
        group.append_column(&self.pages, self.close)
    }
}

fn put<W: Write + Send>(
    writer: &mut SerializedPageWriter<'_, W>,
    bytes: &[u8],
    page: impl FnOnce(Bytes) -> Page,
) -> Result<PageWriteSpec> {
    let packed = snap::raw::Encoder::new().compress_vec(bytes);
    let packed = packed.map_err(|error| too_large(&error))?;
    writer.write_page(CompressedPage::new(page(packed.into()), bytes.len()))
}

fn number(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|error| too_large(&error))
}

fn too_large(error: &dyn std::error::Error) -> ParquetError {
    ParquetError::General(format!("a dictionary is too large: {error}"))
}

/// Texts as a dictionary page has them: each after its length.
fn plain(values: &ArrayRef) -> Option<Vec<u8>> {
    match values.data_type() {
        DataType::Utf8 => plain_bytes(values.as_string::<i32>()),
        DataType::LargeUtf8 => plain_bytes(values.as_string::<i64>()),
        DataType::Binary => plain_bytes(values.as_binary::<i32>()),
        DataType::LargeBinary => plain_bytes(values.as_binary::<i64>()),
        _ => None,
    }
}

fn plain_bytes<T: ByteArrayType>(values: &GenericByteArray<T>) -> Option<Vec<u8>> {
    // What is null in a dictionary has no place in its page.
    if values.is_empty() || values.null_count() > 0 {
        return None;
    }
    let mut out = Vec::new();
    for value in values.iter().flatten() {
        let value: &[u8] = value.as_ref();
        if out.len() + 4 + value.len() > LARGEST {
            return None;
        }
        out.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
        out.extend(value);
    }
    Some(out)
}

/// The texts of a dictionary page; `None` if it is broken, or they are of no such type.
pub(super) fn values(page: &[u8], data_type: &DataType) -> Option<ArrayRef> {
    let (mut rest, mut values) = (page, BinaryBuilder::new());
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (value, after) =
            after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        values.append_value(value);
        rest = after;
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&values.finish(), data_type, &strict).ok()
}

/// Numbers of `width` bits each, as one run in Parquet's hybrid encoding: of equals if all are equal.
fn hybrid(numbers: impl Iterator<Item = u32> + Clone, count: usize, width: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(first) = numbers.clone().next() else { return out };
    if numbers.clone().all(|number| number == first) {
        varint((count as u64) << 1, &mut out);
        out.extend(&first.to_le_bytes()[..width.div_ceil(8) as usize]);
        return out;
    }
    let eights = count.div_ceil(8);
    varint((eights as u64) << 1 | 1, &mut out);
    let end = out.len() + eights * width as usize;
    let (mut bits, mut held) = (0_u64, 0);
    for number in numbers {
        bits |= u64::from(number) << held;
        held += width;
        while held >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            held -= 8;
        }
    }
    out.push(bits as u8);
    out.resize(end, 0);
    out
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
