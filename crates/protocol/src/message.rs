//! The MessagePack bodies: what each side says of itself.

use exuvia_core::{Broken, Failure, HandlerInfo};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{BUILD, Image, PROTOCOL, ProtocolError};

/// The word that opens every connection.
pub const MAGIC: &str = "exuvia";

/// How deep a body may be nested; ours are not nested half as deep. A reader recurses, and what a
/// worker writes must not use up the host's stack.
const MAX_DEPTH: usize = 32;

/// What a side takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Longest body of a frame, in bytes.
    pub max_frame: u32,
    /// Longest payload of a call or result, in bytes.
    pub max_payload: u64,
    /// Payload bytes of a call that may be sent without credit.
    pub window: u32,
}

/// The first frame of each side (section 3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: String,
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// [`BUILD`].
    pub build: String,
    /// What the sender takes.
    pub limits: Limits,
    /// From the host: what to import.
    pub load: Option<Load>,
    /// From the host to a zygote: what to do beside that.
    pub image: Option<Image>,
    /// From the worker: the version of its Python.
    pub python: Option<String>,
}

/// What every version's greeting says.
#[derive(Deserialize)]
struct Version {
    magic: String,
    protocol: u32,
    build: String,
}

/// What a worker shall import, and how it shall run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Put first in `sys.path`, in this order.
    pub search_path: Vec<String>,
    /// What to import, in order.
    pub targets: Vec<LoadTarget>,
    /// Async calls at a time.
    pub concurrency: u32,
    /// Modules to import before the targets.
    pub preload: Vec<String>,
    /// Functions to call then, without arguments; each names its attribute.
    pub warm: Vec<LoadTarget>,
    /// Bytes of memory that reading one table may make.
    #[serde(default)]
    pub max_table: u64,
    /// Whether targets that do not import are told and left out, as long as others do.
    #[serde(default)]
    pub tolerant: bool,
}

/// One module to import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadTarget {
    /// The module's name in routes and in `sys.modules`.
    pub module: String,
    /// Its file, where it is not found by name.
    pub file: Option<String>,
    /// The one attribute wanted; `None` is everything the module makes public.
    pub attribute: Option<String>,
}

/// The worker's answer to [`Load`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// The handlers that are there, a handler's number is its place; and the modules that are not,
    /// where some are.
    Handlers(Vec<HandlerInfo>, Vec<Broken>),
    /// Something is not there or does not import.
    Failed(Failure),
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { max_frame: 1 << 20, max_payload: 64 << 20, window: 256 << 10 }
    }
}

// === impl Hello ===

impl Hello {
    /// A greeting with `limits` and nothing else.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            magic: MAGIC.into(),
            protocol: PROTOCOL,
            build: BUILD.into(),
            limits,
            load: None,
            image: None,
            python: None,
        }
    }

    /// Reads a greeting of a sender that can be spoken to.
    pub(crate) fn read(kind: u8, body: &[u8]) -> Result<Self, ProtocolError> {
        // The rest of another version's greeting may have any shape.
        let Version { magic, protocol, build } = read(kind, body)?;
        if magic == MAGIC && protocol == PROTOCOL && build == BUILD {
            return read(kind, body);
        }
        Err(ProtocolError::Version {
            ours: format!("protocol {PROTOCOL} of {MAGIC} {BUILD}"),
            theirs: format!("protocol {protocol} of {magic} {build}"),
        })
    }
}

/// Reads a MessagePack body.
pub(crate) fn read<T: DeserializeOwned>(kind: u8, body: &[u8]) -> Result<T, ProtocolError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    reader.set_max_depth(MAX_DEPTH);
    T::deserialize(&mut reader)
        .map_err(|error| ProtocolError::Body { kind, what: error.to_string() })
}

/// Writes a MessagePack body, with field names so that a reader can tell what it sees.
pub(crate) fn write<T: Serialize>(kind: u8, value: &T) -> Result<Vec<u8>, ProtocolError> {
    rmp_serde::to_vec_named(value)
        .map_err(|error| ProtocolError::Body { kind, what: error.to_string() })
}
