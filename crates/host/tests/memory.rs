//! Calls and results in memory that both sides share, and calls that are fed while they run.

mod support;

use std::{
    io::{ErrorKind, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, Instant},
};

use exuvia_core::{Call, Codec, Failure, Feed, OutcomeFuture, Payload, Region};
use exuvia_host::Pool;
use exuvia_sys::Sealed;
use support::{Fakes, ask, call, end, memory, until};
use tokio::sync::Mutex;

const LONG: Duration = Duration::from_secs(20);

/// Memory is the whole process's.
static ALONE: Mutex<()> = Mutex::const_new(());

fn region(bytes: &[u8]) -> Region {
    let sealed = Sealed::holding(bytes).expect("memory");
    Region { memory: sealed.memory().clone(), length: sealed.length() }
}

/// A payload that lies in memory, as a front end makes it.
fn in_memory(body: &[u8]) -> Payload {
    let sealed = Sealed::holding(body).expect("memory");
    let region = Region { memory: sealed.memory().clone(), length: sealed.length() };
    let body = sealed.bytes().expect("a view");
    Payload { codec: Codec::Json, body, region: Some(region), ..Payload::default() }
}

/// Descriptors of payloads' memory that this process has open.
fn memories() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("fd").flatten();
    let links = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("/memfd:exuvia-payload")).count()
}

fn call_with(pool: &Arc<Pool>, payload: Payload) -> OutcomeFuture {
    let call = Call { payload, timeout: Some(LONG), ..Call::default() };
    pool.target("m:sync").expect("the handler").call(call)
}

async fn result(future: OutcomeFuture) -> Payload {
    let outcome = tokio::time::timeout(LONG, future).await.expect("the call ends");
    outcome.result.expect("a result")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_in_memory_arrives_as_it_was_made_and_can_be_passed_on() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for size in [1, 4095, 4096, 5_000_000] {
        let payload = result(call(&pool, "sync", &format!("memory {size} abc"), LONG)).await;
        let expected: Vec<u8> = b"abc".iter().copied().cycle().take(size).collect();
        assert!(payload.body == expected, "{size} bytes");
        let region = payload.region.expect("its memory");
        assert_eq!(region.length, size as u64);
        let again = Sealed::open(region.memory, region.length).expect("sealed");
        assert!(again.bytes().expect("a view") == expected);
    }
    let nothing = result(call(&pool, "sync", "memory 0 abc", LONG)).await;
    assert!(nothing.body.is_empty());
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_attached_arrives_in_order_both_ways() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for count in [1, 64] {
        let payload = result(call(&pool, "sync", &format!("attach {count} t"), LONG)).await;
        assert_eq!((&payload.body[..], &payload.region), (&b"t"[..], &None));
        let sizes: Vec<u64> = payload.attached.iter().map(|region| region.length).collect();
        assert_eq!(sizes, (1..=count).collect::<Vec<u64>>());
        let attached = payload.attached.clone();
        let with = Payload { attached, ..Payload::json("weigh 0 w") };
        let listed: Vec<String> = sizes.iter().map(u64::to_string).collect();
        let answer = end(call_with(&pool, with)).await;
        assert_eq!(answer, Ok(format!("w None {}", listed.join(","))));
    }
    let body = in_memory(b"weigh 0 both");
    let both = Payload { attached: vec![region(b"12"), region(b"123456")], ..body };
    assert_eq!(end(call_with(&pool, both)).await, Ok("both Some(12) 12,2,6".into()));
    // One more than a frame may have is refused before any worker sees it.
    let many = Payload { attached: vec![region(b"1"); 65], ..Payload::json("weigh 0 many") };
    let refused = end(call_with(&pool, many)).await;
    assert!(matches!(refused, Err(Failure::Input { .. })), "{refused:?}");
    assert_eq!(fakes.times("many"), 0);
    fakes.close(&pool).await;
}

/// A worker does `command` while three calls wait behind it: what becomes of it.
async fn misdeed(command: &str) -> Result<String, Failure> {
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
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
async fn memory_that_a_worker_could_still_change_or_lies_about_is_not_taken() {
    let _alone = ALONE.lock().await;
    let over = 1_u64 << 40;
    let wrong = [
        ("unsealed 5000 t".to_owned(), "the memory is not sealed"),
        ("shrinkable 5000 t".to_owned(), "the memory is not sealed"),
        ("writable 5000 t".to_owned(), "the memory is not sealed"),
        ("short 5000 t".to_owned(), "shorter than it was said to be"),
        ("pipe 5 t".to_owned(), "the memory is not sealed"),
        ("file 5 t".to_owned(), "the memory is not sealed"),
        ("attached-pipe 0 t".to_owned(), "the memory is not sealed"),
        ("attached-unsealed 5000 t".to_owned(), "the memory is not sealed"),
        (format!("attached-huge {over} t"), "are allowed"),
        ("attached-many 65 t".to_owned(), "number of descriptors"),
        ("crowd 200 t".to_owned(), "its descriptors could not all be taken"),
        ("untaken 0 t".to_owned(), "descriptors that no frame takes"),
    ];
    for (command, words) in wrong {
        match misdeed(&command).await {
            Err(Failure::Host { message }) => {
                assert!(message.contains("broke the protocol"), "`{command}`: {message}");
                assert!(message.contains(words), "`{command}`: {message}");
            }
            other => panic!("`{command}`: {other:?}"),
        }
    }
    until("none of it is kept", || memories() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_with_memory_leave_no_descriptor_and_no_mapping() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let size = 200_000;
    let mut body = format!("memory {size} abc ").into_bytes();
    body.resize(size, b' ');
    let once = async || {
        let with = Payload { attached: vec![region(b"1"); 3], ..in_memory(&body) };
        let payload = result(call_with(&pool, with)).await;
        assert_eq!(payload.body.len(), size);
        assert_eq!(result(call(&pool, "sync", "attach 5 a", LONG)).await.attached.len(), 5);
    };
    for _ in 0..50 {
        once().await;
    }
    let resident = memory();
    for _ in 0..500 {
        once().await;
    }
    until("none is kept", || memories() == 0).await;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
    assert!(!maps.contains("memfd:exuvia-payload"), "{maps}");
    let grown = memory().saturating_sub(resident);
    assert!(grown < 20 << 20, "{} KiB more", grown >> 10);
    fakes.close(&pool).await;
}

// === Fed calls ===

/// A call that is fed, and the end to feed it by.
fn fed(pool: &Arc<Pool>) -> (OutcomeFuture, UnixStream) {
    let (reader, feeder) = UnixStream::pair().expect("a pair");
    let feed = Some(Feed(Arc::new(reader.into())));
    (call_with(pool, Payload { codec: Codec::Json, feed, ..Payload::default() }), feeder)
}

fn give(feeder: &mut UnixStream, piece: &[u8]) {
    feeder.write_all(&(piece.len() as u32).to_le_bytes()).expect("written");
    feeder.write_all(piece).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fed_call_begins_before_its_data_is_there_and_reads_all_of_it() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let (future, mut feeder) = fed(&pool);
    let future = tokio::spawn(end(future));
    give(&mut feeder, b"feed 0 t");
    until("it runs", || fakes.times("t") == 1).await;
    give(&mut feeder, b"-and-");
    give(&mut feeder, b"more");
    give(&mut feeder, b"");
    assert_eq!(future.await.expect("an end"), Ok("t-and-more".into()));
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feeder_is_told_when_nobody_reads_any_more() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    let (future, mut feeder) = fed(&pool);
    let future = tokio::spawn(end(future));
    give(&mut feeder, b"feed-no-more 3000 t");
    let began = Instant::now();
    let told = tokio::task::spawn_blocking(move || while feeder.write_all(&[0; 4096]).is_ok() {});
    tokio::time::timeout(LONG, told).await.expect("told").expect("no panic");
    assert!(began.elapsed() < Duration::from_millis(2500), "only with the call's end");
    assert_eq!(future.await.expect("an end"), Ok("t".into()));
    // And by the end of a call that never ran.
    let blocker = call(&pool, "sync", "block 300 b", LONG);
    until("it runs", || fakes.times("b") == 1).await;
    let (waiting, mut feeder) = fed(&pool);
    drop(waiting);
    feeder.set_nonblocking(true).expect("set");
    until("nobody will read it", || {
        feeder.write(b"x").is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
    .await;
    assert_eq!(end(blocker).await, Ok("b".into()));
    fakes.close(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fed_call_that_had_not_begun_is_fed_to_the_next_worker() {
    let _alone = ALONE.lock().await;
    let fakes = Fakes::new("good");
    let pool = fakes.pool(|_| {}).await;
    for _ in 0..3 {
        assert!(ask(&pool, "sync", "echo 0 warm").await.is_ok());
    }
    let dying = call(&pool, "sync", "die 9 d", LONG);
    let (future, mut feeder) = fed(&pool);
    give(&mut feeder, b"feed 0 t");
    give(&mut feeder, b"");
    assert!(matches!(end(dying).await, Err(Failure::Crash { .. })));
    assert_eq!(end(future).await, Ok("t".into()));
    assert_eq!(fakes.times("t"), 1);
    fakes.close(&pool).await;
}
