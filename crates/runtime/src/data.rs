//! A call's data as it arrived: bytes from the socket, or memory of the host's.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, OnceLock},
};

use arrow_buffer::Buffer;
use bytes::Bytes;
use exuvia_core::{Codec, Copied};
use exuvia_protocol::{Incoming, frame::FED};
use exuvia_sys::Sealed;

use crate::tables::Origin;

/// A payload on this side.
pub struct Data {
    pub(crate) codec: Codec,
    bytes: Bytes,
    memory: Option<Sealed>,
    attached: Vec<Attached>,
    /// A socket from which the data comes instead.
    pub(crate) feed: Option<OwnedFd>,
}

/// A table or tensor beside the payload, mapped when it is first looked at.
struct Attached {
    memory: Sealed,
    buffer: OnceLock<Buffer>,
}

// === impl Data ===

impl Data {
    /// Takes what came, and looks whether its memory can be trusted to stay as it is.
    pub(crate) fn arrived(codec: Codec, came: Incoming, flags: u8) -> io::Result<Self> {
        let mut data =
            Self { codec, bytes: came.bytes, memory: None, attached: Vec::new(), feed: None };
        let mut descriptors = came.descriptors.into_iter();
        if flags & FED != 0 {
            data.feed = descriptors.next();
        }
        if let Some(length) = came.shared {
            let first = descriptors.next().ok_or(io::ErrorKind::UnexpectedEof)?;
            let memory = Sealed::open(Arc::new(first), length)?;
            data.bytes = memory.bytes()?;
            data.memory = Some(memory);
        }
        for descriptor in descriptors {
            let length = rustix::fs::fstat(&descriptor)?.st_size;
            let length = u64::try_from(length).unwrap_or(0);
            let memory = Sealed::open(Arc::new(descriptor), length)?;
            data.attached.push(Attached { memory, buffer: OnceLock::new() });
        }
        Ok(data)
    }

    /// Bytes that are here.
    pub(crate) fn whole(codec: Codec, bytes: Bytes) -> Self {
        Self { codec, bytes, memory: None, attached: Vec::new(), feed: None }
    }

    /// The bytes, to be shared and no more.
    pub(crate) fn content(&self) -> Bytes {
        self.bytes.clone()
    }

    /// A payload in the hands of whoever called: its result.
    pub fn of(payload: &exuvia_core::Payload) -> io::Result<Self> {
        let open =
            |region: &exuvia_core::Region| Sealed::open(region.memory.clone(), region.length);
        let attached = payload
            .attached
            .iter()
            .map(|region| Ok(Attached { memory: open(region)?, buffer: OnceLock::new() }));
        Ok(Self {
            codec: payload.codec,
            bytes: payload.body.clone(),
            memory: payload.region.as_ref().map(open).transpose()?,
            attached: attached.collect::<io::Result<_>>()?,
            feed: None,
        })
    }

    /// The bytes, to be read and no more.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes as a private, writable map; few bytes are copied into one.
    pub(crate) fn buffer(&self, copies: &mut Vec<Copied>) -> io::Result<Buffer> {
        if self.bytes.is_empty() {
            return Ok(Buffer::from(Bytes::new()));
        }
        match &self.memory {
            Some(memory) => Origin::mapped(memory),
            None => {
                let why = "it is small, so it came through the socket";
                let bytes = self.bytes.len() as u64;
                copies.push(Copied { what: "the data".into(), bytes, why: why.into() });
                private(&self.bytes)
            }
        }
    }

    /// What is attached under a number.
    pub(crate) fn attached(&self, number: usize) -> io::Result<Option<Buffer>> {
        let Some(attached) = self.attached.get(number) else { return Ok(None) };
        if let Some(buffer) = attached.buffer.get() {
            return Ok(Some(buffer.clone()));
        }
        let buffer = match attached.memory.length() {
            0 => Buffer::from(Bytes::new()),
            _ => Origin::mapped(&attached.memory)?,
        };
        Ok(Some(attached.buffer.get_or_init(|| buffer).clone()))
    }
}

/// A copy of `bytes` that may be written to.
pub(crate) fn private(bytes: &[u8]) -> io::Result<Buffer> {
    Origin::copied(bytes)
}
