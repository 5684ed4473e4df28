//! Who may say what when, before and around the handshake (`docs/protocol.md`, 2 to 4).

mod support;

use by_hand::Map;
use exuvia_core::{Failure, Frame, HandlerInfo, HandlerKind, Param};
use exuvia_protocol::{
    BUILD, Connection, Event, Hello, Limits, Load, LoadTarget, PROTOCOL, ProtocolError, Ready,
    Role,
    frame::{ABORT, Kind, MORE},
    message::MAGIC,
};
use support::{
    RawFrame, call_body, connected, first_id, frame, hello_frame, other, ready_frame, result_body,
    say, tell,
};

const ROLES: [Role; 2] = [Role::Host, Role::Worker];
const KINDS: [Kind; 11] = [
    Kind::Hello,
    Kind::Ready,
    Kind::Call,
    Kind::Result,
    Kind::Failure,
    Kind::Data,
    Kind::Credit,
    Kind::Cancel,
    Kind::Cancelling,
    Kind::Drain,
    Kind::End,
];

fn fresh(role: Role) -> Connection {
    Connection::new(role, Limits::default())
}

fn greeted(role: Role) -> Connection {
    let mut connection = fresh(role);
    say(&mut connection, &hello_frame(&Hello::new(Limits::default())).bytes()).expect("good");
    connection
}

fn ready(role: Role) -> Connection {
    connected(role, Limits::default(), Limits::default())
}

/// A frame of this kind that is right in itself, as the peer of `role` would send it.
fn good(kind: Kind, role: Role) -> RawFrame {
    let (ours, theirs) = (first_id(role), first_id(other(role)));
    let failure = rmp_serde::to_vec_named(&Failure::Cancelled).expect("written");
    match kind {
        Kind::Hello => hello_frame(&Hello::new(Limits::default())),
        Kind::Ready => ready_frame(),
        Kind::Call => frame(kind, theirs, call_body(b"", 0, b"")),
        Kind::Result => frame(kind, ours, result_body(0, b"")),
        Kind::Failure => frame(kind, ours, [&[0; 8][..], &failure].concat()),
        Kind::Data => frame(kind, theirs, *b"x"),
        Kind::Credit => frame(kind, ours, [1, 0, 0, 0]),
        Kind::Cancel => frame(kind, theirs, []),
        Kind::Cancelling => frame(kind, ours, []),
        Kind::Drain => frame(kind, 0, []),
        Kind::End => frame(kind, ours, [0, 0, 0, 0, 0, 0, 0, 0, 0x90]),
    }
}

fn unexpected(mut connection: Connection, frame: &RawFrame) -> String {
    match tell(&mut connection, frame) {
        Err(ProtocolError::Unexpected { kind, call, what }) => {
            assert_eq!((kind, call), (frame.kind, frame.call), "it says what it saw");
            what.to_owned()
        }
        other => panic!("{frame:?} gave {other:?}"),
    }
}

/// The head of a frame alone is enough to refuse it.
fn refused_at_its_header(mut connection: Connection, frame: &RawFrame) {
    let header = &frame.bytes()[..16];
    say(&mut connection, header).expect_err("its header is wrong already");
}

// === Section 3: handshake ===

#[test]
fn the_first_frame_must_be_a_greeting() {
    for role in ROLES {
        for kind in KINDS.into_iter().filter(|kind| *kind != Kind::Hello) {
            let frame = good(kind, role);
            unexpected(fresh(role), &frame);
            refused_at_its_header(fresh(role), &frame);
        }
    }
}

#[test]
fn a_side_greets_once() {
    for role in ROLES {
        assert_eq!(unexpected(greeted(role), &good(Kind::Hello, role)), "greeted already");
        assert_eq!(unexpected(ready(role), &good(Kind::Hello, role)), "greeted already");
    }
}

#[test]
fn the_host_speaks_first_and_the_worker_answers() {
    let (mut host, mut worker) = (fresh(Role::Host), fresh(Role::Worker));
    assert!(host.outbound().is_empty() && worker.outbound().is_empty(), "nothing by itself");
    host.hello(&Hello::new(Limits::default())).expect("fits");
    let heard = say(&mut worker, host.outbound()).expect("good");
    assert!(matches!(heard[..], [Event::Hello(_)]));
    worker.hello(&Hello::new(Limits::default())).expect("fits");
    worker.ready(&Ready::Failed(Failure::Cancelled)).expect("fits");
    let heard = say(&mut host, worker.outbound()).expect("good");
    assert!(matches!(heard[..], [Event::Hello(_), Event::Ready(_)]));
}

#[test]
fn the_fullest_greeting_and_ready_arrive_intact() {
    let target =
        LoadTarget { module: "m".into(), file: Some("/m.py".into()), attribute: Some("f".into()) };
    let load = Load {
        search_path: vec!["/x".into()],
        targets: vec![target],
        concurrency: 9,
        ..Load::default()
    };
    let python = Some("3.13.0".to_owned());
    let hello = Hello { load: Some(load), python, ..Hello::new(Limits::default()) };
    let param = Param {
        name: "n".into(),
        annotation: "dict[str, int]".into(),
        required: false,
        default: Some("None".into()),
    };
    let handler = HandlerInfo {
        module: "m".into(),
        name: "f".into(),
        kind: HandlerKind::Async,
        params: vec![param; 3],
        doc: "Says n.".into(),
        open: false,
        returns: "str".into(),
        routes: vec![("GET /f".into(), "{}".into())],
        reads: true,
        streams: true,
    };
    let frames = vec![Frame { file: "m.py".into(), line: 3, function: "f".into() }];
    let (class, message, traceback) = ("E".into(), "no".into(), "T".into());
    let failure = Failure::Exception { class, message, traceback, frames };
    for ready in [Ready::Handlers(vec![handler; 40], Vec::new()), Ready::Failed(failure)] {
        let (mut host, mut worker) = (fresh(Role::Host), fresh(Role::Worker));
        worker.hello(&hello).expect("fits");
        worker.ready(&ready).expect("fits");
        let heard = say(&mut host, worker.outbound()).expect("good");
        let expected = [Event::Hello(Box::new(hello.clone())), Event::Ready(Box::new(ready))];
        assert_eq!(heard, expected);
    }
}

#[test]
fn only_a_worker_is_ready_and_only_once() {
    let frame = ready_frame();
    assert_eq!(unexpected(ready(Role::Host), &frame), "ready already");
    assert_eq!(unexpected(ready(Role::Worker), &frame), "only a worker is ready");
    assert_eq!(unexpected(greeted(Role::Worker), &frame), "only a worker is ready");
}

#[test]
fn nothing_about_a_call_comes_before_the_worker_is_ready() {
    for role in ROLES {
        for kind in [Kind::Call, Kind::Result, Kind::Failure, Kind::Data, Kind::Credit, Kind::End] {
            let what = unexpected(greeted(role), &good(kind, role));
            assert_eq!(what, "the worker is not ready yet");
        }
        for kind in [Kind::Cancel, Kind::Cancelling] {
            unexpected(greeted(role), &good(kind, role));
        }
    }
}

#[test]
fn only_a_host_drains_and_it_may_while_the_worker_imports() {
    let drain = frame(Kind::Drain, 0, []);
    unexpected(greeted(Role::Host), &drain);
    unexpected(ready(Role::Host), &drain);
    assert_eq!(tell(&mut greeted(Role::Worker), &drain), Ok(vec![Event::Drain]));
    assert_eq!(tell(&mut ready(Role::Worker), &drain), Ok(vec![Event::Drain]));
}

#[test]
fn another_magic_protocol_or_build_is_refused_by_both_and_named_on_both_sides() {
    let good = Hello::new(Limits::default());
    let others = [
        Hello { magic: "exuviae".into(), ..good.clone() },
        Hello { protocol: PROTOCOL + 41, ..good.clone() },
        Hello { build: "9.8.7-other".into(), ..good.clone() },
    ];
    for role in ROLES {
        for hello in &others {
            assert_names_both(role, &hello_frame(hello), hello);
        }
    }
}

#[test]
fn another_versions_greeting_is_named_whatever_the_rest_of_it_looks_like() {
    let hello = Hello { protocol: 2, build: "2.0.0".into(), ..Hello::new(Limits::default()) };
    let mut body = Map::new(4);
    body.text("magic", MAGIC).number("protocol", 2).text("build", "2.0.0").number("limits", 7);
    for role in ROLES {
        assert_names_both(role, &frame(Kind::Hello, 0, body.bytes.clone()), &hello);
    }
}

fn assert_names_both(role: Role, frame: &RawFrame, hello: &Hello) {
    let error = tell(&mut fresh(role), frame).expect_err("refused");
    assert!(matches!(error, ProtocolError::Version { .. }), "{error:?}");
    let text = error.to_string();
    for part in [MAGIC, BUILD, &format!("protocol {PROTOCOL} "), &hello.magic, &hello.build] {
        assert!(text.contains(part), "{text:?} does not name {part:?}");
    }
    assert!(text.contains(&format!("protocol {} ", hello.protocol)), "{text}");
}

#[test]
fn limits_that_leave_no_room_are_refused() {
    let least = Limits { max_frame: 80, max_payload: 0, window: 1 };
    for role in ROLES {
        let hello = |limits| hello_frame(&Hello::new(limits));
        tell(&mut fresh(role), &hello(least)).expect("the least there may be");
        let small = [Limits { max_frame: 79, ..least }, Limits { window: 0, ..least }];
        for limits in small {
            tell(&mut fresh(role), &hello(limits)).expect_err("too small");
        }
    }
}

#[test]
fn a_greeting_that_is_no_greeting_says_what_does_not_read() {
    for body in [&b""[..], b"\xc0", b"\x80", b"\x93\x01\x02\x03", b"GET / HTTP/1.1"] {
        let error = tell(&mut fresh(Role::Host), &frame(Kind::Hello, 0, body)).expect_err("bad");
        assert!(matches!(error, ProtocolError::Body { kind: 1, .. }), "{error:?}");
    }
    say(&mut fresh(Role::Host), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect_err("not ours");
}

// === Section 2: frames ===

#[test]
fn an_unknown_kind_or_a_flag_that_must_be_0_is_an_error_that_names_the_kind() {
    for kind in [0, 12, 47, 255] {
        let unknown = RawFrame { kind, ..frame(Kind::Drain, 0, []) };
        let error = tell(&mut ready(Role::Worker), &unknown).expect_err("unknown");
        assert!(error.to_string().contains(&format!("kind {kind} ")), "{error}");
    }
    for role in ROLES {
        for kind in KINDS {
            let allowed = match kind {
                Kind::Call | Kind::Result => vec![0, MORE],
                Kind::Data => vec![0, MORE, ABORT],
                _ => vec![0],
            };
            for flags in (0..=255).filter(|flags| !allowed.contains(flags)) {
                refused_at_its_header(ready(role), &good(kind, role).flags(flags));
            }
        }
    }
}

#[test]
fn a_frame_about_a_call_has_an_id_and_one_about_the_connection_has_none() {
    for role in ROLES {
        for kind in KINDS {
            let mut frame = good(kind, role);
            frame.call = u64::from(frame.call == 0);
            refused_at_its_header(ready(role), &frame);
        }
    }
}

#[test]
fn a_frame_longer_than_max_frame_is_refused_before_its_body_comes() {
    let limits = Limits { max_frame: 500, ..Limits::default() };
    for (length, good) in [(500_u32, true), (501, false), (u32::MAX, false)] {
        let mut host = connected(Role::Host, limits, limits);
        let mut header = frame(Kind::Result, 2, []).bytes();
        header[..4].copy_from_slice(&length.to_le_bytes());
        let told = say(&mut host, &header);
        assert_eq!(told.is_ok(), good);
        if !good {
            let limit = 500;
            assert_eq!(told, Err(ProtocolError::TooLong { length: length.into(), limit }));
        }
    }
}

// === Section 4: ids ===

#[test]
fn a_call_carries_its_openers_parity_and_an_answer_its_callers() {
    for role in ROLES {
        for kind in KINDS {
            let mut frame = good(kind, role);
            let told = tell(&mut ready(role), &frame);
            if matches!(kind, Kind::Data | Kind::Hello | Kind::Ready | Kind::Drain) {
                continue;
            }
            // There is nothing for END to end.
            assert_eq!(told.is_ok(), kind != Kind::End, "{kind:?}: {told:?}");
            frame.call += 1;
            if kind != Kind::Credit {
                unexpected(ready(role), &frame);
            }
        }
    }
}

#[test]
fn ids_rise_are_never_used_twice_and_stay_below_2_to_the_61() {
    let call = |id| frame(Kind::Call, id, call_body(b"", 0, b""));
    for (before, id, good) in [
        (2, 4, true),
        (4, 1_000, true),
        (4, 4, false),
        (4, 2, false),
        (2, (1 << 61) - 2, true),
        (2, 1 << 61, false),
        (2, u64::MAX - 1, false),
    ] {
        let mut worker = ready(Role::Worker);
        tell(&mut worker, &call(before)).expect("the first call");
        assert_eq!(tell(&mut worker, &call(id)).is_ok(), good, "{before} then {id}");
    }
}

mod by_hand {
    //! MessagePack by hand, for greetings that our types cannot say.

    pub(crate) struct Map {
        pub(crate) bytes: Vec<u8>,
    }

    impl Map {
        pub(crate) fn new(entries: u8) -> Self {
            Self { bytes: vec![0x80 | entries] }
        }

        pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
            self.string(name);
            self.string(value);
            self
        }

        pub(crate) fn number(&mut self, name: &str, value: u8) -> &mut Self {
            self.string(name);
            self.bytes.push(value);
            self
        }

        fn string(&mut self, text: &str) {
            self.bytes.push(0xa0 | text.len() as u8);
            self.bytes.extend(text.as_bytes());
        }
    }
}
