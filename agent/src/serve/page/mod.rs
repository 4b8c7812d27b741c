//! `GET /`: a page for people on the box. One file without anything from elsewhere; it works without a network.

use super::registry::Live;
use super::router::App;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use fieldpost_shared::bundle::manifest::Preprocess;
use fieldpost_shared::bundle::{Dim, Dtype, Manifest, TensorSpec};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, LazyLock};

/// The page, as it is sent.
const HTML: &str = include_str!("index.html");

/// Only the page's own script and style run, and it talks to nobody but this server.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; form-action 'none'; \
         base-uri 'none'; frame-ancestors 'none'",
        hash_of("script"),
        hash_of("style")
    )
});

/// The text between an element's tags, as a policy names it.
fn hash_of(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let text = HTML.split_once(&open).and_then(|(_, rest)| rest.split_once(&close)).map_or("", |(text, _)| text);
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// The page, and what it asks for.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/", get(|| async { (headers(), HTML) })).route("/page/models", get(models))
}

async fn models(State(app): State<Arc<App>>) -> Json<Vec<Shown>> {
    Json(app.registry.here().into_iter().filter_map(|(_, live)| live).map(|live| Shown::of(&live)).collect())
}

/// What is sent with the page.
fn headers() -> [(HeaderName, HeaderValue); 5] {
    let policy = HeaderValue::from_str(&POLICY).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ]
}

/// A live model, as the page shows it.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    version: String,
    /// The release beside it, and what for.
    rival: Option<String>,
    takes: &'static str,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    labels: Vec<String>,
    together: usize,
    /// A request of the right form.
    example: Value,
}

impl Shown {
    fn of(live: &Live) -> Self {
        let manifest = live.model.manifest();
        let (takes, example) = form(manifest);
        let specs = |specs: &[TensorSpec]| specs.iter().map(spec).collect();
        Self {
            name: live.release().model.to_string(),
            version: live.release().version.to_string(),
            rival: live.rival().map(|rival| rival.to_string()),
            takes,
            inputs: specs(&manifest.inputs),
            outputs: specs(&manifest.outputs),
            labels: manifest.labels.clone(),
            together: live.batching.most(),
            example,
        }
    }
}

/// What a person gives it, and an example. An image is a file; bytes are a file or a text; features are one record, of zeros
/// and first categories; everything else is an inference request of zeros and empty texts.
fn form(manifest: &Manifest) -> (&'static str, Value) {
    match &manifest.preprocess {
        Preprocess::Image(_) => ("image", Value::Null),
        Preprocess::Bytes(_) => ("bytes", Value::Null),
        Preprocess::Tabular(tabular) => {
            let value = |name: &String| match tabular.details.get(name).and_then(|detail| detail.categories.first()) {
                Some(category) => json!(category),
                None => json!(0),
            };
            let record = tabular.features.iter().map(|name| (name.clone(), value(name)));
            ("features", record.collect::<serde_json::Map<_, _>>().into())
        }
        Preprocess::Tensor => ("tensors", json!({ "inputs": manifest.inputs.iter().map(input).collect::<Vec<_>>() })),
    }
}

/// An input of an inference request, its open axes of 1. The elements of a large one are not written out: the page sends them
/// behind the JSON, from a file, or as zeros.
fn input(spec: &TensorSpec) -> Value {
    let shape: Vec<usize> = spec.shape.iter().map(|dim| usize::try_from(size(dim)).unwrap_or(1)).collect();
    let count = shape.iter().fold(1_usize, |product, axis| product.saturating_mul(*axis));
    if count > MOST_EXAMPLE {
        let bytes = count.saturating_mul(spec.dtype.size_bytes());
        let parameters = json!({ "binary_data_size": bytes });
        return json!({ "name": spec.name, "shape": shape, "datatype": spec.dtype, "parameters": parameters });
    }
    let zero = match spec.dtype {
        Dtype::Bool => json!(false),
        Dtype::Bytes => json!(""),
        _ => json!(0),
    };
    json!({ "name": spec.name, "shape": shape, "datatype": spec.dtype, "data": vec![zero; count] })
}

/// Most elements of an input that are written out.
const MOST_EXAMPLE: usize = 4_096;

fn spec(spec: &TensorSpec) -> Value {
    json!({ "name": spec.name, "datatype": spec.dtype, "shape": spec.shape.iter().map(size).collect::<Vec<_>>() })
}

/// -1 for what the caller chooses.
fn size(dim: &Dim) -> i64 {
    match dim {
        Dim::Fixed(size) => i64::try_from(*size).unwrap_or(i64::MAX),
        Dim::Symbol(_) => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;

    #[test]
    fn the_policy_names_this_script_and_style_and_allows_nothing_inline_besides() {
        assert_eq!((HTML.matches("<script>").count(), HTML.matches("<style>").count()), (1, 1));
        assert!(!HTML.contains("style=\"") && !HTML.contains("onclick") && !HTML.contains("innerHTML"));
        assert!(!POLICY.contains("unsafe") && POLICY.matches("'sha256-").count() == 2, "{}", *POLICY);
        let [_, (_, policy), ..] = headers();
        assert_eq!(policy.to_str().unwrap(), POLICY.as_str());
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        assert!(!HTML.contains("http://") && !HTML.contains("https://") && !HTML.contains("@import"));
    }

    #[test]
    fn what_a_person_gives_follows_the_bundle() {
        let mut manifest = testing::manifest();
        assert_eq!(form(&manifest).0, "image");
        manifest.preprocess = Preprocess::Tensor;
        let (takes, example) = form(&manifest);
        assert_eq!((takes, &example["inputs"][0]["shape"]), ("tensors", &json!([1, 1, 8, 8])));
        assert_eq!(example["inputs"][0]["data"].as_array().unwrap().len(), 64);
    }

    /// An example of tensors that the model takes: zeros behind the JSON where it says so, as the page sends them.
    fn taken(dtype: Dtype, shape: &[u64]) -> Value {
        let mut manifest = testing::manifest();
        manifest.preprocess = Preprocess::Tensor;
        manifest.inputs[0].dtype = dtype;
        manifest.inputs[0].shape = shape.iter().map(|size| Dim::Fixed(*size)).collect();
        let (_, example) = form(&manifest);
        let head = example.to_string().into_bytes();
        let behind = example["inputs"][0]["parameters"]["binary_data_size"].as_u64();
        let body = [head.clone(), vec![0; usize::try_from(behind.unwrap_or(0)).unwrap()]].concat();
        super::super::oip::infer::parse(&body, behind.map(|_| head.len()), &manifest).unwrap();
        example["inputs"][0].clone()
    }

    #[test]
    fn every_example_is_a_request_that_the_model_takes() {
        for dtype in Dtype::ALL {
            assert!(taken(dtype, &[2, 3])["parameters"].is_null());
            assert!(taken(dtype, &[1, 3, 224, 224])["data"].is_null(), "too large to be written out");
        }
        assert_eq!(taken(Dtype::Bytes, &[2])["data"], json!(["", ""]));
    }

    #[test]
    fn an_example_of_features_has_a_category_where_one_is_due() {
        use fieldpost_shared::bundle::manifest::{Feature, TabularInput};
        let mut manifest = testing::manifest();
        let site = Feature { categories: vec!["lyon".to_owned(), "oslo".to_owned()], ..Feature::default() };
        manifest.preprocess = Preprocess::Tabular(TabularInput {
            features: vec!["load".to_owned(), "site".to_owned()],
            details: [("site".to_owned(), site)].into(),
            ..TabularInput::default()
        });
        assert_eq!(form(&manifest), ("features", json!({ "load": 0, "site": "lyon" })));
    }
}
