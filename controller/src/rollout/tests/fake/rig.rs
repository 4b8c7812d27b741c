//! A controller on the simulated fleet, that can be killed between any two steps.

use super::{Behaviour, FakeDevice, FakeFleet, model};
use crate::rollout::core::{Core, CoreParts};
use crate::rollout::events::{Event, Record};
use crate::rollout::fleet::Fleet;
use crate::rollout::machine::{Command, State};
use crate::rollout::start::StartRequest;
use crate::rollout::strategy::StrategyFile;
use crate::store::MemoryStore;
use fieldpost_shared::id::{ReleaseRef, RolloutId};
use fieldpost_shared::time::{Clock, ManualClock, Timestamp};
use fieldpost_shared::trust::SecretKey;
use semver::Version;
use std::sync::Arc;
use std::time::Duration;

/// A controller with its fleet.
pub(crate) struct Rig {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) fleet: Arc<FakeFleet>,
    pub(crate) store: Arc<dyn crate::store::Store>,
    pub(crate) core: Core,
}

/// The strategy of most tests: waves of 1, 4, 12, a soak of 10 s, silence after 10 s.
pub(crate) fn quick(waves: &str) -> StrategyFile {
    toml::from_str(&format!(
        r#"waves = "{waves}"
           soak = "10s"
           max_dwell = "60s"
           probation = "0s"
           evidence = "gates"
           device_timeout = "20s"
           wave_timeout = "120s"
           silence_after = "10s""#
    ))
    .unwrap()
}

thread_local! {
    static SEEDS: std::cell::Cell<u8> = const { std::cell::Cell::new(7) };
}

/// The same seeds in every rig: the first is of sevens, the second of eights.
#[allow(clippy::unnecessary_wraps, reason = "the real source of seeds can fail")]
fn fixed_seed() -> Result<[u8; 32], getrandom::Error> {
    Ok([SEEDS.replace(SEEDS.get().wrapping_add(1)); 32])
}

impl Rig {
    /// `count` devices `box-0`, `box-1`, ... that run 1.0.0, and a good 1.1.0.
    pub(crate) fn new(count: usize) -> Self {
        Self::with_store(count, Arc::new(MemoryStore::default()))
    }

    pub(crate) fn with_store(count: usize, store: Arc<dyn crate::store::Store>) -> Self {
        SEEDS.set(7);
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let fleet = Arc::new(FakeFleet::new(Arc::clone(&clock)));
        let old = fleet.add_release("1.0.0", Behaviour::Good);
        fleet.add_release("1.1.0", Behaviour::Good);
        (0..count).for_each(|i| fleet.add_device(&format!("box-{i}"), Some(&old)));
        let core = Core::load(Self::parts(&clock, &fleet, &store)).unwrap();
        let mut rig = Self { clock, fleet, store, core };
        rig.run(5);
        rig
    }

    pub(crate) fn parts(
        clock: &Arc<ManualClock>,
        fleet: &Arc<FakeFleet>,
        store: &Arc<dyn crate::store::Store>,
    ) -> CoreParts {
        CoreParts {
            fleet: Arc::clone(fleet) as Arc<dyn Fleet>,
            store: Arc::clone(store),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            key: SecretKey::from_seed(&[1; 32]),
            fleet_id: "test".parse().unwrap(),
            entropy: Arc::new(fixed_seed),
        }
    }

    /// Forgets everything but the store, as a killed controller does.
    pub(crate) fn restart(&mut self) {
        self.core = Core::load(Self::parts(&self.clock, &self.fleet, &self.store)).unwrap();
    }

    pub(crate) fn release(&self, version: &str, behaviour: Behaviour) {
        self.fleet.add_release(version, behaviour);
    }

    pub(crate) fn start_with(&mut self, version: &str, strategy: StrategyFile) -> RolloutId {
        self.try_start(version, strategy).unwrap()
    }

    pub(crate) fn try_start(
        &mut self,
        version: &str,
        strategy: StrategyFile,
    ) -> Result<RolloutId, crate::rollout::core::CoreError> {
        let request = StartRequest { model: model(), version: version.parse().unwrap(), strategy, retry_of: None };
        self.core.start(&request, "ann").map(|summary| summary.id)
    }

    /// What was taken back or stopped, anew.
    pub(crate) fn retry(
        &mut self,
        first: &RolloutId,
        version: &str,
        strategy: StrategyFile,
    ) -> Result<RolloutId, crate::rollout::core::CoreError> {
        let retry_of = Some(first.clone());
        let request = StartRequest { model: model(), version: version.parse().unwrap(), strategy, retry_of };
        self.core.start(&request, "ann").map(|summary| summary.id)
    }

    /// The same for another model, whose devices answer no requests.
    pub(crate) fn try_start_other(
        &mut self,
        release: &ReleaseRef,
        strategy: StrategyFile,
    ) -> Result<RolloutId, crate::rollout::core::CoreError> {
        let evidence = Some(crate::rollout::strategy::Demand::Requests);
        let strategy = StrategyFile { min_requests: Some(0), evidence, ..strategy };
        let request =
            StartRequest { model: release.model.clone(), version: release.version.clone(), strategy, retry_of: None };
        self.core.start(&request, "ann").map(|summary| summary.id)
    }

    pub(crate) fn waiting(&self, id: &RolloutId) -> String {
        self.core.explain(id).unwrap().waiting.join(" · ")
    }

    pub(crate) fn start(&mut self, version: &str, waves: &str) -> RolloutId {
        self.start_with(version, quick(waves))
    }

    /// One second: devices live, the engine looks.
    pub(crate) fn second(&mut self) {
        self.clock.advance(Duration::from_secs(1));
        self.fleet.tick();
        let stuck = self.core.look().unwrap();
        assert!(stuck.is_empty(), "{stuck:?}");
    }

    pub(crate) fn run(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.second());
    }

    pub(crate) fn stage(&self, id: &RolloutId) -> &'static str {
        self.state(id).stage.name()
    }

    pub(crate) fn state(&self, id: &RolloutId) -> &State {
        self.core.state(id).unwrap()
    }

    pub(crate) fn reason(&self, id: &RolloutId) -> String {
        self.core.summary(id).unwrap().reason.unwrap_or_default()
    }

    /// Runs until the rollout is in this state; fails after ten minutes of simulated time.
    pub(crate) fn until(&mut self, id: &RolloutId, stage: &str) {
        for _ in 0..600 {
            if self.stage(id) == stage {
                return;
            }
            self.second();
        }
        panic!("still {} and not {stage}: {:#?}", self.stage(id), self.core.explain(id).unwrap().waiting);
    }

    pub(crate) fn command(&mut self, id: &RolloutId, command: &Command) {
        self.core.command(id, command, "bob").unwrap();
    }

    pub(crate) fn events(&self, id: &RolloutId) -> Vec<Record> {
        self.core.events(id, 0, usize::MAX).unwrap()
    }

    pub(crate) fn count(&self, id: &RolloutId, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events(id).iter().filter(|record| wanted(&record.event)).count()
    }

    /// Devices that run a version, by their own word.
    pub(crate) fn running(&self, version: &str) -> Vec<String> {
        let version: Version = version.parse().unwrap();
        let runs = |device: &FakeDevice| device.live.as_ref().is_some_and(|live| live.version == version);
        let world = self.fleet.world();
        world.devices.iter().filter(|(_, device)| runs(device)).map(|(id, _)| id.to_string()).collect()
    }

    /// The device at a place in the rollout's order.
    pub(crate) fn nth(&self, id: &RolloutId, place: usize) -> String {
        self.state(id).order[place].device.to_string()
    }
}
