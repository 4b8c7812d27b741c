//! A request that a graph can answer, made up: for who packs a model and has no data at hand.

use super::engine::{Ends, Engine, open_engine};
use super::error::LoadError;
use fieldpost_shared::bundle::{Dim, Dtype, Tensor, TensorSpec};
use std::collections::BTreeMap;
use std::path::Path;

/// Sizes that are tried for axes which the graph leaves open, the first (the batch) aside. 1 goes with nearly everything,
/// also where it is not meant, so it is the last.
const OPEN: [usize; 5] = [8, 32, 224, 512, 1];
/// A made-up input has at most so many elements.
const MOST: usize = 4 << 20;

/// One tensor for each input, with which the graph runs and answers no NaN: real numbers from 0 to 1 in steps of a
/// thousandth, whole numbers 0 or 1 (bytes up to 255). The same each time. None when no size that is tried will do, or the
/// graph takes texts. Blocking.
///
/// # Errors
/// When the runtime cannot run the file.
pub fn example(dir: &Path, file: &str) -> Result<Option<Vec<(TensorSpec, Tensor)>>, LoadError> {
    let engine = open_engine(dir, file, None, Ends::Graph(&BTreeMap::new()))?;
    Ok(OPEN.iter().find_map(|open| with(engine.as_ref(), *open)))
}

fn with(engine: &dyn Engine, open: usize) -> Option<Vec<(TensorSpec, Tensor)>> {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let tensors: Option<Vec<Tensor>> = engine.inputs().iter().map(|spec| tensor(spec, open, &mut numbers)).collect();
    let tensors = tensors?;
    let outputs = engine.run(&tensors).ok()?;
    let sound = |output: &Tensor| !output.dtype.is_float() || output.to_f64().iter().all(|value| !value.is_nan());
    outputs.iter().all(sound).then(|| engine.inputs().iter().cloned().zip(tensors).collect())
}

fn tensor(spec: &TensorSpec, open: usize, numbers: &mut Numbers) -> Option<Tensor> {
    let size = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Fixed(size) => usize::try_from(*size).ok(),
        Dim::Symbol(_) => Some(if axis == 0 { 1 } else { open }),
    };
    let shape: Vec<usize> = spec.shape.iter().enumerate().map(size).collect::<Option<_>>()?;
    let count = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size)).filter(|n| *n <= MOST)?;
    let mut data = Vec::new();
    for _ in 0..count {
        let real = f32::from(numbers.below(1001)) / 1000.0;
        match spec.dtype {
            Dtype::Fp32 => data.extend(real.to_le_bytes()),
            Dtype::Fp64 => data.extend(f64::from(real).to_le_bytes()),
            Dtype::Fp16 => data.extend(half::f16::from_f32(real).to_le_bytes()),
            Dtype::Uint8 => data.extend(numbers.below(256).to_le_bytes().first()),
            Dtype::Bytes => return None,
            // Places in a vocabulary, masks, lengths: 0 and 1 are allowed nearly everywhere.
            whole => {
                data.push(u8::from(numbers.below(2) == 1));
                data.resize(data.len() + whole.size_bytes().saturating_sub(1), 0);
            }
        }
    }
    Tensor::new(spec.dtype, shape, data).ok()
}

/// xorshift64 (Marsaglia 2003): numbers without any pattern that a model would notice, and no more.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u16) -> u16 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u16::try_from(self.0 % u64::from(limit)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::onnx_builder::{Onnx, data_type};
    use fieldpost_shared::durable::write_atomic;

    fn made(onnx: &Onnx) -> Option<Vec<(TensorSpec, Tensor)>> {
        let dir = tempfile::tempdir().unwrap();
        write_atomic(dir.path(), "model.onnx", &onnx.bytes()).unwrap();
        example(dir.path(), "model.onnx").unwrap()
    }

    #[test]
    fn open_axes_get_sizes_that_go_together() {
        let float = data_type(Dtype::Fp32);
        let plain = Onnx::default()
            .node("m", "MatMul", &["x", "w"], &["y"])
            .weight("w", &[8, 2], &[1.0; 16])
            .input("x", float, &["N", "K"])
            .output("y", float, &["N", "2"]);
        let (spec, tensor) = made(&plain).unwrap().remove(0);
        assert_eq!((spec.name.as_str(), tensor.shape.as_slice()), ("x", &[1, 8][..]));
        assert!(tensor.to_f64().iter().all(|value| (0.0..=1.0).contains(value)));
    }

    #[test]
    fn a_graph_that_answers_nan_has_no_example() {
        let float = data_type(Dtype::Fp32);
        let graph = Onnx::default()
            .node("n", "Neg", &["x"], &["negative"])
            .node("l", "Sqrt", &["negative"], &["y"])
            .input("x", float, &["16"])
            .output("y", float, &["16"]);
        assert!(made(&graph).is_none());
    }
}
