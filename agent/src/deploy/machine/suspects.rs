//! Whose death it was, where several slots were at work: one process runs all models, and dies with all of them.

use crate::deploy::slot::{Slot, State};

/// A model is being loaded, and may have taken the process with it.
#[must_use]
pub fn is_loading(state: &State) -> bool {
    matches!(
        state,
        State::SelfTesting { .. } | State::Swapping { .. } | State::Reverting { .. } | State::Restoring { .. }
    )
}

/// Before the start after a death: where a candidate was in its self-test or swap, or stood beside a live release, the death is counted there, and the
/// others, which served or loaded what had served, are taken as stopped in order. Once that candidate is in quarantine, the next death is theirs.
pub fn acquit<'a>(slots: impl IntoIterator<Item = &'a mut Slot>) {
    let mut slots: Vec<_> = slots.into_iter().collect();
    let tried =
        |slot: &Slot| matches!(slot.state, State::SelfTesting { .. } | State::Swapping { .. } | State::Beside { .. });
    if slots.iter().any(|slot| !slot.stopped && tried(slot)) {
        slots.iter_mut().filter(|slot| !tried(slot)).for_each(|slot| slot.stopped = true);
    }
}
