//! The socket as hyper sees it: it tells the [`Client`] what passes, and keeps hyper's own refusals
//! back so that the connection can answer with a proper problem.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::connection::Client;

/// What is written in one piece rather than gathered by the kernel.
const SHORT: usize = 1024;

/// A client's socket.
pub(crate) struct Io {
    stream: TokioIo<TcpStream>,
    client: Arc<Client>,
    /// Closing the socket now would reset the connection.
    resets: bool,
}

// === impl Io ===

impl Io {
    pub(crate) fn new(stream: TcpStream, client: Arc<Client>) -> Self {
        Self { stream: TokioIo::new(stream), client, resets: false }
    }

    /// Sees to it that a connection whose end would end an answer is reset if it ends before that,
    /// by whomever.
    fn heed_ending(&mut self) {
        let open_ended = self.client.is_open_ended();
        if open_ended == self.resets {
            return;
        }
        self.resets = open_ended;
        let socket = self.stream.inner();
        #[expect(deprecated, reason = "what blocks is to linger for a time, and none is set here")]
        let set = if open_ended { socket.set_zero_linger() } else { socket.set_linger(None) };
        if let Err(error) = set {
            tracing::debug!("the end of a connection could not be chosen: {error}");
        }
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }

    /// Whether `bytes` are hyper's own words: it answers a head it cannot read with a bare status
    /// and no way to say more.
    fn keeps_back(&self, bytes: &[u8]) -> bool {
        if self.client.owes_answer() {
            return false;
        }
        match refusal(bytes) {
            Some(status) => {
                self.client.refused(status);
                true
            }
            None => false,
        }
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.client.read();
        }
        read
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.keeps_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.heed_ending();
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        noted(&self.client, self.stream.inner(), written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = slices
            && self.keeps_back(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        self.heed_ending();
        let written = match slices {
            // A head and a short body go faster as one piece, even with the copy.
            [head, body] if head.len() + body.len() <= SHORT => {
                let mut whole = [0; SHORT];
                let (first, rest) = whole.split_at_mut(head.len());
                first.copy_from_slice(head);
                rest[..body.len()].copy_from_slice(body);
                let length = head.len() + body.len();
                Pin::new(&mut self.stream).poll_write(cx, &whole[..length])
            }
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, slices),
        };
        noted(&self.client, self.stream.inner(), written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.heed_ending();
        // The connection says goodbye itself, after what it may have to add.
        Poll::Ready(Ok(()))
    }
}

/// Tells `client` how a write to its `socket` went.
pub(crate) fn noted(
    client: &Client,
    socket: &TcpStream,
    written: Poll<io::Result<usize>>,
) -> Poll<io::Result<usize>> {
    client.wrote(written.is_ready());
    if written.is_pending() {
        // A socket takes more only when much of what it holds is gone: a slow client is told from
        // one that reads nothing by what is gone of it.
        client.holds(exuvia_sys::unsent(socket).unwrap_or(0));
    }
    written
}

/// The status of a whole answer without a body that refuses: `HTTP/1.1 400 Bad Request` and three
/// short headers. Answers of ours have a body or a call id, and are owed when they are written.
fn refusal(bytes: &[u8]) -> Option<u16> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 4")?;
    let short = bytes.len() < 200 && bytes.ends_with(b"\r\n\r\n");
    let bare = bytes.windows(19).any(|window| window == b"content-length: 0\r\n");
    let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
    (short && bare).then(|| digits.parse::<u16>().ok()).flatten().map(|digits| 400 + digits)
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn only_a_bare_refusal_is_one() {
        let bare = "HTTP/1.1 431 X\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(refusal(bare.as_bytes()), Some(431));
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 4",
            "",
        ] {
            assert_eq!(refusal(other.as_bytes()), None, "{other}");
        }
    }
}
