//! Models that no exporter writes: refused with node and reason, never a panic, never without end.

use super::cases::{Case, open_proto, read};
use proptest::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto};
use tract_onnx::prelude::*;

fn decode(case: &Case) -> ModelProto {
    onnx().proto_model_for_read(&mut &*case.model).unwrap()
}

fn first(model: &mut ModelProto) -> &mut NodeProto {
    &mut model.graph.as_mut().unwrap().node[0]
}

/// The message for a synthetic case of which one attribute was changed.
fn refused(name: &str, attribute: &str, change: impl Fn(&mut AttributeProto)) -> String {
    let case = read("ml/synthetic").into_iter().find(|case| case.name == name).unwrap();
    let mut model = decode(&case);
    change(first(&mut model).attribute.iter_mut().find(|found| found.name == attribute).unwrap());
    format!("{:#}", open_proto(model).err().unwrap())
}

fn check(name: &str, attribute: &str, change: impl Fn(&mut AttributeProto), expected: &str) {
    let message = refused(name, attribute, change);
    assert!(message.contains("\"the_") && message.contains(expected), "{message}");
}

const TREES: &str = "regressor_none_sum_3";

#[test]
fn branches_in_a_circle_are_refused() {
    check(TREES, "nodes_truenodeids", |list| list.ints[0] = 0, "branches lead in a circle");
    check("version5_0_1", "nodes_truenodeids", |list| list.ints.fill(0), "branches lead in a circle");
}

#[test]
fn branches_to_nowhere_are_refused() {
    check(TREES, "nodes_falsenodeids", |list| list.ints[0] = 1 << 40, "has no node 1099511627776");
    check("version5_0_1", "nodes_falsenodeids", |list| list.ints.fill(4000), "a branch leads to");
    check(
        "version5_0_1",
        "nodes_falsenodeids",
        |list| list.ints[0] = -1,
        "`nodes_falsenodeids` has the unexpected value -1",
    );
}

#[test]
fn lists_of_different_lengths_are_refused() {
    check(TREES, "nodes_values", |list| list.floats.truncate(3), "`nodes_values` has 3 values instead of");
    check(TREES, "target_ids", |list| list.ints.push(0), "`target_ids` has");
    check("svm_rbf_3_none", "rho", |list| list.floats.truncate(2), "`rho` has 2 values instead of 3");
    check("svm_rbf_3_none", "coefficients", |list| list.floats.truncate(1), "`coefficients` has 1 values");
    check("label_encoder_int64s_strings", "keys_int64s", |list| list.ints.truncate(1), "1 keys for 4 values");
    check("linear_classifier_none_3", "intercepts", |list| list.floats.truncate(2), "2 intercepts for 3 classes");
}

#[test]
fn places_outside_are_refused() {
    check(TREES, "nodes_featureids", |list| list.ints.fill(-5), "`nodes_featureids` has the unexpected value -5");
    check(TREES, "nodes_featureids", |list| list.ints.fill(77), "the input has 4 features, the model reads the 78th");
    check(TREES, "target_ids", |list| list.ints[0] = 3, "`target_ids` speaks of 3, there are 3");
    check(
        "svm_rbf_3_none",
        "vectors_per_class",
        |list| list.ints[0] = -1,
        "`vectors_per_class` has the unexpected value -1",
    );
}

#[test]
fn numbers_that_memory_is_taken_by_are_bounded() {
    check(TREES, "n_targets", |attribute| attribute.i = 1 << 40, "`n_targets` has the unexpected value");
    check("feature_vectorizer", "inputdimensions", |list| list.ints[0] = 1 << 60, "more than 1048576 columns");
    check("svm_rbf_3_none", "vectors_per_class", |list| list.ints.fill(i64::MAX), "`vectors_per_class` overflows");
}

#[test]
fn not_a_number_is_refused() {
    check(TREES, "target_weights", |list| list.floats[0] = f32::NAN, "is NaN");
    check(TREES, "nodes_values", |list| list.floats.fill(f32::NAN), "compares with NaN");
    check("linear_classifier_none_3", "coefficients", |list| list.floats[1] = f32::NAN, "`coefficients` is NaN at 1");
}

#[test]
fn unknown_words_are_refused() {
    check(TREES, "nodes_modes", |list| list.strings[0] = b"BRANCH_ABOUT".to_vec(), "unexpected value BRANCH_ABOUT");
    check(TREES, "post_transform", |attribute| attribute.s = b"HARDMAX".to_vec(), "unexpected value HARDMAX");
    check(TREES, "aggregate_function", |attribute| attribute.s = b"\xff".to_vec(), "utf-8");
    check("svm_rbf_3_none", "kernel_type", |attribute| attribute.s = b"COSINE".to_vec(), "unexpected value COSINE");
}

const ODD: [i64; 8] = [-1, 0, 1, 2, 1 << 31, 1 << 40, i64::MAX, i64::MIN];
const ODD_FLOATS: [f32; 5] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX];

/// One change to one attribute.
fn mutate(attribute: &mut AttributeProto, action: u8, at: usize, odd: usize) {
    let odd_int = ODD[odd % ODD.len()];
    match action {
        0 if !attribute.ints.is_empty() => {
            let at = at % attribute.ints.len();
            attribute.ints[at] = odd_int;
        }
        0 if !attribute.floats.is_empty() => {
            let at = at % attribute.floats.len();
            attribute.floats[at] = ODD_FLOATS[odd % ODD_FLOATS.len()];
        }
        1 => {
            attribute.ints.truncate(at);
            attribute.floats.truncate(at);
            attribute.strings.truncate(at);
        }
        2 => attribute.i = odd_int,
        3 => attribute.ints.reverse(),
        4 => attribute.ints.fill(odd_int),
        5 => {
            if let Some(tensor) = &mut attribute.t {
                tensor.raw_data.truncate(at);
                tensor.dims = vec![odd_int];
            }
        }
        6 => attribute.r#type = i32::try_from(odd).unwrap(),
        _ => attribute.name = "gone".to_owned(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn no_change_to_an_attribute_makes_a_panic(
        case in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..8, 0_usize..40, 0_usize..16), 1..4),
    ) {
        thread_local!(static CASES: Vec<Case> = read("ml/synthetic"));
        CASES.with(|cases| {
            let case = case.get(cases);
            let mut model = decode(case);
            let node = first(&mut model);
            for (attribute, action, at, odd) in &changes {
                let index = attribute.index(node.attribute.len().max(1));
                if let Some(attribute) = node.attribute.get_mut(index) {
                    mutate(attribute, *action, *at, *odd);
                }
            }
            let run = || -> TractResult<()> {
                let model = open_proto(model)?.into_optimized()?.into_runnable()?;
                drop(model.run(case.inputs.iter().map(|input| input.clone().into_tvalue()).collect())?);
                Ok(())
            };
            // An error is as good as an answer.
            prop_assert!(catch_unwind(AssertUnwindSafe(run)).is_ok(), "{}", case.name);
            Ok(())
        })?;
    }
}
