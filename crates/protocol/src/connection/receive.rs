//! The reading half: frames in, events out (sections 3 to 5).

use std::os::fd::OwnedFd;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use exuvia_core::{Copied, Failure};

use super::{Connection, Event, Incoming, IncomingCall, IncomingResult, Role};
use crate::{
    Hello, ProtocolError,
    frame::{
        ABORT, CALL_HEAD, CallHead, FED, HEADER, Header, Kind, MORE, ResultHead, SHARED, STREAMS,
    },
    message,
};

/// Payloads that may be incomplete at a time.
const MAX_INCOMPLETE: usize = 65_536;
/// Bytes of incomplete payloads from which on only the one begun first gets credit.
const HELD: usize = 256 << 20;
/// Bytes of incomplete payloads, at most, beside one of the longest: a peer that gets there sends
/// thousands at a time.
const HELD_MOST: u64 = 512 << 20;
/// Descriptors of incomplete payloads, at most in sum.
const MAX_DESCRIPTORS: usize = 1024;
/// A piece of a streamed result that is shorter than this is copied.
const SMALL: usize = 8 << 10;
/// Call ids are below this: they share a word of the status page with a state.
const ID_END: u64 = 1 << 61;
/// Body of a frame that a peer takes, at least: room for every head and for a failure without its
/// texts.
const LEAST_FRAME: u32 = 2 * CALL_HEAD as u32;

/// A payload that is not wholly read.
#[derive(Debug)]
pub(super) struct Receiving {
    slot: u16,
    head: PayloadOf,
    descriptors: Vec<OwnedFd>,
    body: BytesMut,
    /// Bytes of the payload that came; more than `body` has once the call was answered.
    have: u64,
    length: u64,
    /// We refused the call before it was complete: what still comes of it is thrown away.
    answered: bool,
    /// Bytes the peer may still send before it needs more credit.
    granted: u64,
}

/// A streamed result of a call of ours.
#[derive(Debug)]
pub(super) struct Inflow {
    /// Bytes the peer may still send before it needs more credit.
    pub(super) granted: u64,
}

/// What a payload belongs to.
#[derive(Debug)]
enum PayloadOf {
    Call(CallHead, Vec<(String, String)>),
    Result(ResultHead, Vec<Copied>),
}

// === impl Connection ===

impl Connection {
    pub(super) fn read_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        while self.inbound.len() >= HEADER {
            let header = Header::read(&self.inbound)?;
            let length = header.length as usize;
            if header.length > self.limits.max_frame {
                return Err(ProtocolError::TooLong {
                    length: header.length.into(),
                    limit: self.limits.max_frame.into(),
                });
            }
            self.may_come(&header)?;
            if self.inbound.len() < HEADER + length {
                self.inbound.reserve(HEADER + length - self.inbound.len());
                return Ok(None);
            }
            self.inbound.advance(HEADER);
            let body = self.inbound.split_to(length).freeze();
            if let Some(event) = self.event(&header, body)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Section 3: greetings first, and no call before the worker is ready.
    fn may_come(&mut self, header: &Header) -> Result<(), ProtocolError> {
        let unexpected = |what| {
            Err(ProtocolError::Unexpected { kind: header.kind as u8, call: header.call, what })
        };
        match (header.kind, self.role) {
            (Kind::Hello, _) if self.peer.is_some() => unexpected("greeted already"),
            (Kind::Hello, _) => Ok(()),
            _ if self.peer.is_none() => unexpected("not greeted yet"),
            (Kind::Ready, Role::Worker) => unexpected("only a worker is ready"),
            (Kind::Ready, Role::Host) if self.ready => unexpected("ready already"),
            (Kind::Ready, Role::Host) => Ok(()),
            (Kind::Drain, Role::Host) => unexpected("only a host drains"),
            // A host may give up a worker that still imports.
            (Kind::Drain, Role::Worker) => Ok(()),
            _ if !self.ready => unexpected("the worker is not ready yet"),
            (Kind::Call, role) if self.is_ours(header.call) => {
                unexpected(if role == Role::Host { "even id" } else { "odd id" })
            }
            (Kind::Call, _) if header.call <= self.last_call || header.call >= ID_END => {
                unexpected("its id does not rise, or is too large")
            }
            (Kind::Result | Kind::Failure | Kind::Cancelling | Kind::End, _)
                if !self.is_ours(header.call) =>
            {
                unexpected("not our call")
            }
            (Kind::Cancel, _) if self.is_ours(header.call) => unexpected("our call"),
            _ => Ok(()),
        }
    }

    fn is_ours(&self, call: u64) -> bool {
        (call & 1 == 0) == (self.role == Role::Host)
    }

    fn event(&mut self, header: &Header, body: Bytes) -> Result<Option<Event>, ProtocolError> {
        let kind = header.kind as u8;
        let (call, slot) = (header.call, header.slot);
        match header.kind {
            Kind::Hello => {
                let hello = Hello::read(kind, &body)?;
                if hello.limits.max_frame < LEAST_FRAME || hello.limits.window == 0 {
                    return Err(ProtocolError::Frame { kind, what: "limits too small" });
                }
                self.peer = Some(hello.limits);
                Ok(Some(Event::Hello(Box::new(hello))))
            }
            Kind::Ready => {
                self.ready = true;
                Ok(Some(Event::Ready(Box::new(message::read(kind, &body)?))))
            }
            Kind::Call => self.begin_call(header, body),
            Kind::Result => self.begin_result(header, body),
            Kind::Failure => {
                let mut body = &body[..];
                if body.len() < 8 {
                    return Err(ProtocolError::Frame { kind, what: "shorter than its head" });
                }
                let run_ns = body.get_u64_le();
                if self.receiving.contains_key(&call) {
                    let what = "its result has begun";
                    return Err(ProtocolError::Unexpected { kind, call, what });
                }
                let failure = Box::new(message::read(kind, body)?);
                self.stop_sending(call);
                self.inflows.remove(&call);
                Ok(Some(Event::Failure { call, slot, run_ns, failure }))
            }
            Kind::Data if self.inflows.contains_key(&call) => self.piece(header, body),
            Kind::Data => self.data(header, &body),
            Kind::End => {
                let mut body = &body[..];
                if body.len() < 8 {
                    return Err(ProtocolError::Frame { kind, what: "shorter than its head" });
                }
                let run_ns = body.get_u64_le();
                if self.inflows.remove(&call).is_none() {
                    let what = "no result of it is streamed";
                    return Err(ProtocolError::Unexpected { kind, call, what });
                }
                let copies = message::read(kind, body)?;
                Ok(Some(Event::End { call, slot, run_ns, copies }))
            }
            Kind::Credit => {
                let mut body = &body[..];
                if body.len() != 4 {
                    return Err(ProtocolError::Frame { kind, what: "not four bytes" });
                }
                let amount = u64::from(body.get_u32_le());
                // Credit for a payload that was stopped meanwhile is of no use to anyone.
                if let Some(sending) = self.sending.iter_mut().find(|sending| sending.call == call)
                {
                    sending.credit = sending.credit.saturating_add(amount);
                }
                Ok(None)
            }
            Kind::Cancel | Kind::Cancelling | Kind::Drain if !body.is_empty() => {
                Err(ProtocolError::Frame { kind, what: "it has no body" })
            }
            Kind::Cancel => {
                // A call cancelled before it was complete never begins.
                if let Some(receiving) = self.receiving.remove(&call) {
                    self.let_go(receiving.body.len());
                    if !receiving.answered {
                        self.failure(call, slot, 0, &Failure::Cancelled)?;
                    }
                    return Ok(None);
                }
                Ok(Some(Event::Cancel { call, slot }))
            }
            Kind::Cancelling => Ok(Some(Event::Cancelling { call, slot })),
            Kind::Drain => Ok(Some(Event::Drain)),
        }
    }

    fn begin_call(&mut self, header: &Header, body: Bytes) -> Result<Option<Event>, ProtocolError> {
        self.last_call = header.call;
        let mut rest = &body[..];
        let read = CallHead::read(&mut rest)?;
        let text_arguments = match read.text_length {
            0 => Vec::new(),
            length => message::read(header.kind as u8, &rest[..length])?,
        };
        let chunk = body.slice(body.len() - rest.len() + read.text_length..);
        let (flags, descriptors) = (read.head.flags, read.head.descriptors);
        let head = PayloadOf::Call(read.head, text_arguments);
        self.begin(header, head, chunk, read.payload_length, (flags, descriptors))
    }

    fn begin_result(
        &mut self,
        header: &Header,
        body: Bytes,
    ) -> Result<Option<Event>, ProtocolError> {
        let mut rest = &body[..];
        let read = ResultHead::read(&mut rest)?;
        let copies = match read.copies_length {
            0 => Vec::new(),
            length => message::read(header.kind as u8, &rest[..length])?,
        };
        let chunk = body.slice(body.len() - rest.len() + read.copies_length..);
        self.stop_sending(header.call);
        let (flags, descriptors) = (read.head.flags, read.head.descriptors);
        if flags & STREAMS != 0 {
            return self.begin_inflow(header, read.head, &chunk, read.payload_length).map(Some);
        }
        let head = PayloadOf::Result(read.head, copies);
        self.begin(header, head, chunk, read.payload_length, (flags, descriptors))
    }

    /// The first frame of a streamed result.
    fn begin_inflow(
        &mut self,
        header: &Header,
        head: ResultHead,
        chunk: &[u8],
        length: u64,
    ) -> Result<Event, ProtocolError> {
        let (kind, call) = (header.kind as u8, header.call);
        let plain = head.descriptors == 0 && head.flags == STREAMS;
        if header.flags != MORE || length != 0 || !chunk.is_empty() || !plain {
            return Err(ProtocolError::Frame { kind, what: "a stream with data in its head" });
        }
        self.has_not_begun(kind, call)?;
        self.inflows.insert(call, Inflow { granted: u64::from(self.limits.window) });
        let (copies, payload) = (Vec::new(), Incoming::default());
        Ok(Event::Result(IncomingResult { call, slot: header.slot, head, copies, payload }))
    }

    /// A call has one payload, and one answer.
    fn has_not_begun(&self, kind: u8, call: u64) -> Result<(), ProtocolError> {
        if self.receiving.contains_key(&call) || self.inflows.contains_key(&call) {
            let what = "its payload is not complete yet";
            return Err(ProtocolError::Unexpected { kind, call, what });
        }
        Ok(())
    }

    /// More of a streamed result.
    fn piece(&mut self, header: &Header, piece: Bytes) -> Result<Option<Event>, ProtocolError> {
        let kind = header.kind as u8;
        let size = piece.len() as u64;
        let inflow = self.inflows.get_mut(&header.call);
        let Some(inflow) = inflow.filter(|inflow| size <= inflow.granted) else {
            return Err(ProtocolError::Frame { kind, what: "more than was granted" });
        };
        if header.flags != MORE {
            return Err(ProtocolError::Frame { kind, what: "a stream ends by END" });
        }
        inflow.granted -= size;
        // It costs no credit, and so must cost its reader nothing.
        if piece.is_empty() {
            return Ok(None);
        }
        // A small one must not keep the whole of what it was read with.
        let piece = if piece.len() < SMALL { Bytes::copy_from_slice(&piece) } else { piece };
        Ok(Some(Event::Piece { call: header.call, slot: header.slot, piece }))
    }

    /// The descriptors that belong to a frame.
    fn take_descriptors(&mut self, kind: u8, count: u8) -> Result<Vec<OwnedFd>, ProtocolError> {
        let count = usize::from(count);
        if self.inbound_descriptors.len() < count {
            return Err(ProtocolError::Frame { kind, what: "fewer descriptors than it says" });
        }
        Ok(self.inbound_descriptors.drain(..count).collect())
    }

    /// The first frame of a payload: the whole of it, or the start of a longer one.
    fn begin(
        &mut self,
        header: &Header,
        head: PayloadOf,
        chunk: Bytes,
        length: u64,
        (flags, descriptors): (u8, u8),
    ) -> Result<Option<Event>, ProtocolError> {
        let kind = header.kind as u8;
        self.has_not_begun(kind, header.call)?;
        let descriptors = self.take_descriptors(kind, descriptors)?;
        let more = header.flags & MORE != 0;
        let (have, window) = (chunk.len() as u64, u64::from(self.limits.window));
        if length > self.limits.max_payload {
            return Err(ProtocolError::TooLong { length, limit: self.limits.max_payload });
        }
        if flags & (SHARED | FED) != 0 {
            if have != 0 || more || (flags & FED != 0 && length != 0) {
                return Err(ProtocolError::Frame { kind, what: "payload not of its length" });
            }
            let shared = (flags & SHARED != 0).then_some(length);
            let payload = Incoming { bytes: chunk, shared, descriptors };
            return Ok(Some(head.complete(header.call, header.slot, payload)));
        }
        if have > length || more == (have == length) {
            return Err(ProtocolError::Frame { kind, what: "payload not of its length" });
        }
        if have > window {
            return Err(ProtocolError::Frame { kind, what: "more than was granted" });
        }
        let unexpected = |what| Err(ProtocolError::Unexpected { kind, call: header.call, what });
        if !more {
            let payload = Incoming { bytes: chunk, shared: None, descriptors };
            return Ok(Some(head.complete(header.call, header.slot, payload)));
        }
        if self.receiving.len() >= MAX_INCOMPLETE {
            return unexpected("too many incomplete payloads");
        }
        if !descriptors.is_empty() {
            let held = self.receiving.values().map(|receiving| receiving.descriptors.len());
            if held.sum::<usize>() + descriptors.len() > MAX_DESCRIPTORS {
                return unexpected("too many descriptors of incomplete payloads");
            }
        }
        self.hold(kind, chunk.len())?;
        let body = BytesMut::from(&chunk[..]);
        let (slot, granted) = (header.slot, window - have);
        let answered = false;
        let receiving =
            Receiving { slot, head, descriptors, body, have, length, answered, granted };
        self.receiving.insert(header.call, receiving);
        self.grant(header.call);
        Ok(None)
    }

    fn data(&mut self, header: &Header, chunk: &[u8]) -> Result<Option<Event>, ProtocolError> {
        let kind = header.kind as u8;
        let wrong = |what| Err(ProtocolError::Frame { kind, what });
        if header.flags & ABORT != 0 {
            // A result that stopped half-way would leave its call without an end.
            if self.is_ours(header.call) {
                return wrong("only a call's payload may be aborted");
            }
            if let Some(receiving) = self.receiving.remove(&header.call) {
                self.let_go(receiving.body.len());
            }
            return if chunk.is_empty() { Ok(None) } else { wrong("aborted with a body") };
        }
        let Some(receiving) = self.receiving.get_mut(&header.call) else {
            return Err(ProtocolError::Unexpected {
                kind,
                call: header.call,
                what: "no payload is incomplete",
            });
        };
        let size = chunk.len() as u64;
        if size > receiving.granted {
            return wrong("more than was granted");
        }
        receiving.granted -= size;
        receiving.have += size;
        let more = header.flags & MORE != 0;
        if receiving.have > receiving.length || more == (receiving.have == receiving.length) {
            return wrong("payload not of its length");
        }
        if !receiving.answered {
            receiving.body.put_slice(chunk);
            self.hold(kind, chunk.len())?;
        }
        if more {
            self.grant(header.call);
            return Ok(None);
        }
        let whole = self.receiving.remove(&header.call);
        self.let_go(whole.as_ref().map_or(0, |whole| whole.body.len()));
        let whole = whole.filter(|whole| !whole.answered);
        Ok(whole.map(|whole| {
            let (bytes, descriptors) = (whole.body.freeze(), whole.descriptors);
            let payload = Incoming { bytes, shared: None, descriptors };
            whole.head.complete(header.call, whole.slot, payload)
        }))
    }

    /// Grants what the peer will need, half a window at a time so that it never has to stop.
    fn grant(&mut self, call: u64) {
        let window = u64::from(self.limits.window);
        let Some(receiving) = self.receiving.get_mut(&call) else { return };
        let missing = receiving.length - receiving.have;
        if receiving.answered || receiving.granted >= missing || receiving.granted > window / 2 {
            return;
        }
        // Where much is held already, one payload is completed after the other.
        if self.held >= HELD && self.first() != Some(call) {
            self.withheld = true;
            return;
        }
        let Some(receiving) = self.receiving.get_mut(&call) else { return };
        let amount = (window - receiving.granted).min(missing - receiving.granted);
        receiving.granted += amount;
        let slot = receiving.slot;
        self.header(4, Kind::Credit, 0, slot, call);
        // At most a window, which is a u32.
        self.outbound.put_u32_le(amount as u32);
    }

    /// Counts bytes of incomplete payloads.
    fn hold(&mut self, kind: u8, size: usize) -> Result<(), ProtocolError> {
        self.held += size;
        if self.held as u64 > HELD_MOST.saturating_add(self.limits.max_payload) {
            return Err(ProtocolError::Frame { kind, what: "too much of incomplete payloads" });
        }
        Ok(())
    }

    /// We answer a call of the peer: if its payload is still coming, it is of no more use (5.5).
    pub(super) fn answered(&mut self, call: u64) {
        let Some(receiving) = self.receiving.get_mut(&call) else { return };
        receiving.answered = true;
        receiving.descriptors.clear();
        let body = std::mem::take(&mut receiving.body);
        self.let_go(body.len());
    }

    /// So many bytes of incomplete payloads are no longer held: others may have their credit.
    fn let_go(&mut self, size: usize) {
        self.held -= size;
        if !self.withheld {
            return;
        }
        self.withheld = false;
        let calls: Vec<u64> = match self.held < HELD {
            true => self.receiving.keys().copied().collect(),
            false => self.first().into_iter().collect(),
        };
        self.withheld = self.held >= HELD;
        for call in calls {
            self.grant(call);
        }
    }

    /// The incomplete payload that was begun first.
    fn first(&self) -> Option<u64> {
        self.receiving.iter().find(|(_, receiving)| !receiving.answered).map(|(call, _)| *call)
    }
}

// === impl PayloadOf ===

impl PayloadOf {
    fn complete(self, call: u64, slot: u16, payload: Incoming) -> Event {
        match self {
            Self::Call(head, text_arguments) => {
                Event::Call(IncomingCall { call, slot, head, text_arguments, payload })
            }
            Self::Result(head, copies) => {
                Event::Result(IncomingResult { call, slot, head, copies, payload })
            }
        }
    }
}
