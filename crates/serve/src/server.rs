//! Accepting connections, and ending well.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
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
    net::TcpStream,
    sync::Notify,
    task::{JoinError, JoinSet},
};

use crate::{
    config::{Backend, Readiness, ServerConfig},
    connection,
    routes::{Route, RouteError, Routes},
};

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What large bodies are read in; hyper's buffer may always grow to this much.
const READ_BUFFER: usize = 64 << 10;

/// An HTTP server over a fixed set of routes.
pub struct Server {
    pub(crate) routes: Routes,
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
    backend: Arc<dyn Backend>,
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
        let routes = Routes::new(routes, &metrics.http)?;
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

    /// Serves `listener` until `shutdown` ends. Then `/readyz` says no; after
    /// [`ServerConfig::unready_for`] the listener is closed, resting connections end, and the
    /// others end with the answer they are at. `deadline` is polled from the end of `shutdown` on:
    /// when it ends, what is left is cut off. Dropping the returned future cuts off everything.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
        deadline: impl Future<Output = ()>,
    ) -> io::Result<Drained> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut deadline = pin!(deadline);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept(), if connections.len() < self.config.max_connections => {
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
                accepted = listener.accept(), if connections.len() < self.config.max_connections => {
                    self.accepted(accepted, &mut connections).await;
                }
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            }
        }
        drop(listener);
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
    async fn accepted(
        self: &Arc<Self>,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        connections: &mut JoinSet<()>,
    ) {
        let (stream, local) = match accepted.and_then(|(stream, _)| {
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            Ok((stream, local))
        }) {
            Ok(accepted) => accepted,
            // The client was gone before it was seen.
            Err(error) if is_of_one_client(&error) => return,
            Err(error) => {
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        connections.spawn(connection::run(Arc::clone(self), stream, local));
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
