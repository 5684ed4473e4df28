//! Anything at all comes in: nothing panics, nothing loops, nothing grows (`docs/protocol.md`, 2).

mod support;

use exuvia_core::{Codec, Failure};
use exuvia_protocol::{
    Connection, Event, Hello, IncomingCall, IncomingResult, Limits, OutgoingCall, ProtocolError,
    Ready, Role,
    frame::{CallHead, HEADER, Kind, MORE, ResultHead, STREAMS},
};
use proptest::prelude::*;
use support::{
    Choices, RawFrame, any_size, call_body, cases, connected, frame, hello_frame,
    ledger::{head_flags, payload_bytes, payload_length},
    noise,
    pipe::{descriptor, identity, open_copies},
    ready_frame, result_body, say, stream_body, written,
};

/// The body of an END that tells of no copies.
const END: [u8; 9] = [0, 0, 0, 0, 0, 0, 0, 0, 0x90];

const LIMITS: Limits = Limits { max_frame: 4 << 10, max_payload: 16 << 10, window: 2 << 10 };

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Host), Just(Role::Worker)]
}

/// A connection at one of the stages of its life.
fn at_stage(role: Role, stage: u8) -> Connection {
    match stage {
        0 => Connection::new(role, LIMITS),
        1 => {
            let mut connection = Connection::new(role, LIMITS);
            let hello = hello_frame(&Hello::new(LIMITS));
            say(&mut connection, &hello.bytes()).expect("a good greeting");
            connection
        }
        _ => connected(role, LIMITS, LIMITS),
    }
}

/// Feeds `bytes` in chunks and looks after each that the connection holds what it may.
fn feed(
    connection: &mut Connection,
    bytes: &[u8],
    chunks: &mut Choices,
) -> (Vec<Event>, Option<ProtocolError>) {
    let hold = LIMITS.max_frame as usize + HEADER;
    let (mut events, mut fed, mut out) = (Vec::new(), 0, 0);
    while fed < bytes.len() {
        let size = chunks.chunk(8 << 10).min(bytes.len() - fed);
        connection.inbound().extend_from_slice(&bytes[fed..fed + size]);
        fed += size;
        // Each event takes a frame off, so this many turns are enough for any input.
        for turn in 0.. {
            assert!(turn <= fed / HEADER + 1, "it loops");
            match connection.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(connection.next_event(), Err(error.clone()), "the same again");
                    assert!(!error.to_string().is_empty());
                    return (events, Some(error));
                }
            }
        }
        let inbound = connection.inbound();
        assert!(inbound.len() < hold, "a whole frame was left lying");
        assert!(inbound.capacity() <= 2 * (hold + (8 << 10)), "{} reserved", inbound.capacity());
        // Whoever listens to a peer that does not cannot be made to hold much more than was said.
        out += written(connection).len();
        assert!(out <= 2 * fed, "{out} bytes in answer to {fed}");
    }
    (events, None)
}

fn check_events(events: &[Event]) {
    for event in events {
        let (Event::Call(IncomingCall { payload, .. })
        | Event::Result(IncomingResult { payload, .. })) = event
        else {
            continue;
        };
        assert!(payload.bytes.len() as u64 <= LIMITS.max_payload);
        assert!(payload.shared.is_none_or(|length| length <= LIMITS.max_payload));
        assert!(payload.descriptors.len() <= 65);
        assert!(payload.shared.is_none() || !payload.descriptors.is_empty());
    }
}

/// Feeds the same bytes twice, in different pieces, and compares.
fn feed_twice(
    fresh: impl Fn() -> Connection,
    bytes: &[u8],
    seed: u64,
) -> (Vec<Event>, Option<ProtocolError>) {
    let first = feed(&mut fresh(), bytes, &mut Choices(seed));
    let second = feed(&mut fresh(), bytes, &mut Choices(!seed));
    assert_eq!(first, second, "the same bytes give the same events and the same error");
    check_events(&first.0);
    first
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn random_bytes_give_events_or_one_lasting_error(
        role in role(),
        stage in 0_u8..3,
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        seed in any::<u64>(),
    ) {
        feed_twice(|| at_stage(role, stage), &bytes, seed);
    }

    #[test]
    fn random_frames_give_events_or_one_lasting_error(
        role in role(),
        stage in 0_u8..3,
        frames in prop::collection::vec(any_frame(), 0..40),
        seed in any::<u64>(),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(RawFrame::bytes).collect();
        let (_, error) = feed_twice(|| at_stage(role, stage), &bytes, seed);
        if error.is_none() {
            check_payloads(&frames);
        }
    }

    #[test]
    fn a_spoilt_conversation_gives_events_or_one_lasting_error(
        role in role(),
        script in any::<u64>(),
        spoils in prop::collection::vec(spoil(), 0..4),
        seed in any::<u64>(),
    ) {
        let good = recorded(role, script);
        let mut bytes = good.concat();
        let whole = feed_twice(|| listener(role, script), &bytes, seed);
        prop_assert_eq!(&whole.1, &None, "it was good before");
        prop_assert!(whole.0.len() > 2);
        let mut frames = good;
        for spoil in &spoils {
            spoil.frames(&mut frames);
        }
        bytes = frames.concat();
        for spoil in &spoils {
            spoil.bytes(&mut bytes);
        }
        feed_twice(|| listener(role, script), &bytes, seed);
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn descriptors_that_come_with_anything_are_taken_by_their_frames_or_bounded(
        role in role(),
        stage in 0_u8..3,
        frames in prop::collection::vec((any_frame(), 0_usize..73), 0..40),
        seed in any::<u64>(),
    ) {
        let one = descriptor();
        let of = identity(&one);
        let mut connection = at_stage(role, stage);
        let mut chunks = Choices(seed);
        for (frame, count) in &frames {
            let came = (0..*count).map(|_| one.try_clone().expect("another")).collect();
            if connection.descriptors(came).is_err() {
                break;
            }
            let (events, error) = feed(&mut connection, &frame.bytes(), &mut chunks);
            check_events(&events);
            if error.is_some() {
                break;
            }
            // Those that wait for frames, and those of incomplete payloads.
            prop_assert!(open_copies(of) <= 1 + 2 * 1024);
        }
        drop(connection);
        prop_assert_eq!(open_copies(of), 1, "all are closed");
    }
}

/// What was taken without complaint kept the rules: no payload beyond its head or `max_payload`.
fn check_payloads(frames: &[RawFrame]) {
    for (place, first) in frames.iter().enumerate() {
        let Some(length) = payload_length(first) else { continue };
        assert!(length <= LIMITS.max_payload);
        if head_flags(first) & STREAMS != 0 && first.kind == Kind::Result as u8 {
            continue;
        }
        let mut have = payload_bytes(first).expect("it was taken");
        let mut open = first.flags & MORE != 0;
        assert!(have <= LIMITS.window.into());
        for next in frames[place + 1..].iter().filter(|next| next.call == first.call) {
            if next.kind == Kind::Data as u8 && open {
                have += next.body.len() as u64;
                open = next.flags == MORE;
                assert!(have <= length, "more than its head said");
            } else if next.kind == Kind::Cancel as u8 {
                open = false;
            }
        }
    }
}

/// Frames that are nearly right: known kinds, few ids, bodies of about the right shape.
fn any_frame() -> impl Strategy<Value = RawFrame> {
    let size = || any_size(0..=3 << 10).prop_map(|size| size as usize);
    let length = prop_oneof![
        4 => any_size(0..=20 << 10).prop_map(u64::from),
        1 => any::<u64>()
    ];
    let right = (size(), size(), length, any::<bool>(), 0_u8..14).prop_map(
        |(text, rest, length, fits, kind)| {
            let length = if fits { rest as u64 } else { length };
            let (rest, failure) = (vec![7; rest], rmp_serde::to_vec_named(&Failure::Cancelled));
            match kind {
                1 => hello_frame(&Hello::new(LIMITS)).body,
                2 => ready_frame().body,
                3 if text % 8 == 0 => call_body(&vec![0xc0; text], length, &rest),
                3 => call_body(b"", length, &rest),
                4 => result_body(length, &rest),
                5 => [&[0; 8][..], &failure.expect("written")].concat(),
                6 => rest,
                7 => (length as u32).to_le_bytes().to_vec(),
                11 => END.to_vec(),
                12 => stream_body(),
                13 => {
                    let mut body =
                        if fits { call_body(b"", length, b"") } else { result_body(length, b"") };
                    body[if fits { 32 } else { 1 }] = text as u8 & 7;
                    body[if fits { 33 } else { 2 }] = rest.len() as u8 & 3;
                    body
                }
                _ => Vec::new(),
            }
        },
    );
    // The kind is drawn again where the body is: nine times of ten they belong together.
    (right, 0_u8..12, prop::bool::weighted(0.1), 0_u64..12, 0_u8..4, any::<u16>()).prop_map(
        |(body, kind, odd, call, flags, slot)| {
            let kind = if odd { kind } else { likely_kind(&body, kind) };
            let call = if matches!(kind, 1 | 2 | 10) { 0 } else { call.max(1) };
            let flags = match kind {
                3 | 4 if !odd => flags & MORE,
                6 if !odd => flags % 3,
                _ if odd => flags,
                _ => 0,
            };
            RawFrame { kind, flags, slot, call, body }
        },
    )
}

fn likely_kind(body: &[u8], other: u8) -> u8 {
    match body.len() {
        0 => 8 + other % 3,
        4 => Kind::Credit as u8,
        _ if body == END => Kind::End as u8,
        _ if body[0] == 7 => Kind::Data as u8,
        _ if body.len() >= 40 && body[4] == Codec::Value as u8 => Kind::Call as u8,
        _ if body.len() >= 24 && body[0] == Codec::Json as u8 => Kind::Result as u8,
        _ if body[0] == 0 => Kind::Failure as u8,
        _ => 1 + other % 2,
    }
}

/// One way to damage what was recorded.
#[derive(Debug, Clone)]
enum Spoil {
    FlipBit(prop::sample::Index),
    SetByte(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Delete(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Length(prop::sample::Index, u32),
    Header(prop::sample::Index, u8, u8),
    PayloadLength(prop::sample::Index, u64),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let place = any::<prop::sample::Index>;
    let bytes = prop::collection::vec(any::<u8>(), 1..20);
    prop_oneof![
        place().prop_map(Spoil::FlipBit),
        (place(), any::<u8>()).prop_map(|(at, byte)| Spoil::SetByte(at, byte)),
        place().prop_map(Spoil::Cut),
        (place(), bytes).prop_map(|(at, bytes)| Spoil::Insert(at, bytes)),
        place().prop_map(Spoil::Delete),
        (place(), place()).prop_map(|(from, to)| Spoil::Repeat(from, to)),
        (place(), place()).prop_map(|(one, two)| Spoil::Swap(one, two)),
        (place(), any_size(0..=u32::MAX)).prop_map(|(at, length)| Spoil::Length(at, length)),
        (place(), 4_u8..16, any::<u8>())
            .prop_map(|(at, field, byte)| Spoil::Header(at, field, byte)),
        (place(), any_size(0..=1 << 20))
            .prop_map(|(at, length)| Spoil::PayloadLength(at, length.into())),
    ]
}

impl Spoil {
    fn frames(&self, frames: &mut Vec<Vec<u8>>) {
        if frames.is_empty() {
            return;
        }
        let end = frames.len();
        match self {
            Self::Delete(at) => drop(frames.remove(at.index(end))),
            Self::Repeat(from, to) => {
                let frame = frames[from.index(end)].clone();
                frames.insert(to.index(end), frame);
            }
            Self::Swap(one, two) => frames.swap(one.index(end), two.index(end)),
            Self::Length(at, length) => {
                frames[at.index(end)][..4].copy_from_slice(&length.to_le_bytes());
            }
            Self::Header(at, field, byte) => frames[at.index(end)][usize::from(*field)] = *byte,
            Self::PayloadLength(at, length) => {
                if let Some(place) = frames[at.index(end)].get_mut(HEADER + 16..HEADER + 24) {
                    place.copy_from_slice(&length.to_le_bytes());
                }
            }
            _ => {}
        }
    }

    fn bytes(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let end = bytes.len();
        match self {
            Self::FlipBit(at) => {
                let bit = at.index(8 * end);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Self::SetByte(at, byte) => bytes[at.index(end)] = *byte,
            Self::Cut(at) => bytes.truncate(at.index(end)),
            Self::Insert(at, more) => {
                let at = at.index(end);
                bytes.splice(at..at, more.iter().copied());
            }
            _ => {}
        }
    }
}

/// An end as it was when it began to hear what `recorded` returns.
fn listener(role: Role, script: u64) -> Connection {
    let mut connection = Connection::new(role, LIMITS);
    if role == Role::Worker {
        connection.ready(&Ready::Handlers(Vec::new(), Vec::new())).expect("fits");
    }
    // It has calls of its own on the way, for answers, credit and refusals to be about.
    let first = if role == Role::Host { 2 } else { 1 };
    for (call, size) in [(first, script % 9_000), (first + 2, 4_000)] {
        open(&mut connection, call, size as usize);
    }
    written(&mut connection);
    connection
}

/// A good conversation, as the frames that its listener hears.
fn recorded(listens: Role, script: u64) -> Vec<Vec<u8>> {
    let mut choices = Choices(script);
    let mut ear = listener(listens, script);
    let mut mouth = connected(support::other(listens), LIMITS, LIMITS);
    let mut frames = vec![hello_frame(&Hello::new(LIMITS))];
    if listens == Role::Host {
        frames.push(ready_frame());
    }
    for frame in &frames {
        say(&mut ear, &frame.bytes()).expect("a good handshake");
    }
    let (own, theirs) = if listens == Role::Host { (1, 2) } else { (2, 1) };
    for id in 0..2 + choices.below(4) as u64 {
        open(&mut mouth, own + 2 * id, choices.below(12_000));
    }
    mouth.cancelling(theirs, 0);
    mouth.failure(theirs, 0, 5, &Failure::Host { message: "no".into() }).expect("fits");
    let head = ResultHead::new(Codec::Json, 1);
    mouth.result(theirs + 2, 0, head, &[], noise(script, choices.below(12_000)).into());
    mouth.begin_stream(theirs + 4, 0, head);
    for size in [1, 0, 700] {
        mouth.add(theirs + 4, noise(script, size));
    }
    mouth.end_stream(theirs + 4, 9, &support::data::copies(2));
    mouth.begin_stream(theirs + 6, 0, head);
    mouth.add(theirs + 6, noise(script, 1_000));
    mouth.failure(theirs + 6, 0, 5, &Failure::Host { message: "no".into() }).expect("fits");
    mouth.cancel(own + 2, 0);
    if listens == Role::Worker {
        mouth.drain();
    }
    loop {
        let bytes = written(&mut mouth);
        if bytes.is_empty() {
            break;
        }
        say(&mut ear, &bytes).expect("good frames");
        frames.extend(RawFrame::all(&bytes));
        let mut answer = RawFrame::all(&written(&mut ear));
        // What the listener sends of its own calls is nobody's business here.
        answer.retain(|frame| frame.kind == Kind::Credit as u8);
        for credit in answer {
            say(&mut mouth, &credit.bytes()).expect("good credit");
        }
    }
    frames.iter().map(RawFrame::bytes).collect()
}

fn open(connection: &mut Connection, call: u64, size: usize) {
    let head = CallHead {
        handler: 1,
        codec: Codec::Value,
        accept: Codec::Json,
        time_left_ms: 9,
        public_id: call,
        trace: None,
        flags: 0,
        descriptors: 0,
    };
    let text = [("name".to_owned(), "text".to_owned())];
    let payload = noise(call, size).into();
    let outgoing = OutgoingCall { call, slot: 3, head, text_arguments: &text, payload };
    connection.call(outgoing).expect("it fits");
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_the_same_frame() {
    let bytes = recorded(Role::Worker, 7).concat();
    let whole = say(&mut listener(Role::Worker, 7), &bytes).expect("good frames");
    let mut slow = listener(Role::Worker, 7);
    let mut events = Vec::new();
    for byte in &bytes {
        events.extend(say(&mut slow, &[*byte]).expect("good frames"));
    }
    assert_eq!(events, whole);
    assert_eq!(frame(Kind::Drain, 0, []).bytes().len(), HEADER);
}
