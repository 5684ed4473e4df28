//! The data of a call.

use bytes::Bytes;

/// How the bytes of a [`Payload`] are written down.
///
/// The numbers are part of the protocol (`docs/protocol.md`) and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Codec {
    /// No data at all.
    #[default]
    Empty = 0,
    /// One JSON document (RFC 8259).
    Json = 1,
    /// One JSON document per line.
    Ndjson = 2,
    /// One value in MessagePack with the extension types of `docs/values.md`: nothing is lost.
    Value = 3,
    /// The arguments of a Python call, `[[positional...], {keyword: value}]`, written as [`Codec::Value`].
    Arguments = 4,
}

impl Codec {
    /// The codec with this number on the wire.
    #[must_use]
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Empty),
            1 => Some(Self::Json),
            2 => Some(Self::Ndjson),
            3 => Some(Self::Value),
            4 => Some(Self::Arguments),
            _ => None,
        }
    }

    /// The media type an HTTP answer in this codec carries.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Value | Self::Arguments => "application/vnd.exuvia.value+msgpack",
        }
    }
}

/// Bytes and how to read them. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Payload {
    /// How `body` is written down.
    pub codec: Codec,
    /// The bytes themselves, opaque to the host.
    pub body: Bytes,
}

impl Payload {
    /// A payload of `body` in `codec`.
    #[must_use]
    pub fn new(codec: Codec, body: impl Into<Bytes>) -> Self {
        Self { codec, body: body.into() }
    }

    /// A JSON payload.
    #[must_use]
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::new(Codec::Json, body)
    }
}
