//! The pages of a column chunk: what they say of themselves.

use std::{io, sync::Arc};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::{
    basic::{Compression, Type},
    column::page::{Page, PageReader},
    file::{metadata::ColumnChunkMetaData, serialized_reader::SerializedPageReader},
};

use super::{
    delta,
    thrift::{I32, STRUCT, Thrift},
};
use crate::{Format, ReadError, lz4, table::Budget};

/// Deflate makes no more of a byte than this.
const DEFLATE: u64 = 1032;

const DICTIONARY_PAGE: i64 = 2;
const DELTA_LENGTHS: i64 = 6;
const DELTA_STRINGS: i64 = 7;

/// What a column chunk can become.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Chunk {
    /// Values in all data pages, nulls among them.
    pub(super) values: u64,
    /// Bytes of texts, at most.
    pub(super) texts: u64,
    /// Bytes of the longest text, at most.
    pub(super) longest: u64,
    /// Bytes of pages that are in memory at the same time, at most.
    pub(super) pages: u64,
}

/// What the header of a page says.
#[derive(Debug, Default, Clone, Copy)]
struct Header {
    kind: i64,
    uncompressed: i64,
    compressed: i64,
    values: i64,
    encoding: i64,
}

/// Checks the headers of all pages of a chunk.
pub(super) fn check(
    data: &Bytes,
    column: &ColumnChunkMetaData,
    budget: &Budget,
) -> Result<Chunk, ReadError> {
    let wrong = || ReadError::malformed(Format::Parquet, "a page is broken");
    let (start, length) = column.byte_range();
    let range = usize::try_from(start).ok().zip(usize::try_from(length).ok());
    let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
    let bytes = range.and_then(|range| data.get(range)).ok_or_else(wrong)?;
    let mut chunk = Chunk::default();
    let (mut largest, mut dictionary, mut has_deltas) = (0, 0, false);
    let mut thrift = Thrift::new(bytes);
    let mut keyed = 0;
    while thrift.left() > 0 {
        let header = Header::read(&mut thrift).ok_or_else(wrong)?;
        let at = bytes.len() - thrift.left();
        let end = usize::try_from(header.compressed).ok().and_then(|size| at.checked_add(size));
        let page = end.and_then(|end| bytes.get(at..end)).ok_or_else(wrong)?;
        thrift = Thrift::new(&bytes[at + page.len()..]);
        let size = u64::try_from(header.uncompressed).map_err(|_| wrong())?;
        let values = u64::try_from(header.values).map_err(|_| wrong())?;
        // The size is checked before the decompression below is tried.
        budget.check(size)?;
        check_compression(page, size, column.compression(), budget)?;
        if header.kind == DICTIONARY_PAGE {
            // Room is made for all its values at once.
            if values.saturating_mul(width(column)) > size {
                return Err(wrong());
            }
            dictionary = dictionary.max(size);
            continue;
        }
        chunk.values = chunk.values.saturating_add(values);
        largest = largest.max(size);
        match header.encoding {
            DELTA_LENGTHS | DELTA_STRINGS => has_deltas = true,
            _ => {}
        }
        match header.encoding {
            2 | 8 => keyed += values,
            // Each value begins with the one before it.
            DELTA_STRINGS => {
                chunk.texts = chunk.texts.saturating_add(values.saturating_mul(size));
                chunk.longest = chunk.longest.max(size);
            }
            _ => {
                chunk.texts = chunk.texts.saturating_add(size);
                chunk.longest = chunk.longest.max(size);
            }
        }
    }
    chunk.pages = largest.saturating_add(dictionary);
    budget.check(chunk.pages)?;
    if has_deltas {
        check_deltas(data, column)?;
    }
    if column.column_type() == Type::BYTE_ARRAY && keyed > 0 {
        let longest = longest_key(data, column)?;
        chunk.longest = chunk.longest.max(longest);
        chunk.texts = chunk.texts.saturating_add(keyed.saturating_mul(longest));
    }
    Ok(chunk)
}

/// Bytes of a value in a page, at least.
pub(super) fn width(column: &ColumnChunkMetaData) -> u64 {
    match column.column_type() {
        Type::BOOLEAN => 0,
        Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::FIXED_LEN_BYTE_ARRAY => {
            u64::try_from(column.column_descr().type_length()).unwrap_or(u64::MAX)
        }
    }
}

/// Refuses pages that become longer than they say: some decompressors go on to the end.
fn check_compression(
    page: &[u8],
    size: u64,
    codec: Compression,
    budget: &Budget,
) -> Result<(), ReadError> {
    let fits = match codec {
        Compression::LZ4 if page.starts_with(&lz4::MAGIC) => lz4::keeps_to(page, size),
        Compression::LZ4 => !page.starts_with(&lz4::LEGACY_MAGIC),
        Compression::GZIP(_) if page.len() as u64 * DEFLATE > budget.left() / 4 => {
            let unpacked = MultiGzDecoder::new(page);
            // What is broken is left to the decoder.
            io::copy(&mut io::Read::take(unpacked, size + 1), &mut io::sink())
                .map_or(true, |length| length <= size)
        }
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        let why = "a page becomes longer than it says";
        Err(ReadError::malformed(Format::Parquet, why))
    }
}

fn reader(
    data: &Bytes,
    column: &ColumnChunkMetaData,
) -> Result<SerializedPageReader<Bytes>, ReadError> {
    SerializedPageReader::new(Arc::new(data.clone()), column, 0, None).map_err(super::read::wrong)
}

/// The dictionary page of a chunk, if it begins with one.
pub(super) fn dictionary(
    data: &Bytes,
    column: &ColumnChunkMetaData,
) -> Result<Option<Bytes>, ReadError> {
    let page = reader(data, column)?.get_next_page().map_err(super::read::wrong)?;
    Ok(match page {
        Some(Page::DictionaryPage { buf, .. }) => Some(buf),
        _ => None,
    })
}

/// The longest value of a dictionary.
fn longest_key(data: &Bytes, column: &ColumnChunkMetaData) -> Result<u64, ReadError> {
    let page = dictionary(data, column)?;
    let page =
        page.ok_or_else(|| ReadError::malformed(Format::Parquet, "a dictionary is missing"))?;
    let mut rest = page.as_ref();
    let mut longest = 0;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length);
        longest = longest.max(u64::from(length));
        rest = usize::try_from(length).ok().and_then(|length| after.get(length..)).unwrap_or(&[]);
    }
    Ok(longest.min(page.len() as u64))
}

/// Checks the number of lengths that pages in delta encodings begin with.
fn check_deltas(data: &Bytes, column: &ColumnChunkMetaData) -> Result<(), ReadError> {
    let mut pages = reader(data, column)?;
    let descriptor = column.column_descr();
    let levels = [descriptor.max_rep_level(), descriptor.max_def_level()];
    while let Some(page) = pages.get_next_page().map_err(super::read::wrong)? {
        let encoding = page.encoding() as i64;
        let rows = match encoding {
            DELTA_LENGTHS => 1,
            DELTA_STRINGS => 2,
            _ => continue,
        };
        let values = match &page {
            Page::DataPage { buf, .. } => {
                // Each kind of level comes with its length before it.
                levels.iter().filter(|level| **level > 0).try_fold(buf.as_ref(), |rest, _| {
                    let (length, rest) = rest.split_first_chunk::<4>()?;
                    rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)
                })
            }
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                usize::try_from(u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len))
                    .ok()
                    .and_then(|levels| buf.get(levels..))
            }
            Page::DictionaryPage { .. } => continue,
        };
        let limit = u64::from(page.num_values());
        if !values.is_some_and(|values| delta::keeps_to(values, rows, limit)) {
            return Err(ReadError::malformed(Format::Parquet, "a page is broken"));
        }
    }
    Ok(())
}

// === impl Header ===

impl Header {
    fn read(thrift: &mut Thrift<'_>) -> Option<Self> {
        let mut header = Self::default();
        thrift.fields(&mut |thrift, id, kind| match (id, kind) {
            (1, I32) => set(&mut header.kind, thrift),
            (2, I32) => set(&mut header.uncompressed, thrift),
            (3, I32) => set(&mut header.compressed, thrift),
            // Of data, of a dictionary, of data in the second version.
            (5 | 7 | 8, STRUCT) => {
                let encoding = if id == 8 { 4 } else { 2 };
                thrift.fields(&mut |thrift, inner, kind| match (inner, kind) {
                    (1, I32) => set(&mut header.values, thrift),
                    (_, I32) if inner == encoding => set(&mut header.encoding, thrift),
                    _ => Some(false),
                })?;
                Some(true)
            }
            _ => Some(false),
        })?;
        Some(header)
    }
}

fn set(place: &mut i64, thrift: &mut Thrift<'_>) -> Option<bool> {
    *place = thrift.integer()?;
    // The library reads them as 32 bits.
    i32::try_from(*place).ok().map(|_| true)
}
