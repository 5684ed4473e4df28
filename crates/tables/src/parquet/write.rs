//! Batches to Parquet.

use std::io::{self, Write};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError,
    file::properties::WriterProperties,
};

use crate::{Format, WriteError};

/// Writes Parquet as most programs read it: Snappy, and the Arrow schema beside Parquet's own.
pub(crate) struct ParquetWriter<W: Write + Send>(ArrowWriter<W>);

// === impl ParquetWriter ===

impl<W: Write + Send> ParquetWriter<W> {
    pub(crate) fn new(schema: &SchemaRef, out: W) -> Result<Self, WriteError> {
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        ArrowWriter::try_new(out, schema.clone(), Some(properties)).map(Self).map_err(wrong)
    }

    pub(crate) fn get_mut(&mut self) -> &mut W {
        self.0.inner_mut()
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        self.0.write(batch).map_err(wrong)
    }

    pub(crate) fn finish(self) -> Result<W, WriteError> {
        self.0.into_inner().map_err(wrong)
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
