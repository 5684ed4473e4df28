//! One client: how long it may take, what is said to bytes that are not HTTP, how it ends.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::StatusCode;
use hyper::service::service_fn;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::{
    access::Record, http2, io::Io, pages::Page, problem::Problem, routes::LeadsTo, server::Server,
    service,
};

/// How long a closing connection listens for what is still on its way. A socket closed over unread
/// bytes is reset, and a reset may overtake the answer.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// What hyper reads of one request.
const MOST_HEADERS: usize = 100;

/// What is shown on a listener: `/healthz` and `/readyz` are on every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Surface {
    /// The handlers.
    pub(crate) data: bool,
    /// The built-in pages.
    pub(crate) pages: bool,
}

/// What one connection's parts tell each other. They all run in one task, so the atomics are only
/// there to say so to the compiler.
pub(crate) struct Client {
    pub(crate) server: Arc<Server>,
    /// The address the client reached.
    pub(crate) local: SocketAddr,
    /// The client's own address.
    pub(crate) peer: SocketAddr,
    /// What is shown on the listener it came by.
    pub(crate) surface: Surface,
    /// Requests that were taken and whose answers are not made yet: of HTTP/1.1 one at most. Of
    /// HTTP/2 those whose answers are not taken yet, too.
    running: AtomicU32,
    /// An answer was made, and none of it is written yet.
    owed: AtomicBool,
    /// Bytes came since the last request was taken.
    fresh: AtomicBool,
    /// The socket took no more of an answer.
    blocked: AtomicBool,
    /// Writes that got through, and what the kernel holds while they do not: with `blocked`, whether
    /// the client reads at all.
    writes: AtomicU32,
    held: AtomicU32,
    /// A body in chunks was not read to its end, or had trailers: where the next request begins is
    /// not sure, because hyper and a proxy might disagree about the end of trailers.
    unread: AtomicBool,
    /// What is left of a body cannot be told from the next request.
    spoilt: AtomicBool,
    /// The end of the connection tells the end of an answer that is not all made.
    open_ended: AtomicBool,
    /// The status hyper wanted to answer by itself, or 0.
    refused: AtomicU16,
    /// When the last answer was made, in nanoseconds of the server's life; 0 is never.
    answered: AtomicU64,
}

/// A connection as it was accepted.
pub(crate) struct Came {
    pub(crate) stream: TcpStream,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) surface: Surface,
}

/// What a connection waits for from its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Nothing: a call runs, or its body is read, which has a timeout of its own.
    Nothing,
    /// The next request.
    Request,
    /// The rest of a request's head.
    Head,
    /// That it reads its answer.
    Write,
}

/// How a connection ended.
enum End {
    Done(hyper::Result<()>),
    Expired(Wait),
}

/// One timer for all that a client may be slow at. It is set when the connection begins and looked
/// at again only when it fires, or when something slow begins: a quick request never touches it.
pub(crate) struct Patience {
    sleep: Pin<Box<Sleep>>,
    wait: Wait,
    since: Instant,
    writes: u32,
    held: u32,
}

// === impl Client ===

impl Client {
    fn new(server: Arc<Server>, local: SocketAddr, peer: SocketAddr, surface: Surface) -> Self {
        Self {
            server,
            local,
            peer,
            surface,
            running: AtomicU32::new(0),
            owed: AtomicBool::new(false),
            fresh: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            writes: AtomicU32::new(0),
            held: AtomicU32::new(0),
            unread: AtomicBool::new(false),
            spoilt: AtomicBool::new(false),
            open_ended: AtomicBool::new(false),
            refused: AtomicU16::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// A request was taken.
    pub(crate) fn begin(&self) {
        self.running.fetch_add(1, Relaxed);
        self.fresh.store(false, Relaxed);
    }

    /// Its answer was made.
    pub(crate) fn end(&self, now: std::time::Instant) {
        let age = now.saturating_duration_since(self.server.epoch);
        self.answered.store(age.as_nanos().try_into().unwrap_or(u64::MAX), Relaxed);
        self.running.fetch_sub(1, Relaxed);
        // What came meanwhile was its body.
        self.fresh.store(false, Relaxed);
        self.owed.store(true, Relaxed);
    }

    /// Whether the client is shown what `leads_to` says.
    pub(crate) fn shows(&self, leads_to: &LeadsTo) -> bool {
        match leads_to {
            LeadsTo::Handler { .. } => self.surface.data,
            LeadsTo::Page(Page::Healthz | Page::Readyz) | LeadsTo::Nothing => true,
            LeadsTo::Page(_) => self.surface.pages,
        }
    }

    /// Whether no request is open.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.running.load(Relaxed) == 0
    }

    /// Whether there was no request yet.
    fn is_new(&self) -> bool {
        self.is_at_rest() && self.answered.load(Relaxed) == 0
    }

    /// Whether what is written now may be an answer of ours.
    pub(crate) fn owes_answer(&self) -> bool {
        !self.is_at_rest() || self.owed.load(Relaxed)
    }

    /// What follows on the connection cannot be told from what was left of a body.
    pub(crate) fn spoil(&self) {
        self.spoilt.store(true, Relaxed);
    }

    /// Whether no further request is to be believed.
    pub(crate) fn is_spoilt(&self) -> bool {
        self.spoilt.load(Relaxed)
    }

    /// Whether the connection has to end with the answer.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    pub(crate) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Relaxed);
    }

    /// Whether the connection must not seem to end well, because that would end an answer.
    pub(crate) fn is_open_ended(&self) -> bool {
        self.open_ended.load(Relaxed)
    }

    pub(crate) fn set_open_ended(&self, open_ended: bool) {
        self.open_ended.store(open_ended, Relaxed);
    }

    /// hyper wanted to answer `status` by itself.
    pub(crate) fn refused(&self, status: u16) {
        self.refused.store(status, Relaxed);
    }

    /// Something was read.
    pub(crate) fn read(&self) {
        self.fresh.store(true, Relaxed);
    }

    /// Something was written, or could not be.
    pub(crate) fn wrote(&self, through: bool) {
        self.blocked.store(!through, Relaxed);
        if through {
            self.owed.store(false, Relaxed);
            self.writes.fetch_add(1, Relaxed);
        }
    }

    /// What was written before and is not taken yet, while nothing more can be written.
    pub(crate) fn holds(&self, bytes: u32) {
        self.held.store(bytes, Relaxed);
    }

    fn wait(&self) -> Wait {
        if self.blocked.load(Relaxed) {
            Wait::Write
        } else if !self.is_at_rest() {
            Wait::Nothing
        } else if self.fresh.load(Relaxed) {
            Wait::Head
        } else {
            Wait::Request
        }
    }

    /// When the connection has rested too long.
    fn rests_until(&self, began: Instant) -> Instant {
        let config = &self.server.config;
        match self.answered.load(Relaxed) {
            0 => began + config.header_timeout,
            age => {
                let answered = self.server.epoch + Duration::from_nanos(age);
                Instant::from_std(answered) + config.idle_timeout
            }
        }
    }
}

// === impl Patience ===

impl Patience {
    pub(crate) fn new(client: &Client) -> Self {
        let now = Instant::now();
        let config = &client.server.config;
        let first = config.header_timeout.min(config.idle_timeout);
        Self {
            sleep: Box::pin(sleep_until(now + first)),
            wait: Wait::Request,
            since: now,
            writes: 0,
            held: 0,
        }
    }

    /// Sees to it that the task is woken; once, before the first [`poll`](Self::poll).
    pub(crate) fn begin(&mut self, cx: &mut Context<'_>) {
        let _ = self.sleep.as_mut().poll(cx);
    }

    /// Ready when the client was too slow, with what at.
    pub(crate) fn poll(&mut self, client: &Client, cx: &mut Context<'_>) -> Poll<Wait> {
        let wait = client.wait();
        let writes = client.writes.load(Relaxed);
        let config = &client.server.config;
        let limit = match wait {
            Wait::Head => config.header_timeout,
            Wait::Write => config.write_timeout,
            Wait::Nothing | Wait::Request => Duration::ZERO,
        };
        let held = client.held.load(Relaxed);
        let taken = writes != self.writes || held < self.held;
        let moved = wait != self.wait || (wait == Wait::Write && taken);
        (self.wait, self.writes, self.held) = (wait, writes, held);
        if moved && !limit.is_zero() {
            self.since = Instant::now();
            if self.since + limit < self.sleep.deadline() {
                self.sleep.as_mut().reset(self.since + limit);
                let _ = self.sleep.as_mut().poll(cx);
            }
        }
        while self.sleep.is_elapsed() {
            let now = Instant::now();
            let due = match wait {
                Wait::Nothing => now + config.idle_timeout.max(Duration::from_millis(1)),
                Wait::Request => client.rests_until(self.since),
                Wait::Head | Wait::Write => self.since + limit,
            };
            if due <= now {
                return Poll::Ready(wait);
            }
            self.sleep.as_mut().reset(due);
            let _ = self.sleep.as_mut().poll(cx);
        }
        Poll::Pending
    }
}

/// Serves one connection to its end.
pub(crate) async fn run(server: Arc<Server>, came: Came) {
    let _counted = server.metrics.http.connection();
    let Came { stream, local, peer, surface } = came;
    let client = Arc::new(Client::new(server, local, peer, surface));
    let io = Io::new(stream, Arc::clone(&client));
    let mut http = client.server.http.serve_connection(
        io,
        service_fn(|request| {
            let client = Arc::clone(&client);
            async move { Ok::<_, Infallible>(service::answer(client, request).await) }
        }),
    );
    let mut patience = Patience::new(&client);
    let mut told = false;
    let mut closing = pin!(client.server.close.notified());
    // A waker stays the task's own for as long as it lives, so each of these is polled once and
    // then only asked when something woke the task.
    closing.as_mut().enable();
    let mut begun = false;
    let end = poll_fn(|cx| {
        if !begun {
            begun = true;
            let _ = closing.as_mut().poll(cx);
            patience.begin(cx);
        }
        if !told && client.server.closing.load(Relaxed) {
            told = true;
            Pin::new(&mut http).graceful_shutdown();
        }
        if let Poll::Ready(end) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(End::Done(end));
        }
        patience.poll(&client, cx).map(End::Expired)
    })
    .await;
    let parts = http.into_parts();
    let problem = match end {
        End::Done(Ok(())) => None,
        End::Done(Err(error)) if error.is_parse() => {
            if client.is_new() && parts.read_buf.starts_with(http2::PREFACE) {
                let (stream, client) = (parts.io.into_stream(), Arc::clone(&client));
                // In a box, because the usual connection shall not be larger for it.
                return Box::pin(http2::run(client, stream, parts.read_buf)).await;
            }
            match not_http(&client, &error, &parts.read_buf) {
                Some(problem) => Some(problem),
                None => return,
            }
        }
        End::Expired(Wait::Head) => Some(too_slow(client.server.config.header_timeout)),
        End::Expired(Wait::Write) => return abandon(&parts.io.into_stream()),
        // The client is gone, or is left alone.
        End::Done(Err(_)) | End::Expired(_) => return,
    };
    let mut stream = parts.io.into_stream();
    if let Some(problem) = problem {
        let answer = raw(&client, &problem);
        if !matches!(timeout(LINGER, stream.write_all(&answer)).await, Ok(Ok(()))) {
            return;
        }
    }
    linger(stream).await;
}

/// Sees to it that a connection whose client reads nothing is reset when it is dropped. Else the
/// kernel would keep what was not sent, and try for minutes.
pub(crate) fn abandon(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!("a connection could not be reset: {error}");
    }
}

/// Says goodbye and listens until the client has done so too, or for [`LINGER`].
pub(crate) async fn linger(mut stream: TcpStream) {
    let goodbye = async {
        stream.shutdown().await?;
        let mut sink = [0; 4096];
        while stream.read(&mut sink).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Either way the socket is closed now; there is nobody left to tell.
    let _ = timeout(LINGER, goodbye).await;
}

/// What to say to bytes that hyper could not read; `None` where it has answered already.
fn not_http(client: &Client, error: &hyper::Error, rest: &[u8]) -> Option<Problem> {
    let refused = client.refused.load(Relaxed);
    if rest.starts_with(http2::PREFACE) {
        let detail = "HTTP/2 is spoken from the beginning of a connection on, or not at all";
        return Some(Problem::bad_request(detail));
    }
    if rest.starts_with(&[0x16, 3]) {
        let detail = "this looks like TLS, which is not spoken here: use http:// and not https://";
        return Some(Problem::bad_request(detail));
    }
    match refused {
        0 => None,
        431 if is_head_taken(rest, client.server.config.max_header) => Some(Problem::bad_request(
            "there is no head, or its Content-Length is beyond all numbers",
        )),
        431 => Some(Problem::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "header_too_large",
            "The request's head is too large",
            format!(
                "the request line and headers may have {} bytes and 100 headers",
                client.server.config.max_header
            ),
        )),
        414 => Some(Problem::new(
            StatusCode::URI_TOO_LONG,
            "uri_too_long",
            "The request's path is too long",
            "the path of a request may have 65534 bytes",
        )),
        _ => Some(Problem::bad_request(error.to_string())),
    }
}

/// Whether it is not the head that was too large: hyper says the same of a body whose length no
/// number holds, and has taken the head out of what is left by then; and of lines without a head.
fn is_head_taken(rest: &[u8], max: usize) -> bool {
    rest.len() < max && rest.split(|byte| *byte == b'\n').count() <= MOST_HEADERS
}

fn too_slow(limit: Duration) -> Problem {
    let detail = format!("the request's head took longer than {} ms", limit.as_millis());
    let title = "The request came too slowly";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", title, detail)
}

/// A whole answer, for when hyper is out of the way.
fn raw(client: &Client, problem: &Problem) -> Vec<u8> {
    let server = &client.server;
    server.routes.unmatched.metrics.answered(problem.status, Duration::ZERO);
    let id = server.ids.next();
    let body = problem.body(id);
    tracing::debug!(error_id = %id, kind = problem.kind, "{}", problem.detail);
    let reason = StatusCode::from_u16(problem.status).ok().and_then(|s| s.canonical_reason());
    let mut answer = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        problem.status,
        reason.unwrap_or("Error"),
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    if let Some(log) = &server.config.access_log {
        log.write(Box::new(Record::refused(client.peer, problem.status, body.len())));
    }
    answer
}
