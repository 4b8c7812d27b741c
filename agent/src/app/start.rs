//! What the disk tells before anything runs.

use crate::cli::CommandError;
use crate::deploy::Journal;
use crate::serve::Registry;
use crate::store::{Store, StoreError};
use anyhow::{Context as _, anyhow};
use fieldpost_shared::trust::SignedRoot;

/// Refuses to enrol where the box believes a root that the controller's chain does not hold: it would go on believing
/// that one, and refuse everything that this controller signs.
pub(super) fn check_same_fleet(store: &Store, chain: &[SignedRoot]) -> Result<(), CommandError> {
    let newest = store.latest_root().context("cannot read the root of trust")?;
    let Some(newest) = newest.and_then(|(_, bytes)| SignedRoot::parse(&bytes).ok()) else { return Ok(()) };
    if chain.iter().any(|root| root.payload == newest.payload) {
        return Ok(());
    }
    let (version, fleet) = (newest.metadata.version, newest.metadata.fleet);
    let next = "next: enrol with a new --data-dir; this one holds the models and the trust of the fleet before";
    Err(anyhow!(
        "this box believes root version {version} of fleet `{fleet}`, which this controller does not know\n{next}"
    )
    .into())
}

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
    use crate::store::StoreSettings;
    use crate::store::testing::root;
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

    #[test]
    fn another_fleets_root_is_not_enrolled_over() {
        let data = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
        let (store, _) = Store::open(data.path(), StoreSettings::default(), &clock).unwrap();
        let [old, other] = [1, 8].map(|seed| root("default", 1, seed, 3));
        check_same_fleet(&store, std::slice::from_ref(&other)).unwrap();
        store.add_root(1, &old.to_bytes(), false).unwrap();
        check_same_fleet(&store, &[old, root("default", 2, 1, 3)]).unwrap();
        let refused = check_same_fleet(&store, &[other]).unwrap_err();
        assert!(format!("{refused:?}").contains("--data-dir"), "{refused:?}");
    }
}
