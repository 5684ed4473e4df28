//! A call of a sandbox, from its beginning to its end as Python sees it.

use std::{
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    os::fd::AsRawFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use exuvia_core::{Copied, Diagnostics, Failure, Outcome, Payload};
use exuvia_host::{
    Stream,
    sandbox::{Job, LiveOutput, SandboxOutcome},
};
use exuvia_runtime::{
    attach::Attachments,
    data::Data,
    values::{DecodeError, DecodeOptions, decode_value_with},
};
use exuvia_tables::Limits;
use pyo3::{
    exceptions::{PyException, PyRuntimeError},
    prelude::*,
    types::PyBytes,
};
use tokio::{runtime::Runtime, sync::watch, task::AbortHandle};

use crate::result::{as_object, call_error};

/// How long a waiting thread is deaf to Ctrl-C.
const DEAF: Duration = Duration::from_millis(50);

/// A call that was begun. Dropping it ends the call and its isolate.
#[pyclass(frozen, module = "exuvia._native")]
pub struct Running {
    /// The process that began it.
    pid: u32,
    /// Taken out by who listens.
    messages: Mutex<Option<Receiver<Message>>>,
    task: AbortHandle,
    bell: Option<Arc<Bell>>,
    /// What was copied of the arguments.
    copies: Vec<Copied>,
}

/// What is to be called, and how it is heard.
pub(super) struct Asked {
    pub(super) job: Job,
    pub(super) live: bool,
    pub(super) belled: bool,
    pub(super) copies: Vec<Copied>,
}

enum Message {
    Printed(Stream, Vec<u8>),
    Ended(Box<SandboxOutcome>),
    /// The sandbox was closed.
    Closed,
}

/// A descriptor that can be read when there are messages.
struct Bell {
    reader: PipeReader,
    writer: PipeWriter,
    /// There is a byte in it.
    rung: AtomicBool,
}

/// Sends messages to who listens.
#[derive(Clone)]
struct Teller {
    sender: mpsc::Sender<Message>,
    bell: Option<Arc<Bell>>,
}

/// The value or the exception, and the outcome's document.
type End<'py> = (Option<Bound<'py, PyAny>>, Option<Bound<'py, PyAny>>, Bound<'py, PyAny>);

#[pymethods]
impl Running {
    /// Waits for the end, and lets Ctrl-C through: the call is then ended. `sink` takes what is
    /// printed: 1 or 2 for the stream, and bytes.
    fn wait<'py>(&self, py: Python<'py>, sink: &Bound<'py, PyAny>) -> PyResult<End<'py>> {
        let mut messages = self.listen()?;
        loop {
            let received = py.detach(move || {
                let received = messages.recv_timeout(DEAF);
                (messages, received)
            });
            messages = received.0;
            let heard = match received.1 {
                Ok(message) => self.hear(py, message, sink),
                Err(RecvTimeoutError::Timeout) => py.check_signals().map(|()| None),
                Err(RecvTimeoutError::Disconnected) => Err(failed()),
            };
            match heard {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => {}
                Err(error) => {
                    self.cancel();
                    return Err(error);
                }
            }
        }
    }

    /// Hears what there is to hear without waiting; the end, if it was there.
    fn advance<'py>(
        &self,
        py: Python<'py>,
        sink: &Bound<'py, PyAny>,
    ) -> PyResult<Option<End<'py>>> {
        let messages = self.listen()?;
        if let Some(bell) = &self.bell {
            bell.still()?;
        }
        loop {
            let message = match messages.try_recv() {
                Ok(message) => message,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(failed()),
            };
            if let Some(end) = self.hear(py, message, sink)? {
                return Ok(Some(end));
            }
        }
        *self.messages.lock().unwrap_or_else(PoisonError::into_inner) = Some(messages);
        Ok(None)
    }

    /// The descriptor that can be read when there is something to hear.
    fn fileno(&self) -> PyResult<i32> {
        let missing = || PyRuntimeError::new_err("nobody asked for a descriptor");
        self.bell.as_ref().map(|bell| bell.reader.as_raw_fd()).ok_or_else(missing)
    }

    /// Ends the call and its isolate, if it has not ended.
    fn cancel(&self) {
        // In a forked child the task and its thread are not there.
        if self.pid == std::process::id() {
            self.task.abort();
        }
    }
}

impl Running {
    pub(super) fn begin<F>(
        runtime: &Runtime,
        asked: Asked,
        mut closing: watch::Receiver<bool>,
        run: impl FnOnce(Job) -> F,
    ) -> PyResult<Self>
    where
        F: Future<Output = SandboxOutcome> + Send + 'static,
    {
        let Asked { mut job, live, belled, copies } = asked;
        let (sender, messages) = mpsc::channel();
        let bell = belled.then(Bell::new).transpose()?.map(Arc::new);
        let teller = Teller { sender, bell: bell.clone() };
        job.live = live.then(|| teller.clone().live());
        let call = run(job);
        let task = runtime.spawn(async move {
            let message = tokio::select! {
                outcome = call => Message::Ended(Box::new(outcome)),
                _ = closing.wait_for(|closed| *closed) => Message::Closed,
            };
            teller.tell(message);
        });
        Ok(Self {
            pid: std::process::id(),
            messages: Mutex::new(Some(messages)),
            task: task.abort_handle(),
            bell,
            copies,
        })
    }

    fn listen(&self) -> PyResult<Receiver<Message>> {
        let taken = self.messages.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.ok_or_else(|| PyRuntimeError::new_err("somebody else waits for this call"))
    }

    fn hear<'py>(
        &self,
        py: Python<'py>,
        message: Message,
        sink: &Bound<'py, PyAny>,
    ) -> PyResult<Option<End<'py>>> {
        match message {
            Message::Printed(stream, bytes) => {
                let number = if stream == Stream::Stdout { 1 } else { 2 };
                sink.call1((number, PyBytes::new(py, &bytes)))?;
                Ok(None)
            }
            Message::Ended(outcome) => end(py, *outcome, self.copies.clone()).map(Some),
            Message::Closed => {
                let reason = "the sandbox was closed".into();
                let failure = Failure::WorkerLost { reason, retryable: false };
                Err(call_error(py, &failure, &Diagnostics::default()))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel();
    }
}

fn failed() -> PyErr {
    PyRuntimeError::new_err("the exuvia host failed")
}

/// The end of a call for Python.
fn end(py: Python<'_>, ended: SandboxOutcome, mut copies: Vec<Copied>) -> PyResult<End<'_>> {
    let mut ended = ended;
    let Outcome { result, diagnostics } = &mut ended.outcome;
    copies.append(&mut diagnostics.copies);
    diagnostics.copies = copies;
    let value = match result {
        Err(_) => None,
        Ok(payload) => match read(py, payload, ended.usage.policy.result, diagnostics)? {
            Ok(value) => Some(value),
            Err(failure) => {
                *result = Err(Box::new(failure));
                None
            }
        },
    };
    let error = result.as_ref().err();
    let error = error.map(|failure| {
        let error = call_error(py, failure, diagnostics);
        error.into_value(py).into_bound(py).into_any()
    });
    let document = as_object(py, &ended.document())?;
    Ok((value, error, document))
}

/// The object in a result. A guest wrote it: it is data, and no pickle is read.
fn read<'py>(
    py: Python<'py>,
    payload: &Payload,
    limit: u64,
    diagnostics: &mut Diagnostics,
) -> PyResult<Result<Bound<'py, PyAny>, Failure>> {
    let unfit = |why: String| {
        let message = format!("it cannot be read by this program: {why}");
        Failure::Result { path: "result".into(), message }
    };
    let data = match Data::of(payload) {
        Ok(data) => data,
        Err(error) => return Ok(Err(unfit(error.to_string()))),
    };
    // Compressed data is no way around the limit.
    let limits = Limits { max_bytes: limit, ..Limits::default() };
    let attachments = Attachments::of(&data, limits);
    let options = DecodeOptions { pickle: false };
    match decode_value_with(py, data.bytes(), options, &attachments) {
        Ok(value) => {
            diagnostics.copies.append(&mut attachments.copies());
            Ok(Ok(value))
        }
        Err(DecodeError::Malformed(why)) => Ok(Err(unfit(why.message.to_string()))),
        Err(DecodeError::Python(error)) if error.is_instance_of::<PyException>(py) => {
            Ok(Err(unfit(error.to_string())))
        }
        Err(DecodeError::Python(error)) => Err(*error),
    }
}

// === impl Teller ===

impl Teller {
    /// Nobody may hear it any more.
    fn tell(&self, message: Message) {
        if self.sender.send(message).is_ok()
            && let Some(bell) = &self.bell
        {
            bell.ring();
        }
    }

    fn live(self) -> LiveOutput {
        Arc::new(move |stream, bytes| self.tell(Message::Printed(stream, bytes.to_vec())))
    }
}

// === impl Bell ===

impl Bell {
    fn new() -> std::io::Result<Self> {
        let (reader, writer) = pipe()?;
        Ok(Self { reader, writer, rung: AtomicBool::new(false) })
    }

    fn ring(&self) {
        // Never more than a byte or two: who rings must not wait.
        if !self.rung.swap(true, Ordering::SeqCst) {
            let _ = (&self.writer).write(&[1]);
        }
    }

    /// Takes the byte out, before the messages are looked at.
    fn still(&self) -> std::io::Result<()> {
        if self.rung.swap(false, Ordering::SeqCst) {
            (&self.reader).read_exact(&mut [0])?;
        }
        Ok(())
    }
}
