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

proptest! {
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
