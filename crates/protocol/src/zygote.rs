//! What host and zygote say to each other (section 9): one packet, one message.

use exuvia_core::Failure;
use serde::{Deserialize, Serialize};

use crate::{Hello, ProtocolError, message};

/// Longest packet, in bytes: a socket's default buffer holds it.
pub const MAX_PACKET: usize = 64 << 10;

/// Descriptors that go with a request to fork: standard output, standard error, protocol socket,
/// crash pipe, status page.
pub const FORK_DESCRIPTORS: usize = 5;

/// Descriptors that go with a request for an isolate: those of a fork, and a packet socket for its
/// [`Said`] once it is closed in.
pub const ISOLATE_DESCRIPTORS: usize = FORK_DESCRIPTORS + 1;

/// Instructions beyond what to import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The host's process id: a worker whose parent is another one lost its host.
    pub parent: u32,
    /// Items (by the name they are reported under) that start threads and are not for the image.
    pub leave_out: Vec<String>,
    /// Variables that were changed for the zygote, and what workers find in their place.
    pub environment: Vec<(String, Option<String>)>,
    /// Threads of numeric libraries in each worker.
    pub blas_threads: u32,
    /// For isolates: the root that the image has for itself.
    #[serde(default)]
    pub jail: Option<Jail>,
}

/// The root of an image whose forks are isolates (`docs/sandbox.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jail {
    /// The tier's word.
    pub tier: String,
    /// Files and folders that are there, read-only, at the same paths.
    pub view: Vec<String>,
    /// The folder with unpacked bundles.
    pub store: Option<String>,
    /// User and group to become, of a host that is root.
    pub user: Option<(u32, u32)>,
}

/// A request for an isolate: what holds for all of its life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolate {
    /// The bundle's folder in the store.
    pub bundle: Option<String>,
    /// Whether `/session` may be written.
    pub writable: bool,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
    /// Bytes of memory beyond the image's.
    pub memory: u64,
    /// Threads.
    pub threads: u32,
    /// Where `/session` is a folder of the host's: where there are no namespaces.
    pub session: Option<String>,
    /// The layers, as `exuvia_jail` numbers them.
    pub layers: u32,
}

/// One packet of a zygote. The first one is a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// One more item is in the image.
    Imported(Imported),
    /// This item started threads, by name; the zygote ends.
    Threads {
        /// `module`, or `module:function()` of a warm function; empty: there before any import.
        item: String,
        /// The names of the threads.
        threads: Vec<String>,
    },
    /// The image is complete: requests to fork are heard from now on.
    Ready(Report),
    /// The image cannot be made; the zygote ends.
    Failed(Failure),
    /// A worker was forked; its pidfd comes with the packet.
    Forked {
        /// Its process id.
        pid: u32,
    },
    /// No worker was forked.
    NotForked {
        /// Why, in words.
        why: String,
        /// The machine is short of something: it may be possible later.
        passing: bool,
    },
    /// Of an isolate, on the socket it was given for that: it is closed in. The listener for its
    /// refused system calls comes with the packet, and its `/session` where that is its own.
    Confined {
        /// Bytes of private memory the image had.
        baseline: u64,
    },
    /// Of an isolate: it could not be closed in, and has run nothing.
    Unconfined {
        /// Why, in words.
        why: String,
    },
}

/// How long one import took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// `module`, or `module:function()` of a warm function.
    pub item: String,
    /// What it took, in microseconds; what was imported before is not in it.
    pub us: u64,
}

/// What is to be said of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// From its start, in microseconds.
    pub us: u64,
    /// Modules it holds.
    pub modules: u64,
    /// What its user should know: random generators that all workers share, closed descriptors.
    pub notes: Vec<String>,
}

/// Asks a ready zygote for a worker.
pub const FORK: &[u8] = b"fork";

// === impl Isolate ===

impl Isolate {
    /// The packet.
    ///
    /// # Errors
    /// It would be too long.
    pub fn packet(&self) -> Result<Vec<u8>, ProtocolError> {
        fitting(message::write(0, self)?)
    }

    /// Reads a packet that is not [`FORK`].
    ///
    /// # Errors
    /// It is none.
    pub fn read(packet: &[u8]) -> Result<Self, ProtocolError> {
        message::read(0, packet)
    }
}

// === impl Said ===

impl Said {
    /// The packet.
    ///
    /// # Errors
    /// It would be too long.
    pub fn packet(&self) -> Result<Vec<u8>, ProtocolError> {
        fitting(message::write(0, self)?)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// It is none.
    pub fn read(packet: &[u8]) -> Result<Self, ProtocolError> {
        message::read(0, packet)
    }
}

// === impl Hello ===

impl Hello {
    /// The greeting as a packet, or as the content of the instructions.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn packet(&self) -> Result<Vec<u8>, ProtocolError> {
        message::write(0, self)
    }

    /// Reads a greeting of a sender that can be spoken to.
    ///
    /// # Errors
    /// It is none, or of another version.
    pub fn read_packet(packet: &[u8]) -> Result<Self, ProtocolError> {
        Self::read(0, packet)
    }
}

fn fitting(packet: Vec<u8>) -> Result<Vec<u8>, ProtocolError> {
    if packet.len() > MAX_PACKET {
        return Err(ProtocolError::TooLong {
            length: packet.len() as u64,
            limit: MAX_PACKET as u64,
        });
    }
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let report = Report { us: 7, modules: 400, notes: vec!["a note".into()] };
        for said in [
            Said::Imported(Imported { item: "numpy".into(), us: 80_000 }),
            Said::Threads { item: "polars".into(), threads: vec!["jemalloc_bg_thd".into()] },
            Said::Ready(report),
            Said::Failed(Failure::Load { message: "no".into(), traceback: String::new() }),
            Said::Forked { pid: 12 },
            Said::NotForked { why: "EINVAL".into(), passing: false },
        ] {
            let packet = said.packet().expect("it fits");
            assert_eq!(Said::read(&packet), Ok(said.clone()));
            for cut in 0..packet.len() {
                assert!(Said::read(&packet[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_packet_that_no_socket_would_take_is_an_error() {
        let threads = vec!["x".repeat(MAX_PACKET)];
        assert!(Said::Threads { item: String::new(), threads }.packet().is_err());
    }
}
