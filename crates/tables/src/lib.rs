//! Tables as bytes: Arrow IPC, Parquet, CSV and JSON to record batches, and back.
//!
//! This crate knows no Python and no processes. What it reads comes from outside and may be
//! hostile: whatever the bytes are, reading them ends in a [`Table`] or in a [`ReadError`], and
//! makes not much more memory than [`Limits::max_bytes`] of them.
//!
//! * [`read`]: a whole table at once; uncompressed Arrow IPC stays where it lies;
//! * [`open`]: batch by batch, while the bytes still come;
//! * [`write()`], [`Writer`]: a whole table, or one batch after the other;
//! * [`ipc_parts`]: a table as an Arrow IPC stream, its columns not copied;
//! * [`diff`]: what distinguishes two schemas, in words;
//! * [`type_name`]: what a type is called;
//! * [`series`]: unit and gaps of time series, as metadata.
#![forbid(unsafe_code)]

mod buffers;
mod csv;
mod decimals;
mod dictionaries;
mod diff;
mod error;
mod format;
mod ipc;
mod iso;
mod json;
mod lz4;
mod names;
mod open;
mod parquet;
mod quiet;
mod read;
mod schema;
pub mod series;
mod table;
mod write;

pub use exuvia_core::Copied;

pub use diff::{SchemaDiff, diff};
pub use error::{ReadError, WriteError};
pub use format::Format;
pub use ipc::parts::{Parts, ipc_parts};
pub use names::{type_kind, type_name, unit_name};
pub use open::open;
pub use read::{Read, read};
pub use table::{Limits, Table};
pub use write::{Writer, write};
