//! Parquet.
//!
//! The library believes what the file says of its own sizes. So they are read here first, and
//! compared with the bytes that are there and with the limits: [`footer`] looks at the end of the
//! file, [`hint`] at the Arrow schema in it, [`pages`] at the header of every page.

mod categories;
mod delta;
mod footer;
mod group;
mod hint;
mod pages;
mod read;
mod stored;
mod thrift;
mod write;

pub(crate) use read::read;
pub(crate) use write::ParquetWriter;
