//! A body that goes to the handler while it still comes: section 10 of `docs/protocol.md`.

use std::{
    future::Future as _,
    io,
    os::{fd::OwnedFd, unix::net},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Buf as _;
use exuvia_core::{Codec, Feed};
use tokio::{io::AsyncWriteExt as _, net::UnixStream, task::JoinHandle};

use crate::body::{BodyError, Reading};

/// The most bytes of one piece.
const PIECE: usize = 64 << 10;

/// What brings a body to a worker. Dropping it leaves the rest of the body unread.
pub(crate) struct Pump {
    /// `None` once its end was seen.
    task: Option<JoinHandle<Result<(), Broken>>>,
    /// The worker was given all of it.
    whole: Arc<AtomicBool>,
}

/// A body that broke off. While this lives the worker waits for more, so that it cannot fail before
/// the client is told why.
struct Broken {
    error: BodyError,
    _socket: UnixStream,
}

/// Whether data in `codec` can be read from the front.
pub(crate) fn can_be_fed(codec: Codec) -> bool {
    matches!(codec, Codec::ArrowStream | Codec::Csv | Codec::Ndjson)
}

// === impl Pump ===

impl Pump {
    /// Begins to bring what is left of `reading`; a worker gets the other end.
    pub(crate) fn start(reading: Reading) -> io::Result<(Feed, Self)> {
        let (ours, theirs) = net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        let whole = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(bring(reading, ours, Arc::clone(&whole)));
        Ok((Feed(Arc::new(OwnedFd::from(theirs))), Self { task: Some(task), whole }))
    }

    /// Whether the body was read to its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole.load(Relaxed)
    }

    /// Ready when the body breaks off, and else never. Then the worker is told that no more comes.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(task) = &mut self.task else { return Poll::Pending };
        let end = ready!(Pin::new(task).poll(cx));
        self.task = None;
        match end {
            Ok(Err(broken)) => Poll::Ready(broken.error),
            // It was brought, or the worker wants no more. A fault in the task closed the socket,
            // of which the worker tells.
            Ok(Ok(())) | Err(_) => Poll::Pending,
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Brings all of `reading` to the other end of `socket`, as fast as that takes it.
async fn bring(
    mut reading: Reading,
    mut socket: UnixStream,
    whole: Arc<AtomicBool>,
) -> Result<(), Broken> {
    loop {
        let piece = tokio::select! {
            biased;
            () = closed(&socket) => return Ok(()),
            piece = reading.next() => piece,
        };
        let written = match piece {
            Ok(Some(bytes)) => write(&mut socket, &bytes).await,
            Ok(None) => {
                whole.store(true, Relaxed);
                let _ = socket.write_all(&0u32.to_le_bytes()).await;
                return Ok(());
            }
            Err(error) => return Err(Broken { error, _socket: socket }),
        };
        if written.is_err() {
            // The worker wants no more.
            return Ok(());
        }
    }
}

async fn write(socket: &mut UnixStream, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        // A piece is far shorter than 4 GiB.
        let length = (piece.len() as u32).to_le_bytes();
        socket.write_all_buf(&mut length.chain(piece)).await?;
    }
    Ok(())
}

/// Ends when nobody reads the other end any more. Nobody ever writes there.
async fn closed(socket: &UnixStream) {
    loop {
        match socket.readable().await.and_then(|()| socket.try_read(&mut [0])) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}
