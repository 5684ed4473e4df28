//! The Value format: MessagePack, with the extension types of `docs/values.md`.

mod crowd;
mod decode;
mod decode_ext;
mod encode;
mod encode_ext;
mod ext;

pub use decode::{decode_value, decode_value_with};
pub use encode::{encode_value, encode_value_with};
