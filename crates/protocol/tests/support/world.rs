//! Two ends, a pipe between them that delivers when and as much as it likes, and a script.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use exuvia_core::{Codec, Failure, TraceContext};
use exuvia_protocol::{
    Connection, Event, Hello, IncomingCall, Limits, OutgoingCall, Ready, Role,
    frame::{CallHead, Kind, MORE, ResultHead},
};

use super::{Choices, RawFrame, first_id, ledger::Ledger, noise};

/// Bytes of a failure's body, at most.
const FAILURE_ROOM: usize = (256 << 10) - 8;
/// Payload frames of one call, at most: keeps a window of one byte from taking for ever.
const MOST_FRAMES: usize = 300;

/// One call of a script.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) by_host: bool,
    pub(crate) payload: u32,
    pub(crate) text: Vec<(String, String)>,
    pub(crate) trace: bool,
    pub(crate) end: End,
    /// The answerer does not wait for the payload's end.
    pub(crate) refuse: bool,
    pub(crate) cancel: bool,
}

/// How a call is answered.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// With so many bytes; borrowed or owned.
    Result(u32, bool),
    /// With a text of so many bytes.
    Failure(u32),
}

#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Result(ResultHead, Bytes),
    Failure(u64, Failure),
}

/// A call that was opened.
struct Known {
    plan: Plan,
    sent: IncomingCall,
    opener: usize,
    /// Its first frame, with more to come, reached the answerer.
    begun: bool,
    arrived: bool,
    cancelled: bool,
    cancelling: u32,
    answer: Option<Answer>,
    ended: bool,
}

/// End 0 is the host, end 1 the worker; so are the directions that start there.
pub(crate) struct World {
    limits: [Limits; 2],
    ends: [Connection; 2],
    pipes: [BytesMut; 2],
    written: [BytesMut; 2],
    read: [BytesMut; 2],
    ledgers: [Ledger; 2],
    calls: BTreeMap<u64, Known>,
    next_id: [u64; 2],
    greeted: bool,
    drained: bool,
    grain: usize,
    choices: Choices,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Open,
    Write(usize),
    Deliver(usize),
    Answer(u64),
    Refuse(u64),
    Cancel(u64),
}

// === impl World ===

impl World {
    pub(crate) fn new(host: Limits, worker: Limits, grain: usize, seed: u64) -> Self {
        let mut host_end = Connection::new(Role::Host, host);
        host_end.hello(&Hello::new(host)).expect("a greeting fits");
        Self {
            limits: [host, worker],
            ends: [host_end, Connection::new(Role::Worker, worker)],
            pipes: Default::default(),
            written: Default::default(),
            read: Default::default(),
            ledgers: [Ledger::new(worker), Ledger::new(host)],
            calls: BTreeMap::new(),
            next_id: [first_id(Role::Host), first_id(Role::Worker)],
            greeted: false,
            drained: false,
            grain,
            choices: Choices(seed),
        }
    }

    /// Plays the script until nothing can move any more, then looks whether anything is left.
    pub(crate) fn play(&mut self, mut plans: Vec<Plan>) {
        plans.reverse();
        loop {
            let steps = self.possible(&plans);
            if steps.is_empty() {
                break;
            }
            match steps[self.choices.below(steps.len())] {
                Step::Open => plans.pop().into_iter().for_each(|plan| self.open(plan)),
                Step::Write(from) => self.write(from),
                Step::Deliver(from) => self.deliver(from),
                Step::Answer(call) => self.answer(call),
                // Rarely, so that it happens anywhere in the course of a payload.
                Step::Refuse(_) | Step::Cancel(_) if self.choices.below(8) > 0 => {}
                Step::Refuse(call) => self.answer(call),
                Step::Cancel(call) => self.cancel(call),
            }
        }
        assert!(self.greeted, "the handshake came to its end");
        assert!(plans.is_empty());
        for (call, known) in &self.calls {
            assert!(known.ended, "call {call} has no end: {:?}", known.plan);
            let excused = known.cancelled || known.plan.refuse;
            assert!(known.arrived || excused, "call {call} did not arrive");
        }
        assert!(self.ledgers.iter().all(Ledger::all_finished), "a payload without an end");
        self.ends[0].drain();
        self.write(0);
        self.deliver_all(0);
        assert!(self.drained, "DRAIN arrives");
    }

    fn possible(&mut self, plans: &[Plan]) -> Vec<Step> {
        let mut steps = Vec::new();
        for from in 0..2 {
            if !self.ends[from].outbound().is_empty() {
                steps.push(Step::Write(from));
            }
            if !self.pipes[from].is_empty() {
                steps.push(Step::Deliver(from));
            }
        }
        if self.greeted && !plans.is_empty() {
            steps.push(Step::Open);
        }
        for (&call, known) in &self.calls {
            if known.arrived && known.answer.is_none() {
                steps.push(Step::Answer(call));
            }
            if known.plan.refuse && known.begun && !known.arrived && known.answer.is_none() {
                // A call whose cancel was delivered is over for the answerer.
                if !self.ledgers[known.opener].cancel_delivered(call) {
                    steps.push(Step::Refuse(call));
                }
            }
            if known.plan.cancel && !known.cancelled && !known.ended {
                steps.push(Step::Cancel(call));
            }
        }
        steps
    }

    fn open(&mut self, plan: Plan) {
        let from = usize::from(!plan.by_host);
        let to = 1 - from;
        let call = self.next_id[from];
        self.next_id[from] += 2 * (1 + self.choices.below(3) as u64);
        let payload = noise(call, self.affordable(plan.payload, to));
        let trace = plan.trace.then(|| TraceContext {
            trace_id: [call as u8 + 1; 16],
            span_id: [call as u8 + 2; 8],
            flags: 1,
        });
        let head = CallHead {
            handler: call as u32 + 7,
            codec: Codec::Arguments,
            accept: Codec::Ndjson,
            time_left_ms: call as u32 * 3,
            public_id: call << 40 | 5,
            trace,
        };
        let slot = (call % 65_536) as u16;
        let text_arguments = plan.text.clone();
        let sent = IncomingCall { call, slot, head, text_arguments, payload };
        let before = self.ends[from].outbound().len();
        let opened = self.ends[from].call(OutgoingCall {
            call,
            slot,
            head,
            text_arguments: &sent.text_arguments,
            payload: sent.payload.clone(),
        });
        if opened.is_err() {
            let text = rmp_serde::to_vec(&sent.text_arguments).expect("texts can be written");
            assert!(65 + text.len() > self.limits[to].max_frame as usize, "it would have fit");
            assert_eq!(self.ends[from].outbound().len(), before, "nothing was written");
            return;
        }
        let known = Known {
            plan,
            sent,
            opener: from,
            begun: false,
            arrived: false,
            cancelled: false,
            cancelling: 0,
            answer: None,
            ended: false,
        };
        self.calls.insert(call, known);
    }

    /// So much of `size` as the receiver takes at all and in a bearable number of frames.
    fn affordable(&self, size: u32, to: usize) -> usize {
        let limits = &self.limits[to];
        let frame = limits.max_frame.min(limits.window).min(64 << 10) as usize;
        (size as usize).min(limits.max_payload as usize).min(frame * MOST_FRAMES)
    }

    fn answer(&mut self, call: u64) {
        let Some(known) = self.calls.get(&call) else { return };
        let (from, slot) = (1 - known.opener, known.sent.slot);
        let answer = match known.plan.end {
            End::Result(size, borrowed) => {
                let head = ResultHead { codec: Codec::Value, run_ns: call << 33 };
                let payload = noise(!call, self.affordable(size, 1 - from));
                if borrowed {
                    self.ends[from].result_from(call, slot, head, &payload);
                } else {
                    self.ends[from].result(call, slot, head, payload.clone());
                }
                Answer::Result(head, payload)
            }
            End::Failure(size) => {
                let text = "ü".repeat(size as usize / 2);
                let failure = Failure::Load { message: text.clone(), traceback: text };
                self.ends[from].failure(call, slot, call << 33, &failure).expect("it always fits");
                Answer::Failure(call << 33, failure)
            }
        };
        self.calls.get_mut(&call).expect("known").answer = Some(answer);
    }

    fn cancel(&mut self, call: u64) {
        let known = self.calls.get_mut(&call).expect("known");
        known.cancelled = true;
        self.ends[known.opener].cancel(call, known.sent.slot);
    }

    fn write(&mut self, from: usize) {
        let size = self.choices.chunk(self.grain);
        let outbound = self.ends[from].outbound();
        let bytes = outbound.split_to(size.min(outbound.len()));
        self.pipes[from].extend_from_slice(&bytes);
        self.written[from].extend_from_slice(&bytes);
        while let Some(frame) = RawFrame::take(&mut self.written[from]) {
            self.ledgers[from].sent(&frame);
            self.ledgers[1 - from].receiver_sent(&frame);
        }
    }

    fn deliver(&mut self, from: usize) {
        let size = self.choices.chunk(self.grain).min(self.pipes[from].len());
        let bytes = self.pipes[from].split_to(size);
        self.ends[1 - from].inbound().extend_from_slice(&bytes);
        self.read[from].extend_from_slice(&bytes);
        while let Some(frame) = RawFrame::take(&mut self.read[from]) {
            self.ledgers[from].delivered(&frame);
            self.ledgers[1 - from].sender_received(&frame);
            if frame.kind == Kind::Call as u8 && frame.flags & MORE != 0 {
                self.calls.get_mut(&frame.call).expect("it was opened").begun = true;
            }
        }
        while let Some(event) = self.ends[1 - from].next_event().expect("both keep the rules") {
            self.hear(1 - from, event);
        }
    }

    fn deliver_all(&mut self, from: usize) {
        while !self.pipes[from].is_empty() || !self.ends[from].outbound().is_empty() {
            self.write(from);
            self.deliver(from);
        }
    }

    fn hear(&mut self, end: usize, event: Event) {
        match event {
            Event::Hello(hello) => {
                assert_eq!(hello.limits, self.limits[1 - end]);
                if end == 1 {
                    let me = &mut self.ends[1];
                    me.hello(&Hello::new(self.limits[1])).expect("a greeting fits");
                    me.ready(&Ready::Handlers(Vec::new())).expect("no handlers fit");
                }
            }
            Event::Ready(_) => self.greeted = true,
            Event::Drain => {
                assert!(!self.drained, "DRAIN arrives once");
                self.drained = true;
            }
            Event::Call(call) => {
                let known = self.calls.get_mut(&call.call).expect("it was opened");
                assert_ne!(known.opener, end);
                assert_eq!(known.sent, call, "a call arrives intact");
                assert!(!known.arrived, "a call arrives once");
                assert_eq!(known.answer, None, "a refused call does not arrive");
                known.arrived = true;
            }
            Event::Result { call, slot, head, payload } => {
                self.end(end, call, slot, Answer::Result(head, payload));
            }
            Event::Failure { call, slot, run_ns, failure } => {
                self.end(end, call, slot, Answer::Failure(run_ns, *failure));
            }
            Event::Cancel { call, slot } => self.hear_cancel(end, call, slot),
            Event::Cancelling { call, .. } => {
                let known = self.calls.get_mut(&call).expect("it was opened");
                assert!(known.cancelled && !known.ended);
                known.cancelling += 1;
                assert_eq!(known.cancelling, 1, "a cancel is heard once");
            }
        }
    }

    fn hear_cancel(&mut self, end: usize, call: u64, slot: u16) {
        let known = self.calls.get_mut(&call).expect("it was opened");
        let over = known.arrived || known.answer.is_some();
        assert!(over, "the cancel of an incomplete call is dealt with inside");
        if known.answer.is_none() {
            self.ends[end].cancelling(call, slot);
            self.ends[end].failure(call, slot, 9, &Failure::Cancelled).expect("it fits");
            known.answer = Some(Answer::Failure(9, Failure::Cancelled));
        }
    }

    fn end(&mut self, end: usize, call: u64, slot: u16, got: Answer) {
        let room = (self.limits[end].max_frame as usize - 8).min(FAILURE_ROOM);
        let known = self.calls.get_mut(&call).expect("it was opened");
        assert_eq!((known.opener, known.sent.slot), (end, slot));
        assert!(!known.ended, "a call ends once");
        known.ended = true;
        match (&known.answer, &got) {
            (Some(Answer::Failure(ns, sent)), Answer::Failure(got_ns, got)) => {
                assert_eq!(ns, got_ns);
                let whole = rmp_serde::to_vec_named(sent).expect("failures can be written").len();
                assert!(whole > room || sent == got, "a failure that fits arrives whole");
                assert_eq!(sent.kind(), got.kind());
            }
            (Some(sent), got) => assert_eq!(sent, got, "an answer arrives intact"),
            (None, got) => {
                assert!(known.cancelled && !known.arrived, "an answer that nobody gave");
                assert_eq!(got, &Answer::Failure(0, Failure::Cancelled));
            }
        }
    }
}
