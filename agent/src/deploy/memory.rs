//! How much of the agent's memory is held against one release in probation. Pure.
//!
//! The kernel counts the memory of the whole process. What it grew by while another slot loaded a model is that one's, or
//! nobody knows whose: it is left out. And a peak that is gone at the next look proves nothing.

use super::probation::Harm;
use fieldpost_shared::wire::v1::FailureKind;

/// Looks in a row that must find too much memory before it is harm.
const LOOKS: u32 = 3;

/// What the looks at one probation saw of the process's memory.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryWatch {
    /// Growth at the last look with nobody else at work, bytes.
    seen: Option<u64>,
    /// Growth that others may have caused, bytes.
    forgiven: u64,
    /// Another slot has loaded, or let go, a model since the last look.
    disturbed: bool,
    /// Looks in a row that found harm.
    over: u32,
}

impl MemoryWatch {
    /// Another slot begins or ends to load a model.
    pub(super) fn disturb(&mut self) {
        self.disturbed = true;
    }

    /// Of the growth that the kernel shows, what counts; none while another slot is at work.
    pub(super) fn held(&mut self, growth: Option<u64>, others_at_work: bool) -> Option<u64> {
        let growth = growth?;
        if others_at_work {
            self.disturbed = true;
            return None;
        }
        if std::mem::take(&mut self.disturbed) {
            let meanwhile = growth.saturating_sub(self.seen.unwrap_or(0));
            self.forgiven = self.forgiven.saturating_add(meanwhile);
        }
        self.seen = Some(growth);
        Some(growth.saturating_sub(self.forgiven))
    }

    /// Lets harm by memory pass only when it is there look after look; other harm at once.
    pub(super) fn proven(&mut self, harm: Option<Harm>) -> Option<Harm> {
        let by_memory = harm.as_ref().is_some_and(|harm| harm.kind == FailureKind::Memory);
        self.over = if by_memory { self.over.saturating_add(1) } else { 0 };
        harm.filter(|_| !by_memory || self.over >= LOOKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is held at looks that show so much growth; None is a look while others are at work.
    fn check(looks: &[Option<u64>]) -> Vec<Option<u64>> {
        let mut watch = MemoryWatch::default();
        looks.iter().map(|look| watch.held(Some(look.unwrap_or(1_000)), look.is_none())).collect()
    }

    #[test]
    fn what_grows_while_nobody_else_is_at_work_is_held() {
        assert_eq!(check(&[Some(10), Some(40)]), [Some(10), Some(40)]);
    }

    #[test]
    fn what_grows_while_another_slot_loads_is_not_held_also_afterwards() {
        assert_eq!(check(&[Some(10), None, Some(90), Some(95)]), [Some(10), None, Some(10), Some(15)]);
        assert_eq!(check(&[None, Some(90), Some(95)]), [None, Some(0), Some(5)]);
    }

    #[test]
    fn work_between_two_looks_is_not_held_either() {
        let mut watch = MemoryWatch::default();
        watch.held(Some(10), false);
        watch.disturb();
        assert_eq!(watch.held(Some(90), false), Some(10));
    }

    #[test]
    fn memory_is_harm_only_look_after_look() {
        let harm = |kind| Some(Harm { kind, detail: String::new() });
        let mut watch = MemoryWatch::default();
        let mut found = |kind| watch.proven(harm(kind)).is_some();
        assert_eq!([(); 2].map(|()| found(FailureKind::Memory)), [false, false]);
        assert!(found(FailureKind::Errors));
        assert_eq!([(); 3].map(|()| found(FailureKind::Memory)), [false, false, true]);
    }
}
