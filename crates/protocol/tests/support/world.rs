//! Two ends, a pipe between them that delivers when and as much as it likes, and a script.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use exuvia_core::{Codec, Copied, Failure, TraceContext};
use exuvia_protocol::{
    Connection, Event, Hello, Incoming, IncomingCall, IncomingResult, Limits, OutgoingCall, Ready,
    Role,
    frame::{CallHead, Kind, MORE, RESULT_HEAD, ResultHead, SHARED, STREAMS},
};

use super::{
    Choices, RawFrame,
    data::{Data, Stream, copies},
    first_id,
    ledger::Ledger,
    pipe::Pipe,
};

/// Bytes of a failure's body, at most.
const FAILURE_ROOM: usize = (256 << 10) - 8;
/// Payload frames of one call, at most: keeps a window of one byte from taking for ever.
const MOST_FRAMES: usize = 300;

/// One call of a script.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) by_host: bool,
    pub(crate) payload: u32,
    /// The payload is memory.
    pub(crate) shared: bool,
    pub(crate) attached: u8,
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
    /// With so many bytes of memory, or with descriptors beside so many bytes.
    Memory { size: u32, shared: bool, attached: u8 },
    /// With so many bytes in so many pieces, and a failure behind them.
    Stream { size: u32, pieces: u8, fails: bool },
    /// With a text of so many bytes.
    Failure(u32),
}

/// What the answerer said of a call's end.
#[derive(Debug)]
enum Answer {
    Result(ResultHead, Vec<Copied>, Data),
    Stream(u64, Vec<Copied>),
    Failure(u64, Failure),
}

/// What the opener heard of it.
#[derive(Debug)]
enum Heard {
    Result(IncomingResult),
    End(u64, Vec<Copied>),
    Failure(u64, Failure),
}

/// A call that was opened.
struct Known {
    plan: Plan,
    /// As it is to arrive; the payload apart.
    sent: IncomingCall,
    data: Data,
    opener: usize,
    /// Its first frame, with more to come, reached the answerer.
    begun: bool,
    arrived: bool,
    cancelled: bool,
    cancelling: u32,
    answer: Option<Answer>,
    stream: Option<Stream>,
    ended: bool,
}

/// End 0 is the host, end 1 the worker; so are the directions that start there.
pub(crate) struct World {
    limits: [Limits; 2],
    ends: [Connection; 2],
    pipes: [Pipe; 2],
    written: [BytesMut; 2],
    read: [BytesMut; 2],
    /// Something was read by this end and not looked at.
    undigested: [bool; 2],
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
    Digest(usize),
    Answer(u64),
    Add(u64),
    Look(u64),
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
            undigested: Default::default(),
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
                Step::Digest(end) => self.digest(end),
                Step::Answer(call) => self.answer(call),
                Step::Add(call) => self.add(call),
                Step::Look(call) => self.look(call),
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
            if self.undigested[from] {
                steps.push(Step::Digest(from));
            }
        }
        if self.greeted && !plans.is_empty() {
            steps.push(Step::Open);
        }
        for (&call, known) in &self.calls {
            if known.arrived && known.answer.is_none() {
                steps.push(Step::Answer(call));
            }
            if let Some(stream) = &known.stream {
                let wanted = self.ends[1 - known.opener].wants_more(call);
                if !stream.closed && (wanted || stream.left.is_empty()) {
                    steps.push(Step::Add(call));
                }
                if !stream.unread.is_empty() {
                    steps.push(Step::Look(call));
                }
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
        let size = self.affordable(plan.payload, to);
        let data = Data::new(call, size, plan.shared, plan.attached);
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
            flags: if matches!(plan.end, End::Stream { .. }) { STREAMS } else { 0 },
            descriptors: 0,
        };
        let slot = (call % 65_536) as u16;
        let text_arguments = plan.text.clone();
        let shared = if plan.shared { SHARED } else { 0 };
        let descriptors = data.descriptors.len() as u8;
        let arriving = CallHead { flags: head.flags | shared, descriptors, ..head };
        let payload = Incoming::default();
        let sent = IncomingCall { call, slot, head: arriving, text_arguments, payload };
        let before = self.ends[from].outbound().len();
        let opened = self.ends[from].call(OutgoingCall {
            call,
            slot,
            head,
            text_arguments: &sent.text_arguments,
            payload: data.outgoing(),
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
            data,
            opener: from,
            begun: false,
            arrived: false,
            cancelled: false,
            cancelling: 0,
            answer: None,
            stream: None,
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
        let to = 1 - from;
        let head = ResultHead::new(Codec::Value, call << 33);
        let told = copies(self.choices.below(3));
        let answer = match known.plan.end {
            End::Result(size, true) => {
                let data = Data::new(!call, self.affordable(size, to), false, 0);
                self.ends[from].result_from(call, slot, head, &data.bytes);
                Answer::Result(head, Vec::new(), data)
            }
            End::Result(size, false) => {
                let data = Data::new(!call, self.affordable(size, to), false, 0);
                self.result(from, call, slot, head, told, data)
            }
            End::Memory { size, shared, attached } => {
                let data = Data::new(!call, self.affordable(size, to), shared, attached);
                self.result(from, call, slot, head, told, data)
            }
            End::Stream { size, pieces, .. } if !known.plan.refuse => {
                let size = self.affordable(size, to);
                let stream = Stream::new(!call, size, pieces, &mut self.choices);
                self.ends[from].begin_stream(call, slot, head);
                self.calls.get_mut(&call).expect("known").stream = Some(stream);
                Answer::Stream(call << 34, told)
            }
            End::Failure(_) | End::Stream { .. } => {
                let size = if let End::Failure(size) = known.plan.end { size } else { 9 };
                let text = "ü".repeat(size as usize / 2);
                let failure = Failure::Load { message: text.clone(), traceback: text };
                self.ends[from].failure(call, slot, call << 33, &failure).expect("it always fits");
                Answer::Failure(call << 33, failure)
            }
        };
        self.calls.get_mut(&call).expect("known").answer = Some(answer);
    }

    /// Answers with a result; says how it is to arrive.
    fn result(
        &mut self,
        from: usize,
        call: u64,
        slot: u16,
        head: ResultHead,
        told: Vec<Copied>,
        data: Data,
    ) -> Answer {
        self.ends[from].result(call, slot, head, &told, data.outgoing());
        let flags = if data.shared.is_some() { SHARED } else { 0 };
        let descriptors = data.descriptors.len() as u8;
        Answer::Result(ResultHead { flags, descriptors, ..head }, told, data)
    }

    /// The maker of a streamed result goes on with it.
    fn add(&mut self, call: u64) {
        let known = self.calls.get_mut(&call).expect("known");
        let (end, slot) = (&mut self.ends[1 - known.opener], known.sent.slot);
        let stream = known.stream.as_mut().expect("it streams");
        if let Some(piece) = stream.left.pop() {
            stream.made.extend_from_slice(&piece);
            return end.add(call, piece);
        }
        stream.closed = true;
        match (&known.plan.end, &known.answer) {
            (End::Stream { fails: false, .. }, Some(Answer::Stream(run_ns, told))) => {
                end.end_stream(call, *run_ns, told);
            }
            _ => {
                let failure = Failure::Malformed { message: "half-way".into() };
                end.failure(call, slot, 7, &failure).expect("it fits");
                known.answer = Some(Answer::Failure(7, failure));
            }
        }
    }

    /// The reader of a streamed result takes a piece, and gives credit for half a window at once.
    fn look(&mut self, call: u64) {
        let known = self.calls.get_mut(&call).expect("known");
        let stream = known.stream.as_mut().expect("it streams");
        let piece = stream.unread.pop_front().expect("there is one");
        stream.owed += piece.len() as u32;
        if stream.owed >= self.limits[known.opener].window / 2 {
            let owed = std::mem::take(&mut stream.owed);
            self.ends[known.opener].grant_stream(call, known.sent.slot, owed);
        }
    }

    fn cancel(&mut self, call: u64) {
        let known = self.calls.get_mut(&call).expect("known");
        known.cancelled = true;
        self.ends[known.opener].cancel(call, known.sent.slot);
    }

    fn write(&mut self, from: usize) {
        let size = self.choices.chunk(self.grain);
        let Some(to_send) = self.ends[from].to_send() else { return };
        let begins = self.written[from].is_empty();
        assert!(to_send.descriptors.is_empty() || begins, "they go with a frame's first byte");
        let bytes = self.pipes[from].write(&to_send, size);
        self.ends[from].sent(bytes.len());
        self.written[from].extend_from_slice(&bytes);
        while let Some(frame) = RawFrame::take(&mut self.written[from]) {
            self.ledgers[from].sent(&frame);
            self.ledgers[1 - from].receiver_sent(&frame);
        }
    }

    /// Bytes arrive; often they are looked at together with later ones only.
    fn deliver(&mut self, from: usize) {
        let size = self.choices.chunk(self.grain).min(self.pipes[from].len());
        let (bytes, came) = self.pipes[from].read(size);
        let to = 1 - from;
        self.ends[to].inbound().extend_from_slice(&bytes);
        self.ends[to].descriptors(came).expect("no more than frames take");
        self.read[from].extend_from_slice(&bytes);
        self.undigested[to] = true;
        if self.choices.below(3) > 0 {
            self.digest(to);
        }
    }

    fn digest(&mut self, end: usize) {
        let from = 1 - end;
        self.undigested[end] = false;
        while let Some(frame) = RawFrame::take(&mut self.read[from]) {
            self.ledgers[from].delivered(&frame);
            self.ledgers[end].sender_received(&frame);
            if frame.kind == Kind::Call as u8 && frame.flags & MORE != 0 {
                self.calls.get_mut(&frame.call).expect("it was opened").begun = true;
            }
        }
        while let Some(event) = self.ends[end].next_event().expect("both keep the rules") {
            self.hear(end, event);
        }
    }

    fn deliver_all(&mut self, from: usize) {
        while !self.pipes[from].is_empty() || !self.ends[from].outbound().is_empty() {
            self.write(from);
            self.deliver(from);
        }
        self.digest(1 - from);
    }

    fn hear(&mut self, end: usize, event: Event) {
        match event {
            Event::Hello(hello) => {
                assert_eq!(hello.limits, self.limits[1 - end]);
                if end == 1 {
                    let me = &mut self.ends[1];
                    me.hello(&Hello::new(self.limits[1])).expect("a greeting fits");
                    me.ready(&Ready::Handlers(Vec::new(), Vec::new())).expect("no handlers fit");
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
                known.data.assert_is(&call.payload);
                let call = IncomingCall { payload: Incoming::default(), ..call };
                assert_eq!(known.sent, call, "a call arrives intact");
                assert!(!known.arrived, "a call arrives once");
                assert!(known.answer.is_none(), "a refused call does not arrive");
                known.arrived = true;
            }
            Event::Result(result) if result.head.flags & STREAMS != 0 => {
                self.hear_stream(end, &result);
            }
            Event::Piece { call, slot, piece } => self.hear_piece(end, call, slot, piece),
            Event::Result(result) => {
                self.end(end, result.call, result.slot, Heard::Result(result));
            }
            Event::End { call, slot, run_ns, copies } => {
                self.end(end, call, slot, Heard::End(run_ns, copies));
            }
            Event::Failure { call, slot, run_ns, failure } => {
                self.end(end, call, slot, Heard::Failure(run_ns, *failure));
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

    fn hear_stream(&mut self, end: usize, result: &IncomingResult) {
        let known = self.calls.get_mut(&result.call).expect("it was opened");
        assert_eq!((known.opener, known.sent.slot), (end, result.slot));
        assert_eq!((result.head.codec, result.head.run_ns), (Codec::Value, result.call << 33));
        assert_eq!((&result.copies, &result.payload), (&vec![], &Incoming::default()));
        let stream = known.stream.as_mut().expect("it streams");
        assert!(!stream.heard && !known.ended, "a stream begins once");
        stream.heard = true;
    }

    fn hear_piece(&mut self, end: usize, call: u64, slot: u16, piece: Bytes) {
        let known = self.calls.get_mut(&call).expect("it was opened");
        assert_eq!((known.opener, known.sent.slot), (end, slot));
        let stream = known.stream.as_mut().expect("it streams");
        assert!(stream.heard && !known.ended && !piece.is_empty(), "between beginning and end");
        stream.came.extend_from_slice(&piece);
        stream.unread.push_back(piece);
        stream.assert_in_order();
        // What its maker was let ahead of its reader.
        let ahead: usize = stream.unread.iter().map(Bytes::len).sum();
        let ahead = ahead + stream.owed as usize;
        assert!(ahead <= self.limits[end].window as usize, "more than a window unread");
    }

    fn hear_cancel(&mut self, end: usize, call: u64, slot: u16) {
        let known = self.calls.get_mut(&call).expect("it was opened");
        let over = known.arrived || known.answer.is_some();
        assert!(over, "the cancel of an incomplete call is dealt with inside");
        let me = &mut self.ends[end];
        // Of a streamed result nothing more is sent, unless its end is on the way.
        let stops = match &mut known.stream {
            Some(stream) => {
                stream.closed = true;
                me.cut_stream(call)
            }
            None => known.answer.is_none(),
        };
        if stops {
            me.cancelling(call, slot);
            me.failure(call, slot, 9, &Failure::Cancelled).expect("it fits");
            known.answer = Some(Answer::Failure(9, Failure::Cancelled));
        }
    }

    fn end(&mut self, end: usize, call: u64, slot: u16, got: Heard) {
        let known = self.calls.get_mut(&call).expect("it was opened");
        assert_eq!((known.opener, known.sent.slot), (end, slot));
        assert!(!known.ended, "a call ends once");
        known.ended = true;
        match (&known.answer, &got) {
            (Some(Answer::Failure(ns, sent)), Heard::Failure(got_ns, got)) => {
                assert_eq!(ns, got_ns);
                let room = (self.limits[end].max_frame as usize - 8).min(FAILURE_ROOM);
                let whole = rmp_serde::to_vec_named(sent).expect("failures can be written").len();
                assert!(whole > room || sent == got, "a failure that fits arrives whole");
                assert_eq!(sent.kind(), got.kind());
                if let (Some(stream), Failure::Malformed { .. }) = (&known.stream, got) {
                    stream.assert_complete();
                }
            }
            (Some(Answer::Result(head, told, data)), Heard::Result(got)) => {
                assert_eq!(*head, got.head);
                data.assert_is(&got.payload);
                let room = (self.limits[end].max_frame as usize).saturating_sub(RESULT_HEAD);
                assert_told(told, &got.copies, room);
            }
            (Some(Answer::Stream(run_ns, told)), Heard::End(got_ns, got)) => {
                assert_eq!(run_ns, got_ns);
                known.stream.as_ref().expect("it streams").assert_complete();
                assert_told(told, got, self.limits[end].max_frame as usize - 8);
            }
            (None, Heard::Failure(0, Failure::Cancelled)) => {
                assert!(known.cancelled && !known.arrived, "an answer that nobody gave");
            }
            (sent, got) => panic!("{sent:?} was said and {got:?} was heard"),
        }
    }
}

/// What was said of copies arrives, as much of it as fits.
fn assert_told(said: &[Copied], heard: &[Copied], room: usize) {
    assert_eq!(said.get(..heard.len()), Some(heard));
    let whole = rmp_serde::to_vec_named(said).expect("copies can be written").len();
    assert!(whole > room || said.len() == heard.len(), "what fits arrives");
}
