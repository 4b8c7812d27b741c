//! The classification extension (Triton §Classification Extension): instead of an output its largest elements, each as a
//! text `value:index`, or `value:index:label` where the bundle has labels.

use crate::runtime::{best, row_width};
use fieldpost_shared::bundle::manifest::Postprocess;
use fieldpost_shared::bundle::tensor::push_text;
use fieldpost_shared::bundle::{Dim, Dtype, Manifest, Tensor, TensorSpec};
use std::fmt::Display;
use std::num::NonZeroUsize;

/// The `count` largest elements of each row of an output, largest first, equal ones by index, NaN last; all of a row where it
/// has fewer. BYTES `[rows, count]`, and `[count]` of an output that is one row. Values are compared as their type is, and
/// written so that they are read back as what they are.
pub(crate) fn of(manifest: &Manifest, spec: &TensorSpec, tensor: &Tensor, count: NonZeroUsize) -> Tensor {
    let columns = row_width(spec, &tensor.shape);
    let labels = labels(manifest, spec, columns);
    let classes = Classes { columns, count: count.get().min(columns), labels };
    let data = &tensor.data;
    let texts = match tensor.dtype {
        Dtype::Bool | Dtype::Uint8 => classes.of(data, u8::from_le_bytes),
        Dtype::Uint16 => classes.of(data, u16::from_le_bytes),
        Dtype::Uint32 => classes.of(data, u32::from_le_bytes),
        Dtype::Uint64 => classes.of(data, u64::from_le_bytes),
        Dtype::Int8 => classes.of(data, i8::from_le_bytes),
        Dtype::Int16 => classes.of(data, i16::from_le_bytes),
        Dtype::Int32 => classes.of(data, i32::from_le_bytes),
        Dtype::Int64 => classes.of(data, i64::from_le_bytes),
        Dtype::Fp16 => classes.of(data, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
        Dtype::Fp32 => classes.of(data, f32::from_le_bytes),
        Dtype::Fp64 => classes.of(data, f64::from_le_bytes),
        // Refused when they are asked for.
        Dtype::Bytes => Vec::new(),
    };
    let shape = match (spec.shape.as_slice(), tensor.shape.as_slice()) {
        ([Dim::Symbol(_), ..] | [_, _, ..], [rows, ..]) => vec![*rows, classes.count],
        _ => vec![classes.count],
    };
    Tensor { dtype: Dtype::Bytes, shape, data: texts }
}

/// The labels of an output's columns: where there is one for each, and post-processing names no other output.
fn labels<'a>(manifest: &'a Manifest, spec: &TensorSpec, columns: usize) -> &'a [String] {
    let labelled = match &manifest.postprocess {
        Postprocess::Classification(declared) => declared.tensor == spec.name,
        Postprocess::MultiLabel(declared) => declared.tensor == spec.name,
        Postprocess::Regression { .. } | Postprocess::Detection(_) => false,
        Postprocess::Raw => true,
    };
    if labelled && manifest.labels.len() == columns { &manifest.labels } else { &[] }
}

struct Classes<'a> {
    columns: usize,
    count: usize,
    labels: &'a [String],
}

impl Classes<'_> {
    /// The texts of all rows, each behind its length.
    fn of<T: PartialOrd + Display, const N: usize>(&self, data: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<u8> {
        let values: Vec<T> = data.as_chunks().0.iter().map(|bytes| read(*bytes)).collect();
        let mut texts = Vec::new();
        for row in values.chunks_exact(self.columns.max(1)) {
            for class in best(row, self.count) {
                let Some(value) = row.get(class) else { continue };
                let text = match self.labels.get(class) {
                    Some(label) => format!("{value}:{class}:{label}"),
                    None => format!("{value}:{class}"),
                };
                // A label has no 4 GiB: the manifest is bounded.
                push_text(&mut texts, text.as_bytes());
            }
        }
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;

    /// The texts of an output of this contract.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Manifest), tensor: &Tensor, count: usize, shape: &[usize], expected: &[&str]) {
        let mut manifest = testing::manifest();
        manifest.labels = ["ape", "bee", "cat"].map(str::to_owned).to_vec();
        manifest.outputs[0].shape[1] = Dim::Fixed(3);
        change(&mut manifest);
        let found = of(&manifest, &manifest.outputs[0], tensor, NonZeroUsize::new(count).unwrap());
        assert_eq!(
            found,
            Tensor::from_texts(shape.to_vec(), expected).unwrap(),
            "{:?}",
            String::from_utf8_lossy(&found.data)
        );
    }

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_f32(shape.to_vec(), values).unwrap()
    }

    #[test]
    fn each_row_has_its_best_with_their_labels() {
        let two = floats(&[2, 3], &[0.1, 0.7, 0.2, 1e-20, f32::NAN, f32::INFINITY]);
        check(|_| (), &two, 2, &[2, 2], &["0.7:1:bee", "0.2:2:cat", "inf:2:cat", "0.00000000000000000001:0:ape"]);
        check(|_| (), &two, 1, &[2, 1], &["0.7:1:bee", "inf:2:cat"]);
    }

    #[test]
    fn more_than_there_are_is_all_and_equal_ones_go_by_index() {
        check(|_| (), &floats(&[1, 3], &[2.0, 5.0, 2.0]), 9, &[1, 3], &["5:1:bee", "2:0:ape", "2:2:cat"]);
    }

    #[test]
    fn labels_are_of_the_output_that_is_post_processed_and_of_as_many_columns() {
        let row = floats(&[1, 3], &[1.0, 3.0, 2.0]);
        check(|m| m.labels.truncate(2), &row, 1, &[1, 1], &["3:1"]);
        check(|m| m.outputs[0].name = "other".to_owned(), &row, 1, &[1, 1], &["3:1"]);
        check(|m| m.postprocess = Postprocess::Raw, &row, 1, &[1, 1], &["3:1:bee"]);
    }

    #[test]
    fn an_output_of_one_row_has_one_axis() {
        check(
            |m| m.outputs[0].shape = vec![Dim::Fixed(3)],
            &floats(&[3], &[1.0, 3.0, 2.0]),
            2,
            &[2],
            &["3:1:bee", "2:2:cat"],
        );
    }

    #[test]
    fn values_are_compared_as_their_type() {
        let large: Vec<u8> = [i64::MAX - 1, i64::MAX, -1].iter().flat_map(|value| value.to_le_bytes()).collect();
        let large = Tensor::new(Dtype::Int64, vec![1, 3], large).unwrap();
        let expected = ["9223372036854775807:1:bee", "9223372036854775806:0:ape"];
        check(|m| m.outputs[0].dtype = Dtype::Int64, &large, 2, &[1, 2], &expected);
        let bytes = Tensor::new(Dtype::Uint8, vec![1, 3], vec![200, 7, 255]).unwrap();
        check(|m| m.outputs[0].dtype = Dtype::Uint8, &bytes, 1, &[1, 1], &["255:2:cat"]);
    }
}
