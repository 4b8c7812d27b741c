//! OIP v2 §Health and §Metadata.

use fieldpost_shared::bundle::{Dim, Dtype, Manifest, TensorSpec};
use fieldpost_shared::id::ReleaseRef;
use serde::Serialize;

/// What an ONNX model is called by Triton, and so by its clients.
const PLATFORM: &str = "onnx_onnxv1";

/// §Server Metadata.
#[derive(Debug, Serialize)]
pub(crate) struct ServerMetadata {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; 0],
}

impl ServerMetadata {
    pub(crate) const fn new() -> Self {
        Self { name: "fieldpost-agent", version: env!("CARGO_PKG_VERSION"), extensions: [] }
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

/// §Model Metadata.
#[derive(Debug, Serialize)]
pub(crate) struct ModelMetadata<'a> {
    name: &'a str,
    versions: [String; 1],
    platform: &'static str,
    inputs: Vec<TensorMetadata<'a>>,
    outputs: Vec<TensorMetadata<'a>>,
}

#[derive(Debug, Serialize)]
struct TensorMetadata<'a> {
    name: &'a str,
    datatype: Dtype,
    /// -1 for an axis of any size.
    shape: Vec<i64>,
}

impl<'a> ModelMetadata<'a> {
    pub(crate) fn of(release: &'a ReleaseRef, manifest: &'a Manifest) -> Self {
        Self {
            name: release.model.as_str(),
            versions: [release.version.to_string()],
            platform: PLATFORM,
            inputs: manifest.inputs.iter().map(tensor).collect(),
            outputs: manifest.outputs.iter().map(tensor).collect(),
        }
    }
}

fn tensor(spec: &TensorSpec) -> TensorMetadata<'_> {
    let axis = |dim: &Dim| match dim {
        Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        Dim::Symbol(_) => -1,
    };
    TensorMetadata { name: &spec.name, datatype: spec.dtype, shape: spec.shape.iter().map(axis).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;

    #[test]
    fn an_axis_of_any_size_is_minus_one() {
        let (release, manifest) = (testing::release("1.0.0"), testing::manifest());
        assert_eq!(
            serde_json::to_string(&ModelMetadata::of(&release, &manifest)).unwrap(),
            concat!(
                r#"{"name":"digits","versions":["1.0.0"],"platform":"onnx_onnxv1","#,
                r#""inputs":[{"name":"image","datatype":"FP32","shape":[-1,1,8,8]}],"#,
                r#""outputs":[{"name":"logits","datatype":"FP32","shape":[-1,10]}]}"#
            )
        );
    }
}
