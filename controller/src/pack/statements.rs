//! What `bundle.toml` says that needs no model to be judged: labels, notes, tolerance, requirements, budgets, lineage.

use super::error::PackError;
use super::files;
use super::source::{self, Labels, LineageSource, Source};
use fieldpost_shared::bundle::manifest::{Budgets, Lineage, Requirements, Tolerance};
use fieldpost_shared::id::ModelName;
use std::path::Path;

pub(super) fn labels(dir: &Path, source: &Source) -> Result<Vec<String>, PackError> {
    let labels: Vec<String> = match &source.labels {
        None => return Ok(Vec::new()),
        Some(Labels::List(labels)) => labels.clone(),
        Some(Labels::File(path)) => {
            let path = dir.join(path);
            let bytes = files::read(&path)?;
            let text = String::from_utf8(bytes)
                .map_err(|_not_utf8| PackError::Statement(format!("`{}` is not UTF-8 text", path.display())))?;
            text.trim_end().lines().map(|line| line.trim().to_owned()).collect()
        }
    };
    if labels.iter().any(String::is_empty) {
        return Err(PackError::Statement("labels must not be empty: one class name a line".to_owned()));
    }
    Ok(labels)
}

pub(super) fn one_line(note: &str) -> Result<String, PackError> {
    if note.chars().any(char::is_control) || note.chars().count() > 500 {
        return Err(PackError::Statement("`note` is one line of at most 500 characters".to_owned()));
    }
    Ok(note.to_owned())
}

pub(super) fn tolerance(source: &Source) -> Result<Tolerance, PackError> {
    let source::ToleranceSource { abs, rel } = source.golden.tolerance;
    if [abs, rel].into_iter().all(|part| part.is_finite() && part >= 0.0) {
        Ok(Tolerance { abs, rel })
    } else {
        Err(PackError::Statement("[golden] tolerance must be finite numbers of at least 0".to_owned()))
    }
}

pub(super) fn requirements(source: &Source) -> Result<Requirements, PackError> {
    const KNOWN: [&str; 6] = ["x86_64", "aarch64", "arm", "x86", "riscv64", "powerpc64"];
    let source = source.requirements.clone();
    if let Some(unknown) = source.arch.iter().find(|arch| !KNOWN.contains(&arch.as_str())) {
        let known = KNOWN.join(", ");
        return Err(PackError::Statement(format!("[requirements] arch `{unknown}` is none of {known}")));
    }
    let source::RequirementsSource { arch, cpu_features, ram_mib, disk_mib, agent } = source;
    Ok(Requirements { arch, cpu_features, ram_mib, disk_mib, agent })
}

pub(super) fn budgets(source: &Source) -> Result<Budgets, PackError> {
    let budgets = Budgets::from(source.budgets.clone());
    let share = |value: Option<f64>| value.is_none_or(|share| (0.0..=1.0).contains(&share));
    let ratio = budgets.max_latency_ratio.is_none_or(|ratio| ratio.is_finite() && ratio > 0.0);
    if !share(budgets.error_rate) || !share(budgets.max_disagreement) {
        Err(PackError::Statement("[budgets] error_rate and max_disagreement are shares in 0..=1".to_owned()))
    } else if !ratio {
        Err(PackError::Statement("[budgets] max_latency_ratio is a number above 0".to_owned()))
    } else {
        Ok(budgets)
    }
}

pub(super) fn lineage(source: &LineageSource) -> Result<Lineage, PackError> {
    if let Some(parent) = &source.parent {
        let release = parent.split_once('@').is_some_and(|(name, version)| {
            name.parse::<ModelName>().is_ok() && semver::Version::parse(version).is_ok()
        });
        if !release {
            return Err(PackError::Statement(format!("[lineage] parent `{parent}` is not of the form name@1.2.3")));
        }
    }
    let json = |value: &toml::Value| {
        serde_json::to_value(value)
            .map_err(|error| PackError::Statement(format!("[lineage.hyperparameters] cannot be JSON: {error}")))
    };
    let hyperparameters = source.hyperparameters.iter().map(|(name, value)| Ok((name.clone(), json(value)?)));
    Ok(Lineage {
        data: source.data.clone(),
        algorithm: source.algorithm.clone(),
        commit: source.commit.clone(),
        parent: source.parent.clone(),
        hyperparameters: hyperparameters.collect::<Result<_, PackError>>()?,
        metrics: source.metrics.clone(),
    })
}
