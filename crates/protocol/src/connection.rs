//! The state machine both ends run: bytes in, events out, and back.
//!
//! A [`Connection`] owns two buffers. The caller reads from its socket into [`Connection::inbound`],
//! takes [`Connection::next_event`] until there is none, and writes [`Connection::outbound`] to its
//! socket. Nothing here blocks, waits or allocates by a number that the peer merely claimed.

use std::collections::{HashMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use exuvia_core::{Failure, Payload};

use crate::{
    Hello, Limits, ProtocolError, Ready,
    frame::{ABORT, CALL_HEAD, CallHead, HEADER, Header, Kind, MORE, RESULT_HEAD, ResultHead},
    message, shorten,
};

/// Payload bytes in one frame, at most: what a small payload waits for behind a large one.
const CHUNK: usize = 64 << 10;
/// Payload frames are added until so much waits to be written.
const OUTBOUND_ENOUGH: usize = 256 << 10;
/// Bytes of a failure's body, at most, so that it fits every receiver's frame.
const FAILURE_ROOM: usize = 256 << 10;
/// Payloads that may be incomplete at a time.
const MAX_INCOMPLETE: usize = 65_536;
/// Call ids are below this: they share a word of the status page with a state.
const ID_END: u64 = 1 << 61;
/// Body of a frame that a peer takes, at least: room for every head and for a failure without its
/// texts.
const LEAST_FRAME: u32 = 2 * CALL_HEAD as u32;

/// Which end this is; call ids of a host are even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Starts workers and speaks first.
    Host,
    /// Runs handlers.
    Worker,
}

/// What the peer said.
#[derive(Debug, PartialEq)]
#[expect(missing_docs, reason = "fields are named as in the page")]
pub enum Event {
    /// Its greeting, already checked.
    Hello(Box<Hello>),
    /// The worker's handlers, or why there are none.
    Ready(Box<Ready>),
    /// A call, complete.
    Call(IncomingCall),
    /// An answer to our call.
    Result { call: u64, slot: u16, head: ResultHead, payload: Bytes },
    /// A failure of our call.
    Failure { call: u64, slot: u16, run_ns: u64, failure: Box<Failure> },
    /// The peer wants its call stopped; it may have been answered meanwhile.
    Cancel { call: u64, slot: u16 },
    /// Our cancel was heard.
    Cancelling { call: u64, slot: u16 },
    /// No more calls will come.
    Drain,
}

/// A call the peer opened.
#[derive(Debug, PartialEq)]
pub struct IncomingCall {
    /// Its id.
    pub call: u64,
    /// Its place in the status page.
    pub slot: u16,
    /// What to run and how.
    pub head: CallHead,
    /// Arguments given as text.
    pub text_arguments: Vec<(String, String)>,
    /// The data.
    pub payload: Bytes,
}

/// A call to open.
#[derive(Debug)]
pub struct OutgoingCall<'a> {
    /// Its id: new, rising.
    pub call: u64,
    /// Its place in the status page.
    pub slot: u16,
    /// What to run and how.
    pub head: CallHead,
    /// Arguments given as text.
    pub text_arguments: &'a [(String, String)],
    /// The data.
    pub payload: Bytes,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    limits: Limits,
    peer: Option<Limits>,
    ready: bool,
    /// The last call the peer opened.
    last_call: u64,
    /// What the peer broke; it stays broken.
    broken: Option<ProtocolError>,
    inbound: BytesMut,
    outbound: BytesMut,
    /// Payloads not wholly written yet; the next to have its turn is in front.
    sending: VecDeque<Sending>,
    /// Payloads not wholly read yet.
    receiving: HashMap<u64, Receiving>,
}

#[derive(Debug)]
struct Sending {
    call: u64,
    slot: u16,
    rest: Bytes,
    credit: u64,
}

#[derive(Debug)]
struct Receiving {
    slot: u16,
    head: PayloadOf,
    body: BytesMut,
    /// Bytes of the payload that came; more than `body` has once the call was answered.
    have: u64,
    length: u64,
    /// We refused the call before it was complete: what still comes of it is thrown away.
    answered: bool,
    /// Bytes the peer may still send before it needs more credit.
    granted: u64,
}

#[derive(Debug)]
enum PayloadOf {
    Call(CallHead, Vec<(String, String)>),
    Result(ResultHead),
}

// === impl Connection ===

impl Connection {
    /// An end that has said nothing yet.
    #[must_use]
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            role,
            limits,
            peer: None,
            ready: false,
            last_call: 0,
            broken: None,
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
            sending: VecDeque::new(),
            receiving: HashMap::new(),
        }
    }

    /// Where to append what was read from the peer.
    pub fn inbound(&mut self) -> &mut BytesMut {
        &mut self.inbound
    }

    /// What is to be written to the peer; take from its front what was written.
    pub fn outbound(&mut self) -> &mut BytesMut {
        if !self.sending.is_empty() {
            self.pump();
        }
        &mut self.outbound
    }

    /// The payload limit of the peer, once it greeted.
    #[must_use]
    pub fn peer_limits(&self) -> Option<Limits> {
        self.peer
    }

    /// Greets the peer.
    ///
    /// # Errors
    /// The message does not fit a frame.
    pub fn hello(&mut self, hello: &Hello) -> Result<(), ProtocolError> {
        self.send_message(Kind::Hello, hello)
    }

    /// Tells the host what is there.
    ///
    /// # Errors
    /// The message does not fit a frame.
    pub fn ready(&mut self, ready: &Ready) -> Result<(), ProtocolError> {
        self.ready = true;
        self.send_message(Kind::Ready, ready)
    }

    /// Opens a call. The payload must not be longer than [`Connection::peer_limits`] say.
    ///
    /// # Errors
    /// The text arguments do not fit a frame.
    pub fn call(&mut self, call: OutgoingCall<'_>) -> Result<(), ProtocolError> {
        let text = match call.text_arguments {
            [] => Vec::new(),
            arguments => message::write(Kind::Call as u8, &arguments)?,
        };
        let fixed = call.head.length() + text.len();
        self.fits(fixed)?;
        let (chunk, flags) = self.first_chunk(call.call, call.slot, fixed, call.payload);
        let length = fixed + chunk.len();
        self.header(length, Kind::Call, flags.0, call.slot, call.call);
        call.head.write(text.len() as u32, flags.1, &mut self.outbound);
        self.outbound.put_slice(&text);
        self.outbound.put_slice(&chunk);
        Ok(())
    }

    /// Answers a call with a result. Must not be longer than [`Connection::peer_limits`] say.
    pub fn result(&mut self, call: u64, slot: u16, head: ResultHead, payload: Bytes) {
        self.answered(call);
        let (chunk, flags) = self.first_chunk(call, slot, RESULT_HEAD, payload);
        self.header(RESULT_HEAD + chunk.len(), Kind::Result, flags.0, slot, call);
        head.write(flags.1, &mut self.outbound);
        self.outbound.put_slice(&chunk);
    }

    /// Answers a call with a result whose payload stays the caller's; it is copied once.
    pub fn result_from(&mut self, call: u64, slot: u16, head: ResultHead, payload: &[u8]) {
        if payload.len() > self.first_room(RESULT_HEAD) {
            return self.result(call, slot, head, Bytes::copy_from_slice(payload));
        }
        self.answered(call);
        self.header(RESULT_HEAD + payload.len(), Kind::Result, 0, slot, call);
        head.write(payload.len() as u64, &mut self.outbound);
        self.outbound.put_slice(payload);
    }

    /// Answers a call with a failure, shortening texts that would not fit.
    ///
    /// # Errors
    /// The failure cannot be written at all.
    pub fn failure(
        &mut self,
        call: u64,
        slot: u16,
        run_ns: u64,
        failure: &Failure,
    ) -> Result<(), ProtocolError> {
        let kind = Kind::Failure as u8;
        let room = self.max_frame().min(FAILURE_ROOM) - 8;
        let body = shorten::write(kind, failure, room)?;
        self.fits(8 + body.len())?;
        self.answered(call);
        self.header(8 + body.len(), Kind::Failure, 0, slot, call);
        self.outbound.put_u64_le(run_ns);
        self.outbound.put_slice(&body);
        Ok(())
    }

    /// Asks the peer to stop one of our calls.
    pub fn cancel(&mut self, call: u64, slot: u16) {
        self.sending.retain(|sending| sending.call != call);
        self.header(0, Kind::Cancel, 0, slot, call);
    }

    /// Tells the peer that its cancel was heard.
    pub fn cancelling(&mut self, call: u64, slot: u16) {
        self.header(0, Kind::Cancelling, 0, slot, call);
    }

    /// Tells the peer that no more calls will come.
    pub fn drain(&mut self) {
        self.header(0, Kind::Drain, 0, 0, 0);
    }

    /// The next thing the peer said, if it is complete.
    ///
    /// # Errors
    /// The peer broke the protocol; the connection is of no more use, and says the same from now on.
    pub fn next_event(&mut self) -> Result<Option<Event>, ProtocolError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.read_event().inspect_err(|error| self.broken = Some(error.clone()))
    }

    fn read_event(&mut self) -> Result<Option<Event>, ProtocolError> {
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
            (Kind::Result | Kind::Failure | Kind::Cancelling, _) if !self.is_ours(header.call) => {
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
                Ok(Some(Event::Failure { call, slot, run_ns, failure }))
            }
            Kind::Data => self.data(header, &body),
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
        let head = PayloadOf::Call(read.head, text_arguments);
        self.begin(header, head, chunk, read.payload_length)
    }

    fn begin_result(
        &mut self,
        header: &Header,
        body: Bytes,
    ) -> Result<Option<Event>, ProtocolError> {
        let mut rest = &body[..];
        let (head, length) = ResultHead::read(&mut rest)?;
        let chunk = body.slice(body.len() - rest.len()..);
        self.stop_sending(header.call);
        self.begin(header, PayloadOf::Result(head), chunk, length)
    }

    /// The first frame of a payload: the whole of it, or the start of a longer one.
    fn begin(
        &mut self,
        header: &Header,
        head: PayloadOf,
        chunk: Bytes,
        length: u64,
    ) -> Result<Option<Event>, ProtocolError> {
        let kind = header.kind as u8;
        let more = header.flags & MORE != 0;
        let (have, window) = (chunk.len() as u64, u64::from(self.limits.window));
        if length > self.limits.max_payload {
            return Err(ProtocolError::TooLong { length, limit: self.limits.max_payload });
        }
        if have > length || more == (have == length) {
            return Err(ProtocolError::Frame { kind, what: "payload not of its length" });
        }
        if have > window {
            return Err(ProtocolError::Frame { kind, what: "more than was granted" });
        }
        let unexpected = |what| Err(ProtocolError::Unexpected { kind, call: header.call, what });
        if self.receiving.contains_key(&header.call) {
            return unexpected("its payload is not complete yet");
        }
        if !more {
            return Ok(Some(head.complete(header.call, header.slot, chunk)));
        }
        if self.receiving.len() >= MAX_INCOMPLETE {
            return unexpected("too many incomplete payloads");
        }
        let body = BytesMut::from(&chunk[..]);
        let (slot, granted) = (header.slot, window - have);
        let receiving = Receiving { slot, head, body, have, length, answered: false, granted };
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
            self.receiving.remove(&header.call);
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
        }
        if more {
            self.grant(header.call);
            return Ok(None);
        }
        let whole = self.receiving.remove(&header.call).filter(|whole| !whole.answered);
        Ok(whole.map(|whole| whole.head.complete(header.call, whole.slot, whole.body.freeze())))
    }

    /// Grants what the peer will need, half a window at a time so that it never has to stop.
    fn grant(&mut self, call: u64) {
        let window = u64::from(self.limits.window);
        let Some(receiving) = self.receiving.get_mut(&call) else { return };
        let missing = receiving.length - receiving.have;
        if receiving.answered || receiving.granted >= missing || receiving.granted > window / 2 {
            return;
        }
        let amount = (window - receiving.granted).min(missing - receiving.granted);
        receiving.granted += amount;
        let slot = receiving.slot;
        self.header(4, Kind::Credit, 0, slot, call);
        // At most a window, which is a u32.
        self.outbound.put_u32_le(amount as u32);
    }

    /// Splits a payload into what goes into its first frame and what follows by and by; returns
    /// the flags of the first frame and the length of the whole.
    fn first_chunk(
        &mut self,
        call: u64,
        slot: u16,
        fixed: usize,
        mut payload: Bytes,
    ) -> (Bytes, (u8, u64)) {
        let length = payload.len() as u64;
        let window = self.window();
        let chunk = payload.split_to(payload.len().min(self.first_room(fixed)));
        if payload.is_empty() {
            return (chunk, (0, length));
        }
        let credit = u64::from(window) - chunk.len() as u64;
        self.sending.push_back(Sending { call, slot, rest: payload, credit });
        (chunk, (MORE, length))
    }

    /// Payload bytes that the first frame takes after a head of `fixed` bytes.
    fn first_room(&self, fixed: usize) -> usize {
        (self.max_frame() - fixed).min(CHUNK).min(self.window() as usize)
    }

    /// We answer a call of the peer: if its payload is still coming, it is of no more use (5.5).
    fn answered(&mut self, call: u64) {
        if let Some(receiving) = self.receiving.get_mut(&call) {
            receiving.answered = true;
            receiving.body = BytesMut::new();
        }
    }

    /// Writes the next frames of unfinished payloads, in turns, as far as credit goes.
    fn pump(&mut self) {
        let room = self.max_frame().min(CHUNK);
        let mut stuck = 0;
        while self.outbound.len() < OUTBOUND_ENOUGH && stuck < self.sending.len() {
            let Some(mut sending) = self.sending.pop_front() else { return };
            let size = (sending.rest.len()).min(room).min(sending.credit as usize);
            if size == 0 {
                stuck += 1;
                self.sending.push_back(sending);
                continue;
            }
            stuck = 0;
            let chunk = sending.rest.split_to(size);
            sending.credit -= size as u64;
            let flags = if sending.rest.is_empty() { 0 } else { MORE };
            self.header(size, Kind::Data, flags, sending.slot, sending.call);
            self.outbound.put_slice(&chunk);
            if flags == MORE {
                self.sending.push_back(sending);
            }
        }
    }

    /// The peer answered before it had the whole payload.
    fn stop_sending(&mut self, call: u64) {
        let Some(place) = self.sending.iter().position(|sending| sending.call == call) else {
            return;
        };
        if let Some(sending) = self.sending.remove(place) {
            self.header(0, Kind::Data, ABORT, sending.slot, call);
        }
    }

    fn send_message<T: serde::Serialize>(
        &mut self,
        kind: Kind,
        body: &T,
    ) -> Result<(), ProtocolError> {
        let body = message::write(kind as u8, body)?;
        self.fits(body.len())?;
        self.header(body.len(), kind, 0, 0, 0);
        self.outbound.put_slice(&body);
        Ok(())
    }

    fn header(&mut self, length: usize, kind: Kind, flags: u8, slot: u16, call: u64) {
        // Every caller has seen to it that the body fits a frame, whose limit is a u32.
        let header = Header { length: length as u32, kind, flags, slot, call };
        header.write(&mut self.outbound);
    }

    fn fits(&self, length: usize) -> Result<(), ProtocolError> {
        let limit = self.max_frame();
        if length <= limit {
            return Ok(());
        }
        Err(ProtocolError::TooLong { length: length as u64, limit: limit as u64 })
    }

    fn max_frame(&self) -> usize {
        self.peer.unwrap_or_default().max_frame as usize
    }

    fn window(&self) -> u32 {
        self.peer.unwrap_or_default().window
    }
}

// === impl PayloadOf ===

impl PayloadOf {
    fn complete(self, call: u64, slot: u16, payload: Bytes) -> Event {
        match self {
            Self::Call(head, text_arguments) => {
                Event::Call(IncomingCall { call, slot, head, text_arguments, payload })
            }
            Self::Result(head) => Event::Result { call, slot, head, payload },
        }
    }
}

/// The payload of a call or result as `Payload`.
impl IncomingCall {
    /// The data with its codec.
    #[must_use]
    pub fn payload(&self) -> Payload {
        Payload::new(self.head.codec, self.payload.clone())
    }
}
