//! The writing half: payloads in turns, as far as credit goes (section 5).

use bytes::{BufMut, Bytes};

use super::Connection;
use crate::frame::{ABORT, Kind, MORE};

/// Payload bytes in one frame, at most: what a small payload waits for behind a large one.
const CHUNK: usize = 64 << 10;
/// Payload frames are added until so much waits to be written.
const OUTBOUND_ENOUGH: usize = 256 << 10;

/// A payload that is not wholly written.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) call: u64,
    slot: u16,
    rest: Bytes,
    pub(super) credit: u64,
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
        self.sending.push_back(Sending { call, slot, rest: payload, credit });
        (chunk, (MORE, length))
    }

    /// Payload bytes that the first frame takes after a head of `fixed` bytes.
    pub(super) fn first_room(&self, fixed: usize) -> usize {
        (self.max_frame() - fixed).min(CHUNK).min(self.window() as usize)
    }

    /// Writes the next frames of unfinished payloads, in turns, as far as credit goes.
    pub(super) fn pump(&mut self) {
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
    pub(super) fn stop_sending(&mut self, call: u64) {
        let Some(place) = self.sending.iter().position(|sending| sending.call == call) else {
            return;
        };
        if let Some(sending) = self.sending.remove(place) {
            self.header(0, Kind::Data, ABORT, sending.slot, call);
        }
    }
}
