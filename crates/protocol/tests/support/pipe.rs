//! One direction of a socket: bytes, and descriptors that come with the first byte of a write.

use std::{
    collections::VecDeque,
    fs::File,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    sync::{Arc, Once},
};

use bytes::{Bytes, BytesMut};
use exuvia_protocol::ToSend;
use rustix::process::{Resource, getrlimit, setrlimit};

/// What was written and not read.
#[derive(Default)]
pub(crate) struct Pipe {
    bytes: BytesMut,
    /// Descriptors with the place of the byte they come with, counted from the pipe's beginning.
    lots: VecDeque<(u64, Vec<OwnedFd>)>,
    read: u64,
}

/// Lets this process have as many descriptors as it may.
fn allow_descriptors() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit).expect("no more than the maximum");
    });
}

/// A descriptor of something that is unlike all others.
pub(crate) fn descriptor() -> Arc<OwnedFd> {
    allow_descriptors();
    let (reader, _) = std::io::pipe().expect("a pipe");
    Arc::new(reader.into())
}

/// What a descriptor is of.
pub(crate) fn identity(descriptor: &OwnedFd) -> u64 {
    let file = File::from(descriptor.try_clone().expect("another"));
    file.metadata().expect("it is open").ino()
}

/// How many descriptors of this process are of the same thing.
pub(crate) fn open_copies(identity: u64) -> usize {
    let name = format!("pipe:[{identity}]");
    let open = std::fs::read_dir("/proc/self/fd").expect("fd");
    open.flatten()
        .filter(|entry| {
            std::fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == &*name)
        })
        .count()
}

// === impl Pipe ===

impl Pipe {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes up to `most` of what there is to send, as the kernel does; says what it took.
    pub(crate) fn write(&mut self, to_send: &ToSend<'_>, most: usize) -> Bytes {
        let size = most.min(to_send.bytes.len());
        if size > 0 && !to_send.descriptors.is_empty() {
            let copies = to_send.descriptors.iter().map(|one| one.try_clone().expect("another"));
            self.lots.push_back((self.read + self.bytes.len() as u64, copies.collect()));
        }
        self.bytes.extend_from_slice(&to_send.bytes[..size]);
        Bytes::copy_from_slice(&to_send.bytes[..size])
    }

    /// Reads `size` bytes and what comes with them.
    pub(crate) fn read(&mut self, size: usize) -> (Bytes, Vec<OwnedFd>) {
        self.read += size as u64;
        let mut came = Vec::new();
        while self.lots.front().is_some_and(|(place, _)| *place < self.read) {
            came.extend(self.lots.pop_front().into_iter().flat_map(|(_, lot)| lot));
        }
        (self.bytes.split_to(size).freeze(), came)
    }
}
