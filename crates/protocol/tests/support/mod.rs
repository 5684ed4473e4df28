//! What the tests share: raw frames, a greeted connection, numbers by seed.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod data;
pub(crate) mod ledger;
pub(crate) mod pipe;
pub(crate) mod world;

use bytes::{Buf, Bytes};
use exuvia_core::Codec;
use exuvia_protocol::{
    Connection, Event, Hello, Limits, ProtocolError, Ready, Role,
    frame::{HEADER, Kind, STREAMS},
};
use proptest::{
    strategy::{BoxedStrategy, Strategy},
    test_runner::{Config, FileFailurePersistence},
};

/// The number of cases: `default`, or `PROPTEST_CASES` where that is set.
pub(crate) fn cases(default: u32) -> Config {
    let mut config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = default;
    }
    config.failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")));
    config
}

/// A number whose size in bits is uniform: small ones and large ones are equally common.
pub(crate) fn any_size(range: std::ops::RangeInclusive<u32>) -> BoxedStrategy<u32> {
    let (low, high) = (*range.start(), *range.end());
    let bits = 32 - low.leading_zeros()..=32 - high.leading_zeros();
    bits.prop_flat_map(move |bits| {
        let (from, to) =
            if bits == 0 { (0, 0) } else { (1 << (bits - 1), u32::MAX >> (32 - bits)) };
        from.max(low)..=to.min(high)
    })
    .boxed()
}

/// Splitmix64: repeatable choices from a seed.
pub(crate) struct Choices(pub(crate) u64);

impl Choices {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    /// How much to move at a time: often a few bytes, seldom a lot.
    pub(crate) fn chunk(&mut self, most: usize) -> usize {
        let most = if self.below(4) == 0 { 16 } else { most.max(1) };
        1 + self.below(most)
    }
}

/// Bytes that are different in each place and for each seed.
pub(crate) fn noise(seed: u64, length: usize) -> Bytes {
    let mut choices = Choices(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&choices.number().to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

/// A frame as it is on the wire.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) slot: u16,
    pub(crate) call: u64,
    pub(crate) body: Vec<u8>,
}

/// A frame with no flags in slot 0.
pub(crate) fn frame(kind: Kind, call: u64, body: impl Into<Vec<u8>>) -> RawFrame {
    RawFrame { kind: kind as u8, flags: 0, slot: 0, call, body: body.into() }
}

impl RawFrame {
    pub(crate) fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = (self.body.len() as u32).to_le_bytes().to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.slot.to_le_bytes());
        bytes.extend(self.call.to_le_bytes());
        bytes.extend(&self.body);
        bytes
    }

    /// Takes a whole frame from the front of `bytes`, if there is one.
    pub(crate) fn take(bytes: &mut impl Buf) -> Option<Self> {
        let length = u32::from_le_bytes(bytes.chunk().get(..4)?.try_into().ok()?) as usize;
        if bytes.remaining() < HEADER + length {
            return None;
        }
        bytes.advance(4);
        let (kind, flags, slot) = (bytes.get_u8(), bytes.get_u8(), bytes.get_u16_le());
        let call = bytes.get_u64_le();
        Some(Self { kind, flags, slot, call, body: bytes.copy_to_bytes(length).to_vec() })
    }

    /// Every frame of `bytes`, which end with one.
    pub(crate) fn all(mut bytes: &[u8]) -> Vec<Self> {
        let frames = std::iter::from_fn(|| Self::take(&mut bytes)).collect();
        assert!(bytes.is_empty(), "what is written are whole frames");
        frames
    }
}

/// The head of a `CALL` without trace context, and what follows it.
pub(crate) fn call_body(text: &[u8], payload_length: u64, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 40];
    body[4] = Codec::Value as u8;
    body[5] = Codec::Json as u8;
    body[12..16].copy_from_slice(&(text.len() as u32).to_le_bytes());
    body[16..24].copy_from_slice(&payload_length.to_le_bytes());
    body.extend(text);
    body.extend(rest);
    body
}

/// The head of a `RESULT` and what follows it.
pub(crate) fn result_body(payload_length: u64, rest: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 24];
    body[0] = Codec::Json as u8;
    body[16..].copy_from_slice(&payload_length.to_le_bytes());
    body.extend(rest);
    body
}

/// The head of a `RESULT` that begins a stream.
pub(crate) fn stream_body() -> Vec<u8> {
    let mut body = result_body(0, b"");
    body[1] = STREAMS;
    body
}

pub(crate) fn hello_frame(hello: &Hello) -> RawFrame {
    frame(Kind::Hello, 0, rmp_serde::to_vec_named(hello).expect("a greeting can be written"))
}

pub(crate) fn ready_frame() -> RawFrame {
    let ready = Ready::Handlers(Vec::new(), Vec::new());
    frame(Kind::Ready, 0, rmp_serde::to_vec_named(&ready).expect("handlers can be written"))
}

/// The other end's role.
pub(crate) fn other(role: Role) -> Role {
    if role == Role::Host { Role::Worker } else { Role::Host }
}

/// The first id that an end may give to a call.
pub(crate) fn first_id(role: Role) -> u64 {
    if role == Role::Host { 2 } else { 1 }
}

/// A connection that has greeted and was greeted by a peer with `theirs`, and is ready.
pub(crate) fn connected(role: Role, ours: Limits, theirs: Limits) -> Connection {
    // The greetings and READY go by themselves, whatever the limits of the test.
    let mut connection = Connection::new(role, ours);
    let mut bytes = hello_frame(&Hello::new(theirs)).bytes();
    match role {
        Role::Host => bytes.extend(ready_frame().bytes()),
        Role::Worker => connection.ready(&Ready::Handlers(Vec::new(), Vec::new())).expect("fits"),
    }
    let events = say(&mut connection, &bytes).expect("a good handshake");
    assert_eq!(events.len(), if role == Role::Host { 2 } else { 1 });
    connection.outbound().clear();
    connection
}

/// Feeds `bytes` and takes every event.
pub(crate) fn say(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<Event>, ProtocolError> {
    connection.inbound().extend_from_slice(bytes);
    let mut events = Vec::new();
    while let Some(event) = connection.next_event()? {
        events.push(event);
    }
    Ok(events)
}

/// Feeds one frame and takes every event.
pub(crate) fn tell(
    connection: &mut Connection,
    frame: &RawFrame,
) -> Result<Vec<Event>, ProtocolError> {
    say(connection, &frame.bytes())
}

/// Everything that is to be written now.
pub(crate) fn written(connection: &mut Connection) -> Bytes {
    connection.outbound().split().freeze()
}
