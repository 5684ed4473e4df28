//! CSV with a header (RFC 4180).

mod guess;
mod read;
mod rows;
mod write;

pub(crate) use read::{CsvReader, read};
pub(crate) use write::CsvWriter;
