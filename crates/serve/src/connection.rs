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

use crate::{io::Io, problem::Problem, server::Server, service};

/// How long a closing connection listens for what is still on its way. A socket closed over unread
/// bytes is reset, and a reset may overtake the answer.
const LINGER: Duration = Duration::from_secs(1);

/// What one connection's parts tell each other. They all run in one task, so the atomics are only
/// there to say so to the compiler.
pub(crate) struct Client {
    pub(crate) server: Arc<Server>,
    /// The address the client reached.
    pub(crate) local: SocketAddr,
    /// A request was taken, and its answer is not made yet.
    busy: AtomicBool,
    /// An answer was made, and none of it is written yet.
    owed: AtomicBool,
    /// Bytes came since the last request was taken.
    fresh: AtomicBool,
    /// The socket took no more of an answer.
    blocked: AtomicBool,
    /// Writes that got through: with `blocked`, whether the client reads at all.
    writes: AtomicU32,
    /// The end of the connection tells the end of an answer that is not all made.
    open_ended: AtomicBool,
    /// The status hyper wanted to answer by itself, or 0.
    refused: AtomicU16,
    /// When the last answer was made, in nanoseconds of the server's life; 0 is never.
    answered: AtomicU64,
}

/// What a connection waits for from its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
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
struct Patience {
    sleep: Pin<Box<Sleep>>,
    wait: Wait,
    since: Instant,
    writes: u32,
}

// === impl Client ===

impl Client {
    pub(crate) fn new(server: Arc<Server>, local: SocketAddr) -> Self {
        Self {
            server,
            local,
            busy: AtomicBool::new(false),
            owed: AtomicBool::new(false),
            fresh: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            writes: AtomicU32::new(0),
            open_ended: AtomicBool::new(false),
            refused: AtomicU16::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// A request was taken.
    pub(crate) fn begin(&self) {
        self.busy.store(true, Relaxed);
        self.fresh.store(false, Relaxed);
    }

    /// Its answer was made.
    pub(crate) fn end(&self, now: std::time::Instant) {
        let age = now.saturating_duration_since(self.server.epoch);
        self.answered.store(age.as_nanos().try_into().unwrap_or(u64::MAX), Relaxed);
        self.busy.store(false, Relaxed);
        self.owed.store(true, Relaxed);
    }

    /// Whether what is written now may be an answer of ours.
    pub(crate) fn owes_answer(&self) -> bool {
        self.busy.load(Relaxed) || self.owed.load(Relaxed)
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

    fn wait(&self) -> Wait {
        if self.blocked.load(Relaxed) {
            Wait::Write
        } else if self.busy.load(Relaxed) {
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
    fn new(client: &Client) -> Self {
        let now = Instant::now();
        let config = &client.server.config;
        let first = config.header_timeout.min(config.idle_timeout);
        Self {
            sleep: Box::pin(sleep_until(now + first)),
            wait: Wait::Request,
            since: now,
            writes: 0,
        }
    }

    /// Ready when the client was too slow, with what at.
    fn poll(&mut self, client: &Client, cx: &mut Context<'_>) -> Poll<Wait> {
        let wait = client.wait();
        let writes = client.writes.load(Relaxed);
        let config = &client.server.config;
        let limit = match wait {
            Wait::Head => config.header_timeout,
            Wait::Write => config.write_timeout,
            Wait::Nothing | Wait::Request => Duration::ZERO,
        };
        let moved = wait != self.wait || (wait == Wait::Write && writes != self.writes);
        (self.wait, self.writes) = (wait, writes);
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
pub(crate) async fn run(server: Arc<Server>, stream: TcpStream, local: SocketAddr) {
    let _counted = server.metrics.http.connection();
    let client = Arc::new(Client::new(server, local));
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
            let _ = patience.sleep.as_mut().poll(cx);
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
            match not_http(&client, &error, &parts.read_buf) {
                Some(problem) => Some(problem),
                None => return,
            }
        }
        End::Expired(Wait::Head) => Some(too_slow(client.server.config.header_timeout)),
        // The client is gone, or is left alone.
        End::Done(Err(_)) | End::Expired(_) => return,
    };
    let mut stream = parts.io.into_stream();
    if let Some(problem) = problem {
        let answer = raw(&client.server, &problem);
        if !matches!(timeout(LINGER, stream.write_all(&answer)).await, Ok(Ok(()))) {
            return;
        }
    }
    linger(stream).await;
}

/// Says goodbye and listens until the client has done so too, or for [`LINGER`].
async fn linger(mut stream: TcpStream) {
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
    let (kind, title) = ("bad_request", "The request is not HTTP/1.1");
    let refused = client.refused.load(Relaxed);
    if rest.starts_with(b"PRI * HTTP/2.0") {
        let detail = "HTTP/2 is not spoken here: use HTTP/1.1";
        let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
        return Some(Problem::new(status, "http_version", title, detail));
    }
    if rest.starts_with(&[0x16, 3]) {
        let detail = "this looks like TLS, which is not spoken here: use http:// and not https://";
        return Some(Problem::new(StatusCode::BAD_REQUEST, kind, title, detail));
    }
    match refused {
        0 => None,
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
        _ => Some(Problem::new(StatusCode::BAD_REQUEST, kind, title, error.to_string())),
    }
}

fn too_slow(limit: Duration) -> Problem {
    let detail = format!("the request's head took longer than {} ms", limit.as_millis());
    let title = "The request came too slowly";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", title, detail)
}

/// A whole answer, for when hyper is out of the way.
fn raw(server: &Server, problem: &Problem) -> Vec<u8> {
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
    answer
}
