//! What a start would do, for whoever asks before doing it. It is made of the same event that a start stores, so that it
//! refuses what a start refuses and says what a start does.

use super::duration;
use super::fleet::{DeviceView, Devices};
use super::machine::State;
use super::maintenance::{Calendar, Opening};
use super::start::{excludes_nobody, owns};
use super::strategy::{Holdout, SmallFleet, Strategy};
use super::trial::Design;
use fieldpost_shared::id::{DeviceId, ReleaseRef, RolloutId};
use fieldpost_shared::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WavePreview {
    /// Its number, from 1.
    pub number: usize,
    /// As it was asked for.
    pub asked: String,
    /// Devices that it adds.
    pub adds: usize,
    /// Devices that it reaches with those before it.
    pub reaches: usize,
    /// Whether it is for a group: then these devices are certain, whatever the order.
    pub group: bool,
    /// Who has to approve it before it begins; none is nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
}

/// What a start would do now. The order is drawn when it starts, so who comes first is not known before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartPreview {
    /// What would be rolled out.
    pub release: ReleaseRef,
    /// To which devices.
    pub selector: String,
    /// Devices that would take part.
    pub devices: usize,
    /// Devices among them that run the release already; they would be counted and not told.
    pub there_already: usize,
    /// Devices that would be held out.
    pub held_out: usize,
    /// What would become of them.
    pub holdout_then: Holdout,
    /// The waves.
    pub waves: Vec<WavePreview>,
    /// Devices by what the random order would be stratified by.
    pub strata: BTreeMap<String, usize>,
    /// Devices that match and would be left out, and why.
    pub unfit: Vec<(DeviceId, String)>,
    /// The experiment that it would be: what it decides in each wave, and what harm it would find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub design: Option<Design>,
    /// What else there is to know, a sentence each.
    pub notes: Vec<String>,
    /// The complete strategy: what was given, and the defaults of the rest.
    pub strategy: Strategy,
    /// The rollout that this would be another attempt of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<RolloutId>,
}

impl StartPreview {
    /// Of a rollout that has not begun.
    #[must_use]
    pub fn of(state: &State, devices: &Devices, others: &[&State], now: Timestamp) -> Self {
        let release = &state.spec.release;
        let runs =
            |device: &DeviceId| devices.get(device).is_some_and(|view| view.live(&release.model) == Some(release));
        let mut strata: BTreeMap<String, usize> = BTreeMap::new();
        for seat in &state.order {
            *strata.entry(seat.stratum.clone()).or_default() += 1;
        }
        let soaked = state.waves.get(..state.soaked_waves).unwrap_or(&state.waves);
        let mut reached = 0;
        let waves = soaked.iter().enumerate().map(|(index, wave)| {
            let before = std::mem::replace(&mut reached, wave.reaches);
            WavePreview {
                number: index + 1,
                asked: wave.selector.clone().unwrap_or_else(|| wave.size.to_string()),
                adds: wave.reaches.saturating_sub(before),
                reaches: wave.reaches,
                group: wave.selector.is_some(),
                approval: state.needed(index).map(|needed| needed.text(&state.by)),
            }
        });
        let waves = waves.collect();
        Self {
            release: release.clone(),
            selector: state.spec.selector.clone(),
            devices: state.order.len(),
            there_already: state.order.iter().filter(|seat| runs(&seat.device)).count(),
            held_out: state.order.len().saturating_sub(reached),
            holdout_then: state.spec.strategy.holdout_then,
            waves,
            strata,
            unfit: state.unfit.clone(),
            notes: notes(state, devices, others, now),
            design: state.design.clone(),
            strategy: state.spec.strategy.clone(),
            retry_of: state.retry_of.clone(),
        }
    }
}

/// What a start would wait for, and for whom.
fn notes(state: &State, devices: &Devices, others: &[&State], now: Timestamp) -> Vec<String> {
    let strategy = &state.spec.strategy;
    let mut notes = Vec::new();
    notes.extend(excludes_nobody(&state.spec.selector, devices).into_iter().map(|label| {
        format!("no device has the label `{label}`, so `{}` keeps nobody out by it", state.spec.selector)
    }));
    notes.extend(strategy.ab.asked().then(|| strategy.ab.sentence()));
    notes.extend(strategy.not_before.map(|begins| format!("it begins at {begins}, not before")));
    notes.extend(strategy.until.map(|until| format!("nobody is told after {until}; then it waits for a person")));
    let taking_part: Vec<&DeviceView> =
        state.order.iter().filter_map(|seat| devices.get(&seat.device).map(Arc::as_ref)).collect();
    if !strategy.maintenance.is_empty() {
        let calendar = Calendar::new(&strategy.maintenance, &strategy.timezone, now);
        let mut by_opening: BTreeMap<String, usize> = BTreeMap::new();
        for view in &taking_part {
            let what = match calendar.of(&view.labels) {
                Opening::Open { .. } => "in their maintenance window now".to_owned(),
                Opening::Closed { opens: Some(opens), zone } => {
                    format!(
                        "wait for their maintenance window, which opens at {opens} ({} in {zone})",
                        zone.wall(opens)
                    )
                }
                Opening::Closed { opens: None, zone } => format!("in {zone} have no window within three weeks"),
                Opening::Unknown { why } => why.to_string(),
            };
            *by_opening.entry(what).or_default() += 1;
        }
        notes.extend(by_opening.into_iter().map(|(what, n)| format!("{n} of {} devices: {what}", taking_part.len())));
    }
    for requirement in &strategy.requires {
        let lacking = taking_part.iter().filter(|view| requirement.lacks(view).is_some()).count();
        if lacking > 0 {
            notes.push(format!("{lacking} of {} devices wait for {requirement} to be live", taking_part.len()));
        }
    }
    let active = others.iter().filter(|other| other.stage.active() && strategy.one_at_a_time);
    for other in active.filter(|other| other.spec.release.model != state.spec.release.model) {
        let both = taking_part.iter().filter(|view| owns(other, &view.id)).count();
        let first = match other.spec.strategy.priority.cmp(&strategy.priority) {
            std::cmp::Ordering::Greater => "; that one goes first",
            std::cmp::Ordering::Equal => "",
            std::cmp::Ordering::Less => "; this one goes first",
        };
        if both > 0 {
            let (id, release) = (&other.id, &other.spec.release);
            notes
                .push(format!("{both} devices take part in rollout {id} of {release} too: one model at a time{first}"));
        }
    }
    notes.extend(state.design.iter().flat_map(|design| undecided(design, strategy.small_fleet)));
    notes
}

/// What the experiment cannot do, a sentence for each wave.
fn undecided(design: &Design, small: SmallFleet) -> Vec<String> {
    let mut notes = Vec::new();
    for (index, wave) in design.waves.iter().enumerate() {
        let Some(why) = &wave.undecided else { continue };
        if let Some(watch) = &wave.watch {
            let every = duration::text(watch.every);
            notes.push(format!(
                "Wave {} is held against its devices' own past, {} slices of {every} at least: {why}.",
                index + 1,
                watch.needed
            ));
            continue;
        }
        let last = index + 1 == design.waves.len();
        let then = match small {
            SmallFleet::Ask if !last => "; then somebody has to approve the next wave",
            _ => "",
        };
        notes.push(format!("Wave {} is left to the limits: {why}{then}.", index + 1));
    }
    notes.extend(design.left_out.iter().map(|(metric, why)| format!("Devices are not compared by {metric}: {why}.")));
    notes
}
