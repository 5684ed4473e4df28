//! The engine's socket: bytes and descriptors in and out.

use std::os::fd::{AsFd, BorrowedFd};

use exuvia_protocol::{Event, Ready};
use exuvia_sys::stream;
use pyo3::{exceptions::PyOSError, prelude::*};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Engine, READ, broken};

// === impl Engine ===

impl Engine {
    /// Sends a message now.
    pub(super) fn tell(&self, py: Python<'_>, ready: &Ready) -> PyResult<()> {
        self.connection.borrow_mut().ready(ready).map_err(broken)?;
        while !self.write()? {
            self.wait(py, -1, None)?;
        }
        Ok(())
    }

    pub(super) fn next_event(&self) -> PyResult<Option<Event>> {
        self.connection.borrow_mut().next_event().map_err(broken)
    }

    /// Waits, detached from the interpreter, until there is something to do.
    pub(super) fn wait(
        &self,
        py: Python<'_>,
        timeout: i64,
        other: Option<BorrowedFd<'_>>,
    ) -> PyResult<bool> {
        let mut events = PollFlags::IN;
        if self.connection.borrow_mut().to_send().is_some() {
            events |= PollFlags::OUT;
        }
        let limit = u64::try_from(timeout).ok().map(|timeout| Timespec {
            tv_sec: (timeout / 1000) as i64,
            tv_nsec: (timeout % 1000 * 1_000_000) as i64,
        });
        let mut watched = [
            PollFd::new(&self.socket, events),
            PollFd::from_borrowed_fd(other.unwrap_or(self.socket.as_fd()), PollFlags::IN),
        ];
        let watched = if other.is_some() { &mut watched[..] } else { &mut watched[..1] };
        match py.detach(|| poll(watched, limit.as_ref())) {
            Ok(_) => Ok(watched.get(1).is_some_and(|other| !other.revents().is_empty())),
            // A signal: Python's handlers run, and the caller comes back.
            Err(rustix::io::Errno::INTR) => py.check_signals().map(|()| false),
            Err(error) => Err(PyOSError::new_err(format!("poll: {error}"))),
        }
    }

    /// Reads what is there. The end of the stream is the end of this worker.
    pub(super) fn read(&self) -> PyResult<()> {
        let mut connection = self.connection.borrow_mut();
        let mut buffer = self.buffer.borrow_mut();
        let mut came = Vec::new();
        loop {
            let read = match stream::read(&self.socket, &mut buffer[..], &mut came) {
                Ok(read) => read,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => 0,
            };
            if read == 0 {
                self.ended.set(true);
                return Ok(());
            }
            if !came.is_empty() {
                connection.descriptors(std::mem::take(&mut came)).map_err(broken)?;
            } else if read < READ {
                connection.inbound().extend_from_slice(&buffer[..read]);
                return Ok(());
            }
            connection.inbound().extend_from_slice(&buffer[..read]);
        }
    }

    /// Writes what can be written; says whether that was all.
    pub(super) fn write(&self) -> PyResult<bool> {
        let mut connection = self.connection.borrow_mut();
        self.unwritten.set(None);
        loop {
            let Some(to_send) = connection.to_send() else { return Ok(true) };
            match stream::write(&self.socket, to_send.bytes, to_send.descriptors) {
                Ok(written) => connection.sent(written),
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                // The host is gone, and with it whoever wanted to know.
                Err(_) => {
                    self.ended.set(true);
                    connection.forget_outbound();
                    return Ok(true);
                }
            }
        }
    }
}
