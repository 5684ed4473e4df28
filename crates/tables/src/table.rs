//! A table in memory, and how much of one may be made.

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, SchemaRef};

use crate::{Format, ReadError, buffers, dictionaries, schema};

/// Batches of rows under one schema.
#[derive(Debug, Clone)]
pub struct Table {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows. There may be none.
    pub batches: Vec<RecordBatch>,
}

/// How much may be made of bytes from outside.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory that reading may make, in bytes. What stays where it lies does not count.
    pub max_bytes: u64,
    /// Columns, fields of structs and such counted too.
    pub max_columns: usize,
    /// Rows of a batch, where the reader cuts the batches.
    pub batch_rows: usize,
}

/// What is left of [`Limits::max_bytes`].
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    format: Format,
    limit: u64,
    left: u64,
}

/// What an array takes besides its values, about.
pub(crate) const ARRAY_BYTES: u64 = 128;

/// Lists within lists, structs within structs: so deep at most.
pub(crate) const MAX_DEPTH: usize = 64;

/// Of Parquet less: its writer takes tens of KiB of stack for each.
pub(crate) const MAX_PARQUET_DEPTH: usize = 32;

// === impl Table ===

impl Table {
    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Bytes of the memory its columns refer to; what columns share is counted once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        buffers::bytes(&self.batches)
    }

    /// Whether readers with these limits take columns of such names and types, and as many.
    #[must_use]
    pub fn is_readable(&self, limits: &Limits) -> bool {
        schema::check(&self.schema, Format::ArrowStream, limits).is_ok()
    }

    /// All rows in one batch, dictionaries put together. Copies nothing where there is one already.
    ///
    /// # Errors
    /// The rows do not fit one batch: a column has more text than its type can count.
    pub fn concat(&self) -> Result<RecordBatch, ArrowError> {
        let filled: Vec<&RecordBatch> =
            self.batches.iter().filter(|batch| batch.num_rows() > 0).collect();
        match filled.as_slice() {
            [only] => Ok((*only).clone()),
            [] => {
                let empty = || RecordBatch::new_empty(self.schema.clone());
                Ok(self.batches.first().cloned().unwrap_or_else(empty))
            }
            several => self.join(several),
        }
    }

    fn join(&self, batches: &[&RecordBatch]) -> Result<RecordBatch, ArrowError> {
        let columns: Result<Vec<_>, _> = (0..self.schema.fields().len())
            .map(|index| {
                let pieces: Vec<_> =
                    batches.iter().map(|batch| batch.column(index).clone()).collect();
                dictionaries::join(&pieces)
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns?, &options)
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 1 << 30, max_columns: 16_384, batch_rows: 65_536 }
    }
}

// === impl Budget ===

impl Budget {
    pub(crate) fn new(format: Format, limits: &Limits) -> Self {
        Self { format, limit: limits.max_bytes, left: limits.max_bytes }
    }

    /// Bytes that may still be made.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Whether so many bytes may still be made, without making them.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), ReadError> {
        if bytes > self.left { Err(self.exceeded()) } else { Ok(()) }
    }

    /// Counts bytes that are made.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), ReadError> {
        self.check(bytes)?;
        self.left -= bytes;
        Ok(())
    }

    pub(crate) fn exceeded(&self) -> ReadError {
        let why = format!("as a table it would take more than {} bytes", self.limit);
        ReadError::too_large(self.format, why)
    }
}
