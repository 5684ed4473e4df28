//! The access log: a line for every request that was answered, or given up by its client. Lines go
//! to a thread of their own through a queue with an end, so that whoever reads them slowly, or not
//! at all, costs lines and never an answer.

use std::{
    fmt::{self, Write as _},
    io::{self, Write},
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, SecondsFormat};
use http::{Extensions, HeaderValue, Method, Uri, Version};
use serde::Serialize;
use tokio::sync::oneshot;

/// Lines that may wait to be written.
const QUEUE: usize = 4096;

/// Lines that are written in one go.
const BATCH: usize = 128;

/// The most letters of a method, of a path, and of what a client calls itself.
const LONGEST: usize = 1024;

/// How lines of an access log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessFormat {
    /// For people.
    Human,
    /// One JSON object each.
    Json,
}

/// Where lines of an access log go.
#[derive(Clone)]
pub struct AccessLog {
    shared: Arc<Shared>,
}

struct Shared {
    queue: SyncSender<Message>,
    dropped: AtomicU64,
}

enum Message {
    Line(Box<Record>),
    /// Everything before this was written.
    Flush(oneshot::Sender<()>),
}

/// One line.
pub(crate) struct Record {
    pub(crate) at: SystemTime,
    pub(crate) remote: SocketAddr,
    /// `None` where the request could not be read.
    pub(crate) asked: Option<(Method, Uri, Version)>,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    pub(crate) request_id: Option<HeaderValue>,
    pub(crate) call_id: Option<HeaderValue>,
    pub(crate) agent: Option<HeaderValue>,
    pub(crate) route: Option<String>,
    /// Whether all of the answer was made and taken.
    pub(crate) whole: bool,
}

/// A line that is written when this is dropped: what is not filled in then, never came.
pub(crate) struct Pending {
    log: AccessLog,
    began: Instant,
    record: Option<Box<Record>>,
    route: Arc<OnceLock<String>>,
}

/// Where the route of a request is noted.
#[derive(Clone)]
struct RouteSlot(Arc<OnceLock<String>>);

/// A line as JSON.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: &'a str,
    level: &'static str,
    message: &'static str,
    remote: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    status: u16,
    bytes: u64,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "is_true")]
    whole: bool,
}

/// Notes that a request of these extensions is for `route`, where somebody wants to know.
pub(crate) fn matched(extensions: &Extensions, route: &str) {
    if let Some(RouteSlot(slot)) = extensions.get() {
        // One request has one route.
        let _ = slot.set(route.to_owned());
    }
}

// === impl AccessLog ===

impl AccessLog {
    /// A log that is written to `to`, by a thread that lives as long as the log.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(format: AccessFormat, to: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let shared = Arc::new(Shared { queue, dropped: AtomicU64::new(0) });
        // Weak, because the thread ends when nobody can write any more.
        let counted = Arc::downgrade(&shared);
        let dropped = move || counted.upgrade().map_or(0, |shared| shared.dropped.swap(0, Relaxed));
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(format, to, &lines, dropped))?;
        Ok(Self { shared })
    }

    /// Writes a line, some time soon; drops it where too many wait.
    pub(crate) fn write(&self, record: Box<Record>) {
        if self.shared.queue.try_send(Message::Line(record)).is_err() {
            self.shared.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits until the lines so far were written, at most for `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        let (done, written) = oneshot::channel();
        let flushed = async {
            let mut message = Message::Flush(done);
            while let Err(TrySendError::Full(back)) = self.shared.queue.try_send(message) {
                message = back;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // It is lost only with the thread, and then there is nothing to wait for.
            let _ = written.await;
        };
        // Whoever does not read by then shall not keep the server.
        let _ = tokio::time::timeout(limit, flushed).await;
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").finish_non_exhaustive()
    }
}

/// Writes lines until nobody can send more.
fn write_lines(
    format: AccessFormat,
    mut to: impl Write,
    lines: &Receiver<Message>,
    dropped: impl Fn() -> u64,
) {
    let mut text = String::new();
    while let Ok(first) = lines.recv() {
        let mut flushed = Vec::new();
        for message in std::iter::once(first).chain(lines.try_iter().take(BATCH - 1)) {
            match message {
                Message::Line(record) => record.write(format, &mut text),
                Message::Flush(done) => flushed.push(done),
            }
        }
        let dropped = dropped();
        if dropped > 0 {
            write_dropped(format, dropped, &mut text);
        }
        // A log that cannot be written has nobody to complain to.
        let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
        text.clear();
        for done in flushed {
            let _ = done.send(());
        }
    }
}

fn write_dropped(format: AccessFormat, dropped: u64, text: &mut String) {
    let at = timestamp(SystemTime::now());
    let message = "lines of the access log were dropped: they were read too slowly";
    // Writing to a String cannot fail.
    let _ = match format {
        AccessFormat::Human => writeln!(text, "{at} {dropped} {message}"),
        AccessFormat::Json => writeln!(
            text,
            r#"{{"timestamp":"{at}","level":"WARN","message":"{message}","dropped":{dropped}}}"#
        ),
    };
}

// === impl Pending ===

impl Pending {
    /// The line of a request that came now.
    pub(crate) fn new(log: &AccessLog, record: Box<Record>, extensions: &mut Extensions) -> Self {
        let route = Arc::new(OnceLock::new());
        extensions.insert(RouteSlot(Arc::clone(&route)));
        Self { log: log.clone(), began: Instant::now(), record: Some(record), route }
    }

    /// What is known of the answer so far.
    pub(crate) fn record(&mut self) -> Option<&mut Record> {
        self.record.as_deref_mut()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.took = self.began.elapsed();
            record.route = self.route.get().cloned();
            self.log.write(record);
        }
    }
}

// === impl Record ===

impl Record {
    /// The line of a request that could not be read.
    pub(crate) fn refused(remote: SocketAddr, status: u16, bytes: usize) -> Self {
        Self {
            at: SystemTime::now(),
            remote,
            asked: None,
            status,
            bytes: bytes as u64,
            took: Duration::ZERO,
            request_id: None,
            call_id: None,
            agent: None,
            route: None,
            whole: true,
        }
    }

    fn write(&self, format: AccessFormat, text: &mut String) {
        let at = timestamp(self.at);
        let method = self.asked.as_ref().map(|(method, ..)| harmless(method.as_str()));
        let path = self.asked.as_ref().map(|(_, uri, _)| {
            // A request of HTTP/2 has the whole address.
            harmless(uri.path_and_query().map_or("", |path| path.as_str()))
        });
        let protocol = self.asked.as_ref().map(|(.., version)| protocol(*version));
        let agent =
            self.agent.as_ref().map(|agent| harmless(&String::from_utf8_lossy(agent.as_bytes())));
        let text_of = |value: &Option<HeaderValue>| {
            value.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (request_id, call_id) = (text_of(&self.request_id), text_of(&self.call_id));
        let line = Line {
            timestamp: &at,
            level: "INFO",
            message: "request",
            remote: self.remote,
            method: method.as_deref(),
            path: path.as_deref(),
            protocol,
            status: self.status,
            bytes: self.bytes,
            ms: (self.took.as_secs_f64() * 1e6).round() / 1e3,
            route: self.route.as_deref(),
            request_id: request_id.as_deref(),
            call_id: call_id.as_deref(),
            user_agent: agent.as_deref(),
            whole: self.whole,
        };
        match format {
            AccessFormat::Human => line.write(text),
            AccessFormat::Json => {
                // Text and numbers always have a JSON form.
                text.push_str(&serde_json::to_string(&line).unwrap_or_default());
                text.push('\n');
            }
        }
    }
}

// === impl Line ===

impl Line<'_> {
    fn write(&self, text: &mut String) {
        let or_none = |word: Option<&str>| word.unwrap_or("-").to_owned();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{} {} \"{} {} {}\" {} {} {:.3}ms route={:?} request={} call={} agent={:?}",
            self.timestamp,
            self.remote,
            or_none(self.method),
            or_none(self.path),
            or_none(self.protocol),
            self.status,
            self.bytes,
            self.ms,
            or_none(self.route),
            or_none(self.request_id),
            or_none(self.call_id),
            or_none(self.user_agent),
        );
        text.push_str(if self.whole { "\n" } else { " broken-off\n" });
    }
}

fn is_true(value: &bool) -> bool {
    *value
}

fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = DateTime::from_timestamp(since.as_secs() as i64, since.subsec_nanos());
    at.unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// `text` with nothing in it that ends a line or moves a cursor.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len().min(LONGEST));
    for c in text.chars().take(LONGEST) {
        let plain = c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        if plain || c == ' ' || (!c.is_ascii() && c.is_alphanumeric()) {
            shown.push(c);
        } else {
            shown.extend(c.escape_default());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn record(path: &'static str, agent: &'static [u8]) -> Box<Record> {
        Box::new(Record {
            at: UNIX_EPOCH + Duration::from_millis(1_795_262_400_123),
            remote: ([127, 0, 0, 1], 4000).into(),
            asked: Some((Method::POST, Uri::from_static(path), Version::HTTP_11)),
            status: 200,
            bytes: 12,
            took: Duration::from_micros(1500),
            request_id: Some(HeaderValue::from_static("abc")),
            call_id: None,
            agent: HeaderValue::from_bytes(agent).ok(),
            route: Some("POST /t/echo".to_owned()),
            whole: true,
        })
    }

    fn line(format: AccessFormat, record: &Record) -> String {
        let mut text = String::new();
        record.write(format, &mut text);
        text
    }

    #[test]
    fn a_line_says_what_was_asked_and_answered() {
        let record = record("/t/echo?x=1", b"curl/8");
        assert_eq!(
            line(AccessFormat::Human, &record),
            "2026-11-21T12:00:00.123Z 127.0.0.1:4000 \"POST /t/echo?x=1 HTTP/1.1\" 200 12 1.500ms \
             route=\"POST /t/echo\" request=abc call=- agent=\"curl/8\"\n"
        );
        let json: Value = serde_json::from_str(&line(AccessFormat::Json, &record)).expect("JSON");
        assert_eq!(json["path"], "/t/echo?x=1");
        assert_eq!((&json["ms"], &json["status"]), (&Value::from(1.5), &Value::from(200)));
        assert_eq!(json["timestamp"], "2026-11-21T12:00:00.123Z");
        assert!(json.get("call_id").is_none() && json.get("whole").is_none(), "{json}");
    }

    #[test]
    fn no_client_ends_a_line_or_writes_on_a_terminal() {
        let record = record("/x%0a", "a\t\"b\" \u{9b}31m\u{7f}".as_bytes());
        let mut record = record;
        // A header may not have it, but what a header may have is not for us to say.
        record.agent = HeaderValue::from_bytes("a\t\"b\" \u{9b}31m".as_bytes()).ok();
        for format in [AccessFormat::Human, AccessFormat::Json] {
            let line = line(format, &record);
            assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1, "{line:?}");
            assert!(line.ends_with('\n'));
        }
        assert_eq!(harmless("a\n\u{1b}[2J\"\\"), r#"a\n\u{1b}[2J\"\\"#);
        // Nor turns it round, or seems to end it.
        assert_eq!(harmless("é \u{202e}\u{2028}"), r"é \u{202e}\u{2028}");
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_counted_and_said() {
        /// Takes nothing until it is told to.
        struct Stalled(std::sync::mpsc::Receiver<()>, Lines);

        impl Write for Stalled {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                // An error means that there is nothing to wait for any more.
                let _ = self.0.recv();
                self.1.write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (go_on, stalled) = std::sync::mpsc::channel();
        let lines = Lines::default();
        let log = AccessLog::start(AccessFormat::Json, Stalled(stalled, lines.clone()));
        let log = log.expect("a thread");
        let sent = QUEUE + BATCH + 500;
        for _ in 0..sent {
            log.write(record("/", b"x"));
        }
        drop(go_on);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(log.flush(Duration::from_secs(10)));
        let all = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("text");
        let of = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
        let dropped: u64 = all.lines().filter_map(|line| of(line)["dropped"].as_u64()).sum();
        let written = all.lines().filter(|line| of(line)["message"] == "request").count();
        assert!(dropped >= 500 - BATCH as u64, "{dropped}");
        assert_eq!(written as u64 + dropped, sent as u64);
    }
}
