//! The beginning of a rollout: everything that can be refused is refused here, before anything changes.

use super::events::{Event, Spec};
use super::fit::unfit;
use super::fleet::{DeviceView, Devices, FleetError, ReleaseInfo};
use super::machine::{Progress, Stage, State};
use super::maintenance::{self, MaintenanceError, Zone};
use super::order::{Seat, draw, last_of_each_last};
use super::plan::{Arrangement, PlanError, Share};
use super::strategy::{Demand, Strategy, StrategyError, StrategyFile};
use super::trial::design::{Facts, Pace};
use super::trial::{Design, Layout};
use crate::fleet::labels::RESERVED;
use crate::fleet::selector::Selector;
use fieldpost_shared::id::{DeviceId, Digest, ModelName, ReleaseRef, RolloutId};
use fieldpost_shared::time::Timestamp;
use fieldpost_shared::wire::v1::FailureKind;
use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names listed in an error; more are counted.
const NAMED: usize = 5;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// The model.
    pub model: ModelName,
    /// Its version.
    pub version: Version,
    /// How.
    #[serde(default)]
    pub strategy: StrategyFile,
    /// The rollout that was taken back or stopped, and that this is another try of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RolloutId>,
}

/// Why a rollout does not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The strategy cannot be.
    #[error("cannot use the strategy")]
    Strategy(#[from] StrategyError),
    /// No such release.
    #[error("the controller has no release {model}@{version}")]
    UnknownRelease {
        /// The model asked for.
        model: ModelName,
        /// The version asked for.
        version: Version,
    },
    /// No device would start it.
    #[error("{0} is revoked by the fleet's root: no device starts it")]
    Revoked(ReleaseRef),
    /// Nobody matches.
    #[error("the selector `{selector}` matches none of {devices} active devices")]
    NobodyMatches {
        /// As it was given.
        selector: String,
        /// Active devices.
        devices: usize,
    },
    /// Everybody who matches lacks something.
    #[error("none of the {count} matching devices can run the release; `{example}`: {why}")]
    NobodyFits {
        /// Devices that match.
        count: usize,
        /// One of them.
        example: DeviceId,
        /// What it lacks.
        why: String,
    },
    /// It is there already.
    #[error("all {0} matching devices run the release already")]
    AlreadyThere(usize),
    /// Another rollout owns devices.
    #[error("rollout `{other}` of the same model is {stage} and owns {count} of these devices: {devices}")]
    Conflict {
        /// The other one.
        other: RolloutId,
        /// Where it is.
        stage: String,
        /// How many devices both want.
        count: usize,
        /// Their names.
        devices: String,
    },
    /// There is nothing to try again.
    #[error("cannot try rollout `{first}` again: {why}")]
    NoRetry {
        /// Which.
        first: RolloutId,
        /// Why not.
        why: String,
    },
    /// The waves do not add up for this fleet.
    #[error("cannot use the waves for {devices} devices")]
    Waves {
        /// Devices that match and fit.
        devices: usize,
        /// Why.
        #[source]
        source: PlanError,
    },
    /// Devices are chosen by a label that nobody has.
    #[error("{by} names the label `{label}`, which no device of the fleet has; there are: {known}")]
    UnknownLabel {
        /// What chooses them, as it was given.
        by: String,
        /// The label.
        label: String,
        /// Labels that there are.
        known: String,
    },
    /// A wave that is to be approved is not there for this fleet.
    #[error("wave {wave} is to be approved, and for this fleet the last wave is {last}")]
    NoSuchWave {
        /// The number that was given.
        wave: usize,
        /// Number of the last wave.
        last: usize,
    },
    /// Too many devices lack something.
    #[error("{unfit} of {count} matching devices cannot run the release, and {limit} may be left out; {why}")]
    TooUnfit {
        /// Devices that lack something.
        unfit: usize,
        /// Devices that match.
        count: usize,
        /// As many of them may.
        limit: usize,
        /// What they lack, the most frequent first.
        why: String,
    },
    /// Nobody has the other model that is needed.
    #[error("none of the {count} devices that could run the release has {requirement} live; {runs}")]
    NobodySatisfies {
        /// Devices that could.
        count: usize,
        /// What is needed.
        requirement: String,
        /// What they run of it.
        runs: String,
    },
    /// It would begin after its end.
    #[error("the schedule ended at {0}")]
    Over(Timestamp),
    /// A device's label names no time zone.
    #[error("{count} devices have a label that is no time zone, so nobody knows when `{example}` may be told")]
    UnknownZone {
        /// How many.
        count: usize,
        /// One of them.
        example: DeviceId,
        /// Why.
        #[source]
        source: MaintenanceError,
    },
    /// The fleet failed, or the selector is none.
    #[error("cannot look at the fleet")]
    Fleet(#[from] FleetError),
}

impl StartError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Strategy(StrategyError::Waves(error)) => error.hint().to_owned(),
            Self::Waves { source, .. } => source.hint().to_owned(),
            Self::UnknownRelease { model, .. } => {
                format!("`fieldpost bundle list {model}` shows what is there; `fieldpost bundle push` adds to it")
            }
            Self::Revoked(release) => format!(
                "pack and push a new version; `fieldpost bundle list --model {}` shows what may run",
                release.model
            ),
            Self::NobodyMatches { devices: 0, .. } => {
                "enrol devices first: `fieldpost token create --enroll`, then `fieldpost-agent enroll`".to_owned()
            }
            Self::NobodyMatches { .. } => {
                "`fieldpost device list` shows labels and inventory; for example --selector site=lyon, or '*' for all"
                    .to_owned()
            }
            Self::NobodyFits { .. } => "pack the bundle for these boxes, or choose others with --selector".to_owned(),
            Self::AlreadyThere(_) => "there is nothing to do".to_owned(),
            Self::Conflict { other, .. } => {
                format!("wait for it, abort it (`fieldpost rollout abort {other} --keep`), or choose other devices")
            }
            Self::NoRetry { .. } => {
                "`fieldpost rollout list` shows what there is; only what was rolled back or aborted is tried again".to_owned()
            }
            Self::UnknownLabel { .. } => {
                "`fieldpost device list` shows labels; `fieldpost device label` sets them".to_owned()
            }
            Self::NoSuchWave { .. } => {
                "`fieldpost rollout start ... --dry-run` shows the waves with their numbers".to_owned()
            }
            Self::TooUnfit { .. } => {
                "pack the bundle for these boxes too, choose others with --selector, or leave them out with --allow-unfit"
                    .to_owned()
            }
            Self::NobodySatisfies { requirement, .. } => {
                format!("roll {requirement} out first, or correct `requires`")
            }
            Self::Over(_) => "give a later --until, or none".to_owned(),
            Self::UnknownZone { example, .. } => {
                format!("`fieldpost device label {example} timezone=Europe/Paris` corrects it")
            }
            Self::Strategy(_) | Self::Fleet(_) => return None,
        };
        Some(text)
    }

    /// Whether the request itself is at fault, rather than the state of things or the controller.
    #[must_use]
    pub const fn is_request(&self) -> bool {
        matches!(self, Self::Strategy(_) | Self::Waves { .. } | Self::UnknownLabel { .. } | Self::NoSuchWave { .. })
    }
}

/// What is known when a rollout begins.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// The release.
    pub release: &'a ReleaseInfo,
    /// The active devices.
    pub devices: &'a Devices,
    /// Those that the selector matches.
    pub matching: &'a BTreeSet<DeviceId>,
    /// Every rollout that there is.
    pub others: &'a [&'a State],
    /// What the fleet has shown.
    pub facts: &'a Facts,
    /// The time.
    pub now: Timestamp,
}

/// The event that begins a rollout.
///
/// # Errors
/// When it is refused.
pub fn begin(
    request: &StartRequest,
    id: RolloutId,
    seed: Digest,
    by: &str,
    seen: &Circumstances<'_>,
) -> Result<Event, StartError> {
    if seen.release.revoked {
        return Err(StartError::Revoked(seen.release.release.clone()));
    }
    if let Some(first) = &request.retry_of {
        may_retry(first, &seen.release.release.model, seen.others)?;
    }
    let file = &request.strategy;
    let mut strategy = Strategy::resolve(file)?;
    if let Some(until) = strategy.until.filter(|until| *until <= seen.now) {
        return Err(StartError::Over(until));
    }
    let selector = file.selector.clone().unwrap_or_else(|| "*".to_owned());
    if !seen.devices.is_empty() {
        known_labels(&selector, &strategy, seen.devices)?;
    }
    let matching: Vec<&DeviceView> =
        seen.matching.iter().filter_map(|device| seen.devices.get(device).map(Arc::as_ref)).collect();
    if matching.is_empty() {
        return Err(StartError::NobodyMatches { selector, devices: seen.devices.len() });
    }
    let release = &seen.release.release;
    let lacks = |view: &&DeviceView| {
        unfit(&seen.release.manifest.requirements, &view.inventory).map(|why| (view.id.clone(), why))
    };
    let unfit: Vec<(DeviceId, String)> = matching.iter().filter_map(lacks).collect();
    let lacking: BTreeSet<&DeviceId> = unfit.iter().map(|(device, _)| device).collect();
    let fitting: Vec<&DeviceView> = matching.iter().copied().filter(|view| !lacking.contains(&view.id)).collect();
    if let (true, Some((example, why))) = (fitting.is_empty(), unfit.first().cloned()) {
        return Err(StartError::NobodyFits { count: unfit.len(), example, why });
    }
    let limit = strategy.max_unfit.floor(matching.len());
    if unfit.len() > limit {
        let why = reasons(&unfit);
        return Err(StartError::TooUnfit { unfit: unfit.len(), count: matching.len(), limit, why });
    }
    can_be_told(&strategy, &fitting)?;
    let wanted: Vec<&DeviceId> = fitting.iter().map(|view| &view.id).collect();
    conflict(&release.model, &wanted, seen.others)?;
    let told = |view: &&DeviceView| view.desired.get(&release.model).is_some_and(|told| told.release == *release);
    let runs = |view: &&DeviceView| view.settled && view.live(&release.model) == Some(release);
    if fitting.iter().all(|view| told(view) && runs(view)) {
        return Err(StartError::AlreadyThere(fitting.len()));
    }
    let seat = |view: &&DeviceView| Seat { device: view.id.clone(), stratum: strategy.stratum(view) };
    let drawn = last_of_each_last(draw(&seed, fitting.iter().map(seat)));
    let is_in = |selector: &Selector, place: usize| {
        let view = drawn.get(place).and_then(|seat| seen.devices.get(&seat.device));
        view.is_some_and(|view| selector.matches(view.subject()))
    };
    let arrange = |holdout: usize| strategy.waves.arrange(drawn.len(), holdout, is_in);
    let asked = strategy.holdout.ceil(drawn.len());
    let mut arrangement = arrange(asked).map_err(|source| StartError::Waves { devices: fitting.len(), source })?;
    let design_of = |strategy: &Strategy, arrangement: &Arrangement| {
        design(strategy, file.holdout.is_some(), &drawn, arrangement, seen.facts)
    };
    let mut design = design_of(&strategy, &arrangement);
    if let (Some(_), None) = (&design, file.holdout) {
        // Waves that name every device by number leave nobody to hold out; then the last one has no controls.
        let held = own_holdout(&drawn);
        let with = arrange(held).ok().and_then(|with| Some((design_of(&strategy, &with)?, with)));
        if let Some((better, with)) = with.filter(|(better, _)| better.decides_anything()) {
            (arrangement, design) = (with, Some(better));
            strategy.holdout = Share::Count(held);
        }
    }
    let Arrangement { waves, places } = arrangement;
    let design = design.map(Box::new);
    let order = places.into_iter().filter_map(|place| drawn.get(place).cloned()).collect();
    let last = waves.last().map_or(0, |wave| wave.asked);
    let beyond = strategy.approve_before.iter().map(|approval| approval.wave).find(|wave| *wave > last);
    // Where the numbers do not depend on the fleet they were checked before; a wave that is left out there asks later.
    if let (Some(wave), None) = (beyond, strategy.waves.last_number()) {
        return Err(StartError::NoSuchWave { wave, last });
    }
    let note = file.note.clone().unwrap_or_default();
    let spec = Box::new(Spec { release: release.clone(), selector, strategy, note });
    let (by, retry_of) = (by.to_owned(), request.retry_of.clone());
    Ok(Event::Created { rollout: id, spec, seed, order, waves, unfit, design, by, retry_of })
}

/// Refuses another try of what has not been taken back or stopped.
fn may_retry(first: &RolloutId, model: &ModelName, others: &[&State]) -> Result<(), StartError> {
    let refuse = |why: String| StartError::NoRetry { first: first.clone(), why };
    let state = others.iter().find(|state| state.id == *first).ok_or_else(|| refuse("there is none".to_owned()))?;
    if state.spec.release.model != *model {
        return Err(refuse(format!("it was of the model `{}`", state.spec.release.model)));
    }
    match &state.stage {
        Stage::RolledBack { .. } | Stage::Aborted { .. } => Ok(()),
        stage => Err(refuse(format!("it is {stage}"))),
    }
}

/// The experiment, where the strategy asks for one and there is something to compare with.
fn design(
    strategy: &Strategy,
    all_by_choice: bool,
    drawn: &[Seat],
    arrangement: &Arrangement,
    facts: &Facts,
) -> Option<Design> {
    if strategy.evidence != Demand::Trial || !facts.comparable {
        return None;
    }
    let reaches: Vec<usize> = arrangement.waves.iter().map(|wave| wave.reaches).collect();
    let strata = arrangement.places.iter().filter_map(|place| drawn.get(*place)).map(|seat| seat.stratum.as_str());
    let layout = Layout::new(strata, &reaches);
    let pace = Pace {
        soak: strategy.soak,
        max_dwell: strategy.dwell_chosen.then_some(strategy.max_dwell),
        history: strategy.history,
        all_by_choice,
    };
    Some(Design::new(&strategy.trial, pace, &layout, reaches.len(), facts))
}

/// The holdout where nobody says: 5 %, or one for each stratum as long as that is no more than 10 %.
fn own_holdout(drawn: &[Seat]) -> usize {
    let strata: BTreeSet<&str> = drawn.iter().map(|seat| seat.stratum.as_str()).collect();
    drawn.len().div_ceil(20).max(strata.len().min(drawn.len().div_ceil(10)))
}

/// What devices lack, by how many lack it.
fn reasons(unfit: &[(DeviceId, String)]) -> String {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (device, why) in unfit {
        by_reason.entry(why).or_default().push(device.as_str());
    }
    let mut all: Vec<(&str, Vec<&str>)> = by_reason.into_iter().collect();
    all.sort_by_key(|(_, devices)| std::cmp::Reverse(devices.len()));
    let shown = all.iter().take(NAMED).map(|(why, devices)| {
        let more = if devices.len() > 2 { ", ..." } else { "" };
        let names = devices.iter().take(2).copied().collect::<Vec<_>>().join(", ");
        format!("{} ({names}{more}): {why}", devices.len())
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// Refuses what would leave every device waiting for ever: a time zone that is none, another model that nobody has.
fn can_be_told(strategy: &Strategy, devices: &[&DeviceView]) -> Result<(), StartError> {
    if !strategy.maintenance.is_empty() {
        let zone = |view: &&DeviceView| {
            let error = view.labels.get(maintenance::LABEL).filter(|label| !label.is_empty())?.parse::<Zone>().err()?;
            Some((view.id.clone(), error))
        };
        let wrong: Vec<(DeviceId, MaintenanceError)> = devices.iter().filter_map(zone).collect();
        if let Some((example, source)) = wrong.first().cloned() {
            return Err(StartError::UnknownZone { count: wrong.len(), example, source });
        }
    }
    for requirement in &strategy.requires {
        if devices.iter().any(|view| requirement.lacks(view).is_none()) {
            continue;
        }
        let mut runs: BTreeMap<String, usize> = BTreeMap::new();
        for view in devices {
            let live = view.live(&requirement.model).map_or_else(|| "none".to_owned(), |live| live.version.to_string());
            *runs.entry(live).or_default() += 1;
        }
        let runs: Vec<String> = runs.into_iter().take(NAMED).map(|(what, n)| format!("{n} have {what}")).collect();
        let (count, requirement) = (devices.len(), requirement.to_string());
        return Err(StartError::NobodySatisfies { count, requirement, runs: runs.join(", ") });
    }
    Ok(())
}

/// Refuses labels that no device has where one must: a misspelt one would leave a wave to other devices.
fn known_labels(selector: &str, strategy: &Strategy, devices: &Devices) -> Result<(), StartError> {
    let parsed = parse(selector)?;
    let of_waves = strategy.waves.groups().map(|(wave, group)| {
        (format!("wave {wave} (`{group}`)"), group.needed().chain(group.excluded()).collect::<Vec<&str>>())
    });
    let of_per = strategy.per.iter().map(|per| (format!("`per` (`{per}`)"), vec![per.label.as_str()]));
    let chosen = std::iter::once((format!("the selector `{selector}`"), parsed.needed().collect()));
    for (by, labels) in chosen.chain(of_waves).chain(of_per) {
        if let Some(label) = labels.into_iter().find(|label| is_unknown(label, devices)) {
            let known: BTreeSet<&str> =
                devices.values().flat_map(|view| view.labels.keys()).map(String::as_str).take(1_000).collect();
            let known =
                if known.is_empty() { "none".to_owned() } else { known.into_iter().collect::<Vec<_>>().join(", ") };
            return Err(StartError::UnknownLabel { by, label: label.to_owned(), known });
        }
    }
    Ok(())
}

fn parse(selector: &str) -> Result<Selector, FleetError> {
    selector.parse().map_err(|error| FleetError::new("read the selector", error))
}

fn is_unknown(label: &str, devices: &Devices) -> bool {
    !RESERVED.contains(&label) && !devices.values().any(|view| view.labels.contains_key(label))
}

/// Labels that a selector keeps devices out by, and that no device has: nobody is kept out.
#[must_use]
pub fn excludes_nobody(selector: &str, devices: &Devices) -> Vec<String> {
    let Ok(parsed) = parse(selector) else { return Vec::new() };
    parsed.excluded().filter(|label| is_unknown(label, devices)).map(str::to_owned).collect()
}

/// Whether a rollout owns a device: what it changes, or is going to.
#[must_use]
pub fn owns(state: &State, device: &DeviceId) -> bool {
    let gone = |progress| matches!(progress, Progress::Gone | Progress::Superseded);
    state.stage.active() && state.members.get(device).is_some_and(|member| !gone(member.progress))
}

/// Refuses devices that another rollout of the model owns.
///
/// # Errors
/// [`StartError::Conflict`] with the first such rollout.
pub fn conflict(model: &ModelName, devices: &[&DeviceId], others: &[&State]) -> Result<(), StartError> {
    for other in others.iter().filter(|other| other.spec.release.model == *model) {
        let both: Vec<&str> =
            devices.iter().filter(|device| owns(other, device)).map(|device| device.as_str()).collect();
        if !both.is_empty() {
            let mut names = both.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            if both.len() > NAMED {
                names.push_str(", ...");
            }
            let (other, stage) = (other.id.clone(), other.stage.to_string());
            return Err(StartError::Conflict { other, stage, count: both.len(), devices: names });
        }
    }
    Ok(())
}

/// A failure in words that an operator knows.
#[must_use]
pub const fn failure_name(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Untrusted => "refused as untrusted",
        FailureKind::Unfit => "refused as unfit for the box",
        FailureKind::Fetch => "could not be fetched",
        FailureKind::Load => "does not load",
        FailureKind::SelfTest => "failed its self-test",
        FailureKind::OverBudget => "is over budget in the self-test",
        FailureKind::Errors => "made errors in probation",
        FailureKind::Latency => "was too slow in probation",
        FailureKind::Memory => "took too much memory in probation",
        FailureKind::Crash => "crashed the agent",
        FailureKind::LocalRollback => "was taken back on the device",
        FailureKind::Disagreement => "was not in shadow what its bundle says",
        FailureKind::Disk => "met a full or broken disk",
    }
}
