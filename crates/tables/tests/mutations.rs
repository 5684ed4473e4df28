//! Valid bytes with something changed: they are read or refused, within the memory that is allowed.
#![allow(clippy::unwrap_used, reason = "in a test a value that is not there is the failure")]

#[path = "common/bounded.rs"]
mod bounded;
mod common;

use arrow_array::{Array, RecordBatch};
use arrow_data::ArrayData;
use arrow_ipc::CompressionType;
use bounded::{compressed, limits, parquet_with, try_read, written};
use common::{Dice, table};
use exuvia_tables::{Format, Table, open};
use parquet::{
    basic::Compression,
    file::properties::{WriterProperties, WriterVersion},
};
use proptest::prelude::*;

/// Turns bits, lies about numbers, cuts, moves.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..1 + dice.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = dice.below(bytes.len());
        let extremes: [u64; 6] = [0, 1, u64::MAX, i64::MAX as u64, 1 << 31, 1 << 40];
        match dice.below(7) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let number = extremes[dice.below(6)].to_le_bytes();
                let width = [1, 2, 4, 8][dice.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => {
                let end = bytes.len().min(at + dice.below(16));
                bytes.drain(at..end);
            }
            5 => {
                let end = bytes.len().min(at + dice.below(64));
                let copy = bytes[at..end].to_vec();
                let to = dice.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            // Where the sizes are: in Parquet and Arrow files at the end.
            _ => {
                let last = bytes.len() - 1 - dice.below(bytes.len().min(64));
                bytes[last] = dice.next() as u8;
            }
        }
    }
}

/// Lengths, offsets, keys and texts. Not which children may have nulls: where a list of fixed size
/// is null, Parquet's reader fills it up with them.
fn check_valid(data: &ArrayData) {
    data.validate().unwrap();
    data.validate_values().unwrap();
    data.child_data().iter().for_each(check_valid);
}

fn check_survives(format: Format, bytes: &[u8]) {
    if let Ok(read) = try_read(format, bytes) {
        // What is read can be used: every value is valid, and can be written.
        for column in read.table.batches.iter().flat_map(RecordBatch::columns) {
            check_valid(&column.to_data());
        }
        drop(written(Format::ArrowStream, &read.table));
        drop(written(Format::Csv, &read.table));
        drop(written(Format::JsonRows, &read.table));
    }
    let source = Box::new(std::io::Cursor::new(bytes.to_vec()));
    if let Ok(reader) = open(format, source, &limits()) {
        // It ends, with or without an error.
        reader.for_each(drop);
    }
}
proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn mutated_arrow_streams_are_read_or_refused(table in table(false), seed: u64) {
        let (mut bytes, mut dice) = (written(Format::ArrowStream, &table), Dice::new(seed));
        mutate(&mut bytes, &mut dice);
        check_survives(Format::ArrowStream, &bytes);
    }

    #[test]
    fn mutated_arrow_files_are_read_or_refused(table in table(false), seed: u64) {
        let (mut bytes, mut dice) = (written(Format::ArrowFile, &table), Dice::new(seed));
        mutate(&mut bytes, &mut dice);
        check_survives(Format::ArrowFile, &bytes);
    }

    #[test]
    fn mutated_compressed_arrow_is_read_or_refused(table in table(false), seed: u64, lz4: bool) {
        let codec = if lz4 { CompressionType::LZ4_FRAME } else { CompressionType::ZSTD };
        let (mut bytes, mut dice) = (compressed(&table, codec), Dice::new(seed));
        mutate(&mut bytes, &mut dice);
        check_survives(Format::ArrowStream, &bytes);
    }

    #[test]
    fn mutated_parquet_is_read_or_refused(table in table(true), seed: u64, kind in 0..6_usize) {
        let (mut bytes, mut dice) = (parquet_of(&table, kind), Dice::new(seed));
        mutate(&mut bytes, &mut dice);
        check_survives(Format::Parquet, &bytes);
    }

    #[test]
    fn mutated_text_is_read_or_refused(table in table(true), seed: u64) {
        let mut dice = Dice::new(seed);
        for format in [Format::Csv, Format::Ndjson, Format::JsonRows, Format::JsonColumns] {
            let mut bytes = written(format, &table);
            mutate(&mut bytes, &mut dice);
            check_survives(format, &bytes);
        }
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for format in Format::ALL {
            check_survives(format, &bytes);
        }
    }
}
fn parquet_of(table: &Table, kind: usize) -> Vec<u8> {
    let builder = WriterProperties::builder();
    let builder = match kind {
        0 => return written(Format::Parquet, table),
        1 => builder.set_compression(Compression::GZIP(Default::default())),
        2 => builder.set_compression(Compression::ZSTD(Default::default())),
        3 => builder.set_compression(Compression::LZ4_RAW),
        4 => builder.set_dictionary_enabled(false).set_writer_version(WriterVersion::PARQUET_2_0),
        _ => builder.set_dictionary_enabled(false),
    };
    parquet_with(table, builder)
}
