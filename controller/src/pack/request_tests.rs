use super::*;
use fieldpost_shared::bundle::Dim;
use fieldpost_shared::bundle::manifest::{Channels, ImageInput, Layout, Missing, ResizeFilter};

fn spec(dtype: Dtype, axes: &[u64]) -> TensorSpec {
    let shape = std::iter::once(Dim::Symbol("N".into())).chain(axes.iter().copied().map(Dim::Fixed)).collect();
    TensorSpec { name: "x".into(), dtype, shape }
}

fn tabular(features: &[&str]) -> Preprocess {
    let features = features.iter().map(|name| (*name).to_owned()).collect();
    Preprocess::Tabular(TabularInput {
        tensor: "x".into(),
        features,
        missing: Missing::Refuse,
        ..TabularInput::default()
    })
}

fn images() -> Preprocess {
    Preprocess::Image(ImageInput {
        tensor: "x".into(),
        width: 2,
        height: 1,
        channels: Channels::Gray,
        layout: Layout::Nchw,
        resize: ResizeFilter::Nearest,
        scale: 1.0,
        mean: vec![],
        std: vec![],
        ..ImageInput::default()
    })
}

fn taking(preprocess: &Preprocess, inputs: &[TensorSpec]) -> Manifest {
    Manifest { preprocess: preprocess.clone(), inputs: inputs.to_vec(), ..super::super::testing::manifest() }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn row(
    preprocess: &Preprocess,
    spec: &TensorSpec,
    dtype: Dtype,
    shape: &[usize],
    data: &[u8],
) -> Result<Request, String> {
    let manifest = taking(preprocess, std::slice::from_ref(spec));
    of_row(Target { manifest: &manifest }, Row { dtype, shape, data }).map_err(|error| error.to_string())
}

fn record(
    preprocess: &Preprocess,
    spec: &TensorSpec,
    header: &[&str],
    cells: &[Option<f64>],
) -> Result<Request, String> {
    let manifest = taking(preprocess, std::slice::from_ref(spec));
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let cells: Vec<Cell> = cells.iter().map(|cell| cell.map_or(Cell::Missing, Cell::Number)).collect();
    of_record(Target { manifest: &manifest }, &header, &cells).map_err(|error| error.to_string())
}

#[test]
fn pixels_become_a_png_that_decodes_to_them() {
    for (shape, bytes) in [(&[1, 2][..], &[7, 255][..]), (&[1, 2, 1], &[7, 255]), (&[1, 1, 3], &[1, 2, 3])] {
        let Ok(Request::Image(png)) = row(&images(), &spec(Dtype::Fp32, &[1, 1, 2]), Dtype::Uint8, shape, bytes) else {
            panic!("{shape:?}")
        };
        assert_eq!(image::load_from_memory(&png).unwrap().into_bytes(), bytes);
    }
}

#[test]
fn pixels_that_were_normalised_already_are_refused() {
    let check = |values: &[f32]| row(&images(), &spec(Dtype::Fp32, &[1, 1, 2]), Dtype::Fp32, &[1, 2], &floats(values));
    assert!(check(&[3.0, 255.0]).is_ok());
    assert!(check(&[0.5, 1.0]).unwrap_err().contains("it holds 0.5: pixels are whole numbers"));
    assert!(check(&[-1.0, 1.0]).is_err() && check(&[256.0, 1.0]).is_err() && check(&[f32::NAN, 1.0]).is_err());
    let planar = row(&images(), &spec(Dtype::Fp32, &[1, 1, 2]), Dtype::Uint8, &[3, 1, 2], &[0; 6]).unwrap_err();
    assert!(planar.contains("not [height, width]"), "{planar}");
}

#[test]
fn named_numbers_become_json_in_the_order_of_features() {
    let request =
        record(&tabular(&["b", "a"]), &spec(Dtype::Fp32, &[2]), &["a", "b", "label"], &[Some(1.5), None, Some(9.0)]);
    assert_eq!(request.unwrap().body().unwrap(), br#"{"a":1.5}"#);
    let whole = record(&tabular(&["a"]), &spec(Dtype::Int64, &[1]), &["a"], &[Some(3.0)]);
    assert_eq!(whole.unwrap().body().unwrap(), br#"{"a":3}"#);
    let error = record(&tabular(&["c"]), &spec(Dtype::Fp32, &[1]), &["a"], &[Some(1.0)]).unwrap_err();
    assert_eq!(error, "it has no column `c`");
}

#[test]
fn numpy_rows_become_features_too() {
    let request = row(&tabular(&["a", "b"]), &spec(Dtype::Fp32, &[2]), Dtype::Fp32, &[2], &floats(&[0.5, f32::NAN]));
    assert_eq!(request.unwrap().body().unwrap(), br#"{"a":0.5}"#);
    let error = row(&tabular(&["a"]), &spec(Dtype::Fp32, &[1]), Dtype::Fp32, &[2], &floats(&[0.5, 1.0])).unwrap_err();
    assert!(error.contains("rows have the shape [2]"), "{error}");
}

#[test]
fn bare_rows_get_the_batch_axis_and_the_models_type() {
    let tensor = |result: Result<Request, String>| match result.unwrap() {
        Request::Tensors(tensors) => tensors[0].clone(),
        other => panic!("{other:?}"),
    };
    let same = tensor(row(&Preprocess::Tensor, &spec(Dtype::Fp32, &[2]), Dtype::Fp32, &[2], &floats(&[1.0, f32::NAN])));
    assert_eq!((same.shape.as_slice(), same.data), (&[1, 2][..], floats(&[1.0, f32::NAN])));
    let doubles: Vec<u8> = [1.0_f64, 2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    let rounded = tensor(row(&Preprocess::Tensor, &spec(Dtype::Fp32, &[2]), Dtype::Fp64, &[2], &doubles));
    assert_eq!(rounded.to_f64(), [1.0, 2.5]);
    let unbatched = TensorSpec { shape: vec![Dim::Fixed(2)], ..spec(Dtype::Fp32, &[]) };
    assert_eq!(tensor(row(&Preprocess::Tensor, &unbatched, Dtype::Fp32, &[2], &floats(&[1.0, 2.0]))).shape, [2]);
    let csv = tensor(record(&Preprocess::Tensor, &spec(Dtype::Int8, &[2]), &["a", "b"], &[Some(1.0), Some(-3.0)]));
    assert_eq!(csv.data, [1, 253]);
}

#[test]
fn what_the_models_type_cannot_hold_is_refused() {
    let check =
        |value: f64, dtype| record(&Preprocess::Tensor, &spec(dtype, &[1]), &["a"], &[Some(value)]).unwrap_err();
    assert_eq!(check(1.5, Dtype::Int32), "it holds 1.5, which INT32 cannot");
    assert_eq!(check(300.0, Dtype::Uint8), "it holds 300, which UINT8 cannot");
    assert_eq!(check(2.0, Dtype::Bool), "it holds 2, which BOOL cannot");
    assert_eq!(check(f64::NAN, Dtype::Int64), "it holds NaN, which INT64 cannot");
}

#[test]
fn rows_of_another_shape_and_tables_for_several_inputs_are_refused() {
    let error = row(&Preprocess::Tensor, &spec(Dtype::Fp32, &[4]), Dtype::Fp32, &[5], &floats(&[0.0; 5])).unwrap_err();
    assert_eq!(error, "its rows have the shape [5], the input `x` is [N,4]");
    let two = [spec(Dtype::Fp32, &[1]), spec(Dtype::Fp32, &[1])];
    let manifest = taking(&Preprocess::Tensor, &two);
    let row = Row { dtype: Dtype::Fp32, shape: &[1], data: &[0; 4] };
    assert!(of_row(Target { manifest: &manifest }, row).unwrap_err().to_string().contains("the model has 2 inputs"));
}
