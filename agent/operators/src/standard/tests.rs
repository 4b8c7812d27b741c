//! The cases of `tests/models/operators`, whose answers are ONNX Runtime's.

use super::{register, rewrite};
use crate::ml::cases::{Case, differences, read, typed};
use crate::optimized;
use tract_onnx::prelude::{Framework as _, TractResult, TypedModel};

fn open(case: &Case) -> TractResult<TypedModel> {
    let mut onnx = tract_onnx::onnx();
    let mut proto = onnx.proto_model_for_read(&mut &*case.model)?;
    register(&mut onnx.op_register);
    rewrite(&mut proto);
    optimized(typed(onnx, &proto)?)
}

fn check(group: &str) {
    let mut wrong = Vec::new();
    for case in read(&format!("operators/{group}")) {
        match open(&case).and_then(|model| differences(&case, model)) {
            Ok(differences) => wrong.extend(differences),
            Err(error) => wrong.push(format!("{}: {error:#}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_nan_within_a_graph_stays_nan() {
    check("nan");
}

#[test]
fn sums_of_float16_end_where_those_of_float32_do() {
    check("half");
}

#[test]
fn integers_that_stand_for_reals_are_as_in_onnx_runtime() {
    check("quantized");
}

#[test]
fn rare_types_are_as_in_onnx_runtime() {
    check("types");
}
