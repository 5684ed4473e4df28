//! What other programs find in the Parquet that is written, and what is made of theirs.
#![allow(clippy::unwrap_used, reason = "in a test a value that is not there is the failure")]

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Date64Array, DictionaryArray, Int8Array, Int32Array, ListArray, RecordBatch,
    StringArray, StructArray, Time32SecondArray, TimestampMillisecondArray, TimestampSecondArray,
    cast::AsArray,
    types::{Int8Type, Int32Type},
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
    let millis =
        |zone: Option<&str>| DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
    let types = [
        millis(Some("UTC")),
        millis(None),
        DataType::Time32(TimeUnit::Millisecond),
        DataType::Date32,
    ];
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

#[test]
fn a_file_cannot_say_more_of_its_columns_than_there_may_be() {
    let file = table(vec![("x", Arc::new(TimestampMillisecondArray::from(vec![1])))]);
    let field = |n: i32| Field::new(n.to_string(), DataType::Null, true);
    let said = Schema::new((0..20_000).map(field).collect::<Vec<_>>());
    let error = parsed(&saying(&file, &said)).unwrap_err();
    assert!(matches!(error, ReadError::TooLarge { .. }), "{error}");
}

fn categories(keys: &[Option<i8>], values: &[&str]) -> ArrayRef {
    let values = Arc::new(StringArray::from(values.to_vec()));
    Arc::new(DictionaryArray::<Int8Type>::new(Int8Array::from(keys.to_vec()), values))
}

fn dictionary(column: &ArrayRef) -> Vec<String> {
    let values = column.as_any_dictionary().values().as_string::<i32>();
    values.iter().map(|value| value.unwrap().to_owned()).collect()
}

fn texts(column: &ArrayRef) -> Vec<Option<String>> {
    let plain = cast(column, &DataType::Utf8).unwrap();
    plain.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn categories_keep_their_order_and_those_nobody_uses() {
    for keys in [
        vec![Some(2), None, Some(0), Some(2)],
        vec![Some(2), Some(0)],
        vec![Some(1)],
        vec![Some(2); 100],
        vec![None, Some(3), None],
        vec![None, None],
    ] {
        let column = categories(&keys, &["low", "middle", "high", ""]);
        let table = table(vec![("c", column.clone())]);
        let bytes = written(&table);
        let back = parsed(&bytes).unwrap();
        assert_eq!(dictionary(back.column(0)), ["low", "middle", "high", ""]);
        assert_eq!(back.column(0), &column);
        // To those who know nothing of categories they are texts.
        assert_eq!(texts(as_others_see(&bytes).column(0)), texts(&column));
    }
}

#[test]
fn categories_of_every_number_are_kept() {
    for count in [1, 2, 3, 8, 9, 255, 256, 257, 65_537] {
        let values = StringArray::from_iter_values((0..count).map(|n| format!("{n}")));
        let keys = Int32Array::from_iter((0..2 * count + 1).map(|n| (n % 7 > 0).then_some(n / 3)));
        let column: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(values)));
        let table = table(vec![("c", column.clone())]);
        let bytes = written(&table);
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
        let theirs: Vec<_> =
            reader.with_batch_size(1 << 20).build().unwrap().map(Result::unwrap).collect();
        assert_eq!(theirs[0].column(0), &column);
        assert_eq!(parsed(&bytes).unwrap().column(0), &column);
    }
}

#[test]
fn categories_of_several_batches_and_groups_become_one() {
    let (first, second) =
        (categories(&[Some(1)], &["b", "a"]), categories(&[Some(0)], &["c", "a"]));
    let mut several = table(vec![("c", first)]);
    let batch = RecordBatch::try_new(several.schema.clone(), vec![second]).unwrap();
    several.batches.push(batch);
    let back = parsed(&written(&several)).unwrap();
    assert_eq!(dictionary(back.column(0)), ["b", "a", "c"]);
    assert_eq!(texts(back.column(0)), [Some("a".to_owned()), Some("c".to_owned())]);
    // More rows than a group has.
    let rows = (1 << 20) + 5;
    let keys: Vec<_> = (0..rows).map(|row| Some(i8::from(row % 3 > 0))).collect();
    let many = table(vec![("c", categories(&keys, &["x", "y", "z"]))]);
    let bytes = written(&many);
    let groups = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    assert_eq!(groups.metadata().num_row_groups(), 2);
    let limits = Limits { batch_rows: 1 << 21, ..Limits::default() };
    let back = read(Format::Parquet, &Buffer::from(bytes), &limits).unwrap().table;
    let back = back.concat().unwrap();
    assert_eq!(dictionary(back.column(0)), ["x", "y", "z"]);
    assert_eq!(back, many.batches[0]);
}

#[test]
fn more_categories_than_fit_keys_or_a_page_are_at_least_texts() {
    let numbers = |from: i32| {
        let values = StringArray::from_iter_values((from..from + 100).map(|n| n.to_string()));
        let keys = Int8Array::from(vec![Some(9), None]);
        Arc::new(DictionaryArray::<Int8Type>::new(keys, Arc::new(values))) as ArrayRef
    };
    let mut several = table(vec![("c", numbers(0))]);
    let batch = RecordBatch::try_new(several.schema.clone(), vec![numbers(100)]).unwrap();
    several.batches.push(batch);
    let back = parsed(&written(&several)).unwrap();
    let number = |text: &str| Some(text.to_owned());
    assert_eq!(texts(back.column(0)), [number("9"), None, number("109"), None]);
    let long = "x".repeat(65 << 20);
    let one = table(vec![("c", categories(&[Some(1), Some(0)], &[&long, "short"]))]);
    let back = texts(parsed(&written(&one)).unwrap().column(0));
    assert_eq!(back[0].as_deref(), Some("short"));
    assert!(back[1].as_ref() == Some(&long));
}

#[test]
fn a_dictionary_counts_once_however_many_batches_share_it() {
    let values = StringArray::from_iter_values((0..1000).map(|n| format!("{n:0>1000}")));
    let keys = Int32Array::from_iter_values((0..100_000).map(|n| n % 1000));
    let column = DictionaryArray::<Int32Type>::new(keys, Arc::new(values));
    let bytes = written(&table(vec![("c", Arc::new(column))]));
    let limits = Limits { max_bytes: 16 << 20, batch_rows: 1000, ..Limits::default() };
    let back = read(Format::Parquet, &Buffer::from(bytes), &limits).unwrap();
    assert!(back.table.batches.len() >= 100);
}
