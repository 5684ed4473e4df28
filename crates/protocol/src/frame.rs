//! Headers and heads: the fixed part of each frame (sections 2 and 4).

use bytes::{Buf, BufMut, BytesMut};
use exuvia_core::{Codec, MAX_ATTACHED, TraceContext};

use crate::ProtocolError;

/// Bytes of a frame's header.
pub const HEADER: usize = 16;
/// Bytes of a call's head, without trace context and text arguments.
pub const CALL_HEAD: usize = 40;
/// Bytes of a result's head.
pub const RESULT_HEAD: usize = 24;
/// Bytes of a trace context.
pub const TRACE: usize = 25;

/// The payload goes on in `DATA` frames.
pub const MORE: u8 = 1;
/// The payload will not go on.
pub const ABORT: u8 = 2;

/// In a head: the payload is memory, by the first descriptor (section 10).
pub const SHARED: u8 = 1;
/// In a call's head: the payload is read from a socket, the descriptor.
pub const FED: u8 = 2;
/// In a call's head: a streamed result is taken. In a result's: it is one.
pub const STREAMS: u8 = 4;

/// What a frame is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the table in section 2 of the page says each")]
pub enum Kind {
    Hello = 1,
    Ready = 2,
    Call = 3,
    Result = 4,
    Failure = 5,
    Data = 6,
    Credit = 7,
    Cancel = 8,
    Cancelling = 9,
    Drain = 10,
    End = 11,
}

/// The first 16 bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the body.
    pub length: u32,
    /// What the frame is about.
    pub kind: Kind,
    /// [`MORE`], [`ABORT`].
    pub flags: u8,
    /// The call's place in the status page.
    pub slot: u16,
    /// The call.
    pub call: u64,
}

/// The fixed part of a `CALL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallHead {
    /// The handler's place in `READY`.
    pub handler: u32,
    /// How the payload is written down.
    pub codec: Codec,
    /// How the answer shall be written down.
    pub accept: Codec,
    /// Time left in milliseconds; 0: no limit.
    pub time_left_ms: u32,
    /// The id people see.
    pub public_id: u64,
    /// The caller's trace.
    pub trace: Option<TraceContext>,
    /// [`SHARED`], [`FED`], [`STREAMS`].
    pub flags: u8,
    /// How many descriptors belong to the call.
    pub descriptors: u8,
}

/// The fixed part of a `RESULT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultHead {
    /// How the payload is written down.
    pub codec: Codec,
    /// [`SHARED`], [`STREAMS`].
    pub flags: u8,
    /// How many descriptors belong to the result.
    pub descriptors: u8,
    /// How long the handler ran, in nanoseconds.
    pub run_ns: u64,
}

// === impl Kind ===

impl Kind {
    /// The kind with this number.
    #[must_use]
    pub fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Ready,
            3 => Self::Call,
            4 => Self::Result,
            5 => Self::Failure,
            6 => Self::Data,
            7 => Self::Credit,
            8 => Self::Cancel,
            9 => Self::Cancelling,
            10 => Self::Drain,
            11 => Self::End,
            _ => return None,
        })
    }

    /// Which flags a frame of this kind may carry.
    fn allowed_flags(self) -> u8 {
        match self {
            Self::Call | Self::Result => MORE,
            Self::Data => MORE | ABORT,
            _ => 0,
        }
    }
}

// === impl Header ===

impl Header {
    /// Reads a header; `bytes` holds at least [`HEADER`] bytes.
    pub(crate) fn read(mut bytes: &[u8]) -> Result<Self, ProtocolError> {
        let length = bytes.get_u32_le();
        let number = bytes.get_u8();
        let flags = bytes.get_u8();
        let slot = bytes.get_u16_le();
        let call = bytes.get_u64_le();
        let kind = Kind::from_wire(number)
            .ok_or(ProtocolError::Frame { kind: number, what: "there is no such kind" })?;
        if flags & !kind.allowed_flags() != 0 || flags == (MORE | ABORT) {
            return Err(ProtocolError::Frame { kind: number, what: "flags that it cannot carry" });
        }
        let about_a_call = !matches!(kind, Kind::Hello | Kind::Ready | Kind::Drain);
        if about_a_call != (call != 0) {
            return Err(ProtocolError::Frame { kind: number, what: "call id" });
        }
        Ok(Self { length, kind, flags, slot, call })
    }

    /// Writes the header.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[5] = self.flags;
        bytes[6..8].copy_from_slice(&self.slot.to_le_bytes());
        bytes[8..].copy_from_slice(&self.call.to_le_bytes());
        out.put_slice(&bytes);
    }
}

// === impl CallHead ===

/// A call's head and what it says of the rest of the frame.
pub(crate) struct ReadCallHead {
    pub(crate) head: CallHead,
    pub(crate) text_length: usize,
    pub(crate) payload_length: u64,
}

impl CallHead {
    /// Reads the head at the start of `bytes` and leaves them behind it.
    pub(crate) fn read(bytes: &mut &[u8]) -> Result<ReadCallHead, ProtocolError> {
        const KIND: u8 = Kind::Call as u8;
        let wrong = |what| ProtocolError::Frame { kind: KIND, what };
        if bytes.len() < CALL_HEAD {
            return Err(wrong("shorter than its head"));
        }
        let handler = bytes.get_u32_le();
        let codec = Codec::from_wire(bytes.get_u8()).ok_or(wrong("codec"))?;
        let accept = Codec::from_wire(bytes.get_u8()).ok_or(wrong("codec of the answer"))?;
        let has_trace = bytes.get_u8();
        let zero = bytes.get_u8();
        let time_left_ms = bytes.get_u32_le();
        let text_length = bytes.get_u32_le() as usize;
        let payload_length = bytes.get_u64_le();
        let public_id = bytes.get_u64_le();
        let (flags, descriptors) = (bytes.get_u8(), bytes.get_u8());
        let reserved = bytes.get_uint_le(6);
        if has_trace > 1 || zero != 0 || reserved != 0 {
            return Err(wrong("reserved bytes"));
        }
        fits(flags, SHARED | FED | STREAMS, descriptors).map_err(wrong)?;
        let trace = match has_trace {
            0 => None,
            _ if bytes.len() < TRACE => return Err(wrong("shorter than its trace context")),
            _ => {
                let mut trace = TraceContext { trace_id: [0; 16], span_id: [0; 8], flags: 0 };
                bytes.copy_to_slice(&mut trace.trace_id);
                bytes.copy_to_slice(&mut trace.span_id);
                trace.flags = bytes.get_u8();
                Some(trace)
            }
        };
        if bytes.len() < text_length {
            return Err(wrong("shorter than its text arguments"));
        }
        let head =
            Self { handler, codec, accept, time_left_ms, public_id, trace, flags, descriptors };
        Ok(ReadCallHead { head, text_length, payload_length })
    }

    /// Bytes of the head with its trace context.
    pub(crate) fn length(&self) -> usize {
        CALL_HEAD + if self.trace.is_some() { TRACE } else { 0 }
    }

    /// Writes the head.
    pub(crate) fn write(&self, text_length: u32, payload_length: u64, out: &mut BytesMut) {
        let mut bytes = [0; CALL_HEAD];
        bytes[..4].copy_from_slice(&self.handler.to_le_bytes());
        bytes[4] = self.codec as u8;
        bytes[5] = self.accept as u8;
        bytes[6] = u8::from(self.trace.is_some());
        bytes[8..12].copy_from_slice(&self.time_left_ms.to_le_bytes());
        bytes[12..16].copy_from_slice(&text_length.to_le_bytes());
        bytes[16..24].copy_from_slice(&payload_length.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.public_id.to_le_bytes());
        bytes[32] = self.flags;
        bytes[33] = self.descriptors;
        out.put_slice(&bytes);
        if let Some(trace) = &self.trace {
            out.put_slice(&trace.trace_id);
            out.put_slice(&trace.span_id);
            out.put_u8(trace.flags);
        }
    }
}

// === impl ResultHead ===

/// A result's head and what it says of the rest of the frame.
pub(crate) struct ReadResultHead {
    pub(crate) head: ResultHead,
    pub(crate) copies_length: usize,
    pub(crate) payload_length: u64,
}

impl ResultHead {
    /// A head of a result without memory.
    #[must_use]
    pub fn new(codec: Codec, run_ns: u64) -> Self {
        Self { codec, flags: 0, descriptors: 0, run_ns }
    }

    /// Reads the head at the start of `bytes` and leaves them behind it.
    pub(crate) fn read(bytes: &mut &[u8]) -> Result<ReadResultHead, ProtocolError> {
        const KIND: u8 = Kind::Result as u8;
        let wrong = |what| ProtocolError::Frame { kind: KIND, what };
        if bytes.len() < RESULT_HEAD {
            return Err(wrong("shorter than its head"));
        }
        let codec = Codec::from_wire(bytes.get_u8()).ok_or(wrong("codec"))?;
        let (flags, descriptors, zero) = (bytes.get_u8(), bytes.get_u8(), bytes.get_u8());
        if zero != 0 {
            return Err(wrong("reserved bytes"));
        }
        fits(flags, SHARED | STREAMS, descriptors).map_err(wrong)?;
        let copies_length = bytes.get_u32_le() as usize;
        let run_ns = bytes.get_u64_le();
        let payload_length = bytes.get_u64_le();
        if bytes.len() < copies_length {
            return Err(wrong("shorter than its copies"));
        }
        let head = Self { codec, flags, descriptors, run_ns };
        Ok(ReadResultHead { head, copies_length, payload_length })
    }

    /// Writes the head.
    pub(crate) fn write(&self, copies_length: u32, payload_length: u64, out: &mut BytesMut) {
        let mut bytes = [0; RESULT_HEAD];
        bytes[0] = self.codec as u8;
        bytes[1] = self.flags;
        bytes[2] = self.descriptors;
        bytes[4..8].copy_from_slice(&copies_length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.run_ns.to_le_bytes());
        bytes[16..].copy_from_slice(&payload_length.to_le_bytes());
        out.put_slice(&bytes);
    }
}

/// Whether flags and number of descriptors can stand together.
fn fits(flags: u8, allowed: u8, descriptors: u8) -> Result<(), &'static str> {
    if flags & !allowed != 0 {
        return Err("flags that it cannot carry");
    }
    let number = match flags & (SHARED | FED) {
        0 => 0..=MAX_ATTACHED,
        SHARED => 1..=MAX_ATTACHED + 1,
        FED => 1..=1,
        _ => return Err("flags that it cannot carry"),
    };
    match number.contains(&usize::from(descriptors)) {
        true => Ok(()),
        false => Err("number of descriptors"),
    }
}
