use super::*;
use crate::bundle::manifest::{Manifest, tests::sample};
use crate::error_chain::Chain;

/// Declarations as a manifest of the first version holds them.
const OLD_IMAGE: &str = r#"{"kind":"image","tensor":"x","width":8,"height":8,"channels":"gray","layout":"nchw","resize":"catmull-rom","scale":1.0,"mean":[],"std":[]}"#;
const OLD_TABULAR: &str = r#"{"kind":"tabular","tensor":"x","features":["a","b"],"missing":{"value":0.5}}"#;
const OLD_CLASSES: &str = r#"{"kind":"classification","tensor":"y","activation":"softmax","top_k":3,"threshold":0.5}"#;
const OLD_NUMBER: &str = r#"{"kind":"regression","tensor":"y"}"#;

#[test]
fn old_declarations_read_and_are_written_as_they_were() {
    for text in [OLD_IMAGE, OLD_TABULAR] {
        let read: Preprocess = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
    for text in [OLD_CLASSES, OLD_NUMBER] {
        let read: Postprocess = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}

#[test]
fn an_old_image_is_stretched_with_antialiasing_and_not_turned() {
    let Preprocess::Image(image) = serde_json::from_str(OLD_IMAGE).unwrap() else { panic!("an image") };
    assert_eq!(
        (image.fit, image.antialias, image.exif_orientation, image.luma),
        (Fit::Stretch, true, false, Luma::Bt709)
    );
}

#[test]
fn a_newer_field_is_passed_over() {
    let newer = OLD_IMAGE.replace("\"std\"", "\"colour_space\":\"p3\",\"std\"");
    assert_eq!(serde_json::from_str::<Preprocess>(&newer).unwrap(), serde_json::from_str(OLD_IMAGE).unwrap());
}

#[test]
fn pillows_names_of_filters_are_understood() {
    let read = |text: &str| serde_json::from_str::<ResizeFilter>(text).unwrap();
    assert_eq!((read("\"bicubic\""), read("\"lanczos\"")), (ResizeFilter::CatmullRom, ResizeFilter::Lanczos3));
}

fn check_refused(change: impl FnOnce(&mut Manifest), expected: &str) {
    let mut manifest = sample();
    manifest.labels = vec!["cat".into(), "dog".into()];
    change(&mut manifest);
    let text = Chain(&manifest.to_bytes().unwrap_err()).to_string();
    assert!(text.contains(expected), "{text}");
}

fn image(change: impl FnOnce(&mut ImageInput), expected: &str) {
    let mut image = ImageInput { width: 224, height: 224, ..ImageInput::default() };
    change(&mut image);
    check_refused(|m| m.preprocess = Preprocess::Image(image), expected);
}

#[test]
fn images_that_cannot_be_are_refused() {
    image(|i| i.width = 9000, "preprocess: image size 9000x224");
    image(|i| i.mean = vec![1.0], "mean has 1");
    image(|i| i.std = vec![1.0, 0.0, 1.0], "std not 0");
    image(|i| i.mean = vec![f32::NAN; 3], "must be finite");
    image(|i| (i.fit, i.short_side) = (Fit::Crop, Some(200)), "short_side is 200");
    image(|i| i.short_side = Some(256), "fit = \"crop\" alone");
}

fn feature(detail: Feature, expected: &str) {
    let tabular = TabularInput {
        features: vec!["a".into()],
        details: [("a".to_owned(), detail)].into(),
        ..TabularInput::default()
    };
    check_refused(|m| m.preprocess = Preprocess::Tabular(tabular), expected);
}

#[test]
fn features_that_contradict_themselves_are_refused() {
    let categories = vec!["x".to_owned(), "x".to_owned()];
    feature(Feature { categories, ..Feature::default() }, "feature.a.categories names `x` twice");
    feature(Feature { encoding: Encoding::OneHot, ..Feature::default() }, "feature.a.encoding is one-hot");
    feature(Feature { unknown: Unknown::Missing, ..Feature::default() }, "feature.a.unknown has a meaning");
    let stranger = TabularInput { details: [("b".to_owned(), Feature::default())].into(), ..TabularInput::default() };
    check_refused(|m| m.preprocess = Preprocess::Tabular(stranger), "feature.b describes none");
}

#[test]
fn one_hot_features_take_a_column_for_each_category() {
    let colour =
        Feature { categories: vec!["red".into(), "blue".into()], encoding: Encoding::OneHot, ..Feature::default() };
    let tabular = TabularInput {
        features: vec!["size".into(), "colour".into()],
        details: [("colour".to_owned(), colour)].into(),
        ..TabularInput::default()
    };
    assert_eq!(tabular.columns(), ["size", "colour=red", "colour=blue"]);
    assert_eq!((tabular.width("size"), tabular.width("colour")), (1, 2));
}

#[test]
fn bytes_have_a_length() {
    let bytes =
        |head, tail| BytesInput { tensor: "x".into(), head, tail, pad: 0, offset: 0, strip: false, utf8: false };
    check_refused(|m| m.preprocess = Preprocess::Bytes(bytes(0, 0)), "head and tail are 0 bytes");
    check_refused(|m| m.preprocess = Preprocess::Bytes(bytes(u32::MAX, 9)), "head and tail are");
}

fn detection(change: impl FnOnce(&mut DetectionOutput), expected: &str) {
    let mut output = DetectionOutput {
        layout: BoxLayout::AnchorsLast,
        boxes: "y".into(),
        scores: None,
        classes: None,
        format: BoxFormat::Cxcywh,
        unit: BoxUnit::Pixels,
        objectness: false,
        background: false,
        activation: Activation::None,
        threshold: 0.25,
        thresholds: [].into(),
        iou: 0.5,
        class_agnostic: false,
        most: 100,
    };
    change(&mut output);
    check_refused(|m| m.postprocess = Postprocess::Detection(output), expected);
}

#[test]
fn outputs_that_contradict_themselves_are_refused() {
    detection(|d| d.threshold = 1.5, "postprocess: threshold is 1.5");
    detection(|d| d.iou = f32::NAN, "iou is NaN");
    detection(|d| d.most = 0, "most is 0");
    detection(|d| d.scores = Some("s".into()), "everything in `boxes`");
    detection(|d| d.layout = BoxLayout::Separate, "needs `scores`");
    detection(|d| d.layout = BoxLayout::Final, "needs `scores` and `classes`");
    detection(|d| d.background = true, "`background` belongs");
    detection(|d| (d.layout, d.objectness) = (BoxLayout::Rows, true), "`objectness` belongs");
    detection(|d| d.thresholds = [("cow".to_owned(), 0.5)].into(), "thresholds.cow is of none");
    check_refused(
        |m| m.postprocess = Postprocess::Regression { tensor: "y".into(), unit: Some("k\n".into()) },
        "unit is one line",
    );
}
