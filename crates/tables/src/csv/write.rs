//! Batches to CSV.

use std::io::Write;

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};

use crate::{
    Format, WriteError,
    iso::{Texts, plain},
};

/// So many bytes are gathered before they are written.
const GATHERED: usize = 64 << 10;

/// Writes rows as RFC 4180 says, with a header. Null is an empty field, an empty text is `""`.
pub(crate) struct CsvWriter<W> {
    out: W,
    schema: SchemaRef,
}

// === impl CsvWriter ===

impl<W: Write> CsvWriter<W> {
    pub(crate) fn new(schema: &SchemaRef, mut out: W) -> Result<Self, WriteError> {
        for field in schema.fields() {
            if let Some(why) = refused(field.data_type()) {
                let why = format!("column \"{}\" is {why}", field.name());
                return Err(WriteError::unsupported(Format::Csv, why));
            }
        }
        let mut line = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            if index > 0 {
                line.push(b',');
            }
            put_field(field.name(), &mut line);
        }
        line.extend_from_slice(b"\r\n");
        out.write_all(&line)?;
        out.flush()?;
        Ok(Self { out, schema: schema.clone() })
    }

    pub(crate) fn get_mut(&mut self) -> &mut W {
        &mut self.out
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), WriteError> {
        let columns: Result<Vec<_>, _> = batch.columns().iter().map(plain).collect();
        let columns = columns.map_err(|error| WriteError::arrow(Format::Csv, error))?;
        let texts: Result<Vec<_>, _> = columns.iter().map(|column| Texts::new(column)).collect();
        let texts = texts.map_err(|error| WriteError::arrow(Format::Csv, error))?;
        let (mut lines, mut text) = (Vec::with_capacity(GATHERED), String::new());
        for row in 0..batch.num_rows() {
            for (index, (column, texts)) in columns.iter().zip(&texts).enumerate() {
                if index > 0 {
                    lines.push(b',');
                }
                if column.is_null(row) || column.data_type() == &DataType::Null {
                    continue;
                }
                texts.put(row, &mut text).map_err(|error| {
                    let name = self.schema.field(index).name();
                    let why = crate::error::said(&error);
                    let why = format!("column \"{name}\", row {row}: {why}");
                    WriteError::unsupported(Format::Csv, why)
                })?;
                put_field(&text, &mut lines);
            }
            // A line without anything would be no row.
            if columns.len() == 1 && columns[0].is_null(row) {
                lines.extend_from_slice(NULL_ALONE);
            }
            lines.extend_from_slice(b"\r\n");
            if lines.len() >= GATHERED {
                self.out.write_all(&lines)?;
                lines.clear();
            }
        }
        self.out.write_all(&lines)?;
        Ok(self.out.flush()?)
    }

    pub(crate) fn finish(mut self) -> Result<W, WriteError> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// A null where it is the only field of its row: readers pass over empty lines.
const NULL_ALONE: &[u8] = b"\"\"";

/// Why a column of this type cannot be written.
fn refused(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => {
            Some("binary: make text of it (base64, say), or use Arrow or Parquet")
        }
        DataType::Dictionary(_, values) => refused(values),
        DataType::RunEndEncoded(_, values) => refused(values.data_type()),
        nested if nested.is_nested() => Some("nested: use Arrow, Parquet or JSON"),
        _ => None,
    }
}

fn put_field(text: &str, line: &mut Vec<u8>) {
    let special = |byte: u8| matches!(byte, b'"' | b',' | b'\r' | b'\n');
    if !text.is_empty() && !text.bytes().any(special) {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    line.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            line.push(b'"');
        }
        line.push(byte);
    }
    line.push(b'"');
}
