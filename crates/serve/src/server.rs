//! Accepting connections, and ending well.

use std::{
    future::Future,
    io,
    net::TcpListener,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use exuvia_core::CallIds;
use exuvia_observe::Metrics;
use hyper::server::conn::http1;
use tokio::{
    sync::{Notify, OnceCell},
    task::{JoinError, JoinSet},
};

use crate::{
    config::{Backend, Readiness, ServerConfig},
    connection::{self, Came, Surface},
    route::Route,
    routes::{RouteError, Routes},
    watch::Watch,
};

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the access log's last lines may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Connections to the pages beyond the limit: who looks why a server is full shall see something.
const ADMIN_SPARE: usize = 64;

/// What large bodies are read in; hyper's buffer may always grow to this much, and a connection at
/// rest keeps up to twice of it.
const READ_BUFFER: usize = 32 << 10;

/// An HTTP server over a fixed set of routes.
pub struct Server {
    pub(crate) routes: Routes,
    /// What happens here, for the page.
    pub(crate) watch: Arc<Watch>,
    /// The OpenAPI document, once somebody asked.
    pub(crate) document: OnceCell<String>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) config: ServerConfig,
    /// Names for errors that happen outside of calls.
    pub(crate) ids: CallIds,
    /// What moments are counted from.
    pub(crate) epoch: Instant,
    pub(crate) http: http1::Builder,
    /// Set first when a shutdown begins: `/readyz` says no from here on.
    unready: AtomicBool,
    /// Set second: connections end with the answer they are at.
    pub(crate) closing: AtomicBool,
    /// Wakes resting connections to see `closing`.
    pub(crate) close: Notify,
    pub(crate) backend: Arc<dyn Backend>,
}

/// Where a server listens.
#[derive(Debug)]
pub struct Listeners {
    /// For handlers.
    pub data: TcpListener,
    /// For the built-in pages. Without it they are on `data` where that is a loopback address, and
    /// else nowhere.
    pub admin: Option<TcpListener>,
}

/// The listeners, opened.
struct Doors {
    data: Door,
    admin: Option<Door>,
}

/// One listener, and what is shown there.
struct Door {
    listener: tokio::net::TcpListener,
    surface: Surface,
}

/// How a shutdown went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off at the deadline, their calls cancelled.
    pub aborted: usize,
}

// === impl Server ===

impl Server {
    /// A server of `routes`. It counts in `metrics` and asks `backend` whether it is ready.
    ///
    /// # Errors
    /// When two routes have one path, or one has a path of the server's own.
    pub fn new(
        routes: Vec<Route>,
        backend: Arc<dyn Backend>,
        metrics: Arc<Metrics>,
        config: ServerConfig,
    ) -> Result<Arc<Self>, RouteError> {
        let routes = Routes::new(routes, backend.broken(), &metrics.http)?;
        let watch = Watch::new(routes.names(), config.expose_errors);
        let mut http = http1::Builder::new();
        http.half_close(false)
            // The connection has one timer of its own for all of this; hyper's would be made and
            // dropped with every request.
            .header_read_timeout(None)
            .max_header_size(config.max_header)
            .max_buf_size(config.max_header.max(READ_BUFFER))
            // With it, hyper 1.12 drops the last answer of a connection that it ends over unread
            // bytes: what follows a refusal is just that.
            .pipeline_flush(false);
        Ok(Arc::new(Self {
            routes,
            watch,
            document: OnceCell::new(),
            metrics,
            config,
            ids: CallIds::new(),
            // Never exactly now, so that no answer is ever made at moment 0.
            epoch: Instant::now().checked_sub(Duration::from_nanos(1)).unwrap_or_else(Instant::now),
            http,
            unready: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            close: Notify::new(),
            backend,
        }))
    }

    /// What `/readyz` says.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.unready.load(Relaxed) {
            return Readiness { ready: false, reason: "the server is shutting down".to_owned() };
        }
        self.backend.readiness()
    }

    /// Serves `listeners` until `shutdown` ends. Then `/readyz` says no; after
    /// [`ServerConfig::unready_for`] the listeners are closed, resting connections end, and the
    /// others end with the answer they are at. `deadline` is polled from the end of `shutdown` on:
    /// when it ends, what is left is cut off. Dropping the returned future cuts off everything.
    ///
    /// # Errors
    /// When a listener cannot be used.
    pub async fn serve(
        self: Arc<Self>,
        listeners: impl Into<Listeners>,
        shutdown: impl Future<Output = ()>,
        deadline: impl Future<Output = ()>,
    ) -> io::Result<Drained> {
        let drained = self.serve_all(listeners.into(), shutdown, deadline).await?;
        if let Some(log) = &self.config.access_log {
            log.flush(LAST_LINES).await;
        }
        Ok(drained)
    }

    async fn serve_all(
        self: &Arc<Self>,
        listeners: Listeners,
        shutdown: impl Future<Output = ()>,
        deadline: impl Future<Output = ()>,
    ) -> io::Result<Drained> {
        let doors = listeners.open()?;
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut deadline = pin!(deadline);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = doors.accept(connections.len(), self.config.max_connections) => {
                    self.accepted(accepted, &mut connections).await;
                }
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            }
        }
        self.unready.store(true, Relaxed);
        let mut unready = pin!(tokio::time::sleep(self.config.unready_for));
        loop {
            tokio::select! {
                () = &mut unready => break,
                () = &mut deadline => return Ok(cut(connections).await),
                accepted = doors.accept(connections.len(), self.config.max_connections) => {
                    self.accepted(accepted, &mut connections).await;
                }
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            }
        }
        drop(doors);
        self.closing.store(true, Relaxed);
        self.close.notify_waiters();
        loop {
            tokio::select! {
                ended = connections.join_next() => match ended {
                    Some(ended) => report(ended),
                    None => return Ok(Drained { aborted: 0 }),
                },
                () = &mut deadline => return Ok(cut(connections).await),
            }
        }
    }

    /// Starts serving a connection, or waits a little where the machine has none to give.
    async fn accepted(self: &Arc<Self>, accepted: io::Result<Came>, connections: &mut JoinSet<()>) {
        let came = match accepted {
            Ok(came) => came,
            // The client was gone before it was seen.
            Err(error) if is_of_one_client(&error) => return,
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        connections.spawn(connection::run(Arc::clone(self), came));
    }
}

// === impl Listeners ===

impl From<TcpListener> for Listeners {
    fn from(data: TcpListener) -> Self {
        Self { data, admin: None }
    }
}

impl Listeners {
    fn open(self) -> io::Result<Doors> {
        let Self { data, admin } = self;
        // A page tells of the code behind it, so a port that strangers reach has none.
        let pages = admin.is_none() && data.local_addr()?.ip().to_canonical().is_loopback();
        let data = Door::open(data, Surface { data: true, pages })?;
        let surface = Surface { data: false, pages: true };
        let admin = admin.map(|admin| Door::open(admin, surface)).transpose()?;
        Ok(Doors { data, admin })
    }
}

// === impl Doors ===

impl Doors {
    /// The next connection, while there are `open` of at most `max`.
    async fn accept(&self, open: usize, max: usize) -> io::Result<Came> {
        tokio::select! {
            came = self.data.accept(), if open < max => came,
            came = Door::accept_at(self.admin.as_ref()), if open < max + ADMIN_SPARE => came,
            else => std::future::pending().await,
        }
    }
}

// === impl Door ===

impl Door {
    fn open(listener: TcpListener, surface: Surface) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: tokio::net::TcpListener::from_std(listener)?, surface })
    }

    async fn accept(&self) -> io::Result<Came> {
        let (stream, peer) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        Ok(Came { stream, local, peer, surface: self.surface })
    }

    /// Never ready where there is no such door.
    async fn accept_at(door: Option<&Self>) -> io::Result<Came> {
        match door {
            Some(door) => door.accept().await,
            None => std::future::pending().await,
        }
    }
}

/// Cuts off what is left.
async fn cut(mut connections: JoinSet<()>) -> Drained {
    let aborted = connections.len();
    connections.shutdown().await;
    Drained { aborted }
}

/// Says so when a connection's task failed; it takes nothing with it but its own connection.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a connection was lost to a fault in the server: {error}");
    }
}

fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, InvalidInput,
        NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | Interrupted
            | InvalidInput
            | NotConnected
    )
}
