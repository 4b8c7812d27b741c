use super::cases::{differences, read};

fn check(group: &str) {
    let mut wrong = Vec::new();
    for case in read(group) {
        match differences(&case) {
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
