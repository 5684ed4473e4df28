//! A pool over fake workers.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Once, OnceLock},
    time::{Duration, Instant},
};

use exuvia_core::{Call, Codec, Failure, Outcome, OutcomeFuture, Payload, Rest};
use exuvia_host::{ImageConfig, OutputLine, Pool, PoolConfig, StartMethod};
use exuvia_observe::Metrics;
use rustix::process::{Resource, getrlimit, setrlimit};

/// A test's folder: what workers do, who they were and what they ran.
pub struct Fakes {
    dir: tempfile::TempDir,
    pub lines: Arc<Mutex<Vec<OutputLine>>>,
    pub metrics: Arc<Metrics>,
}

/// The pool's "python": gives the worker its socket as standard input.
fn wrapper() -> &'static Path {
    static WRAPPER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let made = WRAPPER.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("python");
        let script = "#!/bin/sh\nread -r exe < \"$4/exe\"\nexec \"$exe\" \"$4\" \"$5\" <&3\n";
        fs::write(&path, script).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        (dir, path)
    });
    &made.1
}

fn fake_worker() -> PathBuf {
    let test = std::env::current_exe().expect("this program");
    let profile = test.parent().and_then(Path::parent).expect("the target folder");
    let path = profile.join("examples/fake_worker");
    assert!(path.exists(), "build it first: cargo build -p exuvia-host --example fake_worker");
    path
}

impl Fakes {
    /// Workers that start as the lines of `plan` say; the last line is for all further ones.
    pub fn new(plan: &str) -> Self {
        allow_descriptors();
        let dir = tempfile::tempdir().expect("a folder");
        let plan = if plan.is_empty() { "good" } else { plan };
        fs::write(dir.path().join("plan"), plan).expect("plan");
        fs::write(dir.path().join("exe"), format!("{}\n", fake_worker().display())).expect("exe");
        Self { dir, lines: Arc::default(), metrics: Metrics::new() }
    }

    /// Zygotes that do as the lines of `plan` say.
    pub fn plan_zygotes(&self, plan: &str) {
        fs::write(self.dir.path().join("zygotes"), plan).expect("plan");
    }

    pub fn config(&self) -> PoolConfig {
        let lines = self.lines.clone();
        PoolConfig {
            python: wrapper().into(),
            runtime: self.dir.path().into(),
            targets: vec![],
            working_dir: self.dir.path().into(),
            search_path: vec![],
            workers: 1,
            spares: 0,
            image: ImageConfig { start: StartMethod::Spawn, ..ImageConfig::default() },
            recycle: Default::default(),
            concurrency: 4,
            queue: 100_000,
            timeout: Duration::from_secs(20),
            handler_timeouts: HashMap::new(),
            max_payload: 64 << 20,
            max_table: 1 << 30,
            tolerant: false,
            max_output: 1 << 20,
            start_timeout: Duration::from_secs(10),
            output: Arc::new(move |line| lines.lock().expect("lines").push(line)),
            metrics: self.metrics.clone(),
        }
    }

    pub async fn pool(&self, change: impl FnOnce(&mut PoolConfig)) -> Arc<Pool> {
        let mut config = self.config();
        change(&mut config);
        Pool::start(config).await.expect("the pool starts")
    }

    /// The tags of the calls that were begun, in order of their beginning.
    pub fn begun(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.lines().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect()
    }

    /// Bytes that a worker has made of the stream with this tag.
    pub fn made(&self, tag: &str) -> usize {
        let text = fs::read_to_string(self.dir.path().join(format!("made-{tag}")));
        text.ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// How many times a call was begun.
    pub fn times(&self, tag: &str) -> usize {
        self.begun().iter().filter(|begun| *begun == tag).count()
    }

    /// The process ids of all workers there were.
    pub fn pids(&self) -> Vec<u32> {
        self.numbered("worker")
    }

    /// Stops the pool and sees that nothing of it is left.
    pub async fn close(&self, pool: &Pool) {
        pool.drain(Duration::ZERO).await;
        self.gone();
    }

    /// Kills the worker of this number.
    pub fn kill(&self, number: usize) {
        let pid = rustix::process::Pid::from_raw(self.pids()[number] as i32).expect("a process");
        // It may be gone already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }

    /// The process ids of all zygotes there were.
    pub fn zygotes(&self) -> Vec<u32> {
        self.numbered("zygote")
    }

    fn numbered(&self, kind: &str) -> Vec<u32> {
        let pid = |number: usize| {
            let text = fs::read_to_string(self.dir.path().join(format!("{kind}-{number}"))).ok()?;
            text.parse().ok()
        };
        (0..).map_while(pid).collect()
    }

    pub fn gone(&self) {
        for pid in self.pids().into_iter().chain(self.zygotes()) {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
        }
    }
}

/// Lets this process have as many descriptors as it may: some tests hold thousands.
fn allow_descriptors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).expect("no more than the maximum");
    });
}

/// A call of `m:handler` with a command for the fake worker.
pub fn call(pool: &Arc<Pool>, handler: &str, command: &str, timeout: Duration) -> OutcomeFuture {
    call_bytes(pool, handler, command.to_owned().into_bytes(), timeout)
}

pub fn call_bytes(
    pool: &Arc<Pool>,
    handler: &str,
    body: Vec<u8>,
    timeout: Duration,
) -> OutcomeFuture {
    let payload = Payload::new(Codec::Json, body);
    let call = Call { payload, timeout: Some(timeout), ..Call::default() };
    pool.target(&format!("m:{handler}")).expect("the handler").call(call)
}

/// Calls with a command and takes a result that comes in pieces.
pub fn call_streamed(
    pool: &Arc<Pool>,
    handler: &str,
    command: &str,
    timeout: Duration,
) -> OutcomeFuture {
    let payload = Payload::json(command.to_owned());
    let call = Call { payload, streams: true, timeout: Some(timeout), ..Call::default() };
    pool.target(&format!("m:{handler}")).expect("the handler").call(call)
}

/// What a call's result goes on with, once it has begun.
pub async fn begun(future: OutcomeFuture) -> Result<Rest, Failure> {
    let outcome = tokio::time::timeout(Duration::from_secs(25), future).await.expect("it begins");
    match outcome.result {
        Ok(Payload { codec: Codec::Csv, rest: Some(rest), .. }) => Ok(rest),
        Ok(other) => panic!("{other:?} is no stream"),
        Err(failure) => Err(*failure),
    }
}

/// Everything that still comes of a result, and how it ends; a hang is a failed test.
pub async fn read_all(rest: &Rest) -> (Vec<u8>, Result<(), Failure>) {
    let mut bytes = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(25), rest.next());
        match next.await.expect("it goes on") {
            Some(Ok(piece)) => bytes.extend_from_slice(&piece),
            Some(Err(failure)) => return (bytes, Err(*failure)),
            None => return (bytes, Ok(())),
        }
    }
}

/// What the fake worker streams: so many bytes.
pub fn streamed(size: usize) -> Vec<u8> {
    (0..size).map(|place| (place % 251) as u8).collect()
}

/// The call's answer or failure; a hang is a failed test.
pub async fn end(future: OutcomeFuture) -> Result<String, Failure> {
    let outcome: Outcome =
        tokio::time::timeout(Duration::from_secs(25), future).await.expect("the call ends");
    match outcome.result {
        Ok(payload) => Ok(String::from_utf8_lossy(&payload.body).into_owned()),
        Err(failure) => Err(*failure),
    }
}

pub async fn ask(pool: &Arc<Pool>, handler: &str, command: &str) -> Result<String, Failure> {
    end(call(pool, handler, command, Duration::from_secs(10))).await
}

/// Waits until `ready` says so.
pub async fn until(what: &str, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !ready() {
        assert!(Instant::now() < end, "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Resident memory of this process in bytes.
pub fn memory() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").expect("statm");
    let pages: u64 = statm.split_whitespace().nth(1).expect("rss").parse().expect("a number");
    pages * 4096
}

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("fd").count()
}
