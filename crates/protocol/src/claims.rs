//! The status page: who runs what (section 6).

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// The first word of a page.
pub const MAGIC: u64 = u64::from_le_bytes(*b"EXUVIA01");
/// Words before the first slot.
pub const FIRST_SLOT: usize = 8;

const STATE_BITS: u32 = 3;

/// How far a call got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// No call.
    Free,
    /// Sent, not begun.
    Queued,
    /// Begun.
    Running,
    /// Taken back before it began.
    Revoked,
    /// Ended; the answer is on the way.
    Done,
}

/// The page's rules over its words, wherever they are mapped.
#[derive(Debug, Clone, Copy)]
pub struct Claims<'a> {
    words: &'a [AtomicU64],
}

impl SlotState {
    fn from_word(word: u64) -> Self {
        match word & ((1 << STATE_BITS) - 1) {
            0 => Self::Free,
            1 => Self::Queued,
            2 => Self::Running,
            3 => Self::Revoked,
            // A worker may write what it likes: what is not a state counts as begun and ended,
            // which can only hurt its own calls.
            _ => Self::Done,
        }
    }

    fn word(self, call: u64) -> u64 {
        call << STATE_BITS | self as u64
    }
}

impl<'a> Claims<'a> {
    /// Words a page with `slots` slots needs.
    #[must_use]
    pub fn words_for(slots: u16) -> usize {
        FIRST_SLOT + usize::from(slots)
    }

    /// A fresh page (host).
    #[must_use]
    pub fn format(words: &'a [AtomicU64]) -> Self {
        let claims = Self { words };
        words[1].store(u64::from(claims.slots()), Relaxed);
        words[0].store(MAGIC, Release);
        claims
    }

    /// A page that was formatted, or opened, before. Costs nothing: made anew at each use.
    #[must_use]
    pub fn of(words: &'a [AtomicU64]) -> Self {
        Self { words }
    }

    /// A page the host made; `None` if it is not one.
    #[must_use]
    pub fn open(words: &'a [AtomicU64]) -> Option<Self> {
        let claims = Self { words };
        let good = words.len() > FIRST_SLOT
            && words[0].load(Acquire) == MAGIC
            && words[1].load(Relaxed) <= u64::from(claims.slots());
        good.then_some(claims)
    }

    /// How many slots there are room for.
    #[must_use]
    pub fn slots(&self) -> u16 {
        u16::try_from(self.words.len() - FIRST_SLOT).unwrap_or(u16::MAX)
    }

    fn slot(&self, slot: u16) -> Option<&'a AtomicU64> {
        self.words.get(FIRST_SLOT + usize::from(slot))
    }

    fn swap(&self, slot: u16, call: u64, from: SlotState, to: SlotState) -> bool {
        self.slot(slot).is_some_and(|word| {
            word.compare_exchange(from.word(call), to.word(call), AcqRel, Acquire).is_ok()
        })
    }

    /// Host: announces a call before sending it.
    pub fn queue(&self, slot: u16, call: u64) {
        if let Some(word) = self.slot(slot) {
            word.store(SlotState::Queued.word(call), Release);
        }
    }

    /// Worker: begins a call. False: it was taken back, forget it.
    #[must_use]
    pub fn claim(&self, slot: u16, call: u64) -> bool {
        self.swap(slot, call, SlotState::Queued, SlotState::Running)
    }

    /// Host: takes a call back. False: it has begun.
    #[must_use]
    pub fn revoke(&self, slot: u16, call: u64) -> bool {
        self.swap(slot, call, SlotState::Queued, SlotState::Revoked)
    }

    /// Worker: the call has ended.
    pub fn finish(&self, slot: u16, call: u64) {
        // Only the host could have changed it, and it never touches a running call.
        let _ = self.swap(slot, call, SlotState::Running, SlotState::Done);
    }

    /// Host: the slot is empty again.
    pub fn free(&self, slot: u16) {
        if let Some(word) = self.slot(slot) {
            word.store(0, Release);
        }
    }

    /// How far `call` in `slot` got. Another call's word means that this one was never begun there.
    #[must_use]
    pub fn state(&self, slot: u16, call: u64) -> SlotState {
        let word = self.slot(slot).map_or(0, |word| word.load(Acquire));
        if word >> STATE_BITS == call { SlotState::from_word(word) } else { SlotState::Free }
    }

    /// Worker: its loop turned once more.
    pub fn tick(&self) {
        self.words[2].fetch_add(1, Relaxed);
    }

    /// How often the worker's loop has turned.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.words[2].load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_call_is_either_begun_or_taken_back_never_both() {
        let words: Vec<AtomicU64> = (0..Claims::words_for(1)).map(|_| AtomicU64::new(0)).collect();
        let _ = Claims::format(&words);
        let (begun, revoked) = (AtomicUsize::new(0), AtomicUsize::new(0));
        for call in (2..2_000).step_by(2) {
            Claims::format(&words).queue(0, call);
            std::thread::scope(|scope| {
                scope
                    .spawn(|| begun.fetch_add(usize::from(claims(&words).claim(0, call)), Relaxed));
                scope.spawn(|| {
                    revoked.fetch_add(usize::from(claims(&words).revoke(0, call)), Relaxed)
                });
            });
        }
        assert_eq!(begun.into_inner() + revoked.into_inner(), 999);
    }

    #[test]
    fn a_stale_call_cannot_claim_the_slot_of_a_new_one() {
        let words: Vec<AtomicU64> = (0..Claims::words_for(4)).map(|_| AtomicU64::new(0)).collect();
        let page = Claims::format(&words);
        page.queue(3, 2);
        assert!(page.revoke(3, 2));
        page.queue(3, 4);
        assert!(!page.claim(3, 2));
        assert!(page.claim(3, 4));
        assert_eq!(page.state(3, 2), SlotState::Free);
        page.finish(3, 4);
        assert_eq!(page.state(3, 4), SlotState::Done);
        // A slot outside the page is never anybody's.
        page.queue(9, 6);
        assert!(!page.claim(9, 6));
    }

    fn claims(words: &[AtomicU64]) -> Claims<'_> {
        Claims::open(words).expect("formatted above")
    }
}
