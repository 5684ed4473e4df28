//! Safe wrappers over the system calls the workspace needs and rustix does not wrap safely.
//!
//! * [`page`]: a shared page of atomic words that neither side can shrink;
//! * [`process`]: starting a worker that dies with its host, and waiting for it by pidfd;
//! * [`clone`]: forking a worker that becomes the host's own child;
//! * [`stream`]: bytes with descriptors over a stream socket;
//! * [`packet`]: packets that carry descriptors;
//! * [`shared`]: sealed memory that goes to another process by descriptor;
//! * [`memory`]: how much of it a process has;
//! * [`unsent`]: how much of what was written to a socket was not taken.
//!
//! Linux only.

pub mod clone;
pub mod memory;
pub mod packet;
pub mod page;
pub mod process;
pub mod shared;
pub mod stream;
mod unsent;

pub use memory::{Memory, RssMeter};
pub use page::SharedPage;
pub use process::{Ended, Process, Spawn, reap_strays, spawn};
pub use shared::{MemoryWriter, PrivateMap, Sealed, Spill, Spilled};
pub use unsent::unsent;
