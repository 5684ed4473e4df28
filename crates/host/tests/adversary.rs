//! What a hostile moment does to a pool: words that come while others are under way.

mod support;

use std::time::{Duration, Instant};

use exuvia_host::{ImageConfig, PoolConfig};
use rustix::process::{Pid, Signal, kill_process};
use support::{Fakes, ask, call, end, until};

fn forking(config: &mut PoolConfig) {
    config.image = ImageConfig::default();
    config.start_timeout = Duration::from_secs(60);
}

/// processes.md 7.4: the spare takes the calls that wait, too, not only those that come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spare_that_takes_the_place_of_an_old_worker_takes_what_waits() {
    let fakes = Fakes::new("good\ngood\ngood\nnever-greets");
    let pool = fakes
        .pool(|config| {
            config.spares = 1;
            config.start_timeout = Duration::from_secs(60);
            config.recycle.lifetime = Some(Duration::from_secs(2));
        })
        .await;
    let spare = || {
        let workers = pool.workers();
        workers.iter().find(|worker| worker.state.word() == "spare").map(|worker| worker.pid)
    };
    until("a spare", || spare().is_some()).await;
    // Another spare, younger than the worker that it is there for.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let first = spare().expect("a spare");
    fakes.kill(fakes.pids().iter().position(|pid| *pid == first).expect("it"));
    until("another spare", || spare().is_some_and(|pid| pid != first)).await;
    let long = call(&pool, "sync", "block 6000 long", Duration::from_secs(20));
    until("it runs", || fakes.times("long") == 1).await;
    let began = Instant::now();
    assert_eq!(ask(&pool, "sync", "echo 0 a").await, Ok("a".into()));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(end(long).await, Ok("long".into()));
    fakes.close(&pool).await;
}

/// processes.md 7.5: also those that were on their way to the books when they became too many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_too_many_before_they_are_there_do_not_stay() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for _ in 0..5 {
        pool.resize(8);
        // The keeper has seen it and has its workers under way.
        tokio::time::sleep(Duration::from_millis(1)).await;
        pool.resize(1);
        until("one worker", || pool.workers().len() == 1 && pool.status().ready == 1).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(pool.workers().len(), 1);
    }
    fakes.close(&pool).await;
}

/// processes.md 6.7: who waits for an image does not keep a pool that is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_whose_image_is_being_made_again_ends_at_once() {
    let fakes = Fakes::new("good");
    fakes.plan_zygotes("exits-at-once\nwaits\nnever-ready");
    let pool = fakes.pool(forking).await;
    until("a zygote", || pool.image().zygote.is_some()).await;
    let zygote = pool.image().zygote.expect("a zygote");
    kill_process(Pid::from_raw(zygote as i32).expect("a process"), Signal::KILL).expect("killed");
    until("it is gone", || pool.image().zygote.is_none()).await;
    fakes.kill(0);
    until("nobody is left", || pool.workers().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    fakes.close(&pool).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// processes.md 5.1, 6.7: the same with a zygote that does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_whose_zygote_does_not_answer_ends_at_once() {
    let fakes = Fakes::new("good");
    fakes.plan_zygotes("exits-at-once\nwaits");
    let pool = fakes.pool(forking).await;
    until("a zygote", || pool.image().zygote.is_some()).await;
    pool.resize(3);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    fakes.close(&pool).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// processes.md 5.1, 7.2: one that reads nothing is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_to_go_and_does_not_read_is_killed() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    // It answers, and then its loop stands still.
    assert_eq!(ask(&pool, "sync", "deaf 60000 a").await, Ok("a".into()));
    // More than its socket takes.
    let mut body = b"echo 0 b".to_vec();
    body.resize(8 << 20, b' ');
    let waiting = support::call_bytes(&pool, "sync", body, Duration::from_secs(2));
    let waiting = tokio::spawn(end(waiting));
    tokio::time::sleep(Duration::from_millis(100)).await;
    pool.resize(0);
    until("it is gone", || pool.workers().is_empty()).await;
    assert!(waiting.await.expect("an end").is_err(), "there is no worker");
    fakes.close(&pool).await;
}

/// protocol.md 7.2, 7.5: a deadline and a caller that leaves are heard in a worker that is to go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_hold_in_a_worker_that_is_to_go() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.workers = 1).await;
    let late = call(&pool, "async", "stubborn 60000 a", Duration::from_millis(1500));
    let left = tokio::spawn(end(call(&pool, "async", "sleep 60000 b", Duration::from_secs(20))));
    until("both run", || fakes.begun().len() == 2).await;
    pool.resize(0);
    until("it is to go", || pool.status().ready == 0).await;
    left.abort();
    let began = Instant::now();
    assert!(end(late).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    until("it is gone", || pool.workers().is_empty()).await;
    fakes.close(&pool).await;
}

/// processes.md 7.2: what a worker that is to go gives back is done first, and in its order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_given_back_keep_their_order() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for n in 0..20 {
        // It learns that they are quick, so that a worker is given many ahead.
        assert!(ask(&pool, "sync", &format!("echo 0 w{n}")).await.is_ok());
    }
    let first = tokio::spawn(end(call(&pool, "sync", "block 300 x", Duration::from_secs(20))));
    until("it runs", || fakes.times("x") == 1).await;
    let mut asked = Vec::new();
    for n in 0..50 {
        let command = format!("echo 0 n{n}");
        asked.push(end(call(&pool, "sync", &command, Duration::from_secs(20))));
    }
    pool.resize(0);
    assert_eq!(first.await.expect("an end"), Ok("x".into()));
    until("it is gone", || pool.workers().is_empty()).await;
    pool.resize(1);
    for (n, asked) in asked.into_iter().enumerate() {
        assert_eq!(asked.await, Ok(format!("n{n}")));
    }
    let begun = fakes.begun();
    let expected: Vec<String> = (0..50).map(|n| format!("n{n}")).collect();
    assert_eq!(begun[21..], expected, "once each, in order");
    fakes.close(&pool).await;
}

/// processes.md 7.2, 7.5: words in quick succession, deaths among them, lose and repeat no call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resizing_while_workers_come_go_and_die_repeats_no_call() {
    let fakes = Fakes::new("good\nexit-after-ready\ngood\ngood\nexit-at-once\ngood");
    let pool = fakes
        .pool(|config| {
            config.workers = 2;
            config.spares = 1;
            config.recycle.max_calls = Some(3);
        })
        .await;
    let clients = (0..16).map(|client| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut lost = 0;
            for n in 0..40 {
                let handler = if n % 3 == 0 { "async" } else { "sync" };
                let verb = if n % 3 == 0 { "sleep 2" } else { "block 1" };
                let tag = format!("c{client}n{n}");
                let answer = ask(&pool, handler, &format!("{verb} {tag}")).await;
                lost += usize::from(answer != Ok(tag));
            }
            lost
        })
    });
    let clients: Vec<_> = clients.collect();
    for round in 0..40_usize {
        pool.resize(1 + round * 7 % 5);
        tokio::time::sleep(Duration::from_millis(15)).await;
        if round % 8 == 0 {
            let pids = fakes.pids();
            fakes.kill(pids.len().saturating_sub(1 + round % 3));
        }
    }
    let mut lost = 0;
    for client in clients {
        lost += client.await.expect("every call ends");
    }
    // A kill may cost what ran in that worker: one sync call and four async ones.
    assert!(lost <= 5 * 5, "{lost}");
    let mut begun = fakes.begun();
    let count = begun.len();
    begun.sort();
    begun.dedup();
    assert_eq!(begun.len(), count, "none ran twice");
    pool.resize(2);
    until("rest", || pool.status().ready == 2 && pool.workers().len() == 3).await;
    fakes.close(&pool).await;
}

/// processes.md 2.3, 6.7
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_replacements_leave_no_descriptor() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|config| config.recycle.max_calls = Some(1)).await;
    assert!(ask(&pool, "sync", "echo 0 a").await.is_ok());
    until("rest", || pool.workers().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = support::descriptors();
    for n in 0..300 {
        assert!(ask(&pool, "sync", &format!("echo 0 n{n}")).await.is_ok());
        until("a fresh one", || pool.workers().iter().any(|worker| worker.calls == 0)).await;
    }
    until("rest", || pool.workers().len() == 1).await;
    until("no more than before", || support::descriptors() <= before).await;
    let page = fakes.metrics.render();
    let series = page.lines().filter(|line| line.contains("worker=\"")).count();
    assert!(series < 20, "{series} series of workers");
    fakes.close(&pool).await;
}
