use super::*;
use fieldpost_shared::bundle::Dtype;
use fieldpost_shared::bundle::manifest::{Channels, ImageInput, Layout, Missing, ResizeFilter, TabularInput};

fn spec(name: &str, shape: &str) -> TensorSpec {
    let dim = |axis: &str| axis.parse().map_or_else(|_symbol| Dim::Symbol(axis.to_owned()), Dim::Fixed);
    let shape = shape.split_whitespace().map(dim).collect();
    TensorSpec { name: name.to_owned(), dtype: Dtype::Fp32, shape }
}

fn features(inputs: Vec<TensorSpec>, preprocess: Preprocess) -> Features {
    let mut manifest = crate::monitor::testing::manifest();
    (manifest.inputs, manifest.preprocess) = (inputs, preprocess);
    Features::of(&manifest)
}

#[track_caller]
fn names(shape: &str, expected: &[&str]) {
    assert_eq!(features(vec![spec("x", shape)], Preprocess::Tensor).names(), expected);
}

#[test]
fn few_columns_are_measured_each() {
    names("N 3", &["x.0", "x.1", "x.2"]);
    names("1 2", &["x.0", "x.1"]);
    names("2", &["x.0", "x.1"]);
}

#[test]
fn one_column_keeps_the_name_of_its_input() {
    names("N", &["x"]);
    names("N 1", &["x"]);
    names("", &["x"]);
}

#[test]
fn many_columns_and_higher_ranks_are_summed_up() {
    names("N 65", &["x.mean", "x.std", "x.min", "x.max"]);
    names("N T 8", &["x.mean", "x.std", "x.min", "x.max"]);
}

#[test]
fn every_row_counts() {
    let features = features(vec![spec("x", "N 2"), spec("y", "N")], Preprocess::Tensor);
    let inputs = [
        Tensor::from_f32(vec![2, 2], &[1.0, 2.0, 3.0, f32::NAN]).unwrap(),
        Tensor::from_f32(vec![2], &[5.0, 6.0]).unwrap(),
    ];
    let columns = features.collect([&inputs[..]]);
    assert_eq!((&columns[0], &columns[2]), (&vec![1.0, 3.0], &vec![5.0, 6.0]));
    assert!(columns[1][0] == 2.0 && columns[1][1].is_nan());
}

#[test]
fn a_summary_is_mean_deviation_and_extremes() {
    let features = features(vec![spec("x", "N 2 2")], Preprocess::Tensor);
    let inputs = [Tensor::from_f32(vec![1, 2, 2], &[1.0, 1.0, 3.0, 3.0]).unwrap()];
    assert_eq!(features.collect([&inputs[..]]), [[2.0], [1.0], [1.0], [3.0]]);
}

#[test]
fn tabular_features_keep_their_names() {
    let tabular = TabularInput {
        tensor: "x".to_owned(),
        features: vec!["age".to_owned(), "weight".to_owned()],
        missing: Missing::Nan,
        ..TabularInput::default()
    };
    assert_eq!(features(vec![spec("x", "N 2")], Preprocess::Tabular(tabular)).names(), ["age", "weight"]);
}

fn image(channels: Channels, layout: Layout, side: u32) -> ImageInput {
    ImageInput {
        tensor: "x".to_owned(),
        width: side,
        height: side,
        channels,
        layout,
        resize: ResizeFilter::Bilinear,
        scale: 1.0 / 255.0,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        ..ImageInput::default()
    }
}

fn measured(image: ImageInput, shape: &str, pixels: &[f32]) -> Vec<(String, f64)> {
    let sizes = shape.split_whitespace().map(|axis| axis.parse().unwrap()).collect();
    let features = features(vec![spec("x", shape)], Preprocess::Image(image));
    let values: Vec<f32> = pixels.iter().map(|pixel| (pixel / 255.0 - 0.5) / 0.25).collect();
    let columns = features.collect([&[Tensor::from_f32(sizes, &values).unwrap()][..]]);
    features.names().iter().cloned().zip(columns.into_iter().map(|column| column[0])).collect()
}

#[track_caller]
fn near(measured: &[(String, f64)], name: &str, expected: f64) {
    let found = measured.iter().find(|(n, _)| n == name).unwrap().1;
    assert!((found - expected).abs() < 1e-3_f64.max(expected.abs() * 1e-4), "{name}: {found}, not {expected}");
}

#[test]
fn normalisation_is_undone_before_an_image_is_measured() {
    let m = measured(image(Channels::Gray, Layout::Nchw, 2), "1 1 2 2", &[0.0, 0.0, 255.0, 255.0]);
    near(&m, "image.brightness", 127.5);
    near(&m, "image.contrast", 255.0);
    near(&m, "image.black", 0.5);
    near(&m, "image.saturated", 0.5);
    near(&m, "image.laplacian", 0.0);
}

#[test]
fn channels_are_found_in_both_layouts() {
    let planar = measured(image(Channels::Rgb, Layout::Nchw, 1), "1 3 1 1", &[10.0, 20.0, 60.0]);
    let packed = measured(image(Channels::Bgr, Layout::Nhwc, 1), "1 1 1 3", &[60.0, 20.0, 10.0]);
    for m in [planar, packed] {
        near(&m, "image.mean.r", 10.0);
        near(&m, "image.mean.b", 60.0);
        near(&m, "image.brightness", 30.0);
    }
}

#[test]
fn a_single_bright_pixel_is_sharp() {
    let mut pixels = [0.0; 16];
    pixels[5] = 100.0;
    let m = measured(image(Channels::Gray, Layout::Flat, 4), "1 16", &pixels);
    // Inner Laplacians are -400, 100, 100, 0: mean -50, variance 42,500.
    near(&m, "image.laplacian", 42_500.0);
}

#[test]
fn a_tensor_of_another_size_does_not_panic() {
    let features = features(vec![spec("x", "N 4")], Preprocess::Image(image(Channels::Rgb, Layout::Nchw, 9)));
    for shape in [vec![], vec![0, 4], vec![1, 2], vec![3, 0]] {
        let count = shape.iter().product();
        features.measure(&[Tensor::from_f32(shape, &vec![1.0; count]).unwrap()], |_, _| ());
    }
    features.measure(&[], |_, _| ());
}
