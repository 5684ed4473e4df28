//! Parquet to batches.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, cast::AsArray};
use arrow_buffer::Buffer;
use arrow_schema::{ArrowError, DataType, SchemaRef};
use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
    },
    basic::Type,
    errors::ParquetError,
    file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData},
};

use super::{
    categories, footer, hint,
    pages::{self, width},
    stored,
};
use crate::{
    Format, Limits, ReadError, Table, buffers, decimals,
    ipc::has_dictionary,
    schema,
    table::{ARRAY_BYTES, Budget},
};

/// A dictionary page that is read here is in memory so many times, at most: packed out, as an array
/// that grows.
const PAGE_COPIES: u64 = 4;

/// Reads a file that is wholly there.
pub(crate) fn read(data: &Buffer, limits: &Limits) -> Result<Table, ReadError> {
    let mut budget = Budget::new(Format::Parquet, limits);
    footer::check(data, limits, &budget)?;
    let data = Bytes::from_owner(Owner(data.clone()));
    let metadata = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Skip);
    let metadata = Arc::new(metadata.parse_and_finish(&data).map_err(wrong)?);
    let said = hint::read(&metadata, limits, &budget)?;
    let metadata =
        ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new()).map_err(wrong)?;
    schema::check(metadata.schema(), Format::Parquet, limits)?;
    let rows = batch_rows(&data, &metadata, limits, &budget)?;
    // The reader's own schema lacks the metadata.
    let file = metadata.schema().clone();
    let schema = said.map_or_else(|| file.clone(), |said| stored::restored(&file, &said).into());
    let mut batches = Vec::new();
    // A dictionary is kept as it is where no batch goes on into the next group.
    let alone = file.fields().iter().any(|field| has_dictionary(field.data_type()));
    let groups: Vec<usize> = (0..metadata.metadata().num_row_groups()).collect();
    let mut seen = buffers::Seen::default();
    for groups in groups.chunks(if alone { 1 } else { groups.len().max(1) }) {
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(data.clone(), metadata.clone());
        let builder = builder.with_row_groups(groups.to_vec()).with_batch_size(rows);
        let mut known = HashMap::new();
        for batch in builder.build().map_err(wrong)? {
            let mut batch = restored(batch, &schema)?;
            if let (true, [group]) = (alone, groups) {
                let group = metadata.metadata().row_group(*group);
                batch = with_categories(batch, &data, group, &mut known, &budget)?;
            }
            budget.take(batch.num_columns() as u64 * ARRAY_BYTES)?;
            budget.take(seen.more(&batch))?;
            batches.push(batch);
        }
    }
    Ok(Table { schema, batches })
}

fn restored(
    batch: Result<RecordBatch, ArrowError>,
    schema: &SchemaRef,
) -> Result<RecordBatch, ReadError> {
    let batch = batch.map_err(tidy).and_then(|batch| stored::retyped_batch(&batch, schema));
    let batch = batch.map_err(|error| ReadError::arrow(Format::Parquet, error))?;
    decimals::check(&batch).map_err(|why| ReadError::malformed(Format::Parquet, why))?;
    Ok(batch)
}

/// The batch with the categories of columns that have nothing but nulls: the library has not looked
/// for them. What was found for a batch before is `known`.
fn with_categories(
    batch: RecordBatch,
    data: &Bytes,
    group: &RowGroupMetaData,
    known: &mut HashMap<usize, Option<ArrayRef>>,
    budget: &Budget,
) -> Result<RecordBatch, ReadError> {
    let mut columns = batch.columns().to_vec();
    for (leaf, chunk) in group.columns().iter().enumerate() {
        let column = &mut columns[group.schema_descr().get_column_root_idx(leaf)];
        let Some(dictionary) = column.as_any_dictionary_opt() else { continue };
        let values = dictionary.values();
        if !values.is_empty() || !categories::is_one(column.data_type()) {
            continue;
        }
        let found = match known.entry(leaf) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(place) => {
                let page = pages::dictionary(data, chunk)?.unwrap_or_default();
                budget.check((page.len() as u64).saturating_mul(PAGE_COPIES))?;
                place.insert(categories::values(&page, values.data_type()))
            }
        };
        if let Some(found) = found {
            *column = dictionary.with_values(found.clone());
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
        .map_err(|error| ReadError::arrow(Format::Parquet, error))
}

struct Owner(Buffer);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

pub(super) fn wrong(error: ParquetError) -> ReadError {
    let why = match error {
        ParquetError::General(why)
        | ParquetError::NYI(why)
        | ParquetError::EOF(why)
        | ParquetError::ArrowError(why) => why,
        other => other.to_string(),
    };
    ReadError::malformed(Format::Parquet, why)
}

/// Takes the names of error kinds out of one another.
fn tidy(error: ArrowError) -> ArrowError {
    match error {
        ArrowError::ParquetError(why) => ArrowError::ExternalError(why.into()),
        other => other,
    }
}

/// So many rows to a batch that no batch can be larger than what may be made.
fn batch_rows(
    data: &Bytes,
    metadata: &ArrowReaderMetadata,
    limits: &Limits,
    budget: &Budget,
) -> Result<usize, ReadError> {
    let fields = metadata.schema().fields();
    let fixed = fields.iter().map(|field| row_width(field.data_type()));
    let fixed = fixed.fold(1, u64::saturating_add);
    let worst = worst_rows(data, metadata.metadata(), budget)?;
    check_padding(metadata, worst.values, budget)?;
    let row = if worst.texts > budget.left() { fixed.saturating_add(worst.longest) } else { fixed };
    let rows = usize::try_from(budget.left() / 4 / row).unwrap_or(usize::MAX);
    Ok(rows.min(limits.batch_rows).max(1))
}

/// Of all row groups, what can be made of a row in the worst case.
#[derive(Default)]
struct Worst {
    /// Bytes of all texts.
    texts: u64,
    /// Bytes of the longest texts, one of each column.
    longest: u64,
    /// The most values of a column.
    values: u64,
}

fn worst_rows(
    data: &Bytes,
    metadata: &Arc<ParquetMetaData>,
    budget: &Budget,
) -> Result<Worst, ReadError> {
    let mut worst = Worst::default();
    let mut rows = 0_u64;
    let mut lists = 0_u64;
    for group in metadata.row_groups() {
        let negative = || ReadError::malformed(Format::Parquet, "it has a negative number of rows");
        rows = rows.saturating_add(u64::try_from(group.num_rows()).map_err(|_| negative())?);
        let (mut open, mut longest) = (0_u64, 0_u64);
        for column in group.columns() {
            let chunk = pages::check(data, column, budget)?;
            open = open.saturating_add(chunk.pages);
            worst.values = worst.values.max(chunk.values);
            let is_text = column.column_type() == Type::BYTE_ARRAY;
            // A row may have a list of all the values there are.
            if column.column_descr().max_rep_level() > 0 {
                let texts = if is_text { chunk.texts } else { 0 };
                let values = chunk.values.saturating_mul(width(column).saturating_add(1));
                lists = lists.saturating_add(values).saturating_add(texts);
            } else if is_text {
                worst.texts = worst.texts.saturating_add(chunk.texts);
                longest = longest.saturating_add(chunk.longest);
            }
        }
        budget.check(open)?;
        worst.longest = worst.longest.max(longest);
    }
    budget.check(rows)?;
    budget.check(lists)?;
    Ok(worst)
}

/// Bytes that a row takes in memory, but for texts and the items of lists.
fn row_width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(width) => u64::try_from(*width).unwrap_or(0),
        DataType::FixedSizeList(item, length) => {
            let length = u64::try_from(*length).unwrap_or(0);
            row_width(item.data_type()).saturating_mul(length)
        }
        DataType::Struct(children) => {
            let widths = children.iter().map(|child| row_width(child.data_type()));
            widths.fold(1, u64::saturating_add)
        }
        DataType::Dictionary(keys, _) => row_width(keys),
        other => other.primitive_width().map_or(16, |width| width as u64),
    }
}

/// A null in a column of lists of one size takes as much room as a list.
fn check_padding(
    metadata: &ArrowReaderMetadata,
    values: u64,
    budget: &Budget,
) -> Result<(), ReadError> {
    fn padding(data_type: &DataType, in_list: bool) -> u64 {
        match data_type {
            DataType::FixedSizeList(..) if in_list => row_width(data_type),
            DataType::FixedSizeList(item, _) => padding(item.data_type(), in_list),
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::Map(item, _) => padding(item.data_type(), true),
            DataType::Struct(children) => {
                let each = children.iter().map(|child| padding(child.data_type(), in_list));
                each.fold(0, u64::saturating_add)
            }
            _ => 0,
        }
    }
    let fields = metadata.schema().fields().iter();
    let most = fields.map(|field| padding(field.data_type(), false)).max().unwrap_or(0);
    budget.check(most.saturating_mul(values))
}
