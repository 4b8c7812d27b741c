//! What the manifest promises, held against the graph once and against every request.

use super::error::{InferError, InputError, LoadError, Side};
use fieldpost_shared::bundle::{Dim, Dtype, Tensor, TensorSpec};

/// Type and shape for people, such as `FP32 [N,1,8,8]`.
pub(crate) fn spec_text(spec: &TensorSpec) -> String {
    format!("{} {}", spec.dtype, spec.shape_text())
}

/// Type and shape for people, such as `FP32 [1,1,8,8]`.
pub(crate) fn tensor_text(tensor: &Tensor) -> String {
    let axes: Vec<String> = tensor.shape.iter().map(ToString::to_string).collect();
    format!("{} [{}]", tensor.dtype, axes.join(","))
}

/// Refuses a graph that is not what the manifest says. Both list the same names in the same order already.
/// Where the graph leaves an axis open, the manifest may fix it; what comes out is checked with each answer.
pub(crate) fn check_graph(side: Side, manifest: &[TensorSpec], graph: &[TensorSpec]) -> Result<(), LoadError> {
    for (promised, found) in manifest.iter().zip(graph) {
        let same_axes = promised.shape.len() == found.shape.len()
            && promised.shape.iter().zip(&found.shape).all(|axes| match axes {
                (Dim::Fixed(promised), Dim::Fixed(found)) => promised == found,
                // An open output axis promises less than the graph holds; an open input axis would promise more.
                (Dim::Symbol(_), Dim::Fixed(_)) => side == Side::Output,
                (_, Dim::Symbol(_)) => true,
            });
        if promised.dtype != found.dtype || !same_axes {
            return Err(LoadError::Contract {
                side,
                tensor: promised.name.clone(),
                expected: format!("{} as the manifest says", spec_text(promised)),
                found: format!("{} in the graph", spec_text(found)),
            });
        }
    }
    Ok(())
}

/// Refuses tensors that are not what the contract says: count, type, rank, fixed sizes, bytes.
pub(crate) fn check_inputs(specs: &[TensorSpec], tensors: &[Tensor]) -> Result<(), InputError> {
    if specs.len() != tensors.len() {
        return Err(InputError::Count { expected: specs.len(), found: tensors.len() });
    }
    for (spec, tensor) in specs.iter().zip(tensors) {
        if spec.dtype != tensor.dtype || !spec.admits(&tensor.shape) {
            return Err(InputError::Tensor {
                input: spec.name.clone(),
                expected: spec_text(spec),
                found: tensor_text(tensor),
            });
        }
        tensor.check().map_err(|source| InputError::Damaged { input: spec.name.clone(), source })?;
        if tensor.dtype == Dtype::Bytes && tensor.texts().any(|text| str::from_utf8(text).is_err()) {
            return Err(InputError::Tensor {
                input: spec.name.clone(),
                expected: "text in UTF-8".to_owned(),
                found: "other bytes".to_owned(),
            });
        }
    }
    Ok(())
}

/// Refuses an answer that is not what the contract says. `nan_allowed` is by output.
pub(crate) fn check_outputs(specs: &[TensorSpec], nan_allowed: &[bool], tensors: &[Tensor]) -> Result<(), InferError> {
    for ((spec, tensor), nan_allowed) in specs.iter().zip(tensors).zip(nan_allowed) {
        if !spec.admits(&tensor.shape) {
            return Err(InferError::Output {
                output: spec.name.clone(),
                expected: spec_text(spec),
                found: tensor_text(tensor),
            });
        }
        if !nan_allowed && holds_nan(tensor) {
            return Err(InferError::NanOutput { output: spec.name.clone() });
        }
    }
    Ok(())
}

/// Whether a floating-point tensor holds not-a-number.
pub(crate) fn holds_nan(tensor: &Tensor) -> bool {
    match tensor.dtype {
        Dtype::Fp16 => tensor.data.as_chunks().0.iter().any(|bytes| half::f16::from_le_bytes(*bytes).is_nan()),
        Dtype::Fp32 => tensor.data.as_chunks().0.iter().any(|bytes| f32::from_le_bytes(*bytes).is_nan()),
        Dtype::Fp64 => tensor.data.as_chunks().0.iter().any(|bytes| f64::from_le_bytes(*bytes).is_nan()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(shape: &[&str]) -> TensorSpec {
        let dim = |text: &&str| text.parse().map_or_else(|_| Dim::Symbol((*text).to_owned()), Dim::Fixed);
        TensorSpec { name: "x".to_owned(), dtype: Dtype::Fp32, shape: shape.iter().map(dim).collect() }
    }

    fn check(side: Side, manifest: &[&str], graph: &[&str], fits: bool) {
        assert_eq!(check_graph(side, &[spec(manifest)], &[spec(graph)]).is_ok(), fits);
    }

    #[test]
    fn a_manifest_may_fix_an_axis_that_the_graph_leaves_open() {
        check(Side::Input, &["4", "3"], &["N", "3"], true);
    }

    #[test]
    fn a_manifest_may_not_open_an_input_axis_that_the_graph_fixes() {
        check(Side::Input, &["N", "3"], &["1", "3"], false);
    }

    #[test]
    fn a_manifest_may_say_less_of_an_output() {
        check(Side::Output, &["N", "3"], &["1", "3"], true);
    }

    #[test]
    fn another_size_or_rank_is_refused() {
        check(Side::Input, &["N", "4"], &["N", "3"], false);
        check(Side::Input, &["N"], &["N", "3"], false);
    }

    #[test]
    fn not_a_number_is_found_in_floating_point_alone() {
        let with = |value: f32| Tensor::from_f32(vec![2], &[0.0, value]).unwrap();
        assert!(holds_nan(&with(f32::NAN)) && !holds_nan(&with(f32::INFINITY)));
        assert!(!holds_nan(&Tensor::new(Dtype::Int32, vec![1], vec![0xff; 4]).unwrap()));
        assert!(holds_nan(&Tensor::new(Dtype::Fp64, vec![1], f64::NAN.to_le_bytes().to_vec()).unwrap()));
    }

    #[test]
    fn a_request_is_told_what_was_expected_and_found() {
        let text = |tensor: Tensor| check_inputs(&[spec(&["N", "3"])], &[tensor]).unwrap_err().to_string();
        let ints = Tensor::new(Dtype::Int64, vec![1, 3], vec![0; 24]).unwrap();
        assert_eq!(text(ints), "input `x`: expected FP32 [N,3], found INT64 [1,3]");
        let torn = Tensor { dtype: Dtype::Fp32, shape: vec![1, 3], data: vec![0; 11] };
        assert_eq!(text(torn), "input `x` is damaged");
        let huge = Tensor { dtype: Dtype::Fp32, shape: vec![usize::MAX, 3], data: vec![0; 4] };
        assert_eq!(text(huge), "input `x` is damaged");
    }
}
