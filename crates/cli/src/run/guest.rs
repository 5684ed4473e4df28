//! What guests print and say, for a terminal.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Arc, mpsc},
    thread,
};

use exuvia_host::{Stream, sandbox::LiveOutput};

use crate::{
    exit::{Exit, Stop},
    start::aside,
};

/// Writes to stderr what a guest prints, as it prints it, on a thread of its own: a reader that does
/// not read must not keep the host from its clock.
pub(crate) struct Prints {
    sender: mpsc::Sender<Print>,
    thread: thread::JoinHandle<()>,
}

enum Print {
    Piece(Stream, Vec<u8>),
    End,
}

/// Makes text of bytes that come in pieces.
#[derive(Debug, Default)]
struct Decoder {
    /// The beginning of a character whose end has not come yet.
    open: Vec<u8>,
}

// === impl Prints ===

impl Prints {
    pub(crate) fn start() -> Result<Self, Stop> {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name("prints".into()).spawn(move || write(&receiver));
        let thread = thread
            .map_err(|error| Stop::new(Exit::Internal, format!("no thread to print: {error}")))?;
        Ok(Self { sender, thread })
    }

    /// For the call.
    pub(crate) fn live(&self) -> LiveOutput {
        let sender = self.sender.clone();
        Arc::new(move |stream, bytes| {
            // Who ended it reads no more.
            let _ = sender.send(Print::Piece(stream, bytes.to_vec()));
        })
    }

    /// Waits until all is written.
    pub(crate) async fn end(self) -> Result<(), Stop> {
        aside(move || {
            let _ = self.sender.send(Print::End);
            // It has nothing to panic about, and nothing to give.
            let _ = self.thread.join();
        })
        .await
    }
}

/// Writes until the end, and ends the last line. If that cannot be done there is nobody to tell.
fn write(receiver: &mpsc::Receiver<Print>) {
    let is_terminal = io::stderr().is_terminal();
    let mut decoders = [Decoder::default(), Decoder::default()];
    let mut last = b'\n';
    while let Ok(Print::Piece(stream, bytes)) = receiver.recv() {
        let bytes = if is_terminal {
            let decoder = &mut decoders[usize::from(stream == Stream::Stderr)];
            harmless(&decoder.text(&bytes), "\n\t\r").into_bytes()
        } else {
            bytes
        };
        let _ = io::stderr().lock().write_all(&bytes);
        last = bytes.last().copied().unwrap_or(last);
    }
    if last != b'\n' {
        let _ = io::stderr().lock().write_all(b"\n");
    }
}

// === impl Decoder ===

impl Decoder {
    fn text(&mut self, bytes: &[u8]) -> String {
        self.open.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.open);
        let mut text = String::new();
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let rest = chunk.invalid();
            let is_open = std::str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
            if is_open && chunks.peek().is_none() {
                self.open = rest.to_vec();
            } else if !rest.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }
}

/// Text of a guest that cannot steer a terminal: control characters are escaped.
pub(crate) fn plain(text: &str) -> String {
    harmless(text, "\n\t")
}

fn harmless(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() || is_steering(c)) && !kept.contains(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that turn the direction of the text around them.
fn is_steering(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_steer_a_terminal() {
        assert_eq!(
            plain("a\u{1b}[2J\tb\n\r\u{9b}c\u{202e}d"),
            "a\\u{1b}[2J\tb\n\\r\\u{9b}c\\u{202e}d"
        );
        assert_eq!(harmless("50%\r\u{7}", "\r"), "50%\r\\u{7}");
    }

    #[test]
    fn a_character_may_come_in_two_pieces() {
        let mut decoder = Decoder::default();
        let text = "größe €".as_bytes();
        for at in 0..=text.len() {
            let (one, two) = text.split_at(at);
            let whole = decoder.text(one) + &decoder.text(two);
            assert_eq!(whole, "größe €", "{at}");
        }
        assert_eq!(decoder.text(b"\xffa\xc3"), "\u{fffd}a");
        assert_eq!(decoder.text(b"b"), "\u{fffd}b");
    }
}
