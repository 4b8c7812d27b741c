//! What answers requests now: one live release per model, changed atomically.

use super::batch::Batching;
use super::error::ApiError;
use super::ledger::Ledger;
use super::metrics::{Metrics, ModelMetrics};
use super::model::Model;
use super::oip::messages::ModelStatistics;
use super::oip::statistics::Statistics;
use super::recent::Recent;
use super::rival::{Portion, Rival, RivalError, Role, Sticky};
use super::running::Running;
use super::truth::{Prediction, shown};
use crate::deploy::{Compared, Observed};
use crate::monitor::collector::{Collector, Meter};
use crate::monitor::{ClosedWindow, MonitorSettings};
use axum::http::StatusCode;
use fieldpost_shared::id::{ModelName, ReleaseRef};
use fieldpost_shared::stats::{ErrorKind, Reading};
use fieldpost_shared::time::{Clock, Timestamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The live models. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    settings: MonitorSettings,
    closed: mpsc::Sender<ClosedWindow>,
    metrics: Metrics,
    slots: RwLock<Slots>,
    /// Replaced releases on which requests still run: their last window closes when the last of them is answered.
    retired: Mutex<Vec<Arc<Live>>>,
    /// What is counted of replaced releases on which nothing runs, while labels may come for their answers.
    past: Mutex<Vec<Arc<Ledger>>>,
    /// Closed windows that the outbox has not taken yet.
    ready: Mutex<VecDeque<ClosedWindow>>,
    /// Inferences that were given up and still have their thread.
    hung: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Slots {
    live: BTreeMap<ModelName, Arc<Live>>,
    /// Models that this box should serve: without a live release they are "not ready", and not "unknown".
    expected: BTreeSet<ModelName>,
    /// The last predictions of each, whichever release made them.
    recent: BTreeMap<ModelName, Arc<Mutex<Recent<Prediction>>>>,
}

/// A release that answers, with what it counts. A request holds it from the queue to its answer.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) model: Arc<dyn Model>,
    pub(crate) meter: Meter,
    pub(crate) metrics: Arc<ModelMetrics>,
    pub(crate) batching: Batching,
    /// What the statistics extension tells.
    pub(crate) counts: Statistics,
    clock: Arc<dyn Clock>,
    pub(crate) recent: Arc<Mutex<Recent<Prediction>>>,
    pub(crate) running: Running,
    pub(crate) ledger: Arc<Ledger>,
    rival: RwLock<Option<Rival>>,
    /// As a shadow: how it compares with the release that it stands beside.
    compared: Mutex<Compared>,
}

impl Live {
    pub(crate) fn release(&self) -> &ReleaseRef {
        self.model.release()
    }

    /// Counts a request that was not answered. How many the model itself has failed by now.
    pub(crate) fn failed(&self, kind: ErrorKind) -> u64 {
        self.metrics.failed(kind);
        self.collector().failed(kind)
    }

    /// How long ago that was, by the monotonic clock.
    pub(crate) fn since(&self, then: Duration) -> Duration {
        self.clock.monotonic().saturating_sub(then)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What the statistics extension tells.
    pub(crate) fn statistics(&self) -> ModelStatistics {
        self.counts.of(self.release(), self.metrics.executions())
    }

    pub(crate) fn collector(&self) -> MutexGuard<'_, Collector> {
        self.ledger.collector()
    }

    pub(crate) fn compared(&self) -> MutexGuard<'_, Compared> {
        lock(&self.compared)
    }

    pub(crate) fn version(&self) -> String {
        self.release().version.to_string()
    }

    fn observed(&self) -> Observed {
        let rss_growth_bytes = self.model.resident_growth_bytes();
        Observed { rss_growth_bytes, hung: self.running.ever_hung(), ..self.collector().observed() }
    }

    /// Looks at what stands beside it.
    pub(crate) fn with_rival<T>(&self, look: impl FnOnce(Option<&Rival>) -> T) -> T {
        look(self.rival.read().unwrap_or_else(PoisonError::into_inner).as_ref())
    }

    /// Those that answer callers: itself, and the other arm of a split.
    pub(crate) fn arms(self: &Arc<Self>) -> Vec<Arc<Self>> {
        let is_split = |rival: &&Rival| rival.split_by().is_some();
        let other = self.with_rival(|rival| rival.filter(is_split).map(|rival| Arc::clone(&rival.live)));
        [Arc::clone(self)].into_iter().chain(other).collect()
    }

    /// What requests are split by, while they are.
    pub(crate) fn split_by(&self) -> Option<Sticky> {
        self.with_rival(|rival| rival?.split_by().cloned())
    }

    /// The release beside it.
    pub(crate) fn rival(&self) -> Option<ReleaseRef> {
        self.with_rival(|rival| rival.map(|rival| rival.live.release().clone()))
    }

    fn take_rival(&self) -> Option<Arc<Self>> {
        self.rival.write().unwrap_or_else(PoisonError::into_inner).take().map(|rival| rival.live)
    }
}

impl Registry {
    /// A registry without models. Closed windows go to `closed`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, settings: MonitorSettings, closed: mpsc::Sender<ClosedWindow>) -> Self {
        Self(Arc::new(Inner {
            clock,
            settings,
            closed,
            metrics: Metrics::default(),
            slots: RwLock::default(),
            retired: Mutex::default(),
            past: Mutex::default(),
            ready: Mutex::default(),
            hung: watch::Sender::new(0),
        }))
    }

    /// Says that the box should serve a model: until its first release is live, callers are told 503 and not 404.
    pub fn expect(&self, model: &ModelName) {
        self.write(|slots| slots.expected.insert(model.clone()));
    }

    /// Atomically makes a release live: requests that are queued from now on go to it, those before finish on the old one.
    /// The old one's window closes with the last of them. What stood beside the old one does not stand beside the new one.
    pub fn install(&self, model: Arc<dyn Model>) {
        let name = model.release().model.clone();
        let old = self.write(|slots| {
            let live = self.make(slots, model);
            slots.expected.insert(name.clone());
            slots.live.insert(name, live)
        });
        self.retire(old);
    }

    /// Takes a model away: it is unknown from now on. Running requests finish.
    pub fn remove(&self, model: &ModelName) {
        let old = self.write(|slots| {
            slots.expected.remove(model);
            slots.recent.remove(model);
            slots.live.remove(model)
        });
        self.retire(old);
    }

    /// Shows a portion of the live release's requests to another release too, when nobody waits, and counts in the live
    /// one's window how the two compare. The other's answers are thrown away. What stood there before goes, but for the
    /// same release, which keeps its counts.
    ///
    /// # Errors
    /// When nothing is live to stand beside, or the release is live itself.
    pub fn set_shadow(&self, model: Arc<dyn Model>, portion: Portion) -> Result<(), RivalError> {
        self.set_rival(model, Role::Shadow { portion })
    }

    /// Lets another release answer a portion of the requests, by their ids or by what callers say. Each has windows of its
    /// own. Otherwise as [`Self::set_shadow`].
    ///
    /// # Errors
    /// As [`Self::set_shadow`].
    pub fn set_split(&self, model: Arc<dyn Model>, portion: Portion, by: Sticky) -> Result<(), RivalError> {
        self.set_rival(model, Role::Split { portion, by })
    }

    fn set_rival(&self, model: Arc<dyn Model>, role: Role) -> Result<(), RivalError> {
        let release = model.release().clone();
        let old = self.write(|slots| {
            let live = slots.live.get(&release.model).cloned();
            let live = live.ok_or_else(|| RivalError::NotLive(release.model.clone()))?;
            if *live.release() == release {
                return Err(RivalError::Live(release.clone()));
            }
            let mut place = live.rival.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(rival) = place.as_mut().filter(|rival| *rival.live.release() == release) {
                rival.role = role;
                return Ok(None);
            }
            Ok(place.replace(Rival { live: self.make(slots, model), role }))
        })?;
        lock(&self.0.retired).extend(old.map(|rival| rival.live));
        Ok(())
    }

    /// Takes away what stands beside the live release. Running requests finish.
    pub fn clear_rival(&self, model: &ModelName) {
        let live = self.read(|slots| slots.live.get(model).cloned());
        lock(&self.0.retired).extend(live.and_then(|live| live.take_rival()));
    }

    /// The release beside the live one.
    #[must_use]
    pub fn rival(&self, model: &ModelName) -> Option<ReleaseRef> {
        self.read(|slots| slots.live.get(model).cloned())?.rival()
    }

    /// The release beside the live one, if it is this one, as it is loaded.
    #[must_use]
    pub(crate) fn rival_model(&self, release: &ReleaseRef) -> Option<Arc<dyn Model>> {
        let live = self.read(|slots| slots.live.get(&release.model).cloned())?;
        let is = |rival: &&Rival| rival.live.release() == release;
        live.with_rival(|rival| rival.filter(is).map(|rival| Arc::clone(&rival.live.model)))
    }

    /// What the release beside the live one did since it was put there: as an arm of a split, and as a shadow.
    #[must_use]
    pub fn observed_rival(&self, model: &ModelName) -> Option<(Observed, Compared)> {
        let live = self.read(|slots| slots.live.get(model).cloned())?;
        let rival = live.with_rival(|rival| rival.map(|rival| Arc::clone(&rival.live)))?;
        let compared = *rival.compared();
        Some((rival.observed(), compared))
    }

    fn make(&self, slots: &mut Slots, model: Arc<dyn Model>) -> Arc<Live> {
        let (release, manifest) = (model.release().clone(), model.manifest());
        let metrics = Arc::new(self.0.metrics.of(&release));
        Arc::new(Live {
            meter: Meter::new(manifest),
            batching: Batching::of(manifest, model.plan_room()),
            counts: Statistics::default(),
            clock: Arc::clone(&self.0.clock),
            recent: Arc::clone(slots.recent.entry(release.model.clone()).or_default()),
            running: Running::default(),
            ledger: Arc::new(Ledger::new(release, manifest, Arc::clone(&metrics), self.0.clock.now())),
            metrics,
            rival: RwLock::default(),
            compared: Mutex::default(),
            model,
        })
    }

    fn retire(&self, old: Option<Arc<Live>>) {
        let rival = old.as_ref().and_then(|live| live.take_rival());
        lock(&self.0.retired).extend(old.into_iter().chain(rival));
    }

    /// The release that answers for a model.
    #[must_use]
    pub fn live(&self, model: &ModelName) -> Option<ReleaseRef> {
        self.read(|slots| slots.live.get(model).map(|live| live.release().clone()))
    }

    /// What the live release did since it was installed.
    #[must_use]
    pub fn observed(&self, model: &ModelName) -> Option<Observed> {
        let live = self.read(|slots| slots.live.get(model).cloned())?;
        Some(live.observed())
    }

    /// Counts against the live release that the process died with it.
    pub fn crashed(&self, model: &ModelName) {
        if let Some(live) = self.read(|slots| slots.live.get(model).cloned()) {
            live.collector().crashed();
        }
    }

    /// Puts a reading of the box in every open window.
    pub fn resources(&self, reading: &Reading) {
        self.all().iter().for_each(|live| live.collector().resources(reading));
    }

    /// The open windows in which something happened since the last call, as if they ended now.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<ClosedWindow> {
        let now = self.0.clock.now();
        let open = self.all().into_iter().filter_map(|live| live.collector().checkpoint(now));
        let past = lock(&self.0.past);
        open.chain(past.iter().filter_map(|ledger| ledger.collector().checkpoint(now))).collect()
    }

    /// Gives up the inferences that take longer than [`MonitorSettings::hang`]: each counts as an error of its model,
    /// once, and the release in probation is judged by it.
    pub fn give_up_hung(&self) {
        let (now, bound) = (self.0.clock.monotonic(), self.0.settings.hang);
        let retired: Vec<Arc<Live>> = lock(&self.0.retired).clone();
        let mut hung = 0_usize;
        for live in self.all().iter().chain(&retired) {
            let found = live.running.give_up(now, bound);
            for _ in 0..found {
                live.failed(ErrorKind::Inference);
            }
            if found > 0 {
                let release = live.release();
                tracing::error!(%release, inferences = found, ?bound, "the model hangs: an inference is given up");
            }
            hung = hung.saturating_add(live.running.hung());
        }
        self.0.hung.send_if_modified(|old| std::mem::replace(old, hung) != hung);
    }

    /// How many inference threads are lost to computations that do not come back.
    pub(crate) fn hung(&self) -> watch::Receiver<usize> {
        self.0.hung.subscribe()
    }

    /// Closes the windows that are full or old and those of replaced releases, of which labels make another when they come
    /// later; with `force`, all in which something
    /// happened. Waits until the receiver has taken them: when it is gone or this future is dropped, they are kept for the
    /// next call.
    pub async fn close_windows(&self, force: bool) {
        self.collect_windows(force);
        while !lock(&self.0.ready).is_empty() {
            let Ok(place) = self.0.closed.reserve().await else { return };
            let window = lock(&self.0.ready).pop_front();
            if let Some(window) = window {
                place.send(window);
            }
        }
    }

    /// Looks after replaced releases, as the timer does.
    #[cfg(test)]
    pub(crate) fn forget_retired(&self) {
        self.collect_windows(false);
    }

    fn collect_windows(&self, force: bool) {
        let (now, max_age) = (self.0.clock.now(), self.0.settings.window);
        let mut windows = Vec::new();
        let mut past = lock(&self.0.past);
        lock(&self.0.retired).retain(|live| {
            let running = Arc::strong_count(live) > 1;
            // What hangs may hold it for ever; its window does not wait for that.
            if force || !running || live.running.only_hung() {
                windows.extend(live.collector().close_if_used(now));
            }
            if !running {
                past.push(Arc::clone(&live.ledger));
            }
            running
        });
        past.retain(|ledger| {
            // Nobody else has it when no answer of it is kept.
            let awaited = Arc::strong_count(ledger) > 1;
            let mut collector = ledger.collector();
            let at_once = force || !awaited;
            windows.extend(if at_once { collector.close_if_used(now) } else { collector.close_late(now, max_age) });
            awaited
        });
        drop(past);
        for live in self.all() {
            let mut collector = live.collector();
            windows.extend(if force { collector.close_if_used(now) } else { collector.close_if_due(now, max_age) });
        }
        lock(&self.0.ready).extend(windows);
    }

    /// What Prometheus scrapes.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// How windows are kept.
    #[must_use]
    pub fn settings(&self) -> &MonitorSettings {
        &self.0.settings
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Whether at least one model is live, and each that should be is.
    pub(crate) fn is_ready(&self) -> bool {
        self.read(|slots| !slots.live.is_empty() && slots.expected.iter().all(|name| slots.live.contains_key(name)))
    }

    /// The release that answers for a name, or, without a name, the only one there is.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Arc<Live>, ApiError> {
        self.read(|slots| match name {
            Some(name) => slots.named(name),
            None => slots.only(),
        })
    }

    /// The models that should be here or are, by name, with their live releases.
    pub(crate) fn here(&self) -> Vec<(ModelName, Option<Arc<Live>>)> {
        self.read(|slots| {
            let names: BTreeSet<&ModelName> = slots.expected.iter().chain(slots.live.keys()).collect();
            names.into_iter().map(|name| (name.clone(), slots.live.get(name).cloned())).collect()
        })
    }

    /// The versions that answer for a name: the live one, and the other arm of a split.
    pub(crate) fn versions(&self, name: &str) -> Result<Vec<String>, ApiError> {
        Ok(self.find(Some(name))?.arms().iter().map(|arm| arm.version()).collect())
    }

    /// The last predictions of a model.
    pub(crate) fn recent(&self, name: &str) -> Result<Arc<Mutex<Recent<Prediction>>>, ApiError> {
        self.find(Some(name)).map(|live| Arc::clone(&live.recent))
    }

    /// All that are live, with those beside them.
    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        let live: Vec<Arc<Live>> = self.read(|slots| slots.live.values().cloned().collect());
        let beside = |live: &Arc<Live>| live.with_rival(|rival| rival.map(|rival| Arc::clone(&rival.live)));
        let rivals: Vec<Arc<Live>> = live.iter().filter_map(beside).collect();
        live.into_iter().chain(rivals).collect()
    }

    fn read<T>(&self, look: impl FnOnce(&Slots) -> T) -> T {
        look(&self.0.slots.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Slots) -> T) -> T {
        change(&mut self.0.slots.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Slots {
    fn named(&self, name: &str) -> Result<Arc<Live>, ApiError> {
        let unknown = || ApiError::new(StatusCode::NOT_FOUND, format!("no model `{}` here", shown(name)));
        let name: ModelName = name.parse().map_err(|_not_a_name| unknown())?;
        match self.live.get(&name) {
            Some(live) => Ok(Arc::clone(live)),
            None if self.expected.contains(&name) => Err(not_ready(&name)),
            None => Err(unknown()),
        }
    }

    fn only(&self) -> Result<Arc<Live>, ApiError> {
        let names: BTreeSet<&ModelName> = self.expected.iter().chain(self.live.keys()).collect();
        let mut rest = names.iter();
        match (rest.next(), rest.next()) {
            (None, _) => Err(ApiError::unavailable("no model is installed yet")),
            (Some(only), None) => self.live.get(*only).cloned().ok_or_else(|| not_ready(only)),
            _ => {
                let list: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
                let list = list.join(", ");
                Err(ApiError::bad_request(format!("several models are here ({list}): name one with `?model=`")))
            }
        }
    }
}

fn not_ready(name: &ModelName) -> ApiError {
    ApiError::unavailable(format!("model `{name}` is not ready yet"))
}

/// A panic while it was held left plain counters, which are usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
