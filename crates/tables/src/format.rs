//! The formats a table is written in.

use std::fmt;

use exuvia_core::Codec;

/// How a table is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// An Arrow IPC stream.
    ArrowStream,
    /// An Arrow IPC file (Feather version 2).
    ArrowFile,
    /// Parquet.
    Parquet,
    /// CSV (RFC 4180) with a header.
    Csv,
    /// One JSON object per line.
    Ndjson,
    /// A JSON list of objects, one per row.
    JsonRows,
    /// A JSON object of lists, one per column.
    JsonColumns,
}

// === impl Format ===

impl Format {
    /// Every format.
    pub const ALL: [Self; 7] = [
        Self::ArrowStream,
        Self::ArrowFile,
        Self::Parquet,
        Self::Csv,
        Self::Ndjson,
        Self::JsonRows,
        Self::JsonColumns,
    ];

    /// The format of what is written in `codec`, if that can be a table. Plain JSON counts as rows.
    #[must_use]
    pub fn of(codec: Codec) -> Option<Self> {
        match codec {
            Codec::ArrowStream => Some(Self::ArrowStream),
            Codec::ArrowFile => Some(Self::ArrowFile),
            Codec::Parquet => Some(Self::Parquet),
            Codec::Csv => Some(Self::Csv),
            Codec::Ndjson => Some(Self::Ndjson),
            Codec::Json | Codec::JsonRows => Some(Self::JsonRows),
            Codec::JsonColumns => Some(Self::JsonColumns),
            Codec::Empty
            | Codec::Value
            | Codec::Arguments
            | Codec::Npy
            | Codec::Bytes
            | Codec::Text
            | Codec::Form
            | Codec::Multipart
            | Codec::Events => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ArrowStream => "Arrow stream",
            Self::ArrowFile => "Arrow file",
            Self::Parquet => "Parquet",
            Self::Csv => "CSV",
            Self::Ndjson => "NDJSON",
            Self::JsonRows | Self::JsonColumns => "JSON",
        })
    }
}
