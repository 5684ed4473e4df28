//! JSON: rows, columns, and a row per line.

mod guess;
mod lines;
mod read;
mod write;

pub(crate) use lines::LineReader;
pub(crate) use read::read;
pub(crate) use write::JsonWriter;
