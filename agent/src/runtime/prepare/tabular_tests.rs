use super::*;
use crate::runtime::fixtures::manifest;
use serde_json::json;

fn spec(dtype: Dtype, shape: Vec<Dim>) -> TensorSpec {
    TensorSpec { name: "features".to_owned(), dtype, shape }
}

fn rows() -> Vec<Dim> {
    vec![Dim::Symbol("N".to_owned()), Dim::Fixed(2)]
}

fn taking(inputs: Vec<TensorSpec>) -> Manifest {
    manifest("m", inputs, vec![spec(Dtype::Fp32, rows())])
}

fn made(missing: Missing, dtype: Dtype, shape: Vec<Dim>) -> Result<FeaturesToTensors, LoadError> {
    let features = vec!["age".to_owned(), "weight".to_owned()];
    let declared = TabularInput { tensor: "features".to_owned(), features, missing, ..TabularInput::default() };
    FeaturesToTensors::new(&declared, &taking(vec![spec(dtype, shape)]))
}

fn values(missing: Missing, dtype: Dtype, json: &Value) -> Result<Vec<f64>, String> {
    let tensor = made(missing, dtype, rows()).unwrap().prepare(json).map_err(|error| error.to_string())?.remove(0);
    tensor.check().unwrap();
    Ok(tensor.to_f64())
}

fn check(json: Value, expected: Result<&[f64], &str>) {
    let expected = expected.map(<[f64]>::to_vec).map_err(str::to_owned);
    assert_eq!(values(Missing::Refuse, Dtype::Fp32, &json), expected);
}

#[test]
fn features_are_put_in_column_order() {
    check(json!({"weight": 70.5, "age": 41}), Ok(&[41.0, 70.5]));
}

#[test]
fn a_list_of_objects_is_a_row_each() {
    check(json!([{"age": 1, "weight": 2}, {"age": 3, "weight": 4}]), Ok(&[1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn a_missing_feature_is_refused_by_name_and_row() {
    check(json!({"age": 41}), Err("feature `weight` is missing"));
    check(json!([{"age": 1, "weight": 2}, {"weight": null, "age": 3}]), Err("feature `weight` is missing in row 1"));
}

#[test]
fn a_slip_of_the_pen_is_pointed_out() {
    let slip = json!({"age": 41, "weigth": 70});
    assert_eq!(
        values(Missing::Value(0.0), Dtype::Fp32, &slip).unwrap_err(),
        "feature `weigth` is not one of the model's; did you mean `weight`?"
    );
    check(json!({"age": 41, "weight": 1, "colour": 3}), Err("feature `colour` is not one of the model's"));
}

#[test]
fn a_value_that_is_no_number_is_refused() {
    check(json!({"age": "41", "weight": 1}), Err("feature `age`: expected a number in range, found \"41\""));
    check(json!({"age": 1e300, "weight": 1}), Err("feature `age`: expected a number in range, found 1e+300"));
}

#[test]
fn booleans_are_zero_and_one() {
    check(json!({"age": true, "weight": false}), Ok(&[1.0, 0.0]));
}

#[test]
fn other_json_is_refused() {
    check(json!(3), Err("expected a JSON object of features or a list of them, found a number"));
    check(json!([]), Err("expected a JSON object of features or a list of them, found an empty list"));
    check(json!([[1, 2]]), Err("expected a JSON object of features or a list of them, found a list"));
}

#[test]
fn what_is_missing_becomes_what_the_bundle_says() {
    assert_eq!(values(Missing::Value(-1.0), Dtype::Int32, &json!({})).unwrap(), [-1.0, -1.0]);
    assert!(values(Missing::Nan, Dtype::Fp64, &json!({"age": 2})).unwrap()[1].is_nan());
}

#[test]
fn integers_take_whole_numbers_in_range_alone() {
    let age = |dtype, age: f64| values(Missing::Value(0.0), dtype, &json!({"age": age}));
    assert_eq!(age(Dtype::Int8, -128.0).unwrap(), [-128.0, 0.0]);
    assert!(age(Dtype::Int8, 128.0).is_err() && age(Dtype::Int64, 0.5).is_err() && age(Dtype::Uint8, -1.0).is_err());
    assert!(age(Dtype::Bool, 2.0).is_err());
}

#[test]
fn a_declaration_that_does_not_fit_is_refused() {
    let three = vec![Dim::Symbol("N".to_owned()), Dim::Fixed(3)];
    let error = made(Missing::Refuse, Dtype::Fp32, three).unwrap_err().to_string();
    assert!(error.contains("2 features are named, the input is FP32 [N,3]"), "{error}");
    assert!(made(Missing::Nan, Dtype::Int64, rows()).is_err());
    assert!(made(Missing::Value(0.5), Dtype::Int64, rows()).is_err());
}

#[test]
fn a_model_of_one_row_takes_one_row() {
    let one = made(Missing::Refuse, Dtype::Fp32, vec![Dim::Fixed(2)]).unwrap();
    assert_eq!(one.prepare(&json!({"age": 1, "weight": 2})).unwrap()[0].shape, [2]);
    assert!(one.prepare(&json!([{"age": 1, "weight": 2}, {"age": 1, "weight": 2}])).is_err());
    let fixed = made(Missing::Refuse, Dtype::Fp32, vec![Dim::Fixed(1), Dim::Fixed(2)]).unwrap();
    assert!(fixed.prepare(&json!([{"age": 1, "weight": 2}, {"age": 1, "weight": 2}])).is_err());
}

#[test]
fn edits_are_counted_as_people_would() {
    for (a, b, distance) in [("", "", 0), ("abc", "", 3), ("", "abc", 3), ("kitten", "sitting", 3), ("Age", "age", 0)] {
        assert_eq!(edits(a, b), distance, "{a} {b}");
    }
}
