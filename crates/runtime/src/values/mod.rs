//! Python objects to bytes and back, with no tree in between.
//!
//! Two formats. **Value** is MessagePack with the extension types of `docs/values.md`: what goes in
//! comes out equal and of the same type, and it is what Exuvia's own parts speak. **JSON** is for
//! the edge, where the outside speaks it; there a lossless mapping is not always to be had, and
//! `docs/values.md` says which one is used.
//!
//! Every function here needs the interpreter attached and answers with an error rather than a
//! panic, whatever bytes it is given. What Python itself raises meanwhile is handed on as it is.

mod error;
mod json;
mod keys;
pub(crate) mod object;
pub mod python;
mod value;

pub use error::{DecodeError, Malformed, Misfit, Position, Unfit};
pub use json::{decode_json, decode_ndjson, encode_json, encode_ndjson};
pub use value::{decode_value, decode_value_with, encode_value, encode_value_with};

pub(crate) use json::{Decoder, is_plain_array, malformed, without_mark};
pub(crate) use keys::Keys;
pub(crate) use object::{Lazy, exact, new, type_name};

/// How many containers may stand inside one another, in either format and either direction.
///
/// It bounds the native stack these converters use, and it is how a list that contains itself is
/// noticed.
pub const MAX_DEPTH: u32 = 255;

/// What [`encode_value`] may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Whether an object outside the value model may go as a pickle, opaque to everything between
    /// the two interpreters. Only for readers that trust the writer.
    pub pickle: bool,
}

/// What [`decode_value`] may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Whether pickles are read. Reading one runs whatever code it names: never for bytes from
    /// outside the trust boundary.
    pub pickle: bool,
}
