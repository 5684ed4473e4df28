//! The data of a call.

use std::{os::fd::OwnedFd, sync::Arc};

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
    /// A table as an Arrow IPC stream.
    ArrowStream = 5,
    /// A table as an Arrow IPC file (Feather version 2).
    ArrowFile = 6,
    /// A table as Parquet.
    Parquet = 7,
    /// A table as CSV (RFC 4180) with a header.
    Csv = 8,
    /// A table as a JSON list of objects, one per row.
    JsonRows = 9,
    /// A table as a JSON object of lists, one per column.
    JsonColumns = 10,
    /// A tensor as NumPy's `.npy`.
    Npy = 11,
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Empty,
        Self::Json,
        Self::Ndjson,
        Self::Value,
        Self::Arguments,
        Self::ArrowStream,
        Self::ArrowFile,
        Self::Parquet,
        Self::Csv,
        Self::JsonRows,
        Self::JsonColumns,
        Self::Npy,
    ];

    /// The codec with this number on the wire.
    #[must_use]
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The media type an HTTP answer in this codec carries.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::Json | Self::JsonRows | Self::JsonColumns => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Value | Self::Arguments => "application/vnd.exuvia.value+msgpack",
            Self::ArrowStream => "application/vnd.apache.arrow.stream",
            Self::ArrowFile => "application/vnd.apache.arrow.file",
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Csv => "text/csv",
            Self::Npy => "application/x-npy",
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
    /// The same bytes as memory that another process can map, where they lie in such.
    pub region: Option<Region>,
    /// Tables and tensors that `body` refers to by number.
    pub attached: Vec<Region>,
}

/// Sealed memory by descriptor: what is in it can change no more, and any process that is given the
/// descriptor can map it.
#[derive(Debug, Clone)]
pub struct Region {
    /// A memfd. Whoever takes one from outside checks its seals.
    pub memory: Arc<OwnedFd>,
    /// Bytes of it that count, from the start.
    pub length: u64,
}

/// Above this many bytes a payload crosses as a [`Region`] instead of through the socket.
pub const SHARED_FROM: usize = 64 << 10;

/// [`Region`]s that may be attached to one payload, at most.
pub const MAX_ATTACHED: usize = 64;

// === impl Payload ===

impl Payload {
    /// A payload of `body` in `codec`.
    #[must_use]
    pub fn new(codec: Codec, body: impl Into<Bytes>) -> Self {
        Self { codec, body: body.into(), ..Self::default() }
    }

    /// A JSON payload.
    #[must_use]
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self::new(Codec::Json, body)
    }

    /// Bytes of it and of all that is attached.
    #[must_use]
    pub fn size(&self) -> u64 {
        let attached = self.attached.iter().map(|region| region.length);
        attached.fold(self.body.len() as u64, u64::saturating_add)
    }
}

// === impl Region ===

impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory) && self.length == other.length
    }
}

impl Eq for Region {}
