//! A host, its image and one guest, without Python: `jailed KEY=VALUE... -- ATTEMPT...`.
//!
//! The guest makes one attempt after the other, in words separated by blanks (`attempts.rs`), and
//! says in a line what came of each. The host adds what it heard and measured.
//!
//! Keys: `tier`, `view` (paths separated by colons), `store`, `user`, `bundle`, `bytes` and `inodes`
//! (without: `/session` is not writable), `memory`, `threads`, `folder`, `without` (bits of layers),
//! `grant` (memory that the host sets later), `times` (only measures so many isolates).

#![allow(clippy::print_stdout, reason = "it tells the tests what happened")]

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    process::exit,
    time::{Duration, Instant},
};

use exuvia_jail::{
    Image, Isolate, Layers, Listener, Sealed, Session, Tier, confine, cpu_time, enter,
    session_files, session_usage, set_memory,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    pipe::{PipeFlags, pipe_with},
};

mod attempts;
mod passing;

/// How long a guest may take.
const DEADLINE: Duration = Duration::from_secs(40);
const PR_GET_TID_ADDRESS: libc::c_int = 40;

struct Options {
    values: HashMap<String, String>,
    attempts: Vec<String>,
}

impl Options {
    fn read() -> Self {
        let mut arguments = std::env::args().skip(1);
        let pairs = arguments.by_ref().take_while(|argument| argument != "--");
        let values = pairs.filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        });
        Self { values: values.collect(), attempts: arguments.collect() }
    }

    fn text(&self, key: &str) -> Option<String> {
        self.values.get(key).cloned()
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.values.get(key).map(|value| value.parse().expect("a number"))
    }

    fn tier(&self) -> Tier {
        match self.values.get("tier").map(String::as_str) {
            Some("reduced") => Tier::Reduced,
            Some("none") => Tier::None,
            _ => Tier::Full,
        }
    }

    fn image(&self) -> Image {
        let view = self.text("view").unwrap_or_default();
        Image {
            tier: self.tier(),
            view: view.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect(),
            store: self.text("store").map(PathBuf::from),
            user: self.number("user").map(|user| (user as u32, user as u32)),
        }
    }

    fn isolate(&self) -> Isolate {
        let bytes = self.number("bytes");
        Isolate {
            bundle: self.text("bundle"),
            session: Session {
                writable: bytes.is_some(),
                bytes: bytes.unwrap_or(0),
                inodes: self.number("inodes").unwrap_or(100),
            },
            memory: self.number("memory").unwrap_or(64 << 20),
            threads: self.number("threads").unwrap_or(8) as u32,
            session_folder: self.text("folder").map(PathBuf::from),
            layers: Layers::ALL
                .without(Layers::from_bits(self.number("without").unwrap_or(0) as u32)),
        }
    }

    fn writable(&self) -> Option<PathBuf> {
        self.number("bytes")?;
        match self.tier() {
            Tier::Full => Some("/session".into()),
            _ => self.text("folder").map(PathBuf::from),
        }
    }
}

fn main() {
    let options = Options::read();
    let (output, guest_output) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
    let (output, guest_output) = (passing::high(output), passing::high(guest_output));
    let (host, image) = passing::pair();
    // SAFETY: this program has one thread.
    if unsafe { libc::fork() } == 0 {
        drop((output, host));
        be_image(&options, passing::at_channel(image), guest_output);
    }
    drop((guest_output, image));
    if options.number("times").is_some() {
        return BufReader::new(File::from(output))
            .lines()
            .map_while(Result::ok)
            .for_each(|line| println!("{line}"));
    }
    be_host(&options, host, output);
}

fn be_image(options: &Options, channel: OwnedFd, mut output: OwnedFd) -> ! {
    let say = |output: &mut OwnedFd, line: String| {
        let _ = File::from(output.try_clone().expect("dup")).write_all(line.as_bytes());
    };
    let mut sealed = match enter(&options.image()) {
        Ok(sealed) => sealed,
        Err(error) => {
            say(&mut output, format!("image: {error}\n"));
            exit(1)
        }
    };
    sealed.settle().expect("settled");
    if let Some(times) = options.number("times") {
        measure(options, &sealed, times, &mut output);
    }
    let isolate = options.isolate();
    let before = Instant::now();
    if let Some(pid) = clone(&sealed, isolate.layers, true) {
        passing::send(&channel, &pid.to_ne_bytes(), &[]);
        exit(0)
    }
    match confine(&sealed, &isolate) {
        Ok(confined) => {
            let took = before.elapsed();
            let descriptors: Vec<_> =
                confined.listener.iter().chain(&confined.session).map(AsFd::as_fd).collect();
            // On descriptor 3, from which alone descriptors may go.
            let told = [confined.baseline, took.as_micros() as u64].map(u64::to_ne_bytes).concat();
            passing::send(&channel, &told, &descriptors);
        }
        Err(error) => {
            say(&mut output, format!("isolate: {error}\n"));
            exit(120)
        }
    }
    passing::receive(&channel);
    attempts::prepare();
    for attempt in &options.attempts {
        let came = attempts::make(attempt);
        say(&mut output, format!("{attempt}: {came}\n"));
    }
    exit(0)
}

/// How long isolates take to be cloned and to close themselves in.
fn measure(options: &Options, sealed: &Sealed, times: u64, output: &mut OwnedFd) -> ! {
    let isolate = options.isolate();
    for _ in 0..times {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("pipe");
        let start = Instant::now();
        if clone(sealed, isolate.layers, false).is_none() {
            let cloned = Instant::now();
            let _kept = confine(sealed, &isolate).expect("confined");
            let line =
                format!("{} {}\n", (cloned - start).as_micros(), cloned.elapsed().as_micros());
            File::from(write).write_all(line.as_bytes()).expect("told");
            exit(0)
        }
        drop(write);
        let mut line = Vec::new();
        File::from(read).read_to_end(&mut line).expect("told");
        // SAFETY: waits for any child.
        unsafe { libc::wait(std::ptr::null_mut()) };
        File::from(output.try_clone().expect("dup")).write_all(&line).expect("told");
    }
    exit(0)
}

/// `None` in the isolate.
fn clone(sealed: &Sealed, layers: Layers, to_parent: bool) -> Option<u32> {
    let parent = if to_parent { libc::CLONE_PARENT } else { 0 };
    let own = parent | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD;
    let flags = own as u64 | sealed.clone_flags_with(layers);
    let mut tid: *mut libc::pid_t = std::ptr::null_mut();
    // SAFETY: one thread; the copy has memory of its own, and `tid` is the C library's place.
    let pid = unsafe {
        libc::prctl(PR_GET_TID_ADDRESS, &raw mut tid);
        if cfg!(target_arch = "x86_64") {
            libc::syscall(libc::SYS_clone, flags, 0_u64, 0_u64, tid, 0_u64)
        } else {
            libc::syscall(libc::SYS_clone, flags, 0_u64, 0_u64, 0_u64, tid)
        }
    };
    assert!(pid >= 0, "clone: {}", std::io::Error::last_os_error());
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

fn be_host(options: &Options, channel: OwnedFd, output: OwnedFd) {
    let mut pid = 0;
    let mut confined = None;
    // Image and isolate speak in any order.
    while pid == 0 || confined.is_none() {
        let (told, descriptors) = passing::receive(&channel);
        match told.len() {
            4 => pid = u32::from_ne_bytes(told[..4].try_into().expect("four")),
            16 => confined = Some((told, descriptors)),
            _ => break,
        }
    }
    let Some((told, mut descriptors)) = confined else {
        BufReader::new(File::from(output))
            .lines()
            .map_while(Result::ok)
            .for_each(|line| println!("{line}"));
        return;
    };
    let number = |at: usize| u64::from_ne_bytes(told[at..at + 8].try_into().expect("eight"));
    println!("baseline: {}", number(0));
    println!("took: {}", number(8));
    let has_session = options.writable().is_some();
    let session = if has_session { descriptors.pop() } else { None };
    let listener = descriptors.pop();
    let listener = listener.map(|fd| Listener::new(fd, options.tier(), options.writable()));
    if let Some(grant) = options.number("grant") {
        set_memory(pid, number(0) + grant).expect("granted");
    }
    passing::send(&channel, b"go", &[]);
    let lines = attend(listener.as_ref(), output, pid);
    print!("{lines}");
    println!("cpu: {}", cpu_time(pid).expect("its clock").as_micros());
    if let Some(session) = session {
        let usage = session_usage(session.as_fd()).expect("usage");
        let [bytes, limit] = [usage.bytes, usage.bytes_limit];
        println!("usage: {bytes} {limit} {} {}", usage.inodes, usage.inodes_limit);
        for (path, size) in session_files(session.as_fd(), 100) {
            println!("left: {path} {size}");
        }
    }
    let mut status = 0;
    // SAFETY: the call writes one number.
    unsafe { libc::waitpid(pid as i32, &raw mut status, libc::__WALL) };
    match libc::WIFSIGNALED(status) {
        true => println!("ended: signal {}", libc::WTERMSIG(status)),
        false => println!("ended: status {}", libc::WEXITSTATUS(status)),
    }
}

/// Hears of refusals until the guest has closed its output, that is ended.
fn attend(listener: Option<&Listener>, output: OwnedFd, pid: u32) -> String {
    let start = Instant::now();
    let mut text = Vec::new();
    let mut output = File::from(output);
    loop {
        let mut fds = vec![PollFd::new(&output, PollFlags::IN)];
        fds.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
        let moment = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        poll(&mut fds, Some(&moment)).expect("poll");
        let is_readable = !fds[0].revents().is_empty();
        while let Some(denial) = listener.and_then(|listener| listener.next().expect("heard")) {
            let path = denial.path.as_deref().unwrap_or("-").to_owned();
            let raised =
                denial.raised().map_or(String::new(), |signal| format!(" raised {signal}"));
            println!("denied: {} {path} by {}{raised}", denial.name, denial.pid == pid);
        }
        let mut buffer = [0; 4096];
        if is_readable {
            match output.read(&mut buffer).expect("read") {
                0 => return String::from_utf8_lossy(&text).into_owned(),
                length => text.extend(&buffer[..length]),
            }
        }
        if start.elapsed() > DEADLINE {
            println!("late: true");
            // SAFETY: the process is not reaped yet.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
    }
}
