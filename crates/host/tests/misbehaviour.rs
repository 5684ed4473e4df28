//! Workers that break the protocol, die or do not read: what becomes of their calls.

mod support;

use std::time::{Duration, Instant};

use exuvia_core::Failure;
use support::{Fakes, ask, call, call_bytes, end, until};

const LONG: Duration = Duration::from_secs(20);

/// A worker does `command` while three calls wait behind it: what becomes of the four.
async fn with_three_behind(command: &str) -> Result<String, Failure> {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    // So that calls are sent ahead.
    for _ in 0..3 {
        assert!(ask(&pool, "sync", "echo 0 warm").await.is_ok());
    }
    let first = call(&pool, "sync", command, LONG);
    let others: Vec<_> =
        (0..3).map(|n| call(&pool, "sync", &format!("echo 0 n{n}"), LONG)).collect();
    let first = end(first).await;
    for (n, other) in others.into_iter().enumerate() {
        assert_eq!(end(other).await, Ok(format!("n{n}")), "behind `{command}`");
        assert_eq!(fakes.times(&format!("n{n}")), 1, "behind `{command}`");
    }
    fakes.close(&pool).await;
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_misdeed_has_its_outcome_and_hurts_no_call_behind_it() {
    let host = |end: Result<String, Failure>, words: &str| match end {
        Err(Failure::Host { message }) => assert!(message.contains(words), "{message}"),
        other => panic!("{words}: {other:?}"),
    };
    let (stranger, garbage, close, opens) = tokio::join!(
        with_three_behind("stranger 0 t"),
        with_three_behind("garbage 0 t"),
        with_three_behind("close 0 t"),
        with_three_behind("opens 1000 t"),
    );
    host(stranger, "which it does not have");
    host(garbage, "broke the protocol");
    host(close, "closed its socket");
    host(opens, "opens calls");
    for command in ["half 0 t", "begun-answer 0 t", "die 9 t"] {
        match with_three_behind(command).await {
            Err(Failure::Crash { number: 9, running: 1, .. }) => {}
            other => panic!("{command}: {other:?}"),
        }
    }
    match with_three_behind("exit 7 t").await {
        Err(Failure::Exited { status: 7, running: 1 }) => {}
        other => panic!("{other:?}"),
    }
    match with_three_behind("done-and-die 9 t").await {
        Err(Failure::WorkerLost { retryable: false, .. }) => {}
        other => panic!("{other:?}"),
    }
    // What was said before the end counts.
    assert_eq!(with_three_behind("answer-and-die 9 t").await, Ok("t".into()));
    assert_eq!(with_three_behind("twice 0 t").await, Ok("t".into()));
    // Frames that mean nothing do no harm.
    assert_eq!(with_three_behind("flood 200 t").await, Ok("t".into()));
    // A run time beyond reason is not counted with.
    assert_eq!(with_three_behind("long-ago 0 t").await, Ok("1".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scribbler_hurts_its_own_calls_only() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.workers = 2).await;
    assert_eq!(ask(&pool, "sync", "scribble 0 s").await, Ok("s".into()));
    let slow = call(&pool, "async", "sleep 100 a", LONG);
    let died = ask(&pool, "sync", "scribble-and-die 0 t").await;
    assert!(matches!(died, Err(Failure::WorkerLost { .. })), "{died:?}");
    let slow = end(slow).await;
    assert!(matches!(slow, Ok(_) | Err(Failure::WorkerLost { .. })), "{slow:?}");
    for n in 0..200 {
        assert_eq!(ask(&pool, "sync", &format!("echo 0 e{n}")).await, Ok(format!("e{n}")));
    }
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flooding_worker_does_not_keep_the_pool_from_others() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.workers = 2).await;
    until("both workers", || pool.status().ready == 2).await;
    let flood = call(&pool, "sync", "flood 3000 f", LONG);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    for n in 0..20 {
        assert_eq!(ask(&pool, "sync", &format!("echo 0 e{n}")).await, Ok(format!("e{n}")));
    }
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    assert_eq!(end(flood).await, Ok("f".into()));
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_stands_still_with_no_call_to_blame_swallows_no_calls() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.workers = 2).await;
    until("both workers", || pool.status().ready == 2).await;
    assert_eq!(ask(&pool, "sync", "deaf 60000 d").await, Ok("d".into()));
    for n in 0..4 {
        let end = end(call(&pool, "sync", &format!("echo 0 e{n}"), Duration::from_secs(2))).await;
        assert_eq!(end, Ok(format!("e{n}")));
    }
    // Both deaf, and callers with less patience than it takes to notice.
    assert_eq!(ask(&pool, "sync", "deaf 60000 d2").await, Ok("d2".into()));
    let began = Instant::now();
    loop {
        let end = end(call(&pool, "sync", "echo 0 late", Duration::from_millis(100))).await;
        if end.is_ok() {
            break;
        }
        assert!(matches!(end, Err(Failure::Timeout { started: false, .. })), "{end:?}");
        assert!(began.elapsed() < Duration::from_secs(9), "never replaced");
    }
    // The other one would be asked politely first.
    fakes.kill(1);
    fakes.close(&pool).await;
}

/// The payload is larger than what goes through in the time after which calls count as stuck.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_call_beside_sleeping_ones_is_sent_once() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let sleeper = call(&pool, "async", "sleep 3000 s", LONG);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut body = b"echo 0 large ".to_vec();
    body.resize(16 << 20, b' ');
    let outcome = call_bytes(&pool, "sync", body, LONG).await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
    assert_eq!(outcome.diagnostics.attempts, 1);
    assert_eq!(end(sleeper).await, Ok("s".into()));
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_behind_a_blocked_loop_is_given_to_another_worker() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.workers = 2).await;
    until("both workers", || pool.status().ready == 2).await;
    // Both loops hold a sleeper; then one is blocked by an async handler.
    let sleepers: Vec<_> = (0..2).map(|_| call(&pool, "async", "sleep 2500 s", LONG)).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let blocker = call(&pool, "async", "block 2000 b", LONG);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = Instant::now();
    let calls: Vec<_> =
        (0..4).map(|n| call(&pool, "async", &format!("echo 0 q{n}"), LONG)).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(end(call).await, Ok(format!("q{n}")));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(end(blocker).await, Ok("b".into()));
    for sleeper in sleepers {
        assert_eq!(end(sleeper).await, Ok("s".into()));
    }
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dying_worker_is_given_nothing_more() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.workers = 2).await;
    until("both workers", || pool.status().ready == 2).await;
    // It closes its socket and lives on; the host waits two seconds for its end.
    let closing = call(&pool, "sync", "close 0 c", LONG);
    tokio::time::sleep(Duration::from_millis(100)).await;
    for n in 0..20 {
        let began = Instant::now();
        assert_eq!(ask(&pool, "sync", &format!("echo 0 e{n}")).await, Ok(format!("e{n}")));
        assert!(began.elapsed() < Duration::from_millis(500), "call {n}: {:?}", began.elapsed());
    }
    assert!(end(closing).await.is_err());
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_ignores_the_drain_is_killed_in_time() {
    let fakes = Fakes::new("ignores-drain");
    let pool = fakes.pool(|config| config.workers = 3).await;
    assert_eq!(ask(&pool, "sync", "echo 0 e").await, Ok("e".into()));
    let began = Instant::now();
    assert!(pool.drain(LONG).await);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    fakes.gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_results_pass_in_turns() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.concurrency = 16).await;
    let size = 50 << 20;
    let calls: Vec<_> =
        (0..7).map(|n| call(&pool, "async", &format!("big {size} b{n}"), LONG)).collect();
    for call in calls {
        assert_eq!(end(call).await.map(|text| text.len()), Ok(size));
    }
    fakes.close(&pool).await;
}
