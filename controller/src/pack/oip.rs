//! A sample file for a model that takes plain tensors: the JSON of an inference request (OIP v2 §Inference Request JSON
//! Object), its `data` nested or flat.

use fieldpost_shared::bundle::tensor::element_count;
use fieldpost_shared::bundle::{Dtype, Tensor, TensorSpec};
use serde::Deserialize;
use serde_json::{Number, Value};

#[derive(Deserialize)]
struct InferRequest {
    inputs: Vec<InferInput>,
}

#[derive(Deserialize)]
struct InferInput {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: Value,
}

/// The model's inputs, in its order, whatever the order in the file.
pub(super) fn tensors(bytes: &[u8], inputs: &[TensorSpec]) -> Result<Vec<Tensor>, String> {
    let request: InferRequest = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if let Some(unknown) = request.inputs.iter().find(|given| inputs.iter().all(|spec| spec.name != given.name)) {
        return Err(format!("the model has no input `{}`", unknown.name));
    }
    let one = |spec: &TensorSpec| {
        let mut named = request.inputs.iter().filter(|given| given.name == spec.name);
        match (named.next(), named.next()) {
            (Some(given), None) => tensor(given, spec),
            (Some(_), Some(_)) => Err(format!("the input `{}` is given twice", spec.name)),
            (None, _) => Err(format!("the input `{}` is missing", spec.name)),
        }
    };
    inputs.iter().map(one).collect()
}

fn tensor(given: &InferInput, spec: &TensorSpec) -> Result<Tensor, String> {
    let named = |text: String| format!("input `{}`: {text}", spec.name);
    let dtype: Dtype =
        given.datatype.parse().map_err(|e: fieldpost_shared::bundle::contract::UnknownDtype| named(e.to_string()))?;
    if dtype != spec.dtype || !spec.admits(&given.shape) {
        let (found, wanted) = (format!("{dtype} {:?}", given.shape), format!("{} {}", spec.dtype, spec.shape_text()));
        return Err(named(format!("expected {wanted}, found {found}")));
    }
    let count = element_count(&given.shape).map_err(|error| named(error.to_string()))?;
    let mut data = Vec::new();
    flatten(&given.data, dtype, &mut data).map_err(named)?;
    if data.len() != count.saturating_mul(dtype.size_bytes()) {
        let found = data.len() / dtype.size_bytes();
        return Err(named(format!("the shape {:?} needs {count} numbers, there are {found}", given.shape)));
    }
    Tensor::new(dtype, given.shape.clone(), data).map_err(|error| named(error.to_string()))
}

fn flatten(value: &Value, dtype: Dtype, out: &mut Vec<u8>) -> Result<(), String> {
    let refuse = || format!("`{}` is not a number of {dtype}", value.to_string().chars().take(40).collect::<String>());
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| flatten(value, dtype, out)),
        Value::Bool(bit) if dtype == Dtype::Bool => {
            out.push(u8::from(*bit));
            Ok(())
        }
        Value::Number(number) => push(number, dtype, out).ok_or_else(refuse),
        _ => Err(refuse()),
    }
}

fn push(number: &Number, dtype: Dtype, out: &mut Vec<u8>) -> Option<()> {
    match dtype {
        Dtype::Bool => out.push(number.as_u64().filter(|bit| *bit <= 1).and_then(|bit| u8::try_from(bit).ok())?),
        Dtype::Uint8 => out.push(u8::try_from(number.as_u64()?).ok()?),
        Dtype::Int8 => out.extend(i8::try_from(number.as_i64()?).ok()?.to_le_bytes()),
        Dtype::Int16 => out.extend(i16::try_from(number.as_i64()?).ok()?.to_le_bytes()),
        Dtype::Int32 => out.extend(i32::try_from(number.as_i64()?).ok()?.to_le_bytes()),
        Dtype::Int64 => out.extend(number.as_i64()?.to_le_bytes()),
        #[allow(clippy::cast_possible_truncation, reason = "rounding to binary32 is what FP32 in JSON means")]
        Dtype::Fp32 => out.extend((number.as_f64()? as f32).to_le_bytes()),
        Dtype::Fp64 => out.extend(number.as_f64()?.to_le_bytes()),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fieldpost_shared::bundle::Dim;

    fn inputs() -> Vec<TensorSpec> {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.into(),
            dtype,
            shape: vec![Dim::Symbol("N".into()), Dim::Fixed(2)],
        };
        vec![spec("ids", Dtype::Int64), spec("mask", Dtype::Bool)]
    }

    fn check(ids: &str, mask: &str) -> Result<Vec<Tensor>, String> {
        let text = format!(
            r#"{{"inputs":[{{"name":"mask","shape":[1,2],"datatype":"BOOL","data":{mask}}},
                {{"name":"ids","shape":[1,2],"datatype":"INT64","data":{ids}}}]}}"#
        );
        tensors(text.as_bytes(), &inputs())
    }

    #[test]
    fn tensors_come_in_the_models_order_and_nesting_does_not_matter() {
        let flat = check("[-9007199254740993, 5]", "[true, false]").unwrap();
        assert_eq!(flat[0].data[..8], (-9_007_199_254_740_993_i64).to_le_bytes());
        assert_eq!(flat[1].data, [1, 0]);
        assert_eq!(check("[[-9007199254740993, 5]]", "[[1], [0]]").unwrap(), flat);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |ids, mask| check(ids, mask).unwrap_err();
        assert_eq!(refused("[1.5, 2]", "[true, true]"), "input `ids`: `1.5` is not a number of INT64");
        assert_eq!(refused("[1]", "[true, true]"), "input `ids`: the shape [1, 2] needs 2 numbers, there are 1");
        assert_eq!(refused("[1, 2]", "[2, 0]"), "input `mask`: `2` is not a number of BOOL");
        assert_eq!(refused("[1, 2]", "[null, 0]"), "input `mask`: `null` is not a number of BOOL");
    }

    #[test]
    fn missing_and_unknown_inputs_are_named() {
        let one = r#"{"inputs":[{"name":"ids","shape":[1,2],"datatype":"INT64","data":[1,2]}]}"#;
        assert_eq!(tensors(one.as_bytes(), &inputs()).unwrap_err(), "the input `mask` is missing");
        let other = one.replace("ids", "idx");
        assert_eq!(tensors(other.as_bytes(), &inputs()).unwrap_err(), "the model has no input `idx`");
        let wide = one.replace("[1,2],\"d", "[2,1],\"d");
        assert!(tensors(wide.as_bytes(), &inputs()).unwrap_err().contains("expected INT64 [N,2], found INT64 [2, 1]"));
    }
}
