use super::*;
use crate::stats::testing::Random;
use proptest::prelude::*;

fn normal(seed: u64, n: usize) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..n).map(|_| random.normal()).collect()
}

#[test]
fn a_window_of_500_values_over_32_bins_encodes_to_about_100_bytes() {
    let edges = Edges::from_values(&normal(1, 5000), 32).unwrap();
    let bytes = Histogram::of(&edges, &normal(2, 500)).encode();
    assert!((90..=110).contains(&bytes.len()), "{}", bytes.len());
}

#[test]
fn nan_and_missing_are_counted_apart_and_infinity_is_a_value() {
    let edges = Edges::from_values(&[1.0, 2.0, 3.0], 2).unwrap();
    let mut h = Histogram::of(&edges, &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2.0]);
    h.insert_missing();
    assert_eq!((h.values(), h.nan(), h.missing(), h.total()), (3, 1, 1, 5));
    assert_eq!(h.categories(), [1, 1, 0, 1, 1, 1]);
}

#[test]
fn histograms_of_different_edges_do_not_merge() {
    let mut a = Histogram::new(&Edges::from_values(&[1.0, 2.0], 2).unwrap());
    let b = Histogram::new(&Edges::from_values(&[1.0], 2).unwrap());
    let before = a.clone();
    assert!(matches!(a.merge(&b), Err(StatsError::Shape { left: 4, right: 3, .. })), "{:?}", a.merge(&b));
    assert_eq!(a, before);
}

#[test]
fn offsets_of_an_empty_cell_are_refused() {
    let json = r#"{"counts":[0,1],"offsets":[1,1]}"#;
    assert!(serde_json::from_str::<Histogram>(json).is_err());
}

#[test]
fn counts_from_outside_saturate_instead_of_wrapping() {
    let json = format!(r#"{{"counts":[{0}],"offsets":[{0}],"nan":{0},"missing":{0}}}"#, u64::MAX);
    let mut h: Histogram = serde_json::from_str(&json).unwrap();
    h.merge(&h.clone()).unwrap();
    assert_eq!(h.total(), u64::MAX);
}

proptest! {
    #[test]
    fn merging_is_sketching_the_concatenation_bit_for_bit(
        a in prop::collection::vec(any::<f64>(), 0..100),
        b in prop::collection::vec(-4.0..4.0, 0..100),
        seed in any::<u64>(),
    ) {
        let edges = Edges::from_values(&normal(seed, 300), 32).unwrap();
        let mut merged = Histogram::of(&edges, &a);
        merged.merge(&Histogram::of(&edges, &b)).unwrap();
        prop_assert_eq!(merged.encode(), Histogram::of(&edges, &[a, b].concat()).encode());
    }

    #[test]
    fn merging_is_associative_and_commutative_even_where_it_saturates(
        parts in prop::collection::vec(prop::collection::vec(any::<(u64, u64)>(), 4), 3),
    ) {
        let [a, b, c] = [0, 1, 2].map(|i| Histogram {
            cells: parts[i].iter().map(|(count, offsets)| Cell { count: *count, offsets: *offsets }).collect(),
            nan: parts[i][0].0,
            missing: parts[i][1].1,
        });
        let sum = |x: &Histogram, y: &Histogram| { let mut x = x.clone(); x.merge(y).unwrap(); x };
        prop_assert_eq!(sum(&sum(&a, &b), &c), sum(&a, &sum(&b, &c)));
        prop_assert_eq!(sum(&a, &b), sum(&b, &a));
    }

    #[test]
    fn both_forms_survive_the_round_trip(values in prop::collection::vec(any::<f64>(), 0..100), seed in any::<u64>()) {
        let edges = Edges::from_values(&normal(seed, 100), 16).unwrap();
        let h = Histogram::of(&edges, &values);
        let compact: Histogram = postcard::from_bytes(&postcard::to_allocvec(&h).unwrap()).unwrap();
        let json: Histogram = serde_json::from_str(&serde_json::to_string(&h).unwrap()).unwrap();
        prop_assert_eq!(&compact, &h);
        prop_assert_eq!(&json, &h);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        drop(Histogram::decode(&bytes));
    }
}
