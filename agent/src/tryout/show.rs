//! What `try` prints.

use super::once::Answered;
use super::open::{Opened, Signatures};
use crate::cli::output::{columns, pairs};
use crate::runtime::Answer;
use fieldpost_shared::bundle::manifest::Postprocess;
use fieldpost_shared::bundle::{Manifest, Tensor};
use serde_json::{Value, json};
use std::time::Duration;

/// An input and what became of it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) input: String,
    pub(super) outcome: Result<Answered, String>,
}

/// Most numbers of a tensor in a table.
const SHOWN: usize = 8;

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What is said of the bundle, for programs.
pub(super) fn head_json(opened: &Opened) -> Value {
    let (release, report) = (opened.model.release(), &opened.report);
    json!({
        "model": release.model,
        "version": release.version,
        "manifest": release.manifest,
        "signatures": opened.signatures,
        "self_test": {
            "samples": report.samples,
            "largest_error": report.largest_error,
            "runs": report.runs,
            "p50_ms": millis(report.p50),
            "p95_ms": millis(report.p95),
            "rss_mib": report.rss_mib,
        },
    })
}

/// All of a run, for programs.
pub(super) fn json(opened: &Opened, rows: &[Row]) -> Value {
    let answers: Vec<Value> = rows
        .iter()
        .map(|row| match &row.outcome {
            Ok(done) => json!({ "input": row.input, "ms": millis(done.took), "answer": done.json }),
            Err(error) => json!({ "input": row.input, "error": error }),
        })
        .collect();
    let mut all = head_json(opened);
    if let Some(fields) = all.as_object_mut() {
        fields.insert("answers".to_owned(), Value::Array(answers));
    }
    all
}

/// What is said of the bundle, for people.
pub(super) fn head(opened: &Opened) -> Vec<(&'static str, String)> {
    let report = &opened.report;
    let memory = report.rss_mib.map(|mib| format!(", {mib:.1} MiB")).unwrap_or_default();
    let (p50, p95) = (millis(report.p50), millis(report.p95));
    let test = format!("{} golden samples as expected; p50 {p50:.3} ms, p95 {p95:.3} ms{memory}", report.samples);
    vec![
        ("release", opened.model.release().to_string()),
        ("signatures", signatures(&opened.signatures)),
        ("self-test", test),
    ]
}

fn signatures(state: &Signatures) -> String {
    match state {
        Signatures::NotChecked { present } => {
            format!("not checked ({present} present): --root FILE or --publisher KEY says whom to believe")
        }
        Signatures::GenuineByRoot { fleet, version } => format!("genuine, by root version {version} of fleet {fleet}"),
        Signatures::GenuineByKeys { keys: 1 } => "genuine, by the key named".to_owned(),
        Signatures::GenuineByKeys { keys } => format!("genuine, by each of the {keys} keys named"),
    }
}

/// All of a run, for people.
pub(super) fn table(opened: &Opened, rows: &[Row]) -> String {
    let mut text = pairs(&head(opened));
    if rows.is_empty() {
        return text;
    }
    let cells: Vec<Vec<String>> = rows.iter().flat_map(|row| lines(row, opened.model.manifest())).collect();
    text.push('\n');
    text.push_str(&columns(&["INPUT", "ANSWER", "SCORE", "MS", "MORE"], &cells));
    text
}

/// An input's lines: one per answer.
fn lines(row: &Row, manifest: &Manifest) -> Vec<Vec<String>> {
    let done = match &row.outcome {
        Ok(done) => done,
        Err(error) => {
            return vec![vec![row.input.clone(), "-".to_owned(), "-".to_owned(), "-".to_owned(), error.clone()]];
        }
    };
    let unit = match &manifest.postprocess {
        Postprocess::Regression { unit, .. } => unit.as_deref(),
        _ => None,
    };
    let mut lines: Vec<[String; 3]> = done.answers.iter().flat_map(|answer| cells(answer, unit)).collect();
    if lines.is_empty() {
        let outputs = manifest.outputs.iter().zip(&done.outputs);
        lines = outputs.map(|(spec, tensor)| [spec.name.clone(), "-".to_owned(), numbers(tensor)]).collect();
    }
    let took = format!("{:.3}", millis(done.took));
    let first = |at: usize, text: &str| if at == 0 { text.to_owned() } else { String::new() };
    let line = |(at, [answer, score, more]): (usize, [String; 3])| {
        vec![first(at, &row.input), answer, score, first(at, &took), more]
    };
    lines.into_iter().enumerate().map(line).collect()
}

/// Answer, score, and what else there is to say; nothing where the tensors are the answer.
fn cells(answer: &Answer, unit: Option<&str>) -> Vec<[String; 3]> {
    let name = |label: &Option<String>, class: usize| label.clone().unwrap_or_else(|| format!("#{class}"));
    let nothing = || vec![["nothing".to_owned(), "-".to_owned(), String::new()]];
    match answer {
        Answer::MultiLabel { labels, .. } if labels.is_empty() => nothing(),
        Answer::Detection { objects } if objects.is_empty() => nothing(),
        Answer::MultiLabel { labels, .. } => labels
            .iter()
            .map(|held| [name(&held.label, held.class), format!("{:.3}", held.score), String::new()])
            .collect(),
        Answer::Detection { objects } => objects
            .iter()
            .map(|found| {
                let [left, top, right, bottom] = found.bounds;
                let place = format!("x {left:.1}..{right:.1}, y {top:.1}..{bottom:.1}");
                [name(&found.label, found.class), format!("{:.3}", found.score), place]
            })
            .collect(),
        Answer::Classification { class, label, score, top, .. } => {
            let best = top.first().and_then(|best| best.label.as_ref());
            // A known class without a label is one below the threshold.
            let answer = if best.is_some() && label.is_none() { "-".to_owned() } else { name(label, *class) };
            let top: Vec<String> =
                top.iter().map(|ranked| format!("{} {:.3}", name(&ranked.label, ranked.class), ranked.score)).collect();
            vec![[answer, format!("{score:.3}"), top.join(", ")]]
        }
        Answer::Regression { value } => {
            let value = [Some(value.to_string()), unit.map(str::to_owned)];
            vec![[value.into_iter().flatten().collect::<Vec<_>>().join(" "), "-".to_owned(), String::new()]]
        }
        Answer::Raw => Vec::new(),
    }
}

fn numbers(tensor: &Tensor) -> String {
    let values = tensor.to_f64();
    let shown: Vec<String> = values.iter().take(SHOWN).map(|value| format!("{value:.5}")).collect();
    let rest = if values.len() > SHOWN { " ..." } else { "" };
    format!("{:?} {} {}{rest}", tensor.shape, tensor.dtype, shown.join(" "))
}
