//! The zygote's end of what host and zygote say to each other, and the fork itself.
//!
//! What it imports and how it makes a fork a worker is in `zygote.py`. The rules are those of
//! `docs/processes.md`.

use std::{
    cell::RefCell,
    fs::File,
    io::{Read, Seek},
    os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd},
};

use exuvia_core::Failure;
use exuvia_protocol::{
    Hello, Imported, Limits, LoadTarget, Report, STACKS_SIGNAL, Said,
    zygote::{FORK, FORK_DESCRIPTORS, MAX_PACKET},
};
use exuvia_sys::{
    clone::{Side, become_worker, clone_to_parent, exit_now},
    packet,
};
use pyo3::{
    exceptions::PyOSError,
    ffi::{PyOS_AfterFork_Child, PyOS_AfterFork_Parent, PyOS_BeforeFork, c_str},
    prelude::*,
    types::{PyDict, PyModule},
};
use rustix::io::Errno;

use crate::engine::{Engine, WORKER_NAME, broken, worker_module};
use crate::{convert, plan};

/// The descriptors a zygote is given.
const CONTROL_FD: i32 = 3;
const INSTRUCTIONS_FD: i32 = 5;
/// The name of a zygote's process.
const ZYGOTE_NAME: &std::ffi::CStr = c"exuvia-zygote";
/// The status of a fork that could not be made a worker.
const NOT_A_WORKER: i32 = 120;

/// Runs this process as a zygote; in each process it forks, as a worker. Called once, by the host's
/// bootstrap.
///
/// # Errors
/// The descriptors are not what a host gives; or the host broke the protocol.
#[pyfunction]
pub fn zygote_main(py: Python<'_>) -> PyResult<()> {
    let worker = worker_module(py)?;
    convert::warm(py)?;
    plan::sources::compiler(py)?;
    // `zygote.py` finds these two under their names.
    let source = c_str!(include_str!("scan.py"));
    PyModule::from_code(py, source, c"<exuvia scan>", c"_exuvia_scan")?;
    let source = c_str!(include_str!("chance.py"));
    PyModule::from_code(py, source, c"<exuvia chance>", c"_exuvia_chance")?;
    let source = c_str!(include_str!("zygote.py"));
    let python = PyModule::from_code(py, source, c"<exuvia zygote>", c"_exuvia_zygote")?;
    let zygote = Bound::new(py, Zygote::open(&worker))?;
    let _ = rustix::thread::set_name(ZYGOTE_NAME);
    python.getattr("main")?.call1((worker, zygote, STACKS_SIGNAL))?;
    Ok(())
}

/// A zygote's state.
#[pyclass(unsendable, frozen, module = "_exuvia_runtime")]
pub struct Zygote {
    /// `None` in a worker, where another socket lies in its place.
    control: RefCell<Option<OwnedFd>>,
    worker: Py<PyModule>,
    parent: RefCell<u32>,
}

#[pymethods]
impl Zygote {
    /// Reads the instructions and greets the host. Gives what to do as keywords, see `zygote.py`.
    fn request<'py>(&self, py: Python<'py>, version: String) -> PyResult<Bound<'py, PyDict>> {
        let hello = instructions()?;
        let greeting = Hello { python: Some(version), ..Hello::new(Limits::default()) };
        self.send(&greeting.packet().map_err(broken)?, None)?;
        let load = hello.load.unwrap_or_default();
        let image = hello.image.unwrap_or_default();
        self.parent.replace(image.parent);
        let target = |target: LoadTarget| (target.module, target.file, target.attribute);
        let targets: Vec<_> = load.targets.into_iter().map(target).collect();
        let warm: Vec<_> = load.warm.into_iter().map(target).collect();
        let request = PyDict::new(py);
        request.set_item("search_path", load.search_path)?;
        request.set_item("targets", targets)?;
        request.set_item("preload", load.preload)?;
        request.set_item("warm", warm)?;
        request.set_item("leave_out", image.leave_out)?;
        request.set_item("environment", image.environment)?;
        request.set_item("blas_threads", image.blas_threads)?;
        Ok(request)
    }

    /// Says that one more item is in the image.
    fn imported(&self, item: String, us: u64) -> PyResult<()> {
        self.say(&Said::Imported(Imported { item, us }), None)
    }

    /// Says which item started threads.
    fn threads(&self, item: String, threads: Vec<String>) -> PyResult<()> {
        self.say(&Said::Threads { item, threads }, None)
    }

    /// Says that the image cannot be made.
    fn failed(&self, message: String, traceback: String) -> PyResult<()> {
        // Longer ones would not fit a packet.
        let traceback = traceback.chars().take(MAX_PACKET / 8).collect();
        let message = message.chars().take(MAX_PACKET / 16).collect();
        self.say(&Said::Failed(Failure::Load { message, traceback }), None)
    }

    /// Says that the image is complete.
    fn ready(&self, us: u64, modules: u64, mut notes: Vec<String>) -> PyResult<()> {
        notes.truncate(50);
        for note in &mut notes {
            *note = note.chars().take(200).collect();
        }
        self.say(&Said::Ready(Report { us, modules, notes }), None)
    }

    /// Forks whenever the host asks. True: this is a worker. False: the host has gone.
    fn serve(&self) -> PyResult<bool> {
        let mut buffer = [0; 64];
        loop {
            let (length, descriptors) = {
                let control = self.control.borrow();
                let Some(control) = control.as_ref() else { return Ok(true) };
                packet::receive(control, &mut buffer)?
            };
            if length == 0 {
                return Ok(false);
            }
            if &buffer[..length] != FORK || descriptors.len() != FORK_DESCRIPTORS {
                return Err(broken("the host asked for what no zygote does"));
            }
            if self.fork(descriptors)? {
                return Ok(true);
            }
        }
    }

    /// The engine of the worker this has become.
    fn engine(&self, py: Python<'_>) -> PyResult<Engine> {
        Engine::open(self.worker.bind(py))
    }
}

impl Zygote {
    fn open(worker: &Bound<'_, PyModule>) -> Self {
        // JUSTIFICATION: descriptors are handed down by number.
        // SAFETY: the host gives this one to a zygote and nobody else in this process knows it;
        // `zygote_main` is called once. If it is not open, the first packet fails and says so.
        let control = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
        Self {
            control: RefCell::new(Some(control)),
            worker: worker.clone().unbind(),
            parent: RefCell::new(0),
        }
    }

    /// Forks one worker. True in the worker.
    fn fork(&self, descriptors: Vec<OwnedFd>) -> PyResult<bool> {
        // JUSTIFICATION: the interpreter is to be told of a fork that it does not make itself.
        // SAFETY: we hold the interpreter, as all of these ask; `clone_to_parent` sees that there
        // is no other thread, and this one starts none in between.
        let side = unsafe {
            PyOS_BeforeFork();
            clone_to_parent()
        };
        let said = match side {
            Ok(Side::Child) => {
                self.become_worker(descriptors);
                return Ok(true);
            }
            Ok(Side::Caller { pid, pidfd }) => (Said::Forked { pid }, Some(pidfd)),
            Err(error) => {
                let passing = [Errno::AGAIN, Errno::NOMEM].map(|errno| Some(errno.raw_os_error()));
                let passing = passing.contains(&error.raw_os_error());
                (Said::NotForked { why: error.to_string(), passing }, None)
            }
        };
        // JUSTIFICATION and SAFETY: as above, on this side of the fork.
        unsafe { PyOS_AfterFork_Parent() };
        drop(descriptors);
        self.say(&said.0, said.1).map(|()| false)
    }

    fn become_worker(&self, descriptors: Vec<OwnedFd>) {
        // What it owns gets another meaning now, and is not ours to close.
        let control = self.control.take().map(IntoRawFd::into_raw_fd);
        debug_assert_eq!(control, Some(CONTROL_FD));
        if become_worker(*self.parent.borrow(), WORKER_NAME, descriptors).is_err() {
            exit_now(NOT_A_WORKER);
        }
        // JUSTIFICATION: as in `fork`.
        // SAFETY: this is the child, on the one thread there is, which holds the interpreter.
        unsafe { PyOS_AfterFork_Child() };
    }

    fn say(&self, said: &Said, descriptor: Option<OwnedFd>) -> PyResult<()> {
        self.send(&said.packet().map_err(broken)?, descriptor)
    }

    fn send(&self, packet: &[u8], descriptor: Option<OwnedFd>) -> PyResult<()> {
        let control = self.control.borrow();
        let Some(control) = control.as_ref() else { return Ok(()) };
        let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
        packet::send(control, packet, &descriptors)?;
        Ok(())
    }
}

/// What the host wrote down for this zygote. The descriptor stays open: its number is a worker's
/// later.
fn instructions() -> PyResult<Hello> {
    // JUSTIFICATION: descriptors are handed down by number.
    // SAFETY: as for the control socket; it is given back below.
    let mut file = unsafe { File::from_raw_fd(INSTRUCTIONS_FD) };
    let mut text = Vec::new();
    let read = file.rewind().and_then(|()| file.read_to_end(&mut text));
    let _ = file.into_raw_fd();
    let not_a_zygote = |error| {
        PyOSError::new_err(format!("this process was not started by an exuvia host: {error}"))
    };
    read.map_err(not_a_zygote)?;
    Hello::read_packet(&text).map_err(broken)
}
