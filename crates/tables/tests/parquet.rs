//! What other programs find in the Parquet that is written, and what is made of theirs.
#![allow(clippy::unwrap_used, reason = "in a test a value that is not there is the failure")]

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Date64Array, ListArray, RecordBatch, StructArray, Time32SecondArray,
    TimestampMillisecondArray, TimestampSecondArray,
};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use bytes::Bytes;
use exuvia_tables::{Format, Limits, ReadError, Table, read, write};
use parquet::{
    arrow::{
        ArrowWriter, add_encoded_arrow_schema_to_metadata,
        arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder},
        arrow_writer::ArrowWriterOptions,
    },
    file::properties::WriterProperties,
};

const DAY: i64 = 86_400_000;

fn table(columns: Vec<(&str, ArrayRef)>) -> Table {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    Table { schema: batch.schema(), batches: vec![batch] }
}

fn written(table: &Table) -> Bytes {
    let mut out = Vec::new();
    write(Format::Parquet, table, &mut out).unwrap();
    out.into()
}

fn parsed(bytes: &Bytes) -> Result<RecordBatch, ReadError> {
    let read = read(Format::Parquet, &Buffer::from(bytes.clone()), &Limits::default())?;
    Ok(read.table.concat().unwrap())
}

/// The batch as a program reads it that looks at nothing but Parquet's own schema.
fn as_others_see(bytes: &Bytes) -> RecordBatch {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader =
        ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).unwrap();
    reader.build().unwrap().next().unwrap().unwrap()
}

fn times() -> Vec<(&'static str, ArrayRef)> {
    let zoned = TimestampSecondArray::from(vec![Some(0), None, Some(-7)]).with_timezone("UTC");
    vec![
        ("zoned", Arc::new(zoned)),
        ("naive", Arc::new(TimestampSecondArray::from(vec![0, 1, 2]))),
        ("clock", Arc::new(Time32SecondArray::from(vec![Some(86_399), None, Some(0)]))),
        ("day", Arc::new(Date64Array::from(vec![Some(DAY), Some(-DAY), None]))),
    ]
}

#[test]
fn seconds_and_days_are_times_for_every_reader() {
    let flat = times();
    let inner = StructArray::from(RecordBatch::try_from_iter(flat.clone()).unwrap());
    let item = Arc::new(Field::new("item", inner.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([2, 0, 1]);
    let lists = ListArray::new(item, offsets, Arc::new(inner), None);
    let mut columns = flat;
    columns.push(("nested", Arc::new(lists)));
    let table = table(columns);
    let bytes = written(&table);
    let seen = as_others_see(&bytes);
    let millis = |zone: Option<&str>| {
        DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into))
    };
    let types =
        [millis(Some("UTC")), millis(None), DataType::Time32(TimeUnit::Millisecond), DataType::Date32];
    for (index, data_type) in types.iter().enumerate() {
        assert_eq!(seen.column(index).data_type(), data_type);
        let given = cast(table.batches[0].column(index), data_type).unwrap();
        assert_eq!(seen.column(index).as_ref(), given.as_ref());
    }
    let DataType::List(item) = seen.column(4).data_type() else { panic!("{seen:?}") };
    let DataType::Struct(fields) = item.data_type() else { panic!("{item:?}") };
    let nested: Vec<_> = fields.iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(nested, types);
    assert_eq!(parsed(&bytes).unwrap(), table.batches[0]);
}

#[test]
fn what_has_no_place_as_milliseconds_or_days_is_refused() {
    let refused = |column: ArrayRef, said: &str| {
        let error = write(Format::Parquet, &table(vec![("x", column)]), &mut Vec::new());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("column \"x\": ") && error.contains(said), "{error}");
    };
    refused(Arc::new(Date64Array::from(vec![DAY + 1])), "a date has a time of the day");
    refused(Arc::new(TimestampSecondArray::from(vec![i64::MAX])), "verflow");
}

/// A file whose columns are not what it says they were.
fn saying(table: &Table, said: &Schema) -> Bytes {
    let mut properties = WriterProperties::builder().build();
    add_encoded_arrow_schema_to_metadata(said, &mut properties);
    let options =
        ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer =
        ArrowWriter::try_new_with_options(Vec::new(), table.schema.clone(), options).unwrap();
    table.batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap().into()
}

#[test]
fn parts_of_a_second_are_not_cut_off_whatever_the_file_says() {
    let seconds = DataType::Timestamp(TimeUnit::Second, None);
    let said = |name: &str, data_type: &DataType| {
        Schema::new(vec![Field::new(name, data_type.clone(), true)])
    };
    let whole: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1000, -2000]));
    let file = table(vec![("x", whole.clone())]);
    let back = parsed(&saying(&file, &said("x", &seconds))).unwrap();
    assert_eq!(back.column(0).data_type(), &seconds);
    assert_eq!(back.column(0), &cast(&whole, &seconds).unwrap());
    let parts: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1000, 1]));
    let file = table(vec![("x", parts)]);
    let error = parsed(&saying(&file, &said("x", &seconds))).unwrap_err().to_string();
    assert!(error.contains("column \"x\": a time has parts of a second"), "{error}");
}
