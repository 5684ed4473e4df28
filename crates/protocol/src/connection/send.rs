//! The writing half: payloads in turns, as far as credit goes (section 5).

use std::collections::VecDeque;

use bytes::{BufMut, Bytes};

use super::Connection;
use crate::frame::{ABORT, Kind, MORE};

/// Payload bytes in one frame, at most: what a small payload waits for behind a large one.
const CHUNK: usize = 64 << 10;
/// Payload frames are added until so much waits to be written.
const OUTBOUND_ENOUGH: usize = 256 << 10;

/// A streamed result wants more while less than this of it waits.
const STREAM_AHEAD: usize = 64 << 10;

/// A payload that is not wholly written.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) call: u64,
    slot: u16,
    rest: Bytes,
    pub(super) credit: u64,
    stream: Option<Outflow>,
}

/// What follows `rest` of a streamed result.
#[derive(Debug, Default)]
struct Outflow {
    pieces: VecDeque<Bytes>,
    waiting: usize,
    /// The frame that ends it.
    end: Option<(Kind, Vec<u8>)>,
}

// === impl Connection ===

impl Connection {
    /// Splits a payload into what goes into its first frame and what follows by and by; returns
    /// the flags of the first frame and the length of the whole.
    pub(super) fn first_chunk(
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
        self.sending.push_back(Sending { call, slot, rest: payload, credit, stream: None });
        (chunk, (MORE, length))
    }

    /// Payload bytes that the first frame takes after a head of `fixed` bytes.
    pub(super) fn first_room(&self, fixed: usize) -> usize {
        self.max_frame().saturating_sub(fixed).min(CHUNK).min(self.window() as usize)
    }

    pub(super) fn open_outflow(&mut self, call: u64, slot: u16) {
        let (credit, stream) = (u64::from(self.window()), Some(Outflow::default()));
        self.sending.push_back(Sending { call, slot, rest: Bytes::new(), credit, stream });
    }

    pub(super) fn outflow(&self, call: u64) -> Option<&Sending> {
        self.sending.iter().find(|sending| sending.call == call && sending.stream.is_some())
    }

    pub(super) fn outflow_mut(&mut self, call: u64) -> Option<&mut Sending> {
        self.sending.iter_mut().find(|sending| sending.call == call && sending.stream.is_some())
    }

    /// Writes the next frames of unfinished payloads, in turns, as far as credit goes.
    pub(super) fn pump(&mut self) {
        let room = self.max_frame().min(CHUNK);
        let mut stuck = 0;
        while self.outbound.len() < OUTBOUND_ENOUGH && stuck < self.sending.len() {
            let Some(mut sending) = self.sending.pop_front() else { return };
            if let Some((kind, body)) = sending.take_end() {
                self.header(body.len(), kind, 0, sending.slot, sending.call);
                self.outbound.put_slice(&body);
                stuck = 0;
                continue;
            }
            let credit = usize::try_from(sending.credit).unwrap_or(usize::MAX);
            let size = sending.rest.len().min(room).min(credit);
            if size == 0 {
                stuck += 1;
                self.sending.push_back(sending);
                continue;
            }
            stuck = 0;
            let chunk = sending.rest.split_to(size);
            sending.credit -= size as u64;
            let more = !sending.rest.is_empty() || sending.stream.is_some();
            let flags = if more { MORE } else { 0 };
            self.header(size, Kind::Data, flags, sending.slot, sending.call);
            self.outbound.put_slice(&chunk);
            if more {
                self.sending.push_back(sending);
            }
        }
    }

    /// The peer answered before it had the whole payload.
    pub(super) fn stop_sending(&mut self, call: u64) {
        let Some(place) = self.sending.iter().position(|sending| sending.call == call) else {
            return;
        };
        if let Some(sending) = self.sending.remove(place) {
            self.header(0, Kind::Data, ABORT, sending.slot, call);
        }
    }
}

// === impl Sending ===

impl Sending {
    pub(super) fn wants_more(&self) -> bool {
        let waiting = self.stream.as_ref().map_or(usize::MAX, |stream| stream.waiting);
        self.rest.len().saturating_add(waiting) < STREAM_AHEAD
    }

    pub(super) fn add(&mut self, piece: Bytes) {
        if let Some(stream) = &mut self.stream
            && !piece.is_empty()
        {
            stream.waiting += piece.len();
            stream.pieces.push_back(piece);
        }
    }

    pub(super) fn end(&mut self, kind: Kind, body: Vec<u8>) {
        if let Some(stream) = &mut self.stream {
            stream.end = Some((kind, body));
        }
    }

    /// Goes on to the next piece where one is done; the frame of its end, where all are.
    fn take_end(&mut self) -> Option<(Kind, Vec<u8>)> {
        let stream = self.stream.as_mut()?;
        if self.rest.is_empty()
            && let Some(next) = stream.pieces.pop_front()
        {
            stream.waiting -= next.len();
            self.rest = next;
        }
        if self.rest.is_empty() { stream.end.take() } else { None }
    }
}
