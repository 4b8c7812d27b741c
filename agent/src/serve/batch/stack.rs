//! Rows of several requests as one batch, and the answers apart again. Pure.

use fieldpost_shared::bundle::{Dtype, Tensor};

/// Whether every tensor has one row.
pub(crate) fn is_single(inputs: &[Tensor]) -> bool {
    !inputs.is_empty() && inputs.iter().all(|tensor| tensor.shape.first() == Some(&1))
}

/// Whether types and all sizes are the same.
pub(crate) fn are_alike(one: &[Tensor], other: &[Tensor]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.dtype == b.dtype && a.shape == b.shape)
}

/// Single rows that are alike, one under the other.
pub(crate) fn stack(requests: &[&[Tensor]]) -> Vec<Tensor> {
    let Some(first) = requests.first() else { return Vec::new() };
    let column = |(at, like): (usize, &Tensor)| {
        let mut shape = like.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = requests.len();
        }
        let mut data = Vec::with_capacity(like.data.len().saturating_mul(requests.len()));
        requests.iter().filter_map(|inputs| inputs.get(at)).for_each(|tensor| data.extend_from_slice(&tensor.data));
        Tensor { dtype: like.dtype, shape, data }
    };
    first.iter().enumerate().map(column).collect()
}

/// The outputs of each row; `None` when they are not of so many rows.
pub(crate) fn split(outputs: &[Tensor], rows: usize) -> Option<Vec<Vec<Tensor>>> {
    let mut split: Vec<Vec<Tensor>> = (0..rows).map(|_| Vec::with_capacity(outputs.len())).collect();
    for output in outputs {
        // Texts differ in length: where one row ends, their bytes do not say.
        if output.dtype == Dtype::Bytes {
            return None;
        }
        let bytes = output.data.len().checked_div(rows)?;
        if output.shape.first() != Some(&rows) || bytes.checked_mul(rows)? != output.data.len() {
            return None;
        }
        let mut shape = output.shape.clone();
        *shape.first_mut()? = 1;
        for (at, row) in split.iter_mut().enumerate() {
            let begin = at.checked_mul(bytes)?;
            let data = output.data.get(begin..begin.checked_add(bytes)?)?.to_vec();
            row.push(Tensor { dtype: output.dtype, shape: shape.clone(), data });
        }
    }
    Some(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[f32], flag: u8) -> Vec<Tensor> {
        let flag = Tensor::new(Dtype::Bool, vec![1], vec![flag]).unwrap();
        vec![Tensor::from_f32(vec![1, values.len()], values).unwrap(), flag]
    }

    #[test]
    fn what_is_stacked_comes_apart_again() {
        let rows = [row(&[1.0, 2.0], 0), row(&[3.0, 4.0], 1), row(&[5.0, 6.0], 0)];
        let stacked = stack(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        assert_eq!(
            (stacked[0].shape.as_slice(), stacked[0].to_f64()),
            (&[3, 2][..], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        );
        assert_eq!(split(&stacked, 3).unwrap(), rows);
    }

    #[test]
    fn outputs_of_another_number_of_rows_are_not_split() {
        let outputs = [Tensor::from_f32(vec![2, 1], &[1.0, 2.0]).unwrap()];
        assert!(split(&outputs, 4).is_none() && split(&outputs, 0).is_none());
        assert!(split(&[Tensor::from_f32(vec![], &[1.0]).unwrap()], 1).is_none(), "a scalar is of the whole batch");
    }

    #[test]
    fn texts_are_not_split() {
        assert!(split(&[Tensor::from_texts(vec![2], ["a", "b"]).unwrap()], 2).is_none());
    }

    #[test]
    fn only_single_rows_of_equal_sizes_go_together() {
        assert!(is_single(&row(&[1.0], 1)) && !is_single(&[]));
        assert!(are_alike(&row(&[1.0], 1), &row(&[2.0], 0)));
        assert!(!are_alike(&row(&[1.0], 1), &row(&[1.0, 2.0], 1)));
    }
}
