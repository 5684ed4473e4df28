//! What a call to the fake worker does.

use std::{
    fs::OpenOptions,
    io::Write,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use bytes::Bytes;
use exuvia_core::Codec;
use exuvia_protocol::{IncomingCall, frame::ResultHead};
use rustix::process::{Signal, getpid, kill_process};

use crate::{Broken, Fake, OnCancel, Timer};

/// A frame by hand: `docs/protocol.md`, section 2.
pub(crate) fn frame(kind: u8, flags: u8, slot: u16, call: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(slot.to_le_bytes());
    bytes.extend(call.to_le_bytes());
    bytes.extend(body);
    bytes
}

/// A `RESULT` head that promises `length` bytes.
pub(crate) fn result_head(length: u64) -> Vec<u8> {
    let mut head = vec![0; 16];
    head[0] = Codec::Json as u8;
    head.extend(length.to_le_bytes());
    head
}

/// A `CALL` head without payload.
fn call_head() -> Vec<u8> {
    vec![0; 40]
}

const CALL: u8 = 3;
const RESULT: u8 = 4;
const CREDIT: u8 = 7;
const CANCEL: u8 = 8;
const MORE: u8 = 1;

/// Runs a call that was claimed.
pub(crate) fn run(
    fake: &mut Fake,
    incoming: &IncomingCall,
    verb: &str,
    number: u64,
    tag: &str,
) -> Result<(), Broken> {
    let (call, slot) = (incoming.call, incoming.slot);
    let pause = Duration::from_millis(number);
    match verb {
        "echo" => fake.answer(call, slot, tag),
        // A sync handler's work: the loop does not turn meanwhile.
        "block" => {
            std::thread::sleep(pause);
            fake.answer(call, slot, tag);
        }
        // An async handler's.
        "sleep" | "stubborn" | "late" => fake.timers.push(Timer {
            call,
            slot,
            tag: tag.to_owned(),
            due: Instant::now() + pause,
            on_cancel: match verb {
                "sleep" => OnCancel::End,
                "stubborn" => OnCancel::Ignore,
                _ => OnCancel::Answer,
            },
        }),
        "big" => fake.answer_with(call, slot, 1000, vec![b'x'; number as usize].into()),
        "long-ago" => fake.answer_with(call, slot, u64::MAX, Bytes::from_static(b"1")),
        "die" | "done-and-die" | "answer-and-die" => {
            if verb == "done-and-die" {
                fake.claims().finish(slot, call);
            }
            if verb == "answer-and-die" {
                fake.answer(call, slot, tag);
                fake.flush()?;
            }
            die(number);
        }
        "exit" => std::process::exit(number as i32),
        // After the answer the loop stands still, with no call to blame.
        "deaf" => {
            fake.answer(call, slot, tag);
            fake.flush()?;
            std::thread::sleep(pause);
        }
        _ if crate::memory::run(fake, incoming, verb, number, tag)? => {}
        _ if crate::streams::run(fake, incoming, verb, number, tag)? => {}
        _ => misbehave(fake, incoming, verb, number, tag)?,
    }
    Ok(())
}

fn misbehave(
    fake: &mut Fake,
    incoming: &IncomingCall,
    verb: &str,
    number: u64,
    tag: &str,
) -> Result<(), Broken> {
    let (call, slot) = (incoming.call, incoming.slot);
    let end = Instant::now() + Duration::from_millis(number);
    match verb {
        "twice" => {
            fake.answer(call, slot, tag);
            fake.answer(call, slot, tag);
            rest(fake)?;
        }
        "stranger" => {
            fake.answer(call + 2_000_000, slot, tag);
            rest(fake)?;
        }
        "garbage" => {
            fake.raw(&[0xff; 64]);
            rest(fake)?;
        }
        "half" => {
            fake.raw(&frame(RESULT, 0, slot, call, &result_head(5))[..20]);
            die(9);
        }
        "begun-answer" => {
            fake.raw(&frame(RESULT, MORE, slot, call, &result_head(1 << 20)));
            die(9);
        }
        "close" => fake.close_and_live_on(),
        "scribble" => {
            for word in fake.page.words() {
                word.store(u64::MAX - 3, SeqCst);
            }
            fake.connection.result(
                call,
                slot,
                ResultHead::new(Codec::Json, 1),
                &[],
                Bytes::copy_from_slice(tag.as_bytes()).into(),
            );
        }
        "scribble-and-die" => {
            for word in fake.page.words() {
                word.store(u64::MAX - 3, SeqCst);
            }
            die(9);
        }
        // Frames that mean nothing, as fast as they go.
        "flood" => {
            let credit = frame(CREDIT, 0, slot, call, &[1, 0, 0, 0]).repeat(4096);
            while Instant::now() < end {
                fake.raw(&credit);
            }
            let _ = fake.stream.set_nonblocking(true);
            fake.answer(call, slot, tag);
        }
        // Opens calls, also cancelled half-way ones, and reads none of the answers.
        "opens" => {
            let mut id = 1;
            while Instant::now() < end {
                let mut frames = Vec::new();
                for _ in 0..512 {
                    frames.extend(frame(CALL, 0, 0, id, &call_head()));
                    frames.extend(frame(CANCEL, 0, 0, id, &[]));
                    id += 2;
                }
                fake.raw(&frames);
            }
            std::thread::sleep(Duration::from_secs(60));
        }
        // Begins results of calls that nobody made, and goes on with none.
        "hoard" => {
            for id in 0..number {
                let mut body = result_head(60 << 20);
                body.resize(body.len() + (200 << 10), b'x');
                fake.raw(&frame(RESULT, MORE, 0, 1_000_000 + 2 * id, &body));
            }
            std::thread::sleep(Duration::from_secs(60));
        }
        // Marks that never end, and no line end.
        "marks" => {
            let mut stdout = std::io::stdout();
            let marks = [0x1e; 1 << 16];
            for _ in 0..number {
                stdout.write_all(&marks)?;
            }
            stdout.flush()?;
            fake.answer(call, slot, tag);
        }
        "crash-pipe" => {
            std::thread::spawn(|| {
                let noise = b"Current thread (most recent call first):\n".repeat(2048);
                let pipe = OpenOptions::new().write(true).open("/proc/self/fd/4");
                if let Ok(mut pipe) = pipe {
                    while pipe.write_all(&noise).is_ok() {}
                }
            });
            // The signal that asks for stacks would end a process that does not expect it.
            std::thread::sleep(Duration::from_secs(60));
        }
        other => return Err(format!("no verb {other}").into()),
    }
    Ok(())
}

/// Says what there is to say and begins nothing more.
pub(crate) fn rest(fake: &mut Fake) -> Result<(), Broken> {
    fake.flush()?;
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

pub(crate) fn die(signal: u64) -> ! {
    let signal = if signal == 6 { Signal::ABORT } else { Signal::KILL };
    let _ = kill_process(getpid(), signal);
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}
