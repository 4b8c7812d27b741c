//! What the journal tells before anything runs.

use crate::deploy::Journal;
use crate::serve::Registry;
use crate::store::StoreError;

/// Tells the registry which models served before the agent stopped: until they are loaded again callers hear "not ready",
/// and not "unknown"; and the box is not ready before the last of them is.
pub(super) fn expect_live(journal: &dyn Journal, registry: &Registry) -> Result<(), StoreError> {
    for (model, slot) in journal.slots()? {
        if slot.live.is_some() {
            registry.expect(&model);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::Slot;
    use crate::deploy::testing::assignment;
    use crate::monitor::MonitorSettings;
    use crate::store::{Store, StoreSettings};
    use fieldpost_shared::time::{Clock, ManualClock, Timestamp};
    use std::sync::Arc;
    use tokio::sync::mpsc;

    #[test]
    fn a_model_that_served_before_the_start_is_not_ready_rather_than_unknown() {
        let data = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let (store, _) = Store::open(data.path(), StoreSettings::default(), clock.as_ref()).unwrap();
        let slot = |served: bool| Slot { live: served.then(|| assignment("m", 1, 1).into()), ..Slot::default() };
        store.commit(&"served".parse().unwrap(), Some(&slot(true)), &[]).unwrap();
        store.commit(&"coming".parse().unwrap(), Some(&slot(false)), &[]).unwrap();
        let (closed, _windows) = mpsc::channel(1);
        let registry = Registry::new(clock, MonitorSettings::default(), closed);
        expect_live(&store, &registry).unwrap();
        let status = |name| registry.find(Some(name)).unwrap_err().status.as_u16();
        assert_eq!((status("served"), status("coming")), (503, 404));
    }
}
