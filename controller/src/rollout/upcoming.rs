//! What happens next to a rollout, and when: the deadlines that its state and its strategy set. Pure.

use super::machine::{Member, Phase, Progress, Stage, State, longest_dwell, next_look};
use fieldpost_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One thing that will happen, unless something else does before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upcoming {
    /// What, in words.
    pub what: String,
    /// When; none is when somebody or something else does its part.
    pub at: Option<Timestamp>,
}

impl Upcoming {
    fn at(what: impl Into<String>, at: Timestamp) -> Self {
        Self { what: what.into(), at: Some(at) }
    }

    fn whenever(what: impl Into<String>) -> Self {
        Self { what: what.into(), at: None }
    }
}

/// What happens next, in the order in which it is likely to.
#[must_use]
pub fn upcoming(state: &State) -> Vec<Upcoming> {
    let mut found = Vec::new();
    let retries = state.members.values().filter_map(|member| match member.progress {
        Progress::Retrying { at } if state.stage.active() => Some(at),
        _ => None,
    });
    if let Some(until) = state.spec.strategy.until.filter(|_| state.stage.active() && !state.overtime) {
        found.push(Upcoming::at("the schedule ends, and nobody more is told", until));
    }
    if let Some(at) = retries.min() {
        found.push(Upcoming::at("a failed device tries again", at));
    }
    found.extend(stage(state));
    found
}

fn stage(state: &State) -> Vec<Upcoming> {
    let strategy = &state.spec.strategy;
    match &state.stage {
        Stage::Draft => match strategy.not_before.filter(|_| state.signed.is_some()) {
            Some(begins) => vec![Upcoming::at("wave 1 begins", begins)],
            None => vec![Upcoming::whenever("the controller signs the order")],
        },
        Stage::AwaitingApproval { wave } => match strategy.not_before.filter(|_| state.approved.contains(wave)) {
            Some(begins) => vec![Upcoming::at(format!("wave {} begins", wave + 1), begins)],
            None => {
                let who = state.needed(*wave).unwrap_or_default().text(&state.by);
                vec![Upcoming::whenever(format!("{who} approves wave {}", wave + 1))]
            }
        },
        Stage::Running { phase: Phase::Shadowing { since }, .. } => vec![
            Upcoming::at("the devices may swap, if what they show is enough", since.plus(strategy.shadow)),
            Upcoming::at(
                "the wave has shown too little in shadow, and the rollout pauses",
                since.plus(strategy.shadow).plus(strategy.wave_timeout),
            ),
        ],
        Stage::Running { phase: Phase::Splitting { since }, .. } => vec![Upcoming::at(
            "the A/B test begins without the devices that are not ready",
            since.plus(strategy.device_timeout),
        )],
        Stage::Running { phase: Phase::Soaking { since }, .. } if strategy.ab.asked() => vec![Upcoming::at(
            "both releases have been held side by side for as long as was stated",
            since.plus(strategy.warm_up).plus(strategy.ab.lasts),
        )],
        Stage::Running { wave, phase: Phase::Deploying { since } } => {
            let missing = state.counted(*wave).filter(|(_, member)| member.progress != Progress::Live).count();
            let mut next = vec![Upcoming::whenever(format!("the soak begins when {missing} more are live"))];
            // Closed windows put it off.
            if strategy.maintenance.is_empty() {
                let late = "the wave is too late, and the rollout pauses";
                next.push(Upcoming::at(late, since.plus(strategy.wave_timeout)));
            }
            next
        }
        Stage::Running { wave, phase: Phase::Soaking { since } } => {
            let look = next_look(state).map(|(look, of, at)| Upcoming::at(format!("look {look} of {of}"), at));
            let mut next = vec![Upcoming::at("the soak ends", since.plus(strategy.soak))];
            next.extend(look);
            let pauses = "the wave has no evidence, and the rollout pauses";
            next.push(Upcoming::at(pauses, since.plus(longest_dwell(state, *wave))));
            next
        }
        Stage::Running { wave, phase: Phase::Passed } => {
            vec![Upcoming::whenever(format!("wave {} begins", wave + 2))]
        }
        Stage::Paused { .. } => vec![Upcoming::whenever("somebody resumes it or takes it back")],
        Stage::RollingBack { .. } => {
            let told = |member: &Member| member.progress == Progress::Reverting;
            let going = |member: &&Member| told(member) || (member.touched && member.treated());
            vec![Upcoming::whenever(format!("{} more go back", state.members.values().filter(going).count()))]
        }
        Stage::RolledBack { .. } | Stage::Aborted { .. } | Stage::Completed => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::machine::Command;
    use crate::rollout::tests::Rig;

    fn told(rig: &Rig, id: &fieldpost_shared::id::RolloutId) -> Vec<(String, Option<u64>)> {
        let now = rig.clock.now();
        let left = |next: Upcoming| (next.what, next.at.map(|at| at.since(now).as_secs()));
        upcoming(rig.state(id)).into_iter().map(left).collect()
    }

    use fieldpost_shared::time::Clock as _;

    #[test]
    fn every_stage_says_what_comes_next_and_when() {
        let mut rig = Rig::new(4);
        let id = rig.start("1.1.0", "2,4");
        assert_eq!(told(&rig, &id), [("the controller signs the order".into(), None)]);
        rig.until(&id, "deploying");
        assert_eq!(
            told(&rig, &id),
            [
                ("the soak begins when 2 more are live".into(), None),
                ("the wave is too late, and the rollout pauses".into(), Some(120)),
            ]
        );
        rig.until(&id, "soaking");
        rig.run(3);
        assert_eq!(
            told(&rig, &id),
            [("the soak ends".into(), Some(7)), ("the wave has no evidence, and the rollout pauses".into(), Some(57)),]
        );
        rig.command(&id, &Command::Pause { reason: "lunch".into() });
        assert_eq!(told(&rig, &id), [("somebody resumes it or takes it back".into(), None)]);
        rig.command(&id, &Command::Rollback { reason: "enough".into() });
        assert_eq!(told(&rig, &id), [("2 more go back".into(), None)]);
        rig.until(&id, "rolled-back");
        assert_eq!(told(&rig, &id), []);
    }
}
