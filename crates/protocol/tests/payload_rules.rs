//! What makes a payload, an answer or a body an error (`docs/protocol.md`, 2, 4 and 5).

mod support;

use exuvia_core::Failure;
use exuvia_protocol::{
    Event, Limits, ProtocolError, Role,
    frame::{ABORT, Kind, MORE},
};
use support::{RawFrame, call_body, connected, frame, hello_frame, result_body, say, tell};

const LIMITS: Limits = Limits { max_frame: 1 << 20, max_payload: 1_000, window: 100 };

/// What becomes of these frames: the events of the last one, or the error of any.
fn told(role: Role, frames: &[RawFrame]) -> Result<Vec<Event>, ProtocolError> {
    let mut connection = connected(role, LIMITS, LIMITS);
    let mut events = Vec::new();
    for frame in frames {
        events = tell(&mut connection, frame)?;
    }
    Ok(events)
}

fn call(length: u64, chunk: usize, flags: u8) -> RawFrame {
    frame(Kind::Call, 2, call_body(b"", length, &vec![1; chunk])).flags(flags)
}

fn result(length: u64, chunk: usize, flags: u8) -> RawFrame {
    frame(Kind::Result, 2, result_body(length, &vec![1; chunk])).flags(flags)
}

fn data(size: usize, flags: u8) -> RawFrame {
    frame(Kind::Data, 2, vec![1; size]).flags(flags)
}

fn assert_wrong(frames: &[RawFrame], because: &str) {
    for role in [Role::Worker, Role::Host] {
        // A worker hears calls, a host hears results.
        let frames: Vec<RawFrame> = frames
            .iter()
            .cloned()
            .map(|mut frame| {
                if role == Role::Host && frame.kind == Kind::Call as u8 {
                    frame.kind = Kind::Result as u8;
                    let mut body = vec![0; 24];
                    body[16..].copy_from_slice(&frame.body[16..24]);
                    body.extend(&frame.body[40..]);
                    frame.body = body;
                }
                frame
            })
            .collect();
        let error = told(role, &frames).expect_err("against the rules");
        assert!(error.to_string().contains(because), "{role:?}: {error}");
    }
}

#[test]
fn a_payload_is_exactly_as_long_as_its_head_said() {
    assert_wrong(&[call(9, 8, 0)], "payload not of its length");
    assert_wrong(&[call(9, 10, 0)], "payload not of its length");
    assert_wrong(&[call(9, 9, MORE)], "payload not of its length");
    assert_wrong(&[call(9, 10, MORE)], "payload not of its length");
    assert_wrong(&[call(9, 5, MORE), data(3, 0)], "payload not of its length");
    assert_wrong(&[call(9, 5, MORE), data(5, 0)], "payload not of its length");
    assert_wrong(&[call(9, 5, MORE), data(4, MORE)], "payload not of its length");
    assert_wrong(&[call(9, 5, MORE), data(5, MORE)], "payload not of its length");
    assert!(told(Role::Worker, &[call(9, 5, MORE), data(4, 0)]).is_ok());
    assert!(told(Role::Host, &[result(9, 5, MORE), data(3, MORE), data(1, 0)]).is_ok());
}

#[test]
fn a_payload_longer_than_max_payload_is_refused_at_its_head() {
    assert_wrong(&[call(1_001, 1, MORE)], "longer than the limit of 1000");
    assert_wrong(&[call(1_001, 1_001, 0)], "longer than the limit of 1000");
    assert_wrong(&[call(u64::MAX, 0, MORE)], "longer than the limit of 1000");
    assert!(told(Role::Worker, &[call(1_000, 1, MORE)]).is_ok());
}

#[test]
fn nobody_sends_more_than_was_granted() {
    // 100 to begin with; a hundred more when that is taken in.
    assert_wrong(&[call(1_000, 101, MORE)], "more than was granted");
    assert_wrong(&[call(101, 101, 0)], "more than was granted");
    assert_wrong(&[call(1_000, 10, MORE), data(91, MORE)], "more than was granted");
    assert_wrong(&[call(1_000, 100, MORE), data(101, MORE)], "more than was granted");
    assert!(told(Role::Worker, &[call(100, 100, 0)]).is_ok());
    assert!(told(Role::Host, &[result(1_000, 100, MORE), data(100, MORE)]).is_ok());
}

#[test]
fn data_belongs_to_a_payload_that_is_incomplete() {
    assert_wrong(&[data(1, 0)], "no payload is incomplete");
    assert_wrong(&[call(3, 3, 0), data(1, 0)], "no payload is incomplete");
    assert_wrong(&[call(3, 2, MORE), data(1, 0), data(1, 0)], "no payload is incomplete");
}

#[test]
fn an_aborted_payload_carries_nothing_and_does_not_go_on() {
    let begun = call(9, 5, MORE);
    assert_eq!(told(Role::Worker, &[begun.clone(), data(0, ABORT)]), Ok(vec![]));
    for (last, because) in
        [(data(1, ABORT), "aborted with a body"), (data(0, ABORT | MORE), "flags")]
    {
        let error = told(Role::Worker, &[begun.clone(), last]).expect_err("wrong");
        assert!(error.to_string().contains(because), "{error}");
    }
    told(Role::Worker, &[begun, data(0, ABORT), data(4, 0)]).expect_err("it does not go on");
}

#[test]
fn a_result_that_began_cannot_be_aborted_repeated_or_turned_into_a_failure() {
    let begun = result(9, 5, MORE);
    let body = rmp_serde::to_vec_named(&Failure::Cancelled).expect("written");
    let failure = frame(Kind::Failure, 2, [&[0; 8][..], &body].concat());
    for second in [data(0, ABORT), begun.clone(), result(2, 2, 0), failure] {
        told(Role::Host, &[begun.clone(), second]).expect_err("the call would end twice or never");
    }
}

#[test]
fn a_body_that_is_shorter_or_longer_than_its_kind_asks_is_an_error() {
    let bodies = |kind, id, wrong: &[usize]| -> Vec<RawFrame> {
        wrong.iter().map(|size| frame(kind, id, vec![0; *size])).collect()
    };
    for frame in [
        bodies(Kind::Call, 2, &[0, 1, 39]),
        bodies(Kind::Cancel, 2, &[1, 16]),
        bodies(Kind::Drain, 0, &[1]),
        bodies(Kind::Credit, 1, &[0, 3, 5]),
    ]
    .concat()
    {
        told(Role::Worker, &[frame]).expect_err("not of its size");
    }
    for frame in [
        bodies(Kind::Result, 2, &[0, 23]),
        bodies(Kind::Failure, 2, &[0, 7, 8]),
        bodies(Kind::Cancelling, 2, &[1]),
    ]
    .concat()
    {
        told(Role::Host, &[frame]).expect_err("not of its size");
    }
}

#[test]
fn heads_with_unknown_codecs_reserved_bytes_or_too_little_behind_them_are_errors() {
    let good = call_body(b"", 0, b"");
    // codec, accept, has-trace, zero, the length of the texts, the reserved bytes
    for (place, value) in
        [(4, 17), (4, 255), (5, 17), (6, 1), (6, 2), (7, 1), (12, 1), (15, 255), (34, 1), (39, 1)]
    {
        let mut body = good.clone();
        body[place] = value;
        assert!(told(Role::Worker, &[frame(Kind::Call, 2, body)]).is_err(), "byte {place}");
    }
    for (place, value) in [(0, 17), (0, 255), (3, 1), (4, 1), (7, 1)] {
        let mut body = result_body(0, b"");
        body[place] = value;
        assert!(told(Role::Host, &[frame(Kind::Result, 2, body)]).is_err(), "byte {place}");
    }
}

#[test]
fn text_arguments_that_are_no_pairs_of_texts_are_errors() {
    for text in
        [&b"\xc0"[..], b"\x91\xc0", b"\x91\x91\xa1a", b"\x91\x92\x01\x02", b"\xdd\xff\xff\xff\xff"]
    {
        let call = frame(Kind::Call, 2, call_body(text, 0, b""));
        let error = told(Role::Worker, &[call]).expect_err("no pairs of texts");
        assert!(matches!(error, ProtocolError::Body { kind: 3, .. }), "{error:?}");
    }
}

#[test]
fn a_body_nested_as_deep_as_a_frame_allows_is_an_error_and_no_overflow() {
    // Arrays in arrays and maps in maps, bare and as the value of a field that nobody knows.
    let deep = |unit: &[u8]| unit.repeat((LIMITS.max_frame as usize - 200) / unit.len());
    for nest in [deep(b"\x91"), deep(b"\x81\xa1a"), deep(b"\xdc\x00\x01")] {
        let unknown = [b"\x81\xa1x", &nest[..]].concat();
        let failure = [b"\x82\xa4kind\xa9cancelled\xa1x", &nest[..]].concat();
        for body in [nest, unknown, failure] {
            for connection in [Role::Host, Role::Worker] {
                let mut connection = exuvia_protocol::Connection::new(connection, LIMITS);
                tell(&mut connection, &frame(Kind::Hello, 0, body.clone())).expect_err("nested");
            }
            let mut host = exuvia_protocol::Connection::new(Role::Host, LIMITS);
            let greeting = hello_frame(&exuvia_protocol::Hello::new(LIMITS));
            tell(&mut host, &greeting).expect("good");
            tell(&mut host, &frame(Kind::Ready, 0, body.clone())).expect_err("nested");
            let answer = frame(Kind::Failure, 2, [&[0; 8][..], &body].concat());
            told(Role::Host, &[answer]).expect_err("nested");
            told(Role::Worker, &[frame(Kind::Call, 2, call_body(&body, 0, b""))])
                .expect_err("nested");
        }
    }
}

#[test]
fn a_claimed_length_reserves_nothing() {
    // Together they claim more than any machine has.
    let limits = Limits { max_payload: 1 << 46, ..LIMITS };
    let mut worker = connected(Role::Worker, limits, limits);
    for id in 1..=1_000 {
        let call = frame(Kind::Call, 2 * id, call_body(b"", 1 << 46, b"x")).flags(MORE);
        assert_eq!(tell(&mut worker, &call), Ok(vec![]));
    }
}

#[test]
fn incomplete_payloads_are_bounded_in_number() {
    let mut worker = connected(Role::Worker, LIMITS, LIMITS);
    let mut calls = (1..).map(|id| frame(Kind::Call, 2 * id, call_body(b"", 9, b"x")).flags(MORE));
    let refused = calls.by_ref().take(70_000).position(|call| tell(&mut worker, &call).is_err());
    assert_eq!(refused, Some(65_536));
}

#[test]
fn credit_for_anything_unknown_or_beyond_all_need_is_harmless() {
    let mut host = connected(Role::Host, LIMITS, LIMITS);
    let credit = |call| frame(Kind::Credit, call, u32::MAX.to_le_bytes());
    for call in [1, 2, 3, u64::MAX] {
        for _ in 0..3 {
            assert_eq!(tell(&mut host, &credit(call)), Ok(vec![]));
        }
    }
    assert!(host.outbound().is_empty());
}

#[test]
fn a_broken_connection_stays_broken_with_the_same_error() {
    let mut worker = connected(Role::Worker, LIMITS, LIMITS);
    let error = tell(&mut worker, &call(9, 8, 0)).expect_err("wrong");
    assert_eq!(say(&mut worker, b""), Err(error.clone()));
    let fine = frame(Kind::Call, 4, call_body(b"", 0, b""));
    assert_eq!(tell(&mut worker, &fine), Err(error));
}

/// The credit that waits to be written: call and bytes.
fn credit_given(connection: &mut exuvia_protocol::Connection) -> Vec<(u64, u64)> {
    let out = connection.outbound().split();
    out.chunks(20)
        .map(|frame| {
            assert_eq!(frame[4], Kind::Credit as u8);
            let call = u64::from_le_bytes(frame[8..16].try_into().expect("8 bytes"));
            (call, u64::from(u32::from_le_bytes(frame[16..].try_into().expect("4 bytes"))))
        })
        .collect()
}

#[test]
fn from_256_mib_on_incomplete_payloads_are_completed_one_after_the_other() {
    const MIB: usize = 1 << 20;
    let limits = Limits { max_frame: 2 << 20, max_payload: 512 << 20, window: 1 << 20 };
    let mut host = connected(Role::Host, limits, limits);
    let mut begin = |call| {
        let body = result_body(300 << 20, &vec![1; MIB]);
        tell(&mut host, &frame(Kind::Result, call, body).flags(MORE)).expect("begun");
        credit_given(&mut host)
    };
    let whole = |call| vec![(call, 1 << 20)];
    assert_eq!(begin(2), whole(2));
    assert_eq!(begin(4), whole(4));
    let chunk = vec![1; MIB];
    let mut more = |call, flags| {
        let events = tell(&mut host, &frame(Kind::Data, call, chunk.clone()).flags(flags));
        (events.expect("as granted").len(), credit_given(&mut host))
    };
    // The younger goes ahead until much is held: then it has to wait for the older.
    let mut held = 2;
    while held < 255 {
        assert_eq!(more(4, MORE), (0, whole(4)));
        held += 1;
    }
    assert_eq!(more(4, MORE), (0, vec![]));
    for _ in 0..298 {
        assert_eq!(more(2, MORE), (0, whole(2)));
    }
    // With the older complete, the younger has what it was due.
    assert_eq!(more(2, 0), (1, whole(4)));
    assert_eq!(more(4, MORE), (0, whole(4)));
}

#[test]
fn incomplete_payloads_are_bounded_in_sum() {
    let limits = Limits { max_frame: 2 << 20, max_payload: 32 << 20, window: 1 << 20 };
    let mut host = connected(Role::Host, limits, limits);
    let refused = (1..1_000).find_map(|id| {
        let body = result_body(32 << 20, &vec![1; 1 << 20]);
        tell(&mut host, &frame(Kind::Result, 2 * id, body).flags(MORE))
            .err()
            .map(|error| (id, error))
    });
    let (id, error) = refused.expect("there is a limit");
    assert_eq!(id, 512 + 32 + 1);
    assert!(error.to_string().contains("incomplete payloads"), "{error}");
}
