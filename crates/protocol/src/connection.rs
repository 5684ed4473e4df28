//! The state machine both ends run: bytes in, events out, and back.
//!
//! A [`Connection`] owns two buffers. The caller reads from its socket into [`Connection::inbound`],
//! takes [`Connection::next_event`] until there is none, and writes [`Connection::outbound`] to its
//! socket. Nothing here blocks, waits or allocates by a number that the peer merely claimed.

mod receive;
mod send;

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use exuvia_core::{Failure, Payload};

use self::{receive::Receiving, send::Sending};
use crate::{
    Hello, Limits, ProtocolError, Ready,
    frame::{CallHead, Header, Kind, RESULT_HEAD, ResultHead},
    message, shorten,
};

/// Bytes of a failure's body, at most, so that it fits every receiver's frame.
const FAILURE_ROOM: usize = 256 << 10;

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
    /// Payloads not wholly read yet, by call: the one begun first is completed first.
    receiving: BTreeMap<u64, Receiving>,
    /// Bytes of these.
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
            sending: VecDeque::new(),
            receiving: BTreeMap::new(),
            held: 0,
            withheld: false,
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

// === impl IncomingCall ===

impl IncomingCall {
    /// The data with its codec.
    #[must_use]
    pub fn payload(&self) -> Payload {
        Payload::new(self.head.codec, self.payload.clone())
    }
}
