//! Two ends talk over a pipe that delivers when and as much as it likes (`docs/protocol.md`, 4 and 5).

mod support;

use bytes::Bytes;
use exuvia_core::{Codec, Failure, Frame, InputFault, MAX_ATTACHED};
use exuvia_protocol::{
    Connection, Event, Limits, OutgoingCall, Role,
    frame::{ABORT, CallHead, Kind, MORE, ResultHead},
};
use proptest::prelude::*;
use support::{
    RawFrame, any_size, call_body, cases, connected, first_id, frame, noise, other, say, tell,
    world::{End, Plan, World},
    written,
};

/// The least `max_frame` that a greeting fits.
const LEAST_FRAME: u32 = 128;
const WIDE: Limits = Limits { max_frame: 1 << 20, max_payload: 1 << 30, window: 8 << 20 };

fn limits() -> impl Strategy<Value = Limits> {
    let usual = Just(Limits::default());
    let any = (any_size(LEAST_FRAME..=1 << 20), any_size(0..=4 << 20), any_size(1..=1 << 20))
        .prop_map(|(max_frame, max_payload, window)| Limits {
            max_frame,
            max_payload: max_payload.into(),
            window,
        });
    prop_oneof![1 => usual, 4 => any]
}

fn plan() -> impl Strategy<Value = Plan> {
    let end = prop_oneof![
        3 => (any_size(0..=4 << 20), any::<bool>()).prop_map(|(size, owned)| End::Result(size, owned)),
        1 => any_size(0..=300 << 10).prop_map(End::Failure),
        2 => (any_size(0..=4 << 20), any::<bool>(), attached())
            .prop_map(|(size, shared, attached)| End::Memory { size, shared, attached }),
        3 => (any_size(0..=4 << 20), 1_u8..20, prop::bool::weighted(0.2))
            .prop_map(|(size, pieces, fails)| End::Stream { size, pieces, fails }),
    ];
    (
        prop::bool::weighted(0.7),
        (any_size(0..=4 << 20), prop::bool::weighted(0.3), attached()),
        prop::collection::vec(("\\PC{0,8}", "\\PC{0,12}"), 0..3),
        any::<bool>(),
        end,
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(by_host, (payload, shared, attached), text, trace, end, refuse, cancel)| Plan {
                by_host,
                payload,
                shared,
                attached,
                text,
                trace,
                end,
                refuse,
                cancel,
            },
        )
}

/// Mostly none, at times as many as there may be.
fn attached() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(0), 3 => 1_u8..4, 1 => Just(MAX_ATTACHED as u8)]
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn every_call_and_answer_arrives_once_and_intact_within_its_credit(
        host in limits(),
        worker in limits(),
        plans in prop::collection::vec(plan(), 0..10),
        grain in any_size(1 << 10..=256 << 10),
        seed in any::<u64>(),
    ) {
        World::new(host, worker, grain as usize, seed).play(plans);
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn small_payloads_through_tiny_limits_arrive_byte_by_byte(
        max_frame in LEAST_FRAME..300,
        windows in (1_u32..40, 1_u32..40),
        plans in prop::collection::vec(plan(), 0..6),
        seed in any::<u64>(),
    ) {
        let limits = |window| Limits { max_frame, max_payload: 600, window };
        World::new(limits(windows.0), limits(windows.1), 64, seed).play(plans);
    }

    #[test]
    fn a_small_call_overtakes_a_large_one(
        role in prop_oneof![Just(Role::Host), Just(Role::Worker)],
        max_frame in any_size(LEAST_FRAME..=1 << 20),
        window in any_size(1..=8 << 20),
        small in 0_usize..60,
    ) {
        let limits = Limits { max_frame, max_payload: 1 << 30, window };
        let mut opener = connected(role, WIDE, limits);
        let mut answerer = connected(other(role), limits, WIDE);
        let (large_id, small_id) = (first_id(role), first_id(role) + 2);
        // Enough for the large one to be unfinished when all that may be written now is.
        let frame = max_frame.min(window).min(64 << 10) as usize;
        let half = 512 << 10;
        let large = match window as usize {
            window if window < half => window + (frame * 200).min(half),
            _ => half,
        };
        open(&mut opener, large_id, noise(1, large));
        let mut order = say(&mut answerer, &written(&mut opener)).expect("good frames");
        open(&mut opener, small_id, noise(2, small));
        while order.len() < 2 {
            let bytes = written(&mut opener);
            order.extend(say(&mut answerer, &bytes).expect("good frames"));
            let credit = written(&mut answerer);
            prop_assert!(!(bytes.is_empty() && credit.is_empty()), "nothing moves any more");
            say(&mut opener, &credit).expect("good frames");
        }
        let order: Vec<u64> = order.iter().map(call_of).collect();
        prop_assert_eq!(order, vec![small_id, large_id]);
    }

    #[test]
    fn a_failure_fits_every_peers_frame_and_keeps_its_kind(
        failure in failure(),
        max_frame in any_size(80..=1 << 20),
    ) {
        let mut worker = connected(Role::Worker, WIDE, Limits { max_frame, ..WIDE });
        worker.failure(2, 3, 4, &failure).expect("it always fits");
        let bytes = written(&mut worker);
        prop_assert!(bytes.len() - 16 <= max_frame as usize);
        let events = say(&mut connected(Role::Host, WIDE, WIDE), &bytes).expect("a good frame");
        let [Event::Failure { call: 2, slot: 3, run_ns: 4, failure: got }] = &events[..] else {
            return Err(TestCaseError::fail(format!("{events:?}")));
        };
        prop_assert_eq!(got.kind(), failure.kind());
        let whole = rmp_serde::to_vec_named(&failure).expect("failures can be written").len();
        prop_assert!(**got == failure || whole + 8 > (max_frame as usize).min(256 << 10));
    }
}

fn failure() -> impl Strategy<Value = Failure> {
    let text = || any_size(0..=200 << 10).prop_map(|size| "añ€😀".repeat(size as usize / 10));
    let frames = (0_usize..1_200, any_size(0..=4 << 10)).prop_map(|(count, size)| {
        let frame = |line| Frame { file: "f".repeat(size as usize), line, function: "g".into() };
        (1..=count as u32).map(frame).collect::<Vec<_>>()
    });
    let faults = (0_usize..500, any_size(0..=4 << 10)).prop_map(|(count, size)| {
        let fault = InputFault { pointer: "/é".repeat(size as usize), message: "no".into() };
        vec![fault; count]
    });
    prop_oneof![
        text().prop_map(|message| Failure::Malformed { message }),
        faults.prop_map(|faults| Failure::Input { faults }),
        (text(), text(), text(), frames.clone()).prop_map(|(class, message, traceback, frames)| {
            Failure::Exception { class, message, traceback, frames }
        }),
        (text(), text()).prop_map(|(path, message)| Failure::Result { path, message }),
        frames.clone().prop_map(|frames| Failure::Timeout {
            limit_ms: u64::MAX,
            started: true,
            frames
        }),
        (text(), frames).prop_map(|(signal, frames)| Failure::Crash {
            signal,
            number: i32::MIN,
            running: u32::MAX,
            frames
        }),
        Just(Failure::Exited { status: i32::MIN, running: u32::MAX }),
        text().prop_map(|reason| Failure::WorkerLost { reason, retryable: true }),
        text().prop_map(|reason| Failure::Rejected { reason, retry_after_ms: u64::MAX }),
        Just(Failure::Cancelled),
        (text(), text()).prop_map(|(message, traceback)| Failure::Load { message, traceback }),
        text().prop_map(|message| Failure::Host { message }),
    ]
}

#[test]
fn a_shortened_exception_keeps_the_frame_that_raised_and_the_tracebacks_end() {
    let frames =
        (0..1_000).map(|line| Frame { file: "x".repeat(2_000), line, function: "f".into() });
    let failure = Failure::Exception {
        class: "RecursionError".into(),
        message: "too deep".into(),
        traceback: format!("{}the end", "line\n".repeat(200_000)),
        frames: frames.collect(),
    };
    let mut worker = connected(Role::Worker, WIDE, WIDE);
    worker.failure(2, 0, 0, &failure).expect("it fits");
    let events = say(&mut connected(Role::Host, WIDE, WIDE), &written(&mut worker));
    let events = events.expect("a good frame");
    let [Event::Failure { failure, .. }] = &events[..] else { panic!("{events:?}") };
    let Failure::Exception { class, message, traceback, frames } = &**failure else {
        panic!("{failure:?}")
    };
    assert_eq!((class.as_str(), message.as_str()), ("RecursionError", "too deep"));
    assert!(traceback.ends_with("the end"));
    assert_eq!(frames.last().map(|frame| frame.line), Some(999));
}

#[test]
fn unfinished_payloads_take_turns_frame_by_frame() {
    let mut host = connected(Role::Host, WIDE, WIDE);
    for call in [2, 4, 6] {
        open(&mut host, call, noise(call, 1 << 20));
    }
    let mut turns = Vec::new();
    loop {
        let bytes = written(&mut host);
        if bytes.is_empty() {
            break;
        }
        turns.extend(RawFrame::all(&bytes).iter().map(|frame| frame.call));
    }
    assert_eq!(turns.len(), 3 * 16);
    for (place, call) in turns.iter().enumerate() {
        assert_eq!(*call, [2, 4, 6][place % 3], "{turns:?}");
    }
}

#[test]
fn a_payload_that_fits_needs_no_further_frame() {
    let limits = Limits { max_frame: 1_000, max_payload: 1_000, window: 500 };
    let mut worker = connected(Role::Worker, WIDE, limits);
    let head = ResultHead::new(Codec::Json, 0);
    worker.result(2, 0, head, &[], noise(1, 500).into());
    worker.result_from(4, 0, head, &noise(2, 500));
    let frames = RawFrame::all(&written(&mut worker));
    assert_eq!(frames.len(), 2);
    assert!(frames.iter().all(|frame| frame.flags == 0 && frame.body.len() == 524));
}

#[test]
fn a_borrowed_result_is_cut_to_the_peers_frame_like_an_owned_one() {
    let limits = Limits { max_frame: 1_000, max_payload: 1 << 20, window: 1 << 20 };
    let head = ResultHead::new(Codec::Json, 0);
    for size in [975, 976, 977, 5_000] {
        let mut ends = [(); 2].map(|()| connected(Role::Worker, WIDE, limits));
        ends[0].result(2, 0, head, &[], noise(1, size).into());
        ends[1].result_from(2, 0, head, &noise(1, size));
        let [owned, borrowed] = ends.each_mut().map(written);
        assert!(RawFrame::all(&borrowed).iter().all(|frame| frame.body.len() <= 1_000));
        assert_eq!(owned, borrowed);
    }
}

#[test]
fn a_call_refused_while_it_is_sent_is_aborted_and_never_arrives() {
    for role in [Role::Host, Role::Worker] {
        let limits = Limits { window: 64 << 10, ..WIDE };
        let mut opener = connected(role, WIDE, limits);
        let mut answerer = connected(other(role), limits, WIDE);
        let call = first_id(role);
        open(&mut opener, call, noise(1, 1 << 20));
        assert_eq!(say(&mut answerer, &written(&mut opener)), Ok(vec![]));
        let failure = Failure::Rejected { reason: "full".into(), retry_after_ms: 5 };
        answerer.failure(call, 0, 1, &failure).expect("it fits");
        // Credit given before the refusal sends more of the payload on its way.
        let answer = written(&mut answerer);
        let (credit, refusal) = answer.split_at(20);
        assert_eq!(say(&mut opener, credit), Ok(vec![]));
        let late = written(&mut opener);
        assert!(!late.is_empty());
        let failure = Box::new(failure);
        assert_eq!(
            say(&mut opener, refusal),
            Ok(vec![Event::Failure { call, slot: 0, run_ns: 1, failure }])
        );
        let abort = written(&mut opener);
        assert_eq!(RawFrame::all(&abort), [frame(Kind::Data, call, []).flags(ABORT)]);
        assert_eq!(say(&mut answerer, &[&late[..], &abort].concat()), Ok(vec![]));
        assert!(written(&mut answerer).is_empty(), "no credit for what is thrown away");
        assert!(written(&mut opener).is_empty(), "nothing more of it");
    }
}

#[test]
fn a_refused_call_whose_payload_came_whole_never_arrives() {
    let mut worker = connected(Role::Worker, WIDE, WIDE);
    let begin = frame(Kind::Call, 2, call_body(b"", 6, b"abc")).flags(MORE);
    assert_eq!(tell(&mut worker, &begin), Ok(vec![]));
    worker.failure(2, 0, 0, &Failure::Cancelled).expect("it fits");
    assert_eq!(tell(&mut worker, &frame(Kind::Data, 2, *b"def")), Ok(vec![]));
}

#[test]
fn the_cancel_of_an_incomplete_call_gives_exactly_one_cancelled() {
    for role in [Role::Host, Role::Worker] {
        let limits = Limits { window: 1_000, ..WIDE };
        let mut opener = connected(role, WIDE, limits);
        let mut answerer = connected(other(role), limits, WIDE);
        let call = first_id(role);
        open(&mut opener, call, noise(1, 1 << 20));
        assert_eq!(say(&mut answerer, &written(&mut opener)), Ok(vec![]));
        opener.cancel(call, 0);
        let cancel = written(&mut opener);
        assert_eq!(RawFrame::all(&cancel), [frame(Kind::Cancel, call, [])]);
        assert_eq!(say(&mut answerer, &cancel), Ok(vec![]), "it never begins");
        let failure = Box::new(Failure::Cancelled);
        assert_eq!(
            say(&mut opener, &written(&mut answerer)),
            Ok(vec![Event::Failure { call, slot: 0, run_ns: 0, failure }])
        );
        assert!(written(&mut opener).is_empty(), "credit that crossed the cancel is of no use");
    }
}

#[test]
fn a_cancel_that_crosses_a_refusal_is_not_answered_again() {
    let mut worker = connected(Role::Worker, WIDE, WIDE);
    let begin = frame(Kind::Call, 2, call_body(b"", 6, b"abc")).flags(MORE);
    assert_eq!(tell(&mut worker, &begin), Ok(vec![]));
    worker.failure(2, 0, 0, &Failure::Cancelled).expect("it fits");
    written(&mut worker);
    assert_eq!(tell(&mut worker, &frame(Kind::Cancel, 2, [])), Ok(vec![]));
    assert!(written(&mut worker).is_empty());
}

#[test]
fn text_arguments_that_do_not_fit_a_frame_are_refused_and_nothing_is_written() {
    let mut host = connected(Role::Host, WIDE, Limits { max_frame: 200, ..WIDE });
    let text = [("name".to_owned(), "x".repeat(200))];
    let outgoing = OutgoingCall {
        call: 2,
        slot: 0,
        head: head(),
        text_arguments: &text,
        payload: noise(1, 9).into(),
    };
    host.call(outgoing).expect_err("too long");
    assert!(written(&mut host).is_empty());
}

fn head() -> CallHead {
    CallHead {
        handler: 0,
        codec: Codec::Value,
        accept: Codec::Value,
        time_left_ms: 0,
        public_id: 0,
        trace: None,
        flags: 0,
        descriptors: 0,
    }
}

fn open(connection: &mut Connection, call: u64, payload: Bytes) {
    let payload = payload.into();
    let outgoing = OutgoingCall { call, slot: 0, head: head(), text_arguments: &[], payload };
    connection.call(outgoing).expect("it fits");
}

fn call_of(event: &Event) -> u64 {
    match event {
        Event::Call(call) => call.call,
        other => panic!("only calls are sent: {other:?}"),
    }
}
