//! Safe wrappers over the system calls the workspace needs and rustix does not wrap safely.
//!
//! * [`page`]: a shared page of atomic words that neither side can shrink;
//! * [`process`]: starting a worker that dies with its host, and waiting for it by pidfd;
//! * [`memory`]: how much of it a process has.
//!
//! Linux only.

pub mod memory;
pub mod page;
pub mod process;

pub use memory::{Memory, RssMeter};
pub use page::SharedPage;
pub use process::{Ended, Process, Spawn, spawn};
