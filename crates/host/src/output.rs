//! What workers print, cut into lines and given to the sink with the call it belongs to.

use std::{collections::HashMap, sync::Arc};

use rustix::io::Errno;
use tokio::{io::AsyncReadExt, net::unix::pipe};

use crate::config::{OutputLine, OutputSink, Stream};

/// A mark begins and ends with this byte (section 1 of the protocol page).
const MARK: u8 = 0x1e;
const MARK_WORD: &[u8] = b"exuvia:";
/// Bytes of the longest mark between its ends.
const MARK_LONGEST: usize = MARK_WORD.len() + 16;
/// Longer lines are cut into several.
const LINE_LONGEST: usize = 8 << 10;
/// Calls whose output is counted at a time.
const COUNTED: usize = 1024;

/// Cuts one stream of one worker into lines.
pub(crate) struct Lines {
    worker: u64,
    stream: Stream,
    limit: u64,
    sink: OutputSink,
    call: u64,
    line: Vec<u8>,
    /// Bytes each call has printed, as far as they are remembered.
    spent: HashMap<u64, u64>,
}

impl Lines {
    pub(crate) fn new(worker: u64, stream: Stream, limit: u64, sink: OutputSink) -> Self {
        Self { worker, stream, limit, sink, call: 0, line: Vec::new(), spent: HashMap::new() }
    }

    /// Takes what was read, in any pieces.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                MARK if self.take_mark() => {}
                byte => {
                    self.line.push(byte);
                    // A mark is not cut in two; what only looks like the beginning of one is.
                    let longest = LINE_LONGEST
                        + if self.open_mark().is_some() { MARK_LONGEST + 1 } else { 0 };
                    if self.line.len() >= longest {
                        self.end_line();
                    }
                }
            }
        }
    }

    /// Gives out what has no line end yet.
    pub(crate) fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }

    /// Where a mark has begun at the end of the line, if one has.
    fn open_mark(&self) -> Option<usize> {
        let from = self.line.len().saturating_sub(MARK_LONGEST + 1);
        self.line[from..].iter().rposition(|byte| *byte == MARK).map(|place| from + place)
    }

    /// A mark's end was read: takes it out of the line. False: it was not the end of one.
    fn take_mark(&mut self) -> bool {
        let Some(start) = self.open_mark() else {
            self.line.push(MARK);
            return true;
        };
        let call = self.line[start + 1..]
            .strip_prefix(MARK_WORD)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let Some(call) = call else { return false };
        self.line.truncate(start);
        if call != self.call {
            // What is printed by one call is not continued by another.
            self.finish();
            self.call = call;
        }
        true
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if self.spent.len() >= COUNTED && !self.spent.contains_key(&self.call) {
            self.spent.clear();
        }
        let spent = self.spent.entry(self.call).or_default();
        let before = *spent;
        // Output outside any call is a worker's own and is not limited: it is not a call's fault.
        *spent += line.len() as u64 + 1;
        let text = if self.call == 0 || *spent <= self.limit {
            String::from_utf8_lossy(&line).into_owned()
        } else if before <= self.limit {
            format!("[over {} bytes: the rest of this call's output is dropped]", self.limit)
        } else {
            return;
        };
        let call_id = (self.call != 0).then(|| public_id(self.call));
        (self.sink)(OutputLine { worker: self.worker, call_id, stream: self.stream, text });
    }
}

/// The name people see for a public id.
pub(crate) fn public_id(id: u64) -> String {
    format!("{:08x}-{:08x}", id >> 32, id & 0xffff_ffff)
}

/// Reads one pipe until its end.
pub(crate) async fn read(mut pipe: pipe::Receiver, lines: Arc<std::sync::Mutex<Lines>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => lock(&lines).feed(&buffer[..read]),
        }
        // A flood must not keep the pool from its calls.
        tokio::task::yield_now().await;
    }
}

/// Bytes that are read of a pipe without waiting.
const DRAINED: usize = 256 << 10;

/// Reads what is in a pipe without waiting.
pub(crate) fn drain_pipe(pipe: &pipe::Receiver, into: &mut Vec<u8>) {
    let mut buffer = [0; 4096];
    while into.len() < DRAINED {
        match rustix::io::read(pipe, &mut buffer[..]) {
            Ok(read) if read > 0 => into.extend_from_slice(&buffer[..read]),
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}

pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn lines(limit: u64, chunks: &[&[u8]]) -> Vec<(Option<String>, String)> {
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let sink = seen.clone();
        let sink: OutputSink =
            Arc::new(move |line: OutputLine| lock(&sink).push((line.call_id, line.text)));
        let mut lines = Lines::new(1, Stream::Stdout, limit, sink);
        for chunk in chunks {
            lines.feed(chunk);
        }
        lines.finish();
        std::mem::take(&mut lock(&seen))
    }

    #[test]
    fn a_line_belongs_to_the_call_that_was_marked_however_it_is_cut() {
        let text = b"start\n\x1eexuvia:100000002\x1eone\ntwo\x1eexuvia:0\x1eend";
        let id = Some("00000001-00000002".to_owned());
        let expected = vec![
            (None, "start".to_owned()),
            (id.clone(), "one".to_owned()),
            (id, "two".to_owned()),
            (None, "end".to_owned()),
        ];
        for cut in 0..text.len() {
            assert_eq!(lines(1000, &[&text[..cut], &text[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_call_that_prints_too_much_is_cut_off_once_and_others_are_not() {
        let mut text = b"\x1eexuvia:5\x1e".to_vec();
        text.extend(b"123456789\n".repeat(100));
        text.extend(b"\x1eexuvia:6\x1ehello\n");
        let seen = lines(30, &[&text]);
        let dropped = seen.iter().filter(|(_, text)| text.contains("dropped")).count();
        assert_eq!((seen.len(), dropped), (5, 1));
        assert_eq!(seen[4].1, "hello");
    }

    #[test]
    fn what_only_looks_like_a_mark_is_printed_as_it_is() {
        let seen = lines(1000, &[b"a\x1eb\x1eexuvia:zz\x1ec\n"]);
        assert_eq!(seen.len(), 1);
        assert!(seen[0].1.contains("exuvia:zz"), "{seen:?}");
        assert_eq!(lines(1000, &[&[b'x'; 20_000]]).len(), 3);
        let longest = lines(1000, &[&[MARK; 20_000]]).into_iter().map(|(_, line)| line.len()).max();
        assert!(longest < Some(LINE_LONGEST + 100), "{longest:?}");
    }
}
