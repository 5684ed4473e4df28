//! Batches to Parquet.

use std::{
    io::{self, Write},
    sync::Arc,
};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError,
    file::properties::WriterProperties,
};

use crate::{Format, WriteError};

/// Writes Parquet as most programs read it: Snappy, and the Arrow schema beside Parquet's own.
pub(crate) struct ParquetWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    /// As it is written.
    schema: SchemaRef,
}

// === impl ParquetWriter ===

impl<W: Write + Send> ParquetWriter<W> {
    pub(crate) fn new(schema: &SchemaRef, out: W) -> Result<Self, WriteError> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let fields = schema.fields().iter().map(|field| writable(field));
        let fields: Vec<Field> = fields.collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties)).map_err(wrong)?;
        Ok(Self { writer, schema })
    }

    pub(crate) fn get_mut(&mut self) -> &mut W {
        self.writer.inner_mut()
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let columns: Result<Vec<_>, ArrowError> = batch
            .columns()
            .iter()
            .zip(self.schema.fields())
            .map(|(column, field)| match column.data_type() == field.data_type() {
                true => Ok(column.clone()),
                false => cast(column, field.data_type()),
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = columns.and_then(|columns| {
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
        });
        let batch = batch.map_err(|error| WriteError::arrow(Format::Parquet, error))?;
        self.writer.write(&batch).map_err(wrong)
    }

    pub(crate) fn finish(self) -> Result<W, WriteError> {
        self.writer.into_inner().map_err(wrong)
    }
}

/// The field as the writer can take it: of dictionaries it knows no values as views, as polars
/// has them in categories.
fn writable(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Dictionary(keys, values) => {
            let values = match values.as_ref() {
                DataType::Utf8View => DataType::LargeUtf8,
                DataType::BinaryView => DataType::LargeBinary,
                other => other.clone(),
            };
            DataType::Dictionary(keys.clone(), Box::new(values))
        }
        other => other.clone(),
    };
    field.clone().with_data_type(data_type)
}

fn wrong(error: ParquetError) -> WriteError {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => WriteError::Sink(*source),
            Err(other) => WriteError::unsupported(Format::Parquet, other.to_string()),
        },
        ParquetError::General(why)
        | ParquetError::NYI(why)
        | ParquetError::ArrowError(why)
        | ParquetError::EOF(why) => WriteError::unsupported(Format::Parquet, why),
        other => WriteError::unsupported(Format::Parquet, other.to_string()),
    }
}
