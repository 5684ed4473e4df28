//! A failure always fits one frame (section 4.7): its long texts give way.

use exuvia_core::{Failure, Frame};

use crate::{ProtocolError, message};

/// Frames of a stack that are kept, at most.
const FRAMES: usize = 64;
/// Faults of an input that are kept, at most.
const FAULTS: usize = 32;
/// Ends a text that was cut.
const MARK: &str = " [cut]";

/// The failure as MessagePack, cut as often as it takes to fit `room` bytes. Without its texts no
/// failure is longer than 60 bytes.
pub(crate) fn write(kind: u8, failure: &Failure, room: usize) -> Result<Vec<u8>, ProtocolError> {
    let mut body = message::write(kind, failure)?;
    let mut budget = room;
    while body.len() > room {
        body = message::write(kind, &shorten(failure, budget))?;
        if budget == 0 {
            break;
        }
        budget /= 2;
    }
    Ok(body)
}

/// The same failure with its texts cut to about `budget` bytes together; none at all for 0.
fn shorten(failure: &Failure, budget: usize) -> Failure {
    let mut failure = failure.clone();
    match &mut failure {
        Failure::Exception { class, message, traceback, frames } => {
            cut(class, (budget / 8).min(1 << 10));
            cut(message, budget / 4);
            // The end of a traceback says most, and the frames stand in the same order.
            let start = traceback.ceil_char_boundary(traceback.len().saturating_sub(budget / 4));
            traceback.replace_range(..start, "");
            frames.drain(..frames.len() - kept(frames, budget));
            cut_frames(frames, budget);
        }
        Failure::Load { message, traceback } => {
            cut(message, budget / 4);
            cut(traceback, budget / 4);
        }
        Failure::Input { faults } => {
            faults.truncate(FAULTS.min(budget / 64));
            for fault in faults {
                cut(&mut fault.pointer, budget / 128);
                cut(&mut fault.message, budget / 128);
            }
        }
        Failure::Malformed { message } | Failure::Host { message } => cut(message, budget / 2),
        Failure::Refused { class, message, .. } => {
            cut(class, (budget / 8).min(1 << 10));
            cut(message, budget / 4);
        }
        Failure::Result { path, message } => {
            cut(path, budget / 4);
            cut(message, budget / 4);
        }
        Failure::WorkerLost { reason, .. } | Failure::Rejected { reason, .. } => {
            cut(reason, budget / 2);
        }
        Failure::Timeout { frames, .. } => {
            frames.truncate(kept(frames, budget));
            cut_frames(frames, budget);
        }
        Failure::Crash { signal, frames, .. } => {
            cut(signal, budget / 8);
            frames.truncate(kept(frames, budget));
            cut_frames(frames, budget);
        }
        Failure::Denied { what, .. } => cut(what, budget / 2),
        Failure::Exited { .. } | Failure::Limit { .. } | Failure::Cancelled => {}
    }
    failure
}

fn kept(frames: &[Frame], budget: usize) -> usize {
    frames.len().min(FRAMES).min(budget / 128)
}

fn cut_frames(frames: &mut [Frame], budget: usize) {
    for frame in frames {
        cut(&mut frame.file, budget / 512);
        cut(&mut frame.function, budget / 512);
    }
}

fn cut(text: &mut String, room: usize) {
    if text.len() <= room {
        return;
    }
    let mark = if room < 2 * MARK.len() { "" } else { MARK };
    text.truncate(text.floor_char_boundary(room - mark.len()));
    text.push_str(mark);
}
