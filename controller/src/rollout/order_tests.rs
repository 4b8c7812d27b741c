use super::*;
use proptest::prelude::*;

fn seat(device: &str, stratum: &str) -> Seat {
    Seat { device: device.parse().unwrap(), stratum: stratum.to_owned() }
}

fn fleet(arm: usize, x86: usize) -> Vec<Seat> {
    let arm = (0..arm).map(|i| seat(&format!("arm-{i}"), "aarch64"));
    arm.chain((0..x86).map(|i| seat(&format!("x86-{i}"), "x86_64"))).collect()
}

fn seed(n: u64) -> Digest {
    Digest::of(&n.to_be_bytes())
}

fn order(seed: &Digest, devices: Vec<Seat>) -> Vec<Seat> {
    last_of_each_last(draw(seed, devices))
}

fn statement(order: Vec<Seat>) -> Statement {
    Statement {
        schema: SCHEMA.into(),
        algorithm: ALGORITHM.into(),
        fleet: "f".parse().unwrap(),
        rollout: "r-1".parse().unwrap(),
        release: ReleaseRef {
            model: "digits".parse().unwrap(),
            version: semver::Version::new(1, 1, 0),
            manifest: Digest::of(b"m"),
        },
        drawn: Timestamp::from_millis(1),
        seed: seed(1),
        order,
        stretches: vec![],
    }
}

/// Frozen: a change of the algorithm needs another name for it, since signed statements are drawn again.
#[test]
fn the_order_of_a_seed_never_changes() {
    let order: Vec<_> = draw(&seed(7), fleet(3, 2)).into_iter().map(|seat| seat.device.to_string()).collect();
    assert_eq!(order, ["x86-1", "arm-2", "arm-1", "x86-0", "arm-0"]);
}

/// Frozen as well.
#[test]
fn the_last_of_each_stratum_of_several_comes_last() {
    let mut seats = fleet(20, 3);
    seats.push(seat("riscv-0", "riscv64"));
    let drawn = draw(&seed(7), seats);
    let order = last_of_each_last(drawn.clone());
    let held: Vec<&str> = order[22..].iter().map(|seat| seat.stratum.as_str()).collect();
    assert!(held == ["aarch64", "x86_64"] || held == ["x86_64", "aarch64"], "{held:?}");
    let ends = order[22..].to_vec();
    let others: Vec<Seat> = drawn.into_iter().filter(|seat| !ends.contains(seat)).collect();
    assert_eq!(order[..22], others, "all others stand as they did");
    assert_eq!(last_of_each_last(draw(&seed(1), fleet(5, 0))), draw(&seed(1), fleet(5, 0)));
}

#[test]
fn orders_signed_before_are_still_verified() {
    let key = SecretKey::from_seed(&[1; 32]);
    let drawn = draw(&seed(1), fleet(7, 3));
    let before = Statement { algorithm: "sha256-rank/1".into(), ..statement(drawn.clone()) };
    assert_eq!(before.sign(&key).unwrap().verify(&key.public()).unwrap().order, drawn);
    let other = Statement { algorithm: "sha256-rank/9".into(), ..statement(drawn) };
    assert!(matches!(other.sign(&key).unwrap().verify(&key.public()), Err(OrderError::Form { .. })));
}

#[test]
fn a_signed_order_verifies_and_an_arranged_one_does_not() {
    let key = SecretKey::from_seed(&[1; 32]);
    let drawn = order(&seed(1), fleet(3, 3));
    assert_eq!(statement(drawn.clone()).sign(&key).unwrap().verify(&key.public()).unwrap().order, drawn);
    let mut arranged = drawn;
    arranged.swap(0, 1);
    assert!(matches!(statement(arranged).sign(&key).unwrap().verify(&key.public()), Err(OrderError::Drawn)));
}

#[test]
fn an_order_signed_by_another_key_or_changed_is_refused() {
    let (key, other) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
    let signed = statement(draw(&seed(1), fleet(2, 0))).sign(&other).unwrap();
    assert!(matches!(signed.verify(&key.public()), Err(OrderError::Signature)));
    let mut changed = statement(draw(&seed(1), fleet(2, 0))).sign(&key).unwrap();
    changed.statement.push(' ');
    assert!(matches!(changed.verify(&key.public()), Err(OrderError::Signature)));
}

#[test]
fn every_device_is_first_about_equally_often() {
    let mut first = BTreeMap::<String, u32>::new();
    for n in 0..6_000 {
        let order = draw(&seed(n), fleet(6, 0));
        *first.entry(order[0].device.to_string()).or_default() += 1;
    }
    // Binomial(6000, 1/6): mean 1000, standard deviation 28.9; five of them.
    assert!(first.len() == 6 && first.values().all(|count| count.abs_diff(1000) < 145), "{first:?}");
}

#[test]
fn a_prefix_holds_each_stratum_in_proportion() {
    for n in 0..200 {
        let order = draw(&seed(n), fleet(30, 10));
        let x86 = order.iter().take(20).filter(|seat| seat.stratum == "x86_64").count();
        assert!((4..=6).contains(&x86), "seed {n}: {x86} of 20, 10 of 40 in all");
    }
}

#[test]
fn a_late_joiner_of_a_new_stratum_can_stand_anywhere() {
    let order = draw(&seed(3), fleet(9, 0));
    let places: BTreeSet<_> =
        (0..400).map(|i| late_place(&seed(3), &order, &seat(&format!("late-{i}"), "riscv64"))).collect();
    assert_eq!(places, (0..=9).collect());
}

proptest! {
    #[test]
    fn the_order_is_a_permutation_whatever_the_input_sequence(arm in 0_usize..20, x86 in 0_usize..20, n: u64) {
        let devices = fleet(arm, x86);
        let drawn = draw(&seed(n), devices.clone());
        let mut names: Vec<_> = drawn.iter().map(|seat| seat.device.clone()).collect();
        names.sort();
        let mut expected: Vec<_> = devices.iter().map(|seat| seat.device.clone()).collect();
        expected.sort();
        prop_assert_eq!(names, expected);
        prop_assert_eq!(draw(&seed(n), devices.into_iter().rev()), drawn);
    }

    /// Had the late joiner been there from the start, those of its stratum before and behind it were the same.
    #[test]
    fn a_late_joiner_stands_between_those_it_would_have_stood_between(arm in 1_usize..20, x86 in 0_usize..20, n: u64) {
        let mut devices = fleet(arm, x86);
        let order = draw(&seed(n), devices.clone());
        let late = seat("late", "aarch64");
        let place = late_place(&seed(n), &order, &late);
        devices.push(late);
        let of_stratum = |seats: &[Seat]| -> Vec<_> {
            seats.iter().filter(|s| s.stratum == "aarch64").map(|s| s.device.clone()).collect()
        };
        let whole = of_stratum(&draw(&seed(n), devices));
        let before = of_stratum(&order[..place]);
        prop_assert_eq!(&whole[..before.len()], &before[..]);
        prop_assert_eq!(whole[before.len()].as_str(), "late");
    }
}

/// Everybody drawn, in waves of one device, of those whose names end in an even digit, and of the rest.
fn grouped() -> Statement {
    let drawn = order(&seed(1), fleet(4, 4));
    let first = drawn[0].clone();
    let even = |seat: &Seat| seat.device.as_str().ends_with(['0', '2']);
    let others = drawn[1..].iter().cloned();
    let (group, rest): (Vec<_>, Vec<_>) = others.partition(even);
    let stretch = |devices, selector: Option<&str>| Stretch { devices, selector: selector.map(str::to_owned) };
    let stretches = vec![stretch(1, None), stretch(group.len(), Some("even=yes")), stretch(rest.len(), None)];
    let order = [first].into_iter().chain(group).chain(rest).collect();
    Statement { algorithm: GROUPED.into(), stretches, ..statement(order) }
}

#[test]
fn an_order_of_groups_verifies_and_one_that_somebody_chose_does_not() {
    let key = SecretKey::from_seed(&[1; 32]);
    let verify = |statement: Statement| statement.sign(&key).unwrap().verify(&key.public());
    let good = grouped();
    assert_ne!(order(&good.seed, good.order.clone()), good.order, "the groups move somebody");
    assert_eq!(verify(good.clone()).unwrap(), good);
    let last = good.order.len() - 1;
    for (a, b) in [(0, 1), (1, 2), (0, last), (last - 1, last)] {
        let mut chosen = good.clone();
        chosen.order.swap(a, b);
        assert!(matches!(verify(chosen), Err(OrderError::Drawn)), "{a} and {b} swapped");
    }
    let plain = Statement { stretches: vec![], algorithm: ALGORITHM.into(), ..good.clone() };
    assert!(matches!(verify(plain), Err(OrderError::Drawn)));
    let unnamed = Statement { algorithm: ALGORITHM.into(), ..good };
    assert!(matches!(verify(unnamed), Err(OrderError::Form { .. })));
}
