//! A server in a thread, targets that end as told, and a client that says exactly what it is told.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use exuvia_core::{
    Call, Codec, Diagnostics, Failure, HandlerInfo, HandlerKind, Outcome, OutcomeFuture, Param,
    Payload, Target,
};
use exuvia_observe::Metrics;
use exuvia_serve::{Backend, Drained, Listeners, Readiness, Route, Server, ServerConfig};
use exuvia_sys::Sealed;
use serde_json::Value;
use tokio::sync::oneshot;

pub(crate) const CALL_ID: &str = "0badcafe-00000007";

type Behaviour = Box<dyn Fn(Call) -> OutcomeFuture + Send + Sync>;

/// What became of the calls.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) started: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
    pub(crate) finished: AtomicUsize,
}

pub(crate) struct Fake {
    info: Arc<HandlerInfo>,
    counts: Arc<Counts>,
    behaviour: Behaviour,
}

impl Target for Fake {
    fn info(&self) -> &Arc<HandlerInfo> {
        &self.info
    }

    fn call(&self, call: Call) -> OutcomeFuture {
        self.counts.started.fetch_add(1, SeqCst);
        let running = Running(Arc::clone(&self.counts), false);
        let future = (self.behaviour)(call);
        Box::pin(async move {
            let mut running = running;
            let outcome = future.await;
            running.1 = true;
            outcome
        })
    }
}

struct Running(Arc<Counts>, bool);

impl Drop for Running {
    fn drop(&mut self) {
        let counter = if self.1 { &self.0.finished } else { &self.0.dropped };
        counter.fetch_add(1, SeqCst);
    }
}

pub(crate) fn outcome(result: Result<Payload, Failure>) -> Outcome {
    Outcome {
        result: result.map_err(Box::new),
        diagnostics: Diagnostics {
            call_id: CALL_ID.to_owned(),
            handler: "t:fake".to_owned(),
            worker: Some(3),
            pid: Some(4711),
            ..Diagnostics::default()
        },
    }
}

/// A route whose calls end as `behaviour` says.
pub(crate) fn route(
    name: &str,
    counts: &Arc<Counts>,
    behaviour: impl Fn(Call) -> OutcomeFuture + Send + Sync + 'static,
) -> Route {
    route_that(false, name, counts, behaviour)
}

/// The same, and its handler may begin before all of its data is there.
pub(crate) fn reader(
    name: &str,
    counts: &Arc<Counts>,
    behaviour: impl Fn(Call) -> OutcomeFuture + Send + Sync + 'static,
) -> Route {
    route_that(true, name, counts, behaviour)
}

fn route_that(
    reads: bool,
    name: &str,
    counts: &Arc<Counts>,
    behaviour: impl Fn(Call) -> OutcomeFuture + Send + Sync + 'static,
) -> Route {
    let param =
        Param { name: "n".to_owned(), annotation: "int".to_owned(), required: true, default: None };
    let info = HandlerInfo {
        module: "t".to_owned(),
        name: name.to_owned(),
        kind: HandlerKind::Async,
        streams: false,
        reads,
        params: vec![param],
        doc: "First line.\nSecond line.".to_owned(),
        open: false,
        returns: String::new(),
        routes: Vec::new(),
    };
    let target =
        Fake { info: Arc::new(info), counts: Arc::clone(counts), behaviour: Box::new(behaviour) };
    Route::post(format!("/t/{name}"), Arc::new(target))
}

/// Answers with what came in, in the codec that was asked for.
fn echo(call: Call) -> OutcomeFuture {
    Box::pin(async move { outcome(Ok(Payload::new(call.accept, call.payload.body))) })
}

/// Answers with what the call was.
fn describe(call: Call) -> OutcomeFuture {
    let text = format!(
        r#"{{"codec":"{:?}","accept":"{:?}","length":{},"trace":{},"timeout":{}}}"#,
        call.payload.codec,
        call.accept,
        call.payload.body.len(),
        call.trace.map_or(0, |trace| trace.flags),
        call.timeout.map_or(0, |timeout| timeout.as_millis()),
    );
    Box::pin(async move { outcome(Ok(Payload::json(text))) })
}

/// Answers with where the body lay, and whether both views of it are the same.
fn memory(call: Call) -> OutcomeFuture {
    let Payload { body, region, .. } = call.payload;
    let same = region.as_ref().is_none_or(|region| {
        // What is not sealed is refused.
        let sealed = Sealed::open(Arc::clone(&region.memory), region.length).unwrap();
        sealed.bytes().unwrap() == body
    });
    let text = format!(r#"{{"shared":{},"same":{same}}}"#, region.is_some());
    Box::pin(async move { outcome(Ok(Payload::json(text))) })
}

/// The routes of most tests.
pub(crate) fn usual(counts: &Arc<Counts>) -> Vec<Route> {
    vec![
        route("echo", counts, echo),
        {
            let mut route = route("describe", counts, describe);
            route.options.timeout = Some(Duration::from_millis(1500));
            route
        },
        route("memory", counts, memory),
        route("nothing", counts, |_| {
            Box::pin(async { outcome(Ok(Payload::new(Codec::Empty, ""))) })
        }),
        route("sleep", counts, |_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                outcome(Ok(Payload::json("\"slept\"")))
            })
        }),
        route("forever", counts, |_| Box::pin(std::future::pending())),
    ]
}

pub(crate) struct AlmostReady;

impl Backend for AlmostReady {
    fn readiness(&self) -> Readiness {
        Readiness { ready: true, reason: "2 of 2 workers ready".to_owned() }
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Live {
    pub(crate) addr: SocketAddr,
    pub(crate) counts: Arc<Counts>,
    pub(crate) metrics: Arc<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Drained>>,
}

/// A server of the usual routes.
pub(crate) fn start(config: ServerConfig) -> Live {
    let counts = Arc::new(Counts::default());
    start_with(usual(&counts), counts, Arc::new(AlmostReady), config, Duration::from_secs(5))
}

pub(crate) fn start_with(
    routes: Vec<Route>,
    counts: Arc<Counts>,
    backend: Arc<dyn Backend>,
    config: ServerConfig,
    deadline: Duration,
) -> Live {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    start_at(listener.into(), routes, counts, backend, config, deadline)
}

/// The same, on these listeners; `Live` is about the one for handlers.
pub(crate) fn start_at(
    listeners: Listeners,
    routes: Vec<Route>,
    counts: Arc<Counts>,
    backend: Arc<dyn Backend>,
    config: ServerConfig,
    deadline: Duration,
) -> Live {
    let addr = listeners.data.local_addr().unwrap();
    let metrics = Metrics::new();
    let server = Server::new(routes, backend, Arc::clone(&metrics), config).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let shutdown = async { drop(stopped.await) };
            let deadline = async move { tokio::time::sleep(deadline).await };
            server.serve(listeners, shutdown, deadline).await.unwrap()
        })
    });
    Live { addr, counts, metrics, stop: Some(stop), thread: Some(thread) }
}

impl Live {
    /// Begins the shutdown.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits for the shutdown's end.
    pub(crate) fn join(&mut self) -> Drained {
        self.thread.take().unwrap().join().unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::to(self.addr)
    }

    /// One request on a connection of its own.
    pub(crate) fn once(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect();
        client.send(request);
        client.answer()
    }

    /// One `POST` of JSON.
    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.once(post(path, &["content-type: application/json"], body))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The text of a `POST`.
pub(crate) fn post(path: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A `POST` whose body comes in chunks of this size.
pub(crate) fn chunked(path: &str, body: &str, size: usize) -> String {
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunks = body.as_bytes().chunks(size).map(|chunk| {
        let text = std::str::from_utf8(chunk).unwrap();
        format!("{:x}\r\n{text}\r\n", text.len())
    });
    head + &chunks.collect::<String>() + "0\r\n\r\n"
}

/// `length` letters, in no order that repeats at any power of two.
pub(crate) fn letters(length: usize) -> String {
    (0..length).map(|n| char::from(b'a' + (n % 23) as u8)).collect()
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    rest: Vec<u8>,
}

/// An answer whose end never came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BrokenOff;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn to(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream, rest: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The next answer.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer(true).expect("an answer")
    }

    /// The next answer to a request whose answers have no body.
    #[track_caller]
    pub(crate) fn answer_without_body(&mut self) -> Answer {
        self.try_answer(false).expect("an answer")
    }

    /// The next chunk of an answer; `None` is its end.
    #[track_caller]
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        self.try_chunk().expect("a chunk")
    }

    /// The same, or an error where the connection ends first.
    pub(crate) fn try_chunk(&mut self) -> Result<Option<Vec<u8>>, BrokenOff> {
        let end = loop {
            if let Some(end) = self.rest.windows(2).position(|window| window == b"\r\n") {
                break end;
            }
            self.more().ok_or(BrokenOff)?;
        };
        let size = std::str::from_utf8(&self.rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let whole = end + 2 + size + 2;
        while self.rest.len() < whole {
            self.more().ok_or(BrokenOff)?;
        }
        let chunk: Vec<u8> = self.rest.drain(..whole).skip(end + 2).take(size).collect();
        Ok((size > 0).then_some(chunk))
    }

    /// What comes until the connection ends.
    pub(crate) fn until_closed(&mut self) -> std::io::Result<Vec<u8>> {
        let mut all = std::mem::take(&mut self.rest);
        self.stream.read_to_end(&mut all).map(|_| all)
    }

    fn try_answer(&mut self, body: bool) -> Option<Answer> {
        let end = loop {
            if let Some(end) = self.rest.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let head: Vec<u8> = self.rest.drain(..end).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        if body {
            while self.rest.len() < length {
                self.more()?;
            }
            answer.body = self.rest.drain(..length).collect();
        }
        Some(answer)
    }

    /// Reads on; `None` where the connection ends.
    fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 4096];
        let read = match self.stream.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("nothing more comes, and the connection does not end")
            }
            read => read.ok().filter(|read| *read > 0)?,
        };
        self.rest.extend_from_slice(&buffer[..read]);
        Some(())
    }

    /// Whether the server ends the connection without another word.
    #[track_caller]
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 64];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.rest.is_empty(),
            Ok(_) => false,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The body as a problem, with the members that all problems have.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, kind: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:exuvia:problem:{kind}"));
        assert_eq!(problem["status"], status);
        let id = problem["error_id"].as_str().unwrap();
        assert!(id.len() == 17 && id.as_bytes()[8] == b'-', "{id}");
        let instance = problem["instance"].as_str().unwrap();
        assert!(instance.starts_with("urn:exuvia:") && instance.ends_with(id), "{instance}");
        for member in ["title", "detail", "responsible"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}");
        }
        problem
    }
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(5), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
