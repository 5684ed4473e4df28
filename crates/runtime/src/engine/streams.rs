//! Streamed results: generators, advanced as far as somebody reads.
//!
//! A generator of a `def` handler is advanced by the engine between its turns, one step a turn, so
//! that cancels are heard; while it lives no other sync call begins, as one runs at a time. An
//! async generator is advanced by a task, `stream` in `worker.py`, which waits on [`Sink::room`].

use exuvia_core::Failure;
use exuvia_protocol::frame::ResultHead;
use pyo3::{exceptions::PyStopIteration, prelude::*, types::PyList};

use super::{
    Engine, Running,
    about::{Current, Limited},
    broken,
};
use crate::pieces::Pieces;

/// A result that is being made piece by piece.
pub(super) struct Stream {
    pub(super) running: Running,
    pieces: Pieces,
    /// Whether the host was told: not before there is something to tell, so that what fails at once
    /// fails like any other call.
    begun: bool,
    /// What the engine advances itself.
    generator: Option<Py<PyAny>>,
    /// A future of the task that waits until there is room.
    waiting: Option<Py<PyAny>>,
}

/// Where the task of an async generator puts what it yields.
#[pyclass(unsendable, frozen, module = "_exuvia_runtime")]
pub(super) struct Sink {
    engine: Py<Engine>,
    call: u64,
}

#[pymethods]
impl Sink {
    /// Writes one thing down; says whether there is room for another.
    fn put(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        let engine = self.engine.bind(py).borrow();
        engine.put(py, self.call, value)?;
        Ok(engine.wants_more(self.call))
    }

    /// `future` is done when there is room again.
    fn room(&self, py: Python<'_>, future: Py<PyAny>) {
        let engine = self.engine.bind(py).borrow();
        if let Some(stream) = engine.streams.borrow_mut().get_mut(&self.call) {
            stream.waiting = Some(future);
        }
    }
}

// === impl Engine ===

impl Engine {
    pub(super) fn is_streamed(&self, call: u64) -> bool {
        self.streams.borrow().contains_key(&call)
    }

    /// Whether the engine itself has a generator to advance, now or later.
    pub(super) fn has_generator(&self) -> bool {
        self.streams.borrow().values().any(|stream| stream.generator.is_some())
    }

    /// Whether a generator, or a task that waits for room, could go on at once.
    pub(super) fn is_wanted(&self) -> bool {
        let streams = self.streams.borrow();
        let waits = |stream: &Stream| stream.generator.is_some() || stream.waiting.is_some();
        let mut waiting = streams.iter().filter(|(_, stream)| waits(stream));
        waiting.any(|(call, stream)| self.has_room(*call, stream))
    }

    /// Whether a stream is to go on: it has not told anything yet, or what it told is read.
    fn has_room(&self, call: u64, stream: &Stream) -> bool {
        !stream.begun || self.connection.borrow().wants_more(call)
    }

    fn wants_more(&self, call: u64) -> bool {
        self.streams.borrow().get(&call).is_some_and(|stream| self.has_room(call, stream))
    }

    /// Takes on a streamed result, by a generator the engine shall advance or by a task to come.
    pub(super) fn take_stream(&self, running: Running, generator: Option<&Bound<'_, PyAny>>) {
        let pieces = Pieces::new(running.wanted);
        let generator = generator.map(|generator| generator.clone().unbind());
        let call = running.call;
        let stream = Stream { running, pieces, begun: false, generator, waiting: None };
        self.streams.borrow_mut().insert(call, stream);
    }

    /// Where an async generator's task puts what it yields.
    pub(super) fn sink(slf: &Bound<'_, Self>, call: u64) -> PyResult<Py<Sink>> {
        Py::new(slf.py(), Sink { engine: slf.clone().unbind(), call })
    }

    /// Advances generators by a step each, and wakes tasks for whose next piece there is room.
    pub(super) fn advance(&self, py: Python<'_>) -> PyResult<()> {
        let wanted: Vec<u64> = {
            let streams = self.streams.borrow();
            let wanted = streams.iter().filter(|(call, stream)| self.has_room(**call, stream));
            wanted.map(|(call, _)| *call).collect()
        };
        for call in wanted {
            let (generator, waiting) = match self.streams.borrow_mut().get_mut(&call) {
                Some(stream) => (
                    stream.generator.as_ref().map(|held| held.clone_ref(py)),
                    stream.waiting.take(),
                ),
                None => continue,
            };
            if let Some(future) = waiting
                && !future.call_method0(py, "done")?.is_truthy(py)?
            {
                future.call_method1(py, "set_result", (py.None(),))?;
            }
            if let Some(generator) = generator {
                self.step(py, call, generator.bind(py))?;
            }
        }
        Ok(())
    }

    /// One step of a generator of a `def` handler.
    fn step(&self, py: Python<'_>, call: u64, generator: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.drive(call, generator, "__next__")? {
            Ok(value) => {
                if let Err(error) = self.put(py, call, &value) {
                    drop(self.drive(call, generator, "close")?);
                    return self.end_stream(py, call, Err(error));
                }
                self.write().map(drop)
            }
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                self.end_stream(py, call, Ok(()))
            }
            Err(error) => self.end_stream(py, call, Err(error)),
        }
    }

    /// Runs a generator's code as its handler's was run: known as its call's, and without our loop.
    fn drive<'py>(
        &self,
        call: u64,
        generator: &Bound<'py, PyAny>,
        method: &str,
    ) -> PyResult<PyResult<Bound<'py, PyAny>>> {
        let py = generator.py();
        let current = self.streams.borrow().get(&call).map(|stream| Current::of(&stream.running));
        let about = current.as_ref().and_then(|current| current.about.clone());
        if let Some(current) = current {
            self.current_call.call1(py, (current.public,))?;
            self.current.replace(Some(current));
        }
        let paused = self.pause_loop(py)?;
        let limited = Limited::by(about.as_ref());
        let result = generator.call_method0(method);
        drop(limited);
        if let Err(error) = &result {
            Limited::explain(about.as_ref(), error, py);
        }
        if let Some(event_loop) = paused {
            self.resume_loop(py, &event_loop)?;
        }
        Ok(result)
    }

    /// Writes down what was yielded. What does not fit ends the call: it is raised as
    /// [`Misfitting`], to be told apart from what the generator raises.
    fn put(&self, py: Python<'_>, call: u64, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let python = self.python.bind(py);
        let Some(mut stream) = self.streams.borrow_mut().remove(&call) else {
            return Err(broken("a stream that has ended"));
        };
        let added = stream.pieces.add(python, value, &mut stream.running.copies);
        let result = match added {
            Ok(piece) => {
                let running = &stream.running;
                let mut connection = self.connection.borrow_mut();
                if !stream.begun {
                    let head = ResultHead::new(running.wanted.codec, running.run_ns());
                    connection.begin_stream(call, running.slot, head);
                    stream.begun = true;
                }
                connection.add(call, piece);
                Ok(())
            }
            Err(failure) => {
                stream.running.misfit = Some(Box::new(failure));
                Err(broken("what was yielded cannot be written"))
            }
        };
        self.streams.borrow_mut().insert(call, stream);
        result
    }

    /// The generator has ended.
    pub(super) fn end_stream(
        &self,
        py: Python<'_>,
        call: u64,
        result: PyResult<()>,
    ) -> PyResult<()> {
        let Some(mut stream) = self.streams.borrow_mut().remove(&call) else { return Ok(()) };
        let running = &mut stream.running;
        let misfit = running.misfit.take();
        let ended = match (misfit, result) {
            (Some(failure), _) => Err(*failure),
            (None, Err(error)) => Err(running.raised(self.python.bind(py), &error)),
            (None, Ok(())) => stream.pieces.finish(),
        };
        match ended {
            Ok(rest) => {
                let mut connection = self.connection.borrow_mut();
                if !stream.begun {
                    // It yielded nothing.
                    let head = ResultHead::new(running.wanted.codec, running.run_ns());
                    connection.begin_stream(call, running.slot, head);
                }
                connection.add(call, rest);
                connection.end_stream(call, running.run_ns(), &running.copies);
                drop(connection);
                self.ended_call(running)
            }
            Err(failure) => self.fail(running, &failure),
        }
    }

    /// Nobody reads a stream any more: its generator is closed, and it ends as cancelled. Says
    /// whether that is all there is to do: a task of an async generator is still to be cancelled.
    pub(super) fn cancel_stream(&self, py: Python<'_>, call: u64, slot: u16) -> PyResult<bool> {
        let was_cut = self.connection.borrow_mut().cut_stream(call);
        let generator = match self.streams.borrow_mut().get_mut(&call) {
            Some(stream) => stream.generator.take(),
            // The generator has ended, and what it made waits to be read: that was its end.
            None if was_cut => {
                let mut connection = self.connection.borrow_mut();
                connection.cancelling(call, slot);
                connection.failure(call, slot, 1, &Failure::Cancelled).map_err(broken)?;
                return Ok(true);
            }
            None => return Ok(false),
        };
        let Some(generator) = generator else { return Ok(false) };
        self.connection.borrow_mut().cancelling(call, slot);
        self.write()?;
        // What the generator raises when it is closed says nothing to a caller that has left.
        drop(self.drive(call, generator.bind(py), "close")?);
        let stream = self.streams.borrow_mut().remove(&call);
        match stream {
            Some(stream) => self.fail(&stream.running, &Failure::Cancelled).map(|()| true),
            None => Ok(true),
        }
    }
}

/// All that a generator yields, as a list; for a call that wants its result whole.
pub(super) fn gathered<'py>(generator: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let list = PyList::empty(generator.py());
    for value in generator.try_iter()? {
        list.append(value?)?;
    }
    Ok(list.into_any())
}
