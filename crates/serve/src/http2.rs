//! HTTP/2 without TLS, by prior knowledge: a connection that begins with its preface. hyper's
//! HTTP/1.1 reads that as a request of a version it does not know, so that telling the two apart
//! costs the usual connection nothing.
//!
//! What one connection can make the server hold is bounded: streams, windows, headers, and what was
//! made of answers but not sent.

use std::{
    convert::Infallible,
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request,
    header::{CONNECTION, CONTENT_LENGTH, HOST},
};
use hyper::{
    body::{Body as _, Frame, Incoming, SizeHint},
    rt::{Executor, Read, ReadBufCursor, Write},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::oneshot,
    time::{Instant, Sleep},
};

use crate::{
    answer::{Answer, Body, BrokenOff},
    config::ServerConfig,
    connection::{Client, LINGER, Patience, Wait, abandon, linger},
    io::noted,
    problem::Problem,
    service,
};

/// How every connection of HTTP/2 begins, as far as it is needed to know one.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Requests that a connection may have open at a time.
const STREAMS: u32 = 128;

/// What a client may send of one body, and of all bodies of a connection, before it is read.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// What of an answer is held for a client that does not read.
const PIECE: usize = 64 << 10;

/// Streams that a client may open and reset before they are looked at; and those that may end over
/// its faults. One more, and the connection ends.
const RESETS: usize = 20;
const FAULTS: usize = 64;

/// How often a client that says nothing is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_secs(20);

tokio::task_local! {
    /// How far the stream's answer is, told by its body to the one who watches over the stream.
    static PROGRESS: Arc<Progress>;
}

/// Whether the client takes its answer.
#[derive(Default)]
struct Progress {
    /// Pieces of the answer that were made.
    pieces: AtomicU32,
    /// The last of them waits to be taken.
    waits: AtomicBool,
}

/// Starts the streams of one connection.
#[derive(Clone)]
struct Streams {
    client: Arc<Client>,
}

/// One stream, which is given up when its client does not take the answer.
struct Stream<F> {
    future: Pin<Box<F>>,
    progress: Arc<Progress>,
    client: Arc<Client>,
    pieces: u32,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// An answer's body in pieces of which one at a time is out of our hands.
struct Pieces {
    body: Body,
    left: Bytes,
}

/// The socket, of which the first bytes were read already. It comes back when hyper is done.
struct Socket {
    first: Bytes,
    stream: Option<TokioIo<TcpStream>>,
    client: Arc<Client>,
    back: Option<oneshot::Sender<TcpStream>>,
}

/// How HTTP/2 is spoken.
fn builder(config: &ServerConfig, streams: Streams) -> http2::Builder<Streams> {
    let mut http = http2::Builder::new(streams);
    let max_header = u32::try_from(config.max_header).unwrap_or(u32::MAX);
    http.max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(max_header)
        .max_send_buf_size(PIECE)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(FAULTS)
        .timer(TokioTimer::new())
        .keep_alive_interval(ASK_EVERY)
        .keep_alive_timeout(config.write_timeout.max(Duration::from_secs(1)));
    http
}

/// Serves a connection that began with `first`, to its end.
pub(crate) async fn run(client: Arc<Client>, stream: TcpStream, first: Bytes) {
    let (back, comes_back) = oneshot::channel();
    let socket = Socket {
        first,
        stream: Some(TokioIo::new(stream)),
        client: Arc::clone(&client),
        back: Some(back),
    };
    let mut http = Box::pin(
        builder(&client.server.config, Streams { client: Arc::clone(&client) }).serve_connection(
            socket,
            service_fn(|request| {
                let client = Arc::clone(&client);
                async move { Ok::<_, Infallible>(answer(client, request).await) }
            }),
        ),
    );
    let mut patience = Patience::new(&client);
    let mut closing = pin!(client.server.close.notified());
    closing.as_mut().enable();
    let (mut begun, mut leaving) = (false, pin!(None::<Sleep>));
    let mut refuses_to_read = false;
    std::future::poll_fn(|cx| {
        if !begun {
            begun = true;
            let _ = closing.as_mut().poll(cx);
            patience.begin(cx);
        }
        if client.server.closing.load(Relaxed) {
            // Does nothing the second time.
            http.as_mut().graceful_shutdown();
        }
        if http.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let rested = match patience.poll(&client, cx) {
            Poll::Ready(Wait::Write) => {
                refuses_to_read = true;
                return Poll::Ready(());
            }
            Poll::Ready(_) => true,
            Poll::Pending => client.server.closing.load(Relaxed) && client.is_at_rest(),
        };
        if rested && leaving.is_none() {
            http.as_mut().graceful_shutdown();
            leaving.set(Some(tokio::time::sleep(LINGER)));
            // What that has to say is said when the connection is looked at again.
            cx.waker().wake_by_ref();
        }
        // Who was told that the connection ends, and has nothing open, gets no more time than this.
        let over = leaving.as_mut().as_pin_mut().is_some_and(|sleep| sleep.poll(cx).is_ready());
        if over && client.is_at_rest() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    drop(http);
    match comes_back.await {
        Ok(stream) if refuses_to_read => abandon(&stream),
        Ok(stream) => linger(stream).await,
        // It comes back from wherever it was.
        Err(_) => {}
    }
}

/// The answer to a request, as HTTP/2 says it.
async fn answer(client: Arc<Client>, request: Request<Incoming>) -> http::Response<Pieces> {
    let head = *request.method() == Method::HEAD;
    let mut answer = match host_fault(&request) {
        Some(fault) => refuse(&client, fault),
        None => service::answer(Arc::clone(&client), request).await,
    };
    // What speaks of the connection has no place here.
    answer.headers_mut().remove(CONNECTION);
    if head {
        // hyper leaves out the body of such an answer for HTTP/1.1 alone.
        if let Some(length) = answer.body().size_hint().exact() {
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        *answer.body_mut() = Body::from(Bytes::new());
    }
    answer.map(|body| Pieces { body, left: Bytes::new() })
}

/// What is wrong with the host a request names: with two, a proxy and we might disagree which counts.
fn host_fault(request: &Request<Incoming>) -> Option<&'static str> {
    match (request.uri().authority(), request.headers().get(HOST)) {
        (Some(authority), Some(host)) if authority.as_str().as_bytes() != host.as_bytes() => {
            Some("a request names one host, and this one has another Host than :authority")
        }
        (None, None) => Some("a request names its host, and this one has no :authority"),
        _ => None,
    }
}

fn refuse(client: &Client, fault: &str) -> Answer {
    let problem = Problem::bad_request(fault);
    let server = &client.server;
    server.routes.unmatched.metrics.answered(problem.status, Duration::ZERO);
    problem.into_answer(http::HeaderMap::new(), server.ids.next())
}

// === impl Progress ===

impl Progress {
    fn made(&self) {
        self.pieces.fetch_add(1, Relaxed);
        self.waits.store(true, Relaxed);
    }

    fn taken(&self) {
        self.waits.store(false, Relaxed);
    }
}

// === impl Streams ===

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, future: F) {
        let progress = Arc::new(Progress::default());
        self.client.begin();
        tokio::spawn(Stream {
            future: Box::pin(PROGRESS.scope(Arc::clone(&progress), future)),
            progress,
            client: Arc::clone(&self.client),
            pieces: 0,
            sleep: None,
        });
    }
}

// === impl Stream ===

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { future, progress, client, pieces, sleep } = self.get_mut();
        if future.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !progress.waits.load(Relaxed) {
            *sleep = None;
            return Poll::Pending;
        }
        let until = || Instant::now() + client.server.config.write_timeout;
        let made = progress.pieces.load(Relaxed);
        let sleep = match sleep {
            Some(sleep) => {
                if made != *pieces {
                    sleep.as_mut().reset(until());
                }
                sleep
            }
            None => sleep.insert(Box::pin(tokio::time::sleep_until(until()))),
        };
        *pieces = made;
        // The stream is reset when its future is dropped.
        sleep.as_mut().poll(cx)
    }
}

impl<F> Drop for Stream<F> {
    fn drop(&mut self) {
        self.client.end(std::time::Instant::now());
    }
}

// === impl Pieces ===

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Self { body, left } = self.get_mut();
        // Outside of a stream nobody watches.
        let _ = PROGRESS.try_with(|progress| progress.taken());
        while left.is_empty() {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *left = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = if left.len() > PIECE {
            let piece = left.split_to(PIECE);
            if left.len() <= PIECE {
                // What is left would keep all of the memory alive.
                *left = Bytes::copy_from_slice(left);
            }
            piece
        } else {
            std::mem::take(left)
        };
        let _ = PROGRESS.try_with(|progress| progress.made());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

// === impl Socket ===

impl Socket {
    fn stream(self: Pin<&mut Self>) -> io::Result<(Pin<&mut TokioIo<TcpStream>>, &Client)> {
        let Self { stream, client, .. } = self.get_mut();
        let stream = stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        Ok((Pin::new(stream), client))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            // Nobody waits for it where the whole connection was cut off.
            let _ = back.send(stream.into_inner());
        }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(length));
            return Poll::Ready(Ok(()));
        }
        self.stream()?.0.poll_read(cx, buf)
    }
}

impl Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let (mut stream, client) = self.stream()?;
        let written = stream.as_mut().poll_write(cx, bytes);
        noted(client, stream.inner(), written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (mut stream, client) = self.stream()?;
        let written = stream.as_mut().poll_write_vectored(cx, slices);
        noted(client, stream.inner(), written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection says goodbye itself.
        Poll::Ready(Ok(()))
    }
}
