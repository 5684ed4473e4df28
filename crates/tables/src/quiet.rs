//! Decoders that give up by a panic.
//!
//! The libraries check most of what they read, and panic on some of the rest (a buffer shorter than
//! its column, say). For the caller that is bad input like any other.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// How many guarded calls this thread is in.
    static GUARDED: Cell<u32> = const { Cell::new(0) };
}

/// Calls `decode`; a panic in it becomes the message it had, and prints nothing.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    install();
    GUARDED.set(GUARDED.get() + 1);
    // What a decoder leaves half done is dropped with it: nobody looks at it again.
    let outcome = panic::catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(GUARDED.get() - 1);
    outcome.map_err(|panic| message(panic.as_ref()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    match said {
        Some(said) => format!("the library gave up on it ({said})"),
        None => "the library gave up on it".to_owned(),
    }
}

/// Puts a hook before the one there is, which is passed over for panics that are caught here.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is ending may have no flag any more.
            if GUARDED.try_with(Cell::get).unwrap_or(0) == 0 {
                previous(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_panic_becomes_its_message() {
        let said = guarded(|| -> u8 { panic!("no {}", "luck") }).unwrap_err();
        assert_eq!(said, "the library gave up on it (no luck)");
        assert_eq!(guarded(|| 1), Ok(1));
    }
}
