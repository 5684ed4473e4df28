//! Zygotes that break the rules: the pool goes on without one, and says why.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use exuvia_core::Failure;
use exuvia_host::{ImageConfig, ImageStatus, Pool, PoolConfig, StartError, StartMethod};
use support::{Fakes, ask, until};

fn forking(config: &mut PoolConfig) {
    config.image = ImageConfig::default();
    config.start_timeout = Duration::from_millis(1500);
}

/// A pool whose zygotes do as planned serves calls all the same; gives what is known of its image.
async fn without_zygote(plan: &str) -> (Fakes, Arc<Pool>, ImageStatus) {
    let fakes = Fakes::new("good");
    fakes.plan_zygotes(plan);
    let began = Instant::now();
    let pool = fakes.pool(forking).await;
    assert_eq!(ask(&pool, "sync", "echo 0 a").await, Ok("a".into()), "{plan}");
    assert!(began.elapsed() < Duration::from_secs(6), "{plan}: {:?}", began.elapsed());
    let image = pool.image();
    (fakes, pool, image)
}

async fn why_spawn(plan: &str) -> String {
    let (fakes, pool, image) = without_zygote(plan).await;
    assert_eq!((image.start, image.zygote), (StartMethod::Spawn, None), "{plan}");
    let workers = pool.workers();
    assert!(workers.iter().all(|worker| worker.start == StartMethod::Spawn), "{workers:?}");
    fakes.close(&pool).await;
    image.why_spawn.expect("a reason")
}

/// processes.md 3.4, 6.2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zygote_that_does_not_come_to_be_is_replaced_by_fresh_starts_with_the_reason() {
    let told = async |plan: &str, words: &str| {
        let why = why_spawn(plan).await;
        assert!(why.contains(words), "{plan}: {why}");
    };
    tokio::join!(
        told("exits-at-once", "exited with status 3"),
        told("never-greets", "not ready within 1.5s"),
        told("greets-garbage", ""),
        told("never-ready", "not ready within 1.5s"),
        told("dies-warming", "exited with status 4 after importing numpy"),
        told("ready-with-garbage", ""),
        told("own-threads", "more than one thread (a-thread)"),
        told("always-threads", "too many imports"),
        told("same-threads", "numpy starts a thread (a-thread), also where it is left out"),
        told("refuses", "EINVAL"),
        // Asked again while the machine was short, and only then given up.
        told("is-short", "EINVAL"),
    );
}

/// processes.md 3.3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_starts_a_thread_is_left_out_and_named() {
    let fakes = Fakes::new("good");
    fakes.plan_zygotes("threads");
    let pool = fakes.pool(forking).await;
    let image = pool.image();
    assert_eq!(image.left_out, [("numpy".into(), "it starts a thread (a-thread)".into())]);
    assert_eq!(fakes.zygotes().len(), 2, "made again once, without it");
    fakes.close(&pool).await;
}

/// processes.md 3.5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_preload_that_does_not_import_fails_the_start() {
    let fakes = Fakes::new("good");
    fakes.plan_zygotes("fails");
    let mut config = fakes.config();
    forking(&mut config);
    match Pool::start(config).await.err() {
        Some(StartError::Load(Failure::Load { message, .. })) => assert_eq!(message, "no numpy"),
        other => panic!("{other:?}"),
    }
    fakes.gone();
}

/// processes.md 5.1, 6.2, 6.7: one after the other breaks a rule when it is asked for a worker. Each
/// is killed, the next one is asked, and nothing of them is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zygote_that_answers_what_it_may_not_is_killed_and_the_next_one_is_asked() {
    for plans in [
        ["ends-when-ready", "talks", "refuses"],
        ["dies-forking", "answers-garbage", "refuses"],
        ["without-process", "no-pidfd", "refuses"],
        ["foreign", "wrong-word", "refuses"],
    ] {
        let (fakes, pool, image) = without_zygote(&plans.join("\n")).await;
        assert_eq!(image.why_spawn.as_deref(), Some("EINVAL"), "the last one's word");
        assert_eq!(fakes.zygotes().len(), plans.len());
        fakes.close(&pool).await;
    }
    // One after the other for ever: workers are started afresh meanwhile.
    let why = why_spawn("dies-forking").await;
    assert!(why.contains("exited with status 5"), "{why}");
}

/// processes.md 6.2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_zygote_costs_no_worker() {
    let fakes = Fakes::new("good");
    // It comes to be only after workers were started afresh.
    fakes.plan_zygotes("exits-at-once\nwaits");
    let pool = fakes.pool(forking).await;
    until("a zygote", || pool.image().zygote.is_some()).await;
    let zygote = pool.image().zygote.expect("a zygote");
    assert_eq!(pool.image().start, StartMethod::Fork);
    let pid = rustix::process::Pid::from_raw(zygote as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    until("another", || pool.image().zygote.is_some_and(|other| other != zygote)).await;
    assert_eq!(ask(&pool, "sync", "echo 0 a").await, Ok("a".into()));
    assert_eq!(fakes.pids().len(), 1, "the worker is the first one");
    fakes.close(&pool).await;
}

/// processes.md 7.1, 7.2, 7.5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_and_resizing_lose_no_call() {
    let fakes = Fakes::new("good");
    let pool = fakes
        .pool(|config| {
            config.workers = 2;
            config.recycle.max_calls = Some(20);
            config.recycle.jitter_percent = 50;
        })
        .await;
    let asking = (0..8).map(|client| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for n in 0..50 {
                let tag = format!("c{client}n{n}");
                let answer = ask(&pool, "sync", &format!("echo 0 {tag}")).await;
                assert_eq!(answer, Ok(tag));
            }
        })
    });
    let asking: Vec<_> = asking.collect();
    for size in [4, 1, 3, 0, 2, 5, 1, 2] {
        pool.resize(size);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for client in asking {
        client.await.expect("every call is answered");
    }
    assert!(fakes.begun().len() == 400, "each ran once: {}", fakes.begun().len());
    assert!(fakes.pids().len() > 10, "{} workers", fakes.pids().len());
    until("two workers", || pool.status().ready == 2).await;
    fakes.close(&pool).await;
}

/// processes.md 7.3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_stays_while_no_replacement_gets_ready() {
    let fakes = Fakes::new("good\nload-fails");
    let pool = fakes.pool(|config| config.recycle.max_calls = Some(1)).await;
    for n in 0..20 {
        assert_eq!(ask(&pool, "sync", &format!("echo 0 t{n}")).await, Ok(format!("t{n}")));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(fakes.pids().len() > 1, "others were tried");
    fakes.close(&pool).await;
}

/// processes.md 7.4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spare_takes_the_place_of_a_dead_worker_at_once() {
    let fakes = Fakes::new("good\ngood\nnever-ready");
    let pool = fakes
        .pool(|config| {
            config.spares = 1;
            config.start_timeout = Duration::from_secs(60);
        })
        .await;
    let spare = || pool.workers().iter().any(|worker| worker.state.word() == "spare");
    until("a spare", spare).await;
    assert_eq!(pool.status().ready, 1);
    let first = pool.workers()[0].pid;
    fakes.kill(fakes.pids().iter().position(|pid| *pid == first).expect("it"));
    // Every further worker never gets ready: only the spare can answer.
    until("it is buried", || pool.workers().iter().all(|worker| worker.pid != first)).await;
    assert_eq!(ask(&pool, "sync", "echo 0 a").await, Ok("a".into()));
    fakes.close(&pool).await;
}

/// processes.md 7.1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_leave_when_their_lifetime_is_over() {
    let fakes = Fakes::new("good");
    let pool =
        fakes.pool(|config| config.recycle.lifetime = Some(Duration::from_millis(100))).await;
    until("three workers", || fakes.pids().len() >= 3).await;
    assert_eq!(ask(&pool, "sync", "echo 0 a").await, Ok("a".into()));
    let page = fakes.metrics.render();
    assert!(page.contains(r#"exuvia_worker_restarts_total{reason="lifetime"}"#), "{page}");
    fakes.close(&pool).await;
}
