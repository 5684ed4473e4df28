//! Who may send how much, kept from outside by reading the frames on the wire.

use std::collections::HashMap;

use exuvia_protocol::{
    Limits,
    frame::{ABORT, FED, Kind, MORE, SHARED, STREAMS},
};

use super::RawFrame;

/// One direction of the wire.
pub(crate) struct Ledger {
    /// The receiver's limits.
    limits: Limits,
    flows: HashMap<u64, Flow>,
    /// Calls that the sender cancelled.
    cancelled: Vec<u64>,
    /// Those whose CANCEL arrived.
    cancels: Vec<u64>,
}

/// A payload on its way.
struct Flow {
    /// `None`: of a streamed result nobody knows.
    length: Option<u64>,
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
        Self { limits, flows: HashMap::new(), cancelled: Vec::new(), cancels: Vec::new() }
    }

    /// A frame leaves the sender.
    pub(crate) fn sent(&mut self, frame: &RawFrame) {
        assert!(frame.body.len() <= self.limits.max_frame as usize, "longer than max_frame");
        if frame.kind == Kind::Cancel as u8 {
            self.cancelled.push(frame.call);
            self.flows.remove(&frame.call);
        }
        if matches!(frame.kind, kind if kind == Kind::End as u8 || kind == Kind::Failure as u8) {
            self.ended(frame);
        }
        let Some(bytes) = payload_bytes(frame) else { return };
        let more = frame.flags & MORE != 0;
        if let Some(length) = payload_length(frame) {
            self.begun(frame, length, bytes, more);
        } else {
            assert!(!self.cancelled.contains(&frame.call), "payload after CANCEL");
            let flow = self.flows.get_mut(&frame.call).expect("DATA follows a CALL or RESULT");
            assert!(flow.open, "payload after its end");
            assert!(bytes > 0 || frame.flags & ABORT != 0, "a frame of nothing");
            flow.sent += bytes;
            flow.open = more;
        }
        let flow = &self.flows[&frame.call];
        assert!(flow.sent <= flow.granted, "more was sent than granted");
        if frame.flags & ABORT != 0 {
            assert_eq!(bytes, 0, "aborted with a body");
        } else if !more && let Some(length) = flow.length {
            assert_eq!(flow.sent, length, "as long as its head said");
        }
        assert!(more || flow.length.is_some(), "a stream ends by END or FAILURE");
    }

    fn begun(&mut self, frame: &RawFrame, length: u64, bytes: u64, more: bool) {
        assert!(length <= self.limits.max_payload, "longer than max_payload");
        let flags = head_flags(frame);
        let window = self.limits.window.into();
        let length = match flags {
            _ if flags & (SHARED | FED) != 0 => {
                assert!(bytes == 0 && !more, "what lies elsewhere is not sent");
                Some(0)
            }
            _ if frame.kind == Kind::Result as u8 && flags & STREAMS != 0 => {
                assert!(bytes == 0 && more && length == 0, "a stream begins with nothing");
                None
            }
            _ => Some(length),
        };
        let flow =
            Flow { length, sent: bytes, delivered: 0, granted: window, given: window, open: more };
        let before = self.flows.insert(frame.call, flow);
        assert!(before.is_none(), "one payload in a direction for each call");
    }

    /// An answer ends without a payload, or behind the pieces of a stream.
    fn ended(&mut self, frame: &RawFrame) {
        match self.flows.get_mut(&frame.call) {
            Some(flow) => {
                assert!(flow.open && flow.length.is_none(), "an answer after an answer");
                flow.open = false;
            }
            None => assert_ne!(frame.kind, Kind::End as u8, "END without a stream"),
        }
    }

    /// A frame reaches the receiver.
    pub(crate) fn delivered(&mut self, frame: &RawFrame) {
        if frame.kind == Kind::Cancel as u8 {
            self.cancels.push(frame.call);
        }
        if let (Some(bytes), Some(flow)) = (payload_bytes(frame), self.flows.get_mut(&frame.call)) {
            flow.delivered += bytes;
        }
    }

    /// The receiver writes a frame, which may be credit.
    pub(crate) fn receiver_sent(&mut self, frame: &RawFrame) {
        if let (Some(amount), Some(flow)) = (credit(frame), self.flows.get_mut(&frame.call)) {
            flow.given += amount;
            let ahead = flow.given - flow.delivered;
            assert!(ahead <= self.limits.window.into(), "the receiver promised over its window");
        }
    }

    /// The receiver's frame reaches the sender.
    pub(crate) fn sender_received(&mut self, frame: &RawFrame) {
        if let (Some(amount), Some(flow)) = (credit(frame), self.flows.get_mut(&frame.call)) {
            flow.granted += amount;
        }
    }

    pub(crate) fn cancel_delivered(&self, call: u64) -> bool {
        self.cancels.contains(&call)
    }

    pub(crate) fn all_finished(&self) -> bool {
        self.flows.values().all(|flow| !flow.open)
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

/// The flags in the head of a CALL or RESULT.
pub(crate) fn head_flags(frame: &RawFrame) -> u8 {
    let at = if frame.kind == Kind::Call as u8 { 32 } else { 1 };
    frame.body.get(at).copied().unwrap_or(0)
}

/// Bytes of payload in a frame that carries some.
pub(crate) fn payload_bytes(frame: &RawFrame) -> Option<u64> {
    let body = &frame.body;
    let number = |at: usize| -> Option<usize> {
        Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?) as usize)
    };
    let head = match frame.kind {
        kind if kind == Kind::Call as u8 => {
            let trace = if *body.get(6)? == 1 { 25 } else { 0 };
            40 + trace + number(12)?
        }
        kind if kind == Kind::Result as u8 => 24 + number(4)?,
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
