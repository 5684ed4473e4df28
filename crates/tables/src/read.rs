//! Reading a whole table.

use arrow_buffer::Buffer;

use crate::{Copied, Format, Limits, ReadError, Table, csv, ipc, json, parquet, quiet::guarded};

/// What reading made.
#[derive(Debug)]
pub struct Read {
    /// The table.
    pub table: Table,
    /// What of it does not lie where it was read from, and why.
    pub copies: Vec<Copied>,
}

/// Reads a table that lies in memory.
///
/// Uncompressed, aligned columns of Arrow IPC stay in `data`. Either kind of Arrow IPC is read,
/// whichever of the two `format` says.
///
/// # Errors
/// The bytes are not of that format, or would make more than `limits` allow.
pub fn read(format: Format, data: &Buffer, limits: &Limits) -> Result<Read, ReadError> {
    let decode = || match format {
        Format::ArrowStream | Format::ArrowFile => ipc::read(data, limits),
        Format::Parquet => parquet::read(data, limits).map(|table| Read::decoded(table, format)),
        Format::Csv => csv::read(data, limits).map(|table| Read::decoded(table, format)),
        Format::Ndjson | Format::JsonRows | Format::JsonColumns => {
            json::read(format, data, limits).map(|table| Read::decoded(table, format))
        }
    };
    guarded(decode).unwrap_or_else(|why| Err(ReadError::malformed(format, why)))
}

// === impl Read ===

impl Read {
    /// A table that had to be made anew.
    fn decoded(table: Table, format: Format) -> Self {
        let bytes = table.bytes();
        let copied =
            Copied { what: "table".to_owned(), bytes, why: format!("{format} is decoded") };
        Self { table, copies: if bytes > 0 { vec![copied] } else { Vec::new() } }
    }
}
