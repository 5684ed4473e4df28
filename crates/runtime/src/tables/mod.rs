//! Arrow tables in the interpreter: [`Table`], its [`Column`]s, and the ways in and out.
//!
//! Everything crosses by the Arrow PyCapsule interface (`capsule.rs`, `stream.rs`, `foreign.rs`),
//! which copies nothing; no library of Python's is needed or imported here. What a mapped payload
//! becomes is in `memory.rs`, plain Python objects in `items.rs`, `infer.rs`, `build.rs` and
//! `nest.rs`, and the way back in `objects.rs`.

mod build;
mod capsule;
mod column;
mod dictionary;
mod field;
mod foreign;
mod infer;
mod items;
mod lazy;
mod memory;
mod nest;
mod objects;
mod rows;
mod series;
mod stream;
mod table;
mod times;
mod types;
mod uniform;
mod values;

pub use column::Column;
pub use field::Field;
pub use lazy::{Stream, consume, consume_into_python, produce, produce_from_python};
pub use memory::{Origin, mapped, publish};
pub use rows::from_rows_or_columns;
pub use series::{series_from_python, series_of};
pub use table::Table;
pub use values::Values;
