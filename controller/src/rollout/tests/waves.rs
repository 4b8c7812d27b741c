//! Waves for groups of devices, waves that grow, and starts that are only tried.

use super::fake::{Behaviour, Rig, quick};
use crate::rollout::core::CoreError;
use crate::rollout::events::Event;
use crate::rollout::start::{StartError, StartRequest};
use crate::rollout::strategy::StrategyFile;
use fieldpost_shared::trust::SecretKey;

/// Nine devices, three at each of three sites.
fn sites() -> Rig {
    let rig = Rig::new(9);
    for i in 0..9 {
        let site = ["lyon", "paris", "nice"][i % 3];
        rig.fleet.edit(&format!("box-{i}"), |device| drop(device.labels.insert("site".into(), site.into())));
    }
    rig
}

fn site_of(rig: &Rig, name: &str) -> String {
    rig.fleet.world().devices[&super::fake::device(name)].labels["site"].clone()
}

fn refused(rig: &mut Rig, strategy: StrategyFile) -> StartError {
    let Err(CoreError::Start(error)) = rig.try_start("1.1.0", strategy) else { panic!("it began") };
    error
}

#[test]
fn sites_get_the_release_one_after_the_other() {
    let mut rig = sites();
    let id = rig.start("1.1.0", "site=lyon,site=paris,rest");
    let mut seen: Vec<Vec<String>> = vec![];
    while rig.stage(&id) != "completed" {
        rig.second();
        if rig.stage(&id) == "soaking" {
            let mut at: Vec<String> = rig.running("1.1.0").iter().map(|name| site_of(&rig, name)).collect();
            at.sort();
            at.dedup();
            if seen.last() != Some(&at) {
                seen.push(at);
            }
        }
    }
    assert_eq!(seen, [vec!["lyon"], vec!["lyon", "paris"], vec!["lyon", "nice", "paris"]]);
    let order = rig.state(&id).signed.clone().unwrap();
    order.verify(&SecretKey::from_seed(&[1; 32]).public()).unwrap();
}

#[test]
fn a_group_with_a_first_device_and_a_holdout_is_signed_as_it_is_drawn() {
    let mut rig = sites();
    let mut strategy = quick("1; site=lyon; rest");
    strategy.holdout = Some("2".parse().unwrap());
    let id = rig.start_with("1.1.0", strategy);
    rig.until(&id, "completed");
    assert_eq!(rig.running("1.1.0").len(), 9);
    rig.state(&id).signed.clone().unwrap().verify(&SecretKey::from_seed(&[1; 32]).public()).unwrap();
    rig.restart();
    assert_eq!(rig.stage(&id), "completed");
}

/// A site without power: nobody of it is told beforehand, or all would change at once when it comes back.
#[test]
fn devices_that_are_away_are_not_told_where_only_some_may_change() {
    let mut rig = sites();
    let lyon: Vec<String> = (0..9).map(|i| format!("box-{i}")).filter(|name| site_of(&rig, name) == "lyon").collect();
    let online = |rig: &Rig, online| {
        lyon.iter().for_each(|name| rig.fleet.edit(name, |device| device.online = online));
    };
    online(&rig, false);
    rig.run(20);
    let mut strategy = quick("9");
    strategy.per = Some(vec!["site:1".parse().unwrap()]);
    let id = rig.start_with("1.1.0", strategy);
    rig.run(30);
    let told = |rig: &Rig| {
        let told =
            |event: &Event| matches!(event, Event::Assigned { device, .. } if lyon.contains(&device.to_string()));
        rig.count(&id, told)
    };
    assert_eq!(told(&rig), 0);
    online(&rig, true);
    let mut before = 0;
    while told(&rig) < 3 {
        rig.second();
        let now = told(&rig);
        assert!(now <= before + 1, "{now} of a site are told at once");
        before = now;
    }
    rig.until(&id, "completed");
}

#[test]
fn a_late_device_of_a_group_enters_the_group_s_wave() {
    let mut rig = sites();
    let id = rig.start("1.1.0", "site=paris,site=lyon,rest");
    rig.until(&id, "soaking");
    let old = rig.fleet.world().releases[&"1.0.0".parse().unwrap()].0.release.clone();
    for (name, site) in [("a-late", "lyon"), ("b-late", "nice"), ("c-late", "paris")] {
        rig.fleet.add_device(name, Some(&old));
        rig.fleet.edit(name, |device| drop(device.labels.insert("site".into(), site.into())));
    }
    rig.run(2);
    let wave = |name: &str| rig.state(&id).members[&super::fake::device(name)].wave;
    assert_eq!([wave("c-late"), wave("a-late"), wave("b-late")], [0, 1, 2]);
    rig.until(&id, "completed");
    rig.run(15);
    assert_eq!(rig.running("1.1.0").len(), 12);
}

#[test]
fn a_harmful_release_stays_in_its_group() {
    let mut rig = sites();
    rig.release("1.2.0", Behaviour::OneClass);
    let id = rig.start("1.2.0", "site=nice,rest");
    rig.until(&id, "rolled-back");
    let touched = rig.events(&id).into_iter().filter_map(|record| match record.event {
        Event::Assigned { device, .. } => Some(site_of(&rig, device.as_str())),
        _ => None,
    });
    assert!(touched.into_iter().all(|site| site == "nice"));
}

#[test]
fn groups_that_cannot_be_are_refused_with_what_is_wrong() {
    let mut rig = sites();
    let error = refused(&mut rig, quick("sight=lyon,rest"));
    assert!(matches!(&error, StartError::UnknownLabel { label, known, .. } if label == "sight" && known == "site"));
    assert!(error.hint().is_some());
    for (selector, per) in [("sight=lyon", None), ("*", Some("sight:1"))] {
        let mut strategy = quick("9");
        strategy.selector = Some(selector.to_owned());
        strategy.per = per.map(|per| vec![per.parse().unwrap()]);
        let error = refused(&mut rig, strategy);
        assert!(matches!(&error, StartError::UnknownLabel { .. }), "{selector}: {error}");
    }
    let strategy = StrategyFile { selector: Some("teir!=lab".to_owned()), ..quick("9") };
    let request =
        StartRequest { model: super::fake::model(), version: "1.1.0".parse().unwrap(), strategy, retry_of: None };
    let notes = rig.core.preview(&request, "ann").unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("no device has the label `teir`")), "{notes:?}");
    let text = |error: &StartError| fieldpost_shared::error_chain::Chain(error).to_string();
    let error = refused(&mut rig, quick("site=lyon,site=lion,rest"));
    assert!(text(&error).contains("wave 2 is for `site=lion`, which matches none of 9"), "{}", text(&error));
    let error = refused(&mut rig, quick("site=lyon,site=paris"));
    assert!(text(&error).contains("the waves end at 6 of 9 devices"), "{}", text(&error));
    let mut strategy = quick("grow 1 x4");
    strategy.approve_before = Some(vec![4.into()]);
    let error = refused(&mut rig, strategy);
    assert!(matches!(error, StartError::NoSuchWave { wave: 4, last: 3 }), "{error}");
}

#[test]
fn a_start_that_is_tried_says_what_it_would_do_and_changes_nothing() {
    let mut rig = sites();
    let mut strategy = quick("site=lyon,grow 1 x2");
    strategy.holdout = Some("1".parse().unwrap());
    let request =
        StartRequest { model: super::fake::model(), version: "1.1.0".parse().unwrap(), strategy, retry_of: None };
    let preview = rig.core.preview(&request, "ann").unwrap();
    let waves: Vec<(usize, usize)> = preview.waves.iter().map(|wave| (wave.adds, wave.reaches)).collect();
    assert_eq!(waves.last().unwrap().1, 8);
    assert_eq!((preview.devices, preview.held_out, preview.waves[0].group), (9, 1, true));
    assert_eq!(preview.waves[0].asked, "site=lyon");
    assert!(waves[0].0 == 3 || waves[0].0 == 2, "one of lyon may be held out: {waves:?}");
    assert_eq!(preview.strata.values().sum::<usize>(), 9);
    rig.run(30);
    assert!(rig.core.list().is_empty() && rig.running("1.1.0").is_empty());
    // What a start refuses is refused.
    rig.start("1.1.0", "9");
    assert!(matches!(rig.core.preview(&request, "ann"), Err(CoreError::Start(StartError::Conflict { .. }))));
}
