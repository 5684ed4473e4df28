//! Batches to Parquet.

use std::io::{self, Write};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::{
    arrow::{
        ArrowWriter, add_encoded_arrow_schema_to_metadata,
        arrow_writer::{ArrowRowGroupWriterFactory, ArrowWriterOptions},
    },
    basic::Compression,
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
};

use super::{group::Group, stored};
use crate::{Format, WriteError};

/// Rows of a group: as many as most programs put into one.
const GROUP_ROWS: usize = 1 << 20;

/// Writes Parquet as most programs read it: Snappy, and the Arrow schema beside Parquet's own.
pub(crate) struct ParquetWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    factory: ArrowRowGroupWriterFactory,
    group: Option<Group>,
    /// As the file holds it.
    schema: SchemaRef,
}

// === impl ParquetWriter ===

impl<W: Write + Send> ParquetWriter<W> {
    pub(crate) fn new(schema: &SchemaRef, out: W) -> Result<Self, WriteError> {
        let schema = stored::writable(schema);
        let mut properties =
            WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        // As it was: the one that the library would write is as the file holds it.
        add_encoded_arrow_schema_to_metadata(&schema, &mut properties);
        let options =
            ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let schema = SchemaRef::from(stored::stored(&schema));
        let writer = ArrowWriter::try_new_with_options(out, schema.clone(), options);
        let (file, factory) =
            writer.and_then(ArrowWriter::into_serialized_writer).map_err(wrong)?;
        Ok(Self { file, factory, group: None, schema })
    }

    pub(crate) fn get_mut(&mut self) -> &mut W {
        self.file.inner_mut()
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let batch = stored::retyped_batch(batch, &self.schema);
        let mut rest = batch.map_err(|error| WriteError::arrow(Format::Parquet, error))?;
        while rest.num_rows() > 0 {
            let group = match self.group.take() {
                Some(group) => group,
                None => {
                    Group::new(&self.file, &self.factory, self.schema.fields()).map_err(wrong)?
                }
            };
            let group = self.group.insert(group);
            let rows = rest.num_rows().min(GROUP_ROWS - group.rows);
            group.write(&rest.slice(0, rows)).map_err(wrong)?;
            rest = rest.slice(rows, rest.num_rows() - rows);
            if group.rows == GROUP_ROWS {
                self.close_group()?;
            }
        }
        Ok(())
    }

    fn close_group(&mut self) -> Result<(), WriteError> {
        let Some(group) = self.group.take() else { return Ok(()) };
        group.close(&mut self.file).map_err(wrong)
    }

    pub(crate) fn finish(mut self) -> Result<W, WriteError> {
        self.close_group()?;
        self.file.into_inner().map_err(wrong)
    }
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
