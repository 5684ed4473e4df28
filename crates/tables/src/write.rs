//! Writing tables.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use crate::{
    Format, Table, WriteError,
    csv::CsvWriter,
    diff,
    ipc::{has_dictionary, whole},
    json::JsonWriter,
    parquet::ParquetWriter,
    quiet::guarded,
    schema::check_depth,
};

/// Writes a whole table.
///
/// # Errors
/// The format has no place for a column or a value; `out` takes no more.
pub fn write(
    format: Format,
    table: &Table,
    out: &mut (dyn Write + Send),
) -> Result<(), WriteError> {
    let mut writer = Writer::new(format, table.schema.clone(), out)?;
    for batch in &table.batches {
        writer.write(batch)?;
    }
    writer.finish().map(drop)
}

/// Writes a table batch after batch.
///
/// Of Arrow streams, CSV, NDJSON and JSON rows a batch is out when [`Writer::write`] returns; the
/// other formats keep some of it until the end.
pub struct Writer<W: Write + Send> {
    format: Format,
    schema: SchemaRef,
    sink: Sink<W>,
}

enum Sink<W: Write + Send> {
    Stream(StreamWriter<W>),
    File { writer: FileWriter<W>, held: Vec<RecordBatch> },
    Parquet(ParquetWriter<W>),
    Csv(CsvWriter<W>),
    Json(JsonWriter<W>),
}

// === impl Writer ===

impl<W: Write + Send> Writer<W> {
    /// A table of this schema. What the format has to say before the first row is written at once.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn new(format: Format, schema: SchemaRef, out: W) -> Result<Self, WriteError> {
        check_depth(&schema, format)?;
        let sink = caught(format, || Sink::new(format, &schema, out))?;
        Ok(Self { format, schema, sink })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// As [`write()`]; the batch has other columns than the table.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let batch = self.fitted(batch)?;
        let Self { format, sink, .. } = self;
        caught(*format, || sink.write(*format, batch))
    }

    /// Where it is written to.
    pub fn get_mut(&mut self) -> &mut W {
        match &mut self.sink {
            Sink::Stream(writer) => writer.get_mut(),
            Sink::File { writer, .. } => writer.get_mut(),
            Sink::Parquet(writer) => writer.get_mut(),
            Sink::Csv(writer) => writer.get_mut(),
            Sink::Json(writer) => writer.get_mut(),
        }
    }

    /// Writes what comes after the last row.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn finish(self) -> Result<W, WriteError> {
        let Self { format, schema, sink } = self;
        caught(format, || sink.finish(format, &schema))
    }

    /// The batch under the table's schema: names and types must be the same, metadata need not.
    fn fitted(&self, batch: &RecordBatch) -> Result<RecordBatch, WriteError> {
        if batch.schema_ref() == &self.schema {
            return Ok(batch.clone());
        }
        // A column that may have nulls, but has none, fits one that may not.
        let fields = batch.schema_ref().fields().iter().zip(batch.columns());
        let found: Vec<_> = fields
            .enumerate()
            .map(|(index, (field, column))| {
                let declared = self.schema.fields().get(index);
                let nullable = match declared {
                    Some(declared) if declared.is_nullable() => true,
                    _ => field.is_nullable() && column.logical_null_count() > 0,
                };
                field.as_ref().clone().with_nullable(nullable)
            })
            .collect();
        if let Some(difference) = diff(&self.schema, &Schema::new(found)) {
            return Err(WriteError::Schema(difference.to_string()));
        }
        RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec())
            .map_err(|error| WriteError::arrow(self.format, error))
    }
}

// === impl Sink ===

impl<W: Write + Send> Sink<W> {
    fn new(format: Format, schema: &SchemaRef, out: W) -> Result<Self, WriteError> {
        let wrong = |error: ArrowError| WriteError::arrow(format, error);
        Ok(match format {
            Format::ArrowStream => {
                let mut writer = StreamWriter::try_new(out, schema).map_err(wrong)?;
                writer.flush().map_err(wrong)?;
                Self::Stream(writer)
            }
            Format::ArrowFile => {
                let writer = FileWriter::try_new(out, schema).map_err(wrong)?;
                Self::File { writer, held: Vec::new() }
            }
            Format::Parquet => Self::Parquet(ParquetWriter::new(schema, out)?),
            Format::Csv => Self::Csv(CsvWriter::new(schema, out)?),
            Format::Ndjson | Format::JsonRows | Format::JsonColumns => {
                Self::Json(JsonWriter::new(format, schema, out)?)
            }
        })
    }

    fn write(&mut self, format: Format, batch: RecordBatch) -> Result<(), WriteError> {
        let wrong = |error: ArrowError| WriteError::arrow(format, error);
        match self {
            Self::Stream(writer) => {
                writer.write(&whole(&batch)).map_err(wrong)?;
                writer.flush().map_err(wrong)
            }
            Self::File { writer, held } => {
                let fields = batch.schema_ref().fields();
                // A file has one dictionary for each column, so all batches must be there first.
                if fields.iter().any(|field| has_dictionary(field.data_type())) {
                    held.push(batch);
                    return Ok(());
                }
                writer.write(&whole(&batch)).map_err(wrong)
            }
            Self::Parquet(writer) => writer.write(&batch),
            Self::Csv(writer) => writer.write(&batch),
            Self::Json(writer) => writer.write(batch),
        }
    }

    fn finish(self, format: Format, schema: &SchemaRef) -> Result<W, WriteError> {
        let wrong = |error: ArrowError| WriteError::arrow(format, error);
        match self {
            Self::Stream(mut writer) => {
                writer.finish().map_err(wrong)?;
                writer.flush().map_err(wrong)?;
                writer.into_inner().map_err(wrong)
            }
            Self::File { mut writer, held } => {
                if !held.is_empty() {
                    let all = Table { schema: schema.clone(), batches: held };
                    writer.write(&all.concat().map_err(wrong)?).map_err(wrong)?;
                }
                writer.finish().map_err(wrong)?;
                writer.into_inner().map_err(wrong)
            }
            Self::Parquet(writer) => writer.finish(),
            Self::Csv(writer) => writer.finish(),
            Self::Json(writer) => writer.finish(),
        }
    }
}

/// A writer's panic is an error like any other: of a type it does not know, say.
fn caught<T>(
    format: Format,
    write: impl FnOnce() -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    guarded(write).unwrap_or_else(|why| Err(WriteError::unsupported(format, why)))
}
