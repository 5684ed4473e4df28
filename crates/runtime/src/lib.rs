//! What runs inside a worker: the engine that speaks with the host, and the converters.
//!
//! A worker is the user's own `python` that loads this library by its absolute path (`main`). From
//! there: [`engine`] turns the protocol, [`bind`] fits a call's data to a handler's parameters, by
//! masks or by type plans ([`plan`]),
//! [`values`] converts between Python objects and bytes, [`encode`] writes results, [`pieces`] those
//! of generators, [`raised`] makes exceptions into data, and `worker.py` does what is best said in
//! Python: imports, signatures, the event loop. [`zygote`] is what workers are forked from.
//!
//! Tables: [`data`] maps what came, [`received`] and [`convert`] make of it what a handler asks for,
//! [`tables`] has the classes for Python, [`tensor`] NumPy's arrays, [`attach`] what lies in a value or
//! beside it, [`share`] what is put into memory once for many calls.

pub mod attach;
mod bind;
mod bodies;
mod convert;
pub mod data;
mod encode;
mod engine;
mod handler;
mod pieces;
mod plan;
mod probe;
mod raised;
mod received;
pub mod share;
pub mod tables;
mod tensor;
pub mod values;
mod web;
mod zygote;

pub use engine::{Engine, main};
pub use probe::Probe;
pub use zygote::zygote_main;
