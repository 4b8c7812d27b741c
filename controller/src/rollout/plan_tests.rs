use super::*;
use proptest::prelude::*;

fn resolved(waves: &str, total: usize, holdout: usize) -> Result<Vec<usize>, PlanError> {
    let waves = waves.parse::<Waves>()?.resolve(total, holdout)?;
    Ok(waves.iter().map(|wave| wave.reaches).collect())
}

fn check(waves: &str, total: usize, holdout: usize, expected: &[usize]) {
    assert_eq!(resolved(waves, total, holdout), Ok(expected.to_vec()), "{waves} of {total}");
}

#[test]
fn waves_by_count_reach_what_they_say() {
    check("1,4,12", 12, 0, &[1, 4, 12]);
}

#[test]
fn waves_by_share_round_up() {
    check("10%,50%,100%", 12, 0, &[2, 6, 12]);
    check("0.5%,100%", 1000, 0, &[5, 1000]);
}

#[test]
fn counts_and_shares_mix() {
    check("1,25%,all", 12, 0, &[1, 3, 12]);
}

#[test]
fn a_share_is_of_those_not_held_out() {
    check("50%,100%", 12, 2, &[5, 10]);
}

#[test]
fn shares_that_round_alike_in_a_small_fleet_are_one_wave() {
    check("10%,50%,100%", 1, 0, &[1]);
    check("1,10%,100%", 3, 0, &[1, 3]);
}

#[test]
fn waves_that_do_not_add_up_are_refused() {
    assert_eq!(resolved("1,4", 12, 0), Err(PlanError::Short { last: 4, eligible: 12 }));
    assert_eq!(resolved("1,4,12", 10, 0), Err(PlanError::TooLarge { wave: 3, wanted: 12, eligible: 10 }));
    assert_eq!(resolved("50%", 12, 0), Err(PlanError::Short { last: 6, eligible: 12 }));
    assert!(matches!(resolved("4,4,12", 12, 0), Err(PlanError::NotGrowing { wave: 2, .. })));
    assert!(matches!(resolved("4,1,12", 12, 0), Err(PlanError::NotGrowing { wave: 2, .. })));
    assert!(matches!(resolved("6,10%,100%", 12, 0), Err(PlanError::NotGrowing { wave: 2, .. })));
    assert!(matches!(resolved("10%,2,100%", 12, 0), Err(PlanError::NotGrowing { wave: 2, .. })));
    assert_eq!(resolved("100%", 3, 3), Err(PlanError::Holdout { holdout: 3, eligible: 3 }));
}

#[test]
fn texts_that_are_no_waves_are_refused() {
    for text in ["", "x", "1,,2", "101%", "-1", "5%%", "0", "0%", "1.5", "12.345%", "99999999999999999999"] {
        assert!(text.parse::<Waves>().is_err(), "{text}");
    }
}

#[test]
fn an_error_names_the_wave_by_the_number_people_count() {
    let error = resolved("4,4,12", 12, 0).unwrap_err();
    assert_eq!(error.to_string(), "waves are cumulative, and wave 2 (4) does not reach beyond wave 1 (4)");
}

#[test]
fn a_file_may_give_waves_as_a_list_or_a_text() {
    let list: Waves = serde_json::from_str(r#"[1, "50%", "all"]"#).unwrap();
    let text: Waves = serde_json::from_str(r#""1,50%,100%""#).unwrap();
    assert_eq!(list, text);
}

/// Devices by the letter of their site, in the order that was drawn.
fn arranged(waves: &str, sites: &str, holdout: usize) -> Result<(Vec<usize>, String), PlanError> {
    let sites: Vec<char> = sites.chars().collect();
    let is_in = |selector: &Selector, place: usize| selector.to_string() == format!("site={}", sites[place]);
    let found = waves.parse::<Waves>()?.arrange(sites.len(), holdout, is_in)?;
    let mut places = found.places.clone();
    places.sort_unstable();
    assert_eq!(places, (0..sites.len()).collect::<Vec<_>>(), "everybody is somewhere, once");
    let reaches = found.waves.iter().map(|wave| wave.reaches).collect();
    Ok((reaches, found.places.iter().map(|place| sites[*place]).collect()))
}

#[test]
fn a_group_is_a_wave_wherever_its_devices_were_drawn() {
    assert_eq!(arranged("site=l,site=p,rest", "xplplx", 0).unwrap(), (vec![2, 4, 6], "llppxx".into()));
    assert_eq!(arranged("1,site=l,rest", "lplpl", 0).unwrap(), (vec![1, 3, 5], "lllpp".into()));
}

#[test]
fn those_held_out_are_of_no_group() {
    assert_eq!(arranged("site=l,rest", "lpxl", 1).unwrap(), (vec![1, 3], "lpxl".into()));
}

#[test]
fn sizes_after_a_group_are_still_cumulative() {
    assert_eq!(arranged("site=l,50%,rest", "plpppp", 0).unwrap(), (vec![1, 3, 6], "lppppp".into()));
    assert!(matches!(arranged("site=l,1,rest", "lp", 0), Err(PlanError::NotGrowing { wave: 2, .. })));
    assert_eq!(arranged("site=l,site=p,rest", "lp", 0).unwrap().0, [1, 2], "nobody is left for the rest");
}

#[test]
fn a_group_without_devices_is_refused() {
    assert!(matches!(arranged("site=z,rest", "lp", 0), Err(PlanError::NobodyInGroup { wave: 1, eligible: 2, .. })));
    let used_up = arranged("100%,site=l", "lp", 0).unwrap_err();
    assert!(matches!(used_up, PlanError::GroupUsedUp { wave: 2, matching: 1, .. }));
    assert!(used_up.to_string().contains("`site=l`"), "{used_up}");
    assert!(matches!(arranged("site=l", "lp", 0), Err(PlanError::Short { last: 1, eligible: 2 })));
}

#[test]
fn waves_grow_by_a_factor_to_everybody() {
    check("grow 1 x4", 100, 0, &[1, 4, 16, 64, 100]);
    check("grow 1 x4", 64, 0, &[1, 4, 16, 64]);
    check("grow 1 x4", 1, 0, &[1]);
    check("grow 1% x3", 100, 0, &[1, 3, 9, 27, 81, 100]);
    check("grow 1% x3", 12, 0, &[1, 2, 4, 10, 12]);
    check("2,grow 1 x4", 20, 0, &[2, 4, 16, 20]);
    assert_eq!(arranged("site=l,grow 1 x2", "plppplp", 0).unwrap().0, [2, 4, 7]);
}

#[test]
fn growth_that_is_none_is_refused() {
    for text in ["grow", "grow 1", "grow 1 4", "grow 0 x4", "grow 1 x1", "grow 1 x0", "grow x4", "grow 1 x1.5"] {
        assert!(text.parse::<Waves>().is_err(), "{text}");
    }
    assert!(matches!("grow 1 x2,100%".parse::<Waves>(), Err(PlanError::AfterGrowth(_))));
    assert!(matches!("site=,=x".parse::<Waves>(), Err(PlanError::Group(_))));
}

#[test]
fn semicolons_separate_waves_whose_selectors_have_commas() {
    let waves: Waves = "1; site=lyon,arch=aarch64; rest".parse().unwrap();
    assert_eq!((waves.given().len(), waves.to_string().as_str()), (3, "1; site=lyon,arch=aarch64; 100%"));
    let list: Waves = serde_json::from_str(r#"[1, "site=lyon,arch=aarch64", "rest"]"#).unwrap();
    assert_eq!(list, waves);
    assert_eq!(serde_json::from_str::<Waves>(&serde_json::to_string(&waves).unwrap()).unwrap(), waves);
}

proptest! {
    #[test]
    fn growth_reaches_everybody_and_never_shrinks(total in 1_usize..5000, from in 1_usize..50, factor in 2_u32..10) {
        let waves = resolved(&format!("grow {from} x{factor}"), total, 0).unwrap();
        prop_assert!(waves.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(waves.last().copied(), Some(total));
    }

    #[test]
    fn resolved_waves_grow_to_everybody(total in 1_usize..5000, first in 1_u64..100, second in 1_u64..100) {
        let text = format!("{}%,{}%,100%", first.min(second), first.max(second));
        prop_assume!(first != second);
        let waves = resolved(&text, total, 0).unwrap();
        prop_assert!(waves.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(waves.last().copied(), Some(total));
    }

    #[test]
    fn a_share_is_written_as_it_is_read(parts in 0_u64..=PARTS) {
        let share = Share::Parts(parts);
        prop_assert_eq!(share.to_string().parse(), Ok(share));
    }
}
