//! Panics inside tract are answers about a model, or about one request: they are caught, and what the standard hook would
//! print of them goes to the log at `debug`.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// How many callers on this thread catch.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
}

static HOOK: Once = Once::new();

/// Runs what may panic; a panic is the payload.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            // A thread that is ending catches nothing.
            if CATCHING.try_with(Cell::get).unwrap_or_default() == 0 {
                before(panic);
            } else {
                tracing::debug!(%panic, "caught");
            }
        }));
    });
    CATCHING.set(CATCHING.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(CATCHING.get() - 1);
    done
}

/// What panics on this thread panics again on one that catches it.
pub(super) fn always() {
    CATCHING.set(CATCHING.get() + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::panic, reason = "it is what is caught")]
    fn a_panic_is_its_payload_and_the_next_one_is_seen_again() {
        let payload = caught(|| caught(|| panic!("inner")).unwrap_err()).unwrap();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"inner"));
        assert_eq!(caught(|| 7).unwrap(), 7);
        assert_eq!(CATCHING.get(), 0);
    }
}
