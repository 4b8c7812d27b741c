//! `bundle new`: a commented `bundle.toml`, with the name and the model filled in where the folder tells them.

use crate::cli::{Context, Exit, Failure};
use crate::pack::{SOURCE_FILE, TEMPLATE};
use fieldpost_shared::durable::write_atomic;
use fieldpost_shared::id::ModelName;
use std::path::Path;

pub(super) fn new(dir: &Path, context: &Context) -> Result<Exit, Failure> {
    let target = dir.join(SOURCE_FILE);
    let refuse = || Failure::new(format!("cannot write `{}`", target.display()));
    if target.exists() {
        return Err(refuse().because_text("the file is there already").hint("edit it, or name another folder"));
    }
    std::fs::create_dir_all(dir).map_err(|error| refuse().because(&error))?;
    let text = filled(TEMPLATE, name_of(dir).as_ref(), only_model(dir).as_deref());
    write_atomic(dir, SOURCE_FILE, text.as_bytes()).map_err(|error| refuse().because(&error))?;
    let text = format!("wrote {}; edit it, then `fieldpost bundle pack {}`", target.display(), dir.display());
    context.done(&serde_json::json!({ "wrote": target }), &text)
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

    #[test]
    fn the_folder_tells_name_and_model() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("digits");
        std::fs::create_dir(&dir).unwrap();
        write_atomic(&dir, "net.onnx", b"").unwrap();
        new(&dir, &test_context(root.path())).unwrap();
        let text = std::fs::read_to_string(dir.join(SOURCE_FILE)).unwrap();
        let source: Source = toml::from_str(&text).unwrap();
        assert_eq!((source.name.as_str(), source.model.to_str().unwrap()), ("digits", "net.onnx"));
        assert_eq!(text.lines().count(), TEMPLATE.lines().count());
    }

    #[test]
    fn what_the_folder_does_not_tell_stays_as_in_the_template() {
        assert_eq!(filled(TEMPLATE, None, None), TEMPLATE);
    }

    #[test]
    fn a_source_that_is_there_is_not_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("m");
        new(&dir, &test_context(root.path())).unwrap();
        let refused = new(&dir, &test_context(root.path())).unwrap_err().to_string();
        assert!(refused.contains("the file is there already"), "{refused}");
    }
}
