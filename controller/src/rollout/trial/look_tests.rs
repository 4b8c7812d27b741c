use super::*;
use crate::rollout::trial::design::{Facts, Pace};
use crate::rollout::trial::settings::Settings;
use std::time::Duration;

fn seed() -> Digest {
    Digest::from_bytes([9; 32])
}

struct Bench {
    design: Design,
    layout: Layout,
    standing: Standing,
}

impl Bench {
    fn new(devices: usize, reaches: &[usize]) -> Self {
        let layout = Layout::new(std::iter::repeat_n("x", devices), reaches);
        let pace = Pace {
            soak: Duration::from_secs(60),
            max_dwell: None,
            history: Duration::from_secs(600),
            all_by_choice: false,
        };
        let absent = [Metric::Latency, Metric::Drift, Metric::Accuracy];
        let lacking = absent.map(|metric| (metric, "not here".to_owned())).into_iter().collect();
        let facts = Facts { comparable: true, lacking, ..Facts::default() };
        let design = Design::new(&Settings::default(), pace, &layout, reaches.len(), &facts);
        Self { design, layout, standing: Standing::default() }
    }

    fn look(&mut self, wave: usize, number: u32, errors: impl Fn(usize) -> Score) -> Look {
        let readings = (0..self.layout.len()).map(|place| Reading { now: errors(place), before: None }).collect();
        let readings = BTreeMap::from([(Metric::Errors, readings)]);
        let at = At { wave, look: number };
        let look = look(&self.design, &self.layout, &seed(), &self.standing, at, &readings).unwrap();
        self.standing.take(&look);
        look
    }
}

fn count(events: u64) -> Score {
    Score::Count { events, trials: 1_000 }
}

#[test]
fn harm_in_all_of_six_against_six_is_found_at_the_first_look() {
    let mut bench = Bench::new(12, &[6]);
    let look = bench.look(0, 1, |place| count(if place < 6 { 100 + place as u64 } else { place as u64 }));
    assert_eq!(look.verdict, LookVerdict::Harm);
    let shown = &look.metrics[0];
    assert!(shown.harm.rank <= shown.harm.budget && shown.harm.critical.unwrap() < shown.harm.observed);
    assert_eq!((shown.treated.events, shown.controls.requests), (Some(615), 6_000));
}

#[test]
fn a_release_without_errors_on_few_devices_passes_by_what_is_acceptable() {
    let mut bench = Bench::new(12, &[6]);
    let look = bench.look(0, 1, |_| count(0));
    assert_eq!(look.verdict, LookVerdict::Proven);
    assert!(matches!(look.metrics[0].proven, Some(Ground::Acceptable { level, .. }) if level == 0.01));
    assert!(look.metrics[0].harm.retired.is_empty(), "nothing is spent on ties");
}

#[test]
fn few_requests_prove_nothing() {
    let look = Bench::new(12, &[6]).look(0, 1, |_| Score::Count { events: 0, trials: 3 });
    assert_eq!(look.verdict, LookVerdict::Inconclusive);
}

#[test]
fn no_data_at_all_proves_nothing() {
    let look = Bench::new(12, &[6]).look(0, 1, |_| Score::Missing);
    assert_eq!((look.verdict, look.without_data.as_slice()), (LookVerdict::Inconclusive, &[Metric::Errors][..]));
    let look = Bench::new(12, &[6]).look(0, 1, |place| if place < 6 { Score::Missing } else { count(5) });
    assert_eq!(look.verdict, LookVerdict::Inconclusive, "the treated have shown nothing");
}

#[test]
fn devices_that_fall_silent_are_harm() {
    let look = Bench::new(40, &[20]).look(0, 1, |place| if place < 12 { Score::Silent } else { count(1) });
    assert_eq!((look.verdict, look.metrics[0].treated.silent), (LookVerdict::Harm, 12));
}

#[test]
fn an_outage_of_everybody_is_no_harm() {
    let look = Bench::new(40, &[20]).look(0, 1, |place| count(500 + place as u64 % 7));
    assert_ne!(look.verdict, LookVerdict::Harm);
}

#[test]
fn equal_arms_of_many_devices_are_proven_by_ranks() {
    let mut bench = Bench::new(200, &[100]);
    let look = bench.look(0, 1, |place| count(50 + (place as u64 * 7) % 30));
    assert!(matches!(look.metrics[0].proven, Some(Ground::Ranks)), "{look:?}");
    assert!(look.metrics[0].difference.is_some());
}

#[test]
fn twice_as_many_errors_are_never_proven_at_a_margin_of_one_and_a_half() {
    let look =
        Bench::new(200, &[100]).look(0, 1, |place| count(if place < 100 { 100 } else { 50 } + (place as u64 * 7) % 30));
    assert_eq!(look.verdict, LookVerdict::Harm);
    assert_eq!(look.metrics[0].proven, None);
}

#[test]
fn the_same_inputs_give_the_same_look() {
    let errors = |place: usize| count((place as u64 * 31) % 40);
    let looks = [(); 2].map(|()| Bench::new(60, &[20]).look(0, 2, errors));
    assert_eq!(looks[0], looks[1]);
}

#[test]
fn a_look_survives_its_json() {
    let look = Bench::new(60, &[20]).look(0, 1, |place| count((place as u64 * 31) % 40));
    assert_eq!(serde_json::from_str::<Look>(&serde_json::to_string(&look).unwrap()).unwrap(), look);
}

#[test]
fn another_wave_keeps_what_was_spent_on_harm_alone() {
    let mut bench = Bench::new(200, &[50, 100]);
    bench.look(0, 5, |place| count(50 + (place as u64 * 7) % 30));
    let harm = bench.standing.harm.clone();
    assert!(!harm[&Metric::Errors].retired.is_empty());
    bench.standing.begin_wave();
    assert_eq!(bench.standing, Standing { harm, ..Standing::default() });
}
