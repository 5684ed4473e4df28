//! What scripts send, and whether it is what arrived.

use std::{collections::VecDeque, os::fd::OwnedFd, sync::Arc};

use bytes::Bytes;
use exuvia_core::Copied;
use exuvia_protocol::{Incoming, Outgoing};

use super::{
    Choices, noise,
    pipe::{descriptor, identity},
};

/// A payload of a script.
#[derive(Debug, Clone, Default)]
pub(crate) struct Data {
    pub(crate) bytes: Bytes,
    pub(crate) shared: Option<u64>,
    pub(crate) descriptors: Vec<Arc<OwnedFd>>,
}

/// A streamed result on both of its ends.
pub(crate) struct Stream {
    /// What its maker has yet to make; the next is last.
    pub(crate) left: Vec<Bytes>,
    /// What its maker added.
    pub(crate) made: Vec<u8>,
    /// Its maker has said how it ends.
    pub(crate) closed: bool,
    /// Its reader knows of it.
    pub(crate) heard: bool,
    /// What its reader has, and has not looked at.
    pub(crate) unread: VecDeque<Bytes>,
    /// Everything that came, in order.
    pub(crate) came: Vec<u8>,
    /// Looked at, and no credit given for it.
    pub(crate) owed: u32,
}

// === impl Data ===

impl Data {
    /// Bytes through the socket, or as memory, with so many descriptors beside.
    pub(crate) fn new(seed: u64, size: usize, shared: bool, attached: u8) -> Self {
        let descriptors = (0..u16::from(attached) + u16::from(shared)).map(|_| descriptor());
        Self {
            bytes: if shared { Bytes::new() } else { noise(seed, size) },
            shared: shared.then_some(size as u64),
            descriptors: descriptors.collect(),
        }
    }

    pub(crate) fn outgoing(&self) -> Outgoing {
        let Self { bytes, shared, descriptors } = self.clone();
        Outgoing { bytes, shared, fed: false, descriptors }
    }

    pub(crate) fn assert_is(&self, came: &Incoming) {
        assert_eq!((&self.bytes, self.shared), (&came.bytes, came.shared), "it arrives intact");
        let of = |descriptors: &mut dyn Iterator<Item = &OwnedFd>| -> Vec<u64> {
            descriptors.map(identity).collect()
        };
        let sent = of(&mut self.descriptors.iter().map(|descriptor| &**descriptor));
        assert_eq!(of(&mut came.descriptors.iter()), sent, "its own descriptors, in order");
    }
}

// === impl Stream ===

impl Stream {
    /// One of `size` bytes in about so many pieces, some of them empty.
    pub(crate) fn new(seed: u64, size: usize, pieces: u8, choices: &mut Choices) -> Self {
        let (mut rest, mut left) = (noise(seed, size), Vec::new());
        for _ in 1..pieces {
            left.push(rest.split_to(choices.below(rest.len() + 1)));
        }
        left.push(rest);
        Self {
            left,
            made: Vec::new(),
            closed: false,
            heard: false,
            unread: VecDeque::new(),
            came: Vec::new(),
            owed: 0,
        }
    }

    pub(crate) fn assert_in_order(&self) {
        let made = self.made.get(..self.came.len());
        assert_eq!(made, Some(&self.came[..]), "pieces come in order and are not changed");
    }

    pub(crate) fn assert_complete(&self) {
        assert!(self.left.is_empty() && self.came == self.made, "all of it, then its end");
    }
}

/// Copies to tell of.
pub(crate) fn copies(count: usize) -> Vec<Copied> {
    let one = |number| Copied {
        what: format!("column \"{number}\""),
        bytes: u64::MAX - number as u64,
        why: "pandas needs a copy because it has nulls".into(),
    };
    (0..count).map(one).collect()
}
