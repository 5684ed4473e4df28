//! Who may send how much, kept from outside by reading the frames on the wire.

use std::collections::HashMap;

use exuvia_protocol::{
    Limits,
    frame::{ABORT, Kind, MORE},
};

use super::RawFrame;

/// One direction of the wire.
pub(crate) struct Ledger {
    /// The receiver's limits.
    limits: Limits,
    streams: HashMap<u64, Stream>,
    /// Calls that the sender cancelled.
    cancelled: Vec<u64>,
    /// Those whose CANCEL arrived.
    cancels: Vec<u64>,
}

/// A payload on its way.
struct Stream {
    length: u64,
    sent: u64,
    delivered: u64,
    /// What the sender has been told it may send in all.
    granted: u64,
    /// What the receiver has said that the sender may send in all.
    given: u64,
    open: bool,
}

impl Ledger {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, streams: HashMap::new(), cancelled: Vec::new(), cancels: Vec::new() }
    }

    /// A frame leaves the sender.
    pub(crate) fn sent(&mut self, frame: &RawFrame) {
        assert!(frame.body.len() <= self.limits.max_frame as usize, "longer than max_frame");
        if frame.kind == Kind::Cancel as u8 {
            self.cancelled.push(frame.call);
            self.streams.remove(&frame.call);
        }
        let Some(bytes) = payload_bytes(frame) else { return };
        let more = frame.flags & MORE != 0;
        if let Some(length) = payload_length(frame) {
            assert!(length <= self.limits.max_payload, "longer than max_payload");
            let window = self.limits.window.into();
            let stream = Stream {
                length,
                sent: bytes,
                delivered: 0,
                granted: window,
                given: window,
                open: more,
            };
            let before = self.streams.insert(frame.call, stream);
            assert!(before.is_none(), "one payload in a direction for each call");
        } else {
            assert!(!self.cancelled.contains(&frame.call), "payload after CANCEL");
            let stream = self.streams.get_mut(&frame.call).expect("DATA follows a CALL or RESULT");
            assert!(stream.open, "payload after its end");
            stream.sent += bytes;
            stream.open = more;
        }
        let stream = &self.streams[&frame.call];
        assert!(stream.sent <= stream.granted, "more was sent than granted");
        if frame.flags & ABORT != 0 {
            assert_eq!(bytes, 0, "aborted with a body");
        } else if !more {
            assert_eq!(stream.sent, stream.length, "as long as its head said");
        }
    }

    /// A frame reaches the receiver.
    pub(crate) fn delivered(&mut self, frame: &RawFrame) {
        if frame.kind == Kind::Cancel as u8 {
            self.cancels.push(frame.call);
        }
        if let (Some(bytes), Some(stream)) =
            (payload_bytes(frame), self.streams.get_mut(&frame.call))
        {
            stream.delivered += bytes;
        }
    }

    /// The receiver writes a frame, which may be credit.
    pub(crate) fn receiver_sent(&mut self, frame: &RawFrame) {
        if let (Some(amount), Some(stream)) = (credit(frame), self.streams.get_mut(&frame.call)) {
            stream.given += amount;
            let ahead = stream.given - stream.delivered;
            assert!(ahead <= self.limits.window.into(), "the receiver promised over its window");
        }
    }

    /// The receiver's frame reaches the sender.
    pub(crate) fn sender_received(&mut self, frame: &RawFrame) {
        if let (Some(amount), Some(stream)) = (credit(frame), self.streams.get_mut(&frame.call)) {
            stream.granted += amount;
        }
    }

    pub(crate) fn cancel_delivered(&self, call: u64) -> bool {
        self.cancels.contains(&call)
    }

    pub(crate) fn all_finished(&self) -> bool {
        self.streams.values().all(|stream| !stream.open)
    }
}

/// The payload's length according to the frame that begins it.
pub(crate) fn payload_length(frame: &RawFrame) -> Option<u64> {
    let at = match frame.kind {
        kind if kind == Kind::Call as u8 || kind == Kind::Result as u8 => 16,
        _ => return None,
    };
    let bytes = frame.body.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Bytes of payload in a frame that carries some.
pub(crate) fn payload_bytes(frame: &RawFrame) -> Option<u64> {
    let body = &frame.body;
    let head = match frame.kind {
        kind if kind == Kind::Call as u8 => {
            let trace = if *body.get(6)? == 1 { 25 } else { 0 };
            40 + trace + u32::from_le_bytes(body.get(12..16)?.try_into().ok()?) as usize
        }
        kind if kind == Kind::Result as u8 => 24,
        kind if kind == Kind::Data as u8 => 0,
        _ => return None,
    };
    Some((body.len() - head) as u64)
}

fn credit(frame: &RawFrame) -> Option<u64> {
    let is_credit = frame.kind == Kind::Credit as u8;
    let bytes = frame.body.get(..4)?;
    is_credit.then(|| u32::from_le_bytes(bytes.try_into().unwrap_or_default()).into())
}
