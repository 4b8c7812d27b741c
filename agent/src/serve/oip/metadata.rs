//! OIP v2 §Health and §Metadata.

use super::super::model::Model;
use super::messages::{ModelMetadataResponse, ServerMetadataResponse, TensorMetadata};
use fieldpost_shared::bundle::{Dim, TensorSpec};
use serde::Serialize;

/// What an ONNX model is called by Triton, and so by its clients.
pub(super) const PLATFORM: &str = "onnx_onnxv1";

/// The extensions that are served, by the names that Triton gave them.
const EXTENSIONS: [&str; 5] =
    ["binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"];

/// §Server Metadata.
pub(crate) fn server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: "fieldpost-agent".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

/// §Server Live, §Server Ready: both in both, so that every client finds the word it looks for.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    pub(crate) live: bool,
    pub(crate) ready: bool,
}

/// §Model Ready.
#[derive(Debug, Serialize)]
pub(crate) struct ModelReady<'a> {
    pub(crate) name: &'a str,
    pub(crate) ready: bool,
}

/// §Model Metadata; `versions` are those that answer.
pub(crate) fn model(model: &dyn Model, versions: Vec<String>) -> ModelMetadataResponse {
    let manifest = model.manifest();
    ModelMetadataResponse {
        name: model.release().model.to_string(),
        versions,
        platform: PLATFORM.to_owned(),
        inputs: manifest.inputs.iter().map(tensor).collect(),
        outputs: manifest.outputs.iter().map(tensor).collect(),
    }
}

/// -1 for an axis of any size.
pub(super) fn tensor(spec: &TensorSpec) -> TensorMetadata {
    let axis = |dim: &Dim| match dim {
        Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        Dim::Symbol(_) => -1,
    };
    TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.dtype.to_string(),
        shape: spec.shape.iter().map(axis).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::FakeModel;
    use super::*;

    #[test]
    fn an_axis_of_any_size_is_minus_one() {
        let model = model(FakeModel::new("1.0.0").as_ref(), vec!["1.0.0".to_owned()]);
        assert_eq!(
            serde_json::to_string(&model).unwrap(),
            concat!(
                r#"{"name":"digits","versions":["1.0.0"],"platform":"onnx_onnxv1","#,
                r#""inputs":[{"name":"image","datatype":"FP32","shape":[-1,1,8,8]}],"#,
                r#""outputs":[{"name":"logits","datatype":"FP32","shape":[-1,10]}]}"#
            )
        );
    }
}
