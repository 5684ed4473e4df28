//! Bytes made to hurt: reading them ends in an error, within the memory that is allowed.
#![allow(clippy::unwrap_used, reason = "in a test a value that is not there is the failure")]

#[path = "common/bounded.rs"]
mod bounded;

use std::sync::Arc;

use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray,
    NullArray, RecordBatch, RunArray, StringArray,
    types::{Int32Type, Int64Type},
};
use arrow_buffer::Buffer;
use arrow_ipc::{
    CompressionType,
    writer::{IpcWriteOptions, StreamWriter},
};
use arrow_schema::{DataType, Field, Schema};
use bounded::{
    MIB, compressed, limits, malformed, parquet_with, peak, too_large, try_read, written,
};
use exuvia_tables::{Format, Limits, ReadError, Table, open, read, write};
use parquet::{
    basic::{Compression, Encoding},
    file::properties::WriterProperties,
};

fn one(name: &str, column: ArrayRef) -> Table {
    let schema = Arc::new(Schema::new(vec![Field::new(name, column.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(schema.clone(), vec![column]).unwrap();
    Table { schema, batches: vec![batch] }
}

fn zeros(count: usize) -> Table {
    one("x", Arc::new(Float64Array::from(vec![0.0; count])))
}

/// Where `number` stands in the bytes, eight bytes long.
fn find(bytes: &[u8], number: u64) -> usize {
    bytes.windows(8).position(|window| window == number.to_le_bytes()).unwrap()
}

#[test]
fn compressed_arrow_that_becomes_too_large_is_refused() {
    for codec in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
        let bytes = compressed(&zeros(2 * MIB), codec);
        assert!(bytes.len() < MIB / 8);
        too_large(Format::ArrowStream, &bytes);
    }
}

#[test]
fn a_compressed_buffer_that_lies_about_its_length_is_refused() {
    for codec in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
        let honest = compressed(&zeros(1_999_999), codec);
        let at = find(&honest, 8 * 1_999_999);
        for lie in [1_u64 << 40, u64::MAX >> 1] {
            let mut bytes = honest.clone();
            bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            too_large(Format::ArrowStream, &bytes);
        }
        // It says that it is small, and goes on.
        let mut bytes = honest.clone();
        bytes[at..at + 8].copy_from_slice(&64_u64.to_le_bytes());
        malformed(Format::ArrowStream, &bytes, "");
        bytes[at..at + 8].copy_from_slice(&(-2_i64).to_le_bytes());
        malformed(Format::ArrowStream, &bytes, "negative");
    }
}

#[test]
fn columns_without_bytes_cannot_be_endless() {
    too_large(
        Format::ArrowStream,
        &written(Format::ArrowStream, &one("n", Arc::new(NullArray::new(1 << 60)))),
    );
    let ends = Int64Array::from(vec![1 << 50]);
    let runs = RunArray::<Int64Type>::try_new(&ends, &Int32Array::from(vec![7])).unwrap();
    too_large(Format::ArrowStream, &written(Format::ArrowStream, &one("r", Arc::new(runs))));
}

#[test]
fn dictionaries_that_grow_piece_by_piece_are_counted() {
    let values =
        |count: usize| StringArray::from_iter_values((0..count).map(|n| format!("{n:0>1000}")));
    let schema = one(
        "d",
        Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from(vec![0]), Arc::new(values(1)))),
    );
    let batch = |count: usize| {
        let keys = Int32Array::from(vec![0]);
        let column = DictionaryArray::<Int32Type>::new(keys, Arc::new(values(count)));
        RecordBatch::try_new(schema.schema.clone(), vec![Arc::new(column)]).unwrap()
    };
    let delta = arrow_ipc::writer::DictionaryHandling::Delta;
    let options = IpcWriteOptions::default().with_dictionary_handling(delta);
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &schema.schema, options).unwrap();
    (1..60).for_each(|count| writer.write(&batch(count)).unwrap());
    let bytes = writer.into_inner().unwrap();
    assert!(bytes.len() < MIB / 4);
    too_large(Format::ArrowStream, &bytes);
}

fn nested(depth: usize) -> Table {
    let mut column: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    for _ in 0..depth {
        let item = Arc::new(Field::new("item", column.data_type().clone(), true));
        let offsets = arrow_buffer::OffsetBuffer::from_lengths([1]);
        column = Arc::new(ListArray::new(item, offsets, column, None));
    }
    one("deep", column)
}

#[test]
fn types_within_types_end_somewhere() {
    for format in [Format::ArrowStream, Format::ArrowFile, Format::Parquet] {
        let limits = Limits::default();
        let shallow = Buffer::from(written(format, &nested(20)));
        assert_eq!(read(format, &shallow, &limits).unwrap().table.rows(), 1);
    }
    for (format, depth) in
        [(Format::ArrowStream, 63), (Format::ArrowFile, 63), (Format::Parquet, 31)]
    {
        let table = nested(depth);
        let deep = Buffer::from(written(format, &table));
        // So deep it is at least no accident.
        drop(read(format, &deep, &limits()));
        let error = write(format, &nested(100), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("nested more than"), "{error}");
    }
    let options = IpcWriteOptions::default();
    let table = nested(100);
    let mut writer =
        StreamWriter::try_new_with_options(Vec::new(), &table.schema, options).unwrap();
    writer.write(&table.batches[0]).unwrap();
    malformed(Format::ArrowStream, &writer.into_inner().unwrap(), "");
    // A schema as a chain of groups, without end.
    let mut footer = vec![0x15, 2, 0x19, 0xfc, 0xd0, 0x86, 0x03];
    (0..50_000).for_each(|_| footer.extend([0x48, 0, 0x15, 2, 0]));
    footer.extend([0x16, 0, 0x19, 0x0c, 0]);
    too_large(Format::Parquet, &parquet_file(&footer));
    let mut footer = vec![0x15, 2, 0x19, 0xfc, 0x88, 0x27];
    (0..5000).for_each(|_| footer.extend([0x48, 0, 0x15, 2, 0]));
    footer.extend([0x16, 0, 0x19, 0x0c, 0]);
    malformed(Format::Parquet, &parquet_file(&footer), "nested");
    for open in ["[", "{\"a\":", "[{\"a\":["] {
        let text = open.repeat(100_000);
        malformed(Format::JsonRows, text.as_bytes(), "");
        malformed(Format::Ndjson, text.as_bytes(), "");
    }
    let text = format!("[{{\"a\":{}{}}}]", "[".repeat(70), "]".repeat(70));
    malformed(Format::JsonRows, text.as_bytes(), "nested more than 64 deep");
}

fn parquet_file(footer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    [b"PAR1", footer, &length, b"PAR1"].concat()
}

#[test]
fn tables_can_be_only_so_wide() {
    let fields: Vec<_> =
        (0..20_000).map(|n| Field::new(n.to_string(), DataType::Null, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let wide = Table { schema, batches: Vec::new() };
    let bytes = written(Format::ArrowStream, &wide);
    let limits = Limits::default();
    let error = read(Format::ArrowStream, &Buffer::from(bytes), &limits).unwrap_err().to_string();
    assert!(error.contains("more than 16384 columns"), "{error}");
    too_large(Format::Csv, ",".repeat(MIB).as_bytes());
    let keys: Vec<_> = (0..20_000).map(|n| format!("\"{n}\":1")).collect();
    too_large(Format::JsonRows, format!("[{{{}}}]", keys.join(",")).as_bytes());
    let keys: Vec<_> = (0..20_000).map(|n| format!("\"{n}\":[]")).collect();
    too_large(Format::JsonColumns, format!("{{{}}}", keys.join(",")).as_bytes());
}

#[test]
fn decimals_with_more_digits_than_they_may_have_are_refused() {
    let decimals = |value: i128| {
        let column = Decimal128Array::from(vec![Some(999), None, Some(value)]);
        one("price", Arc::new(column.with_precision_and_scale(3, 1).unwrap()))
    };
    for format in [Format::ArrowStream, Format::ArrowFile, Format::Parquet] {
        assert_eq!(try_read(format, &written(format, &decimals(-999))).unwrap().table.rows(), 3);
        malformed(format, &written(format, &decimals(1000)), "column \"price\", row 2: ");
    }
}

#[test]
fn names_of_columns_count_as_what_is_made() {
    let header = |length: usize| format!("{}\n1\n", "x".repeat(length));
    let x = "x".repeat(MIB / 8);
    for text in [header(MIB / 4), format!("{x},{x}\n1,2\n")] {
        too_large(Format::Csv, text.as_bytes());
        let source = Box::new(std::io::Cursor::new(text));
        let error = open(Format::Csv, source, &limits()).err().unwrap().to_string();
        assert!(error.contains("too large"), "{error}");
    }
    let data = Buffer::from(header(MIB / 9).into_bytes());
    let (read, peak) = peak(|| read(Format::Csv, &data, &limits()));
    assert_eq!(read.unwrap().table.schema.field(0).name().len(), MIB / 9);
    assert!(peak < MIB, "{peak}");
}

#[test]
fn a_field_longer_than_the_limit_is_refused() {
    let long = "x".repeat(2 * MIB);
    too_large(Format::Csv, format!("a\n{long}\n").as_bytes());
    too_large(Format::JsonRows, format!("[{{\"a\": \"{long}\"}}]").as_bytes());
    too_large(Format::Ndjson, format!("{{\"a\": \"{long}\"}}\n").as_bytes());
    for (format, begin) in
        [(Format::Csv, "a\n\"".to_owned()), (Format::Ndjson, "{\"a\":\"".to_owned())]
    {
        // An endless row, read while it comes.
        let source = std::io::Read::chain(std::io::Cursor::new(begin), std::io::repeat(b'x'));
        let (outcome, peak) = peak(|| {
            open(format, Box::new(source), &limits()).map(|reader| {
                reader.into_iter().find_map(Result::err).map(|error| error.to_string())
            })
        });
        let said = match outcome {
            Err(error) => error.to_string(),
            Ok(said) => said.unwrap(),
        };
        assert!(said.contains("too large"), "{said}");
        assert!(peak < 8 * MIB, "{peak}");
    }
}

#[test]
fn rows_that_each_have_another_key_are_counted_as_the_table_they_make() {
    let rows: Vec<_> = (0..2000).map(|n| format!("{{\"k{n}\":1}}")).collect();
    too_large(Format::JsonRows, format!("[{}]", rows.join(",")).as_bytes());
    too_large(Format::Ndjson, rows.join("\n").as_bytes());
}

#[test]
fn a_long_text_that_is_repeated_by_a_number_is_counted_as_often() {
    let text = "x".repeat(10_000);
    let keys = Int32Array::from(vec![0; 10_000]);
    let column = DictionaryArray::<Int32Type>::new(keys, Arc::new(StringArray::from(vec![text])));
    let table = one("s", Arc::new(column));
    let bytes = parquet_with(&table, WriterProperties::builder());
    assert!(bytes.len() < MIB / 2);
    too_large(Format::Parquet, &bytes);
    // Each begins with the one before it, which takes no bytes to say.
    let texts = StringArray::from(vec!["y".repeat(20_000); 200]);
    let delta = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::SNAPPY)
        .set_encoding(Encoding::DELTA_BYTE_ARRAY);
    too_large(Format::Parquet, &parquet_with(&one("s", Arc::new(texts)), delta));
}

#[test]
fn a_list_of_the_same_value_is_counted_by_its_length() {
    let list = ListArray::new(
        Arc::new(Field::new("item", DataType::Int32, true)),
        arrow_buffer::OffsetBuffer::from_lengths([4 * MIB]),
        Arc::new(Int32Array::from(vec![7; 4 * MIB])),
        None,
    );
    let table = one("l", Arc::new(list));
    let bytes = parquet_with(&table, WriterProperties::builder());
    assert!(bytes.len() < MIB / 8);
    too_large(Format::Parquet, &bytes);
}

#[test]
fn compressed_pages_that_become_too_large_are_refused() {
    for codec in [
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
        Compression::LZ4,
        Compression::SNAPPY,
    ] {
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_dictionary_enabled(false)
            .set_data_page_size_limit(64 * MIB)
            .set_data_page_row_count_limit(64 * MIB);
        too_large(Format::Parquet, &parquet_with(&zeros(MIB / 2), properties));
    }
}

/// The number of a page header's size, where the first page says how large it becomes.
fn page_size(bytes: &[u8]) -> std::ops::Range<usize> {
    // The magic, the field of the type, its value, the field of the size.
    assert_eq!(bytes[4..7], [0x15, 0, 0x15]);
    let length = bytes[7..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    7..7 + length
}

#[test]
fn pages_that_lie_about_their_size_are_refused() {
    for codec in [
        Compression::GZIP(Default::default()),
        Compression::ZSTD(Default::default()),
        Compression::LZ4_RAW,
        Compression::LZ4,
        Compression::SNAPPY,
    ] {
        let properties = WriterProperties::builder()
            .set_compression(codec)
            .set_dictionary_enabled(false)
            .set_data_page_size_limit(64 * MIB)
            .set_data_page_row_count_limit(64 * MIB);
        let honest = parquet_with(&zeros(MIB / 2), properties);
        for first in [0x82, 0xfe] {
            let mut bytes = honest.clone();
            let size = page_size(&bytes);
            // As long a number, but a small one.
            let last = size.end - 1;
            bytes[size.clone()].fill(0x80);
            (bytes[size.start], bytes[last]) = (first, 0);
            // Either the page or the number of its values gives it away.
            assert!(try_read(Format::Parquet, &bytes).is_err());
            // A larger one: two to the 27th, at least.
            let mut bytes = honest.clone();
            bytes[size.clone()].fill(0xfe);
            bytes[last] = 0x7f;
            too_large(Format::Parquet, &bytes);
        }
    }
}

#[test]
fn lengths_in_a_page_that_lie_about_their_number_are_refused() {
    let texts = StringArray::from_iter_values((0..20_000).map(|n| n.to_string()));
    for (encoding, occurrence) in [
        (Encoding::DELTA_LENGTH_BYTE_ARRAY, 0),
        (Encoding::DELTA_BYTE_ARRAY, 0),
        (Encoding::DELTA_BYTE_ARRAY, 1),
    ] {
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_data_page_size_limit(MIB)
            .set_encoding(encoding);
        let honest = parquet_with(&one("s", Arc::new(texts.clone())), properties);
        let back = read(Format::Parquet, &Buffer::from(honest.as_slice()), &Limits::default());
        assert_eq!(back.unwrap().table.rows(), 20_000);
        // Blocks of 128 in four parts, and then the number of values.
        let header = [0x80, 1, 4, 0xa0, 0x9c, 0x01];
        let found = honest.windows(6).enumerate().filter(|(_, window)| *window == header);
        let at = found.map(|(at, _)| at).nth(occurrence).unwrap() + 3;
        let mut bytes = honest.clone();
        bytes[at..at + 3].copy_from_slice(&[0xff, 0xff, 0x7f]);
        malformed(Format::Parquet, &bytes, "a page is broken");
    }
}

#[test]
fn a_footer_that_announces_a_billion_row_groups_is_refused() {
    let mut footer = vec![0x15, 2, 0x19, 0x1c, 0x48, 0, 0, 0x16, 0, 0x19, 0xfc];
    footer.extend([0x80, 0x80, 0x80, 0x80, 0x04, 0]);
    malformed(Format::Parquet, &parquet_file(&footer), "footer is broken");
}

#[test]
fn what_is_cut_off_is_refused() {
    let table = zeros(100);
    for format in [Format::ArrowStream, Format::ArrowFile, Format::Parquet] {
        let bytes = written(format, &table);
        // Without its end mark a stream still ends where a message does.
        let whole = if format == Format::ArrowStream { bytes.len() - 8 } else { bytes.len() };
        let is_end = |length: &usize| {
            let read = read(format, &Buffer::from(&bytes[..*length]), &Limits::default());
            read.is_ok_and(|read| read.table.rows() == 100)
        };
        let ends: Vec<_> = (0..whole).filter(is_end).collect();
        assert_eq!(ends, [0; 0], "{format}");
    }
}

#[test]
fn buffers_that_lie_on_one_another_are_refused() {
    // Of two columns in one message, the second is said to be where the first is, and larger.
    let columns: [(&str, ArrayRef); 2] = [
        ("a", Arc::new(Float64Array::from(vec![1.0; 100]))),
        ("b", Arc::new(Float64Array::from(vec![2.0; 100]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let table = Table { schema: batch.schema(), batches: vec![batch] };
    let mut bytes = written(Format::ArrowStream, &table);
    // The second buffer of values: offset 832, length 800.
    let entry = [832_u64.to_le_bytes(), 800_u64.to_le_bytes()].concat();
    let at = bytes.windows(16).position(|window| window == entry).unwrap();
    bytes[at..at + 8].copy_from_slice(&0_u64.to_le_bytes());
    let data = Buffer::from(bytes.as_slice());
    // It is as long as before in all: nothing is made of it that is not there.
    assert!(read(Format::ArrowStream, &data, &limits()).is_ok());
    bytes[at + 8..at + 16].copy_from_slice(&1600_u64.to_le_bytes());
    malformed(Format::ArrowStream, &bytes, "overlap");
}

#[test]
fn names_that_other_libraries_cannot_take_are_refused() {
    let table = one("a\0b", Arc::new(Int32Array::from(vec![1])));
    for format in [Format::ArrowStream, Format::ArrowFile, Format::Parquet] {
        malformed(format, &written(format, &table), "NUL");
    }
}

#[test]
fn many_small_messages_are_counted_by_the_arrays_they_make() {
    let fields: Vec<_> =
        (0..1000).map(|n| Field::new(n.to_string(), DataType::Null, true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let column: ArrayRef = Arc::new(NullArray::new(1));
    let columns = vec![column; 1000];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let bytes = written(Format::ArrowStream, &Table { schema, batches: vec![batch; 20] });
    assert!(bytes.len() < MIB / 2);
    too_large(Format::ArrowStream, &bytes);
}

#[test]
fn rows_that_a_footer_only_claims_are_not_made() {
    let honest = written(Format::Parquet, &zeros(100_003));
    // Twice the number, in three bytes, and a million in as many.
    let number = [0xc6, 0x9a, 0x0c];
    let mut bytes = honest.clone();
    let found: Vec<_> = (0..bytes.len() - 3).filter(|at| bytes[*at..*at + 3] == number).collect();
    assert!(found.len() >= 3, "the file, the group and the chunk say it: {found:?}");
    for at in found {
        bytes[at..at + 3].copy_from_slice(&[0xfe, 0xff, 0x7f]);
    }
    let limits = Limits { max_bytes: 900_000, ..Limits::default() };
    let honest = read(Format::Parquet, &Buffer::from(honest.as_slice()), &limits).unwrap();
    assert_eq!(honest.table.rows(), 100_003);
    let error = read(Format::Parquet, &Buffer::from(bytes.as_slice()), &limits).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { .. }), "{error:?}");
}
