//! Results that come in pieces: who reads them, who stops, and what ends them.

mod support;

use std::time::{Duration, Instant};

use exuvia_core::{Failure, Rest};
use exuvia_host::Pool;
use support::{Fakes, ask, begun, call, call_streamed, end, read_all, streamed, until};

const LONG: Duration = Duration::from_secs(20);
/// What a worker makes ahead of its reader, at most: its window, what waits behind it, and a piece.
const AHEAD: usize = (256 << 10) + (64 << 10) + 10_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Waits until a worker makes no more of a stream, and says how much that is.
async fn made(fakes: &Fakes, tag: &str) -> usize {
    let mut before = usize::MAX;
    loop {
        let now = fakes.made(tag);
        if now == before {
            return now;
        }
        before = now;
        tokio::time::sleep(ms(150)).await;
    }
}

/// Reads at least `size` bytes.
async fn read(rest: &Rest, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < size {
        let next = tokio::time::timeout(LONG, rest.next()).await.expect("it goes on");
        bytes.extend_from_slice(&next.expect("there is more").expect("no failure"));
    }
    bytes
}

async fn idle(pool: &Pool) {
    until("nothing runs", || pool.status().running + pool.status().queued == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_streamed_result_arrives_in_order_and_ends_once() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for (handler, verb) in [("sync", "stream"), ("async", "beside")] {
        for size in [0, 1, 9_999, 3_000_000] {
            let command = format!("{verb} {size} t");
            let rest = begun(call_streamed(&pool, handler, &command, LONG)).await.expect("begun");
            let (bytes, end) = read_all(&rest).await;
            assert!(bytes == streamed(size), "{command}: {} bytes", bytes.len());
            assert_eq!(end, Ok(()));
            assert_eq!(rest.next().await, None, "it stays at its end");
        }
    }
    assert_eq!((fakes.pids().len(), fakes.times("t")), (1, 8));
    idle(&pool).await;
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_has_begun_before_all_of_it_is_made_and_says_who_makes_it() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let outcome = call_streamed(&pool, "sync", "stream-sleeps 10 t", LONG).await;
    let diagnostics = outcome.diagnostics;
    assert_eq!((diagnostics.handler.as_str(), diagnostics.attempts), ("m:sync", 1));
    assert_eq!(diagnostics.pid, Some(fakes.pids()[0]));
    let rest = outcome.result.expect("begun").rest.expect("more");
    assert_eq!(read(&rest, 10).await, streamed(10));
    assert_eq!(pool.status().running, 1);
    drop(rest);
    idle(&pool).await;
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_stops_the_worker_and_one_that_leaves_ends_the_call() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for (handler, verb) in [("sync", "stream"), ("async", "beside")] {
        let command = format!("{verb} 100000000 {verb}");
        let rest = begun(call_streamed(&pool, handler, &command, LONG)).await.expect("begun");
        let first = made(&fakes, verb).await;
        assert!(first <= AHEAD, "{first} bytes for nobody");
        let bytes = read(&rest, 2_000_000).await;
        assert!(bytes == streamed(bytes.len()), "in order");
        let second = made(&fakes, verb).await;
        assert!(second >= bytes.len() && second <= bytes.len() + AHEAD, "{second}");
        let clone = rest.clone();
        drop(rest);
        assert!(!read(&clone, 1).await.is_empty(), "a clone reads on");
        drop(clone);
        idle(&pool).await;
        assert_eq!(ask(&pool, handler, "echo 0 after").await, Ok("after".into()));
    }
    assert_eq!(fakes.pids().len(), 1, "the worker lives");
    fakes.close(&pool).await;
}

/// All of it is made, and waits for a reader that leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_end_waits_for_credit_is_ended_when_its_reader_leaves() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let command = "stream 300000 t";
    let rest = begun(call_streamed(&pool, "sync", command, LONG)).await.expect("begun");
    until("all is made", || fakes.made("t") == 300_000).await;
    drop(rest);
    idle(&pool).await;
    assert_eq!(ask(&pool, "sync", "echo 0 after").await, Ok("after".into()));
    assert_eq!(fakes.pids().len(), 1, "the worker lives");
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_end_of_a_worker_and_of_its_patience_is_the_streams_end() {
    let check = async |command: &str, timeout: Duration, is: fn(&Failure) -> bool| {
        let fakes = Fakes::new("good");
        let pool = fakes.pool(|_| {}).await;
        let rest = begun(call_streamed(&pool, "sync", command, timeout)).await.expect("begun");
        let (bytes, end) = read_all(&rest).await;
        assert!(bytes == streamed(100_000), "{command}: {} bytes came before", bytes.len());
        let failure = end.expect_err(command);
        assert!(is(&failure), "{command}: {failure:?}");
        assert_eq!(rest.next().await, None, "one failure");
        drop(rest);
        assert_eq!(ask(&pool, "sync", "echo 0 after").await, Ok("after".into()));
        assert_eq!(fakes.times("t"), 1);
        fakes.close(&pool).await;
    };
    let late = |failure: &Failure| {
        matches!(failure, Failure::Timeout { started: true, limit_ms: 1500, .. })
    };
    tokio::join!(
        check("stream-sleeps 100000 t", ms(1500), late),
        check("stream-blocks 100000 t", ms(1500), late),
        check("stream-fails 100000 t", LONG, |failure| {
            *failure == Failure::Malformed { message: "t".into() }
        }),
        check("stream-dies 100000 t", LONG, |failure| {
            matches!(failure, Failure::Crash { number: 9, running: 1, .. })
        }),
        check("stream-exits 100000 t", LONG, |failure| {
            matches!(failure, Failure::Exited { status: 7, running: 1 })
        }),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_a_stream_that_nobody_reads() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let future = call_streamed(&pool, "sync", "stream 100000000 t", ms(1500));
    let rest = begun(future).await.expect("begun");
    idle(&pool).await;
    let (bytes, end) = read_all(&rest).await;
    assert!(bytes == streamed(bytes.len()) && bytes.len() <= 256 << 10, "{}", bytes.len());
    assert!(matches!(end, Err(Failure::Timeout { started: true, .. })), "{end:?}");
    assert_eq!(fakes.pids().len(), 1, "the worker lives");
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_behind_a_stream_do_not_wait_for_its_reader() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    // It learns that they are quick, so that calls are sent ahead.
    for n in 0..5 {
        assert!(ask(&pool, "sync", &format!("echo 0 w{n}")).await.is_ok());
    }
    let blocker = call(&pool, "sync", "block 1 b", LONG);
    let stream = call_streamed(&pool, "sync", "stream 100000000 s", LONG);
    let behind: Vec<_> =
        (0..5).map(|n| call(&pool, "sync", &format!("echo 0 n{n}"), LONG)).collect();
    assert_eq!(end(blocker).await, Ok("b".into()));
    let rest = begun(stream).await.expect("begun");
    // With the worker's only thread taken they wait in the queue, as do those that come now.
    let late = call(&pool, "sync", "echo 0 late", LONG);
    until("they are given back", || pool.status().queued == 6).await;
    assert_eq!(pool.status().running, 1);
    pool.resize(2);
    for (n, call) in behind.into_iter().enumerate() {
        assert_eq!(end(call).await, Ok(format!("n{n}")));
    }
    assert_eq!(end(late).await, Ok("late".into()));
    let order: Vec<String> = fakes.begun().split_off(7);
    assert_eq!(order, ["n0", "n1", "n2", "n3", "n4", "late"], "once each, in order");
    // It has not moved meanwhile, and goes on.
    let bytes = read(&rest, 1_000_000).await;
    assert!(bytes == streamed(bytes.len()));
    drop(rest);
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_async_stream_keeps_nothing_from_its_worker() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let future = call_streamed(&pool, "async", "beside 100000000 s", LONG);
    let rest = begun(future).await.expect("begun");
    let big = call(&pool, "async", "big 5000000 big", LONG);
    let began = Instant::now();
    for n in 0..50 {
        let handler = if n % 2 == 0 { "sync" } else { "async" };
        assert_eq!(ask(&pool, handler, &format!("echo 0 e{n}")).await, Ok(format!("e{n}")));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(end(big).await.map(|text| text.len()), Ok(5_000_000));
    assert_eq!(fakes.pids().len(), 1);
    drop(rest);
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_streams_and_its_limit_ends_them() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let future = call_streamed(&pool, "sync", "stream 2000000 t", LONG);
    let rest = begun(future).await.expect("begun");
    let draining = tokio::spawn({
        let pool = pool.clone();
        async move { pool.drain(LONG).await }
    });
    tokio::time::sleep(ms(200)).await;
    assert!(!draining.is_finished());
    let (bytes, end) = read_all(&rest).await;
    assert!(bytes == streamed(2_000_000) && end == Ok(()), "{end:?}");
    assert!(draining.await.expect("drained"), "every call ended by itself");
    fakes.gone();

    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let future = call_streamed(&pool, "sync", "stream 2000000 t", LONG);
    let rest = begun(future).await.expect("begun");
    assert!(!pool.drain(ms(300)).await);
    let (bytes, end) = read_all(&rest).await;
    assert!(bytes == streamed(bytes.len()));
    assert!(matches!(end, Err(Failure::WorkerLost { retryable: true, .. })), "{end:?}");
    fakes.gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_to_go_finishes_its_streams() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let future = call_streamed(&pool, "sync", "stream 2000000 t", LONG);
    let rest = begun(future).await.expect("begun");
    pool.resize(0);
    until("it is to go", || pool.status().ready == 0).await;
    let (bytes, end) = read_all(&rest).await;
    assert!(bytes == streamed(2_000_000) && end == Ok(()), "{} bytes, {end:?}", bytes.len());
    until("it is gone", || pool.workers().is_empty()).await;
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_pool_ends_its_streams_and_readers_outlive_it() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let first = begun(call_streamed(&pool, "async", "beside 2000000 a", LONG)).await;
    let second = begun(call_streamed(&pool, "async", "beside 2000000 b", LONG)).await;
    drop(pool);
    let (bytes, end) = read_all(&first.expect("begun")).await;
    assert!(bytes == streamed(bytes.len()) && end.is_err(), "{end:?}");
    drop(second);
}

/// A worker does `command` while three calls wait behind it: the end of its call.
async fn misdeed(command: &str) -> Result<(), Failure> {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for _ in 0..3 {
        assert!(ask(&pool, "sync", "echo 0 warm").await.is_ok());
    }
    let first = call_streamed(&pool, "sync", command, LONG);
    let others: Vec<_> =
        (0..3).map(|n| call(&pool, "sync", &format!("echo 0 n{n}"), LONG)).collect();
    let first = match begun(first).await {
        Ok(rest) => read_all(&rest).await.1,
        Err(failure) => Err(failure),
    };
    for (n, other) in others.into_iter().enumerate() {
        assert_eq!(end(other).await, Ok(format!("n{n}")), "behind `{command}`");
        assert_eq!(fakes.times(&format!("n{n}")), 1, "behind `{command}`");
    }
    assert_eq!(fakes.times("t"), 1, "`{command}` ran once");
    fakes.close(&pool).await;
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misdeed_in_a_stream_has_its_end_and_hurts_no_call_behind_it() {
    for (command, words) in [
        ("stream-of_stranger 0 t", "which it does not have"),
        ("stream-answers 100 t", "not complete yet"),
        ("stream-answers_other 100 t", "which it does not have"),
        ("stream-begins_again 100 t", "not complete yet"),
        ("stream-floods 100 t", "more than was granted"),
    ] {
        match misdeed(command).await {
            Err(Failure::Host { message }) => {
                assert!(message.contains("broke the protocol"), "`{command}`: {message}");
                assert!(message.contains(words), "`{command}`: {message}");
            }
            other => panic!("`{command}`: {other:?}"),
        }
    }
    // What was complete before the misdeed counts.
    assert_eq!(misdeed("stream-ends_twice 100 t").await, Ok(()));
    assert_eq!(misdeed("stream-dribbles 100 t").await, Ok(()));
}

/// A page that says otherwise does not make a call begin again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_began_has_begun_whatever_the_page_says() {
    // So much is made only for a reader that reads.
    let failure = misdeed("stream-unbegins 400000 t").await.expect_err("its worker died");
    assert!(!matches!(failure, Failure::Rejected { .. }), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_wanted_whole_breaks_the_protocol() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for _ in 0..3 {
        assert!(ask(&pool, "sync", "echo 0 warm").await.is_ok());
    }
    let first = call(&pool, "sync", "stream-sleeps 1000 t", LONG);
    let others: Vec<_> =
        (0..3).map(|n| call(&pool, "sync", &format!("echo 0 n{n}"), LONG)).collect();
    match end(first).await {
        Err(Failure::Host { message }) => assert!(message.contains("wanted whole"), "{message}"),
        other => panic!("{other:?}"),
    }
    for (n, other) in others.into_iter().enumerate() {
        assert_eq!(end(other).await, Ok(format!("n{n}")));
        assert_eq!(fakes.times(&format!("n{n}")), 1);
    }
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_takes_streams_takes_whole_results_too() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    assert_eq!(end(call_streamed(&pool, "sync", "echo 0 e", LONG)).await, Ok("e".into()));
    fakes.close(&pool).await;
}

/// Callers that leave at any moment: before the beginning, at it, and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_and_readers_that_leave_at_any_moment_leave_nothing_behind() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| (config.workers, config.concurrency) = (2, 16)).await;
    let callers = (0..16_u64).map(|caller| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for turn in 0..25_u64 {
                let (handler, verb) =
                    if (caller + turn) % 4 == 0 { ("sync", "stream") } else { ("async", "beside") };
                let size = (turn * 7919 * (caller + 1)) % 700_000;
                let command = format!("{verb} {size} c{caller}n{turn}");
                let future = call_streamed(&pool, handler, &command, LONG);
                let patience = Duration::from_micros((caller * 977 + turn * 331) % 6_000);
                let Ok(outcome) = tokio::time::timeout(patience, future).await else { continue };
                let rest = outcome.result.expect("begun").rest.expect("a stream");
                if turn % 3 > 0 {
                    let (bytes, end) = read_all(&rest).await;
                    assert!(bytes == streamed(size as usize) && end == Ok(()), "{end:?}");
                } else if turn % 2 > 0 {
                    drop(rest.next().await);
                }
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    for caller in callers {
        caller.await.expect("no caller fails");
    }
    idle(&pool).await;
    assert_eq!(fakes.pids().len(), 2, "no worker was lost");
    let mut begun = fakes.begun();
    let count = begun.len();
    begun.sort();
    begun.dedup();
    assert_eq!(begun.len(), count, "none ran twice");
    fakes.close(&pool).await;
}
