//! The state machine both ends run: bytes in, events out, and back.
//!
//! A [`Connection`] owns two buffers. The caller reads from its socket into [`Connection::inbound`],
//! takes [`Connection::next_event`] until there is none, and writes [`Connection::outbound`] to its
//! socket. Nothing here blocks, waits or allocates by a number that the peer merely claimed.

mod receive;
mod send;

use std::{
    collections::{BTreeMap, VecDeque},
    os::fd::OwnedFd,
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use exuvia_core::{Copied, Failure, Payload};

use self::{
    receive::{Inflow, Receiving},
    send::Sending,
};
use crate::{
    Hello, Limits, ProtocolError, Ready,
    frame::{CallHead, FED, Header, Kind, MORE, RESULT_HEAD, ResultHead, SHARED, STREAMS},
    message, shorten,
};

/// Bytes of a failure's body, at most, so that it fits every receiver's frame.
const FAILURE_ROOM: usize = 256 << 10;
/// Descriptors that may wait for the frames they belong to.
const MAX_UNTAKEN: usize = 1024;
/// Copies that are told of one call.
const MAX_COPIES: usize = 64;

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
    Result(IncomingResult),
    /// More of a streamed result.
    Piece { call: u64, slot: u16, piece: Bytes },
    /// A streamed result is complete.
    End { call: u64, slot: u16, run_ns: u64, copies: Vec<Copied> },
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
    pub payload: Incoming,
}

/// An answer to our call.
#[derive(Debug, PartialEq)]
pub struct IncomingResult {
    /// The call's id.
    pub call: u64,
    /// Its place in the status page.
    pub slot: u16,
    /// How it is written down. With [`STREAMS`] pieces follow.
    pub head: ResultHead,
    /// What was copied on the way.
    pub copies: Vec<Copied>,
    /// The data.
    pub payload: Incoming,
}

/// A payload that arrived.
#[derive(Debug, Default)]
pub struct Incoming {
    /// What came through the socket.
    pub bytes: Bytes,
    /// Length of what lies in the first descriptor instead.
    pub shared: Option<u64>,
    /// What came with it. Nobody has looked at them yet.
    pub descriptors: Vec<OwnedFd>,
}

/// A payload to send.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// What goes through the socket.
    pub bytes: Bytes,
    /// Length of what lies in the first descriptor instead.
    pub shared: Option<u64>,
    /// Whether the first descriptor is a socket from which the payload comes.
    pub fed: bool,
    /// What goes with it.
    pub descriptors: Vec<Arc<OwnedFd>>,
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
    pub payload: Outgoing,
}

/// Bytes to write, and the descriptors to send with the first of them.
#[derive(Debug)]
pub struct ToSend<'a> {
    /// What one write may take.
    pub bytes: &'a [u8],
    /// Belong to these bytes.
    pub descriptors: &'a [Arc<OwnedFd>],
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
    /// Descriptors to send, each lot with the place in `outbound` where its frame begins.
    outbound_descriptors: VecDeque<(usize, Vec<Arc<OwnedFd>>)>,
    /// Descriptors that came, for frames that may not be complete yet.
    inbound_descriptors: VecDeque<OwnedFd>,
    /// Payloads not wholly written yet; the next to have its turn is in front.
    sending: VecDeque<Sending>,
    /// Payloads not wholly read yet, by call: the one begun first is completed first.
    receiving: BTreeMap<u64, Receiving>,
    /// Streamed results of our calls that go on.
    inflows: BTreeMap<u64, Inflow>,
    /// Bytes of incomplete payloads.
    held: usize,
    /// Some of them were not given the credit they were due.
    withheld: bool,
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
            outbound_descriptors: VecDeque::new(),
            inbound_descriptors: VecDeque::new(),
            sending: VecDeque::new(),
            receiving: BTreeMap::new(),
            inflows: BTreeMap::new(),
            held: 0,
            withheld: false,
        }
    }

    /// Where to append what was read from the peer.
    pub fn inbound(&mut self) -> &mut BytesMut {
        &mut self.inbound
    }

    /// Takes descriptors that came with what was read.
    ///
    /// # Errors
    /// More than frames can want: the peer floods us.
    pub fn descriptors(&mut self, came: Vec<OwnedFd>) -> Result<(), ProtocolError> {
        self.inbound_descriptors.extend(came);
        if self.inbound_descriptors.len() > MAX_UNTAKEN {
            self.inbound_descriptors.clear();
            return Err(ProtocolError::Frame { kind: 0, what: "descriptors that no frame takes" });
        }
        Ok(())
    }

    /// What is to be written to the peer; take from its front what was written. Only for who knows
    /// that no descriptors go with it: see [`Connection::to_send`].
    pub fn outbound(&mut self) -> &mut BytesMut {
        if !self.sending.is_empty() {
            self.pump();
        }
        &mut self.outbound
    }

    /// What is to be written next, if anything is.
    pub fn to_send(&mut self) -> Option<ToSend<'_>> {
        self.outbound();
        if self.outbound.is_empty() {
            return None;
        }
        let mut lots = self.outbound_descriptors.iter();
        let (descriptors, end) = match lots.next() {
            Some((0, first)) => (&first[..], lots.next().map(|(place, _)| *place)),
            Some((place, _)) => (&[][..], Some(*place)),
            None => (&[][..], None),
        };
        Some(ToSend { bytes: &self.outbound[..end.unwrap_or(self.outbound.len())], descriptors })
    }

    /// So many bytes of [`Connection::to_send`] were written, and with them its descriptors.
    pub fn sent(&mut self, size: usize) {
        if size == 0 {
            return;
        }
        self.outbound.advance(size);
        if self.outbound_descriptors.front().is_some_and(|(place, _)| *place == 0) {
            self.outbound_descriptors.pop_front();
        }
        for (place, _) in &mut self.outbound_descriptors {
            *place -= size;
        }
    }

    /// Nothing of what waits will be written.
    pub fn forget_outbound(&mut self) {
        self.outbound.clear();
        self.outbound_descriptors.clear();
        self.sending.clear();
    }

    /// How many bytes wait to be written; what is yet to be taken from large payloads is not counted.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.outbound.len()
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
        let head = CallHead {
            flags: call.head.flags & STREAMS | call.payload.flags(),
            descriptors: call.payload.descriptors.len() as u8,
            ..call.head
        };
        let (shared, bytes) = (call.payload.shared, call.payload.bytes);
        self.attach(call.payload.descriptors);
        let (chunk, flags) = self.first_chunk(call.call, call.slot, fixed, bytes);
        let length = fixed + chunk.len();
        self.header(length, Kind::Call, flags.0, call.slot, call.call);
        head.write(text.len() as u32, shared.unwrap_or(flags.1), &mut self.outbound);
        self.outbound.put_slice(&text);
        self.outbound.put_slice(&chunk);
        Ok(())
    }

    /// Answers a call with a result. Must not be longer than [`Connection::peer_limits`] say.
    pub fn result(
        &mut self,
        call: u64,
        slot: u16,
        head: ResultHead,
        copies: &[Copied],
        payload: Outgoing,
    ) {
        self.answered(call);
        let copies = write_copies(copies, self.max_frame().saturating_sub(RESULT_HEAD));
        let fixed = RESULT_HEAD + copies.len();
        let head = ResultHead {
            flags: payload.flags(),
            descriptors: payload.descriptors.len() as u8,
            ..head
        };
        self.attach(payload.descriptors);
        let (chunk, flags) = self.first_chunk(call, slot, fixed, payload.bytes);
        self.header(fixed + chunk.len(), Kind::Result, flags.0, slot, call);
        head.write(copies.len() as u32, payload.shared.unwrap_or(flags.1), &mut self.outbound);
        self.outbound.put_slice(&copies);
        self.outbound.put_slice(&chunk);
    }

    /// Answers a call with a result whose payload stays the caller's; it is copied once.
    pub fn result_from(&mut self, call: u64, slot: u16, head: ResultHead, payload: &[u8]) {
        if payload.len() > self.first_room(RESULT_HEAD) {
            let payload = Outgoing::from(Bytes::copy_from_slice(payload));
            return self.result(call, slot, head, &[], payload);
        }
        self.answered(call);
        self.header(RESULT_HEAD + payload.len(), Kind::Result, 0, slot, call);
        head.write(0, payload.len() as u64, &mut self.outbound);
        self.outbound.put_slice(payload);
    }

    /// Begins to answer a call, one that [`STREAMS`], piece by piece.
    pub fn begin_stream(&mut self, call: u64, slot: u16, head: ResultHead) {
        self.answered(call);
        self.header(RESULT_HEAD, Kind::Result, MORE, slot, call);
        let head = ResultHead { flags: STREAMS, descriptors: 0, ..head };
        head.write(0, 0, &mut self.outbound);
        self.open_outflow(call, slot);
    }

    /// Whether a streamed result wants more: little of it waits to be sent.
    #[must_use]
    pub fn wants_more(&self, call: u64) -> bool {
        self.outflow(call).is_some_and(Sending::wants_more)
    }

    /// Adds to a streamed result.
    pub fn add(&mut self, call: u64, piece: Bytes) {
        if let Some(outflow) = self.outflow_mut(call) {
            outflow.add(piece);
        }
    }

    /// Completes a streamed result, once all of it is sent.
    pub fn end_stream(&mut self, call: u64, run_ns: u64, copies: &[Copied]) {
        let mut body = run_ns.to_le_bytes().to_vec();
        // The empty list is written, too.
        body.extend_from_slice(&match copies {
            [] => vec![0x90],
            copies => match write_copies(copies, self.max_frame().saturating_sub(8)) {
                told if told.is_empty() => vec![0x90],
                told => told,
            },
        });
        if let Some(outflow) = self.outflow_mut(call) {
            outflow.end(Kind::End, body);
        }
    }

    /// Sends nothing more of a streamed result. True: it was not complete, and a failure must
    /// follow; false: there is no such stream, or its end is on the way.
    pub fn cut_stream(&mut self, call: u64) -> bool {
        let goes_on = self.outflow(call).is_some();
        self.sending.retain(|sending| sending.call != call);
        goes_on
    }

    /// Grants a streamed result of our call so many bytes more.
    pub fn grant_stream(&mut self, call: u64, slot: u16, amount: u32) {
        let Some(inflow) = self.inflows.get_mut(&call) else { return };
        inflow.granted += u64::from(amount);
        self.header(4, Kind::Credit, 0, slot, call);
        self.outbound.put_u32_le(amount);
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
        // A streamed result fails behind what was made of it.
        if let Some(outflow) = self.outflow_mut(call) {
            let body = [&run_ns.to_le_bytes()[..], &body].concat();
            outflow.end(Kind::Failure, body);
            return Ok(());
        }
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

    /// Sends nothing more of a call that was taken back: if its payload was not complete, it never
    /// will be.
    pub fn abort(&mut self, call: u64) {
        self.stop_sending(call);
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

    /// The frame that is written next has these descriptors.
    fn attach(&mut self, descriptors: Vec<Arc<OwnedFd>>) {
        if !descriptors.is_empty() {
            self.outbound_descriptors.push_back((self.outbound.len(), descriptors));
        }
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

/// Copies as they follow a result's head: nothing where there are none. Of those that do not fit
/// `room` nothing is told.
fn write_copies(copies: &[Copied], room: usize) -> Vec<u8> {
    let mut told = &copies[..copies.len().min(MAX_COPIES)];
    while !told.is_empty() {
        // A list of structs of text and numbers can always be written; and if not, it is no reason
        // to lose the result.
        let written = message::write(Kind::Result as u8, &told).unwrap_or_default();
        if written.len() <= room {
            return written;
        }
        told = &told[..told.len() - 1];
    }
    Vec::new()
}

// === impl Outgoing ===

impl Outgoing {
    fn flags(&self) -> u8 {
        let shared = if self.shared.is_some() { SHARED } else { 0 };
        shared | if self.fed { FED } else { 0 }
    }
}

impl From<Bytes> for Outgoing {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, ..Self::default() }
    }
}

impl From<&Payload> for Outgoing {
    fn from(payload: &Payload) -> Self {
        let memory = payload.region.iter().chain(&payload.attached);
        let descriptors = memory.map(|region| region.memory.clone()).collect();
        match &payload.region {
            Some(region) => Self { shared: Some(region.length), descriptors, ..Self::default() },
            // What is fed comes alone.
            None if payload.feed.is_some() => Self {
                fed: true,
                descriptors: payload.feed.iter().map(|feed| feed.0.clone()).collect(),
                ..Self::default()
            },
            None => Self { bytes: payload.body.clone(), descriptors, ..Self::default() },
        }
    }
}

// === impl Incoming ===

impl PartialEq for Incoming {
    /// Descriptors are compared by their number only: nobody has looked into them.
    fn eq(&self, other: &Self) -> bool {
        (&self.bytes, self.shared, self.descriptors.len())
            == (&other.bytes, other.shared, other.descriptors.len())
    }
}
