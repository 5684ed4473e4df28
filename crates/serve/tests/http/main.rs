//! The server over real sockets, with targets that end as told. Each line of `docs/http.md` that
//! promises something is held by a test here.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bodies;
mod calls;
mod drain;
mod edge;
mod feeds;
mod http2;
mod limits;
mod noise;
mod packed;
mod pages;
mod streams;
mod support;
mod surface;
