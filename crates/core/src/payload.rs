//! The data of a call.

use std::{
    fmt,
    future::poll_fn,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::Failure;

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
    /// Bytes that are nothing more: a file, an image.
    Bytes = 12,
    /// Text in UTF-8 that is nothing more.
    Text = 13,
    /// Arguments as text: `application/x-www-form-urlencoded`. Of calls only.
    Form = 14,
    /// Arguments as text and files: `multipart/form-data`. Of calls only.
    Multipart = 15,
    /// Server-sent events: `text/event-stream`. Of results only.
    Events = 16,
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Self; 17] = [
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
        Self::Bytes,
        Self::Text,
        Self::Form,
        Self::Multipart,
        Self::Events,
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
            Self::Bytes => "application/octet-stream",
            Self::Text => "text/plain; charset=utf-8",
            Self::Form => "application/x-www-form-urlencoded",
            Self::Multipart => "multipart/form-data",
            Self::Events => "text/event-stream",
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
    /// Of a call: a socket from which the data comes instead, as section 10 of `docs/protocol.md`
    /// says. A handler that reads may begin before all of it is there.
    pub feed: Option<Feed>,
    /// Of a result: what follows `body`, as it is made.
    pub rest: Option<Rest>,
}

/// The reading end of a socket, for a worker.
#[derive(Debug, Clone)]
pub struct Feed(pub Arc<OwnedFd>);

/// Pieces of a result that are still being made. Who asks for none stops the handler; dropping all
/// clones ends the call.
#[derive(Clone)]
pub struct Rest(Arc<Mutex<dyn Pieces>>);

/// Where [`Rest`] has its pieces from.
pub trait Pieces: Send {
    /// The next piece; `None` after the last, or an error where the call failed on the way.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<Failure>>>>;
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

    /// A payload whose bytes lie in `memory`, from its start; `body` is a view of them.
    #[must_use]
    pub fn in_memory(codec: Codec, memory: Arc<OwnedFd>, body: Bytes) -> Self {
        let region = Some(Region { memory, length: body.len() as u64 });
        Self { region, ..Self::new(codec, body) }
    }

    /// Bytes of it and of all that is attached.
    #[must_use]
    pub fn size(&self) -> u64 {
        let attached = self.attached.iter().map(|region| region.length);
        attached.fold(self.body.len() as u64, u64::saturating_add)
    }
}

// === impl Rest ===

impl Rest {
    /// Pieces that are asked for by whoever has the result.
    pub fn new(pieces: impl Pieces + 'static) -> Self {
        Self(Arc::new(Mutex::new(pieces)))
    }

    /// Asks for the next piece: see [`Pieces::poll_next`].
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Box<Failure>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_next(cx)
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// The call failed on the way.
    pub async fn next(&self) -> Option<Result<Bytes, Box<Failure>>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rest")
    }
}

impl PartialEq for Rest {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Rest {}

// === impl Feed ===

impl PartialEq for Feed {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Feed {}

// === impl Region ===

impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory) && self.length == other.length
    }
}

impl Eq for Region {}
