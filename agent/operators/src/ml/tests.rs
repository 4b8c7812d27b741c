use super::cases::{differences, open, read};
use super::classes;
use tract_onnx::prelude::{Framework as _, TypedModel};

fn check(group: &str) {
    let mut wrong = Vec::new();
    for case in read(&format!("ml/{group}")) {
        let optimized = open(&case.model).and_then(TypedModel::into_optimized);
        match optimized.and_then(|model| differences(&case, model)) {
            Ok(differences) => wrong.extend(differences),
            Err(error) => wrong.push(format!("{}: {error:#}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_standards_own_cases_hold() {
    check("standard");
}

#[test]
fn every_mode_is_as_in_onnx_runtime() {
    check("synthetic");
}

#[test]
fn exported_models_are_as_in_onnx_runtime() {
    check("exported");
}

fn check_classes(case: &str, expected: &[&str]) {
    let case = read("ml/exported").into_iter().find(|found| found.name == case).unwrap();
    assert_eq!(classes(&tract_onnx::onnx().proto_model_for_read(&mut &*case.model).unwrap()), expected);
}

#[test]
fn the_classes_are_those_of_the_last_word() {
    check_classes("extra_trees", &["setosa", "versicolor", "virginica"]);
    check_classes("forest_names_zipmap", &["setosa", "versicolor", "virginica"]);
    check_classes("boosting", &["0", "1", "2"]);
    // Nothing in a perceptron's graph names classes, nor in a regression's.
    check_classes("mlp", &[]);
    check_classes("forest_regressor", &[]);
}
