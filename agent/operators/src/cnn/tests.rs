use crate::optimized;
use std::fmt::Debug;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;

/// Numbers that are all different and of both signs.
fn numbers(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|at| ((at * 7_919) % 10_007) as f32 / 5_003.0 - 1.0).collect();
    Tensor::from_shape(shape, &values).unwrap()
}

#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    input: &'a [usize],
    out: usize,
    groups: usize,
    kernel: &'a [usize],
    strides: &'a [usize],
    dilations: &'a [usize],
    before: &'a [usize],
    after: &'a [usize],
}

impl Case<'_> {
    fn spec(&self, out: usize) -> PoolSpec {
        PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: self.kernel.into(),
            padding: PaddingSpec::Explicit(self.before.into(), self.after.into()),
            dilations: Some(self.dilations.into()),
            strides: Some(self.strides.into()),
            input_channels: self.input[1],
            output_channels: out,
        }
    }

    fn convolution(&self) -> TypedModel {
        let mut model = TypedModel::default();
        let input = model.add_source("x", f32::fact(self.input)).unwrap();
        let shape = [&[self.out, self.input[1] / self.groups], self.kernel].concat();
        let kernel = model.add_const("w", numbers(&shape)).unwrap();
        let bias = model.add_const("b", numbers(&[self.out])).unwrap();
        let op =
            Conv { pool_spec: self.spec(self.out), kernel_fmt: KernelFormat::OIHW, group: self.groups, q_params: None };
        let output = model.wire_node("conv", op, &[input, kernel, bias]).unwrap();
        model.select_output_outlets(&output).unwrap();
        model
    }

    fn pool(&self) -> TypedModel {
        let mut model = TypedModel::default();
        let input = model.add_source("x", f32::fact(self.input)).unwrap();
        let op = MaxPool { pool_spec: self.spec(self.input[1]), with_index_outputs: None };
        let output = model.wire_node("pool", op, &[input]).unwrap();
        model.select_output_outlets(&output).unwrap();
        model
    }

    /// Whether `operator` is in the graph; the answers are tract's, to the bit.
    fn same(&self, model: TypedModel, operator: &str) -> bool {
        let run = |model: TypedModel| {
            model
                .into_runnable()
                .unwrap()
                .run(tvec!(numbers(self.input).into_tvalue()))
                .unwrap()
                .remove(0)
                .into_tensor()
        };
        let ours = optimized(model.clone()).unwrap();
        let there = ours.nodes().iter().any(|node| node.op.name() == operator);
        let (ours, theirs) = (run(ours), run(model.into_optimized().unwrap()));
        assert_eq!(ours.shape(), theirs.shape(), "{self:?}");
        assert_eq!(ours.as_bytes(), theirs.as_bytes(), "{self:?}");
        there
    }
}

const SQUARE: Case<'_> = Case {
    input: &[1, 8, 19, 23],
    out: 16,
    groups: 1,
    kernel: &[3, 3],
    strides: &[1, 1],
    dilations: &[1, 1],
    before: &[1, 1],
    after: &[1, 1],
};

#[test]
fn convolutions_give_what_tract_gives_to_the_bit() {
    let cases = [
        SQUARE,
        Case { before: &[0, 0], after: &[0, 0], ..SQUARE },
        Case { before: &[2, 0], after: &[0, 3], ..SQUARE },
        // More zeros than the filter is wide: whole rows and columns see nothing.
        Case { before: &[4, 5], after: &[5, 4], ..SQUARE },
        Case { strides: &[2, 2], ..SQUARE },
        Case { strides: &[2, 1], ..SQUARE },
        Case { strides: &[1, 3], ..SQUARE },
        Case { dilations: &[2, 3], before: &[2, 3], after: &[2, 3], ..SQUARE },
        Case { kernel: &[5, 7], before: &[2, 3], after: &[2, 3], ..SQUARE },
        Case { kernel: &[1, 9], before: &[0, 4], after: &[0, 4], ..SQUARE },
        Case { groups: 2, ..SQUARE },
        Case { groups: 4, out: 24, strides: &[2, 2], ..SQUARE },
        // Rows shorter than a panel.
        Case { input: &[1, 64, 7, 7], out: 64, ..SQUARE },
        Case { input: &[1, 32, 3, 2], out: 200, ..SQUARE },
        Case { input: &[1, 3, 64, 1], out: 32, ..SQUARE },
        Case { input: &[2, 8, 19, 23], ..SQUARE },
    ];
    let line =
        Case { input: &[1, 6, 400], kernel: &[5], strides: &[1], dilations: &[1], before: &[2], after: &[2], ..SQUARE };
    let lines = [line, Case { dilations: &[4], before: &[16], after: &[0], ..line }, Case { strides: &[3], ..line }];
    let replaced = cases.iter().chain(&lines).filter(|case| case.same(case.convolution(), "Im2ColByRuns")).count();
    // Which of them tract makes columns of is its own matter, and the processor's.
    assert!(replaced >= 8, "{replaced} of them run by columns of ours");
}

#[test]
fn more_output_channels_ask_for_panels_of_other_widths() {
    for out in [1, 2, 4, 7, 17, 33, 64, 129] {
        let case = Case { out, input: &[1, 16, 21, 30], ..SQUARE };
        case.same(case.convolution(), "Im2ColByRuns");
    }
}

#[test]
fn maxima_are_those_of_tract() {
    let pool = Case { before: &[0, 0], after: &[0, 0], ..SQUARE };
    let cases = [
        pool,
        Case { kernel: &[2, 2], strides: &[2, 2], ..pool },
        Case { kernel: &[3, 3], strides: &[2, 2], before: &[1, 1], after: &[1, 1], ..pool },
        Case { kernel: &[3, 2], strides: &[3, 1], before: &[1, 0], after: &[0, 1], ..pool },
        Case { kernel: &[5, 5], strides: &[1, 1], before: &[2, 2], after: &[2, 2], ..pool },
        Case { kernel: &[2, 4], strides: &[1, 3], dilations: &[3, 2], ..pool },
        Case { input: &[3, 2, 5, 5], kernel: &[5, 5], ..pool },
    ];
    for case in cases {
        assert!(case.same(case.pool(), "MaxPoolByRows"), "{case:?}");
    }
}

#[test]
fn a_window_with_nan_has_no_other_maximum() {
    let mut values = vec![f32::NEG_INFINITY; 16];
    values[5] = f32::NAN;
    values[10] = -3.0;
    let picture = Tensor::from_shape(&[1, 1, 4, 4], &values).unwrap();
    let case =
        Case { input: &[1, 1, 4, 4], kernel: &[2, 2], strides: &[2, 2], before: &[0, 0], after: &[0, 0], ..SQUARE };
    let model = optimized(case.pool()).unwrap().into_runnable().unwrap();
    let maxima = model.run(tvec!(picture.into_tvalue())).unwrap().remove(0);
    let maxima = maxima.try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec();
    // Of nothing but minus infinity it is tract's.
    assert!(maxima[0].is_nan() && maxima[1..] == [f32::MIN, f32::MIN, -3.0], "{maxima:?}");
}
