//! HTTP/1.1 and 2 for anything that can be called: a request becomes a [`Call`](exuvia_core::Call) on a
//! [`Target`](exuvia_core::Target), its [`Outcome`](exuvia_core::Outcome) becomes the answer.
//!
//! Bodies are opaque here: they are limited and handed on, never decoded. What clients may rely on
//! is written down in `docs/http.md`. From the outside in:
//!
//! * [`server`]: accepting, draining;
//! * `connection`: one client: timeouts, what to say to bytes that are not HTTP; `http2`: one that
//!   speaks that;
//! * `edge`: what is done around every request: `request_id`, `access` (the log), `compress`;
//! * `service`: one request; `counted`: the same in metrics, traces and on the page;
//! * `route`, `routes`: what leads where; `arguments`: what path, query and headers give; `gate`: the
//!   limits of one route; `spec`: routes from an OpenAPI document, [`openapi`] the way back;
//! * `media`, `body`, `decompress`, `feed`: reading it; `answer`: what goes back, whole or as it is made;
//! * `failure`, `problem`: saying what went wrong;
//! * `watch`, `kept`: what happens here, for the page;
//! * `pages`, `index`, `page`, `ranges`: the pages beside the handlers; `told`: what they tell.
#![forbid(unsafe_code)]

mod access;
mod answer;
mod arguments;
mod body;
mod compress;
mod config;
mod connection;
mod counted;
mod decompress;
mod edge;
mod failure;
mod feed;
mod gate;
mod http2;
mod index;
mod io;
mod kept;
mod media;
pub mod openapi;
mod page;
mod pages;
mod problem;
mod ranges;
mod request_id;
mod route;
mod routes;
pub mod server;
mod service;
pub mod spec;
mod told;
mod watch;

pub use access::{AccessFormat, AccessLog};
pub use config::{Backend, Readiness, ServerConfig};
pub use route::{Route, RouteOptions};
pub use routes::RouteError;
pub use server::{Drained, Listeners, Server};
pub use watch::{BackendState, WorkerRow};
