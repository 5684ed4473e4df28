//! Frames that come with descriptors: memory, attached tables, sockets (`docs/protocol.md`, 10).

mod support;

use std::os::fd::OwnedFd;

use exuvia_core::{Codec, MAX_ATTACHED};
use exuvia_protocol::{
    Connection, Event, Limits, Outgoing, OutgoingCall, ProtocolError, Role,
    frame::{ABORT, CallHead, FED, Kind, MORE, ResultHead, SHARED, STREAMS},
};
use proptest::prelude::*;
use support::{
    Choices, RawFrame, call_body, cases, connected,
    data::Data,
    frame, noise,
    pipe::{Pipe, descriptor, identity, open_copies},
    result_body, say, tell,
};

const LIMITS: Limits = Limits { max_frame: 1 << 20, max_payload: 1_000_000, window: 100_000 };

fn head(flags: u8) -> CallHead {
    CallHead {
        handler: 0,
        codec: Codec::Value,
        accept: Codec::Value,
        time_left_ms: 0,
        public_id: 0,
        trace: None,
        flags,
        descriptors: 0,
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn each_frame_gets_its_own_descriptors_in_order_however_it_is_cut_and_whenever_it_is_read(
        plans in prop::collection::vec((0_usize..3_000, any::<bool>(), 0_u8..6), 1..20),
        host_opens in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut choices = Choices(seed);
        let mut opener = connected(if host_opens { Role::Host } else { Role::Worker }, LIMITS, LIMITS);
        let mut answerer = connected(if host_opens { Role::Worker } else { Role::Host }, LIMITS, LIMITS);
        let sent: Vec<Data> = plans
            .iter()
            .enumerate()
            .map(|(place, &(size, shared, attached))| Data::new(place as u64, size, shared, attached))
            .collect();
        for (place, data) in sent.iter().enumerate() {
            let call = 2 * place as u64 + if host_opens { 2 } else { 1 };
            let payload = data.outgoing();
            let call = OutgoingCall { call, slot: 0, head: head(0), text_arguments: &[], payload };
            opener.call(call).expect("it fits");
        }
        let (mut pipe, mut came) = (Pipe::default(), Vec::new());
        while opener.to_send().is_some() || !pipe.is_empty() {
            if let Some(to_send) = opener.to_send() {
                let written = pipe.write(&to_send, choices.chunk(8 << 10));
                opener.sent(written.len());
            }
            if choices.below(2) == 0 {
                let (bytes, with) = pipe.read(choices.chunk(16 << 10).min(pipe.len()));
                answerer.inbound().extend_from_slice(&bytes);
                answerer.descriptors(with).expect("no more than frames take");
            }
            // At times only when much has come.
            while choices.below(3) == 0 && let Some(event) = answerer.next_event().expect("good") {
                came.push(event);
            }
        }
        came.extend(say(&mut answerer, b"").expect("good"));
        prop_assert_eq!(came.len(), sent.len());
        for (data, event) in sent.iter().zip(&came) {
            let Event::Call(call) = event else { panic!("{event:?}") };
            data.assert_is(&call.payload);
        }
    }
}

#[test]
fn a_refused_write_keeps_descriptors_with_their_frame() {
    let mut opener = connected(Role::Host, LIMITS, LIMITS);
    let data = Data::new(1, 10, true, 2);
    let payload = data.outgoing();
    let call = OutgoingCall { call: 2, slot: 0, head: head(0), text_arguments: &[], payload };
    opener.cancel(8, 0);
    opener.call(call).expect("it fits");
    assert_eq!(opener.to_send().map(|to_send| to_send.descriptors.len()), Some(0));
    opener.sent(10);
    opener.sent(6);
    // The socket was full: nothing was sent.
    opener.sent(0);
    let to_send = opener.to_send().expect("the call");
    assert_eq!((to_send.bytes.len(), to_send.descriptors.len()), (16 + 40, 3));
    opener.sent(1);
    assert_eq!(opener.to_send().map(|to_send| to_send.descriptors.len()), Some(0), "sent once");
}

#[test]
fn a_fed_call_brings_its_socket_and_no_data() {
    let mut host = connected(Role::Host, LIMITS, LIMITS);
    let mut worker = connected(Role::Worker, LIMITS, LIMITS);
    let socket = descriptor();
    let payload = Outgoing { fed: true, descriptors: vec![socket.clone()], ..Outgoing::default() };
    let head = head(STREAMS);
    let call = OutgoingCall { call: 2, slot: 0, head, text_arguments: &[], payload };
    host.call(call).expect("it fits");
    let mut pipe = Pipe::default();
    pipe.write(&host.to_send().expect("the call"), usize::MAX);
    let (bytes, came) = pipe.read(pipe.len());
    worker.descriptors(came).expect("one");
    let events = say(&mut worker, &bytes).expect("good");
    let [Event::Call(call)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((call.head.flags, call.payload.shared), (FED | STREAMS, None));
    let of: Vec<u64> = call.payload.descriptors.iter().map(identity).collect();
    assert_eq!((call.payload.bytes.len(), of), (0, vec![identity(&socket)]));
}

// === Peers that break the rules ===

/// The head of a frame as it says itself; what it is about is put in by `told`.
#[derive(Debug, Clone, Copy)]
struct Said {
    flags: u8,
    descriptors: u8,
    length: u64,
    bytes: usize,
    more: u8,
}

const PLAIN: Said = Said { flags: 0, descriptors: 0, length: 0, bytes: 0, more: 0 };

impl Said {
    fn frame(self, kind: Kind, call: u64) -> RawFrame {
        let rest = vec![1; self.bytes];
        let (mut body, at) = match kind {
            Kind::Call => (call_body(b"", self.length, &rest), 32),
            _ => (result_body(self.length, &rest), 1),
        };
        (body[at], body[at + 1]) = (self.flags, self.descriptors);
        frame(kind, call, body).flags(self.more)
    }

    /// What a fresh end makes of it when so many descriptors came.
    fn told(self, kind: Kind, came: usize) -> Result<Vec<Event>, ProtocolError> {
        let role = if kind == Kind::Call { Role::Worker } else { Role::Host };
        let mut connection = connected(role, LIMITS, LIMITS);
        connection.descriptors(some(came)).expect("not too many");
        tell(&mut connection, &self.frame(kind, 2))
    }

    fn assert_wrong(self, came: usize, because: &str) {
        for kind in [Kind::Call, Kind::Result] {
            let error = self.told(kind, came).expect_err(because);
            assert!(error.to_string().contains(because), "{self:?} as {kind:?}: {error}");
        }
    }
}

fn some(count: usize) -> Vec<OwnedFd> {
    let one = descriptor();
    (0..count).map(|_| one.try_clone().expect("another")).collect()
}

#[test]
fn a_frame_has_as_many_descriptors_as_it_says() {
    let attached = Said { descriptors: 3, ..PLAIN };
    attached.assert_wrong(0, "fewer descriptors than it says");
    attached.assert_wrong(2, "fewer descriptors than it says");
    for kind in [Kind::Call, Kind::Result] {
        assert!(attached.told(kind, 3).is_ok());
        // More may be another frame's, which came together with this one.
        assert!(attached.told(kind, 4).is_ok());
    }
}

#[test]
fn the_number_of_descriptors_fits_the_flags() {
    let most = MAX_ATTACHED as u8;
    let number = "number of descriptors";
    Said { descriptors: most + 1, ..PLAIN }.assert_wrong(100, number);
    Said { flags: SHARED, length: 9, ..PLAIN }.assert_wrong(100, number);
    Said { flags: SHARED, descriptors: most + 2, length: 9, ..PLAIN }.assert_wrong(100, number);
    for kind in [Kind::Call, Kind::Result] {
        assert!(Said { descriptors: most, ..PLAIN }.told(kind, 64).is_ok());
        let memory = Said { flags: SHARED, descriptors: most + 1, length: 9, ..PLAIN };
        assert!(memory.told(kind, 65).is_ok());
    }
    for descriptors in [0, 2, 3] {
        let error = Said { flags: FED, descriptors, ..PLAIN }.told(Kind::Call, 3);
        let error = error.expect_err("a fed call has one socket").to_string();
        assert!(error.contains(number), "{error}");
    }
    assert!(Said { flags: FED, descriptors: 1, ..PLAIN }.told(Kind::Call, 1).is_ok());
}

#[test]
fn flags_that_exclude_one_another_or_mean_nothing_are_errors() {
    let one = Said { descriptors: 1, ..PLAIN };
    for flags in [SHARED | FED, SHARED | FED | STREAMS, 8, 0x80, 0xff] {
        Said { flags, ..one }.assert_wrong(1, "flags that it cannot carry");
    }
    for flags in [FED, FED | STREAMS] {
        let error = Said { flags, ..one }.told(Kind::Result, 1).expect_err("no result is fed");
        assert!(error.to_string().contains("flags that it cannot carry"), "{error}");
    }
    assert!(Said { flags: SHARED | STREAMS, ..one }.told(Kind::Call, 1).is_ok());
}

#[test]
fn what_lies_elsewhere_is_not_in_the_frame_and_does_not_go_on() {
    let memory = Said { flags: SHARED, descriptors: 1, length: 9, ..PLAIN };
    let because = "payload not of its length";
    Said { bytes: 9, ..memory }.assert_wrong(1, because);
    Said { bytes: 1, ..memory }.assert_wrong(1, because);
    Said { more: MORE, ..memory }.assert_wrong(1, because);
    let fed = Said { flags: FED, descriptors: 1, ..PLAIN };
    for wrong in
        [Said { length: 1, ..fed }, Said { length: 1, bytes: 1, ..fed }, Said { more: MORE, ..fed }]
    {
        let error = wrong.told(Kind::Call, 1).expect_err("fed").to_string();
        assert!(error.contains(because), "{error}");
    }
}

#[test]
fn memory_counts_towards_max_payload_and_needs_no_credit() {
    let memory = Said { flags: SHARED, descriptors: 1, ..PLAIN };
    let most = LIMITS.max_payload;
    Said { length: most + 1, ..memory }.assert_wrong(1, "longer than the limit");
    Said { length: u64::MAX, ..memory }.assert_wrong(1, "longer than the limit");
    for kind in [Kind::Call, Kind::Result] {
        let events = Said { length: most, ..memory }.told(kind, 1).expect("good");
        assert_eq!(events.len(), 1, "complete with its first frame");
    }
}

#[test]
fn descriptors_that_no_frame_takes_are_bounded_and_closed() {
    let one = descriptor();
    let of = identity(&one);
    let more = |count| (0..count).map(|_| one.try_clone().expect("another")).collect();
    let mut connection = connected(Role::Host, LIMITS, LIMITS);
    connection.descriptors(more(1024)).expect("so many may wait");
    assert_eq!(open_copies(of), 1 + 1024);
    let error = connection.descriptors(more(1)).expect_err("a flood");
    assert!(error.to_string().contains("no frame takes"), "{error}");
    assert_eq!(open_copies(of), 1, "none is kept");
}

#[test]
fn descriptors_of_incomplete_payloads_are_bounded_and_closed() {
    let one = descriptor();
    let of = identity(&one);
    let mut worker = connected(Role::Worker, LIMITS, LIMITS);
    let attached = Said { descriptors: 64, length: 9, bytes: 5, more: MORE, ..PLAIN };
    let begin = |worker: &mut Connection, call| {
        let came = (0..64).map(|_| one.try_clone().expect("another")).collect();
        worker.descriptors(came).expect("they are taken");
        tell(worker, &attached.frame(Kind::Call, call))
    };
    for call in 1..=16 {
        assert_eq!(begin(&mut worker, 2 * call), Ok(vec![]));
    }
    assert_eq!(open_copies(of), 1 + 16 * 64);
    // Aborted, cancelled and refused ones hold nothing any more.
    let abort = frame(Kind::Data, 2, []).flags(ABORT);
    assert_eq!(tell(&mut worker, &abort), Ok(vec![]));
    assert_eq!(tell(&mut worker, &frame(Kind::Cancel, 4, [])), Ok(vec![]));
    worker.failure(6, 0, 0, &exuvia_core::Failure::Cancelled).expect("it fits");
    assert_eq!(open_copies(of), 1 + 13 * 64);
    for call in 17..=19 {
        assert_eq!(begin(&mut worker, 2 * call), Ok(vec![]));
    }
    let error = begin(&mut worker, 40).expect_err("too many");
    assert!(error.to_string().contains("too many descriptors"), "{error}");
    drop(worker);
    assert_eq!(open_copies(of), 1);
}

#[test]
fn a_payload_in_several_frames_keeps_its_descriptors_to_its_end() {
    let mut maker = connected(Role::Worker, LIMITS, LIMITS);
    let mut reader = connected(Role::Host, LIMITS, LIMITS);
    let data = Data::new(1, 90_000, false, 3);
    maker.result(2, 0, ResultHead::new(Codec::Value, 0), &[], data.outgoing());
    maker.result(4, 0, ResultHead::new(Codec::Value, 0), &[], noise(2, 5).into());
    let mut pipe = Pipe::default();
    let mut events = Vec::new();
    while let Some(to_send) = maker.to_send() {
        let size = pipe.write(&to_send, usize::MAX).len();
        maker.sent(size);
        let (bytes, came) = pipe.read(pipe.len());
        reader.descriptors(came).expect("they are taken");
        events.extend(say(&mut reader, &bytes).expect("good"));
    }
    let [Event::Result(small), Event::Result(large)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((small.call, large.call), (4, 2));
    data.assert_is(&large.payload);
}
