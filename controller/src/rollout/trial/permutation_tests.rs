use super::*;

fn seed(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

#[test]
fn a_path_is_an_order_of_which_waves_see_prefixes() {
    let layout = Layout::new(["a", "b", "a", "b", "a", "a"], &[2, 4]);
    // Powers of two tell who is among the treated.
    let column: Vec<i64> = (0..6).map(|device| 1 << device).collect();
    let at = |treated| layout.sums(&seed(1), 200, treated, std::slice::from_ref(&column)).remove(0);
    let (two, four) = (at(2), at(4));
    for (two, four) in two.iter().zip(&four) {
        assert_eq!(two & four, *two, "the first wave is part of the second");
        let of = |set: i64, stratum: i64| (set & stratum).count_ones();
        assert_eq!([of(*two, 0b11_0101), of(*two, 0b00_1010)], [1, 1], "one place of each stratum");
        assert_eq!([of(*four, 0b11_0101), of(*four, 0b00_1010)], [2, 2]);
    }
    assert!(two.iter().collect::<BTreeSet<_>>().len() == 8, "every choice within strata comes up");
}

#[test]
fn every_set_of_a_stratum_is_equally_likely() {
    let layout = Layout::new(["x"; 5], &[2]);
    let column: Vec<i64> = (0..5).map(|device| 1 << device).collect();
    let mut counts: BTreeMap<i64, f64> = BTreeMap::new();
    for sum in layout.sums(&seed(2), 10_000, 2, &[column]).remove(0) {
        *counts.entry(sum).or_default() += 1.0;
    }
    let chi: f64 = counts.values().map(|n| (n - 1_000.0).powi(2) / 1_000.0).sum();
    assert!(counts.len() == 10 && chi < 27.9, "nine degrees of freedom, p = 0.001: {chi}");
}

#[test]
fn the_smallest_p_is_one_in_all_choices_within_strata() {
    let close = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
    close(Layout::new(["x"; 10], &[5]).smallest_p(5), 1.0 / 252.0);
    close(Layout::new(["x", "y", "x", "y"], &[2]).smallest_p(2), 1.0 / 4.0);
    close(Layout::new(["x"; 4], &[4]).smallest_p(4), 1.0);
}

#[test]
fn a_large_fleet_is_compared_by_the_first_of_each_wave() {
    let layout = Layout::new(std::iter::repeat_n("x", 100_000), &[100, 10_000, 50_000]);
    assert_eq!((layout.len(), layout.treated(0), layout.treated(1)), (100 + 3 * 2_048, 100, 2_148));
    assert_eq!(layout.places()[100], 100);
    assert_eq!(layout.places()[2_148], 10_000, "the third wave's first");
    assert!(layout.len() <= MOST);
}

#[test]
fn the_observed_path_is_extreme_within_the_budget_only() {
    let sums: Vec<i64> = (0..99).collect();
    let check = |observed, allowed, extreme| {
        assert_eq!(judge(observed, &sums, &Spent::default(), allowed).extreme, extreme, "{observed} {allowed}");
    };
    check(99, 1, true);
    check(98, 1, false);
    check(98, 2, true);
    check(95, 5, true);
    check(95, 4, false);
    check(99, 0, false);
}

#[test]
fn what_is_retired_is_counted_once() {
    let sums: Vec<i64> = (0..99).collect();
    let first = judge(0, &sums, &Spent::default(), 2);
    assert_eq!(first.retired, [97, 98].into());
    let spent = Spent { retired: first.retired };
    let second = judge(96, &sums, &spent, 5);
    assert_eq!((second.alive, second.budget, second.rank, second.extreme), (98, 3, 2, true));
}

#[test]
fn ties_beyond_the_budget_stay_alive_and_cost_nothing() {
    let none = judge(0, &[0; 99], &Spent::default(), 5);
    assert!(!none.extreme && none.retired.is_empty(), "nobody had an error: nothing is decided and nothing is spent");
    let some = judge(0, &[&[3, 3, 2, 2, 2, 2][..], &[0; 93]].concat(), &Spent::default(), 5);
    assert_eq!(some.retired, [0, 1].into());
}

#[test]
fn the_critical_sum_is_the_border() {
    let sums: Vec<i64> = (0..99).collect();
    let judged = judge(10, &sums, &Spent::default(), 5);
    let critical = judged.critical.unwrap();
    assert!(!judge(critical, &sums, &Spent::default(), 5).extreme);
    assert!(judge(critical + 1, &sums, &Spent::default(), 5).extreme);
}

/// Exact: over all places that the observed path may have among its equals, at most alpha are extreme at some look.
#[test]
fn exactly_alpha_of_all_paths_are_ever_extreme() {
    let layout = Layout::new(["x"; 30], &[5, 10, 20]);
    let scores: Vec<i64> = (0..30).map(|i| (i * i * 7919) % 97).collect();
    let per_look: Vec<Vec<i64>> = (0..3)
        .map(|wave| layout.sums(&seed(3), 200, layout.treated(wave), std::slice::from_ref(&scores)).remove(0))
        .collect();
    let mut ever = 0;
    for observed in 0..200 {
        let mut spent = Spent::default();
        for (look, sums) in (1_u32..).zip(&per_look) {
            let others: Vec<i64> = sums.iter().enumerate().filter(|(p, _)| *p != observed).map(|(_, s)| *s).collect();
            let judged = judge(sums[observed], &others, &spent, allowed(0.1, look, 3, 199));
            if judged.extreme {
                ever += 1;
                break;
            }
            spent.retired.extend(judged.retired);
        }
    }
    assert!((17..=20).contains(&ever), "{ever} of 200; ties take a few away");
}

#[test]
fn a_budget_is_rounded_down() {
    assert_eq!([1, 2, 3, 4, 9].map(|look| allowed(0.02, look, 4, 1_999)), [10, 20, 30, 40, 40]);
    assert_eq!(allowed(0.05, 1, 20, 399), 1);
    assert_eq!(allowed(0.05, 1, 21, 399), 0);
}

#[test]
fn fixed_numbers_survive_the_way_back() {
    assert_eq!(float(fixed(0.25)), 0.25);
    assert_eq!(fixed(f64::NAN), 0);
    assert!((float(fixed(0.1)) - 0.1).abs() < 1e-10);
}
