//! The one thread that starts processes.
//!
//! The kernel kills a worker when the thread that started it (or its zygote) ends, so one thread
//! that lives as long as this process starts them all, whichever thread asks. Its children are our
//! processes and nobody else's, also inside a program that has children of its own.

use std::{
    io,
    sync::{
        OnceLock,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use exuvia_sys::{Process, Spawn};
use tokio::sync::oneshot;

/// No fork is under way for so long: a child of which nobody knows by then is nobody's.
const STRAY: Duration = Duration::from_secs(30);
/// When to look for forks that a lost zygote did not tell of: they end by themselves, in a moment.
const LOOKS: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(200), Duration::from_secs(2)];

enum Request {
    Spawn(Box<Spawn>, oneshot::Sender<io::Result<Process>>),
    ReapStrays,
    BuryStrays,
}

/// Has the nursery start a process.
pub(crate) async fn spawn(request: Spawn) -> io::Result<Process> {
    let (reply, process) = oneshot::channel();
    let gone = || io::Error::other("the thread that starts workers is gone");
    send(Request::Spawn(Box::new(request), reply))?;
    process.await.map_err(|_| gone())?
}

/// Has the nursery bury children of which nobody knows: a zygote that was killed in the moment
/// between a fork and its report leaves one.
pub(crate) fn reap_strays() {
    // Without a nursery there are no children.
    let _ = send(Request::ReapStrays);
}

/// Has the nursery do the same several times from now on, whoever lives to see it: a zygote is gone.
pub(crate) fn bury_strays() {
    let _ = send(Request::BuryStrays);
}

fn send(request: Request) -> io::Result<()> {
    static NURSERY: OnceLock<io::Result<Sender<Request>>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (sender, requests) = channel::<Request>();
        thread::Builder::new().name("exuvia-nursery".into()).spawn(move || work(&requests))?;
        Ok(sender)
    });
    let nursery = nursery.as_ref().map_err(|error| io::Error::from(error.kind()))?;
    nursery.send(request).map_err(|_| io::Error::other("the thread that starts workers is gone"))
}

fn work(requests: &Receiver<Request>) {
    let mut looks: Vec<Instant> = Vec::new();
    loop {
        let next = looks.iter().min().map(|at| at.saturating_duration_since(Instant::now()));
        let request = match next {
            Some(next) => requests.recv_timeout(next),
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match request {
            // A pool that is gone drops the process, which ends it.
            Ok(Request::Spawn(request, reply)) => drop(reply.send(exuvia_sys::spawn(*request))),
            Ok(Request::ReapStrays) => reap(),
            Ok(Request::BuryStrays) => looks.extend(LOOKS.map(|wait| Instant::now() + wait)),
            Err(RecvTimeoutError::Timeout) => {
                looks.retain(|at| *at > Instant::now());
                reap();
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn reap() {
    let thread = rustix::thread::gettid().as_raw_nonzero().get() as u32;
    let reaped = exuvia_sys::reap_strays(thread, Some(STRAY));
    if reaped > 0 {
        tracing::debug!(reaped, "buried forks that nobody had heard of");
    }
}
