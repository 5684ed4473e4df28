//! The zygote's end of what host and zygote say to each other, and the fork itself.
//!
//! What it imports and how it makes a fork a worker is in `zygote.py`. The rules are those of
//! `docs/processes.md`.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::{Read, Seek},
    mem::ManuallyDrop,
    os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
};

use exuvia_core::Failure;
use exuvia_jail::{Layers, Sealed, Tier};
use exuvia_protocol::{
    Hello, Imported, Isolate, Jail, Limits, LoadTarget, Report, STACKS_SIGNAL, Said,
    zygote::{FORK, FORK_DESCRIPTORS, ISOLATE_DESCRIPTORS, MAX_PACKET},
};
use exuvia_sys::{
    clone::{Side, become_worker, clone_to_parent, close_from, exit_now},
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
/// Where an isolate says that it is closed in.
const REPORT_FD: i32 = 6;
/// It says so from a number that its guest cannot have: one beyond its limit of descriptors, on
/// which alone descriptors may be sent.
const PAST_LIMIT: i32 = 256;
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
    // These are found under their names.
    let source = c_str!(include_str!("scan.py"));
    PyModule::from_code(py, source, c"<exuvia scan>", c"_exuvia_scan")?;
    let source = c_str!(include_str!("chance.py"));
    PyModule::from_code(py, source, c"<exuvia chance>", c"_exuvia_chance")?;
    let source = c_str!(include_str!("source.py"));
    PyModule::from_code(py, source, c"<exuvia source>", c"_exuvia_source")?;
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
    /// Of an image for isolates. Never dropped: in an isolate its descriptors are closed already.
    sealed: RefCell<Option<ManuallyDrop<Sealed>>>,
    /// In an isolate.
    confined: Cell<bool>,
}

#[pymethods]
impl Zygote {
    /// Reads the instructions and greets the host. Gives what to do as keywords, see `zygote.py`.
    ///
    /// `own` is what this Python needs of the file system.
    fn request<'py>(
        &self,
        py: Python<'py>,
        version: String,
        own: Vec<String>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let hello = instructions()?;
        let greeting = Hello { python: Some(version), ..Hello::new(Limits::default()) };
        self.send(&greeting.packet().map_err(broken)?, None)?;
        let load = hello.load.unwrap_or_default();
        let image = hello.image.unwrap_or_default();
        self.parent.replace(image.parent);
        if let Some(jail) = image.jail {
            self.enter(jail, own)?;
        }
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
        if let Some(sealed) = self.sealed.borrow_mut().as_mut() {
            sealed.settle().map_err(unsealed)?;
        }
        notes.truncate(50);
        for note in &mut notes {
            *note = note.chars().take(200).collect();
        }
        self.say(&Said::Ready(Report { us, modules, notes }), None)
    }

    /// Forks whenever the host asks. True: this is a worker. False: the host has gone.
    fn serve(&self) -> PyResult<bool> {
        let mut buffer = [0; 4096];
        loop {
            let (length, descriptors) = {
                let control = self.control.borrow();
                let Some(control) = control.as_ref() else { return Ok(true) };
                packet::receive(control, &mut buffer)?
            };
            if length == 0 {
                return Ok(false);
            }
            let isolate = match &buffer[..length] {
                FORK => None,
                packet => Some(Isolate::read(packet).map_err(broken)?),
            };
            let wanted = if isolate.is_some() { ISOLATE_DESCRIPTORS } else { FORK_DESCRIPTORS };
            if descriptors.len() != wanted || isolate.is_some() != self.sealed.borrow().is_some() {
                return Err(broken("the host asked for what this zygote does not do"));
            }
            if self.fork(descriptors, isolate.as_ref())? {
                return Ok(true);
            }
        }
    }

    /// The engine of the worker this has become.
    fn engine(&self, py: Python<'_>) -> PyResult<Engine> {
        let engine = Engine::open(self.worker.bind(py))?;
        if self.confined.get() {
            engine.confine();
        }
        Ok(engine)
    }

    /// Whether this is an isolate.
    #[getter]
    fn confined(&self) -> bool {
        self.confined.get()
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
            sealed: RefCell::new(None),
            confined: Cell::new(false),
        }
    }

    /// Moves into the image's own root.
    fn enter(&self, jail: Jail, own: Vec<String>) -> PyResult<()> {
        let tier = [Tier::Full, Tier::Reduced, Tier::None];
        let tier = tier.into_iter().find(|tier| tier.word() == jail.tier);
        let tier = tier.ok_or_else(|| broken("the host wants a tier that is none"))?;
        let image = exuvia_jail::Image {
            tier,
            view: own.into_iter().chain(jail.view).map(Into::into).collect(),
            store: jail.store.map(Into::into),
            user: jail.user,
        };
        let sealed = exuvia_jail::enter(&image).map_err(unsealed)?;
        self.sealed.replace(Some(ManuallyDrop::new(sealed)));
        Ok(())
    }

    /// Forks one worker, or one isolate. True in the worker.
    fn fork(&self, descriptors: Vec<OwnedFd>, isolate: Option<&Isolate>) -> PyResult<bool> {
        let namespaces = match (self.sealed.borrow().as_ref(), isolate) {
            (Some(sealed), Some(isolate)) => {
                sealed.clone_flags_with(Layers::from_bits(isolate.layers))
            }
            _ => 0,
        };
        // JUSTIFICATION: the interpreter is to be told of a fork that it does not make itself.
        // SAFETY: we hold the interpreter, as all of these ask; `clone_to_parent` sees that there
        // is no other thread, and this one starts none in between.
        let side = unsafe {
            PyOS_BeforeFork();
            clone_to_parent(namespaces)
        };
        let said = match side {
            Ok(Side::Child) => {
                self.become_worker(descriptors, isolate.is_some());
                if let Some(isolate) = isolate {
                    self.confine(isolate);
                }
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

    fn become_worker(&self, descriptors: Vec<OwnedFd>, is_isolate: bool) {
        // What it owns gets another meaning now, and is not ours to close.
        let control = self.control.take().map(IntoRawFd::into_raw_fd);
        debug_assert_eq!(control, Some(CONTROL_FD));
        // In a pid namespace of its own nobody has a parent.
        let parent = Some(*self.parent.borrow()).filter(|_| !is_isolate);
        if become_worker(parent, WORKER_NAME, descriptors).is_err() {
            exit_now(NOT_A_WORKER);
        }
        // JUSTIFICATION: as in `fork`.
        // SAFETY: this is the child, on the one thread there is, which holds the interpreter.
        unsafe { PyOS_AfterFork_Child() };
    }

    /// Closes this fork in, and says so; or ends it.
    fn confine(&self, isolate: &Isolate) {
        let sealed = self.sealed.borrow();
        let Some(sealed) = sealed.as_ref() else { exit_now(NOT_A_WORKER) };
        let policy = exuvia_jail::Isolate {
            bundle: isolate.bundle.clone(),
            session: exuvia_jail::Session {
                writable: isolate.writable,
                bytes: isolate.bytes,
                inodes: isolate.inodes,
            },
            memory: isolate.memory,
            threads: isolate.threads,
            session_folder: isolate.session.clone().map(Into::into),
            layers: exuvia_jail::Layers::from_bits(isolate.layers),
        };
        // JUSTIFICATION: descriptors are handed down by number.
        // SAFETY: the host gave it to this fork for nothing else, and it is open: the placing of
        // the descriptors has just succeeded.
        let report = unsafe { BorrowedFd::borrow_raw(REPORT_FD) };
        let Ok(report) = rustix::io::fcntl_dupfd_cloexec(report, PAST_LIMIT) else {
            exit_now(NOT_A_WORKER)
        };
        let report = ManuallyDrop::new(report);
        let confined = exuvia_jail::confine(sealed, &policy);
        let (said, descriptors) = match &confined {
            Ok(confined) => {
                let session = confined.session.iter().map(AsFd::as_fd);
                let descriptors = confined.listener.iter().map(AsFd::as_fd).chain(session);
                (Said::Confined { baseline: confined.baseline }, descriptors.collect())
            }
            Err(error) => (Said::Unconfined { why: error.to_string() }, Vec::new()),
        };
        let packet = said.packet().unwrap_or_default();
        let sent = packet::send(&*report, &packet, &descriptors);
        // They are closed below, with all others.
        std::mem::forget(confined);
        // JUSTIFICATION: what the image had open is not for guests, whoever in it owns it.
        // SAFETY: what owned these in Rust is `self.sealed` and `confined`, which are never dropped
        // or used again in this process; what owned them in Python gets an error.
        let closed = unsafe { close_from(REPORT_FD as u32) };
        if matches!(said, Said::Unconfined { .. }) || sent.is_err() || closed.is_err() {
            exit_now(NOT_A_WORKER);
        }
        self.confined.set(true);
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

fn unsealed(error: exuvia_jail::JailError) -> PyErr {
    PyOSError::new_err(format!("the image cannot be closed in: {error}"))
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
