//! Linux sandbox layers (`docs/security.md`). Knows no Python and no pools.
//!
//! An image [`enter`]s a root of its own, and says by [`Sealed::settle`] that it is complete. Each
//! process it forks, with [`Sealed::clone_flags`], closes itself in with [`confine`]. The host hears
//! of what is refused by a [`Listener`], and measures with [`cpu_time`] and its neighbours. Which layers a
//! machine has, [`probe`] says.

mod denials;
mod error;
mod fence;
mod filter;
mod image;
mod isolate;
mod kernel;
mod limits;
mod tier;
mod view;

pub use denials::{Denial, Listener};
pub use error::JailError;
pub use image::{Image, Sealed, enter};
pub use isolate::{Confined, Isolate, Layers, Session, confine};
pub use limits::{Usage, cpu_time, session_files, session_usage, set_memory};
pub use tier::{Layer, Support, Tier, probe};
