//! A zygote that breaks the rules, as the line of the `zygotes` plan that its number picks says.
//! It never forks: without Python there is nothing to fork.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use exuvia_core::Failure;
use exuvia_protocol::{Hello, Imported, Limits, Report, Said, zygote::FORK};
use exuvia_sys::packet;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Broken;

pub(crate) fn be(dir: &Path) -> Result<(), Broken> {
    let control = io::stdin().as_fd().try_clone_to_owned()?;
    let plan = my_plan(dir)?;
    let say = |said: &Said, descriptors: &[BorrowedFd<'_>]| -> Result<(), Broken> {
        Ok(packet::send(&control, &said.packet()?, descriptors)?)
    };
    let instructions = Hello::read_packet(&fs::read("/proc/self/fd/5")?)?;
    let image = instructions.image.ok_or("no image")?;
    let mut hello = Hello { python: Some("fake".into()), ..Hello::new(Limits::default()) };
    match plan.as_str() {
        "exits-at-once" => std::process::exit(3),
        "never-greets" => sleep(),
        "greets-garbage" => packet::send(&control, b"GET / HTTP/1.1", &[])?,
        "other-version" => hello.build = "0.0.0-other".into(),
        _ => {}
    }
    packet::send(&control, &hello.packet()?, &[])?;
    let item = "numpy".to_owned();
    say(&Said::Imported(Imported { item: item.clone(), us: 1000 }), &[])?;
    let threads = vec!["a-thread".into()];
    match plan.as_str() {
        "never-ready" => sleep(),
        "dies-warming" => std::process::exit(4),
        "ready-with-garbage" => packet::send(&control, &[0xc1; 3000], &[])?,
        "fails" => {
            let failure = Failure::Load { message: "no numpy".into(), traceback: "".into() };
            return say(&Said::Failed(failure), &[]);
        }
        "threads" if !image.leave_out.contains(&item) => {
            return say(&Said::Threads { item, threads }, &[]);
        }
        "same-threads" => return say(&Said::Threads { item, threads }, &[]),
        "always-threads" => {
            let item = format!("{item}{}", image.leave_out.len());
            return say(&Said::Threads { item, threads }, &[]);
        }
        "own-threads" => return say(&Said::Threads { item: String::new(), threads }, &[]),
        _ => {}
    }
    say(&Said::Ready(Report { us: 5000, modules: 7, notes: vec!["a note".into()] }), &[])?;
    match plan.as_str() {
        "ends-when-ready" => return Ok(()),
        "talks" => say(&Said::Forked { pid: 1 }, &[])?,
        _ => {}
    }
    serve(&plan, &control)
}

/// Answers requests to fork, each in the planned wrong way.
fn serve(plan: &str, control: &OwnedFd) -> Result<(), Broken> {
    let say = |said: &Said, descriptors: &[BorrowedFd<'_>]| -> Result<(), Broken> {
        Ok(packet::send(control, &said.packet()?, descriptors)?)
    };
    for asked in 1.. {
        let mut buffer = [0; 64];
        let (length, descriptors) = packet::receive(control, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        assert_eq!((&buffer[..length], descriptors.len()), (FORK, 5));
        let mine = std::process::id();
        match plan {
            "refuses" | "threads" => say(&refusal("EINVAL", false), &[])?,
            // The machine is full twice, and then it is not.
            "is-short" if asked > 2 => say(&refusal("EINVAL", false), &[])?,
            "is-short" => say(&refusal("ENOMEM", true), &[])?,
            "dies-forking" => std::process::exit(5),
            "answers-garbage" => packet::send(control, b"\xff\xff", &[])?,
            "without-process" => say(&Said::Forked { pid: mine }, &[])?,
            "no-pidfd" => say(&Said::Forked { pid: mine }, &[control.as_fd()])?,
            // Of a process that is not the host's child.
            "foreign" => {
                let child = std::process::Command::new("sleep").arg("60").spawn()?;
                let pid = Pid::from_child(&child);
                let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
                say(&Said::Forked { pid: child.id() }, &[pidfd.as_fd()])?;
            }
            "wrong-word" => say(&Said::Ready(Report::default()), &[])?,
            "waits" => {}
            other => return Err(format!("no such plan: {other}").into()),
        }
    }
    Ok(())
}

fn refusal(why: &str, passing: bool) -> Said {
    Said::NotForked { why: why.into(), passing }
}

fn sleep() {
    std::thread::sleep(Duration::from_secs(60));
}

/// This zygote's line of the plan.
fn my_plan(dir: &Path) -> Result<String, Broken> {
    let plan = fs::read_to_string(dir.join("zygotes"))?;
    let lines: Vec<&str> = plan.lines().collect();
    let mut number = 0;
    loop {
        let place = dir.join(format!("zygote-{number}"));
        match OpenOptions::new().write(true).create_new(true).open(place) {
            Ok(mut file) => {
                write!(file, "{}", std::process::id())?;
                return Ok(lines[number.min(lines.len() - 1)].to_owned());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error.into()),
        }
    }
}
