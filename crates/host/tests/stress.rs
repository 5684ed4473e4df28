//! Thousands of calls over workers that die at any moment: each call has one end, a begun call is
//! never begun again, an unbegun one is never lost, and nothing is left behind.

mod support;

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use exuvia_core::{Failure, Payload, Rest};
use exuvia_host::Pool;
use rustix::process::{Pid, Signal, kill_process};
use support::{Fakes, call, call_streamed, descriptors, read_all, streamed, until};

/// A small generator of numbers, the same on each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % end
    }
}

/// What came of a call; `None`: its future was dropped.
type End = Option<Result<String, Failure>>;

const CALLERS: u64 = 24;
const CALLS: u64 = 220;

async fn caller(pool: Arc<Pool>, number: u64) -> Vec<(String, End)> {
    let mut random = Random(number * 7919 + 1);
    let mut ends = Vec::new();
    for turn in 0..CALLS {
        let tag = format!("{number}.{turn}");
        let (handler, command) = match random.below(46) {
            0..=19 => ("sync", format!("echo 0 {tag}")),
            20..=23 => ("other", format!("block {} {tag}", random.below(6))),
            24..=31 => ("async", format!("sleep {} {tag}", random.below(20))),
            32 => ("async", format!("late 5000 {tag}")),
            33 => ("async", format!("block {} {tag}", random.below(30))),
            34 => ("sync", format!("big {} {tag}", random.below(600_000))),
            35 => ("sync", format!("answer-and-die 9 {tag}")),
            36 => ("sync", format!("exit 3 {tag}")),
            37 => ("sync", format!("stranger 0 {tag}")),
            38 => ("sync", format!("memory {} {tag}", 1 + random.below(300_000))),
            39 => ("async", format!("attach {} {tag}", random.below(65))),
            40 => ("sync", format!("stream {} {tag}", random.below(600_000))),
            41 => ("async", format!("beside {} {tag}", random.below(600_000))),
            42 => ("async", format!("beside-dies {} {tag}", random.below(200_000))),
            _ => ("async", format!("echo 0 {tag}")),
        };
        // The misdeeds that stop a pool for long are rare.
        let rare = !number.is_multiple_of(4)
            && command.starts_with(['e', 's'])
            && !command.contains("echo");
        let command =
            if rare && !command.contains("sleep") { format!("echo 0 {tag}") } else { command };
        let timeout = Duration::from_millis(match random.below(6) {
            0 => 2 + random.below(30),
            _ => 8_000,
        });
        let timeout = if command.starts_with("late") { Duration::from_millis(40) } else { timeout };
        let future = call_streamed(&pool, handler, &command, timeout);
        let end = match random.below(12) {
            0 => {
                drop(future);
                None
            }
            1 => tokio::time::timeout(Duration::from_millis(random.below(8)), future).await.ok(),
            _ => Some(
                tokio::time::timeout(Duration::from_secs(20), future)
                    .await
                    .unwrap_or_else(|_| panic!("`{command}` has no end")),
            ),
        };
        let end = match end.map(|outcome| outcome.result) {
            None => None,
            Some(Err(failure)) => Some(Err(*failure)),
            Some(Ok(Payload { rest: Some(rest), .. })) => read(&rest, &mut random, &tag).await,
            Some(Ok(payload)) => Some(Ok(String::from_utf8_lossy(&payload.body).into_owned())),
        };
        ends.push((tag, end));
    }
    ends
}

/// Reads a result that comes in pieces; at times not to its end.
async fn read(rest: &Rest, random: &mut Random, tag: &str) -> End {
    if random.below(4) == 0 {
        drop(rest.next().await);
        return None;
    }
    let (bytes, end) = read_all(rest).await;
    assert!(bytes == streamed(bytes.len()), "{tag}: in order");
    Some(end.map(|()| tag.to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_has_one_end_and_runs_at_most_once() {
    let before = descriptors();
    let fakes = Arc::new(Fakes::new("good"));
    let pool = fakes.pool(|config| (config.workers, config.concurrency) = (3, 6)).await;
    let callers: Vec<_> =
        (0..CALLERS).map(|number| tokio::spawn(caller(pool.clone(), number))).collect();
    let killer = tokio::spawn({
        let fakes = fakes.clone();
        async move {
            let mut random = Random(5);
            loop {
                tokio::time::sleep(Duration::from_millis(30 + random.below(120))).await;
                let pids = fakes.pids();
                let alive: Vec<_> = pids
                    .iter()
                    .filter(|pid| Path::new(&format!("/proc/{pid}")).exists())
                    .filter_map(|pid| Pid::from_raw(*pid as i32))
                    .collect();
                if !alive.is_empty() {
                    let victim = alive[random.below(alive.len() as u64) as usize];
                    let _ = kill_process(victim, Signal::KILL);
                }
            }
        }
    });
    let mut ends = HashMap::new();
    for caller in callers {
        ends.extend(caller.await.expect("a caller"));
    }
    killer.abort();
    until("nothing is left", || pool.status().running + pool.status().queued == 0).await;
    assert_eq!(ends.len() as u64, CALLERS * CALLS);
    let mut begun: HashMap<String, usize> = HashMap::new();
    for tag in fakes.begun() {
        *begun.entry(tag).or_default() += 1;
    }
    let mut words: HashMap<String, usize> = HashMap::new();
    for (tag, end) in &ends {
        let times = begun.get(tag).copied().unwrap_or(0);
        assert!(times <= 1, "{tag} began {times} times: {end:?}");
        let word = match end {
            None => "dropped".to_owned(),
            Some(Ok(text)) => {
                let is_its_own = text.starts_with(tag) || text.starts_with('x') || text.is_empty();
                assert!(is_its_own, "{tag}: {text}");
                assert_eq!(times, 1, "{tag} was answered and did not run");
                "ok".to_owned()
            }
            Some(Err(failure)) => {
                let began = match failure {
                    Failure::Timeout { started, .. } => *started,
                    Failure::Rejected { .. } | Failure::Load { .. } => false,
                    _ => true,
                };
                // A worker killed between its claim and its log has begun what it did not note.
                assert!(times <= usize::from(began), "{tag} ran and is said not to: {failure:?}");
                failure.kind().word().to_owned()
            }
        };
        *words.entry(word).or_default() += 1;
    }
    println!("{words:?} with {} workers", fakes.pids().len());
    assert!(words["ok"] > ends.len() / 3, "{words:?}");
    assert!(fakes.pids().len() > 10);
    fakes.close(&pool).await;
    drop(pool);
    until("descriptors are closed", || descriptors() <= before + 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_lives_through_many_workers_keeps_nothing_of_them() {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let mut after_first = 0;
    for round in 0..40 {
        let end = call(&pool, "sync", &format!("exit 1 r{round}"), Duration::from_secs(5)).await;
        assert!(end.result.is_err());
        let end = call(&pool, "sync", "echo 0 e", Duration::from_secs(5)).await;
        assert!(end.result.is_ok());
        if round == 3 {
            after_first = descriptors();
        }
    }
    // The other test of this program has its own.
    assert!(descriptors() < after_first + 40, "{after_first} then {}", descriptors());
    fakes.close(&pool).await;
}
