//! The words every part of Exuvia shares: what a call is, what can answer one, and how it ends.
//!
//! This crate does no I/O, knows no Python and depends on no other crate of the workspace. It is
//! the place to look up what a term means:
//!
//! * [`target`]: [`Target`], the one trait by which front ends meet, and the [`Call`] it takes;
//! * [`payload`]: the data of a call and how it is written down;
//! * [`outcome`]: [`Outcome`] and [`Failure`], because errors are data;
//! * [`policy`]: what an isolate may use;
//! * [`signature`]: what a handler says about its parameters;
//! * [`spec`]: the ways to name handlers on a command line or in a file;
//! * [`ids`]: the names of calls and errors;
//! * [`units`]: sizes and durations as people write them;
//! * [`suggest`]: the nearest right spelling.
#![forbid(unsafe_code)]

pub mod ids;
pub mod outcome;
pub mod payload;
pub mod policy;
pub mod signature;
pub mod spec;
pub mod suggest;
pub mod target;
pub mod units;

pub use ids::{CallId, CallIds};
pub use outcome::{
    Copied, Diagnostics, Failure, FailureKind, Frame, InputFault, Outcome, Responsible,
};
pub use payload::{Codec, Feed, MAX_ATTACHED, Payload, Pieces, Region, Rest, SHARED_FROM};
pub use policy::{FileMode, Files, Policy, Resource};
pub use signature::{Broken, HandlerInfo, HandlerKind, Param};
pub use spec::TargetSpec;
pub use target::{Call, OutcomeFuture, Target, TraceContext, about};
