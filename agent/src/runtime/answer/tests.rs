use super::*;
use crate::runtime::fixtures::{manifest, spec};
use fieldpost_shared::bundle::Dtype;
use fieldpost_shared::bundle::manifest::{Activation, ClassificationOutput};

fn classification(activation: Activation, top_k: usize, threshold: Option<f32>) -> Postprocess {
    Postprocess::Classification(ClassificationOutput {
        tensor: "y".to_owned(),
        activation,
        top_k,
        threshold,
        thresholds: [].into(),
    })
}

fn with(postprocess: Postprocess, shape: &[&str], labels: &[&str]) -> Manifest {
    let mut manifest = manifest("m", vec![spec("x", Dtype::Fp32, &["N", "1"])], vec![spec("y", Dtype::Fp32, shape)]);
    manifest.postprocess = postprocess;
    manifest.labels = labels.iter().copied().map(str::to_owned).collect();
    manifest
}

fn answers(manifest: &Manifest, shape: &[usize], values: &[f32]) -> Vec<Answer> {
    let tensor = Tensor::from_f32(shape.to_vec(), values).unwrap();
    Answering::new(manifest).unwrap().answer(manifest, &[tensor], None).unwrap()
}

fn best(answer: &Answer) -> (usize, Option<&str>, f32) {
    match answer {
        Answer::Classification { class, label, score, .. } => (*class, label.as_deref(), *score),
        other => panic!("{other:?}"),
    }
}

#[test]
fn softmax_is_the_exponentials_share() {
    let manifest = with(classification(Activation::Softmax, 1, None), &["N", "2"], &["cat", "dog"]);
    let answers = answers(&manifest, &[2, 2], &[0.0, 3.0_f32.ln(), 1000.0, 0.0]);
    assert_eq!(best(&answers[0]), (1, Some("dog"), 0.75));
    assert_eq!(best(&answers[1]), (0, Some("cat"), 1.0));
}

#[test]
fn top_k_is_best_first_and_ties_go_by_index() {
    let manifest = with(classification(Activation::None, 3, None), &["N", "5"], &[]);
    let answers = answers(&manifest, &[1, 5], &[0.1, 0.3, 0.1, 0.3, 0.2]);
    let Answer::Classification { top, probabilities, .. } = &answers[0] else { panic!() };
    assert_eq!(top.iter().map(|ranked| ranked.class).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(probabilities.len(), 5);
}

#[test]
fn top_k_of_nothing_and_of_too_many_are_brought_in_range() {
    for (asked, given) in [(0, 1), (9, 2)] {
        let manifest = with(classification(Activation::None, asked, None), &["N", "2"], &[]);
        let answers = answers(&manifest, &[1, 2], &[0.4, 0.6]);
        assert!(matches!(&answers[0], Answer::Classification { top, .. } if top.len() == given));
    }
}

#[test]
fn below_the_threshold_there_is_no_label() {
    let manifest = with(classification(Activation::None, 1, Some(0.7)), &["N", "2"], &["cat", "dog"]);
    let answers = answers(&manifest, &[2, 2], &[0.3, 0.7, 0.4, 0.6]);
    assert_eq!(best(&answers[0]), (1, Some("dog"), 0.7));
    assert_eq!(best(&answers[1]), (1, None, 0.6));
}

#[test]
fn one_column_is_the_probability_of_the_second_label() {
    let manifest = with(classification(Activation::Sigmoid, 2, None), &["N", "1"], &["no", "yes"]);
    let answers = answers(&manifest, &[2, 1], &[0.0, -2.0]);
    assert_eq!(best(&answers[0]), (0, Some("no"), 0.5));
    assert!(
        matches!(&answers[1], Answer::Classification { label: Some(label), score, .. } if label == "no" && *score > 0.88)
    );
}

#[test]
fn several_sigmoid_columns_are_independent() {
    let manifest = with(classification(Activation::Sigmoid, 1, None), &["N", "3"], &[]);
    let answers = answers(&manifest, &[1, 3], &[0.0, 0.0, 0.0]);
    assert!(matches!(&answers[0], Answer::Classification { probabilities, .. } if probabilities == &[0.5, 0.5, 0.5]));
}

#[test]
fn nan_is_never_the_best() {
    let manifest = with(classification(Activation::None, 2, None), &["N", "3"], &[]);
    let answers = answers(&manifest, &[1, 3], &[f32::NAN, 0.1, 0.2]);
    assert_eq!(best(&answers[0]).0, 2);
}

#[test]
fn trailing_axes_of_one_are_part_of_the_row() {
    let manifest = with(classification(Activation::None, 1, None), &["N", "2", "1", "1"], &[]);
    assert_eq!(answers(&manifest, &[3, 2, 1, 1], &[0.0, 1.0, 1.0, 0.0, 0.0, 1.0]).len(), 3);
}

#[test]
fn a_regression_is_a_number_per_row_with_or_without_a_column() {
    for (shape, concrete) in [(&["N"][..], &[2_usize][..]), (&["N", "1"], &[2, 1])] {
        let manifest = with(Postprocess::Regression { tensor: "y".to_owned(), unit: None }, shape, &[]);
        let values = [Answer::Regression { value: 1.5 }, Answer::Regression { value: -2.0 }];
        assert_eq!(answers(&manifest, concrete, &[1.5, -2.0]), values);
    }
}

#[test]
fn without_post_processing_the_outputs_are_the_answer() {
    assert_eq!(answers(&with(Postprocess::Raw, &["N", "3"], &[]), &[1, 3], &[0.0; 3]), [Answer::Raw]);
}

fn refused(postprocess: Postprocess, shape: &[&str], labels: &[&str], says: &str) {
    let error = Answering::new(&with(postprocess, shape, labels)).unwrap_err().to_string();
    assert!(error.contains(says), "{error}");
}

#[test]
fn post_processing_that_does_not_fit_is_refused() {
    let softmax = || classification(Activation::Softmax, 1, None);
    refused(softmax(), &["N", "3"], &["a", "b"], "2 labels for 3 classes of FP32 [N,3]");
    refused(softmax(), &["N", "1"], &[], "one column is always 1");
    refused(Postprocess::Regression { tensor: "z".to_owned(), unit: None }, &["N"], &[], "the model's outputs are [y]");
    refused(
        Postprocess::Regression { tensor: "y".to_owned(), unit: None },
        &["N", "2"],
        &[],
        "a regression has one column",
    );
}

#[test]
fn outputs_that_are_not_there_are_an_error() {
    let manifest = with(classification(Activation::None, 1, None), &["N", "2"], &[]);
    let answering = Answering::new(&manifest).unwrap();
    assert!(matches!(answering.answer(&manifest, &[], None), Err(InferError::Output { .. })));
    let wide = Tensor::from_f32(vec![1, 3], &[0.0; 3]).unwrap();
    assert!(matches!(answering.answer(&manifest, &[wide], None), Err(InferError::Output { .. })));
}
