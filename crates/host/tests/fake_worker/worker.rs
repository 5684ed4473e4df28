//! A worker without Python, for the tests of the pool: it keeps the protocol, or breaks it on demand.
//!
//! How it starts is said by the line of the `plan` that its number picks; what a call does, by the
//! call's payload: `VERB NUMBER TAG`. It writes every call it begins to the `log`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stderr, reason = "it is a program")]

mod memory;
mod streams;
mod verbs;
mod zygote;

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use exuvia_core::{Codec, Failure, HandlerInfo, HandlerKind};
use exuvia_protocol::{
    Claims, Connection, Event, Hello, IncomingCall, Limits, Ready, Role, frame::ResultHead,
};
use exuvia_sys::{SharedPage, stream};
use rustix::io::Errno;
use streams::Streaming;

type Broken = Box<dyn std::error::Error>;

/// The worker.
struct Fake {
    dir: PathBuf,
    stream: UnixStream,
    connection: Connection,
    page: SharedPage,
    log: File,
    timers: Vec<Timer>,
    streams: Vec<Streaming>,
    /// Calls that wait while a sync handler streams.
    waiting: VecDeque<IncomingCall>,
    draining: bool,
    ignores_drain: bool,
}

/// An async call that sleeps.
struct Timer {
    call: u64,
    slot: u16,
    tag: String,
    due: Instant,
    on_cancel: OnCancel,
}

/// What an async call does when it is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnCancel {
    End,
    Ignore,
    Answer,
}

fn main() {
    let Some(dir) = std::env::args().nth(1).map(PathBuf::from) else { return };
    let is_zygote = std::env::args().nth(2).as_deref() == Some("zygote_main");
    let lived = if is_zygote { zygote::be(&dir) } else { Fake::open(dir).and_then(Fake::live) };
    if let Err(error) = lived {
        eprintln!("fake worker: {error}");
        std::process::exit(1);
    }
}

/// This worker's line of the plan.
fn my_plan(dir: &Path) -> io::Result<String> {
    let plan = std::fs::read_to_string(dir.join("plan"))?;
    let lines: Vec<&str> = plan.lines().collect();
    for number in 0.. {
        let place = dir.join(format!("worker-{number}"));
        match OpenOptions::new().write(true).create_new(true).open(place) {
            Ok(mut file) => {
                write!(file, "{}", std::process::id())?;
                return Ok(lines[number.min(lines.len() - 1)].to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    unreachable!("numbers do not end")
}

impl Fake {
    fn open(dir: PathBuf) -> Result<Self, Broken> {
        // The wrapper gives the socket as standard input, the one descriptor std hands out safely.
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        stream.set_nonblocking(true)?;
        let page = OpenOptions::new().read(true).write(true).open("/proc/self/fd/5")?;
        Ok(Self {
            stream,
            connection: Connection::new(Role::Worker, Limits::default()),
            page: SharedPage::open(page.into())?,
            log: OpenOptions::new().append(true).create(true).open(dir.join("log"))?,
            dir,
            timers: Vec::new(),
            streams: Vec::new(),
            waiting: VecDeque::new(),
            draining: false,
            ignores_drain: false,
        })
    }

    fn live(mut self) -> Result<(), Broken> {
        let plan = my_plan(&self.dir)?;
        let words: Vec<&str> = plan.split_whitespace().collect();
        let plans = |word: &str| words.contains(&word);
        if plans("exit-at-once") {
            std::process::exit(3);
        }
        if plans("never-greets") {
            std::thread::sleep(Duration::from_secs(60));
        }
        if plans("greets-garbage") {
            self.raw(b"GET / HTTP/1.1\r\n\r\n");
        }
        self.await_hello()?;
        let mut hello = Hello { python: Some("fake".into()), ..Hello::new(Limits::default()) };
        if plans("greets-other-version") {
            hello.build = "0.0.0-other".into();
        }
        self.connection.hello(&hello)?;
        self.flush()?;
        if plans("exit-after-hello") {
            std::process::exit(4);
        }
        if plans("closes-after-hello") {
            self.close_and_live_on();
        }
        if plans("never-ready") {
            std::thread::sleep(Duration::from_secs(60));
        }
        if let Some(ms) = words.iter().find_map(|word| word.strip_prefix("ready-after=")) {
            std::thread::sleep(Duration::from_millis(ms.parse()?));
        }
        self.ignores_drain = plans("ignores-drain");
        if plans("load-fails") {
            let failure = Failure::Load { message: "no such file".into(), traceback: "".into() };
            self.connection.ready(&Ready::Failed(failure))?;
            return self.flush();
        }
        let without = words.iter().find_map(|word| word.strip_prefix("without="));
        let infos = [("sync", HandlerKind::Sync), ("other", HandlerKind::Sync)]
            .into_iter()
            .chain([("async", HandlerKind::Async)])
            .filter(|(name, _)| Some(*name) != without)
            .map(|(name, kind)| info(name, kind));
        let ready = Ready::Handlers(infos.collect(), Vec::new());
        self.connection.ready(&ready)?;
        if plans("ready-twice") {
            self.connection.ready(&ready)?;
        }
        self.flush()?;
        if plans("exit-after-ready") {
            std::process::exit(5);
        }
        self.serve()
    }

    fn await_hello(&mut self) -> Result<(), Broken> {
        loop {
            if let Some(Event::Hello(_)) = self.connection.next_event()? {
                return Ok(());
            }
            self.wait(None)?;
            if !self.read()? {
                std::process::exit(0);
            }
        }
    }

    /// The loop: calls, timers, the host's end.
    fn serve(mut self) -> Result<(), Broken> {
        loop {
            self.try_write()?;
            let next = self.timers.iter().map(|timer| timer.due).min();
            self.wait(if self.can_go_on() { Some(Instant::now()) } else { next })?;
            self.claims().tick();
            let open = self.read()?;
            while let Some(event) = self.connection.next_event()? {
                self.hear(event)?;
            }
            let now = Instant::now();
            while let Some(place) = self.timers.iter().position(|timer| timer.due <= now) {
                let timer = self.timers.swap_remove(place);
                self.answer(timer.call, timer.slot, &timer.tag);
            }
            self.make_pieces()?;
            while !self.is_busy()
                && let Some(call) = self.waiting.pop_front()
            {
                self.hear(Event::Call(call))?;
            }
            let idle = self.timers.is_empty() && self.streams.is_empty();
            let ended = self.draining && idle && !self.ignores_drain;
            if !open || ended {
                return self.flush();
            }
        }
    }

    fn hear(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Call(call) if self.is_busy() => self.waiting.push_back(call),
            Event::Call(call) => {
                let begins = self.claims().claim(call.slot, call.call);
                return if begins { self.begin(&call) } else { Ok(()) };
            }
            Event::Cancel { call, slot } if self.connection.cut_stream(call) => {
                self.streams.retain(|stream| stream.call != call);
                self.connection.cancelling(call, slot);
                self.claims().finish(slot, call);
                self.connection.failure(call, slot, 1, &Failure::Cancelled)?;
            }
            Event::Cancel { call, slot } => {
                let found = self.timers.iter().position(|timer| timer.call == call);
                if let Some(place) = found {
                    self.connection.cancelling(call, slot);
                    match self.timers[place].on_cancel {
                        OnCancel::Ignore => {}
                        OnCancel::Answer => self.timers[place].due = Instant::now(),
                        OnCancel::End => {
                            self.timers.swap_remove(place);
                            self.claims().finish(slot, call);
                            self.connection.failure(call, slot, 1, &Failure::Cancelled)?;
                        }
                    }
                }
            }
            Event::Drain => self.draining = true,
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, call: &IncomingCall) -> Result<(), Broken> {
        let text = memory::first_bytes(call)?;
        let text = String::from_utf8_lossy(&text);
        let mut words = text.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let number: u64 = words.next().unwrap_or_default().parse().unwrap_or(0);
        let tag = words.next().unwrap_or_default();
        // One write: lines of several workers do not mix.
        self.log.write_all(format!("{} {tag}\n", std::process::id()).as_bytes())?;
        verbs::run(self, call, verb, number, tag)
    }

    /// Answers a call as it should be answered.
    fn answer(&mut self, call: u64, slot: u16, text: &str) {
        self.answer_with(call, slot, 1000, Bytes::copy_from_slice(text.as_bytes()));
    }

    fn answer_with(&mut self, call: u64, slot: u16, run_ns: u64, payload: Bytes) {
        self.claims().finish(slot, call);
        let head = ResultHead::new(Codec::Json, run_ns);
        self.connection.result(call, slot, head, &[], payload.into());
    }

    fn claims(&self) -> Claims<'_> {
        Claims::open(self.page.words()).unwrap_or_else(|| Claims::format(self.page.words()))
    }

    // --- the socket

    fn wait(&mut self, until: Option<Instant>) -> Result<(), Broken> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut events = PollFlags::IN;
        if !self.connection.outbound().is_empty() {
            events |= PollFlags::OUT;
        }
        let limit = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
        });
        poll(&mut [PollFd::new(&self.stream, events)], limit.as_ref())?;
        Ok(())
    }

    /// Reads what is there; false at the end of the stream.
    fn read(&mut self) -> Result<bool, Broken> {
        let (mut buffer, mut came) = (vec![0; 64 << 10], Vec::new());
        match stream::read(&self.stream, &mut buffer, &mut came) {
            Ok(0) => Ok(false),
            Ok(read) => {
                self.connection.inbound().extend_from_slice(&buffer[..read]);
                self.connection.descriptors(came)?;
                Ok(true)
            }
            Err(Errno::AGAIN) => Ok(true),
            Err(_) => Ok(false),
        }
    }

    fn try_write(&mut self) -> Result<(), Broken> {
        while let Some(to_send) = self.connection.to_send() {
            match stream::write(&self.stream, to_send.bytes, to_send.descriptors) {
                Ok(written) => self.connection.sent(written),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes all there is.
    fn flush(&mut self) -> Result<(), Broken> {
        self.stream.set_nonblocking(false)?;
        self.try_write()?;
        self.stream.set_nonblocking(true)?;
        Ok(())
    }

    /// Writes bytes past the state machine, as long as the host takes them.
    fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.set_nonblocking(false);
        let _ = self.stream.write_all(bytes);
    }

    fn close_and_live_on(&mut self) -> ! {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}

fn info(name: &str, kind: HandlerKind) -> HandlerInfo {
    let (module, name) = ("m".into(), name.into());
    let (doc, returns) = (String::new(), String::new());
    HandlerInfo {
        module,
        name,
        kind,
        streams: false,
        reads: false,
        params: vec![],
        doc,
        returns,
        open: false,
        routes: vec![],
    }
}
