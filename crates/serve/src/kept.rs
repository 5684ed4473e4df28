//! What is kept of calls that failed or printed something, within limits.

use std::collections::VecDeque;

use exuvia_core::{Failure, Frame};
use serde_json::{Value, json};

use crate::watch::{Ended, Id};

/// Calls of which something is kept.
const CALLS: usize = 256;
/// Bytes kept of all of them.
const BYTES: usize = 4 << 20;
/// Lines kept of one call, the last ones.
const LINES: usize = 200;
/// Bytes of lines kept of one call.
const LINE_BYTES: usize = 16 << 10;
/// Bytes kept of one text.
const TEXT: usize = 16 << 10;
/// Frames kept of one call.
const FRAMES: usize = 64;
/// Failures that are listed.
const FAILURES: usize = 50;

/// The newest at the back.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    calls: VecDeque<More>,
    bytes: usize,
}

/// What is known of one call beyond its row.
#[derive(Debug)]
pub(crate) struct More {
    id: Id,
    /// Its row, where it failed: those of others are forgotten sooner.
    pub(crate) ended: Option<Ended>,
    detail: String,
    exception: Option<Exception>,
    frames: Vec<Frame>,
    lines: VecDeque<Line>,
    line_bytes: usize,
    /// Lines that were dropped for newer ones.
    dropped: u64,
}

#[derive(Debug)]
struct Exception {
    class: String,
    message: String,
    traceback: String,
}

#[derive(Debug)]
struct Line {
    stream: &'static str,
    text: String,
}

// === impl Kept ===

impl Kept {
    pub(crate) fn get(&self, id: Id) -> Option<&More> {
        id.text()?;
        self.calls.iter().rev().find(|call| call.id == id)
    }

    /// Failures on this side, the newest first.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Ended> {
        let ended = self.calls.iter().rev().filter_map(|call| call.ended.as_ref());
        ended.filter(|call| call.is_ours()).take(FAILURES)
    }

    pub(crate) fn failed(&mut self, call: Ended, failure: Option<&Failure>, detail: &str) {
        if call.id.text().is_some() {
            self.change(call.id, |more| more.failed(call, failure, detail));
        }
    }

    pub(crate) fn line(&mut self, id: Id, stream: &'static str, text: &str) {
        if id.text().is_some() {
            self.change(id, |more| more.line(stream, text));
        }
    }

    fn change(&mut self, id: Id, change: impl FnOnce(&mut More)) {
        let place = self.calls.iter().rposition(|call| call.id == id);
        let before = place.map_or(0, |place| self.calls[place].bytes());
        let place = place.unwrap_or_else(|| {
            self.calls.push_back(More::new(id));
            self.calls.len() - 1
        });
        let more = &mut self.calls[place];
        change(more);
        self.bytes = self.bytes + more.bytes() - before;
        while (self.calls.len() > CALLS || self.bytes > BYTES)
            && let Some(oldest) = self.calls.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }
}

// === impl More ===

impl More {
    fn new(id: Id) -> Self {
        Self {
            id,
            ended: None,
            detail: String::new(),
            exception: None,
            frames: Vec::new(),
            lines: VecDeque::new(),
            line_bytes: 0,
            dropped: 0,
        }
    }

    fn failed(&mut self, call: Ended, failure: Option<&Failure>, detail: &str) {
        self.ended = Some(call);
        self.detail = shortened(detail);
        let Some(failure) = failure else { return };
        let frames = failure.frames().iter().take(FRAMES);
        self.frames = frames
            .map(|frame| Frame {
                file: shortened(&frame.file),
                line: frame.line,
                function: shortened(&frame.function),
            })
            .collect();
        self.exception = match failure {
            Failure::Exception { class, message, traceback, .. } => Some(Exception {
                class: shortened(class),
                message: shortened(message),
                traceback: shortened(traceback),
            }),
            Failure::Load { message, traceback } if !traceback.is_empty() => Some(Exception {
                class: String::new(),
                message: shortened(message),
                traceback: shortened(traceback),
            }),
            _ => None,
        };
    }

    fn line(&mut self, stream: &'static str, text: &str) {
        let text = shortened(text);
        self.line_bytes += text.len();
        self.lines.push_back(Line { stream, text });
        while self.lines.len() > LINES || (self.line_bytes > LINE_BYTES && self.lines.len() > 1) {
            if let Some(first) = self.lines.pop_front() {
                self.line_bytes -= first.text.len();
                self.dropped += 1;
            }
        }
    }

    /// About what it takes; lines and frames have a size of their own, however short they are.
    fn bytes(&self) -> usize {
        let exception = self.exception.as_ref();
        let exception =
            exception.map_or(0, |e| e.class.len() + e.message.len() + e.traceback.len());
        let frames = self.frames.iter().map(|frame| frame.file.len() + frame.function.len());
        let places = size_of::<Self>()
            + self.lines.len() * size_of::<Line>()
            + self.frames.len() * size_of::<Frame>();
        places + self.detail.len() + exception + frames.sum::<usize>() + self.line_bytes
    }

    /// Adds what is known to a call's row.
    pub(crate) fn describe(&self, call: &mut Value) {
        let exception = self.exception.as_ref().map(|exception| {
            let Exception { class, message, traceback } = exception;
            json!({ "class": class, "message": message, "traceback": traceback })
        });
        let frame = |frame: &Frame| json!({ "file": frame.file, "line": frame.line, "function": frame.function });
        let line = |line: &Line| json!({ "stream": line.stream, "text": line.text });
        call["detail"] = json!(self.detail);
        call["exception"] = json!(exception);
        call["frames"] = self.frames.iter().map(frame).collect();
        call["output"] = self.lines.iter().map(line).collect();
        call["output_dropped"] = json!(self.dropped);
    }
}

/// A text within the limit: its beginning and its end, where a traceback says what it was.
fn shortened(text: &str) -> String {
    if text.len() <= TEXT {
        return text.to_owned();
    }
    let (head, tail) = (TEXT / 4, TEXT / 2);
    let head = &text[..text.floor_char_boundary(head)];
    let tail = &text[text.ceil_char_boundary(text.len() - tail)..];
    format!("{head}\n[...]\n{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_call_the_last_lines_are_kept() {
        let mut kept = Kept::default();
        let id = Id::new("a");
        for number in 0..1000 {
            kept.line(id, "stdout", &number.to_string());
        }
        let more = kept.get(id).expect("kept");
        assert_eq!((more.lines.len(), more.dropped), (200, 800));
        assert_eq!(more.lines.back().map(|line| line.text.as_str()), Some("999"));
        kept.line(id, "stdout", &"x".repeat(8 << 10));
        kept.line(id, "stdout", &"y".repeat(8 << 10));
        kept.line(id, "stdout", "z");
        let more = kept.get(id).expect("kept");
        assert!(more.line_bytes <= LINE_BYTES);
        assert_eq!(more.lines.len(), 2);
    }

    #[test]
    fn all_calls_together_have_a_limit() {
        let mut kept = Kept::default();
        for number in 0..2000 {
            let id = Id::new(&format!("id-{number}"));
            for _ in 0..4 {
                kept.line(id, "stderr", &"x".repeat(100 << 10));
            }
        }
        assert!(kept.bytes <= BYTES && kept.calls.len() <= CALLS);
        assert_eq!(kept.bytes, kept.calls.iter().map(More::bytes).sum::<usize>());
        assert!(kept.get(Id::new("id-1999")).is_some());
        assert!(kept.get(Id::new("id-0")).is_none());
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        let text = format!("Traceback{}KeyError: é", "é".repeat(TEXT));
        let short = shortened(&text);
        assert!(short.starts_with("Traceback") && short.ends_with("KeyError: é"));
        assert!(short.len() < TEXT);
    }
}
