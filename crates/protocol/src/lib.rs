//! The protocol between host and worker, without I/O: bytes in, events out, and back.
//!
//! The rules are in `docs/protocol.md`; section numbers in comments are that page's. This crate
//! knows neither Python nor HTTP nor sockets.
//!
//! * [`frame`]: headers and heads, bytes to numbers;
//! * [`message`]: the two MessagePack messages, `HELLO` and `READY`;
//! * [`connection`]: [`Connection`], the state machine both ends run;
//! * [`claims`]: the status page: who runs what;
//! * [`zygote`]: what host and zygote say to each other.
#![forbid(unsafe_code)]

pub mod claims;
pub mod connection;
pub mod frame;
pub mod message;
mod shorten;
pub mod zygote;

pub use claims::{Claims, SlotState};
pub use connection::{
    Connection, Event, Incoming, IncomingCall, IncomingResult, Outgoing, OutgoingCall, Role, ToSend,
};
pub use message::{Hello, Limits, Load, LoadTarget, Ready};
pub use zygote::{Image, Imported, Isolate, Jail, Report, Said};

/// The version of the protocol this crate speaks.
pub const PROTOCOL: u32 = 4;

/// The signal that asks a worker for the stacks of all its threads: `SIGRTMAX - 3` (section 7.3).
pub const STACKS_SIGNAL: i32 = 61;

/// The version of the program; host and runtime must agree on it.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// The peer broke the rules, or is not the peer we want.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The header or a head is not one.
    #[error("a frame of kind {kind} is not well formed: {what}")]
    Frame {
        /// The kind byte.
        kind: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// A frame that is longer than allowed.
    #[error("a frame of {length} bytes is longer than the limit of {limit}")]
    TooLong {
        /// Its body's length.
        length: u64,
        /// Ours.
        limit: u64,
    },
    /// A frame that may not come now.
    #[error("a frame of kind {kind} for call {call} may not come now: {what}")]
    Unexpected {
        /// The kind byte.
        kind: u8,
        /// The call id.
        call: u64,
        /// Why not.
        what: &'static str,
    },
    /// A MessagePack body that does not read.
    #[error("the body of a frame of kind {kind} does not read: {what}")]
    Body {
        /// The kind byte.
        kind: u8,
        /// The decoder's words.
        what: String,
    },
    /// Host and runtime are of different versions.
    #[error("host and worker runtime differ: {ours} here, {theirs} there")]
    Version {
        /// Our protocol and build.
        ours: String,
        /// Theirs.
        theirs: String,
    },
}
