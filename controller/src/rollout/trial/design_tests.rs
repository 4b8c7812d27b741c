use super::*;

fn pace() -> Pace {
    Pace { soak: Duration::from_secs(600), max_dwell: None, history: Duration::from_secs(86_400), all_by_choice: false }
}

fn facts() -> Facts {
    let lacking = BTreeMap::from([(Metric::Accuracy, "no labels".to_owned())]);
    Facts { comparable: true, lacking, until: Timestamp::from_millis(1_700_000_000_000), ..Facts::default() }
}

fn design(devices: usize, reaches: &[usize], facts: &Facts) -> Design {
    let layout = Layout::new(std::iter::repeat_n("x", devices), reaches);
    Design::new(&Settings::default(), pace(), &layout, reaches.len(), facts)
}

#[test]
fn four_hundred_devices_are_decided_in_every_wave() {
    let design = design(400, &[8, 20, 100, 200], &facts());
    assert!(design.waves.iter().all(WaveDesign::decides));
    assert_eq!((design.looks, design.all_looks), (5, 20));
    assert_eq!(design.waves.iter().map(|wave| wave.looks_before).collect::<Vec<_>>(), [0, 5, 10, 15]);
}

#[test]
fn a_wave_of_one_in_twelve_is_not_decided_and_spends_no_look() {
    let design = design(12, &[1, 6, 11], &facts());
    assert_eq!(design.waves.iter().map(WaveDesign::decides).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((design.all_looks, design.waves[1].looks_before), (5, 0));
    let why = design.waves[0].undecided.clone().unwrap();
    assert!(why.contains("1 against 11 devices") && why.contains("0.08"), "{why}");
}

#[test]
fn a_wave_of_everybody_has_nothing_to_compare_with() {
    assert!(design(400, &[50, 400], &facts()).waves[1].undecided.clone().unwrap().contains("is left without"));
}

#[test]
fn such_a_wave_is_watched_where_others_are_compared_or_somebody_chose_it_and_there_is_time() {
    let quick = Facts { window: Some(Duration::from_secs(60)), ..facts() };
    let watch = |devices: usize, reaches: &[usize], pace: Pace| {
        let layout = Layout::new(std::iter::repeat_n("x", devices), reaches);
        Design::new(&Settings::default(), pace, &layout, reaches.len(), &quick).waves.last().unwrap().watch
    };
    let found = watch(400, &[50, 400], pace()).unwrap();
    assert_eq!((found.every, found.past), (Duration::from_secs(90), 32));
    assert_eq!(watch(400, &[50, 300], pace()), None, "the others are compared with");
    assert_eq!(watch(4, &[1, 4], pace()), None, "a small fleet is left to the limits");
    let chosen = Pace { all_by_choice: true, ..pace() };
    assert!(watch(4, &[1, 4], chosen).is_some());
    assert_eq!(watch(4, &[4], Pace { max_dwell: Some(Duration::from_secs(600)), ..chosen }), None, "no time for it");
}

#[test]
fn a_first_release_is_not_compared() {
    let design = design(400, &[50, 200], &Facts { comparable: false, ..facts() });
    assert!(!design.decides_anything());
}

#[test]
fn looks_leave_the_fleet_s_windows_time_to_arrive() {
    let hourly = Facts { window: Some(Duration::from_secs(3_600)), ..facts() };
    let design = design(400, &[50, 200], &hourly);
    assert_eq!(design.look_every, Duration::from_secs(5_400));
    assert_eq!(design.warm_up, Duration::from_secs(7_200));
}

#[test]
fn a_chosen_dwell_bounds_the_looks_but_leaves_one() {
    let layout = Layout::new(["x"; 100], &[50]);
    let looks = |dwell: u64| {
        let pace = Pace { max_dwell: Some(Duration::from_secs(dwell)), ..pace() };
        Design::new(&Settings::default(), pace, &layout, 1, &facts()).looks
    };
    assert_eq!([60, 600, 1_200, 5_000, 9_600].map(looks), [1, 1, 2, 4, 5]);
}

#[test]
fn shares_of_absent_metrics_go_to_the_others() {
    let shares = design(400, &[50], &facts()).shares;
    assert_eq!(shares.keys().copied().collect::<Vec<_>>(), [Metric::Errors, Metric::Latency, Metric::Drift]);
    assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-12);
}

#[test]
fn a_bundle_s_error_budget_is_what_is_acceptable() {
    let acceptable = |budget| design(400, &[50], &Facts { error_budget: budget, ..facts() }).acceptable;
    assert_eq!((acceptable(Some(0.02))[&Metric::Errors], acceptable(None)[&Metric::Errors]), (0.02, 0.01));
    assert!(!acceptable(Some(0.0)).contains_key(&Metric::Errors));
    assert!((acceptable(None)[&Metric::Latency] - 0.075).abs() < 1e-12, "margin times what it was");
}
