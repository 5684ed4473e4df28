//! What a worker can make the host hold: memory, measured, so one test at a time.

mod support;

use std::time::{Duration, Instant};

use exuvia_core::Failure;
use support::{Fakes, ask, begun, call, call_bytes, call_streamed, end, memory, until};
use tokio::sync::Mutex;

const LONG: Duration = Duration::from_secs(20);

/// Memory is the whole process's.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Calls of 16 KiB to a handler known to be quick, in a worker that has stopped reading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_not_read_costs_bounded_memory() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for _ in 0..3 {
        assert!(ask(&pool, "sync", "echo 0 warm").await.is_ok());
    }
    assert_eq!(ask(&pool, "sync", "deaf 60000 d").await, Ok("d".into()));
    let before = memory();
    let payload = |n: usize| {
        let mut body = format!("echo 0 r{n} ").into_bytes();
        body.resize(16 << 10, b' ');
        body
    };
    let calls: Vec<_> = (0..64).map(|n| call_bytes(&pool, "sync", payload(n), LONG)).collect();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let grown = memory().saturating_sub(before);
        assert!(grown < 64 << 20, "{} MiB after {:?}", grown >> 20, began.elapsed());
    }
    fakes.kill(0);
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(end(call).await, Ok(format!("r{n}")));
        assert_eq!(fakes.times(&format!("r{n}")), 1);
    }
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_without_lines_and_reports_without_end_are_bounded() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let before = memory();
    assert_eq!(ask(&pool, "sync", "marks 400 m").await, Ok("m".into()));
    until("output", || {
        let lines = fakes.lines.lock().expect("lines");
        lines.iter().map(|line| line.text.len()).sum::<usize>() > 20 << 20
    })
    .await;
    assert!(fakes.lines.lock().expect("lines").iter().all(|line| line.text.len() < 16 << 10));
    fakes.lines.lock().expect("lines").clear();
    let stuck = call(&pool, "sync", "crash-pipe 0 c", Duration::from_millis(300));
    assert!(matches!(end(stuck).await, Err(Failure::Timeout { started: true, .. })));
    let grown = memory().saturating_sub(before);
    assert!(grown < 300 << 20, "{} MiB", grown >> 20);
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_are_only_begun_are_bounded() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    // Half a gigabyte goes through the socket first.
    let hoard = call(&pool, "sync", "hoard 100000 h", Duration::from_secs(100)).await;
    match hoard.result.map_err(|failure| *failure) {
        Err(Failure::Host { message }) => assert!(message.contains("incomplete"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(&pool, "sync", "echo 0 after").await, Ok("after".into()));
    fakes.close(&pool).await;
}

/// A window each, and what the reading of the socket holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_are_bounded() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.concurrency = 64).await;
    assert_eq!(ask(&pool, "sync", "echo 0 warm").await, Ok("warm".into()));
    let before = memory();
    let mut streams = Vec::new();
    for n in 0..64 {
        let command = format!("beside 100000000 s{n}");
        streams.push(begun(call_streamed(&pool, "async", &command, LONG)).await.expect("begun"));
    }
    let full = |n| fakes.made(&format!("s{n}")) > 256 << 10;
    until("all have made what they may", || (0..64).all(full)).await;
    assert_eq!(ask(&pool, "sync", "echo 0 beside").await, Ok("beside".into()));
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB", grown >> 20);
    drop(streams);
    until("they end", || pool.status().running == 0).await;
    assert_eq!(fakes.pids().len(), 1);
    fakes.close(&pool).await;
}
