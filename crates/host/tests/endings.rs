//! Deadlines, callers that go away, and pools that do.

mod support;

use std::time::{Duration, Instant};

use exuvia_core::Failure;
use support::{Fakes, ask, call, end, until};

const LONG: Duration = Duration::from_secs(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_cancels_a_task_and_kills_a_loop_that_does_not_hear() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let is_late = |end: &Result<String, Failure>| {
        matches!(end, Err(Failure::Timeout { started: true, limit_ms: 200, .. }))
    };
    let cancelled = end(call(&pool, "async", "sleep 9000 a", ms(200))).await;
    assert!(is_late(&cancelled), "{cancelled:?}");
    // A worker that answers after it was cancelled: the answer counts.
    assert_eq!(end(call(&pool, "async", "late 9000 l", ms(200))).await, Ok("l".into()));
    assert_eq!(fakes.pids().len(), 1);
    // One that heard and does not end; the neighbour is lost with it.
    let neighbour = call(&pool, "async", "sleep 9000 n", LONG);
    let stubborn = end(call(&pool, "async", "stubborn 9000 s", ms(200))).await;
    assert!(is_late(&stubborn), "{stubborn:?}");
    let lost = end(neighbour).await;
    assert!(matches!(lost, Err(Failure::WorkerLost { retryable: true, .. })), "{lost:?}");
    // One that does not hear, with a call behind it that has not begun.
    let blocked = call(&pool, "async", "block 9000 b", ms(200));
    let behind = call(&pool, "async", "echo 0 behind", LONG);
    let blocked = end(blocked).await;
    assert!(is_late(&blocked), "{blocked:?}");
    assert_eq!(end(behind).await, Ok("behind".into()));
    assert_eq!(fakes.times("behind"), 1);
    assert_eq!(fakes.pids().len(), 3);
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_time_is_over_before_it_begins_never_begins() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let blocker = call(&pool, "sync", "block 800 b", LONG);
    // In the worker's queue, and in the pool's.
    let inside = call(&pool, "async", "echo 0 inside", ms(100));
    let waiting = call(&pool, "sync", "echo 0 waiting", ms(100));
    for call in [inside, waiting] {
        let end = end(call).await;
        assert!(matches!(end, Err(Failure::Timeout { started: false, .. })), "{end:?}");
    }
    assert_eq!(end(blocker).await, Ok("b".into()));
    assert_eq!(ask(&pool, "sync", "echo 0 after").await, Ok("after".into()));
    assert_eq!((fakes.times("inside"), fakes.times("waiting")), (0, 0));
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_that_is_dropped_takes_its_call_back_wherever_it_is() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    // Before its first poll, queued behind a running call.
    let blocker = call(&pool, "sync", "block 300 b", LONG);
    drop(call(&pool, "sync", "echo 0 unpolled", LONG));
    drop(call(&pool, "async", "echo 0 sent", LONG));
    assert_eq!(end(blocker).await, Ok("b".into()));
    // Running: it is told to stop.
    let running = call(&pool, "async", "sleep 9000 running", LONG);
    until("it runs", || fakes.times("running") == 1).await;
    drop(running);
    until("it ends", || pool.status().running == 0).await;
    // Running and deaf to it: its deadline stays.
    let blocking = call(&pool, "sync", "block 9000 blocking", ms(600));
    until("it runs", || fakes.times("blocking") == 1).await;
    drop(blocking);
    let began = Instant::now();
    assert_eq!(ask(&pool, "sync", "echo 0 after").await, Ok("after".into()));
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!((fakes.times("unpolled"), fakes.times("sent")), (0, 0));
    assert_eq!((pool.status().running, pool.status().queued), (0, 0));
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_caller_does_not_survive_its_worker() {
    let fakes = Fakes::new("good\nready-after=500");
    let pool = fakes.pool(|_| {}).await;
    let blocker = call(&pool, "async", "block 9000 b", ms(200));
    until("it runs", || fakes.times("b") == 1).await;
    // In the worker's socket when the worker is killed for another's sake; then its caller leaves.
    let orphan = call(&pool, "sync", "echo 0 orphan", LONG);
    tokio::time::sleep(ms(550)).await;
    drop(orphan);
    assert!(end(blocker).await.is_err());
    assert_eq!(ask(&pool, "sync", "echo 0 after").await, Ok("after".into()));
    assert_eq!(fakes.times("orphan"), 0);
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn async_calls_that_wait_for_room_do_not_hold_up_sync_ones() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.concurrency = 2).await;
    let sleepers: Vec<_> = (0..3).map(|_| call(&pool, "async", "sleep 700 s", LONG)).collect();
    let began = Instant::now();
    assert_eq!(ask(&pool, "sync", "echo 0 quick").await, Ok("quick".into()));
    assert!(began.elapsed() < ms(400), "{:?}", began.elapsed());
    for sleeper in sleepers {
        assert_eq!(end(sleeper).await, Ok("s".into()));
    }
    // And the other way round: sync calls sent ahead take no room from async ones.
    let pump = async {
        for n in 0..400 {
            assert_eq!(ask(&pool, "sync", &format!("block 1 p{n}")).await, Ok(format!("p{n}")));
        }
    };
    let beside = async {
        let began = Instant::now();
        assert_eq!(ask(&pool, "async", "sleep 20 a").await, Ok("a".into()));
        assert!(began.elapsed() < ms(300), "{:?}", began.elapsed());
    };
    tokio::join!(pump, beside);
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_an_empty_one_of_no_length_does_not() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.queue = 0).await;
    assert_eq!(ask(&pool, "sync", "echo 0 first").await, Ok("first".into()));
    let blocker = call(&pool, "other", "block 300 b", LONG);
    let refused = ask(&pool, "sync", "block 0 r").await;
    assert!(matches!(refused, Err(Failure::Rejected { .. })), "{refused:?}");
    assert_eq!(end(blocker).await, Ok("b".into()));
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_refuses_new_calls_and_cuts_off_what_runs_too_long() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let running = call(&pool, "sync", "block 9000 r", LONG);
    let queued = call(&pool, "sync", "echo 0 q", LONG);
    until("it runs", || fakes.times("r") == 1).await;
    let target = pool.target("m:sync").expect("the handler");
    let draining = pool.clone();
    let draining = tokio::spawn(async move { draining.drain(ms(300)).await });
    until("the drain", || pool.status().draining).await;
    let late = target.call(Default::default()).await.result.map_err(|failure| *failure);
    assert!(matches!(late, Err(Failure::Rejected { .. })), "{late:?}");
    assert!(!draining.await.expect("drain"));
    let running = end(running).await;
    assert!(matches!(running, Err(Failure::WorkerLost { retryable: true, .. })), "{running:?}");
    assert!(matches!(end(queued).await, Err(Failure::Rejected { .. })));
    assert_eq!(fakes.times("q"), 0);
    fakes.gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_pool_answers_every_call() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let running = call(&pool, "sync", "block 9000 r", LONG);
    let queued = call(&pool, "sync", "echo 0 q", LONG);
    until("it runs", || fakes.times("r") == 1).await;
    let target = pool.target("m:sync").expect("the handler");
    // Outside any runtime.
    std::thread::spawn(move || drop(pool)).join().expect("dropped");
    assert!(matches!(end(running).await, Err(Failure::WorkerLost { .. })));
    assert!(matches!(end(queued).await, Err(Failure::Rejected { .. })));
    assert!(matches!(end(target.call(Default::default())).await, Err(Failure::Rejected { .. })));
    let pids = fakes.pids();
    let exists = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    until("the worker's end", || !pids.iter().any(exists)).await;
}

#[test]
fn a_pool_outlives_its_runtime_without_harm() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("runtime");
    let fakes = Fakes::new("good");
    let pool = runtime.block_on(fakes.pool(|_| {}));
    let pending = call(&pool, "sync", "block 9000 r", LONG);
    drop(runtime);
    fakes.gone();
    drop(pool);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = other.expect("runtime").block_on(end(pending));
    assert!(ended.is_err());
}

#[test]
fn a_pool_runs_on_one_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(async {
        let fakes = Fakes::new("good");
        let pool = fakes.pool(|config| config.workers = 2).await;
        until("both workers", || pool.status().ready == 2).await;
        let flood = call(&pool, "sync", "flood 700 f", LONG);
        tokio::time::sleep(ms(100)).await;
        let began = Instant::now();
        assert_eq!(ask(&pool, "sync", "echo 0 e").await, Ok("e".into()));
        assert!(began.elapsed() < ms(400), "{:?}", began.elapsed());
        assert_eq!(end(flood).await, Ok("f".into()));
        fakes.close(&pool).await;
    });
}
