//! Workers that do not start as they should, and pools that are stopped while they do.

mod support;

use std::time::{Duration, Instant};

use exuvia_core::Failure;
use exuvia_host::{Pool, StartError};
use support::{Fakes, ask, call, end, until};

const LONG: Duration = Duration::from_secs(10);

async fn refused(plan: &str) -> StartError {
    let fakes = Fakes::new(plan);
    let mut config = fakes.config();
    config.workers = 3;
    config.start_timeout = Duration::from_millis(1500);
    let began = Instant::now();
    let error = match Pool::start(config).await {
        Ok(_) => panic!("`{plan}` started"),
        Err(error) => error,
    };
    assert!(began.elapsed() < Duration::from_secs(5), "`{plan}`: {:?}", began.elapsed());
    fakes.gone();
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_not_to_get_ready_has_its_error_and_leaves_no_process() {
    let python = async |plan: &str, words: &str| match refused(plan).await {
        StartError::Python { message } => assert!(message.contains(words), "{message}"),
        other => panic!("{plan}: {other:?}"),
    };
    tokio::join!(
        python("exit-at-once", "exited with status 3 before the handlers were imported"),
        python("exit-after-hello", "exited with status 4 before"),
        python("greets-garbage", "broke the protocol"),
        python("never-greets", "not imported within 1.5s"),
        python("never-ready", "not imported within 1.5s"),
        python("closes-after-hello", "closed its socket"),
    );
    assert!(matches!(refused("load-fails").await, StartError::Load(Failure::Load { .. })));
    match refused("greets-other-version").await {
        StartError::Runtime { message } => assert!(message.contains("0.0.0-other"), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_python_that_is_not_there_is_named() {
    let fakes = Fakes::new("good");
    let mut config = fakes.config();
    config.python = "/nowhere/python".into();
    match Pool::start(config).await.err() {
        Some(StartError::Python { message }) => {
            assert!(message.contains("cannot run /nowhere/python: No such file"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_failure_fails_the_start_while_others_still_start() {
    let fakes = Fakes::new("load-fails\nready-after=60000");
    let mut config = fakes.config();
    config.workers = 4;
    let began = Instant::now();
    assert!(matches!(Pool::start(config).await, Err(StartError::Load(_))));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    fakes.gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_whose_workers_do_not_come_back_stops_at_once() {
    let fakes = Fakes::new("good\ngood\ngood\ngood\nload-fails");
    let pool = fakes.pool(|config| config.workers = 4).await;
    until("four workers", || pool.status().ready == 4).await;
    for round in 0..4 {
        let died = ask(&pool, "sync", &format!("exit 1 t{round}")).await;
        assert!(matches!(died, Err(Failure::Exited { status: 1, .. })), "{died:?}");
    }
    // By now the waits between attempts are long.
    until("attempts", || fakes.pids().len() > 16).await;
    let began = Instant::now();
    pool.drain(Duration::ZERO).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    fakes.gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_whenever_it_is_ready_is_not_started_without_pause() {
    let fakes = Fakes::new("good\nexit-after-ready");
    let pool = fakes.pool(|_| {}).await;
    let died = ask(&pool, "sync", "exit 1 t").await;
    assert!(died.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let attempts = fakes.pids().len();
    assert!(attempts < 12, "{attempts} attempts in a second");
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_for_a_worker_that_starts_and_their_time_runs_meanwhile() {
    let fakes = Fakes::new("good\nready-after=700");
    let pool = fakes.pool(|_| {}).await;
    assert!(ask(&pool, "sync", "exit 1 t").await.is_err());
    let short = call(&pool, "sync", "echo 0 short", Duration::from_millis(200));
    let long = call(&pool, "sync", "echo 0 long", LONG);
    let began = Instant::now();
    assert!(matches!(end(short).await, Err(Failure::Timeout { started: false, .. })));
    assert!(began.elapsed() < Duration::from_millis(500));
    // A drain waits for what is queued, although the worker is not there yet.
    assert!(pool.drain(LONG).await);
    assert_eq!(end(long).await, Ok("long".into()));
    assert_eq!(fakes.times("short"), 0);
    fakes.gone();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_while_it_starts_is_replaced() {
    let fakes = Fakes::new("good\nnever-ready\ngood");
    let pool = fakes.pool(|_| {}).await;
    assert!(ask(&pool, "sync", "exit 1 t").await.is_err());
    until("the second worker", || fakes.pids().len() == 2).await;
    let waiting = call(&pool, "sync", "echo 0 after", LONG);
    fakes.kill(1);
    assert_eq!(end(waiting).await, Ok("after".into()));
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_twice_is_an_error_and_the_calls_go_to_the_next_worker() {
    let fakes = Fakes::new("ready-twice\ngood");
    let pool = fakes.pool(|_| {}).await;
    assert_eq!(ask(&pool, "sync", "echo 0 once").await, Ok("once".into()));
    assert_eq!(fakes.times("once"), 1);
    assert!(fakes.pids().len() > 1);
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_no_worker_has_any_more_fails_at_once() {
    let fakes = Fakes::new("good\nwithout=other");
    let pool = fakes.pool(|_| {}).await;
    assert_eq!(ask(&pool, "other", "echo 0 before").await, Ok("before".into()));
    assert!(ask(&pool, "sync", "exit 1 t").await.is_err());
    let began = Instant::now();
    let gone = ask(&pool, "other", "echo 0 gone").await;
    assert!(matches!(gone, Err(Failure::Load { .. })), "{gone:?}");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(ask(&pool, "sync", "echo 0 still").await, Ok("still".into()));
    fakes.close(&pool).await;
}
