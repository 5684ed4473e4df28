//! JSON at the edge, whole documents and one per line. `docs/values.md` has the mapping.

mod convert;
mod decode;
mod encode;
mod iso;
mod lines;
mod nulls;
mod shape;
mod table;
mod text;

pub(crate) use convert::is_plain_array;
pub use decode::decode_json;
pub(crate) use decode::{Decoder, malformed, without_mark};
pub use encode::encode_json;
pub use lines::{decode_ndjson, encode_ndjson};
