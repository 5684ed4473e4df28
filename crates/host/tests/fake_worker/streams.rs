//! Results that come in pieces.

use std::{fs, sync::atomic::Ordering::SeqCst, time::Duration};

use exuvia_core::{Codec, Copied, Failure};
use exuvia_protocol::{
    IncomingCall,
    frame::{MORE, ResultHead, STREAMS},
};

use crate::{
    Broken, Fake,
    verbs::{die, frame, rest, result_head},
};

/// Bytes of a piece.
const PIECE: u64 = 10_000;
const RESULT: u8 = 4;
const DATA: u8 = 6;
const END: u8 = 11;

/// A result that is being made.
pub(crate) struct Streaming {
    pub(crate) call: u64,
    slot: u16,
    tag: String,
    /// Whether others wait meanwhile, as with a sync handler.
    alone: bool,
    made: u64,
    whole: u64,
    last: String,
}

/// Runs a verb about streams; false: it is none. `stream`: so many bytes, whose values count up to
/// 250 and begin again; then what is behind the dash. `beside` is the same in an async handler.
pub(crate) fn run(
    fake: &mut Fake,
    incoming: &IncomingCall,
    verb: &str,
    number: u64,
    tag: &str,
) -> Result<bool, Broken> {
    let (call, slot) = (incoming.call, incoming.slot);
    let (how, last) = verb.split_once('-').unwrap_or((verb, "ends"));
    if !matches!(how, "stream" | "beside") {
        return Ok(false);
    }
    // Of a call that nobody made.
    let begun = if last == "of_stranger" { call + 2_000_000 } else { call };
    fake.connection.begin_stream(begun, slot, ResultHead::new(Codec::Csv, 5));
    fake.streams.push(Streaming {
        call,
        slot,
        tag: tag.to_owned(),
        alone: how == "stream",
        made: 0,
        whole: number,
        last: last.to_owned(),
    });
    Ok(true)
}

impl Fake {
    pub(crate) fn is_busy(&self) -> bool {
        self.streams.iter().any(|stream| stream.alone)
    }

    /// Whether a stream has room for more that is yet to be made.
    pub(crate) fn can_go_on(&self) -> bool {
        let wants = |stream: &Streaming| {
            stream.made < stream.whole && self.connection.wants_more(stream.call)
        };
        self.streams.iter().any(wants)
    }

    /// Makes as much of each stream as is wanted.
    pub(crate) fn make_pieces(&mut self) -> Result<(), Broken> {
        let mut done = Vec::new();
        for (place, stream) in self.streams.iter_mut().enumerate() {
            while stream.made < stream.whole && self.connection.wants_more(stream.call) {
                let end = (stream.made + PIECE).min(stream.whole);
                let piece: Vec<u8> = (stream.made..end).map(|place| (place % 251) as u8).collect();
                stream.made = end;
                self.connection.add(stream.call, piece.into());
                let place = self.dir.join(format!("made-{}", stream.tag));
                // Who reads it meanwhile reads one number or the other.
                let fresh = self.dir.join(format!("making-{}", std::process::id()));
                fs::write(&fresh, end.to_string())?;
                fs::rename(fresh, place)?;
            }
            if stream.made >= stream.whole && stream.last != "sleeps" {
                done.push(place);
            }
        }
        for place in done.into_iter().rev() {
            let stream = self.streams.remove(place);
            self.finish_stream(&stream)?;
        }
        Ok(())
    }

    fn finish_stream(&mut self, stream: &Streaming) -> Result<(), Broken> {
        let (call, slot) = (stream.call, stream.slot);
        match &*stream.last {
            "ends" | "ends_twice" => {
                self.claims().finish(slot, call);
                let why = "it is a fake".into();
                let copies = [Copied { what: "table".into(), bytes: 7, why }];
                self.connection.end_stream(call, 1000, &copies);
                if stream.last == "ends_twice" {
                    self.flush()?;
                    self.raw(&frame(END, 0, slot, call, &[0, 0, 0, 0, 0, 0, 0, 0, 0x90]));
                    rest(self)?;
                }
            }
            "fails" => {
                self.claims().finish(slot, call);
                let failure = Failure::Malformed { message: stream.tag.clone() };
                self.connection.failure(call, slot, 1000, &failure)?;
            }
            last => {
                self.flush()?;
                self.misstream(stream, last)?;
            }
        }
        Ok(())
    }

    /// Ends of streams that should not be.
    fn misstream(&mut self, stream: &Streaming, last: &str) -> Result<(), Broken> {
        let (call, slot) = (stream.call, stream.slot);
        match last {
            "dies" => die(9),
            "exits" => std::process::exit(7),
            "blocks" => std::thread::sleep(Duration::from_secs(60)),
            // The page says that it has not begun.
            "unbegins" => {
                for word in &self.page.words()[8..] {
                    if word.load(SeqCst) >> 3 == call {
                        word.store(call << 3 | 1, SeqCst);
                    }
                }
                die(9);
            }
            "of_stranger" => {}
            "answers" => self.raw(&frame(RESULT, 0, slot, call, &result_head(0))),
            "answers_other" => {
                self.raw(&frame(RESULT, 0, slot, call + 2_000_000, &result_head(0)));
            }
            "begins_again" => {
                let mut head = result_head(0);
                head[1] = STREAMS;
                self.raw(&frame(RESULT, MORE, slot, call, &head));
            }
            "floods" => {
                let piece = frame(DATA, MORE, slot, call, &[b'x'; 1 << 16]);
                (0..100).for_each(|_| self.raw(&piece));
            }
            // Pieces of nothing, which cost no credit.
            "dribbles" => {
                let nothing = frame(DATA, MORE, slot, call, b"").repeat(4096);
                (0..500).for_each(|_| self.raw(&nothing));
                self.stream.set_nonblocking(true)?;
                self.claims().finish(slot, call);
                self.connection.end_stream(call, 1000, &[]);
                return Ok(());
            }
            other => return Err(format!("no end {other}").into()),
        }
        rest(self)
    }
}
