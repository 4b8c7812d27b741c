//! The model configuration extension (Triton §Model Configuration Extension): what a model is, in the server's own words.
//! Triton's clients and `perf_analyzer` ask for it before they send anything.

use super::messages::{ModelConfig, ModelConfigInput, ModelConfigOutput};
use super::metadata::{self, PLATFORM};
use fieldpost_shared::bundle::{Dtype, Manifest};
use fieldpost_shared::id::ReleaseRef;
use serde::Serializer;

/// What runs the models.
const BACKEND: &str = "tract";

/// A model's configuration. Shapes are whole, the batch included, which is what a `max_batch_size` of 0 says.
pub(crate) fn model(release: &ReleaseRef, manifest: &Manifest) -> ModelConfig {
    let input = |spec| {
        let tensor = metadata::tensor(spec);
        ModelConfigInput { name: tensor.name, data_type: number(spec.dtype), dims: tensor.shape }
    };
    let output = |spec| {
        let tensor = metadata::tensor(spec);
        ModelConfigOutput { name: tensor.name, data_type: number(spec.dtype), dims: tensor.shape }
    };
    ModelConfig {
        name: release.model.to_string(),
        platform: PLATFORM.to_owned(),
        backend: BACKEND.to_owned(),
        max_batch_size: 0,
        input: manifest.inputs.iter().map(input).collect(),
        output: manifest.outputs.iter().map(output).collect(),
    }
}

/// A type's number in `model_config.proto` §DataType.
const fn number(dtype: Dtype) -> i32 {
    match dtype {
        Dtype::Bool => 1,
        Dtype::Uint8 => 2,
        Dtype::Uint16 => 3,
        Dtype::Uint32 => 4,
        Dtype::Uint64 => 5,
        Dtype::Int8 => 6,
        Dtype::Int16 => 7,
        Dtype::Int32 => 8,
        Dtype::Int64 => 9,
        Dtype::Fp16 => 10,
        Dtype::Fp32 => 11,
        Dtype::Fp64 => 12,
        Dtype::Bytes => 13,
    }
}

/// Writes a type's number as its name, as Protocol Buffers' JSON form does.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields so")]
pub(crate) fn type_name<S: Serializer>(data_type: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    match Dtype::ALL.into_iter().find(|dtype| number(*dtype) == *data_type) {
        None => serializer.serialize_str("TYPE_INVALID"),
        Some(Dtype::Bytes) => serializer.serialize_str("TYPE_STRING"),
        Some(dtype) => serializer.collect_str(&format_args!("TYPE_{dtype}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;
    use prost::Message as _;

    #[test]
    fn a_configuration_has_whole_shapes_and_no_batch_of_its_own() {
        let config = model(&testing::release("1.0.0"), &testing::manifest());
        assert_eq!(
            serde_json::to_string(&config).unwrap(),
            concat!(
                r#"{"name":"digits","platform":"onnx_onnxv1","backend":"tract","max_batch_size":0,"#,
                r#""input":[{"name":"image","data_type":"TYPE_FP32","dims":[-1,1,8,8]}],"#,
                r#""output":[{"name":"logits","data_type":"TYPE_FP32","dims":[-1,10]}]}"#
            )
        );
        let mut expected = b"\x0a\x06digits\x12\x0bonnx_onnxv1".to_vec();
        expected.extend(b"\x2a\x18\x0a\x05image\x10\x0b\x22\x0d\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01\x08\x08");
        expected.extend(b"\x32\x17\x0a\x06logits\x10\x0b\x1a\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0a");
        expected.extend(b"\x8a\x01\x05tract");
        assert_eq!(config.encode_to_vec(), expected);
    }

    #[test]
    fn every_type_has_its_name() {
        #[derive(serde::Serialize)]
        struct Type(#[serde(serialize_with = "type_name")] i32);
        let names: Vec<String> =
            Dtype::ALL.iter().map(|dtype| serde_json::to_string(&Type(number(*dtype))).unwrap()).collect();
        let expected = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING";
        let expected: Vec<String> = expected.split(' ').map(|name| format!("\"TYPE_{name}\"")).collect();
        assert_eq!(names, expected);
    }
}
