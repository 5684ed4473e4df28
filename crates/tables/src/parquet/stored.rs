//! Types that Parquet has no place for, as others that hold the same.
//!
//! Parquet counts no seconds, and days only as days. The file has milliseconds and days then; the
//! Arrow schema beside Parquet's own says what they were.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow_buffer::NullBuffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_data::ArrayData;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::error::said;

/// The schema as the library can write it: of dictionaries it knows no values as views, as polars
/// has them in categories.
pub(super) fn writable(schema: &Schema) -> Schema {
    mapped(schema, &|data_type| match data_type {
        DataType::Dictionary(keys, values) => {
            let values = match values.as_ref() {
                DataType::Utf8View => DataType::LargeUtf8,
                DataType::BinaryView => DataType::LargeBinary,
                _ => return None,
            };
            Some(DataType::Dictionary(keys.clone(), Box::new(values)))
        }
        _ => None,
    })
}

/// The schema as the file holds it.
pub(super) fn stored(schema: &Schema) -> Schema {
    mapped(schema, &|data_type| match data_type {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            Some(DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))
        }
        DataType::Time32(TimeUnit::Second) => Some(DataType::Time32(TimeUnit::Millisecond)),
        DataType::Date64 => Some(DataType::Date32),
        _ => None,
    })
}

/// The schema as it was, by what the file holds and what it says of it.
///
/// The library has given days back as what they were already.
pub(super) fn restored(file: &Schema, said: &Schema) -> Schema {
    Schema::new_with_metadata(
        restored_fields(file.fields(), said.fields()),
        file.metadata().clone(),
    )
}

fn restored_fields(file: &Fields, said: &Fields) -> Fields {
    if file.len() != said.len() {
        return file.clone();
    }
    file.iter().zip(said).map(|(file, said)| restored_field(file, said)).collect()
}

fn restored_field(file: &FieldRef, said: &FieldRef) -> FieldRef {
    with_type(file, restored_type(file.data_type(), said.data_type()))
}

fn restored_type(file: &DataType, said: &DataType) -> DataType {
    use DataType::{
        Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Map, Struct, Time32,
        Timestamp,
    };
    match (file, said) {
        (Timestamp(_, here), Timestamp(TimeUnit::Second, there))
            if here.is_none() || there.is_some() =>
        {
            said.clone()
        }
        (Time32(_), Time32(TimeUnit::Second)) => said.clone(),
        (Dictionary(keys, file), Dictionary(_, said)) => {
            Dictionary(keys.clone(), Box::new(restored_type(file, said)))
        }
        (Timestamp(..) | Time32(_) | DataType::Date32, Dictionary(_, values)) => {
            if restored_type(file, values) == **values { said.clone() } else { file.clone() }
        }
        (List(file), List(said)) => List(restored_field(file, said)),
        (LargeList(file), LargeList(said)) => LargeList(restored_field(file, said)),
        (ListView(file), ListView(said)) => ListView(restored_field(file, said)),
        (LargeListView(file), LargeListView(said)) => LargeListView(restored_field(file, said)),
        (FixedSizeList(file, size), FixedSizeList(said, _)) => {
            FixedSizeList(restored_field(file, said), *size)
        }
        (Map(file, sorted), Map(said, _)) => Map(restored_field(file, said), *sorted),
        (Struct(file), Struct(said)) => Struct(restored_fields(file, said)),
        _ => file.clone(),
    }
}

/// A type in place of another, wherever it stands; `None` leaves it.
type Change<'a> = dyn Fn(&DataType) -> Option<DataType> + 'a;

fn mapped(schema: &Schema, change: &Change<'_>) -> Schema {
    let fields: Fields = schema.fields().iter().map(|field| mapped_field(field, change)).collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

fn mapped_field(field: &FieldRef, change: &Change<'_>) -> FieldRef {
    with_type(field, mapped_type(field.data_type(), change))
}

fn mapped_type(data_type: &DataType, change: &Change<'_>) -> DataType {
    use DataType::{
        Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Map, Struct,
    };
    if let Some(changed) = change(data_type) {
        return changed;
    }
    match data_type {
        Dictionary(keys, values) => Dictionary(keys.clone(), Box::new(mapped_type(values, change))),
        List(item) => List(mapped_field(item, change)),
        LargeList(item) => LargeList(mapped_field(item, change)),
        ListView(item) => ListView(mapped_field(item, change)),
        LargeListView(item) => LargeListView(mapped_field(item, change)),
        FixedSizeList(item, size) => FixedSizeList(mapped_field(item, change), *size),
        Map(entries, sorted) => Map(mapped_field(entries, change), *sorted),
        Struct(children) => {
            Struct(children.iter().map(|child| mapped_field(child, change)).collect())
        }
        other => other.clone(),
    }
}

fn with_type(field: &FieldRef, data_type: DataType) -> FieldRef {
    if *field.data_type() == data_type {
        return field.clone();
    }
    Arc::new(Field::clone(field).with_data_type(data_type))
}

/// The batch under a schema whose types hold the same.
///
/// # Errors
/// A value has no place in the type it should be of; the error names its column.
pub(super) fn retyped_batch(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<_>, ArrowError> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            retyped(column, field.data_type()).map_err(|error| {
                let why = format!("column \"{}\": {}", field.name(), said(&error));
                ArrowError::InvalidArgumentError(why)
            })
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns?, &options)
}

/// A column as of another of these types. What is nested stays where it is.
fn retyped(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    let Some(types) = children(column.data_type(), to) else { return exactly(column, to) };
    let data = column.to_data();
    let absent = data.nulls().filter(|_| matches!(to, DataType::Struct(_)));
    let parts = data.child_data().iter().zip(types);
    let parts: Result<Vec<_>, _> = parts
        .map(|(part, to)| Ok(retyped(&absent_in(part.clone(), absent)?, to)?.into_data()))
        .collect::<Result<_, ArrowError>>();
    let data = data.into_builder().data_type(to.clone()).child_data(parts?).build()?;
    Ok(make_array(data))
}

/// A part of a struct that is absent where the struct is. The library fills lists of a fixed size
/// with nulls there, also where it says that there are none, and takes no such list from us.
fn absent_in(part: ArrayData, absent: Option<&NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let fills = matches!(part.data_type(), DataType::FixedSizeList(..) | DataType::Struct(_));
    if !fills || absent.is_none() {
        return Ok(make_array(part));
    }
    let nulls = NullBuffer::union(part.nulls(), absent);
    Ok(make_array(part.into_builder().nulls(nulls).build()?))
}

/// The types of the parts of `to`, if both have such.
fn children<'a>(from: &DataType, to: &'a DataType) -> Option<Vec<&'a DataType>> {
    use DataType::{
        Dictionary, FixedSizeList, LargeList, LargeListView, List, ListView, Map, Struct,
    };
    match (from, to) {
        (Dictionary(..), Dictionary(_, values)) => Some(vec![values.as_ref()]),
        (List(_), List(item))
        | (LargeList(_), LargeList(item))
        | (ListView(_), ListView(item))
        | (LargeListView(_), LargeListView(item))
        | (FixedSizeList(..), FixedSizeList(item, _))
        | (Map(..), Map(item, _)) => Some(vec![item.data_type()]),
        (Struct(_), Struct(children)) => {
            Some(children.iter().map(|child| child.data_type()).collect())
        }
        _ => None,
    }
}

/// The same values in another type; an error if some have no place there.
fn exactly(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    // Making a dictionary, the library does not convert.
    let made = match to {
        DataType::Dictionary(_, values) => exactly(column, values)?,
        _ => column.clone(),
    };
    let made = cast_with_options(&made, to, &strict)?;
    let same = cast_with_options(&made, column.data_type(), &strict)?.to_data() == column.to_data();
    same.then_some(made).ok_or_else(|| {
        let why = match to {
            DataType::Date32 => "a date has a time of the day",
            _ => "a time has parts of a second, though it is said to have none",
        };
        ArrowError::InvalidArgumentError(why.to_owned())
    })
}
