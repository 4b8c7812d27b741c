//! `bundle new`: a commented `bundle.toml`, with the name and the model filled in where the folder tells them, and a
//! made-up golden sample where there is no data and the model can be asked something: then it can be packed as it is.

use crate::cli::{Context, Exit, Failure};
use crate::pack::{SOURCE_FILE, TEMPLATE};
use fieldpost_agent::runtime::example;
use fieldpost_shared::bundle::{Tensor, TensorSpec};
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::error_chain::Chain;
use fieldpost_shared::id::ModelName;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where samples are looked for.
const SAMPLES: &str = "samples";
const EXAMPLE: &str = "made-up.json";
/// Endings of files that may be data; then nothing is made up.
const DATA: [&str; 7] = ["npy", "csv", "png", "jpg", "jpeg", "webp", "bmp"];

/// What came of making up a sample.
enum Sample {
    /// It is there.
    Made(PathBuf),
    /// There is data, or no model to ask.
    NotNeeded,
    /// Why it could not be made.
    Impossible(String),
}

pub(super) async fn new(dir: &Path, context: &Context) -> Result<Exit, Failure> {
    let target = dir.join(SOURCE_FILE);
    let refuse = || Failure::new(format!("cannot write `{}`", target.display()));
    if target.exists() {
        return Err(refuse().because_text("the file is there already").hint("edit it, or name another folder"));
    }
    std::fs::create_dir_all(dir).map_err(|error| refuse().because(&error))?;
    let model = only_model(dir);
    let mut text = filled(TEMPLATE, name_of(dir).as_ref(), model.as_deref());
    let folder = dir.to_owned();
    // Loading and running a model takes a processor for itself.
    let sample = tokio::task::spawn_blocking(move || model.map_or(Sample::NotNeeded, |model| make_up(&folder, &model)));
    let sample = sample.await.map_err(|error| refuse().because(&error))?;
    if let Sample::Made(_) = sample {
        text = with_samples(&text);
    }
    write_atomic(dir, SOURCE_FILE, text.as_bytes()).map_err(|error| refuse().because(&error))?;
    let mut said = format!("wrote {}; edit it, then `fieldpost bundle pack {}`", target.display(), dir.display());
    let made_up = match &sample {
        Sample::Made(file) => {
            said.push_str(&format!(
                "\nwrote {}: random numbers in the model's shapes, enough for a box to check that it computes the same; put \
                 real samples in their place, and reference data in [reference] to have drift watched",
                file.display()
            ));
            Some(file)
        }
        Sample::Impossible(why) => {
            context.note(&format!("no golden sample could be made up, add your own: {why}"));
            None
        }
        Sample::NotNeeded => None,
    };
    context.done(&json!({ "wrote": target, "made_up": made_up }), &said)
}

/// Writes a sample that the model answers, where the folder holds no data of its own.
fn make_up(dir: &Path, model: &str) -> Sample {
    let is_data = |path: PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
        path.is_dir() || DATA.contains(&ending.as_str())
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    if entries.map(|entry| entry.path()).any(is_data) {
        return Sample::NotNeeded;
    }
    let inputs = match example(dir, model) {
        Ok(Some(inputs)) => inputs,
        Ok(None) => {
            let why = "the model takes texts, or answers made-up numbers of no size that was tried";
            return Sample::Impossible(why.to_owned());
        }
        Err(error) => return Sample::Impossible(Chain(&error).to_string()),
    };
    let body = json!({ "inputs": inputs.iter().map(|(spec, tensor)| input(spec, tensor)).collect::<Vec<_>>() });
    let samples = dir.join(SAMPLES);
    if let Err(error) = std::fs::create_dir_all(&samples) {
        return Sample::Impossible(Chain(&error).to_string());
    }
    match write_atomic(&samples, EXAMPLE, body.to_string().as_bytes()) {
        Ok(()) => Sample::Made(samples.join(EXAMPLE)),
        Err(error) => Sample::Impossible(Chain(&error).to_string()),
    }
}

/// One input of an inference request (OIP v2).
fn input(spec: &TensorSpec, tensor: &Tensor) -> Value {
    let numbers = tensor.to_f64();
    #[allow(clippy::cast_possible_truncation, reason = "whole numbers were made to be small")]
    let data: Value = match tensor.dtype.is_float() {
        // To the thousandth, as they were made, instead of what binary32 makes of them.
        true => numbers.iter().map(|number| json!((number * 1000.0).round() / 1000.0)).collect(),
        false => numbers.iter().map(|number| json!(*number as i64)).collect(),
    };
    json!({ "name": spec.name, "shape": tensor.shape, "datatype": tensor.dtype, "data": data })
}

/// The template with its golden samples in use.
fn with_samples(text: &str) -> String {
    let used = |line: &str| match line.strip_prefix("# ") {
        Some(used) if used == "[golden]" || used.starts_with("samples = ") => used.to_owned(),
        _ => line.to_owned(),
    };
    let mut text = text.lines().map(used).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

/// The folder's own name, where it is one that a model may have.
fn name_of(dir: &Path) -> Option<ModelName> {
    let absolute = dir.canonicalize().ok()?;
    absolute.file_name()?.to_str()?.to_lowercase().parse().ok()
}

/// The one ONNX file of the folder.
fn only_model(dir: &Path) -> Option<String> {
    let files = std::fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let mut models = files.filter(|path| path.extension().is_some_and(|ending| ending == "onnx"));
    match (models.next(), models.next()) {
        (Some(model), None) => model.file_name()?.to_str().map(str::to_owned),
        _ => None,
    }
}

/// The template with its example values replaced, comments kept in their column.
fn filled(template: &str, name: Option<&ModelName>, model: Option<&str>) -> String {
    let set = |line: &str, key: &str, value: Option<&str>| -> Option<String> {
        let (setting, comment) = line.strip_prefix(key)?.strip_prefix(" = ")?.split_once('#')?;
        let value = toml::Value::String(value?.to_owned()).to_string();
        let width = key.len().saturating_add(3).saturating_add(setting.len());
        let assignment = format!("{key} = {value}");
        Some(format!(
            "{assignment:<width$}#{comment}",
            width = width.saturating_sub(1).max(assignment.len()).saturating_add(1)
        ))
    };
    let line = |line: &str| {
        set(line, "name", name.map(ModelName::as_str))
            .or_else(|| set(line, "model", model))
            .unwrap_or_else(|| line.to_owned())
    };
    let mut text = template.lines().map(line).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::test_context;
    use crate::pack::source::Source;

    fn beside_a_model() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("digits");
        std::fs::create_dir(&dir).unwrap();
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/models/digits-1.0/model.onnx");
        std::fs::copy(model, dir.join("model.onnx")).unwrap();
        (root, dir)
    }

    #[tokio::test]
    async fn the_folder_tells_name_and_model() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("digits");
        std::fs::create_dir(&dir).unwrap();
        write_atomic(&dir, "net.onnx", b"").unwrap();
        new(&dir, &test_context(root.path())).await.unwrap();
        let text = std::fs::read_to_string(dir.join(SOURCE_FILE)).unwrap();
        let source: Source = toml::from_str(&text).unwrap();
        assert_eq!((source.name.as_str(), source.model.to_str().unwrap()), ("digits", "net.onnx"));
        assert_eq!(text.lines().count(), TEMPLATE.lines().count());
    }

    #[tokio::test]
    async fn a_model_without_data_gets_a_sample_that_is_in_use() {
        let (root, dir) = beside_a_model();
        new(&dir, &test_context(root.path())).await.unwrap();
        let source: Source = toml::from_str(&std::fs::read_to_string(dir.join(SOURCE_FILE)).unwrap()).unwrap();
        assert_eq!(source.golden.samples.as_deref(), Some(Path::new("samples")));
        let sample = std::fs::read_to_string(dir.join("samples").join(EXAMPLE)).unwrap();
        let sample: Value = serde_json::from_str(&sample).unwrap();
        assert_eq!(sample["inputs"][0]["shape"], json!([1, 1, 8, 8]));
    }

    #[tokio::test]
    async fn nothing_is_made_up_where_there_is_data() {
        let (root, dir) = beside_a_model();
        write_atomic(&dir, "rows.csv", b"a,b\n1,2\n").unwrap();
        new(&dir, &test_context(root.path())).await.unwrap();
        assert!(!dir.join("samples").exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_model_gets_its_template_and_no_sample() {
        let (root, dir) = beside_a_model();
        write_atomic(&dir, "model.onnx", b"junk").unwrap();
        new(&dir, &test_context(root.path())).await.unwrap();
        let text = std::fs::read_to_string(dir.join(SOURCE_FILE)).unwrap();
        assert!(!dir.join(SAMPLES).exists() && text.contains("# [golden]"));
        assert!(matches!(make_up(&dir, "model.onnx"), Sample::Impossible(why) if why.contains("model.onnx")));
    }

    #[test]
    fn what_the_folder_does_not_tell_stays_as_in_the_template() {
        assert_eq!(filled(TEMPLATE, None, None), TEMPLATE);
    }

    #[tokio::test]
    async fn a_source_that_is_there_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("m");
        new(&dir, &test_context(root.path())).await.unwrap();
        let refused = new(&dir, &test_context(root.path())).await.unwrap_err().to_string();
        assert!(refused.contains("the file is there already"), "{refused}");
    }
}
