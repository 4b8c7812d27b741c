//! Predictions for people with curl: an image or JSON features in, a label or a number out.
//!
//! One row is answered by its fields, several by `predictions`. NaN and infinity are `null`: JSON has no word for them.
//! A bundle without post-processing is answered by its tensors, as the protocol writes them ([`super::oip::json`]).

use super::call::Form;
use super::error::ApiError;
use super::oip::infer::TensorJson;
use crate::runtime::{Answer, Found, Ranked};
use axum::http::{HeaderMap, StatusCode, header};
use fieldpost_shared::bundle::manifest::{Postprocess, Preprocess};
use fieldpost_shared::bundle::{Manifest, Tensor};
use fieldpost_shared::id::ReleaseRef;
use serde::Serialize;

/// What the body is: as its content type says, and where that says nothing of use (curl's `--data-binary` calls everything a
/// form), by its first bytes. A bundle that takes bytes takes any.
///
/// # Errors
/// 415 when it is neither.
pub(crate) fn form_of(headers: &HeaderMap, body: &[u8], takes: &Preprocess) -> Result<Form, ApiError> {
    // Any bytes are bytes, whatever their sender calls them.
    if matches!(takes, Preprocess::Bytes(_)) {
        return Ok(Form::Bytes);
    }

    let stated = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = stated.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok(Form::Features),
        "application/octet-stream" => Ok(Form::Image),
        image if image.starts_with("image/") => Ok(Form::Image),
        json if json.ends_with("+json") => Ok(Form::Features),
        "" | "application/x-www-form-urlencoded" => sniffed(body).ok_or_else(|| unsupported("unknown")),
        other => Err(unsupported(other)),
    }
}

fn sniffed(body: &[u8]) -> Option<Form> {
    let webp = body.starts_with(b"RIFF") && body.get(8..12) == Some(b"WEBP");
    let other = [b"\x89PNG".as_slice(), b"\xff\xd8\xff", b"BM"].iter().any(|magic| body.starts_with(magic));
    match body.trim_ascii_start().first() {
        Some(b'{' | b'[') => Some(Form::Features),
        _ if webp || other => Some(Form::Image),
        _ => None,
    }
}

fn unsupported(found: &str) -> ApiError {
    let found: String = found.chars().take(80).collect();
    let message =
        format!("content type `{found}`: send image/png, image/jpeg, image/webp, image/bmp or application/json");
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
}

/// The body as JSON.
///
/// # Errors
/// 400 with the place of the first error.
pub(crate) fn json(body: &[u8]) -> Result<serde_json::Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("malformed JSON: {error}")))
}

#[derive(Serialize)]
struct Prediction<'a> {
    #[serde(flatten)]
    rows: Rows<'a>,
    model: &'a str,
    version: String,
    request_id: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rows<'a> {
    One(Row<'a>),
    Many { predictions: Vec<Row<'a>> },
    Raw { outputs: Vec<TensorJson<'a>> },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    Class {
        label: Option<&'a str>,
        class: usize,
        score: f32,
        top: Vec<Top<'a>>,
    },
    Value {
        value: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        unit: Option<&'a str>,
    },
    Labels {
        labels: Vec<Top<'a>>,
    },
    Objects {
        objects: Vec<Object<'a>>,
    },
}

#[derive(Serialize)]
struct Object<'a> {
    label: Option<&'a str>,
    class: usize,
    score: f32,
    /// Left, top, right, bottom.
    #[serde(rename = "box")]
    bounds: [f32; 4],
}

impl<'a> Object<'a> {
    fn of(found: &'a Found) -> Self {
        Self { label: found.label.as_deref(), class: found.class, score: found.score, bounds: found.bounds }
    }
}

#[derive(Serialize)]
struct Top<'a> {
    label: Option<&'a str>,
    class: usize,
    score: f32,
}

impl<'a> Top<'a> {
    fn of(ranked: &'a Ranked) -> Self {
        Self { label: ranked.label.as_deref(), class: ranked.class, score: ranked.score }
    }
}

/// The answer's body.
///
/// # Errors
/// 400 when the tensors are no text.
pub(crate) fn write(
    release: &ReleaseRef,
    manifest: &Manifest,
    id: &str,
    answers: &[Answer],
    outputs: &[Tensor],
) -> Result<Vec<u8>, ApiError> {
    let unit = match &manifest.postprocess {
        Postprocess::Regression { unit, .. } => unit.as_deref(),
        _ => None,
    };
    let mut rows: Vec<Row<'_>> = answers.iter().filter_map(|answer| row(answer, unit)).collect();
    let rows = match rows.len() {
        0 => {
            let named = manifest.outputs.iter().zip(outputs);
            let outputs =
                named.map(|(spec, tensor)| TensorJson::whole(&spec.name, tensor)).collect::<Result<_, _>>()?;
            Rows::Raw { outputs }
        }
        1 => rows.pop().map_or(Rows::Many { predictions: Vec::new() }, Rows::One),
        _ => Rows::Many { predictions: rows },
    };
    let version = release.version.to_string();
    let prediction = Prediction { rows, model: release.model.as_str(), version, request_id: id };
    // Plain data with text keys into memory: serde_json has nothing to fail on.
    Ok(serde_json::to_vec(&prediction).unwrap_or_default())
}

fn row<'a>(answer: &'a Answer, unit: Option<&'a str>) -> Option<Row<'a>> {
    match answer {
        Answer::Classification { class, label, score, top, .. } => {
            let top = top.iter().map(Top::of).collect();
            Some(Row::Class { label: label.as_deref(), class: *class, score: *score, top })
        }
        Answer::Regression { value } => Some(Row::Value { value: *value, unit }),
        Answer::MultiLabel { labels, .. } => Some(Row::Labels { labels: labels.iter().map(Top::of).collect() }),
        Answer::Detection { objects } => Some(Row::Objects { objects: objects.iter().map(Object::of).collect() }),
        Answer::Raw => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::testing;
    use axum::http::HeaderValue;

    fn form(content_type: &str, body: &[u8]) -> Result<Form, u16> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap())]);
        form_of(&headers, body, &Preprocess::Tensor).map_err(|error| error.status.as_u16())
    }

    #[test]
    fn the_content_type_decides_where_it_says_something() {
        assert_eq!(form("image/png", b"{"), Ok(Form::Image));
        assert_eq!(form("application/octet-stream", b"{"), Ok(Form::Image));
        assert_eq!(form("Application/JSON; charset=utf-8", b"\x89PNG"), Ok(Form::Features));
        assert_eq!(form("application/vnd.x+json", b""), Ok(Form::Features));
        assert_eq!(form("multipart/form-data", b"{"), Err(415));
    }

    #[test]
    fn the_first_bytes_decide_for_curl() {
        assert_eq!(form("application/x-www-form-urlencoded", b"\x89PNG\r\n"), Ok(Form::Image));
        assert_eq!(form("application/x-www-form-urlencoded", b" \n{\"a\":1}"), Ok(Form::Features));
        assert_eq!(form_of(&HeaderMap::new(), b"\xff\xd8\xff\xe0", &Preprocess::Tensor).unwrap(), Form::Image);
        assert_eq!(form("application/x-www-form-urlencoded", b"a=b"), Err(415));
    }

    fn written(answers: &[Answer]) -> String {
        let release = testing::release("1.0.0");
        String::from_utf8(write(&release, &testing::manifest(), "id", answers, &[]).unwrap()).unwrap()
    }

    fn classification(score: f32) -> Answer {
        let top = vec![Ranked { class: 3, label: Some("3".to_owned()), score }];
        Answer::Classification { class: 3, label: Some("3".to_owned()), score, top, probabilities: vec![] }
    }

    #[test]
    fn one_row_is_answered_by_its_fields() {
        assert_eq!(
            written(&[classification(0.75)]),
            r#"{"label":"3","class":3,"score":0.75,"top":[{"label":"3","class":3,"score":0.75}],"model":"digits","version":"1.0.0","request_id":"id"}"#
        );
    }

    #[test]
    fn several_rows_are_a_list_and_nan_is_null() {
        assert_eq!(
            written(&[Answer::Regression { value: 1.5 }, Answer::Regression { value: f64::NAN }]),
            r#"{"predictions":[{"value":1.5},{"value":null}],"model":"digits","version":"1.0.0","request_id":"id"}"#
        );
    }
}
