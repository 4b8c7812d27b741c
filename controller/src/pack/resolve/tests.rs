use super::super::source::{ClassificationSource, ImageSource, PostprocessSource, PreprocessSource, TabularSource};
use super::*;
use fieldpost_shared::bundle::Dtype;
use fieldpost_shared::bundle::manifest::{
    Activation, Channels, ClassificationOutput, ImageInput, Layout, Postprocess, Preprocess,
};

/// `N` is symbolic, a number fixed: `"x N,3,8,8"`.
fn spec(text: &str) -> TensorSpec {
    let (name, axes) = text.split_once(' ').unwrap();
    let dim = |axis: &str| axis.parse().map_or_else(|_| Dim::Symbol(axis.to_owned()), Dim::Fixed);
    TensorSpec { name: name.into(), dtype: Dtype::Fp32, shape: axes.split(',').map(dim).collect() }
}

fn image_of(shape: &str, source: ImageSource) -> Result<ImageInput, String> {
    let source = PreprocessSource::Image(Box::new(source));
    match preprocess(Some(&source), &[spec(&format!("x {shape}"))], None) {
        Ok(Preprocess::Image(image)) => Ok(image),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn check_image(shape: &str, expected: (Layout, Channels, u32, u32)) {
    let image = image_of(shape, ImageSource::default()).unwrap();
    assert_eq!((image.layout, image.channels, image.width, image.height), expected, "{shape}");
}

fn check_image_refused(shape: &str, source: ImageSource, expected: &str) {
    let error = image_of(shape, source).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn layout_channels_and_size_follow_from_the_shape() {
    check_image("N,1,8,6", (Layout::Nchw, Channels::Gray, 6, 8));
    check_image("1,3,224,224", (Layout::Nchw, Channels::Rgb, 224, 224));
    check_image("N,48,64,3", (Layout::Nhwc, Channels::Rgb, 64, 48));
    check_image("N,28,28,1", (Layout::Nhwc, Channels::Gray, 28, 28));
    // A picture of 3x3 pixels in three colours fits both ways: ONNX's own convention holds.
    check_image("N,3,3,3", (Layout::Nchw, Channels::Rgb, 3, 3));
}

#[test]
fn a_flat_input_needs_its_width_and_height() {
    let sized = ImageSource { width: Some(8), height: Some(8), ..ImageSource::default() };
    let image = image_of("N,192", sized.clone()).unwrap();
    assert_eq!((image.layout, image.channels), (Layout::Flat, Channels::Rgb));
    check_image_refused("N,64", ImageSource::default(), "must say `width`");
    check_image_refused("N,65", sized.clone(), "must say `channels`");
    let gray = ImageSource { channels: Some(Channels::Gray), ..sized };
    check_image_refused("N,65", gray, "the number of values is 64, but `x` has the shape [N,65]");
}

#[test]
fn symbolic_sides_must_be_said_and_fixed_ones_agree() {
    check_image_refused("N,3,H,W", ImageSource::default(), "must say `width`: the shape [N,3,H,W]");
    let sized = ImageSource { width: Some(8), height: Some(9), ..ImageSource::default() };
    assert_eq!(image_of("N,3,H,W", sized.clone()).unwrap().height, 9);
    check_image_refused("N,3,8,8", sized, "height is 9, but `x` has the shape [N,3,8,8]");
    let gray = ImageSource { channels: Some(Channels::Gray), ..ImageSource::default() };
    check_image_refused("N,3,8,8", gray, "the number of channels is 1");
    check_image_refused("N,2,8,8", ImageSource::default(), "must say `channels`");
    check_image_refused("N,8,8", ImageSource::default(), "an image is [N,C,H,W]");
}

#[test]
fn pixels_are_scaled_for_floating_point_alone() {
    assert_eq!(image_of("N,1,8,8", ImageSource::default()).unwrap().scale, 1.0 / 255.0);
    let bytes = TensorSpec { dtype: Dtype::Uint8, ..spec("x N,8,8,1") };
    let source = PreprocessSource::Image(Box::default());
    let Ok(Preprocess::Image(image)) = preprocess(Some(&source), &[bytes], None) else { panic!("an image") };
    assert_eq!(image.scale, 1.0);
}

fn features_of(features: Option<&[&str]>, header: Option<&[&str]>) -> Result<Vec<String>, String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let source = TabularSource { features: features.map(owned), ..TabularSource::default() };
    let header = header.map(owned);
    match preprocess(Some(&PreprocessSource::Tabular(source)), &[spec("x N,2")], header.as_deref()) {
        Ok(Preprocess::Tabular(tabular)) => Ok(tabular.features),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn features_come_from_the_list_else_from_the_header() {
    assert_eq!(features_of(Some(&["a", "b"]), Some(&["x", "y", "z"])).unwrap(), ["a", "b"]);
    assert_eq!(features_of(None, Some(&["x", "y"])).unwrap(), ["x", "y"]);
    assert!(features_of(None, None).unwrap_err().contains("must list its `features`"));
    assert!(features_of(None, Some(&["a", "a"])).unwrap_err().contains("`a` occurs twice"));
    let error = features_of(None, Some(&["a", "b", "c"])).unwrap_err();
    assert_eq!(error, "[preprocess] the number of features is 3, but `x` has the shape [N,2]");
}

fn classes_of(shape: &str, source: ClassificationSource, labels: usize) -> Result<ClassificationOutput, String> {
    let labels: Vec<String> = (0..labels).map(|i| format!("l{i}")).collect();
    let source = PostprocessSource::Classification(source);
    match postprocess(Some(&source), &[spec(&format!("y {shape}"))], &labels) {
        Ok(Postprocess::Classification(output)) => Ok(output),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn top_k_is_three_or_as_many_as_there_are() {
    let top_k = |shape: &str, labels| classes_of(shape, ClassificationSource::default(), labels).unwrap().top_k;
    assert_eq!([top_k("N,10", 0), top_k("N,2", 2), top_k("N,C", 2), top_k("N,C", 0)], [3, 2, 2, 3]);
    let eleven = ClassificationSource { top_k: Some(11), ..ClassificationSource::default() };
    assert!(classes_of("N,10", eleven, 0).unwrap_err().contains("top_k is 11"));
}

#[test]
fn one_label_per_class() {
    let error = classes_of("N,10", ClassificationSource::default(), 9).unwrap_err();
    assert_eq!(error, "9 labels for the 10 classes of `y`");
    let sigmoid = ClassificationSource { activation: Some(Activation::Sigmoid), ..ClassificationSource::default() };
    assert_eq!(classes_of("N,1", sigmoid.clone(), 2).unwrap().top_k, 2);
    assert!(classes_of("N,1", sigmoid, 1).is_err());
}

#[test]
fn several_tensors_need_a_name() {
    let outputs = [spec("logits N,3"), spec("size N,1")];
    let regression = |tensor: Option<&str>| {
        let tensor = tensor.map(str::to_owned);
        let source = PostprocessSource::Regression(super::super::source::RegressionSource { tensor, unit: None });
        postprocess(Some(&source), &outputs, &[]).map_err(|error| error.to_string())
    };
    assert_eq!(regression(Some("size")), Ok(Postprocess::Regression { tensor: "size".into(), unit: None }));
    let error = regression(None).unwrap_err();
    assert_eq!(error, "[postprocess] must say which output it is about: the model has `logits` [N,3], `size` [N,1]");
    assert!(regression(Some("sise")).unwrap_err().contains("names the output `sise`"));
    assert!(regression(Some("logits")).unwrap_err().contains("a regression is [N] or [N,1]"));
}

#[test]
fn without_sections_tensors_go_in_and_out() {
    assert_eq!(preprocess(None, &[spec("a N,1"), spec("b N,1")], None), Ok(Preprocess::Tensor));
    assert_eq!(postprocess(None, &[spec("a N,1")], &[]), Ok(Postprocess::Raw));
}
