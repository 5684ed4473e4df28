//! Results that come in pieces: order, credit, ends, and peers that get it wrong (`docs/protocol.md`,
//! 10.6).

mod support;

use bytes::Bytes;
use exuvia_core::{Codec, Failure};
use exuvia_protocol::{
    Connection, Event, Limits, ProtocolError, Role,
    frame::{ABORT, FED, Kind, MORE, ResultHead, SHARED, STREAMS},
};
use proptest::prelude::*;
use support::{
    RawFrame, any_size, cases, connected, data::copies, first_id, frame, noise, other, result_body,
    say, stream_body, tell, written,
};

const WIDE: Limits = Limits { max_frame: 1 << 20, max_payload: 1 << 30, window: 8 << 20 };
const NARROW: Limits = Limits { max_frame: 1 << 20, max_payload: 1_000, window: 100 };
const ROLES: [Role; 2] = [Role::Host, Role::Worker];
/// What waits of a stream before its maker is told that this is enough.
const AHEAD: usize = 64 << 10;

/// An end that answers call 2 by a stream, and the one that reads it.
fn streaming(limits: Limits) -> (Connection, Connection) {
    let mut maker = connected(Role::Worker, WIDE, limits);
    maker.begin_stream(2, 3, ResultHead::new(Codec::ArrowStream, 4));
    (maker, connected(Role::Host, limits, WIDE))
}

/// What the reader hears of all that may be sent now.
fn passed(maker: &mut Connection, reader: &mut Connection) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let bytes = written(maker);
        if bytes.is_empty() {
            return events;
        }
        events.extend(say(reader, &bytes).expect("good frames"));
        say(maker, &written(reader)).expect("good credit");
    }
}

/// The bytes of all pieces; the other events are counted.
fn pieces(events: &[Event]) -> (Vec<u8>, usize) {
    let mut bytes = Vec::new();
    let mut others = 0;
    for event in events {
        match event {
            Event::Piece { call: 2, slot: 3, piece } => bytes.extend_from_slice(piece),
            _ => others += 1,
        }
    }
    (bytes, others)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_reader_that_stops_stops_the_maker_and_one_that_goes_on_gets_all(
        max_frame in any_size(128..=1 << 20),
        window in any_size(64..=1 << 20),
        piece in any_size(1..=256 << 10),
    ) {
        let (mut maker, mut reader) = streaming(Limits { max_frame, window, ..WIDE });
        let piece = piece.max(window / 100).max(700) as usize;
        let (mut made, mut came) = (Vec::new(), Vec::new());
        let make = |maker: &mut Connection, made: &mut Vec<u8>| {
            while maker.wants_more(2) {
                let piece = noise(made.len() as u64, piece);
                made.extend_from_slice(&piece);
                maker.add(2, piece);
                assert!(made.len() < 16 << 20, "it never has enough");
            }
        };
        // Nobody looks at what arrives.
        loop {
            make(&mut maker, &mut made);
            let events = passed(&mut maker, &mut reader);
            if events.is_empty() {
                break;
            }
            came.extend(pieces(&events).0);
        }
        prop_assert_eq!(came.len(), window as usize, "all that was granted, and no more");
        prop_assert!(made.len() < window as usize + AHEAD + piece, "{} were made", made.len());
        // Once somebody does it goes on from there, to the end.
        let enough = made.len() + AHEAD + 3 * piece;
        let mut looked = 0;
        let mut end = None;
        while end.is_none() {
            let credit = (came.len() - looked) as u32;
            prop_assert!(credit > 0, "it stands still");
            looked = came.len();
            reader.grant_stream(2, 3, credit);
            say(&mut maker, &written(&mut reader)).expect("good credit");
            if made.len() < enough {
                make(&mut maker, &mut made);
            } else {
                maker.end_stream(2, 77, &copies(1));
            }
            let mut events = passed(&mut maker, &mut reader);
            end = events.pop_if(|last| !matches!(last, Event::Piece { .. }));
            came.extend(pieces(&events).0);
        }
        prop_assert_eq!(came == made, true, "{} of {} came", came.len(), made.len());
        let expected = Event::End { call: 2, slot: 3, run_ns: 77, copies: copies(1) };
        if max_frame >= 256 {
            prop_assert_eq!(end, Some(expected));
        }
    }
}

#[test]
fn a_streams_end_comes_behind_all_of_it_however_late_its_credit() {
    let failure = Failure::Malformed { message: "half-way".into() };
    for fails in [false, true] {
        let (mut maker, mut reader) = streaming(NARROW);
        maker.add(2, noise(1, 150));
        maker.add(2, noise(2, 30));
        match fails {
            true => maker.failure(2, 3, 9, &failure).expect("it fits"),
            false => maker.end_stream(2, 9, &[]),
        }
        let events = passed(&mut maker, &mut reader);
        assert!(matches!(&events[0], Event::Result(result) if result.head.flags == STREAMS));
        let (first, others) = pieces(&events);
        assert_eq!((first.len(), others), (100, 1), "no end yet");
        reader.grant_stream(2, 3, 79);
        say(&mut maker, &written(&mut reader)).expect("good credit");
        let (second, others) = pieces(&passed(&mut maker, &mut reader));
        assert_eq!((second.len(), others), (79, 0), "a byte is missing yet");
        reader.grant_stream(2, 3, 1);
        say(&mut maker, &written(&mut reader)).expect("good credit");
        let last = passed(&mut maker, &mut reader);
        let (third, others) = pieces(&last);
        assert_eq!([first, second, third].concat(), [noise(1, 150), noise(2, 30)].concat());
        assert_eq!(others, 1);
        let expected = match fails {
            true => {
                Event::Failure { call: 2, slot: 3, run_ns: 9, failure: Box::new(failure.clone()) }
            }
            false => Event::End { call: 2, slot: 3, run_ns: 9, copies: vec![] },
        };
        assert_eq!(last.last(), Some(&expected));
    }
}

#[test]
fn a_stream_of_nothing_has_an_end() {
    let (mut maker, mut reader) = streaming(NARROW);
    maker.add(2, Bytes::new());
    maker.end_stream(2, 9, &[]);
    let events = passed(&mut maker, &mut reader);
    assert!(matches!(&events[..], [Event::Result(_), Event::End { run_ns: 9, .. }]), "{events:?}");
    assert!(!maker.wants_more(2));
}

#[test]
fn a_stream_that_is_cut_fails_at_once_and_says_nothing_more() {
    let (mut maker, mut reader) = streaming(NARROW);
    maker.add(2, noise(1, 500));
    assert_eq!(pieces(&passed(&mut maker, &mut reader)).0.len(), 100);
    assert!(maker.cut_stream(2), "it was not complete");
    assert!(!maker.wants_more(2));
    maker.failure(2, 3, 0, &Failure::Cancelled).expect("it fits");
    let events = passed(&mut maker, &mut reader);
    assert!(matches!(&events[..], [Event::Failure { call: 2, .. }]), "{events:?}");
    // Late words of who made it do nothing.
    maker.add(2, noise(1, 10));
    maker.end_stream(2, 9, &[]);
    assert!(!maker.cut_stream(2), "there is nothing left to cut");
    reader.grant_stream(2, 3, 100);
    assert!(written(&mut maker).is_empty() && written(&mut reader).is_empty());
}

#[test]
fn a_complete_stream_that_waits_for_credit_can_still_be_cut_but_not_one_whose_end_is_written() {
    let (mut maker, _reader) = streaming(NARROW);
    maker.add(2, noise(1, 101));
    maker.end_stream(2, 9, &[]);
    written(&mut maker);
    assert!(maker.cut_stream(2), "its end waited behind a byte without credit");
    let (mut maker, _reader) = streaming(NARROW);
    maker.add(2, noise(1, 100));
    maker.end_stream(2, 9, &[]);
    written(&mut maker);
    assert!(!maker.cut_stream(2));
}

#[test]
fn streams_and_whole_payloads_take_turns_and_delay_what_is_small_by_little() {
    let mut maker = connected(Role::Worker, WIDE, WIDE);
    let head = ResultHead::new(Codec::Json, 0);
    for call in [2, 6] {
        maker.begin_stream(call, 0, head);
        (0..32).for_each(|piece| maker.add(call, noise(piece, 64 << 10)));
    }
    maker.result(4, 0, head, &[], noise(4, 2 << 20).into());
    // Frames wait already when the small answer is given; then it has its place among them.
    let before = maker.outbound().len();
    maker.result(8, 0, head, &[], noise(8, 100).into());
    let mut frames = Vec::new();
    loop {
        let bytes = written(&mut maker);
        if bytes.is_empty() {
            break;
        }
        frames.extend(RawFrame::all(&bytes));
    }
    let place = frames.iter().position(|frame| frame.call == 8).expect("the small one");
    let ahead: usize = frames[..place].iter().map(|frame| 16 + frame.body.len()).sum();
    assert!(ahead == before && before <= 320 << 10, "{ahead} bytes before it");
    // Of three that all have something to send, none has two turns while another has none.
    let turns: Vec<u64> = frames
        .iter()
        .filter(|frame| frame.kind == Kind::Data as u8)
        .map(|frame| frame.call)
        .collect();
    for window in turns[..90].windows(3) {
        assert!([2, 4, 6].iter().all(|call| window.contains(call)), "{turns:?}");
    }
}

#[test]
fn an_idle_stream_holds_up_nothing() {
    let (mut maker, mut reader) = streaming(NARROW);
    maker.add(2, noise(1, 500));
    passed(&mut maker, &mut reader);
    // It waits for credit that does not come; one without anything to send waits beside it.
    maker.begin_stream(4, 0, ResultHead::new(Codec::Json, 0));
    maker.result(6, 0, ResultHead::new(Codec::Json, 0), &[], noise(6, 1_000).into());
    let events = passed(&mut maker, &mut reader);
    let [Event::Result(begun), Event::Result(whole)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((begun.call, whole.call, whole.payload.bytes.len()), (4, 6, 1_000));
}

#[test]
fn copies_that_do_not_fit_a_frame_are_left_out_and_lose_no_result() {
    let limits = Limits { max_frame: 200, ..WIDE };
    let mut maker = connected(Role::Worker, WIDE, limits);
    let mut reader = connected(Role::Host, limits, WIDE);
    let head = ResultHead::new(Codec::Json, 1);
    maker.result(2, 3, head, &copies(64), noise(1, 5).into());
    maker.begin_stream(4, 3, head);
    maker.end_stream(4, 9, &copies(64));
    let events = passed(&mut maker, &mut reader);
    let [Event::Result(whole), Event::Result(_), Event::End { copies: told, .. }] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((&whole.copies[..], &told[..]), (&copies(2)[..], &copies(2)[..]));
    assert_eq!(whole.payload.bytes, noise(1, 5));
}

// === Peers that break the rules ===

/// What becomes of these frames at an end that opened the calls they are about.
fn told(role: Role, frames: &[RawFrame]) -> Result<Vec<Event>, ProtocolError> {
    let mut connection = connected(role, NARROW, NARROW);
    let mut events = Vec::new();
    for frame in frames {
        let frame = RawFrame { call: frame.call - 2 + first_id(role), ..frame.clone() };
        events = tell(&mut connection, &frame)?;
    }
    Ok(events)
}

fn begun() -> RawFrame {
    frame(Kind::Result, 2, stream_body()).flags(MORE)
}

fn data(size: usize) -> RawFrame {
    frame(Kind::Data, 2, vec![1; size]).flags(MORE)
}

fn end() -> RawFrame {
    frame(Kind::End, 2, [&[0; 8][..], &[0x90]].concat())
}

fn assert_wrong(frames: &[RawFrame], because: &str) {
    for role in ROLES {
        let (last, before) = frames.split_last().expect("some");
        told(role, before).unwrap_or_else(|error| panic!("{because}: too early: {error}"));
        let error = told(role, &[before, std::slice::from_ref(last)].concat()).expect_err(because);
        assert!(error.to_string().contains(because), "{because}: {error}");
    }
}

#[test]
fn a_stream_ends_once_and_nothing_follows() {
    let failure = rmp_serde::to_vec_named(&Failure::Cancelled).expect("written");
    let failure = frame(Kind::Failure, 2, [&[0; 8][..], &failure].concat());
    for role in ROLES {
        assert!(told(role, &[begun(), data(1), end()]).is_ok());
        assert!(told(role, &[begun(), data(1), failure.clone()]).is_ok());
    }
    assert_wrong(&[begun(), data(1), end(), data(1)], "no payload is incomplete");
    assert_wrong(&[begun(), failure.clone(), data(1)], "no payload is incomplete");
    assert_wrong(&[begun(), end(), end()], "no result of it is streamed");
    assert_wrong(&[begun(), failure, end()], "no result of it is streamed");
}

#[test]
fn only_a_stream_is_ended_by_an_end() {
    assert_wrong(&[end()], "no result of it is streamed");
    let whole = frame(Kind::Result, 2, result_body(9, &[1; 5])).flags(MORE);
    assert_wrong(&[whole, end()], "no result of it is streamed");
    let mut theirs = end();
    theirs.call = 3;
    let error = tell(&mut connected(Role::Host, NARROW, NARROW), &theirs).expect_err("wrong");
    assert!(error.to_string().contains("not our call"), "{error}");
}

#[test]
fn a_stream_carries_no_more_than_was_granted() {
    assert_wrong(&[begun(), data(101)], "more than was granted");
    assert_wrong(&[begun(), data(60), data(40), data(1)], "more than was granted");
    let mut reader = connected(Role::Host, NARROW, NARROW);
    for frame in [begun(), data(100)] {
        tell(&mut reader, &frame).expect("as granted");
    }
    reader.grant_stream(2, 0, 7);
    assert_eq!(tell(&mut reader, &data(7)).expect("as granted").len(), 1);
    tell(&mut reader, &data(1)).expect_err("more than was granted");
}

#[test]
fn a_stream_is_begun_by_a_bare_head_and_carried_by_frames_with_more() {
    let head = |flags: u8, descriptors: u8, length: u64, rest: &[u8]| {
        let mut body = result_body(length, rest);
        (body[1], body[2]) = (flags, descriptors);
        frame(Kind::Result, 2, body).flags(MORE)
    };
    for wrong in [
        begun().flags(0),
        head(STREAMS, 0, 9, b""),
        head(STREAMS, 0, 0, b"x"),
        head(STREAMS, 0, 1, b"x"),
        head(STREAMS | SHARED, 1, 0, b""),
        head(STREAMS, 1, 0, b""),
    ] {
        assert_wrong(&[wrong], "a stream with data in its head");
    }
    assert_wrong(&[head(STREAMS | FED, 1, 0, b"")], "flags that it cannot carry");
    assert_wrong(&[head(8, 0, 0, b"")], "flags that it cannot carry");
    assert_wrong(&[begun(), data(1).flags(0)], "a stream ends by END");
    assert_wrong(&[begun(), data(0).flags(0)], "a stream ends by END");
    assert_wrong(&[begun(), data(0).flags(ABORT)], "a stream ends by END");
}

#[test]
fn a_call_has_one_answer_in_one_of_its_shapes() {
    let whole = || frame(Kind::Result, 2, result_body(2, b"ab"));
    let half = || frame(Kind::Result, 2, result_body(9, b"ab")).flags(MORE);
    for first in [begun(), half()] {
        for second in [begun(), whole(), half()] {
            assert_wrong(&[first.clone(), second], "not complete yet");
        }
    }
}

#[test]
fn an_end_says_how_long_it_ran_and_what_was_copied() {
    for body in [
        &b""[..],
        &[0; 7],
        &[0; 8],
        b"12345678\xc0",
        b"12345678\x91\x93",
        b"12345678\xdd\xff\xff\xff\xff",
    ] {
        for role in ROLES {
            told(role, &[begun(), frame(Kind::End, 2, body)]).expect_err("no such end");
        }
    }
}

#[test]
fn pieces_of_nothing_cost_a_reader_nothing() {
    let mut reader = connected(Role::Host, NARROW, NARROW);
    tell(&mut reader, &begun()).expect("good");
    for _ in 0..1_000 {
        assert_eq!(tell(&mut reader, &data(0)), Ok(vec![]));
    }
    assert_eq!(tell(&mut reader, &data(100)).expect("credit is left").len(), 1);
}

/// Or one byte of credit could make a reader hold a whole frame of something else.
#[test]
fn a_small_piece_does_not_keep_what_it_was_read_with() {
    let mut reader = connected(Role::Host, WIDE, WIDE);
    let large = frame(Kind::Result, 4, result_body(1 << 19, &vec![1; 1 << 19]));
    let bytes = [begun().bytes(), large.bytes(), data(1).bytes(), large.bytes()].concat();
    let events = say(&mut reader, &bytes).expect("good frames");
    let [_, _, Event::Piece { piece, .. }, _] = &events[..] else { panic!("{events:?}") };
    assert!(piece.is_unique(), "it shares its memory");
}

#[test]
fn streams_go_both_ways() {
    for role in ROLES {
        let mut maker = connected(other(role), WIDE, WIDE);
        let mut reader = connected(role, WIDE, WIDE);
        let call = first_id(role);
        maker.begin_stream(call, 0, ResultHead::new(Codec::Ndjson, 0));
        maker.add(call, noise(1, 100_000));
        maker.end_stream(call, 0, &[]);
        let events = passed(&mut maker, &mut reader);
        assert!(matches!(events.last(), Some(Event::End { .. })), "{events:?}");
    }
}
