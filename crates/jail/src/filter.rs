//! The seccomp filter of an isolate.

pub(crate) mod bpf;
pub(crate) mod calls;
pub(crate) mod rules;
pub(crate) mod writers;
