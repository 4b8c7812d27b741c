use super::*;
use crate::stats::testing::Random;
use proptest::prelude::*;

fn edges(values: &[f64], bins: usize) -> Edges {
    Edges::from_values(values, bins).unwrap()
}

fn cell(edges: &Edges, value: f64) -> usize {
    edges.locate(value).unwrap().0
}

#[test]
fn thousand_distinct_values_fill_thirty_two_cells_evenly() {
    let values: Vec<f64> = (0..1000).map(f64::from).collect();
    let edges = edges(&values, 32);
    let mut counts = vec![0; edges.cells()];
    for v in values {
        counts[cell(&edges, v)] += 1;
    }
    assert_eq!(edges.cells(), 34);
    assert_eq!((counts[0], counts[33]), (0, 0));
    assert!(counts[1..33].iter().all(|n| (31..=32).contains(n)), "{counts:?}");
}

#[test]
fn an_atom_has_a_cell_of_its_own() {
    let mut values: Vec<f64> = (1..=900).map(|i| f64::from(i) / 100.0).collect();
    values.extend([0.0; 100]);
    let edges = edges(&values, 32);
    let atom = cell(&edges, 0.0);
    assert!(values.iter().all(|v| (cell(&edges, *v) == atom) == (*v == 0.0)));
    assert_ne!(cell(&edges, -0.01), atom);
}

#[test]
fn a_value_between_two_atoms_is_in_neither() {
    let edges = edges(&[0.0, 1.0, 0.0, 1.0], 32);
    let cells = [cell(&edges, 0.0), cell(&edges, 0.5), cell(&edges, 1.0)];
    assert_eq!(cells, [1, 2, 3]);
}

#[test]
fn an_atom_survives_rounding_through_f32() {
    let edges = edges(&[0.1, 0.1, 0.7, 0.7], 32);
    assert_eq!(cell(&edges, f64::from(0.1f32)), cell(&edges, 0.1));
    assert_eq!(cell(&edges, f64::from(0.7f32)), cell(&edges, 0.7));
}

#[test]
fn a_constant_feature_has_one_cell_and_the_two_outer_ones() {
    for constant in [0.0, -0.0, 1.0, -7e250, 5e-324, 1e300] {
        let edges = edges(&[constant; 9], 32);
        assert_eq!((edges.cells(), cell(&edges, constant)), (3, 1), "{constant}");
    }
}

#[test]
fn infinities_go_to_the_outer_cells_and_nan_nowhere() {
    let edges = edges(&[1.0, 2.0, 3.0], 4);
    assert_eq!(edges.locate(f64::INFINITY), Some((edges.cells() - 1, OUTER_CAP)));
    assert_eq!(edges.locate(f64::NEG_INFINITY), Some((0, OUTER_CAP)));
    assert_eq!(edges.locate(f64::NAN), None);
}

#[test]
fn values_without_a_finite_one_are_refused() {
    assert_eq!(Edges::from_values(&[f64::NAN, f64::INFINITY, 1e301], 8), Err(StatsError::NoValues { found: 3 }));
}

#[test]
fn edges_out_of_order_not_finite_or_alone_are_refused() {
    for bad in [vec![], vec![1.0], vec![1.0, 1.0], vec![2.0, 1.0], vec![0.0, f64::INFINITY], vec![f64::NAN, 1.0]] {
        assert_eq!(Edges::try_from(bad), Err(StatsError::Edges));
    }
    let many: Vec<f64> = (0..256).map(f64::from).collect();
    assert!(matches!(Edges::try_from(many), Err(StatsError::TooMany { found: 256, limit: 255, .. })));
}

#[test]
fn the_mean_of_a_cell_is_kept_to_a_256th_of_its_width() {
    let mut random = Random::new(7);
    let values: Vec<f64> = (0..500).map(|_| random.normal()).collect();
    let edges = edges(&values, 16);
    for (low, high) in edges.as_slice().windows(2).map(|w| (w[0], w[1])) {
        let value = low + (high - low) * random.uniform();
        let (cell, offset) = edges.locate(value).unwrap();
        assert!((edges.mean(cell, 1, offset).unwrap() - value).abs() <= (high - low) / 512.0 * 1.000_001);
    }
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), -3.0..3.0, (-4i8..4).prop_map(f64::from), Just(f64::from(0.1f32))]
}

proptest! {
    #[test]
    fn any_values_give_edges_that_hold_them_all(values in prop::collection::vec(any_value(), 1..200), bins in 0usize..100) {
        if let Ok(edges) = Edges::from_values(&values, bins) {
            prop_assert!(edges.cells() <= MAX_CELLS);
            for v in values.iter().filter(|v| v.abs() <= LARGEST) {
                let at = cell(&edges, *v);
                prop_assert!(at > 0 && at < edges.cells() - 1, "{} in cell {} of {:?}", v, at, edges.as_slice());
            }
        } else {
            prop_assert!(values.iter().all(|v| v.is_nan() || v.abs() > LARGEST));
        }
    }

    #[test]
    fn values_fall_into_the_same_cells_after_a_trip_through_json(values in prop::collection::vec(any_value(), 1..200)) {
        if let Ok(edges) = Edges::from_values(&values, 32) {
            let back: Edges = serde_json::from_str(&serde_json::to_string(&edges).unwrap()).unwrap();
            for v in values.iter().filter(|v| v.abs() <= LARGEST) {
                prop_assert_eq!(cell(&edges, *v), cell(&back, *v));
            }
        }
    }
}
