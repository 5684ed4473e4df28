//! What is written is read back equal, and without a copy where that is promised.
#![allow(clippy::unwrap_used, reason = "in a test a value that is not there is the failure")]

mod common;

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, DictionaryArray, FixedSizeListArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, StringViewArray, StructArray, TimestampSecondArray, UInt32Array,
    cast::AsArray,
    types::{Int32Type, UInt32Type},
};
use arrow_buffer::{Buffer, NullBuffer};
use arrow_ipc::{
    CompressionType,
    reader::StreamReader,
    writer::{IpcWriteOptions, StreamWriter},
};
use arrow_schema::{DataType, Field, Schema};
use common::{aligned, table};
use exuvia_tables::{Copied, Format, Limits, Read, Table, ipc_parts, open, read, write};
use proptest::prelude::*;

fn written(format: Format, table: &Table) -> Vec<u8> {
    let mut out = Vec::new();
    write(format, table, &mut out).unwrap();
    out
}

fn parsed(format: Format, bytes: &[u8]) -> Read {
    read(format, &aligned(bytes), &Limits::default()).unwrap()
}

fn joined(table: &Table) -> Vec<u8> {
    let parts = ipc_parts(table).unwrap();
    let bytes = parts.parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>();
    assert_eq!(bytes.len() as u64, parts.length);
    bytes
}

#[track_caller]
fn assert_same(back: &Table, table: &Table) {
    assert_eq!(back.schema, table.schema);
    assert_eq!(back.rows(), table.rows());
    // Batches may be cut otherwise, so rows are compared.
    let mut left =
        back.batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| batch.slice(row, 1)));
    for batch in &table.batches {
        for row in 0..batch.num_rows() {
            assert_eq!(left.next().unwrap(), batch.slice(row, 1));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn an_arrow_stream_gives_back_any_table(table in table(false)) {
        let bytes = written(Format::ArrowStream, &table);
        assert_same(&parsed(Format::ArrowStream, &bytes).table, &table);
        assert_same(&parsed(Format::ArrowFile, &bytes).table, &table);
    }

    #[test]
    fn an_arrow_file_gives_back_any_table(table in table(false)) {
        let bytes = written(Format::ArrowFile, &table);
        assert_same(&parsed(Format::ArrowFile, &bytes).table, &table);
    }

    #[test]
    fn the_parts_of_any_table_are_a_stream(table in table(false)) {
        let bytes = joined(&table);
        assert_same(&parsed(Format::ArrowStream, &bytes).table, &table);
        let theirs = StreamReader::try_new(bytes.as_slice(), None).unwrap();
        let batches: Vec<_> = theirs.map(Result::unwrap).collect();
        assert_same(&Table { schema: table.schema.clone(), batches }, &table);
    }

    #[test]
    fn a_stream_read_while_it_comes_gives_back_any_table(table in table(false)) {
        let bytes = written(Format::ArrowStream, &table);
        let source = Box::new(std::io::Cursor::new(bytes));
        let reader = open(Format::ArrowStream, source, &Limits::default()).unwrap();
        let schema = reader.schema();
        let batches = reader.map(Result::unwrap).collect();
        assert_same(&Table { schema, batches }, &table);
    }

    #[test]
    fn parquet_gives_back_any_table(table in table(true)) {
        let bytes = written(Format::Parquet, &table);
        assert_same(&parsed(Format::Parquet, &bytes).table, &table);
    }
}

#[test]
fn parquet_gives_back_lists_of_a_fixed_size_in_structs_that_are_absent() {
    let times = TimestampSecondArray::from(vec![1, 2, 3, 4]);
    let keys = Int32Array::from(vec![3, 0, 1, 2]);
    let coded = DictionaryArray::<Int32Type>::new(keys, Arc::new(times.clone()));
    for items in [Arc::new(times) as ArrayRef, Arc::new(coded)] {
        let item = Arc::new(Field::new_list_field(items.data_type().clone(), false));
        let lists: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, items, None));
        let list = Field::new("list", lists.data_type().clone(), false);
        let absent = NullBuffer::from(vec![true, false]);
        let inner: ArrayRef =
            Arc::new(StructArray::new(vec![list].into(), vec![lists], Some(absent)));
        let field = Field::new("inner", inner.data_type().clone(), true);
        let outer = StructArray::new(vec![field.clone()].into(), vec![inner.clone()], None);
        let fields = vec![field, Field::new("outer", outer.data_type().clone(), false)];
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(schema.clone(), vec![inner, Arc::new(outer)]).unwrap();
        let table = Table { schema, batches: vec![batch] };
        let bytes = written(Format::Parquet, &table);
        assert_same(&parsed(Format::Parquet, &bytes).table, &table);
    }
}

fn numbers(rows: usize) -> Table {
    let fields = [("x", DataType::Float64), ("n", DataType::Int64), ("s", DataType::Utf8)];
    let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from_iter((0..rows).map(|n| n as f64))),
        Arc::new(Int64Array::from_iter((0..rows).map(|n| (n % 3 > 0).then_some(n as i64)))),
        Arc::new(StringArray::from_iter_values((0..rows).map(|n| n.to_string()))),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    Table { schema, batches: vec![batch.clone(), batch] }
}

fn ranges(table: &Table) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    for column in table.batches.iter().flat_map(RecordBatch::columns) {
        let data = column.to_data();
        let nulls = data.nulls().map(|nulls| nulls.buffer());
        for buffer in data.buffers().iter().chain(nulls) {
            let start = buffer.as_ptr() as usize;
            ranges.push(start..start + buffer.len());
        }
    }
    ranges
}

#[test]
fn columns_of_arrow_lie_in_the_bytes_they_were_read_from() {
    let table = numbers(1000);
    for format in [Format::ArrowStream, Format::ArrowFile] {
        let data = aligned(&written(format, &table));
        let inside = data.as_ptr() as usize..data.as_ptr() as usize + data.len();
        let back = read(format, &data, &Limits::default()).unwrap();
        assert_eq!(back.copies, []);
        assert_eq!(back.table.batches.len(), 2);
        for range in ranges(&back.table) {
            assert!(inside.start <= range.start && range.end <= inside.end);
        }
    }
}

#[test]
fn more_may_lie_in_the_bytes_than_may_be_made() {
    let data = aligned(&written(Format::ArrowStream, &numbers(10_000)));
    let limits = Limits { max_bytes: 1000, ..Limits::default() };
    assert_eq!(read(Format::ArrowStream, &data, &limits).unwrap().table.rows(), 20_000);
}

#[test]
fn unaligned_columns_are_copied_and_counted() {
    let table = numbers(1000);
    let mut bytes = vec![0_u8];
    bytes.extend(written(Format::ArrowStream, &table));
    let data = aligned(&bytes).slice(1);
    let back = read(Format::ArrowStream, &data, &Limits::default()).unwrap();
    assert_same(&back.table, &table);
    let why = "the buffer is not aligned".to_owned();
    let x = Copied { what: "column \"x\"".to_owned(), bytes: 16_000, why: why.clone() };
    assert_eq!(back.copies[0], x);
    // Of texts only the offsets must be aligned.
    let s = Copied { what: "column \"s\"".to_owned(), bytes: 2 * 4004, why };
    assert_eq!(back.copies[2], s);
}

#[test]
fn compressed_columns_are_copied_and_counted() {
    let table = numbers(1000);
    for codec in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
        let options = IpcWriteOptions::default().try_with_compression(Some(codec)).unwrap();
        let mut writer =
            StreamWriter::try_new_with_options(Vec::new(), &table.schema, options).unwrap();
        table.batches.iter().for_each(|batch| writer.write(batch).unwrap());
        let back = parsed(Format::ArrowStream, &writer.into_inner().unwrap());
        assert_same(&back.table, &table);
        let x = Copied {
            what: "column \"x\"".to_owned(),
            bytes: 16_000,
            why: "the buffer is compressed".to_owned(),
        };
        assert_eq!(back.copies[0], x);
    }
}

#[test]
fn parquet_is_counted_as_one_copy() {
    let back = parsed(Format::Parquet, &written(Format::Parquet, &numbers(10)));
    let [copied] = back.copies.as_slice() else { panic!("{:?}", back.copies) };
    assert_eq!((copied.what.as_str(), copied.why.as_str()), ("table", "Parquet is decoded"));
    assert_eq!(copied.bytes, back.table.bytes());
}

#[test]
fn parts_are_the_tables_own_memory_and_aligned() {
    let table = numbers(1000);
    let parts = ipc_parts(&table).unwrap();
    assert_eq!(parts.copied, 0);
    let own = ranges(&table);
    let (mut at, mut found) = (0, 0);
    for part in &parts.parts {
        let start = part.as_ptr() as usize;
        if own.iter().any(|own| own.start <= start && start + part.len() <= own.end) {
            assert_eq!(at % 64, 0);
            found += part.len();
        }
        at += part.len();
    }
    // Both batches share their memory, and each is written.
    assert_eq!(found as u64, 2 * table.bytes());
}

#[test]
fn parts_of_a_slice_copy_what_cannot_be_referred_to() {
    let batch = numbers(1000).batches[0].slice(3, 100);
    let table = Table { schema: batch.schema(), batches: vec![batch] };
    let parts = ipc_parts(&table).unwrap();
    // Offsets from zero on (101 of four bytes), bits shifted to the first.
    assert_eq!(parts.copied, 101 * 4 + 13);
    assert_same(&parsed(Format::ArrowStream, &joined(&table)).table, &table);
}

#[test]
fn either_kind_of_arrow_is_read_under_either_name() {
    let table = numbers(10);
    for written_as in [Format::ArrowStream, Format::ArrowFile] {
        for read_as in [Format::ArrowStream, Format::ArrowFile] {
            assert_same(&parsed(read_as, &written(written_as, &table)).table, &table);
        }
    }
}

#[test]
fn a_table_is_put_together_and_measured() {
    let table = numbers(100);
    assert_eq!(table.rows(), 200);
    assert_eq!(table.concat().unwrap().num_rows(), 200);
    // x: 800, n: 800 and 13 of bits, s: 404 offsets and 190 digits; shared by both batches.
    assert_eq!(table.bytes(), 800 + 800 + 13 + 404 + 190);
    assert_eq!(Buffer::from(written(Format::ArrowStream, &table)).len() % 8, 0);
}

#[test]
fn categories_as_polars_has_them_go_into_parquet() {
    let values = Arc::new(StringViewArray::from(vec!["low", "a word too long for a view"]));
    let keys = UInt32Array::from(vec![Some(1), None, Some(0)]);
    let column: ArrayRef = Arc::new(DictionaryArray::<UInt32Type>::new(keys, values));
    let batch = RecordBatch::try_from_iter([("c", column)]).unwrap();
    let table = Table { schema: batch.schema(), batches: vec![batch] };
    let back = parsed(Format::Parquet, &written(Format::Parquet, &table)).table.concat().unwrap();
    assert!(matches!(back.column(0).data_type(), DataType::Dictionary(..)));
    let texts = arrow_cast::cast(back.column(0), &DataType::Utf8).unwrap();
    let texts: Vec<_> = texts.as_string::<i32>().iter().collect();
    assert_eq!(texts, [Some("a word too long for a view"), None, Some("low")]);
}
