//! A row group that is being written.

use std::{io::Write, mem};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::FieldRef;
use parquet::{
    arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves},
    errors::Result,
    file::writer::SerializedFileWriter,
    schema::types::ColumnDescPtr,
};

use super::categories::{self, Chunk};
use crate::dictionaries;

/// Rows that are written as one group.
pub(super) struct Group {
    pub(super) rows: usize,
    columns: Vec<Column>,
}

struct Column {
    field: FieldRef,
    /// What is nested has several.
    leaves: Vec<ColumnDescPtr>,
    /// One for each leaf.
    writers: Vec<ArrowColumnWriter>,
    /// Categories are held until all of them are known.
    held: Vec<ArrayRef>,
}

// === impl Group ===

impl Group {
    pub(super) fn new<W: Write + Send>(
        file: &SerializedFileWriter<W>,
        factory: &ArrowRowGroupWriterFactory,
        fields: &[FieldRef],
    ) -> Result<Self> {
        let index = file.flushed_row_groups().len();
        let mut writers = factory.create_column_writers(index)?.into_iter();
        let schema = file.schema_descr();
        let mut leaves = vec![Vec::new(); fields.len()];
        for leaf in 0..schema.num_columns() {
            leaves[schema.get_column_root_idx(leaf)].push(schema.column(leaf));
        }
        let columns = fields.iter().zip(leaves).map(|(field, leaves)| Column {
            field: field.clone(),
            writers: writers.by_ref().take(leaves.len()).collect(),
            leaves,
            held: Vec::new(),
        });
        Ok(Self { rows: 0, columns: columns.collect() })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            if categories::is_one(array.data_type()) {
                column.held.push(array.clone());
            } else {
                column.write(array)?;
            }
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    pub(super) fn close<W: Write + Send>(self, file: &mut SerializedFileWriter<W>) -> Result<()> {
        let mut group = file.next_row_group()?;
        for mut column in self.columns {
            if let Some(chunk) = column.categories()? {
                chunk.append_to(&mut group)?;
                continue;
            }
            let held = mem::take(&mut column.held);
            held.iter().try_for_each(|array| column.write(array))?;
            for writer in column.writers {
                writer.close()?.append_to_row_group(&mut group)?;
            }
        }
        group.close().map(drop)
    }
}

// === impl Column ===

impl Column {
    /// The column chunk of categories that can be kept.
    fn categories(&self) -> Result<Option<Chunk>> {
        match (self.held.as_slice(), self.leaves.as_slice()) {
            ([], _) => Ok(None),
            (held, [leaf]) => match dictionaries::join(held) {
                Ok(joined) => Chunk::new(&joined, leaf),
                // There are more of them than keys.
                Err(_) => Ok(None),
            },
            _ => Ok(None),
        }
    }

    fn write(&mut self, array: &ArrayRef) -> Result<()> {
        let leaves = compute_leaves(&self.field, array)?;
        self.writers.iter_mut().zip(&leaves).try_for_each(|(writer, leaf)| writer.write(leaf))
    }
}
