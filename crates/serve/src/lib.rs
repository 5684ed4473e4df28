//! HTTP/1.1 for anything that can be called: a request becomes a [`Call`](exuvia_core::Call) on a
//! [`Target`](exuvia_core::Target), its [`Outcome`](exuvia_core::Outcome) becomes the answer.
//!
//! Bodies are opaque here: they are limited and handed on, never decoded. What clients may rely on
//! is written down in `docs/http.md`. From the outside in:
//!
//! * [`server`]: accepting, draining;
//! * `connection`: one client: timeouts, what to say to bytes that are not HTTP;
//! * `service`: one request;
//! * `media`, `body`, `feed`: reading it; `answer`: what goes back, whole or as it is made;
//! * `failure`, `problem`: saying what went wrong;
//! * `pages`, `index`: the pages beside the handlers.
#![forbid(unsafe_code)]

mod answer;
mod body;
mod config;
mod connection;
mod failure;
mod feed;
mod index;
mod io;
mod media;
mod pages;
mod problem;
mod routes;
pub mod server;
mod service;

pub use config::{Backend, Readiness, ServerConfig};
pub use routes::{Route, RouteError};
pub use server::{Drained, Server};
